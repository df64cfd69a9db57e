//! ElevenLabs Agents.
//!
//! ```text
//!   gateway ── conversation_initiation_client_data ──▶ service    first, with what the owner overrides
//!           ◀─ conversation_initiation_metadata ──────            ready: it names the forms of audio
//!           ◀─ audio (event_id)… ───── user_audio_chunk… ▶        base64 both ways
//!           ◀─ interruption (event_id)                            the queue is emptied; audio up to this id is late
//!           ◀─ ping (ping_ms) ──────── pong ▶                     so many milliseconds later
//! ```
//!
//! The agent is made at ElevenLabs, and its forms are set there: `ulaw_8000` suits a telephone. It is found by its id,
//! as public agents are; where there is a key, an address that is signed for this call is fetched over HTTP beforehand,
//! which lets in to private ones. Prompt, greeting, language and voice go along only where the owner has set them,
//! since the agent must allow each of them. It greets as soon as it is connected. What it can do besides speaking is
//! set there too: client tools named `end_call`, `send_dtmf` (`digits`) and `transfer` (`to`) are done here. Its own
//! tool that ends the call has the service close the connection.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use talkstack_control::port::FirstSpeaker;
use talkstack_media::audio::frame::{Form, SampleRate};

use super::{Answer, Protocol, Session, Step};
use crate::agent::provider::Opening;
use crate::agent::sound::Sound;
use crate::agent::websocket::Message;
use crate::agent::wire::{Text, loggable, read_event, readable, write_base64};
use crate::agent::{AgentLoss, Progress};

/// How far a session is.
#[derive(Default)]
pub(super) struct ElevenLabs {
    /// Audio up to this event is late.
    interrupted_at: Option<i64>,
    /// The agent's turn that comes has had its words.
    has_words: bool,
    /// When its last audio came.
    heard_at: Option<Instant>,
    /// Pings to be answered, and when.
    pongs: Vec<(Instant, i64)>,
}

/// A message of the service's. Which of the fields are there depends on its type.
#[derive(Deserialize, Default)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    audio_event: Option<Audio<'a>>,
    #[serde(rename = "conversation_initiation_metadata_event")]
    metadata: Option<Metadata>,
    interruption_event: Option<Interruption>,
    ping_event: Option<Ping>,
    #[serde(borrow)]
    user_transcription_event: Option<UserTranscript<'a>>,
    #[serde(borrow)]
    agent_response_event: Option<AgentResponse<'a>>,
    #[serde(borrow)]
    agent_response_correction_event: Option<Correction<'a>>,
    client_tool_call: Option<ToolCall>,
    error_event: Option<ErrorEvent>,
}

#[derive(Deserialize)]
struct Audio<'a> {
    #[serde(borrow)]
    audio_base_64: Option<Text<'a>>,
    event_id: Option<i64>,
}

#[derive(Deserialize)]
struct Metadata {
    agent_output_audio_format: Option<String>,
    user_input_audio_format: Option<String>,
}

#[derive(Deserialize)]
struct Interruption {
    event_id: Option<i64>,
}

#[derive(Deserialize)]
struct Ping {
    event_id: Option<i64>,
    ping_ms: Option<f64>,
}

#[derive(Deserialize)]
struct UserTranscript<'a> {
    #[serde(borrow)]
    user_transcript: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct AgentResponse<'a> {
    #[serde(borrow)]
    agent_response: Option<Text<'a>>,
    event_id: Option<i64>,
}

#[derive(Deserialize)]
struct Correction<'a> {
    #[serde(borrow)]
    corrected_agent_response: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct ToolCall {
    tool_call_id: Option<String>,
    tool_name: Option<String>,
    parameters: Option<Value>,
}

#[derive(Deserialize, Default)]
struct ErrorEvent {
    error_type: Option<String>,
    message: Option<String>,
}

impl Protocol for ElevenLabs {
    fn begin(&mut self, session: &mut Session) {
        session.replies.push(initiation(session));
    }

