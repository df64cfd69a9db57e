//! The box plays Asterisk to agents made for its AudioSocket and for its WebSocket channel, and takes calls by both. The agents
//! are made with libraries by others; `tests/run` installs those, and without them these tests are skipped, and say so.

mod lines;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use talkstack_control::port::{AgentRoute, Blame, CallEvent, EndReason, Outcome, ProviderKind, ProviderRoute};
use tempfile::TempDir;

use crate::daemon::{Daemon, wait_until};
use crate::phones::prompt;
use crate::rtp_phone::{Packet, RtpPhone};
use crate::signal::best_match;
use crate::survival::ScriptedControl;

#[test]
fn an_audiosocket_agent_greets_is_interrupted_hears_answers_and_learns_of_the_end() {
    let Some(bot) = Bot::audiosocket("talk") else { return };
    let bench = Bench::start(ProviderKind::AudioSocket, &format!("tcp://127.0.0.1:{}", bot.port), |_| {});
    let mut phone = RtpPhone::call(bench.daemon.sip(), NUMBER);
    phone.say_until(SILENCE, |phone| phone.count(GREETING) >= 15);
    phone.say_until(WORD, |phone| phone.count(WORD) >= 20);
    assert!(phone.count(GREETING) < 50, "{} packets of the greeting, which has 50", phone.count(GREETING));
    assert_eq!(bot.events("interrupted").len(), 1);
    let ids = bot.events("id");
    let uuid = ids[0]["uuid"].as_str().expect("a text");
    let (begin, end) = (&uuid[..8], &uuid[24..]);
    let is_named = |word: &str| word.contains(&format!("CA{begin}")) && word.ends_with(end);
    assert!(bench.log().split_whitespace().any(is_named), "the id is the call's: {uuid}");
    assert_eq!(bot.events("audio").iter().map(|event| event["bytes"].as_u64()).collect::<Vec<_>>(), [Some(320)]);
    phone.hang_up();
    bot.wait_for("hangup");
    assert!(bot.events("error").is_empty(), "{:?}", bot.events("error"));
}

#[test]
fn an_audiosocket_agent_is_told_of_keys_where_it_knows_them_and_hangs_up() {
    let Some(bot) = Bot::audiosocket("talk") else { return };
    let url = format!("tcp://127.0.0.1:{}", bot.port);
    let mut bench = Bench::start(ProviderKind::AudioSocket, &url, |_| {});
    let mut phone = RtpPhone::call(bench.daemon.sip(), NUMBER);
    phone.say_until(SILENCE, |phone| phone.count(GREETING) >= 5);
    phone.inform(2, "application/dtmf-relay", "Signal=*\r\nDuration=160\r\n");
    phone.say_until(SILENCE, |phone| phone.was_hung_up);
    assert_eq!(bench.outcome(), Outcome::new(Blame::Agent, EndReason::HungUp));
    drop(bench);

    let bench = Bench::start(ProviderKind::AudioSocket, &url, |provider| provider.settings.dtmf = Some(false));
    let mut phone = RtpPhone::call(bench.daemon.sip(), NUMBER);
    phone.say_until(SILENCE, |phone| phone.count(GREETING) >= 5);
    phone.inform(2, "application/dtmf-relay", "Signal=*\r\nDuration=160\r\n");
    phone.say_until(SILENCE, |phone| phone.count(GREETING) >= 40);
    assert_eq!(bot.events("error").len(), 1, "of the first call alone");
    phone.hang_up();
    wait_until("the agent knows", || (bot.events("hangup").len() == 2).then_some(()));
}

#[test]
fn nine_minutes_of_speech_in_a_second_are_said_one_by_one() {
    let Some(bot) = Bot::audiosocket("flood") else { return };
    let mut bench = Bench::start(ProviderKind::AudioSocket, &format!("tcp://127.0.0.1:{}", bot.port), |_| {});
    let mut phone = RtpPhone::call(bench.daemon.sip(), NUMBER);
    phone.say(SILENCE, Duration::from_secs(2));
    let speech: Vec<_> = phone.heard.iter().filter(|packet| is(packet, GREETING)).collect();
    let (first, last) = (speech.first().expect("speech"), speech.last().expect("speech"));
    let took = last.at.duration_since(first.at).expect("later").as_millis();
    let wanted = 20 * (speech.len() as u128 - 1);
    assert!(speech.len() >= 30 && took + 100 >= wanted, "{} packets of speech in {took} ms", speech.len());
    phone.hang_up();
    assert_eq!(bench.outcome(), Outcome::new(Blame::Caller, EndReason::HungUp));
}

