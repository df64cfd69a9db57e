//! Calls placed at a scripted trunk in virtual time, challenges, forks, crashes, and mutations.

use std::time::{Duration, Instant};

use super::*;
use crate::sip::Transport;
use crate::sip::digest::{Answered, Challenge, Credentials};
use crate::sip::endpoint::EndpointConfig;
use crate::sip::endpoint::tests::{drain, flow, statuses};
use crate::sip::message::{Framing, Message, Uri, parse};

#[test]
fn a_call_rings_is_answered_acknowledged_and_ended_by_us() {
    let mut trunk = Trunk::called();
    let invite = trunk.take();
    assert!(invite.starts_with("INVITE sip:+15551234567@trunk.example:5060 SIP/2.0\r\n"), "{invite}");
    assert!(invite.contains("\r\nFrom: <sip:+15557654321@10.0.0.2>;tag="), "{invite}");
    assert!(invite.contains("\r\nTo: <sip:+15551234567@trunk.example>\r\n"), "{invite}");
    assert!(invite.contains("\r\nP-Asserted-Identity: <sip:+15557654321@10.0.0.2>\r\n"), "{invite}");
    assert!(invite.contains("\r\nContact: <sip:talkstack@10.0.0.2:5060>\r\n"), "{invite}");
    assert!(
        field(&invite, "Supported") == "100rel, timer, replaces, norefersub" && field(&invite, "CSeq") == "1 INVITE",
        "{invite}"
    );
    assert!(invite.ends_with("Content-Type: application/sdp\r\nContent-Length: 9\r\n\r\nv=0 offer"), "{invite}");
    let dialog = trunk.dialog;
    assert_eq!(trunk.endpoint.call_id_of(dialog), Some(field(&invite, "Call-ID")));

    trunk.answer(&invite, 100, "", "", "");
    trunk.answer(&invite, 180, "a", "", "");
    trunk.answer(&invite, 180, "a", "", "");
    trunk.answer(&invite, 183, "a", "", "v=0 early");
    trunk.answer(&invite, 200, "a", ROUTED, "");
    assert_eq!(
        trunk.events(),
        [
            Event::Progressed { dialog, status: 180, sdp: None, branch: 1 },
            Event::Progressed { dialog, status: 183, sdp: Some(b"v=0 early".to_vec()), branch: 1 },
            Event::Accepted { dialog, sdp: None, branch: 1 },
        ]
    );
    let ack = trunk.take();
    assert!(ack.starts_with("ACK sip:callee@10.0.0.9:5070 SIP/2.0\r\n"), "{ack}");
    assert!(ack.contains("\r\nRoute: <sip:10.0.0.8;lr>\r\nRoute: <sip:10.0.0.7;lr>\r\n"), "reversed: {ack}");
    assert_eq!(field(&ack, "CSeq"), "1 ACK");
    assert_ne!(branch(&ack), branch(&invite), "RFC 3261 §13.2.2.4: an ACK of its own");
    assert_eq!(trunk.last_flow.expect("sent").remote, "10.0.0.8:5060".parse().expect("address"));
    trunk.answer(&invite, 200, "a", ROUTED, "");
    assert_eq!(trunk.messages(), [ack], "the same ACK for each copy");
    assert_eq!(trunk.events(), []);

    trunk.endpoint.hang_up(dialog, None, trunk.now).expect("up");
    let bye = trunk.take();
    assert!(bye.starts_with("BYE sip:callee@10.0.0.9:5070 SIP/2.0\r\n"), "{bye}");
    assert!(bye.contains("\r\nRoute: <sip:10.0.0.8;lr>\r\nRoute: <sip:10.0.0.7;lr>\r\n"), "{bye}");
    assert_eq!((field(&bye, "CSeq"), field(&bye, "From")), ("2 BYE", field(&invite, "From")));
    assert_eq!(field(&bye, "To"), "<sip:+15551234567@trunk.example>;tag=a");
    trunk.answer(&bye, 200, "a", "", "");
    trunk.assert_nothing_is_left();
}

#[test]
fn an_invite_is_repeated_over_udp_and_given_up_after_64_t1() {
    let mut trunk = Trunk::called();
    let invite = trunk.take();
    let (sent, events) = trunk.timetable(40_000);
    let times: Vec<_> = sent.iter().map(|(ms, _)| *ms).collect();
    assert_eq!(times, [500, 1500, 3500, 7500, 15_500, 31_500], "timer A");
    assert!(sent.iter().all(|(_, message)| *message == invite), "each is the same");
    assert_eq!(events, [(32_000, Event::Unanswered { dialog: trunk.dialog })], "timer B");
    assert_eq!(trunk.endpoint.dialogs(), 0);
    trunk.assert_nothing_is_left();
}

