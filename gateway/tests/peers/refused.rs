//! Each refusal of the RFCs, provoked over the wire; and that nothing which can be answered is met with silence.

use super::table::print;
use super::torture::{Strange, rand_word};
use crate::daemon::Daemon;

#[test]
fn each_fault_of_a_request_gets_the_answer_that_its_rfc_names() {
    let daemon = Daemon::serve(&[]);
    let phone = Strange::new(daemon.sip());
    let mut table = String::new();
    let mut red = String::new();
    for (status, what, request) in requests() {
        let got = phone.tells(request.write().as_bytes());
        let line = format!("{status} | {what:<58} | {got:?}\n");
        table.push_str(&line);
        if got.last() != Some(&status) {
            red.push_str(&line);
        }
    }
    print(&table);
    assert!(red.is_empty(), "not what the RFC names:\n{red}");
}

/// A request in parts, each of which can be made wrong.
struct Request {
    line: String,
    cseq: &'static str,
    call_id: String,
    to: &'static str,
    fields: &'static str,
    body: &'static str,
}

impl Request {
    fn new(line: &str, cseq: &'static str) -> Self {
        let (call_id, to) = (format!("refused-{}", rand_word()), "<sip:echo@box>");
        Request { line: line.into(), cseq, call_id, to, fields: "Max-Forwards: 70\r\n", body: "" }
    }

    fn invite() -> Self {
        let invite = Request::new("INVITE sip:echo@box SIP/2.0", "1 INVITE");
        Request { fields: "Max-Forwards: 70\r\nContent-Type: application/sdp\r\n", body: SDP, ..invite }
    }

    fn write(&self) -> String {
        let Request { line, cseq, call_id, to, fields, body } = self;
        let branch = rand_word();
        format!(
            "{line}\r\nVia: SIP/2.0/UDP phone;branch=z9hG4bKrefused{branch};rport\r\nFrom: <sip:a@b>;tag=1\r\nTo: {to}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq}\r\nContact: <sip:a@127.0.0.1:9>\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// What is to be answered, why, and to what.
fn requests() -> Vec<(u16, &'static str, Request)> {
    let options = |line: &str| Request::new(line, "1 OPTIONS");
    vec![
        (200, "OPTIONS", options("OPTIONS sip:box SIP/2.0")),
        (400, "CSeq of another method (RFC 3261 §8.1.1.5)", Request::new("OPTIONS sip:box SIP/2.0", "1 INFO")),
        (400, "URI in angle brackets (RFC 4475 §3.1.2.7)", options("OPTIONS <sip:box> SIP/2.0")),
        (
            404,
            "INVITE to nobody (§21.4.5)",
            Request { line: "INVITE sip:nobody@box SIP/2.0".into(), to: "<sip:nobody@box>", ..Request::invite() },
        ),
        (405, "SUBSCRIBE (§21.4.6)", Request::new("SUBSCRIBE sip:box SIP/2.0", "1 SUBSCRIBE")),
        (405, "PUBLISH (§21.4.6)", Request::new("PUBLISH sip:box SIP/2.0", "1 PUBLISH")),
        (406, "nothing acceptable (§21.4.7)", {
            let fields = "Max-Forwards: 70\r\nContent-Type: application/sdp\r\nAccept: text/x-none\r\n";
            Request { fields, ..Request::invite() }
        }),
        (415, "a body of another type (§21.4.13)", {
            Request { fields: "Max-Forwards: 70\r\nContent-Type: text/plain\r\n", ..Request::invite() }
        }),
        (416, "URI of another scheme (§21.4.14)", options("OPTIONS mailto:box SIP/2.0")),
        (420, "unknown extension required (§21.4.15)", {
            Request { fields: "Max-Forwards: 70\r\nRequire: x-unheard-of\r\n", ..options("OPTIONS sip:box SIP/2.0") }
        }),
        (481, "BYE of no dialog (§15.1.2)", {
            Request { to: "<sip:echo@box>;tag=none", ..Request::new("BYE sip:box SIP/2.0", "1 BYE") }
        }),
        (481, "CANCEL of nothing (§9.2)", Request::new("CANCEL sip:box SIP/2.0", "1 CANCEL")),
        (481, "re-INVITE of no dialog (§12.2.2)", Request { to: "<sip:echo@box>;tag=none", ..Request::invite() }),
        (481, "INFO of no dialog (RFC 6086 §4.2.2)", {
            Request { to: "<sip:echo@box>;tag=none", ..Request::new("INFO sip:box SIP/2.0", "1 INFO") }
        }),
        (481, "UPDATE of no dialog (RFC 3311 §5.2)", {
            Request { to: "<sip:echo@box>;tag=none", ..Request::new("UPDATE sip:box SIP/2.0", "1 UPDATE") }
        }),
        (481, "PRACK of no dialog (RFC 3262 §3)", {
            let fields = "Max-Forwards: 70\r\nRAck: 1 1 INVITE\r\n";
            Request { to: "<sip:echo@box>;tag=none", fields, ..Request::new("PRACK sip:box SIP/2.0", "2 PRACK") }
        }),
        (481, "NOTIFY of no subscription (RFC 6665 §4.1.3)", {
            let fields = "Max-Forwards: 70\r\nEvent: refer\r\nSubscription-State: active\r\n";
            Request { to: "<sip:echo@box>;tag=none", fields, ..Request::new("NOTIFY sip:box SIP/2.0", "1 NOTIFY") }
        }),
        (483, "no hops left (§8.1.1.6)", {
            Request { fields: "Max-Forwards: 0\r\nContent-Type: application/sdp\r\n", ..Request::invite() }
        }),
        (488, "no codec in common (§21.4.26)", {
            let body =
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 18\r\n";
            Request { body, ..Request::invite() }
        }),
        (501, "a method nobody knows (§21.5.2)", Request::new("DANCE sip:box SIP/2.0", "1 DANCE")),
        (505, "another version (§21.5.7)", options("OPTIONS sip:box SIP/3.0")),
    ]
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";
