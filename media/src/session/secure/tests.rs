use std::net::SocketAddr;

use super::*;
use crate::audio::frame::Speech;
use crate::audio::pool::SpeechPool;
use crate::codec::Codec;
use crate::rtp::srtp::{KeyParameter, LIFETIME_MAX, MasterKey, Suite};
use crate::sdp::{Direction, Negotiated};
use crate::session::{Channel, Heard, RtpSession};

#[test]
fn two_ends_hear_each_other_and_nobody_else_hears_them() {
    for suite in Suite::ALL {
        let mut line = Line::new(suite);
        line.talk(50);
        assert!(line.heard >= 45 * 160, "{suite:?}: {} samples of speech heard", line.heard);
        assert!(line.wire.iter().all(|packet| !packet.windows(20).any(|bytes| bytes == [WORD; 20])), "{suite:?}");
        let exchange = line.there.exchange();
        assert!(exchange.received >= 49, "{exchange:?}");
        assert_eq!((line.there.unauthenticated_packets(), line.there.refused_packets()), (0, 0), "{suite:?}");
    }
}

#[test]
fn what_is_recorded_of_a_packet_is_what_it_was_before_it_was_sealed() {
    let mut line = Line::new(Suite::AeadAes128Gcm);
    line.here.play(Speech::Coded(Codec::Pcmu, &[WORD; 160]), line.now).expect("room");
    let mut buffer = [0; 1500];
    let transmit = line.here.poll_transmit(&mut buffer, line.now).expect("due");
    let (_, speech) = line.here.sent_audio(&buffer[..transmit.bytes]).expect("audio");
    assert_eq!(speech, Speech::Coded(Codec::Pcmu, [WORD; 160].as_slice()));
    assert_eq!(transmit.bytes, 12 + 160 + 16);
    line.now += Duration::from_secs(8);
    let report = std::iter::from_fn(|| line.here.poll_transmit(&mut buffer, line.now))
        .find(|transmit| transmit.channel == Channel::Rtcp)
        .expect("a report");
    assert_eq!(line.here.sent_audio(&buffer[..report.bytes]), None);
    assert_ne!(buffer[8..12], [0; 4], "sealed");
}

#[test]
fn one_authenticated_packet_is_proof_and_none_of_a_stranger_s_ever_is() {
    let mut line = Line::new(Suite::AesCm128HmacSha1_80);
    let stranger: SocketAddr = "192.0.2.66:4000".parse().expect("address");
    for sequence in 0..20u16 {
        let [high, low] = sequence.to_be_bytes();
        let plain = [&[0x80, 0, high, low][..], &[0; 8], &[WORD; 160]].concat();
        line.there.handle_rtp(HERE, &plain, line.now);
        line.there.handle_rtp(stranger, &plain, line.now);
    }
    assert_eq!(line.there.unauthenticated_packets(), 40);
    assert!(line.there.poll_heard(line.now).is_none(), "nothing is heard of them");
    assert_eq!(line.destination_there(), HERE);

    // A NAT shows another port than the description does.
    let mapped: SocketAddr = "203.0.113.9:50123".parse().expect("address");
    let packet = line.packet_of_here();
    line.there.handle_rtp(mapped, &packet, line.now);
    assert_eq!(line.destination_there(), mapped);
    line.there.handle_rtp(stranger, &packet, line.now);
    assert_eq!(line.destination_there(), mapped, "a replay proves nothing");
    assert_eq!(line.there.replayed_packets(), 1);
}

#[test]
fn an_unchanged_agreement_keeps_the_roll_over_counter() {
    let mut line = Line::new(Suite::AesCm128HmacSha1_32);
    // The sequence begins below 2^15 and wraps within 65,536 packets.
    for _ in 0..70 {
        line.talk(1000);
        let (here, there) = (line.here_agreed.clone(), line.there_agreed.clone());
        line.here.renegotiate(here, line.now);
        line.there.renegotiate(there, line.now);
    }
    assert!(line.heard > 69_000 * 160, "{} samples", line.heard);
    assert_eq!(line.there.unauthenticated_packets(), 0);
}

#[test]
fn keys_change_without_a_gap_and_packets_of_before_are_opened_for_a_while() {
    let mut line = Line::new(Suite::AesCm128HmacSha1_80);
    line.talk(10);
    let late = line.packet_of_here();
    let later = line.packet_of_here();
    let keying = |local: u8, remote: u8| keying(Suite::AeadAes256Gcm, local, remote);
    line.here.renegotiate(Negotiated { keying: keying(5, 6), ..line.here_agreed.clone() }, line.now);
    line.there.renegotiate(Negotiated { keying: keying(6, 5), ..line.there_agreed.clone() }, line.now);
    let heard = line.heard;
    line.there.handle_rtp(HERE, &late, line.now);
    line.talk(50);
    assert!(line.heard - heard >= 45 * 160);
    assert_eq!(line.there.unauthenticated_packets(), 0);
    line.now += FORMER_KEPT;
    line.there.handle_rtp(HERE, &later, line.now);
    assert_eq!(line.there.unauthenticated_packets(), 1, "not for ever");

    // Back to the first keys: the index goes on, no keystream is used again.
    line.here.renegotiate(line.here_agreed.clone(), line.now);
    let packet = line.packet_of_here();
    assert!(packet.len() > 172, "sealed");
}

