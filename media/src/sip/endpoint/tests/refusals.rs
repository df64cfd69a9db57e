//! What is told of refusals: each with its rule, and nothing is met with silence.

use super::*;
use crate::sip::InfoDigit;

#[test]
fn every_refusal_that_is_sent_is_told_with_the_rule_that_caused_it() {
    for (request, status, rule) in [
        ("INVITE isbn:1 SIP/2.0|1 INVITE|", 416, "neither sip, sips nor tel"),
        ("INVITE sips:x SIP/2.0|1 INVITE|", 480, "not come under TLS"),
        ("INVITE sip:x SIP/3.0|1 INVITE|", 505, "Version Not Supported"),
        ("INVITE sip:x SIP/2.0|1 BYE|", 400, "CSeq Method"),
        ("NEWMETHOD sip:x SIP/2.0|1 NEWMETHOD|", 501, "no RFC known here"),
        ("SUBSCRIBE sip:x SIP/2.0|1 SUBSCRIBE|", 405, "SUBSCRIBE"),
        ("REFER sip:x SIP/2.0|1 REFER|Refer-To: <sip:y>\r\n", 403, "within a call"),
        ("INVITE sip:x SIP/2.0|1 INVITE|Require: a, 100rel, b\r\n", 420, "a, b"),
        ("INVITE sip:x SIP/2.0|1 INVITE|Accept: text/plain\r\n", 406, "application/sdp"),
        (
            "INVITE sip:x SIP/2.0|1 INVITE|Content-Type: text/plain\r\nContent-Length: 1\r\n\r\nx",
            415,
            "no session description",
        ),
        ("BYE sip:x SIP/2.0|1 BYE|", 481, "no dialog here"),
        ("CANCEL sip:x SIP/2.0|1 CANCEL|", 481, "no INVITE here"),
        ("UPDATE sip:x SIP/2.0|1 UPDATE|", 481, "no dialog here"),
        ("PRACK sip:x SIP/2.0|1 PRACK|RAck: 1 1 INVITE\r\n", 481, "no dialog here"),
        ("NOTIFY sip:x SIP/2.0|1 NOTIFY|Event: refer\r\n", 481, "no dialog here"),
    ] {
        let mut phone = Phone::new(Transport::Udp);
        let [line, cseq, fields] = request.split('|').collect::<Vec<_>>()[..] else { panic!("{request}") };
        phone.raw(&format!("{line}\r\n{HEAD}To: <sip:x>\r\nCSeq: {cseq}\r\n{fields}\r\n"));
        let seen = phone.refusals();
        assert_eq!(phone.statuses(), [status], "{request}");
        let [seen] = &seen[..] else { panic!("{request}: {seen:?}") };
        assert!(seen.is_ours && seen.status == status && seen.rule.contains(rule), "{request}: {}", seen.rule);
        assert_eq!((seen.flow.remote, seen.dialog), (phone.flow.remote, None));
        assert!(!format!("{seen:?}").contains(&seen.rule), "rules may name people");
    }
}

#[test]
fn a_sips_uri_is_served_under_tls_with_a_sips_contact_and_refused_without() {
    for (transport, status) in [(Transport::Tls, 200), (Transport::Tcp, 480), (Transport::Ws, 480)] {
        let mut phone = Phone::new(transport);
        let invite = phone.text("INVITE", 1, "z9hG4bKinv", "v=0 offer").replace("sip:", "sips:");
        phone.raw(&invite);
        phone.drain();
        if let Some(Event::Offered(offered)) = phone.seen.last() {
            let dialog = offered.dialog;
            phone.endpoint.answer(dialog, b"v=0", phone.now).expect("early");
        }
        let answer = phone.messages().pop().expect("answered");
        assert!(answer.starts_with(&format!("SIP/2.0 {status} ")), "{answer}");
        assert_eq!(
            answer.contains("\r\nWarning: 380 10.0.0.2:5060 \"SIPS Not Allowed\"\r\n"),
            status == 480,
            "{answer}"
        );
        assert_eq!(answer.contains("\r\nContact: <sips:talkstack@10.0.0.2:5060>\r\n"), status == 200, "{answer}");
    }
}

#[test]
fn a_refusal_by_the_call_is_told_with_its_reason_and_its_dialog() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call_with("");
    let refusal = Refusal { reason: Some("no channel is free".into()), ..Refusal::new(503) };
    phone.endpoint.refuse(dialog, refusal, phone.now).expect("early");
    let [seen] = &phone.refusals()[..] else { panic!("one") };
    assert_eq!((seen.status, seen.dialog, seen.rule.as_str()), (503, Some(dialog), "no channel is free"));
    assert_eq!(seen.method, Method::Invite);
}

#[test]
fn a_challenge_of_ours_is_no_refusal_unless_a_rule_ends_the_attempt() {
    for (reason, told) in [(None, 0), (Some("the password is wrong".to_owned()), 1)] {
        let mut phone = Phone::new(Transport::Udp);
        let dialog = phone.call_with("");
        let fields = vec![("WWW-Authenticate", "Digest realm=\"r\", nonce=\"n\"".to_owned())];
        phone.endpoint.refuse(dialog, Refusal { reason, fields, ..Refusal::new(401) }, phone.now).expect("early");
        assert_eq!(phone.refusals().len(), told);
        assert!(phone.take().contains("WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n"));
    }
}

