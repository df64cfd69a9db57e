//! Keys: calls that have them, may not be without them, or have the wrong ones.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use talkstack_control::port::{Blame, CallEvent, CallId, Outcome};
use talkstack_media::rtp::srtp::{Inbound, KeyParameter, LIFETIME_MAX, MasterKey, Outbound, Suite};
use talkstack_media::sdp::{Attribute, Crypto, Srtp};
use talkstack_media::session::Channel;

use super::*;
use crate::call::tests::limits;
use crate::call::{Call, CallOutput, LegId};
use crate::route::Plan;

#[test]
fn an_offer_without_keys_is_refused_where_they_are_required_and_one_with_them_where_they_are_off() {
    let secured = offer("RTP/SAVP", 3);
    for (srtp, offer, reason) in [
        (Srtp::Required, offer("RTP/AVP", 0), EndReason::SrtpRequired),
        (Srtp::Off, secured.clone(), EndReason::SrtpOff),
        (Srtp::Required, secured.replace("inline:", "inline:AAAA"), EndReason::BadKeys),
    ] {
        let mut bench = Bench::called(srtp, false, &offer);
        assert_eq!(bench.end(), Some(Outcome::new(Blame::Caller, reason)), "{offer}");
    }
}

#[test]
fn the_echo_comes_back_under_our_key_and_who_heard_the_keys_is_told_of() {
    for is_signalling_secure in [false, true] {
        let mut bench = Bench::called(Srtp::Optional, is_signalling_secure, &offer("RTP/SAVP", 3));
        let mut inbound = Inbound::new(&keys_of(&bench.answer()));
        let sent = bench.talk(&mut Outbound::new(&key(3)), 50);
        let opened = sent.into_iter().filter_map(|mut packet| {
            let bytes = inbound.open(&mut packet).expect("under our key");
            packet[12..bytes].iter().all(|byte| *byte == WORD).then_some(())
        });
        assert!(opened.count() >= 40);
        let told: &[&str] = if is_signalling_secure { &[] } else { &["sdes_over_plain"] };
        assert_eq!(bench.diagnoses().map(|(fault, _)| fault).collect::<Vec<_>>(), told);
    }
}

#[test]
fn another_key_than_the_agreed_one_is_named_in_words() {
    let mut bench = Bench::called(Srtp::Required, true, &offer("RTP/SAVP", 3));
    bench.talk(&mut Outbound::new(&key(4)), 400);
    let diagnoses: Vec<_> = bench.diagnoses().collect();
    assert_eq!(diagnoses.len(), 1, "{diagnoses:?}");
    let (fault, found) = diagnoses[0];
    assert_eq!(fault, "srtp_keys");
    assert!(
        found.contains("packets came for 10.0.0.1:4000's line, and none is authenticated under the AES_CM_128"),
        "{found}"
    );
}

#[test]
fn our_offer_with_required_keys_is_never_answered_without() {
    for (profile, key, expected) in [
        ("RTP/AVP", 0, Some(EndReason::SrtpRequired)),
        ("RTP/SAVP", 0, Some(EndReason::BadKeys)),
        ("RTP/SAVP", 3, None),
    ] {
        let mut bench = Bench::calling(Srtp::Required, true);
        let invite = bench.invite().expect("an offer");
        assert!(
            invite.contains("m=audio 10000 RTP/SAVP ") && invite.contains("a=crypto:1 AEAD_AES_256_GCM"),
            "{invite}"
        );
        let answer = offer(profile, key);
        bench.call.handle_accepted(LegId::First, Some(answer.as_bytes()), [10, 0, 0, 1].into(), bench.now);
        let expected = expected.map(|reason| Outcome::new(Blame::Trunk, reason));
        assert_eq!(bench.end(), expected, "{answer}");
    }
}

#[test]
fn keys_that_must_not_be_told_end_the_call_before_it_is_placed() {
    let mut bench = Bench::calling(Srtp::Required, false);
    assert_eq!(bench.invite(), None);
    assert_eq!(bench.end(), Some(Outcome::new(Blame::Operator, EndReason::KeysUntold)));
}

#[test]
fn another_trunk_gets_the_offer_that_it_wants() {
    let mut bench = Bench::calling(Srtp::Off, true);
    assert!(bench.invite().expect("an offer").contains("RTP/AVP"));
    bench.call.handle_carried(security(Srtp::Required, true));
    let invite = bench.invite().expect("another offer");
    assert!(invite.contains("RTP/SAVP"), "{invite}");
    bench.call.handle_accepted(LegId::First, Some(offer("RTP/AVP", 0).as_bytes()), [10, 0, 0, 1].into(), bench.now);
    assert_eq!(bench.end(), Some(Outcome::new(Blame::Trunk, EndReason::SrtpRequired)));
}

#[test]
fn a_reoffer_of_the_same_keys_goes_on_with_ours_and_one_of_others_is_followed() {
    let mut bench = Bench::called(Srtp::Required, true, &offer("RTP/SAVP", 3));
    let ours = keys_of(&bench.answer());
    let mut theirs = Outbound::new(&key(3));
    let mut inbound = Inbound::new(&ours);
    for byte in [3, 3, 5] {
        bench.outputs.clear();
        bench.call.handle_reoffer(LegId::First, Some(offer("RTP/SAVP", byte).as_bytes()), bench.now);
        if byte == 5 {
            theirs = Outbound::new(&key(5));
        }
        let sent = bench.talk(&mut theirs, 50);
        assert_eq!(keys_of(&bench.answer()), ours);
        assert!(sent.len() >= 45);
        sent.into_iter().for_each(|mut packet| {
            inbound.open(&mut packet).expect("our index goes on");
        });
    }
    bench.call.handle_reoffer(LegId::First, Some(offer("RTP/AVP", 0).as_bytes()), bench.now);
    bench.drain();
    assert!(bench.outputs.contains(&CallOutput::RefuseReOffer(LegId::First)), "never plain");
    assert_eq!(bench.end(), None, "the call goes on as it was");
}

