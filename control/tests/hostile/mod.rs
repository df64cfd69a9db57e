//! What an enemy sends: malformed JSON, naughty strings, wrong types, floods of letters and codes, pages and proxies that
//! claim to be the box itself.

use std::time::{Duration, Instant};

use axum::http::Method;
use serde_json::{Value, json};
use talkstack_control::http::SignupPolicy;

use crate::bench::Bench;

#[tokio::test]
async fn json_that_must_not_parse_is_refused_on_every_route_and_nothing_breaks_the_box() {
    let Some(corpus) = corpus("JSONTestSuite/test_parsing") else { return };
    let bench = Bench::new(SignupPolicy::Open).await;
    let user = bench.account("a@b.com").await.keyed().await;
    let mut refused = 0;
    for file in std::fs::read_dir(corpus).expect("readable").flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        let bytes = std::fs::read(file.path()).expect("readable");
        for (method, path) in ROUTES {
            // Out of the limits' way.
            bench.pass(Duration::from_secs(1));
            let reply = user.raw(method, path, bytes.clone()).await;
            assert!((400..500).contains(&reply.status), "{path} {name}: {}", reply.status);
            assert!(reply.body["code"].is_string() && reply.body["requestId"].is_string(), "{path} {name}");
            if name.starts_with("n_") {
                assert_eq!(reply.status, 400, "{path} {name}");
                refused += 1;
            }
        }
    }
    assert!(refused > 180 * ROUTES.len(), "only {refused} malformed documents were refused");
}

#[tokio::test]
async fn naughty_strings_come_back_as_they_were_given_or_are_refused() {
    let Some(corpus) = corpus("blns/blns.json") else { return };
    let strings: Vec<String> =
        serde_json::from_slice(&std::fs::read(corpus).expect("readable")).expect("a list of strings");
    let bench = Bench::new(SignupPolicy::Open).await;
    let user = bench.account("a@b.com").await.keyed().await;
    let (project, _) = user.project_with_agent("Clinic").await;
    let mut kept = 0;
    for (at, string) in strings.iter().enumerate() {
        let given = json!({ "name": format!("{at}{string}"), "description": string });
        let reply = user.post("/project/create-project", &given).await;
        assert!([200, 400].contains(&reply.status), "{string:?}: {}", reply.body);
        if reply.status == 200 {
            let id = reply.body["data"]["id"].as_str().expect("an id").to_owned();
            let found = user.get(format!("/project/{id}")).await.ok();
            assert_eq!(
                (&found["data"]["name"], &found["data"]["description"]),
                (&given["name"], &given["description"])
            );
            kept += 1;
        }
        let given = json!({ "name": "Jack", "systemInstruction": string, "projectId": project });
        let agent = user.post("/agent/create-agent", &given).await.ok();
        assert_eq!(agent["systemInstruction"], json!(string));
        for (method, path) in ROUTES {
            bench.pass(Duration::from_secs(10));
            let fields: Value = FIELDS.iter().map(|field| ((*field).to_owned(), json!(string))).collect();
            let status = user.send(method, path, &fields).await.status;
            assert!(status < 500, "{path} {string:?}: {status}");
        }
    }
    assert!(kept > strings.len() * 9 / 10, "{kept} of {} were kept", strings.len());
}

