//! Descriptions that we offer anew, glare (RFC 3261 §14.1), failures (RFC 6141) and refreshes (RFC 4028).

use super::*;
use crate::sip::session_timer::SessionExpires;

#[test]
fn a_reinvite_is_answered_acknowledged_and_told() {
    let mut trunk = Trunk::answered();
    let dialog = trunk.dialog;
    trunk.endpoint.reinvite(dialog, b"v=0 hold", trunk.now).expect("up");
    let invite = trunk.take();
    assert!(
        invite.starts_with("INVITE sip:callee@10.0.0.9:5070 SIP/2.0\r\n") && invite.ends_with("v=0 hold"),
        "{invite}"
    );
    assert_eq!(
        (field(&invite, "CSeq"), field(&invite, "Supported")),
        ("2 INVITE", "100rel, timer, replaces, norefersub")
    );
    trunk.answer(&invite, 100, "a", "", "");
    trunk.answer(&invite, 200, "a", "Contact: <sip:moved@10.0.0.9:5080>\r\n", "v=0 held");
    let ack = trunk.take();
    assert!(ack.starts_with("ACK sip:moved@10.0.0.9:5080 ") && field(&ack, "CSeq") == "2 ACK", "{ack}");
    assert_eq!(trunk.events(), [Event::Reanswered { dialog, sdp: Some(b"v=0 held".to_vec()) }]);
    trunk.answer(&invite, 200, "a", "", "v=0 held");
    assert_eq!((trunk.messages(), trunk.events()), (vec![ack], vec![]), "a copy gets the same ACK");
    trunk.endpoint.hang_up(dialog, None, trunk.now).expect("up");
    let bye = trunk.take();
    trunk.answer(&bye, 200, "a", "", "");
    trunk.assert_nothing_is_left();
}

#[test]
fn a_refused_offer_changes_nothing_and_a_lost_one_ends_the_dialog() {
    for (status, ends) in [(488, false), (486, false), (603, false), (500, false), (481, true), (408, true)] {
        let mut trunk = Trunk::answered();
        let dialog = trunk.dialog;
        trunk.endpoint.reinvite(dialog, b"v=0 video", trunk.now).expect("up");
        let invite = trunk.take();
        trunk.answer(&invite, status, "a", "", "");
        let sent = trunk.messages();
        assert_eq!((kind(&sent[0]), branch(&sent[0])), ("ACK".into(), branch(&invite)), "{status}");
        assert_eq!(sent.get(1).map(|message| kind(message)).as_deref(), ends.then_some("BYE"), "{status}");
        let failed = Event::ReofferFailed { dialog, status };
        let gone = Event::Ended { dialog, cause: EndCause::Gone, reason: None };
        assert_eq!(trunk.events(), if ends { vec![failed, gone] } else { vec![failed] });
        if !ends {
            trunk.endpoint.reinvite(dialog, b"v=0 again", trunk.now).expect("up");
            assert!(trunk.take().ends_with("v=0 again"), "RFC 6141 §3.4: the call goes on");
        }
    }
    let mut trunk = Trunk::answered();
    let dialog = trunk.dialog;
    trunk.endpoint.reinvite(dialog, b"v=0 video", trunk.now).expect("up");
    trunk.take();
    let (sent, events) = trunk.timetable(32_000);
    let times: Vec<_> = sent.iter().map(|(ms, message)| (*ms, kind(message))).collect();
    let copies = [500, 1500, 3500, 7500, 15_500, 31_500].map(|ms| (ms, "INVITE".to_owned()));
    assert_eq!(times, [&copies[..], &[(32_000, "BYE".into())]].concat(), "timers A and B");
    let gone = Event::Ended { dialog, cause: EndCause::Gone, reason: None };
    assert_eq!(events, [(32_000, Event::ReofferFailed { dialog, status: 408 }), (32_000, gone)]);
}