#[test]
fn an_agent_s_port_that_is_closed_leaves_the_call_to_the_attendant() {
    for (kind, scheme) in [(ProviderKind::AudioSocket, "tcp"), (ProviderKind::AsteriskWebSocket, "ws")] {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let bench = Bench::start(kind, &format!("{scheme}://127.0.0.1:{port}"), |_| {});
        bench.attendant_answers();
    }
}

#[test]
fn an_audiosocket_server_that_speaks_nonsense_or_drops_the_call_harms_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("tcp://{}", listener.local_addr().expect("bound"));
    let server = std::thread::spawn(move || {
        // Bytes of every kind; then one that closes without a word.
        let (mut stream, _) = listener.accept().expect("a call");
        let mut state = 7u32;
        let nonsense: Vec<u8> = (0..1 << 20)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let _ = stream.write_all(&nonsense);
        drop(stream);
        let (mut stream, _) = listener.accept().expect("another call");
        let _ = stream.read(&mut [0; 19]);
    });
    let bench = Bench::start(ProviderKind::AudioSocket, &url, |_| {});
    let mut phone = RtpPhone::call(bench.daemon.sip(), NUMBER);
    phone.say(SILENCE, Duration::from_millis(500));
    if !phone.was_hung_up {
        phone.hang_up();
    }
    bench.attendant_answers();
    server.join().expect("both calls came");
}

#[test]
fn an_agent_behind_asterisk_s_websocket_channel_talks_flushes_and_says_goodbye() {
    let Some(bot) = Bot::chan_websocket() else { return };
    let url = format!("ws://127.0.0.1:{}/media", bot.port);
    let mut bench = Bench::start(ProviderKind::AsteriskWebSocket, &url, |provider| {
        provider.settings.parameters.insert("shop".into(), "7".into());
    });
    let mut phone = RtpPhone::call(bench.daemon.sip(), NUMBER);
    phone.say_until(SILENCE, |phone| phone.count(GREETING) >= 50);
    let greeted = bot.wait_for("greeted");
    let last = phone.heard.iter().rfind(|packet| is(packet, GREETING)).expect("a greeting").at;
    let late = greeted["at"].as_f64().expect("a time") - seconds(last);
    assert!((-0.03..0.2).contains(&late), "the mark came {late} s after the last packet");
    let start = bot.wait_for("start");
    assert_eq!((&start["format"], &start["frame"], &start["ptime"]), (&"ulaw".into(), &160.into(), &20.into()));
    assert_eq!((&start["path"], &start["protocol"]), (&"/media?shop=7".into(), &"media".into()));
    assert_eq!(start["variables"]["to_number"], format!("+{NUMBER}"));
    assert_eq!(start["variables"]["shop"], "7");
    // Ten times as much as it hears comes back; at the key it forgets what waits.
    phone.say_until(WORD, |phone| phone.count(WORD) >= 60);
    assert_eq!(bot.wait_for("audio")["bytes"], 160);
    phone.inform(2, "application/dtmf-relay", "Signal=1\r\nDuration=160\r\n");
    phone.say_until(SILENCE, |_| bot.told("STATUS").is_some());
    assert_eq!(bot.told("STATUS").expect("told")["media_paused"], false);
    let at = phone.heard.len();
    phone.say(SILENCE, Duration::from_millis(400));
    let rest = phone.heard[at..].iter().filter(|packet| is(packet, WORD)).count();
    assert!(rest <= 3, "{rest} packets after the flush");
    phone.inform(3, "application/dtmf-relay", "Signal=2\r\nDuration=160\r\n");
    phone.say_until(SILENCE, |phone| phone.was_hung_up);
    assert!((74..=75).contains(&phone.count(GREETING)), "the goodbye was heard: {}", phone.count(GREETING));
    assert_eq!(bench.outcome(), Outcome::new(Blame::Agent, EndReason::HungUp));
    assert_eq!(bot.wait_for("gone")["code"], 1000);
}

#[test]
fn a_caller_s_hang_up_ends_the_websocket_channel_and_a_dead_agent_is_replaced() {
    let Some(mut bot) = Bot::chan_websocket() else { return };
    let url = format!("ws://127.0.0.1:{}", bot.port);
    let bench = Bench::start(ProviderKind::AsteriskWebSocket, &url, |_| {});
    let mut phone = RtpPhone::call(bench.daemon.sip(), NUMBER);
    phone.say_until(SILENCE, |phone| phone.count(GREETING) >= 5);
    phone.hang_up();
    assert_eq!(bot.wait_for("gone")["code"], 1000);
    let mut phone = RtpPhone::call(bench.daemon.sip(), NUMBER);
    phone.say_until(SILENCE, |phone| phone.count(GREETING) >= 5);
    bot.process.kill().expect("killed");
    let killed_at = SystemTime::now();
    phone.say(SILENCE, Duration::from_millis(3500));
    let (_, score) = best_match(&phone.samples_since(killed_at), &prompt("en/apology")[..8000]);
    assert!(score >= 0.9 && !phone.was_hung_up, "the apology matches with {score:.3}");
}

