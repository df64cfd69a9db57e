//! Reliable provisional responses of the called side (RFC 3262).

use super::*;

#[test]
fn early_media_goes_reliably_where_the_caller_supports_it() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call_with("Supported: 100rel\r\n");
    phone.endpoint.ring(dialog, Some(b"v=0 early"), phone.now).expect("early");
    let ringing = phone.take();
    assert!(ringing.starts_with("SIP/2.0 183 Session Progress\r\n") && ringing.ends_with("v=0 early"), "{ringing}");
    assert_eq!((field(&ringing, "Require"), field(&ringing, "Contact")), ("100rel", "<sip:talkstack@10.0.0.2:5060>"));
    let rseq: u32 = field(&ringing, "RSeq").parse().expect("a number");
    assert!((1..1 << 31).contains(&rseq));
    phone.learn_tag(&ringing);

    phone.endpoint.answer(dialog, b"v=0 early", phone.now).expect("early");
    assert_eq!(phone.messages(), [""; 0], "RFC 3262 §3: the 200 waits for the PRACK");
    phone.prack(2, rseq);
    let [acknowledged, answer] = &phone.messages()[..] else { panic!("two answers") };
    assert_eq!((kind(acknowledged), field(acknowledged, "CSeq")), ("200".into(), "2 PRACK"));
    assert_eq!((kind(answer), field(answer, "CSeq")), ("200".into(), "1 INVITE"));
    assert!(answer.ends_with("Content-Length: 0\r\n\r\n"), "the answer went before: {answer}");
    phone.send("ACK", 1, "z9hG4bKack", "");
    assert_eq!(phone.events(), [Event::Acknowledged { dialog, sdp: None }]);
    assert_eq!(phone.timetable(40_000), []);
}

#[test]
fn a_caller_who_does_not_support_it_is_rung_as_ever() {
    for (fields, sdp) in [("", Some(&b"v=0 early"[..])), ("Supported: 100rel\r\n", None)] {
        let mut phone = Phone::new(Transport::Udp);
        let dialog = phone.call_with(fields);
        phone.endpoint.ring(dialog, sdp, phone.now).expect("early");
        let ringing = phone.take();
        assert!(!ringing.contains("RSeq") && ringing.contains("early") == sdp.is_some(), "{ringing}");
        phone.endpoint.answer(dialog, b"v=0 ours", phone.now).expect("early");
        assert!(phone.take().ends_with("v=0 ours"), "an unreliable description is only a look ahead");
    }
}

#[test]
fn it_is_repeated_at_doubling_intervals_and_without_a_prack_the_call_gets_504_after_64_t1() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut phone = Phone::new(transport);
        let dialog = phone.call_with("Supported: 100rel\r\n");
        phone.endpoint.ring(dialog, Some(b"v=0"), phone.now).expect("early");
        let sent = phone.timetable(32_000);
        let expected: Vec<_> = [500, 1500, 3500, 7500, 15_500, 31_500].map(|at| (at, "183".to_owned())).into();
        assert_eq!(sent, [expected, vec![(32_000, "504".into())]].concat(), "RFC 3262 §3: not bounded by T2");
        assert_eq!(phone.events(), [Event::Ended { dialog, cause: EndCause::NoPrack, reason: None }]);
        assert_eq!(phone.endpoint.dialogs(), 0);
    }
}

#[test]
fn a_prack_that_fits_nothing_gets_481_and_changes_nothing() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call_with("Supported: 100rel\r\n");
    phone.endpoint.ring(dialog, Some(b"v=0"), phone.now).expect("early");
    let ringing = phone.take();
    phone.learn_tag(&ringing);
    let rseq: u32 = field(&ringing, "RSeq").parse().expect("a number");
    for (cseq, rack, status) in [
        (2, format!("{} 1 INVITE", rseq + 1), 481),
        (3, format!("{rseq} 2 INVITE"), 481),
        (4, format!("{rseq} 1 OPTIONS"), 400),
        (5, "soon".into(), 400),
    ] {
        phone.send_with("PRACK", cseq, &format!("z9hG4bKp{cseq}"), &format!("RAck: {rack}\r\n"), "");
        assert_eq!(phone.statuses(), [status], "{rack}");
    }
    phone.pass(500);
    assert_eq!(phone.statuses(), [183], "it is repeated still");
    phone.prack(6, rseq);
    assert_eq!(phone.statuses(), [200]);
    phone.prack(7, rseq);
    assert_eq!(phone.statuses(), [481], "once");
    phone.prack(7, rseq);
    assert_eq!(phone.statuses(), [481], "a copy gets what the first got");
}

