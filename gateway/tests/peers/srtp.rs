//! Encrypted sound: with baresip in the suites that it has, with our own phone in every one, and what is refused.
//! linphone's and rtpengine's are beside the rest of theirs.

use std::net::SocketAddr;

use serde_json::json;
use talkstack_control::port::{CallEvent, EndReason, Srtp};
use talkstack_media::rtp::srtp::{Inbound, KeyParameter, LIFETIME_MAX, MasterKey, Outbound, Suite};
use talkstack_media::sdp::{Attribute, Crypto, SdesKeys, SessionDescription};

use super::baresip::Account;
use super::lines::Lines;
use super::phone::Phone;
use super::process::is_installed;
use super::registrar::PASSWORD;
use super::site::Site;
use super::table::{Cell, row};
use crate::daemon::Daemon;

/// What a phone of ours seals and opens with. Its suite's vectors are those of the RFCs (media/src/rtp/srtp/tests.rs).
pub(crate) struct Keys {
    line: Crypto,
    outbound: Outbound,
    inbound: Option<Inbound>,
    /// What it has sent.
    sent: Vec<Vec<u8>>,
    /// What becomes of what it sends.
    damage: Damage,
    /// The profile and the lines of its description, where they have no keys in them.
    described: Option<(&'static str, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Damage {
    None,
    /// A bit of the sound is turned.
    Changed,
}

impl Keys {
    pub(crate) fn new(suite: Suite, byte: u8) -> Self {
        let master = MasterKey::new(suite, &vec![byte; suite.master_bytes()]).expect("as long as it is to be");
        let key = KeyParameter { master, lifetime: LIFETIME_MAX, mki: None };
        let outbound = Outbound::new(&key);
        Keys {
            line: Crypto { tag: 1, suite, keys: vec![key] },
            outbound,
            inbound: None,
            sent: Vec::new(),
            damage: Damage::None,
            described: None,
        }
    }

    /// Those of a handshake: until there are any, it says nothing.
    pub(crate) fn described(profile: &'static str, lines: String) -> Self {
        Keys { described: Some((profile, lines)), ..Keys::new(Suite::AeadAes256Gcm, 0) }
    }

    /// A handshake has brought them.
    pub(crate) fn handle_keys(&mut self, keys: &SdesKeys) {
        (self.outbound, self.inbound) = (Outbound::new(&keys.local), Some(Inbound::new(&keys.remote)));
    }

    /// The profile and the lines of its description.
    pub(crate) fn describe(&self) -> (&'static str, String) {
        self.described.clone().unwrap_or_else(|| ("RTP/SAVP", format!("a=crypto:{}\r\n", self.line)))
    }

    /// Takes the other side's keys of the same suite; our line answers theirs by its number.
    pub(crate) fn handle_description(&mut self, message: &str) {
        if self.described.is_some() {
            return;
        }
        let sdp = message.split_once("\r\n\r\n").map_or("", |(_, sdp)| sdp);
        let description = SessionDescription::parse(sdp.as_bytes()).expect("readable");
        let mut lines = description.media[0].attributes.iter().filter_map(|attribute| match attribute {
            Attribute::Crypto(Ok(crypto)) if crypto.suite == self.line.suite => Some(crypto),
            _ => None,
        });
        let theirs = lines.next_back().unwrap_or_else(|| panic!("no {} in {sdp}", self.line.suite.name()));
        self.line.tag = theirs.tag;
        self.inbound = Some(Inbound::new(&theirs.keys));
    }

    pub(crate) fn seal(&mut self, packet: &mut Vec<u8>) {
        let bytes = packet.len();
        packet.resize(bytes + 16, 0);
        let sealed = self.outbound.seal(packet, bytes).expect("sealed");
        packet.truncate(sealed);
        if self.damage == Damage::Changed {
            packet[20] ^= 1;
        }
        self.sent.push(packet.clone());
    }