#[test]
fn over_tcp_nothing_is_repeated_and_timer_b_counts_as_well() {
    let mut trunk = Trunk::new(Transport::Tcp);
    trunk.call(None);
    let invite = trunk.take();
    assert!(invite.contains("Via: SIP/2.0/TCP 10.0.0.2:5060;branch="), "{invite}");
    assert!(invite.contains("Contact: <sip:talkstack@10.0.0.2:5060;transport=tcp>\r\n"), "{invite}");
    let (sent, events) = trunk.timetable(40_000);
    assert_eq!(sent, []);
    assert_eq!(events, [(32_000, Event::Unanswered { dialog: trunk.dialog })]);
    trunk.assert_nothing_is_left();
}

#[test]
fn a_trunk_that_cannot_be_reached_is_told_at_once_and_an_answered_call_stays() {
    let mut trunk = Trunk::called();
    trunk.take();
    trunk.endpoint.handle_unreachable(trunk.dialog, trunk.now);
    assert_eq!(trunk.events(), [Event::Unanswered { dialog: trunk.dialog }]);
    trunk.assert_nothing_is_left();

    let mut trunk = Trunk::answered();
    trunk.endpoint.handle_unreachable(trunk.dialog, trunk.now);
    assert_eq!((trunk.events(), trunk.endpoint.dialogs()), (vec![], 1));
}

#[test]
fn a_refusal_is_acknowledged_in_its_transaction_until_timer_d() {
    for (transport, linger) in [(Transport::Udp, 32_000), (Transport::Tcp, 0)] {
        let mut trunk = Trunk::new(transport);
        trunk.fields.push(("Route", "<sip:edge.example;lr>".into()));
        trunk.call(None);
        let invite = trunk.take();
        trunk.answer(&invite, 486, "b", "Retry-After: 120;duration=60 (lunch)\r\n", "");
        let ack = trunk.take();
        assert!(ack.starts_with("ACK sip:+15551234567@trunk.example:5060 SIP/2.0\r\n"), "{ack}");
        assert_eq!((branch(&ack), field(&ack, "CSeq")), (branch(&invite), "1 ACK"));
        assert_eq!((field(&ack, "From"), field(&ack, "Via")), (field(&invite, "From"), field(&invite, "Via")));
        assert_eq!(field(&ack, "Route"), "<sip:edge.example;lr>");
        assert_eq!(field(&ack, "To"), "<sip:+15551234567@trunk.example>;tag=b");
        let retry_after = Some(Duration::from_secs(120));
        let refused = Event::Refused { dialog: trunk.dialog, status: 486, contacts: vec![], retry_after, reason: None };
        assert_eq!(trunk.events(), [refused]);
        assert_eq!(trunk.endpoint.dialogs(), 0);
        if linger > 0 {
            trunk.pass(linger - 1);
            trunk.answer(&invite, 486, "b", "", "");
            assert_eq!(trunk.messages(), [ack], "a copy is acknowledged as the first was");
        }
        trunk.pass(1);
        trunk.answer(&invite, 486, "b", "", "");
        assert_eq!((trunk.messages(), trunk.events()), (vec![], vec![]), "timer D is over");
        trunk.assert_nothing_is_left();
    }
}

#[test]
fn a_redirection_lists_at_most_five_targets_by_their_q() {
    let mut trunk = Trunk::called();
    let invite = trunk.take();
    let contacts = "Contact: <sip:low@x>;q=0.1, <sip:first@x>\r\nContact: <sip:half@x>;q=0.5, <sip:second@x>;q=1.0\r\n\
        Contact: <sip:odd@x>;q=7, <tel:+15550001>;q=0.9, <sip:last@x>;q=0.05\r\n";
    trunk.answer(&invite, 302, "b", contacts, "");
    let [Event::Refused { status: 302, contacts, .. }] = &trunk.events()[..] else { panic!("no redirection") };
    let shown: Vec<_> = contacts.iter().map(Uri::to_string).collect();
    assert_eq!(shown, ["sip:first@x", "sip:second@x", "tel:+15550001", "sip:half@x", "sip:low@x"]);
    // Contacts of other refusals tell something else (RFC 3261 §13.2.2.3).
    let mut trunk = Trunk::called();
    let invite = trunk.take();
    trunk.answer(&invite, 404, "b", "Contact: <sip:why@x>\r\n", "");
    assert!(matches!(&trunk.events()[..], [Event::Refused { contacts, .. }] if contacts.is_empty()));
}

