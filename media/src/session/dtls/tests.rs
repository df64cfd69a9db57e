use std::collections::HashMap;

use super::*;
use crate::audio::frame::Speech;
use crate::audio::pool::SpeechPool;
use crate::codec::Codec;
use crate::dtls::{Handshake, Identity};
use crate::rtp::srtp::Suite;
use crate::sdp::{Direction, Fingerprint, Keying, Negotiated};
use crate::session::{Heard, Protection};

#[test]
fn two_ends_shake_hands_and_then_hear_all_that_was_said_from_the_start() {
    for is_muxed in [true, false] {
        let mut line = Line::new(is_muxed);
        // What is said before there are keys waits for them.
        line.says(50);
        line.run(40);
        line.run(1500);
        assert_eq!(line.ends.each_ref().map(|end| end.session.quality().protection), [KEYED; 2]);
        assert_eq!(line.heard_there, 50 * 160, "samples of the word");
        assert_eq!(line.begun, if is_muxed { 1 } else { 2 }, "RTCP on its own port shakes hands of its own");
        assert!(line.wire.iter().all(|packet| !packet.windows(20).any(|bytes| bytes == [WORD; 20])), "all is sealed");
        line.run(15_000);
        assert!(line.ends.iter().all(|end| end.session.quality().round_trip.is_some()), "reports are exchanged");
        let refused = line.ends.each_ref().map(|end| end.session.unauthenticated_packets());
        assert_eq!(refused, [0; 2], "what came before the keys is nobody's forgery");
    }
}

#[test]
fn nothing_but_datagrams_of_the_handshake_leaves_or_is_heard_before_there_are_keys() {
    let mut line = Line::new(false);
    line.is_cut = true;
    line.says(20);
    line.run(9000);
    assert!(line.wire.len() > 3);
    assert!(line.wire.iter().all(|packet| is_dtls(packet)), "no RTP and no RTCP");
    let [high, low] = 7u16.to_be_bytes();
    let plain = [&[0x80, 0, high, low][..], &[0; 8], &[WORD; 160]].concat();
    let now = line.now;
    let here = &mut line.ends[0].session;
    for _ in 0..20 {
        here.handle_rtp(THERE, &plain, now);
    }
    assert!(here.poll_heard(now).is_none());
    assert_eq!((here.exchange().received, here.refused_packets()), (0, 20));
    assert_eq!(here.quality().protection, Protection::Dtls(None));
}

#[test]
fn datagrams_from_elsewhere_are_no_part_of_the_handshake() {
    let mut line = Line::new(true);
    // The far end begins: whoever is first with a ClientHello at our open port would be it.
    let mallory = Identity::new().expect("made");
    let peer = DtlsPeer::new(vec![Fingerprint::of(b"anything")], DtlsRole::Client);
    let mut forged = Handshake::new(&mallory, &peer, line.now).expect("begun");
    let Some(HandshakeOutput::Send(hello)) = forged.poll_output() else { panic!("a ClientHello") };
    for stranger in ["192.0.2.66:4000", "10.0.0.1:4002"] {
        let there = &mut line.ends[1].session;
        there.handle_rtp(stranger.parse().expect("address"), &hello, line.now);
        assert!(there.poll_handshake(line.now).is_none(), "{stranger}");
    }
    assert_eq!(line.ends[1].session.refused_packets(), 2);
    line.run(1000);
    assert_eq!(line.ends[1].session.quality().protection, KEYED);

    // The same from the address that the description names is a handshake, which fails, and ends nothing.
    let mut line = Line::new(true);
    line.ends[1].session.handle_rtp(HERE, &hello, line.now);
    line.run(20_000);
    assert_eq!(line.ends.each_ref().map(|end| end.session.quality().protection), [KEYED; 2]);
}

