//! Recordings behind signed links: what leads to them, what is sent, and what is refused.

mod bench;

use std::path::PathBuf;
use std::time::Duration;

use axum::http::Method;
use bench::receiver::Receiver;
use bench::{Bench, answered, ended, started};
use serde_json::json;
use talkstack_control::http::SignupPolicy;
use talkstack_control::port::{
    CallEvent, CallId, CollectEnd, CollectOrder, Collected, Command, CommandReply, PressedKeys,
};

#[tokio::test]
async fn the_link_leads_to_the_file_for_a_day_and_is_made_anew_at_each_read() {
    let (bench, project) = clinic().await;
    let bytes = recorded(&bench, &project, 1).await;
    let host = bench.with_header(Some(("host", "evil.example")));
    let link = links(&host, &project, 1).await.remove(0);
    assert!(link.starts_with("https://box.example/recordings/CA00000000000000000000000000000001.wav?expires="));
    let history = bench.post("/call/get-call-history", &json!({ "projectId": project })).await.ok();
    assert_eq!(history["data"][0]["recordingUrls"], json!([link]));
    let anybody = bench.without_headers();
    let whole = anybody.get(path(&link)).await;
    assert_eq!((whole.status, &whole.bytes), (200, &bytes));
    for (name, value) in [
        ("content-type", "audio/wav"),
        ("content-length", "100044"),
        ("content-disposition", "attachment; filename=\"CA00000000000000000000000000000001.wav\""),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "private, no-store"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(whole.headers[name], value, "{name}");
    }
    bench.pass(Duration::from_secs(24 * 3600 - 1));
    assert_eq!(anybody.get(path(&link)).await.status, 200);
    let later = bench.bearer_again().await;
    let fresh = links(&later, &project, 1).await.remove(0);
    bench.pass(Duration::from_secs(1));
    assert_eq!(anybody.get(path(&link)).await.code(403), "bad_link");
    assert_eq!(anybody.get(path(&fresh)).await.status, 200);
}

#[tokio::test]
async fn parts_are_sent_and_only_of_the_version_the_client_has() {
    let (bench, project) = clinic().await;
    let bytes = recorded(&bench, &project, 1).await;
    let link = links(&bench, &project, 1).await.remove(0);
    let ask = |headers: Vec<(&'static str, String)>| {
        let mut asked = bench.without_headers();
        for (name, value) in &headers {
            asked = asked.with_header(Some((name, value)));
        }
        let path = path(&link).to_owned();
        async move { asked.get(path).await }
    };
    let etag = ask(vec![]).await.headers["etag"].to_str().expect("text").to_owned();
    for (range, expected) in [
        ("bytes=0-43", Some(0..44)),
        ("bytes=70000-", Some(70_000..100_044)),
        ("bytes=-44", Some(100_000..100_044)),
        ("bytes=100000-999999", Some(100_000..100_044)),
        ("bytes=0-1,4-5", None),
        ("bytes=x", None),
    ] {
        let reply = ask(vec![("range", range.into()), ("if-range", etag.clone())]).await;
        match expected {
            Some(part) => {
                assert_eq!(reply.status, 206, "{range}");
                let content_range = format!("bytes {}-{}/100044", part.start, part.end - 1);
                assert_eq!(reply.headers["content-range"], content_range);
                assert_eq!(reply.headers["content-length"], part.len().to_string());
                assert_eq!(reply.bytes, bytes[part], "{range}");
            }
            None => assert_eq!((reply.status, &reply.bytes), (200, &bytes), "{range}"),
        }
    }
    let outside = ask(vec![("range", "bytes=100044-".into())]).await;
    assert_eq!((outside.status, outside.bytes.len()), (416, 0));
    assert_eq!(outside.headers["content-range"], "bytes */100044");
    let other = ask(vec![("range", "bytes=0-43".into()), ("if-range", "\"other\"".into())]).await;
    assert_eq!((other.status, other.bytes.len()), (200, 100_044));
    let head = bench.without_headers().with_header(Some(("range", "bytes=0-43")));
    let head = head.raw(Method::HEAD, path(&link), Vec::new()).await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
    assert_eq!(
        (&head.headers["content-length"], &head.headers["etag"]),
        (&"100044".parse().unwrap(), &etag.parse().unwrap())
    );
}

