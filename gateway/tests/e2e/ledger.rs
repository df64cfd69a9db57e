//! `kill -9` under load, and a ledger that a client outside keeps: what was acknowledged is there, once, and every call
//! has ended, once.
//!
//! The short form kills a few times; `TALKSTACK_LONG=1` hundreds of times. `TALKSTACK_SEED` chooses the moments.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemon::{Daemon, wait_until};
use crate::http::Client;
use crate::uas::{BYE_MAX, Dialog, Trunk};

#[test]
fn a_box_that_is_killed_under_load_forgets_and_doubles_nothing() {
    Trial::begin(&["serve"], "serve", 3, 150).run();
}

#[test]
fn a_control_side_that_is_killed_under_load_forgets_nothing_and_ends_no_call() {
    let told = Trial::begin(&["calls", "control"], "control", 3, 75).run();
    assert_eq!(told.restarted, 0, "the calls went on");
}

#[test]
fn a_call_plane_that_is_killed_under_load_forgets_and_doubles_nothing() {
    Trial::begin(&["calls", "control"], "calls", 3, 75).run();
}

/// A box, its trunk, and whoever writes to it.
struct Trial {
    dir: tempfile::TempDir,
    settings: Vec<(&'static str, String)>,
    daemons: BTreeMap<&'static str, Daemon>,
    victim: &'static str,
    kills: Kills,
    trunk: Trunk,
    http: SocketAddr,
    sip: SocketAddr,
    begun: Instant,
    key: String,
    project: String,
    agent: String,
}

/// How often, and when.
struct Kills {
    count: u32,
    seed: u64,
    /// Killed, and up again.
    at: Vec<(Instant, Instant)>,
}

/// What was acknowledged.
#[derive(Default)]
struct Ledger {
    projects: BTreeSet<String>,
    /// Projects by agent.
    agents: BTreeMap<String, String>,
    /// Numbers by call.
    calls: BTreeMap<String, String>,
    /// Every number that was asked for, acknowledged or not.
    numbers: BTreeSet<String>,
    /// The first final status that was seen of a call.
    finals: BTreeMap<String, String>,
}

/// Tells the writers that it is over, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What came of it.
struct Told {
    restarted: usize,
}

impl Trial {
    fn begin(halves: &[&'static str], victim: &'static str, short: u32, long: u32) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (sip, http) = (free_address(), free_address());
        let settings = vec![
            ("TALKSTACK__SIP__LISTEN", sip.to_string()),
            ("TALKSTACK__HTTP__LISTEN", http.to_string()),
            ("TALKSTACK__DIAL__MAX_CALLS", "5000".into()),
            ("TALKSTACK__DIAL__PER_MINUTE", "10000".into()),
        ];
        let seed = std::env::var("TALKSTACK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
        let is_long = std::env::var("TALKSTACK_LONG").is_ok_and(|long| long == "1");
        let count = if is_long { long } else { short };
        let mut trial = Trial {
            dir,
            settings,
            daemons: BTreeMap::new(),
            victim,
            kills: Kills { count, seed, at: Vec::new() },
            trunk: Trunk::start(),
            http,
            sip,
            begun: Instant::now(),
            key: String::new(),
            project: String::new(),
            agent: String::new(),
        };
        halves.iter().for_each(|half| trial.start(half));
        trial.set_up();
        trial
    }

    fn start(&mut self, half: &'static str) {
        let settings: Vec<(&str, &str)> = self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.daemons.insert(half, Daemon::start(half, self.dir.path(), &settings));
    }

    fn set_up(&mut self) {
        let front = self.daemons.get("control").or(self.daemons.get("serve")).expect("one has the API");
        let owner = Client::owner(front);
        let (host, port) = (self.trunk.address.ip().to_string(), self.trunk.address.port());
        owner.create(
            "/api/v1/trunks",
            &json!({
                "name": "line", "host": host, "port": port, "transport": "udp", "numbers": [NUMBER],
                "max_channels": 1000, "default": true, "options_interval_s": 0,
            }),
        );
        self.key = owner.get("/user/generate-apikey")["apiKey"].as_str().expect("a key").to_owned();
        let client = self.client();
        let project = client.post("/project/create-project", &json!({ "name": "Clinic", "description": "" }));
        self.project = project["data"]["id"].as_str().expect("an id").to_owned();
        let agent = json!({ "name": "Jack", "systemInstruction": "You are Jack.", "projectId": self.project });
        self.agent = client.post("/agent/create-agent", &agent)["id"].as_str().expect("an id").to_owned();
        let number = json!({ "e164": NUMBER, "agentId": self.agent, "projectId": self.project });
        client.post("/phone-number/add-number", &number);
    }

    fn client(&self) -> Client {
        Client::at(self.http).with("x-api-key", &self.key)
    }

    fn run(mut self) -> Told {
        let is_over = AtomicBool::new(false);
        let begun = self.begun;
        let (client, project, agent) = (self.client(), self.project.clone(), self.agent.clone());
        let (ledger, called) = std::thread::scope(|scope| {
            let projects = scope.spawn(|| write_projects(&client, &is_over));
            let calls = scope.spawn(|| write_calls(&client, &is_over, &project, &agent));
            let over = Over(&is_over);
            let callers = self.kill_again_and_again();
            drop(over);
            let Ledger { projects, agents, .. } = projects.join().expect("the writer ends");
            (Ledger { projects, agents, ..calls.join().expect("the writer ends") }, callers)
        });
        // Whatever is to be dialled is dialled by then, and nobody stays on the line.
        let rows = self.settle(&ledger);
        let restarted = self.check_rows(&ledger, &rows, called);
        let Trial { trunk, kills, victim, .. } = self;
        let cut_off: &[(Instant, Instant)] = if victim == "control" { &[] } else { &kills.at };
        let dialogs = trunk.finish(cut_off.last().map(|(killed_at, _)| *killed_at - DIALOG_WRITTEN));
        let (farewells, soon, latest) = check_dialogs(&dialogs, &ledger, &rows, cut_off);
        eprintln!(
            "{victim} killed {} times in {:?}, seed {}: {} projects, {} agents, {} calls acknowledged of {} asked for, \
             {} final statuses seen, {called} callers, {} dialogs, {} rows, {restarted} restarted, {farewells} BYEs to \
             dialogs cut off, {soon} cut off within {latest:?} of their ACK had none; lost 0, doubled 0",
            kills.at.len(),
            begun.elapsed(),
            kills.seed,
            ledger.projects.len(),
            ledger.agents.len(),
            ledger.calls.len(),
            ledger.numbers.len(),
            ledger.finals.len(),
            dialogs.len(),
            rows.len(),
        );
        assert!(!ledger.projects.is_empty() && !ledger.calls.is_empty() && !ledger.finals.is_empty());
        Told { restarted }
    }

    /// Kills and starts again, with callers in between; how many called.
    fn kill_again_and_again(&mut self) -> usize {
        let (mut random, mut called) = (Random(self.kills.seed), 0);
        for _ in 0..self.kills.count {
            let until = Instant::now() + Duration::from_millis(100 + random.below(700));
            while Instant::now() < until {
                called += 1;
                self.trunk.call(self.sip, &format!("+1666{called:07}"), NUMBER);
                pause(Duration::from_millis(20 + random.below(40)).min(until - Instant::now().min(until)));
            }
            let killed_at = Instant::now();
            self.daemons.remove(self.victim).expect("it runs").kill();
            self.start(self.victim);
            self.kills.at.push((killed_at, Instant::now()));
        }
        called
    }

    /// The rows, once all of them have ended and every acknowledged order has been dialled.
    fn settle(&self, ledger: &Ledger) -> BTreeMap<String, Value> {
        wait_until("the acknowledged orders have been dialled", || {
            let rows = self.rows();
            ledger.calls.keys().all(|id| rows.get(id).is_some_and(|row| row["status"] != "queued")).then_some(())
        });
        // Whoever was up before the last kill is the box's to hang up on.
        let since = self.kills.at.last().filter(|_| self.victim != "control").map_or(self.begun, |(_, up_at)| *up_at);
        wait_until("every call has ended", || {
            self.trunk.hang_up_all(since);
            let rows = self.rows();
            rows.values().all(|row| row["endTime"].is_string()).then_some(rows)
        })
    }

    /// The project's calls by id; two rows of one id fail.
    fn rows(&self) -> BTreeMap<String, Value> {
        let client = self.client();
        let (mut rows, mut page) = (BTreeMap::new(), String::new());
        loop {
            let path = format!("/call/get-call-history?pageSize=100{page}");
            let answer = client.post(&path, &json!({ "projectId": self.project }));
            for row in answer["data"].as_array().expect("rows") {
                let id = row["sid"].as_str().expect("an id").to_owned();
                assert_eq!(rows.insert(id, row.clone()), None, "each call once");
            }
            match answer["nextPageToken"].as_str() {
                Some(token) => page = format!("&pageToken={token}"),
                None => return rows,
            }
        }
    }

    /// What was acknowledged is there, and said what it said; how many calls ended because the box did.
    fn check_rows(&self, ledger: &Ledger, rows: &BTreeMap<String, Value>, called: usize) -> usize {
        let client = self.client();
        let list = client.get("/project");
        let names: Vec<&str> =
            list["data"].as_array().expect("projects").iter().filter_map(|p| p["name"].as_str()).collect();
        for name in &ledger.projects {
            assert_eq!(names.iter().filter(|found| *found == name).count(), 1, "project {name} was acknowledged");
        }
        for (id, project) in &ledger.agents {
            let list = client.get(&format!("/agent/{project}"));
            let found = list.as_array().expect("agents").iter().filter(|agent| agent["id"] == id.as_str()).count();
            assert_eq!(found, 1, "agent {id} was acknowledged: {list}");
        }
        let mut by_number: BTreeMap<&str, usize> = BTreeMap::new();
        for row in rows.values() {
            let number = if row["from"] == NUMBER { &row["to"] } else { &row["from"] };
            *by_number.entry(number.as_str().expect("a number")).or_default() += 1;
        }
        for (number, count) in &by_number {
            assert_eq!(*count, 1, "{number} has one row");
            let is_caller =
                number.strip_prefix("+1666").and_then(|n| n.parse().ok()).is_some_and(|n: usize| n <= called);
            assert!(is_caller || ledger.numbers.contains(*number), "nobody asked for {number}");
        }
        for (id, number) in &ledger.calls {
            let row = rows.get(id).unwrap_or_else(|| panic!("call {id} was acknowledged"));
            assert_eq!(row["to"], number.as_str());
        }
        for (id, seen) in &ledger.finals {
            assert_eq!(rows[id]["status"], seen.as_str(), "call {id} had ended so");
        }
        let failed = rows.values().filter(|row| row["status"] == "failed");
        let reason = |row: &Value| {
            client.post("/call", &json!({ "sid": row["sid"], "projectId": self.project }))["outcome"]["reason"].clone()
        };
        failed.filter(|row| reason(row) == "restarted").count()
    }
}

/// No number was dialled twice, and whoever was cut off has had a BYE in time. How many have, how many were cut off
/// too soon after their ACK to be owed one, and how late the latest of these was.
fn check_dialogs(
    dialogs: &[Dialog],
    ledger: &Ledger,
    rows: &BTreeMap<String, Value>,
    kills: &[(Instant, Instant)],
) -> (usize, usize, Duration) {
    let mut dialled = BTreeSet::new();
    let (mut farewells, mut soon, mut latest) = (0, 0, Duration::ZERO);
    for dialog in dialogs {
        let number = &dialog.number;
        if dialog.is_from_box {
            assert!(dialled.insert(number.clone()), "{number} was dialled twice");
            assert!(ledger.numbers.contains(number), "nobody asked for {number}");
            assert!(dialog.invites.len() <= 1, "{dialog:?}");
            assert!(rows.values().any(|row| row["to"] == number.as_str()), "{number} was dialled and has no row");
        }
        let Some(up_at) = dialog.up_at else { continue };
        let is_unsure = dialog.is_from_box && kills.iter().any(|(at, _)| *at > up_at && *at < up_at + DIALOG_WRITTEN);
        let has_row = dialog.is_from_box || rows.values().any(|row| row["from"] == number.as_str());
        assert!(has_row, "{number} was answered and has no row");
        let ended_at = [dialog.bye_at, dialog.hung_up_at].into_iter().flatten().min();
        let cut_off = |(killed_at, _): &&(Instant, Instant)| {
            *killed_at > up_at && ended_at.is_none_or(|ended_at| ended_at > *killed_at)
        };
        let Some((killed_at, up_again_at)) = kills.iter().find(cut_off) else { continue };
        match dialog.bye_at {
            Some(bye_at) => {
                assert!(bye_at < *up_again_at + BYE_MAX, "a late BYE: {dialog:?}");
                farewells += 1;
            }
            // Both at once.
            None if dialog.hung_up_at.is_some_and(|at| at < *up_again_at) => {}
            None if is_unsure => {
                soon += 1;
                latest = latest.max(*killed_at - up_at);
            }
            None => panic!("a BYE is owed: {dialog:?}"),
        }
    }
    (farewells, soon, latest)
}

/// Makes projects and agents until it is over.
fn write_projects(client: &Client, is_over: &AtomicBool) -> Ledger {
    let mut ledger = Ledger::default();
    for at in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("project {at}");
        let body = json!({ "name": name, "description": "" }).to_string();
        let project = acknowledged(client.try_send("POST", "/project/create-project", &body));
        if let Some(project) = project.and_then(|answer| answer["data"]["id"].as_str().map(str::to_owned)) {
            ledger.projects.insert(name);
            let name = format!("agent {at}");
            let agent = json!({ "name": name, "systemInstruction": "x", "projectId": project }).to_string();
            let agent = acknowledged(client.try_send("POST", "/agent/create-agent", &agent));
            if let Some(id) = agent.and_then(|answer| answer["id"].as_str().map(str::to_owned)) {
                ledger.agents.insert(id, project);
            }
        }
        pause(WRITER_PAUSE);
    }
    ledger
}

/// Places calls and looks what becomes of them until it is over.
fn write_calls(client: &Client, is_over: &AtomicBool, project: &str, agent: &str) -> Ledger {
    let mut ledger = Ledger::default();
    let mut open: Vec<String> = Vec::new();
    for at in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        // A number is asked for once, whatever the answer.
        let number = format!("+1555{at:07}");
        let order = json!({ "number": number, "projectId": project, "agentId": agent }).to_string();
        ledger.numbers.insert(number.clone());
        if let Some(answer) = acknowledged(client.try_send("POST", "/call/makeCall", &order)) {
            let id = answer["call"]["call_id"].as_str().expect("an id").to_owned();
            ledger.calls.insert(id.clone(), number);
            open.push(id);
        }
        for id in open.split_off(open.len().saturating_sub(LOOKED_AT)) {
            let body = json!({ "sid": id, "projectId": project }).to_string();
            let row = acknowledged(client.try_send("POST", "/call", &body));
            match row.as_ref().and_then(|row| row["status"].as_str()) {
                Some(status) if !["queued", "initiated", "ringing", "in-progress"].contains(&status) => {
                    ledger.finals.insert(id, status.to_owned());
                }
                _ => open.push(id),
            }
        }
        // Each has its turn.
        let looked_at = LOOKED_AT.min(open.len());
        open.rotate_right(looked_at);
        pause(WRITER_PAUSE);
    }
    ledger
}

fn acknowledged(answer: Option<(u16, String)>) -> Option<Value> {
    let (status, body) = answer?;
    // Cut off before its end, nobody has read it.
    let value = serde_json::from_str(&body).ok()?;
    assert!(status == 200 || status >= 500, "{status} {body}");
    (status == 200).then_some(value)
}

/// A wait that nothing ends but its time.
fn pause(time: Duration) {
    let nobody = channel::<()>();
    let _ = nobody.1.recv_timeout(time);
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

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

const NUMBER: &str = "+15551234567";

const SEED: u64 = 0x5eed_1e06_e55e;

/// 30 requests a second and writer: enough to be killed in the midst of one.
const WRITER_PAUSE: Duration = Duration::from_millis(30);

/// Calls that are looked at in a round.
const LOOKED_AT: usize = 4;

/// 200 ms: what the far end has answered is on disk by then, on a machine that does other things as well. Where the box
/// answers it is on disk before.
const DIALOG_WRITTEN: Duration = Duration::from_millis(200);
