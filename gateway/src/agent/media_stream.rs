//! The client's side of Twilio Media Streams, bidirectional: the gateway plays the telephony provider.
//!
//! ```text
//!   gateway ─ connected, start, media…, dtmf, mark, stop ─▶ agent
//!           ◀──────────── media…, mark, clear ───────────
//! ```
//!
//! Audio is base64 µ-law at 8 kHz. Counters are JSON strings, as Twilio sends them. A mark comes back when everything
//! queued before it has been played; `clear` empties the queue and brings all marks back at once.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use talkstack_media::audio::convert::Converter;
use talkstack_media::audio::frame::{Form, Frame, Speech};
use talkstack_media::codec::Codec;

use super::provider::ServicePlan;
use super::service::{CallFacts, Service};
use super::websocket::{Message, WebSocket};
use super::wire::{decode_base64, write_base64, write_number};
use super::{AgentLoss, AgentOutput, Progress};

/// One media stream of one call.
#[derive(Debug)]
pub struct MediaStream {
    socket: WebSocket,
    ids: StreamIds,
    /// Messages after `connected`, from 1.
    sequence_number: u64,
    /// Media messages, from 1.
    chunk: u64,
    /// Audio sent to the agent, in samples at 8 kHz.
    samples_sent: u64,
    marks: VecDeque<Mark>,
    /// What is being coded for or was decoded from the agent.
    mulaw: Vec<u8>,
    converter: Converter,
    is_connected: bool,
    loss: Option<AgentLoss>,
}

#[derive(Debug)]
struct StreamIds {
    stream_sid: String,
    call_sid: String,
}

/// A mark the agent set, and the queue position it waits for.
#[derive(Debug)]
struct Mark {
    name: String,
    position: u64,
}

/// What an agent sends. Unknown events and fields are ignored.
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

/// What a message from the agent asks for.
enum Request {
    Play,
    Clear,
    SetMark(String),
    Nothing,
}

impl MediaStream {
    /// Starts a stream; `connected` and `start` wait in the outgoing buffer.
    pub fn new(plan: &ServicePlan, facts: CallFacts) -> Self {
        let ids = StreamIds { stream_sid: format!("MZ{:032x}", facts.id.0), call_sid: facts.id.to_string() };
        let mut stream = MediaStream {
            socket: WebSocket::new(facts.seed),
            ids,
            sequence_number: 0,
            chunk: 0,
            samples_sent: 0,
            marks: VecDeque::new(),
            mulaw: Vec::with_capacity(MULAW_BYTES),
            converter: Converter::new(Form::Mulaw),
            is_connected: true,
            loss: None,
        };
        stream.introduce(plan);
        stream
    }

