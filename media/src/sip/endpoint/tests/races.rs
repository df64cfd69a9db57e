//! Messages that cross, come twice, come by another path or lack what others have.

use super::*;

#[test]
fn an_ack_with_the_branch_of_its_invite_acknowledges_the_200() {
    // RFC 6026 §7.1: an ACK that finds the transaction Accepted is the dialog's.
    for branch in ["z9hG4bKinv", "1"] {
        let mut phone = Phone::new(Transport::Udp);
        phone.send("INVITE", 1, branch, "v=0 offer");
        let dialog = match phone.endpoint.poll_output().and_then(|_| phone.endpoint.poll_output()) {
            Some(Output::Event(Event::Offered(offered))) => offered.dialog,
            other => panic!("no offer: {other:?}"),
        };
        phone.endpoint.answer(dialog, b"v=0", phone.now).expect("early");
        let answer = phone.messages().pop().expect("200");
        phone.learn_tag(&answer);
        phone.send("ACK", 1, branch, "");
        assert_eq!(phone.events(), [Event::Acknowledged { dialog, sdp: None }], "{branch}");
        phone.pass(40_000);
        assert_eq!(phone.messages(), [""; 0], "neither another 200 nor a BYE");
    }
}

#[test]
fn a_bye_before_the_ack_ends_the_call_and_the_repetition() {
    let mut phone = Phone::answered();
    phone.send("BYE", 2, "z9hG4bKbye", "");
    assert_eq!(phone.statuses(), [200]);
    assert_eq!(phone.events(), [Event::Ended { dialog: phone.dialog, cause: EndCause::Bye, reason: None }]);
    phone.pass(40_000);
    assert_eq!(phone.messages(), [""; 0]);
    assert_eq!(phone.endpoint.dialogs(), 0);
}

#[test]
fn the_answer_to_a_cancel_names_the_dialog_of_its_invite() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call();
    phone.endpoint.ring(dialog, None, phone.now).expect("early");
    phone.send("CANCEL", 1, "z9hG4bKinv", "");
    let tags: Vec<String> = phone
        .messages()
        .iter()
        .filter(|answer| !answer.starts_with("SIP/2.0 100"))
        .filter_map(|answer| Some(answer.split_once(";tag=p\r\n")?.1.split_once(";tag=")?.1.get(..16)?.to_owned()))
        .collect();
    assert_eq!(tags.len(), 3, "180, 200 to the CANCEL, 487");
    assert!(tags.iter().all(|tag| *tag == tags[0]), "RFC 3261 §9.2: {tags:?}");
}

#[test]
fn an_invite_that_comes_again_gets_the_last_answer_again_and_no_second_call() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call();
    assert_eq!(phone.statuses(), [100]);
    phone.send("INVITE", 1, "z9hG4bKinv", "v=0 offer");
    assert_eq!(phone.statuses(), [100]);
    phone.endpoint.ring(dialog, None, phone.now).expect("early");
    phone.send("INVITE", 1, "z9hG4bKinv", "v=0 offer");
    assert_eq!(phone.statuses(), [180, 180]);
    phone.endpoint.answer(dialog, b"v=0", phone.now).expect("early");
    phone.send("INVITE", 1, "z9hG4bKinv", "v=0 offer");
    assert_eq!(phone.statuses(), [200], "the 200 is repeated by its own timer only");
    assert_eq!(phone.endpoint.dialogs(), 1);
}

#[test]
fn a_second_offer_before_the_first_is_answered_is_put_off_by_chance() {
    let mut phone = Phone::confirmed();
    phone.send("INVITE", 2, "z9hG4bKfirst", "v=0");
    phone.messages();
    let mut seen = std::collections::BTreeSet::new();
    for cseq in 3..103 {
        phone.send("INVITE", cseq, &format!("z9hG4bKsecond{cseq}"), "v=0");
        let answer = phone.messages().remove(0);
        let seconds = answer.split_once("Retry-After: ").and_then(|(_, rest)| rest.lines().next()?.parse::<u32>().ok());
        seen.insert(seconds.expect("RFC 3261 §14.2"));
    }
    assert_eq!((seen.first(), seen.last(), seen.len()), (Some(&0), Some(&10), 11), "{seen:?}");
}