#[test]
fn every_2xx_of_a_fork_is_acknowledged_and_all_but_the_first_get_bye() {
    let mut trunk = Trunk::called();
    let invite = trunk.take();
    for tag in ["a", "b", "c"] {
        trunk.answer(&invite, 180, tag, "", "");
    }
    assert_eq!(trunk.events().len(), 3, "each branch rings");
    trunk.answer(&invite, 200, "b", CONTACT, "v=0 b");
    assert_eq!(trunk.events(), [Event::Accepted { dialog: trunk.dialog, sdp: Some(b"v=0 b".to_vec()), branch: 2 }]);
    assert!(trunk.take().starts_with("ACK "));
    trunk.answer(&invite, 200, "c", CONTACT, "v=0 c");
    let [ack, bye] = &trunk.messages()[..] else { panic!("ACK and BYE") };
    assert!(ack.starts_with("ACK ") && bye.starts_with("BYE "), "{ack}{bye}");
    assert!(field(ack, "To").ends_with(";tag=c") && field(bye, "To").ends_with(";tag=c"));
    assert_eq!(trunk.events(), [], "its user knows one dialog");
    trunk.answer(&invite, 200, "c", CONTACT, "v=0 c");
    assert_eq!(trunk.messages(), [ack.as_str()], "a copy: no second BYE");
    trunk.answer(bye, 200, "c", "", "");
    assert_eq!(trunk.endpoint.dialogs(), 1);
    trunk.request("BYE", 1, "b");
    assert_eq!(trunk.events(), [Event::Ended { dialog: trunk.dialog, cause: EndCause::Bye, reason: None }]);
    trunk.assert_nothing_is_left();
}

#[test]
fn a_call_nobody_answered_is_cancelled_after_the_first_provisional_response() {
    let mut trunk = Trunk::called();
    let invite = trunk.take();
    trunk.endpoint.hang_up(trunk.dialog, Some("gave up".into()), trunk.now).expect("up");
    assert_eq!(trunk.messages(), [""; 0], "RFC 3261 §9.1: not before a response");
    trunk.answer(&invite, 100, "", "", "");
    let cancel = trunk.take();
    assert!(cancel.starts_with("CANCEL sip:+15551234567@trunk.example:5060 SIP/2.0\r\n"), "{cancel}");
    assert_eq!((branch(&cancel), field(&cancel, "CSeq")), (branch(&invite), "1 CANCEL"));
    for name in ["Via", "From", "To", "Call-ID"] {
        assert_eq!(field(&cancel, name), field(&invite, name));
    }
    assert!(cancel.contains("Reason: SIP;cause=487;text=\"gave up\"\r\n"), "{cancel}");
    trunk.answer(&invite, 180, "a", "", "");
    trunk.endpoint.hang_up(trunk.dialog, None, trunk.now).expect("still up");
    assert_eq!(trunk.messages(), [""; 0], "one CANCEL");
    trunk.answer(&cancel, 200, "a", "", "");
    trunk.answer(&invite, 487, "a", "", "");
    assert!(trunk.take().starts_with("ACK "));
    assert_eq!(trunk.events(), [], "our own doing is no event");
    assert_eq!(trunk.endpoint.dialogs(), 0);
    trunk.assert_nothing_is_left();
}

#[test]
fn an_answer_that_crosses_the_cancel_is_acknowledged_and_ended() {
    let mut trunk = Trunk::ringing();
    trunk.endpoint.hang_up(trunk.dialog, Some("gave up".into()), trunk.now).expect("up");
    assert!(trunk.take().starts_with("CANCEL "));
    let invite = trunk.invite.clone();
    trunk.answer(&invite, 200, "a", CONTACT, "v=0");
    let [ack, bye] = &trunk.messages()[..] else { panic!("ACK and BYE") };
    assert!(ack.starts_with("ACK ") && bye.starts_with("BYE "), "{ack}{bye}");
    assert!(bye.contains("text=\"gave up\""), "{bye}");
    trunk.answer(bye, 200, "a", "", "");
    assert_eq!((trunk.events(), trunk.endpoint.dialogs()), (vec![], 0));
    trunk.assert_nothing_is_left();
}

#[test]
fn a_cancel_that_brings_no_final_response_is_given_up_after_64_t1() {
    let mut trunk = Trunk::ringing();
    trunk.endpoint.hang_up(trunk.dialog, None, trunk.now).expect("up");
    let cancel = trunk.take();
    trunk.answer(&cancel, 200, "a", "", "");
    trunk.pass(31_999);
    assert_eq!(trunk.endpoint.dialogs(), 1);
    trunk.pass(1);
    assert_eq!((trunk.endpoint.dialogs(), trunk.events()), (0, vec![]));
    trunk.assert_nothing_is_left();

    // Hung up before any response: timer B ends it, silently.
    let mut trunk = Trunk::called();
    trunk.endpoint.hang_up(trunk.dialog, None, trunk.now).expect("up");
    trunk.pass(32_000);
    assert_eq!((trunk.endpoint.dialogs(), trunk.events()), (0, vec![]));
    trunk.assert_nothing_is_left();
}

