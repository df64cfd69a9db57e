//! Challenges to our requests.

use super::*;

#[test]
fn a_challenge_is_answered_in_the_same_call_with_another_branch_and_number() {
    for (status, asks, answers) in
        [(401, "WWW-Authenticate", "Authorization"), (407, "Proxy-Authenticate", "Proxy-Authorization")]
    {
        let mut trunk = Trunk::called_with_credentials();
        let invite = trunk.take();
        let challenge = "Digest realm=\"trunk\", nonce=\"n1\", qop=\"auth\", opaque=\"o\", algorithm=SHA-256";
        let md5 = "Digest realm=\"trunk\", nonce=\"n1\", qop=\"auth\", algorithm=MD5";
        trunk.answer(&invite, status, "x", &format!("{asks}: {md5}\r\n{asks}: {challenge}\r\n"), "");
        let [ack, again] = &trunk.messages()[..] else { panic!("ACK and INVITE") };
        assert_eq!((branch(ack), field(ack, "CSeq")), (branch(&invite), "1 ACK"));
        assert_ne!(branch(again), branch(&invite));
        assert_eq!(field(again, "CSeq"), "2 INVITE");
        for name in ["From", "To", "Call-ID"] {
            assert_eq!(field(again, name), field(&invite, name), "RFC 3261 §22.2");
        }
        check_answer(challenge, field(again, answers), "INVITE", "sip:+15551234567@trunk.example:5060", 1);
        assert!(field(again, answers).contains("algorithm=SHA-256") && field(again, answers).contains("opaque=\"o\""));
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
