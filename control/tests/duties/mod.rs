//! What agents do besides speaking, as their owners meet it: functions of web services, messages, numbers that are not
//! called; and voices and providers tried out.

use axum::http::Method;
use serde_json::{Value, json};
use talkstack_control::http::SignupPolicy;
use talkstack_control::port::{
    Audition, AuditionOrder, CallEvent, Command, CommandReply, PlaneError, TakenMessage, TestStep,
};
use talkstack_control::secret::TOOL_HEADER_PURPOSE;

use crate::bench::{Bench, Reply, answered, ended, started};

#[tokio::test]
async fn a_function_reaches_the_call_plane_with_its_secret_sealed_and_nobody_is_shown_it() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let user = bench.account("a@b.com").await;
    let project = user.project("P").await;
    let tool = json!({
        "name": "free_rooms", "description": "Tells which rooms are free.", "method": "GET",
        "parameters": { "type": "object", "properties": { "day": { "type": "string" } } },
        "url": "https://pms.example/{{day}}", "secretHeaders": { "Authorization": "Bearer s3cret-of-the-hotel" },
    });
    let body = json!({
        "name": "Jack", "systemInstruction": "x", "projectId": project, "httpTools": [tool], "ringSeconds": 10,
        "refuseWith": 480, "tools": ["wait", "take_message", "end_call"],
    });
    let made = user.post("/agent/create-agent", &body).await.ok();
    let shown = &made["data"]["httpTools"][0];
    assert_eq!((&shown["method"], &shown["timeoutSeconds"]), (&json!("GET"), &json!(10)));
    assert_eq!(shown["secretHeaders"], json!({ "authorization": null }));
    assert_eq!((&made["ringSeconds"], &made["refuseWith"]), (&json!(10), &json!(480)));
    assert_eq!(made["tools"], json!(["end_call", "take_message", "wait"]));
    assert!(!made.to_string().contains("s3cret"));
    assert!(!String::from_utf8_lossy(&bench.bytes_on_disk()).contains("s3cret-of-the-hotel"));
    let id = made["id"].as_str().expect("an id");
    let route = bench.last_snapshot().agents[id].clone();
    assert_eq!((route.ring_s, route.refuse_with), (Some(10), Some(480)));
    let sealed = &route.http_tools[0].secret_headers["authorization"];
    let opened = bench.secret().unseal(TOOL_HEADER_PURPOSE, sealed).expect("ours");
    assert_eq!(opened, "Bearer s3cret-of-the-hotel");

    let change = |field: &str, value: Value| {
        let mut body = json!({ "projectId": project, "agentId": id });
        body[field] = value;
        body
    };
    // As it was shown: the secret stays.
    let again = user.send(Method::PUT, "/agent", &change("httpTools", json!([shown]))).await.ok();
    assert_eq!(again["data"]["httpTools"][0], *shown);
    assert_eq!(bench.last_snapshot().agents[id].http_tools, route.http_tools);
    for (field, value) in [
        ("httpTools", json!([{ "name": "x" }])),
        ("httpTools", json!({})),
        ("refuseWith", json!(200)),
        ("refuseWith", json!(401)),
        ("ringSeconds", json!(0)),
        ("ringSeconds", json!(31)),
        ("tools", json!(["fly"])),
    ] {
        let refused = user.send(Method::PUT, "/agent", &change(field, value.clone())).await;
        assert_eq!(refused.code(400), "bad_field", "{field} {value}");
    }
    for (field, value, emptied) in [
        ("httpTools", json!([]), json!([])),
        ("refuseWith", Value::Null, Value::Null),
        ("ringSeconds", Value::Null, Value::Null),
    ] {
        assert_eq!(
            user.send(Method::PUT, "/agent", &change(field, value)).await.ok()["data"][field],
            emptied,
            "{field}"
        );
    }
}

