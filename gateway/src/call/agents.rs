//! A call's agent: it comes, talks, and is replaced by the attendant when it is gone.

use std::time::{Duration, Instant};

use talkstack_control::port::{Blame, CallEvent, EndReason, Outcome, Utterance};
use talkstack_media::codec::Codec;
use talkstack_media::session::{NotQueued, RtpSession};

use super::bridge::Waits;
use super::{Call, CallOutput, Phase};
use crate::agent::attendant::Attendant;
use crate::agent::departed::Departed;
use crate::agent::service::{CallFacts, ServiceSession};
use crate::agent::{AgentLoss, AgentOutput, AgentSession, Progress, Said};
use crate::route::Plan;

impl Call {
    /// The agent's connection is up; `leftover` came with its handshake.
    pub fn handle_connected(&mut self, leftover: &[u8], now: Instant) {
        if !self.waits_for_agent() {
            self.outputs.push_back(CallOutput::Disconnect(Vec::new()));
            return;
        }
        let codec = self.leg.negotiation.agreed().map_or(Codec::Pcmu, |agreed| agreed.codec);
        let Plan::Service(plan) = &self.plan else { return };
        let facts = CallFacts { id: self.id, codec, seed: self.seed };
        self.agent = AgentSession::Service(ServiceSession::new(plan, facts));
        self.agent.handle_bytes(leftover);
        self.greet_if_late();
        if self.agent.is_ready() {
            self.begin_talk(now);
        } else {
            self.talk(now);
        }
    }

    /// The agent could not be reached.
    pub fn handle_unreachable(&mut self, now: Instant) {
        if self.waits_for_agent() && !self.refuse_for_agent() {
            self.take_over(now);
        }
    }

    /// Refuses a caller who has not been let in, where the agent's owner wants that; `false` where not.
    pub(super) fn refuse_for_agent(&mut self) -> bool {
        let status = match &self.plan {
            Plan::Service(plan) => plan.patience.refuse_with,
            _ => None,
        };
        let Some(status) = status.filter(|_| matches!(self.phase, Phase::Ringing { .. })) else { return false };
        tracing::warn!(call = %self.id, "The agent does not come; the caller is refused with {status}");
        self.outputs.push_back(CallOutput::Refuse(status));
        self.end(Outcome::new(Blame::Agent, EndReason::Unreachable));
        true
    }

    /// The agent may still come: the caller is not with the attendant yet.
    fn waits_for_agent(&self) -> bool {
        matches!(self.agent, AgentSession::Awaited) && self.phase != Phase::Over
    }

    /// Has the agent come: its connection made, or its name spoken.
    pub(super) fn summon_agent(&mut self) {
        let wish = match &self.plan {
            Plan::Service(plan) => CallOutput::Connect(plan.summons(), plan.session_limit()),
            Plan::Attendant { name: Some(name), .. } => {
                CallOutput::Speak(format!("You have reached {name}. Your call is answered by the attendant."))
            }
            Plan::Attendant { name: None, .. } | Plan::Echo | Plan::ToneTest | Plan::Bridge(_) => return,
        };
        self.outputs.push_back(wish);
    }

    /// Carries out what the agent wants, once there is sound. Before that an agent can only become ready; what it says
    /// before the called side has answered is said to nobody.
    pub(super) fn talk(&mut self, now: Instant) {
        while self.is_agent_heard() {
            let (progress, is_uninterruptible) = (self.progress(), self.is_uninterruptible());
            let is_waiting = self.is_agent_waiting();
            match self.agent.poll_output(progress, now) {
                None => return,
                Some(AgentOutput::Ready) => return self.begin_talk(now),
                Some(AgentOutput::Said(said)) => self.record_said(said),
                Some(AgentOutput::Clear) if is_uninterruptible => {}
                Some(AgentOutput::Clear) => self.clear(now),
                Some(AgentOutput::Pause) if is_uninterruptible => {}
                Some(AgentOutput::Pause) => self.leg.session.iter_mut().for_each(RtpSession::pause),
                Some(AgentOutput::GoOn) => self.leg.session.iter_mut().for_each(RtpSession::unpause),
                Some(AgentOutput::Play(_)) if self.bridge.is_some() => {}
                Some(AgentOutput::Play(speech)) => {
                    let Some(session) = &mut self.leg.session else { continue };
                    let queued = session.pushed();
                    let loss = match session.play(speech, now) {
                        Ok(()) => {
                            self.tape.handle_said(session, queued, now);
                            continue;
                        }
                        Err(NotQueued::QueueFull) => AgentLoss::Flood,
                        Err(NotQueued::PoolEmpty) => AgentLoss::NoRoom,
                    };
                    return self.lose_agent(loss, now);
                }
                Some(AgentOutput::Press(key)) => self.press(key),
                Some(AgentOutput::Run(number, errand)) => self.run(number, errand, now),
                Some(AgentOutput::Note(note)) => self.note(note),
                Some(AgentOutput::Transfer(to)) => self.outputs.push_back(CallOutput::PutThrough(to)),
                // Whoever takes its caller has them; where nobody does, they are not left alone.
                Some(AgentOutput::HangUp) if is_waiting => return self.lose_agent(AgentLoss::Closed, now),
                Some(AgentOutput::HangUp) => {
                    if !self.hear_out(None, now) {
                        return self.end(Outcome::new(Blame::Agent, EndReason::HungUp));
                    }
                }
                Some(AgentOutput::Lost(loss)) => {
                    if !self.hear_out(Some(loss), now) {
                        return self.lose_agent(loss, now);
                    }
                }
            }
        }
    }

