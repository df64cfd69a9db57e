//! Webhooks against a receiver that fails in every way, across restarts, and where they must not go.

mod bench;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bench::receiver::{Does, Got, Receiver};
use bench::{Bench, answered, ended, started};
use serde_json::{Value, json};
use talkstack_control::http::SignupPolicy;
use talkstack_control::ingest::ingest;
use talkstack_control::port::{CallEvent, CallId, JournalRecord, Position};
use talkstack_control::store::StoreError;
use talkstack_control::store::deliveries::Entry;
use talkstack_control::webhook::WebhookSecret;

#[tokio::test]
async fn each_change_of_status_is_told_once_in_order_and_signed() {
    let mut receiver = Receiver::willing().await;
    let (bench, project, secret) = hooked(&receiver).await;
    bench.happen(1, vec![started(&project), CallEvent::Ringing, answered(), ended()]).await;
    let mut ids = Vec::new();
    for (status, permanent, seconds) in [("ringing", false, 0), ("in-progress", false, 0), ("completed", true, 1)] {
        let got = receiver.next().await;
        let body = got.json();
        assert_eq!(got.line, "POST /hook?x=1 HTTP/1.1");
        assert_eq!(got.headers["content-type"], "application/json");
        assert_eq!(got.headers["host"], format!("127.0.0.1:{}", receiver.port));
        verify(&secret, &got);
        let call = json!(CallId(1).to_string());
        for (field, expected) in [
            ("event", json!("call.status")),
            ("eventId", json!(got.id())),
            ("projectId", json!(project)),
            ("agentId", Value::Null),
            ("call_id", call.clone()),
            ("sid", call.clone()),
            ("callSid", call.clone()),
            ("status", json!(status)),
            ("permanent", json!(permanent)),
            ("from", json!("+14152148508")),
            ("to", json!("+15551234567")),
            ("date", json!("Mon, 10 Mar 2025 05:20:40 +0000")),
            ("seconds", json!(seconds)),
            ("cost", json!(0)),
            ("recordingUrls", json!([])),
            ("data", json!({})),
        ] {
            assert_eq!(body.get(field), Some(&expected), "{status}: {field}");
        }
        ids.push(got.id().to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 3, "each event has an id of its own");
    let entries = bench.deliveries(1, |entries| entries.iter().all(|entry| entry.delivered)).await;
    assert!(entries.iter().all(|entry| entry.last_status == Some(200) && entry.delivery.attempts == 1));
    assert!(receiver.try_next().is_none(), "and nothing else");
}

#[tokio::test]
async fn a_change_that_is_not_stored_is_not_told() {
    let mut receiver = Receiver::willing().await;
    let (bench, project, _) = hooked(&receiver).await;
    bench.happen(1, vec![started(&project)]).await;
    assert_eq!(receiver.next().await.status(), "ringing");
    let record = JournalRecord {
        position: Position { boot: 1, seq: 2 },
        at_ms: bench::START_MS as u64,
        call_id: CallId(1),
        event: answered(),
    };
    let undone = bench.store.write(move |connection| {
        ingest(connection, &[record])?;
        Err::<(), _>(StoreError::Busy)
    });
    assert!(undone.await.is_err());
    let entries = bench.deliveries(1, |_| true).await;
    assert_eq!(entries.len(), 1, "neither the status nor its event");
    bench.happen(1, vec![answered()]).await;
    assert_eq!(receiver.next().await.status(), "in-progress");
    assert_eq!(bench.deliveries(1, |_| true).await.len(), 2);
}

#[tokio::test]
async fn what_fails_comes_again_under_its_id_and_later_events_of_the_call_wait() {
    let elsewhere = Receiver::willing().await;
    let redirect = Does::Redirects(elsewhere.url());
    let failures = [Does::Answers(500, ""), Does::Closes, redirect, Does::Hangs, Does::Answers(404, "")];
    let tried = AtomicUsize::new(0);
    let mut receiver = Receiver::new(move |_, got| match got.json()["callSid"].as_str() {
        Some("CA00000000000000000000000000000001") => {
            failures.get(tried.fetch_add(1, Ordering::Relaxed)).cloned().unwrap_or(Does::Answers(204, ""))
        }
        _ => Does::Answers(200, ""),
    })
    .await;
    let (bench, project, secret) = hooked(&receiver).await;
    bench.happen(1, vec![started(&project), answered()]).await;
    let first = receiver.next().await;
    assert_eq!(first.status(), "ringing");
    let error = |text: &'static str, attempts| {
        move |entries: &[Entry]| {
            entries[0].delivery.attempts == attempts
                && entries[0].last_error.as_deref().is_some_and(|error| error.contains(text))
        }
    };
    bench.deliveries(1, error("HTTP 500", 1)).await;
    bench.happen(2, vec![started(&project)]).await;
    assert_eq!(receiver.next().await.json()["callSid"], CallId(2).to_string(), "another call does not wait");
    for (wait_s, text, attempts) in
        [(6, "HTTP", 2), (331, "HTTP 302", 3), (1981, "no answer within", 4), (7921, "HTTP 404", 5)]
    {
        bench.pass_and_wake(Duration::from_secs(wait_s)).await;
        let again = receiver.next().await;
        assert_eq!((again.id(), again.status()), (first.id(), first.status()), "attempt {attempts}");
        assert_ne!(again.headers["webhook-signature"], first.headers["webhook-signature"], "signed at its own time");
        verify(&secret, &again);
        let entries = bench.deliveries(1, error(text, attempts)).await;
        assert_eq!(entries[1].delivery.attempts, 0, "the answer waits");
    }
    bench.pass_and_wake(Duration::from_secs(19_801)).await;
    assert_eq!(receiver.next().await.id(), first.id());
    assert_eq!(receiver.next().await.status(), "in-progress");
    bench.deliveries(1, |entries| entries.iter().all(|entry| entry.delivered)).await;
    assert_eq!(elsewhere.taken.load(Ordering::Relaxed), 0, "a redirect is not followed");
}