/// A call plane, its control, and an agent for its number.
struct Bench {
    daemon: Daemon,
    control: ScriptedControl,
    dir: TempDir,
}

impl Bench {
    fn start(kind: ProviderKind, url: &str, set: impl FnOnce(&mut ProviderRoute)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let daemon = Daemon::start("calls", dir.path(), &[]);
        let mut control = ScriptedControl::connect(dir.path());
        let mut provider = ProviderRoute::new(kind, url, "");
        set(&mut provider);
        control.route_agent(NUMBER, AgentRoute { provider: Some(provider), ..AgentRoute::new("project", "Bot") });
        let applied = dir.path().join("calls/snapshot");
        wait_until("the number is known", || applied.exists().then_some(()));
        Bench { daemon, control, dir }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("calls.log")).expect("a log")
    }

    fn outcome(&mut self) -> Outcome {
        self.control.wait_for_event(|event| match event {
            CallEvent::Ended { outcome } => Some(outcome),
            _ => None,
        })
    }

    /// The caller hears the attendant's apology at once.
    fn attendant_answers(&self) {
        let mut phone = RtpPhone::call(self.daemon.sip(), NUMBER);
        phone.say_until(SILENCE, |phone| phone.samples_since(phone.answered_at).len() > 16_000);
        let (begin, score) = best_match(&phone.samples_since(phone.answered_at), &prompt("en/apology")[..8000]);
        assert!(score >= 0.9, "the apology matches with {score:.3}");
        assert!(begin < 8000, "it began {} ms after the answer", begin / 8);
        phone.hang_up();
    }
}

impl RtpPhone {
    /// Packets that are made of a word.
    fn count(&self, word: u8) -> usize {
        self.heard.iter().filter(|packet| is(packet, word)).count()
    }
}

fn is(packet: &Packet, word: u8) -> bool {
    let count = packet.payload.iter().filter(|byte| **byte & 0x7f == word).count();
    count * 2 > packet.payload.len()
}

fn seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).expect("since 1970").as_secs_f64()
}

/// An agent at work. It ends with this: its standard input does.
struct Bot {
    port: u16,
    log: PathBuf,
    process: Child,
    _dir: TempDir,
}

impl Bot {
    fn audiosocket(manner: &str) -> Option<Self> {
        let modules = peers().join("node_modules");
        if !modules.join("asterisk-audiosocket").is_dir() || !modules.join("@fonoster/streams").is_dir() {
            println!("No AudioSocket servers under target/tmp/peers: skipped; gateway/tests/run installs them.");
            return None;
        }
        let peers = peers();
        let script = script("audiosocket_bot.mjs");
        Some(Bot::start(|log| {
            let mut command = Command::new("node");
            command.arg(script).arg(peers).arg(log).arg(manner);
            command
        }))
    }

    fn chan_websocket() -> Option<Self> {
        let python = peers().join("asterisk/bin/python");
        if !python.exists() {
            println!("No galcymedia under target/tmp/peers: skipped; gateway/tests/run installs it.");
            return None;
        }
        Some(Bot::start(|log| {
            let mut command = Command::new(python);
            command.arg("-B").arg(script("chan_websocket_bot.py")).arg(log);
            command
        }))
    }

    fn start(command: impl FnOnce(&Path) -> Command) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        std::fs::write(&log, "").expect("written");
        let mut process = command(&log).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        Bot { port: line.trim().parse().expect("a port"), log, process, _dir: dir }
    }

    fn events(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).expect("a log");
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|event| event["event"] == name).collect()
    }

    fn wait_for(&self, name: &str) -> Value {
        wait_until(name, || self.events(name).into_iter().next())
    }

    /// What the channel has told by this name.
    fn told(&self, name: &str) -> Option<Value> {
        self.events("told").into_iter().find(|event| event["name"] == name).map(|event| event["payload"].clone())
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers")
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents").join(name)
}

const NUMBER: &str = "3612345678";

/// What the agents open with, in codes of µ-law without their sign.
const GREETING: u8 = 0x10;

/// What the caller says.
const WORD: u8 = 0x21;

/// µ-law for nothing.
const SILENCE: u8 = 0xff;