#[test]
fn a_re_invite_moves_the_far_end_for_our_requests() {
    let mut phone = Phone::confirmed();
    phone.flow.remote = "10.0.0.77:5099".parse().expect("address");
    let text = phone.text("INVITE", 2, "z9hG4bKmove", "v=0").replace("10.0.0.1:5062", "10.0.0.77:5099");
    phone.raw(&text);
    phone.endpoint.answer(phone.dialog, b"v=0", phone.now).expect("pending");
    phone.send("ACK", 2, "z9hG4bKack2", "");
    phone.messages();
    phone.endpoint.hang_up(phone.dialog, None, phone.now).expect("up");
    assert!(phone.messages()[0].starts_with("BYE sip:phone@10.0.0.77:5099 SIP/2.0\r\n"));
    assert_eq!(phone.last_flow.expect("sent").remote, phone.flow.remote);
}

#[test]
fn requests_within_a_dialog_that_is_gone_get_481_and_old_ones_500() {
    for method in ["OPTIONS", "INFO", "BYE", "INVITE"] {
        let mut phone = Phone::confirmed();
        if method != "BYE" && method != "INVITE" {
            phone.send(method, 2, "z9hG4bKlive", "");
            assert_eq!(phone.statuses(), [200], "{method}");
        }
        phone.send(method, 1, "z9hG4bKold", "");
        assert_eq!(phone.statuses(), [500], "{method}: its number is not above the last");
        phone.to_tag = "gone".into();
        phone.send(method, 3, "z9hG4bKgone", "");
        assert_eq!(phone.statuses(), [481], "{method}");
    }
    let mut phone = Phone::new(Transport::Udp);
    phone.send("INFO", 1, "z9hG4bKinfo", "");
    assert_eq!(phone.statuses(), [481], "RFC 6086 §4.2.2");
}

#[test]
fn a_call_that_has_used_up_its_hops_is_refused_and_nothing_else_is() {
    let mut phone = Phone::confirmed();
    let without = |text: String| text.replace("Max-Forwards: 70", "Max-Forwards: 0");
    let again = without(phone.text("INVITE", 2, "z9hG4bKagain", "v=0"));
    phone.raw(&again);
    assert_eq!(phone.statuses(), [100], "a re-INVITE goes no further than here");
    let mut phone = Phone::new(Transport::Udp);
    for (method, status) in [("INVITE", 483), ("OPTIONS", 200)] {
        let text = without(phone.text(method, 1, "z9hG4bKhops", ""));
        phone.raw(&text);
        assert_eq!(phone.statuses(), [status], "{method}");
    }
}

#[test]
fn a_dialog_whose_stream_has_gone_asks_for_another_to_its_own_host_only() {
    for (contact, stream, to) in [
        ("10.0.0.1:5062", None, "10.0.0.1:5062"),
        // Where its requests came from, which nobody else can have chosen.
        ("10.9.9.9:5062", None, "10.0.0.1:40000"),
    ] {
        let mut phone = Phone::new(Transport::Tcp);
        phone.flow.remote = "10.0.0.1:40000".parse().expect("address");
        let text = phone.text("INVITE", 1, "z9hG4bKinv", "v=0 offer");
        phone.raw(&text.replace("Contact: <sip:phone@10.0.0.1:5062>", &format!("Contact: <sip:phone@{contact}>")));
        phone.drain();
        let Some(Event::Offered(offered)) = phone.seen.pop() else { panic!("no offer") };
        phone.endpoint.answer(offered.dialog, b"v=0", phone.now).expect("early");
        let answer = phone.messages().pop().expect("200");
        phone.learn_tag(&answer);
        phone.send("ACK", 1, "z9hG4bKack", "");
        phone.endpoint.handle_stream_closed(&phone.flow, phone.now);
        phone.endpoint.hang_up(offered.dialog, None, phone.now).expect("up");
        assert!(phone.messages()[0].starts_with("BYE "));
        let flow = phone.last_flow.expect("sent");
        assert_eq!((flow.stream, flow.remote), (stream, to.parse().expect("address")), "{contact}");
    }
}

#[test]
fn without_a_contact_our_requests_go_back_to_the_source() {
    let mut phone = Phone::new(Transport::Udp);
    phone.flow.remote = "10.0.0.1:5099".parse().expect("address");
    let text = phone.text("INVITE", 1, "z9hG4bKinv", "v=0 offer");
    phone.raw(&text.replace("Contact: <sip:phone@10.0.0.1:5062>\r\n", ""));
    phone.drain();
    let Some(Event::Offered(offered)) = phone.seen.pop() else { panic!("no offer") };
    phone.endpoint.answer(offered.dialog, b"v=0", phone.now).expect("early");
    let answer = phone.messages().pop().expect("200");
    phone.learn_tag(&answer);
    phone.send("ACK", 1, "z9hG4bKack", "");
    phone.endpoint.hang_up(offered.dialog, None, phone.now).expect("up");
    assert!(phone.messages()[0].starts_with("BYE sip:phone@10.0.0.1 SIP/2.0\r\n"));
    assert_eq!(phone.last_flow.expect("sent").remote, phone.flow.remote);
}

