//! Sound under keys of a DTLS handshake: with baresip, linphone and rtpengine, and with a phone of ours that is another
//! than its description says, or is not there.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use serde_json::json;
use talkstack_control::port::{CallEvent, Encryption, KeyExchange, Srtp};
use talkstack_media::dtls::{DtlsError, Handshake, HandshakeOutput, Identity};
use talkstack_media::sdp::{Attribute, DtlsPeer, DtlsRole, Fingerprint, SessionDescription};

use super::baresip::Account;
use super::kamailio::{Proxy, Rtpengine};
use super::lines::Lines;
use super::linphone::Linphone;
use super::phone::Phone;
use super::process::{free_port, is_installed};
use super::registrar::PASSWORD;
use super::site::Site;
use super::srtp::Keys;
use super::table::{Cell, row};
use crate::daemon::Daemon;

#[test]
fn baresip_s_dtls_is_heard_and_answered() {
    if !is_installed("baresip") {
        return;
    }
    let mut lines = Lines::new(&[]);
    let target = lines.daemon.sip();
    lines.extension("100", PASSWORD);
    lines.set(|snapshot| snapshot.extensions.get_mut("100").expect("just made").srtp = Srtp::Required);
    let mut phone = Account::new("100", target).encrypting("dtls_srtp").registers();
    phone.does("dial", &format!("sip:echo@{target}"));
    lines.answered();
    phone.hears_the_words();
    phone.does("hangup", "");
    let measured = lines.event(|event| match event {
        CallEvent::Measured { quality, .. } => Some(quality.encryption),
        _ => None,
    });
    assert_eq!(measured.map(|Encryption { keys, .. }| keys), Some(KeyExchange::Dtls));
    lines.ended();
    row("baresip, DTLS", &[("DTLS, calls as UDP/TLS/RTP/SAVP, two-way sound", Cell::Works)]);
}

#[test]
fn linphone_s_dtls_is_heard_and_answered_and_stays_over_hold_and_resume() {
    if !is_installed("linphonec") {
        return;
    }
    // It describes an address of this machine's network, whatever it was told, and sends from there only to the same.
    let Some(ip) = outer_address() else { return };
    let daemon = Daemon::serve(&[("TALKSTACK__SIP__LISTEN", &format!("{ip}:0"))]);
    let mut phone = Linphone::start("media_encryption=dtls\nmedia_encryption_mandatory=1\n");
    phone.does("ipv6 disable", "linphonec>");
    phone.calls("echo", daemon.sip());
    phone.hears_itself();
    assert!(phone.log().contains(" UDP/TLS/RTP/SAVP"), "linphone offered DTLS");
    phone.does("pause", "is now paused");
    phone.does("resume 1", "Media streams established");
    phone.hears_itself();
    phone.does("terminate", "ended (No error)");
    row(
        "linphone, DTLS",
        &[("SRTP (DTLS) only, two-way sound", Cell::Works), ("SRTP (DTLS), hold and resume", Cell::Works)],
    );
}

#[test]
fn a_session_border_controller_turns_dtls_into_plain_rtp() {
    if !["kamailio", "rtpengine"].into_iter().all(is_installed) {
        return;
    }
    let engine = Rtpengine::known();
    let mut phone = Phone::at("127.0.0.1");
    let front = SocketAddr::new([127, 0, 0, 1].into(), free_port());
    let site = Site::new(&[], front, json!({ "srtp": "required" }));
    let secures = Some("UDP/TLS/RTP/SAVPF SDES=off");
    let proxy = Proxy { legs: 1, rtpengine: Some(engine.control), transport: "udp", secures };
    let _kamailio = proxy.start(front, site.daemon.sip(), phone.address());
    phone.call(front, &format!("sip:echo@{}", site.daemon.sip()));
    assert!(phone.talks_and_hears(WORD, WORD) >= 20, "no two-way sound");
    phone.hangs_up();
    row("kamailio + rtpengine, DTLS", &[("DTLS-SRTP to RTP, call to the box, two-way sound", Cell::Works)]);
}

