//! A provider tried out without a call: is it there, does it take the session, does it speak, does it answer.
//!
//! ```text
//!   connect ─▶ session ─▶ greeting ─▶ question ─▶ answer
//! ```
//!
//! The machine is the other end of one agent's session in place of a call: it hears what the agent says as a line would
//! play it, and says a question. Bytes and time go in, bytes and a report come out.

use std::time::{Duration, Instant};

use talkstack_control::port::{Audition, AuditionOrder, CallId, FirstSpeaker, Speaker, TestStep};
use talkstack_media::audio::frame::{Form, Frame, SampleRate, Speech};
use talkstack_media::codec::Codec;

use crate::agent::provider::{Greets, Opening, Parties, ServicePlan};
use crate::agent::service::{CallFacts, ServiceSession};
use crate::agent::tools::Tools;
use crate::agent::{AgentOutput, AgentSession, Progress, Voice};
use crate::io::connect::AgentUrlError;

/// The plan for a session that is tried out.
///
/// # Errors
/// [`AgentUrlError`] when the provider's address is none.
pub fn plan(order: &AuditionOrder) -> Result<ServicePlan, AgentUrlError> {
    let opening = Opening {
        instructions: INSTRUCTIONS.to_owned(),
        voice: order.voice.clone(),
        greeting: Some(order.says.clone()),
        first_speaker: FirstSpeaker::Agent,
        greets: Greets::WhenReady,
        tools: Tools::default(),
    };
    let mut plan = ServicePlan::new(&order.provider, opening)?;
    plan.parties = Parties { from: "anonymous".into(), to: "test".into() };
    Ok(plan)
}

/// One provider on trial.
#[derive(Debug)]
pub struct Trial {
    session: AgentSession,
    is_asked: bool,
    talks_at_once: bool,
    codec: Codec,
    /// At 8 kHz.
    question: Vec<i16>,
    stage: Stage,
    since: Instant,
    progress: Progress,
    /// When sound last came.
    heard_at: Option<Instant>,
    said: String,
    understood: String,
    speech: Vec<i16>,
    rate: SampleRate,
    steps: Vec<TestStep>,
    coded: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Until the session is ready.
    Opening,
    /// Until it has spoken.
    Greeting,
    /// It is being spoken to; so many samples have been said.
    Asking(usize),
    /// Until it answers.
    Answering,
    Over,
}

impl Trial {
    /// Begins behind the connection, which took so long; `leftover` came with its handshake. Drive it by
    /// [`Trial::handle_tick`] every 20 ms.
    pub fn new(
        plan: &ServicePlan,
        is_asked: bool,
        question: Vec<i16>,
        seed: u64,
        connected: (Duration, &[u8]),
        now: Instant,
    ) -> Self {
        let (took, leftover) = connected;
        // A sample of a voice is worth more than a telephone's band.
        let codec = if is_asked { Codec::Pcmu } else { Codec::G722 };
        let session = AgentSession::Service(ServiceSession::new(plan, CallFacts { id: CallId(0), codec, seed }));
        let mut trial = Trial {
            session,
            is_asked,
            talks_at_once: plan.talks_at_once(),
            codec,
            question,
            stage: Stage::Opening,
            since: now,
            progress: Progress::default(),
            heard_at: None,
            said: String::new(),
            understood: String::new(),
            speech: Vec::new(),
            rate: SampleRate::Hz8000,
            steps: vec![passed("connect", "The connection is made.".to_owned(), took)],
            coded: Vec::new(),
        };
        trial.session.handle_bytes(leftover);
        if trial.session.is_ready() {
            trial.pass("session", "The session is open.".to_owned(), Stage::Greeting, now);
        }
        trial
    }