    fn write_audio(&self, audio: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"user_audio_chunk\":\"");
        write_base64(out, audio);
        out.extend_from_slice(b"\"}");
    }

    fn read(
        &mut self,
        message: Message<'_>,
        session: &mut Session,
        progress: Progress,
        now: Instant,
    ) -> Result<Step, AgentLoss> {
        let Message::Text(text) = message else { return Ok(Step::Nothing) };
        let event: Event<'_> = read_event(text)?;
        match event.kind.as_deref().unwrap_or_default() {
            "audio" => return Ok(self.handle_audio(event.audio_event.as_ref(), session, progress, now)),
            "conversation_initiation_metadata" => {
                if let Some(metadata) = event.metadata {
                    return metadata.apply(session);
                }
            }
            "interruption" => {
                let at = event.interruption_event.and_then(|interruption| interruption.event_id);
                self.interrupted_at = self.interrupted_at.max(at);
                (self.has_words, self.heard_at) = (false, None);
                let step = session.interrupt(progress, now);
                session.talk.handle_agent_cut();
                return Ok(step);
            }
            "ping" => self.handle_ping(event.ping_event.as_ref(), session, now),
            "user_transcript" => {
                let text = event.user_transcription_event.and_then(|event| event.user_transcript);
                session.talk.handle_cut_done();
                self.close_turn(session);
                session.handle_caller_said(text.as_deref().unwrap_or_default(), now);
            }
            "agent_response" => self.handle_words(event.agent_response_event.as_ref(), session),
            "agent_response_correction" => {
                let corrected = event.agent_response_correction_event.and_then(|event| event.corrected_agent_response);
                if let Some(text) = corrected {
                    session.talk.handle_corrected(&text);
                }
            }
            "client_tool_call" => {
                if let Some(ToolCall { tool_call_id: Some(id), tool_name, parameters }) = event.client_tool_call {
                    let (name, arguments) = (tool_name.unwrap_or_default(), parameters.unwrap_or_default().to_string());
                    session.duties.handle_call(&id, &name, &arguments);
                }
            }
            "error" => {
                let ErrorEvent { error_type, message } = event.error_event.unwrap_or_default();
                let kind = error_type.unwrap_or_default();
                let code = loggable(&kind);
                session.complaint = Some(format!("{} ({code})", readable(&message.unwrap_or_default())));
                tracing::warn!(code, "The agent's service reports the error {code}");
                return Err(if kind == "max_duration_exceeded" { AgentLoss::Expired } else { AgentLoss::Refused });
            }
            _ => {}
        }
        Ok(Step::Nothing)
    }

    /// The tool that ends the call is the service's own.
    fn hangs_up_by_closing(&self) -> bool {
        true
    }

    fn greet(&mut self, _opening: &Opening) -> Option<Value> {
        None
    }

    fn answer(&self, answers: Vec<Answer>, out: &mut Vec<Value>) {
        out.extend(answers.into_iter().map(|Answer { call_id, output, is_refusal, .. }| {
            json!({ "type": "client_tool_result", "tool_call_id": call_id, "result": output, "is_error": is_refusal })
        }));
    }

    fn tell(&self, text: &str) -> Value {
        json!({ "type": "user_message", "text": text })
    }

    /// The service does not say when a turn's audio has come whole: a pause behind what has been played does.
    fn handle_progress(&mut self, session: &mut Session, progress: Progress, now: Instant) {
        let is_quiet = self.heard_at.is_some_and(|at| now.saturating_duration_since(at) >= TURN_QUIET);
        if is_quiet && progress.is_drained() {
            self.close_turn(session);
        }
    }

    fn handle_timeout(&mut self, session: &mut Session, now: Instant) {
        self.pongs.retain(|(due, event_id)| {
            let is_due = *due <= now;
            if is_due {
                session.replies.push(pong(*event_id));
            }
            !is_due
        });
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.pongs.iter().map(|(due, _)| *due).min()
    }
}

impl ElevenLabs {
    fn handle_audio(
        &mut self,
        audio: Option<&Audio<'_>>,
        session: &mut Session,
        progress: Progress,
        now: Instant,
    ) -> Step {
        let Some(audio) = audio else { return Step::Nothing };
        let data = audio.audio_base_64.as_deref().unwrap_or_default();
        if self.is_late(audio.event_id) || !session.sound.handle_base64(data) {
            return Step::Nothing;
        }
        self.heard_at = Some(now);
        session.play(progress)
    }

