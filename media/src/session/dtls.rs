//! The handshakes that a session's keys come from (RFC 5764): what they are told, and what comes of them.
//!
//! ```text
//!   agreed ─▶ Begin ─▶ handshake, off the media thread ◀─▶ datagrams
//!               ▲            ├─▶ keys ─▶ SRTP
//!               └── 1 s ─────┴─▶ failed; four times at the most, then nothing is said or heard
//! ```
//!
//! RTCP on a port of its own has an association and keys of its own (RFC 5764 §3). Until there are keys nothing leaves and
//! nothing is heard; what is to be said waits.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Channel, RtpSession, Transmit};
use crate::dtls::{DtlsError, HandshakeOutput, is_client_hello};
use crate::sdp::{DtlsPeer, DtlsRole};

/// Which handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandshakeId {
    /// The source of what the session sends: no other leg of a call has it.
    pub ssrc: u32,
    /// Which of the session's, from 1.
    pub number: u32,
}

/// What a handshake is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeInput {
    /// Begin with this far end.
    Begin(Box<DtlsPeer>),
    /// A datagram of its own has come.
    Datagram(Vec<u8>),
}

/// What a session has of its handshakes.
#[derive(Debug)]
pub(super) struct Dtls {
    peer: DtlsPeer,
    ssrc: u32,
    /// RTCP shares the port and the keys of RTP.
    is_muxed: bool,
    /// Of RTP and of RTCP.
    associations: [Association; 2],
    begun: u8,
    number: u32,
    failure: Option<DtlsError>,
    inputs: VecDeque<(HandshakeId, HandshakeInput)>,
    outputs: VecDeque<(Channel, Vec<u8>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Association {
    /// Ours to begin at the instant, or theirs at any time.
    Due(Instant),
    Shaking(u32),
    Keyed(u32),
}

impl Dtls {
    /// Another association with this far end, behind the one that was.
    pub(super) fn new(peer: DtlsPeer, is_muxed: bool, ssrc: u32, former: Option<&Dtls>, now: Instant) -> Self {
        Dtls {
            peer,
            ssrc: former.map_or(ssrc, |former| former.ssrc),
            is_muxed,
            associations: [Association::Due(now); 2],
            begun: 0,
            number: former.map_or(0, |former| former.number),
            failure: None,
            inputs: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The same far end has been agreed on again.
    pub(super) fn keep_on(&mut self, is_muxed: bool) {
        self.is_muxed = is_muxed;
    }

    pub(super) fn is_with(&self, peer: &DtlsPeer) -> bool {
        self.peer.keeps_the_association(peer)
    }

    /// RTCP has, or is to have, keys of its own.
    pub(super) fn has_control_keys(&self) -> bool {
        !self.is_muxed
    }

    /// Takes a datagram in; one that is too much is sent again.
    fn keep(&mut self, channel: Channel, datagram: &[u8]) {
        if channel == Channel::Rtcp && self.is_muxed {
            return;
        }
        if self.peer.role == Some(DtlsRole::Server)
            && matches!(self.associations[channel as usize], Association::Due(_))
            && is_client_hello(datagram)
        {
            self.begin(channel);
        }
        let (Association::Shaking(number) | Association::Keyed(number)) = self.associations[channel as usize] else {
            return;
        };
        if self.inputs.len() < DATAGRAMS_MAX {
            let id = HandshakeId { ssrc: self.ssrc, number };
            self.inputs.push_back((id, HandshakeInput::Datagram(datagram.to_vec())));
        }
    }

    fn begin(&mut self, channel: Channel) {
        if self.begun < ASSOCIATIONS_MAX {
            self.begun += 1;
            self.number = self.number.wrapping_add(1);
            self.associations[channel as usize] = Association::Shaking(self.number);
            let id = HandshakeId { ssrc: self.ssrc, number: self.number };
            self.inputs.push_back((id, HandshakeInput::Begin(Box::new(self.peer.clone()))));
        }
    }

    /// The associations that are ours to begin, and when.
    fn due(&self) -> impl Iterator<Item = (Channel, Instant)> {
        let is_ours = self.peer.role == Some(DtlsRole::Client) && self.begun < ASSOCIATIONS_MAX;
        let channels = [Channel::Rtp, Channel::Rtcp].into_iter().take(if self.is_muxed { 1 } else { 2 });
        channels.filter(move |_| is_ours).filter_map(|channel| match self.associations[channel as usize] {
            Association::Due(at) => Some((channel, at)),
            Association::Shaking(_) | Association::Keyed(_) => None,
        })
    }

    fn poll(&mut self, now: Instant) -> Option<(HandshakeId, HandshakeInput)> {
        let mut due = [None; 2];
        self.due().filter(|(_, at)| *at <= now).zip(&mut due).for_each(|((channel, _), due)| *due = Some(channel));
        due.into_iter().flatten().for_each(|channel| self.begin(channel));
        self.inputs.pop_front()
    }

    /// When to poll next.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let is_waiting = !self.outputs.is_empty() || !self.inputs.is_empty();
        self.due().map(|(_, at)| at).chain(is_waiting.then_some(now)).min()
    }

    /// The association of a handshake, unless it is one of the past.
    fn channel_of(&self, number: u32) -> Option<Channel> {
        [Channel::Rtp, Channel::Rtcp].into_iter().find(|channel| {
            let (Association::Shaking(own) | Association::Keyed(own)) = self.associations[*channel as usize] else {
                return false;
            };
            own == number
        })
    }
}

impl RtpSession {
    /// What one of the session's handshakes is to be told next; drain to `None`.
    pub fn poll_handshake(&mut self, now: Instant) -> Option<(HandshakeId, HandshakeInput)> {
        self.dtls_mut()?.poll(now)
    }

    /// Takes what a handshake wants done; `false` when it is none of this session's.
    pub fn handle_handshake(&mut self, id: HandshakeId, output: &HandshakeOutput, now: Instant) -> bool {
        let Some(dtls) = self.dtls_mut().filter(|dtls| dtls.ssrc == id.ssrc) else { return false };
        let Some(channel) = dtls.channel_of(id.number) else { return true };
        let association = &mut dtls.associations[channel as usize];
        match (output, *association) {
            (HandshakeOutput::Send(datagram), _) => {
                if dtls.outputs.len() < DATAGRAMS_MAX {
                    dtls.outputs.push_back((channel, datagram.clone()));
                }
            }
            (HandshakeOutput::Failed(error), Association::Shaking(_)) => {
                *association = Association::Due(now + AGAIN);
                // Of all that went wrong, that somebody else was there says most.
                dtls.failure = dtls.failure.filter(|failure| *failure == DtlsError::Certificate).or(Some(*error));
            }
            (HandshakeOutput::Keyed(keys), Association::Shaking(number)) => {
                *association = Association::Keyed(number);
                if channel == Channel::Rtp {
                    dtls.failure = None;
                }
                self.handle_keys(channel, keys, now);
            }
            (HandshakeOutput::Failed(_) | HandshakeOutput::Keyed(_), _) => {}
        }
        true
    }

    /// Tells why there are no keys yet: how the last handshake failed. `None` while none has, or once there are some.
    pub fn handshake_failure(&self) -> Option<DtlsError> {
        self.secure.as_ref()?.dtls()?.failure
    }

    /// A datagram that is DTLS has come.
    pub(super) fn handle_dtls(&mut self, channel: Channel, source: SocketAddr, datagram: &[u8]) {
        // Without ICE nobody but the description and proof of its own names a source: whoever is first with a ClientHello
        // is nobody yet.
        let is_named = match channel {
            Channel::Rtp => self.input.latch.names(source),
            Channel::Rtcp => self.control_latch.names(source),
        };
        match self.dtls_mut().filter(|_| is_named) {
            Some(dtls) => dtls.keep(channel, datagram),
            None => self.refused_packets += 1,
        }
    }

    /// Writes the next datagram of a handshake into `packet`.
    pub(super) fn poll_dtls(&mut self, packet: &mut [u8]) -> Option<Transmit> {
        let (channel, datagram) = self.dtls_mut()?.outputs.pop_front()?;
        packet.get_mut(..datagram.len())?.copy_from_slice(&datagram);
        let to = match channel {
            Channel::Rtp => self.input.latch.destination(),
            Channel::Rtcp => self.control_latch.destination(),
        };
        Some(Transmit { channel, to, bytes: datagram.len() })
    }

    fn dtls_mut(&mut self) -> Option<&mut Dtls> {
        self.secure.as_mut()?.dtls_mut()
    }
}

/// RFC 7983 §7: what begins with 20 to 63 is DTLS.
pub(super) fn is_dtls(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| (20..=63).contains(first))
}

/// 4 associations: RTP's, RTCP's, and two more when one fails.
const ASSOCIATIONS_MAX: u8 = 4;

/// 1 s between one and the next: a far end that has just refused has not changed its mind yet.
const AGAIN: Duration = Duration::from_secs(1);

/// 16 datagrams: two of the longest flights.
const DATAGRAMS_MAX: usize = 16;

#[cfg(test)]
mod tests;
