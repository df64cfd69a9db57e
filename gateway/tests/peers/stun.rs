//! A box that asks STUN servers where it is seen: Debian's coturn, and one of our own that moves the box.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::json;
use talkstack_media::stun;

use super::namespace::{Nat, Networks, Place};
use super::phone::{Phone, field, media};
use super::process::{Peer, free_port, is_installed, is_taken};
use super::site::Site;
use super::table::{Cell, row};
use crate::daemon::{Daemon, wait_until};

#[test]
fn a_box_behind_a_nat_is_told_by_coturn_where_it_is_and_tells_peers_outside() {
    if !is_installed("turnserver") {
        return;
    }
    let Some(networks) = Networks::lay(Nat::FullCone) else { return };
    let server: SocketAddr = "203.0.113.2:3478".parse().expect("an address");
    let _coturn = networks.within(Place::Outside, || coturn(server));
    let settings = [
        ("TALKSTACK__SIP__LISTEN", "0.0.0.0:0"),
        ("TALKSTACK__SIP__ACCEPT", "any"),
        ("TALKSTACK__SIP__STUN", "203.0.113.2"),
    ];
    let daemon = networks.within(Place::Inside, || Daemon::serve(&settings));
    let public = SocketAddr::new([203, 0, 113, 1].into(), daemon.sip().port());
    is_seen(&daemon, public);
    let mut outside = networks.within(Place::Outside, || Phone::at("203.0.113.2"));
    let answer = outside.call(public, &format!("sip:echo@{public}"));
    assert_eq!(media(&answer).map(|media| media.ip()), Some(public.ip()), "{answer}");
    assert!(field(&answer, "Contact").contains(&format!("@{public}")), "{answer}");
    assert!(outside.talks_and_hears(0x35, 0x35) >= 20, "no two-way sound");
    outside.hangs_up();
    row("box behind NAT, sip.stun", &[("coturn; call from outside, two-way sound", Cell::Works)]);
}

#[test]
fn coturn_s_answer_is_read_on_the_loopback_too() {
    if !is_installed("turnserver") {
        return;
    }
    let server = SocketAddr::new([127, 0, 0, 1].into(), free_port());
    let _coturn = coturn(server);
    let (listen, asked) = ("127.0.0.1:0", server.to_string());
    let daemon = Daemon::serve(&[("TALKSTACK__SIP__LISTEN", listen), ("TALKSTACK__SIP__STUN", &asked)]);
    is_seen(&daemon, daemon.sip());
}

#[test]
fn a_box_whose_address_changes_registers_the_new_one_within_half_a_minute() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let asked = server.local_addr().expect("bound").to_string();
    // It sees the box move with each question.
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        for last in 1..=2 {
            let Ok((bytes, from)) = server.recv_from(&mut buffer) else { return };
            let seen = SocketAddr::new([198, 51, 100, last].into(), 40_000);
            let answer = stun::answer(&buffer[..bytes], seen).expect("a binding request");
            let _ = server.send_to(&answer, from);
        }
    });
    let registrar = UdpSocket::bind("127.0.0.1:0").expect("a port");
    registrar.set_read_timeout(Some(Duration::from_secs(35))).expect("set");
    let settings = [
        ("TALKSTACK__SIP__LISTEN", "127.0.0.1:0"),
        ("TALKSTACK__SIP__STUN", asked.as_str()),
        // The registrar counts as outside.
        ("TALKSTACK__SIP__LOCAL_NETWORKS", "10.0.0.0/8"),
    ];
    let fields = json!({ "register": true, "username": "box", "password": "secret" });
    let address = registrar.local_addr().expect("bound");
    let _site = Site::new(&settings, address, fields);
    let contacts: Vec<String> = ["198.51.100.1", "198.51.100.2"].map(|seen| registered(&registrar, seen)).into();
    assert!(contacts.iter().all(|contact| contact.contains(":40000")), "the router's port: {contacts:?}");
    row("sip.stun", &[("a change of address is registered", Cell::Works)]);
}

/// Answers REGISTERs until one binds this address; its Contact.
fn registered(registrar: &UdpSocket, seen: &str) -> String {
    let mut buffer = [0; 8192];
    loop {
        let (bytes, from) = registrar.recv_from(&mut buffer).expect("a REGISTER");
        let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
        if !text.starts_with("REGISTER ") {
            continue;
        }
        let kept: Vec<String> = ["Via", "From", "To", "Call-ID", "CSeq", "Contact"]
            .iter()
            .map(|name| format!("{name}: {}{}\r\n", field(&text, name), if *name == "To" { ";tag=r" } else { "" }))
            .collect();
        let answer = format!("SIP/2.0 200 OK\r\n{}Expires: 300\r\nContent-Length: 0\r\n\r\n", kept.concat());
        registrar.send_to(answer.as_bytes(), from).expect("sent");
        if field(&text, "Contact").contains(seen) {
            return field(&text, "Contact");
        }
    }
}

fn coturn(address: SocketAddr) -> Peer {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let (pid, database) = (path("pid"), path("turndb"));
    let arguments = [
        "-n",
        "--stun-only",
        "--no-cli",
        "--no-tls",
        "--no-dtls",
        "--log-file",
        "stdout",
        "--pidfile",
        &pid,
        "--userdb",
        &database,
        "--listening-ip",
        &ip,
        "--listening-port",
        &port,
    ];
    let peer = Peer::start_in(dir, "turnserver", &arguments);
    wait_until("coturn listens", || is_taken(address).then_some(()));
    peer
}

/// Waits until the box says where a STUN server sees it.
fn is_seen(daemon: &Daemon, public: SocketAddr) {
    let log = daemon.dir.join("serve.log");
    wait_until("the box knows where it is seen", || {
        std::fs::read_to_string(&log).ok()?.contains(&format!("sees this box at {public}")).then_some(())
    });
}