#[test]
fn a_challenge_is_answered_in_the_same_call_with_another_branch_and_number() {
    for (status, asks, answers) in
        [(401, "WWW-Authenticate", "Authorization"), (407, "Proxy-Authenticate", "Proxy-Authorization")]
    {
        let mut trunk = Trunk::called_with_credentials();
        let invite = trunk.take();
        let challenge = "Digest realm=\"trunk\", nonce=\"n1\", qop=\"auth\", opaque=\"o\", algorithm=MD5";
        let sha = "Digest realm=\"trunk\", nonce=\"n1\", qop=\"auth\", algorithm=SHA-256";
        trunk.answer(&invite, status, "x", &format!("{asks}: {sha}\r\n{asks}: {challenge}\r\n"), "");
        let [ack, again] = &trunk.messages()[..] else { panic!("ACK and INVITE") };
        assert_eq!((branch(ack), field(ack, "CSeq")), (branch(&invite), "1 ACK"));
        assert_ne!(branch(again), branch(&invite));
        assert_eq!(field(again, "CSeq"), "2 INVITE");
        for name in ["From", "To", "Call-ID"] {
            assert_eq!(field(again, name), field(&invite, name), "RFC 3261 §22.2");
        }
        check_answer(challenge, field(again, answers), "INVITE", "sip:+15551234567@trunk.example:5060", 1);
        assert!(field(again, answers).contains("algorithm=MD5") && field(again, answers).contains("opaque=\"o\""));
        assert!(again.ends_with("v=0 offer"));
        assert_eq!(trunk.events(), [], "its user is not asked");
        let again = again.clone();
        trunk.answer(&invite, status, "x", &format!("{asks}: {challenge}\r\n"), "");
        assert_eq!(trunk.messages(), [ack.as_str()], "a copy of the challenge gets its ACK only");
        trunk.answer(&again, 200, "a", CONTACT, "v=0");
        let ack = trunk.take();
        assert_eq!(field(&ack, answers), field(&again, answers), "RFC 3261 §13.2.2.4: the INVITE's credentials");
        assert_eq!(field(&ack, "CSeq"), "2 ACK");
        trunk.endpoint.hang_up(trunk.dialog, None, trunk.now).expect("up");
        assert_eq!(field(&trunk.take(), "CSeq"), "3 BYE");
    }
}

#[test]
fn a_challenge_is_answered_twice_at_most_and_again_only_where_that_helps() {
    let with = |nonce: &str, more: &str| format!("WWW-Authenticate: Digest realm=\"t\", nonce=\"{nonce}\"{more}\r\n");
    let proxy = "Proxy-Authenticate: Digest realm=\"p\", nonce=\"p1\", qop=\"auth\"\r\n".to_owned();
    // Challenges in turn, and how many INVITEs they bring.
    for (challenges, invites, name) in [
        (vec![(401, with("1", "")), (401, with("2", ""))], 2, "a wrong password"),
        (vec![(401, with("1", "")), (401, with("2", ", stale=true"))], 3, "a stale nonce"),
        (vec![(407, proxy.clone()), (401, with("1", ""))], 3, "a proxy and the server behind it"),
        (vec![(401, with("1", "")), (401, with("2", ", stale=true")), (401, with("3", ", stale=true"))], 3, "no end"),
        (vec![(401, "WWW-Authenticate: Basic realm=\"t\"\r\n".into())], 1, "no digest"),
        (vec![(401, proxy.clone())], 1, "the wrong field"),
        (vec![(407, String::new())], 1, "no challenge"),
    ] {
        let mut trunk = Trunk::called_with_credentials();
        let mut sent = vec![trunk.take()];
        for (status, challenge) in &challenges {
            let last = sent.last().expect("one").clone();
            trunk.answer(&last, *status, "x", challenge, "");
            sent.extend(trunk.messages().into_iter().filter(|message| message.starts_with("INVITE ")));
        }
        assert_eq!(sent.len(), invites, "{name}");
        let is_refused = matches!(&trunk.events()[..], [Event::Refused { status, .. }] if *status == challenges.last().expect("one").0);
        assert_eq!(is_refused, invites <= challenges.len(), "{name}");
        if name.starts_with("a proxy") {
            let last = &sent[2];
            assert!(field(last, "Proxy-Authorization").contains("nc=00000002"), "the proxy's answer stays: {last}");
            assert!(field(last, "Authorization").contains("realm=\"t\""), "{last}");
        }
    }
    let mut trunk = Trunk::called();
    let invite = trunk.take();
    trunk.answer(&invite, 401, "x", &with("1", ""), "");
    assert!(matches!(trunk.events()[..], [Event::Refused { status: 401, .. }]), "no credentials");
    assert!(trunk.messages().iter().all(|message| message.starts_with("ACK ")));
}

