//! Transfers by one who talks to another, or to an agent: another line takes the place of the one who asks (RFC 3515,
//! RFC 5589).
//!
//! ```text
//!   REFER ─▶ who asks is parked, and hears nothing ─▶ the target rings, the other hears it ring
//!              ├ answered ─▶ who asked is told so and is gone
//!              └ nobody   ─▶ who asked is told why and is back
//! ```
//!
//! An agent that stays hears silence while it rings, and then whoever comes.

use std::f32::consts::TAU;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use talkstack_control::port::{Blame, EndReason, Outcome};
use talkstack_media::audio::frame::{SampleRate, Speech};
use talkstack_media::session::Heard;

use super::bridge::{Bridge, Waits};
use super::collect::silence;
use super::leg::Leg;
use super::{Call, CallOutput, LegId, Line, Phase};
use crate::route::BridgePlan;

/// The leg of the one who has asked for a transfer.
#[derive(Debug)]
pub(super) enum Parked {
    /// Nobody has asked, or who has asked is gone.
    None,
    /// It waits for what becomes of it.
    Waiting(Box<Leg>),
    /// It is back on the bridge; what is on its way to the parked one is for it.
    Back,
}

impl Call {
    /// One who talks asks to have another line take its place. SIP has moved the dialogs already: who stays is the first
    /// leg, unless it is an agent; who asks is parked.
    pub fn handle_transfer(&mut self, from: LegId, plan: &BridgePlan, now: Instant) {
        let mut bridge = Bridge::new(plan);
        let leaving = match self.bridge.take() {
            Some(mut former) => {
                let Some(mut leaving) = former.leg.take() else { return };
                if from == LegId::First {
                    std::mem::swap(&mut self.leg, &mut leaving);
                }
                bridge.rings_at = Some(now);
                leaving
            }
            None => {
                self.tape.handle_cleared(now);
                bridge.agent_waits = Waits::ForTheLine;
                let vacant = self.leg.vacant();
                std::mem::replace(&mut self.leg, vacant)
            }
        };
        if let Some(session) = &mut self.leg.session {
            session.clear();
        }
        bridge.parked = Parked::Waiting(Box::new(leaving));
        self.lead(bridge, now);
    }

    /// Who was called for advice has a call of their own: this one ends, and their leg goes to the call that it is for.
    /// SIP has let go of the dialogs.
    pub fn give_leg(&mut self, leg: LegId) -> Option<Leg> {
        let stays = self.bridge.take()?.leg?;
        let given = match leg {
            LegId::First => std::mem::replace(&mut self.leg, stays),
            LegId::Second | LegId::Parked => stays,
        };
        self.finish(Outcome::new(Blame::Caller, EndReason::HungUp));
        Some(given)
    }

    /// Another call's leg takes the place of this one.
    pub fn take_leg(&mut self, at: LegId, mut leg: Leg) {
        if let Some(place) = self.leg_mut(at) {
            leg.follow(place);
            *place = leg;
        }
    }

    /// Another line takes the place of a leg's (RFC 3891). `false`: it is refused, and the leg stays as it is.
    pub fn handle_replaced(&mut self, at: LegId, line: Line, sdp: Option<&[u8]>, seed: u64, now: Instant) -> bool {
        let mut leg = Leg::new(line, seed);
        let is_up = matches!(self.phase, Phase::Answered { .. } | Phase::Leading);
        let is_usable = is_up && leg.negotiation.handle_offer(sdp).is_ok();
        let answer = leg.negotiation.local_sdp();
        let Some(place) = self.leg_mut(at).filter(|_| is_usable) else {
            self.refuse_replacement(at);
            return false;
        };
        leg.follow(place);
        *place = leg;
        self.outputs.push_back(CallOutput::Answer(at, answer));
        match at {
            LegId::Second => self.begin_bridge(now),
            LegId::First | LegId::Parked => {
                self.leg.watch.start(now);
                self.start_session(at, now);
            }
        }
        true
    }