#[test]
fn four_associations_are_begun_and_no_more_and_the_reason_stays_known() {
    for is_muxed in [true, false] {
        let mut line = Line::new(is_muxed);
        line.ends[0].others = Some(Identity::new().expect("made"));
        let other =
            Negotiated { keying: keying(Fingerprint::of(b"another"), DtlsRole::Client), ..line.ends[0].agreed.clone() };
        line.ends[0].session = session(other, 1, line.now);
        line.run(120_000);
        assert_eq!(line.begun, 4);
        let here = &mut line.ends[0].session;
        assert_eq!(here.handshake_failure(), Some(DtlsError::Certificate));
        // That nothing comes at all is another matter.
        here.excuse(line.now);
        assert!(line.wire.iter().all(|packet| is_dtls(packet)));
        assert!(here.poll_timeout() > line.now - Duration::from_millis(20), "it does not ask to be woken for nothing");
    }
}

#[test]
fn a_far_end_that_is_late_is_asked_until_it_answers() {
    let mut line = Line::new(true);
    line.is_cut = true;
    line.run(25_000);
    assert_eq!(line.ends[0].session.handshake_failure(), Some(DtlsError::Silent));
    line.is_cut = false;
    line.run(6000);
    assert_eq!(line.ends.each_ref().map(|end| end.session.quality().protection), [KEYED; 2]);
    assert_eq!(line.ends[0].session.handshake_failure(), None);
}

#[test]
fn the_same_far_end_keeps_its_association_and_another_gets_one_of_its_own() {
    let mut line = Line::new(true);
    line.run(1000);
    // Hold and resume, with the same certificate.
    for direction in [Direction::Recvonly, Direction::Sendrecv] {
        let now = line.now;
        for end in &mut line.ends {
            let direction = if end.is_first { direction.mirrored() } else { direction };
            end.session.renegotiate(Negotiated { direction, ..end.agreed.clone() }, now);
        }
        line.run(500);
    }
    line.says(20);
    line.run(1000);
    assert_eq!((line.begun, line.heard_there), (1, 20 * 160), "no other keys");

    // They come back with another certificate.
    let identity = Identity::new().expect("made");
    let now = line.now;
    let keyed_anew =
        Negotiated { keying: keying(identity.fingerprint(), DtlsRole::Client), ..line.ends[0].agreed.clone() };
    line.ends[0].session.renegotiate(keyed_anew, now);
    line.ends[1].session = session(line.ends[1].agreed.clone(), 3, now);
    line.ends[1].identity = identity;
    assert_eq!(line.ends[0].session.quality().protection, Protection::Dtls(None), "the former keys are gone");
    line.says(20);
    line.run(1500);
    assert_eq!((line.begun, line.heard_there), (2, 40 * 160), "other keys");
}

#[test]
fn a_plain_session_has_nothing_to_do_with_dtls() {
    let mut line = Line::new(true);
    let plain = Negotiated { keying: Keying::Plain, ..line.ends[0].agreed.clone() };
    let mut session = session(plain, 1, line.now);
    session.handle_rtp(THERE, &[22, 254, 253, 0], line.now);
    assert!(session.poll_handshake(line.now).is_none());
    assert_eq!((session.refused_packets(), session.quality().protection), (1, Protection::Plain));
    let other = HandshakeId { ssrc: 1, number: 1 };
    assert!(!session.handle_handshake(other, &HandshakeOutput::Send(Vec::new()), line.now));
    assert!(!line.ends[0].session.handle_handshake(other, &HandshakeOutput::Send(Vec::new()), line.now));
}

const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 4000);
const THERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), 6000);

/// No byte of µ-law silence or of comfort noise.
const WORD: u8 = 0x21;

const KEYED: Protection = Protection::Dtls(Some(Suite::AeadAes256Gcm));

struct End {
    is_first: bool,
    session: RtpSession,
    agreed: Negotiated,
    identity: Identity,
    /// Shakes hands with it, whatever certificate was described.
    others: Option<Identity>,
    handshakes: HashMap<HandshakeId, Handshake>,
}

/// Two sessions, their handshakes, and a wire between them, in virtual time. The first begins.
struct Line {
    ends: [End; 2],
    now: Instant,
    is_cut: bool,
    /// Handshakes of the first.
    begun: usize,
    /// What the first has sent.
    wire: Vec<Vec<u8>>,
    heard_there: usize,
}

