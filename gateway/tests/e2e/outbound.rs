//! Calls that the box places through a trunk, which SIPp plays.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::daemon::wait_until;
use crate::peers::site::{NUMBER, Site};
use crate::sipp::SippTrunk;

#[test]
fn a_call_is_placed_rings_is_answered_and_ends_as_the_called_side_wishes() {
    for transport in ["udp", "tcp"] {
        let trunk = SippTrunk::start("trunk_answer", transport, &[]);
        let site = site_on(&[], trunk.address, transport, json!({}));
        let call = site.dial("+15550000001");
        assert_eq!((&call["to"], &call["from"]), (&json!("+15550000001"), &json!(NUMBER)));
        let ended = site.ended(&call);
        assert_eq!(ended["status"], "completed", "{transport}: {ended}");
        trunk.succeeds();
    }
}

#[test]
fn early_media_that_a_trunk_sends_reliably_is_acknowledged_and_its_session_refreshed() {
    for transport in ["udp", "tcp"] {
        let trunk = SippTrunk::start("trunk_prack", transport, &[]);
        let site = site_on(&[], trunk.address, transport, json!({}));
        let ended = site.ended(&site.dial("+15550000001"));
        assert_eq!(ended["status"], "completed", "{transport}: {ended}");
        trunk.succeeds();
    }
}

#[test]
fn each_refusal_of_a_trunk_has_its_status() {
    for (scenario, status) in [("trunk_busy", "busy"), ("trunk_reject", "failed"), ("trunk_rings", "no-answer")] {
        let trunk = SippTrunk::start(scenario, "udp", &[]);
        let site = site_on(&[("TALKSTACK__CALLS__RING_TIMEOUT_S", "5")], trunk.address, "udp", json!({}));
        let ended = site.ended(&site.dial("+15550000001"));
        assert_eq!(ended["status"], status, "{scenario}: {ended}");
        trunk.succeeds();
    }
}

#[test]
fn a_call_that_the_trunk_refused_shows_what_the_trunk_said() {
    let trunk = SippTrunk::start("trunk_busy", "udp", &[]);
    let site = site_on(&[], trunk.address, "udp", json!({}));
    let ended = site.ended(&site.dial("+15550000001"));
    let call = ended["sid"].as_str().expect("an id");
    let shown = wait_until("the refusal is stored", || {
        let shown: Value = serde_json::from_str(&site.daemon.command(&["call", "show", call, "--json"])).expect("JSON");
        (!shown["refusals"].as_array()?.is_empty()).then_some(shown)
    });
    let refusal = &shown["refusals"][0];
    assert_eq!((&refusal["status"], &refusal["by"], &refusal["call"]), (&json!(486), &json!("peer"), &json!(call)));
    assert!(refusal["rule"].as_str().is_some_and(|rule| !rule.is_empty()), "{refusal}");
    let text = site.daemon.command(&["call", "show", call]);
    assert!(text.contains("refusals") && text.contains("486"), "{text}");
    trunk.succeeds();
}

#[test]
fn a_trunk_that_cannot_be_reached_fails_the_call() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let site = site_on(&[], nobody, "tcp", json!({}));
    let ended = site.ended(&site.dial("+15550000001"));
    assert_eq!(ended["status"], "failed", "{ended}");
    assert_eq!(ended["outcome"], json!({ "blame": "trunk", "reason": "unreachable" }));
}

#[test]
fn a_trunk_that_asks_is_shown_the_password() {
    let trunk = SippTrunk::start("trunk_auth", "udp", &[]);
    let site = site_on(&[], trunk.address, "udp", json!({ "username": "clinic", "password": "s3cret" }));
    let ended = site.ended(&site.dial("+15550000001"));
    assert_eq!(ended["status"], "completed", "{ended}");
    trunk.succeeds();
}

#[test]
fn a_redirection_leads_to_where_the_box_may_call_and_nowhere_else() {
    let second = SippTrunk::start("trunk_answer", "udp", &[]);
    let contact = format!("sip:+15550000002@{}", second.address);
    let first = SippTrunk::start("trunk_redirect", "udp", &["-key", "contact", &contact]);
    let site = site_on(&[], first.address, "udp", json!({}));
    assert_eq!(site.ended(&site.dial("+15550000001"))["status"], "completed");
    first.succeeds();
    second.succeeds();

    let first = SippTrunk::start("trunk_redirect", "udp", &["-key", "contact", "sip:+1911@127.0.0.1:9"]);
    let site = site_on(&[], first.address, "udp", json!({}));
    let ended = site.ended(&site.dial("+15550000001"));
    assert_eq!(ended["outcome"], json!({ "blame": "trunk", "reason": "destination_not_allowed" }), "{ended}");
    first.succeeds();
}

#[test]
fn a_refused_destination_sends_no_invite() {
    let trunk = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    trunk.set_nonblocking(true).expect("set");
    let site = site_on(&[], trunk.local_addr().expect("bound"), "udp", json!({}));
    for (number, code) in [
        ("+1911", "destination_not_allowed"),
        ("+882123456789", "destination_not_allowed"),
        ("+19005550000", "destination_not_allowed"),
        ("+4915112345678", "destination_not_allowed"),
        ("5550000001", "invalid_number"),
    ] {
        let (status, answer) = site.try_dial(number);
        assert_eq!((status, &answer["code"]), (400, &json!(code)), "{number}: {answer}");
    }
    // A call that is allowed does send one, and it is the first datagram that comes.
    site.dial("+15550000001");
    let mut buffer = [0; 4096];
    let bytes = wait_until("an INVITE comes", || trunk.recv(&mut buffer).ok());
    let text = String::from_utf8_lossy(&buffer[..bytes]);
    assert!(text.starts_with("INVITE sip:+15550000001@"), "{text}");
}

/// A box whose trunk is reached so.
fn site_on(settings: &[(&str, &str)], trunk: SocketAddr, transport: &str, mut extra: Value) -> Site {
    extra["transport"] = json!(transport);
    Site::new(settings, trunk, extra)
}