#[test]
fn info_brings_digits_and_what_means_nothing_is_refused() {
    let mut phone = Phone::confirmed();
    let dialog = phone.dialog;
    for (cseq, fields, status) in [
        (2, "Content-Type: application/dtmf-relay\r\n", 200),
        (3, "Content-Type: Application/DTMF ; x=y\r\n", 200),
        (4, "Content-Type: text/plain\r\n", 415),
        (5, "Content-Type: application/dtmf\r\nInfo-Package: other\r\n", 469),
    ] {
        let text = phone.text("INFO", cseq, &format!("z9hG4bKi{cseq}"), "Signal=5");
        phone.raw(&text.replace("Content-Type: application/sdp\r\n", fields));
        assert_eq!(phone.statuses(), [status], "{fields}");
    }
    let info = |kind: &str| Event::Info { dialog, content_type: kind.into(), body: b"Signal=5".to_vec() };
    assert_eq!(phone.events(), [info("application/dtmf-relay"), info("application/dtmf")]);
    phone.send("INFO", 6, "z9hG4bKi6", "");
    assert_eq!((phone.statuses(), phone.events()), (vec![200], vec![]), "without a body there is nothing to tell");
}

#[test]
fn keys_go_out_by_info_one_behind_the_other_whatever_is_answered() {
    let mut phone = Phone::confirmed();
    let dialog = phone.dialog;
    let digit = |key| InfoDigit { key, held: Duration::from_millis(200) };
    for key in ['1', '2', '3'] {
        phone.endpoint.press_by_info(dialog, digit(key), phone.now).expect("up");
    }
    for (key, status) in [('1', Some(200)), ('2', None), ('3', Some(415))] {
        let sent = phone.messages();
        let [info] = &sent[..] else { panic!("{sent:?}") };
        assert!(info.starts_with("INFO sip:phone@10.0.0.1:5062 SIP/2.0\r\n"), "{info}");
        assert!(info.contains("Content-Type: application/dtmf-relay\r\n"), "{info}");
        assert!(info.ends_with(&format!("\r\n\r\nSignal={key}\r\nDuration=200\r\n")), "{info}");
        match status {
            Some(status) => phone.answer_to(info, status),
            // Nothing comes: what is sent again is the same key.
            None => {
                phone.pass(31_900);
                assert!(phone.messages().iter().all(|message| message == info));
                phone.pass(200);
            }
        }
    }
    assert!(phone.messages().is_empty());
    let waiting = (0..100).filter(|_| phone.endpoint.press_by_info(dialog, digit('5'), phone.now).is_ok()).count();
    assert_eq!(waiting, 33, "one under way and 32 behind it");
    let mut early = Phone::new(Transport::Udp);
    let dialog = early.call_with("");
    assert_eq!(early.endpoint.press_by_info(dialog, digit('5'), early.now), Err(CommandError::NotNow));
}

#[test]
fn the_reason_of_a_bye_or_cancel_is_told() {
    let mut phone = Phone::confirmed();
    let dialog = phone.dialog;
    phone.send_with("BYE", 2, "z9hG4bKbye", "Reason: SIP;cause=200, Q.850;cause=16;text=\"Normal\"\r\n", "");
    let reason = Some("Q.850 16: Normal".into());
    assert_eq!(phone.events(), [Event::Ended { dialog, cause: EndCause::Bye, reason }]);
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call_with("");
    phone.send_with("CANCEL", 1, "z9hG4bKinv", "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\n", "");
    let reason = Some("SIP 200: Call completed elsewhere".into());
    assert_eq!(phone.events(), [Event::Ended { dialog, cause: EndCause::Cancelled, reason }]);
}

#[test]
fn an_offered_call_brings_what_diverted_it_and_what_proves_its_account() {
    let mut phone = Phone::new(Transport::Udp);
    let fields = "Diversion: <sip:a@b>;reason=no-answer\r\nHistory-Info: <sip:a@b>;index=1\r\n\
        Authorization: Digest username=\"u\"\r\nProxy-Authorization: Digest username=\"v\"\r\n";
    phone.send_with("INVITE", 1, "z9hG4bKinv", fields, "v=0");
    phone.drain();
    let Some(Event::Offered(offered)) = phone.seen.pop() else { panic!("no offer") };
    assert_eq!(offered.headers.text("Diversion").as_deref(), Some("<sip:a@b>;reason=no-answer"));
    assert_eq!(offered.headers.text("History-Info").as_deref(), Some("<sip:a@b>;index=1"));
    assert_eq!(offered.authorization, ["Digest username=\"u\"", "Digest username=\"v\""]);
    assert!(!format!("{offered:?}").contains("username"));
}

impl Phone {
    /// What was told of refusals; messages stay to be looked at.
    fn refusals(&mut self) -> Vec<RefusalSeen> {
        let mut refusals = Vec::new();
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Event(Event::RefusalSeen(seen)) => refusals.push(*seen),
                Output::Event(event) => self.seen.push(event),
                Output::Send { bytes, .. } | Output::SendLarge { bytes, .. } => {
                    self.sent.push(String::from_utf8_lossy(&bytes).into_owned())
                }
            }
        }
        refusals
    }
}