#[test]
fn a_challenge_to_a_request_within_the_dialog_is_answered_for_the_trunk_alone() {
    let challenge = "Digest realm=\"t\", nonce=\"n\", qop=\"auth\"";
    let field_line = format!("Proxy-Authenticate: {challenge}\r\n");
    for (contact, is_answered) in [("<sip:callee@10.0.0.1:5062>", true), ("<sip:callee@10.0.0.66>", false)] {
        let mut trunk = Trunk::called_with_credentials();
        let invite = trunk.take();
        trunk.answer(&invite, 200, "a", &format!("Contact: {contact}\r\n"), "v=0");
        assert_eq!((trunk.messages().len(), trunk.events().len()), (1, 1));
        trunk.endpoint.probe(trunk.dialog, trunk.now).expect("up");
        let probe = trunk.take();
        trunk.answer(&probe, 407, "a", &field_line, "");
        assert_eq!(trunk.messages().len(), usize::from(is_answered), "{contact}: OPTIONS");
        trunk.endpoint.hang_up(trunk.dialog, Some("done".into()), trunk.now).expect("up");
        let bye = trunk.take();
        trunk.answer(&bye, 407, "a", &field_line, "");
        let again = trunk.messages();
        assert_eq!(again.len(), usize::from(is_answered), "{contact}: BYE");
        if let [again] = &again[..] {
            assert_eq!((field(&bye, "CSeq"), field(again, "CSeq")), ("4 BYE", "5 BYE"), "behind two OPTIONS");
            assert!(again.contains("text=\"done\""), "{again}");
            // The nonce answered the OPTIONS before.
            check_answer(challenge, field(again, "Proxy-Authorization"), "BYE", "sip:callee@10.0.0.1:5062", 2);
            assert_eq!(trunk.endpoint.dialogs(), 1);
            trunk.answer(again, 407, "a", &field_line, "");
            assert_eq!(trunk.messages(), [""; 0], "once");
        }
        assert_eq!((trunk.endpoint.dialogs(), trunk.events()), (0, vec![]));
        trunk.assert_nothing_is_left();
    }
}

#[test]
fn a_called_side_s_requests_work_as_a_caller_s_do() {
    let mut trunk = Trunk::answered();
    let dialog = trunk.dialog;
    trunk.request("INFO", 0, "a");
    assert_eq!(trunk.statuses(), [200], "its first number may be 0");
    trunk.request("OPTIONS", 1, "a");
    assert_eq!(trunk.statuses(), [200]);
    trunk.request("INVITE", 7, "a");
    assert_eq!(trunk.statuses(), [100]);
    assert_eq!(trunk.events(), [Event::ReOffered { dialog, sdp: Some(b"v=0 hold".to_vec()), branch: 0 }]);
    trunk.endpoint.answer(dialog, b"v=0 held", trunk.now).expect("pending");
    assert_eq!(trunk.statuses(), [200]);
    trunk.request("ACK", 7, "a");
    assert_eq!(trunk.events(), [Event::Acknowledged { dialog, sdp: None }]);
    trunk.request("INFO", 7, "a");
    assert_eq!(trunk.statuses(), [500], "its numbers rise");
    trunk.request("BYE", 8, "stranger");
    assert_eq!(trunk.statuses(), [481]);
    trunk.endpoint.probe(dialog, trunk.now).expect("up");
    assert_eq!(field(&trunk.take(), "CSeq"), "2 OPTIONS", "ours are a space of their own");
    trunk.request("BYE", 8, "a");
    assert_eq!(trunk.statuses(), [200]);
    assert_eq!(trunk.events(), [Event::Ended { dialog, cause: EndCause::Bye, reason: None }]);
    trunk.assert_nothing_is_left();
}

#[test]
fn an_early_dialog_takes_info_and_no_bye() {
    let mut trunk = Trunk::ringing();
    trunk.request("INFO", 1, "a");
    trunk.request("BYE", 2, "a");
    trunk.request("INVITE", 3, "a");
    assert_eq!(trunk.statuses(), [200, 481, 481]);
    let invite = trunk.invite.clone();
    trunk.answer(&invite, 200, "a", CONTACT, "");
    trunk.messages();
    trunk.request("INFO", 1, "a");
    assert_eq!(trunk.statuses(), [200], "a copy of the first gets its answer");
    trunk.endpoint.hang_up(trunk.dialog, None, trunk.now).expect("up");
    assert_eq!(field(&trunk.take(), "CSeq"), "2 BYE");
}

#[test]
fn at_most_eight_branches_of_a_fork_are_told() {
    let mut trunk = Trunk::called();
    let invite = trunk.take();
    for branch in 0..100 {
        trunk.answer(&invite, 180, &format!("t{branch}"), "", "");
    }
    assert_eq!(trunk.events().len(), 8);
    for branch in 0..100 {
        trunk.answer(&invite, 200, &format!("t{branch}"), CONTACT, "");
    }
    let sent = trunk.messages();
    assert_eq!(sent.iter().filter(|message| message.starts_with("ACK ")).count(), 9);
    assert_eq!(sent.iter().filter(|message| message.starts_with("BYE ")).count(), 8);
    assert_eq!((trunk.events().len(), trunk.endpoint.dialogs()), (1, 9));
}