#[tokio::test]
async fn what_is_forged_is_refused_alike_whatever_was_forged() {
    let (bench, project) = clinic().await;
    recorded(&bench, &project, 1).await;
    let link = links(&bench, &project, 1).await.remove(0);
    let good = path(&link).to_owned();
    let (name, query) = good.split_once('?').expect("a query");
    let (expires, signature) = query.split_once('&').expect("a signature");
    let refusal = bench.without_headers().get(name).await;
    assert_eq!(refusal.code(403), "bad_link");
    let last = if good.ends_with('0') { "1" } else { "0" };
    for forged in [
        format!("{name}?{expires}"),
        format!("{name}?{signature}"),
        format!("{name}?{expires}&signature="),
        format!("{}{last}", &good[..good.len() - 1]),
        format!("{name}?expires=9999999999&{signature}"),
        format!("{name}?expires=99999999999999999999999&{signature}"),
        format!("{name}?{expires}&{signature}&expires=9999999999"),
        good.replace("0001.wav", "0002.wav"),
        good.replace(".wav", ".mp3"),
        good.replace(".wav", ""),
        good.replace("CA", "ca"),
        good.replace("/recordings/", "/recordings/..%2f"),
        good.replace("/recordings/", "/recordings/2025%2f03%2f10%2f"),
        good.replace("CA0000", "..%2f..%2f"),
        good.replace("CA0000", "%ff"),
        format!("/recordings/..%2fsecret.key?{query}"),
        format!("/recordings/CA00000000000000000000000000000099.wav?{query}"),
    ] {
        let reply = bench.without_headers().get(&forged).await;
        assert_eq!(reply.without_id(), refusal.without_id(), "{forged}");
    }
    assert_eq!(bench.without_headers().get(&good).await.status, 200);
}

#[tokio::test]
async fn a_valid_link_to_a_file_that_is_gone_says_so() {
    let (bench, project) = clinic().await;
    recorded(&bench, &project, 1).await;
    let link = links(&bench, &project, 1).await.remove(0);
    std::fs::remove_file(file(&bench, 1)).expect("removed");
    assert_eq!(bench.without_headers().get(path(&link)).await.code(404), "recording_gone");
}

#[tokio::test]
async fn a_recording_that_a_crash_left_unannounced_is_found_by_its_call() {
    let (bench, project) = clinic().await;
    bench.happen(1, vec![started(&project), answered()]).await;
    let bytes = write(&file(&bench, 1));
    assert!(links(&bench, &project, 1).await.is_empty(), "not while the call is up");
    bench.happen(1, vec![ended()]).await;
    let link = links(&bench, &project, 1).await.remove(0);
    assert_eq!(bench.without_headers().get(path(&link)).await.bytes, bytes);
}

#[tokio::test]
async fn an_opus_recording_and_the_agent_s_track_beside_it_have_links_of_their_own() {
    let (bench, project) = clinic().await;
    let id = CallId(1);
    let of = |name: &str| bench.path("recordings/2025/03/10").join(name);
    write(&of(&format!("{id}.opus")));
    let said = write(&of(&format!("{id}.agent.opus")));
    let name = format!("2025/03/10/{id}.opus");
    let paused = [CallEvent::RecordingPaused { at_ms: 500 }, CallEvent::RecordingResumed { at_ms: 900 }];
    let events = [started(&project), answered()].into_iter().chain(paused);
    let events = events.chain([CallEvent::RecordingPaused { at_ms: 2000 }, named(&name), ended()]).collect();
    bench.happen(1, events).await;
    let body = json!({ "sid": id.to_string(), "projectId": project });
    let found = bench.post("/call", &body).await.ok();
    let link = |name: &str| found[name].as_str().expect("a link").to_owned();
    let both = found["recordingUrls"][0].as_str().expect("a link").to_owned();
    assert!(both.contains(&format!("/recordings/{id}.opus?")), "{both}");
    let agent = link("agentRecordingUrl");
    let gaps = json!([{ "fromMs": 500, "toMs": 900 }, { "fromMs": 2000, "toMs": null }]);
    assert_eq!(found["recordingGaps"], gaps);
    let anybody = bench.without_headers();
    let sent = anybody.get(path(&agent)).await;
    assert_eq!((sent.status, &sent.bytes), (200, &said));
    assert_eq!(sent.headers["content-type"], "audio/ogg; codecs=opus");
    assert_eq!(sent.headers["content-disposition"], format!("attachment; filename=\"{id}.agent.opus\""));
    let part = anybody.with_header(Some(("range", "bytes=0-9"))).get(path(&both)).await;
    assert_eq!((part.status, part.bytes.len()), (206, 10));
    // A link to the one is none to the other.
    let swapped = path(&both).replace(".opus", ".agent.opus");
    assert_eq!(anybody.get(&swapped).await.code(403), "bad_link");
}