    /// The length of what is in a packet; 0 of one that is not the other side's.
    pub(crate) fn open(&mut self, packet: &mut [u8]) -> usize {
        self.inbound.as_mut().and_then(|inbound| inbound.open(packet).ok()).unwrap_or(12)
    }
}

#[test]
fn every_suite_carries_the_sound_of_a_call_to_the_box_and_of_one_of_the_box() {
    for suite in Suite::ALL {
        let mut phone = Phone::at("127.0.0.1");
        let site = required(&[], phone.address());
        phone.secures(Keys::new(suite, 3));
        let answer = phone.call(site.daemon.sip(), &format!("sip:echo@{}", site.daemon.sip()));
        assert!(answer.contains(&format!("a=crypto:1 {} inline:", suite.name())), "{answer}");
        assert!(phone.talks_and_hears(WORD, WORD) >= 20, "{suite:?}: no two-way sound in a call to the box");
        phone.hangs_up();

        phone.secures(Keys::new(suite, 5));
        let call = site.dial("+15550000001");
        let invite = phone.answers();
        assert!(invite.contains(" RTP/SAVP "), "{invite}");
        phone.presses(1);
        assert!(phone.talks_and_hears(WORD, WORD) >= 20, "{suite:?}: no two-way sound in a call of the box");
        phone.hangs_up();
        assert_eq!(site.ended(&call)["status"], "completed");
        row(
            &format!("our phone, {}", suite.name()),
            &[("call to the box, two-way sound", Cell::Works), ("call of the box, two-way sound", Cell::Works)],
        );
    }
}

#[test]
fn a_trunk_that_requires_srtp_takes_nothing_plain_and_sends_nothing_plain() {
    let mut phone = Phone::at("127.0.0.1");
    let site = required(&[], phone.address());
    let refusal = phone.is_refused(site.daemon.sip(), &format!("sip:echo@{}", site.daemon.sip()));
    assert!(refusal.starts_with("SIP/2.0 488 "), "{refusal}");
    assert!(
        refusal.contains("\r\nWarning: 399 talkstack \"SRTP is required here: offer RTP/SAVP with a=crypto, or UDP/TLS/RTP/SAVP\"\r\n"),
        "{refusal}"
    );
    let call = site.dial("+15550000001");
    let invite = phone.answers();
    assert!(invite.contains(" RTP/SAVP ") && !invite.contains("RTP/AVP"), "{invite}");
    phone.is_hung_up();
    assert_eq!(site.ended(&call)["outcome"], json!({ "blame": "trunk", "reason": "srtp_required" }));
    row(
        "our phone, plain",
        &[
            ("refused by a trunk that requires SRTP: 488, Warning", Cell::Works),
            ("its plain answer ends the call", Cell::Works),
        ],
    );
}

#[test]
fn what_is_replayed_changed_or_under_another_key_is_never_heard() {
    let suite = Suite::AesCm128HmacSha1_80;
    let mut phone = Phone::at("127.0.0.1");
    let site = required(&[], phone.address());
    let uri = format!("sip:echo@{}", site.daemon.sip());

    phone.secures(Keys::new(suite, 3));
    phone.call(site.daemon.sip(), &uri);
    assert!(phone.talks_and_hears(WORD, WORD) >= 20);
    let sent = std::mem::take(&mut phone.keys().sent);
    // What is on its way comes; then nothing does.
    phone.is_silent_after(|_| {});
    assert!(phone.is_silent_after(|phone| phone.sends_again(&sent)), "replayed sound is heard");
    phone.hangs_up();

    phone.secures(Keys { damage: Damage::Changed, ..Keys::new(suite, 3) });
    phone.call(site.daemon.sip(), &uri);
    assert!(phone.is_silent_after(|phone| phone.talks(WORD, 50)), "changed sound is heard");
    phone.hangs_up();
    row("our phone, hostile", &[("replayed and changed packets are not heard", Cell::Works)]);
}

#[test]
fn another_key_than_the_agreed_one_is_named_in_the_call_s_diagnosis() {
    let suite = Suite::AeadAes128Gcm;
    let mut phone = Phone::at("127.0.0.1");
    let mut lines = Lines::new(&[]);
    phone.secures(Keys::new(suite, 3));
    phone.call(lines.daemon.sip(), &format!("sip:echo@{}", lines.daemon.sip()));
    phone.keys().outbound = Outbound::new(&Keys::new(suite, 4).line.keys[0]);
    phone.talks(WORD, 300);
    let mut found = Vec::new();
    lines.event(|event| match event {
        CallEvent::Diagnosed { fault, found: words } => {
            found.push((fault, words));
            (found.len() == 2).then_some(())
        }
        _ => None,
    });
    assert_eq!([found[0].0.as_str(), found[1].0.as_str()], ["sdes_over_plain", "srtp_keys"]);
    assert!(found[1].1.contains("none is authenticated under the AEAD_AES_128_GCM key"), "{found:?}");
    phone.hangs_up();
    row("our phone, wrong key", &[("diagnosis in words", Cell::Works)]);
}

#[test]
fn baresip_hears_and_is_heard_in_the_suites_that_it_has() {
    if !is_installed("baresip") {
        return;
    }
    let mut lines = Lines::new(&[]);
    let target = lines.daemon.sip();
    for user in ["100", "101"] {
        lines.extension(user, PASSWORD);
        lines.set(|snapshot| {
            let extension = snapshot.extensions.get_mut(user).expect("just made");
            (extension.srtp, extension.sdes_over_plain) = (Srtp::Required, true);
        });
    }
    // It takes the profile that it would offer, and no other: ours is RTP/SAVP.
    let mut caller = Account::new("100", target).encrypting("srtp-mandf").registers();
    let mut called = Account::new("101", target).encrypting("srtp-mand").registers();
    caller.does("dial", &format!("sip:101@{target}"));
    called.peer.says("Incoming call from");
    called.does("accept", "");
    caller.hears_the_words();
    called.hears_the_words();
    for (phone, suite) in [(&caller, "AES_CM_128_HMAC_SHA1_80"), (&called, "AEAD_AES_256_GCM")] {
        let said = phone.peer.output();
        assert!(said.contains(&format!("SRTP is Enabled (cryptosuite={suite})")), "{said}");
    }
    caller.does("hangup", "");
    lines.ended();
    row(
        "baresip, SRTP",
        &[
            ("SDES, calls as RTP/SAVPF in AES_CM_128, two-way sound", Cell::Works),
            ("SDES, called in AEAD_AES_256_GCM, two-way sound", Cell::Works),
        ],
    );
}

#[test]
fn two_boxes_call_each_other_encrypted_and_the_keys_go_under_tls() {
    let far = Daemon::serve(&[("TALKSTACK__SIP__TLS_LISTEN", "127.0.0.1:0")]);
    let fields = json!({ "transport": "tls", "tls_fingerprint": crate::secure::fingerprint(&far), "srtp": "required" });
    let address = far.secured("tls");
    let mut far = Site::owned(far, "+15557654321", address, json!({}));
    let near = Site::new(&[], address, fields);
    let call = near.dial("+15557654321");
    super::boxes::hear_each_other(&near, &far);
    assert!(far.daemon.stop().success());
    assert_eq!(near.ended(&call)["status"], "completed");
    row("another talkstack, TLS", &[("SRTP required, keys under TLS, two-way sound", Cell::Works)]);
}

#[test]
fn keys_are_not_told_over_plain_sip_unless_the_owner_says_so() {
    let mut lines = Lines::new(&[]);
    let mut trunk = talkstack_control::port::TrunkRoute::new("line", "127.0.0.1");
    trunk.port = Some(super::process::free_port());
    trunk.media.srtp = Srtp::Required;
    lines.trunk(trunk, None);
    lines.dial("+15550000001");
    assert_eq!(lines.ended().reason, EndReason::KeysUntold);
}

/// A box whose only trunk requires SRTP and lets keys go over plain SIP.
fn required(settings: &[(&str, &str)], trunk: SocketAddr) -> Site {
    Site::new(settings, trunk, json!({ "srtp": "required", "sdes_over_plain": true }))
}

/// What the phone says in each frame.
const WORD: u8 = 0x35;
