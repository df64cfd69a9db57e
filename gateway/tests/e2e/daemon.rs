//! A daemon of its own for each test: own directory, own ports, killed when the test ends.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running `talkstack`.
pub(crate) struct Daemon {
    child: Child,
    /// Its own, not that of a program it runs under.
    pid: u32,
    pub(crate) dir: PathBuf,
    pub(crate) sip: Vec<SocketAddr>,
    pub(crate) http: Option<SocketAddr>,
    /// What it says at the start.
    line: String,
    _own_dir: Option<TempDir>,
}

impl Daemon {
    /// `talkstack serve` with further flags and settings.
    pub(crate) fn serve(settings: &[(&str, &str)]) -> Self {
        let own = tempfile::tempdir().expect("a directory");
        let mut daemon = Daemon::start("serve", own.path(), settings);
        daemon._own_dir = Some(own);
        daemon
    }

    /// One half, or both, on a directory that outlives it.
    pub(crate) fn start(command: &str, dir: &Path, settings: &[(&str, &str)]) -> Self {
        Daemon::launch(talkstack(dir).arg(command).envs(settings.iter().copied()), command, dir)
    }

    /// `talkstack serve` under another program, which is killed with it.
    pub(crate) fn start_under(program: &str, arguments: &[&str], dir: &Path) -> Self {
        let served = talkstack(dir);
        let mut under = Command::new(program);
        under.args(arguments).arg(served.get_program()).arg("serve").env_remove("TALKSTACK_CONFIG");
        under.envs(served.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut daemon = Daemon::launch(&mut under, "serve", dir);
        let children = format!("/proc/{0}/task/{0}/children", daemon.child.id());
        let children = std::fs::read_to_string(children).expect("Linux");
        daemon.pid = children.trim().parse().expect("one child");
        daemon
    }

    fn launch(program: &mut Command, command: &str, dir: &Path) -> Self {
        let mut child = program
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(dir.join(format!("{command}.log"))).expect("a log"))
            .spawn()
            .expect("the binary starts");
        let lines = lines_of(child.stdout.take().expect("piped"));
        let line = lines.recv_timeout(START_MAX).unwrap_or_else(|_| {
            let log = std::fs::read_to_string(dir.join(format!("{command}.log"))).unwrap_or_default();
            panic!("`talkstack {command}` did not say that it listens:\n{log}")
        });
        let addresses = |prefix: &str| {
            line.split(' ')
                .filter_map(|word| word.strip_prefix(prefix))
                .map(|address| address.parse().expect("an address"))
                .collect::<Vec<SocketAddr>>()
        };
        let (sip, http) = (addresses("sip=udp:"), addresses("http=").first().copied());
        Daemon { pid: child.id(), child, dir: dir.to_owned(), sip, http, line, _own_dir: None }
    }

    pub(crate) fn sip(&self) -> SocketAddr {
        self.sip[0]
    }

    /// Where it listens over `tls`, `ws` or `wss`.
    pub(crate) fn secured(&self, transport: &str) -> SocketAddr {
        let prefix = format!("sip={transport}:");
        let word = self.line.split(' ').find_map(|word| word.strip_prefix(&prefix)).expect("it listens there");
        word.parse().expect("an address")
    }

    /// Where an Asterisk reaches it, over `audiosocket` or `websocket`.
    pub(crate) fn asterisk(&self, kind: &str) -> SocketAddr {
        let prefix = format!("asterisk={kind}:");
        let word = self.line.split(' ').find_map(|word| word.strip_prefix(&prefix)).expect("it listens there");
        word.trim().parse().expect("an address")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        wait_until("the daemon stops", || self.child.try_wait().expect("waited"))
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid as i32).expect("a process");
        rustix::process::kill_process(pid, signal).expect("told");
    }

    /// What `talkstack serve` has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("serve.log")).expect("a log")
    }

    /// `talkstack` commands against this daemon; stdout of a success.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let output = talkstack(&self.dir).args(arguments).output().expect("the binary starts");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// The box's calls, the newest first.
    pub(crate) fn calls(&self) -> Vec<serde_json::Value> {
        let text = self.command(&["call", "list", "--json", "--limit", "1000"]);
        serde_json::from_str(&text).expect("JSON")
    }

    /// The box's calls once as many have ended.
    pub(crate) fn ended_calls(&self, count: usize) -> Vec<serde_json::Value> {
        wait_until(&format!("{count} calls have ended"), || {
            let calls = self.calls();
            (calls.iter().filter(|call| call["endTime"].is_string()).count() >= count).then_some(calls)
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have been stopped already. What it runs under ends with it, and not the other way round.
        if self.pid != self.child.id() && matches!(self.child.try_wait(), Ok(None)) {
            self.signal(rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
                    eprintln!("--- {}\n{log}", entry.path().display());
                }
            }
        }
    }
}

/// The binary on a directory, on ports that are free, with no configuration of the machine's.
pub(crate) fn talkstack(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_talkstack"));
    command.env_remove("TALKSTACK_CONFIG").env("TALKSTACK__STORE__DIR", dir);
    command.env("TALKSTACK__SIP__LISTEN", "127.0.0.1:0").env("TALKSTACK__HTTP__LISTEN", "127.0.0.1:0");
    command
}

/// Polls until there is an answer; fails after [`WAIT_MAX`].
pub(crate) fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let (deadline, nobody) = (Instant::now() + WAIT_MAX, channel::<()>());
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        // A wait that nothing ends but its time.
        let _ = nobody.1.recv_timeout(Duration::from_millis(20));
    }
}

fn lines_of(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A debug build on a loaded machine.
const START_MAX: Duration = Duration::from_secs(8);

/// No case may take longer than ten seconds.
const WAIT_MAX: Duration = Duration::from_secs(8);
