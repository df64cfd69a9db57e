//! Calls that are withdrawn, and answers that cross the CANCEL.

use super::*;

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
