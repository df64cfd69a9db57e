//! UPDATE that comes in (RFC 3311), and session timers of the called side (RFC 4028).

use super::*;

#[test]
fn an_update_with_another_offer_is_answered_and_one_without_is_a_refresh() {
    let mut phone = Phone::confirmed();
    let dialog = phone.dialog;
    phone.send("UPDATE", 2, "z9hG4bKu2", "");
    let refreshed = phone.take();
    assert!(refreshed.starts_with("SIP/2.0 200 ") && refreshed.contains("Contact: <sip:talkstack@"), "{refreshed}");
    assert!(refreshed.ends_with("Content-Length: 0\r\n\r\n"), "{refreshed}");
    assert_eq!(phone.events(), []);

    phone.send("UPDATE", 3, "z9hG4bKu3", "v=0 hold");
    assert_eq!(phone.events(), [Event::ReOffered { dialog, sdp: Some(b"v=0 hold".to_vec()), branch: 0 }]);
    phone.send("UPDATE", 3, "z9hG4bKu3", "v=0 hold");
    assert_eq!((phone.messages(), phone.events()), (vec![], vec![]), "a copy is absorbed");
    phone.endpoint.answer(dialog, b"v=0 held", phone.now).expect("waits");
    let answer = phone.take();
    assert!(answer.contains("CSeq: 3 UPDATE\r\n") && answer.ends_with("v=0 held"), "{answer}");
    phone.send("UPDATE", 3, "z9hG4bKu3", "v=0 hold");
    assert_eq!(phone.messages(), [answer], "a copy gets the same answer");

    phone.send("UPDATE", 4, "z9hG4bKu4", "v=0 fax");
    phone.endpoint.refuse(dialog, Refusal::new(488), phone.now).expect("waits");
    assert_eq!(phone.statuses(), [488]);
    phone.send("UPDATE", 5, "z9hG4bKu5", "v=0 hold");
    assert!(phone.take().ends_with("v=0 held"), "RFC 3311 §5.3: what was agreed before is in force");
}

#[test]
fn an_offer_that_repeats_what_is_in_force_asks_nobody() {
    let mut phone = Phone::confirmed();
    phone.events();
    for (method, cseq) in [("INVITE", 2), ("UPDATE", 3)] {
        phone.send(method, cseq, &format!("z9hG4bK{method}"), "v=0 offer");
        let answer = phone.messages().pop().expect("200");
        assert!(answer.starts_with("SIP/2.0 200 ") && answer.ends_with("\r\n\r\nv=0"), "{method}: {answer}");
        phone.send("ACK", 2, "z9hG4bKack2", "");
    }
    let acknowledged = Event::Acknowledged { dialog: phone.dialog, sdp: None };
    assert_eq!(phone.events(), [acknowledged]);
}

#[test]
fn an_update_that_crosses_another_offer_is_put_off() {
    // While an UPDATE of theirs waits.
    let mut phone = Phone::confirmed();
    phone.send("UPDATE", 2, "z9hG4bKu2", "v=0 a");
    phone.send("UPDATE", 3, "z9hG4bKu3", "v=0 b");
    let answer = phone.take();
    assert!(answer.starts_with("SIP/2.0 500 ") && answer.contains("Retry-After: "), "RFC 3311 §5.2: {answer}");
    phone.send("INVITE", 4, "z9hG4bKi4", "v=0 c");
    assert!(phone.take().contains("Retry-After: "), "RFC 3261 §14.2");
    // While a re-INVITE of theirs waits.
    let mut phone = Phone::confirmed();
    phone.send("INVITE", 2, "z9hG4bKi2", "v=0 a");
    phone.send("UPDATE", 3, "z9hG4bKu3", "v=0 b");
    assert_eq!(phone.statuses(), [100, 500]);
    // Before their first offer is answered.
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call_with("");
    phone.endpoint.ring(dialog, None, phone.now).expect("early");
    let ringing = phone.take();
    phone.learn_tag(&ringing);
    phone.send("UPDATE", 2, "z9hG4bKu2", "v=0 b");
    assert_eq!(phone.statuses(), [500]);
    // While an offer of ours is out.
    let mut phone = Phone::confirmed();
    phone.endpoint.reinvite(phone.dialog, b"v=0 ours", phone.now).expect("up");
    assert_eq!(kind(&phone.take()), "INVITE");
    for (method, cseq) in [("UPDATE", 2), ("INVITE", 3)] {
        phone.send(method, cseq, &format!("z9hG4bKg{method}"), "v=0 theirs");
        assert_eq!(phone.statuses(), [491], "{method}");
    }
    phone.send("UPDATE", 4, "z9hG4bKu4", "");
    assert_eq!(phone.statuses(), [200], "a refresh without an offer crosses nothing");
}

