//! The client's side of OpenAI's Realtime protocol (GA), over a WebSocket, for a phone line.
//!
//! ```text
//!   gateway ◀─ session.created ── server
//!           ── session.update ──▶           instructions, voice, the audio's format
//!           ◀─ session.updated ──           ready: the caller is let in, the agent greets
//!           ── input_audio_buffer.append… ▶ continuously, silence too
//!           ◀─ response.output_audio.delta…
//!           ◀─ input_audio_buffer.speech_started
//!           ── conversation.item.truncate ▶ at the milliseconds really played on the wire
//! ```
//!
//! On a line that speaks G.711 audio passes through untouched; on a wideband one it is linear at 24 kHz, resampled once
//! each way. One response at a time: what wants another waits for `response.done`.

mod dialect;
mod event;
mod floor;

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::json;
use talkstack_control::port::{FirstSpeaker, Outcome};
use talkstack_media::audio::frame::{Form, Frame, SampleRate};
use talkstack_media::codec::Codec;

use super::conversation::Conversation;
use super::duties::Answer;
use super::errands::Done;
use super::keys::Keys;
use super::provider::{GREETING_INSTRUCTIONS, Greets, Opening, ServicePlan};
use super::service::{CallFacts, Service};
use super::sound::Sound;
use super::websocket::{Message, WebSocket};
use super::wire::{read_event, write_base64};
use super::{AgentLoss, AgentOutput, Progress, Said};
use dialect::Dialect;
use event::{Event, Kind, Response};
use floor::{Floor, ResponseState, Wanted};

/// One session of one call.
pub struct OpenAiRealtime {
    socket: WebSocket,
    dialect: Dialect,
    opening: Opening,
    sound: Sound,
    stage: Stage,
    conversation: Conversation,
    floor: Floor,
    keys: Keys,
    /// When the first of the caller's audio was appended: the zero of the server's clock.
    heard_since: Option<Instant>,
    errors_logged: u8,
    complaint: Option<String>,
    loss: Option<AgentLoss>,
    now: Option<Instant>,
}

impl fmt::Debug for OpenAiRealtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenAiRealtime({:?}, {:?}, {:?})", self.stage, self.sound.form(), self.floor)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waiting for `session.created`.
    Connected,
    /// Waiting for `session.updated`.
    Updating,
    Ready,
    Over,
}

/// What a message from the server comes to.
enum Step {
    Play,
    Clear,
    Ready,
    Nothing,
}

impl OpenAiRealtime {
    /// Starts behind the handshake; nothing is sent before the server's `session.created`.
    pub fn new(plan: &ServicePlan, facts: CallFacts) -> Self {
        OpenAiRealtime {
            socket: WebSocket::new(facts.seed),
            dialect: Dialect::of(plan.kind),
            opening: plan.opening.clone(),
            sound: Sound::new(form_for(facts.codec)),
            stage: Stage::Connected,
            conversation: Conversation::default(),
            floor: Floor::new(plan.opening.tools.clone()),
            keys: Keys::default(),
            heard_since: None,
            errors_logged: 0,
            complaint: None,
            loss: None,
            now: None,
        }
    }

    /// Deals with the next message; audio to be played lies in `audio`.
    fn next_step(&mut self, progress: Progress, now: Instant) -> Result<Option<Step>, AgentLoss> {
        let text = match self.socket.next_message()? {
            None => return Ok(None),
            Some(Message::Text(text)) => text,
            Some(Message::Binary(_)) => return Ok(Some(Step::Nothing)),
            Some(Message::Close(_)) => return Err(AgentLoss::Closed),
        };
        let event: Event<'_> = read_event(text)?;
        let kind = event.kind();
        match kind {
            Kind::SessionCreated if self.stage == Stage::Connected => {
                self.stage = Stage::Updating;
                let update = self.dialect.session_update(&self.opening, self.sound.form());
                self.socket.send_json(&update);
                return Ok(Some(Step::Nothing));
            }
            Kind::SessionUpdated if self.stage == Stage::Updating => {
                if event.contradicts(self.sound.form()) {
                    return Err(AgentLoss::Format);
                }
                self.stage = Stage::Ready;
                if self.opening.greets == Greets::WhenReady {
                    self.want_greeting();
                }
                return Ok(Some(Step::Ready));
            }
            Kind::Error => {
                let code = event.error_code();
                self.complaint = Some(event.error_text());
                return self.handle_error(&code).map(|()| Some(Step::Nothing));
            }
            _ if self.stage != Stage::Ready => return Ok(Some(Step::Nothing)),
            _ => {}
        }
        let conversation = &mut self.conversation;
        let step = match kind {
            Kind::AudioDelta if self.sound.handle_base64(event.delta()) => {
                let is_wanted = conversation.handle_audio(event.place(), self.sound.ticks(), progress);
                if !is_wanted {
                    self.sound.forget_begun();
                }
                self.floor.has_spoken |= is_wanted;
                if is_wanted && self.sound.ticks() > 0 { Step::Play } else { Step::Nothing }
            }
            Kind::SpeechStarted => {
                let since = self.heard_since.zip(event.audio_start_ms());
                let began = since.and_then(|(since, ms)| since.checked_add(Duration::from_millis(ms)));
                let began = began.map_or(now, |began| began.min(now));
                conversation.handle_speech_started(event.item_id(), began, progress, now);
                self.floor.handle_speech_started(conversation);
                if progress.is_drained() { Step::Nothing } else { Step::Clear }
            }
            _ => {
                converse(kind, &event, conversation, &mut self.floor, now)?;
                Step::Nothing
            }
        };
        if conversation.is_flooded() { Err(AgentLoss::Flood) } else { Ok(Some(step)) }
    }

