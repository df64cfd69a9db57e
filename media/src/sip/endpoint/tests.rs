//! Calls against a scripted phone in virtual time, and mutations.

mod calls;
mod outside;
mod pair;
mod races;
mod refusals;
mod reliable;
mod replaces;
mod torture;
mod update;

use std::time::Duration;

use super::*;

#[test]
fn what_is_personal_is_not_printed_by_debug() {
    let mut phone = Phone::new(Transport::Udp);
    phone.flow.remote = "10.0.0.1:5062".parse().expect("address");
    phone.call();
    let shown = format!("{:?} {:?}", phone.endpoint.sessions.len(), phone.seen);
    assert!(shown.contains("Offered") && !shown.contains("phone@"), "{shown}");
}

#[test]
fn mutated_calls_never_panic_and_the_endpoint_lives() {
    let mut random = 0x1357_9bdfu32;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random as usize
    };
    let mut phone = Phone::confirmed();
    let more = "RAck: 1 1 INVITE\r\nSupported: 100rel, timer\r\nSession-Expires: 90;refresher=uas\r\nEvent: refer\r\n\
        Refer-To: <sip:a@b?Replaces=c%3Bto-tag%3Dp%3Bfrom-tag%3Dq>\r\nContent-Length";
    let seeds: Vec<String> =
        ["INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "INFO", "PRACK", "UPDATE", "REFER", "NOTIFY", "INVITE"]
            .iter()
            .enumerate()
            .map(|(at, method)| phone.text(method, 5 + at as u32, "z9hG4bKseed", "v=0").replace("Content-Length", more))
            .collect();
    for round in 0..20_000 {
        let mut bytes = seeds[next() % seeds.len()].clone().into_bytes();
        for _ in 0..1 + next() % 5 {
            let at = next() % bytes.len();
            match next() % 3 {
                0 => bytes[at] = next() as u8,
                1 if bytes.len() > 10 => drop(bytes.drain(at..(at + next() % 9).min(bytes.len()))),
                _ => bytes.insert(at, b"\r\n;<>\":, @[]%"[next() % 13]),
            }
        }
        phone.endpoint.handle_message(&phone.flow, &bytes, phone.now);
        phone.pass(next() as u64 % 50);
        phone.drain();
        while let Some(event) = phone.seen.pop() {
            // Whatever is told is acted on; what its state does not allow is an error.
            let now = phone.now;
            match event {
                Event::Offered(offered) if round % 3 == 0 => {
                    let _ = phone.endpoint.ring(offered.dialog, Some(b"v=0 early"), now);
                    let _ = phone.endpoint.reinvite(offered.dialog, b"v=0 more", now);
                }
                Event::Offered(offered) => drop(phone.endpoint.answer(offered.dialog, b"v=0 ours", now)),
                Event::ReOffered { dialog, .. } => drop(phone.endpoint.answer(dialog, b"v=0 ours", now)),
                Event::Referred { dialog, .. } => drop(phone.endpoint.accept_refer(dialog, now)),
                Event::Acknowledged { dialog, .. } => {
                    let _ = phone.endpoint.reinvite(dialog, b"v=0 more", now);
                    let _ = phone.endpoint.notify_refer(dialog, 200, true, now);
                }
                _ => {}
            }
        }
        if round % 1000 == 0 {
            phone.messages();
            phone.raw(&format!(
                "OPTIONS sip:x SIP/2.0\r\n{}To: <sip:x>\r\nCSeq: {round} OPTIONS\r\n\r\n",
                HEAD.replace("z9hG4bK1", &format!("z9hG4bKalive{round}"))
            ));
            assert_eq!(phone.statuses(), [200]);
        }
    }
}

const HEAD: &str = "Via: SIP/2.0/UDP 10.0.0.1:5062;branch=z9hG4bK1;rport\r\nMax-Forwards: 70\r\n\
    From: <sip:phone@10.0.0.1>;tag=p\r\nCall-ID: x\r\nContact: <sip:phone@10.0.0.1:5062>\r\n";

/// From a far end at 10.0.0.1, where phones and trunks of the tests are.
pub(super) fn flow(transport: Transport) -> Flow {
    Flow {
        transport,
        local: "10.0.0.2:5060".parse().expect("address"),
        remote: "10.0.0.1:5062".parse().expect("address"),
        stream: (transport == Transport::Tcp).then_some(StreamId(1)),
    }
}

