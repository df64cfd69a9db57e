//! One call: a leg, an agent, and what goes on between them.
//!
//! ```text
//!              Offered                     Answer, Ring, Refuse, HangUp
//!   SIP ─────────────────▶ ┌──────────┐ ─────────────────────────────────▶ SIP
//!   RTP ─────────────────▶ │   Call   │ ─────────────────────────────────▶ RTP
//!   agent's socket ──────▶ └──────────┘ ─────────────────────────────────▶ agent's socket, journal
//! ```
//!
//! `Call` only wires machines: negotiation is [`talkstack_media::sdp`]'s, sound is [`RtpSession`]'s, talk is
//! [`AgentSession`]'s. It owns no socket, so whole calls run in virtual time.

mod offer;
mod tape;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use talkstack_control::port::{Blame, CallEvent, CallId, EndReason, Outcome};
use talkstack_media::session::{Heard, PlayError, RtpSession, Transmit};

use offer::Negotiation;
pub use offer::{LegAddress, Offer};
use tape::Tape;

use crate::agent::attendant::Attendant;
use crate::agent::echo::Echo;
use crate::agent::media_stream::MediaStream;
use crate::agent::{AgentLoss, AgentOutput, AgentSession, Progress};
use crate::io::connect::AgentUrl;
use crate::route::Plan;

/// One call of ours, from the offer to its outcome.
#[derive(Debug)]
pub struct Call {
    id: CallId,
    plan: Plan,
    phase: Phase,
    negotiation: Negotiation,
    session: Option<RtpSession>,
    agent: AgentSession,
    outputs: VecDeque<CallOutput>,
    ends_at: Instant,
    /// The far end has been asked once, in the dialog, whether it is there.
    has_probed: bool,
    tape: Tape,
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The caller hears ringing while the agent connects, to the instant at the most.
    Ringing { until: Instant },
    /// The 200 is out. Without an agent yet, the attendant takes over at the instant.
    Answered { agent_due: Option<Instant> },
    /// The outcome is known.
    Over,
}

/// What a call wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum CallOutput {
    /// Send 180.
    Ring,
    /// Send 200 with this SDP, to the INVITE or to the re-INVITE that is open.
    Answer(String),
    /// Refuse the re-INVITE that is open with 488; the call goes on as it was.
    RefuseReOffer,
    /// End the dialog: a final response before the answer, BYE after it.
    End(Outcome),
    /// Write to the journal.
    Record(CallEvent),
    /// Ask within the dialog whether the far end is there.
    Probe,
    /// Connect to the agent.
    Connect(AgentUrl),
    /// Have this text spoken.
    Speak(String),
    /// Forget the agent's connection, once what waits for it has been written.
    Disconnect,
    /// The call is over; drop it.
    Finished,
}

/// The limits a call lives under.
#[derive(Debug, Clone, Copy)]
pub struct CallLimits {
    /// From the offer to the BYE at the most.
    pub duration_max: Duration,
}

impl Call {
    /// Takes an offered call. What comes of it waits in [`Call::poll_output`].
    pub fn new(id: CallId, plan: Plan, offer: Offer<'_>, limits: CallLimits, seed: u64, now: Instant) -> Self {
        let agent = match &plan {
            Plan::Echo => AgentSession::Echo(Echo::default()),
            Plan::Attendant { name: Some(_) } => AgentSession::Attendant(Attendant::naming(now)),
            Plan::Attendant { name: None } | Plan::MediaStream(_) => AgentSession::Attendant(Attendant::greeting()),
        };
        let mut call = Call {
            id,
            plan,
            phase: Phase::Ringing { until: now + RING_MAX },
            negotiation: Negotiation::new(offer.local, offer.signalling, seed),
            session: None,
            agent,
            outputs: VecDeque::new(),
            ends_at: now + limits.duration_max,
            has_probed: false,
            tape: Tape::default(),
            seed,
        };
        match call.negotiation.handle_offer(offer.sdp) {
            Ok(()) => call.ring(now),
            Err(reason) => call.end(Outcome::new(Blame::Caller, reason)),
        }
        call
    }

    /// Our name for the call.
    pub fn id(&self) -> CallId {
        self.id
    }