#[test]
fn a_dialog_over_tcp_follows_the_stream_of_its_responses() {
    let mut trunk = Trunk::new(Transport::Tcp);
    trunk.call(Some(credentials()));
    let invite = trunk.take();
    trunk.flow.stream = Some(StreamId(2));
    trunk.answer(&invite, 401, "x", "WWW-Authenticate: Digest realm=\"t\", nonce=\"n\"\r\n", "");
    let again = trunk.messages().pop().expect("INVITE");
    assert_eq!(trunk.last_flow.expect("sent").stream, Some(StreamId(2)));
    trunk.flow.stream = Some(StreamId(3));
    trunk.answer(&again, 180, "a", "", "");
    trunk.endpoint.hang_up(trunk.dialog, None, trunk.now).expect("up");
    let cancel = trunk.take();
    assert!(cancel.starts_with("CANCEL ") && !cancel.contains("Authorization"), "{cancel}");
    assert_eq!(trunk.last_flow.expect("sent").stream, Some(StreamId(3)));

    let mut trunk = Trunk::new(Transport::Tcp);
    trunk.call(None);
    let invite = trunk.take();
    trunk.flow.stream = Some(StreamId(3));
    trunk.answer(&invite, 200, "a", CONTACT, "");
    assert!(trunk.take().starts_with("ACK "));
    assert_eq!(trunk.last_flow.expect("sent").stream, Some(StreamId(3)));
    trunk.endpoint.hang_up(trunk.dialog, None, trunk.now).expect("up");
    trunk.take();
    assert_eq!(trunk.last_flow.expect("sent").stream, Some(StreamId(3)));
}

#[test]
fn a_contact_that_means_nothing_here_is_not_followed() {
    for (remote, contact, goes_to) in [
        ("203.0.113.5:5060", "Contact: <sip:x@192.168.1.10:5070>\r\n", "203.0.113.5:5060"),
        ("203.0.113.5:5060", "Contact: <sip:x@127.0.0.1>\r\n", "203.0.113.5:5060"),
        ("203.0.113.5:5060", "Contact: <sip:x@0.0.0.0>\r\n", "203.0.113.5:5060"),
        ("203.0.113.5:5060", "Contact: <sip:x@255.255.255.255>\r\n", "203.0.113.5:5060"),
        ("203.0.113.5:5060", "Contact: <sip:x@[2001:db8::1]>\r\n", "203.0.113.5:5060"),
        ("203.0.113.5:5060", "Contact: <sip:x@media.example>\r\n", "203.0.113.5:5060"),
        ("203.0.113.5:5060", "", "203.0.113.5:5060"),
        ("203.0.113.5:5060", "Contact: <sip:x@198.51.100.7:5070>\r\n", "198.51.100.7:5070"),
        ("10.0.0.1:5060", "Contact: <sip:x@10.0.0.9:5070>\r\n", "10.0.0.9:5070"),
        ("127.0.0.1:5060", "Contact: <sip:x@127.0.0.1:5070>\r\n", "127.0.0.1:5070"),
    ] {
        let mut trunk = Trunk::new(Transport::Udp);
        trunk.flow.remote = remote.parse().expect("address");
        trunk.call(None);
        let invite = trunk.take();
        trunk.answer(&invite, 200, "a", contact, "");
        trunk.take();
        assert_eq!(trunk.last_flow.expect("sent").remote, goes_to.parse().expect("address"), "{contact}");
    }
}

#[test]
fn responses_that_only_share_the_branch_are_dropped() {
    let mut trunk = Trunk::called();
    let invite = trunk.take();
    let tag = field(&invite, "From").split("tag=").nth(1).expect("tag").to_owned();
    let call_id = field(&invite, "Call-ID").to_owned();
    for (from, to) in [
        (call_id.as_str(), "other"),
        (tag.as_str(), "other"),
        ("CSeq: 1 INVITE", "CSeq: 2 INVITE"),
        ("To: ", "Via: SIP/2.0/UDP 10.0.0.2;branch=z9hG4bKx\r\nTo: "),
    ] {
        let text = invite.replace(from, to);
        assert_ne!(text, invite);
        trunk.answer(&text, 200, "a", CONTACT, "");
    }
    assert_eq!((trunk.messages(), trunk.events()), (vec![], vec![]));
    assert_eq!(trunk.endpoint.counters().dropped, 4);
}

