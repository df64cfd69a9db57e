//! The second leg: a caller is led on to another line, and the two are heard by each other.
//!
//! ```text
//!   lead ─▶ Placing ── handle_line ─▶ Calling ── Accepted ─▶ Talking ◀─ audio, keys ─▶ the first leg
//!              │                         │
//!              └─ refused, not reached, nobody answers ─▶ the next target ─▶ … ─▶ none: End
//! ```

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use talkstack_control::port::{Blame, CallEvent, EndReason, Outcome};
use talkstack_media::audio::recording::Origin;
use talkstack_media::session::{Heard, RtpSession};

use super::collect::silence;
use super::digits::pass_key_on;
use super::leg::Leg;
use super::transfer::Parked;
use super::{Call, CallOutput, LegId, Line, Phase, agent_of};
use crate::caller_id::Disclosure;
use crate::route::{BridgePlan, BridgeTarget};

/// A line to be called for a caller of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegOrder {
    /// Where it is.
    pub target: BridgeTarget,
    /// The caller as the far end is shown it where no trunk's rules decide.
    pub caller: String,
    /// Who calls, for people.
    pub caller_name: Option<String>,
    /// Whether the far end may know who calls.
    pub disclosure: Disclosure,
    /// The called number as it was dialled.
    pub called: String,
    /// Help is called.
    pub is_emergency: bool,
}

/// The second leg, and what is tried to get it.
#[derive(Debug)]
pub(super) struct Bridge {
    plan: BridgePlan,
    targets: VecDeque<BridgeTarget>,
    pub(super) leg: Option<Leg>,
    stage: Stage,
    /// How long the target that is being called may ring.
    ring: Duration,
    /// What the last target said.
    failure: Outcome,
    has_rung: bool,
    pub(super) parked: Parked,
    /// When who waits on an answered leg hears it ring next.
    pub(super) rings_at: Option<Instant>,
    pub(super) agent_waits: Waits,
}

/// What an agent waits for while another line is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// There is none.
    NoAgent,
    /// To talk to the line: there is no first leg.
    ForTheLine,
    /// To be let go, or to talk to its caller again.
    ForItsCaller,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The way to the line is looked for, to the instant at the most.
    Placing { until: Instant },
    /// Our INVITE is out; the line may ring to the instant at the most.
    Calling { until: Instant },
    /// It has answered.
    Talking,
}

impl Bridge {
    pub(super) fn new(plan: &BridgePlan) -> Box<Self> {
        Box::new(Bridge {
            targets: plan.targets.clone().into(),
            plan: BridgePlan { targets: Vec::new(), ..plan.clone() },
            leg: None,
            stage: Stage::Talking,
            ring: Duration::ZERO,
            failure: Outcome::new(Blame::Operator, EndReason::NotFound),
            has_rung: false,
            parked: Parked::None,
            rings_at: None,
            agent_waits: Waits::NoAgent,
        })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let stage = match self.stage {
            Stage::Placing { until } | Stage::Calling { until } => Some(until),
            Stage::Talking => None,
        };
        let leg = self.leg.as_ref().and_then(Leg::poll_timeout);
        [stage, leg, self.rings_at].into_iter().flatten().min()
    }

    /// Something is heard of the line that is being called.
    pub(super) fn has_sound(&self) -> bool {
        self.leg.as_ref().is_some_and(|leg| leg.session.is_some())
    }

    /// Has the leg on the bridge that was on it before.
    pub(super) fn restore(&mut self, leg: Leg) {
        (self.leg, self.stage, self.rings_at) = (Some(leg), Stage::Talking, None);
    }

    fn order(&self, target: BridgeTarget) -> Box<LegOrder> {
        let BridgePlan { caller, caller_name, disclosure, called, is_emergency, .. } = self.plan.clone();
        Box::new(LegOrder { target, caller, caller_name, disclosure, called, is_emergency })
    }
}

impl Call {
    /// The way to the line is known: its leg begins with our offer.
    pub fn handle_line(&mut self, line: Line, seed: u64, now: Instant) {
        let Some(bridge) = &mut self.bridge else { return };
        if !matches!(bridge.stage, Stage::Placing { .. }) {
            return;
        }
        let mut leg = Leg::new(line, seed);
        if let Err(reason) = leg.negotiation.handle_offer(None) {
            bridge.failure = Outcome::new(Blame::Operator, reason);
            self.outputs.push_back(CallOutput::End(LegId::Second, bridge.failure));
            return self.lead_on(now);
        }
        self.outputs.push_back(CallOutput::Invite(LegId::Second, leg.negotiation.local_sdp()));
        bridge.leg = Some(leg);
        bridge.stage = Stage::Calling { until: now + bridge.ring };
    }

    /// The line that was being called has refused, or cannot be reached: the next one is tried.
    pub fn handle_refused(&mut self, outcome: Outcome, now: Instant) {
        let Some(bridge) = &mut self.bridge else { return };
        if bridge.stage != Stage::Talking {
            bridge.failure = outcome;
            self.lead_on(now);
        }
    }