#[tokio::test]
async fn a_wrong_type_in_any_field_is_refused() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let user = bench.account("a@b.com").await.keyed().await;
    let (project, agent) = user.project_with_agent("Clinic").await;
    let call = user.stored_call(&project, 1).await;
    let account = json!({ "email": "x@b.com", "password": "correct horse", "name": "X" });
    for (method, path, good) in [
        (Method::POST, "/auth/signup", account.clone()),
        (Method::POST, "/auth/login", json!({ "email": "a@b.com", "password": "correct horse" })),
        (Method::POST, "/auth/verify-email", json!({ "email": "x@b.com", "code": "123456" })),
        (Method::POST, "/auth/resend-code", json!({ "email": "x@b.com" })),
        (Method::POST, "/auth/refresh-token", json!({ "refreshToken": "x", "resfreshToken": "x" })),
        (Method::POST, "/project/create-project", json!({ "name": "x", "description": "x" })),
        (Method::PATCH, "/project/active-agent", json!({ "projectId": project, "active_agent": agent })),
        (
            Method::POST,
            "/project/call-status/add-webhookurl",
            json!({ "projectId": project, "webhookURL": "https://a.example/" }),
        ),
        (
            Method::POST,
            "/agent/create-agent",
            json!({ "name": "x", "systemInstruction": "x", "projectId": project, "voice_id": "x", "phoneNumber": "+15550001111" }),
        ),
        (Method::POST, "/agent", json!({ "projectId": project, "agentId": agent })),
        (
            Method::PUT,
            "/agent",
            json!({
                "projectId": project, "agentId": agent, "name": "x", "systemInstruction": "x", "voice_id": "x",
                "providerId": "x", "firstSpeaker": "agent", "greeting": "x",
                "bargeIn": "off", "protectGreeting": true,
            }),
        ),
        (Method::POST, "/call/makeCall", json!({ "projectId": project, "agentId": agent, "number": "+15550001111" })),
        (
            Method::POST,
            "/phone-number/add-number",
            json!({ "e164": "+15550001111", "projectId": project, "agentId": agent }),
        ),
        (Method::POST, "/call", json!({ "sid": call, "projectId": project })),
        (
            Method::POST,
            "/call/get-call-history",
            json!({
                "projectId": project, "pageToken": "1-x", "to": "+1", "from": "+1", "status": "busy",
                "startTime": "2025-01-01", "startTimeAfter": "2025-01-01", "startTimeBefore": "2025-01-01",
                "endTime": "2025-01-01", "endTimeAfter": "2025-01-01", "endTimeBefore": "2025-01-01",
            }),
        ),
    ] {
        for field in good.as_object().expect("fields").keys() {
            for wrong in [json!(7), json!(1.5), json!(true), json!([]), json!(["x"]), json!({}), json!({ "a": "x" })] {
                bench.pass(Duration::from_secs(60));
                let mut body = good.clone();
                body[field] = wrong;
                let reply = user.send(method.clone(), path, &body).await;
                assert_eq!(reply.status, 400, "{path} {field}: {body}");
            }
        }
    }
    for wrong in [json!(1.5), json!(true), json!([]), json!("many")] {
        let body = json!({ "projectId": project, "pageSize": wrong });
        assert_eq!(user.post("/call/get-call-history", &body).await.code(400), "bad_field");
    }
}

#[tokio::test]
async fn prompts_never_outgrow_what_the_call_plane_can_be_told() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let user = bench.account("a@b.com").await;
    let (project, first) = user.project_with_agent("Clinic").await;
    let agent = |bytes: usize| json!({ "name": "x", "systemInstruction": "\u{1}".repeat(bytes), "projectId": project });
    assert_eq!(user.post("/agent/create-agent", &agent((128 << 10) + 1)).await.code(400), "instruction_too_long");
    let mut stored = 0;
    let refused = loop {
        let reply = user.post("/agent/create-agent", &agent(128 << 10)).await;
        if reply.status != 200 {
            break reply;
        }
        stored += 1;
    };
    assert_eq!((stored, refused.code(400)), (79, "agents_full".into()));
    let put = |bytes: usize, greeting: &str| {
        let body = json!({
            "projectId": project, "agentId": first, "systemInstruction": "\u{1}".repeat(bytes), "greeting": greeting,
        });
        let user = &user;
        async move { user.send(Method::PUT, "/agent", &body).await }
    };
    assert_eq!(put((128 << 10) + 1, "x").await.code(400), "instruction_too_long");
    assert_eq!(put(128 << 10, "x").await.code(400), "agents_full", "nor by a change");
    // Names have 4 bytes and 79 times one.
    let room = (10 << 20) - 80 * 512 - 79 * (128 << 10) - (4 + 79);
    put(room, "").await.ok();
    assert_eq!(put(room, "x").await.code(400), "agents_full", "a greeting counts");
    let mut message = Vec::new();
    talkstack_control::port::encode(&user.last_snapshot(), &mut message).expect("it fits");
    assert_eq!(user.last_snapshot().agents.len(), 80, "what was refused is not there");
}

