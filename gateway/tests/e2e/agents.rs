//! Voice agents behind OpenAI's Realtime protocol, as callers meet them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use talkstack_control::port::{
    AgentRoute, Blame, CallEvent, EndReason, Outcome, ProviderKind, ProviderRoute, Speaker, TransferTarget, Utterance,
};
use talkstack_control::secret::Secret;
use talkstack_media::codec::Codec;
use tempfile::TempDir;

use crate::daemon::{Daemon, wait_until};
use crate::phones::{Baresip, prompt};
use crate::realtime::RealtimeServer;
use crate::rtp_phone::RtpPhone;
use crate::signal::best_match;
use crate::survival::ScriptedControl;

#[test]
fn the_caller_s_words_reach_the_agent_and_the_agent_s_the_caller() {
    let dir = tempfile::tempdir().expect("a directory");
    let greeting = &prompt("en/greeting")[..20_000];
    let say = dir.path().join("say.raw");
    let mut coded = Vec::new();
    Codec::Pcmu.encode(greeting, &mut coded);
    std::fs::write(&say, coded).expect("written");
    let bench = Bench::start(dir, &["--say", say.to_str().expect("text")], "ws", &[]);
    let words = &prompt("en/goodbye")[..16_000];
    let phone = Baresip::calling(bench.daemon.sip(), NUMBER, words);
    wait_until("the answer to the words has been heard", || {
        (phone.heard_so_far() > words.len() + greeting.len() + 8000).then_some(())
    });
    let heard = phone.hang_up();
    let (_, score) = best_match(&bench.server.heard(), &words[2000..8000]);
    assert!(score >= 0.9, "the caller's words match with {score:.3}");
    let (first, score) = best_match(&heard, &greeting[..8000]);
    assert!(score >= 0.9, "the agent's first second matches with {score:.3}");
    let (second, score) = best_match(&heard, &greeting[8000..16_000]);
    assert!(score >= 0.9, "its second one matches with {score:.3}");
    assert_eq!(second - first, 8000, "no sample was lost or doubled in between");
    let update = bench.server.received("session.update").remove(0);
    assert_eq!(update["session"]["instructions"], "Be kind to .");
    assert_eq!(update["session"]["audio"]["output"]["voice"], "marin");
    bench.server.has_no_complaint();
}

#[test]
fn an_interrupted_agent_falls_silent_at_once_and_is_told_what_was_heard() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::start(dir, &["--scenario", "interrupt", "--bearer", KEY], "ws", &[]);
    let mut phone = RtpPhone::call(bench.daemon.sip(), NUMBER);
    assert_eq!(phone.statuses, ["100", "180", "200"]);
    phone.say(SILENCE, Duration::from_millis(1500));
    phone.say(LOUD, Duration::from_millis(800));
    let second = |packet: &crate::rtp_phone::Packet| is_tone(&packet.payload, 2);
    phone.say_until(SILENCE, |phone| phone.heard.iter().filter(|packet| second(packet)).count() > 75);
    let spoken = &bench.server.events("spoken")[0];
    assert!(spoken["seconds"].as_f64().expect("a time") < 0.5, "far faster than real time: {spoken}");
    let flushed_at = at(&bench.server.wait_for("speech_started"));
    let first: Vec<_> = phone.heard.iter().filter(|packet| is_tone(&packet.payload, 1)).collect();
    let truncated = bench.server.received("conversation.item.truncate");
    assert_eq!(truncated.len(), 1, "{truncated:?}");
    assert_eq!(truncated[0]["item_id"], "item_1");
    let told = truncated[0]["audio_end_ms"].as_i64().expect("milliseconds");
    let counted = first.len() as i64 * 20;
    assert!((told - counted).abs() <= 20, "told {told} ms, {counted} ms came");
    let late = first.last().expect("packets").at.duration_since(flushed_at).unwrap_or_default();
    assert!(late <= Duration::from_millis(40), "a packet came {late:?} after the flush");
    phone.hang_up();
    let said = bench.said_until_end();
    let texts: Vec<_> = said.iter().map(|said| (said.speaker, &*said.text)).collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!("Agent turn 1 has seven words here.".starts_with(texts[0].1) && texts[0].1.len() < 20, "{texts:?}");
    assert_eq!(texts[1], (Speaker::Caller, "Caller turn 1."));
    assert_eq!(texts[2].0, Speaker::Agent);
    assert!(said[0].at_ms < said[1].at_ms && said[1].at_ms < said[2].at_ms, "{said:?}");
    assert!((1000..2000).contains(&said[1].at_ms), "{said:?}");
    bench.server.has_no_complaint();
    assert!(!bench.log().contains(KEY), "the key is in the log");
}

