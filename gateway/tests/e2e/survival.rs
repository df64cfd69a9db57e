//! What calls outlive: their control side, and the whole box.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use talkstack_control::port::{
    AgentRoute, CallEvent, Command, CommandId, CommandReply, Decoder, NumberRoute, Outcome, PROTOCOL_VERSION,
    ProviderKind, ProviderRoute, Snapshot, ToCalls, ToControl, encode,
};

use crate::daemon::{Daemon, wait_until};
use crate::phones::Baresip;
use crate::signal::longest_gap;
use crate::sipp::Sipp;

#[test]
fn killing_the_control_side_in_mid_call_drops_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let calls = Daemon::start("calls", dir.path(), &[]);
    let control = Daemon::start("control", dir.path(), &[]);
    let http = control.http.expect("control serves HTTP");
    wait_until("both halves are joined", || crate::http::status(http, "/readyz").filter(|status| *status == 200));
    let target = calls.sip();
    let long = std::thread::spawn(move || Sipp::new(target, "basic").calls(5).holding_ms(3000).succeeds());
    let phone = Baresip::call(target, "demo");
    wait_until("six calls are up", || {
        let up = control.calls().iter().filter(|call| call["status"] == "in-progress").count();
        (up == 6).then_some(())
    });
    control.kill();
    // New calls are answered meanwhile.
    Sipp::new(target, "basic").calls(3).succeeds();
    long.join().expect("the calls went on to their own end");
    let heard = phone.hang_up();
    assert!(longest_gap(&heard) < Duration::from_millis(60), "gap of {:?}", longest_gap(&heard));

    let control = Daemon::start("control", dir.path(), &[]);
    let rows = control.ended_calls(9);
    assert_eq!(rows.len(), 9, "each call once");
    assert!(rows.iter().all(|call| call["status"] == "completed"), "{rows:?}");
}

#[test]
fn a_call_that_a_crash_cut_off_is_ended_once_and_by_the_gateway() {
    let dir = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start("serve", dir.path(), &[]);
    let phone = Baresip::call(daemon.sip(), "demo");
    wait_until("the call is up", || daemon.calls().first().filter(|call| call["status"] == "in-progress").map(drop));
    daemon.kill();
    drop(phone);
    for _ in 0..2 {
        let daemon = Daemon::start("serve", dir.path(), &[]);
        let rows = daemon.ended_calls(1);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["status"], "failed");
        assert_eq!(rows[0]["outcome"], serde_json::json!({ "blame": "gateway", "reason": "restarted" }));
    }
}

#[test]
fn numbers_are_answered_from_the_last_configuration_when_control_never_comes() {
    let dir = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start("calls", dir.path(), &[]);
    let mut control = ScriptedControl::connect(dir.path());
    control.route("15551234567", "");
    Sipp::new(daemon.sip(), "basic").dialling("+15551234567").succeeds();
    drop(control);
    daemon.kill();
    let daemon = Daemon::start("calls", dir.path(), &[]);
    Sipp::new(daemon.sip(), "basic").dialling("+15551234567").succeeds();
}

#[test]
fn garbage_harms_neither_the_box_nor_a_call_that_is_up() {
    let daemon = Daemon::serve(&[]);
    let phone = Baresip::call(daemon.sip(), "demo");
    wait_until("the phone hears something", || (phone.heard_so_far() > 4000).then_some(()));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let mut random = 0x2545_f491u32;
    let mut noise = |bytes: usize| -> Vec<u8> {
        (0..bytes)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                random as u8
            })
            .collect()
    };
    let media: Vec<u16> = media_ports(&daemon);
    assert!(!media.is_empty(), "the call has ports");
    for round in 0..400 {
        let mut junk = noise(round);
        socket.send_to(&junk, daemon.sip()).expect("sent");
        junk.splice(0..0, *b"INVITE sip:echo SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK\r\n");
        socket.send_to(&junk, daemon.sip()).expect("sent");
        for port in &media {
            // RTP of a stranger: valid version, random else.
            let mut packet = noise(172);
            packet[0] = 0x80;
            socket.send_to(&packet, ("127.0.0.1", *port)).expect("sent");
        }
    }
    let mut stream = std::net::TcpStream::connect(daemon.sip()).expect("accepted");
    // The box may hang up before all of it is written.
    let _ = stream.write_all(&noise(200_000));
    Sipp::new(daemon.sip(), "basic").calls(3).succeeds();
    let before = phone.heard_so_far();
    wait_until("the phone still hears", || (phone.heard_so_far() > before + 4000).then_some(()));
    let heard = phone.hang_up();
    assert!(longest_gap(&heard) < Duration::from_millis(60), "gap of {:?}", longest_gap(&heard));
    assert!(daemon.ended_calls(4).iter().all(|call| call["status"] == "completed"));
}

