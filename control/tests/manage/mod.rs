//! Trunks, providers and what agents take from them.

use axum::http::Method;
use serde_json::{Value, json};
use talkstack_control::http::SignupPolicy;
use talkstack_control::port::{BargeIn, FirstSpeaker, ProviderKind, ProviderRoute, TrunkTransport};

use crate::bench::{Bench, Reply};

#[tokio::test]
async fn a_trunk_is_made_shown_changed_and_taken_away_and_the_call_plane_knows_at_once() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    let trunk = json!({
        "name": "Carrier", "host": "SIP.example.com", "transport": "tcp", "username": "me", "password": "s3cret-of-the-trunk",
        "numbers": ["+3612345678", "+3612345679", "+3612345678"], "max_channels": 4,
    });
    let made = owner.post("/api/v1/trunks", &trunk).await;
    let path = made.headers["location"].to_str().expect("text").to_owned();
    let made = made.created();
    let id = made["id"].as_str().expect("an id").to_owned();
    assert_eq!(path, format!("/api/v1/trunks/{id}"));
    for (field, expected) in [
        ("name", json!("Carrier")),
        ("host", json!("sip.example.com")),
        ("port", json!(5060)),
        ("transport", json!("tcp")),
        ("username", json!("me")),
        ("passwordSet", json!(true)),
        ("numbers", json!(["+3612345678", "+3612345679"])),
        ("max_channels", json!(4)),
        ("default", json!(false)),
    ] {
        assert_eq!(made[field], expected, "{field}");
    }
    assert!(made.get("password").is_none());
    let route = bench.last_snapshot().trunks[&id].clone();
    assert_eq!((route.transport, route.numbers.len(), route.max_channels), (TrunkTransport::Tcp, 2, 4));
    let sealed = route.password.expect("sealed");
    assert_eq!(bench.secret().unseal("trunk password", &sealed).as_deref(), Ok("s3cret-of-the-trunk"));
    assert_eq!(owner.get("/api/v1/trunks").await.ok()["data"], json!([made]));
    assert_eq!(owner.get(&path).await.ok(), made);

    let patched = owner.patch(&path, &json!({ "port": 5080, "password": null })).await.ok();
    assert_eq!(
        (&patched["port"], &patched["passwordSet"], &patched["username"]),
        (&json!(5080), &json!(false), &json!("me"))
    );
    let route = bench.last_snapshot().trunks[&id].clone();
    assert_eq!((route.port, route.password), (Some(5080), None));
    assert_eq!(owner.send(Method::DELETE, &path, &Value::Null).await.status, 204);
    assert!(bench.last_snapshot().trunks.is_empty());
    for method in [Method::GET, Method::DELETE, Method::PATCH] {
        assert_eq!(owner.send(method, &path, &Value::Null).await.code(404), "no_such_trunk");
    }
}

#[tokio::test]
async fn secrets_of_trunks_and_providers_are_in_no_file_and_no_answer() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    let trunk = json!({ "name": "t", "host": "h", "username": "u", "password": "pw-4711-never-on-disk" });
    let trunk = owner.post("/api/v1/trunks", &trunk).await.created();
    let provider = json!({ "name": "p", "kind": "openai-realtime", "base_url": "wss://h/v1", "model": "m", "api_key": "sk-4711-never-on-disk" });
    let provider = owner.post("/api/v1/providers", &provider).await.created();
    let cascade = json!({ "name": "c", "kind": "cascade", "model": "m", "listen_url": "tcp://h:10300/",
        "listen_api_key": "lk-4711-never-on-disk", "speak_url": "http://h/v1", "speak_api_key": "tk-4711-never-on-disk",
        "sample_rate": 22050, "voice": "v" });
    let cascade = owner.post("/api/v1/providers", &cascade).await.created();
    assert_eq!((&cascade["listenApiKeySet"], &cascade["speakApiKeySet"]), (&json!(true), &json!(true)));
    assert_eq!(cascade["base_url"], "https://api.openai.com/v1");
    let settings = ["listen_url", "speak_url", "sample_rate", "voice"].map(|field| &cascade[field]);
    assert_eq!(settings, [&json!("tcp://h:10300"), &json!("http://h/v1"), &json!(22_050), &json!("v")]);
    let listed = [owner.get("/api/v1/trunks").await.ok(), owner.get("/api/v1/providers").await.ok()];
    for text in
        [trunk.to_string(), provider.to_string(), cascade.to_string(), listed[0].to_string(), listed[1].to_string()]
    {
        assert!(!text.contains("4711"), "{text}");
    }
    assert_eq!((&trunk["passwordSet"], &provider["apiKeySet"]), (&json!(true), &json!(true)));
    let disk = bench.bytes_on_disk();
    let holds = |text: &str| disk.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("wss://h/v1"), "the database is looked through");
    assert!(!holds("never-on-disk"));
}

