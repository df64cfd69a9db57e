//! Whole calls by the API alone: a trunk that is a phone of ours, a strict Realtime server, a receiver of webhooks.

use std::net::UdpSocket;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use talkstack_media::codec::Codec;
use tempfile::TempDir;

use crate::daemon::{Daemon, wait_until};
use crate::hooks::Receiver;
use crate::http::{Client, download};
use crate::realtime::RealtimeServer;
use crate::rtp_phone::{RtpPhone, TrunkPhone};

#[test]
fn an_agent_that_was_set_up_by_the_api_answers_and_is_heard_on_both_sides() {
    let site = Site::new(&[], &[], json!({ "greeting": "Hello from the {{place}}clinic." }));
    let mut phone = RtpPhone::call(site.daemon.sip(), DIGITS);
    assert_eq!(phone.statuses, ["100", "180", "200"]);
    phone.say_until(SILENCE, |phone| tones(phone, 1) >= 60);
    phone.say(LOUD, Duration::from_millis(300));
    phone.say_until(SILENCE, |phone| tones(phone, 2) >= 60);
    phone.hang_up();
    let update = &site.server.received("session.update")[0]["session"];
    assert_eq!(update["instructions"], "Be kind to .");
    assert_eq!(update["audio"]["output"]["voice"], "marin");
    assert_eq!(update["audio"]["input"]["format"], json!({ "type": "audio/pcmu" }));
    let greeting = site.server.wait_for("asked");
    let told = greeting["response"]["instructions"].as_str().expect("a text");
    assert!(told.contains("Hello from the clinic."), "{told}");
    let call = site.ended(&site.latest_call());
    assert_eq!((&call["status"], &call["agentId"]), (&json!("completed"), &json!(site.agent)), "{call}");
    let said: Vec<_> = call["transcript"].as_array().expect("a list").iter().map(|said| &said["speaker"]).collect();
    assert_eq!(said, ["agent", "caller", "agent"], "{call}");
    assert_eq!(call["transcript"][1]["text"], "Caller turn 1.");
    site.server.has_no_complaint();
}

#[test]
fn a_call_that_is_placed_is_greeted_by_its_agent_a_second_and_a_half_after_the_answer() {
    let site = Site::new(&[], &[], json!({ "greeting": "Hello {{name}}." }));
    let call = site.dial(json!({ "name": "Ann" }));
    let invited = site.trunk.invited();
    assert!(invited.text.starts_with("INVITE sip:+15550000001@127.0.0.1"), "{}", invited.text);
    assert!(invited.text.contains(&format!("<sip:{NUMBER}@")), "{}", invited.text);
    let updated = site.server.wait_for("updated");
    assert_eq!(updated["instructions"], "Be kind to Ann.");
    invited.rings();
    site.is(&call, "ringing");
    let mut phone = invited.answers();
    phone.say_until(SILENCE, |phone| tones(phone, 1) >= 60);
    let first = phone.heard.iter().find(|packet| is_tone(&packet.payload, 1)).expect("it was heard").at;
    let waited = first.duration_since(phone.answered_at).expect("later");
    assert!((1490..1900).contains(&waited.as_millis()), "greeted after {waited:?}");
    let asked = site.server.wait_for("asked");
    assert!(asked["response"]["instructions"].as_str().is_some_and(|told| told.contains("Hello Ann.")), "{asked}");
    assert!(at(&asked) >= phone.answered_at + Duration::from_millis(1490), "asked before it was time");
    site.is(&call, "in-progress");
    phone.hang_up();
    let ended = site.ended(&call);
    assert_eq!(ended["status"], "completed", "{ended}");
    assert_eq!(ended["transcript"][0]["speaker"], "agent", "{ended}");
    site.server.has_no_complaint();
}