#[test]
fn an_answer_keeps_the_zone_of_a_link_local_source() {
    let mut phone = Phone::new(Transport::Udp);
    phone.flow.remote = "[fe80::1%3]:5062".parse().expect("address");
    let text = phone.text("OPTIONS", 1, "z9hG4bKzone", "").replace(";rport", "");
    phone.raw(&text.replace("Via: SIP/2.0/UDP 10.0.0.1:5062", "Via: SIP/2.0/UDP [fe80::1]:5070"));
    assert_eq!(phone.statuses(), [200]);
    assert_eq!(
        phone.last_flow.expect("sent").remote,
        "[fe80::1%3]:5070".parse::<std::net::SocketAddr>().expect("address")
    );
}

#[test]
fn keep_alives_are_no_messages_and_a_version_may_be_written_small() {
    let mut phone = Phone::new(Transport::Udp);
    for keep_alive in ["", "\r\n", "\r\n\r\n", "\0\0\0\0"] {
        phone.raw(keep_alive);
    }
    assert_eq!(phone.endpoint.counters(), Counters::default());
    let text = phone.text("OPTIONS", 1, "z9hG4bKsmall", "").replace("2 SIP/2.0\r\n", "2 sip/2.0\r\n");
    phone.raw(&text);
    assert_eq!(phone.statuses(), [200], "RFC 3261 §7.1");
}

#[test]
fn a_datagram_that_breaks_off_is_answered_from_what_came() {
    let mut phone = Phone::new(Transport::Udp);
    let text = phone.text("OPTIONS", 1, "z9hG4bKshort", "");
    phone.raw(text.trim_end());
    assert_eq!(phone.statuses(), [400]);
    phone.raw(&format!("{}\r\n", text.trim_end()));
    assert_eq!(phone.statuses(), [200], "only the empty line is not there");
}

#[test]
fn a_body_longer_than_any_message_gets_413() {
    let mut phone = Phone::new(Transport::Tcp);
    let text = phone.text("INVITE", 1, "z9hG4bKlong", "").replace("Content-Length: 0", "Content-Length: 70000");
    phone.raw(&text);
    let answer = phone.messages().remove(0);
    assert!(answer.starts_with("SIP/2.0 413 Request Entity Too Large\r\n"), "{answer}");
}

#[test]
fn a_flood_of_refused_calls_is_remembered_up_to_a_bound_and_keeps_no_call_out() {
    let mut phone = Phone::new(Transport::Udp);
    for call in 0..5_000 {
        let dialog = flood(&mut phone, call).expect("offered");
        phone.endpoint.refuse(dialog, Refusal::new(404), phone.now).expect("early");
        assert!(phone.endpoint.servers_bytes < TRANSACTIONS_BYTES_MAX / 2 + 2 * 65_536);
    }
    flood(&mut phone, 5_000).expect("another call is offered still");
    phone.pass(64_000);
    assert_eq!(phone.endpoint.servers.len(), 1, "all but that one is forgotten in time");
}

#[test]
fn a_flood_of_answered_calls_ends_in_503() {
    let mut phone = Phone::new(Transport::Udp);
    let mut refused = 0;
    for call in 0..5_000 {
        match flood(&mut phone, call) {
            Some(dialog) => {
                phone.endpoint.answer(dialog, b"v=0", phone.now).expect("early");
                phone.endpoint.forget_session(dialog);
            }
            None => refused += 1,
        }
        assert!(phone.endpoint.servers_bytes < TRANSACTIONS_BYTES_MAX + 2 * 65_536);
    }
    assert!(refused > 2_000, "{refused}");
    assert_eq!(phone.endpoint.counters().overloaded, refused);
    phone.pass(64_000);
    assert_eq!((phone.endpoint.servers.len(), phone.endpoint.servers_bytes), (0, 0));
}

/// An INVITE of 30 KB; its dialog, unless it was refused at once.
fn flood(phone: &mut Phone, call: usize) -> Option<DialogId> {
    phone.call_id = format!("flood{call}");
    let text = phone.text("INVITE", 1, &format!("z9hG4bKflood{call}"), "v=0 offer");
    let filler = format!("Subject: {}\r\nContent-Length", "x".repeat(30_000));
    phone.raw(&text.replace("Content-Length", &filler));
    phone.drain();
    phone.sent.clear();
    match phone.seen.pop() {
        Some(Event::Offered(offered)) => Some(offered.dialog),
        _ => None,
    }
}