#[test]
fn offers_that_cross_are_tried_again_later_by_the_caller_than_by_the_called() {
    let mut waits = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let mut trunk = Trunk::answered_with_seed(seed);
        let dialog = trunk.dialog;
        trunk.endpoint.reinvite(dialog, b"v=0 ours", trunk.now).expect("up");
        let invite = trunk.take();
        trunk.answer(&invite, 491, "a", "", "");
        assert_eq!(kind(&trunk.take()), "ACK");
        // Meanwhile their own offer comes through (RFC 3261 §14.1).
        trunk.request("INVITE", 5, "a");
        trunk.endpoint.answer(dialog, b"v=0 held", trunk.now).expect("pending");
        trunk.request("ACK", 5, "a");
        assert_eq!(trunk.statuses(), [100, 200]);
        trunk.events();
        let (sent, _) = trunk.timetable(5_000);
        let again = &sent[0];
        assert!(kind(&again.1) == "INVITE" && again.1.ends_with("v=0 ours"), "{again:?}");
        waits.insert(again.0);
        trunk.answer(&again.1, 200, "a", CONTACT, "v=0 fine");
        assert!(trunk.events().contains(&Event::Reanswered { dialog, sdp: Some(b"v=0 fine".to_vec()) }));
    }
    assert!(waits.iter().all(|ms| (2_100..=4_000).contains(ms) && ms % 10 == 0), "we own the Call-ID: {waits:?}");
    assert!(waits.len() > 20, "{waits:?}");
}

#[test]
fn glare_without_end_is_given_up_after_five_more_tries() {
    let mut trunk = Trunk::answered();
    let dialog = trunk.dialog;
    trunk.endpoint.reinvite(dialog, b"v=0 ours", trunk.now).expect("up");
    let mut tries = 0;
    loop {
        let invites: Vec<_> = trunk.messages().into_iter().filter(|message| kind(message) == "INVITE").collect();
        let Some(invite) = invites.first() else { break };
        tries += 1;
        trunk.answer(invite, 491, "a", "", "");
        trunk.now += Duration::from_secs(5);
        trunk.endpoint.handle_timeout(trunk.now);
    }
    assert_eq!(tries, 6);
    assert_eq!(trunk.events(), [Event::ReofferFailed { dialog, status: 491 }]);
}

#[test]
fn an_offer_waits_while_the_dialog_is_busy_and_the_last_of_several_counts() {
    let mut trunk = Trunk::answered();
    let dialog = trunk.dialog;
    trunk.request("INVITE", 5, "a");
    trunk.statuses();
    trunk.endpoint.reinvite(dialog, b"v=0 1", trunk.now).expect("up");
    trunk.endpoint.reinvite(dialog, b"v=0 2", trunk.now).expect("up");
    assert_eq!(trunk.messages(), [""; 0], "theirs is not answered");
    trunk.endpoint.answer(dialog, b"v=0 held", trunk.now).expect("pending");
    assert_eq!(trunk.statuses(), [200], "nor acknowledged");
    trunk.request("ACK", 5, "a");
    let invite = trunk.take();
    assert!(invite.ends_with("v=0 2"), "{invite}");
    trunk.endpoint.reinvite(dialog, b"v=0 3", trunk.now).expect("up");
    trunk.endpoint.reinvite(dialog, b"v=0 4", trunk.now).expect("up");
    trunk.answer(&invite, 200, "a", CONTACT, "v=0 fine");
    let [ack, next] = &trunk.messages()[..] else { panic!("ACK and INVITE") };
    assert!(kind(ack) == "ACK" && next.ends_with("v=0 4"), "{next}");
    let mut trunk = Trunk::answered();
    trunk.request("INVITE", 5, "a");
    trunk.endpoint.reinvite(trunk.dialog, b"v=0 1", trunk.now).expect("up");
    trunk.messages();
    trunk.endpoint.refuse(trunk.dialog, Refusal::new(488), trunk.now).expect("pending");
    let kinds: Vec<_> = trunk.messages().iter().map(|message| kind(message)).collect();
    assert_eq!(kinds, ["488", "INVITE"], "refused, theirs is out of the way");
    let mut trunk = Trunk::ringing();
    assert_eq!(trunk.endpoint.reinvite(trunk.dialog, b"v=0", trunk.now), Err(CommandError::NotNow));
}

#[test]
fn an_overloaded_far_end_is_asked_again_when_it_says() {
    let mut trunk = Trunk::answered();
    trunk.endpoint.reinvite(trunk.dialog, b"v=0 ours", trunk.now).expect("up");
    let invite = trunk.take();
    trunk.answer(&invite, 500, "a", "Retry-After: 7\r\n", "");
    assert_eq!(kind(&trunk.take()), "ACK");
    let (sent, events) = trunk.timetable(7_000);
    assert_eq!((sent[0].0, kind(&sent[0].1), events.len()), (7_000, "INVITE".into(), 0), "RFC 3261 §14.2");
}

