//! Hosted agents: calls to each, over the real binary, and strict fakes of their services, which their vendors' own
//! clients have been heard by.
//!
//! | Fake of | Who has talked to it besides the box |
//! |---|---|
//! | Deepgram's Voice Agent | `deepgram-sdk` 7.17.0 |
//! | ElevenLabs Agents | `elevenlabs` 2.78.0: signed addresses and conversations |
//! | Gemini Live | `google-genai` 3.6.1 |
//! | Ultravox | Pipecat 1.14.0 (Ultravox's own `ultravox-client` speaks WebRTC alone) |
//!
//! No fake is the service: what a vendor does beyond its documentation is not seen here. `gateway/tests/run` installs
//! the clients; without them their tests are skipped, and say so.

mod calls;
mod clients;
mod refusals;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use talkstack_control::port::{AgentRoute, CallEvent, ProviderKind, ProviderRoute, Speaker, TransferTarget};
use talkstack_control::secret::{PROVIDER_KEY_PURPOSE, SECRET_FILE, Secret};
use talkstack_media::codec::Codec;
use tempfile::TempDir;

use crate::daemon::{Daemon, wait_until};
use crate::phones::prompt;
use crate::rtp_phone::{Packet, RtpPhone};
use crate::signal::best_match;
use crate::survival::ScriptedControl;

/// Shows the same of every vendor, at the same time, and of nobody else's: four boxes are enough for one machine.
fn each(check: impl Fn(ProviderKind) + Sync) {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that fails leaves nothing behind that the next could stumble over.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        for kind in HOSTED {
            let check = &check;
            thread::Builder::new().name(kind.to_string()).spawn_scoped(scope, move || check(kind)).expect("a thread");
        }
    });
}

/// A running fake.
struct Fake {
    child: Child,
    dir: TempDir,
    port: u16,
}

impl Fake {
    fn start(kind: ProviderKind, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut child = Command::new("/usr/bin/python3")
            .arg("-B")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/e2e/hosted/{kind}.py")))
            .arg("--log")
            .arg(dir.path().join("log.jsonl"))
            .args(["--key", KEY])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let port = line.strip_prefix("listening ").and_then(|port| port.trim().parse().ok());
        Fake { child, dir, port: port.expect("it listens (Debian package python3-websockets)") }
    }

    /// What it has noted so far under a name.
    fn events(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("log.jsonl")).expect("a log");
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|event| event["event"] == name).collect()
    }

    /// Waits for the first note under a name.
    fn wait_for(&self, name: &str) -> Value {
        wait_until(&format!("the service notes `{name}`"), || self.events(name).into_iter().next())
    }

    /// Fails when the gateway did what the protocol does not allow.
    fn has_no_complaint(&self) {
        assert_eq!(self.events("violation"), [] as [Value; 0]);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.dir.path().join("log.jsonl")).unwrap_or_default());
        }
    }
}

/// A call plane, its control, and a service that is its agent's.
struct Bench {
    service: Fake,
    control: ScriptedControl,
    daemon: Daemon,
    dir: TempDir,
}

impl Bench {
    fn start(kind: ProviderKind, flags: &[&str]) -> Self {
        // An agent of ElevenLabs is a private one.
        let service = match kind {
            ProviderKind::ElevenLabs => Fake::start(kind, &[flags, &["--private"]].concat()),
            _ => Fake::start(kind, flags),
        };
        Bench::keyed(service, kind)
    }

    /// The box has a key.
    fn keyed(service: Fake, kind: ProviderKind) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let secret = Secret::open(&dir.path().join(SECRET_FILE)).expect("a secret");
        let mut provider = provider(kind, service.port);
        provider.api_key = Some(secret.seal(PROVIDER_KEY_PURPOSE, KEY));
        Bench::with(service, dir, provider)
    }

    fn with(service: Fake, dir: TempDir, provider: ProviderRoute) -> Self {
        let daemon = Daemon::start("calls", dir.path(), &[]);
        let mut control = ScriptedControl::connect(dir.path());
        let agent = AgentRoute {
            system_instruction: "Be kind.".into(),
            greeting: Some(GREETING.into()),
            transfers: vec![TransferTarget { name: "Reception".into(), to: "echo".into() }],
            provider: Some(provider),
            ..AgentRoute::new("project", "Jack")
        };
        control.route_agent(NUMBER, agent);
        let applied = dir.path().join("calls/snapshot");
        wait_until("the number is known", || applied.exists().then_some(()));
        Bench { service, control, daemon, dir }
    }

    fn call(&self) -> RtpPhone {
        RtpPhone::call(self.daemon.sip(), NUMBER)
    }

    /// The next thing that was said.
    fn said(&mut self) -> (Speaker, String) {
        self.control.wait_for_event(|event| match event {
            CallEvent::Said(utterance) => Some((utterance.speaker, utterance.text)),
            _ => None,
        })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("calls.log")).expect("a log")
    }

    /// The attendant has taken the call, and says so.
    fn is_apologised_for(&self, phone: &mut RtpPhone) {
        let apology = &prompt("en/apology")[..4000];
        let is_heard = (0..16).any(|_| {
            phone.say(SILENCE, Duration::from_millis(400));
            let heard = phone.samples_since(phone.invited_at);
            best_match(&heard[heard.len().saturating_sub(8000)..], apology).1 >= 0.9
        });
        assert!(is_heard && !phone.was_hung_up, "no apology within 6.4 s: {}", self.log());
    }
}

fn provider(kind: ProviderKind, port: u16) -> ProviderRoute {
    let model = match kind {
        ProviderKind::Deepgram => "open_ai/gpt-4o-mini",
        ProviderKind::Gemini => "gemini-live-test",
        _ => "",
    };
    let mut provider = ProviderRoute::new(kind, &format!("http://127.0.0.1:{port}"), model);
    provider.settings.agent = (kind == ProviderKind::ElevenLabs).then(|| "agent_7".into());
    provider
}

/// How many packets carry the tone of the agent's turn, from 1.
fn tones(heard: &[Packet], turn: usize) -> usize {
    heard.iter().filter(|packet| is_tone(packet, turn)).count()
}

/// The fakes' voice: 440 Hz, and 220 Hz more with each turn.
fn is_tone(packet: &Packet, turn: usize) -> bool {
    let samples = samples(packet);
    let crossings = samples.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
    // In 20 ms.
    let wanted = (440 + 220 * (turn - 1)) / 50;
    is_loud(packet) && crossings.abs_diff(wanted) <= 1
}

fn is_loud(packet: &Packet) -> bool {
    samples(packet).iter().filter(|sample| sample.unsigned_abs() > 1000).count() > 80
}

fn samples(packet: &Packet) -> Vec<i16> {
    let mut samples = Vec::new();
    Codec::Pcmu.decode(&packet.payload, &mut samples);
    samples
}

/// What the caller says: a second of speech.
fn question() -> Vec<i16> {
    prompt("en/goodbye")[..8000].to_vec()
}

const HOSTED: [ProviderKind; 4] =
    [ProviderKind::Deepgram, ProviderKind::ElevenLabs, ProviderKind::Gemini, ProviderKind::Ultravox];

const NUMBER: &str = "3612345678";
const KEY: &str = "test-key";
const GREETING: &str = "Good morning, this is the clinic.";

/// A code of µ-law that is next to nothing.
const SILENCE: u8 = 0x7f;
