//! Trunks in full, extensions, routes, refusals and emergency calls, as the owner manages them.

use axum::http::Method;
use serde_json::{Value, json};
use talkstack_control::http::SignupPolicy;
use talkstack_control::port::{
    Attestation, CallEvent, CallId, CallStarted, Command, CommandReply, ContactState, DialFormat, Direction, Dtmf,
    Hours, LineStates, PlaneError, RegistrationState, RouteAnswer, RouteQuestion, RouteSource, RouteTarget, SipRefusal,
    SpeechCodec, Srtp, TestStep, TrunkState, TrunkTransport, Verstat,
};

use crate::bench::{Bench, started};

#[tokio::test]
async fn everything_a_trunk_can_be_told_reaches_the_call_plane() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    let given = json!({
        "name": "Carrier", "host": "sip.example.com", "port": null, "transport": "auto", "username": "me",
        "password": "secret", "numbers": ["+3612345678"], "domain": "example.com", "outbound_proxy": "sbc.example.com:5080",
        "auth_username": "auth-me", "register": true, "register_expires_s": 300, "networks": ["192.0.2.0/24"],
        "tls_fingerprint": (["Ab"; 32].join(":")), "advertise": "203.0.113.9", "priority": 5, "calls_per_second": 2,
        "emergency": true, "default_number": "+3612345678", "country_code": "36", "national_prefix": "06",
        "international_prefix": "00", "dial_format": "national", "caller_id": "asserted", "options_interval_s": 0,
        "session_expires_s": 600, "reliable": "required", "refer": true,
        "codecs": ["g722", "pcma"], "ptime_ms": 30, "srtp": "required", "sdes_over_plain": true, "dtmf": "rfc4733",
        "media_networks": ["198.51.100.0/24"],
    });
    let made = owner.post("/api/v1/trunks", &given).await.created();
    for (field, value) in given.as_object().expect("an object") {
        let expected = match field.as_str() {
            "password" => continue,
            "tls_fingerprint" => json!("ab".repeat(32)),
            _ => value.clone(),
        };
        assert_eq!(made[field], expected, "{field}");
    }
    let id = made["id"].as_str().expect("an id");
    let route = bench.last_snapshot().trunks[id].clone();
    assert_eq!((route.port, route.transport), (None, TrunkTransport::Auto));
    assert!(route.access.register && route.policy.is_emergency);
    assert_eq!(route.numbering.dial_format, DialFormat::National);
    assert_eq!(route.signalling.options_interval_s, 0);
    assert_eq!(route.media.codecs, [SpeechCodec::G722, SpeechCodec::Pcma]);
    assert_eq!((route.media.srtp, route.media.dtmf), (Srtp::Required, Dtmf::Rfc4733));
    let path = format!("/api/v1/trunks/{id}");
    let changed = owner.patch(&path, &json!({ "calls_per_second": null, "port": 5060 })).await.ok();
    assert_eq!((&changed["calls_per_second"], &changed["port"]), (&Value::Null, &json!(5060)));
    for wrong in [
        json!({ "username": null }),
        json!({ "register_expires_s": 5 }),
        json!({ "networks": ["192.0.2.0/40"] }),
        json!({ "tls_fingerprint": "abc" }),
        json!({ "country_code": "0036" }),
        json!({ "default_number": "+3611111111" }),
        json!({ "options_interval_s": 5 }),
        json!({ "reliable": "perhaps" }),
        json!({ "caller_id": "all" }),
        json!({ "codecs": ["g722", "g729"] }),
        json!({ "codecs": ["pcma", "pcma"] }),
        json!({ "ptime_ms": 25 }),
        json!({ "srtp": "maybe" }),
        json!({ "dtmf": "both" }),
        json!({ "media_networks": ["198.51.100.0/64"] }),
    ] {
        assert_eq!(owner.patch(&path, &wrong).await.code(400), "bad_field", "{wrong}");
    }
}