#[test]
fn the_next_one_waits_for_the_prack_of_the_last_and_counts_on() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call_with("Require: 100rel\r\n");
    phone.endpoint.ring(dialog, None, phone.now).expect("early");
    let first = phone.take();
    phone.learn_tag(&first);
    let rseq: u32 = field(&first, "RSeq").parse().expect("required, so reliable without a description as well");
    phone.endpoint.ring(dialog, Some(b"v=0 early"), phone.now).expect("early");
    phone.endpoint.ring(dialog, None, phone.now).expect("early");
    assert_eq!(phone.messages(), [""; 0], "RFC 3262 §3");
    phone.prack(2, rseq);
    let sent = phone.messages();
    assert_eq!(statuses(&sent), [200, 180], "the last of those that waited");
    assert_eq!(field(&sent[1], "RSeq"), (rseq + 1).to_string());
    assert!(sent[1].ends_with("v=0 early"), "with the description that was to go");
    phone.prack(3, rseq + 1);
    assert_eq!(phone.statuses(), [200]);
}

#[test]
fn a_200_overtakes_one_without_a_description_whose_prack_is_taken_still() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call_with("Require: 100rel\r\n");
    phone.endpoint.ring(dialog, None, phone.now).expect("early");
    let ringing = phone.take();
    phone.learn_tag(&ringing);
    phone.endpoint.answer(dialog, b"v=0 ours", phone.now).expect("early");
    assert!(phone.take().ends_with("v=0 ours"));
    phone.prack(2, field(&ringing, "RSeq").parse().expect("a number"));
    assert_eq!(phone.statuses(), [200], "RFC 3262 §3");
    phone.send("ACK", 1, "z9hG4bKack", "");
    phone.messages();
    assert_eq!(phone.timetable(40_000), [], "the 180 is repeated no more");
}

#[test]
fn a_line_and_a_caller_that_do_not_agree_on_it_are_told() {
    for (reliable, fields, status, named) in [
        (Reliable::Off, "Require: 100rel\r\n", 420, "Unsupported: 100rel\r\n"),
        (Reliable::Required, "", 421, "Require: 100rel\r\n"),
    ] {
        for is_answer in [false, true] {
            let mut phone = Phone::new(Transport::Udp);
            let dialog = phone.call_with(fields);
            phone.endpoint.set_extensions(dialog, Extensions { reliable, ..Extensions::default() });
            let told = match is_answer {
                true => phone.endpoint.answer(dialog, b"v=0", phone.now),
                false => phone.endpoint.ring(dialog, None, phone.now),
            };
            assert_eq!(told, Err(CommandError::NoDialog));
            let answer = phone.take();
            assert!(answer.starts_with(&format!("SIP/2.0 {status} ")) && answer.contains(named), "{answer}");
            assert_eq!(phone.events(), [Event::Ended { dialog, cause: EndCause::Extension, reason: None }]);
            assert_eq!(phone.endpoint.dialogs(), 0);
        }
    }
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call_with("Supported: 100rel\r\n");
    phone.endpoint.set_extensions(dialog, Extensions { reliable: Reliable::Off, ..Extensions::default() });
    phone.endpoint.ring(dialog, Some(b"v=0"), phone.now).expect("early");
    let ringing = phone.take();
    assert!(!ringing.contains("RSeq") && field(&ringing, "Supported") == "timer, replaces, norefersub", "{ringing}");
}