    fn is_agent_heard(&mut self) -> bool {
        match self.phase {
            Phase::Inviting { .. } => self.agent.outbound().is_some(),
            _ => self.leg.session.is_some() || !self.agent.is_ready() || self.is_agent_waiting(),
        }
    }

    /// An agent that waits for what becomes of another line is heard by nobody; what it says is gone.
    pub(super) fn is_agent_waiting(&self) -> bool {
        self.bridge.as_ref().is_some_and(|bridge| bridge.agent_waits != Waits::NoAgent)
    }

    /// Has what a service has said heard to its end, when it goes while some of that is queued; `false` where there is
    /// nothing to be heard, or it was heard as long as it may be.
    fn hear_out(&mut self, loss: Option<AgentLoss>, now: Instant) -> bool {
        let is_worth_it = loss.is_none_or(AgentLoss::is_a_parting);
        let hear_out = match &self.plan {
            Plan::Service(plan) => Duration::from_secs(plan.settings.drain_s.unwrap_or(DRAIN_S).into()),
            _ => Duration::ZERO,
        };
        let is_service = matches!(self.agent, AgentSession::Service(_));
        // In the queue of a caller who is being put through is no word of its.
        let has_words = self.bridge.is_none() && !self.progress().is_drained();
        if !is_worth_it || !is_service || hear_out.is_zero() || !has_words {
            return false;
        }
        if let Some(loss) = loss {
            tracing::warn!(call = %self.id, "{loss}; what it has said is heard first");
        }
        // Ticks of 125 µs.
        let Progress { pushed, played } = self.progress();
        let heard = Progress { pushed, played: pushed.min(played + 8 * hear_out.as_millis() as u64) };
        while let Some(said) = self.agent.poll_last_words(heard) {
            self.record_said(said);
        }
        self.outputs.push_back(CallOutput::Disconnect(self.agent.stop(loss.map_or(1000, AgentLoss::code))));
        // Nobody is left to have it go on.
        self.leg.session.iter_mut().for_each(RtpSession::unpause);
        self.agent = AgentSession::Departed(Departed::new(now + hear_out, loss));
        true
    }

    /// The attendant takes the call; the dialog and the audio clock stay as they are.
    pub(super) fn lose_agent(&mut self, loss: AgentLoss, now: Instant) {
        tracing::warn!(call = %self.id, "{loss}; the attendant takes over");
        self.record_last_words();
        self.outputs.push_back(CallOutput::Disconnect(self.agent.stop(loss.code())));
        self.clear(now);
        if !self.refuse_for_agent() {
            self.take_over(now);
        }
    }

    /// Forgets what is queued.
    fn clear(&mut self, now: Instant) {
        if let Some(session) = &mut self.leg.session {
            session.clear();
            self.leg.ear.handle_cleared();
            self.tape.handle_cleared(now);
        }
    }

    pub(super) fn take_over(&mut self, now: Instant) {
        self.agent = AgentSession::Attendant(Attendant::apologising());
        self.begin_talk(now);
    }

    /// Records what was said and has not been, as far as it was heard.
    pub(super) fn record_last_words(&mut self) {
        let progress = self.progress();
        while let Some(said) = self.agent.poll_last_words(progress) {
            self.record_said(said);
        }
    }

    fn record_said(&mut self, said: Said) {
        let since_answer = self.answered().map(|at| said.began.saturating_duration_since(at)).unwrap_or_default();
        // A call of 584 million years fits.
        let at_ms = since_answer.as_millis() as u64;
        let utterance = Utterance { speaker: said.speaker, text: said.text, at_ms };
        self.outputs.push_back(CallOutput::Record(CallEvent::Said(utterance)));
    }

    fn progress(&self) -> Progress {
        Progress { pushed: self.leg.pushed(), played: self.leg.played() }
    }
}

/// 10 s: three sentences, of which the caller has heard the first words.
const DRAIN_S: u8 = 10;

#[cfg(test)]
mod tests;