#[test]
fn a_called_person_who_speaks_first_is_not_talked_over() {
    let site = Site::new(&[], &[], json!({}));
    site.dial(json!({}));
    let mut phone = site.trunk.invited().answers();
    phone.say(SILENCE, Duration::from_millis(800));
    phone.say(LOUD, Duration::from_millis(1200));
    let spoke_until = SystemTime::now();
    phone.say_until(SILENCE, |phone| tones(phone, 1) >= 10);
    let first = phone.heard.iter().find(|packet| is_tone(&packet.payload, 1)).expect("it was heard").at;
    assert!(first > spoke_until, "talked over");
    assert!(site.server.events("asked").is_empty(), "the greeting is dropped: the detector asks for the answer");
    phone.hang_up();
    site.server.has_no_complaint();
}

#[test]
fn a_marker_is_in_the_agent_s_ear_and_in_both_tracks_of_the_recording_on_one_clock() {
    let mut marked = std::iter::repeat_with(marked_call).take(3);
    let (site, phone) = marked.find(|(_, phone)| phone.kept_time(LOUD)).expect("the machine lets the phone keep time");
    let (said_at, began) = (phone.said_at(LOUD), phone.said[0].0);
    // Where the phone plays the echo, by the timestamps that follow on from the first packet.
    let (first, echo) = (&phone.heard[0], phone.heard.iter().find(|packet| is_code(&packet.payload, LOUD)));
    let echo = echo.expect("the echo");
    let played_ms = i64::from(echo.timestamp.wrapping_sub(first.timestamp) / 8) + ms(phone.answered_at, first.at);
    let arrived_ms = ms(phone.answered_at, echo.at);
    let (answered_at, call) = (phone.answered_at, site.latest_call());
    phone.hang_up();
    let link = site.recording(&call);
    let (status, head, wav) = download(&link, None);
    assert_eq!((status, &wav[..4], wav[22]), (200, &b"RIFF"[..], 2), "{head}");
    assert!(head.to_ascii_lowercase().contains("content-type: audio/"), "{head}");
    let (left, right) = tracks(&wav);
    let in_left = first_ms(&left);
    let in_right = first_ms(&right);
    let in_ear = first_ms(&site.server.heard());
    let said_ms = ms(answered_at, said_at);
    let figures = format!(
        "milliseconds after the answer: said {said_ms}, first frame {}, echo arrived {arrived_ms} and was played \
         {played_ms}; left {in_left}, right {in_right}; in the agent's ear {in_ear}",
        ms(answered_at, began)
    );
    eprintln!("{figures}");
    assert!((in_left - said_ms).abs() <= 20, "left: {figures}");
    assert!((in_ear - ms(began, said_at)).abs() <= 20, "ear: {figures}");
    assert!((in_right - played_ms).abs() <= 20, "right: {figures}");
    assert!(in_right >= in_left, "an echo comes later: {figures}");

    let (status, head, part) = download(&link, Some("bytes=4-43"));
    assert_eq!((status, &part[..]), (206, &wav[4..44]), "{head}");
    assert!(head.contains(&format!("bytes 4-43/{}", wav.len())), "{head}");
    let forged = link.replace("signature=", "signature=0");
    let later = link.replacen("expires=1", "expires=2", 1);
    for bad in [&forged, &later, link.split('?').next().expect("a path")] {
        assert_eq!(download(bad, None).0, 403, "{bad}");
    }
    site.server.has_no_complaint();
}