#[tokio::test]
async fn an_extension_s_password_is_shown_once_and_kept_sealed() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    let made =
        owner.post("/api/v1/extensions", &json!({ "user": "101", "name": "Desk", "number": "+3612345678" })).await;
    assert_eq!(made.headers["location"], "/api/v1/extensions/101");
    let made = made.created();
    let password = made["password"].as_str().expect("made up").to_owned();
    assert!(password.len() >= 20, "{password}");
    let route = bench.last_snapshot().extensions["101"].clone();
    let sealed = route.password.expect("sealed");
    assert_eq!(bench.secret().unseal("extension password", &sealed).as_ref(), Ok(&password));
    let path = "/api/v1/extensions/101";
    let shown = owner.get(path).await.ok();
    assert!(
        shown.get("password").is_none() && !owner.get("/api/v1/extensions").await.ok().to_string().contains(&password)
    );
    assert_eq!((&shown["number"], &shown["contacts_max"]), (&json!("+3612345678"), &json!(5)));
    let chosen = owner.patch(path, &json!({ "password": "chosen-by-the-owner" })).await.ok();
    assert!(chosen.get("password").is_none());
    let again = owner.patch(path, &json!({ "password": null })).await.ok();
    assert_ne!(again["password"].as_str().expect("made up anew"), password);
    let disk = bench.bytes_on_disk();
    assert!(!disk.windows(password.len()).any(|window| window == password.as_bytes()));
    assert_eq!(owner.post("/api/v1/extensions", &json!({ "user": "101" })).await.code(409), "name_taken");
    for wrong in [
        json!({ "user": "1" }),
        json!({ "user": "echo" }),
        json!({ "user": "a b" }),
        json!({ "user": "102", "password": "short" }),
        json!({ "user": "102", "contacts_max": 11 }),
        json!({ "user": "102", "project_id": "nowhere" }),
        json!({ "user": "102", "number": "12" }),
    ] {
        assert_eq!(owner.post("/api/v1/extensions", &wrong).await.code(400), "bad_field", "{wrong}");
    }
    assert_eq!(owner.send(Method::DELETE, path, &Value::Null).await.status, 204);
    assert_eq!(owner.get(path).await.code(404), "no_such_extension");
}

#[tokio::test]
async fn routes_keep_their_order_and_what_they_name_stays() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    let trunk = owner.post("/api/v1/trunks", &json!({ "name": "t", "host": "h" })).await.created();
    let trunk = trunk["id"].as_str().expect("an id").to_owned();
    owner.post("/api/v1/extensions", &json!({ "user": "101" })).await.created();
    let night = json!({
        "name": "Night", "called": ["+36.", "9|NXXXXXX"], "from": { "line": "trunk", "trunk_id": trunk },
        "hours": [{ "days": [6, 7], "from": 0, "to": 1440 }, { "from": 1080, "to": 480 }],
        "targets": [{ "to": "extension", "user": "101", "ring_s": 20 }, { "to": "attendant" }],
    });
    let night = owner.post("/api/v1/routes", &night).await.created();
    let out =
        json!({ "name": "Out", "from": { "line": "extensions" }, "targets": [{ "to": "trunk", "trunk_id": trunk }] });
    let out = owner.post("/api/v1/routes", &out).await.created();
    let ids = [&out, &night].map(|route| route["id"].clone());
    let ordered = owner.send(Method::PUT, "/api/v1/routes/order", &json!({ "ids": ids })).await.ok();
    assert_eq!((&ordered["data"][0]["name"], &ordered["data"][1]["name"]), (&json!("Out"), &json!("Night")));
    let rules = bench.last_snapshot().routes.clone();
    assert_eq!(rules[1].from, RouteSource::Trunk { trunk_id: trunk.clone() });
    assert_eq!(rules[1].hours[1], Hours { days: vec![], from: 1080, to: 480 });
    assert_eq!(rules[0].targets, [RouteTarget::Trunk { trunk_id: trunk.clone(), number: None, ring_s: None }]);
    for path in [format!("/api/v1/trunks/{trunk}"), "/api/v1/extensions/101".into()] {
        assert_eq!(owner.send(Method::DELETE, &path, &Value::Null).await.code(409), "in_use", "{path}");
    }
    for (wrong, code) in [
        (json!({ "name": "x" }), "missing_field"),
        (json!({ "name": "x", "targets": [] }), "bad_field"),
        (json!({ "name": "x", "targets": [{ "to": "moon" }] }), "bad_field"),
        (json!({ "name": "x", "targets": [{ "to": "agent", "agent_id": "nobody" }] }), "bad_field"),
        (json!({ "name": "x", "targets": [{ "to": "refuse", "status": 200 }] }), "bad_field"),
        (json!({ "name": "x", "called": ["[1-"], "targets": [{ "to": "echo" }] }), "bad_field"),
        (
            json!({ "name": "x", "hours": [{ "days": [8], "from": 0, "to": 9 }], "targets": [{ "to": "echo" }] }),
            "bad_field",
        ),
    ] {
        assert_eq!(owner.post("/api/v1/routes", &wrong).await.code(400), code, "{wrong}");
    }
    assert_eq!(
        owner.send(Method::PUT, "/api/v1/routes/order", &json!({ "ids": [ids[0]] })).await.code(409),
        "order_incomplete"
    );
    let path = format!("/api/v1/routes/{}", ids[0].as_str().expect("an id"));
    assert_eq!(owner.patch(&path, &json!({ "name": "Outside" })).await.ok()["name"], json!("Outside"));
    assert_eq!(owner.send(Method::DELETE, &path, &Value::Null).await.status, 204);
    assert_eq!(owner.get(&path).await.code(404), "no_such_route");
}

