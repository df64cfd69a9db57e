//! linphones as the registered phones of an office: timers, reliable ringing, hold, and both kinds of transfer.

use super::lines::Lines;
use super::linphone::{Linphone, account};
use super::process::is_installed;
use super::registrar::PASSWORD;
use super::table::{Cell, row};

#[test]
fn registered_linphones_ring_reliably_hold_resume_and_keep_session_timers() {
    if !is_installed("linphonec") {
        return;
    }
    let mut lines = Lines::new(&[]);
    let [mut first, mut second] = desks(&mut lines, ["100", "101"]);
    let target = lines.daemon.sip();
    first.types(&format!("call sip:101@{target}"));
    second.says("Receiving new incoming call");
    second.does("answer 1", "connected");
    first.hears_itself();
    second.hears_itself();
    first.does("pause", "is now paused");
    first.does("resume 1", "Media streams established");
    first.hears_itself();
    second.hears_itself();
    second.does("pause", "is now paused");
    second.does("resume 1", "Media streams established");
    first.hears_itself();
    second.does("terminate", "ended (No error)");
    lines.ended();
    let (calling, called) = (first.log(), second.log());
    assert!(calling.contains("\nSession-Expires: 120;refresher="), "no session timer with who calls");
    assert!(called.contains("\nSession-Expires: "), "no session timer with who is called");
    assert!(called.contains("\nPRACK sip:") && called.contains("\nRSeq:"), "no reliable ringing");
    row(
        "linphone, two desks",
        &[
            ("session timers with both phones", Cell::Works),
            ("100rel: the box sends PRACK", Cell::Works),
            ("either holds and resumes, two-way sound", Cell::Works),
        ],
    );
}

#[test]
fn a_registered_linphone_transfers_blind() {
    if !is_installed("linphonec") {
        return;
    }
    let mut lines = Lines::new(&[]);
    let [mut clerk, mut caller, mut expert] = desks(&mut lines, ["100", "101", "102"]);
    let target = lines.daemon.sip();
    talk(&mut caller, &mut clerk, &format!("sip:100@{target}"));
    clerk.types(&format!("transfer 1 sip:102@{target}"));
    expert.says("Receiving new incoming call");
    expert.does("answer 1", "connected");
    clerk.says("ended (No error)");
    caller.hears_itself();
    expert.hears_itself();
    caller.does("terminate", "ended (No error)");
    lines.ended();
    let log = clerk.log();
    assert!(log.contains("\nSIP/2.0 202 ") && log.contains("message/sipfrag"), "no REFER with NOTIFY");
    row("linphone, blind transfer", &[("blind: REFER, 202, NOTIFY, BYE; two-way sound", Cell::Works)]);
}

#[test]
fn a_registered_linphone_asks_somebody_and_transfers_to_them() {
    if !is_installed("linphonec") {
        return;
    }
    let mut lines = Lines::new(&[]);
    let [mut clerk, mut caller, mut expert] = desks(&mut lines, ["100", "101", "102"]);
    let target = lines.daemon.sip();
    talk(&mut caller, &mut clerk, &format!("sip:100@{target}"));
    clerk.does("pause", "is now paused");
    talk(&mut clerk, &mut expert, &format!("sip:102@{target}"));
    clerk.types("transfer 1 --to-call 2");
    clerk.says("ended (No error)");
    caller.hears_itself();
    expert.hears_itself();
    caller.does("terminate", "ended (No error)");
    lines.ended();
    row("linphone, attended transfer", &[("attended: REFER with Replaces; two-way sound", Cell::Works)]);
}

/// Registered phones that want timers and reliable ringing.
fn desks<const COUNT: usize>(lines: &mut Lines, users: [&str; COUNT]) -> [Linphone; COUNT] {
    let target = lines.daemon.sip();
    let mut desks = users.map(|user| {
        lines.extension(user, PASSWORD);
        Linphone::start(&format!("{WISHES}{}", account(user, target, target, PASSWORD)))
    });
    desks.iter_mut().for_each(Linphone::registers);
    desks
}

/// One calls, the other answers, and each hears the other.
fn talk(caller: &mut Linphone, called: &mut Linphone, uri: &str) {
    caller.types(&format!("call {uri}"));
    called.says("Receiving new incoming call");
    called.does("answer 1", "connected");
    caller.hears_itself();
    called.hears_itself();
}

const WISHES: &str = "session_expires_enabled=1\nsession_expires_value=120\nsession_expires_min_value=90\n\
    100rel_support_level=2\n";