#[test]
fn a_refresh_of_ours_that_has_no_offer_crosses_nothing() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call_with("Supported: timer\r\nSession-Expires: 90;refresher=uas\r\nAllow: UPDATE\r\n");
    phone.endpoint.answer(dialog, b"v=0 ours", phone.now).expect("early");
    let answer = phone.take();
    phone.learn_tag(&answer);
    phone.send("ACK", 1, "z9hG4bKack", "");
    phone.events();
    phone.pass(45_000);
    assert_eq!(kind(&phone.take()), "UPDATE");
    phone.send("INVITE", 2, "z9hG4bKi2", "v=0 hold");
    assert_eq!(phone.statuses(), [100]);
    assert_eq!(phone.events(), [Event::ReOffered { dialog, sdp: Some(b"v=0 hold".to_vec()), branch: 0 }]);
}

#[test]
fn the_called_side_tries_again_within_two_seconds_after_glare() {
    let mut waits = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let mut phone = Phone::new(Transport::Udp);
        phone.endpoint = Endpoint::new(EndpointConfig::default(), [seed; 32]);
        let dialog = phone.call_with("");
        phone.endpoint.answer(dialog, b"v=0", phone.now).expect("early");
        let answer = phone.take();
        phone.learn_tag(&answer);
        phone.send("ACK", 1, "z9hG4bKack", "");
        phone.endpoint.reinvite(dialog, b"v=0 ours", phone.now).expect("up");
        let invite = phone.take();
        phone.answer_with(&invite, 491, "");
        assert_eq!(kind(&phone.take()), "ACK");
        let sent = phone.timetable(2_000);
        assert_eq!(sent[0].1, "INVITE");
        waits.insert(sent[0].0);
    }
    assert!(waits.iter().all(|ms| *ms <= 2_000 && ms % 10 == 0), "RFC 3261 §14.1: {waits:?}");
    assert!(waits.len() > 20, "{waits:?}");
}

#[test]
fn an_update_nobody_answers_gets_504_and_what_was_agreed_stays() {
    let mut phone = Phone::confirmed();
    phone.send("UPDATE", 2, "z9hG4bKu2", "v=0 a");
    assert_eq!(phone.timetable(40_000), [(8_000, "504".into())], "RFC 3311 §5.2: promptly");
    phone.send("UPDATE", 3, "z9hG4bKu3", "v=0 offer");
    assert!(phone.take().ends_with("\r\n\r\nv=0"));
    phone.send("UPDATE", 4, "z9hG4bKu4", "v=0 a");
    phone.send("BYE", 5, "z9hG4bKbye", "");
    assert_eq!(phone.statuses(), [200, 487], "RFC 3261 §15.1.2");
}

#[test]
fn an_early_dialog_is_changed_by_update_either_way() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call_with("Supported: 100rel\r\nAllow: INVITE, PRACK, UPDATE\r\n");
    phone.endpoint.ring(dialog, Some(b"v=0 early"), phone.now).expect("early");
    let ringing = phone.take();
    phone.learn_tag(&ringing);
    assert_eq!(phone.endpoint.reinvite(dialog, b"v=0 more", phone.now), Ok(()), "it waits for the PRACK");
    assert_eq!(phone.messages(), [""; 0], "RFC 3311 §5.1");
    phone.send_with("PRACK", 2, "z9hG4bKp", &format!("RAck: {} 1 INVITE\r\n", field(&ringing, "RSeq")), "");
    let [acknowledged, update] = &phone.messages()[..] else { panic!("200 and UPDATE") };
    assert_eq!((kind(acknowledged), kind(update)), ("200".into(), "UPDATE".into()));
    assert!(update.ends_with("v=0 more") && field(update, "CSeq") == "1 UPDATE", "{update}");
    phone.answer_with(update, 200, "v=0 fine");
    assert_eq!(phone.events(), [Event::Reanswered { dialog, sdp: Some(b"v=0 fine".to_vec()) }]);
    phone.send("UPDATE", 3, "z9hG4bKu", "v=0 theirs");
    phone.endpoint.answer(dialog, b"v=0 ours", phone.now).expect("waits");
    assert!(phone.take().contains("CSeq: 3 UPDATE\r\n"));
    phone.endpoint.answer(dialog, b"v=0 ours", phone.now).expect("early");
    assert!(phone.take().contains("CSeq: 1 INVITE\r\n"));
}

