//! Calls that fork.

use super::*;

#[test]
fn every_2xx_of_a_fork_is_acknowledged_and_all_but_the_first_get_bye() {
    let mut trunk = Trunk::called();
    let invite = trunk.take();
    for tag in ["a", "b", "c"] {
        trunk.answer(&invite, 180, tag, "", "");
    }
    assert_eq!(trunk.events().len(), 3, "each branch rings");
    trunk.answer(&invite, 200, "b", CONTACT, "v=0 b");
    assert_eq!(trunk.events(), [Event::Accepted { dialog: trunk.dialog, sdp: Some(b"v=0 b".to_vec()), branch: 2 }]);
    assert!(trunk.take().starts_with("ACK "));
    trunk.answer(&invite, 200, "c", CONTACT, "v=0 c");
    let [ack, bye] = &trunk.messages()[..] else { panic!("ACK and BYE") };
    assert!(ack.starts_with("ACK ") && bye.starts_with("BYE "), "{ack}{bye}");
    assert!(field(ack, "To").ends_with(";tag=c") && field(bye, "To").ends_with(";tag=c"));
    assert_eq!(trunk.events(), [], "its user knows one dialog");
    trunk.answer(&invite, 200, "c", CONTACT, "v=0 c");
    assert_eq!(trunk.messages(), [ack.as_str()], "a copy: no second BYE");
    trunk.answer(bye, 200, "c", "", "");
    assert_eq!(trunk.endpoint.dialogs(), 1);
    trunk.request("BYE", 1, "b");
    assert_eq!(trunk.events(), [Event::Ended { dialog: trunk.dialog, cause: EndCause::Bye, reason: None }]);
    trunk.assert_nothing_is_left();
}

#[test]
fn at_most_eight_branches_of_a_fork_are_told() {
    let mut trunk = Trunk::called();
    let invite = trunk.take();
    for branch in 0..100 {
        trunk.answer(&invite, 180, &format!("t{branch}"), "", "");
    }
    assert_eq!(trunk.events().len(), 8);
    for branch in 0..100 {
        trunk.answer(&invite, 200, &format!("t{branch}"), CONTACT, "");
    }
    let sent = trunk.messages();
    assert_eq!(sent.iter().filter(|message| message.starts_with("ACK ")).count(), 9);
    assert_eq!(sent.iter().filter(|message| message.starts_with("BYE ")).count(), 8);
    assert_eq!((trunk.events().len(), trunk.endpoint.dialogs()), (1, 9));
}