#[tokio::test]
async fn trunks_and_extensions_show_how_they_are_while_the_call_plane_tells() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    let trunk = owner.post("/api/v1/trunks", &json!({ "name": "t", "host": "h" })).await.created();
    let id = trunk["id"].as_str().expect("an id").to_owned();
    owner.post("/api/v1/extensions", &json!({ "user": "101" })).await.created();
    let state = TrunkState {
        registration: RegistrationState::Refused { status: 403 },
        is_reachable: Some(true),
        rtt_ms: Some(12),
        channels: 2,
        problem: Some("The password is wrong.".into()),
        ..TrunkState::default()
    };
    let contact = ContactState {
        contact: "sip:101@10.0.0.9".into(),
        address: "10.0.0.9:5060".into(),
        transport: "udp".into(),
        user_agent: None,
        expires_s: 60,
    };
    let lines =
        LineStates { trunks: [(id.clone(), state)].into(), extensions: [("101".to_owned(), vec![contact])].into() };
    bench.plane.replies.lock().expect("unpoisoned").push_back(Ok(CommandReply::Lines(Box::new(lines))));
    let (one, all) = (format!("/api/v1/trunks/{id}"), "/api/v1/trunks");
    for shown in [owner.get(&one).await.ok(), owner.get(all).await.ok()["data"][0].clone()] {
        let state = &shown["state"];
        assert_eq!(state["registration"], json!({ "state": "refused", "status": 403 }));
        assert_eq!((&state["rtt_ms"], &state["channels"]), (&json!(12), &json!(2)));
        assert_eq!(state["problem"], "The password is wrong.");
    }
    assert_eq!(owner.get("/api/v1/extensions/101").await.ok()["contacts"][0]["address"], "10.0.0.9:5060");
    *bench.plane.replies.lock().expect("unpoisoned") = [Err(PlaneError::NotConnected)].into();
    assert!(owner.get(&one).await.ok().get("state").is_none(), "nobody can tell");
    assert!(owner.get("/api/v1/extensions/101").await.ok().get("contacts").is_none());
}

#[tokio::test]
async fn a_simulation_and_a_trunk_s_test_ask_the_call_plane_and_show_its_answer() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    let trunk = owner.post("/api/v1/trunks", &json!({ "name": "t", "host": "h" })).await.created();
    let id = trunk["id"].as_str().expect("an id").to_owned();
    let answers = |reply: Result<CommandReply, PlaneError>| {
        let mut replies = bench.plane.replies.lock().expect("unpoisoned");
        replies.clear();
        replies.push_back(reply);
    };
    let asked = || bench.plane.commands.lock().expect("unpoisoned").last().cloned();
    let routed = RouteAnswer {
        rule: "emergency".into(),
        called: "112".into(),
        targets: vec![RouteTarget::Trunk { trunk_id: id.clone(), number: None, ring_s: None }],
        ..RouteAnswer::default()
    };
    answers(Ok(CommandReply::Routed(Box::new(routed))));
    let from = json!({ "line": "trunk", "trunk_id": id });
    let question = json!({ "called": "112", "caller": "101", "from": from, "at": "2026-12-24T18:00:00+01:00" });
    let simulated = owner.post("/api/v1/routes/simulate", &question).await.ok();
    assert_eq!((&simulated["rule"], &simulated["targets"][0]["trunk_id"]), (&json!("emergency"), &json!(id)));
    let from = RouteSource::Trunk { trunk_id: id.clone() };
    let expected = RouteQuestion { called: "112".into(), caller: "101".into(), from, at_ms: Some(1_798_131_600_000) };
    assert_eq!(asked(), Some(Command::Simulate(expected)));
    for wrong in
        [json!({ "called": "1 2" }), json!({ "called": "1", "at": "tomorrow" }), json!({ "called": "1", "from": "x" })]
    {
        assert_eq!(owner.post("/api/v1/routes/simulate", &wrong).await.code(400), "bad_field", "{wrong}");
    }

    let path = format!("/api/v1/trunks/{id}/test");
    let step = |step: &str, is_ok| TestStep {
        step: step.into(),
        is_ok,
        fault: (is_ok == Some(false)).then(|| "403".into()),
        found: "It is so.".into(),
        took_ms: 1,
    };
    for (steps, is_ok) in [
        (vec![step("dns", Some(true)), step("call", None)], true),
        (vec![step("dns", Some(true)), step("register", Some(false))], false),
    ] {
        answers(Ok(CommandReply::Tested(steps)));
        let tested = owner.post(&path, &json!({ "number": "+3612345678" })).await.ok();
        assert_eq!((&tested["ok"], &tested["steps"][0]["step"]), (&json!(is_ok), &json!("dns")));
    }
    let number = Some("+3612345678".to_owned());
    assert_eq!(asked(), Some(Command::TestTrunk { trunk_id: id.clone(), number }));
    answers(Ok(CommandReply::Busy));
    assert_eq!(owner.post(&path, &json!({})).await.code(409), "test_runs");
    answers(Err(PlaneError::NotConnected));
    assert_eq!(owner.post(&path, &json!({})).await.code(503), "call_plane_away");
    answers(Err(PlaneError::TimedOut));
    assert_eq!(owner.post(&path, &json!({})).await.code(504), "call_plane_silent");
    assert_eq!(owner.post("/api/v1/trunks/none/test", &json!({})).await.code(404), "no_such_trunk");
}

