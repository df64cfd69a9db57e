//! Calls of a phone: answered, refused, held, ended; where answers go.

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
    assert_eq!(
        phone.last_flow.expect("sent").remote,
        "192.0.2.7:5062".parse::<std::net::SocketAddr>().expect("address")
    );
}
