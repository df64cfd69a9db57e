//! Media streams: a service behind a WebSocket gets the caller's audio and sends its own, and the gateway plays the
//! telephony provider.
//!
//! ```text
//!   gateway ─ start, audio…, key, mark reached, stop ─▶ agent
//!           ◀──────── audio…, mark, clear ────────────
//! ```
//!
//! Each provider has its dialect: how it names these, and how audio travels. What they mean is the same everywhere:
//! audio is queued and played in order, a mark comes back when everything queued before it has been played, and a clear
//! empties the queue.

mod exotel;
mod pcm;
mod plivo;
mod telnyx;
mod twilio;
mod vonage;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Map, Value};
use talkstack_control::port::{CallId, ProviderKind, ProviderSettings};
use talkstack_media::audio::frame::{Form, Frame, SampleRate};

use super::provider::ServicePlan;
use super::service::{CallFacts, Service};
use super::sound::Sound;
use super::websocket::{Message, WebSocket};
use super::wire::{write_base64, write_number};
use super::{AgentLoss, AgentOutput, Progress};

/// One media stream of one call.
pub struct MediaStream {
    socket: WebSocket,
    dialect: &'static dyn Dialect,
    stream: Stream,
    sound: Sound,
    marks: VecDeque<Mark>,
    is_connected: bool,
    loss: Option<AgentLoss>,
}

/// What a dialect says, and how it is understood.
trait Dialect: Sync {
    /// How audio lies in a message, both ways unless the agent says otherwise.
    fn form(&self, settings: &ProviderSettings) -> Form;
    /// What the agent is told first.
    fn introduce(&self, stream: &mut Stream, plan: &ServicePlan) -> Vec<Value>;
    /// Writes a message with the caller's audio, which has been counted.
    fn write_audio(&self, stream: &Stream, audio: &[u8], out: &mut Vec<u8>);
    /// A key was pressed.
    fn digit(&self, stream: &mut Stream, key: char) -> Value;
    /// A mark has been played, or its audio cleared; `None` where the agent is not told of it.
    fn mark(&self, stream: &mut Stream, name: &str, was_cleared: bool) -> Option<Value>;
    /// Reads a text of the agent's; audio goes into `sound`.
    fn read(&self, text: &str, sound: &mut Sound) -> serde_json::Result<Request>;

    /// Whether audio travels as binary messages.
    fn is_binary(&self) -> bool {
        false
    }

    /// The queue has been emptied as the agent wished.
    fn cleared(&self, _stream: &mut Stream) -> Option<Value> {
        None
    }

    /// The stream ends.
    fn stop(&self, _stream: &mut Stream) -> Option<Value> {
        None
    }
}

/// How far a stream is.
struct Stream {
    id: CallId,
    form: Form,
    /// Messages that are counted, from 1.
    messages: u64,
    /// Messages with audio, from 1.
    chunks: u64,
    /// Audio sent to the agent, in ticks of 125 µs.
    ticks: u64,
}

/// A mark the agent set, and the queue position it waits for.
struct Mark {
    name: String,
    position: u64,
}

/// What a message from the agent asks for.
enum Request {
    /// Play what has been read into the sound.
    Play,
    Clear,
    Mark(String),
    Press(char),
    HangUp,
    Nothing,
}

/// A message as Twilio's kin send it. Unknown events and fields are ignored.
#[derive(Deserialize)]
struct FromAgent<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    media: Option<Media<'a>>,
    mark: Option<MarkName>,
}

#[derive(Deserialize)]
struct Media<'a> {
    #[serde(borrow)]
    payload: Cow<'a, str>,
}

#[derive(Deserialize)]
struct MarkName {
    name: String,
}

impl std::fmt::Debug for MediaStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MediaStream({}, {:?}, {} marks)", self.stream.id, self.stream.form, self.marks.len())
    }
}

impl MediaStream {
    /// Starts a stream; what the agent is told first waits in the outgoing buffer.
    pub fn new(plan: &ServicePlan, facts: CallFacts) -> Self {
        let dialect = dialect(plan.kind);
        let form = dialect.form(&plan.settings);
        let mut stream = MediaStream {
            socket: WebSocket::new(facts.seed),
            dialect,
            stream: Stream { id: facts.id, form, messages: 0, chunks: 0, ticks: 0 },
            sound: Sound::new(form),
            marks: VecDeque::new(),
            is_connected: true,
            loss: None,
        };
        for message in dialect.introduce(&mut stream.stream, plan) {
            stream.send(Some(message));
        }
        stream
    }

