//! The API against a real SQLite file: what the documentation prints, what is refused, and what tenants see of each
//! other, which is nothing.

mod bench;
mod dial;
mod documented;
mod duties;
mod hostile;
mod lines;
mod manage;
mod pipe;

use std::time::Duration;

use axum::http::Method;
use bench::{Bench, Reply, answered, ended, started};
use serde_json::{Value, json};
use talkstack_control::http::SignupPolicy;
use talkstack_control::ingest::ingest;
use talkstack_control::port::{CallId, JournalRecord, Position};

#[tokio::test]
async fn the_documented_path_gives_the_documented_answers() {
    let bench = Bench::new(SignupPolicy::First).await;
    let account = json!({ "email": "Example@Host.com", "password": "correct horse", "name": "John" });
    let signup = bench.post("/auth/signup", &account).await.ok();
    assert_eq!(signup["message"], "User registered successfully");
    assert_eq!((&signup["signupStatus"], &signup["user"]["email"]), (&json!(3), &json!("example@host.com")));
    for absent in ["token", "refreshToken", "expirationTime"] {
        assert!(signup.get(absent).is_none(), "{absent} before the address is proved");
    }
    let code = bench.code("example@host.com").await;
    let verified = bench.post("/auth/verify-email", &json!({ "email": "example@host.com", "code": code })).await.ok();
    assert_eq!(
        (&verified["message"], &verified["verificationStatus"]),
        (&json!("email verification successful."), &json!(2))
    );
    let login = bench.post("/auth/login", &account).await.ok();
    assert_eq!((&login["message"], &login["loginStatus"]), (&json!("successfully logged in."), &json!(7)));
    assert_eq!(login["expirationTime"], "2025-03-10T07:20:39.831Z", "two hours");
    let bench = bench.bearer(login["token"].as_str().expect("a token"));

    let key = bench.get("/user/generate-apikey").await.ok();
    assert_eq!(key["message"], "API key successfully generated and updated.");
    assert!(key["apiKey"].as_str().is_some_and(|key| key.len() == 64 && key.bytes().all(|b| b.is_ascii_hexdigit())));
    let created =
        bench.post("/project/create-project", &json!({ "name": "John Smith Clinic", "description": "" })).await.ok();
    assert_eq!(created["message"], "successfully created project.");
    assert_eq!((&created["data"]["status"], &created["data"]["description"]), (&json!("ACTIVE"), &json!("")));
    let project = created["data"]["id"].as_str().expect("an id").to_owned();
    let found = bench.get(&format!("/project/{project}/")).await.ok();
    assert_eq!((&found["status"], &found["data"]["is_deleted"]), (&json!("success"), &json!(false)));
    for path in ["/project", "/projects", "/project/list", "/project/get-projects"] {
        assert_eq!(bench.get(path).await.ok()["data"][0], found["data"], "{path}");
    }
    let agent = json!({ "name": "Jack", "systemInstruction": "You are {{name}}.", "projectId": project, "voice_id": "EXAVITQu4vr4xnSDxMaL" });
    let agent = bench.post("/agent/create-agent", &agent).await.ok();
    assert_eq!(agent["data"]["id"], agent["agentId"]);
    let id = agent["id"].as_str().expect("an id").to_owned();
    let number = json!({ "e164": "+14232324232", "agentId": id, "projectId": project });
    assert_eq!(
        bench.post("/phone-number/add-number", &number).await.ok()["message"],
        "PhoneNumber assigned successfully."
    );
    let flat = bench.post("/agent", &json!({ "projectId": project, "agentId": id })).await.ok();
    assert_eq!((&flat["phoneNumber"], &flat["name"]), (&json!("+14232324232"), &json!("Jack")));
    assert!(flat.get("message").is_none(), "flat, as documented");
    let all = bench.get(&format!("/agent/{project}")).await.ok();
    assert_eq!(all, json!([flat]), "a bare array");
    let active = bench.patch("/project/active-agent", &json!({ "projectId": project, "active_agent": id })).await.ok();
    assert_eq!(
        (&active["message"], &active["project"]["active_agent"]),
        (&json!("updated active agent successfully."), &json!(id))
    );
    let snapshot = bench.last_snapshot();
    assert_eq!(snapshot.numbers["14232324232"].agent_id.as_deref(), Some(id.as_str()));
    assert_eq!(snapshot.projects[&project].active_agent.as_deref(), Some(id.as_str()));
}