#[tokio::test]
async fn only_the_owner_manages_and_failures_are_problems() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    let other = bench.account("other@b.com").await;
    let key = owner.get("/user/generate-apikey").await.ok()["apiKey"].as_str().expect("a key").to_owned();
    bench.with_header(Some(("x-api-key", &key))).get("/api/v1/trunks").await.ok();
    let trunk = owner.post("/api/v1/trunks", &json!({ "name": "t", "host": "h" })).await.created();
    let provider = json!({ "name": "p", "kind": "openai-realtime", "base_url": "ws://h", "model": "m" });
    let provider = owner.post("/api/v1/providers", &provider).await.created();
    let paths = [("trunks", trunk["id"].as_str()), ("providers", provider["id"].as_str())];
    for (resource, id) in paths {
        let all = format!("/api/v1/{resource}");
        let one = format!("{all}/{}", id.expect("an id"));
        let requests = [
            (Method::GET, &all),
            (Method::POST, &all),
            (Method::GET, &one),
            (Method::PATCH, &one),
            (Method::DELETE, &one),
        ];
        for (method, path) in requests {
            let refused = other.send(method.clone(), path, &json!({})).await;
            assert_eq!(refused.code(403), "owner_only", "{method} {path}");
            assert_eq!(refused.headers["content-type"], "application/problem+json");
            let unknown = bench.send(method.clone(), path, &json!({})).await;
            assert_eq!(unknown.code(401), "unauthorized", "{method} {path}");
        }
    }
    let post = |body: Value| {
        let owner = &owner;
        async move { owner.post("/api/v1/trunks", &body).await }
    };
    for (body, status, code) in [
        (json!({ "host": "h" }), 400, "missing_field"),
        (json!({ "name": "n" }), 400, "missing_field"),
        (json!({ "name": "n", "host": "h", "hosst": "h" }), 400, "unknown_field"),
        (json!({ "name": "n", "host": "a b" }), 400, "bad_field"),
        (json!({ "name": "n", "host": "h", "port": 0 }), 400, "bad_field"),
        (json!({ "name": "n", "host": "h", "port": "5060" }), 400, "bad_field"),
        (json!({ "name": "n", "host": "h", "transport": "sctp" }), 400, "bad_field"),
        (json!({ "name": "n", "host": "h", "max_channels": 0 }), 400, "bad_field"),
        (json!({ "name": "n", "host": "h", "default": "yes" }), 400, "bad_field"),
        (json!({ "name": "n", "host": "h", "password": "a\r\nb" }), 400, "bad_field"),
        (json!({ "name": "n", "host": "h", "numbers": ["12"] }), 400, "invalid_number"),
        (json!({ "name": "t", "host": "h" }), 409, "name_taken"),
    ] {
        let reply = post(body.clone()).await;
        assert_eq!(reply.code(status), code, "{body}");
        let problem = &reply.body;
        assert_eq!((&problem["status"], &problem["instance"]), (&json!(status), &json!("/api/v1/trunks")), "{body}");
        for field in ["type", "title", "detail", "requestId"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{body}: {field}");
        }
    }
    assert_eq!(owner.get("/api/v1/nowhere").await.headers["content-type"], "application/problem+json");
}

