//! Early dialogs of a call that we place: reliable responses and their PRACK (RFC 3262 §4), forks, late offers.

use super::*;

#[test]
fn a_reliable_response_is_acknowledged_once_in_its_own_dialog() {
    let mut trunk = Trunk::called();
    let dialog = trunk.dialog;
    let invite = trunk.take();
    assert_eq!(field(&invite, "Supported"), "100rel, timer, replaces, norefersub");
    trunk.answer(&invite, 183, "a", &format!("{ROUTED}Require: 100rel\r\nRSeq: 7\r\n"), "v=0 early");
    let prack = trunk.take();
    assert!(prack.starts_with("PRACK sip:callee@10.0.0.9:5070 SIP/2.0\r\n"), "{prack}");
    assert!(prack.contains("\r\nRoute: <sip:10.0.0.8;lr>\r\nRoute: <sip:10.0.0.7;lr>\r\n"), "{prack}");
    assert_eq!((field(&prack, "RAck"), field(&prack, "CSeq")), ("7 1 INVITE", "2 PRACK"));
    assert!(field(&prack, "To").ends_with(";tag=a") && !prack.contains("Contact: "), "{prack}");
    assert_eq!(
        trunk.last_flow.expect("sent").remote,
        "10.0.0.8:5060".parse::<std::net::SocketAddr>().expect("address")
    );
    let sdp = Some(b"v=0 early".to_vec());
    assert_eq!(trunk.events(), [Event::Progressed { dialog, status: 183, sdp, branch: 1 }]);
    for rseq in [7, 6, 9] {
        trunk.answer(&invite, 180, "a", &format!("Require: 100rel\r\nRSeq: {rseq}\r\n"), "");
        assert_eq!((trunk.messages(), trunk.events()), (vec![], vec![]), "{rseq}: a copy, or behind a hole");
    }
    trunk.answer(&invite, 180, "a", "Require: 100rel\r\nRSeq: 8\r\n", "");
    assert_eq!(field(&trunk.take(), "RAck"), "8 1 INVITE");
    trunk.answer(&invite, 200, "a", ROUTED, "");
    assert_eq!(field(&trunk.take(), "CSeq"), "1 ACK");
    trunk.answer(&prack, 200, "a", "", "");
    trunk.endpoint.hang_up(dialog, None, trunk.now).expect("up");
    assert_eq!(field(&trunk.take(), "CSeq"), "4 BYE", "behind two PRACKs");
}

#[test]
fn a_prack_is_repeated_like_any_request() {
    let mut trunk = Trunk::called();
    let invite = trunk.take();
    trunk.answer(&invite, 183, "a", &format!("{CONTACT}Require: 100rel\r\nRSeq: 1\r\n"), "");
    let prack = trunk.take();
    let (sent, _) = trunk.timetable(31_600);
    let times: Vec<_> = sent.iter().filter(|(_, message)| *message == prack).map(|(ms, _)| *ms).collect();
    assert_eq!(times, [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500], "timer E");
}

#[test]
fn a_line_that_requires_it_says_so_and_one_that_does_not_use_it_as_well() {
    for (reliable, required, supported) in [
        (Reliable::Required, true, "100rel, timer, replaces, norefersub"),
        (Reliable::Off, false, "timer, replaces, norefersub"),
    ] {
        let mut trunk = Trunk::new(Transport::Udp);
        let mut order = trunk.order(None);
        order.extensions = Extensions { reliable, ..Extensions::default() };
        trunk.endpoint.invite(order, trunk.now).expect("room");
        let invite = trunk.take();
        assert_eq!(invite.contains("Require: 100rel\r\n"), required, "{invite}");
        assert_eq!(field(&invite, "Supported"), supported);
    }
}

#[test]
fn each_branch_of_a_fork_is_a_dialog_of_its_own() {
    let mut trunk = Trunk::called();
    let dialog = trunk.dialog;
    let invite = trunk.take();
    for (tag, port) in [("a", 5071), ("b", 5072)] {
        let fields =
            format!("Contact: <sip:{tag}@10.0.0.9:{port}>\r\nRequire: 100rel\r\nRSeq: 50\r\nAllow: UPDATE\r\n");
        trunk.answer(&invite, 183, tag, &fields, &format!("v=0 {tag}"));
        let prack = trunk.take();
        assert!(prack.starts_with(&format!("PRACK sip:{tag}@10.0.0.9:{port} ")), "{prack}");
        assert_eq!(field(&prack, "CSeq"), "2 PRACK", "each counts by itself");
    }
    let [Event::Progressed { branch: 1, sdp: Some(_), .. }, Event::Progressed { branch: 2, sdp: Some(sdp), .. }] =
        &trunk.events()[..]
    else {
        panic!("two branches");
    };
    assert_eq!(sdp, b"v=0 b");
    // Each may change its own description (RFC 3311).
    trunk.request_with("UPDATE", 1, "b", "v=0 b2");
    assert_eq!(trunk.events(), [Event::ReOffered { dialog, sdp: Some(b"v=0 b2".to_vec()), branch: 2 }]);
    trunk.request_with("UPDATE", 1, "a", "v=0 a2");
    assert_eq!(trunk.events(), [Event::ReOffered { dialog, sdp: Some(b"v=0 a2".to_vec()), branch: 1 }]);
    trunk.messages();
    trunk.endpoint.answer(dialog, b"v=0 ours", trunk.now).expect("waits");
    assert!(field(&trunk.take(), "From").ends_with(";tag=a"), "the first that waits");
    trunk.answer(&invite, 200, "a", "Contact: <sip:a@10.0.0.9:5071>\r\n", "");
    let [other, ack] = &trunk.messages()[..] else { panic!("487 and ACK") };
    assert!(other.starts_with("SIP/2.0 487 ") && field(other, "From").ends_with(";tag=b"), "{other}");
    assert!(ack.starts_with("ACK sip:a@10.0.0.9:5071 "), "{ack}");
    assert_eq!(trunk.events(), [Event::Accepted { dialog, sdp: None, branch: 1 }]);
    trunk.request("INFO", 9, "b");
    assert_eq!(trunk.statuses(), [481], "the other branch is over");
    trunk.request("INFO", 2, "a");
    assert_eq!(trunk.statuses(), [200], "the one that answered counts on");
    trunk.endpoint.hang_up(dialog, None, trunk.now).expect("up");
    let bye = trunk.take();
    assert_eq!(field(&bye, "CSeq"), "3 BYE");
    trunk.answer(&bye, 200, "a", "", "");
    trunk.assert_nothing_is_left();
}

