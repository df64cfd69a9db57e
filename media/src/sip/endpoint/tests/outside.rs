//! Requests outside dialogs against a scripted registrar and a scripted phone, in virtual time.

use std::time::Duration;

use super::*;
use crate::sip::digest::{Answered, Challenge, Credentials};
use crate::sip::message::Uri;

#[test]
fn a_register_is_sent_challenged_answered_and_told() {
    let mut site = Site::new(Transport::Udp);
    let id = site.send("REGISTER", Some(credentials()));
    let first = site.take();
    assert!(
        first.starts_with("REGISTER sip:trunk.example SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2:5060;branch="),
        "{first}"
    );
    assert!(first.contains("\r\nRoute: <sip:proxy.example;lr>\r\nFrom: <sip:101@trunk.example>;tag="), "{first}");
    assert!(first.contains("\r\nTo: <sip:101@trunk.example>\r\nCall-ID: reg\r\nCSeq: 7 REGISTER\r\n"), "{first}");
    assert!(first.contains("\r\nExpires: 600\r\n") && !first.contains("Authorization"), "{first}");
    site.answer(&first, 401, &challenge("n1", ""));
    let second = site.take();
    check_answer(&second, "n1", 1);
    assert_eq!((field(&second, "CSeq"), field(&second, "From")), ("8 REGISTER", field(&first, "From")));
    site.answer(&second, 200, "Expires: 300\r\n");
    let [Event::Responded { request, status: 200, headers, cseq: 8, .. }] = &site.events()[..] else { panic!() };
    assert_eq!((*request, headers.text("Expires").as_deref()), (id, Some("300")));
    // The next one answers in advance, and counts on.
    site.send("REGISTER", Some(credentials()));
    let third = site.take();
    check_answer(&third, "n1", 2);
    // A nonce that has aged is no wrong password.
    site.answer(&third, 401, &challenge("n2", ", stale=true"));
    let fourth = site.take();
    check_answer(&fourth, "n2", 1);
    site.answer(&fourth, 200, "");
    assert!(matches!(site.events()[..], [Event::Responded { status: 200, .. }]));
    // Other credentials know nothing of it.
    site.send("REGISTER", Some(Credentials { password: "other".into(), ..credentials() }));
    assert!(!site.take().contains("Authorization"));
}

#[test]
fn a_wrong_password_ends_in_the_challenge() {
    let mut site = Site::new(Transport::Udp);
    site.send("REGISTER", Some(credentials()));
    let first = site.take();
    site.answer(&first, 401, &challenge("n1", ""));
    let second = site.take();
    site.answer(&second, 401, &challenge("n2", ""));
    assert!(matches!(site.events()[..], [Event::Responded { status: 401, .. }]));
    assert!(site.sent.is_empty());
    // Without credentials it ends at once.
    site.send("OPTIONS", None);
    let options = site.take();
    site.answer(&options, 407, &challenge("n1", ""));
    assert!(matches!(site.events()[..], [Event::Responded { status: 407, .. }]));
    assert!(site.sent.is_empty());
}