#[tokio::test]
async fn a_provider_that_cannot_be_is_refused_with_what_is_wrong() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    for (body, code) in [
        (json!({ "name": "x", "kind": "other", "base_url": "ws://h", "model": "m" }), "bad_field"),
        (json!({ "name": "x", "kind": "openai-realtime", "base_url": "h", "model": "m" }), "bad_field"),
        (json!({ "name": "x", "kind": "openai-realtime", "base_url": "ws://h", "model": "" }), "bad_field"),
        (json!({ "name": "x", "kind": "twilio" }), "missing_field"),
        (json!({ "name": "x", "kind": "openai-realtime" }), "missing_field"),
        (json!({ "name": "x", "kind": "deepgram" }), "missing_field"),
        (json!({ "name": "x", "kind": "elevenlabs", "model": "m" }), "missing_field"),
        (json!({ "name": "x", "kind": "gemini" }), "missing_field"),
        (json!({ "name": "x", "kind": "twilio", "base_url": "ws://h", "sample_rate": 11025 }), "bad_field"),
        (json!({ "name": "x", "kind": "twilio", "base_url": "ws://h", "language": "" }), "bad_field"),
        (json!({ "name": "x", "kind": "twilio", "base_url": "ws://h", "parameters": { "a": 1 } }), "bad_field"),
        (
            json!({ "name": "x", "kind": "twilio", "base_url": "ws://h", "parameters": { "a": "x".repeat(500) } }),
            "bad_field",
        ),
        (
            json!({ "name": "x", "kind": "openai-realtime", "base_url": "ws://h", "model": "m", "voices": ["a b"] }),
            "bad_field",
        ),
        (json!({ "name": "x", "base_url": "ws://h", "model": "m" }), "missing_field"),
        (json!({ "name": "x", "kind": "audiosocket" }), "missing_field"),
        (json!({ "name": "x", "kind": "audiosocket", "base_url": "ws://h:1" }), "bad_field"),
        (json!({ "name": "x", "kind": "audiosocket", "base_url": "tcp://h" }), "bad_field"),
        (json!({ "name": "x", "kind": "audiosocket", "base_url": "tcp://h:1", "dtmf": "no" }), "bad_field"),
        (json!({ "name": "x", "kind": "asterisk-websocket", "base_url": "tcp://h:1" }), "bad_field"),
        (
            json!({ "name": "x", "kind": "asterisk-websocket", "base_url": "ws://h", "control_format": "xml" }),
            "bad_field",
        ),
        (json!({ "name": "x", "kind": "cascade" }), "missing_field"),
        (json!({ "name": "x", "kind": "cascade", "model": "m", "base_url": "ws://h" }), "bad_field"),
        (json!({ "name": "x", "kind": "cascade", "model": "m", "base_url": "tcp://h:1" }), "bad_field"),
        (json!({ "name": "x", "kind": "cascade", "model": "m", "listen_url": "tcp://h" }), "bad_field"),
        (json!({ "name": "x", "kind": "cascade", "model": "m", "speak_url": "tcp://h:1/a" }), "bad_field"),
        (json!({ "name": "x", "kind": "cascade", "model": "m", "speak_url": "wss://h" }), "bad_field"),
        (json!({ "name": "x", "kind": "cascade", "model": "m", "sample_rate": 11025 }), "bad_field"),
        (json!({ "name": "x", "kind": "cascade", "model": "m", "speak_api_key": "a\nb" }), "bad_field"),
    ] {
        assert_eq!(owner.post("/api/v1/providers", &body).await.code(400), code, "{body}");
    }
    let ultravox = owner.post("/api/v1/providers", &json!({ "name": "u", "kind": "ultravox" })).await.created();
    assert_eq!(ultravox["base_url"], "https://api.ultravox.ai", "it has an address and a model of its own");
}

