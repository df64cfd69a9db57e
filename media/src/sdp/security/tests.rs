use super::super::negotiate::{Answer, Capabilities, LocalMedia, Negotiated, accept_answer, answer, offer};
use super::*;
use crate::rtp::srtp::{Inbound, Mki, Outbound};

#[test]
fn the_first_line_of_the_offer_that_can_be_used_is_answered_with_a_key_of_ours() {
    let lines = format!(
        "a=crypto:1 F8_128_HMAC_SHA1_80 {KEY}\r\na=crypto:2 AES_CM_128_HMAC_SHA1_32 {KEY}|2^20|1:4\r\n\
         a=crypto:3 AES_CM_128_HMAC_SHA1_80 {KEY}\r\n"
    );
    for profile in ["RTP/SAVP", "RTP/SAVPF", "RTP/AVP", "RTP/AVPF"] {
        for srtp in [Srtp::Optional, Srtp::Required] {
            let answer = check(&audio(profile, &lines), srtp).expect("agreed");
            let Keying::Sdes(keys) = &answer.negotiated.keying else { panic!("{:?}", answer.negotiated.keying) };
            assert_eq!(keys.local.master.suite(), Suite::AesCm128HmacSha1_32);
            assert_ne!(keys.local.master, keys.remote[0].master);
            assert_eq!((keys.remote[0].lifetime, keys.local.mki), (1 << 20, Some(Mki { value: 1, length: 4 })));
            assert!(answer.sdp.contains(&format!("m=audio 10000 {profile} 0\r\n")), "{}", answer.sdp);
            let written: Vec<_> = answer.sdp.lines().filter(|line| line.starts_with("a=crypto")).collect();
            assert_eq!(written.len(), 1, "{}", answer.sdp);
            assert!(written[0].starts_with("a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:"), "{written:?}");
            assert!(written[0].ends_with("|1:4"), "{written:?}");
        }
    }
}

#[test]
fn a_secured_section_is_taken_before_a_plain_one() {
    let both = audio("RTP/AVP", "") + &audio("RTP/SAVP", &line(Suite::AesCm128HmacSha1_80));
    let agreed = |srtp| check(&both, srtp).expect("agreed");
    assert!(agreed(Srtp::Optional).negotiated.keying.is_secured());
    let refused = "m=audio 0 RTP/AVP 0\r\nm=audio 10000 RTP/SAVP 0\r\n";
    let sections: String = agreed(Srtp::Optional)
        .sdp
        .lines()
        .filter(|line| line.starts_with("m="))
        .map(|line| format!("{line}\r\n"))
        .collect();
    assert_eq!(sections, refused);
    assert_eq!(agreed(Srtp::Off).negotiated.keying, Keying::Plain);
}

#[test]
fn what_is_offered_and_what_is_wanted_decide() {
    let crypto = line(Suite::AesCm128HmacSha1_80);
    let broken = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:QUJD\r\n";
    let length = NegotiateError::Crypto(CryptoError::KeyLength { suite: Suite::AesCm128HmacSha1_80, found: 3 });
    for (profile, lines, srtp, expected) in [
        ("RTP/AVP", "", Srtp::Off, Ok(false)),
        ("RTP/AVP", crypto.as_str(), Srtp::Off, Ok(false)),
        ("RTP/SAVP", crypto.as_str(), Srtp::Off, Err(NegotiateError::SrtpOff)),
        ("RTP/AVP", "", Srtp::Optional, Ok(false)),
        ("RTP/AVP", broken, Srtp::Optional, Ok(false)),
        ("RTP/AVP", crypto.as_str(), Srtp::Optional, Ok(true)),
        ("RTP/SAVP", crypto.as_str(), Srtp::Optional, Ok(true)),
        ("RTP/SAVP", "", Srtp::Optional, Err(NegotiateError::Crypto(CryptoError::Missing))),
        ("RTP/SAVP", broken, Srtp::Optional, Err(length.clone())),
        ("RTP/AVP", "", Srtp::Required, Err(NegotiateError::SrtpRequired)),
        ("RTP/AVP", broken, Srtp::Required, Err(length.clone())),
        ("RTP/AVP", crypto.as_str(), Srtp::Required, Ok(true)),
        ("RTP/SAVPF", crypto.as_str(), Srtp::Required, Ok(true)),
        ("RTP/SAVP", broken, Srtp::Required, Err(length)),
        ("UDP/BFCP", "", Srtp::Required, Err(NegotiateError::NoAudio)),
    ] {
        let is_secured = check(&audio(profile, lines), srtp).map(|answer| answer.negotiated.keying.is_secured());
        assert_eq!(is_secured, expected, "{profile} {lines} with {srtp:?}");
    }
}