    fn handle_words(&mut self, response: Option<&AgentResponse<'_>>, session: &mut Session) {
        let Some(response) = response else { return };
        let text = response.agent_response.as_deref().unwrap_or_default();
        if self.is_late(response.event_id) {
            return session.talk.handle_late_sentence(text);
        }
        session.talk.handle_cut_done();
        self.close_turn(session);
        self.has_words = true;
        session.talk.handle_agent_words(text);
    }

    fn handle_ping(&mut self, ping: Option<&Ping>, session: &mut Session, now: Instant) {
        let Some(ping) = ping else { return };
        let event_id = ping.event_id.unwrap_or(0);
        // A cast of a float saturates.
        let wait = Duration::from_millis((ping.ping_ms.unwrap_or(0.0) as u64).min(PONG_WAIT_MAX_MS));
        if wait.is_zero() {
            session.replies.push(pong(event_id));
        } else if self.pongs.len() < PONGS_MAX {
            self.pongs.push((now + wait, event_id));
        }
    }

    /// The agent's turn is over, if its words have come.
    fn close_turn(&mut self, session: &mut Session) {
        if std::mem::take(&mut self.has_words) {
            self.heard_at = None;
            session.talk.handle_agent_done();
        }
    }

    /// Whether an event belongs to what has been interrupted.
    fn is_late(&self, event_id: Option<i64>) -> bool {
        matches!((event_id, self.interrupted_at), (Some(id), Some(at)) if id <= at)
    }
}

impl Metadata {
    /// The service names the forms; one that it does not name is the line's.
    fn apply(self, session: &mut Session) -> Result<Step, AgentLoss> {
        let line = session.sound.form();
        let form = |name: Option<String>| name.map_or(Ok(line), |name| form_of(&name).ok_or(AgentLoss::Format));
        let (hears, says) = (form(self.user_input_audio_format)?, form(self.agent_output_audio_format)?);
        session.sound = Sound::new(hears);
        session.sound.set_said(says);
        Ok(Step::Ready)
    }
}

/// What the service is told first: overrides, where there are any.
fn initiation(session: &Session) -> Value {
    let Session { opening, settings, .. } = session;
    let mut overrides = json!({});
    if !opening.instructions.is_empty() {
        overrides["agent"]["prompt"]["prompt"] = json!(opening.instructions);
    }
    match (opening.first_speaker, &opening.greeting) {
        (FirstSpeaker::Caller, _) => overrides["agent"]["first_message"] = json!(""),
        (FirstSpeaker::Agent, Some(greeting)) => overrides["agent"]["first_message"] = json!(greeting),
        (FirstSpeaker::Agent, None) => {}
    }
    if let Some(language) = &settings.language {
        overrides["agent"]["language"] = json!(language);
    }
    if let Some(voice) = &opening.voice {
        overrides["tts"]["voice_id"] = json!(voice);
    }
    let mut told = json!({ "type": "conversation_initiation_client_data" });
    if overrides != json!({}) {
        told["conversation_config_override"] = overrides;
    }
    if !settings.parameters.is_empty() {
        told["dynamic_variables"] = json!(settings.parameters);
    }
    told
}

fn pong(event_id: i64) -> Value {
    json!({ "type": "pong", "event_id": event_id })
}

/// A form as the service names it; those at 22.05 and 44.1 kHz have no whole samples in a tick.
fn form_of(name: &str) -> Option<Form> {
    Some(match name {
        "ulaw_8000" => Form::Mulaw,
        "pcm_8000" => Form::Linear(SampleRate::Hz8000),
        "pcm_16000" => Form::Linear(SampleRate::Hz16000),
        "pcm_24000" => Form::Linear(SampleRate::Hz24000),
        "pcm_48000" => Form::Linear(SampleRate::Hz48000),
        _ => return None,
    })
}

/// 1 s: three times the pause between two sentences of one turn.
const TURN_QUIET: Duration = Duration::from_secs(1);

/// 10 s: a round trip that is longer says nothing more.
const PONG_WAIT_MAX_MS: u64 = 10_000;

/// 16 pings: one every two seconds is usual; further ones are not answered.
const PONGS_MAX: usize = 16;