#[test]
fn an_agent_behind_tls_is_trusted_by_its_certificate_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let tls = TestCa::make(dir.path());
    let flags = ["--cert", &tls.cert, "--key", &tls.key, "--bearer", KEY];
    let bench = Bench::start(dir, &flags, "wss", &[("SSL_CERT_FILE", &tls.ca)]);
    let mut phone = RtpPhone::call(bench.daemon.sip(), NUMBER);
    phone.say(LOUD, Duration::from_millis(400));
    phone.say_until(SILENCE, |phone| phone.heard.iter().any(|packet| is_tone(&packet.payload, 2)));
    wait_until("the agent hears", || (bench.server.heard().len() > 8000).then_some(()));
    phone.hang_up();
    let closed = bench.server.wait_for("closed");
    assert_eq!(closed["code"], 1000);
    bench.server.has_no_complaint();
}

#[test]
fn a_certificate_of_nobody_s_leaves_the_call_to_the_attendant() {
    let dir = tempfile::tempdir().expect("a directory");
    let tls = TestCa::make(dir.path());
    let bench = Bench::start(dir, &["--cert", &tls.cert, "--key", &tls.key], "wss", &[]);
    bench.attendant_answers();
    assert!(bench.server.events("admitted").is_empty());
}

#[test]
fn a_key_that_the_agent_s_server_refuses_leaves_the_call_to_the_attendant() {
    let dir = tempfile::tempdir().expect("a directory");
    let bench = Bench::start(dir, &["--bearer", "another"], "ws", &[]);
    bench.attendant_answers();
    assert_eq!(bench.server.events("unauthorized").len(), 1);
    assert!(bench.log().contains("401") && !bench.log().contains(KEY), "{}", bench.log());
}

#[test]
fn an_agent_that_dies_in_mid_call_is_replaced_with_an_apology_and_the_call_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::start(dir, &[], "ws", &[]);
    let mut phone = RtpPhone::call(bench.daemon.sip(), NUMBER);
    phone.say_until(SILENCE, |phone| phone.heard.iter().filter(|packet| is_tone(&packet.payload, 1)).count() > 40);
    bench.server.kill();
    let killed_at = SystemTime::now();
    phone.say(SILENCE, Duration::from_millis(3500));
    let heard = phone.samples_since(killed_at);
    let (begin, score) = best_match(&heard, &prompt("en/apology")[..8000]);
    assert!(score >= 0.9, "the apology matches with {score:.3}");
    let begin = phone.time_of(killed_at, begin).duration_since(killed_at).expect("later");
    assert!(begin <= Duration::from_millis(1500), "it began {begin:?} after the end");
    assert!(!phone.was_hung_up, "no BYE");
    phone.hang_up();
    assert_eq!(bench.said_until_end().len(), 1, "what the agent had said until then");
}