    /// Reads messages up to the next one that matters.
    fn next_request(&mut self) -> Result<Option<Request>, AgentLoss> {
        let request = match self.socket.next_message()? {
            None => return Ok(None),
            Some(Message::Text(text)) => self.dialect.read(text, &mut self.sound).map_err(|_| AgentLoss::NotJson)?,
            Some(Message::Binary(bytes)) if self.dialect.is_binary() => {
                self.sound.handle_bytes(bytes);
                Request::Play
            }
            Some(Message::Binary(_)) => Request::Nothing,
            // As at these providers: whose agent closes has nothing more to say.
            Some(Message::Close(None | Some(NORMAL_CLOSURE))) => Request::HangUp,
            Some(Message::Close(_)) => return Err(AgentLoss::Closed),
        };
        Ok(Some(match request {
            Request::Play if self.sound.ticks() == 0 => Request::Nothing,
            request => request,
        }))
    }

    fn set_mark(&mut self, name: String, progress: Progress) {
        if self.marks.len() < MARKS_MAX && name.len() <= MARK_NAME_BYTES_MAX {
            self.marks.push_back(Mark { name, position: progress.pushed });
        }
        self.return_marks(progress);
    }

    fn return_marks(&mut self, progress: Progress) {
        while self.marks.front().is_some_and(|mark| mark.position <= progress.played) {
            let Some(mark) = self.marks.pop_front() else { return };
            let told = self.dialect.mark(&mut self.stream, &mark.name, false);
            self.send(told);
        }
    }

    fn clear(&mut self) {
        for mark in std::mem::take(&mut self.marks) {
            let told = self.dialect.mark(&mut self.stream, &mark.name, true);
            self.send(told);
        }
        let told = self.dialect.cleared(&mut self.stream);
        self.send(told);
    }

    fn lose(&mut self, loss: AgentLoss) {
        if self.is_connected {
            self.is_connected = false;
            self.loss = Some(loss);
        }
    }

    fn send(&mut self, message: Option<Value>) {
        if let Some(message) = message {
            self.socket.send_json(&message);
        }
    }
}

impl Service for MediaStream {
    fn handle_audio(&mut self, frame: &Frame<'_>) {
        if !self.is_connected {
            return;
        }
        if self.socket.is_stalled(self.stream.form) {
            return self.lose(AgentLoss::Stalled);
        }
        let audio = self.sound.of_line(frame);
        let (stream, dialect) = (&mut self.stream, self.dialect);
        stream.messages += 1;
        stream.chunks += 1;
        stream.ticks += stream.form.ticks(audio.len()) as u64;
        let build = |out: &mut Vec<u8>| dialect.write_audio(stream, audio, out);
        if dialect.is_binary() {
            self.socket.send_binary(build);
        } else {
            self.socket.send_text(build);
        }
    }

    fn handle_digit(&mut self, digit: char) {
        let told = self.dialect.digit(&mut self.stream, digit);
        self.send(Some(told));
    }

    fn handle_interrupted(&mut self, _progress: Progress, _now: Instant) {
        self.sound.forget_begun();
        self.clear();
    }

    fn handle_bytes(&mut self, bytes: &[u8]) {
        self.socket.handle_bytes(bytes);
    }

    fn handle_disconnect(&mut self) {
        self.lose(AgentLoss::Disconnected);
    }

    fn poll_output(&mut self, progress: Progress, _now: Instant) -> Option<AgentOutput<'_>> {
        self.return_marks(progress);
        if let Some(loss) = self.loss.take() {
            return Some(AgentOutput::Lost(loss));
        }
        while self.is_connected {
            match self.next_request() {
                Ok(Some(Request::Play)) => return Some(AgentOutput::Play(self.sound.of_agent())),
                Ok(Some(Request::Clear)) => {
                    self.sound.forget_begun();
                    self.clear();
                    return Some(AgentOutput::Clear);
                }
                Ok(Some(Request::Mark(name))) => self.set_mark(name, progress),
                Ok(Some(Request::Press(key))) => return Some(AgentOutput::Press(key)),
                Ok(Some(Request::HangUp)) => return Some(AgentOutput::HangUp),
                Ok(Some(Request::Nothing)) => {}
                Ok(None) => return None,
                Err(loss) => {
                    self.is_connected = false;
                    return Some(AgentOutput::Lost(loss));
                }
            }
        }
        None
    }

    fn outbound(&mut self) -> &mut Vec<u8> {
        self.socket.outbound()
    }

    fn stop(&mut self, code: u16) {
        let told = self.dialect.stop(&mut self.stream);
        self.send(told);
        self.socket.close(code);
        self.is_connected = false;
    }
}

