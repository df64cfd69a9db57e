//! Routes: what the box says of a call that might come is what it does with one that comes.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use talkstack_control::port::{
    Command, CommandReply, ExtensionRoute, Numbering, RouteAnswer, RouteQuestion, RouteRule, RouteSource, RouteTarget,
    Snapshot, ToCalls, ToControl, TrunkPolicy, TrunkRoute,
};

use crate::daemon::{Daemon, wait_until};
use crate::survival::ScriptedControl;

#[test]
fn a_call_goes_where_the_simulation_says_and_a_refusal_names_its_route() {
    let dir = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start("calls", dir.path(), &[]);
    let mut control = ScriptedControl::connect(dir.path());
    let line = UdpSocket::bind("127.0.0.1:0").expect("a port");
    configure(&mut control, line.local_addr().expect("bound"));
    for (called, rule, target, status) in [
        ("666", "unwanted", "refuse 603", 603),
        ("700", "to the echo", "echo", 200),
        ("701", "no route", "", 404),
        ("echo", "built-in user echo", "echo", 200),
    ] {
        let answer = simulated(&mut control, called, "+4315", RouteSource::Any);
        assert_eq!((answer.rule.as_str(), target_of(&answer)), (rule, target.to_owned()), "{called}");
        let (final_status, text) = invite(daemon.sip(), "stranger", called);
        assert_eq!(final_status, status, "{called}: {text}");
        if status == 603 {
            assert!(text.contains("the route unwanted refuses the call"), "{text}");
        }
    }
}

#[test]
fn a_refused_call_is_kept_and_shown_with_the_rule_that_refused_it() {
    let daemon = Daemon::serve(&[]);
    daemon.command(&["route", "add", "unwanted", "--called", "666", "--to", "refuse:603"]);
    assert_eq!(invite(daemon.sip(), "stranger", "666").0, 603);
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&daemon.command(arguments)).expect("one JSON document")
    };
    let refusal = wait_until("the refusal is stored", || {
        let refusals = json(&["trunk", "refusals", "--json"]);
        refusals.get(0).cloned()
    });
    assert_eq!((&refusal["status"], &refusal["by"]), (&603.into(), &"box".into()));
    assert!(refusal["rule"].as_str().is_some_and(|rule| rule.contains("unwanted")), "{refusal}");
    assert_eq!(refusal["call"], serde_json::Value::Null, "it never became a call");
}

#[test]
fn help_is_reached_by_a_phone_of_the_box_alone_and_the_box_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start("calls", dir.path(), &[]);
    let mut control = ScriptedControl::connect(dir.path());
    let line = UdpSocket::bind("127.0.0.1:0").expect("a port");
    line.set_nonblocking(true).expect("set");
    configure(&mut control, line.local_addr().expect("bound"));
    for dialled in ["112", "911", "9911", "+36112"] {
        let reached = if dialled.ends_with("911") { "112" } else { dialled.trim_start_matches("+36") };
        let answer = simulated(&mut control, dialled, "101", RouteSource::Extensions);
        assert_eq!((answer.rule.as_str(), target_of(&answer)), ("emergency", format!("line {reached}")), "{dialled}");
        let stranger = simulated(&mut control, dialled, "+4315", RouteSource::Any);
        assert_ne!(stranger.rule, "emergency", "{dialled}");
        // One who is no phone of the box finds nobody; one who only says to be one is asked for the proof.
        assert_eq!(invite(daemon.sip(), "stranger", dialled).0, 404, "{dialled}");
        assert_eq!(invite(daemon.sip(), "101", dialled).0, 401, "{dialled}");
    }
    let mut datagram = [0; 4096];
    while let Ok(bytes) = line.recv(&mut datagram) {
        assert!(!datagram[..bytes].starts_with(b"INVITE"), "{}", String::from_utf8_lossy(&datagram[..bytes]));
    }
}