/// Takes what the endpoint has to send and to tell; returns the flow of the last message.
pub(super) fn drain(endpoint: &mut Endpoint, sent: &mut Vec<String>, seen: &mut Vec<Event>) -> Option<Flow> {
    let mut last_flow = None;
    while let Some(output) = endpoint.poll_output() {
        match output {
            // Refusals are on the wire as well.
            Output::Event(Event::RefusalSeen(_)) => {}
            Output::Event(event) => seen.push(event),
            Output::Send { flow, bytes } | Output::SendLarge { flow, bytes } => {
                last_flow = Some(flow);
                sent.push(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }
    last_flow
}

/// The status codes of the responses among the messages.
pub(super) fn statuses(messages: &[String]) -> Vec<u16> {
    messages.iter().filter_map(|message| message.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()).collect()
}

/// A request's method, or a response's status.
pub(super) fn kind(message: &str) -> String {
    let words: Vec<&str> = message.split(' ').take(2).collect();
    words[usize::from(words[0] == "SIP/2.0")].to_owned()
}

/// The value of the first such field.
pub(super) fn field<'a>(message: &'a str, name: &str) -> &'a str {
    let mut values = message.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    values.next().unwrap_or_else(|| panic!("no {name} in {message}"))
}

/// A phone, and the endpoint it calls.
struct Phone {
    endpoint: Endpoint,
    flow: Flow,
    now: Instant,
    call_id: String,
    to_tag: String,
    offer: String,
    dialog: DialogId,
    seen: Vec<Event>,
    sent: Vec<String>,
    last_flow: Option<Flow>,
}

impl Phone {
    fn new(transport: Transport) -> Self {
        Phone {
            endpoint: Endpoint::new(EndpointConfig::default(), [7; 32]),
            flow: flow(transport),
            now: Instant::now(),
            call_id: "call".into(),
            to_tag: String::new(),
            offer: "v=0 offer".into(),
            dialog: DialogId(0),
            seen: Vec::new(),
            sent: Vec::new(),
            last_flow: None,
        }
    }

    fn answered() -> Self {
        let mut phone = Phone::new(Transport::Udp);
        phone.dialog = phone.call();
        phone.endpoint.answer(phone.dialog, b"v=0", phone.now).expect("early");
        let answer = phone.messages().pop().expect("200");
        phone.learn_tag(&answer);
        phone
    }

    fn confirmed() -> Self {
        let mut phone = Phone::answered();
        phone.send("ACK", 1, "z9hG4bKack", "");
        phone.events();
        phone
    }

    fn call(&mut self) -> DialogId {
        let offer = self.offer.clone();
        self.send("INVITE", 1, "z9hG4bKinv", &offer);
        self.drain();
        match self.seen.last() {
            Some(Event::Offered(offered)) => offered.dialog,
            other => panic!("no offer: {other:?}"),
        }
    }

    fn text(&self, method: &str, cseq: u32, branch: &str, body: &str) -> String {
        let tag = if self.to_tag.is_empty() { String::new() } else { format!(";tag={}", self.to_tag) };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let head = HEAD.replace("z9hG4bK1", branch).replace("Call-ID: x", &format!("Call-ID: {}", self.call_id));
        format!(
            "{method} sip:echo@10.0.0.2 SIP/2.0\r\n{head}To: <sip:echo@10.0.0.2>{tag}\r\nCSeq: {cseq} {method}\r\n\
             {kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn send(&mut self, method: &str, cseq: u32, branch: &str, body: &str) {
        let text = self.text(method, cseq, branch, body);
        self.raw(&text);
    }

    /// The same with further header fields, each with its line end.
    fn send_with(&mut self, method: &str, cseq: u32, branch: &str, fields: &str, body: &str) {
        let text = self.text(method, cseq, branch, body);
        self.raw(&text.replace("Content-Length: ", &format!("{fields}Content-Length: ")));
    }

    /// Calls with further header fields.
    fn call_with(&mut self, fields: &str) -> DialogId {
        let offer = self.offer.clone();
        self.send_with("INVITE", 1, "z9hG4bKinv", fields, &offer);
        self.drain();
        match self.seen.pop() {
            Some(Event::Offered(offered)) => self.dialog = offered.dialog,
            other => panic!("no offer: {other:?}"),
        }
        assert_eq!(self.statuses(), [100]);
        self.dialog
    }

    /// The one message that was sent since the last look.
    fn take(&mut self) -> String {
        let mut messages = self.messages();
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages.remove(0)
    }

    /// Lets time pass; returns what was sent, by its first words, and how many ms in.
    fn timetable(&mut self, ms: u64) -> Vec<(u64, String)> {
        let (start, end) = (self.now, self.now + Duration::from_millis(ms));
        self.messages();
        let mut sent = Vec::new();
        while let Some(at) = self.endpoint.poll_timeout().map(|(at, _)| at).filter(|at| *at <= end) {
            self.now = at;
            self.endpoint.handle_timeout(at);
            let ms = (at - start).as_millis() as u64;
            sent.extend(self.messages().iter().map(|message| (ms, kind(message))));
        }
        self.now = end;
        sent
    }

    fn raw(&mut self, text: &str) {
        self.endpoint.handle_message(&self.flow, text.as_bytes(), self.now);
    }

    fn answer_to(&mut self, request: &str, status: u16) {
        let fields: String = request
            .lines()
            .filter(|line| {
                ["Via", "From", "To", "Call-ID", "CSeq"].iter().any(|name| line.starts_with(&format!("{name}:")))
            })
            .map(|line| format!("{line}\r\n"))
            .collect();
        self.raw(&format!("SIP/2.0 {status} X\r\n{fields}Content-Length: 0\r\n\r\n"));
    }

    /// Lets time pass from timer to timer.
    fn pass(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while let Some(at) = self.endpoint.poll_timeout().map(|(at, _)| at).filter(|at| *at <= end) {
            self.now = at;
            self.endpoint.handle_timeout(at);
        }
        self.now = end;
    }

    fn drain(&mut self) {
        self.last_flow = drain(&mut self.endpoint, &mut self.sent, &mut self.seen).or(self.last_flow);
    }

    /// What was sent since the last look; events go to `seen`, the offer's own left out.
    fn messages(&mut self) -> Vec<String> {
        self.drain();
        self.seen.retain(
            |event| !matches!(event, Event::Offered(offered) if offered.sdp.is_some() && self.offer.contains("offer")),
        );
        std::mem::take(&mut self.sent)
    }

    fn statuses(&mut self) -> Vec<u16> {
        statuses(&self.messages())
    }

    fn events(&mut self) -> Vec<Event> {
        self.drain();
        std::mem::take(&mut self.seen).into_iter().filter(|event| !matches!(event, Event::Offered(_))).collect()
    }

    fn learn_tag(&mut self, response: &str) {
        let to = response.lines().find(|line| line.starts_with("To:")).unwrap_or_default();
        self.to_tag = to.split("tag=").nth(1).unwrap_or_default().to_owned();
    }
}