impl Stream {
    /// The stream's name in Twilio's shape: `MZ` and 32 hex digits.
    fn sid(&self) -> String {
        format!("MZ{:032x}", self.id.0)
    }

    /// Writes the same, without an allocation.
    fn write_sid(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"MZ");
        for nibble in (0..32).rev() {
            out.push(b"0123456789abcdef"[(self.id.0 >> (4 * nibble)) as usize & 0xf]);
        }
    }

    /// The number of the next message that is counted.
    fn next_message(&mut self) -> u64 {
        self.messages += 1;
        self.messages
    }

    /// Milliseconds of audio sent so far.
    fn at_ms(&self) -> u64 {
        self.ticks / 8
    }
}

/// How a provider of Twilio's kin names what stands in each message with audio.
struct Names {
    number: &'static str,
    stream: &'static str,
    /// What stands before the chunk's number.
    track: &'static str,
}

impl Names {
    /// Writes a message with audio, without an allocation. Numbers are texts.
    fn write_audio(&self, stream: &Stream, audio: &[u8], out: &mut Vec<u8>) {
        for piece in ["{\"event\":\"media\",\"", self.number, "\":\""] {
            out.extend_from_slice(piece.as_bytes());
        }
        write_number(out, stream.messages);
        for piece in ["\",\"", self.stream, "\":\""] {
            out.extend_from_slice(piece.as_bytes());
        }
        stream.write_sid(out);
        for piece in ["\",\"media\":{", self.track, "\"chunk\":\""] {
            out.extend_from_slice(piece.as_bytes());
        }
        write_number(out, stream.chunks);
        out.extend_from_slice(b"\",\"timestamp\":\"");
        write_number(out, stream.at_ms());
        out.extend_from_slice(b"\",\"payload\":\"");
        write_base64(out, audio);
        out.extend_from_slice(b"\"}}");
    }
}

impl FromAgent<'_> {
    /// What Twilio's kin mean by it.
    fn request(self, sound: &mut Sound) -> Request {
        match (&*self.event, self.media, self.mark) {
            ("media", Some(media), _) if sound.handle_base64(&media.payload) => Request::Play,
            ("mark", _, Some(mark)) => Request::Mark(mark.name),
            ("clear", ..) => Request::Clear,
            _ => Request::Nothing,
        }
    }
}

fn dialect(kind: ProviderKind) -> &'static dyn Dialect {
    match kind {
        ProviderKind::Telnyx => &telnyx::Telnyx,
        ProviderKind::Plivo => &plivo::Plivo,
        ProviderKind::Exotel => &exotel::Exotel,
        ProviderKind::Vonage => &vonage::Vonage,
        ProviderKind::Pcm => &pcm::Pcm,
        _ => &twilio::Twilio,
    }
}

/// Linear audio at the rate that the owner has set.
fn linear(settings: &ProviderSettings, usual: SampleRate) -> Form {
    Form::Linear(match settings.sample_rate {
        Some(8000) => SampleRate::Hz8000,
        Some(16_000) => SampleRate::Hz16000,
        Some(24_000) => SampleRate::Hz24000,
        _ => usual,
    })
}

/// What goes along with a call: who talks, by the names that Pipecat looks for, and what the owner has set.
pub(super) fn parameters(plan: &ServicePlan) -> Map<String, Value> {
    let own = plan.settings.parameters.iter().map(|(name, value)| (name.as_str(), value));
    let parties = [("from_number", &plan.parties.from), ("to_number", &plan.parties.to)];
    let told = parties.into_iter().filter(|(_, party)| !party.is_empty()).chain(own);
    told.map(|(name, value)| (name.to_owned(), Value::from(value.as_str()))).collect()
}

/// The box is one account; Twilio's shape is `AC` and 32 hex digits.
const ACCOUNT_SID: &str = "AC00000000000000000000000000000000";

/// RFC 6455 §7.4.1.
const NORMAL_CLOSURE: u16 = 1000;

/// 1,000 marks: one per 20 ms of 20 s of queued speech. Further ones are dropped.
const MARKS_MAX: usize = 1000;

/// 256 bytes: the longest names seen are 60.
const MARK_NAME_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests;