#[test]
fn our_offers_tell_keys_where_they_may_and_of_every_suite_another() {
    for (srtp, offers_keys, expected) in [
        (Srtp::Off, true, Ok(("RTP/AVP", 0))),
        (Srtp::Optional, false, Ok(("RTP/AVP", 0))),
        (Srtp::Optional, true, Ok(("RTP/AVP", 6))),
        (Srtp::Required, true, Ok(("RTP/SAVP", 6))),
        (Srtp::Required, false, Err(NegotiateError::KeysUntold)),
    ] {
        let offered = security(srtp, offers_keys).offer();
        assert_eq!(
            offered.as_ref().map(|(protocol, lines)| (*protocol, cryptos(lines).len())),
            expected.as_ref().copied(),
            "{srtp:?}"
        );
        let lines = offered.iter().flat_map(|(_, lines)| cryptos(lines));
        let keys: Vec<_> = lines.map(|line| line.keys[0].master.bytes()[..16].to_vec()).collect();
        assert!(keys.iter().enumerate().all(|(at, key)| !keys[..at].contains(key)), "{keys:?}");
    }
    let other = Security::new(Srtp::Required, true, [8; SECRET_BYTES]);
    assert_ne!(other.offer(), security(Srtp::Required, true).offer());
}

#[test]
fn both_sides_of_our_own_offer_understand_each_other_in_every_suite() {
    for suite in Suite::ALL {
        let (ours, theirs) = (
            capabilities(Srtp::Required),
            Capabilities {
                security: Security::new(Srtp::Optional, true, [9; SECRET_BYTES]),
                ..Capabilities::default()
            },
        );
        let sdp = offer(&ours, &local()).expect("keys may be told");
        let only: String = sdp
            .lines()
            .filter(|line| !line.starts_with("a=crypto") || line.contains(suite.name()))
            .map(|line| format!("{line}\r\n"))
            .collect();
        let answered = answer(&read(&only), &theirs, &local()).expect("agreed");
        let accepted = accept_answer(&read(&answered.sdp), &ours).expect("accepted");
        let (Keying::Sdes(here), Keying::Sdes(there)) = (&accepted.keying, &answered.negotiated.keying) else {
            panic!("{accepted:?}")
        };
        let mut packet = [&[0x80, 0, 0, 1][..], &[0; 8], &[7; 200]].concat();
        let bytes = Outbound::new(&there.local).seal(&mut packet, 172).expect("sealed");
        assert_eq!(Inbound::new(&here.remote).open(&mut packet[..bytes]), Ok(172), "{suite:?}");
        let bytes = Outbound::new(&here.local).seal(&mut packet, 172).expect("sealed");
        assert_eq!(Inbound::new(&there.remote).open(&mut packet[..bytes]), Ok(172), "{suite:?}");
    }
}