#[tokio::test]
async fn a_number_is_on_one_trunk_and_a_new_default_takes_over() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    let trunk = |name: &str, number: &str, default: bool| {
        let body = json!({ "name": name, "host": "h", "numbers": [number], "default": default });
        let owner = &owner;
        async move { owner.post("/api/v1/trunks", &body).await }
    };
    let first = trunk("a", "+3612345678", true).await.created();
    assert_eq!(trunk("b", "+3612345678", false).await.code(409), "number_taken");
    let second = trunk("b", "+3612345679", true).await.created();
    let defaults = || async {
        let all = owner.get("/api/v1/trunks").await.ok();
        all["data"].as_array().expect("a list").iter().filter(|row| row["default"] == true).cloned().collect::<Vec<_>>()
    };
    let now = defaults().await;
    assert_eq!((now.len(), &now[0]), (1, &second), "the refused one left nothing, the new one took over");
    let path = format!("/api/v1/trunks/{}", first["id"].as_str().expect("an id"));
    assert_eq!(owner.patch(&path, &json!({ "numbers": ["+3612345679"] })).await.code(409), "number_taken");
    assert_eq!(owner.get(&path).await.ok()["numbers"], json!(["+3612345678"]), "nothing is half done");
    owner.patch(&path, &json!({ "default": true })).await.ok();
    assert_eq!(defaults().await[0]["id"], first["id"]);
    let snapshot = bench.last_snapshot();
    let carriers = |from| snapshot.carriers(from).into_iter().map(|(id, ..)| id.to_owned()).collect::<Vec<_>>();
    assert_eq!(carriers("+3612345679"), [second["id"].as_str().expect("an id")]);
    assert_eq!(carriers("+15550001111"), Vec::<String>::new(), "the default trunk lists its own");
}

#[tokio::test]
async fn an_agent_puts_callers_through_to_those_whom_its_owner_names_and_a_list_that_is_none_is_refused() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    let project = owner.post("/project/create-project", &json!({ "name": "Clinic", "description": "" })).await.ok();
    let project = project["data"]["id"].clone();
    let create = |transfers: Value| {
        let body = json!({ "name": "Jack", "systemInstruction": "x", "projectId": project, "transfers": transfers });
        let owner = &owner;
        async move { owner.post("/agent/create-agent", &body).await }
    };
    let target = |name: &str, to: &str| json!({ "name": name, "to": to });
    let many: Vec<Value> = (0..17).map(|at| target(&at.to_string(), "101")).collect();
    for wrong in [
        json!("101"),
        json!(["101"]),
        json!([{ "name": "reception" }]),
        json!([target("", "101")]),
        json!([target("reception", "")]),
        json!([target("reception", "10 1")]),
        json!([target("reception", &"1".repeat(41))]),
        json!([target("reception", "101"), target("Reception", "102")]),
        json!(many),
    ] {
        assert_eq!(create(wrong.clone()).await.code(400), "bad_field", "{wrong}");
    }
    let given = json!([target("Reception", "101"), target("Dr. Nagy", "+3612345678")]);
    let agent = create(given.clone()).await.ok();
    assert_eq!(agent["transfers"], given);
    let id = agent["id"].as_str().expect("an id");
    let found = owner.post("/agent", &json!({ "projectId": project, "agentId": id })).await.ok();
    assert_eq!(found["transfers"], given);
    let names =
        || bench.last_snapshot().agents[id].transfers.iter().map(|target| target.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(), ["Reception", "Dr. Nagy"]);
    let none = json!({ "projectId": project, "agentId": id, "transfers": [] });
    assert_eq!(owner.send(Method::PUT, "/agent", &none).await.ok()["data"]["transfers"], json!([]));
    assert!(names().is_empty());
}

