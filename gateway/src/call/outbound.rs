//! Calls that the box places: our offer, their answer, and who speaks first.
//!
//! ```text
//!   dial ─▶ Invite ── Progressed ─▶ ringing ── Accepted ─▶ talking ── 1.5 s ─▶ the agent greets,
//!             │ nobody answers in time: End                                unless the called side has spoken
//!             └ Refused: Ended
//! ```

use std::net::IpAddr;
use std::time::{Duration, Instant};

use talkstack_control::port::{Blame, CallEvent, CallId, EndReason, Outcome};

use super::{AGENT_WAIT, Call, CallLimits, CallOutput, LegId, Line, LineSecurity, Phase};
use crate::route::Plan;

/// What a placed call waits for.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// It has been told that the called side rings.
    has_rung: bool,
    /// An answer ahead of the answer (RFC 3261 §13.2.1): the last one counts if the 200 has none.
    early_answer: Option<Vec<u8>>,
    /// When the agent opens the conversation.
    greets_at: Option<Instant>,
}

impl Call {
    /// Places a call: the offer and the agent's connection wait in [`Call::poll_output`].
    pub fn dial(id: CallId, plan: Plan, line: Line, limits: CallLimits, seed: u64, now: Instant) -> Self {
        let until = now + limits.ring_max;
        let mut call = Call::begin(id, plan, line, limits, seed, now);
        call.phase = Phase::Inviting { until };
        call.outbound = Some(Outbound::default());
        if !call.invite() {
            return call;
        }
        // An agent that talks as soon as it is connected is, when there is somebody to talk to.
        if !call.agent_talks_at_once() {
            call.summon_agent();
        }
        call
    }

    /// The call goes on with another trunk, which wants other keys or none.
    pub fn handle_carried(&mut self, security: LineSecurity) {
        let (Phase::Inviting { .. }, Some(outbound)) = (self.phase, &mut self.outbound) else { return };
        outbound.early_answer = None;
        self.leg.negotiation.secure(security);
        self.invite();
    }

    fn agent_talks_at_once(&self) -> bool {
        matches!(&self.plan, Plan::Service(plan) if plan.talks_at_once())
    }

    /// Has the INVITE sent with our offer; `false` when there can be none, which ends the call.
    fn invite(&mut self) -> bool {
        match self.leg.negotiation.handle_offer(None) {
            Ok(()) => self.outputs.push_back(CallOutput::Invite(LegId::First, self.leg.negotiation.local_sdp())),
            Err(reason) => self.end(Outcome::new(Blame::Operator, reason)),
        }
        self.phase != Phase::Over
    }

    /// The called side rings, or sends an answer ahead of the answer.
    pub fn handle_progressed(&mut self, leg: LegId, sdp: Option<&[u8]>, now: Instant) {
        if leg == LegId::Second {
            return self.handle_second_progressed(sdp, now);
        }
        let (Phase::Inviting { .. }, Some(outbound)) = (self.phase, &mut self.outbound) else { return };
        if let Some(sdp) = sdp {
            outbound.early_answer = Some(sdp.to_vec());
        }
        if !std::mem::replace(&mut outbound.has_rung, true) {
            self.outputs.push_back(CallOutput::Record(CallEvent::Ringing));
        }
    }

    /// The called side has answered, and has been acknowledged.
    pub fn handle_accepted(&mut self, leg: LegId, sdp: Option<&[u8]>, signalling: IpAddr, now: Instant) {
        if leg == LegId::Second {
            return self.handle_second_accepted(sdp, signalling, now);
        }
        let (Phase::Inviting { .. }, Some(outbound)) = (self.phase, &mut self.outbound) else { return };
        let early = outbound.early_answer.take();
        outbound.greets_at = Some(now + CALLED_SPEAKS_FIRST);
        if let Err(reason) = self.leg.handle_called_answer(sdp.or(early.as_deref()), signalling) {
            return self.end(Outcome::new(Blame::Trunk, reason));
        }
        let awaits_agent = !self.agent.is_ready();
        self.phase = Phase::Answered { agent_due: awaits_agent.then_some(now + AGENT_WAIT) };
        self.record_answer(now);
        if self.agent_talks_at_once() {
            self.summon_agent();
        }
        self.start_session(LegId::First, now);
    }

    /// Has the agent open the conversation when it is time to.
    pub(super) fn greet_if_due(&mut self, now: Instant) {
        if let Some(outbound) = &mut self.outbound
            && outbound.greets_at.is_some_and(|at| at <= now)
        {
            outbound.greets_at = None;
            self.agent.greet();
            self.talk(now);
        }
    }

    /// An agent that comes when it should have opened the conversation does so at once.
    pub(super) fn greet_if_late(&mut self) {
        let is_late = matches!(self.phase, Phase::Answered { .. })
            && self.outbound.as_ref().is_some_and(|outbound| outbound.greets_at.is_none());
        if is_late {
            self.agent.greet();
        }
    }

    /// When the agent is to open the conversation.
    pub(super) fn greets_at(&self) -> Option<Instant> {
        self.outbound.as_ref()?.greets_at
    }

    /// Nobody has answered in time.
    pub(super) fn give_up_ringing(&mut self) {
        self.end(Outcome::new(Blame::Caller, EndReason::NoAnswer));
    }
}

/// 1.5 s: people say their name first; who does not is greeted.
const CALLED_SPEAKS_FIRST: Duration = Duration::from_millis(1500);
