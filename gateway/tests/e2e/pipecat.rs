//! Agents made with Pipecat, which calls itself by each provider's protocol: it is heard, hears keys, and is cut short when it
//! wishes. `tests/run` installs it; without it these tests are skipped, and say so.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use talkstack_control::port::{AgentRoute, ProviderKind, ProviderRoute};
use talkstack_media::codec::Codec;

use crate::daemon::{Daemon, wait_until};
use crate::rtp_phone::{Packet, RtpPhone};
use crate::survival::ScriptedControl;

#[test]
fn pipecat_s_twilio_agent_talks_on_the_line() {
    talks(ProviderKind::Twilio);
}

#[test]
fn pipecat_s_telnyx_agent_talks_on_the_line() {
    talks(ProviderKind::Telnyx);
}

#[test]
fn pipecat_s_plivo_agent_talks_on_the_line() {
    talks(ProviderKind::Plivo);
}

#[test]
fn pipecat_s_exotel_agent_talks_on_the_line() {
    talks(ProviderKind::Exotel);
}

#[test]
fn pipecat_s_vonage_agent_talks_on_the_line() {
    talks(ProviderKind::Vonage);
}

fn talks(kind: ProviderKind) {
    let Some(pipecat) = pipecat() else {
        println!("No Pipecat under target/tmp/peers: its agents are skipped; gateway/tests/run installs it.");
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start("calls", dir.path(), &[]);
    let mut control = ScriptedControl::connect(dir.path());
    control.route_agent(NUMBER, agent(kind, pipecat.port));
    let applied = dir.path().join("calls/snapshot");
    wait_until("the number is known", || applied.exists().then_some(()));
    let mut phone = RtpPhone::call(daemon.sip(), NUMBER);
    phone.say_until(WORD, |phone| phone.heard.iter().filter(|packet| is_loud(packet)).count() >= 50);
    let calls = pipecat.events("call", kind);
    if kind != ProviderKind::Vonage {
        assert!(calls[0]["call_id"].as_str().is_some_and(|id| id.starts_with("CA")), "{calls:?}");
    }
    if [ProviderKind::Twilio, ProviderKind::Telnyx, ProviderKind::Exotel].contains(&kind) {
        assert_eq!(calls[0]["receiver"], format!("+{NUMBER}"));
    }
    phone.inform(2, "application/dtmf-relay", "Signal=1\r\nDuration=160\r\n");
    phone.say_until(WORD, |_| !pipecat.events("dtmf", kind).is_empty());
    assert_eq!(pipecat.events("dtmf", kind)[0]["digit"], "1");
    // It has told us to forget what it had said, and says nothing more.
    let at = phone.heard.len();
    phone.say_until(WORD, |phone| phone.heard.len() >= at + 30);
    let late = phone.heard[at + 15..].iter().filter(|packet| is_loud(packet)).count();
    assert_eq!(late, 0, "packets of speech 300 ms behind the key");
    phone.hang_up();
    wait_until("the agent knows", || (!pipecat.events("gone", kind).is_empty()).then_some(()));
}

fn agent(kind: ProviderKind, port: u16) -> AgentRoute {
    let mut provider = ProviderRoute::new(kind, &format!("ws://127.0.0.1:{port}/{kind}"), "");
    // The phone's word is at the edge of its own band: no other rate carries it.
    provider.settings.sample_rate = (kind == ProviderKind::Vonage).then_some(8000);
    AgentRoute { provider: Some(provider), ..AgentRoute::new("project", "Echo") }
}

fn is_loud(packet: &Packet) -> bool {
    let mut samples = Vec::new();
    Codec::Pcmu.decode(&packet.payload, &mut samples);
    samples.iter().filter(|sample| sample.unsigned_abs() > 1000).count() > 80
}

/// A Pipecat agent at work for all tests of this process. It ends with it: its standard input does.
struct Pipecat {
    port: u16,
    log: PathBuf,
    _process: Child,
}

impl Pipecat {
    fn events(&self, name: &str, kind: ProviderKind) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).expect("a log");
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|event| event["event"] == name && event["kind"] == kind.as_str()).collect()
    }
}

fn pipecat() -> Option<&'static Pipecat> {
    static PIPECAT: OnceLock<Option<Pipecat>> = OnceLock::new();
    let started = || {
        let peers = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
        let python = peers.join("pipecat/bin/python");
        if !python.exists() {
            return None;
        }
        let log = peers.join(format!("pipecat-{}.jsonl", std::process::id()));
        let mut process = Command::new(python)
            .arg("-B")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/pipecat_echo.py"))
            .arg(&log)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let port = line.trim().parse().expect("a port");
        Some(Pipecat { port, log, _process: process })
    };
    PIPECAT.get_or_init(started).as_ref()
}

const NUMBER: &str = "3612345678";

/// A loud code of µ-law.
const WORD: u8 = 0x21;
