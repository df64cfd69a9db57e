//! Hosted voice agents: services that listen, think and speak, each in a protocol of its own.
//!
//! ```text
//!   gateway ── set-up, audio…, keys in words ──▶ service
//!           ◀─ audio…, interruption, words ─────
//! ```
//!
//! Each has its `Protocol`: how it names these. What they mean is the same everywhere: audio is queued and played in
//! order, an interruption empties the queue, and both sides' words are told with no more of the agent's than was heard.

mod deepgram;
mod elevenlabs;
mod gemini;
mod talk;
mod ultravox;

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;
use talkstack_control::port::{FirstSpeaker, Outcome, ProviderKind, ProviderSettings};
use talkstack_media::audio::frame::{Form, Frame, SampleRate};

use super::duties::{Answer, Duties};
use super::errands::Done;
use super::keys::Keys;
use super::provider::{Greets, Opening, ServicePlan};
use super::service::{CallFacts, Service};
use super::sound::Sound;
use super::websocket::{Message, WebSocket};
use super::{AgentLoss, AgentOutput, Progress, Said};
use talk::Talk;
pub(super) use ultravox::call as ultravox_call;

/// One session of one call.
pub struct Hosted {
    kind: ProviderKind,
    socket: WebSocket,
    protocol: Box<dyn Protocol>,
    session: Session,
    keys: Keys,
    loss: Option<AgentLoss>,
    now: Option<Instant>,
}

impl fmt::Debug for Hosted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hosted({}, {:?}, {:?})", self.kind, self.session.stage, self.session.sound.form())
    }
}

/// What a service says, and how it is understood.
trait Protocol: Send {
    /// The connection has been made.
    fn begin(&mut self, _session: &mut Session) {}
    /// Writes a message with the caller's audio.
    fn write_audio(&self, audio: &[u8], out: &mut Vec<u8>);
    /// Reads a message. What is to be played lies in the session's sound; what is to be sent, in its replies.
    fn read(
        &mut self,
        message: Message<'_>,
        session: &mut Session,
        progress: Progress,
        now: Instant,
    ) -> Result<Step, AgentLoss>;
    /// Has the agent open the conversation; `None` where it does so by itself.
    fn greet(&mut self, opening: &Opening) -> Option<Value>;
    /// Tells the model what has come of the functions that it has called.
    fn answer(&self, answers: Vec<Answer>, out: &mut Vec<Value>);
    /// Tells the agent something in words, as the caller.
    fn tell(&self, text: &str) -> Value;

    /// Whether audio travels as binary messages.
    fn is_binary(&self) -> bool {
        false
    }

    /// Whether the agent ends the call by ending the connection in good order.
    fn hangs_up_by_closing(&self) -> bool {
        false
    }

    /// The queue may have been played further.
    fn handle_progress(&mut self, _session: &mut Session, _progress: Progress, _now: Instant) {}

    /// Time has passed.
    fn handle_timeout(&mut self, _session: &mut Session, _now: Instant) {}

    /// When to come back.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

/// What all protocols have.
struct Session {
    stage: Stage,
    opening: Opening,
    model: String,
    settings: ProviderSettings,
    sound: Sound,
    talk: Talk,
    /// What the model has asked for besides speaking.
    duties: Duties,
    /// Messages to be sent behind the one that is being read.
    replies: Vec<Value>,
    /// Nobody needs to be greeted any more.
    is_greeted: bool,
    /// The service has said that it will end the session.
    is_leaving: bool,
    /// The last error it has reported, in its words.
    complaint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Ready,
    Over,
}

/// What a message from the service comes to.
enum Step {
    Play,
    Clear,
    Ready,
    Nothing,
}

impl Session {
    /// What lies in the sound is the agent's.
    fn play(&mut self, progress: Progress) -> Step {
        let ticks = self.sound.ticks();
        let is_wanted = self.stage == Stage::Ready && self.talk.handle_agent_audio(ticks, progress);
        if !is_wanted {
            self.sound.forget_begun();
        }
        if is_wanted && ticks > 0 { Step::Play } else { Step::Nothing }
    }

    /// The caller speaks. The queue counts, not whether the agent is still making speech: it makes it faster than it is
    /// played.
    fn interrupt(&mut self, progress: Progress, now: Instant) -> Step {
        self.is_greeted = true;
        self.duties.handle_interruption();
        self.talk.handle_interruption(progress, now);
        self.sound.forget_begun();
        if progress.is_drained() { Step::Nothing } else { Step::Clear }
    }

    /// All that the caller has said in this turn, unless it is what we have told the agent in their name.
    fn handle_caller_said(&mut self, text: &str, now: Instant) {
        if !is_told(text) {
            self.is_greeted = true;
            self.duties.handle_caller();
            self.talk.handle_caller_said(text, now);
        }
    }