    /// Leads the caller on to the first target that answers.
    pub(super) fn lead(&mut self, bridge: Box<Bridge>, now: Instant) {
        if matches!(self.phase, Phase::Ringing { .. }) {
            self.phase = Phase::Leading;
        }
        self.bridge = Some(bridge);
        self.lead_on(now);
    }

    fn lead_on(&mut self, now: Instant) {
        let ring_max = self.ring_max;
        let Some(bridge) = &mut self.bridge else { return };
        bridge.leg = None;
        let (target, ring_s) = match bridge.targets.pop_front() {
            None => return self.give_up_leading(now),
            Some(BridgeTarget::Agent { plan, .. }) => {
                self.complete_transfer();
                self.let_agent_go();
                self.bridge = None;
                self.agent = agent_of(&plan, now);
                self.plan = *plan;
                match self.phase {
                    Phase::Answered { .. } => {
                        self.phase = Phase::Answered { agent_due: Some(now + super::AGENT_WAIT) };
                        self.summon_agent();
                        if self.agent.is_ready() {
                            self.begin_talk(now);
                        }
                    }
                    _ => {
                        self.phase = Phase::Ringing { until: now + super::ring_time(&self.plan) };
                        self.ring(now);
                    }
                }
                return;
            }
            Some(target) => {
                let (BridgeTarget::Extension { ring_s, .. } | BridgeTarget::Trunk { ring_s, .. }) = target else {
                    return;
                };
                (target, ring_s)
            }
        };
        bridge.stage = Stage::Placing { until: now + PLACING_MAX };
        bridge.ring = ring_s.map_or(ring_max, |seconds| Duration::from_secs(seconds.into()));
        let order = bridge.order(target);
        self.outputs.push_back(CallOutput::Lead(order));
    }

    fn give_up_leading(&mut self, now: Instant) {
        let Some(bridge) = &self.bridge else { return };
        let outcome = bridge.failure;
        if self.undo_transfer(outcome, now) || self.return_to_agent(outcome, now) {
            return;
        }
        let Some(bridge) = &self.bridge else { return };
        if let Some(status) = bridge.plan.refused_with.filter(|_| self.phase == Phase::Leading) {
            self.outputs.push_back(CallOutput::Refuse(status));
        }
        self.end(outcome);
    }

    /// Gives up a line that has rung, or been looked for, long enough.
    pub(super) fn lead_on_if_due(&mut self, now: Instant) {
        let Some(bridge) = &mut self.bridge else { return };
        let failure = match bridge.stage {
            Stage::Placing { until } if until <= now => Outcome::new(Blame::Trunk, EndReason::Unreachable),
            Stage::Calling { until } if until <= now => Outcome::new(Blame::Caller, EndReason::NoAnswer),
            _ => return,
        };
        bridge.failure = failure;
        self.outputs.push_back(CallOutput::End(LegId::Second, failure));
        self.lead_on(now);
    }

    pub(super) fn handle_second_progressed(&mut self, sdp: Option<&[u8]>, now: Instant) {
        let Some(bridge) = &mut self.bridge else { return };
        let (Stage::Calling { .. }, Some(leg)) = (bridge.stage, &mut bridge.leg) else { return };
        // An early answer that cannot be used is early media that is not heard.
        let signalling = leg.negotiation.signalling();
        let has_media = sdp.is_some() && leg.handle_called_answer(sdp, signalling).is_ok();
        let is_news = !std::mem::replace(&mut bridge.has_rung, true);
        if has_media {
            self.start_session(LegId::Second, now);
        }
        if self.phase != Phase::Leading || !(is_news || has_media) {
            return;
        }
        if has_media {
            let answer = self.leg.negotiation.local_sdp();
            self.tell_ringing(Some(answer));
            self.start_session(LegId::First, now);
        } else {
            self.tell_ringing(None);
        }
    }

    pub(super) fn handle_second_accepted(&mut self, sdp: Option<&[u8]>, signalling: IpAddr, now: Instant) {
        let Some(bridge) = &mut self.bridge else { return };
        let (Stage::Calling { .. }, Some(leg)) = (bridge.stage, &mut bridge.leg) else { return };
        if let Err(reason) = leg.handle_called_answer(sdp, signalling) {
            bridge.failure = Outcome::new(Blame::Trunk, reason);
            self.outputs.push_back(CallOutput::End(LegId::Second, bridge.failure));
            return self.lead_on(now);
        }
        self.begin_bridge(now);
    }

    /// The second leg has answered: the two talk.
    pub(super) fn begin_bridge(&mut self, now: Instant) {
        let Some(bridge) = &mut self.bridge else { return };
        if bridge.agent_waits == Waits::ForTheLine {
            return self.give_agent_the_line(now);
        }
        bridge.stage = Stage::Talking;
        self.let_agent_go();
        let Some(bridge) = &mut self.bridge else { return };
        if let Some(leg) = &mut bridge.leg {
            leg.watch.start(now);
        }
        self.complete_transfer();
        self.start_session(LegId::Second, now);
        if self.phase == Phase::Leading {
            self.phase = Phase::Answered { agent_due: None };
            self.answer(now);
        }
    }