#[tokio::test]
async fn every_refusal_is_kept_with_its_rule_and_the_latest_ten_thousand_stay() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    let refused = |status: u16, trunk: Option<&str>| {
        CallEvent::Refused(SipRefusal {
            direction: if trunk.is_some() { Direction::Outbound } else { Direction::Inbound },
            status,
            method: "INVITE".into(),
            peer: "192.0.2.1:5060".into(),
            trunk_id: trunk.map(str::to_owned),
            rule: format!("rule {status}"),
            more: 0,
        })
    };
    let project = owner.project("Clinic").await;
    bench.happen(7, vec![started(&project), refused(486, Some("trk_a"))]).await;
    bench.happen(0, vec![refused(403, None), refused(404, Some("trk_b"))]).await;
    let statuses = |page: &Value| -> Vec<u64> {
        page["data"].as_array().expect("a list").iter().filter_map(|row| row["status"].as_u64()).collect()
    };
    let all = owner.get("/api/v1/sip-refusals").await.ok();
    assert_eq!(statuses(&all), [404, 403, 486], "the newest first");
    assert_eq!((&all["data"][1]["by"], &all["data"][1]["call"]), (&json!("box"), &Value::Null));
    assert_eq!((&all["data"][2]["by"], &all["data"][2]["rule"]), (&json!("peer"), &json!("rule 486")));
    let call = CallId(7).to_string();
    assert_eq!(statuses(&owner.get(format!("/api/v1/sip-refusals?call={call}")).await.ok()), [486]);
    assert_eq!(statuses(&owner.get("/api/v1/sip-refusals?trunk=trk_b").await.ok()), [404]);
    let page = owner.get("/api/v1/sip-refusals?limit=2").await.ok();
    let cursor = page["next_cursor"].as_str().expect("there is more").to_owned();
    let rest = owner.get(format!("/api/v1/sip-refusals?limit=2&cursor={cursor}")).await.ok();
    assert_eq!((statuses(&page), statuses(&rest), &rest["next_cursor"]), (vec![404, 403], vec![486], &Value::Null));
    assert_eq!(owner.get("/api/v1/sip-refusals?cursor=x").await.code(400), "bad_filter");

    bench.happen(0, (0..10_200).map(|_| refused(503, None)).collect()).await;
    let count: Result<i64, talkstack_control::store::StoreError> = bench
        .store
        .read(|connection| Ok(connection.query_row("SELECT COUNT(*) FROM sip_refusals", [], |row| row.get(0))?))
        .await;
    let count = count.expect("read");
    assert!((10_000..10_064).contains(&count), "{count}");
    assert!(statuses(&owner.get(format!("/api/v1/sip-refusals?call={call}")).await.ok()).is_empty(), "the oldest went");
}

