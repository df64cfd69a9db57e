//! One call: a leg, an agent or another leg, and what goes on between them.
//!
//! ```text
//!              Offered                     Answer, Ring, Refuse, HangUp
//!   SIP ─────────────────▶ ┌──────────┐ ─────────────────────────────────▶ SIP
//!   RTP of each leg ─────▶ │   Call   │ ─────────────────────────────────▶ RTP of each leg
//!   agent's socket ──────▶ └──────────┘ ─────────────────────────────────▶ agent's socket, journal
//! ```
//!
//! `Call` only wires machines: negotiation is [`talkstack_media::sdp`]'s, sound is
//! [`talkstack_media::session::RtpSession`]'s, talk is [`AgentSession`]'s. It owns no socket, so whole calls run in
//! virtual time.

mod agents;
mod barge_in;
mod bridge;
mod collect;
mod digits;
mod ear;
mod early;
mod errands;
mod handshakes;
mod leg;
mod moved;
mod offer;
mod outbound;
mod put_through;
mod quality;
mod tape;
#[cfg(test)]
mod tests;
mod transfer;
mod watch;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use talkstack_control::port::{
    Blame, CallEvent, CallId, CallLeg, CollectEnd, Collected, EndReason, LegQuality, Outcome,
};
use talkstack_media::audio::pool::SpeechPool;
use talkstack_media::session::{Exchange, Transmit};
use talkstack_media::sip::InfoDigit;

use bridge::Bridge;
pub use bridge::LegOrder;
use collect::Collection;
pub use leg::{Leg, LegId};
pub use offer::{LegAddress, Line, LineSecurity, Offer};
use outbound::Outbound;
use tape::Tape;

use crate::agent::attendant::Attendant;
use crate::agent::echo::Echo;
use crate::agent::http_tool::Prepared;
use crate::agent::tone_test::{ToneHeard, ToneTest};
use crate::agent::{AgentLoss, AgentSession, Destination};
use crate::io::connect::{AgentTarget, SessionLimit};
use crate::route::Plan;

/// One call of ours, from the offer to its outcome.
#[derive(Debug)]
pub struct Call {
    id: CallId,
    plan: Plan,
    phase: Phase,
    leg: Leg,
    agent: AgentSession,
    outputs: VecDeque<CallOutput>,
    ends_at: Instant,
    speech: SpeechPool,
    /// What a call that the box has placed waits for besides.
    outbound: Option<Outbound>,
    tape: Tape,
    /// The second leg, where there is one or is to be one.
    bridge: Option<Box<Bridge>>,
    ring_max: Duration,
    has_rung: bool,
    /// Keys that are being collected behind the agent's back.
    collection: Option<Box<Collection>>,
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Our INVITE is out; the called side may ring to the instant at the most.
    Inviting { until: Instant },
    /// The caller hears ringing while the agent connects, to the instant at the most.
    Ringing { until: Instant },
    /// Another line is being called for a caller who waits.
    Leading,
    /// The 200 is out. Without an agent yet, the attendant takes over at the instant.
    Answered { agent_due: Option<Instant> },
    /// The outcome is known.
    Over,
}

/// What a call wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum CallOutput {
    /// Find the way to another line; [`Call::handle_line`] or [`Call::handle_refused`] answers.
    Lead(Box<LegOrder>),
    /// Send an INVITE with this offer.
    Invite(LegId, String),
    /// Send 180 to the caller, or 183 with this SDP.
    Ring(Option<String>),
    /// Send 200 with this SDP, to the INVITE or to the re-INVITE that is open.
    Answer(LegId, String),
    /// Send a re-INVITE with this offer; [`Call::handle_reanswered`] or [`Call::handle_reoffer_failed`] tells the rest.
    ReOffer(LegId, String),
    /// Refuse the re-INVITE that is open with 488; the call goes on as it was.
    RefuseReOffer(LegId),
    /// Refuse the caller with this status, as a rule of the owner's says.
    Refuse(u16),
    /// End the dialog: a final response or CANCEL before the answer, BYE after it.
    End(LegId, Outcome),
    /// Write to the journal how a leg sounds. Not yet as a record, which is made on the heap.
    Sounds(CallLeg, LegQuality),
    /// Write to the journal.
    Record(CallEvent),
    /// Ask within the dialog whether the far end is there.
    Probe(LegId),
    /// Press a key within the dialog of a leg (SIP INFO).
    Press(LegId, InfoDigit),
    /// Find the way for a caller whom the agent puts through; [`Call::put_through`] answers.
    PutThrough(Destination),
    /// Connect to the agent, unless its provider has as many sessions as it may have.
    Connect(AgentTarget, Option<SessionLimit>),
    /// Have this text spoken.
    Speak(String),
    /// Write these last bytes to the agent's connection and forget it.
    Disconnect(Vec<u8>),
    /// Ask a web service for the agent; [`Call::handle_fetched`] answers, under this number.
    Fetch(u32, Box<Prepared>),
    /// Keys have been collected.
    Collected(Collected),
    /// A test call has heard this, and its packets have gone so.
    Measured(ToneHeard, Exchange),
    /// The one who has asked for a transfer has been replaced: tell them, and let them go.
    Transferred,
    /// Nobody came in the place of the one who has asked for a transfer: tell them why; they are this leg again.
    Restore(LegId, Outcome),
    /// The second leg is the first from here on: it talks to the agent.
    Promote,
    /// The call is over; drop it.
    Finished,
}