#[test]
fn an_answer_is_never_plain_where_keys_are_required() {
    let crypto = line(Suite::AeadAes128Gcm);
    for (srtp, offers_keys, profile, lines, expected) in [
        (Srtp::Required, true, "RTP/SAVP", crypto.as_str(), Ok(true)),
        (Srtp::Required, true, "RTP/AVP", crypto.as_str(), Ok(true)),
        (Srtp::Required, true, "RTP/AVP", "", Err(NegotiateError::SrtpRequired)),
        (Srtp::Required, true, "RTP/SAVP", "", Err(NegotiateError::Crypto(CryptoError::Missing))),
        (Srtp::Optional, true, "RTP/AVP", "", Ok(false)),
        (Srtp::Optional, true, "RTP/AVP", crypto.as_str(), Ok(true)),
        (Srtp::Optional, false, "RTP/AVP", "", Ok(false)),
        // They add keys to an offer that had none: what they send could be read, and they could not read us.
        (Srtp::Optional, false, "RTP/SAVP", crypto.as_str(), Err(NegotiateError::SrtpOff)),
        (Srtp::Off, true, "RTP/SAVP", crypto.as_str(), Err(NegotiateError::SrtpOff)),
    ] {
        let capabilities = Capabilities { security: security(srtp, offers_keys), ..Capabilities::default() };
        let accepted = accept_answer(&read(&audio(profile, lines)), &capabilities);
        let is_secured = accepted.map(|Negotiated { keying, .. }| keying.is_secured());
        assert_eq!(is_secured, expected, "{profile} {lines} with {srtp:?}, {offers_keys}");
    }
}

#[test]
fn a_session_that_is_secured_stays_so_by_our_offers_and_with_the_same_key() {
    let mut security = security(Srtp::Optional, false);
    let keying = check(&audio("RTP/SAVP", &line(Suite::AesCm128HmacSha1_80)), Srtp::Optional).expect("agreed");
    security.handle_agreed(&keying.negotiated);
    let (protocol, lines) = security.offer().expect("they have our key already");
    assert_eq!(protocol, "RTP/SAVP");
    let Keying::Sdes(keys) = keying.negotiated.keying else { panic!("keys") };
    assert!(cryptos(&lines).iter().any(|line| line.keys[0].master == keys.local.master));
}

#[test]
fn keys_are_renewed_when_our_media_moves() {
    let mut moved = security(Srtp::Required, true);
    moved.renew();
    let [before, after] =
        [security(Srtp::Required, true), moved].map(|security| cryptos(&security.offer().expect("told").1));
    assert!(before.iter().zip(&after).all(|(before, after)| before.keys != after.keys));
}

#[test]
fn dtls_is_taken_and_begun_where_we_may() {
    for (profile, setup, ours, role) in [
        ("UDP/TLS/RTP/SAVP", "a=setup:actpass\r\n", "active", Some(DtlsRole::Client)),
        ("UDP/TLS/RTP/SAVPF", "a=setup:passive\r\n", "active", Some(DtlsRole::Client)),
        ("UDP/TLS/RTP/SAVP", "a=setup:active\r\n", "passive", Some(DtlsRole::Server)),
        ("UDP/TLS/RTP/SAVP", "a=setup:holdconn\r\n", "holdconn", None),
        // RFC 4145 §4.1.
        ("UDP/TLS/RTP/SAVP", "", "passive", Some(DtlsRole::Server)),
        ("RTP/SAVPF", "a=setup:actpass\r\n", "active", Some(DtlsRole::Client)),
    ] {
        let lines = format!("{}{setup}", fingerprint_of("theirs"));
        // Said in the section, or for all sections at once.
        for sections in [audio(profile, &lines), lines.clone() + &audio(profile, "")] {
            let taken = take(&sections, Srtp::Required).expect("agreed");
            let Keying::Dtls(peer) = &taken.negotiated.keying else { panic!("{sections}") };
            assert!(peer.fingerprints.iter().all(|theirs| theirs.matches(b"theirs")), "{peer:?}");
            assert_eq!((peer.fingerprints.len(), peer.role), (1, role), "{sections}");
            let expected = format!("{}a=setup:{ours}\r\n", fingerprint_of("ours"));
            assert!(taken.sdp.contains(&expected), "{}", taken.sdp);
            assert!(taken.sdp.contains(&format!("m=audio 10000 {profile} 0\r\n")), "{}", taken.sdp);
        }
    }
}

