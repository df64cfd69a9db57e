//! The strict Realtime server as a process, and what it saw.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use talkstack_media::codec::Codec;

use crate::daemon::wait_until;

/// A running `realtime_server.py`.
pub(crate) struct RealtimeServer {
    child: Child,
    dir: PathBuf,
    pub(crate) port: u16,
}

impl RealtimeServer {
    /// Starts it with further flags; its files lie in `dir`.
    pub(crate) fn start(dir: &Path, flags: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/realtime_server.py");
        let mut child = Command::new("/usr/bin/python3")
            .arg("-B")
            .arg(script)
            .arg("--log")
            .arg(dir.join("realtime.jsonl"))
            .arg("--audio")
            .arg(dir.join("realtime.raw"))
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let port = line.strip_prefix("listening ").and_then(|port| port.trim().parse().ok());
        let port = port.expect("the server listens (Debian package python3-websockets)");
        RealtimeServer { child, dir: dir.to_owned(), port }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// What it has noted so far under a name.
    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.join("realtime.jsonl")).expect("a log");
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|event| event["event"] == name).collect()
    }

    /// The messages of a type that it has received.
    pub(crate) fn received(&self, kind: &str) -> Vec<Value> {
        let events = self.events("received").into_iter().map(|mut event| event["message"].take());
        events.filter(|message| message["type"] == kind).collect()
    }

    /// Waits for the first note under a name.
    pub(crate) fn wait_for(&self, name: &str) -> Value {
        wait_until(&format!("the server notes `{name}`"), || self.events(name).into_iter().next())
    }

    /// What the caller said over a µ-law line, as far as it came.
    pub(crate) fn heard(&self) -> Vec<i16> {
        let mut samples = Vec::new();
        Codec::Pcmu.decode(&self.heard_bytes(), &mut samples);
        samples
    }

    /// What was appended, as it came.
    pub(crate) fn heard_bytes(&self) -> Vec<u8> {
        std::fs::read(self.dir.join("realtime.raw")).expect("a file")
    }

    /// Fails when the gateway did what the protocol does not allow.
    pub(crate) fn has_no_complaint(&self) {
        let violations = self.events("violation");
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

impl Drop for RealtimeServer {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.dir.join("realtime.jsonl")).unwrap_or_default());
        }
    }
}
