//! Calls against a scripted phone in virtual time, and mutations.

mod outside;
mod races;
mod refusals;
mod reliable;
mod replaces;
mod torture;
mod update;

use std::time::Duration;

use super::*;

#[test]
fn a_call_is_offered_rung_answered_acknowledged_and_ended() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call();
    assert_eq!(phone.statuses(), [100]);
    phone.endpoint.ring(dialog, None, phone.now).expect("early");
    phone.endpoint.answer(dialog, b"v=0", phone.now).expect("early");
    let answers = phone.messages();
    assert!(answers[0].starts_with("SIP/2.0 180 Ringing\r\n"));
    assert!(answers[1].contains("Contact: <sip:talkstack@10.0.0.2:5060>\r\n"), "{}", answers[1]);
    assert!(answers[1].contains("Via: SIP/2.0/UDP 10.0.0.1:5062;branch=z9hG4bKinv;rport=5062;received=10.0.0.1\r\n"));
    assert!(answers[1].ends_with("Content-Type: application/sdp\r\nContent-Length: 3\r\n\r\nv=0"), "{}", answers[1]);
    phone.learn_tag(&answers[1]);
    phone.send("ACK", 1, "z9hG4bKack", "");
    assert_eq!(phone.events(), [Event::Acknowledged { dialog, sdp: None }]);
    phone.send("BYE", 2, "z9hG4bKbye", "");
    assert_eq!(phone.statuses(), [200]);
    assert_eq!(phone.seen, [Event::Ended { dialog, cause: EndCause::Bye, reason: None }]);
    assert_eq!(phone.endpoint.dialogs(), 0);
    phone.send("BYE", 2, "z9hG4bKbye", "");
    assert_eq!(phone.statuses(), [200], "a retransmission gets the same answer");
    phone.send("BYE", 3, "z9hG4bKbye3", "");
    assert_eq!(phone.statuses(), [481]);
}

#[test]
fn the_200_is_repeated_until_the_ack_and_without_one_the_call_ends() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut phone = Phone::new(transport);
        let dialog = phone.call();
        phone.messages();
        phone.endpoint.answer(dialog, b"v=0", phone.now).expect("early");
        assert_eq!(phone.statuses(), [200]);
        let start = phone.now;
        let mut times = Vec::new();
        while let Some((at, _)) = phone.endpoint.poll_timeout().map(|(at, timer)| (at, timer.clone())) {
            if at > start + Duration::from_secs(32) {
                break;
            }
            phone.now = at;
            phone.endpoint.handle_timeout(at);
            for message in phone.messages() {
                let kind = message.split(' ').nth(if message.starts_with("SIP") { 1 } else { 0 }).unwrap_or_default();
                times.push((kind.to_owned(), (at - start).as_millis()));
            }
        }
        // RFC 3261 §13.3.1.4: over every transport, T1 doubling to T2, for 64·T1, then BYE.
        let copies: Vec<_> = times.iter().filter(|(kind, _)| kind == "200").map(|(_, at)| *at).collect();
        assert_eq!(copies[..5], [500, 1500, 3500, 7500, 11_500]);
        assert!(times.contains(&("BYE".into(), 32_000)), "{times:?}");
        assert_eq!(phone.seen.last(), Some(&Event::Ended { dialog, cause: EndCause::NoAck, reason: None }));
    }
}

#[test]
fn a_call_that_is_cancelled_gets_487_and_one_that_was_answered_does_not() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call();
    phone.messages();
    phone.send("CANCEL", 1, "z9hG4bKinv", "");
    assert_eq!(phone.statuses(), [200, 487]);
    assert_eq!(phone.seen, [Event::Ended { dialog, cause: EndCause::Cancelled, reason: None }]);
    assert!(phone.endpoint.answer(dialog, b"v=0", phone.now).is_err());

    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call();
    phone.endpoint.answer(dialog, b"v=0", phone.now).expect("early");
    phone.messages();
    phone.send("CANCEL", 1, "z9hG4bKinv", "");
    assert_eq!(phone.statuses(), [200], "RFC 3261 §9.2: no effect on the INVITE");
    phone.send("CANCEL", 1, "z9hG4bKother", "");
    assert_eq!(phone.statuses(), [481]);
}

#[test]
fn a_call_is_saved_before_its_answer_as_it_is_after() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call();
    assert_eq!(phone.endpoint.saved(dialog), None);
    let before = phone.endpoint.saved_before_answer(dialog).expect("it waits for its answer");
    phone.endpoint.answer(dialog, b"v=0", phone.now).expect("early");
    assert_eq!(phone.endpoint.saved(dialog).as_ref(), Some(&before));
    assert_eq!(phone.endpoint.saved_before_answer(dialog), None, "it was answered");
}