#[test]
fn the_strongest_hash_counts_and_dtls_without_any_is_refused() {
    let profile = "UDP/TLS/RTP/SAVP";
    // Of "abc".
    let weak = "a=fingerprint:sha-1 A9:99:3E:36:47:06:81:6A:BA:3E:25:71:78:50:C2:6C:9C:D0:D8:9D\r\n";
    let both = format!("{weak}{}{}", fingerprint_of("one"), fingerprint_of("two"));
    for (lines, matching, others) in [(weak, vec!["abc"], vec!["one"]), (&both, vec!["one", "two"], vec!["abc"])] {
        let taken = take(&audio(profile, &format!("{lines}a=setup:actpass\r\n")), Srtp::Optional).expect("agreed");
        let Keying::Dtls(peer) = &taken.negotiated.keying else { panic!("DTLS") };
        let matches = |name: &&str| peer.fingerprints.iter().any(|theirs| theirs.matches(name.as_bytes()));
        assert!(matching.iter().all(matches) && !others.iter().any(matches), "{lines}");
    }
    for lines in ["a=setup:actpass\r\n", "a=setup:actpass\r\na=fingerprint:md5 AB:CD\r\n"] {
        let refused = take(&audio(profile, lines), Srtp::Optional).expect_err("nobody can be told from another");
        assert_eq!(refused, NegotiateError::Crypto(CryptoError::NoFingerprint), "{lines}");
    }
    let lines = format!("{}a=setup:actpass\r\n", fingerprint_of("theirs"));
    assert_eq!(check(&audio(profile, &lines), Srtp::Off), Err(NegotiateError::SrtpOff));
    assert_eq!(check(&audio(profile, &lines), Srtp::Optional), Err(NegotiateError::NoAudio), "without a certificate");
}

#[test]
fn with_both_keys_and_a_fingerprint_keys_are_told_only_where_nobody_reads_them() {
    let lines = format!("{}{}a=setup:actpass\r\n", line(Suite::AesCm128HmacSha1_80), fingerprint_of("theirs"));
    let offer = read(&audio("RTP/SAVPF", &lines));
    for (offers_keys, expected) in [(true, "AES_CM_128_HMAC_SHA1_80"), (false, "DTLS-SRTP")] {
        let security = security(Srtp::Required, offers_keys).with_identity(Fingerprint::of(b"ours"));
        let capabilities = Capabilities { security, ..Capabilities::default() };
        let taken = answer(&offer, &capabilities, &local()).expect("agreed");
        assert_eq!(taken.negotiated.keying.name(), expected);
        assert_eq!(taken.sdp.contains("a=crypto"), offers_keys, "{}", taken.sdp);
        assert_eq!(taken.sdp.contains("a=fingerprint"), !offers_keys, "{}", taken.sdp);
    }
}

#[test]
fn dtls_stays_by_our_offers_with_the_roles_that_are() {
    for (theirs, ours) in [("actpass", "active"), ("active", "passive")] {
        for mux in ["", "a=rtcp-mux\r\n"] {
            let lines = format!("{}a=setup:{theirs}\r\n{mux}", fingerprint_of("theirs"));
            let taken = take(&audio("UDP/TLS/RTP/SAVP", &lines), Srtp::Optional).expect("agreed");
            let mut security = security(Srtp::Optional, false).with_identity(Fingerprint::of(b"ours"));
            security.handle_agreed(&taken.negotiated);
            let (protocol, offered) = security.offer().expect("no key is told");
            assert_eq!(protocol, "UDP/TLS/RTP/SAVP");
            assert!(offered.contains(&format!("a=setup:{ours}\r\n")), "{offered}");
            assert_eq!(offered.contains("a=rtcp-mux"), !mux.is_empty(), "{offered}");
            let accepted = |protocol: &str, lines: &str| {
                let description = read(&audio(protocol, lines));
                security.accept_answer(&description, &description.media[0])
            };
            let opposite = if ours == "active" { "passive" } else { "active" };
            let answered = format!("{}a=setup:{opposite}\r\n", fingerprint_of("theirs"));
            assert_eq!(accepted(protocol, &answered), Ok(taken.negotiated.keying), "the same association");
            // What is secured does not become plain, nor keyed in the open, by an answer.
            assert_eq!(accepted("RTP/AVP", ""), Err(NegotiateError::SrtpRequired));
            let keys = line(Suite::AesCm128HmacSha1_80);
            assert_eq!(accepted("RTP/SAVP", &keys), Err(NegotiateError::SrtpRequired));
            // They offer anew and leave the choice: we are what we are.
            let again = DtlsPeer::read(
                &read(&audio(protocol, &lines)),
                &read(&audio(protocol, &lines)).media[0],
                Turn::Offer(security.role()),
            );
            assert_eq!(again.expect("read").role, security.role());
        }
    }
}