#[tokio::test]
async fn a_recording_is_paused_by_whose_call_it_is_and_only_while_the_call_is_up() {
    let (bench, project) = clinic().await;
    let id = CallId(1);
    bench.happen(1, vec![started(&project), answered()]).await;
    let url = format!("/api/v1/calls/{id}/recording");
    let reply = |reply| {
        let mut replies = bench.plane.replies.lock().expect("unpoisoned");
        replies.clear();
        replies.push_back(Ok(reply));
    };
    reply(CommandReply::Accepted);
    let paused = bench.post(&url, &json!({ "action": "pause" })).await.ok();
    assert_eq!(paused, json!({ "sid": id.to_string(), "recording": "paused" }));
    let asked = || bench.plane.commands.lock().expect("unpoisoned").last().cloned();
    assert_eq!(asked(), Some(Command::PauseRecording { call_id: id, is_paused: true }));
    assert_eq!(bench.post(&url, &json!({ "action": "resume" })).await.ok()["recording"], "on");
    assert_eq!(asked(), Some(Command::PauseRecording { call_id: id, is_paused: false }));
    for wrong in [json!({}), json!({ "action": "stop" }), json!({ "action": 1 })] {
        assert_eq!(bench.post(&url, &wrong).await.code(400), "bad_field", "{wrong}");
    }
    // Another tenant, a call that is none, and one that nobody has asked by name.
    let other = bench.without_headers().account("c@d.com").await;
    assert_eq!(other.post(&url, &json!({ "action": "pause" })).await.code(404), "no_such_call");
    for none in [CallId(2).to_string(), "x".into()] {
        let url = format!("/api/v1/calls/{none}/recording");
        assert_eq!(bench.post(&url, &json!({ "action": "pause" })).await.code(404), "no_such_call");
    }
    assert_eq!(bench.without_headers().post(&url, &json!({ "action": "pause" })).await.status, 401);
    reply(CommandReply::Busy);
    assert_eq!(bench.post(&url, &json!({ "action": "pause" })).await.code(503), "busy");
    bench.happen(1, vec![ended()]).await;
    assert_eq!(bench.post(&url, &json!({ "action": "pause" })).await.code(409), "call_over");
}