    /// Takes bytes from the connection.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Instant) {
        self.session.handle_bytes(bytes);
        self.poll(now);
    }

    /// The connection has ended.
    pub fn handle_disconnect(&mut self, now: Instant) {
        self.session.handle_disconnect();
        self.poll(now);
    }

    /// 20 ms have passed: a frame is said, and one of what the agent has said is played.
    pub fn handle_tick(&mut self, now: Instant) {
        self.progress.played = (self.progress.played + FRAME_TICKS).min(self.progress.pushed);
        let frame = self.next_frame(now);
        self.say(&frame);
        if self.session.poll_timeout().is_some_and(|due| due <= now) {
            self.session.handle_timeout(now);
        }
        self.poll(now);
        self.look_at_time(now);
    }

    /// What is to be written to the connection.
    pub fn outbound(&mut self) -> Option<&mut Vec<u8>> {
        self.session.outbound()
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Says goodbye to the agent: the last bytes for its connection, and what came of the trial.
    pub fn finish(mut self) -> (Vec<u8>, Audition) {
        let farewell = self.session.stop(NORMAL_CLOSURE);
        let speech = (!self.speech.is_empty()).then(|| wav(&self.speech, self.rate));
        let speech = speech.map(|wav| base64_simd::STANDARD.encode_to_string(wav));
        (farewell, Audition { steps: self.steps, speech })
    }

    /// The next 20 ms of what is said: the question, or silence.
    fn next_frame(&mut self, now: Instant) -> [i16; FRAME_SAMPLES] {
        let mut frame = [0; FRAME_SAMPLES];
        let Stage::Asking(at) = self.stage else { return frame };
        if at == 0 && self.session.wants_voice() {
            self.session.handle_voice(Voice::Began, now);
        }
        let rest = &self.question[at.min(self.question.len())..];
        let count = rest.len().min(FRAME_SAMPLES);
        frame[..count].copy_from_slice(&rest[..count]);
        self.stage = Stage::Asking(at + count);
        if rest.len() <= FRAME_SAMPLES {
            if self.session.wants_voice() {
                self.session.handle_voice(Voice::Ended, now);
            }
            (self.stage, self.since, self.heard_at) = (Stage::Answering, now, None);
        }
        frame
    }

    fn say(&mut self, frame: &[i16; FRAME_SAMPLES]) {
        if self.codec == Codec::Pcmu {
            self.coded.clear();
            Codec::Pcmu.encode(frame, &mut self.coded);
            return self.session.handle_audio(&Frame::coded(Codec::Pcmu, &self.coded, frame));
        }
        // Only silence is said on the wideband line.
        self.session.handle_audio(&Frame::linear(SampleRate::Hz16000, &[0; 2 * FRAME_SAMPLES]));
    }

    fn poll(&mut self, now: Instant) {
        while self.stage != Stage::Over {
            match self.session.poll_output(self.progress, now) {
                None => return,
                Some(AgentOutput::Ready) if self.stage == Stage::Opening => {
                    self.pass("session", "The session is open.".to_owned(), Stage::Greeting, now);
                }
                Some(AgentOutput::Play(speech)) => {
                    let ticks = keep(speech, self.stage == Stage::Greeting, &mut self.speech, &mut self.rate);
                    self.progress.pushed += ticks as u64;
                    self.handle_heard(now);
                }
                Some(AgentOutput::Clear) => self.progress.played = self.progress.pushed,
                Some(AgentOutput::Said(said)) => {
                    let words = match said.speaker {
                        Speaker::Agent => &mut self.said,
                        Speaker::Caller => &mut self.understood,
                    };
                    *words = said.text;
                }
                Some(AgentOutput::Lost(loss)) => {
                    let why = self.session.complaint().map_or_else(|| loss.to_string(), |why| format!("{loss}: {why}"));
                    self.fail("lost", why, now);
                }
                Some(AgentOutput::HangUp) => self.fail("hung_up", "The agent has ended the session.".to_owned(), now),
                Some(_) => {}
            }
        }
    }

    /// Sound has come.
    fn handle_heard(&mut self, now: Instant) {
        let is_first = self.heard_at.replace(now).is_none();
        if self.stage == Stage::Answering && is_first {
            let took = now.saturating_duration_since(self.since);
            let understood = match self.understood.as_str() {
                "" => String::new(),
                words => format!(" It has understood: {words}"),
            };
            let found = format!("It answers {} ms behind the end of the question.{understood}", took.as_millis());
            self.pass("answer", found, Stage::Over, now);
        } else if self.stage == Stage::Greeting && is_first {
            let found = format!("It speaks after {} ms.", now.saturating_duration_since(self.since).as_millis());
            self.steps.push(passed("greeting", found, now.saturating_duration_since(self.since)));
        }
    }

    fn look_at_time(&mut self, now: Instant) {
        let waited = now.saturating_duration_since(self.since);
        let is_quiet = self.heard_at.is_some_and(|at| now.saturating_duration_since(at) >= QUIET);
        match self.stage {
            Stage::Opening if waited >= STEP_MAX => {
                self.fail("late", "The session was not opened in time.".to_owned(), now);
            }
            Stage::Greeting if is_quiet && self.progress.is_drained() => self.end_greeting(now),
            Stage::Greeting if waited >= GREETING_MAX => self.end_greeting(now),
            Stage::Greeting if self.heard_at.is_none() && self.talks_at_once && waited >= PATIENCE && self.is_asked => {
                let found = "It waits to be spoken to.".to_owned();
                let took_ms = waited.as_millis() as u32;
                self.steps.push(TestStep { step: "greeting".into(), is_ok: None, fault: None, found, took_ms });
                self.end_greeting(now);
            }
            Stage::Greeting if self.heard_at.is_none() && waited >= STEP_MAX => {
                self.fail("silent", "It says nothing.".to_owned(), now);
            }
            Stage::Answering if waited >= STEP_MAX => {
                self.fail("silent", "It does not answer.".to_owned(), now);
            }
            _ => {}
        }
    }

    fn end_greeting(&mut self, now: Instant) {
        if !self.said.is_empty()
            && let Some(step) = self.steps.last_mut()
        {
            step.found.push_str(&format!(" It says: {}", self.said));
        }
        self.stage = if self.is_asked { Stage::Asking(0) } else { Stage::Over };
        (self.since, self.heard_at) = (now, None);
        self.said.clear();
    }

    fn pass(&mut self, step: &str, found: String, next: Stage, now: Instant) {
        self.steps.push(passed(step, found, now.saturating_duration_since(self.since)));
        (self.stage, self.since, self.heard_at) = (next, now, None);
    }

    fn fail(&mut self, fault: &str, found: String, now: Instant) {
        let step = match self.stage {
            Stage::Opening => "session",
            Stage::Greeting => "greeting",
            Stage::Asking(_) | Stage::Answering | Stage::Over => "answer",
        };
        self.steps.push(failed(step, fault, found, now.saturating_duration_since(self.since)));
        self.stage = Stage::Over;
    }
}

