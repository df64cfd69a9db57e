//! Calls placed at a trunk: answered, refused, redirected, unanswered; where their requests go.

use super::*;

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
    assert_eq!(
        trunk.last_flow.expect("sent").remote,
        "10.0.0.8:5060".parse::<std::net::SocketAddr>().expect("address")
    );
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
fn an_invite_and_a_bye_that_find_no_port_end_at_once_and_a_refresh_goes_on() {
    let mut trunk = Trunk::called();
    let invite = trunk.take();
    trunk.finds_no_port(&invite);
    assert_eq!(trunk.events(), [Event::Unanswered { dialog: trunk.dialog }]);
    trunk.assert_nothing_is_left();

    // Who rings is there.
    let mut trunk = Trunk::called();
    let invite = trunk.take();
    trunk.answer(&invite, 180, "a", "", "");
    trunk.finds_no_port(&invite);
    assert!(matches!(trunk.events()[..], [Event::Progressed { .. }]));

    let mut trunk = Trunk::answered();
    trunk.endpoint.reinvite(trunk.dialog, b"v=0 other", trunk.now).expect("up");
    let again = trunk.take();
    trunk.finds_no_port(&again);
    assert_eq!((trunk.events(), trunk.endpoint.dialogs()), (vec![], 1), "it may be restarting, and sound goes on");
    trunk.answer(&again, 200, "a", CONTACT, "v=0 answer");

    let mut trunk = Trunk::answered();
    trunk.endpoint.hang_up(trunk.dialog, None, trunk.now).expect("up");
    let bye = trunk.take();
    trunk.finds_no_port(&bye);
    assert_eq!(trunk.endpoint.dialogs(), 0);
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
        assert_eq!(
            trunk.last_flow.expect("sent").remote,
            goes_to.parse::<std::net::SocketAddr>().expect("address"),
            "{contact}"
        );
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
