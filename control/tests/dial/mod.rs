//! Calls that are placed: what is refused before anything is stored, and orders that are handed over once.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use talkstack_control::gate::DialPolicy;
use talkstack_control::http::SignupPolicy;
use talkstack_control::http::make_call::DialSettings;
use talkstack_control::ingest::{close_others, ingest};
use talkstack_control::port::{
    Blame, CallEvent, CallId, CallStarted, CommandId, CommandReply, Direction, EndReason, JournalRecord, Outcome,
    PlaneError, Position,
};
use talkstack_control::store::{StoreError, dials};

use crate::bench::receiver::Receiver;
use crate::bench::{Bench, Reply};

#[tokio::test]
async fn a_call_is_stored_answered_and_handed_over_once() {
    let line = Line::new(DialSettings::default()).await;
    line.bench.plane.live.send_replace(Some(1));
    let made = line.call(&json!({ "dynamicVariables": { "name": "John", "age": 7 } })).await.ok();
    assert_eq!((&made["message"], &made["status"]), (&json!("call made successfully."), &json!("success")));
    assert_eq!((&made["call"]["to"], &made["call"]["from"]), (&json!(TO), &json!(FROM)));
    let sid = made["call"]["call_id"].as_str().expect("an id").to_owned();
    assert_eq!(line.status(&sid).await, "queued");
    let offers = line.bench.plane.offers(1).await;
    let (connection, command_id, order) = &offers[0];
    assert_eq!((*connection, order.call_id.to_string(), order.to.as_str()), (1, sid.clone(), TO));
    assert_eq!(order.variables["name"], "John");
    assert_eq!(order.variables["age"], "7");
    // The journal tells the same, and then how it went.
    let call_id = order.call_id;
    let accepted = CallEvent::DialAccepted { command_id: command_id.clone() };
    line.hear(call_id, 1, [accepted, started()]).await;
    assert_eq!(line.status(&sid).await, "queued");
    for (seq, event, status) in [
        (3, CallEvent::Initiated, "initiated"),
        (4, CallEvent::Ringing, "ringing"),
        (5, CallEvent::Answered { codec: "PCMU".into() }, "in-progress"),
        (6, CallEvent::Ended { outcome: Outcome::new(Blame::Caller, EndReason::HungUp) }, "completed"),
    ] {
        line.hear(call_id, seq, [event]).await;
        assert_eq!(line.status(&sid).await, status);
    }
    line.hear(call_id, 1, [CallEvent::DialAccepted { command_id: command_id.clone() }, started()]).await;
    assert_eq!(line.status(&sid).await, "completed", "a replay changes nothing");
    assert_eq!(line.bench.plane.offers(1).await.len(), 1);
    let alias = line.user.post("/call/make-call", &line.body(&json!({}))).await;
    alias.ok();
}

#[tokio::test]
async fn a_number_on_the_account_s_list_is_not_called_by_anybody_of_it() {
    let line = Line::new(DialSettings::default()).await;
    line.user.post("/api/v1/do-not-call", &json!({ "number": TO })).await.created();
    assert_eq!(line.call(&json!({})).await.code(400), "do_not_call");
    line.user.send(Method::DELETE, &format!("/api/v1/do-not-call/{TO}"), &json!({})).await;
    line.call(&json!({})).await.ok();
}