#[test]
fn an_offer_in_an_early_dialog_waits_until_ours_is_answered() {
    let mut trunk = Trunk::ringing();
    trunk.request_with("UPDATE", 1, "a", "v=0 theirs");
    assert_eq!(trunk.statuses(), [491], "RFC 3311 §5.2: our INVITE's offer is open");
    let invite = trunk.invite.clone();
    trunk.answer(&invite, 183, "a", "", "v=0 look");
    trunk.request_with("UPDATE", 2, "a", "v=0 theirs");
    assert_eq!(trunk.statuses(), [491], "an unreliable description is no answer");
}

#[test]
fn a_late_offer_in_the_200_is_answered_in_its_ack() {
    let mut trunk = Trunk::new(Transport::Udp);
    let mut order = trunk.order(None);
    order.sdp = Vec::new();
    trunk.dialog = trunk.endpoint.invite(order, trunk.now).expect("room");
    let dialog = trunk.dialog;
    let invite = trunk.take();
    assert!(!invite.contains("Content-Type") && invite.ends_with("Content-Length: 0\r\n\r\n"), "{invite}");
    trunk.answer(&invite, 200, "a", CONTACT, "v=0 theirs");
    let sdp = Some(b"v=0 theirs".to_vec());
    assert_eq!(trunk.events(), [Event::Accepted { dialog, sdp, branch: 1 }]);
    trunk.answer(&invite, 200, "a", CONTACT, "v=0 theirs");
    assert_eq!((trunk.messages(), trunk.events()), (vec![], vec![]), "a copy waits with it");
    trunk.endpoint.answer(dialog, b"v=0 ours", trunk.now).expect("waits");
    let ack = trunk.take();
    assert!(ack.starts_with("ACK sip:callee@10.0.0.9:5070 ") && ack.ends_with("v=0 ours"), "{ack}");
    assert_eq!(field(&ack, "Content-Type"), "application/sdp");
    trunk.answer(&invite, 200, "a", CONTACT, "v=0 theirs");
    assert_eq!(trunk.messages(), [ack], "the same ACK for each copy");
    assert_eq!(trunk.endpoint.answer(dialog, b"v=0", trunk.now), Err(CommandError::NothingPending));
}

#[test]
fn a_late_offer_that_nobody_answers_is_acknowledged_before_the_bye() {
    let mut trunk = Trunk::new(Transport::Udp);
    let mut order = trunk.order(None);
    order.sdp = Vec::new();
    trunk.dialog = trunk.endpoint.invite(order, trunk.now).expect("room");
    let invite = trunk.take();
    trunk.answer(&invite, 200, "a", CONTACT, "v=0 theirs");
    trunk.answer(&invite, 200, "b", CONTACT, "v=0 other");
    let kinds: Vec<_> = trunk.messages().iter().map(|message| kind(message)).collect();
    assert_eq!(kinds, ["ACK", "BYE"], "another branch does not wait");
    trunk.events();
    trunk.endpoint.hang_up(trunk.dialog, None, trunk.now).expect("up");
    let sent = trunk.messages();
    assert_eq!((kind(&sent[0]), kind(&sent[1])), ("ACK".into(), "BYE".into()), "RFC 3261 §13.2.2.4");
    assert!(field(&sent[1], "To").ends_with(";tag=a"));
    trunk.answer(&sent[1], 200, "a", "", "");
    trunk.assert_nothing_is_left();
}

#[test]
fn a_late_offer_in_a_reliable_response_is_answered_in_its_prack() {
    let mut trunk = Trunk::new(Transport::Udp);
    let mut order = trunk.order(None);
    order.sdp = Vec::new();
    trunk.dialog = trunk.endpoint.invite(order, trunk.now).expect("room");
    let dialog = trunk.dialog;
    let invite = trunk.take();
    trunk.answer(&invite, 183, "a", &format!("{CONTACT}Require: 100rel\r\nRSeq: 3\r\n"), "v=0 theirs");
    let sdp = Some(b"v=0 theirs".to_vec());
    assert_eq!(
        (trunk.messages(), trunk.events()),
        (vec![], vec![Event::Progressed { dialog, status: 183, sdp, branch: 1 }])
    );
    trunk.endpoint.answer(dialog, b"v=0 ours", trunk.now).expect("waits");
    let prack = trunk.take();
    assert!(kind(&prack) == "PRACK" && prack.ends_with("v=0 ours"), "{prack}");
    trunk.answer(&invite, 200, "a", CONTACT, "");
    assert!(trunk.take().starts_with("ACK "));
    assert_eq!(trunk.events(), [Event::Accepted { dialog, sdp: None, branch: 1 }]);
}
