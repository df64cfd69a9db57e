//! Which trunk a call takes, which of its servers, and who is shown to call.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use talkstack_control::port::{
    Blame, CallEvent, CommandReply, EndReason, Outcome, RouteRule, RouteSource, RouteTarget, TrunkAccess, TrunkRoute,
};

use crate::daemon::wait_until;
use crate::dns::NameServer;
use crate::peers::lines::Lines;
use crate::peers::phone::{Phone, field};
use crate::peers::scenario::Scenario;
use crate::peers::site::NUMBER;
use crate::peers::table::{Cell, row};
use crate::sipp::SippTrunk;
use crate::uas::response;

#[test]
fn a_server_that_is_unavailable_is_passed_over_and_spared_by_the_next_call() {
    let (first, unavailable) =
        Scenario::called(&[]).answers("503 Service Unavailable", "[call_number]", &[], None).gets("ACK", &[]).listens();
    let second = SippTrunk::start("trunk_answer", "udp", &["-m", "2"]);
    let names = domain(first, second.address);
    let mut lines = of_the_domain(&names);
    lines.dial("+15550000001");
    assert_eq!(lines.ended().reason, EndReason::HungUp);
    unavailable.finishes().expect("it was asked once, and the ACK came");
    let watch = UdpSocket::bind(first).expect("SIPp has ended");
    watch.set_nonblocking(true).expect("set");
    lines.dial("+15550000002");
    assert_eq!(lines.ended().reason, EndReason::HungUp);
    assert!(watch.recv(&mut [0; 4096]).is_err(), "it was to be spared for five minutes");
    second.succeeds();
    row("SIPp found by dnsmasq", &[("SRV: past a 503, and past that server next time", Cell::Works)]);
}

#[test]
fn a_server_that_says_nothing_is_given_up_before_callers_do() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let second = SippTrunk::start("trunk_answer", "udp", &[]);
    let names = domain(silent.local_addr().expect("bound"), second.address);
    let mut lines = of_the_domain(&names);
    let before = Instant::now();
    lines.dial("+15550000001");
    lines.answered();
    assert!(before.elapsed() < Duration::from_secs(8), "{:?}", before.elapsed());
    lines.ended();
    second.succeeds();
    row("SIPp found by dnsmasq, silent", &[("SRV: past a server that says nothing, in 6 s", Cell::Works)]);
}

#[test]
fn the_trunk_of_the_lower_priority_is_tried_first_and_a_full_one_passed_over() {
    let [near, far] = [(); 2].map(|()| Server::start(stays));
    let mut lines = Lines::new(&[]);
    lines.set(|snapshot| {
        for (id, server, priority) in [("a", &far, 5), ("b", &near, 1)] {
            let mut trunk = TrunkRoute { max_channels: 1, ..towards(server.address) };
            trunk.policy.priority = priority;
            snapshot.trunks.insert(id.into(), trunk);
        }
    });
    for (to, expected) in [("+15550000001", (1, 0)), ("+15550000002", (1, 1))] {
        assert_eq!(lines.order(to), CommandReply::Accepted);
        lines.answered();
        assert_eq!((near.invites().len(), far.invites().len()), expected, "{to}");
    }
    // Both are full.
    assert_eq!(lines.order("+15550000003"), CommandReply::Busy);
    assert_eq!((near.invites().len(), far.invites().len()), (1, 1));
    row("two trunks", &[("priority; a full one is passed over", Cell::Works)]);
}

#[test]
fn calls_beyond_a_trunk_s_rate_take_the_next_one_or_are_refused_until_the_second_is_over() {
    let [near, far] = [(); 2].map(|()| Server::start(stays));
    let mut lines = Lines::new(&[]);
    lines.set(|snapshot| {
        for (id, server, priority) in [("a", &near, 1), ("b", &far, 5)] {
            let mut trunk = towards(server.address);
            trunk.policy.priority = priority;
            trunk.policy.calls_per_second = Some(1);
            snapshot.trunks.insert(id.into(), trunk);
        }
    });
    let replies = [1, 2, 3].map(|at| lines.order(&format!("+1555000000{at}")));
    assert_eq!(replies, [CommandReply::Accepted, CommandReply::Accepted, CommandReply::Busy]);
    wait_until("each has a call", || (near.invites().len() == 1 && far.invites().len() == 1).then_some(()));
    wait_until("the second is over", || (lines.order("+15550000004") == CommandReply::Accepted).then_some(()));
    wait_until("the first has another", || (near.invites().len() == 2).then_some(()));
    row("two trunks, limited", &[("calls per second: the next one, then refused", Cell::Works)]);
}