#[tokio::test]
async fn an_event_is_given_up_after_ten_attempts_and_the_next_goes_out() {
    let mut receiver = Receiver::new(|_, got| match (got.json()["callSid"].as_str(), got.status().as_str()) {
        (Some("CA00000000000000000000000000000001"), "ringing") => Does::Answers(503, ""),
        _ => Does::Answers(200, ""),
    })
    .await;
    let (bench, project, _) = hooked(&receiver).await;
    bench.happen(1, vec![started(&project), answered()]).await;
    for attempts in 1..=10 {
        assert_eq!(receiver.next().await.status(), "ringing");
        bench.deliveries(1, |entries| entries[0].delivery.attempts == attempts).await;
        if attempts == 10 {
            break;
        }
        // What goes well in between shows that the receiver as a whole is there.
        bench.happen(1 + u128::from(attempts), vec![started(&project)]).await;
        assert_ne!(receiver.next().await.json()["callSid"], CallId(1).to_string());
        bench.deliveries(1 + u128::from(attempts), |entries| entries[0].delivered).await;
        bench.pass_and_wake(Duration::from_secs(27 * 3600)).await;
    }
    assert_eq!(receiver.next().await.status(), "in-progress");
    let entries = bench.deliveries(1, |entries| entries[1].delivered).await;
    assert!(!entries[0].delivered && entries[0].next_ms.is_none());
}

