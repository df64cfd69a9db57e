//! Phones and boxes behind routers, in networks of the test's own.
//!
//! The phone hears its own words from the echo: what it said arrived, and what the box said came back.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::namespace::{Nat, Networks, Place};
use super::phone::{Phone, field, media};
use super::site::Site;
use super::table::{Cell, row};
use crate::daemon::{Daemon, wait_until};

#[test]
fn a_phone_behind_a_full_cone_nat_hears_and_is_heard_and_gets_its_bye() {
    behind("phone, full-cone NAT", Nat::FullCone);
}

#[test]
fn a_phone_behind_a_symmetric_nat_hears_and_is_heard_and_gets_its_bye() {
    behind("phone, symmetric NAT", Nat::Symmetric);
}

#[test]
fn a_router_that_rewrites_the_description_badly_costs_no_sound() {
    let Some(networks) = Networks::lay(Nat::Symmetric) else { return };
    let daemon = public_box(&networks);
    let mut cells = Vec::new();
    for (name, rewrite) in [
        ("the right address and a port nobody has", rewrite_port as fn(&str) -> String),
        ("an address of its own that leads nowhere", rewrite_address),
        ("its own address in Contact, and SDP left private", rewrite_contact),
    ] {
        let router = Gateway::start(&networks, daemon.sip(), rewrite);
        let mut phone = phone(&networks, Place::Inside, "192.168.77.2");
        phone.call(router.inside, &format!("sip:echo@{}", daemon.sip()));
        let heard = phone.talks_and_hears(WORD, WORD);
        assert!(heard >= 20, "{name}: the phone heard {heard} of its frames");
        phone.hangs_up();
        cells.push((name, Cell::Works));
    }
    row("phone, rewriting ALG", &cells);
}