#[tokio::test]
async fn a_journal_cannot_name_another_file() {
    let (bench, project) = clinic().await;
    write(&file(&bench, 2));
    for name in ["../secret.key", "2025/03/10/CA00000000000000000000000000000002.wav", "/etc/passwd", ""] {
        bench.happen(1, vec![started(&project), answered(), named(name), ended()]).await;
        assert!(links(&bench, &project, 1).await.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn the_webhook_carries_the_link_once_the_call_is_over() {
    let mut receiver = Receiver::willing().await;
    let dir = std::sync::Arc::new(tempfile::tempdir().expect("a directory"));
    let bench = Bench::on(dir, SignupPolicy::Open, &[receiver.port]).await.account("a@b.com").await;
    let project = bench.project("Clinic").await;
    let hook = json!({ "projectId": project, "webhookURL": receiver.url() });
    bench.post("/project/call-status/add-webhookurl", &hook).await.ok();
    let bytes = recorded(&bench, &project, 1).await;
    let (_, _, last) = (receiver.next().await, receiver.next().await, receiver.next().await);
    let link = last.json()["recordingUrls"][0].as_str().expect("a link").to_owned();
    assert_eq!(bench.without_headers().get(path(&link)).await.bytes, bytes);
}

/// A box with an account and a project.
async fn clinic() -> (Bench, String) {
    let bench = Bench::new(SignupPolicy::Open).await.account("a@b.com").await;
    let project = bench.project("Clinic").await;
    (bench, project)
}

/// A call with a recording; what is in it.
async fn recorded(bench: &Bench, project: &str, call: u128) -> Vec<u8> {
    let bytes = write(&file(bench, call));
    let name = format!("2025/03/10/{}.wav", CallId(call));
    bench.happen(call, vec![started(project), answered(), named(&name), ended()]).await;
    bytes
}

fn named(file: &str) -> CallEvent {
    CallEvent::Recorded { file: file.to_owned(), duration_ms: 3125 }
}

fn file(bench: &Bench, call: u128) -> PathBuf {
    bench.path("recordings/2025/03/10").join(format!("{}.wav", CallId(call)))
}

fn write(path: &std::path::Path) -> Vec<u8> {
    let bytes: Vec<u8> = (0..100_044u32).map(|at| (at % 251) as u8).collect();
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, &bytes).expect("written");
    bytes
}

async fn links(bench: &Bench, project: &str, call: u128) -> Vec<String> {
    let body = json!({ "sid": CallId(call).to_string(), "projectId": project });
    let found = bench.post("/call", &body).await.ok();
    serde_json::from_value(found["recordingUrls"].clone()).expect("links")
}

fn path(link: &str) -> &str {
    link.strip_prefix("https://box.example").expect("our own base")
}

#[tokio::test]
async fn digits_are_collected_for_whose_call_it_is_and_told_to_nobody_else() {
    let (bench, project) = clinic().await;
    let id = CallId(1);
    bench.happen(1, vec![started(&project), answered()]).await;
    let url = format!("/api/v1/calls/{id}/digits");
    let reply = |reply| {
        let mut replies = bench.plane.replies.lock().expect("unpoisoned");
        replies.clear();
        replies.push_back(Ok(reply));
    };
    let collected =
        |keys: &str, ended_by| CommandReply::Collected(Collected { keys: PressedKeys(keys.into()), ended_by });
    let asked = || bench.plane.commands.lock().expect("unpoisoned").last().cloned();
    let order = |keys_max, finish_key, first_within_s, next_within_s| {
        let order = CollectOrder { keys_max, finish_key, first_within_s, next_within_s };
        Some(Command::Collect { call_id: id, order })
    };
    reply(collected("4711", CollectEnd::FinishKey));
    let answer = bench.post(&url, &json!({})).await.ok();
    assert_eq!(answer, json!({ "sid": id.to_string(), "digits": "4711", "ended_by": "finish_key" }));
    assert_eq!(asked(), order(16, Some('#'), 10, 5));
    let wish = json!({ "max": 4, "finish_on": null, "first_within_s": 60, "next_within_s": 1 });
    assert_eq!(bench.post(&url, &wish).await.ok()["digits"], "4711");
    assert_eq!(asked(), order(4, None, 60, 1));
    for wrong in [
        json!({ "max": 0 }),
        json!({ "max": 33 }),
        json!({ "finish_on": "##" }),
        json!({ "finish_on": "x" }),
        json!({ "finish_on": 5 }),
        json!({ "first_within_s": 61 }),
        json!({ "next_within_s": 31 }),
        json!({ "next_within_s": "5" }),
    ] {
        assert_eq!(bench.post(&url, &wrong).await.code(400), "bad_field", "{wrong}");
    }
    assert_eq!(bench.post(&url, &json!({ "private": true })).await.status, 400);
    let other = bench.without_headers().account("c@d.com").await;
    assert_eq!(other.post(&url, &json!({})).await.code(404), "no_such_call");
    assert_eq!(bench.without_headers().post(&url, &json!({})).await.status, 401);
    reply(CommandReply::Collecting);
    assert_eq!(bench.post(&url, &json!({})).await.code(409), "collecting");
    reply(collected("", CollectEnd::NotAnswered));
    assert_eq!(bench.post(&url, &json!({})).await.code(409), "not_answered");
    reply(CommandReply::NoSuchCall);
    assert_eq!(bench.post(&url, &json!({})).await.code(409), "call_over");
    bench.happen(1, vec![ended()]).await;
    assert_eq!(bench.post(&url, &json!({})).await.code(409), "call_over");
}
