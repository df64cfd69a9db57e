//! Requests of the side that we called.

use super::*;

#[test]
fn a_called_side_s_requests_work_as_a_caller_s_do() {
    let mut trunk = Trunk::answered();
    let dialog = trunk.dialog;
    trunk.request("INFO", 0, "a");
    assert_eq!(trunk.statuses(), [200], "its first number may be 0");
    trunk.request("OPTIONS", 1, "a");
    assert_eq!(trunk.statuses(), [200]);
    trunk.request("INVITE", 7, "a");
    assert_eq!(trunk.statuses(), [100]);
    assert_eq!(trunk.events(), [Event::ReOffered { dialog, sdp: Some(b"v=0 hold".to_vec()), branch: 1 }]);
    trunk.endpoint.answer(dialog, b"v=0 held", trunk.now).expect("pending");
    assert_eq!(trunk.statuses(), [200]);
    trunk.request("ACK", 7, "a");
    assert_eq!(trunk.events(), [Event::Acknowledged { dialog, sdp: None }]);
    trunk.request("INFO", 7, "a");
    assert_eq!(trunk.statuses(), [500], "its numbers rise");
    trunk.request("BYE", 8, "stranger");
    assert_eq!(trunk.statuses(), [481]);
    trunk.endpoint.probe(dialog, trunk.now).expect("up");
    assert_eq!(field(&trunk.take(), "CSeq"), "2 OPTIONS", "ours are a space of their own");
    trunk.request("BYE", 8, "a");
    assert_eq!(trunk.statuses(), [200]);
    assert_eq!(trunk.events(), [Event::Ended { dialog, cause: EndCause::Bye, reason: None }]);
    trunk.assert_nothing_is_left();
}

#[test]
fn an_early_dialog_takes_info_and_no_bye() {
    let mut trunk = Trunk::ringing();
    trunk.request("INFO", 1, "a");
    trunk.request("BYE", 2, "a");
    trunk.request("INVITE", 3, "a");
    assert_eq!(trunk.statuses(), [200, 481, 481]);
    let invite = trunk.invite.clone();
    trunk.answer(&invite, 200, "a", CONTACT, "");
    trunk.messages();
    trunk.request("INFO", 1, "a");
    assert_eq!(trunk.statuses(), [200], "a copy of the first gets its answer");
    trunk.endpoint.hang_up(trunk.dialog, None, trunk.now).expect("up");
    assert_eq!(field(&trunk.take(), "CSeq"), "2 BYE");
}