#[test]
fn a_number_that_the_trunk_does_not_list_is_never_presented() {
    let server = Server::start(stays);
    let mut lines = Lines::new(&[]);
    let mut trunk = TrunkRoute { numbers: vec![OTHER[1..].into()], ..towards(server.address) };
    lines.set(|snapshot| drop(snapshot.trunks.insert("a".into(), trunk.clone())));
    lines.dial("+15550000001");
    assert_eq!(lines.ended(), Outcome::new(Blame::Operator, EndReason::NoTrunk));
    assert_eq!(server.invites(), Vec::<String>::new());
    // A number of the trunk's own stands in its place, where the owner has said so.
    trunk.numbering.default_number = Some(OTHER[1..].into());
    lines.set(|snapshot| drop(snapshot.trunks.insert("a".into(), trunk)));
    lines.dial("+15550000001");
    lines.answered();
    let invite = server.invites().remove(0);
    assert!(field(&invite, "From").starts_with(&format!("<sip:{OTHER}@")), "{invite}");
    assert!(!invite.contains(&NUMBER[1..]), "{invite}");
    row("trunk, other numbers", &[("a number it does not list is never presented", Cell::Works)]);
}

#[test]
fn who_wants_to_stay_unknown_is_anonymous_on_the_line_that_the_call_goes_out_by() {
    let (mut carrier, mut called) = (Phone::at("127.0.0.2"), Phone::at("127.0.0.3"));
    let mut lines = Lines::new(&[]);
    let [from, to] = [&carrier, &called].map(|phone| towards(phone.address()));
    lines.set(|snapshot| {
        snapshot.trunks.insert("from".into(), from);
        snapshot.trunks.insert("to".into(), TrunkRoute { numbers: vec![NUMBER[1..].into()], ..to });
        let target = RouteTarget::Trunk { trunk_id: "to".into(), number: Some("+15550000009".into()), ring_s: None };
        snapshot.routes.push(RouteRule {
            id: "on".into(),
            name: "on".into(),
            from: RouteSource::Trunk { trunk_id: "from".into() },
            targets: vec![target],
            ..RouteRule::default()
        });
    });
    carrier.presents(
        "\"Anonymous\" <sip:anonymous@anonymous.invalid>",
        "P-Asserted-Identity: \"Ann\" <sip:+15557770000@carrier>\r\nPrivacy: id\r\n",
    );
    let target = lines.daemon.sip();
    let invite = std::thread::scope(|scope| {
        let invite = scope.spawn(|| called.answers());
        carrier.call(target, &format!("sip:{NUMBER}@{target}"));
        invite.join().expect("called")
    });
    let started = lines.event(|event| match event {
        CallEvent::Started(started) => Some(started),
        _ => None,
    });
    assert_eq!((started.from.as_str(), &started.display_name), ("anonymous", &None));
    assert!(field(&invite, "From").starts_with("\"Anonymous\" <sip:anonymous@anonymous.invalid>"), "{invite}");
    assert_eq!(field(&invite, "Privacy"), "id");
    // The trunk is told whose call it is: a number of its own, not the caller's, which it does not list.
    assert!(field(&invite, "P-Asserted-Identity").contains(NUMBER), "{invite}");
    assert!(!invite.contains("15557770000") && !invite.contains("Ann\""), "{invite}");
    let log = std::fs::read_to_string(lines.daemon.dir.join("calls.log")).expect("a log");
    assert!(!log.contains("15557770000"), "{log}");
    row("trunk to trunk", &[("Privacy: id: anonymous in From, record and log", Cell::Works)]);
}