#[test]
fn hold_and_resume_need_no_other_keys() {
    let mut line = Line::new(Suite::AeadAes256Gcm);
    line.talk(10);
    let held = Negotiated { direction: Direction::Recvonly, ..line.there_agreed.clone() };
    line.there.renegotiate(held, line.now);
    line.talk(10);
    let heard = line.heard;
    line.there.renegotiate(line.there_agreed.clone(), line.now);
    line.talk(50);
    assert!(line.heard - heard >= 45 * 160);
    assert_eq!(line.there.unauthenticated_packets(), 0);
}

#[test]
fn a_session_becomes_plain_by_agreement_alone() {
    let mut line = Line::new(Suite::AesCm128HmacSha1_80);
    assert_eq!(line.packet_of_here().len(), 182);
    let plain = Negotiated { keying: Keying::Plain, ..line.here_agreed.clone() };
    line.here.renegotiate(plain, line.now);
    assert_eq!(line.packet_of_here().len(), 172);
    line.here.renegotiate(line.here_agreed.clone(), line.now);
    let packet = line.packet_of_here();
    line.there.handle_rtp(HERE, &packet, line.now);
    assert_eq!((packet.len(), line.there.unauthenticated_packets()), (182, 0));
}

#[test]
fn other_keys_are_heard_of_and_not_heard() {
    let mut line = Line::new(Suite::AesCm128HmacSha1_80);
    let other = Negotiated { keying: keying(Suite::AesCm128HmacSha1_80, 9, 2), ..line.here_agreed.clone() };
    line.here = session(other, 1, line.now);
    line.talk(50);
    assert_eq!((line.heard, line.there.exchange().received), (0, 0));
    assert!(line.there.unauthenticated_packets() >= 50);
}

/// Two sessions and the wire between them.
struct Line {
    here: RtpSession,
    there: RtpSession,
    here_agreed: Negotiated,
    there_agreed: Negotiated,
    now: Instant,
    wire: Vec<Vec<u8>>,
    /// Samples of the word that were heard there.
    heard: usize,
}

impl Line {
    fn new(suite: Suite) -> Self {
        let now = Instant::now();
        let here_agreed = negotiated(THERE, keying(suite, 1, 2));
        let there_agreed = negotiated(HERE, keying(suite, 2, 1));
        Line {
            here: session(here_agreed.clone(), 1, now),
            there: session(there_agreed.clone(), 2, now),
            here_agreed,
            there_agreed,
            now,
            wire: Vec::new(),
            heard: 0,
        }
    }

    /// So many frames of the word go there, and what is due comes back.
    fn talk(&mut self, frames: usize) {
        for _ in 0..frames {
            self.here.play(Speech::Coded(Codec::Pcmu, &[WORD; 160]), self.now).expect("room");
            let mut buffer = [0; 1500];
            while let Some(transmit) = self.here.poll_transmit(&mut buffer, self.now) {
                let packet = &buffer[..transmit.bytes];
                match transmit.channel {
                    Channel::Rtp => self.there.handle_rtp(HERE, packet, self.now),
                    Channel::Rtcp => self.there.handle_rtcp(HERE, packet, self.now),
                }
                if self.wire.len() < 200 {
                    self.wire.push(packet.to_vec());
                }
            }
            while let Some(transmit) = self.there.poll_transmit(&mut buffer, self.now) {
                let packet = &buffer[..transmit.bytes];
                match transmit.channel {
                    Channel::Rtp => self.here.handle_rtp(THERE, packet, self.now),
                    Channel::Rtcp => self.here.handle_rtcp(THERE, packet, self.now),
                }
            }
            while let Some(heard) = self.there.poll_heard(self.now) {
                if let Heard::Audio(frame) = heard {
                    self.heard +=
                        frame.coded.map_or(0, |(_, bytes)| bytes.iter().filter(|byte| **byte == WORD).count());
                }
            }
            while self.here.poll_heard(self.now).is_some() {}
            self.now += Duration::from_millis(20);
        }
    }

    fn packet_of_here(&mut self) -> Vec<u8> {
        packet_of(&mut self.here, &mut self.now).0
    }

    fn destination_there(&mut self) -> SocketAddr {
        packet_of(&mut self.there, &mut self.now).1
    }
}

/// The next RTP packet of a session, and where it goes.
fn packet_of(session: &mut RtpSession, now: &mut Instant) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 1500];
    loop {
        while let Some(transmit) = session.poll_transmit(&mut buffer, *now) {
            if transmit.channel == Channel::Rtp {
                return (buffer[..transmit.bytes].to_vec(), transmit.to);
            }
        }
        *now += Duration::from_millis(20);
    }
}

fn session(negotiated: Negotiated, seed: u64, now: Instant) -> RtpSession {
    RtpSession::new(negotiated, [10, 0, 0, 9].into(), SpeechPool::default(), seed, now)
}

fn negotiated(remote: SocketAddr, keying: Keying) -> Negotiated {
    Negotiated {
        remote_rtcp: SocketAddr::new(remote.ip(), remote.port() + 1),
        rtcp_mux: false,
        keying,
        ..Negotiated::plain(Codec::Pcmu, 0, remote)
    }
}

fn keying(suite: Suite, local: u8, remote: u8) -> Keying {
    let key = |byte: u8| {
        let master = MasterKey::new(suite, &vec![byte; suite.master_bytes()]).expect("as long as it is to be");
        KeyParameter { master, lifetime: LIFETIME_MAX, mki: None }
    };
    Keying::Sdes(Box::new(SdesKeys { local: key(local), remote: vec![key(remote)] }))
}

const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 4000);
const THERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), 4000);

/// A byte of µ-law that comfort noise does not have.
const WORD: u8 = 0x2a;