#[tokio::test]
async fn what_belongs_to_another_tenant_is_what_never_existed() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let (alice, bob) = (bench.account("alice@a.com").await, bench.account("bob@b.com").await);
    let (project, agent) = alice.project_with_agent("Clinic").await;
    let call = alice.stored_call(&project, 1).await;
    let (own_project, own_agent) = bob.project_with_agent("Clinic").await;
    let never = "00000000-0000-4000-8000-000000000000";
    let no_call = "CA00000000000000000000000000000000";
    let requests = |project: &str, agent: &str, call: &str| -> Vec<(Method, String, Value)> {
        vec![
            (Method::GET, format!("/project/{project}"), Value::Null),
            (Method::GET, format!("/agent/{project}"), Value::Null),
            (
                Method::POST,
                "/agent/create-agent".into(),
                json!({ "name": "x", "systemInstruction": "y", "projectId": project }),
            ),
            (Method::POST, "/agent".into(), json!({ "projectId": project, "agentId": agent })),
            (Method::POST, "/agent".into(), json!({ "projectId": own_project, "agentId": agent })),
            (Method::PATCH, "/project/active-agent".into(), json!({ "projectId": project, "active_agent": own_agent })),
            (Method::PATCH, "/project/active-agent".into(), json!({ "projectId": own_project, "active_agent": agent })),
            (
                Method::POST,
                "/phone-number/add-number".into(),
                json!({ "e164": "+15550001111", "projectId": project, "agentId": own_agent }),
            ),
            (
                Method::POST,
                "/phone-number/add-number".into(),
                json!({ "e164": "+15550001111", "projectId": own_project, "agentId": agent }),
            ),
            (Method::POST, "/call".into(), json!({ "sid": call, "projectId": project })),
            (Method::POST, "/call".into(), json!({ "sid": call, "projectId": own_project })),
            (Method::POST, "/call/get-call-history".into(), json!({ "projectId": project })),
        ]
    };
    let foreign = requests(&project, &agent, &call);
    let absent = requests(never, never, no_call);
    for ((method, path, body), (_, absent_path, absent_body)) in foreign.into_iter().zip(absent) {
        let seen = bob.send(method.clone(), &path, &body).await;
        let expected = bob.send(method.clone(), &absent_path, &absent_body).await;
        assert!((400..500).contains(&seen.status), "{method} {path} {body}: {}", seen.status);
        assert_eq!(seen.without_id(), expected.without_id(), "{method} {path} {body}");
    }
    assert_eq!(bob.get("/project").await.ok()["data"].as_array().expect("a list").len(), 1);
    assert_eq!(alice.get("/agent/".to_owned() + &project).await.ok().as_array().expect("a list").len(), 1);
    let taken = json!({ "e164": "+15551112222", "projectId": project, "agentId": agent });
    alice.post("/phone-number/add-number", &taken).await.ok();
    let grab = json!({ "e164": "+15551112222", "projectId": own_project, "agentId": own_agent });
    assert_eq!(bob.post("/phone-number/add-number", &grab).await.code(400), "number_unavailable");
}