    /// Errors are reports, unless they end the session.
    fn handle_error(&mut self, code: &str) -> Result<(), AgentLoss> {
        if self.errors_logged < ERRORS_LOGGED_MAX {
            self.errors_logged += 1;
            tracing::warn!(code, "The agent's server reports the error {code}");
        }
        match (code, &self.floor.response) {
            ("session_expired", _) => return Err(AgentLoss::Expired),
            ("conversation_already_has_active_response", ResponseState::Asked(wanted)) => {
                // The server's own detector was first: ours comes behind it.
                self.floor.wanted = *wanted;
                self.floor.response = ResponseState::Active(String::new());
            }
            (_, ResponseState::Asked(_)) => self.floor.response = ResponseState::None,
            _ => {}
        }
        Ok(())
    }

    fn want_greeting(&mut self) {
        if self.opening.first_speaker == FirstSpeaker::Agent && !self.floor.has_caller_spoken {
            self.floor.wanted = Wanted::Greeting;
            // Once is enough.
            self.opening.first_speaker = FirstSpeaker::Caller;
        }
    }

    fn want_response(&mut self) {
        self.floor.want_response();
    }

    /// Sends what the last message, or the end of a response, gave rise to.
    fn send_due(&mut self) {
        while let Some(truncation) = self.conversation.take_truncation() {
            self.socket.send_json(&json!({
                "type": "conversation.item.truncate",
                "item_id": truncation.item_id,
                "content_index": truncation.content_index,
                "audio_end_ms": truncation.audio_end_ms,
            }));
        }
        if let Some(response_id) = self.floor.cancelled.take() {
            self.socket.send_json(&json!({ "type": "response.cancel", "response_id": response_id }));
        }
        for Answer { call_id, output, .. } in self.floor.duties.take_answers() {
            self.socket.send_json(&json!({ "type": "conversation.item.create", "item": {
                "type": "function_call_output", "call_id": call_id, "output": output,
            }}));
        }
        let wanted = self.floor.wanted;
        if wanted == Wanted::Nothing || self.floor.response != ResponseState::None || self.stage != Stage::Ready {
            return;
        }
        self.floor.wanted = Wanted::Nothing;
        self.floor.response = ResponseState::Asked(wanted);
        match (&self.opening.greeting, wanted) {
            (Some(greeting), Wanted::Greeting) => {
                let instructions = format!("{GREETING_INSTRUCTIONS}{greeting}");
                self.socket
                    .send_json(&json!({ "type": "response.create", "response": { "instructions": instructions } }));
            }
            _ => self.socket.send_json(&json!({ "type": "response.create" })),
        }
    }

    fn lose(&mut self, loss: AgentLoss) {
        if self.stage != Stage::Over {
            self.stage = Stage::Over;
            self.loss = Some(loss);
        }
    }
}

impl Service for OpenAiRealtime {
    fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    fn handle_audio(&mut self, frame: &Frame<'_>) {
        if self.stage != Stage::Ready {
            return;
        }
        if self.socket.is_stalled(self.sound.form()) {
            return self.lose(AgentLoss::Stalled);
        }
        self.heard_since = self.heard_since.or(self.now);
        let audio = self.sound.of_line(frame);
        self.socket.send_text(|out| {
            out.extend_from_slice(b"{\"type\":\"input_audio_buffer.append\",\"audio\":\"");
            write_base64(out, audio);
            out.extend_from_slice(b"\"}");
        });
    }

    fn handle_digit(&mut self, digit: char) {
        if self.stage == Stage::Ready {
            self.keys.handle_digit(digit);
        }
    }

    fn handle_interrupted(&mut self, progress: Progress, now: Instant) {
        if self.stage == Stage::Ready {
            self.conversation.cut(progress, now);
            self.floor.handle_interrupted(&mut self.conversation);
            self.sound.forget_begun();
            self.send_due();
        }
    }