#[test]
fn a_challenged_reinvite_is_sent_again_with_credentials() {
    let mut trunk = Trunk::called_with_credentials();
    let invite = trunk.take();
    trunk.answer(&invite, 200, "a", "Contact: <sip:callee@10.0.0.1:5062>\r\n", "v=0");
    trunk.messages();
    trunk.events();
    trunk.endpoint.reinvite(trunk.dialog, b"v=0 hold", trunk.now).expect("up");
    let invite = trunk.take();
    trunk.answer(&invite, 407, "a", "Proxy-Authenticate: Digest realm=\"t\", nonce=\"n\", qop=\"auth\"\r\n", "");
    let [ack, again] = &trunk.messages()[..] else { panic!("ACK and INVITE") };
    assert_eq!((kind(ack), field(again, "CSeq")), ("ACK".into(), "3 INVITE"));
    assert!(again.contains("Proxy-Authorization: Digest ") && again.ends_with("v=0 hold"), "{again}");
    let again = again.clone();
    trunk.answer(&again, 407, "a", "Proxy-Authenticate: Digest realm=\"t\", nonce=\"m\", qop=\"auth\"\r\n", "");
    assert_eq!(trunk.events(), [Event::ReofferFailed { dialog: trunk.dialog, status: 407 }]);
}

#[test]
fn a_reliable_answer_to_a_reinvite_is_acknowledged_and_stands_whatever_follows() {
    for status in [200, 486] {
        let mut trunk = Trunk::answered();
        let dialog = trunk.dialog;
        trunk.endpoint.reinvite(dialog, b"v=0 video", trunk.now).expect("up");
        let invite = trunk.take();
        trunk.answer(&invite, 183, "a", "Require: 100rel\r\nRSeq: 9\r\n", "v=0 early");
        let prack = trunk.take();
        assert_eq!((kind(&prack), field(&prack, "RAck")), ("PRACK".into(), "9 2 INVITE"));
        let told = Event::Reanswered { dialog, sdp: Some(b"v=0 early".to_vec()) };
        assert_eq!(trunk.events(), [told]);
        trunk.answer(&invite, status, "a", CONTACT, "");
        assert_eq!(kind(&trunk.take()), "ACK");
        let failed = Event::ReofferFailed { dialog, status: 486 };
        assert_eq!(trunk.events(), if status == 200 { vec![] } else { vec![failed] }, "RFC 6141 §3.4");
        trunk.request_with("INVITE", 8, "a", "v=0 early");
        assert!(trunk.messages().pop().expect("200").ends_with("v=0 video"), "it is what was agreed last");
    }
}

#[test]
fn a_reinvite_that_rings_for_three_minutes_is_cancelled() {
    let mut trunk = Trunk::answered();
    let dialog = trunk.dialog;
    trunk.endpoint.reinvite(dialog, b"v=0 video", trunk.now).expect("up");
    let invite = trunk.take();
    trunk.answer(&invite, 180, "a", "", "");
    let (sent, events) = trunk.timetable(180_000);
    assert_eq!((sent[0].0, kind(&sent[0].1), events.len()), (180_000, "CANCEL".into(), 0));
    assert_eq!(branch(&sent[0].1), branch(&invite));
    trunk.messages();
    trunk.answer(&invite, 487, "a", "", "");
    assert_eq!(
        (kind(&trunk.take()), trunk.events()),
        ("ACK".into(), vec![Event::ReofferFailed { dialog, status: 487 }])
    );
    assert_eq!(trunk.endpoint.dialogs(), 1);
}

#[test]
fn an_answer_to_a_reinvite_of_a_dialog_that_has_ended_is_acknowledged() {
    let mut trunk = Trunk::answered();
    trunk.endpoint.reinvite(trunk.dialog, b"v=0 video", trunk.now).expect("up");
    let invite = trunk.take();
    trunk.endpoint.hang_up(trunk.dialog, None, trunk.now).expect("up");
    let bye = trunk.take();
    trunk.answer(&bye, 200, "a", "", "");
    trunk.answer(&invite, 200, "a", CONTACT, "v=0 fine");
    assert_eq!((kind(&trunk.take()), trunk.events()), ("ACK".into(), vec![]));
    trunk.assert_nothing_is_left();
}

