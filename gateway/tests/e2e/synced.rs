//! What strace sees: nothing is acknowledged before it is on disk.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::daemon::Daemon;
use crate::http::Client;
use crate::uas::Trunk;

#[test]
fn an_fsync_comes_before_each_acknowledgement() {
    let dir = tempfile::tempdir().expect("a directory");
    let trace = dir.path().join("strace.out");
    let trunk = Trunk::start();
    let mut daemon = Daemon::traced(dir.path(), &trace);
    let account = json!({ "email": "first@example.com", "password": "correct horse", "name": "Me" });
    Client::at(daemon.http.expect("serves HTTP")).post("/auth/signup", &account);
    let owner = Client::owner(&daemon);
    let host = trunk.address.ip().to_string();
    let line = json!({
        "name": "line", "host": host, "port": trunk.address.port(), "transport": "udp", "numbers": ["+15551234567"],
        "max_channels": 10, "default": true, "options_interval_s": 0,
    });
    owner.create("/api/v1/trunks", &line);
    let project = owner.post("/project/create-project", &json!({ "name": "signed project", "description": "" }));
    let project = project["data"]["id"].as_str().expect("an id").to_owned();
    let agent = json!({ "name": "Jack", "systemInstruction": "You are Jack.", "projectId": project });
    let agent = owner.post("/agent/create-agent", &agent)["id"].as_str().expect("an id").to_owned();
    owner.post("/phone-number/add-number", &json!({ "e164": "+15551234567", "agentId": agent, "projectId": project }));
    let order = json!({ "number": "+15550000005", "projectId": project, "agentId": agent });
    let call = owner.post("/call/makeCall", &order)["call"]["call_id"].as_str().expect("an id").to_owned();
    daemon.ended_calls(1);
    daemon.stop();
    trunk.finish(None);

    let lines = Line::read(&trace);
    let find = |what: &str, is_it: &dyn Fn(&Line) -> bool| {
        lines.iter().position(is_it).unwrap_or_else(|| panic!("strace saw no {what} in {}", trace.display()))
    };
    let synced_between = |file: &str, from: usize, to: usize| {
        let is_sync = |line: &Line| line.is_sync_of(file);
        assert!(from < to, "{} comes before {}", lines[to].text, lines[from].text);
        assert!(
            lines[from..to].iter().any(is_sync),
            "no fsync of {file} between {} and {}",
            lines[from].text,
            lines[to].text
        );
    };
    // Each answer that says 200 to something that was asked to be kept.
    for path in ["/auth/signup", "/project/create-project", "/agent/create-agent", "/call/makeCall"] {
        let asked = find(path, &|line| line.text.contains(&format!("POST {path} ")));
        let answered = asked + lines[asked..].iter().position(Line::is_answer).expect("it was answered");
        synced_between("talkstack.db-wal", asked, answered);
    }
    // The order is on disk before it leaves; the end before control is told.
    let accepted = find("acceptance", &|line| line.writes(".log") && line.text.contains("dial_accepted"));
    let invited = find("INVITE", &|line| line.text.contains("INVITE sip:+15550000005@"));
    synced_between(".log", accepted, invited);
    let ended = find("end", &|line| line.writes(".log") && line.text.contains("\\\"ended\\\""));
    let told = ended
        + 1
        + lines[ended + 1..]
            .iter()
            .position(|line| !line.writes(".log") && line.text.contains("\\\"ended\\\""))
            .expect("told");
    synced_between(".log", ended, told);
    assert!(lines[told].text.contains(&call), "{}", lines[told].text);
    // And the end is stored before it is acknowledged to the journal.
    let acknowledged = told + lines[told..].iter().position(|line| line.text.contains("\\\"ack\\\"")).expect("an ack");
    synced_between("talkstack.db-wal", told, acknowledged);
}

/// A line of strace. An fsync or a read counts from its return, a write from its begin.
struct Line {
    text: String,
}

impl Line {
    /// In the order in which they count.
    fn read(trace: &Path) -> Vec<Line> {
        let text = std::fs::read_to_string(trace).unwrap_or_default();
        let mut begun: std::collections::HashMap<String, String> = std::collections::HashMap::new();
        let mut lines = Vec::new();
        for line in text.lines() {
            let (thread, rest) = line.split_once(' ').unwrap_or(("", line));
            let rest = rest.trim_start();
            if let Some(call) = rest.strip_suffix(" <unfinished ...>") {
                if call.contains("sync(") {
                    begun.insert(thread.to_owned(), call.to_owned());
                } else {
                    lines.push(Line { text: call.to_owned() });
                }
            } else if rest.starts_with("<... ") {
                let call = begun.remove(thread).filter(|_| rest.contains("sync resumed>")).unwrap_or_default();
                lines.push(Line { text: format!("{call}{rest}") });
            } else {
                lines.push(Line { text: rest.to_owned() });
            }
        }
        lines
    }

    fn is_sync_of(&self, file: &str) -> bool {
        (self.text.starts_with("fsync(") || self.text.starts_with("fdatasync("))
            && self.text.contains(&format!("{file}>"))
            && self.text.ends_with("= 0")
    }

    fn is_answer(&self) -> bool {
        self.text.contains("HTTP/1.1 200 OK")
    }

    fn writes(&self, file: &str) -> bool {
        self.text.starts_with("write(") && self.text.contains(&format!("{file}>"))
    }
}

impl Daemon {
    /// `talkstack serve` under strace, which writes what reaches disk and sockets.
    fn traced(dir: &Path, trace: &Path) -> Self {
        let is_installed = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok();
        assert!(is_installed, "strace is not installed (Debian package strace)");
        let calls = "trace=fsync,fdatasync,sendto,sendmsg,write,writev,read,recvfrom,pwrite64";
        let flags = ["-f", "-yy", "-s", "1500", "-e", calls, "-e", "signal=none", "-o"];
        Daemon::start_under("strace", &[flags.as_slice(), &[trace.to_str().expect("text")]].concat(), dir)
    }
}