#[test]
fn a_router_that_lets_signalling_through_and_no_sound_is_named_during_the_call() {
    let Some(networks) = Networks::lay(Nat::Symmetric) else { return };
    let daemon = public_box(&networks);
    let no_sound =
        ["-I", "FORWARD", "-i", "lan", "-p", "udp", "!", "--dport", &daemon.sip().port().to_string(), "-j", "DROP"];
    networks.rule("filter", &no_sound);
    let mut phone = phone(&networks, Place::Inside, "192.168.77.2");
    phone.call(daemon.sip(), &format!("sip:echo@{}", daemon.sip()));
    assert_eq!(phone.talks_and_hears(WORD, WORD), 0, "the router lets sound through");
    let call = daemon.calls()[0]["sid"].as_str().expect("an id").to_owned();
    let found = wait_until("the call says what is wrong with its sound", || {
        let shown = daemon.command(&["call", "show", &call, "--json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        shown["diagnoses"].as_array().and_then(|all| all.first()).cloned()
    });
    assert_eq!(found["fault"], "private_address", "{found}");
    let said = found["found"].as_str().unwrap_or_default();
    assert!(said.starts_with("One-way audio: nothing arrives from 192.168.77.2:"), "{said}");
    assert!(said.contains("which is a private address, while its signalling comes from a public one"), "{said}");
    phone.hangs_up();
    row("phone, NAT without sound", &[("named in the call: nothing arrives, private address", Cell::Works)]);
}

#[test]
fn a_box_behind_a_nat_says_the_address_that_it_is_to_advertise() {
    let Some(networks) = Networks::lay(Nat::FullCone) else { return };
    let settings = [
        ("TALKSTACK__SIP__LISTEN", "192.168.77.2:0"),
        ("TALKSTACK__SIP__ACCEPT", "any"),
        ("TALKSTACK__SIP__ADVERTISE", "203.0.113.1"),
    ];
    let daemon = networks.within(Place::Inside, || Daemon::serve(&settings));
    let public = SocketAddr::new([203, 0, 113, 1].into(), daemon.sip().port());
    let mut outside = phone(&networks, Place::Outside, "203.0.113.2");
    let answer = outside.call(public, &format!("sip:echo@{public}"));
    assert_eq!(media(&answer).map(|media| media.ip()), Some(public.ip()), "{answer}");
    assert!(answer.contains(&format!("@{public}")) || answer.contains(&format!("<sip:{public}")), "Contact: {answer}");
    assert!(outside.talks_and_hears(WORD, WORD) >= 20);
    outside.hangs_up();
    row("box behind NAT, sip.advertise", &[("call from outside, two-way sound", Cell::Works)]);
}

#[test]
fn a_box_behind_a_nat_calls_out_under_the_address_that_it_is_to_advertise() {
    let Some(networks) = Networks::lay(Nat::FullCone) else { return };
    let mut outside = phone(&networks, Place::Outside, "203.0.113.2");
    let settings = [("TALKSTACK__SIP__LISTEN", "192.168.77.2:0"), ("TALKSTACK__SIP__ADVERTISE", "203.0.113.1")];
    let site = networks.within(Place::Inside, || Site::new(&settings, outside.address(), json!({})));
    let call = networks.within(Place::Inside, || site.dial("+15550000001"));
    let invite = outside.answers();
    for name in ["Via", "Contact"] {
        let value = field(&invite, name);
        assert!(value.contains("203.0.113.1") && !value.contains("192.168."), "{name}: {value}");
    }
    assert_eq!(media(&invite).map(|media| media.ip().to_string()).as_deref(), Some("203.0.113.1"), "{invite}");
    // The menu's first key: the box repeats what it hears.
    outside.presses(1);
    assert!(outside.talks_and_hears(WORD, WORD) >= 20, "no two-way sound");
    outside.hangs_up();
    assert_eq!(networks.within(Place::Inside, || site.ended(&call))["status"], "completed");
    row("box behind NAT, calling", &[("sip.advertise in Via, Contact, SDP; two-way sound", Cell::Works)]);
}

#[test]
fn a_phone_in_the_box_s_own_network_is_told_the_local_address_and_one_outside_the_public_one() {
    let Some(networks) = Networks::lay(Nat::FullCone) else { return };
    let settings = [
        ("TALKSTACK__SIP__LISTEN", "0.0.0.0:0"),
        ("TALKSTACK__SIP__ACCEPT", "any"),
        ("TALKSTACK__SIP__ADVERTISE", "203.0.113.1"),
    ];
    let daemon = networks.within(Place::Inside, || Daemon::serve(&settings));
    let port = daemon.sip().port();
    for (place, own, told) in
        [(Place::Router, "192.168.77.1", "192.168.77.2"), (Place::Outside, "203.0.113.2", "203.0.113.1")]
    {
        let told = SocketAddr::new(told.parse().expect("an address"), port);
        let mut phone = phone(&networks, place, own);
        let answer = phone.call(told, &format!("sip:echo@{told}"));
        assert_eq!(media(&answer).map(|media| media.ip()), Some(told.ip()), "{answer}");
        assert!(field(&answer, "Contact").contains(&format!("@{told}")), "{answer}");
        assert!(phone.talks_and_hears(WORD, WORD) >= 20, "{own}: no two-way sound");
        phone.hangs_up();
    }
    row("box behind NAT, phones on both sides", &[("each told the address that reaches the box", Cell::Works)]);
}

#[test]
fn peers_within_the_local_networks_are_told_the_local_address_and_others_the_advertised_one() {
    let daemon = Daemon::serve(&[
        ("TALKSTACK__SIP__LISTEN", "127.0.0.1:0"),
        ("TALKSTACK__SIP__ADVERTISE", "192.0.2.7"),
        ("TALKSTACK__SIP__LOCAL_NETWORKS", "127.0.0.2/31,::1"),
    ]);
    for (own, told) in [("127.0.0.3", "127.0.0.1"), ("127.0.0.4", "192.0.2.7")] {
        let mut phone = Phone::at(own);
        let answer = phone.call(daemon.sip(), &format!("sip:echo@{}", daemon.sip()));
        let shown = media(&answer).map(|media| media.ip().to_string());
        assert_eq!(shown.as_deref(), Some(told), "{own}: {answer}");
        let contact = field(&answer, "Contact");
        assert!(contact.contains(&format!("@{told}:")), "{own}: {contact}");
        phone.hangs_up();
    }
}

#[test]
fn a_far_end_is_told_a_new_address_of_ours_during_the_call() {
    let mut phone = Phone::at("127.0.0.1");
    let site = Site::new(&[], phone.address(), json!({}));
    let call = site.dial("+15550000001");
    let shown = media(&phone.answers()).map(|media| media.ip().to_string());
    assert_eq!(shown.as_deref(), Some("127.0.0.1"));
    // As when a name of ours changes, which is found within a minute; this is found at once.
    site.daemon.command(&["trunk", "set", "line", "--advertise", "127.0.0.2"]);
    let again = phone.is_reinvited();
    assert_eq!(media(&again).map(|media| media.ip().to_string()).as_deref(), Some("127.0.0.2"), "{again}");
    assert!(field(&again, "Contact").contains("@127.0.0.2:"), "{again}");
    phone.hangs_up();
    assert_eq!(site.ended(&call)["status"], "completed");
    row("phone, box that moves", &[("re-INVITE with the new address in Contact and SDP", Cell::Works)]);
}

/// A phone behind a NAT that knows nothing of it: its private addresses stand in Via, Contact and SDP.
fn behind(peer: &str, nat: Nat) {
    let Some(networks) = Networks::lay(nat) else { return };
    let mut daemon = public_box(&networks);
    let mut phone = phone(&networks, Place::Inside, "192.168.77.2");
    let uri = format!("sip:echo@{}", daemon.sip());
    let answer = phone.call(daemon.sip(), &uri);
    let via = field(&answer, "Via");
    assert!(via.contains("received=203.0.113.1"), "no NAT between them: {via}");
    let is_same_port = via.contains(&format!("rport={}", phone.address().port()));
    assert_eq!(is_same_port, matches!(nat, Nat::FullCone), "{nat:?}: {via}");
    let heard = phone.talks_and_hears(WORD, WORD);
    assert!(heard >= 20, "the phone heard {heard} of its frames");
    phone.hangs_up();
    phone.call(daemon.sip(), &uri);
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| daemon.stop());
        phone.is_hung_up();
        assert!(stopping.join().expect("stopped").success());
    });
    row(peer, &[("two-way sound, private SDP", Cell::Works), ("BYE of the box, private Contact", Cell::Works)]);
}