#[tokio::test]
async fn a_message_is_its_project_s_account_s_to_read_and_to_forget_and_nobody_else_s() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    let user = bench.account("user@b.com").await;
    let stranger = bench.account("stranger@b.com").await;
    let project = user.project("P").await;
    let taken = |text: &str| {
        CallEvent::MessageTaken(TakenMessage { name: Some("Ann".into()), number: None, text: text.into() })
    };
    bench.happen(1, vec![started(&project), answered(), taken("Call me."), taken("Today."), ended()]).await;
    let listed = user.get("/api/v1/messages?limit=1").await.ok();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
    let message = &listed["data"][0];
    assert_eq!(
        (&message["text"], &message["name"], &message["read"]),
        (&json!("Today."), &json!("Ann"), &json!(false))
    );
    assert_eq!(message["far_end"], "+14152148508");
    let cursor = listed["next_cursor"].as_str().expect("there is more");
    let rest = user.get(format!("/api/v1/messages?cursor={cursor}")).await.ok();
    assert_eq!((&rest["data"][0]["text"], &rest["next_cursor"]), (&json!("Call me."), &Value::Null));
    assert_eq!(owner.get("/api/v1/messages").await.ok()["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(stranger.get("/api/v1/messages").await.ok()["data"], json!([]));
    let path = format!("/api/v1/messages/{}", message["id"].as_str().expect("an id"));
    assert_eq!(stranger.patch(&path, &json!({ "read": true })).await.code(404), "no_such_message");
    assert_eq!(stranger.send(Method::DELETE, &path, &json!({})).await.code(404), "no_such_message");
    assert_eq!(user.patch(&path, &json!({ "read": true })).await.ok()["read"], true);
    assert_eq!(user.patch(&path, &json!({ "read": 1 })).await.code(400), "bad_field");
    assert_eq!(user.send(Method::DELETE, &path, &json!({})).await.status, 204);
    assert_eq!(user.get("/api/v1/messages").await.ok()["data"].as_array().map(Vec::len), Some(1));
    for query in ["limit=0", "limit=x", "cursor=x"] {
        assert_eq!(user.get(format!("/api/v1/messages?{query}")).await.code(400), "bad_filter", "{query}");
    }
}

#[tokio::test]
async fn who_wants_no_more_calls_is_on_the_list_of_whose_agent_was_told_so() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let user = bench.account("user@b.com").await;
    let stranger = bench.account("stranger@b.com").await;
    let project = user.project("P").await;
    bench.happen(1, vec![started(&project), answered(), CallEvent::DoNotCall, CallEvent::DoNotCall, ended()]).await;
    let listed = user.get("/api/v1/do-not-call").await.ok();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&listed["data"][0]["number"], &listed["data"][0]["reason"]),
        (&json!("+14152148508"), &json!("asked for in a call"))
    );
    assert!(listed["data"][0]["call"].as_str().is_some_and(|call| call.starts_with("CA")));
    assert_eq!(stranger.get("/api/v1/do-not-call").await.ok()["data"], json!([]));
    let added = user.post("/api/v1/do-not-call", &json!({ "number": "+14152148509", "reason": "by mail" })).await;
    assert_eq!(added.created()["reason"], "by mail");
    let again = user.post("/api/v1/do-not-call", &json!({ "number": "+14152148509" })).await;
    assert_eq!(again.status, 200);
    assert_eq!(user.post("/api/v1/do-not-call", &json!({ "number": "12" })).await.status, 400);
    let path = "/api/v1/do-not-call/+14152148509";
    assert_eq!(stranger.send(Method::DELETE, path, &json!({})).await.code(404), "no_such_number");
    assert_eq!(user.send(Method::DELETE, path, &json!({})).await.status, 204);
    assert_eq!(user.get("/api/v1/do-not-call").await.ok()["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn each_voice_has_a_sample_that_plays_and_is_made_once() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    let provider = json!({
        "name": "openai", "kind": "openai-realtime", "model": "gpt-realtime", "voices": ["marin", "cedar"], "default": true,
    });
    owner.post("/api/v1/providers", &provider).await.created();
    let listed = owner.get("/voices").await.ok();
    assert_eq!(listed["message"], "successfully fetched voice list.");
    let ids: Vec<_> =
        listed["voices"].as_array().expect("a list").iter().map(|voice| voice["voice_id"].clone()).collect();
    assert_eq!(ids, ["marin", "cedar", "box-en", "box-de"]);
    assert_eq!(owner.get("/voices/cedar").await.ok()["voice"], listed["voices"][1]);
    assert_eq!(owner.get("/voices/nobody").await.code(404), "no_such_voice");
    assert_eq!(bench.without_headers().get("/voices").await.status, 401);

    let link = |voice: usize| {
        let url = listed["voices"][voice]["preview_url"].as_str().expect("a link");
        url[url.find("/voices/").expect("a path")..].to_owned()
    };
    let plays = |reply: &Reply| reply.status == 200 && reply.headers["content-type"] == "audio/wav";
    let anybody = bench.without_headers();
    assert!(plays(&anybody.get(link(2)).await), "the box's own, by its link alone");
    let answers = |reply: Result<CommandReply, PlaneError>| {
        let mut replies = bench.plane.replies.lock().expect("unpoisoned");
        replies.clear();
        replies.push_back(reply);
    };
    let asked = || bench.plane.commands.lock().expect("unpoisoned").len();
    let step = |is_ok: bool| TestStep {
        step: "greeting".into(),
        is_ok: Some(is_ok),
        fault: (!is_ok).then(|| "silent".into()),
        found: "It says nothing.".into(),
        took_ms: 1,
    };
    answers(Ok(CommandReply::Auditioned(Box::new(Audition { steps: vec![step(false)], speech: None }))));
    assert_eq!(anybody.get(link(0)).await.code(502), "no_preview");
    answers(Ok(CommandReply::Busy));
    assert_eq!(anybody.get(link(0)).await.code(503), "busy");
    let speech = Some("UklGRg==".to_owned());
    answers(Ok(CommandReply::Auditioned(Box::new(Audition { steps: vec![step(true)], speech }))));
    let before = asked();
    assert!(plays(&anybody.get(link(0)).await) && plays(&anybody.get(link(0)).await));
    assert_eq!(asked(), before + 1, "it is kept");
    let last = bench.plane.commands.lock().expect("unpoisoned").last().cloned();
    let Some(Command::Audition(order)) = last else { panic!("{last:?}") };
    let AuditionOrder { voice, is_asked, .. } = *order;
    assert_eq!((voice.as_deref(), is_asked), (Some("marin"), false));
    let forged = link(0).replace("marin", "cedar");
    assert_eq!(anybody.get(&forged).await.code(403), "bad_link");
    assert_eq!(anybody.get(link(0).split('?').next().expect("a path")).await.code(403), "bad_link");
}