#[test]
fn a_reinvite_that_rings_on_behind_the_bye_is_forgotten() {
    for is_ours in [true, false] {
        let mut trunk = Trunk::answered();
        trunk.endpoint.reinvite(trunk.dialog, b"v=0 video", trunk.now).expect("up");
        let invite = trunk.take();
        trunk.answer(&invite, 180, "a", "", "");
        match is_ours {
            true => trunk.endpoint.hang_up(trunk.dialog, None, trunk.now).expect("up"),
            false => trunk.request("BYE", 1, "a"),
        }
        trunk.assert_nothing_is_left();
    }
}

#[test]
fn a_session_is_offered_1800_s_and_refreshed_at_half_by_whoever_is_to() {
    let mut trunk = Trunk::called();
    let invite = trunk.take();
    assert_eq!(field(&invite, "Session-Expires"), "1800", "without a refresher: RFC 4028 §7.1");
    assert!(!invite.contains("Require:"), "never required");
    // By UPDATE where it is allowed, else by the INVITE in force.
    for (allow, method) in [("Allow: INVITE, UPDATE\r\n", "UPDATE"), ("Allow: INVITE\r\n", "INVITE")] {
        let mut trunk = Trunk::called();
        let dialog = trunk.dialog;
        let invite = trunk.take();
        let fields = format!("{CONTACT}{allow}Require: timer\r\nSession-Expires: 1800;refresher=uac\r\n");
        trunk.answer(&invite, 200, "a", &fields, "v=0 theirs");
        trunk.messages();
        trunk.events();
        for round in 1..4 {
            let (sent, events) = trunk.timetable(900_000);
            let [(900_000, refresh)] = &sent[..] else { panic!("{sent:?}") };
            assert_eq!((kind(refresh), events.len()), (method.to_owned(), 0), "round {round}");
            assert_eq!(field(refresh, "Session-Expires"), "1800;refresher=uac");
            assert_eq!(refresh.ends_with("v=0 offer"), method == "INVITE", "RFC 4028 §7.4: o= as it was: {refresh}");
            let refresh = refresh.clone();
            let sdp = if method == "INVITE" { "v=0 theirs" } else { "" };
            trunk.messages();
            trunk.answer(&refresh, 200, "a", &fields, sdp);
            assert_eq!(trunk.messages().len(), usize::from(method == "INVITE"), "its ACK");
            assert_eq!(trunk.events(), [], "nobody is asked");
        }
        trunk.request("BYE", 1, "a");
        assert_eq!(trunk.events(), [Event::Ended { dialog, cause: EndCause::Bye, reason: None }]);
        trunk.assert_nothing_is_left();
    }
}

#[test]
fn a_refresh_that_is_lost_ends_the_call_and_one_that_is_refused_is_tried_again() {
    for status in [408, 481, 0] {
        let mut trunk = Trunk::refreshing();
        let dialog = trunk.dialog;
        let refresh = trunk.refresh();
        match status {
            0 => trunk.pass(32_000),
            status => trunk.answer(&refresh, status, "a", "", ""),
        }
        assert_eq!(trunk.messages().last().map(|message| kind(message)).as_deref(), Some("BYE"), "{status}");
        assert_eq!(trunk.events(), [Event::Ended { dialog, cause: EndCause::Gone, reason: None }], "{status}");
    }
    let mut trunk = Trunk::refreshing();
    let dialog = trunk.dialog;
    let refresh = trunk.refresh();
    trunk.answer(&refresh, 488, "a", "", "");
    let mut tries = Vec::new();
    let start = trunk.now;
    loop {
        let at = trunk.endpoint.poll_timeout().map(|(at, _)| at).expect("a timer");
        trunk.now = at;
        trunk.endpoint.handle_timeout(at);
        for message in trunk.messages() {
            tries.push(((at - start).as_secs(), kind(&message)));
            if kind(&message) == "UPDATE" {
                trunk.answer(&message, 488, "a", "", "");
            }
        }
        if trunk.endpoint.sessions.get(&dialog).is_none_or(|session| session.state == State::Gone) {
            break;
        }
    }
    // 868 s were left at the first refusal; half of what is left each time, then BYE 32 s before the expiry.
    let expected: Vec<_> = [434, 651, 759, 813, 840, 854, 864].map(|at| (at, "UPDATE".to_owned())).into();
    assert_eq!(tries, [expected, vec![(868, "BYE".into())]].concat());
    assert_eq!(trunk.events(), [Event::Ended { dialog, cause: EndCause::Expired, reason: None }]);
}

