//! REFER and NOTIFY in both roles (RFC 3515, RFC 3891, RFC 3892, RFC 4488).

use super::*;
use crate::sip::message::Replaces;

#[test]
fn a_transfer_of_ours_is_told_step_by_step_and_the_dialog_stays() {
    let mut trunk = Trunk::transferable();
    let dialog = trunk.dialog;
    let target = Uri::parse("sip:+15550009@10.0.0.7").expect("a URI");
    trunk.endpoint.refer(dialog, &target, None, trunk.now).expect("allowed");
    let refer = trunk.take();
    assert!(refer.starts_with("REFER sip:callee@10.0.0.9:5070 SIP/2.0\r\n"), "{refer}");
    assert_eq!(field(&refer, "Refer-To"), "<sip:+15550009@10.0.0.7>");
    assert_eq!(field(&refer, "Referred-By"), "<sip:+15557654321@10.0.0.2>", "RFC 3892");
    assert!(refer.contains("Contact: "), "{refer}");
    assert_eq!(trunk.endpoint.refer(dialog, &target, None, trunk.now), Err(CommandError::NotNow), "one at a time");
    trunk.answer(&refer, 202, "a", "", "");
    for (cseq, state, line) in [
        (1, "active;expires=60", "SIP/2.0 100 Trying"),
        (2, "active;expires=60", "SIP/2.0 180 Ringing\r\n"),
        (3, "terminated;reason=noresource", "SIP/2.0 200 OK\r\nServer: x"),
    ] {
        trunk.notify(cseq, &format!("Event: refer\r\nSubscription-State: {state}\r\n"), line);
        assert_eq!(trunk.statuses(), [200]);
    }
    let progress = |status, is_final| Event::ReferProgress { dialog, status, is_final };
    assert_eq!(trunk.events(), [progress(202, false), progress(100, false), progress(180, false), progress(200, true)]);
    assert_eq!(trunk.endpoint.dialogs(), 1);
    trunk.endpoint.refer(dialog, &target, None, trunk.now).expect("another may follow");
}

#[test]
fn a_notify_may_overtake_the_202_and_one_that_fits_nothing_is_refused() {
    let mut trunk = Trunk::transferable();
    let dialog = trunk.dialog;
    let active = "Event: refer\r\nSubscription-State: active\r\n";
    trunk.notify(1, active, "SIP/2.0 100 Trying");
    assert_eq!(trunk.statuses(), [481], "nobody asked");
    trunk.endpoint.refer(dialog, &Uri::parse("tel:+1555").expect("a URI"), None, trunk.now).expect("allowed");
    let refer = trunk.take();
    let cseq = field(&refer, "CSeq").split(' ').next().expect("a number").to_owned();
    trunk.notify(2, &format!("Event: refer;id={cseq}\r\nSubscription-State: active\r\n"), "SIP/2.0 100 Trying");
    trunk.notify(3, "Event: refer;id=99\r\nSubscription-State: active\r\n", "SIP/2.0 200 OK");
    trunk.notify(4, "Event: presence\r\nSubscription-State: active\r\n", "");
    trunk.notify(5, "Event: refer\r\nSubscription-State: terminated;reason=timeout\r\n", "");
    assert_eq!(trunk.statuses(), [200, 481, 489, 200]);
    let progress = |status, is_final| Event::ReferProgress { dialog, status, is_final };
    assert_eq!(trunk.events(), [progress(100, false), progress(408, true)], "an end without a word");
    trunk.answer(&refer, 202, "a", "", "");
    trunk.notify(6, "Event: refer\r\nSubscription-State: terminated\r\n", "SIP/2.0 200 OK");
    assert_eq!((trunk.statuses(), trunk.events()), (vec![200], vec![]), "the last was told");
}

#[test]
fn a_transfer_that_is_refused_unanswered_or_quiet_is_told_so() {
    let target = Uri::parse("sip:a@b").expect("a URI");
    for status in [403, 503, 603] {
        let mut trunk = Trunk::transferable();
        trunk.endpoint.refer(trunk.dialog, &target, None, trunk.now).expect("allowed");
        let refer = trunk.take();
        trunk.answer(&refer, status, "a", "", "");
        assert_eq!(trunk.events(), [Event::ReferRefused { dialog: trunk.dialog, status }]);
        assert_eq!(trunk.endpoint.dialogs(), 1);
    }
    let mut trunk = Trunk::transferable();
    trunk.endpoint.refer(trunk.dialog, &target, None, trunk.now).expect("allowed");
    trunk.pass(32_000);
    assert_eq!(trunk.events(), [Event::ReferRefused { dialog: trunk.dialog, status: 408 }], "timer F");
    let mut trunk = Trunk::transferable();
    trunk.endpoint.refer(trunk.dialog, &target, None, trunk.now).expect("allowed");
    let refer = trunk.take();
    trunk.answer(&refer, 202, "a", "Refer-Sub: false\r\n", "");
    let quiet = Event::ReferProgress { dialog: trunk.dialog, status: 202, is_final: true };
    assert_eq!(trunk.events(), [quiet], "RFC 4488: no NOTIFY will come");
    let mut trunk = Trunk::answered();
    assert_eq!(trunk.endpoint.refer(trunk.dialog, &target, None, trunk.now), Err(CommandError::NotAllowed));
}