#[test]
fn keys_by_info_reach_the_agent_and_a_recording_is_paused_from_the_command_line() {
    let site = Site::new(&[], &[], json!({ "greeting": "Hello." }));
    let mut phone = RtpPhone::call(site.daemon.sip(), DIGITS);
    phone.say_until(SILENCE, |phone| tones(phone, 1) >= 60);
    phone.inform(2, "application/dtmf-relay", "Signal=5\r\nDuration=160\r\n");
    phone.inform(3, "application/dtmf", "#");
    let told = || site.server.received("conversation.item.create");
    phone.say_until(SILENCE, |_| told().iter().any(|item| item.to_string().contains("5#")));
    // A card's number is read out: it does not stand in the recording.
    let call = site.latest_call();
    let id = call["sid"].as_str().expect("an id").to_owned();
    phone.say(LOUD, Duration::from_millis(500));
    assert!(site.daemon.command(&["call", "recording", &id, "pause"]).contains("silent from now on"));
    phone.say(SILENCE, Duration::from_millis(100));
    phone.say(LOUD, Duration::from_millis(600));
    assert!(site.daemon.command(&["call", "recording", &id, "resume"]).contains("on again"));
    phone.say(LOUD, Duration::from_millis(500));
    phone.hang_up();
    let (left, _) = tracks(&download(&site.recording(&call), None).2);
    let mut voice = Vec::new();
    Codec::Pcmu.decode(&[LOUD, LOUD | 0x80], &mut voice);
    let spoken = left.iter().filter(|sample| voice.contains(sample)).count();
    // A second of 1.6; the frames around either command go to one side or the other.
    assert!((6000..10_000).contains(&spoken), "{spoken} samples of the caller's voice");
    let found = site.find(&call);
    let gap = &found["recordingGaps"][0];
    let ms = |name: &str| gap[name].as_u64().expect("a time");
    assert!((500..2500).contains(&(ms("toMs") - ms("fromMs"))), "{found}");
    let (status, _, said) = download(found["agentRecordingUrl"].as_str().expect("a link"), None);
    assert_eq!((status, &said[..4], said[22]), (200, &b"RIFF"[..], 1), "the agent's track");
    assert!(said[44..].iter().any(|byte| *byte != 0));
    let log = site.daemon.log();
    assert!(!log.contains("Signal") && !log.contains("5#"), "{log}");
    site.server.has_no_complaint();
}

#[test]
fn an_interruption_is_recorded_as_it_was_on_the_wire() {
    let site = Site::new(&[], &["--scenario", "interrupt"], json!({}));
    let mut phone = RtpPhone::call(site.daemon.sip(), DIGITS);
    phone.say(SILENCE, Duration::from_millis(1200));
    phone.say(LOUD, Duration::from_millis(400));
    phone.say_until(SILENCE, |phone| tones(phone, 2) > 20);
    let call = site.latest_call();
    let on_wire: usize = phone.heard.iter().map(|packet| codes(&packet.payload, 0x21)).sum();
    let truncated = site.server.received("conversation.item.truncate")[0]["audio_end_ms"].as_i64().expect("ms");
    assert!((truncated - on_wire as i64 / 8).abs() <= 20, "told {truncated} ms of {on_wire} samples");
    phone.hang_up();
    let (_, right) = tracks(&download(&site.recording(&call), None).2);
    let mut tone = Vec::new();
    Codec::Pcmu.decode(&[0x21, 0xa1], &mut tone);
    let recorded = right.iter().filter(|sample| tone.contains(sample)).count();
    assert_eq!(recorded, on_wire, "samples of the interrupted item");
    site.server.has_no_complaint();
}

#[test]
fn each_change_of_a_placed_call_is_told_once_in_order_and_signed() {
    let receiver = Receiver::bind();
    let port = receiver.port.to_string();
    let site = Site::new(&[("TALKSTACK__OUTBOUND__LOOPBACK_PORTS", &port)], &[], json!({}));
    let secret = site.hook(receiver.port);
    let hooks = receiver.answering("204 No Content");
    let call = site.dial(json!({}));
    let invited = site.trunk.invited();
    site.is(&call, "initiated");
    invited.rings();
    site.is(&call, "ringing");
    let mut phone = invited.answers();
    site.is(&call, "in-progress");
    phone.say(SILENCE, Duration::from_millis(300));
    phone.hang_up();
    site.ended(&call);
    let told = wait_until("five changes are told", || Some(hooks.all()).filter(|told| told.len() >= 5));
    let statuses: Vec<_> = told.iter().map(|hook| hook.json()["status"].clone()).collect();
    assert_eq!(statuses, ["queued", "initiated", "ringing", "in-progress", "completed"]);
    for (at, hook) in told.iter().enumerate() {
        assert_eq!(hook.json()["callSid"], call["call_id"]);
        assert_eq!(hook.header("webhook-signature"), hook.signature(&secret), "{:?}", hook.head);
        assert!(told[..at].iter().all(|other| other.header("webhook-id") != hook.header("webhook-id")));
    }
    let link = told[4].json()["recordingUrls"][0].as_str().expect("a link").to_owned();
    assert_eq!(download(&link, Some("bytes=0-3")).2, b"RIFF");
    assert_eq!(hooks.all().len(), 5, "each once");
}

