//! The samples that the documentation prints, replayed: every key and value they show is in our answers.

use serde_json::{Value, json};
use talkstack_control::http::{Settings, SignupPolicy};

use crate::bench::Bench;

#[tokio::test]
async fn every_printed_answer_about_accounts_is_given() {
    let bench = Bench::new(SignupPolicy::First).await;
    let account = json!({ "email": "example@host.com", "password": "correct horse", "name": "Johm" });
    let user = json!({
        "email": "example@host.com", "name": "Johm", "active_project": null,
        "created_at": TIME, "updated_at": TIME, "company_name": null,
    });
    let answer = bench.post("/auth/signup", &account).await.ok();
    covers(
        &answer,
        &json!({ "message": "User registered successfully", "status": "success", "user": user, "signupStatus": 3 }),
    );
    let answer = bench.post("/auth/resend-code", &json!({ "email": "example@host.com" })).await.ok();
    assert_eq!(
        answer,
        json!({ "message": "successfully sent verification code to mail", "status": "success" }),
        "nothing besides"
    );
    let code = bench.code("example@host.com").await;
    let answer = bench.post("/auth/verify-email", &json!({ "email": "example@host.com", "code": code })).await.ok();
    covers(
        &answer,
        &json!({
            "message": "email verification successful.", "status": "success", "verificationStatus": 2,
            "userData": {
                "email": "example@host.com", "name": "Johm", "active_project": null,
                "created_at": TIME, "updated_at": TIME,
            },
        }),
    );
    assert!(answer.get("token").is_none(), "the client must log in");
    let login = bench.post("/auth/login", &account).await.ok();
    covers(
        &login,
        &json!({
            "message": "successfully logged in.", "status": "success", "token": ANY, "refreshToken": ANY,
            "expirationTime": TIME, "user": user, "loginStatus": 7,
        }),
    );
    let refresh = bench.post("/auth/refresh-token", &json!({ "refreshToken": login["refreshToken"] })).await.ok();
    covers(
        &refresh,
        &json!({ "token": ANY, "resfreshToken": ANY, "refreshToken": ANY, "expirationTime": TIME, "status": "success" }),
    );
    let key = bench.bearer(login["token"].as_str().expect("a token")).get("/user/generate-apikey").await.ok();
    covers(
        &key,
        &json!({ "message": "API key successfully generated and updated.", "status": "success", "apiKey": ANY }),
    );
    let hidden = [&answer, &login, &refresh].map(ToString::to_string).concat();
    for word in ["password", "argon2", "digest", "is_owner"] {
        assert!(!hidden.contains(word), "{word}");
    }
}

#[tokio::test]
async fn every_printed_answer_about_projects_and_agents_is_given() {
    let bench = Bench::new(SignupPolicy::First).await;
    let user = bench.account("a@b.com").await;
    let clinic = json!({ "name": "John Smith Clinic", "description": "" });
    let created = user.post("/project/create-project", &clinic).await.ok();
    let project = json!({
        "name": "John Smith Clinic", "user_id": ANY, "status": "ACTIVE", "description": "", "is_deleted": false,
        "call_status_webhook": null, "id": ANY, "active_agent": null, "created_at": TIME, "updated_at": TIME,
    });
    covers(&created, &json!({ "message": "successfully created project.", "status": "success", "data": project }));
    let id = created["data"]["id"].as_str().expect("an id").to_owned();
    let found = user.get(format!("/project/{id}")).await.ok();
    covers(&found, &json!({ "message": "successfully fetched project data.", "status": "success", "data": project }));
    let all = user.get("/project").await.ok();
    covers(&all, &json!({ "message": "successfully fetched project list.", "status": "success" }));
    assert_eq!(all["data"], json!([found["data"]]));

    let wanted = json!({ "name": "Jack", "systemInstruction": "You are an agent called John. ...", "projectId": id });
    let agent = user.post("/agent/create-agent", &wanted).await.ok();
    let shown = json!({
        "id": ANY, "agentId": ANY, "name": "Jack", "systemInstruction": "You are an agent called John. ...",
        "projectId": id, "phoneNumber": null, "voice_id": null,
    });
    covers(&agent, &shown);
    covers(&agent, &json!({ "message": "agent created successfully.", "status": "success", "data": shown }));
    let agent_id = agent["id"].as_str().expect("an id").to_owned();
    let flat = user.post("/agent", &json!({ "projectId": id, "agentId": agent_id })).await.ok();
    covers(&flat, &shown);
    assert_eq!(user.get(format!("/agent/{id}")).await.ok(), json!([flat]));
    let number = json!({ "e164": "+14232324232", "agentId": agent_id, "projectId": id });
    let answer = user.post("/phone-number/add-number", &number).await.ok();
    assert_eq!(answer, json!({ "message": "PhoneNumber assigned successfully.", "status": "success" }));
    let active = user.patch("/project/active-agent", &json!({ "projectId": id, "active_agent": agent_id })).await.ok();
    covers(
        &active,
        &json!({
            "message": "updated active agent successfully.", "status": "success",
            "project": {
                "name": "John Smith Clinic", "description": "", "active_agent": agent_id, "created_at": TIME,
                "call_status_webhook": null, "user_id": ANY,
            },
        }),
    );
}