#[test]
fn an_agent_that_never_gets_ready_lets_the_caller_in_after_3_s_and_the_attendant_speak_after_8() {
    let dir = tempfile::tempdir().expect("a directory");
    let bench = Bench::start(dir, &["--scenario", "silent"], "ws", &[]);
    let mut phone = RtpPhone::call(bench.daemon.sip(), NUMBER);
    let rang = phone.answered_at.duration_since(phone.invited_at).expect("later");
    assert!((2900..3300).contains(&rang.as_millis()), "answered after {rang:?}");
    phone.say(SILENCE, Duration::from_millis(4500));
    let noise = phone.samples_since(phone.answered_at);
    assert!(noise.len() > 4 * 8000, "{} samples of comfort noise", noise.len());
    assert!(noise.iter().all(|sample| sample.abs() < 1000) && noise.iter().any(|sample| *sample != 0));
    phone.say(SILENCE, Duration::from_millis(1800));
    let heard = phone.samples_since(phone.answered_at);
    let (begin, score) = best_match(&heard[30_000..], &prompt("en/apology")[..4000]);
    let begin = phone.time_of(phone.answered_at, begin + 30_000).duration_since(phone.invited_at).expect("later");
    assert!(score >= 0.9, "the apology matches with {score:.3}");
    assert!((7900..8400).contains(&begin.as_millis()), "the attendant spoke after {begin:?}");
    assert!(!phone.was_hung_up);
}

#[test]
fn a_function_that_is_not_there_is_answered_and_the_agent_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let bench = Bench::start(dir, &["--scenario", "tool", "--seconds", "0.5"], "ws", &[]);
    let mut phone = RtpPhone::call(bench.daemon.sip(), NUMBER);
    phone.say_until(SILENCE, |phone| phone.heard.iter().any(|packet| is_tone(&packet.payload, 2)));
    let items = bench.server.received("conversation.item.create");
    assert_eq!(items.len(), 1, "{items:?}");
    assert_eq!(items[0]["item"]["type"], "function_call_output");
    assert!(bench.server.events("refusal").is_empty(), "a response was asked for while another was going on");
    bench.server.has_no_complaint();
}

#[test]
fn an_agent_that_ends_the_call_is_heard_to_its_last_word() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::start(dir, &["--scenario", "goodbye", "--seconds", "1"], "ws", &[]);
    let mut phone = RtpPhone::call(bench.daemon.sip(), NUMBER);
    phone.say_until(SILENCE, |phone| phone.was_hung_up);
    let is_word = |code: &&u8| [0x21, 0xa1].contains(*code);
    let heard: usize = phone.heard.iter().map(|packet| packet.payload.iter().filter(is_word).count()).sum();
    assert_eq!(heard, 8000, "the whole second");
    let tools = bench.server.received("session.update").remove(0)["session"]["tools"].clone();
    let names: Vec<_> = tools.as_array().expect("a list").iter().map(|tool| tool["name"].as_str()).collect();
    assert_eq!(names, [Some("end_call"), Some("send_dtmf"), Some("transfer")]);
    assert_eq!(bench.server.received("response.create").len(), 1, "the greeting was the goodbye");
    let outcome = bench.control.wait_for_event(|event| match event {
        CallEvent::Ended { outcome } => Some(outcome),
        _ => None,
    });
    assert_eq!(outcome, Outcome::new(Blame::Agent, EndReason::HungUp));
    bench.server.has_no_complaint();
}

#[test]
fn an_agent_puts_its_caller_through_to_whom_its_owner_has_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let bench = Bench::start(dir, &["--scenario", "transfer", "--seconds", "0.5"], "ws", &[]);
    let mut phone = RtpPhone::call(bench.daemon.sip(), NUMBER);
    phone.say(SILENCE, Duration::from_millis(1500));
    let own = |phone: &RtpPhone| phone.heard.iter().filter(|packet| packet.payload.contains(&LOUD)).count();
    phone.say_until(LOUD, |phone| own(phone) >= 20);
    phone.hang_up();
    assert!(bench.server.received("conversation.item.create").is_empty(), "there was nothing to be told");
    let tools = &bench.server.received("session.update").remove(0)["session"]["tools"];
    assert_eq!(
        tools[2]["parameters"]["properties"]["to"]["enum"],
        serde_json::json!(["Reception", "Nobody"]),
        "no number"
    );
    bench.server.has_no_complaint();
}