#[test]
fn what_a_receiver_missed_is_told_after_a_restart_under_the_same_id() {
    let dir = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::bind();
    let port = receiver.port;
    let settings = [("TALKSTACK__OUTBOUND__LOOPBACK_PORTS", &*port.to_string())].map(|(a, b)| (a, b.to_owned()));
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, &**value)).collect();
    let daemon = Daemon::start("serve", dir.path(), &settings);
    let client = Client::signed_up(&daemon, "me@example.com", 1);
    let trunk = TrunkPhone::new();
    add_trunk(&client, &trunk, json!({}));
    let (project, agent) = add_agent(&client, json!({ "phoneNumber": NUMBER }));
    let hook = json!({ "projectId": project, "webhookURL": format!("http://127.0.0.1:{port}/hook") });
    client.post("/project/call-status/add-webhookurl", &hook);
    let refusing = receiver.answering("503 Unavailable");
    let order = json!({ "number": "+15550000001", "projectId": project, "agentId": agent });
    let call = &client.post("/call/makeCall", &order)["call"];
    trunk.invited().refuses("486 Busy Here");
    let find = json!({ "sid": call["call_id"], "projectId": project });
    wait_until("the end is stored", || (client.post("/call", &find)["status"] == "busy").then_some(()));
    let first = wait_until("the first attempt comes", || refusing.all().pop());
    refusing.stop();
    daemon.kill();
    let receiver = Receiver::bind_to(port);
    let _daemon = Daemon::start("serve", dir.path(), &settings);
    let hooks = receiver.answering("200 OK");
    let told = wait_until("all is told", || Some(hooks.all()).filter(|told| told.len() >= 3));
    let statuses: Vec<_> = told.iter().map(|hook| hook.json()["status"].clone()).collect();
    assert_eq!(statuses, ["queued", "initiated", "busy"]);
    assert_eq!(told[0].header("webhook-id"), first.header("webhook-id"));
    assert_eq!(told[0].body, first.body);
}

#[test]
fn another_tenant_sees_no_trunk_no_call_and_no_recording() {
    let site = Site::new(&[("TALKSTACK__AUTH__SIGNUP", "open")], &[], json!({}));
    let mut phone = RtpPhone::call(site.daemon.sip(), DIGITS);
    phone.say(SILENCE, Duration::from_millis(500));
    let call = site.latest_call();
    phone.hang_up();
    let link = site.recording(&call);
    let other = Client::signed_up(&site.daemon, "other@example.com", 2);
    let trunk = format!("/api/v1/trunks/{}", site.trunk_id);
    for (method, path) in [
        ("GET", "/api/v1/trunks"),
        ("POST", "/api/v1/trunks"),
        ("GET", &trunk),
        ("PATCH", &trunk),
        ("DELETE", &trunk),
        ("GET", "/api/v1/providers"),
    ] {
        let (status, answer) = other.request(method, path, &json!({ "name": "x", "host": "127.0.0.1" }));
        assert_eq!(status, 403, "{method} {path}: {answer}");
    }
    let (own, own_agent) = add_agent(&other, json!({}));
    let sid = &call["call_id"];
    for project in [&own, &site.project] {
        assert_eq!(other.try_post("/call", &json!({ "sid": sid, "projectId": project })).0, 404);
    }
    let (status, answer) = other.try_post("/call/get-call-history", &json!({ "projectId": site.project }));
    assert_eq!(status, 404, "{answer}");
    for (project, agent) in [(&site.project, &site.agent), (&own, &site.agent)] {
        let order = json!({ "number": "+15550000001", "projectId": project, "agentId": agent });
        assert_eq!(other.try_post("/call/makeCall", &order).0, 404);
    }
    // A number of their own project's agent is needed, and the owner's is not theirs to present.
    let order = json!({ "number": "+15550000001", "projectId": own, "agentId": own_agent });
    let (status, answer) = other.try_post("/call/makeCall", &order);
    assert_eq!((status, &answer["code"]), (400, &json!("agent_has_no_number")), "{answer}");
    assert_eq!(download(&link, None).0, 200, "whoever holds the link may listen");
    assert_eq!(download(link.split('?').next().expect("a path"), None).0, 403);
}