    fn greet(&mut self) {
        self.opening.greets = Greets::WhenReady;
        if self.stage == Stage::Ready {
            self.want_greeting();
            self.send_due();
        }
    }

    fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.stage != Stage::Over {
            self.socket.handle_bytes(bytes);
        }
    }

    fn handle_disconnect(&mut self) {
        self.lose(AgentLoss::Disconnected);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some(text) = self.keys.take_due(now) {
            self.socket.send_json(&json!({ "type": "conversation.item.create", "item": {
                "type": "message", "role": "user", "content": [{ "type": "input_text", "text": text }],
            }}));
            self.want_response();
            self.send_due();
        }
        if self.floor.duties.handle_timeout(now) {
            self.want_response();
            self.send_due();
        }
    }

    fn poll_output(&mut self, progress: Progress, now: Instant) -> Option<AgentOutput<'_>> {
        self.now = Some(now);
        self.keys.handle_now(now);
        self.conversation.handle_progress(progress, now);
        if let Some(said) = self.conversation.poll_said(now) {
            return Some(AgentOutput::Said(said));
        }
        if let Some(loss) = self.loss.take() {
            return Some(AgentOutput::Lost(loss));
        }
        while self.stage != Stage::Over {
            let step = match self.next_step(progress, now) {
                Ok(Some(step)) => step,
                Ok(None) => break,
                Err(loss) => {
                    self.stage = Stage::Over;
                    return Some(AgentOutput::Lost(loss));
                }
            };
            self.send_due();
            match step {
                Step::Play => return Some(AgentOutput::Play(self.sound.of_agent())),
                Step::Clear => return Some(AgentOutput::Clear),
                Step::Ready => return Some(AgentOutput::Ready),
                Step::Nothing => {}
            }
        }
        if let Some(said) = self.conversation.poll_said(now) {
            return Some(AgentOutput::Said(said));
        }
        let is_heard = self.stage == Stage::Ready && self.floor.is_silent() && progress.is_drained();
        self.floor.duties.poll_output(is_heard, BREATH, now)
    }

    fn handle_not_transferred(&mut self, outcome: Outcome) {
        self.floor.handle_not_transferred(outcome);
        self.send_due();
    }

    fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    fn handle_done(&mut self, number: u32, done: Done) {
        self.floor.handle_done(number, done);
        self.send_due();
    }

    fn poll_last_words(&mut self, progress: Progress) -> Option<Said> {
        if let Some(now) = self.now {
            self.conversation.handle_progress(progress, now);
        }
        self.conversation.poll_last_words()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.keys.due(), self.conversation.poll_timeout(), self.floor.duties.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    fn outbound(&mut self) -> &mut Vec<u8> {
        self.socket.outbound()
    }

    fn stop(&mut self, code: u16) {
        self.socket.close(code);
        self.stage = Stage::Over;
        self.keys = Keys::default();
    }
}

/// The protocol has G.711 and linear audio at 24 kHz, and no other.
fn form_for(codec: Codec) -> Form {
    match codec.form() {
        form @ (Form::Mulaw | Form::Alaw) => form,
        Form::Linear(_) => Form::Linear(SampleRate::Hz24000),
    }
}

/// Events that change who has said what and whose turn it is, and have nothing played.
fn converse(
    kind: Kind,
    event: &Event<'_>,
    conversation: &mut Conversation,
    floor: &mut Floor,
    now: Instant,
) -> Result<(), AgentLoss> {
    let nameless = Response::default();
    match kind {
        Kind::AudioDone => conversation.handle_audio_done(event.item_id()),
        Kind::TranscriptDelta => conversation.handle_transcript(event.place(), event.delta()),
        Kind::TranscriptDone => conversation.handle_transcript_done(event.place(), event.transcript()),
        Kind::SpeechStopped => floor.is_caller_speaking = false,
        Kind::Committed => conversation.handle_committed(event.item_id()),
        Kind::CallerTranscribed => conversation.handle_caller_transcribed(event.item_id(), event.transcript(), now),
        Kind::CallerNotTranscribed => conversation.handle_caller_transcribed(event.item_id(), "", now),
        Kind::FunctionCall => floor.handle_function_call(event.function_call()),
        Kind::ResponseCreated => {
            floor.handle_response_created(event.response().unwrap_or(&nameless), conversation);
        }
        Kind::ResponseDone => {
            let response = event.response().unwrap_or(&nameless);
            conversation.handle_response_done(response.id.as_deref().unwrap_or_default());
            floor.handle_response_done(response)?;
        }
        _ => {}
    }
    Ok(())
}

/// 300 ms behind the last word: what the far end's jitter buffer still has, and nobody is cut off.
const BREATH: Duration = Duration::from_millis(300);

/// Ten lines: a server that goes on says nothing new.
const ERRORS_LOGGED_MAX: u8 = 10;

#[cfg(test)]
mod tests;