#[test]
fn a_stranger_s_handshake_is_not_taken_and_another_certificate_is_named() {
    let identity = Identity::new().expect("made");
    let mut lines = Lines::new(&[]);
    let uri = format!("sip:echo@{}", lines.daemon.sip());

    let mut phone = Phone::at("127.0.0.1");
    let (mut handshake, answer) = call(&mut phone, &mut lines, &uri, &identity, identity.fingerprint());
    assert!(answer.contains("a=setup:active\r\n") && answer.contains(" UDP/TLS/RTP/SAVPF "), "{answer}");
    // Whoever is first at the box's open port, and is not the phone.
    let forged =
        Handshake::new(&identity, &DtlsPeer::new(vec![identity.fingerprint()], DtlsRole::Client), Instant::now());
    let Some(HandshakeOutput::Send(hello)) = forged.expect("begun").poll_output() else { panic!("a ClientHello") };
    (0..20).for_each(|_| phone.is_forged(&hello));
    let HandshakeOutput::Keyed(keys) = phone.shakes_hands(&mut handshake) else { panic!("no keys") };
    phone.keys().handle_keys(&keys);
    assert!(phone.talks_and_hears(WORD, WORD) >= 20, "no two-way sound");
    phone.hangs_up();
    lines.ended();

    // Its description names another's certificate.
    let mut phone = Phone::at("127.0.0.1");
    let (mut handshake, _) = call(&mut phone, &mut lines, &uri, &identity, Fingerprint::of(b"another"));
    assert_eq!(phone.shakes_hands(&mut handshake), HandshakeOutput::Failed(DtlsError::Refused));
    let (fault, found) = lines.event(|event| match event {
        CallEvent::Diagnosed { fault, found } => Some((fault, found)),
        _ => None,
    });
    assert_eq!(fault, "dtls_certificate");
    assert!(found.contains("the certificate does not match the fingerprint in the SDP"), "{found}");
    // That ends nothing: the call is theirs to end.
    phone.hangs_up();
    row(
        "our phone, DTLS",
        &[
            ("UDP/TLS/RTP/SAVPF, call to the box, two-way sound", Cell::Works),
            ("ClientHello of a stranger is not taken", Cell::Works),
            ("another certificate: diagnosis in words", Cell::Works),
        ],
    );
}

/// The address that this machine has towards others; nothing is sent.
fn outer_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
    match socket.connect("198.51.100.1:9").and_then(|()| socket.local_addr()) {
        Ok(address) => Some(address.ip()),
        Err(_) => {
            eprintln!("This machine has no network, where linphone would describe itself; its DTLS is not shown");
            None
        }
    }
}

/// A call that offers DTLS under this fingerprint; what answers in it, and the box's answer.
fn call(
    phone: &mut Phone,
    lines: &mut Lines,
    uri: &str,
    identity: &Identity,
    described: Fingerprint,
) -> (Handshake, String) {
    let offered = format!("a=fingerprint:{described}\r\na=setup:actpass\r\na=rtcp-mux\r\n");
    phone.secures(Keys::described("UDP/TLS/RTP/SAVPF", offered));
    let answer = phone.call(lines.daemon.sip(), uri);
    let sdp = answer.split_once("\r\n\r\n").map_or("", |(_, sdp)| sdp);
    let description = SessionDescription::parse(sdp.as_bytes()).expect("readable");
    let theirs = description.media[0].attributes.iter().find_map(|attribute| match attribute {
        Attribute::Fingerprint(theirs) => Some(*theirs),
        _ => None,
    });
    let peer = DtlsPeer::new(vec![theirs.expect("a fingerprint")], DtlsRole::Server);
    (Handshake::new(identity, &peer, Instant::now()).expect("begun"), answer)
}

/// What the phone says in each frame.
const WORD: u8 = 0x35;