#[test]
fn what_is_changed_holds_for_the_next_call() {
    let site = Site::new(&[], &["--seconds", "0.3"], json!({}));
    let call = |site: &Site| {
        let mut phone = RtpPhone::call(site.daemon.sip(), DIGITS);
        phone.say_until(SILENCE, |phone| tones(phone, 1) >= 1);
        phone.hang_up();
    };
    call(&site);
    let change = json!({ "projectId": site.project, "agentId": site.agent, "systemInstruction": "Be brief." });
    site.client.put("/agent", &change);
    site.client.patch(&format!("/api/v1/providers/{}", site.provider_id), &json!({ "model": "other-model" }));
    let other_trunk = TrunkPhone::new();
    let change = json!({ "port": other_trunk.address.port() });
    site.client.patch(&format!("/api/v1/trunks/{}", site.trunk_id), &change);
    call(&site);
    let updates = site.server.received("session.update");
    assert_eq!(updates[0]["session"]["instructions"], "Be kind to .");
    assert_eq!(updates[1]["session"]["instructions"], "Be brief.");
    let paths: Vec<String> = site.server.events("admitted").iter().map(|event| event["path"].to_string()).collect();
    assert!(paths[0].contains("model=gpt-realtime") && paths[1].contains("model=other-model"), "{paths:?}");
    let call = site.dial(json!({}));
    other_trunk.invited().refuses("486 Busy Here");
    assert_eq!(site.ended(&call)["status"], "busy");
    site.server.has_no_complaint();
}

#[test]
fn a_call_too_many_is_refused_with_the_reason() {
    for (settings, extra, code) in [
        ([("TALKSTACK__DIAL__MAX_CALLS", "10")], json!({ "max_channels": 1 }), "capacity"),
        ([("TALKSTACK__DIAL__MAX_CALLS", "1")], json!({}), "too_many_calls"),
        ([("TALKSTACK__DIAL__PER_MINUTE", "1")], json!({}), "too_many_calls"),
        ([("TALKSTACK__CALLS__MAX", "1")], json!({}), "capacity"),
    ] {
        let daemon = Daemon::serve(&settings);
        let client = Client::signed_up(&daemon, "me@example.com", 1);
        let trunk = TrunkPhone::new();
        add_trunk(&client, &trunk, extra);
        let (project, agent) = add_agent(&client, json!({ "phoneNumber": NUMBER }));
        let order = json!({ "number": "+15550000001", "projectId": project, "agentId": agent });
        client.post("/call/makeCall", &order);
        let (status, answer) = client.try_post("/call/makeCall", &order);
        assert_eq!((status, &answer["code"]), (429, &json!(code)), "{settings:?}: {answer}");
        trunk.invited().refuses("486 Busy Here");
        trunk.take("ACK ");
        if settings[0].0.ends_with("PER_MINUTE") {
            continue;
        }
        // It was never dialled, and the line is free for the next.
        wait_until("there is room for the next", || (client.try_post("/call/makeCall", &order).0 == 200).then_some(()));
        trunk.invited().refuses("486 Busy Here");
    }
}

#[test]
fn what_cannot_be_dialled_is_refused_with_a_code() {
    let daemon = Daemon::serve(&[]);
    let client = Client::signed_up(&daemon, "me@example.com", 1);
    let (project, agent) = add_agent(&client, json!({}));
    let dial = |number: &str| {
        let (status, answer) =
            client.try_post("/call/makeCall", &json!({ "number": number, "projectId": project, "agentId": agent }));
        assert_eq!(status, 400, "{answer}");
        answer["code"].as_str().expect("a code").to_owned()
    };
    assert_eq!(dial("+15550000001"), "agent_has_no_number");
    client.post("/phone-number/add-number", &json!({ "e164": NUMBER, "agentId": agent, "projectId": project }));
    assert_eq!(dial("+15550000001"), "no_trunk");
    let trunk = TrunkPhone::new();
    add_trunk(&client, &trunk, json!({ "numbers": ["+15559999999"], "default": false }));
    assert_eq!(dial("+15550000001"), "caller_id_not_owned");
    assert_eq!(dial("call me"), "invalid_number");
    for number in ["911", "112", "+1911", "+4915112345678"] {
        assert_eq!(dial(number), "destination_not_allowed", "{number}");
    }
}