/// A call, and what comes of it.
struct Bench {
    call: Call,
    now: Instant,
    outputs: Vec<CallOutput>,
    sequence: u16,
}

impl Bench {
    fn called(srtp: Srtp, is_signalling_secure: bool, sdp: &str) -> Self {
        let now = Instant::now();
        let security = LineSecurity { is_signalling_secure, ..security(srtp, is_signalling_secure) };
        let offer = Offer { sdp: Some(sdp.as_bytes()), local: LOCAL, signalling: [10, 0, 0, 1].into(), security };
        Bench { call: Call::new(CallId(1), Plan::Echo, offer, limits(), 7, now), now, outputs: Vec::new(), sequence: 0 }
    }

    fn calling(srtp: Srtp, offers_keys: bool) -> Self {
        let now = Instant::now();
        let line = Line { local: LOCAL, signalling: [10, 0, 0, 1].into(), security: security(srtp, offers_keys) };
        let call = Call::dial(CallId(1), Plan::Echo, line, limits(), 7, now);
        Bench { call, now, outputs: Vec::new(), sequence: 0 }
    }

    fn drain(&mut self) {
        self.outputs.extend(std::iter::from_fn(|| self.call.poll_output()));
    }

    /// The offer of the last INVITE.
    fn invite(&mut self) -> Option<String> {
        self.drain();
        self.outputs.iter().rev().find_map(|output| match output {
            CallOutput::Invite(_, sdp) => Some(sdp.clone()),
            _ => None,
        })
    }

    fn answer(&mut self) -> String {
        self.drain();
        let answer = self.outputs.iter().find_map(|output| match output {
            CallOutput::Answer(_, sdp) => Some(sdp.clone()),
            _ => None,
        });
        answer.expect("an answer")
    }

    fn end(&mut self) -> Option<Outcome> {
        self.drain();
        self.outputs.iter().find_map(|output| match output {
            CallOutput::Record(CallEvent::Ended { outcome }) => Some(*outcome),
            _ => None,
        })
    }

    fn diagnoses(&mut self) -> impl Iterator<Item = (&str, &str)> {
        self.drain();
        self.outputs.iter().filter_map(|output| match output {
            CallOutput::Record(CallEvent::Diagnosed { fault, found }) => Some((fault.as_str(), found.as_str())),
            _ => None,
        })
    }

    /// The far end says the word for so many packets; what comes back of RTP.
    fn talk(&mut self, outbound: &mut Outbound, packets: u16) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        for _ in 0..packets {
            let [high, low] = self.sequence.to_be_bytes();
            let stamp = (u32::from(self.sequence) * 160).to_be_bytes();
            let mut packet = [&[0x80, 0, high, low][..], &stamp, &[0, 0, 0, 9], &[WORD; 160], &[0; 16]].concat();
            self.sequence += 1;
            let bytes = outbound.seal(&mut packet, 172).expect("sealed");
            self.call.handle_rtp(LegId::First, SocketAddr::from(([10, 0, 0, 1], 4000)), &packet[..bytes], self.now);
            self.call.handle_timeout(self.now);
            let mut buffer = [0; 2048];
            while let Some((_, transmit)) = self.call.poll_transmit(&mut buffer, self.now) {
                if transmit.channel == Channel::Rtp {
                    sent.push(buffer[..transmit.bytes].to_vec());
                }
            }
            self.now += Duration::from_millis(20);
        }
        self.drain();
        sent
    }
}

fn security(srtp: Srtp, offers_keys: bool) -> LineSecurity {
    LineSecurity {
        media: Security::new(srtp, offers_keys, [7; 32]),
        is_signalling_secure: true,
        ..LineSecurity::default()
    }
}

/// A description with a key of this byte; 0 has none.
fn offer(profile: &str, byte: u8) -> String {
    let crypto = Crypto { tag: 1, suite: SUITE, keys: vec![key(byte)] };
    let line = if byte == 0 { String::new() } else { format!("a=crypto:{crypto}\r\n") };
    format!("v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\nc=IN IP4 10.0.0.1\r\nm=audio 4000 {profile} 0\r\n{line}")
}

fn key(byte: u8) -> KeyParameter {
    let master = MasterKey::new(SUITE, &[byte; 30]).expect("as long as it is to be");
    KeyParameter { master, lifetime: LIFETIME_MAX, mki: None }
}

fn keys_of(sdp: &str) -> Vec<KeyParameter> {
    let description = SessionDescription::parse(sdp.as_bytes()).expect("readable");
    let lines = description.media[0].attributes.iter().filter_map(|attribute| match attribute {
        Attribute::Crypto(Ok(crypto)) => Some(crypto.keys.clone()),
        _ => None,
    });
    lines.flatten().collect()
}

const SUITE: Suite = Suite::AesCm128HmacSha1_80;
const LOCAL: LegAddress = LegAddress { host: IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), port: 10_000 };

/// A byte of µ-law that comfort noise does not have.
const WORD: u8 = 0x2a;