#[test]
fn an_attended_transfer_names_the_dialog_that_it_replaces() {
    let mut trunk = Trunk::transferable();
    let first = trunk.dialog;
    trunk.call(None);
    let invite = trunk.take();
    trunk.answer(&invite, 200, "z;1", CONTACT, "v=0");
    trunk.messages();
    let target = Uri::parse("sip:callee@10.0.0.9:5070").expect("a URI");
    trunk.endpoint.refer(first, &target, Some(trunk.dialog), trunk.now).expect("allowed");
    let refer = trunk.take();
    let value = field(&refer, "Refer-To").to_owned();
    let headers = value.split_once('?').expect("header fields").1.trim_end_matches('>');
    let replaces = Replaces::in_uri_headers(headers).expect("readable");
    assert_eq!(replaces.call_id, field(&invite, "Call-ID"));
    assert_eq!((replaces.to_tag.as_str(), field(&invite, "From").ends_with(&replaces.from_tag)), ("z", true));
    assert_eq!(trunk.endpoint.refer(first, &target, Some(DialogId(99)), trunk.now), Err(CommandError::NoDialog));
}

#[test]
fn a_transfer_of_theirs_is_taken_on_and_told_of() {
    let mut trunk = Trunk::transferable();
    let dialog = trunk.dialog;
    let fields = "Refer-To: \"Bob\" <sip:bob@10.0.0.7?Replaces=c%40x%3Bto-tag%3D1%3Bfrom-tag%3D2&Subject=x>\r\n\
        Referred-By: <sip:callee@10.0.0.9>\r\n";
    trunk.refer(11, fields);
    let replaces = Replaces::parse("c@x;to-tag=1;from-tag=2");
    let target = Uri::parse("sip:bob@10.0.0.7").expect("a URI");
    let referred_by = Some("<sip:callee@10.0.0.9>".to_owned());
    assert_eq!(trunk.events(), [Event::Referred { dialog, target, replaces, referred_by }]);
    trunk.refer(12, fields);
    assert_eq!(trunk.statuses(), [491], "one at a time");
    trunk.endpoint.accept_refer(dialog, trunk.now).expect("waits");
    let [accepted, trying] = &trunk.messages()[..] else { panic!("202 and NOTIFY") };
    assert!(accepted.starts_with("SIP/2.0 202 ") && accepted.contains("Contact: "), "{accepted}");
    assert!(
        trying.starts_with("NOTIFY sip:callee@10.0.0.9:5070 ") && trying.ends_with("SIP/2.0 100 Trying\r\n"),
        "{trying}"
    );
    assert_eq!((field(trying, "Event"), field(trying, "Subscription-State")), ("refer;id=11", "active;expires=180"));
    assert_eq!(field(trying, "Content-Type"), "message/sipfrag;version=2.0");
    trunk.endpoint.notify_refer(dialog, 180, false, trunk.now).expect("taken on");
    assert!(trunk.take().ends_with("SIP/2.0 180 Ringing\r\n"));
    trunk.endpoint.notify_refer(dialog, 200, true, trunk.now).expect("taken on");
    let last = trunk.take();
    assert_eq!(field(&last, "Subscription-State"), "terminated;reason=noresource");
    assert_eq!(trunk.endpoint.notify_refer(dialog, 200, true, trunk.now), Err(CommandError::NothingPending));
}

#[test]
fn a_transfer_of_theirs_is_refused_where_it_cannot_be_or_is_not_wanted() {
    let mut trunk = Trunk::transferable();
    let dialog = trunk.dialog;
    for (cseq, fields) in [
        (11, ""),
        (12, "Refer-To: <sip:a@b>\r\nRefer-To: <sip:c@d>\r\n"),
        (13, "Refer-To: <http://a>\r\n"),
        (14, "Refer-To: <sip:a@b?Replaces=x>\r\n"),
    ] {
        trunk.refer(cseq, fields);
        assert_eq!(trunk.statuses(), [400], "{fields}");
    }
    trunk.refer(15, "r: sip:a@b\r\n");
    trunk.endpoint.refuse_refer(dialog, 603, trunk.now).expect("waits");
    assert_eq!(trunk.statuses(), [603]);
    trunk.refer(16, "Refer-To: <sip:a@b>\r\nRefer-Sub: false\r\n");
    trunk.endpoint.accept_refer(dialog, trunk.now).expect("waits");
    assert_eq!(field(&trunk.take(), "Refer-Sub"), "false", "RFC 4488: and no NOTIFY");
    trunk.endpoint.notify_refer(dialog, 200, true, trunk.now).expect("taken on");
    trunk.refer(17, "Refer-To: <sip:a@b>\r\n");
    trunk.request("BYE", 18, "a");
    assert_eq!(trunk.statuses(), [200, 487], "RFC 3261 §15.1.2");

    let mut trunk = Trunk::transferable();
    let extensions = Extensions { refer: false, ..Extensions::default() };
    trunk.endpoint.set_extensions(trunk.dialog, extensions);
    trunk.refer(11, "Refer-To: <sip:a@b>\r\n");
    let answer = trunk.take();
    assert!(answer.starts_with("SIP/2.0 405 ") && !field(&answer, "Allow").contains("REFER"), "{answer}");
}

impl Trunk {
    /// An answered call to whoever takes REFER.
    fn transferable() -> Self {
        let mut trunk = Trunk::called();
        let invite = trunk.take();
        trunk.answer(&invite, 200, "a", &format!("{CONTACT}Allow: INVITE, REFER, NOTIFY\r\n"), "v=0");
        trunk.messages();
        trunk.events();
        trunk
    }

    fn refer(&mut self, cseq: u32, fields: &str) {
        self.request_fields("REFER", cseq, "a", fields, "", "");
    }

    fn notify(&mut self, cseq: u32, fields: &str, body: &str) {
        let kind = if body.is_empty() { "" } else { "message/sipfrag;version=2.0" };
        self.request_fields("NOTIFY", cseq, "a", fields, kind, body);
    }
}
