//! What dialogs can do beside being set up and ended, in both roles, with SIPp as the other side.

use serde_json::json;

use super::scenario::{HELD, SDP, Scenario};
use super::site::Site;
use super::table::{Cell, row};
use crate::daemon::Daemon;

#[test]
fn what_a_caller_may_do_in_a_dialog_is_done() {
    let daemon = Daemon::serve(&[]);
    let target = daemon.sip();
    play("SIPp, calling", calling(), |scenario| scenario.calls(target, "echo"));
}

#[test]
fn what_a_called_side_may_do_is_taken() {
    play("SIPp, called", called(), |scenario| {
        let (address, peer) = scenario.listens();
        let site = Site::new(&[], address, json!({}));
        site.dial("+15550000001");
        peer.finishes()
    });
}

#[test]
fn an_answer_that_crosses_the_cancel_is_acknowledged_and_ended() {
    let tag = "[call_number]";
    let crossing = Scenario::called(&[])
        .answers("180 Ringing", tag, &[], None)
        .gets("CANCEL", &[])
        .answers("200 OK", "", &[], None)
        .answers_invite("200 OK", tag, &[], Some(SDP))
        .gets("ACK", &[])
        .gets("BYE", &[])
        .answers("200 OK", "", &[], None);
    play("SIPp, called and crossing", vec![("200 crosses CANCEL: ACK, then BYE", crossing)], |scenario| {
        let (address, peer) = scenario.listens();
        let site = Site::new(&[("TALKSTACK__CALLS__RING_TIMEOUT_S", "5")], address, json!({}));
        site.dial("+15550000001");
        peer.finishes()
    });
}