#[test]
fn another_association_is_told_from_the_same() {
    let peer = |lines: &str| {
        let taken = take(&audio("UDP/TLS/RTP/SAVP", lines), Srtp::Optional).expect("agreed");
        let Keying::Dtls(peer) = taken.negotiated.keying else { panic!("DTLS") };
        *peer
    };
    let lines = format!("{}a=setup:actpass\r\na=tls-id:one\r\n", fingerprint_of("theirs"));
    let keeps = |other: &str| peer(&lines).keeps_the_association(&peer(other));
    assert!(keeps(&lines));
    assert!(keeps(&lines.replace("a=tls-id:one\r\n", "")), "who answers without says nothing of it");
    for other in [
        lines.replace("one", "two"),
        lines.replace("actpass", "active"),
        format!("{}a=setup:actpass\r\na=tls-id:one\r\n", fingerprint_of("another")),
        format!("{}{lines}", fingerprint_of("another")),
    ] {
        assert!(!keeps(&other), "{other}");
    }
}

#[test]
fn the_secret_is_not_printed() {
    assert!(!format!("{:?}", security(Srtp::Required, true)).contains('7'));
}

fn check(sections: &str, srtp: Srtp) -> Result<Answer, NegotiateError> {
    answer(&read(sections), &capabilities(srtp), &local())
}

fn read(sections: &str) -> SessionDescription {
    let head = if sections.starts_with("v=0") { "" } else { "v=0\r\nc=IN IP4 10.0.0.1\r\n" };
    SessionDescription::parse(format!("{head}{sections}").as_bytes()).expect("readable")
}

fn audio(profile: &str, lines: &str) -> String {
    format!("m=audio 4000 {profile} 0\r\n{lines}")
}

/// Taken with a certificate of our own.
fn take(sections: &str, srtp: Srtp) -> Result<Answer, NegotiateError> {
    let security = security(srtp, false).with_identity(Fingerprint::of(b"ours"));
    answer(&read(sections), &Capabilities { security, ..Capabilities::default() }, &local())
}

fn fingerprint_of(certificate: &str) -> String {
    format!("a=fingerprint:{}\r\n", Fingerprint::of(certificate.as_bytes()))
}

/// What our lines say.
fn cryptos(lines: &str) -> Vec<Crypto> {
    let values = lines.lines().filter_map(|line| line.strip_prefix("a=crypto:"));
    values.map(|value| Crypto::parse(value).expect("readable")).collect()
}

fn line(suite: Suite) -> String {
    let master = MasterKey::new(suite, &vec![3; suite.master_bytes()]).expect("as long as it is to be");
    format!(
        "a=crypto:{}\r\n",
        Crypto { tag: 1, suite, keys: vec![KeyParameter { master, lifetime: LIFETIME_MAX, mki: None }] }
    )
}

fn security(srtp: Srtp, offers_keys: bool) -> Security {
    Security::new(srtp, offers_keys, [7; SECRET_BYTES])
}

fn capabilities(srtp: Srtp) -> Capabilities {
    Capabilities { security: security(srtp, true), ..Capabilities::default() }
}

fn local() -> LocalMedia {
    LocalMedia { address: "10.0.0.2".parse().expect("address"), port: 10_000, session_id: 7, version: 1 }
}

const KEY: &str = "inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
