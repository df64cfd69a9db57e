//! The torture messages of RFC 4475 and RFC 5118: one status for each, over UDP and over TCP.

use super::*;
use crate::sip::registrar::{Registering, Registrar};
use crate::sip::stream::{Framed, StreamFramer};

#[test]
fn torture_messages_get_what_their_rfc_wants() {
    let Some(corpora) = corpora() else { return };
    let index = std::fs::read_to_string(corpora.join("rfc4475/INDEX.csv")).expect("readable");
    let names: Vec<&str> = index.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    let expected: Vec<&str> = EXPECTED.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), 49);
    assert!(names.iter().all(|name| expected.contains(name)), "{names:?}");
    for (name, status) in EXPECTED {
        let bytes = std::fs::read(corpora.join("rfc4475").join(name)).expect("readable");
        assert_eq!(over_udp(&bytes).0, status, "{name} over UDP");
        // What a stream changes: without Content-Length nothing can be cut, and what is not there yet may come.
        let status = match name {
            "inv2543.dat" => 400,
            "clerr.dat" | "baddn.dat" => SILENCE,
            _ => status,
        };
        assert_eq!(over_tcp(&bytes), status, "{name} over TCP");
    }
}

#[test]
fn a_refusal_of_a_torture_message_says_what_would_be_taken() {
    let Some(corpora) = corpora() else { return };
    for (name, fields) in [
        ("intmeth.dat", &["Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK, UPDATE, REFER, NOTIFY"][..]),
        ("bext01.dat", &["Unsupported: nothingSupportsThis, nothingSupportsThisEither"]),
        ("invut.dat", &["Accept: application/sdp", "Accept-Encoding: identity"]),
        ("mpart01.dat", &["Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK, UPDATE, REFER, NOTIFY"]),
    ] {
        let bytes = std::fs::read(corpora.join("rfc4475").join(name)).expect("readable");
        let answer = over_udp(&bytes).1;
        assert!(fields.iter().all(|field| answer.contains(&format!("{field}\r\n"))), "{name}: {answer}");
    }
}

#[test]
fn ipv6_torture_messages_get_what_their_rfc_wants() {
    let Some(corpora) = corpora() else { return };
    for (name, status) in [
        ("ipv4-mapped-ipv6", OFFERED),
        // §4.2: the only one that is malformed, an address without its brackets.
        ("ipv6-bad", 400),
        ("ipv6-bug-abnf-3-colons", 200),
        ("ipv6-correct-abnf-2-colons", 200),
        ("ipv6-good", 200),
        ("ipv6-in-sdp", OFFERED),
        ("mult-ip-in-header", 481),
        ("mult-ip-in-sdp", OFFERED),
        ("port-ambiguous", 200),
        ("port-unambiguous", 200),
        ("via-received-param-no-delim", 200),
        ("via-received-param-with-delim", 481),
    ] {
        let text = std::fs::read_to_string(corpora.join("rfc5118").join(name)).expect("readable");
        // The files have bare line ends; the wire has not. The lengths in the RFC's text are not those of its bodies.
        let text = text.replace("\r\n", "\n").replace('\n', "\r\n");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text.trim_end(), ""));
        let head: Vec<&str> = head.split("\r\n").filter(|line| !line.starts_with("Content-Length")).collect();
        let text = format!("{}\r\nContent-Length: {}\r\n\r\n{body}", head.join("\r\n"), body.len());
        assert_eq!(over_udp(text.as_bytes()).0, status, "{name}");
    }
}

/// The last answer to a datagram: its status, [`OFFERED`] or [`SILENCE`], and its text.
fn over_udp(bytes: &[u8]) -> (u16, String) {
    let mut phone = Phone::new(Transport::Udp);
    phone.endpoint.handle_message(&phone.flow, bytes, phone.now);
    outcome(&mut phone)
}

/// The first answer to what was cut from a stream, or to the head that ended it.
fn over_tcp(bytes: &[u8]) -> u16 {
    let mut phone = Phone::new(Transport::Tcp);
    let mut framer = StreamFramer::default();
    framer.handle_bytes(bytes);
    let first = loop {
        match framer.next_framed() {
            Ok(Some(Framed::Message(bytes))) => break bytes,
            Ok(Some(Framed::Ping)) => {}
            Ok(None) => return SILENCE,
            Err(_) => break framer.take_head(),
        }
    };
    phone.endpoint.handle_message(&phone.flow, &first, phone.now);
    outcome(&mut phone).0
}