#[test]
fn dialogs_beyond_the_bound_are_not_placed() {
    let mut trunk = Trunk::called();
    trunk.endpoint.config.dialogs_max = 1;
    trunk.take();
    assert_eq!(trunk.endpoint.invite(trunk.order(None), trunk.now), Err(InviteError::Overloaded));
    assert_eq!((trunk.messages(), trunk.endpoint.counters().overloaded), (vec![], 1));
}

#[test]
fn values_of_an_order_cannot_add_header_fields() {
    let mut trunk = Trunk::new(Transport::Udp);
    trunk.fields.push(("Subject", "a\r\nX-Evil: b".into()));
    let mut order = trunk.order(None);
    order.from = "\"a\r\nX-Evil: b\" <sip:a@b>".into();
    order.request_uri = Uri::parse("sip:a@b?X-Evil=1").expect("a URI");
    trunk.endpoint.invite(order, trunk.now).expect("room");
    let invite = trunk.take();
    assert!(!invite.contains("\r\nX-Evil") && invite.starts_with("INVITE sip:a@b SIP/2.0\r\n"), "{invite}");
}

#[test]
fn a_saved_dialog_is_ended_by_a_later_process() {
    let mut trunk = Trunk::called();
    assert_eq!(trunk.endpoint.saved(trunk.dialog), None, "not before the answer");
    let invite = trunk.take();
    trunk.answer(&invite, 200, "a", ROUTED, "");
    assert_eq!((trunk.messages().len(), trunk.events().len()), (1, 1));
    let saved = trunk.endpoint.saved(trunk.dialog).expect("answered");
    assert!(!saved.contains('\n'));
    trunk.endpoint.hang_up(trunk.dialog, None, trunk.now).expect("up");
    let bye = trunk.take();
    assert_eq!(trunk.endpoint.saved(trunk.dialog), None, "it is ending");

    trunk.endpoint = Endpoint::new(EndpointConfig::default(), [9; 32]);
    trunk.endpoint.end_saved(&saved, trunk.now).expect("readable");
    let later = trunk.take();
    assert_eq!(later.lines().next(), bye.lines().next());
    for name in ["From", "To", "Call-ID", "Route", "Contact"] {
        assert_eq!(field(&later, name), field(&bye, name));
    }
    assert_eq!(field(&later, "CSeq"), "1002 BYE", "above whatever was sent since");
    assert_eq!(trunk.last_flow.expect("sent").remote, "10.0.0.8:5060".parse().expect("address"));
    trunk.pass(500);
    assert_eq!(trunk.messages(), [later.as_str()], "repeated as any BYE");
    trunk.answer(&later, 481, "a", "", "");
    assert_eq!((trunk.events(), trunk.endpoint.dialogs()), (vec![], 0));
    trunk.assert_nothing_is_left();
}

#[test]
fn a_saved_dialog_is_ended_where_its_requests_went() {
    for (transport, remote) in [(Transport::Udp, "203.0.113.5:5062"), (Transport::Tcp, "10.0.0.1:5062")] {
        let mut trunk = Trunk::new(transport);
        trunk.flow.remote = remote.parse().expect("address");
        trunk.call(None);
        let invite = trunk.take();
        trunk.answer(&invite, 200, "a", "Contact: <sip:x@192.168.1.10:5070>\r\n", "");
        let saved = trunk.endpoint.saved(trunk.dialog).expect("answered");
        trunk.messages();
        trunk.endpoint = Endpoint::new(EndpointConfig::default(), [9; 32]);
        trunk.endpoint.end_saved(&saved, trunk.now).expect("readable");
        assert!(trunk.take().starts_with("BYE sip:x@192.168.1.10:5070 SIP/2.0\r\n"));
        assert_eq!(
            trunk.last_flow,
            Some(Flow { stream: None, ..trunk.flow }),
            "a stream is the next process's to open"
        );
    }
}

#[test]
fn damaged_saved_dialogs_are_errors() {
    let trunk = Trunk::answered();
    let saved = trunk.endpoint.saved(trunk.dialog).expect("answered");
    let mut endpoint = Endpoint::new(EndpointConfig::default(), [9; 32]);
    for cut in 0..saved.len() {
        let _ = endpoint.end_saved(&saved[..cut], trunk.now).expect_err("cut");
    }
    for (from, to) in [("tag=a\"", "tag=a\\r\\nX: y\""), ("\"cseq\":1", "\"cseq\":2147483647"), ("\"sip:c", "\"c")] {
        let text = saved.replace(from, to);
        assert_ne!(text, saved, "{from}");
        assert!(matches!(endpoint.end_saved(&text, trunk.now), Err(SavedError::Value)), "{text}");
    }
    assert_eq!((endpoint.dialogs(), endpoint.poll_output()), (0, None));
}