#[test]
fn a_caller_who_refreshes_keeps_the_call_and_one_who_stops_gets_bye_before_the_expiry() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call_with("Supported: timer\r\nSession-Expires: 600\r\n");
    phone.endpoint.answer(dialog, b"v=0", phone.now).expect("early");
    let answer = phone.take();
    assert_eq!((field(&answer, "Session-Expires"), field(&answer, "Require")), ("600;refresher=uac", "timer"));
    phone.learn_tag(&answer);
    phone.send("ACK", 1, "z9hG4bKack", "");
    phone.events();
    for round in 2..5 {
        assert_eq!(phone.timetable(300_000), []);
        phone.send_with(
            "UPDATE",
            round,
            &format!("z9hG4bKu{round}"),
            "Supported: timer\r\nSession-Expires: 600;refresher=uac\r\n",
            "",
        );
        assert_eq!(field(&phone.take(), "Session-Expires"), "600;refresher=uac");
    }
    let sent = phone.timetable(599_000);
    assert_eq!(sent[0], (568_000, "BYE".into()), "RFC 4028 §10: 32 s before the expiry");
    assert_eq!(phone.events(), [Event::Ended { dialog, cause: EndCause::Expired, reason: None }]);
}

#[test]
fn the_called_side_refreshes_where_the_caller_wants_it_so() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call_with("Supported: timer\r\nSession-Expires: 90;refresher=uas\r\nAllow: INVITE, UPDATE\r\n");
    phone.endpoint.answer(dialog, b"v=0 ours", phone.now).expect("early");
    let answer = phone.take();
    assert_eq!(field(&answer, "Session-Expires"), "90;refresher=uas");
    phone.learn_tag(&answer);
    phone.send("ACK", 1, "z9hG4bKack", "");
    phone.messages();
    phone.pass(44_999);
    assert_eq!(phone.messages(), [""; 0]);
    phone.pass(1);
    let update = phone.take();
    assert_eq!((kind(&update), field(&update, "Session-Expires")), ("UPDATE".into(), "90;refresher=uac"));
    assert!(update.ends_with("Content-Length: 0\r\n\r\n"), "RFC 4028 §7.4: without an offer: {update}");
    phone.answer_with(&update, 200, "");
    assert_eq!(phone.timetable(200_000), [], "RFC 4028 §7.2: a 200 without Session-Expires turns the timer off");
}

#[test]
fn an_interval_that_is_too_small_or_unreadable_is_refused() {
    for (fields, status) in [
        ("Supported: timer\r\nSession-Expires: 89\r\n", 422),
        ("Session-Expires: soon\r\n", 400),
        ("Session-Expires: 89\r\n", 100),
    ] {
        let mut phone = Phone::new(Transport::Udp);
        phone.send_with("INVITE", 1, "z9hG4bKinv", fields, "v=0");
        let answer = phone.take();
        assert!(answer.starts_with(&format!("SIP/2.0 {status} ")), "{fields}: {answer}");
        assert_eq!(answer.contains("Min-SE: 90\r\n"), status == 422);
    }
    let mut phone = Phone::confirmed();
    phone.send_with("UPDATE", 2, "z9hG4bKu", "Supported: timer\r\nSession-Expires: 30\r\n", "");
    assert_eq!(phone.statuses(), [422]);
}

impl Phone {
    /// Answers a request of the endpoint, with a description.
    fn answer_with(&mut self, request: &str, status: u16, sdp: &str) {
        let fields: String = request
            .lines()
            .filter(|line| {
                ["Via", "From", "To", "Call-ID", "CSeq"].iter().any(|name| line.starts_with(&format!("{name}:")))
            })
            .map(|line| format!("{line}\r\n"))
            .collect();
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        self.raw(&format!("SIP/2.0 {status} X\r\n{fields}{kind}Content-Length: {}\r\n\r\n{sdp}", sdp.len()));
    }
}
