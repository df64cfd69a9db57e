//! Registrations: the box's with a provider, and those of phones with the box.

use std::net::SocketAddr;

use talkstack_control::port::TrunkRoute;

use super::kamailio::Rtpengine;
use super::lines::Lines;
use super::linphone::{Linphone, account};
use super::phone::{Phone, media, routes};
use super::process::is_installed;
use super::registrar::{PASSWORD, Provider, USER};
use super::table::{Cell, row};
use crate::daemon::wait_until;

#[test]
fn the_box_registers_with_sha_256_and_is_called_and_calls() {
    if is_installed("kamailio") {
        row("kamailio, registrar (SHA-256)", &with_a_provider("SHA-256", false, None));
    }
}

#[test]
fn the_box_registers_with_md5_and_is_called_and_calls() {
    if is_installed("kamailio") {
        row("kamailio, registrar (MD5)", &with_a_provider("MD5", false, None));
    }
}

#[test]
fn the_box_registers_through_an_outbound_proxy_and_is_called_and_calls_along_its_path() {
    if is_installed("kamailio") {
        row("kamailio, outbound proxy", &with_a_provider("SHA-256", true, None));
    }
}

#[test]
fn the_box_registers_through_a_session_border_controller_that_relays_the_sound_of_its_calls() {
    if ["kamailio", "rtpengine"].into_iter().all(is_installed) {
        let engine = Rtpengine::start();
        row("kamailio + rtpengine, edge", &with_a_provider("SHA-256", true, Some(engine.control)));
    }
}

/// Registers, is called, and calls; through an outbound proxy all of it takes that way.
fn with_a_provider(algorithm: &str, has_proxy: bool, engine: Option<SocketAddr>) -> Vec<(&'static str, Cell)> {
    let mut phone = Phone::at("127.0.0.1");
    let provider = Provider::start(algorithm, phone.address(), engine);
    let mut lines = Lines::new(&[("TALKSTACK__RTP__PORTS", "10000-19999")]);
    let mut trunk = TrunkRoute::new("line", &provider.core.ip().to_string());
    trunk.port = Some(provider.core.port());
    trunk.username = Some(USER.into());
    trunk.access.register = true;
    trunk.access.outbound_proxy = has_proxy.then(|| provider.edge.to_string());
    lines.trunk(trunk, Some(PASSWORD));
    let path = if has_proxy { format!("<sip:{}", provider.edge) } else { "<null>".into() };
    let registered = format!("registered {USER} with {algorithm}, Path {path}");
    wait_until("the box registers", || provider.notes().contains(&registered).then_some(()));

    let answer = phone.call(provider.core, &format!("sip:{USER}@{}", provider.core));
    assert_eq!(is_relayed(&answer), engine.is_some(), "{answer}");
    // The menu's first key: the box repeats what it hears.
    phone.presses(1);
    assert!(phone.talks_and_hears(WORD, WORD) >= 20, "no two-way sound in the phone's call");
    phone.hangs_up();
    lines.ended();

    lines.dial("+15550000001");
    let invite = phone.answers();
    assert_eq!(routes(&invite).len(), if has_proxy { 2 } else { 1 }, "{invite}");
    let called = format!("call of {USER}, Route <sip:{}", provider.core);
    assert!(provider.notes().contains(&called), "{}", provider.notes());
    assert_eq!(is_relayed(&invite), engine.is_some(), "{invite}");
    phone.presses(1);
    assert!(phone.talks_and_hears(WORD, WORD) >= 20, "no two-way sound in the box's call");
    phone.hangs_up();
    lines.ended();
    vec![
        ("REGISTER answers the challenge (Path kept)", Cell::Works),
        ("call to the registered box, two-way sound", Cell::Works),
        ("call of the box: Service-Route, 407, two-way sound", Cell::Works),
    ]
}

/// Whether rtpengine stands between: its ports lie above the box's.
fn is_relayed(text: &str) -> bool {
    media(text).is_some_and(|media| media.port() > 19_999)
}

#[test]
fn linphones_register_and_call_the_box_and_each_other() {
    if !is_installed("linphonec") {
        return;
    }
    let mut lines = Lines::new(&[]);
    let target = lines.daemon.sip();
    let mut phones = ["100", "101"].map(|user| {
        lines.extension(user, PASSWORD);
        Linphone::start(&account(user, target, target, PASSWORD))
    });
    phones.iter_mut().for_each(Linphone::registers);
    let [first, second] = &mut phones;
    first.calls("echo", target);
    first.hears_itself();
    first.does("terminate", "ended (No error)");
    lines.ended();

    first.types(&format!("call sip:101@{target}"));
    second.says("Receiving new incoming call");
    second.does("answer 1", "connected");
    // Both say the same: each hears the other's.
    first.hears_itself();
    second.hears_itself();
    second.does("terminate", "ended (No error)");
    lines.ended();
    row(
        "linphone, registered",
        &[("digest, call to the box", Cell::Works), ("extension to extension, two-way sound", Cell::Works)],
    );
}

#[test]
fn a_wrong_password_registers_nobody() {
    if !is_installed("linphonec") {
        return;
    }
    let mut lines = Lines::new(&[]);
    lines.extension("100", PASSWORD);
    let phone = Linphone::start(&account("100", lines.daemon.sip(), lines.daemon.sip(), "wrong"));
    wait_until("it is refused", || {
        let log = phone.log();
        (log.contains("SIP/2.0 403") || log.matches("SIP/2.0 401").count() >= 2).then_some(())
    });
    assert_eq!(lines.bindings("100"), 0, "registered:\n{}", phone.log());
}

#[test]
fn a_box_registers_with_another_and_both_call() {
    let [mut provider, mut client] = [(); 2].map(|()| Lines::new(&[]));
    provider.extension(USER, PASSWORD);
    provider.number(OTHER_NUMBER);
    let target = provider.daemon.sip();
    let mut trunk = TrunkRoute::new("other box", &target.ip().to_string());
    trunk.port = Some(target.port());
    trunk.username = Some(USER.into());
    trunk.access.register = true;
    client.trunk(trunk, Some(PASSWORD));
    client.registers();
    // Its INVITE is asked for the password, too.
    client.dial(OTHER_NUMBER);
    client.answered();
    assert!(provider.daemon.stop().success());
    client.ended();
    row("another talkstack, registered", &[("REGISTER and INVITE with digest", Cell::Works)]);
}

const OTHER_NUMBER: &str = "+15557654321";

/// What the phone says in each frame.
const WORD: u8 = 0x35;