fn public_box(networks: &Networks) -> Daemon {
    let settings = [("TALKSTACK__SIP__LISTEN", "203.0.113.2:0"), ("TALKSTACK__SIP__ACCEPT", "any")];
    networks.within(Place::Outside, || Daemon::serve(&settings))
}

fn phone(networks: &Networks, place: Place, ip: &str) -> Phone {
    networks.within(place, || Phone::at(ip))
}

/// An application-level gateway on the router: SIP goes through it and is rewritten, sound goes past it.
struct Gateway {
    /// Where the phone finds it.
    inside: SocketAddr,
    is_over: std::sync::Arc<AtomicBool>,
}

impl Gateway {
    fn start(networks: &Networks, target: SocketAddr, rewrite: fn(&str) -> String) -> Self {
        let [inside, outside] = ["192.168.77.1", "203.0.113.1"]
            .map(|ip| networks.within(Place::Router, || UdpSocket::bind((ip, 0)).expect("a port")));
        let is_over = std::sync::Arc::new(AtomicBool::new(false));
        let (over, address) = (is_over.clone(), inside.local_addr().expect("bound"));
        for socket in [&inside, &outside] {
            socket.set_read_timeout(Some(Duration::from_millis(5))).expect("set");
        }
        std::thread::spawn(move || {
            let (mut buffer, mut phone) = ([0; 8192], None);
            while !over.load(Ordering::Relaxed) {
                if let Ok((bytes, from)) = inside.recv_from(&mut buffer) {
                    phone = Some(from);
                    let text = rewrite(&String::from_utf8_lossy(&buffer[..bytes]));
                    outside.send_to(text.as_bytes(), target).expect("sent");
                }
                if let (Ok(bytes), Some(phone)) = (outside.recv(&mut buffer), phone) {
                    inside.send_to(&buffer[..bytes], phone).expect("sent");
                }
            }
        });
        Gateway { inside: address, is_over }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn rewrite_port(text: &str) -> String {
    let Some(media) = media(text) else { return text.into() };
    let text = text.replace("c=IN IP4 192.168.77.2", "c=IN IP4 203.0.113.1");
    with_length(&text.replace(&format!("m=audio {} ", media.port()), "m=audio 9 "))
}

fn rewrite_address(text: &str) -> String {
    with_length(&text.replace("c=IN IP4 192.168.77.2", "c=IN IP4 203.0.113.99"))
}

fn rewrite_contact(text: &str) -> String {
    text.replace("<sip:phone@192.168.77.2:", "<sip:phone@203.0.113.1:")
}

/// The text with the Content-Length that its body has.
fn with_length(text: &str) -> String {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return text.into() };
    let head: Vec<&str> = head.split("\r\n").filter(|line| !line.starts_with("Content-Length")).collect();
    format!("{}\r\nContent-Length: {}\r\n\r\n{body}", head.join("\r\n"), body.len())
}

/// What the phone says in each frame.
const WORD: u8 = 0x35;