#[test]
fn the_log_of_a_call_names_no_number() {
    let dir = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start("calls", dir.path(), &[]);
    let mut control = ScriptedControl::connect(dir.path());
    control.route("15551234567", "");
    Sipp::new(daemon.sip(), "basic").dialling("+15551234567").succeeds();
    Sipp::new(daemon.sip(), "unknown").dialling("5550000").succeeds();
    control.wait_for_end();
    let log = std::fs::read_to_string(dir.path().join("calls.log")).expect("a log");
    assert!(log.contains("The call has ended") && log.contains("404"), "{log}");
    for number in ["15551234567", "5550000"] {
        assert!(!log.contains(number), "{number} in\n{log}");
    }
}

/// The UDP ports that the daemon has open besides SIP's.
fn media_ports(daemon: &Daemon) -> Vec<u16> {
    let table = std::fs::read_to_string(format!("/proc/{}/net/udp", daemon.pid())).expect("Linux");
    let mine: std::collections::BTreeSet<String> = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid()))
        .expect("Linux")
        .flatten()
        .filter_map(|entry| Some(std::fs::read_link(entry.path()).ok()?.to_str()?.to_owned()))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let port = u16::from_str_radix(fields.get(1)?.split(':').nth(1)?, 16).ok()?;
            mine.contains(*fields.get(9)?).then_some(port)
        })
        .filter(|port| *port != daemon.sip().port())
        .collect()
}

/// A control side that does what a test says, over the same pipe.
pub(crate) struct ScriptedControl {
    stream: UnixStream,
    decoder: Decoder,
}

impl ScriptedControl {
    pub(crate) fn connect(dir: &Path) -> Self {
        let stream = UnixStream::connect(dir.join("calls.sock")).expect("the call plane listens");
        stream.set_read_timeout(Some(Duration::from_secs(15))).expect("set");
        let mut control = ScriptedControl { stream, decoder: Decoder::default() };
        control.send(&ToCalls::Hello { version: PROTOCOL_VERSION, stored: None });
        control
    }

    /// Gives a number to an agent behind a media stream, or to the attendant when there is no URL.
    pub(crate) fn route(&mut self, digits: &str, url: &str) {
        let provider = (!url.is_empty()).then(|| ProviderRoute::new(ProviderKind::Twilio, url, ""));
        self.route_agent(digits, AgentRoute { provider, ..AgentRoute::new("project", "Jack") });
    }

    /// Gives a number to an agent.
    pub(crate) fn route_agent(&mut self, digits: &str, agent: AgentRoute) {
        let number = NumberRoute { project_id: "project".into(), agent_id: Some("agent".into()) };
        let mut snapshot = Snapshot { revision: 1, ..Snapshot::default() };
        snapshot.agents.insert("agent".into(), agent);
        snapshot.numbers.insert(digits.into(), number);
        self.send(&ToCalls::Snapshot(snapshot));
    }

    /// Waits for the next end of a call.
    pub(crate) fn wait_for_end(&mut self) -> Outcome {
        self.wait_for_event(|event| match event {
            CallEvent::Ended { outcome } => Some(outcome),
            _ => None,
        })
    }

    /// Looks at what happens until there is an answer.
    pub(crate) fn wait_for_event<T>(&mut self, mut look: impl FnMut(CallEvent) -> Option<T>) -> T {
        self.wait_for(|message| match message {
            ToControl::Record(record) => look(record.event),
            _ => None,
        })
    }

    /// Asks for something and waits for the answer; what happens meanwhile is passed over.
    pub(crate) fn ask(&mut self, name: &str, command: Command) -> CommandReply {
        self.send(&ToCalls::Command { command_id: CommandId(name.into()), command });
        self.wait_for_reply(name)
    }

    /// Waits for the answer to a command.
    pub(crate) fn wait_for_reply(&mut self, name: &str) -> CommandReply {
        self.wait_for(|message| match message {
            ToControl::Reply { command_id, reply } if command_id.0 == name => Some(reply),
            _ => None,
        })
    }

    /// Looks at what the call plane sends until there is an answer.
    pub(crate) fn wait_for<T>(&mut self, mut look: impl FnMut(ToControl) -> Option<T>) -> T {
        loop {
            while let Some(message) = self.decoder.next_message().expect("readable") {
                if let Some(answer) = look(message) {
                    return answer;
                }
            }
            let mut buffer = [0; 4096];
            let bytes = self.stream.read(&mut buffer).expect("messages come");
            self.decoder.feed(&buffer[..bytes]);
        }
    }

    pub(crate) fn send(&mut self, message: &ToCalls) {
        let mut bytes = Vec::new();
        encode(message, &mut bytes).expect("short");
        self.stream.write_all(&bytes).expect("written");
    }
}