#[test]
fn redirections_in_a_circle_end_after_five() {
    let server = Server::start(|request, address| {
        let own = format!("Contact: <sip:+15550000001@{address}>\r\n");
        request.starts_with("INVITE ").then(|| response(request, "302 Moved Temporarily", &own, ""))
    });
    let mut lines = Lines::new(&[]);
    lines.set(|snapshot| drop(snapshot.trunks.insert("a".into(), towards(server.address))));
    lines.dial("+15550000001");
    let outcome = lines.ended();
    assert_eq!(outcome.blame, Blame::Trunk, "{outcome:?}");
    assert_eq!(server.invites().len(), 6, "the first and five that it was sent on to");
    row("trunk, redirecting", &[("3xx in a circle ends after five", Cell::Works)]);
}

#[test]
fn a_registrar_that_finds_an_interval_too_brief_gets_the_one_that_it_names() {
    let server = Server::start(|request, _| {
        let expires: u32 = field(request, "Expires").parse().expect("seconds");
        let contact = field(request, "Contact");
        Some(match expires < 1800 {
            true => response(request, "423 Interval Too Brief", "Min-Expires: 1800\r\n", ""),
            false => response(request, "200 OK", &format!("Contact: {contact};expires={expires}\r\n"), ""),
        })
    });
    let mut lines = Lines::new(&[]);
    let mut trunk = towards(server.address);
    trunk.username = Some("clinic".into());
    trunk.access = TrunkAccess { register: true, register_expires_s: 600, ..TrunkAccess::default() };
    lines.trunk(trunk, Some("s3cret"));
    lines.registers();
    let asked: Vec<String> = server.requests().iter().map(|request| field(request, "Expires")).collect();
    assert_eq!(asked, ["600", "1800"]);
    row("registrar, strict", &[("423: registers with its Min-Expires", Cell::Works)]);
}

/// Two servers of one domain, the first preferred.
fn domain(first: SocketAddr, second: SocketAddr) -> NameServer {
    NameServer::start(&[
        &format!("--srv-host=_sip._udp.trunk.test,a.trunk.test,{},10,0", first.port()),
        &format!("--srv-host=_sip._udp.trunk.test,b.trunk.test,{},20,0", second.port()),
        "--host-record=a.trunk.test,127.0.0.1",
        "--host-record=b.trunk.test,127.0.0.1",
    ])
}

/// A box whose trunk is that domain.
fn of_the_domain(names: &NameServer) -> Lines {
    let mut lines = Lines::new(&[("TALKSTACK__SIP__DNS", &names.address.to_string())]);
    lines.trunk(quiet(TrunkRoute::new("line", "trunk.test")), None);
    lines
}

/// A trunk that lists the box's number.
fn towards(address: SocketAddr) -> TrunkRoute {
    let trunk = TrunkRoute { port: Some(address.port()), ..TrunkRoute::new("line", &address.ip().to_string()) };
    quiet(TrunkRoute { numbers: vec![NUMBER[1..].into()], ..trunk })
}

/// Nobody asks whether it is there.
fn quiet(mut trunk: TrunkRoute) -> TrunkRoute {
    trunk.signalling.options_interval_s = 0;
    trunk
}

/// Answers a call and everything else.
fn stays(request: &str, address: SocketAddr) -> Option<String> {
    let own = format!("Contact: <sip:trunk@{address}>\r\n");
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";
    match request.split(' ').next()? {
        "INVITE" => Some(response(request, "200 OK", &own, sdp)),
        "ACK" => None,
        _ => Some(response(request, "200 OK", "", "")),
    }
}

/// A server that a test wrote, and what has been asked of it.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Listens until the test's process ends.
    fn start(answer: impl Fn(&str, SocketAddr) -> Option<String> + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("bound");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&requests);
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            // A port of the box that is closed makes an error of it.
            loop {
                let Ok((bytes, remote)) = socket.recv_from(&mut buffer) else { continue };
                let request = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
                let answer = answer(&request, address);
                noted.lock().expect("nobody panics with it").push(request);
                // The box may be gone.
                answer.into_iter().for_each(|text| drop(socket.send_to(text.as_bytes(), remote)));
            }
        });
        Server { address, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("nobody panics with it").clone()
    }

    /// The INVITEs, retransmissions left out.
    fn invites(&self) -> Vec<String> {
        let mut branches = std::collections::BTreeSet::new();
        let mut invites = self.requests();
        invites.retain(|request| request.starts_with("INVITE ") && branches.insert(field(request, "Via")));
        invites
    }
}

/// A number that is not the box's agent's.
const OTHER: &str = "+15557654321";