#[tokio::test]
async fn a_provider_s_test_asks_the_call_plane_and_shows_its_steps() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    let user = bench.account("user@b.com").await;
    let made =
        owner.post("/api/v1/providers", &json!({ "name": "p", "kind": "pcm", "base_url": "ws://a/b" })).await.created();
    let path = format!("/api/v1/providers/{}/test", made["id"].as_str().expect("an id"));
    let answers = |reply| *bench.plane.replies.lock().expect("unpoisoned") = [reply].into();
    let fault = TestStep {
        step: "connect".into(),
        is_ok: Some(false),
        fault: Some("unreachable".into()),
        found: "the agent answered HTTP 401".into(),
        took_ms: 12,
    };
    answers(Ok(CommandReply::Auditioned(Box::new(Audition { steps: vec![fault], speech: None }))));
    let tested = owner.post(&path, &json!({ "voice": "marin" })).await.ok();
    assert_eq!((&tested["ok"], &tested["steps"][0]["found"]), (&json!(false), &json!("the agent answered HTTP 401")));
    assert_eq!(owner.post(&path, &json!({ "voice": "a b" })).await.code(400), "bad_field");
    assert_eq!(user.post(&path, &json!({})).await.code(403), "owner_only");
    answers(Ok(CommandReply::Busy));
    assert_eq!(owner.post(&path, &json!({})).await.code(409), "test_runs");
    assert_eq!(owner.post("/api/v1/providers/none/test", &json!({})).await.code(404), "no_such_provider");
}