    /// Whether the agent is to greet as soon as it is ready.
    fn greets_at_once(&self) -> bool {
        self.opening.greets == Greets::WhenReady && self.opening.first_speaker == FirstSpeaker::Agent
    }
}

impl Hosted {
    /// Starts behind the handshake.
    pub fn new(plan: &ServicePlan, facts: CallFacts) -> Self {
        let protocol: Box<dyn Protocol> = match plan.kind {
            ProviderKind::ElevenLabs => Box::new(elevenlabs::ElevenLabs::default()),
            ProviderKind::Gemini => Box::new(gemini::Gemini::default()),
            ProviderKind::Ultravox => Box::new(ultravox::Ultravox::default()),
            _ => Box::new(deepgram::Deepgram::default()),
        };
        let session = Session {
            stage: Stage::Opening,
            opening: plan.opening.clone(),
            model: plan.model.clone(),
            settings: plan.settings.clone(),
            sound: Sound::new(form(plan, facts)),
            talk: Talk::new(),
            duties: Duties::new(plan.opening.tools.clone()),
            replies: Vec::new(),
            is_greeted: false,
            is_leaving: false,
            complaint: None,
        };
        let mut hosted = Hosted {
            kind: plan.kind,
            socket: WebSocket::new(facts.seed),
            protocol,
            session,
            keys: Keys::default(),
            loss: None,
            now: None,
        };
        hosted.protocol.begin(&mut hosted.session);
        hosted.send_replies();
        hosted
    }

    /// Deals with the next message.
    fn next_step(&mut self, progress: Progress, now: Instant) -> Result<Option<Step>, AgentLoss> {
        let message = match self.socket.next_message()? {
            None => return Ok(None),
            Some(Message::Close(code)) => return self.handle_close(code).map(|()| None),
            Some(message) => message,
        };
        let step = self.protocol.read(message, &mut self.session, progress, now)?;
        if self.session.talk.is_flooded() {
            return Err(AgentLoss::Flood);
        }
        if !matches!(step, Step::Ready) {
            return Ok(Some(step));
        }
        if self.session.stage != Stage::Opening {
            return Ok(Some(Step::Nothing));
        }
        self.session.stage = Stage::Ready;
        if self.session.opening.greets == Greets::WhenReady {
            self.greet_once();
        }
        Ok(Some(Step::Ready))
    }

    fn greet_once(&mut self) {
        if self.session.opening.first_speaker == FirstSpeaker::Agent && !self.session.is_greeted {
            self.session.is_greeted = true;
            let greeting = self.protocol.greet(&self.session.opening);
            self.session.replies.extend(greeting);
        }
    }

    fn send_replies(&mut self) {
        let answers = self.session.duties.take_answers();
        if !answers.is_empty() {
            self.protocol.answer(answers, &mut self.session.replies);
        }
        for reply in std::mem::take(&mut self.session.replies) {
            self.socket.send_json(&reply);
        }
    }

    /// The service ends the connection: with the call, if that is how its agents hang up, once all has been heard.
    fn handle_close(&mut self, code: Option<u16>) -> Result<(), AgentLoss> {
        let code = code.unwrap_or(NO_STATUS);
        if self.session.stage == Stage::Ready && code == NORMAL && self.protocol.hangs_up_by_closing() {
            self.session.duties.handle_hang_up();
            return Ok(());
        }
        if code != NORMAL {
            tracing::warn!(code, "The agent's service closes the connection with {code}");
        }
        Err(match self.session.stage {
            Stage::Opening => AgentLoss::Refused,
            _ if code == NORMAL && !self.session.is_leaving => AgentLoss::Closed,
            _ => self.ending(),
        })
    }

    /// Why the connection has ended.
    fn ending(&self) -> AgentLoss {
        if self.session.is_leaving { AgentLoss::Expired } else { AgentLoss::Disconnected }
    }

    fn lose(&mut self, loss: AgentLoss) {
        if self.session.stage != Stage::Over {
            self.session.stage = Stage::Over;
            self.loss = Some(loss);
        }
    }
}

impl Service for Hosted {
    fn is_ready(&self) -> bool {
        self.session.stage == Stage::Ready
    }

    fn handle_audio(&mut self, frame: &Frame<'_>) {
        if self.session.stage != Stage::Ready {
            return;
        }
        if self.socket.is_stalled(self.session.sound.form()) {
            return self.lose(AgentLoss::Stalled);
        }
        let audio = self.session.sound.of_line(frame);
        let protocol = &self.protocol;
        if protocol.is_binary() {
            self.socket.send_binary(|out| protocol.write_audio(audio, out));
        } else {
            self.socket.send_text(|out| protocol.write_audio(audio, out));
        }
    }