impl Line {
    fn new(is_muxed: bool) -> Self {
        let now = Instant::now();
        let identities = [(); 2].map(|()| Identity::new().expect("made"));
        let fingerprints = identities.each_ref().map(Identity::fingerprint);
        let mut at = 0;
        let ends = identities.map(|identity| {
            let role = [DtlsRole::Client, DtlsRole::Server][at];
            let agreed = negotiated([THERE, HERE][at], is_muxed, keying(fingerprints[1 - at], role));
            at += 1;
            End {
                is_first: at == 1,
                session: session(agreed.clone(), at as u64, now),
                agreed,
                identity,
                others: None,
                handshakes: HashMap::new(),
            }
        });
        Line { ends, now, is_cut: false, begun: 0, wire: Vec::new(), heard_there: 0 }
    }

    /// The first says so many frames of the word.
    fn says(&mut self, frames: usize) {
        for _ in 0..frames {
            self.ends[0].session.play(Speech::Coded(Codec::Pcmu, &[WORD; 160]), self.now).expect("room");
        }
    }

    fn run(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_millis(milliseconds);
        while self.now < end {
            for at in 0..2 {
                self.shake(at);
                self.send(at);
            }
            while let Some(heard) = self.ends[1].session.poll_heard(self.now) {
                if let Heard::Audio(frame) = heard {
                    let words = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == WORD).count();
                    self.heard_there += frame.coded.map_or(0, |(_, bytes)| words(bytes));
                }
            }
            while self.ends[0].session.poll_heard(self.now).is_some() {}
            self.now += Duration::from_millis(10);
        }
    }

    fn shake(&mut self, at: usize) {
        let (now, end) = (self.now, &mut self.ends[at]);
        while let Some((id, input)) = end.session.poll_handshake(now) {
            match input {
                HandshakeInput::Begin(peer) => {
                    self.begun += usize::from(at == 0);
                    let identity = end.others.as_ref().unwrap_or(&end.identity);
                    end.handshakes.insert(id, Handshake::new(identity, &peer, now).expect("begun"));
                }
                HandshakeInput::Datagram(bytes) => {
                    end.handshakes.get_mut(&id).expect("begun").handle_datagram(&bytes, now);
                }
            }
        }
        for (id, handshake) in &mut end.handshakes {
            handshake.handle_timeout(now);
            while let Some(output) = handshake.poll_output() {
                assert!(end.session.handle_handshake(*id, &output, now));
            }
        }
    }

    fn send(&mut self, at: usize) {
        let mut buffer = [0; 1500];
        while let Some(transmit) = self.ends[at].session.poll_transmit(&mut buffer, self.now) {
            let packet = &buffer[..transmit.bytes];
            if at == 0 {
                self.wire.push(packet.to_vec());
            }
            if self.is_cut {
                continue;
            }
            let far = &mut self.ends[1 - at].session;
            let from = [HERE, THERE][at];
            match transmit.channel {
                Channel::Rtp => far.handle_rtp(from, packet, self.now),
                Channel::Rtcp => far.handle_rtcp(SocketAddr::new(from.ip(), from.port() + 1), packet, self.now),
            }
        }
    }
}

fn session(negotiated: Negotiated, seed: u64, now: Instant) -> RtpSession {
    RtpSession::new(negotiated, [10, 0, 0, 9].into(), SpeechPool::default(), seed, now)
}

fn keying(theirs: Fingerprint, role: DtlsRole) -> Keying {
    Keying::Dtls(Box::new(DtlsPeer::new(vec![theirs], role)))
}

fn negotiated(remote: SocketAddr, rtcp_mux: bool, keying: Keying) -> Negotiated {
    let remote_rtcp = if rtcp_mux { remote } else { SocketAddr::new(remote.ip(), remote.port() + 1) };
    Negotiated { remote_rtcp, rtcp_mux, keying, ..Negotiated::plain(Codec::Pcmu, 0, remote) }
}
