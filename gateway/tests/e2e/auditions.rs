//! Providers and voices tried out over the whole box, without a call; and bots of Twilio's that hang up and transfer by its
//! REST API, as its own client asks for it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use talkstack_control::port::{AuditionOrder, Command as PlaneCommand, CommandReply, ProviderKind, ProviderRoute};

use crate::daemon::{Daemon, talkstack, wait_until};
use crate::flows::{DIGITS, SILENCE, Site};
use crate::http::download;
use crate::rtp_phone::RtpPhone;
use crate::sipp::Sipp;
use crate::survival::ScriptedControl;

#[test]
fn a_provider_is_tested_and_its_own_error_is_shown() {
    let site = Site::new(&[], &["--seconds", "0.4"], json!({}));
    let (text, is_ok) = test_provider(&site);
    assert!(is_ok && text.ends_with("All is well.\n"), "{text}");
    for step in ["connect", "session", "greeting", "answer"] {
        assert!(text.lines().any(|line| line.starts_with("ok") && line.contains(step)), "{step} in\n{text}");
    }
    site.client.patch(&format!("/api/v1/providers/{}", site.provider_id), &json!({ "api_key": "another" }));
    let (text, is_ok) = test_provider(&site);
    assert!(!is_ok && text.contains("FAULT  connect") && text.contains("HTTP 401"), "{text}");
    site.server.has_no_complaint();
}

#[test]
fn what_any_service_refuses_at_its_door_is_told_with_its_status() {
    let dir = tempfile::tempdir().expect("a directory");
    let _daemon = Daemon::start("calls", dir.path(), &[]);
    let mut control = ScriptedControl::connect(dir.path());
    for status in ["401 Unauthorized", "404 Not Found", "429 Too Many Requests"] {
        let port = closed_door(status);
        // Behind a cascade and a bare port is no WebSocket.
        let without = [ProviderKind::Cascade, ProviderKind::AudioSocket];
        for kind in ProviderKind::ALL.into_iter().filter(|kind| !without.contains(kind)) {
            let mut provider = ProviderRoute::new(kind, &format!("ws://127.0.0.1:{port}"), "m");
            provider.settings.agent = (kind == ProviderKind::ElevenLabs).then(|| "a".into());
            let order = AuditionOrder { provider, voice: None, says: "Hello.".into(), is_asked: true };
            let reply = control.ask(&format!("{kind} {status}"), PlaneCommand::Audition(Box::new(order)));
            let CommandReply::Auditioned(audition) = reply else { panic!("{kind}: {reply:?}") };
            let [step] = audition.steps.as_slice() else { panic!("{kind}: {:?}", audition.steps) };
            assert_eq!(
                (step.step.as_str(), step.is_ok, step.fault.as_deref()),
                ("connect", Some(false), Some("unreachable"))
            );
            assert!(
                step.found.ends_with(&format!("the agent answered HTTP {}", &status[..3])),
                "{kind}: {}",
                step.found
            );
        }
    }
}

#[test]
fn a_provider_has_no_more_sessions_than_its_owner_lets_it() {
    let site = Site::new(&[], &["--seconds", "0.2"], json!({ "refuseWith": 486 }));
    site.client.patch(&format!("/api/v1/providers/{}", site.provider_id), &json!({ "max_sessions": 1 }));
    let mut first = RtpPhone::call(site.daemon.sip(), DIGITS);
    first.say(SILENCE, Duration::from_millis(300));
    Sipp::new(site.daemon.sip(), "refused").dialling(DIGITS).succeeds();
    first.hang_up();
    wait_until("the place comes back", || (site.server.events("closed").len() == 1).then_some(()));
    RtpPhone::call(site.daemon.sip(), DIGITS).hang_up();
}

#[test]
fn a_voice_is_heard_from_its_link() {
    let site = Site::new(&[], &["--seconds", "0.4"], json!({}));
    let voices = site.client.get("/voices");
    let marin = &voices["voices"][0];
    assert_eq!(marin["voice_id"], "marin");
    let (status, _, wav) = download(marin["preview_url"].as_str().expect("a link"), None);
    assert_eq!((status, &wav[..4]), (200, &b"RIFF"[..]));
    let loud = wav[44..].as_chunks::<2>().0.iter().filter(|sample| i16::from_le_bytes(**sample).unsigned_abs() > 0);
    assert!(loud.count() > 1000, "the tone, of 1,600 samples");
    let updates = site.server.received("session.update");
    assert_eq!(updates[0]["session"]["audio"]["output"]["voice"], "marin");
    download(marin["preview_url"].as_str().expect("a link"), None);
    assert_eq!(site.server.received("session.update").len(), 1, "it is kept");
}