#[test]
fn an_agent_whose_caller_cannot_be_put_through_is_told_so_and_talks_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let bench = Bench::start(dir, &["--scenario", "nobody", "--seconds", "0.5"], "ws", &[]);
    let mut phone = RtpPhone::call(bench.daemon.sip(), NUMBER);
    phone.say_until(SILENCE, |phone| phone.heard.iter().any(|packet| is_tone(&packet.payload, 2)));
    let items = bench.server.received("conversation.item.create");
    assert_eq!(items.len(), 1, "{items:?}");
    let output = items[0]["item"]["output"].as_str().expect("a text");
    assert!(output.contains("They cannot be reached"), "{output}");
    phone.hang_up();
    bench.server.has_no_complaint();
}

#[test]
fn an_alaw_line_is_carried_byte_for_byte() {
    let dir = tempfile::tempdir().expect("a directory");
    let bench = Bench::start(dir, &["--seconds", "1"], "ws", &[]);
    let mut phone = RtpPhone::call_over(bench.daemon.sip(), NUMBER, Codec::Pcma);
    // A-law for a murmur that interrupts nobody.
    let murmur = 0x54;
    phone.say_until(murmur, |phone| phone.heard.iter().filter(|packet| is_tone(&packet.payload, 1)).count() >= 30);
    let update = bench.server.received("session.update").remove(0);
    for side in ["input", "output"] {
        assert_eq!(update["session"]["audio"][side]["format"], serde_json::json!({ "type": "audio/pcma" }));
    }
    let said: Vec<u8> = [murmur, murmur | 0x80].repeat(400);
    wait_until("five frames are heard as they were said", || {
        let heard = bench.server.heard_bytes();
        heard.windows(said.len()).any(|window| window == said).then_some(())
    });
    bench.server.has_no_complaint();
}