    /// No other line takes the place of a leg's.
    pub fn refuse_replacement(&mut self, at: LegId) {
        self.outputs.push_back(CallOutput::RefuseReOffer(at));
    }

    /// The line that takes the place of the one who asked has answered.
    pub(super) fn complete_transfer(&mut self) {
        let Some(bridge) = &mut self.bridge else { return };
        bridge.rings_at = None;
        if let Parked::Waiting(_) = std::mem::replace(&mut bridge.parked, Parked::None) {
            self.outputs.push_back(CallOutput::Transferred);
        }
        if let (Phase::Answered { .. }, Some(session)) = (self.phase, &mut self.leg.session) {
            session.clear();
        }
    }

    /// The line that was called for an agent has answered: it is the first leg from here on.
    pub(super) fn give_agent_the_line(&mut self, now: Instant) {
        let Some(mut leg) = self.bridge.take().and_then(|bridge| bridge.leg) else { return };
        leg.follow(&self.leg);
        self.leg = leg;
        self.leg.watch.start(now);
        self.outputs.extend([CallOutput::Transferred, CallOutput::Promote]);
        self.start_session(LegId::First, now);
    }

    /// Nobody has answered: who asked is back, if they are still there.
    pub(super) fn undo_transfer(&mut self, failure: Outcome, now: Instant) -> bool {
        let Some(bridge) = &mut self.bridge else { return false };
        match std::mem::replace(&mut bridge.parked, Parked::Back) {
            Parked::Waiting(mut leg) => {
                // What was missed meanwhile is not waited for.
                leg.start(&self.speech, now);
                let place = if bridge.agent_waits == Waits::ForTheLine {
                    self.leg = *leg;
                    self.bridge = None;
                    LegId::First
                } else {
                    bridge.restore(*leg);
                    LegId::Second
                };
                if let Some(session) = &mut self.leg.session {
                    session.clear();
                }
                self.outputs.push_back(CallOutput::Restore(place, failure));
                true
            }
            other => {
                bridge.parked = other;
                false
            }
        }
    }

    /// Nobody hears who waits for what becomes of a transfer; an agent that waits as well hears silence.
    pub(super) fn listen_to_parked(&mut self, now: Instant) {
        let Some(bridge) = &mut self.bridge else { return };
        let Parked::Waiting(leg) = &mut bridge.parked else { return };
        let Some(session) = &mut leg.session else { return };
        while let Some(heard) = session.poll_heard(now) {
            if let (Heard::Audio(frame) | Heard::Held(frame), true) = (heard, bridge.agent_waits == Waits::ForTheLine) {
                silence(&frame).for_each(|silence| self.agent.handle_held(&silence));
            }
        }
    }

    /// Has who waits on an answered leg hear it ring.
    pub(super) fn ring_back_if_due(&mut self, now: Instant) {
        let Some(bridge) = &mut self.bridge else { return };
        if bridge.rings_at.is_none_or(|at| at > now) {
            return;
        }
        // The far end's own ringing has come, or nobody hears.
        if bridge.has_sound() || self.leg.is_held() {
            bridge.rings_at = None;
            return;
        }
        bridge.rings_at = Some(now + CADENCE);
        if let Some(session) = &mut self.leg.session {
            // Without memory for it, it rings unheard.
            let _ = session.play(Speech::Samples(SampleRate::Hz8000, &RINGING), now);
        }
    }
}

/// A second of the tone, at -16 dBFS.
static RINGING: LazyLock<Vec<i16>> =
    LazyLock::new(|| (0..8000).map(|at| (5000.0 * (TAU * TONE_HZ * at as f32 / 8000.0).sin()) as i16).collect());

/// 425 Hz (ITU-T E.180).
const TONE_HZ: f32 = 425.0;

/// A second of tone and four of silence (ITU-T E.180).
const CADENCE: Duration = Duration::from_secs(5);