#[test]
fn a_refusal_names_its_cause_and_is_repeated_until_its_ack() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call();
    phone.messages();
    let refusal = Refusal {
        status: 404,
        reason: Some("no number \"1\"\r\nX: y on this box".into()),
        retry_after: Some(Duration::from_secs(5)),
        fields: vec![("X-Why", "be\r\ncause".into())],
    };
    phone.endpoint.refuse(dialog, refusal, phone.now).expect("early");
    let answer = phone.messages().remove(0);
    assert!(answer.contains("Reason: SIP;cause=404;text=\"no number 1X: y on this box\"\r\n"), "{answer}");
    assert!(answer.contains("Retry-After: 5\r\n") && answer.contains("X-Why: because\r\n"));
    phone.pass(500);
    assert_eq!(phone.statuses(), [404]);
    phone.learn_tag(&answer);
    phone.send("ACK", 1, "z9hG4bKinv", "");
    phone.pass(10_000);
    assert_eq!(phone.statuses(), [0u16; 0]);
    assert_eq!(phone.endpoint.dialogs(), 0);
}

#[test]
fn our_bye_waits_for_the_ack_and_is_repeated_until_its_answer() {
    let mut phone = Phone::answered();
    let dialog = phone.dialog;
    phone.endpoint.hang_up(dialog, None, phone.now).expect("up");
    assert_eq!(phone.messages(), [""; 0], "RFC 3261 §15: not before the ACK");
    phone.send("ACK", 1, "z9hG4bKack", "");
    let bye = phone.messages().remove(0);
    assert!(bye.starts_with("BYE sip:phone@10.0.0.1:5062 SIP/2.0\r\n"), "{bye}");
    phone.pass(500);
    assert_eq!(phone.messages(), [bye.as_str()]);
    phone.answer_to(&bye, 200);
    phone.pass(60_000);
    assert_eq!(phone.messages(), [""; 0]);
    assert_eq!(phone.endpoint.dialogs(), 0);
    assert!(phone.seen.iter().all(|event| !matches!(event, Event::Ended { .. })), "our own doing is no event");
}

#[test]
fn a_bye_that_nobody_answers_is_given_up_after_64_t1() {
    let mut phone = Phone::confirmed();
    phone.endpoint.hang_up(phone.dialog, None, phone.now).expect("up");
    phone.pass(32_000);
    assert_eq!(phone.endpoint.dialogs(), 0);
}

#[test]
fn a_probe_ends_only_a_dialog_that_nobody_knows() {
    for (status, ends) in [(Some(200), false), (Some(405), false), (Some(481), true), (Some(408), true), (None, true)] {
        let mut phone = Phone::confirmed();
        let dialog = phone.dialog;
        phone.endpoint.probe(dialog, phone.now).expect("up");
        let probe = phone.messages().remove(0);
        assert!(probe.starts_with("OPTIONS sip:phone@10.0.0.1:5062 SIP/2.0\r\n"), "{probe}");
        match status {
            Some(status) => phone.answer_to(&probe, status),
            None => phone.pass(32_000),
        }
        let sent = phone.messages();
        assert_eq!(sent.iter().any(|message| message.starts_with("BYE ")), ends, "{status:?}");
        assert_eq!(
            phone.events().contains(&Event::Ended { dialog, cause: EndCause::Gone, reason: None }),
            ends,
            "{status:?}"
        );
    }
}

#[test]
fn hold_is_offered_anew_and_its_answer_repeated_until_the_ack() {
    let mut phone = Phone::confirmed();
    let dialog = phone.dialog;
    phone.send("INVITE", 2, "z9hG4bKhold", "v=0 hold");
    assert_eq!(phone.events(), [Event::ReOffered { dialog, sdp: Some(b"v=0 hold".to_vec()), branch: 0 }]);
    phone.send("INVITE", 3, "z9hG4bKtoo", "v=0");
    assert_eq!(phone.statuses(), [100, 500], "RFC 3261 §14.2");
    phone.send("ACK", 3, "z9hG4bKtoo", "");
    phone.endpoint.answer(dialog, b"v=0 held", phone.now).expect("pending");
    assert_eq!(phone.statuses(), [200]);
    phone.pass(500);
    assert_eq!(phone.statuses(), [200]);
    phone.send("ACK", 2, "z9hG4bKack2", "");
    phone.pass(5_000);
    assert_eq!(phone.statuses(), [0u16; 0]);
    phone.send("INVITE", 2, "z9hG4bKold", "v=0");
    assert_eq!(phone.statuses(), [500], "its number is not above the last");
    phone.send("INVITE", 9, "z9hG4bKbad", "v=0");
    phone.endpoint.refuse(dialog, Refusal::new(488), phone.now).expect("pending");
    assert_eq!(phone.statuses(), [100, 488]);
    assert_eq!(phone.endpoint.dialogs(), 1, "RFC 3261 §14.2: the call goes on");
}