/// The limits a call lives under.
#[derive(Debug, Clone)]
pub struct CallLimits {
    /// What queued speech comes out of, shared by all calls.
    pub speech: SpeechPool,
    /// From the offer to the BYE at the most.
    pub duration_max: Duration,
    /// How long a called side may ring.
    pub ring_max: Duration,
}

impl Call {
    /// Takes an offered call. What comes of it waits in [`Call::poll_output`].
    pub fn new(id: CallId, plan: Plan, offer: Offer<'_>, limits: CallLimits, seed: u64, now: Instant) -> Self {
        let mut call = Call::begin(
            id,
            plan,
            Line { local: offer.local, signalling: offer.signalling, security: offer.security },
            limits,
            seed,
            now,
        );
        match call.leg.negotiation.handle_offer(offer.sdp) {
            Ok(()) => call.ring(now),
            Err(reason) => call.end(Outcome::new(Blame::Caller, reason)),
        }
        call
    }

    fn begin(id: CallId, plan: Plan, line: Line, limits: CallLimits, seed: u64, now: Instant) -> Self {
        let agent = agent_of(&plan, now);
        Call {
            id,
            phase: Phase::Ringing { until: now + ring_time(&plan) },
            plan,
            leg: Leg::new(line, seed),
            agent,
            outputs: VecDeque::new(),
            ends_at: now + limits.duration_max,
            speech: limits.speech,
            outbound: None,
            tape: Tape::default(),
            bridge: None,
            ring_max: limits.ring_max,
            has_rung: false,
            collection: None,
            seed,
        }
    }

    /// Our name for the call.
    pub fn id(&self) -> CallId {
        self.id
    }

    /// The ACK has come; with late offer it carries the answer.
    pub fn handle_acknowledged(&mut self, leg: LegId, sdp: Option<&[u8]>, now: Instant) {
        let Some(negotiated) = self.leg_mut(leg).map(|leg| leg.negotiation.handle_answer(sdp)) else { return };
        match negotiated {
            Ok(true) => self.start_session(leg, now),
            Ok(false) => {}
            Err(reason) => self.end(Outcome::new(Blame::Caller, reason)),
        }
    }

    /// A re-INVITE has come: hold, resume, or another address.
    pub fn handle_reoffer(&mut self, leg: LegId, sdp: Option<&[u8]>, now: Instant) {
        if self.phase == Phase::Over {
            return;
        }
        let Some(its) = self.leg_mut(leg) else { return };
        if its.negotiation.handle_offer(sdp).is_err() {
            self.outputs.push_back(CallOutput::RefuseReOffer(leg));
            return;
        }
        let answer = its.negotiation.local_sdp();
        if sdp.is_some() && its.session.is_some() {
            self.start_session(leg, now);
            self.forget_unheard(leg);
        }
        self.outputs.push_back(CallOutput::Answer(leg, answer));
    }

    /// The dialog of a leg is over: BYE, CANCEL or a failure. The other leg ends with it.
    pub fn handle_ended(&mut self, leg: LegId, outcome: Outcome, now: Instant) {
        if self.phase == Phase::Over {
            return;
        }
        if leg != LegId::First {
            return self.handle_far_ended(leg, outcome, now);
        }
        self.end_far(outcome);
        self.finish(outcome);
    }

    /// Someone wants the call to end.
    pub fn hang_up(&mut self, outcome: Outcome) {
        self.end(outcome);
    }

    /// A packet has come to a leg's RTP port.
    pub fn handle_rtp(&mut self, leg: LegId, source: SocketAddr, packet: &[u8], now: Instant) {
        if self.leg_mut(leg).is_some_and(|leg| leg.handle_rtp(source, packet, now)) {
            self.listen(now);
        }
    }

