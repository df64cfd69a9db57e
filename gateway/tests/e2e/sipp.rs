//! SIPp as a phone, and as a trunk: a scenario, how often, and what must come of it.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::daemon::wait_until;

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
        let scenario = scenario_path(self.scenario);
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

/// SIPp as a trunk that takes one call.
pub(crate) struct SippTrunk {
    pub(crate) address: SocketAddr,
    scenario: &'static str,
    child: Child,
    dir: TempDir,
}

impl SippTrunk {
    /// Listens on a free port of loopback and waits for a call over `udp` or `tcp`.
    pub(crate) fn start(scenario: &'static str, transport: &str, extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let address = free_address();
        let child = Command::new("sipp")
            .current_dir(dir.path())
            .arg("-sf")
            .arg(scenario_path(scenario))
            .args(["-m", "1", "-i", "127.0.0.1", "-p", &address.port().to_string(), "-d", "500"])
            .args(["-t", if transport == "tcp" { "t1" } else { "u1" }])
            .args(["-timeout", "9", "-timeout_error", "-trace_err", "-error_file", "errors.log", "-nostdin"])
            .args(extra)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(dir.path().join("screen")).expect("a file"))
            .stderr(Stdio::null())
            .spawn()
            .expect("sipp is installed (Debian package sip-tester)");
        let trunk = SippTrunk { address, scenario, child, dir };
        wait_until("SIPp listens", || is_taken(transport, address).then_some(()));
        trunk
    }

    /// Its call went as the scenario says.
    pub(crate) fn succeeds(mut self) {
        let status = wait_until("SIPp has finished", || self.child.try_wait().expect("waited"));
        let read = |name: &str| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        assert!(status.success(), "sipp {} {status}\n{}\n{}", self.scenario, read("errors.log"), read("screen"));
    }
}

impl Drop for SippTrunk {
    fn drop(&mut self) {
        // It may have finished already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that neither UDP nor TCP has taken.
fn free_address() -> SocketAddr {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = udp.local_addr().expect("bound");
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

fn is_taken(transport: &str, address: SocketAddr) -> bool {
    if transport == "tcp" { TcpListener::bind(address).is_err() } else { UdpSocket::bind(address).is_err() }
}

fn scenario_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/e2e/scenarios/{name}.xml"))
}