#[test]
fn a_far_end_that_allows_update_and_does_not_serve_it_is_refreshed_by_reinvite() {
    for status in [405, 501] {
        let mut trunk = Trunk::refreshing();
        let update = trunk.refresh();
        trunk.answer(&update, status, "a", "", "");
        trunk.pass(0);
        let invite = trunk.take();
        assert!(kind(&invite) == "INVITE" && invite.ends_with("v=0 offer"), "{invite}");
    }
}

#[test]
fn an_interval_that_is_too_small_for_a_proxy_is_asked_for_again_longer() {
    let mut trunk = Trunk::called();
    let invite = trunk.take();
    trunk.answer(&invite, 422, "x", "Min-SE: 3600\r\n", "");
    let [ack, again] = &trunk.messages()[..] else { panic!("ACK and INVITE") };
    assert_eq!((kind(ack), field(again, "CSeq")), ("ACK".into(), "2 INVITE"));
    assert_eq!((field(again, "Session-Expires"), field(again, "Min-SE")), ("3600", "3600"), "RFC 4028 §7.4");
    let again = again.clone();
    trunk.answer(&again, 422, "x", "Min-SE: 3600\r\n", "");
    assert!(matches!(trunk.events()[..], [Event::Refused { status: 422, .. }]), "it got what it wanted");

    let mut trunk = Trunk::refreshing();
    let refresh = trunk.refresh();
    trunk.answer(&refresh, 422, "a", "Min-SE: 2400\r\n", "");
    trunk.pass(0);
    let again = trunk.take();
    assert_eq!((field(&again, "Session-Expires"), field(&again, "Min-SE")), ("2400;refresher=uac", "2400"));
}

#[test]
fn a_far_end_that_is_to_refresh_and_does_not_is_hung_up_on_and_no_timer_means_none() {
    let mut trunk = Trunk::called();
    let dialog = trunk.dialog;
    let invite = trunk.take();
    trunk.answer(&invite, 200, "a", &format!("{CONTACT}Session-Expires: 120;refresher=uas\r\n"), "v=0");
    trunk.messages();
    trunk.events();
    let (sent, events) = trunk.timetable(90_000);
    assert_eq!(sent.iter().map(|(ms, message)| (*ms, kind(message))).next(), Some((88_000, "BYE".into())));
    assert_eq!(events, [(88_000, Event::Ended { dialog, cause: EndCause::Expired, reason: None })]);

    let mut trunk = Trunk::answered();
    assert_eq!(trunk.timetable(7_200_000), (vec![], vec![]), "a 200 without Session-Expires");
    let mut order = trunk.order(None);
    order.extensions.session_expires = None;
    trunk.endpoint.invite(order, trunk.now).expect("room");
    let invite = trunk.take();
    assert!(!invite.contains("Session-Expires") && !invite.contains("timer"), "{invite}");
    trunk.answer(&invite, 200, "a", &format!("{CONTACT}Session-Expires: 120;refresher=uac\r\n"), "v=0");
    trunk.messages();
    assert_eq!(trunk.timetable(7_200_000).0, [], "nor where the line keeps to none");
    assert!(SessionExpires::of(&Headers::default()).is_ok());
}

impl Trunk {
    fn answered_with_seed(seed: u8) -> Self {
        let mut trunk = Trunk::new(Transport::Udp);
        trunk.endpoint = Endpoint::new(EndpointConfig::default(), [seed; 32]);
        trunk.call(None);
        let invite = trunk.take();
        trunk.answer(&invite, 200, "a", CONTACT, "v=0");
        trunk.messages();
        trunk.events();
        trunk
    }

    /// A dialog that we refresh by UPDATE after 900 s.
    fn refreshing() -> Self {
        let mut trunk = Trunk::called();
        let invite = trunk.take();
        let fields = format!("{CONTACT}Allow: INVITE, UPDATE\r\nSession-Expires: 1800;refresher=uac\r\n");
        trunk.answer(&invite, 200, "a", &fields, "v=0 theirs");
        trunk.messages();
        trunk.events();
        trunk
    }

    /// The refresh that comes then.
    fn refresh(&mut self) -> String {
        self.pass(900_000);
        self.take()
    }
}