    /// A packet has come to a leg's RTCP port.
    pub fn handle_rtcp(&mut self, leg: LegId, source: SocketAddr, packet: &[u8], now: Instant) {
        if let Some(session) = self.leg_mut(leg).and_then(|leg| leg.session.as_mut()) {
            session.handle_rtcp(source, packet, now);
        }
    }

    /// A text that was asked for has been spoken, or cannot be.
    pub fn handle_spoken(&mut self, spoken: Option<Vec<i16>>, now: Instant) {
        self.agent.handle_spoken(spoken);
        self.talk(now);
    }

    /// Bytes have come from the agent.
    pub fn handle_agent_bytes(&mut self, bytes: &[u8], now: Instant) {
        self.agent.handle_bytes(bytes);
        self.talk(now);
    }

    /// The agent's connection has ended.
    pub fn handle_agent_disconnect(&mut self, now: Instant) {
        self.agent.handle_disconnect();
        self.talk(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Over => return,
            Phase::Inviting { until } if until <= now => return self.give_up_ringing(),
            Phase::Ringing { until } if until <= now => {
                if self.refuse_for_agent() {
                    return;
                }
                // The caller is let in; the agent may still come.
                self.answer(now);
                self.phase = Phase::Answered { agent_due: Some(now + AGENT_WAIT) };
            }
            Phase::Answered { agent_due: Some(due) } if due <= now => self.lose_agent(AgentLoss::Late, now),
            Phase::Inviting { .. } | Phase::Ringing { .. } | Phase::Leading | Phase::Answered { .. } => {}
        }
        if self.ends_at <= now {
            self.end(Outcome::new(Blame::Operator, EndReason::MaxDuration));
            return;
        }
        for leg in [LegId::First, LegId::Second] {
            if self.look_after(leg, now) {
                self.end(Outcome::new(Blame::Trunk, EndReason::MediaTimeout));
                return;
            }
        }
        self.lead_on_if_due(now);
        self.ring_back_if_due(now);
        self.watch(now);
        self.measure_if_due(now);
        self.end_collection_if_due(now);
        self.listen(now);
        self.greet_if_due(now);
        if self.agent_timeout().is_some_and(|at| at <= now) {
            self.agent.handle_timeout(now);
            self.talk(now);
        }
    }

    /// Writes the next packet that is due into `packet`; it leaves from the ports of its leg.
    pub fn poll_transmit(&mut self, packet: &mut [u8], now: Instant) -> Option<(LegId, Transmit)> {
        let has_agent = self.bridge.is_none();
        if let Some(session) = &mut self.leg.session {
            let played = session.played();
            if let Some(transmit) = session.poll_transmit(packet, now) {
                self.tape.handle_sent(session, &packet[..transmit.bytes], has_agent.then_some(played), now);
                self.leg.ear.handle_sent(session, &packet[..transmit.bytes], now);
                // A frame has left: a prompt may have been heard to its end, a mark reached.
                self.talk(now);
                return Some((LegId::First, transmit));
            }
        }
        let transmit = self.second_mut()?.session.as_mut()?.poll_transmit(packet, now)?;
        Some((LegId::Second, transmit))
    }

    /// Returns what the call wants done next; drain to `None`.
    pub fn poll_output(&mut self) -> Option<CallOutput> {
        self.outputs.pop_front()
    }

    /// What is to be written to the agent's connection.
    pub fn agent_outbound(&mut self) -> Option<&mut Vec<u8>> {
        self.agent.outbound()
    }