#[test]
fn what_is_personal_or_secret_is_not_printed_by_debug() {
    let mut trunk = Trunk::new(Transport::Udp);
    let order = trunk.order(Some(credentials()));
    let shown = format!("{order:?}");
    assert!(!shown.contains("555") && !shown.contains("s3cret") && !shown.contains("trunk-user"), "{shown}");
    trunk.call(Some(credentials()));
    assert!(!format!("{:?}", trunk.endpoint).contains("s3cret"));
}

#[test]
fn mutated_responses_never_panic_and_leave_nothing_behind() {
    let mut random = 0x0bad_cafeu32;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random as usize
    };
    let challenge = "WWW-Authenticate: Digest realm=\"t\", nonce=\"n\", qop=\"auth\", stale=true\r\n";
    let (mut accepted, mut refused, mut challenged) = (0, 0, 0);
    for round in 0..6_000 {
        let mut trunk = Trunk::new(if round % 2 == 0 { Transport::Udp } else { Transport::Tcp });
        trunk.call(Some(credentials()));
        let mut asked = trunk.messages();
        for _ in 0..1 + next() % 12 {
            let request = asked[next() % asked.len()].clone();
            let status = [100, 180, 183, 200, 200, 302, 401, 407, 486, 487, 999][next() % 11];
            let fields = [challenge, ROUTED, CONTACT, "Contact: <sip:a@b>;q=0.3\r\nRetry-After: 5\r\n"][next() % 4];
            let mut bytes = response(&request, status, ["a", "b", ""][next() % 3], fields, "v=0").into_bytes();
            for _ in 0..next() % 4 {
                let at = next() % bytes.len();
                match next() % 3 {
                    0 => bytes[at] = next() as u8,
                    1 if bytes.len() > 10 => drop(bytes.drain(at..(at + next() % 9).min(bytes.len()))),
                    _ => bytes.insert(at, b"\r\n;<>\":, @[]%"[next() % 13]),
                }
            }
            trunk.endpoint.handle_message(&trunk.flow, &bytes, trunk.now);
            trunk.pass(next() as u64 % 3_000);
            if next() % 8 == 0 {
                let _ = trunk.endpoint.hang_up(trunk.dialog, None, trunk.now);
            }
            asked.extend(trunk.messages());
            let endpoint = &trunk.endpoint;
            assert!(endpoint.sessions.len() <= 9 && endpoint.by_tags.len() <= 9, "round {round}");
            assert!(endpoint.outgoing.invites.len() <= 3 && endpoint.outgoing.calls.len() <= 1, "round {round}");
            assert!(endpoint.clients.len() <= 30 && endpoint.timers.len() <= 200, "round {round}");
        }
        let _ = trunk.endpoint.hang_up(trunk.dialog, None, trunk.now);
        // Whatever still rings is cancelled by its first response.
        for request in asked.iter().filter(|request| request.starts_with("INVITE ")) {
            trunk.answer(request, 180, "a", "", "");
        }
        trunk.assert_nothing_is_left();
        challenged += usize::from(asked.iter().filter(|request| request.starts_with("INVITE ")).count() > 1);
        let events = trunk.events();
        accepted += usize::from(events.iter().any(|event| matches!(event, Event::Accepted { .. })));
        refused += usize::from(events.iter().any(|event| matches!(event, Event::Refused { .. })));
    }
    println!("{accepted} accepted, {refused} refused, {challenged} challenged of 6000");
    assert!(accepted > 300 && refused > 300 && challenged > 300, "the mutations reach every state");
}

const CONTACT: &str = "Contact: <sip:callee@10.0.0.9:5070>\r\n";
const ROUTED: &str = "Contact: <sip:callee@10.0.0.9:5070>\r\nRecord-Route: <sip:10.0.0.7;lr>, <sip:10.0.0.8;lr>\r\n";

fn credentials() -> Credentials {
    Credentials { username: "trunk-user".into(), password: "s3cret".into() }
}

/// The value of the first such field.
fn field<'a>(message: &'a str, name: &str) -> &'a str {
    let mut values = message.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    values.next().unwrap_or_else(|| panic!("no {name} in {message}"))
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
        if request.starts_with("INVITE ") {
            self.invite = request.to_owned();
        }
    }

    /// Sends a request within the dialog that the last INVITE made, from the far end with this tag.
    fn request(&mut self, method: &str, cseq: u32, tag: &str) {
        let body = if method == "INVITE" { "v=0 hold" } else { "" };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let (from, to) = (field(&self.invite, "To"), field(&self.invite, "From"));
        let text = format!(
            "{method} sip:talkstack@10.0.0.2:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5062;branch=z9hG4bK{method}{cseq}{tag}\r\n\
             Max-Forwards: 70\r\nFrom: {from};tag={tag}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n{CONTACT}\
             {kind}Content-Length: {}\r\n\r\n{body}",
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