#[tokio::test]
async fn what_is_given_twice_must_agree_in_a_query_too() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let user = bench.account("a@b.com").await;
    let (project, _) = user.project_with_agent("Clinic").await;
    let body = json!({ "projectId": project });
    for query in ["status=busy&status=failed", "endTime=2025-01-01&.endTime=2025-01-02", "pageSize=1&pageSize=2"] {
        let reply = user.post(&format!("/call/get-call-history?{query}"), &body).await;
        assert_eq!(reply.code(400), "conflicting_fields", "{query}");
    }
    user.post("/call/get-call-history?endTime=2025-01-01&.endTime=2025-01-01", &body).await.ok();
    let nested = format!(r#"{{"projectId":"{project}","x":[{{"a":1,"a":2}}]}}"#);
    assert_eq!(user.raw(Method::POST, "/call", nested.into_bytes()).await.code(400), "malformed_json");
}

#[tokio::test]
async fn what_the_router_refuses_wears_the_envelope_too() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let user = bench.account("a@b.com").await;
    for (path, kind) in [
        ("/project/%ff", "application/json"),
        ("/agent/%C3%28", "application/json"),
        ("/api/v1/trunks/%ff", "application/problem+json"),
    ] {
        let reply = user.get(path).await;
        assert_eq!(reply.code(400), "bad_request", "{path}");
        assert!(reply.body["requestId"].is_string(), "{path}");
        assert_eq!(reply.headers["content-type"], kind, "{path}");
    }
    for (method, path) in ROUTES {
        for wrong in [Method::PUT, Method::DELETE, Method::OPTIONS] {
            if ROUTES.contains(&(wrong.clone(), path)) {
                continue;
            }
            let reply = user.raw(wrong, path, Vec::new()).await;
            assert_eq!(reply.code(405), "method_not_allowed", "{path}");
            assert!(reply.headers["allow"].to_str().is_ok_and(|allow| allow.contains(method.as_str())), "{path}");
        }
    }
}

#[tokio::test]
async fn a_page_or_a_proxy_on_the_box_is_not_the_box() {
    let bench = Bench::new(SignupPolicy::First).await;
    let account = json!({ "email": "me@b.com", "password": "correct horse", "name": "Me" });
    for header in [
        ("origin", "https://evil.example"),
        ("origin", "http://127.0.0.1:8080"),
        ("x-forwarded-for", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("via", "1.1 proxy"),
    ] {
        let reply = bench.with_header(Some(header)).post("/auth/signup", &account).await;
        assert_eq!(reply.code(400), "setup_token_required", "{header:?}");
    }
    let afar = bench.from("192.168.1.7").with_header(Some(("x-forwarded-for", "127.0.0.1")));
    assert_eq!(afar.post("/auth/signup", &account).await.code(400), "setup_token_required");
    bench.post("/auth/signup", &account).await.ok();
}

#[tokio::test]
async fn nobody_is_buried_in_letters_and_no_code_is_guessed() {
    let bench = Bench::new(SignupPolicy::Open).await;
    for email in ["a@b.com", "nobody@b.com"] {
        let account = json!({ "email": email, "password": "correct horse", "name": "A" });
        let mut statuses = Vec::new();
        for attempt in 0..7 {
            let path = if email == "a@b.com" && attempt == 0 { "/auth/signup" } else { "/auth/resend-code" };
            statuses.push(bench.post(path, &account).await.status);
        }
        assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429], "{email}");
        let mut last = 0;
        for _ in 0..12 {
            last = bench.post("/auth/verify-email", &json!({ "email": email, "code": "000000" })).await.status;
        }
        assert_eq!(last, 429, "{email}");
        bench.pass(Duration::from_secs(60));
        assert_eq!(bench.post("/auth/signup", &account).await.status, 200, "{email}: once more");
        assert_eq!(bench.post("/auth/signup", &account).await.status, 429, "{email}");
    }
}

