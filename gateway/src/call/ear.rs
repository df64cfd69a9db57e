//! What a call hears: each stretch goes to the agent, and to the box's own ear where somebody needs to know whether the
//! caller speaks: an agent that takes turns by it, or barge-in while the agent has something to say.

use std::time::{Duration, Instant};

use talkstack_control::port::BargeIn as Interrupter;
use talkstack_media::audio::echo::EchoMonitor;
use talkstack_media::audio::frame::{Frame, Speech};
use talkstack_media::audio::level::power;
use talkstack_media::audio::voice::VoiceDetector;
use talkstack_media::session::{Heard, RtpSession};

use super::barge_in::{BargeIn, Hearing, Sound, Step};
use super::{Call, collect};
use crate::agent::{AgentSession, Progress, Voice};
use crate::route::Plan;

/// The box's own ear on one leg.
#[derive(Debug, Default)]
pub(super) struct Ear {
    /// Made when it is needed first: who never needs it pays nothing.
    organ: Option<Box<Organ>>,
    /// The last stretch was listened to.
    is_listening: bool,
    is_voice: bool,
    barge_in: BargeIn,
    /// The agent has said what it opens with.
    has_greeted: bool,
    /// When all that it has said so far was heard.
    drained: Option<Instant>,
}

#[derive(Debug, Default)]
struct Organ {
    detector: VoiceDetector,
    echo: EchoMonitor,
    /// What was sent, decoded.
    sent: Vec<i16>,
}

impl Ear {
    /// A packet has left, and may come back as an echo.
    pub(super) fn handle_sent(&mut self, session: &RtpSession, packet: &[u8], now: Instant) {
        let (Some(organ), Some((_, speech))) = (&mut self.organ, session.sent_audio(packet)) else { return };
        let samples = match speech {
            Speech::Samples(_, samples) => samples,
            Speech::Coded(codec, bytes) => {
                organ.sent.clear();
                codec.decode(bytes, &mut organ.sent);
                &organ.sent
            }
        };
        organ.echo.handle_sent(power(samples), now);
    }

    /// Comes in the place of another leg's, to which the agent has said what it opens with, or not.
    pub(super) fn follow(&mut self, former: &Ear) {
        self.has_greeted = former.has_greeted;
    }

    /// What is queued was forgotten as the agent wished, or with it.
    pub(super) fn handle_cleared(&mut self) {
        self.barge_in.handle_cleared();
    }

    /// Hears a stretch of what the agent hears, and tells the agent what has changed if it wants to know.
    fn hear(&mut self, frame: &Frame<'_>, agent: &mut AgentSession, is_barge_in: bool, now: Instant) -> Option<Step> {
        if !is_barge_in && !agent.wants_voice() {
            self.is_listening = false;
            return self.barge_in.handle_idle();
        }
        let Organ { detector, echo, .. } = &mut **self.organ.get_or_insert_default();
        if !std::mem::replace(&mut self.is_listening, true) {
            detector.forget();
        }
        let expected = echo.handle_received(power(frame.samples), now);
        detector.handle_audio(frame.rate, frame.samples, expected);
        let was_voice = std::mem::replace(&mut self.is_voice, detector.is_voice());
        match (was_voice, self.is_voice) {
            (false, true) => agent.handle_voice(Voice::Began, now),
            (true, false) => agent.handle_voice(Voice::Ended, now),
            _ => {}
        }
        if !is_barge_in {
            return self.barge_in.handle_idle();
        }
        let sound = Sound { all: detector.sounded(), certain: detector.certain() };
        let step = self.barge_in.handle_heard(Hearing { is_voice: self.is_voice, sound }, now);
        if step == Some(Step::FalseAlarm) {
            echo.handle_false_alarm();
        }
        step
    }

    /// The agent's opening is over once nothing has followed it for a while.
    fn follow_greeting(&mut self, progress: Progress, now: Instant) {
        if self.has_greeted || progress.pushed == 0 {
            return;
        }
        if !progress.is_drained() {
            self.drained = None;
        } else if now.saturating_duration_since(*self.drained.get_or_insert(now)) >= GREETING_PAUSE {
            self.has_greeted = true;
        }
    }
}

impl Call {
    /// Passes what the leg heard to the agent, and what the agent says back to the leg; or from leg to leg.
    pub(super) fn listen(&mut self, now: Instant) {
        if self.bridge.is_some() {
            return self.relay(now);
        }
        if let Some(session) = &mut self.leg.session {
            let (ear, agent) = (&mut self.leg.ear, &mut self.agent);
            loop {
                let progress = progress(session);
                ear.follow_greeting(progress, now);
                let is_said = !progress.is_drained() || ear.barge_in.is_waiting();
                let is_barge_in = is_said && interrupter(agent, &self.plan, ear) == Interrupter::Box;
                let Some(heard) = session.poll_heard(now) else { break };
                self.tape.handle_heard(&heard, now);
                let step = match (heard, &mut self.collection) {
                    (Heard::Audio(frame), None) => {
                        let step = ear.hear(&frame, agent, is_barge_in, now);
                        agent.handle_audio(&frame);
                        step
                    }
                    (Heard::Audio(frame), Some(_)) => collect::silence(&frame).fold(None, |step, silence| {
                        agent.handle_audio(&silence);
                        ear.hear(&silence, agent, is_barge_in, now).or(step)
                    }),
                    (Heard::Held(silence), _) => {
                        agent.handle_held(&silence);
                        ear.hear(&silence, agent, is_barge_in, now)
                    }
                    (Heard::Digit(key), collection) => {
                        if !collection.as_mut().is_some_and(|collection| collection.takes(key, now)) {
                            agent.handle_digit(key);
                        }
                        None
                    }
                };
                match step {
                    None => {}
                    Some(Step::Pause) => session.pause(),
                    Some(Step::FalseAlarm | Step::GoOn) => session.unpause(),
                    Some(Step::Stop) => {
                        session.clear();
                        session.pause();
                        self.tape.handle_cleared(now);
                        agent.handle_interrupted(progress, now);
                    }
                }
            }
        }
        self.talk(now);
    }

    /// Nobody may stop what the agent says now.
    pub(super) fn is_uninterruptible(&self) -> bool {
        interrupter(&self.agent, &self.plan, &self.leg.ear) == Interrupter::Off
    }
}

/// Who may stop what the agent says now.
fn interrupter(agent: &AgentSession, plan: &Plan, ear: &Ear) -> Interrupter {
    match (agent, plan) {
        (AgentSession::Attendant(attendant), _) if attendant.is_prompting() => Interrupter::Box,
        (AgentSession::Service(_), Plan::Service(plan)) if plan.protects_greeting && !ear.has_greeted => {
            Interrupter::Off
        }
        (AgentSession::Service(_), Plan::Service(plan)) => plan.barge_in,
        _ => Interrupter::Provider,
    }
}

/// How far a leg's queue has come.
fn progress(session: &RtpSession) -> Progress {
    Progress { pushed: session.pushed(), played: session.played() }
}

/// 500 ms: longer than the pause between two sentences that come one by one.
const GREETING_PAUSE: Duration = Duration::from_millis(500);