#[test]
fn the_strict_server_is_strict() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = RealtimeServer::start(dir.path(), &["--bearer", KEY, "--scenario", "interrupt"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/realtime_misuse.py");
    let port = server.port.to_string();
    let output =
        Command::new("/usr/bin/python3").arg(script).args([&*port, KEY]).output().expect("python3 is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let violations = server.events("violation");
    let noted: Vec<_> = violations.iter().map(|event| event["what"].as_str().unwrap_or_default()).collect();
    let expected = [
        "the OpenAI-Beta header",
        "audio before session.updated",
        "session.type is missing",
        "unknown key session.update.session.temperature",
        "unknown key session.update.session.audio.output.colour",
        "input rate 8000",
        "audio_end_ms 100000 of 3500.0",
    ];
    assert_eq!(noted[..expected.len()], expected);
    wait_until("the last is noted", || (server.events("violation").len() > expected.len()).then_some(()));
    assert_eq!(server.events("violation")[expected.len()]["what"], "event output_audio_buffer.clear");
    assert_eq!(server.events("refusal")[0]["code"], "conversation_already_has_active_response");
    assert_eq!(server.events("unauthorized").len(), 2);
}

/// A call plane, its control, and a server that is its agent's.
pub(crate) struct Bench {
    pub(crate) server: RealtimeServer,
    pub(crate) control: ScriptedControl,
    pub(crate) daemon: Daemon,
    dir: TempDir,
}

impl Bench {
    fn start(dir: TempDir, flags: &[&str], scheme: &str, settings: &[(&str, &str)]) -> Self {
        Bench::of(dir, flags, scheme, settings, |_, _| {})
    }

    /// The same with an agent that is made another one, with the box's secret.
    pub(crate) fn of(
        dir: TempDir,
        flags: &[&str],
        scheme: &str,
        settings: &[(&str, &str)],
        change: impl FnOnce(&mut AgentRoute, &Secret),
    ) -> Self {
        let server = RealtimeServer::start(dir.path(), flags);
        let daemon = Daemon::start("calls", dir.path(), settings);
        let mut control = ScriptedControl::connect(dir.path());
        let secret = Secret::open(&dir.path().join("secret.key")).expect("a secret");
        let mut agent = AgentRoute {
            system_instruction: "Be kind to {{name}}.".into(),
            voice_id: Some("marin".into()),
            transfers: [("Reception", "echo"), ("Nobody", "999")]
                .map(|(name, to)| TransferTarget { name: name.into(), to: to.into() })
                .into(),
            provider: Some(ProviderRoute {
                api_key: Some(secret.seal("provider api key", KEY)),
                ..ProviderRoute::new(
                    ProviderKind::OpenAiRealtime,
                    &format!("{scheme}://localhost:{}/v1", server.port),
                    "gpt-realtime",
                )
            }),
            ..AgentRoute::new("project", "Jack")
        };
        change(&mut agent, &secret);
        control.route_agent(NUMBER, agent);
        let applied = dir.path().join("calls/snapshot");
        wait_until("the number is known", || applied.exists().then_some(()));
        Bench { server, control, daemon, dir }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("calls.log")).expect("a log")
    }

    /// The caller hears the attendant's apology at once.
    fn attendant_answers(&self) {
        let mut phone = RtpPhone::call(self.daemon.sip(), NUMBER);
        phone.say(SILENCE, Duration::from_millis(1800));
        let (begin, score) = best_match(&phone.samples_since(phone.answered_at), &prompt("en/apology")[..8000]);
        assert!(score >= 0.9, "the apology matches with {score:.3}");
        assert!(begin < 4000, "it began {} ms after the answer", begin / 8);
        phone.hang_up();
    }

    /// What was said, once the caller has hung up.
    fn said_until_end(&mut self) -> Vec<Utterance> {
        let mut said = Vec::new();
        let outcome = self.control.wait_for_event(|event| match event {
            CallEvent::Said(utterance) => {
                said.push(utterance);
                None
            }
            CallEvent::Ended { outcome } => Some(outcome),
            _ => None,
        });
        assert_eq!(outcome, Outcome::new(Blame::Caller, EndReason::HungUp));
        said
    }
}

/// A certificate authority for one test, and a server's certificate that it signed.
pub(crate) struct TestCa {
    pub(crate) ca: String,
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl TestCa {
    pub(crate) fn make(dir: &Path) -> Self {
        let path = |name: &str| dir.join(name).to_str().expect("text").to_owned();
        let made = TestCa { ca: path("ca.pem"), cert: path("server.pem"), key: path("server.key") };
        let (ca_key, request) = (path("ca.key"), path("server.csr"));
        let extensions = path("server.ext");
        std::fs::write(PathBuf::from(&extensions), "subjectAltName=DNS:localhost\n").expect("written");
        let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let ca = ["-x509", "-days", "2", "-subj", "/CN=Test CA", "-keyout", &ca_key, "-out", &made.ca];
        openssl(&[&["req"], &new_key[..], &ca].concat());
        openssl(
            &[&["req"], &new_key[..], &["-subj", "/CN=localhost", "-keyout", &made.key, "-out", &request]].concat(),
        );
        let sign = ["x509", "-req", "-days", "2", "-in", &request, "-CA", &made.ca, "-CAkey", &ca_key];
        openssl(&[&sign[..], &["-CAcreateserial", "-extfile", &extensions, "-out", &made.cert]].concat());
        made
    }
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Tells whether a packet carries the tone of the server's response.
fn is_tone(payload: &[u8], response: u8) -> bool {
    let count = payload.iter().filter(|byte| **byte & 0x7f == 0x20 + response).count();
    count * 2 > payload.len()
}

/// When the server noted something.
fn at(event: &serde_json::Value) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs_f64(event["at"].as_f64().expect("a time"))
}

pub(crate) const NUMBER: &str = "15551234567";

const KEY: &str = "sk-test-1234567890";

/// µ-law for nothing.
pub(crate) const SILENCE: u8 = 0xff;

/// µ-law for a voice.
const LOUD: u8 = 0x30;