#[tokio::test]
async fn sixty_signups_from_one_network_are_enough() {
    let bench = Bench::new(SignupPolicy::Open).await;
    bench.account("a@b.com").await;
    let mut statuses = Vec::new();
    for at in 0..61 {
        // Another address of the same /64 each time.
        let peer = bench.from(&format!("2001:db8::{at:x}"));
        let account = json!({ "email": format!("u{at}@b.com"), "password": "correct horse", "name": "A" });
        statuses.push(peer.post("/auth/signup", &account).await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 60);
    assert_eq!(statuses.last(), Some(&429));
    let other = json!({ "email": "other@b.com", "password": "correct horse", "name": "A" });
    bench.from("2001:db8:0:1::1").post("/auth/signup", &other).await.ok();
}

#[tokio::test]
async fn who_hangs_up_in_mid_request_leaves_nothing_half_done() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let user = bench.account("a@b.com").await;
    let (project, agent) = user.project_with_agent("Clinic").await;
    for at in 0..20 {
        let digits = format!("1555123{at:04}");
        let number = json!({ "e164": format!("+{digits}"), "agentId": agent, "projectId": project });
        // The client goes at one of the first points where the request waits.
        let request = user.post("/phone-number/add-number", &number);
        tokio::select! {
            biased;
            _ = request => {}
            () = yield_times(at) => {}
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while !user.last_snapshot().numbers.contains_key(&digits) {
            assert!(Instant::now() < deadline, "{digits} is stored and not routed");
            tokio::task::yield_now().await;
        }
    }
}

impl Bench {
    /// The same account by its API key, which does not expire while time passes.
    async fn keyed(&self) -> Self {
        let key = self.get("/user/generate-apikey").await.ok();
        self.without_headers().with_header(Some(("x-api-key", key["apiKey"].as_str().expect("a key"))))
    }
}

async fn yield_times(times: usize) {
    for _ in 0..=times {
        tokio::task::yield_now().await;
    }
}

/// A folder or file of the third-party corpora, where they lie beside the checkout.
fn corpus(name: &str) -> Option<String> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpora");
    let path = format!("{}/http/{name}", std::env::var("TALKSTACK_CORPORA").unwrap_or_else(|_| beside.into()));
    if std::fs::exists(&path).unwrap_or(false) {
        return Some(path);
    }
    eprintln!("skipped: no {path} (TALKSTACK_CORPORA)");
    None
}

/// Every route that reads a body.
const ROUTES: [(Method, &str); 17] = [
    (Method::POST, "/auth/signup"),
    (Method::POST, "/auth/verify-email"),
    (Method::POST, "/auth/resend-code"),
    (Method::POST, "/auth/login"),
    (Method::POST, "/auth/refresh-token"),
    (Method::POST, "/project/create-project"),
    (Method::PATCH, "/project/active-agent"),
    (Method::POST, "/project/call-status/add-webhookurl"),
    (Method::POST, "/agent/create-agent"),
    (Method::POST, "/agent"),
    (Method::PUT, "/agent"),
    (Method::POST, "/phone-number/add-number"),
    (Method::POST, "/call/makeCall"),
    (Method::POST, "/api/v1/trunks"),
    (Method::POST, "/api/v1/providers"),
    (Method::POST, "/call"),
    (Method::POST, "/call/get-call-history"),
];

/// Every field that they read.
const FIELDS: [&str; 18] = [
    "email",
    "password",
    "code",
    "refreshToken",
    "projectId",
    "agentId",
    "active_agent",
    "e164",
    "sid",
    "pageToken",
    "to",
    "from",
    "status",
    "voice_id",
    "number",
    "dynamicVariables",
    "greeting",
    "webhookURL",
];