#[test]
fn a_trunk_that_says_nothing_at_all_fails_the_call() {
    if std::env::var_os("TALKSTACK_LONG").is_none() {
        return;
    }
    let site = Site::new(&[], &[], json!({}));
    let began = SystemTime::now();
    let call = site.dial(json!({}));
    let is_open = || ["queued", "initiated"].map(Some).contains(&site.find(&call)["status"].as_str());
    // Five waits of eight seconds, which is more than 64·T1.
    let pause = || wait_until("eight seconds", || (!is_open() || seconds(began) % 8 == 7).then_some(()));
    let next = || wait_until("the eighth is over", || (!is_open() || seconds(began) % 8 != 7).then_some(()));
    for _ in 0..5 {
        pause();
        next();
    }
    let ended = site.find(&call);
    let waited = seconds(began);
    assert_eq!(ended["status"], "failed", "{ended}");
    assert_eq!(ended["outcome"], json!({ "blame": "trunk", "reason": "unreachable" }));
    assert!((31..36).contains(&waited), "{waited} s");
}

#[test]
fn only_trunks_are_answered_where_that_is_set() {
    let daemon = Daemon::serve(&[("TALKSTACK__SIP__ACCEPT", "trunks")]);
    let client = Client::signed_up(&daemon, "me@example.com", 1);
    assert!(!answers(&daemon, "127.0.0.1"), "nobody is a trunk");
    let trunk = client.create("/api/v1/trunks", &json!({ "name": "line", "host": "localhost" }));
    wait_until("the trunk is known", || answers(&daemon, "127.0.0.1").then_some(()));
    assert!(!answers(&daemon, "127.0.0.2"), "another address");
    let (status, _) =
        client.request("DELETE", &format!("/api/v1/trunks/{}", trunk["id"].as_str().expect("an id")), &Value::Null);
    assert_eq!(status, 204);
    wait_until("the trunk is gone", || (!answers(&daemon, "127.0.0.1")).then_some(()));
}

#[test]
fn a_trunk_may_be_a_name() {
    let site = Site::new(&[], &[], json!({}));
    site.client.patch(&format!("/api/v1/trunks/{}", site.trunk_id), &json!({ "host": "localhost" }));
    let call = site.dial(json!({}));
    let invited = site.trunk.invited();
    assert!(invited.text.starts_with("INVITE sip:+15550000001@localhost"), "{}", invited.text);
    invited.refuses("486 Busy Here");
    assert_eq!(site.ended(&call)["status"], "busy");
    site.client.patch(&format!("/api/v1/trunks/{}", site.trunk_id), &json!({ "host": "nobody.invalid" }));
    let ended = site.ended(&site.dial(json!({})));
    assert_eq!(ended["outcome"], json!({ "blame": "trunk", "reason": "unreachable" }), "{ended}");
}

#[test]
fn a_trunk_is_reached_at_an_address_of_either_family_that_the_box_has() {
    let both = Site::new(&[("TALKSTACK__SIP__LISTEN", "127.0.0.1:0,[::1]:0")], &[], json!({}));
    let v6 = TrunkPhone::at("[::1]:0");
    let trunk = format!("/api/v1/trunks/{}", both.trunk_id);
    both.client.patch(&trunk, &json!({ "host": "::1", "port": v6.address.port() }));
    let call = both.dial(json!({}));
    let invited = v6.invited();
    assert!(invited.text.starts_with("INVITE sip:+15550000001@[::1]:"), "{}", invited.text);
    assert!(
        invited.text.contains("Via: SIP/2.0/UDP [::1]:") && invited.text.contains("IN IP6 ::1"),
        "{}",
        invited.text
    );
    invited.refuses("486 Busy Here");
    assert_eq!(both.ended(&call)["status"], "busy");

    let v4_only = Site::new(&[], &[], json!({}));
    v4_only.client.patch(&format!("/api/v1/trunks/{}", v4_only.trunk_id), &json!({ "host": "::1" }));
    let ended = v4_only.ended(&v4_only.dial(json!({})));
    assert_eq!(ended["outcome"], json!({ "blame": "trunk", "reason": "unreachable" }), "at once, not after 32 s");
}

