//! One leg of a call: what was agreed on with one far end, and the sound that goes to it and comes from it.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use talkstack_control::port::EndReason;
use talkstack_media::audio::pool::SpeechPool;
use talkstack_media::session::RtpSession;

use super::Line;
use super::ear::Ear;
use super::early::EarlyPackets;
use super::offer::Negotiation;
use super::watch::Watch;

/// Which of a call's legs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LegId {
    /// The one the call began with: the caller's, or that of the number the box has called.
    First,
    /// The one it was led on to.
    Second,
    /// That of one who has asked for a transfer and waits for what becomes of it.
    Parked,
}

impl LegId {
    /// The one at the other end of the bridge.
    pub fn other(self) -> Self {
        match self {
            LegId::First => LegId::Second,
            LegId::Second | LegId::Parked => LegId::First,
        }
    }
}

/// One leg: its description and, once there is one, its sound. It may move from one call to another.
#[derive(Debug)]
pub struct Leg {
    pub(super) negotiation: Negotiation,
    pub(super) session: Option<RtpSession>,
    pub(super) watch: Watch,
    pub(super) ear: Ear,
    early: EarlyPackets,
    seed: u64,
    /// How much had been queued for legs in this one's place before it.
    pushed_before: u64,
}

impl Leg {
    pub(super) fn new(line: Line, seed: u64) -> Self {
        Leg::of(Negotiation::new(line, seed), seed)
    }

    fn of(negotiation: Negotiation, seed: u64) -> Self {
        Leg {
            negotiation,
            session: None,
            watch: Watch::default(),
            ear: Ear::default(),
            early: EarlyPackets::default(),
            seed,
            pushed_before: 0,
        }
    }

    /// The place of a leg that has left, until another comes.
    pub(super) fn vacant(&self) -> Self {
        let mut vacant = Leg::of(self.negotiation.unbegun(), self.seed);
        vacant.follow(self);
        vacant
    }

    /// Comes in the place of another leg: what has been queued for that one is not for this one, and counts.
    pub(super) fn follow(&mut self, former: &Leg) {
        self.pushed_before = former.pushed();
        self.ear.follow(&former.ear);
        if let Some(session) = &mut self.session {
            session.follow(self.pushed_before);
        }
    }

    /// Speech queued since the call began, in ticks of 125 µs.
    pub(super) fn pushed(&self) -> u64 {
        self.session.as_ref().map_or(self.pushed_before, RtpSession::pushed)
    }

    /// Speech that has left for the wire or was cleared, in ticks of 125 µs.
    pub(super) fn played(&self) -> u64 {
        self.session.as_ref().map_or(self.pushed_before, RtpSession::played)
    }

    /// Begins to send and to hear, or goes on as was agreed on anew: hold, resume, another address or codec.
    pub(super) fn start(&mut self, speech: &SpeechPool, now: Instant) {
        let Some(negotiated) = self.negotiation.agreed().cloned() else { return };
        match &mut self.session {
            Some(session) => session.renegotiate(negotiated, now),
            None => {
                let signalling = self.negotiation.signalling();
                let mut session = RtpSession::new(negotiated, signalling, speech.clone(), self.seed, now);
                session.trust(self.negotiation.networks());
                session.follow(self.pushed_before);
                for packet in self.early.take(now) {
                    session.handle_rtp(packet.source, &packet.bytes, packet.came_at);
                }
                self.session = Some(session);
            }
        }
    }

    /// A packet has come to the RTP port; `true` when there may be something to hear.
    pub(super) fn handle_rtp(&mut self, source: SocketAddr, packet: &[u8], now: Instant) -> bool {
        match &mut self.session {
            Some(session) => session.handle_rtp(source, packet, now),
            None if self.negotiation.awaits_answer() => self.early.keep(source, packet, now),
            None => {}
        }
        self.session.is_some()
    }

    /// The called side's answer, ahead of the answer or with it; without one the last that came counts.
    pub(super) fn handle_called_answer(&mut self, sdp: Option<&[u8]>, signalling: IpAddr) -> Result<(), EndReason> {
        if sdp.is_none() && self.negotiation.agreed().is_some() {
            return Ok(());
        }
        self.negotiation.handle_called_answer(sdp, signalling)
    }

    pub(super) fn is_held(&self) -> bool {
        self.session.as_ref().is_some_and(RtpSession::is_held)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.session.as_ref().map(|session| self.watch.due().into_iter().fold(session.poll_timeout(), Instant::min))
    }
}