    /// When to come back.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Over => return None,
            Phase::Inviting { until } | Phase::Ringing { until } => Some(until),
            Phase::Leading => None,
            Phase::Answered { agent_due } => agent_due,
        };
        let bridge = self.bridge.as_ref().and_then(|bridge| bridge.poll_timeout());
        let collection = self.collection.as_ref().map(|collection| collection.due());
        let timeouts =
            [self.leg.poll_timeout(), bridge, self.agent_timeout(), self.greets_at(), self.tape.poll_timeout()];
        [phase, Some(self.ends_at), collection].into_iter().chain(timeouts).flatten().min()
    }

    /// Nobody waits for a caller who has put us on hold.
    fn agent_timeout(&self) -> Option<Instant> {
        self.agent.poll_timeout().filter(|_| !self.leg.is_held())
    }

    fn ring(&mut self, now: Instant) {
        if let Plan::Bridge(plan) = &self.plan {
            let bridge = Bridge::new(plan);
            return self.lead(bridge, now);
        }
        self.tell_ringing(None);
        self.summon_agent();
        if self.agent.is_ready() {
            self.begin_talk(now);
        }
    }

    /// The agent is there: the caller is let in, if they are not yet. A side that is being called lets itself in.
    fn begin_talk(&mut self, now: Instant) {
        match self.phase {
            Phase::Inviting { .. } | Phase::Leading | Phase::Over => return,
            Phase::Ringing { .. } => self.answer(now),
            Phase::Answered { .. } => {}
        }
        self.phase = Phase::Answered { agent_due: None };
        self.talk(now);
    }

    fn answer(&mut self, now: Instant) {
        self.outputs.push_back(CallOutput::Answer(LegId::First, self.leg.negotiation.local_sdp()));
        self.record_answer(now);
        self.start_session(LegId::First, now);
    }

    fn record_answer(&mut self, now: Instant) {
        self.tape.start(self.line_rate(), now);
        self.leg.watch.start(now);
        let codec = self.leg.negotiation.codec_name().to_owned();
        tracing::info!(call = %self.id, codec, "Answered with {codec}");
        self.outputs.push_back(CallOutput::Record(CallEvent::Answered { codec }));
    }

    /// Has a leg's sound begin, or go on as was agreed on anew.
    fn start_session(&mut self, leg: LegId, now: Instant) {
        let speech = self.speech.clone();
        if let Some(leg) = self.leg_mut(leg) {
            leg.start(&speech, now);
        }
        self.watch_keys(leg);
        self.talk(now);
    }

    fn leg_mut(&mut self, leg: LegId) -> Option<&mut Leg> {
        match leg {
            LegId::First => Some(&mut self.leg),
            LegId::Second => self.second_mut(),
            LegId::Parked => self.parked_mut(),
        }
    }

    /// Asks a far end that is not heard whether it is there; `true` when it was asked before.
    fn look_after(&mut self, leg: LegId, now: Instant) -> bool {
        let Some(session) = self.leg_mut(leg).and_then(|leg| leg.session.as_mut()) else { return false };
        if !session.is_abandoned(now) {
            return false;
        }
        if session.is_excused() {
            return true;
        }
        session.excuse(now);
        self.outputs.push_back(CallOutput::Probe(leg));
        false
    }

    fn end(&mut self, outcome: Outcome) {
        if self.phase == Phase::Over {
            return;
        }
        self.outputs.push_back(CallOutput::End(LegId::First, outcome));
        self.end_far(outcome);
        self.finish(outcome);
    }

    fn end_far(&mut self, outcome: Outcome) {
        if self.bridge.is_some() {
            self.outputs.push_back(CallOutput::End(LegId::Second, outcome));
        }
        if self.parked_mut().is_some() {
            self.outputs.push_back(CallOutput::End(LegId::Parked, outcome));
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        tracing::info!(call = %self.id, blame = ?outcome.blame, reason = ?outcome.reason, "The call has ended");
        self.phase = Phase::Over;
        self.end_collection(CollectEnd::CallOver);
        self.record_last_words();
        if let (Some(heard), Some(session)) = (self.agent.tone_heard(), &self.leg.session) {
            self.outputs.push_back(CallOutput::Measured(heard, session.exchange()));
        }
        self.measure_at_last();
        self.leg.session = None;
        self.bridge = None;
        self.tape.finish();
        self.outputs.push_back(CallOutput::Disconnect(self.agent.stop(1000)));
        self.outputs.push_back(CallOutput::Record(CallEvent::Ended { outcome }));
        self.outputs.push_back(CallOutput::Finished);
    }
}

/// How long a caller hears it ring before they are let in.
fn ring_time(plan: &Plan) -> Duration {
    match plan {
        Plan::Service(plan) => plan.patience.ring.unwrap_or(RING_MAX),
        _ => RING_MAX,
    }
}

fn agent_of(plan: &Plan, now: Instant) -> AgentSession {
    match plan {
        Plan::Echo => AgentSession::Echo(Echo::default()),
        Plan::Attendant { name: Some(_), language } => {
            AgentSession::Attendant(Attendant::naming(now).speaking(*language))
        }
        Plan::Attendant { name: None, language } => AgentSession::Attendant(Attendant::greeting().speaking(*language)),
        Plan::ToneTest => AgentSession::ToneTest(ToneTest::default()),
        Plan::Service(_) | Plan::Bridge(_) => AgentSession::Awaited,
    }
}

/// 3 s: an agent that takes longer is let catch up while the caller hears comfort noise.
const RING_MAX: Duration = Duration::from_secs(3);

/// 5 s of comfort noise behind the answer; then the attendant speaks.
const AGENT_WAIT: Duration = Duration::from_secs(5);