/// A call to an agent that echoes, and a marker in it.
fn marked_call() -> (Site, RtpPhone) {
    let site = Site::new(&[], &["--scenario", "echo"], json!({ "firstSpeaker": "caller" }));
    let mut phone = RtpPhone::call(site.daemon.sip(), DIGITS);
    phone.say(SILENCE, Duration::from_millis(1000));
    phone.say(LOUD, Duration::from_millis(200));
    phone.say_until(SILENCE, |phone| phone.heard.iter().any(|packet| is_code(&packet.payload, LOUD)));
    phone.say(SILENCE, Duration::from_millis(500));
    (site, phone)
}

/// A box that was set up by the API alone: its owner, provider, trunk, project, agent and number.
pub(crate) struct Site {
    pub(crate) client: Client,
    trunk: TrunkPhone,
    trunk_id: String,
    pub(crate) provider_id: String,
    project: String,
    agent: String,
    pub(crate) server: RealtimeServer,
    pub(crate) daemon: Daemon,
    _dir: TempDir,
}

impl Site {
    pub(crate) fn new(settings: &[(&str, &str)], flags: &[&str], agent: Value) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let server = RealtimeServer::start(dir.path(), &[&["--bearer", KEY], flags].concat());
        let daemon = Daemon::serve(settings);
        let client = Client::signed_up(&daemon, "me@example.com", 1);
        let provider = client.create(
            "/api/v1/providers",
            &json!({
                "name": "openai", "kind": "openai-realtime", "base_url": format!("ws://127.0.0.1:{}/v1", server.port),
                "model": "gpt-realtime", "api_key": KEY, "voices": ["marin", "cedar"],
            }),
        );
        assert!(!provider.to_string().contains(KEY), "{provider}");
        let provider_id = provider["id"].as_str().expect("an id").to_owned();
        let trunk = TrunkPhone::new();
        let trunk_id = add_trunk(&client, &trunk, json!({ "numbers": [NUMBER] }));
        let mut fields = json!({ "voice_id": "marin", "providerId": provider_id, "phoneNumber": NUMBER });
        fields.as_object_mut().expect("fields").extend(agent.as_object().cloned().unwrap_or_default());
        let (project, agent) = add_agent(&client, fields);
        Site { client, trunk, trunk_id, provider_id, project, agent, server, daemon, _dir: dir }
    }

    fn dial(&self, variables: Value) -> Value {
        let order = json!({
            "number": "+15550000001", "projectId": self.project, "agentId": self.agent, "dynamicVariables": variables,
        });
        self.client.post("/call/makeCall", &order)["call"].clone()
    }

    /// The receiver's secret.
    fn hook(&self, port: u16) -> String {
        let hook = json!({ "projectId": self.project, "webhookURL": format!("http://127.0.0.1:{port}/hook") });
        let answer = self.client.post("/project/call-status/add-webhookurl", &hook);
        answer["webhookSecret"].as_str().expect("a secret").to_owned()
    }

    pub(crate) fn latest_call(&self) -> Value {
        wait_until("there is a call", || {
            let history = self.client.post("/call/get-call-history", &json!({ "projectId": self.project }));
            history["data"].get(0).cloned()
        })
    }

    fn find(&self, call: &Value) -> Value {
        self.client.post("/call", &json!({ "sid": call["call_id"], "projectId": self.project }))
    }

    /// Waits until the call has the status.
    fn is(&self, call: &Value, status: &str) {
        wait_until(status, || (self.find(call)["status"] == status).then_some(()));
    }

    /// The call once it has ended.
    pub(crate) fn ended(&self, call: &Value) -> Value {
        wait_until("the call has ended", || {
            let found = self.find(call);
            let is_open = ["queued", "initiated", "ringing", "in-progress"].contains(&found["status"].as_str()?);
            (!is_open).then_some(found)
        })
    }

    /// The link to the recording of a call that ends.
    fn recording(&self, call: &Value) -> String {
        self.ended(call);
        wait_until("there is a recording", || Some(self.find(call)["recordingUrls"].get(0)?.as_str()?.to_owned()))
    }
}

