//! Signalling, as real phones use it.

use talkstack_control::port::{Blame, EndReason, Outcome};

use crate::daemon::{Daemon, wait_until};
use crate::sipp::Sipp;
use crate::survival::ScriptedControl;

#[test]
fn a_basic_call_goes_over_udp_tcp_and_ipv6() {
    let daemon = Daemon::serve(&[("TALKSTACK__SIP__LISTEN", "127.0.0.1:0,[::1]:0")]);
    Sipp::new(daemon.sip(), "basic").calls(20).succeeds();
    Sipp::new(daemon.sip(), "basic").calls(5).over_tcp().succeeds();
    Sipp::new(daemon.sip[1], "basic").calls(5).succeeds();
    let calls = daemon.ended_calls(30);
    assert!(calls.iter().all(|call| call["status"] == "completed" && call["to"] == "echo"), "{calls:?}");
}

#[test]
fn lost_packets_are_made_good_by_retransmission() {
    let daemon = Daemon::serve(&[]);
    Sipp::new(daemon.sip(), "lossy").calls(10).with(&["-lost", "10"]).succeeds();
}

#[test]
fn hold_resume_and_late_offer_are_answered() {
    let daemon = Daemon::serve(&[]);
    Sipp::new(daemon.sip(), "hold").calls(3).succeeds();
    Sipp::new(daemon.sip(), "late_offer").calls(3).succeeds();
}

#[test]
fn what_cannot_be_carried_is_refused_with_its_cause() {
    let daemon = Daemon::serve(&[]);
    Sipp::new(daemon.sip(), "options").succeeds();
    Sipp::new(daemon.sip(), "unknown").dialling("5550000").succeeds();
    Sipp::new(daemon.sip(), "no_codec").succeeds();
    Sipp::new(daemon.sip(), "bad_sdp").succeeds();
    Sipp::new(daemon.sip(), "refer").succeeds();
    let calls = daemon.ended_calls(3);
    let reasons: Vec<_> = calls.iter().map(|call| call["outcome"]["reason"].as_str().unwrap_or_default()).collect();
    assert_eq!(reasons, ["hung_up", "bad_offer", "no_common_codec"]);
}

#[test]
fn a_session_is_refreshed_and_changed_by_update() {
    let daemon = Daemon::serve(&[]);
    Sipp::new(daemon.sip(), "refresh").succeeds();
    Sipp::new(daemon.sip(), "refresh").over_tcp().succeeds();
}

#[test]
fn a_call_that_is_cancelled_while_it_rings_ends_without_an_answer() {
    // An agent that accepts and says nothing keeps the call ringing for three seconds.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}/", silent.local_addr().expect("bound"));
    let dir = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start("calls", dir.path(), &[]);
    let mut control = ScriptedControl::connect(dir.path());
    control.route("15551234567", &url);
    Sipp::new(daemon.sip(), "cancel").dialling("15551234567").succeeds();
    let outcome = control.wait_for_end();
    assert_eq!(outcome, Outcome::new(Blame::Caller, EndReason::Cancelled));
}

#[test]
fn a_box_that_must_be_set_up_answers_nobody_before_it_has_an_owner() {
    let daemon = Daemon::serve(&[("TALKSTACK__SETUP__REQUIRED", "true")]);
    let phone = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    phone.set_read_timeout(Some(std::time::Duration::from_millis(700))).expect("set");
    let options = "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1;rport\r\nFrom: <sip:a@b>;tag=1\r\n\
        To: <sip:x>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
    phone.send_to(options.as_bytes(), daemon.sip()).expect("sent");
    assert!(phone.recv(&mut [0; 2048]).is_err(), "silence");
    let password = daemon.dir.join("password");
    std::fs::write(&password, "correct horse").expect("written");
    daemon.command(&["setup", "--admin-email", "me@b.com", "--password-file", password.to_str().expect("text")]);
    wait_until("the box answers", || {
        phone.send_to(options.as_bytes(), daemon.sip()).expect("sent");
        phone.recv(&mut [0; 2048]).ok()
    });
    Sipp::new(daemon.sip(), "basic").succeeds();
}

#[test]
fn a_box_with_all_its_calls_says_when_to_try_again() {
    let daemon = Daemon::serve(&[("TALKSTACK__CALLS__MAX", "1")]);
    std::thread::scope(|scope| {
        let target = daemon.sip();
        scope.spawn(move || Sipp::new(target, "basic").holding_ms(1500).succeeds());
        wait_until("the first call is up", || (daemon.calls().len() == 1).then_some(()));
        Sipp::new(daemon.sip(), "busy").succeeds();
    });
    daemon.ended_calls(1);
    Sipp::new(daemon.sip(), "basic").succeeds();
}

#[test]
fn a_daemon_that_is_told_to_stop_ends_its_calls_with_a_bye_and_a_record() {
    let mut daemon = Daemon::serve(&[]);
    let target = daemon.sip();
    let phone = std::thread::spawn(move || Sipp::new(target, "wait_for_bye").succeeds());
    wait_until("the call is up", || daemon.calls().first().filter(|call| call["status"] == "in-progress").map(drop));
    assert!(daemon.stop().success());
    phone.join().expect("the phone got its BYE");
}
