//! Programs of others, each in a process group and a directory of its own, which end with the test.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::table::print;
use crate::daemon::wait_until;

/// A running program.
pub(crate) struct Peer {
    child: Child,
    /// How much of what it has said has been looked at.
    seen: usize,
    program: String,
    pub(crate) dir: TempDir,
}

impl Peer {
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Self {
        Peer::start_in(tempfile::tempdir().expect("a directory"), program, arguments)
    }

    /// Starts it in a directory that may hold its configuration; what it says goes to `output` there.
    pub(crate) fn start_in(dir: TempDir, program: &str, arguments: &[&str]) -> Self {
        let output = std::fs::File::create(dir.path().join("output")).expect("a file");
        let child = Command::new(program)
            .args(arguments)
            .current_dir(dir.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a handle"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        Peer { child, seen: 0, program: program.into(), dir }
    }

    /// Types a line to it.
    pub(crate) fn types(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("it reads");
    }

    /// Waits until it has said this after what was waited for before; the text up to there.
    pub(crate) fn says(&mut self, word: &str) -> String {
        let (text, end) = wait_until(&format!("{} says {word:?}", self.program), || {
            let text = self.output().get(self.seen..)?.to_owned();
            let end = text.find(word)? + word.len();
            Some((text, end))
        });
        self.seen += end;
        text[..end].to_owned()
    }

    /// Waits for its end, which must be a success; else what it has to say.
    pub(crate) fn finishes(mut self) -> Result<(), String> {
        let deadline = Instant::now() + FINISH_MAX;
        let nobody = std::sync::mpsc::channel::<()>();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waited") {
                break format!("{status}");
            }
            if Instant::now() > deadline {
                break "still runs".into();
            }
            // A wait that nothing ends but its time.
            let _ = nobody.1.recv_timeout(Duration::from_millis(20));
        };
        if status == "exit status: 0" {
            return Ok(());
        }
        let read = |name: &str| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        Err(format!("{} {status}\n{}\n{}", self.program, read("errors"), read("messages")))
    }

    /// What it has said so far.
    pub(crate) fn output(&self) -> String {
        let bytes = std::fs::read(self.dir.path().join("output")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let pid = rustix::process::Pid::from_raw(self.child.id() as i32).expect("a process");
            // It may end by itself meanwhile.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.program, self.output());
        }
    }
}

/// kamailio with this configuration behind the modules and parameters that all have; returns once it answers.
pub(crate) fn kamailio(config: &str, address: SocketAddr) -> Peer {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("kamailio.cfg");
    std::fs::write(&path, format!("{KAMAILIO}{config}")).expect("written");
    let run = dir.path().to_str().expect("text").to_owned();
    let path = path.to_str().expect("text").to_owned();
    let peer = Peer::start_in(dir, "kamailio", &["-f", &path, "-DD", "-E", "-m", "32", "-M", "4", "-Y", &run]);
    wait_until("kamailio listens", || is_taken(address).then_some(()));
    peer
}

/// Whether the program is there; says so when it is not.
pub(crate) fn is_installed(program: &str) -> bool {
    let places = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"];
    let is_there = places.iter().any(|place| Path::new(place).join(program).exists());
    if !is_there {
        print(&format!("skipped: {program} is not installed (gateway/tests/run installs it)\n"));
    }
    is_there
}

/// A port of 127.0.0.1 that neither UDP nor TCP has taken, and that no other test is given.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let address = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let is_free = TcpListener::bind(address).is_ok();
        if is_free && GIVEN.lock().expect("nobody panics with it").insert(address.port()) {
            return address.port();
        }
    }
}

/// Whether somebody listens there over UDP.
pub(crate) fn is_taken(address: SocketAddr) -> bool {
    UdpSocket::bind(address).is_err()
}

/// No case may take longer than ten seconds.
const FINISH_MAX: Duration = Duration::from_secs(7);

const KAMAILIO: &str = r#"#!KAMAILIO
debug=1
log_stderror=yes
fork=yes
children=1
tcp_children=1
auto_aliases=no
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "siputils.so"
modparam("rr", "enable_double_rr", 1)
"#;