#[tokio::test]
async fn a_call_shows_what_the_line_says_of_who_calls() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    let project = owner.project("Clinic").await;
    let CallEvent::Started(plain) = started(&project) else { unreachable!("it begins so") };
    let told = CallStarted {
        display_name: Some("Ann".into()),
        verstat: Some(Verstat::Failed),
        attestation: Some(Attestation::B),
        diverted_from: Some("+3611111111".into()),
        ..plain.clone()
    };
    bench.happen(1, vec![CallEvent::Started(told)]).await;
    bench.happen(2, vec![CallEvent::Started(plain)]).await;
    let shown = |call: u128| {
        let body = json!({ "sid": CallId(call).to_string(), "projectId": project });
        let owner = &owner;
        async move {
            let call = owner.post("/call", &body).await.ok();
            ["callerName", "verstat", "attestation", "divertedFrom"].map(|field| call[field].clone())
        }
    };
    let expected = ["Ann", "TN-Validation-Failed", "B", "+3611111111"].map(|text| json!(text));
    assert_eq!(shown(1).await, expected);
    assert_eq!(shown(2).await, [const { Value::Null }; 4], "a line that says nothing");
}

#[tokio::test]
async fn the_owner_sees_whether_emergency_calls_are_offered() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    let none = owner.get("/api/v1/emergency").await.ok();
    assert_eq!(none["offered"], json!(false));
    assert!(none["found"].as_str().is_some_and(|found| found.contains("not offered")), "{none}");
    let trunk = json!({ "name": "line", "host": "h", "emergency": true, "country_code": "36" });
    owner.post("/api/v1/trunks", &trunk).await.created();
    let offered = owner.get("/api/v1/emergency").await.ok();
    assert_eq!(offered["offered"], json!(true));
    let numbers = offered["trunks"][0]["numbers"].as_array().expect("a list");
    assert!(numbers.contains(&json!("104")) && numbers.contains(&json!("112")), "{numbers:?}");
}

#[tokio::test]
async fn no_phone_is_named_by_an_emergency_number_of_where_it_is() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let owner = bench.account("owner@b.com").await;
    for (given, is_refused) in [
        (json!({ "user": "112" }), true),
        (json!({ "user": "911" }), true),
        (json!({ "user": "999" }), true),
        // An ambulance in India and in Hungary, a room in a country that nobody has named.
        (json!({ "user": "102", "country_code": "91" }), true),
        (json!({ "user": "104", "number": "+3612345678" }), true),
        (json!({ "user": "104", "country_code": "43" }), false),
        (json!({ "user": "1120" }), false),
    ] {
        let answer = owner.post("/api/v1/extensions", &given).await;
        match is_refused {
            true => assert_eq!(answer.code(400), "bad_field", "{given}"),
            false => drop(answer.created()),
        }
    }
    // Nor does it become one when it moves, or when a trunk leads to help by that number.
    let moved = owner.patch("/api/v1/extensions/104", &json!({ "country_code": "36" })).await;
    assert_eq!(moved.code(400), "bad_field");
    let trunk = json!({ "name": "line", "host": "h", "emergency": true, "country_code": "36" });
    owner.post("/api/v1/trunks", &trunk).await.created();
    assert_eq!(owner.post("/api/v1/extensions", &json!({ "user": "107" })).await.code(400), "bad_field");
}

#[tokio::test]
async fn lines_are_the_owner_s_alone() {
    let bench = Bench::new(SignupPolicy::Open).await;
    let _owner = bench.account("owner@b.com").await;
    let other = bench.account("other@b.com").await;
    for (method, path) in [
        (Method::GET, "/api/v1/extensions"),
        (Method::POST, "/api/v1/extensions"),
        (Method::GET, "/api/v1/extensions/101"),
        (Method::PATCH, "/api/v1/extensions/101"),
        (Method::DELETE, "/api/v1/extensions/101"),
        (Method::GET, "/api/v1/routes"),
        (Method::POST, "/api/v1/routes"),
        (Method::PUT, "/api/v1/routes/order"),
        (Method::POST, "/api/v1/routes/simulate"),
        (Method::GET, "/api/v1/routes/x"),
        (Method::POST, "/api/v1/trunks/x/test"),
        (Method::GET, "/api/v1/sip-refusals"),
        (Method::GET, "/api/v1/emergency"),
    ] {
        assert_eq!(other.send(method.clone(), path, &json!({})).await.code(403), "owner_only", "{method} {path}");
        assert_eq!(bench.send(method.clone(), path, &json!({})).await.code(401), "unauthorized", "{method} {path}");
    }
}