#[tokio::test]
async fn every_printed_answer_about_calls_is_given() {
    let bench = Bench::new(SignupPolicy::First).await;
    let user = bench.account("a@b.com").await;
    let (id, _) = user.project_with_agent("Clinic").await;
    let sid = user.stored_call(&id, 1).await;
    let call = user.post("/call", &json!({ "sid": sid, "projectId": id })).await.ok();
    covers(
        &call,
        &json!({
            "seconds": 23, "status": "completed", "from": "+14152148508", "to": "+15551234567",
            "date": "Tue, 11 Mar 2025 05:20:39 +0000", "recordingUrls": [], "phoneNumber": "+15551234567",
            "callSid": sid, "sid": sid, "call_id": sid, "data": {},
        }),
    );
    assert!(call["cost"].is_number() && call.get("message").is_none(), "flat");
    for absent in ["partnerId", "shiftId", "assignmentId"] {
        assert!(call.get(absent).is_none(), "{absent} is one customer's own");
    }
    let history = user.post("/call/get-call-history", &json!({ "projectId": id })).await.ok();
    covers(
        &history,
        &json!({
            "message": "successfully fetched call history.", "status": "success", "pageSize": 20,
            "nextPageToken": null,
        }),
    );
    covers(
        &history["data"][0],
        &json!({
            "sid": sid, "callSid": sid, "call_id": sid, "to": "+15551234567", "from": "+14152148508",
            "status": "completed", "startTime": TIME, "endTime": TIME, "seconds": 23, "duration": "23",
            "agentId": null, "projectId": id,
        }),
    );
}

#[tokio::test]
async fn the_misprints_are_printed_on_request_only() {
    let settings = Settings { signup: SignupPolicy::First, literal_typos: true };
    let bench = Bench::with_settings(settings).await;
    let user = bench.account("a@b.com").await;
    let created = user.post("/project/create-project", &json!({ "name": "x", "description": "" })).await.ok();
    let id = created["data"]["id"].as_str().expect("an id");
    assert_eq!(user.get(format!("/project/{id}")).await.ok()["status"], "succcess");
    assert_eq!(created["status"], "success", "only where it is printed");
}

/// Any text that is not empty.
const ANY: &str = "xxxx";

/// A time as ISO 8601 in UTC with milliseconds.
const TIME: &str = "2025-03-10T05:20:39.831Z";

/// All that is printed is in the answer, which may have more.
fn covers(answer: &Value, printed: &Value) {
    for (key, expected) in printed.as_object().expect("an object") {
        let value = answer.get(key).unwrap_or_else(|| panic!("{key} is missing in {answer}"));
        match expected {
            Value::Object(fields) if !fields.is_empty() => covers(value, expected),
            Value::String(text) if text == ANY => {
                assert!(value.as_str().is_some_and(|text| !text.is_empty()), "{key}: {value}");
            }
            Value::String(text) if text == TIME => {
                let is_time =
                    |text: &str| text.len() == TIME.len() && text.ends_with('Z') && text.as_bytes()[10] == b'T';
                assert!(value.as_str().is_some_and(is_time), "{key}: {value}");
            }
            _ => assert_eq!(value, expected, "{key}"),
        }
    }
}
