//! SIPp as a phone: a scenario, how often, and what must come of it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

/// A run of SIPp.
pub(crate) struct Sipp {
    target: SocketAddr,
    scenario: &'static str,
    user: String,
    calls: u32,
    transport: &'static str,
    hold_ms: u32,
    extra: Vec<String>,
}

impl Sipp {
    /// Runs `scenarios/<scenario>.xml` against the target, once, over UDP, dialling `echo`.
    pub(crate) fn new(target: SocketAddr, scenario: &'static str) -> Self {
        Sipp { target, scenario, user: "echo".into(), calls: 1, transport: "u1", hold_ms: 300, extra: Vec::new() }
    }

    pub(crate) fn dialling(mut self, user: &str) -> Self {
        self.user = user.into();
        self
    }

    pub(crate) fn calls(mut self, calls: u32) -> Self {
        self.calls = calls;
        self
    }

    pub(crate) fn over_tcp(mut self) -> Self {
        self.transport = "t1";
        self
    }

    pub(crate) fn holding_ms(mut self, hold_ms: u32) -> Self {
        self.hold_ms = hold_ms;
        self
    }

    pub(crate) fn with(mut self, arguments: &[&str]) -> Self {
        self.extra.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Runs to its end; every call must go as the scenario says.
    pub(crate) fn succeeds(self) {
        let dir = tempfile::tempdir().expect("a directory");
        let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/e2e/scenarios/{}.xml", self.scenario));
        let (target, local) = match self.target {
            SocketAddr::V4(address) => (address.to_string(), "127.0.0.1"),
            SocketAddr::V6(address) => (address.to_string(), "[::1]"),
        };
        let output = Command::new("sipp")
            .current_dir(dir.path())
            .arg(target)
            .arg("-sf")
            .arg(scenario)
            .args(["-s", &self.user, "-m", &self.calls.to_string(), "-r", "50", "-i", local, "-t", self.transport])
            .args(["-d", &self.hold_ms.to_string()])
            .args(["-timeout", "9", "-timeout_error", "-trace_err", "-error_file", "errors.log", "-nostdin"])
            .args(&self.extra)
            .stdin(Stdio::null())
            .output()
            .expect("sipp is installed (Debian package sip-tester)");
        if !output.status.success() {
            let errors = std::fs::read_to_string(dir.path().join("errors.log")).unwrap_or_default();
            let screen = String::from_utf8_lossy(&output.stdout);
            let last = screen.rsplit("----").next().unwrap_or_default();
            panic!(
                "sipp {} {}: {}\n{errors}\n{last}",
                self.scenario,
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}