    /// The ACK has come; with late offer it carries the answer.
    pub fn handle_acknowledged(&mut self, sdp: Option<&[u8]>, now: Instant) {
        let Some(sdp) = sdp else { return };
        match self.negotiation.handle_answer(sdp) {
            Ok(true) => self.start_session(now),
            Ok(false) => {}
            Err(reason) => self.end(Outcome::new(Blame::Caller, reason)),
        }
    }

    /// A re-INVITE has come: hold, resume, or another address.
    pub fn handle_reoffer(&mut self, sdp: Option<&[u8]>, now: Instant) {
        if self.phase == Phase::Over {
            return;
        }
        if self.negotiation.handle_offer(sdp).is_err() {
            self.outputs.push_back(CallOutput::RefuseReOffer);
            return;
        }
        self.outputs.push_back(CallOutput::Answer(self.negotiation.local_sdp()));
        if let (Some(session), Some(negotiated)) = (&mut self.session, self.negotiation.agreed()) {
            session.renegotiate(negotiated, now);
        }
    }

    /// The dialog is over: BYE, CANCEL or a failure.
    pub fn handle_ended(&mut self, outcome: Outcome) {
        if self.phase != Phase::Over {
            self.finish(outcome);
        }
    }

    /// Someone wants the call to end.
    pub fn hang_up(&mut self, outcome: Outcome) {
        self.end(outcome);
    }

    /// A packet has come to the RTP port.
    pub fn handle_rtp(&mut self, source: SocketAddr, packet: &[u8], now: Instant) {
        if let Some(session) = &mut self.session {
            session.handle_rtp(source, packet, now);
            self.listen(now);
        }
    }

    /// A packet has come to the RTCP port.
    pub fn handle_rtcp(&mut self, source: SocketAddr, packet: &[u8], now: Instant) {
        if let Some(session) = &mut self.session {
            session.handle_rtcp(source, packet, now);
        }
    }

    /// The agent's connection is up; `leftover` came with its handshake.
    pub fn handle_connected(&mut self, leftover: &[u8], now: Instant) {
        let waits = matches!(self.phase, Phase::Ringing { .. } | Phase::Answered { agent_due: Some(_) });
        if !waits {
            self.outputs.push_back(CallOutput::Disconnect);
            return;
        }
        self.agent = AgentSession::MediaStream(Box::new(MediaStream::new(self.id, self.seed)));
        self.agent.handle_bytes(leftover);
        self.begin_talk(now);
    }