/// A line for emergencies, two phones, and three rules.
fn configure(control: &mut ScriptedControl, line: SocketAddr) {
    let hungary = Numbering { country_code: Some("36".into()), national_prefix: "06".into(), ..Numbering::default() };
    let trunk = TrunkRoute {
        port: Some(line.port()),
        policy: TrunkPolicy { is_emergency: true, ..TrunkPolicy::default() },
        numbering: hungary.clone(),
        // Another address than the callers', which are no trunk.
        ..TrunkRoute::new("line", "127.0.0.2")
    };
    let rule = |name: &str, called: &str, target| RouteRule {
        id: name.into(),
        name: name.into(),
        called: vec![called.into()],
        targets: vec![target],
        ..RouteRule::default()
    };
    let phone = ExtensionRoute { numbering: hungary, ..ExtensionRoute::default() };
    let snapshot = Snapshot {
        revision: 1,
        trunks: [("line".to_owned(), trunk)].into(),
        extensions: [("101".to_owned(), phone.clone()), ("102".to_owned(), phone)].into(),
        routes: vec![
            rule("unwanted", "666", RouteTarget::Refuse { status: 603 }),
            rule("to the echo", "700", RouteTarget::Echo),
            rule("hiding help", "X11", RouteTarget::Refuse { status: 404 }),
        ],
        ..Snapshot::default()
    };
    control.send(&ToCalls::Snapshot(snapshot));
    control.wait_for(|message| matches!(message, ToControl::Applied { revision: 1 }).then_some(()));
}

fn simulated(control: &mut ScriptedControl, called: &str, caller: &str, from: RouteSource) -> RouteAnswer {
    let name = format!("{called} {caller}");
    let question = RouteQuestion { called: called.into(), caller: caller.into(), from, at_ms: None };
    match control.ask(&name, Command::Simulate(question)) {
        CommandReply::Routed(answer) => *answer,
        reply => panic!("{reply:?}"),
    }
}

fn target_of(answer: &RouteAnswer) -> String {
    match answer.targets.first() {
        None => String::new(),
        Some(RouteTarget::Echo) => "echo".into(),
        Some(RouteTarget::Refuse { status }) => format!("refuse {status}"),
        Some(RouteTarget::Trunk { trunk_id, number, .. }) => format!("{trunk_id} {}", number.as_deref().unwrap_or("?")),
        Some(target) => panic!("{target:?}"),
    }
}

/// Calls the box; the final status and the response that has it.
fn invite(target: SocketAddr, from: &str, called: &str) -> (u16, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(ANSWER_MAX)).expect("set");
    let own = socket.local_addr().expect("bound");
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";
    let request = |method: &str, to_tag: &str| {
        let body = if method == "INVITE" { sdp } else { "" };
        format!(
            "{method} sip:{called}@{target} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{}{method}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{from}@{own}>;tag=me\r\nTo: <sip:{called}@{target}>{to_tag}\r\n\
             Call-ID: {}\r\nCSeq: 1 {method}\r\nContact: <sip:me@{own}>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            own.port(),
            own.port(),
            body.len()
        )
    };
    socket.send_to(request("INVITE", "").as_bytes(), target).expect("sent");
    let mut datagram = [0; 4096];
    loop {
        let bytes = socket.recv(&mut datagram).expect("an answer");
        let text = String::from_utf8_lossy(&datagram[..bytes]).into_owned();
        let status: u16 = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        if status >= 200 {
            let tag = text.lines().find_map(|line| line.strip_prefix("To:")?.split_once(";tag=")).expect("a tag").1;
            let ack = request("ACK", &format!(";tag={tag}"));
            // The ACK of a refusal belongs to the INVITE's transaction (RFC 3261 §17.1.1.3).
            let ack = if status < 300 { ack } else { ack.replacen("ACK\r\nMax", "INVITE\r\nMax", 1) };
            socket.send_to(ack.as_bytes(), target).expect("sent");
            return (status, text);
        }
    }
}

const ANSWER_MAX: Duration = Duration::from_secs(8);