/// Counts what is played in ticks, and keeps it where it is wanted.
fn keep(speech: Speech<'_>, is_kept: bool, kept: &mut Vec<i16>, rate: &mut SampleRate) -> usize {
    let (ticks, own_rate) = match speech {
        Speech::Coded(_, bytes) => (bytes.len(), SampleRate::Hz8000),
        Speech::Samples(rate, samples) => (samples.len() / rate.tick_samples(), rate),
    };
    if kept.is_empty() {
        *rate = own_rate;
    }
    if is_kept && own_rate == *rate && kept.len() < SPEECH_SAMPLES_MAX {
        match speech {
            Speech::Coded(Codec::Pcma, bytes) => Form::Alaw.decode(bytes, kept),
            Speech::Coded(_, bytes) => Form::Mulaw.decode(bytes, kept),
            Speech::Samples(_, samples) => kept.extend_from_slice(samples),
        }
    }
    ticks
}

/// A step that went well.
fn passed(step: &str, found: String, took: Duration) -> TestStep {
    TestStep { step: step.into(), is_ok: Some(true), fault: None, found, took_ms: took.as_millis() as u32 }
}

/// A step that did not.
pub fn failed(step: &str, fault: &str, found: String, took: Duration) -> TestStep {
    let took_ms = took.as_millis() as u32;
    TestStep { step: step.into(), is_ok: Some(false), fault: Some(fault.into()), found, took_ms }
}

/// Samples as a WAV file, mono.
fn wav(samples: &[i16], rate: SampleRate) -> Vec<u8> {
    // The samples are bounded.
    let bytes = 2 * samples.len() as u32;
    let mut file = Vec::with_capacity(44 + 2 * samples.len());
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(36 + bytes).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend_from_slice(&rate.hertz().to_le_bytes());
    file.extend_from_slice(&(2 * rate.hertz()).to_le_bytes());
    file.extend_from_slice(b"\x02\0\x10\0data");
    file.extend_from_slice(&bytes.to_le_bytes());
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}

/// What the agent is told of itself.
const INSTRUCTIONS: &str = "You are being tested over a phone line. Answer in one short sentence.";

/// 20 ms at 8 kHz.
const FRAME_SAMPLES: usize = 160;

/// 20 ms.
const FRAME_TICKS: u64 = 160;

/// 12 s for each step: models that are being loaded take ten.
const STEP_MAX: Duration = Duration::from_secs(12);

/// 4 s: an agent that greets by itself has begun by then; another waits to be spoken to.
const PATIENCE: Duration = Duration::from_secs(4);

/// 15 s of a greeting: it is spoken to then.
const GREETING_MAX: Duration = Duration::from_secs(15);

/// 700 ms without sound: it has said what it has to say.
const QUIET: Duration = Duration::from_millis(700);

/// 20 s at 16 kHz.
const SPEECH_SAMPLES_MAX: usize = 320_000;

/// RFC 6455 §7.4.1.
const NORMAL_CLOSURE: u16 = 1000;

#[cfg(test)]
mod tests;