    fn handle_digit(&mut self, digit: char) {
        if self.session.stage == Stage::Ready {
            self.keys.handle_digit(digit);
        }
    }

    /// None of these services can be told; what they still send of what was interrupted is not played.
    fn handle_interrupted(&mut self, progress: Progress, now: Instant) {
        if self.session.stage == Stage::Ready {
            self.session.interrupt(progress, now);
            self.send_replies();
        }
    }

    fn greet(&mut self) {
        self.session.opening.greets = Greets::WhenReady;
        if self.session.stage == Stage::Ready {
            self.greet_once();
            self.send_replies();
        }
    }

    fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.session.stage != Stage::Over {
            self.socket.handle_bytes(bytes);
        }
    }

    fn handle_disconnect(&mut self) {
        if !self.session.duties.has_hung_up() {
            self.lose(self.ending());
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.session.stage == Stage::Over {
            return;
        }
        if let Some(text) = self.keys.take_due(now) {
            let told = self.protocol.tell(&text);
            self.session.replies.push(told);
        }
        self.session.duties.handle_timeout(now);
        self.protocol.handle_timeout(&mut self.session, now);
        self.send_replies();
    }

    fn poll_output(&mut self, progress: Progress, now: Instant) -> Option<AgentOutput<'_>> {
        self.now = Some(now);
        self.keys.handle_now(now);
        self.session.talk.handle_progress(progress, now);
        self.protocol.handle_progress(&mut self.session, progress, now);
        if let Some(said) = self.session.talk.poll_said(now) {
            return Some(AgentOutput::Said(said));
        }
        if let Some(loss) = self.loss.take() {
            return Some(AgentOutput::Lost(loss));
        }
        while self.session.stage != Stage::Over {
            let step = match self.next_step(progress, now) {
                Ok(Some(step)) => step,
                Ok(None) => break,
                Err(loss) => {
                    self.session.stage = Stage::Over;
                    return Some(AgentOutput::Lost(loss));
                }
            };
            self.send_replies();
            match step {
                Step::Play => return Some(AgentOutput::Play(self.session.sound.of_agent())),
                Step::Clear => return Some(AgentOutput::Clear),
                Step::Ready => return Some(AgentOutput::Ready),
                Step::Nothing => {}
            }
        }
        if let Some(said) = self.session.talk.poll_said(now) {
            return Some(AgentOutput::Said(said));
        }
        let is_heard = self.session.stage == Stage::Ready && progress.is_drained();
        let pause = if self.session.duties.has_hung_up() { Duration::ZERO } else { GOODBYE_WAIT };
        self.session.duties.poll_output(is_heard, pause, now)
    }

    fn handle_not_transferred(&mut self, outcome: Outcome) {
        self.session.duties.handle_not_transferred(outcome);
        self.send_replies();
    }

    fn complaint(&self) -> Option<&str> {
        self.session.complaint.as_deref()
    }

    fn handle_done(&mut self, number: u32, done: Done) {
        self.session.duties.handle_done(number, done);
        self.send_replies();
    }

    fn poll_last_words(&mut self, progress: Progress) -> Option<Said> {
        let now = self.now?;
        self.session.talk.handle_progress(progress, now);
        self.session.talk.poll_last_words(now)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.session.stage == Stage::Over {
            return self.session.talk.poll_timeout();
        }
        let Session { talk, duties, .. } = &self.session;
        [self.keys.due(), talk.poll_timeout(), duties.poll_timeout(), self.protocol.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    fn outbound(&mut self) -> &mut Vec<u8> {
        self.socket.outbound()
    }

    fn stop(&mut self, code: u16) {
        self.socket.close(code);
        self.session.stage = Stage::Over;
        self.keys = Keys::default();
    }
}

/// What the service hears, as far as it is known before it has said anything.
fn form(plan: &ServicePlan, facts: CallFacts) -> Form {
    let line = facts.codec.form();
    match plan.kind {
        ProviderKind::Deepgram => deepgram::form_for(line),
        ProviderKind::Gemini => Form::Linear(SampleRate::Hz16000),
        ProviderKind::Ultravox => ultravox::form(&plan.settings),
        _ => line,
    }
}

/// Whether a text is what the agent was told in the caller's name: services give it back as the caller's words.
fn is_told(text: &str) -> bool {
    text == GREET_NOW || Keys::are_told_in(text)
}

/// Has an agent speak first that was given no greeting.
pub(super) const GREET_NOW: &str = "(The call has been answered. Greet the other side.)";

/// RFC 6455 §7.4.1: the purpose has been fulfilled, and what is said where no code came.
const NORMAL: u16 = 1000;
const NO_STATUS: u16 = 1005;

/// 2 s: a model that says goodbye only once its function was answered has begun by then.
const GOODBYE_WAIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