#[test]
fn a_request_follows_the_timetable_of_figure_6_and_times_out() {
    let mut site = Site::new(Transport::Udp);
    let (id, start) = (site.send("OPTIONS", None), site.now);
    let first = site.take();
    let mut times = Vec::new();
    while let Some((at, _)) = site.endpoint.poll_timeout() {
        site.now = at;
        site.endpoint.handle_timeout(at);
        site.drain();
        for again in std::mem::take(&mut site.sent) {
            assert_eq!(again, first);
            times.push((at - start).as_millis());
        }
    }
    assert_eq!(times, [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
    assert_eq!(site.now - start, Duration::from_secs(32), "timer F");
    assert_eq!(site.events(), [Event::RequestTimedOut { request: id }]);
    assert!(site.endpoint.poll_timeout().is_none());
}

#[test]
fn a_request_that_finds_no_port_has_failed_at_once_and_no_other_has() {
    let mut site = Site::new(Transport::Udp);
    let id = site.send("OPTIONS", None);
    let (options, there) = (site.take(), site.flow.remote);
    let via = options.find(";branch=").expect("a branch");
    let end = via + options[via + 1..].find(';').expect("what comes behind it") + 2;
    for (quoted, from) in [
        (&options[..end - 1], there),
        (&options[..via], there),
        ("", there),
        ("\u{0}\u{1}", there),
        (options.as_str(), "10.0.0.77:5060".parse().expect("an address")),
        (&options.replacen("OPTIONS", "REGISTER", 1), there),
        (&options.replacen(";branch=", ";branch=x", 1), there),
    ] {
        site.endpoint.handle_port_unreachable(from, quoted.as_bytes(), site.now);
        site.endpoint.handle_timeout(site.now);
        assert_eq!(site.events(), [], "{quoted} of {from}");
    }
    site.endpoint.handle_port_unreachable(there, &options.as_bytes()[..end], site.now);
    site.endpoint.handle_timeout(site.now);
    assert_eq!(site.events(), [Event::RequestTimedOut { request: id }]);
    // One that was answered meanwhile keeps its answer.
    site.send("OPTIONS", None);
    let options = site.take();
    site.answer(&options, 100, "");
    site.endpoint.handle_port_unreachable(there, options.as_bytes(), site.now);
    site.endpoint.handle_timeout(site.now);
    site.answer(&options, 200, "");
    assert!(matches!(site.events()[..], [Event::Responded { status: 200, .. }]));
}

#[test]
fn a_request_whose_stream_ends_has_failed_at_once() {
    let mut site = Site::new(Transport::Tcp);
    let id = site.send("OPTIONS", None);
    site.endpoint.handle_stream_closed(&site.flow, site.now);
    assert_eq!(site.events(), [Event::RequestTimedOut { request: id }]);
    let answered = site.send("OPTIONS", None);
    let options = site.sent.pop().expect("sent");
    site.answer(&options, 200, "");
    site.endpoint.handle_stream_closed(&site.flow, site.now);
    let events = site.events();
    assert!(matches!(events[..], [Event::Responded { request, .. }] if request == answered), "told once: {events:?}");
}

#[test]
fn a_strict_proxy_becomes_the_request_uri() {
    let mut site = Site::new(Transport::Udp);
    site.routes = vec!["<sip:old.example>".into(), "<sip:second.example;lr>".into()];
    site.send("REGISTER", None);
    let text = site.take();
    assert!(text.starts_with("REGISTER sip:old.example SIP/2.0\r\n"), "{text}");
    assert!(text.contains("\r\nRoute: <sip:second.example;lr>\r\nRoute: <sip:trunk.example>\r\nFrom"), "{text}");
}

#[test]
fn a_phone_s_register_waits_for_its_answer_and_a_challenge_is_forgotten() {
    let mut phone = Phone::new(Transport::Udp);
    let text = |branch: &str| {
        let head = HEAD.replace("z9hG4bK1", branch);
        format!("REGISTER sip:box SIP/2.0\r\n{head}To: <sip:101@box>\r\nCSeq: 1 REGISTER\r\n\r\n")
    };
    phone.raw(&text("z9hG4bKa"));
    assert!(phone.statuses().is_empty());
    let Some(Event::Registering { id, flow, request }) = phone.seen.pop() else { panic!("a REGISTER") };
    assert_eq!((flow, request.core.cseq), (phone.flow, 1));
    phone.raw(&text("z9hG4bKa"));
    assert!(phone.seen.is_empty(), "a copy of one that waits");
    let reply = OutsideReply::new(200).with("Contact", "<sip:101@10.0.0.1>;expires=60");
    phone.endpoint.respond_outside(id.clone(), reply.clone(), phone.now);
    let answer = phone.messages().remove(0);
    assert!(answer.starts_with("SIP/2.0 200 OK\r\n") && answer.contains("Contact: <sip:101@10.0.0.1>;expires=60\r\n"));
    phone.endpoint.respond_outside(id, reply, phone.now);
    assert!(phone.messages().is_empty(), "answered once");
    phone.raw(&text("z9hG4bKa"));
    assert_eq!(phone.messages(), [answer], "a copy gets the same answer");

    let before = phone.endpoint.servers.len();
    for _ in 0..2 {
        phone.raw(&text("z9hG4bKb"));
        phone.drain();
        let Some(Event::Registering { id, .. }) = phone.seen.pop() else { panic!("judged anew") };
        let reply = OutsideReply::new(401).with("WWW-Authenticate", "Digest x");
        phone.endpoint.respond_outside(id, reply, phone.now);
        assert_eq!(phone.statuses(), [401]);
        assert_eq!(phone.endpoint.servers.len(), before, "a challenge costs no memory");
    }
    phone.raw(&text("z9hG4bKc").replace("CSeq", "Require: path, outbound\r\nCSeq"));
    phone.drain();
    assert!(matches!(phone.seen.pop(), Some(Event::Registering { .. })));
}

struct Site {
    endpoint: Endpoint,
    now: Instant,
    flow: Flow,
    routes: Vec<String>,
    sent: Vec<String>,
    seen: Vec<Event>,
}

impl Site {
    fn new(transport: Transport) -> Self {
        Site {
            endpoint: Endpoint::new(EndpointConfig::default(), [3; 32]),
            now: Instant::now(),
            flow: flow(transport),
            routes: vec!["<sip:proxy.example;lr>".into()],
            sent: Vec::new(),
            seen: Vec::new(),
        }
    }

    fn send(&mut self, method: &str, account: Option<Credentials>) -> RequestId {
        let request = OutsideRequest {
            flow: self.flow,
            method: Method::parse(method).expect("a method"),
            uri: Uri::parse("sip:trunk.example").expect("a URI"),
            from: "<sip:101@trunk.example>".into(),
            to: "<sip:101@trunk.example>".into(),
            call_id: "reg".into(),
            cseq: 7,
            routes: self.routes.clone(),
            fields: vec![("Expires", "600".into())],
            body: Vec::new(),
            account,
        };
        let id = self.endpoint.send_request(request, self.now);
        self.drain();
        id
    }

    fn drain(&mut self) {
        drain(&mut self.endpoint, &mut self.sent, &mut self.seen);
    }

    /// The one message that was sent.
    fn take(&mut self) -> String {
        self.drain();
        let sent = std::mem::take(&mut self.sent);
        let [message] = &sent[..] else { panic!("one message, not {sent:?}") };
        message.clone()
    }

    fn events(&mut self) -> Vec<Event> {
        self.drain();
        std::mem::take(&mut self.seen)
    }

    fn answer(&mut self, request: &str, status: u16, fields: &str) {
        let mut text = format!("SIP/2.0 {status} X\r\n");
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            text.push_str(&format!("{name}: {}\r\n", field(request, name)));
        }
        text.push_str(&format!("{fields}Content-Length: 0\r\n\r\n"));
        self.endpoint.handle_message(&self.flow, text.as_bytes(), self.now);
        self.drain();
    }
}

fn credentials() -> Credentials {
    Credentials { username: "101".into(), password: "s3cret".into() }
}

fn challenge(nonce: &str, more: &str) -> String {
    format!("WWW-Authenticate: Digest realm=\"trunk\", nonce=\"{nonce}\", qop=\"auth\", algorithm=SHA-256{more}\r\n")
}

/// The answer to [`challenge`] is the one that the password gives, `count` times.
fn check_answer(request: &str, nonce: &str, count: u32) {
    let answer = field(request, "Authorization");
    let cnonce = answer.split("cnonce=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a cnonce");
    let answered = Answered { method: "REGISTER", uri: "sip:trunk.example", cnonce, count };
    let challenge = challenge(nonce, "");
    let challenge = challenge.trim_end().split_once(": ").expect("a field").1;
    assert_eq!(Challenge::parse(challenge).expect("served").answer(&credentials(), &answered), answer);
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    found.unwrap_or_else(|| panic!("no {name} in {text}"))
}