#[tokio::test]
async fn endings_before_the_answer_have_their_statuses() {
    let line = Line::new(DialSettings::default()).await;
    for (blame, reason, status) in [
        (Blame::Caller, EndReason::Busy, "busy"),
        (Blame::Caller, EndReason::NoAnswer, "no-answer"),
        (Blame::Caller, EndReason::Rejected, "failed"),
        (Blame::Trunk, EndReason::Unreachable, "failed"),
        (Blame::Gateway, EndReason::DestinationNotAllowed, "failed"),
    ] {
        let sid = line.made(&json!({})).await;
        let call_id: CallId = sid.parse().expect("an id");
        let ended = CallEvent::Ended { outcome: Outcome::new(blame, reason) };
        line.next(call_id, [CallEvent::DialAccepted { command_id: CommandId("x".into()) }, started(), ended]).await;
        assert_eq!(line.status(&sid).await, status, "{reason:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_dialled_is_refused_with_its_code_and_leaves_no_row() {
    let line = Line::new(DialSettings::default()).await;
    let other = line.bench.account("other@b.com").await;
    let (other_project, other_agent) = clinic(&other, "Other", None).await;
    let (second_project, second_agent) = clinic(&line.user, "Second", None).await;
    for (more, status, code) in [
        (json!({ "number": null }), 400, "missing_field"),
        (json!({ "projectId": 7 }), 400, "missing_field"),
        (json!({ "number": "0620123" }), 400, "invalid_number"),
        (json!({ "number": "+36 20 1" }), 400, "invalid_number"),
        (json!({ "number": "112" }), 400, "destination_not_allowed"),
        (json!({ "number": "+36112" }), 400, "destination_not_allowed"),
        (json!({ "number": "+3690123456" }), 400, "destination_not_allowed"),
        (json!({ "number": "+881612345678" }), 400, "destination_not_allowed"),
        (json!({ "number": "+14155550100" }), 400, "destination_not_allowed"),
        (json!({ "projectId": other_project }), 404, "no_such_project"),
        (json!({ "agentId": other_agent }), 404, "no_such_agent"),
        (json!({ "agentId": second_agent }), 400, "agent_of_another_project"),
        (json!({ "projectId": second_project, "agentId": second_agent }), 400, "agent_has_no_number"),
        (json!({ "dynamicVariables": { "a": {} } }), 400, "bad_dynamic_variables"),
        (json!({ "dynamicVariables": "x" }), 400, "bad_dynamic_variables"),
    ] {
        assert_eq!(line.call(&more).await.code(status), code, "{more}");
    }
    let history = line.user.post("/call/get-call-history", &json!({ "projectId": line.project })).await.ok();
    assert_eq!(history["data"], json!([]));
    let waiting: Result<_, StoreError> = line.bench.store.read(|connection| Ok(dials::waiting(connection, 10)?)).await;
    assert_eq!(waiting.expect("read"), []);
}

#[tokio::test]
async fn a_number_is_presented_where_it_is_ours_only() {
    let line = Line::new(DialSettings::default()).await;
    let trunk = |change: Value| {
        let (owner, path) = (&line.user, &line.trunk);
        async move { owner.patch(path, &change).await.ok() }
    };
    line.call(&json!({})).await.ok();
    trunk(json!({ "numbers": ["+3612345670"], "default": true })).await;
    assert_eq!(line.call(&json!({})).await.code(400), "caller_id_not_owned");
    trunk(json!({ "numbers": [], "default": true })).await;
    line.call(&json!({})).await.ok();
    trunk(json!({ "numbers": [], "default": false })).await;
    assert_eq!(line.call(&json!({})).await.code(400), "no_trunk");
    // An agent without a number takes the only free one of its project.
    trunk(json!({ "numbers": ["+3612345690"] })).await;
    let (project, agent) = clinic(&line.user, "Free", Some("+3612345690")).await;
    let another = json!({ "name": "B", "systemInstruction": "x", "projectId": project });
    let another = line.user.post("/agent/create-agent", &another).await.ok()["id"].clone();
    let call = json!({ "projectId": project, "agentId": another });
    assert_eq!(line.call(&call).await.code(400), "agent_has_no_number");
    let replaced = json!({ "e164": "+3612345691", "projectId": project, "agentId": agent });
    line.user.post("/phone-number/add-number", &replaced).await.ok();
    assert_eq!(line.call(&call).await.ok()["call"]["from"], "+3612345690");
}

#[tokio::test]
async fn the_owners_list_decides_where_the_box_calls() {
    let policy = DialPolicy { allow: vec!["+1415".into(), "+881".into()] };
    let line = Line::new(DialSettings { policy, ..DialSettings::default() }).await;
    line.call(&json!({ "number": "+14155550100" })).await.ok();
    for number in [TO, "+12125550100", "+881612345678", "+1911"] {
        assert_eq!(line.call(&json!({ "number": number })).await.code(400), "destination_not_allowed", "{number}");
    }
}

#[tokio::test]
async fn limits_hold_for_requests_at_once_and_say_when_to_come_back() {
    let line = Line::new(DialSettings { max_calls: 3, per_minute: 5, ..DialSettings::default() }).await;
    let at_once: Vec<Reply> = {
        let calls: Vec<_> = (0..8)
            .map(|_| {
                let (user, body) = (line.user.clone(), line.body(&json!({})));
                tokio::spawn(async move { user.post("/call/makeCall", &body).await })
            })
            .collect();
        let mut replies = Vec::new();
        for call in calls {
            replies.push(call.await.expect("it answers"));
        }
        replies
    };
    let (made, refused): (Vec<_>, Vec<_>) = at_once.into_iter().partition(|reply| reply.status == 200);
    assert_eq!(made.len(), 3);
    assert!(
        refused.iter().all(|reply| reply.code(429) == "too_many_calls" && reply.headers.contains_key("retry-after"))
    );
    line.end_all().await;
    line.made(&json!({})).await;
    line.bench.pass(Duration::from_secs(20));
    line.made(&json!({})).await;
    let sixth = line.call(&json!({})).await;
    assert_eq!(
        (sixth.code(429), &sixth.headers["retry-after"]),
        ("too_many_calls".into(), &"40".parse().expect("text"))
    );
    line.bench.pass(Duration::from_secs(40));
    line.made(&json!({})).await;

    line.end_all().await;
    line.user.patch(&line.trunk, &json!({ "max_channels": 1 })).await.ok();
    line.bench.pass(Duration::from_secs(60));
    line.made(&json!({})).await;
    let second = line.call(&json!({})).await;
    assert_eq!(second.code(429), "capacity");
    assert!(second.headers.contains_key("retry-after"));

    let small = Line::new(DialSettings { calls_max: 1, ..DialSettings::default() }).await;
    small.made(&json!({})).await;
    assert_eq!(small.call(&json!({})).await.code(429), "capacity");
}

#[tokio::test]
async fn a_repeated_request_with_its_key_is_the_same_call_for_a_day() {
    let mut line = Line::new(DialSettings::default()).await;
    let api_key = line.user.get("/user/generate-apikey").await.ok()["apiKey"].as_str().expect("a key").to_owned();
    line.user = line.bench.with_header(Some(("x-api-key", &api_key)));
    let with_key = |key: &str| Line { user: line.user.with_header(Some(("idempotency-key", key))), ..line.clone() };
    let keyed = with_key("order-1");
    let first = keyed.call(&json!({})).await;
    assert!(!first.headers.contains_key("idempotent-replayed"));
    let again = keyed.call(&json!({})).await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let first = first.ok();
    assert_eq!(again.ok(), first);
    assert_eq!(keyed.call(&json!({ "number": "+36301234567" })).await.code(422), "idempotency_key_reused");
    assert_ne!(with_key("order-2").call(&json!({})).await.ok()["call"], first["call"]);
    assert_eq!(with_key(&"x".repeat(256)).call(&json!({})).await.code(400), "bad_idempotency_key");
    assert_eq!(with_key("order-3").call(&json!({ "number": "1" })).await.code(400), "invalid_number");
    with_key("order-3").call(&json!({})).await.ok();
    line.bench.pass(Duration::from_secs(24 * 3600));
    assert_ne!(keyed.call(&json!({})).await.ok()["call"], first["call"], "a day has passed");
}

#[tokio::test]
async fn an_undelivered_order_survives_a_restart_and_one_that_was_accepted_is_not_sent_again() {
    let line = Line::new(DialSettings::default()).await;
    let (kept, taken) = (line.made(&json!({})).await, line.made(&json!({})).await);
    // Control starts again on the same directory; nothing was handed over: there was no connection.
    let restarted = line.bench.restarted().await;
    line.next(
        taken.parse().expect("an id"),
        [CallEvent::DialAccepted { command_id: CommandId("x".into()) }, started()],
    )
    .await;
    let live = [taken.parse().expect("an id")];
    let now_ms = crate::bench::START_MS;
    line.bench.store.write(move |connection| close_others(connection, &live, now_ms)).await.expect("stored");
    restarted.plane.live.send_replace(Some(1));
    let offers = restarted.plane.offers(1).await;
    assert_eq!((offers.len(), offers[0].2.call_id.to_string()), (1, kept.clone()));
    assert_eq!(line.status(&kept).await, "queued", "a queued row is not closed with the others");
    assert_eq!(line.status(&taken).await, "queued", "taken on, not yet dialled");
    line.bench.store.write(move |connection| close_others(connection, &[], now_ms)).await.expect("stored");
    assert_eq!(line.status(&taken).await, "failed", "the call plane no longer has it");
}

#[tokio::test]
async fn busy_is_offered_again_with_the_same_name_and_given_up_after_a_minute() {
    let line = Line::new(DialSettings::default()).await;
    let plane = &line.bench.plane;
    plane.answers.lock().expect("unpoisoned").extend([Ok(CommandReply::Busy), Err(PlaneError::NotConnected)]);
    plane.live.send_replace(Some(1));
    let sid = line.made(&json!({})).await;
    plane.offers(1).await;
    for count in 2..=3 {
        line.pass_until_offered(count).await;
    }
    let offers = plane.offers(3).await;
    assert!(offers.iter().all(|(_, command_id, _)| *command_id == offers[0].1));

    line.bench.plane.live.send_replace(None);
    let stuck = line.made(&json!({})).await;
    line.bench.pass(Duration::from_secs(59));
    line.wake();
    assert_eq!(line.status(&stuck).await, "queued");
    line.bench.pass(Duration::from_secs(2));
    line.wake();
    line.until(&stuck, "failed").await;
    // Should the call plane have had it all the same, its word counts.
    let accepted = CallEvent::DialAccepted { command_id: CommandId("x".into()) };
    line.next(stuck.parse().expect("an id"), [accepted, started(), CallEvent::Ringing]).await;
    assert_eq!(line.status(&stuck).await, "ringing");
    assert_eq!(line.status(&sid).await, "queued", "that one was handed over");
}

#[tokio::test]
async fn a_webhook_is_told_once_that_a_call_waits_and_that_it_was_not_handed_over() {
    let mut receiver = Receiver::willing().await;
    let dir = Arc::new(tempfile::tempdir().expect("a directory"));
    let line = Line::on(Bench::on(dir, SignupPolicy::Open, &[receiver.port]).await).await;
    let hook = json!({ "projectId": line.project, "webhookURL": receiver.url() });
    line.user.post("/project/call-status/add-webhookurl", &hook).await.ok();
    let mut told = async |sid: &str, status: &str, permanent: bool| {
        let body = receiver.next().await.json();
        assert_eq!((&body["call_id"], &body["status"]), (&json!(sid), &json!(status)));
        assert_eq!((&body["permanent"], &body["to"], &body["from"]), (&json!(permanent), &json!(TO), &json!(FROM)));
    };
    let repeatable = Line { user: line.user.with_header(Some(("idempotency-key", "k"))), ..line.clone() };
    let stuck = repeatable.made(&json!({})).await;
    assert_eq!(repeatable.made(&json!({})).await, stuck);
    told(&stuck, "queued", false).await;
    line.bench.pass(Duration::from_secs(61));
    line.wake();
    told(&stuck, "failed", true).await;

    let taken = line.made(&json!({})).await;
    told(&taken, "queued", false).await;
    let accepted = CallEvent::DialAccepted { command_id: CommandId("x".into()) };
    line.next(taken.parse().expect("an id"), [accepted, started(), CallEvent::Initiated]).await;
    told(&taken, "initiated", false).await;
    assert!(receiver.try_next().is_none(), "nothing is told twice");
}

/// A tenant with a trunk, an agent and its number.
#[derive(Clone)]
struct Line {
    bench: Bench,
    user: Bench,
    project: String,
    agent: String,
    trunk: String,
}

impl Line {
    async fn new(settings: DialSettings) -> Self {
        Line::on(Bench::with(SignupPolicy::Open, settings).await).await
    }

    async fn on(bench: Bench) -> Self {
        let user = bench.account("owner@b.com").await;
        let (project, agent) = clinic(&user, "Clinic", Some(FROM)).await;
        let trunk = json!({ "name": "t", "host": "127.0.0.1", "numbers": [FROM] });
        let trunk = user.post("/api/v1/trunks", &trunk).await.created();
        let trunk = format!("/api/v1/trunks/{}", trunk["id"].as_str().expect("an id"));
        Line { bench, user, project, agent, trunk }
    }

    fn body(&self, more: &Value) -> Value {
        let mut body = json!({ "number": TO, "projectId": self.project, "agentId": self.agent });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    }

    async fn call(&self, more: &Value) -> Reply {
        self.user.post("/call/makeCall", &self.body(more)).await
    }

    async fn made(&self, more: &Value) -> String {
        self.call(more).await.ok()["call"]["call_id"].as_str().expect("an id").to_owned()
    }

    async fn status(&self, sid: &str) -> String {
        let found = self.user.post("/call", &json!({ "sid": sid, "projectId": self.project })).await.ok();
        found["status"].as_str().expect("a status").to_owned()
    }

    /// Waits for a status that the dispatcher brings.
    async fn until(&self, sid: &str, status: &str) {
        let seen = tokio::time::timeout(Duration::from_secs(8), async {
            while self.status(sid).await != status {
                tokio::task::yield_now().await;
            }
        });
        seen.await.expect(status);
    }

    /// Lets seconds pass until there are as many offers: a second that passes before an answer is heard counts for
    /// nothing.
    async fn pass_until_offered(&self, count: usize) {
        for _ in 0..40 {
            self.bench.pass(Duration::from_secs(1));
            self.wake();
            if tokio::time::timeout(Duration::from_millis(200), self.bench.plane.offers(count)).await.is_ok() {
                return;
            }
        }
        panic!("{count} offers never came");
    }

    /// Makes the dispatcher look: the clock of the test moves without it.
    fn wake(&self) {
        self.bench.plane.live.send_modify(|_| {});
    }

    /// Stores records of one call as the journal would bring them.
    async fn hear(&self, call_id: CallId, from_seq: u64, events: impl IntoIterator<Item = CallEvent>) {
        let at_ms = crate::bench::START_MS as u64;
        let records: Vec<JournalRecord> = events
            .into_iter()
            .zip(from_seq..)
            .map(|(event, seq)| JournalRecord { position: Position { boot: 1, seq }, at_ms, call_id, event })
            .collect();
        self.bench.store.write(move |connection| ingest(connection, &records)).await.expect("stored");
    }

    /// The same, behind what was heard before.
    async fn next(&self, call_id: CallId, events: impl IntoIterator<Item = CallEvent>) {
        let cursor: Result<_, StoreError> =
            self.bench.store.read(|connection| Ok(talkstack_control::store::calls::cursor(connection)?)).await;
        let seq = cursor.expect("read").map_or(1, |position| position.seq + 1);
        self.hear(call_id, seq, events).await;
    }

    async fn end_all(&self) {
        let done = self.bench.store.write(|connection| {
            connection.execute("DELETE FROM dials", [])?;
            close_others(connection, &[], crate::bench::START_MS)
        });
        done.await.expect("stored");
    }
}

async fn clinic(user: &Bench, name: &str, number: Option<&str>) -> (String, String) {
    let project = user.post("/project/create-project", &json!({ "name": name, "description": "" })).await.ok();
    let project = project["data"]["id"].as_str().expect("an id").to_owned();
    let agent = json!({ "name": "A", "systemInstruction": "x", "projectId": project, "phoneNumber": number });
    let agent = user.post("/agent/create-agent", &agent).await.ok()["id"].as_str().expect("an id").to_owned();
    (project, agent)
}

fn started() -> CallEvent {
    CallEvent::Started(CallStarted {
        direction: Direction::Outbound,
        from: FROM.into(),
        to: TO.into(),
        project_id: None,
        agent_id: None,
        sip_call_id: "sip".into(),
        trunk_id: None,
        display_name: None,
        verstat: None,
        attestation: None,
        diverted_from: None,
    })
}

const FROM: &str = "+3612345678";

const TO: &str = "+36201234567";