#[test]
fn twilio_s_own_client_reads_transfers_and_hangs_up_a_call() {
    let key = |site: &Site| site.client.get("/user/generate-apikey")["apiKey"].as_str().expect("a key").to_owned();
    let site = Site::new(&[], &["--seconds", "0.4"], json!({}));
    let mut phone = RtpPhone::call(site.daemon.sip(), DIGITS);
    phone.say(SILENCE, Duration::from_millis(600));
    let (call, key) = (site.latest_call(), key(&site));
    let sid = call["call_id"].as_str().expect("an id").to_owned();
    let Some(read) = ask_by_twilio_s_client(&site, &key, &sid, &["fetch"]) else { return };
    assert_eq!(
        (&read["status"], &read["direction"], &read["sid"]),
        (&json!("in-progress"), &json!("inbound"), &json!(sid))
    );
    let refused = ask_by_twilio_s_client(&site, "wrong", &sid, &["fetch"]).expect("the client is there");
    assert_eq!(refused, json!({ "status": 401, "code": 20003 }));
    let transfer = ask_by_twilio_s_client(&site, &key, &sid, &["twiml", "<Response><Dial>echo</Dial></Response>"]);
    assert_eq!(transfer.expect("the client is there")["status"], "in-progress");
    // The agent is let go, and the caller hears themselves.
    wait_until("the agent is gone", || site.server.events("closed").first().cloned());
    let own = |phone: &RtpPhone| phone.heard.iter().filter(|packet| packet.payload.contains(&WORD)).count();
    phone.say_until(WORD, |phone| own(phone) >= 20);
    let done = ask_by_twilio_s_client(&site, &key, &sid, &["completed"]).expect("the client is there");
    assert_eq!(done["sid"], json!(sid));
    site.ended(&call);
    let gone = ask_by_twilio_s_client(&site, &key, &sid, &["completed"]).expect("the client is there");
    assert_eq!(gone, json!({ "status": 404, "code": 20404 }), "as bots expect of a call that has ended");
}

/// A server that answers every request with this status, until the test's process ends.
fn closed_door(status: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut asked, mut buffer) = (Vec::new(), [0; 4096]);
            while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(bytes @ 1..) => asked.extend_from_slice(&buffer[..bytes]),
                    _ => break,
                }
            }
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}");
            // Who is gone wants no answer. The rest of the request is read, so that the kernel does not reset it.
            let _ = stream.write_all(answer.as_bytes());
            let _ = stream.shutdown(Shutdown::Write);
            while matches!(stream.read(&mut buffer), Ok(1..)) {}
        }
    });
    port
}

/// `talkstack provider test`, and whether all is well.
fn test_provider(site: &Site) -> (String, bool) {
    let output = talkstack(&site.daemon.dir).args(["provider", "test", "openai"]).output().expect("it runs");
    let is_ok = match output.status.code() {
        Some(0) => true,
        Some(7) => false,
        code => panic!("{code:?}: {}", String::from_utf8_lossy(&output.stderr)),
    };
    (String::from_utf8(output.stdout).expect("text"), is_ok)
}

/// What the client gets, or the status and code of its exception; `None` where it is not installed.
fn ask_by_twilio_s_client(site: &Site, key: &str, sid: &str, asks: &[&str]) -> Option<Value> {
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers/hosted/bin/python");
    if !python.exists() {
        eprintln!("skipped: {} is not there (gateway/tests/run installs it)", python.display());
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/hosted/sdk/with_twilio.py");
    let base = format!("http://{}", site.daemon.http.expect("serves HTTP"));
    let output =
        Command::new(python).arg("-B").arg(script).args([&base, key, sid]).args(asks).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    Some(serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr))))
}

/// A loud code of µ-law that neither the agent nor the attendant's prompts are made of alone.
const WORD: u8 = 0x35;