    fn introduce(&mut self, plan: &ServicePlan) {
        self.send(r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#);
        let number = self.next_number().to_string();
        let StreamIds { stream_sid, call_sid } = &self.ids;
        let start = json!({ "event": "start", "sequenceNumber": number, "streamSid": stream_sid, "start": {
            "accountSid": ACCOUNT_SID, "streamSid": stream_sid, "callSid": call_sid, "tracks": ["inbound"],
            "mediaFormat": { "encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1 },
            "customParameters": parameters(plan),
        }});
        self.send(&start.to_string());
    }

    /// Reads messages up to the next one that matters; its audio lies in `mulaw`.
    fn next_request(&mut self) -> Result<Option<Request>, AgentLoss> {
        let text = match self.socket.next_message()? {
            None => return Ok(None),
            Some(Message::Text(text)) => text,
            Some(Message::Binary(_)) => return Ok(Some(Request::Nothing)),
            Some(Message::Close(_)) => return Err(AgentLoss::Disconnected),
        };
        let message: FromAgent<'_> = serde_json::from_str(text).map_err(|_| AgentLoss::NotJson)?;
        Ok(Some(match (&*message.event, message.media, message.mark) {
            ("media", Some(media), _) if decode_base64(&media.payload, &mut self.mulaw) => Request::Play,
            ("mark", _, Some(mark)) => Request::SetMark(mark.name),
            ("clear", ..) => Request::Clear,
            _ => Request::Nothing,
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
            let (number, sid) = (self.next_number(), &self.ids.stream_sid);
            let name = serde_json::Value::String(mark.name);
            let text = format!(
                r#"{{"event":"mark","sequenceNumber":"{number}","streamSid":"{sid}","mark":{{"name":{name}}}}}"#
            );
            self.send(&text);
        }
    }

    /// A peer that reads nothing for ten seconds is lost; until then audio waits for it.
    fn is_stalled(&mut self) -> bool {
        let stalled = self.socket.outbound().len() > OUTBOUND_BYTES_MAX;
        if stalled {
            self.lose(AgentLoss::Stalled);
        }
        stalled
    }

    fn lose(&mut self, loss: AgentLoss) {
        if self.is_connected {
            self.is_connected = false;
            self.loss = Some(loss);
        }
    }

    fn next_number(&mut self) -> u64 {
        self.sequence_number += 1;
        self.sequence_number
    }

    fn send(&mut self, text: &str) {
        self.socket.send_text(|out| out.extend_from_slice(text.as_bytes()));
    }
}

/// What goes along with a call: who talks, by the names that Pipecat looks for, and what the owner has set.
fn parameters(plan: &ServicePlan) -> Map<String, Value> {
    let own = plan.settings.parameters.iter().map(|(name, value)| (name.as_str(), value));
    let parties = [("from_number", &plan.parties.from), ("to_number", &plan.parties.to)];
    let told = parties.into_iter().filter(|(_, party)| !party.is_empty()).chain(own);
    told.map(|(name, value)| (name.to_owned(), Value::from(value.as_str()))).collect()
}

impl Service for MediaStream {
    fn handle_audio(&mut self, frame: &Frame<'_>) {
        if !self.is_connected || self.is_stalled() {
            return;
        }
        self.mulaw.clear();
        self.converter.append_frame(frame, &mut self.mulaw);
        self.sequence_number += 1;
        self.chunk += 1;
        self.samples_sent += self.mulaw.len() as u64;
        let (sequence_number, chunk, at_ms) = (self.sequence_number, self.chunk, self.samples_sent / 8);
        let (mulaw, stream_sid) = (&self.mulaw, &self.ids.stream_sid);
        self.socket.send_text(|out| {
            out.extend_from_slice(b"{\"event\":\"media\",\"sequenceNumber\":\"");
            write_number(out, sequence_number);
            out.extend_from_slice(b"\",\"streamSid\":\"");
            out.extend_from_slice(stream_sid.as_bytes());
            out.extend_from_slice(b"\",\"media\":{\"track\":\"inbound\",\"chunk\":\"");
            write_number(out, chunk);
            out.extend_from_slice(b"\",\"timestamp\":\"");
            write_number(out, at_ms);
            out.extend_from_slice(b"\",\"payload\":\"");
            write_base64(out, mulaw);
            out.extend_from_slice(b"\"}}");
        });
    }

    fn handle_digit(&mut self, digit: char) {
        let (number, sid) = (self.next_number(), &self.ids.stream_sid);
        let text = format!(
            r#"{{"event":"dtmf","sequenceNumber":"{number}","streamSid":"{sid}","dtmf":{{"track":"inbound_track","digit":"{digit}"}}}}"#
        );
        self.send(&text);
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
                Ok(Some(Request::Play)) => {
                    return Some(AgentOutput::Play(Speech::Coded(Codec::Pcmu, &self.mulaw)));
                }
                Ok(Some(Request::Clear)) => {
                    self.return_marks(Progress { pushed: progress.pushed, played: u64::MAX });
                    return Some(AgentOutput::Clear);
                }
                Ok(Some(Request::SetMark(name))) => self.set_mark(name, progress),
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
        let (number, sid, call_sid) = (self.next_number(), &self.ids.stream_sid, &self.ids.call_sid);
        let text = format!(
            r#"{{"event":"stop","sequenceNumber":"{number}","streamSid":"{sid}","stop":{{"accountSid":"{ACCOUNT_SID}","callSid":"{call_sid}"}}}}"#
        );
        self.send(&text);
        self.socket.close(code);
        self.is_connected = false;
    }
}

/// The box is one account; Twilio's shape is `AC` and 32 hex digits.
const ACCOUNT_SID: &str = "AC00000000000000000000000000000000";

/// 160 ms of µ-law; grows to the agent's chunk size and stays there.
const MULAW_BYTES: usize = 1280;

/// 1,000 marks: one per 20 ms of 20 s of queued speech. Further ones are dropped.
const MARKS_MAX: usize = 1000;

/// 256 bytes: the longest names seen are 60.
const MARK_NAME_BYTES_MAX: usize = 256;

/// 256 KiB: ten seconds of media messages of 430 bytes behind a full kernel buffer.
const OUTBOUND_BYTES_MAX: usize = 256 << 10;
