//! Calls placed at a scripted trunk in virtual time, challenges, forks, crashes, and mutations.

mod called;
mod cancelling;
mod challenges;
mod early;
mod forks;
mod large;
mod mutations;
mod placing;
mod reoffers;
mod saved;
mod transfers;

use std::time::{Duration, Instant};

use super::*;
use crate::sip::Transport;
use crate::sip::digest::{Answered, Challenge, Credentials};
use crate::sip::endpoint::extensions::Reliable;
use crate::sip::endpoint::tests::{drain, field, flow, kind, statuses};
use crate::sip::endpoint::{EndpointConfig, Event, StreamId};
use crate::sip::message::{Framing, Message, Uri, parse};

const CONTACT: &str = "Contact: <sip:callee@10.0.0.9:5070>\r\n";
const ROUTED: &str = "Contact: <sip:callee@10.0.0.9:5070>\r\nRecord-Route: <sip:10.0.0.7;lr>, <sip:10.0.0.8;lr>\r\n";

fn credentials() -> Credentials {
    Credentials { username: "trunk-user".into(), password: "s3cret".into() }
}

fn branch(message: &str) -> &str {
    field(message, "Via").split("branch=").nth(1).and_then(|rest| rest.split(';').next()).expect("a branch")
}

fn response(request: &str, status: u16, tag: &str, fields: &str, sdp: &str) -> String {
    let mut text = format!("SIP/2.0 {status} X\r\n");
    for line in request.lines().take_while(|line| !line.is_empty()) {
        if ["Via", "From", "To", "Call-ID", "CSeq"].iter().any(|name| line.starts_with(&format!("{name}: "))) {
            let is_untagged = line.starts_with("To: ") && !line.contains(";tag=") && !tag.is_empty();
            text.push_str(line);
            text.push_str(&if is_untagged { format!(";tag={tag}\r\n") } else { "\r\n".into() });
        }
    }
    let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    text + &format!("{fields}{kind}Content-Length: {}\r\n\r\n{sdp}", sdp.len())
}

/// The answer is the one that the password gives.
fn check_answer(challenge: &str, answer: &str, method: &str, uri: &str, count: u32) {
    let cnonce = answer.split("cnonce=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a cnonce");
    assert_eq!(cnonce.len(), 16, "{answer}");
    let answered = Answered { method, uri, cnonce, count };
    assert_eq!(Challenge::parse(challenge).expect("served").answer(&credentials(), &answered), answer);
}

/// What happened, and how many ms in.
type Timed<T> = Vec<(u64, T)>;

/// A trunk, and the endpoint that calls through it.
struct Trunk {
    endpoint: Endpoint,
    flow: Flow,
    now: Instant,
    dialog: DialogId,
    fields: Vec<(&'static str, String)>,
    invite: String,
    sent: Vec<String>,
    seen: Vec<Event>,
    last_flow: Option<Flow>,
}

impl Trunk {
    /// ICMP comes back for a message.
    fn finds_no_port(&mut self, message: &str) {
        let remote = self.last_flow.expect("sent").remote;
        self.endpoint.handle_port_unreachable(remote, message.as_bytes(), self.now);
        self.endpoint.handle_timeout(self.now);
    }

    fn new(transport: Transport) -> Self {
        Trunk {
            endpoint: Endpoint::new(EndpointConfig::default(), [7; 32]),
            flow: flow(transport),
            now: Instant::now(),
            dialog: DialogId(0),
            fields: vec![("P-Asserted-Identity", "<sip:+15557654321@10.0.0.2>".into())],
            invite: String::new(),
            sent: Vec::new(),
            seen: Vec::new(),
            last_flow: None,
        }
    }

    fn called() -> Self {
        let mut trunk = Trunk::new(Transport::Udp);
        trunk.call(None);
        trunk
    }

    fn called_with_credentials() -> Self {
        let mut trunk = Trunk::new(Transport::Udp);
        trunk.call(Some(credentials()));
        trunk
    }

    /// 180 with the tag `a`.
    fn ringing() -> Self {
        let mut trunk = Trunk::called();
        trunk.invite = trunk.take();
        let invite = trunk.invite.clone();
        trunk.answer(&invite, 180, "a", "", "");
        assert_eq!(trunk.events().len(), 1);
        trunk
    }

    fn answered() -> Self {
        let mut trunk = Trunk::ringing();
        let invite = trunk.invite.clone();
        trunk.answer(&invite, 200, "a", CONTACT, "v=0");
        assert!(trunk.take().starts_with("ACK "));
        assert_eq!(trunk.events().len(), 1);
        trunk
    }