#[tokio::test]
async fn every_failure_wears_the_one_envelope() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let user = bench.account("a@b.com").await;
    let send =
        |method: Method, path: &'static str, body: &'static str| user.raw(method, path, body.as_bytes().to_vec());
    for (method, path, body, status, code) in [
        (Method::GET, "/nowhere", "", 404, "no_such_path"),
        (Method::DELETE, "/call", "", 405, "method_not_allowed"),
        (Method::POST, "/call", "{", 400, "malformed_json"),
        (Method::POST, "/call", "[]", 400, "malformed_json"),
        (Method::POST, "/call", r#"{"sid":"a","sid":"a"}"#, 400, "malformed_json"),
        (Method::POST, "/call", r#"{"sid":"a","callSid":"b","projectId":"p"}"#, 400, "conflicting_fields"),
        (Method::POST, "/call", r#"{"sid":7,"projectId":"p"}"#, 400, "missing_field"),
        (Method::POST, "/project/create-project", r#"{"name":"x"}"#, 400, "missing_field"),
        (
            Method::POST,
            "/phone-number/add-number",
            r#"{"e164":"123","agentId":"a","projectId":"p"}"#,
            400,
            "invalid_number",
        ),
        (Method::POST, "/call/get-call-history?startTime=2009-0-06", r#"{"projectId":"p"}"#, 400, "bad_filter"),
        (Method::POST, "/call/get-call-history?status=happy", r#"{"projectId":"p"}"#, 400, "bad_filter"),
    ] {
        let reply = send(method.clone(), path, body).await;
        assert_eq!(reply.code(status), code, "{method} {path} {body}");
        for field in ["message", "requestId"] {
            assert!(reply.body[field].as_str().is_some_and(|text| !text.is_empty()), "{path}: {field}");
        }
        assert_eq!(reply.body["status"], "error");
        assert_eq!(reply.headers["x-request-id"], reply.body["requestId"].as_str().expect("an id"));
    }
    let large = user.raw(Method::POST, "/call", vec![b' '; (1 << 20) + 1]).await;
    assert_eq!(large.code(413), "body_too_large");
    for header in
        [None, Some(("x-api-key", "ab")), Some(("authorization", "Basic YTpi")), Some(("authorization", "Bearer x"))]
    {
        let reply = bench.with_header(header).get("/project").await;
        assert_eq!(reply.code(401), "unauthorized", "{header:?}");
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn a_box_without_an_owner_wants_its_setup_token_from_afar_and_then_closes() {
    let bench = Bench::new(SignupPolicy::First).await;
    let afar = bench.from("192.168.1.7");
    let account = json!({ "email": "me@b.com", "password": "correct horse", "name": "Me" });
    assert_eq!(afar.post("/auth/signup", &account).await.code(400), "setup_token_required");
    let wrong = afar.with_header(Some(("x-setup-token", "0123456789abcdef0123456789abcdef")));
    assert_eq!(wrong.post("/auth/signup", &account).await.code(400), "setup_token_required");
    let token = bench.setup_token.clone().expect("nobody owns the box");
    let right = afar.with_header(Some(("x-setup-token", &token)));
    right.post("/auth/signup", &account).await.ok();
    assert_eq!(right.post("/auth/signup", &account).await.code(400), "setup_token_required", "it works once");
    let code = bench.code("me@b.com").await;
    afar.post("/auth/verify-email", &json!({ "email": "me@b.com", "code": code })).await.ok();
    let other = json!({ "email": "you@b.com", "password": "correct horse", "name": "You" });
    let refused = bench.post("/auth/signup", &other).await;
    assert_eq!((refused.code(400), &refused.body["signupStatus"]), ("signup_closed".into(), &json!(4)));

    let bench = Bench::new(SignupPolicy::First).await;
    bench.pass(Duration::from_secs(24 * 3600 + 1));
    let token = bench.setup_token.clone().expect("nobody owns the box");
    let late = bench.from("192.168.1.7").with_header(Some(("x-setup-token", &token)));
    assert_eq!(late.post("/auth/signup", &account).await.code(400), "setup_token_required", "24 hours");
}

#[tokio::test]
async fn a_code_is_tried_five_times_for_fifteen_minutes_and_the_last_signup_has_the_account() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let account = |password: &str| json!({ "email": "a@b.com", "password": password, "name": "A" });
    let verify = |code: String| {
        let (bench, body) = (&bench, json!({ "email": "a@b.com", "code": code }));
        async move { bench.post("/auth/verify-email", &body).await }
    };
    bench.post("/auth/signup", &account("planted by another")).await.ok();
    let old = bench.code("a@b.com").await;
    bench.post("/auth/signup", &account("correct horse")).await.ok();
    let code = bench.code("a@b.com").await;
    let other = if code == "000000" { "111111" } else { "000000" };
    if old != code {
        assert_eq!(verify(old).await.body["verificationStatus"], 1, "the older letter is worth nothing");
    }
    for _ in 0..3 {
        assert_eq!(verify(other.into()).await.body["verificationStatus"], 1);
    }
    let unknown = bench.post("/auth/verify-email", &json!({ "email": "no@b.com", "code": "000000" })).await;
    assert_eq!(unknown.body["verificationStatus"], 1, "an unknown address answers like a wrong code");
    assert_eq!(verify(other.into()).await.body["verificationStatus"], 3, "the fifth");
    assert_eq!(verify(code).await.body["verificationStatus"], 3, "even the right one");
    bench.pass(Duration::from_secs(31));
    bench.post("/auth/resend-code", &json!({ "email": "a@b.com" })).await.ok();
    let code = bench.code("a@b.com").await;
    bench.pass(Duration::from_secs(901));
    assert_eq!(verify(code).await.body["verificationStatus"], 3, "too late");
    bench.post("/auth/resend-code", &json!({ "email": "a@b.com" })).await.ok();
    bench.post("/auth/resend-code", &json!({ "email": "nobody@b.com" })).await.ok();
    verify(bench.code("a@b.com").await).await.ok();
    let planted = bench.post("/auth/login", &account("planted by another")).await;
    assert_eq!(planted.code(401), "invalid_credentials");
    bench.post("/auth/login", &account("correct horse")).await.ok();
    assert_eq!(bench.post("/auth/signup", &account("correct horse")).await.body["signupStatus"], 1);
}

#[tokio::test]
async fn logging_in_tells_nobody_who_has_an_account_and_is_limited() {
    let bench = Bench::new(SignupPolicy::Open).await;
    bench.account("a@b.com").await;
    let login = |email: &str, password: &str| {
        let body = json!({ "email": email, "password": password });
        let bench = &bench;
        async move { bench.post("/auth/login", &body).await }
    };
    let (wrong, unknown) = (login("a@b.com", "not the one").await, login("no@b.com", "not the one").await);
    assert_eq!(wrong.code(401), "invalid_credentials");
    assert_eq!(wrong.without_id(), unknown.without_id());
    let mut last = 401;
    for _ in 0..12 {
        last = login("a@b.com", "not the one").await.status;
    }
    assert_eq!(last, 429);
    assert!(login("a@b.com", "correct horse").await.headers.contains_key("retry-after"));
    bench.pass(Duration::from_secs(60));
    login("a@b.com", "correct horse").await.ok();
}

#[tokio::test]
async fn guessing_from_many_places_ends_at_a_hundred_and_locks_nobody_out_where_he_has_logged_in() {
    let bench = Bench::new(SignupPolicy::Open).await;
    bench.account("a@b.com").await;
    let (right, wrong) = (
        json!({ "email": "a@b.com", "password": "correct horse" }),
        json!({ "email": "a@b.com", "password": "not the one" }),
    );
    let mut hashed = 0;
    for place in 0..50 {
        for _ in 0..9 {
            let status = bench.from(&format!("203.0.113.{place}")).post("/auth/login", &wrong).await.status;
            hashed += usize::from(status == 401);
        }
    }
    assert_eq!(hashed, 99, "one of the hundred was the owner's own first log-in");
    assert_eq!(bench.from("203.0.113.99").post("/auth/login", &right).await.status, 429, "a stranger waits");
    bench.post("/auth/login", &right).await.ok();
}

#[tokio::test]
async fn refreshing_rotates_with_a_grace_and_reuse_ends_the_family() {
    let bench = Bench::new(SignupPolicy::Open).await;
    bench.account("a@b.com").await;
    let login = bench.post("/auth/login", &json!({ "email": "a@b.com", "password": "correct horse" })).await.ok();
    let first = login["refreshToken"].as_str().expect("a token").to_owned();
    let refresh = |token: &str| {
        let (bench, body) = (&bench, json!({ "resfreshToken": token }));
        async move { bench.post("/auth/refresh-token", &body).await }
    };
    let second = refresh(&first).await.ok();
    assert_eq!(second["refreshToken"], second["resfreshToken"]);
    let second = second["refreshToken"].as_str().expect("a token").to_owned();
    assert_ne!(second, first);
    bench.pass(Duration::from_secs(59));
    assert_eq!(refresh(&first).await.ok()["refreshToken"], second.as_str(), "the same within the grace");
    let third = refresh(&second).await.ok();
    let bearer = bench.bearer(third["token"].as_str().expect("a token"));
    bearer.get("/project").await.ok();
    bench.pass(Duration::from_secs(61));
    assert_eq!(refresh(&first).await.code(401), "invalid_refresh_token");
    let third = third["refreshToken"].as_str().expect("a token");
    assert_eq!(refresh(third).await.code(401), "invalid_refresh_token", "the whole family");
    assert_eq!(bearer.get("/project").await.code(401), "unauthorized", "and its access tokens");
    assert_eq!(refresh("never issued").await.status, 401);
}

#[tokio::test]
async fn an_api_key_is_made_on_purpose_only_and_replaces_the_one_before() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let user = bench.account("a@b.com").await;
    let key = |reply: Reply| reply.ok()["apiKey"].as_str().expect("a key").to_owned();
    let first = key(user.get("/user/generate-apikey").await);
    let by_first = bench.with_header(Some(("x-api-key", &first)));
    by_first.get("/project").await.ok();
    assert_eq!(by_first.get("/user/generate-apikey").await.status, 401, "by bearer token only");
    user.raw(Method::HEAD, "/user/generate-apikey", Vec::new()).await;
    let prefetch = user.with_header(Some(("sec-purpose", "prefetch;prerender")));
    assert_eq!(prefetch.get("/user/generate-apikey").await.code(400), "not_on_prefetch");
    by_first.get("/project").await.ok();
    let second = key(user.post("/user/generate-apikey", &Value::Null).await);
    assert_eq!(by_first.get("/project").await.status, 401);
    let both = bench.with_header(Some(("x-api-key", &second)));
    both.get("/project").await.ok();
    let both = both.with_header(Some(("authorization", "Bearer wrong")));
    assert_eq!(both.get("/project").await.status, 401, "a wrong bearer is not made good by a key");
}

#[tokio::test]
async fn history_is_filtered_and_paged() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let user = bench.account("a@b.com").await;
    let (project, _) = user.project_with_agent("Clinic").await;
    for day in 0..5 {
        user.stored_call(&project, day).await;
    }
    let history = |query: &'static str, size: i64| {
        let (user, body) = (&user, json!({ "projectId": project, "pageSize": size }));
        async move { user.post(&format!("/call/get-call-history{query}"), &body).await.ok() }
    };
    let count = |answer: &Value| answer["data"].as_array().expect("a list").len();
    // Calls started on 10 to 14 March 2025 at 05:20.
    for (query, expected) in [
        ("", 5),
        ("?startTime=2025-03-11", 1),
        ("?startTimeAfter=2025-03-11", 4),
        ("?startTimeBefore=2025-03-11", 1),
        ("?startTimeAfter=2025-03-11&startTimeBefore=2025-03-13", 2),
        ("?.endTime=2025-03-14", 1),
        ("?status=completed", 5),
        ("?status=busy", 0),
        ("?to=%2B15551234567", 5),
        ("?to=+15551234567", 5),
        ("?from=%2B10", 0),
    ] {
        assert_eq!(count(&history(query, 20).await), expected, "{query}");
    }
    let mut seen = Vec::new();
    let mut token = Value::Null;
    loop {
        let body = json!({ "projectId": project, "pageSize": 2, "pageToken": token });
        let page = user.post("/call/get-call-history", &body).await.ok();
        seen.extend(page["data"].as_array().expect("a list").iter().map(|call| call["startTime"].clone()));
        token = page["nextPageToken"].clone();
        if token.is_null() {
            break;
        }
    }
    let mut newest_first = seen.clone();
    newest_first.sort_by(|a, b| b.as_str().cmp(&a.as_str()));
    assert_eq!((seen.len(), &seen), (5, &newest_first));
    let call = history("?startTime=2025-03-10", 1).await["data"][0].clone();
    assert_eq!((&call["seconds"], &call["duration"]), (&json!(23), &json!("23")));
    let found = user.post("/call", &json!({ "callSid": call["sid"], "projectId": project })).await.ok();
    assert_eq!((&found["date"], &found["seconds"]), (&json!("Mon, 10 Mar 2025 05:20:39 +0000"), &json!(23)));
}

impl Bench {
    /// A project with one agent.
    async fn project_with_agent(&self, name: &str) -> (String, String) {
        let project = self.post("/project/create-project", &json!({ "name": name, "description": "" })).await.ok();
        let project = project["data"]["id"].as_str().expect("an id").to_owned();
        let agent = json!({ "name": "Jack", "systemInstruction": "You are Jack.", "projectId": project });
        let agent = self.post("/agent/create-agent", &agent).await.ok()["id"].as_str().expect("an id").to_owned();
        (project, agent)
    }

    /// A call of 23 seconds to the project, so many days after the clock's start; its id.
    async fn stored_call(&self, project: &str, day: u64) -> String {
        let call_id = CallId(u128::from(day) + 1);
        let events = [started(project), answered(), ended()];
        let start = bench::START_MS as u64 + day * 24 * 3_600_000;
        let records: Vec<JournalRecord> = events
            .into_iter()
            .zip([0, 2000, 25_000])
            .zip(1..)
            .map(|((event, after), seq)| JournalRecord {
                position: Position { boot: day + 1, seq },
                at_ms: start + after,
                call_id,
                event,
            })
            .collect();
        self.store.write(move |connection| ingest(connection, &records)).await.expect("stored");
        call_id.to_string()
    }
}