/// Plays each and says the row; one that does not go as written fails the test, when all have been played.
fn play(peer: &str, cases: Vec<(&'static str, Scenario)>, run: impl Fn(Scenario) -> Result<(), String>) {
    let mut faults = String::new();
    let cells: Vec<(&str, Cell)> = cases
        .into_iter()
        .map(|(name, scenario)| match run(scenario) {
            Ok(()) => (name, Cell::Works),
            Err(fault) => {
                faults.push_str(&format!("{name}: {fault}\n"));
                (name, Cell::Red("not as the scenario says"))
            }
        })
        .collect();
    row(peer, &cells);
    assert!(faults.is_empty(), "{faults}");
}

fn calling() -> Vec<(&'static str, Scenario)> {
    talking().into_iter().chain(refusing()).collect()
}

/// What goes well.
fn talking() -> Vec<(&'static str, Scenario)> {
    vec![
        ("100rel required: 180 with RSeq, PRACK", ringing_reliably().sends("BYE", &[], None).gets("200", &[])),
        ("PRACK of nothing: 481", up(&[]).sends("PRACK", &["RAck: 7 1 INVITE"], None).gets("481", &[]).hangs_up()),
        ("UPDATE with hold and resume", {
            let held = up(&[]).sends("UPDATE", &[], Some(HELD)).gets("200", &[("Content-Type", "application/sdp")]);
            held.sends("UPDATE", &[], Some(SDP)).gets("200", &[("Content-Type", "application/sdp")]).hangs_up()
        }),
        ("UPDATE without SDP", up(&[]).sends("UPDATE", &[], None).gets("200", &[]).hangs_up()),
        ("session timer asked for: 200 says it", {
            let asks = ["Supported: timer", "Session-Expires: 90"];
            let wanted = [("Session-Expires", "90;refresher=ua[cs]")];
            invited(&asks).gets("200", &wanted).sends("ACK", &[], None).hangs_up()
        }),
        ("session timer too short: 422 with Min-SE", {
            let asks = ["Supported: timer", "Session-Expires: 30"];
            Scenario::caller().sends("INVITE", &asks, Some(SDP)).may_get("100").gets("422", &[("Min-SE", "90")]).sends(
                "ACK",
                &[],
                None,
            )
        }),
        ("refresh by UPDATE keeps the interval", {
            let asks = ["Supported: timer", "Session-Expires: 90;refresher=uac"];
            invited(&asks)
                .gets("200", &[("Session-Expires", "90;refresher=uac")])
                .sends("ACK", &[], None)
                .sends("UPDATE", &asks, None)
                .gets("200", &[("Session-Expires", "90;refresher=uac")])
                .hangs_up()
        }),
        ("late offer, and an UPDATE into it: 491", {
            Scenario::caller()
                .sends("INVITE", &[], None)
                .may_get("100")
                .may_get("180")
                .gets("200", &[("Content-Type", "application/sdp")])
                .sends("UPDATE", &[], Some(SDP))
                .gets("491", &[])
                .sends_numbered("ACK", 1, &[], Some(SDP))
                .hangs_up()
        }),
        ("re-INVITE without SDP: the box offers", {
            up(&[])
                .sends("INVITE", &[], None)
                .may_get("100")
                .gets("200", &[("Content-Type", "application/sdp")])
                .sends("ACK", &[], Some(SDP))
                .hangs_up()
        }),
    ]
}

/// What is refused, and what the call then does.
fn refusing() -> Vec<(&'static str, Scenario)> {
    vec![
        ("Replaces of nothing: 481", {
            let fields = ["Supported: replaces", "Replaces: nobody@nowhere;to-tag=a;from-tag=b"];
            Scenario::caller().sends("INVITE", &fields, Some(SDP)).may_get("100").gets("481", &[]).sends(
                "ACK",
                &[],
                None,
            )
        }),
        ("unknown extension required: 420", {
            Scenario::caller()
                .sends("INVITE", &["Require: x-unheard-of"], Some(SDP))
                .may_get("100")
                .gets("420", &[("Unsupported", "x-unheard-of")])
                .sends("ACK", &[], None)
        }),
        ("in-dialog request with an old number: 500", {
            // RFC 3261 §12.2.2.
            let up = up(&[]).sends("OPTIONS", &[], None).gets("200", &[]);
            up.sends_numbered("OPTIONS", 1, &[], None).gets("500", &[]).hangs_up()
        }),
        ("re-INVITE that cannot be carried: 488, call goes on", {
            let video = SDP.replace("audio", "image").replace("RTP/AVP 0 101", "udptl t38");
            up(&[])
                .sends("INVITE", &[], Some(&video))
                .may_get("100")
                .gets("488", &[])
                .sends("ACK", &[], None)
                .hangs_up()
        }),
    ]
}

fn called() -> Vec<(&'static str, Scenario)> {
    let tag = "[call_number]";
    let offered = || Scenario::called(&[("Supported", ".*100rel.*"), ("Allow", ".*PRACK.*UPDATE.*")]);
    vec![
        ("early media, reliable: the box sends PRACK", {
            let fields = ["Require: 100rel", "RSeq: 17"];
            offered()
                .answers("183 Session Progress", tag, &fields, Some(SDP))
                .gets("PRACK", &[("RAck", "17 1 INVITE")])
                .answers("200 OK", "", &[], None)
                .answers_invite("200 OK", tag, &[], None)
                .gets("ACK", &[])
                .ends()
        }),
        ("two early branches, the second answers", {
            offered()
                .answers("180 Ringing", "one", &[], None)
                .answers("183 Session Progress", "two", &[], Some(SDP))
                .answers("180 Ringing", "three", &[], None)
                .answers_invite("200 OK", tag, &[], Some(SDP))
                .gets("ACK", &[])
                .ends()
        }),
        ("session interval too small for the peer: 422, again", {
            offered()
                .answers("422 Session Interval Too Small", tag, &["Min-SE: 3600"], None)
                .gets("ACK", &[])
                .gets("INVITE", &[("Session-Expires", "3600.*"), ("Min-SE", "3600"), ("From", ".*"), ("To", ".*")])
                .answers("200 OK", tag, &["Require: timer", "Session-Expires: 3600;refresher=uac"], Some(SDP))
                .gets("ACK", &[])
                .ends()
        }),
        ("200 of a second branch: ACK, then BYE", {
            offered()
                .answers("200 OK", tag, &[], Some(SDP))
                .gets("ACK", &[])
                .answers_invite("200 OK", "second", &[], Some(SDP))
                .gets("ACK", &[])
                .gets("BYE", &[("To", ".*tag=second.*")])
                .answers("200 OK", "", &[], None)
                .ends()
        }),
        ("the peer holds by re-INVITE and resumes by UPDATE", {
            offered()
                .answers("200 OK", tag, &[], Some(SDP))
                .gets("ACK", &[])
                .sends("INVITE", &[], Some(HELD))
                .may_get("100")
                .gets("200", &[("Content-Type", "application/sdp")])
                .sends("ACK", &[], None)
                .sends("UPDATE", &[], Some(SDP))
                .gets("200", &[("Content-Type", "application/sdp")])
                .ends()
        }),
    ]
}

/// Invited, and rung.
fn invited(fields: &[&str]) -> Scenario {
    Scenario::caller().sends("INVITE", fields, Some(SDP)).may_get("100").may_get("180")
}

/// In a call.
fn up(fields: &[&str]) -> Scenario {
    invited(fields).gets("200", &[]).sends("ACK", &[], None)
}

/// In a call whose ringing was acknowledged.
fn ringing_reliably() -> Scenario {
    Scenario::caller()
        .sends("INVITE", &["Require: 100rel", "Supported: 100rel"], Some(SDP))
        .may_get("100")
        .gets("180", &[("Require", ".*100rel.*"), ("RSeq", "[0-9]+")])
        .sends("PRACK", &["RAck: [$rseq] 1 INVITE"], None)
        // The 180 has no description, so the answer need not wait for its PRACK (RFC 3262 §3): either 200 may be first.
        .gets("200", &[("CSeq", EITHER)])
        .gets("200", &[("CSeq", EITHER)])
        .sends_numbered("ACK", 1, &[], None)
}

const EITHER: &str = "(2 PRACK|1 INVITE)";

impl Scenario {
    /// The caller hangs up.
    fn hangs_up(self) -> Self {
        self.sends("BYE", &[], None).gets("200", &[])
    }

    /// The called side hangs up.
    fn ends(self) -> Self {
        self.waits_ms(100).sends("BYE", &[], None).gets("200", &[])
    }
}