    fn order(&self, credentials: Option<Credentials>) -> InviteOrder {
        InviteOrder {
            flow: self.flow,
            request_uri: Uri::parse("sip:+15551234567@trunk.example:5060").expect("a URI"),
            from: "<sip:+15557654321@10.0.0.2>".into(),
            to: "<sip:+15551234567@trunk.example>".into(),
            fields: self.fields.clone(),
            sdp: b"v=0 offer".to_vec(),
            credentials,
            extensions: Extensions::default(),
        }
    }

    fn call(&mut self, credentials: Option<Credentials>) {
        self.dialog = self.endpoint.invite(self.order(credentials), self.now).expect("room");
    }

    /// Responds to a request of ours.
    fn answer(&mut self, request: &str, status: u16, tag: &str, fields: &str, sdp: &str) {
        let text = response(request, status, tag, fields, sdp);
        self.endpoint.handle_message(&self.flow, text.as_bytes(), self.now);
        self.drain();
        if request.starts_with("INVITE ") && !field(request, "To").contains(";tag=") {
            self.invite = request.to_owned();
        }
    }

    /// Sends a request within the dialog that the last INVITE made, from the far end with this tag.
    fn request(&mut self, method: &str, cseq: u32, tag: &str) {
        self.request_with(method, cseq, tag, if method == "INVITE" { "v=0 hold" } else { "" });
    }

    fn request_with(&mut self, method: &str, cseq: u32, tag: &str, sdp: &str) {
        self.request_fields(method, cseq, tag, "", if sdp.is_empty() { "" } else { "application/sdp" }, sdp);
    }

    /// The same with further header fields, and a body of this type.
    fn request_fields(&mut self, method: &str, cseq: u32, tag: &str, fields: &str, kind: &str, body: &str) {
        let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        let (from, to) = (field(&self.invite, "To"), field(&self.invite, "From"));
        let text = format!(
            "{method} sip:talkstack@10.0.0.2:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5062;branch=z9hG4bK{method}{cseq}{tag}\r\n\
             Max-Forwards: 70\r\nFrom: {from};tag={tag}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n{CONTACT}\
             {fields}{kind}Content-Length: {}\r\n\r\n{body}",
            field(&self.invite, "Call-ID"),
            body.len()
        );
        assert!(matches!(parse(text.as_bytes(), Framing::Datagram), Ok(Message::Request(_))));
        self.endpoint.handle_message(&self.flow, text.as_bytes(), self.now);
    }

    fn drain(&mut self) {
        self.last_flow = drain(&mut self.endpoint, &mut self.sent, &mut self.seen).or(self.last_flow);
    }

    /// What was sent since the last look.
    fn messages(&mut self) -> Vec<String> {
        self.drain();
        std::mem::take(&mut self.sent)
    }

    /// The one message that was sent since the last look.
    fn take(&mut self) -> String {
        let mut messages = self.messages();
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages.remove(0)
    }

    fn statuses(&mut self) -> Vec<u16> {
        statuses(&self.messages())
    }

    fn events(&mut self) -> Vec<Event> {
        self.drain();
        std::mem::take(&mut self.seen)
    }

    /// Lets time pass from timer to timer.
    fn pass(&mut self, ms: u64) {
        self.timetable(ms);
    }

    /// Lets time pass; returns what was sent and told, and how many ms in.
    fn timetable(&mut self, ms: u64) -> (Timed<String>, Timed<Event>) {
        let (start, end) = (self.now, self.now + Duration::from_millis(ms));
        self.drain();
        let (sent_before, seen_before) = (self.sent.len(), self.seen.len());
        let (mut sent, mut seen) = (Vec::new(), Vec::new());
        while let Some(at) = self.endpoint.poll_timeout().map(|(at, _)| at).filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.endpoint.handle_timeout(self.now);
            self.drain();
            let ms = (self.now - start).as_millis() as u64;
            sent.extend(self.sent[sent_before + sent.len()..].iter().map(|message| (ms, message.clone())));
            seen.extend(self.seen[seen_before + seen.len()..].iter().map(|event| (ms, event.clone())));
        }
        self.now = end;
        (sent, seen)
    }

    /// Behind all timers no table holds anything.
    fn assert_nothing_is_left(&mut self) {
        self.pass(130_000);
        let Endpoint { sessions, by_tags, clients, servers, timers, outgoing, .. } = &self.endpoint;
        let left = [sessions.len(), by_tags.len(), clients.len(), servers.len(), timers.len()];
        assert_eq!(left, [0; 5], "{:?}", self.endpoint);
        assert_eq!((outgoing.invites.len(), outgoing.calls.len()), (0, 0));
    }
}