#[test]
fn a_prack_may_bring_an_offer_of_its_own_and_the_200_waits_for_its_answer() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call_with("Supported: 100rel\r\n");
    phone.endpoint.ring(dialog, Some(b"v=0 early"), phone.now).expect("early");
    let ringing = phone.take();
    phone.learn_tag(&ringing);
    phone.endpoint.answer(dialog, b"v=0 early", phone.now).expect("early");
    let fields = format!("RAck: {} 1 INVITE\r\n", field(&ringing, "RSeq"));
    phone.send_with("PRACK", 2, "z9hG4bKprack", &fields, "v=0 another");
    assert_eq!(phone.messages(), [""; 0], "RFC 3262 §5");
    assert_eq!(phone.events(), [Event::ReOffered { dialog, sdp: Some(b"v=0 another".to_vec()), branch: 0 }]);
    phone.send_with("PRACK", 2, "z9hG4bKprack", &fields, "v=0 another");
    assert_eq!(phone.messages(), [""; 0], "a copy is absorbed");
    phone.endpoint.answer(dialog, b"v=0 agreed", phone.now).expect("waits");
    let [acknowledged, answer] = &phone.messages()[..] else { panic!("two answers") };
    assert!(acknowledged.contains("CSeq: 2 PRACK\r\n") && acknowledged.ends_with("v=0 agreed"), "{acknowledged}");
    assert!(answer.contains("CSeq: 1 INVITE\r\n") && answer.contains("Content-Length: 0\r\n"), "{answer}");
}

#[test]
fn a_late_offer_rides_in_the_reliable_response_and_its_answer_in_the_prack() {
    let mut phone = Phone::new(Transport::Udp);
    phone.offer = String::new();
    let dialog = phone.call_with("Supported: 100rel\r\n");
    phone.endpoint.ring(dialog, Some(b"v=0 ours"), phone.now).expect("early");
    let ringing = phone.take();
    assert!(ringing.ends_with("v=0 ours"), "{ringing}");
    phone.learn_tag(&ringing);
    let fields = format!("RAck: {} 1 INVITE\r\n", field(&ringing, "RSeq"));
    phone.send_with("PRACK", 2, "z9hG4bKprack", &fields, "v=0 theirs");
    assert_eq!(phone.statuses(), [200]);
    assert_eq!(phone.events(), [Event::Reanswered { dialog, sdp: Some(b"v=0 theirs".to_vec()) }]);
    phone.endpoint.answer(dialog, b"v=0 ours", phone.now).expect("early");
    assert!(phone.take().ends_with("Content-Length: 0\r\n\r\n"));

    // The first reliable response has to have the offer (RFC 6337 §2.2): without one nothing rings.
    let mut phone = Phone::new(Transport::Udp);
    phone.offer = String::new();
    let dialog = phone.call_with("Require: 100rel\r\n");
    phone.endpoint.ring(dialog, None, phone.now).expect("early");
    assert_eq!(phone.messages(), [""; 0]);
    phone.endpoint.ring(dialog, Some(b"v=0 ours"), phone.now).expect("early");
    assert!(phone.take().ends_with("v=0 ours"));

    // Without reliability an offer has no place before the 200 (RFC 3261 §13.2.1).
    let mut phone = Phone::new(Transport::Udp);
    phone.offer = String::new();
    let dialog = phone.call_with("");
    phone.endpoint.ring(dialog, Some(b"v=0 ours"), phone.now).expect("early");
    assert!(phone.take().ends_with("Content-Length: 0\r\n\r\n"));
    phone.endpoint.answer(dialog, b"v=0 ours", phone.now).expect("early");
    assert!(phone.take().ends_with("v=0 ours"));
}

#[test]
fn a_call_that_ends_takes_what_waits_for_its_prack_along() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call_with("Supported: 100rel\r\n");
    phone.endpoint.ring(dialog, Some(b"v=0"), phone.now).expect("early");
    let ringing = phone.take();
    phone.learn_tag(&ringing);
    phone.endpoint.answer(dialog, b"v=0", phone.now).expect("held");
    phone.to_tag.clear();
    phone.send("CANCEL", 1, "z9hG4bKinv", "");
    assert_eq!(phone.statuses(), [200, 487]);
    assert_eq!(phone.events(), [Event::Ended { dialog, cause: EndCause::Cancelled, reason: None }]);
    phone.learn_tag(&ringing);
    phone.prack(2, field(&ringing, "RSeq").parse().expect("a number"));
    assert_eq!(phone.statuses(), [481]);
    let sent = phone.timetable(40_000);
    assert!(sent.iter().all(|(_, kind)| kind == "487"), "{sent:?}");
}

impl Phone {
    fn prack(&mut self, cseq: u32, rseq: u32) {
        self.send_with("PRACK", cseq, &format!("z9hG4bKprack{cseq}"), &format!("RAck: {rseq} 1 INVITE\r\n"), "");
    }
}