fn outcome(phone: &mut Phone) -> (u16, String) {
    let answer = phone.messages().pop().unwrap_or_default();
    match answer.get(8..11).and_then(|status| status.parse().ok()) {
        Some(100) => (OFFERED, answer),
        None => register(phone),
        status => (status.unwrap_or(SILENCE), answer),
    }
}

/// Has a registrar answer a REGISTER that has come, whoever it is of.
fn register(phone: &mut Phone) -> (u16, String) {
    let Some(Event::Registering { id, flow, request }) = phone.seen.pop() else { return (SILENCE, String::new()) };
    let user = request.core.to.uri.sip().and_then(|uri| uri.plain_user()).unwrap_or_default();
    let registering = Registering { user: &user, request: &request, flow: &flow, contacts_max: 5 };
    let reply = Registrar::default().handle_register(registering, phone.now);
    phone.endpoint.respond_outside(id, reply, phone.now);
    let answer = phone.messages().pop().unwrap_or_default();
    (answer.get(8..11).and_then(|status| status.parse().ok()).unwrap_or(SILENCE), answer)
}

/// `TALKSTACK_CORPORA`, else `shared/corpora` beside the checkout; says so when neither is there.
fn corpora() -> Option<std::path::PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpora");
    let path = std::env::var_os("TALKSTACK_CORPORA").map_or_else(|| beside.into(), std::path::PathBuf::from);
    if !path.is_dir() {
        eprintln!("skipped: no test corpora beside the checkout (TALKSTACK_CORPORA)");
        return None;
    }
    Some(path)
}

/// A call was offered.
const OFFERED: u16 = 1;

/// No answer.
const SILENCE: u16 = 0;

/// What each message of RFC 4475 gets. Where the RFC leaves it open, what is unambiguous is let through; MESSAGE, which
/// this element does not serve, gets 405. A REGISTER is judged as if its sender were proven.
const EXPECTED: [(&str, u16); 49] = [
    ("wsinv.dat", 481),
    ("intmeth.dat", 501),
    ("esc01.dat", OFFERED),
    ("escnull.dat", 200),
    ("esc02.dat", 501),
    ("lwsdisp.dat", 200),
    ("longreq.dat", OFFERED),
    ("dblreq.dat", 200),
    ("semiuri.dat", 200),
    ("transports.dat", 200),
    ("mpart01.dat", 405),
    ("unreason.dat", SILENCE),
    ("noreason.dat", SILENCE),
    ("badinv01.dat", 400),
    ("clerr.dat", 400),
    ("ncl.dat", 400),
    ("scalar02.dat", 400),
    ("scalarlg.dat", SILENCE),
    ("quotbal.dat", 400),
    ("ltgtruri.dat", 400),
    ("lwsruri.dat", 400),
    ("lwsstart.dat", OFFERED),
    ("trws.dat", 200),
    ("escruri.dat", OFFERED),
    ("baddate.dat", OFFERED),
    ("regbadct.dat", 400),
    ("badaspec.dat", 200),
    ("baddn.dat", 200),
    ("badvers.dat", 505),
    ("mismatch01.dat", 400),
    ("mismatch02.dat", 400),
    ("bigcode.dat", SILENCE),
    ("badbranch.dat", 200),
    ("insuf.dat", 400),
    ("unkscm.dat", 416),
    ("novelsc.dat", 416),
    ("unksm2.dat", 404),
    ("bext01.dat", 420),
    ("invut.dat", 415),
    ("regaut01.dat", 200),
    ("multi01.dat", 400),
    ("mcl01.dat", 400),
    ("bcast.dat", SILENCE),
    ("zeromf.dat", 200),
    ("cparam01.dat", 200),
    ("cparam02.dat", 200),
    ("regescrt.dat", 200),
    ("sdp01.dat", 406),
    ("inv2543.dat", OFFERED),
];