    /// Tells the caller that it rings, and the journal the first time.
    pub(super) fn tell_ringing(&mut self, sdp: Option<String>) {
        self.outputs.push_back(CallOutput::Ring(sdp));
        if !std::mem::replace(&mut self.has_rung, true) {
            self.outputs.push_back(CallOutput::Record(CallEvent::Ringing));
        }
    }

    pub(super) fn second_mut(&mut self) -> Option<&mut Leg> {
        self.bridge.as_mut()?.leg.as_mut()
    }

    pub(super) fn parked_mut(&mut self) -> Option<&mut Leg> {
        match &mut self.bridge.as_mut()?.parked {
            Parked::Waiting(leg) => Some(leg),
            Parked::None | Parked::Back => None,
        }
    }

    /// The second leg's dialog is over, or that of a leg which waits beside it.
    pub(super) fn handle_far_ended(&mut self, leg: LegId, outcome: Outcome, now: Instant) {
        let Some(bridge) = &mut self.bridge else { return };
        match (leg, &bridge.parked) {
            (LegId::Parked, Parked::Waiting(_)) => bridge.parked = Parked::None,
            (LegId::Parked, Parked::None) => {}
            _ if bridge.stage == Stage::Talking => {
                self.outputs.push_back(CallOutput::End(LegId::First, outcome));
                self.finish(outcome);
            }
            _ => self.handle_refused(outcome, now),
        }
    }

    /// A leg on hold misses what the other says meanwhile; what is on its way belongs to the past when it is back.
    pub(super) fn forget_unheard(&mut self, leg: LegId) {
        let is_bridged = self.bridge.is_some();
        if let Some(session) = self.leg_mut(leg).and_then(|leg| leg.session.as_mut())
            && is_bridged
            && session.is_held()
        {
            session.clear();
        }
    }

    /// Has each leg hear what the other says.
    pub(super) fn relay(&mut self, now: Instant) {
        self.listen_to_parked(now);
        let agent_waits = self.is_agent_waiting();
        let second = self.bridge.as_mut().and_then(|bridge| bridge.leg.as_mut());
        let mut second = second.and_then(|leg| leg.session.as_mut());
        if let Some(first) = &mut self.leg.session {
            while let Some(heard) = first.poll_heard(now) {
                self.tape.handle_heard(&heard, now);
                if let (Heard::Audio(frame) | Heard::Held(frame), true) = (&heard, agent_waits) {
                    silence(frame).for_each(|silence| self.agent.handle_held(&silence));
                }
                match (heard, &mut second) {
                    // Whose keys are collected is not heard, by any way that keys come.
                    (Heard::Audio(_), _) if self.collection.is_some() => {}
                    (Heard::Digit(key), _) if self.collection.as_mut().is_some_and(|its| its.takes(key, now)) => {}
                    (Heard::Digit(key), Some(second)) => {
                        pass_key_on(key, first, (LegId::Second, second), &mut self.outputs);
                    }
                    (heard, Some(second)) => pass_on(heard, second, now),
                    (_, None) => {}
                }
            }
        }
        if let Some(second) = second {
            while let Some(heard) = second.poll_heard(now) {
                match (heard, &mut self.leg.session) {
                    (Heard::Digit(key), Some(first)) => {
                        pass_key_on(key, second, (LegId::First, first), &mut self.outputs);
                    }
                    (heard, Some(first)) => pass_on(heard, first, now),
                    (_, None) => {}
                }
            }
        }
    }
}

/// Plays to one leg what the other heard. A leg that holds is told nothing, and one that holds us says nothing.
fn pass_on(heard: Heard<'_>, to: &mut RtpSession, now: Instant) {
    match heard {
        Heard::Digit(_) | Heard::Held(_) => {}
        Heard::Audio(frame) => {
            let peak = || frame.samples.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0);
            let queued = to.queued();
            // Two clocks are never alike: what has piled up goes where it is not heard, and else where it must.
            let is_dropped = queued >= DELAY_MAX || queued >= DELAY_WANTED && peak() < QUIET;
            let is_missing = frame.origin == Origin::Silence;
            if is_dropped || is_missing || to.is_held() {
                return;
            }
            // Without memory for it there is a hole, and the next frame finds some.
            let _ = to.play(frame.speech(), now);
        }
    }
}

/// 10 s to find the way to a line: a name that has never been resolved takes 6 s.
const PLACING_MAX: Duration = Duration::from_secs(10);

/// 80 ms: four frames, what a network's jitter piles up for a moment.
const DELAY_WANTED: Duration = Duration::from_millis(80);

/// 200 ms on the bridge, above which talkers fall into each other's words.
const DELAY_MAX: Duration = Duration::from_millis(200);

/// -46 dBFS: below any speech, above the noise of a room on a good phone.
const QUIET: u16 = 160;

#[cfg(test)]
mod tests;