    /// The agent could not be reached.
    pub fn handle_unreachable(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Ringing { .. } | Phase::Answered { agent_due: Some(_) }) {
            self.take_over(now);
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
            Phase::Ringing { until } if until <= now => {
                // The caller is let in; the agent may still come.
                self.answer(now);
                self.phase = Phase::Answered { agent_due: Some(now + AGENT_WAIT) };
            }
            Phase::Answered { agent_due: Some(due) } if due <= now => self.take_over(now),
            Phase::Ringing { .. } | Phase::Answered { .. } => {}
        }
        if self.ends_at <= now {
            self.end(Outcome::new(Blame::Operator, EndReason::MaxDuration));
            return;
        }
        if let Some(session) = &mut self.session {
            if session.is_abandoned(now) && !self.has_probed {
                self.has_probed = true;
                session.excuse(now);
                self.outputs.push_back(CallOutput::Probe);
            } else if session.is_abandoned(now) {
                self.end(Outcome::new(Blame::Trunk, EndReason::MediaTimeout));
                return;
            }
            self.listen(now);
        }
        if self.agent.poll_timeout().is_some_and(|at| at <= now) {
            self.agent.handle_timeout(now);
            self.talk(now);
        }
    }

    /// Writes the next packet that is due into `packet`.
    pub fn poll_transmit(&mut self, packet: &mut [u8], now: Instant) -> Option<Transmit> {
        let session = self.session.as_mut()?;
        let transmit = session.poll_transmit(packet, now)?;
        self.tape.handle_sent(session, &packet[..transmit.bytes], now);
        // A frame has left: a prompt may have been heard to its end, a mark reached.
        self.talk(now);
        Some(transmit)
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
            Phase::Ringing { until } => Some(until),
            Phase::Answered { agent_due } => agent_due,
        };
        let session = self.session.as_ref().map(RtpSession::poll_timeout);
        [phase, session, self.agent.poll_timeout(), self.tape.poll_timeout(), Some(self.ends_at)]
            .into_iter()
            .flatten()
            .min()
    }

    fn ring(&mut self, now: Instant) {
        self.outputs.push_back(CallOutput::Ring);
        self.outputs.push_back(CallOutput::Record(CallEvent::Ringing));
        match self.plan.clone() {
            Plan::MediaStream(url) => self.outputs.push_back(CallOutput::Connect(url)),
            Plan::Attendant { name } => {
                let text = name.map(|name| format!("You have reached {name}. Your call is answered by the attendant."));
                self.outputs.extend(text.map(CallOutput::Speak));
                self.begin_talk(now);
            }
            Plan::Echo => self.begin_talk(now),
        }
    }

    /// The agent is there: the caller is let in, if they are not yet.
    fn begin_talk(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Ringing { .. }) {
            self.answer(now);
        }
        self.phase = Phase::Answered { agent_due: None };
        self.talk(now);
    }

    fn answer(&mut self, now: Instant) {
        self.outputs.push_back(CallOutput::Answer(self.negotiation.local_sdp()));
        let codec = self.negotiation.codec_name().to_owned();
        tracing::info!(call = %self.id, codec, "Answered with {codec}");
        self.outputs.push_back(CallOutput::Record(CallEvent::Answered { codec }));
        self.tape.start(now);
        self.start_session(now);
    }

    fn start_session(&mut self, now: Instant) {
        if let Some(negotiated) = self.negotiation.agreed()
            && self.session.is_none()
        {
            self.session = Some(RtpSession::new(negotiated, self.negotiation.signalling(), self.seed, now));
            self.talk(now);
        }
    }

    /// Passes what the leg heard to the agent, and what the agent says back to the leg.
    fn listen(&mut self, now: Instant) {
        if let Some(session) = &mut self.session {
            while let Some(heard) = session.poll_heard(now) {
                self.tape.handle_heard(&heard, now);
                match heard {
                    Heard::Audio(frame) => self.agent.handle_audio(&frame),
                    Heard::Held(silence) => self.agent.handle_held(&silence),
                    Heard::Digit(digit) => self.agent.handle_digit(digit),
                }
            }
        }
        self.talk(now);
    }

    fn talk(&mut self, now: Instant) {
        let Some(session) = &mut self.session else { return };
        loop {
            let progress = Progress { pushed: session.pushed(), played: session.played() };
            match self.agent.poll_output(progress, now) {
                None => return,
                Some(AgentOutput::Clear) => session.clear(),
                Some(AgentOutput::Play(speech)) => {
                    if let Err(PlayError::QueueFull) = session.play(speech, now) {
                        return self.lose_agent(AgentLoss::Flood, now);
                    }
                }
                Some(AgentOutput::HangUp) => return self.end(Outcome::new(Blame::Agent, EndReason::HungUp)),
                Some(AgentOutput::Lost(loss)) => return self.lose_agent(loss, now),
            }
        }
    }

    /// The attendant takes the call; the dialog and the audio clock stay as they are.
    fn lose_agent(&mut self, loss: AgentLoss, now: Instant) {
        tracing::warn!(call = %self.id, "{loss}; the attendant takes over");
        self.agent.stop();
        self.outputs.push_back(CallOutput::Disconnect);
        if let Some(session) = &mut self.session {
            session.clear();
        }
        self.take_over(now);
    }

    fn take_over(&mut self, now: Instant) {
        self.agent = AgentSession::Attendant(Attendant::apologising());
        self.begin_talk(now);
    }

    fn end(&mut self, outcome: Outcome) {
        if self.phase != Phase::Over {
            self.outputs.push_back(CallOutput::End(outcome));
            self.finish(outcome);
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        tracing::info!(call = %self.id, blame = ?outcome.blame, reason = ?outcome.reason, "The call has ended");
        self.phase = Phase::Over;
        self.session = None;
        self.tape.finish();
        self.agent.stop();
        self.outputs.push_back(CallOutput::Disconnect);
        self.outputs.push_back(CallOutput::Record(CallEvent::Ended { outcome }));
        self.outputs.push_back(CallOutput::Finished);
    }
}

/// 3 s: an agent that takes longer is let catch up while the caller hears comfort noise.
const RING_MAX: Duration = Duration::from_secs(3);

/// 5 s of comfort noise behind the answer; then the attendant speaks.
const AGENT_WAIT: Duration = Duration::from_secs(5);
