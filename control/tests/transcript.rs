//! What was said in a call, and how it ended, in the answer to `POST /call`.

mod bench;

use bench::{Bench, answered, ended, started};
use serde_json::json;
use talkstack_control::http::SignupPolicy;
use talkstack_control::ingest::ingest;
use talkstack_control::port::{CallEvent, CallId, JournalRecord, Position, Speaker, Utterance};
use talkstack_control::store::{StoreError, calls};

#[tokio::test]
async fn what_was_said_stands_once_and_in_the_order_it_was_begun() {
    let bench = Bench::new(SignupPolicy::Open).await.account("a@b.com").await;
    let project = bench.project("Clinic").await;
    let find = json!({ "sid": CallId(1).to_string(), "projectId": project });
    bench.happen(1, vec![started(&project), answered()]).await;
    let up = bench.post("/call", &find).await.ok();
    assert_eq!((&up["transcript"], &up["outcome"]), (&json!([]), &json!(null)));
    // The caller's words are known after the agent's answer to them.
    let words = vec![
        said(Speaker::Agent, "Hello, this is Jack.", 200),
        said(Speaker::Agent, "Of course. When?", 4100),
        said(Speaker::Caller, "I need an appointment — größer", 2500),
        ended(),
    ];
    bench.happen(1, words).await;
    let expected = json!([
        { "speaker": "agent", "text": "Hello, this is Jack.", "at_ms": 200 },
        { "speaker": "caller", "text": "I need an appointment — größer", "at_ms": 2500 },
        { "speaker": "agent", "text": "Of course. When?", "at_ms": 4100 },
    ]);
    let call = bench.post("/call", &find).await.ok();
    assert_eq!(call["transcript"], expected);
    assert_eq!(call["outcome"], json!({ "blame": "caller", "reason": "hung_up" }));

    let replayed = JournalRecord {
        position: Position { boot: 1, seq: 3 },
        at_ms: 1,
        call_id: CallId(1),
        event: said(Speaker::Agent, "Hello, this is Jack.", 200),
    };
    bench.store.write(move |connection| ingest(connection, &[replayed])).await.expect("stored");
    assert_eq!(bench.post("/call", &find).await.ok()["transcript"], expected, "a replay adds nothing");
    let cursor = bench.store.read(|connection| calls::cursor(connection).map_err(StoreError::from)).await;
    assert_eq!(cursor.expect("read"), Some(Position { boot: 1, seq: 6 }));
}

#[tokio::test]
async fn nobody_reads_what_was_said_to_another_tenant() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let (alice, bob) = (bench.account("alice@a.com").await, bench.account("bob@b.com").await);
    let (project, own) = (alice.project("Clinic").await, bob.project("Clinic").await);
    bench.happen(1, vec![started(&project), answered(), said(Speaker::Caller, "my secret", 100), ended()]).await;
    bench.happen(2, vec![started(&own), answered(), ended()]).await;
    for project_id in [&project, &own] {
        let reply = bob.post("/call", &json!({ "sid": CallId(1).to_string(), "projectId": project_id })).await;
        assert_eq!(reply.code(404), "no_such_call");
        assert!(!reply.body.to_string().contains("my secret"));
    }
    let call = bob.post("/call", &json!({ "sid": CallId(2).to_string(), "projectId": own })).await.ok();
    assert_eq!(call["transcript"], json!([]));
}

fn said(speaker: Speaker, text: &str, at_ms: u64) -> CallEvent {
    CallEvent::Said(Utterance { speaker, text: text.into(), at_ms })
}