fn add_trunk(client: &Client, phone: &TrunkPhone, extra: Value) -> String {
    let mut fields = json!({ "name": "line", "host": "127.0.0.1", "port": phone.address.port(), "default": true });
    fields.as_object_mut().expect("fields").extend(extra.as_object().cloned().unwrap_or_default());
    client.create("/api/v1/trunks", &fields)["id"].as_str().expect("an id").to_owned()
}

/// A project and an agent in it.
fn add_agent(client: &Client, extra: Value) -> (String, String) {
    let project = client.post("/project/create-project", &json!({ "name": "Clinic", "description": "" }));
    let project = project["data"]["id"].as_str().expect("an id").to_owned();
    let mut fields = json!({ "name": "Jack", "systemInstruction": "Be kind to {{name}}.", "projectId": project });
    fields.as_object_mut().expect("fields").extend(extra.as_object().cloned().unwrap_or_default());
    let agent = client.post("/agent/create-agent", &fields)["agentId"].as_str().expect("an id").to_owned();
    (project, agent)
}

/// Tells whether the box answers OPTIONS from this address.
fn answers(daemon: &Daemon, from: &str) -> bool {
    let socket = UdpSocket::bind((from, 0)).expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("set");
    let (local, box_) = (socket.local_addr().expect("bound"), daemon.sip());
    let text = format!(
        "OPTIONS sip:{box_} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{}\r\nMax-Forwards: 70\r\n\
         From: <sip:x@{local}>;tag=x\r\nTo: <sip:{box_}>\r\nCall-ID: {local}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
        local.port()
    );
    socket.send_to(text.as_bytes(), box_).expect("sent");
    socket.recv(&mut [0; 4096]).is_ok()
}

/// The left and the right track of a stereo WAV file.
fn tracks(wav: &[u8]) -> (Vec<i16>, Vec<i16>) {
    let sample = |pair: &[u8], at: usize| i16::from_le_bytes([pair[at], pair[at + 1]]);
    wav[44..].chunks_exact(4).map(|pair| (sample(pair, 0), sample(pair, 2))).unzip()
}

/// When the marker begins, in milliseconds.
fn first_ms(samples: &[i16]) -> i64 {
    let mut marker = Vec::new();
    Codec::Pcmu.decode(&[LOUD, LOUD | 0x80], &mut marker);
    let is_marker = |window: &[i16]| window.iter().all(|sample| marker.contains(sample));
    samples.windows(80).position(is_marker).expect("the marker is there") as i64 / 8
}

/// How many packets of the tone of the server's response the phone has heard.
fn tones(phone: &RtpPhone, response: u8) -> usize {
    phone.heard.iter().filter(|packet| is_tone(&packet.payload, response)).count()
}

fn is_tone(payload: &[u8], response: u8) -> bool {
    is_code(payload, 0x20 + response)
}

fn is_code(payload: &[u8], code: u8) -> bool {
    codes(payload, code) * 2 > payload.len()
}

fn codes(payload: &[u8], code: u8) -> usize {
    payload.iter().filter(|byte| **byte & 0x7f == code & 0x7f).count()
}

fn seconds(since: SystemTime) -> u64 {
    since.elapsed().expect("later").as_secs()
}

fn ms(from: SystemTime, to: SystemTime) -> i64 {
    to.duration_since(from)
        .map_or_else(|error| -(error.duration().as_millis() as i64), |later| later.as_millis() as i64)
}

/// When the server noted something.
fn at(event: &Value) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs_f64(event["at"].as_f64().expect("a time"))
}

const NUMBER: &str = "+15551234567";

pub(crate) const DIGITS: &str = "15551234567";

const KEY: &str = "sk-test-1234567890";

/// µ-law for nothing.
pub(crate) const SILENCE: u8 = 0xff;

/// µ-law for a voice; no tone of the server's.
const LOUD: u8 = 0x30;