#[tokio::test]
async fn a_pause_that_the_receiver_asks_for_is_kept() {
    let mut receiver = Receiver::new(|came, _| match came {
        0 => Does::Answers(503, "retry-after: 60\r\n"),
        _ => Does::Answers(200, ""),
    })
    .await;
    let (bench, project, _) = hooked(&receiver).await;
    bench.happen(1, vec![started(&project)]).await;
    receiver.next().await;
    let entries = bench.deliveries(1, |entries| entries[0].delivery.attempts == 1).await;
    let wait_ms = entries[0].next_ms.expect("again") - bench::START_MS;
    assert!((60_000..=60_500).contains(&wait_ms), "{wait_ms} ms");
    bench.pass_and_wake(Duration::from_secs(61)).await;
    receiver.next().await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_for_good_is_left_alone_until_it_is_set_again() {
    let gone = Arc::new(AtomicBool::new(true));
    let is_gone = Arc::clone(&gone);
    let mut receiver =
        Receiver::new(
            move |_, _| {
                if is_gone.load(Ordering::Relaxed) { Does::Answers(410, "") } else { Does::Answers(200, "") }
            },
        )
        .await;
    let (bench, project, old) = hooked(&receiver).await;
    bench.happen(1, vec![started(&project), answered()]).await;
    receiver.next().await;
    let entries = bench.deliveries(1, |entries| entries.iter().all(|entry| entry.next_ms.is_none())).await;
    assert_eq!((entries[0].last_status, entries[1].delivery.attempts), (Some(410), 0));
    bench.happen(2, vec![started(&project)]).await;
    assert!(bench.deliveries(2, |_| true).await.is_empty(), "nothing is queued for a hook that is off");
    assert!(bench.letter("a@b.com").await.contains("410"), "its owner is told");

    gone.store(false, Ordering::Relaxed);
    let secret = hook(&bench, &project, &receiver.url()).await;
    bench.happen(1, vec![ended()]).await;
    let got = receiver.next().await;
    assert_eq!(got.status(), "completed");
    verify(&secret, &got);
    assert_ne!(secret.reveal(), old.reveal());
}

#[tokio::test]
async fn a_receiver_that_fails_for_three_days_is_left_alone() {
    let mut receiver = Receiver::new(|_, _| Does::Closes).await;
    let (bench, project, _) = hooked(&receiver).await;
    bench.happen(1, vec![started(&project)]).await;
    for attempts in 1..=3 {
        receiver.next().await;
        bench.deliveries(1, |entries| entries[0].delivery.attempts == attempts).await;
        bench.pass_and_wake(Duration::from_secs(2 * 24 * 3600)).await;
    }
    bench.deliveries(1, |entries| entries[0].next_ms.is_none()).await;
    assert!(bench.letter("a@b.com").await.contains("three days"));
}

#[tokio::test]
async fn an_answer_without_end_is_cut_and_counts_by_its_status() {
    let mut receiver = Receiver::new(|_, _| Does::Floods).await;
    let (bench, project, _) = hooked(&receiver).await;
    bench.happen(1, vec![started(&project)]).await;
    receiver.next().await;
    let entries = bench.deliveries(1, |entries| entries[0].next_ms.is_none() || entries[0].delivery.attempts > 0).await;
    assert_eq!((entries[0].delivered, entries[0].last_status), (true, Some(200)));
}

#[tokio::test]
async fn a_receiver_that_hangs_has_eight_connections_at_most() {
    let mut receiver = Receiver::new(|came, _| if came < 24 { Does::Hangs } else { Does::Answers(200, "") }).await;
    let (bench, project, _) = hooked(&receiver).await;
    for call in 1..=24 {
        bench.happen(call, vec![started(&project)]).await;
    }
    for _ in 0..24 {
        receiver.next().await;
    }
    assert_eq!(receiver.peak.load(Ordering::Relaxed), 8);
}

#[test]
fn an_attempt_that_a_crash_cut_is_made_again_and_a_wait_outlives_it() {
    let dir = Arc::new(tempfile::tempdir().expect("a directory"));
    let outside = runtime();
    let mut receiver = outside.block_on(Receiver::new(|came, _| match came {
        0 => Does::Hangs,
        1 => Does::Answers(500, ""),
        _ => Does::Answers(200, ""),
    }));
    let (port, url) = (receiver.port, receiver.url());

    let first_box = runtime();
    let first = first_box.block_on(async {
        let bench = Bench::on(Arc::clone(&dir), SignupPolicy::Open, &[port]).await.account("a@b.com").await;
        let project = bench.project("Clinic").await;
        hook(&bench, &project, &url).await;
        bench.happen(1, vec![started(&project)]).await;
        receiver.next().await
    });
    // In the middle of the attempt, everything of the box is gone at once.
    first_box.shutdown_background();

    let second_box = runtime();
    second_box.block_on(async {
        let bench = Bench::on(Arc::clone(&dir), SignupPolicy::Open, &[port]).await;
        let again = receiver.next().await;
        assert_eq!((again.id(), &again.body), (first.id(), &first.body));
        let entries = bench.deliveries(1, |entries| entries[0].last_status == Some(500)).await;
        assert_eq!(entries[0].delivery.attempts, 1, "the cut one was not counted");
    });
    second_box.shutdown_background();

    runtime().block_on(async {
        let bench = Bench::on(Arc::clone(&dir), SignupPolicy::Open, &[port]).await;
        bench.pass_and_wake(Duration::from_secs(4)).await;
        let entries = bench.deliveries(1, |_| true).await;
        assert!(entries[0].next_ms.is_some_and(|next_ms| next_ms >= bench::START_MS + 4500), "the wait is kept");
        bench.pass_and_wake(Duration::from_secs(2)).await;
        assert_eq!(receiver.next().await.id(), first.id());
        bench.deliveries(1, |entries| entries[0].delivered).await;
    });
}

#[tokio::test]
async fn no_spelling_leads_to_this_machine_unless_its_port_is_opened() {
    let mut receiver = Receiver::willing().await;
    let closed = Bench::new(SignupPolicy::Open).await.account("a@b.com").await;
    let project = closed.project("Clinic").await;
    let port = receiver.port;
    for (call, (host, expected)) in (1..).zip([
        ("127.0.0.1", "loopback"),
        ("localhost", "loopback"),
        ("[::1]", "loopback"),
        ("[::ffff:127.0.0.1]", "loopback"),
        ("[64:ff9b::7f00:1]", "loopback"),
        ("0x7f000001", "loopback"),
        ("2130706433", "loopback"),
        ("0177.1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("[::]", "unspecified"),
        ("169.254.169.254", "link-local"),
        ("[fd00:ec2::254]", "metadata"),
    ]) {
        hook(&closed, &project, &format!("http://{host}:{port}/")).await;
        closed.happen(call, vec![started(&project)]).await;
        let entries = closed.deliveries(call, |entries| entries[0].delivery.attempts == 1).await;
        let error = entries[0].last_error.clone().expect("an error");
        assert!(error.contains(&format!("refused ({expected})")), "{host}: {error}");
    }
    assert_eq!(receiver.taken.load(Ordering::Relaxed), 0);

    let (open, project, _) = hooked(&receiver).await;
    open.happen(1, vec![started(&project)]).await;
    receiver.next().await;
}

#[tokio::test]
async fn a_hook_is_a_web_address_of_one_s_own_project() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let (alice, bob) = (bench.account("alice@a.com").await, bench.account("bob@b.com").await);
    let project = alice.project("Clinic").await;
    let path = "/project/call-status/add-webhookurl";
    for (body, code) in [
        (json!({ "projectId": project, "webhookURL": "This is a demo project." }), "invalid_webhook_url"),
        (json!({ "projectId": project, "webhookURL": "ftp://a.example/" }), "invalid_webhook_url"),
        (json!({ "projectId": project, "webhookURL": "https://u:p@a.example/" }), "invalid_webhook_url"),
        (json!({ "projectId": project, "webhookURL": "" }), "invalid_webhook_url"),
        (json!({ "projectId": project }), "missing_field"),
        (json!({ "projectId": project, "webhookURL": 7 }), "missing_field"),
        (json!({ "webhookURL": "https://a.example/" }), "missing_field"),
        (
            json!({ "projectId": project, "webhookURL": "https://a.example/", "webhookUrl": "https://b.example/" }),
            "conflicting_fields",
        ),
    ] {
        assert_eq!(alice.post(path, &body).await.code(400), code, "{body}");
    }
    let url = "https://a.example/hook";
    let body = json!({ "projectId": project, "webhookURL": url });
    let absent = json!({ "projectId": "00000000-0000-4000-8000-000000000000", "webhookURL": url });
    let foreign = bob.post(path, &body).await;
    assert_eq!(foreign.code(404), "no_such_project");
    assert_eq!(foreign.without_id(), bob.post(path, &absent).await.without_id());
    assert_eq!(bench.post(path, &body).await.status, 401);
    for name in ["webhookURL", "webhookUrl", "call_status_webhook"] {
        let added = alice.post(path, &json!({ "projectId": project, name: url })).await.ok();
        assert_eq!((&added["message"], &added["status"]), (&json!("added webhook url."), &json!("success")));
        let secret = added["webhookSecret"].as_str().expect("a secret");
        WebhookSecret::parse(secret).expect("in the standard's form");
        let shown = alice.get(format!("/project/{project}")).await.ok();
        assert_eq!(shown["data"]["call_status_webhook"], url);
        assert!(!shown.to_string().contains("whsec_"), "shown once");
        for file in ["talkstack.db", "talkstack.db-wal"] {
            let bytes = std::fs::read(bench.path(file)).unwrap_or_default();
            let is_there = bytes.windows(secret.len() - 6).any(|window| window == &secret.as_bytes()[6..]);
            assert!(!is_there, "{file} holds the secret in clear");
        }
    }
}

/// A box with an account, a project, and a hook to the receiver.
async fn hooked(receiver: &Receiver) -> (Bench, String, WebhookSecret) {
    let dir = Arc::new(tempfile::tempdir().expect("a directory"));
    let bench = Bench::on(dir, SignupPolicy::Open, &[receiver.port]).await.account("a@b.com").await;
    let project = bench.project("Clinic").await;
    let secret = hook(&bench, &project, &receiver.url()).await;
    (bench, project, secret)
}

async fn hook(bench: &Bench, project: &str, url: &str) -> WebhookSecret {
    let body = json!({ "projectId": project, "webhookURL": url });
    let added = bench.post("/project/call-status/add-webhookurl", &body).await.ok();
    WebhookSecret::parse(added["webhookSecret"].as_str().expect("a secret")).expect("in the standard's form")
}

fn verify(secret: &WebhookSecret, got: &Got) {
    let timestamp_s = got.headers["webhook-timestamp"].parse().expect("seconds");
    assert_eq!(got.headers["webhook-signature"], secret.sign(got.id(), timestamp_s, &got.body));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}