#[test]
fn a_late_offer_s_answer_comes_with_the_ack() {
    let mut phone = Phone::new(Transport::Udp);
    phone.offer = String::new();
    let dialog = phone.call();
    assert!(matches!(&phone.seen[0], Event::Offered(offered) if offered.sdp.is_none()));
    phone.endpoint.answer(dialog, b"v=0 ours", phone.now).expect("early");
    let answer = phone.messages().pop().expect("200");
    phone.learn_tag(&answer);
    phone.send("ACK", 1, "z9hG4bKack", "v=0 theirs");
    assert_eq!(phone.events(), [Event::Acknowledged { dialog, sdp: Some(b"v=0 theirs".to_vec()) }]);
}

#[test]
fn what_cannot_be_served_is_refused_as_the_rfc_wants() {
    for (request, status) in [
        ("OPTIONS sip:x SIP/2.0", 200),
        ("NEWMETHOD sip:x SIP/2.0", 501),
        ("SUBSCRIBE sip:x SIP/2.0", 405),
        ("PUBLISH sip:x SIP/2.0", 405),
        ("BYE sip:x SIP/2.0", 481),
        ("INVITE isbn:1 SIP/2.0", 416),
        ("INVITE sip:x SIP/3.0", 505),
    ] {
        let mut phone = Phone::new(Transport::Udp);
        let method = request.split(' ').next().unwrap_or_default();
        let to = if method == "BYE" { ";tag=gone" } else { "" };
        phone.raw(&format!("{request}\r\n{HEAD}To: <sip:x>{to}\r\nCSeq: 1 {method}\r\n\r\n"));
        assert_eq!(phone.statuses(), [status], "{request}");
    }
    for (field, status) in [
        ("Require: 100rel, x-other\r\n", 420),
        ("Accept: text/plain\r\n", 406),
        ("Content-Type: text/plain\r\nContent-Length: 1\r\n\r\nx", 415),
    ] {
        let mut phone = Phone::new(Transport::Udp);
        phone.raw(&format!("INVITE sip:x SIP/2.0\r\n{HEAD}To: <sip:x>\r\nCSeq: 1 INVITE\r\n{field}\r\n"));
        assert_eq!(phone.statuses(), [status], "{field}");
    }
}

#[test]
fn the_same_invite_by_another_path_is_a_loop() {
    let mut phone = Phone::new(Transport::Udp);
    phone.call();
    phone.messages();
    phone.send("INVITE", 1, "z9hG4bKpath2", "v=0");
    assert_eq!(phone.statuses(), [482]);
}

#[test]
fn dialogs_beyond_the_bound_get_503_with_a_time() {
    let mut phone = Phone::new(Transport::Udp);
    phone.endpoint.config.dialogs_max = 1;
    phone.call();
    phone.messages();
    phone.call_id = "another".into();
    phone.send("INVITE", 1, "z9hG4bKsecond", "v=0");
    let answer = phone.messages().remove(0);
    assert!(answer.starts_with("SIP/2.0 503 ") && answer.contains("Retry-After: 10\r\n"), "{answer}");
    assert_eq!(phone.endpoint.counters().overloaded, 1);
}

#[test]
fn an_answer_to_a_request_behind_a_nat_goes_to_its_source() {
    let mut phone = Phone::new(Transport::Udp);
    phone.flow.remote = "192.0.2.7:40000".parse().expect("address");
    phone.call();
    assert_eq!(phone.last_flow.expect("sent").remote, phone.flow.remote);
    // Without rport the port of sent-by counts (RFC 3261 §18.2.2).
    phone
        .raw(&format!("OPTIONS sip:x SIP/2.0\r\n{}To: <sip:x>\r\nCSeq: 1 OPTIONS\r\n\r\n", HEAD.replace(";rport", "")));
    phone.messages();
    assert_eq!(phone.last_flow.expect("sent").remote, "192.0.2.7:5062".parse().expect("address"));
}

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
            Output::Send { flow, bytes } => {
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