#[tokio::test]
async fn an_agent_has_its_provider_or_the_default_and_a_voice_that_the_provider_has() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    let tenant = bench.account("tenant@b.com").await;
    let project = tenant.post("/project/create-project", &json!({ "name": "Clinic", "description": "" })).await.ok();
    let project = project["data"]["id"].clone();
    let create = |more: Value| {
        let mut body = json!({ "name": "Jack", "systemInstruction": "You are Jack.", "projectId": project });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let tenant = &tenant;
        async move { tenant.post("/agent/create-agent", &body).await }
    };
    let id = |value: &Value| value["id"].as_str().expect("an id").to_owned();
    let plain = create(json!({ "voice_id": "anything" })).await.ok();
    let shown = [&plain["providerId"], &plain["firstSpeaker"], &plain["greeting"]];
    assert_eq!(shown, [&json!(null), &json!("agent"), &json!(null)]);
    assert_eq!(bench.last_snapshot().agents[&id(&plain)].provider, None, "no default yet: the attendant");

    let provider = |name: &str, voices: Value, default: bool| {
        let body = json!({ "name": name, "kind": "openai-realtime", "base_url": format!("wss://{name}/v1/"), "model": "m", "voices": voices, "default": default, "api_key": "sk-1" });
        let owner = &owner;
        async move { owner.post("/api/v1/providers", &body).await.created() }
    };
    let main = provider("main", json!(["marin", "cedar"]), true).await;
    let side = provider("side", json!([]), false).await;
    let url_of = |agent: &str| match bench.last_snapshot().agents[agent].provider.clone() {
        Some(ProviderRoute { kind: ProviderKind::OpenAiRealtime, base_url, api_key: Some(sealed), .. }) => {
            assert_eq!(bench.secret().unseal("provider api key", &sealed).as_deref(), Ok("sk-1"));
            base_url
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(url_of(&id(&plain)), "wss://main/v1", "the default, without a restart");
    assert_eq!(create(json!({ "voice_id": "alloy" })).await.code(400), "no_such_voice");
    assert_eq!(create(json!({ "providerId": "prv_none" })).await.code(400), "no_such_provider");
    assert_eq!(create(json!({ "firstSpeaker": "nobody" })).await.code(400), "bad_field");
    assert_eq!(create(json!({ "bargeIn": "never" })).await.code(400), "bad_field");
    create(json!({ "voice_id": "marin" })).await.ok();
    let own = json!({ "providerId": side["id"], "voice_id": "alloy", "firstSpeaker": "caller", "greeting": "Hello {{name}}.", "bargeIn": "box", "protectGreeting": true });
    let own = create(own).await.ok();
    let found = tenant.post("/agent", &json!({ "projectId": project, "agentId": own["id"] })).await.ok();
    for field in ["providerId", "firstSpeaker", "greeting", "voice_id", "bargeIn", "protectGreeting"] {
        assert_eq!(found[field], own["data"][field], "{field}");
    }
    let route = bench.last_snapshot().agents[&id(&own)].clone();
    assert_eq!((route.first_speaker, route.greeting.as_deref()), (FirstSpeaker::Caller, Some("Hello {{name}}.")));
    assert_eq!((route.barge_in, route.protects_greeting), (Some(BargeIn::Box), true));
    assert_eq!(url_of(&id(&own)), "wss://side/v1");

    let put = |more: Value| {
        let mut body = json!({ "projectId": project, "agentId": own["id"] });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let tenant = &tenant;
        async move { tenant.send(Method::PUT, "/agent", &body).await }
    };
    assert_eq!(put(json!({})).await.code(400), "missing_field");
    let changed = put(json!({ "systemInstruction": "You are Jill.", "greeting": null })).await.ok();
    assert_eq!(
        (&changed["message"], &changed["data"]["name"]),
        (&json!("agent data updated successfully."), &json!("Jack"))
    );
    let route = bench.last_snapshot().agents[&id(&own)].clone();
    assert_eq!((route.system_instruction.as_str(), route.greeting), ("You are Jill.", None));
    assert_eq!(put(json!({ "providerId": null })).await.code(400), "no_such_voice", "the default has no alloy");
    let stranger =
        owner.send(Method::PUT, "/agent", &json!({ "projectId": project, "agentId": own["id"], "name": "x" })).await;
    assert_eq!(stranger.code(404), "no_such_agent");

    let path = format!("/api/v1/providers/{}", id(&side));
    assert_eq!(owner.send(Method::DELETE, &path, &Value::Null).await.status, 204);
    assert_eq!(url_of(&id(&own)), "wss://main/v1", "back to the default");
    owner.send(Method::DELETE, &format!("/api/v1/providers/{}", id(&main)), &Value::Null).await;
    assert_eq!(bench.last_snapshot().agents[&id(&own)].provider, None);
}

impl Reply {
    /// The body of a 201.
    pub(crate) fn created(self) -> Value {
        assert_eq!(self.status, 201, "{}", self.body);
        self.body
    }
}
