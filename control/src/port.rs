//! The port between the control plane and the call plane, and every message that crosses it.
//!
//! ```text
//!              ToCalls: Hello, Snapshot, Command, Ack
//!   control  ─────────────────────────────────────────▶  calls
//!            ◀─────────────────────────────────────────
//!              ToControl: Hello, Live, Record, Reply
//! ```
//!
//! Messages are JSON, each behind its length as a big-endian `u32` ([`encode`], [`Decoder`]). The same bytes cross an
//! in-memory socket pair in `talkstack serve` and a Unix socket between `talkstack calls` and `talkstack control`, so
//! the two forms differ in processes and in nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What the control plane needs from whoever carries the calls.
///
/// Implemented over the encoded pipe; tests implement it over a script.
pub trait CallPlane: Send + Sync + 'static {
    /// Replaces the configuration that routing reads. Applies to the next call; live calls keep what they started with.
    fn apply(&self, snapshot: Snapshot);

    /// Asks for something to be done to a call and waits for the answer.
    ///
    /// A `command_id` seen before returns its first answer (remembered for 24 h), so a retry never dials twice.
    fn command(
        &self,
        command_id: CommandId,
        command: Command,
    ) -> Pin<Box<dyn Future<Output = Result<CommandReply, PlaneError>> + Send + '_>>;

    /// Confirms that every record up to and including `position` is stored; the call plane may delete them.
    fn acknowledge(&self, position: Position);

    /// Tells whether the pipe to the call plane is up.
    fn is_connected(&self) -> bool;
}

/// The reason a command got no answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum PlaneError {
    /// The call plane is not connected. Answer 503 and let the caller retry.
    #[error("the call plane is not connected")]
    NotConnected,
    /// The call plane did not answer within its time limit. The command may still be carried out.
    #[error("the call plane did not answer in time")]
    TimedOut,
}

/// The version of the messages in this file; both sides send it first and refuse another.
pub const PROTOCOL_VERSION: u32 = 1;

/// One call of ours: printed as Talkstack's `CA` and 32 lower-case hex digits. Never the SIP `Call-ID`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u128);

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CA{:032x}", self.0)
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for CallId {
    type Err = CallIdError;

    fn from_str(text: &str) -> Result<Self, CallIdError> {
        let hex = text.strip_prefix("CA").filter(|hex| hex.len() == 32).ok_or(CallIdError)?;
        if hex.bytes().any(|b| !b.is_ascii_digit() && !(b'a'..=b'f').contains(&b)) {
            return Err(CallIdError);
        }
        u128::from_str_radix(hex, 16).map(CallId).map_err(|_| CallIdError)
    }
}

/// The text is not `CA` and 32 lower-case hex digits. The client's doing; answer like an id that never existed.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("a call id is CA and 32 hex digits")]
pub struct CallIdError;

impl Serialize for CallId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CallId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Identifies one command for 24 hours, chosen by control.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(pub String);

/// Control → calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToCalls {
    /// The first message.
    Hello {
        /// [`PROTOCOL_VERSION`] of the sender.
        version: u32,
        /// The last record control has stored, so that the call plane resends what follows. `None` on an empty store.
        stored: Option<Position>,
    },
    /// Replaces the routing configuration.
    Snapshot(Snapshot),
    /// Asks for something to be done.
    Command {
        /// Repeats with the same id return the first answer.
        command_id: CommandId,
        /// What to do.
        command: Command,
    },
    /// Everything up to here is stored.
    Ack(Position),
}

/// Calls → control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToControl {
    /// The first message.
    Hello {
        /// [`PROTOCOL_VERSION`] of the sender.
        version: u32,
    },
    /// The calls that are up in this boot, sent on connect after the journal's backlog: control closes every other open row.
    Live {
        /// The call plane's boot.
        boot: u64,
        /// The calls up now.
        calls: Vec<CallId>,
    },
    /// One journal record, in order.
    Record(JournalRecord),
    /// The answer to a command.
    Reply {
        /// The command answered.
        command_id: CommandId,
        /// The answer.
        reply: CommandReply,
    },
}

/// A place in the journal: boots count up from 1 per data directory, `seq` from 1 per boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The call plane's start, counted from 1.
    pub boot: u64,
    /// The record within the boot, counted from 1.
    pub seq: u64,
}

/// What control asks of the call plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// Ends a live call, attributed to the operator.
    HangUp {
        /// The call to end.
        call_id: CallId,
    },
}

/// The answer to a [`Command`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandReply {
    /// Accepted and under way.
    Accepted,
    /// No such call is up.
    NoSuchCall,
    /// A queue is full; try again.
    Busy,
}

/// The configuration that routing reads: the whole of it, every time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Counts up with every change; a lower one never replaces a higher one.
    pub revision: u64,
    /// The box has an owner. Until it has, a box with `setup.required` answers no SIP.
    #[serde(default)]
    pub is_claimed: bool,
    /// Projects by id.
    pub projects: BTreeMap<String, ProjectRoute>,
    /// Agents by id.
    pub agents: BTreeMap<String, AgentRoute>,
    /// Called numbers, E.164 digits without the `+`, to what answers them.
    pub numbers: BTreeMap<String, NumberRoute>,
}

/// What routing needs to know of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectRoute {
    /// The agent that answers a number of the project that has none of its own.
    pub active_agent: Option<String>,
}

/// What a call needs to know of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentRoute {
    /// The project it belongs to.
    pub project_id: String,
    /// Its name, as the client chose it.
    pub name: String,
    /// Its prompt, placeholders not yet filled in.
    pub system_instruction: String,
    /// The voice it speaks with; `None` leaves the choice to the provider.
    pub voice_id: Option<String>,
    /// The service that runs it; `None` leaves the call to the attendant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderRoute>,
}

/// The service that runs an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ProviderRoute {
    /// A WebSocket server that speaks Twilio Media Streams.
    MediaStream {
        /// `ws://host:port/path`.
        url: String,
    },
}

/// What answers a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberRoute {
    /// The project that owns the number.
    pub project_id: String,
    /// The agent it is assigned to.
    pub agent_id: Option<String>,
}

/// One journal record: something that happened to a call and must not be forgotten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalRecord {
    /// Its place.
    pub position: Position,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The call it belongs to.
    pub call_id: CallId,
    /// What happened.
    pub event: CallEvent,
}

/// What happened to a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum CallEvent {
    /// A call came in or is going out; its row begins.
    Started(CallStarted),
    /// The far end is being alerted (180).
    Ringing,
    /// The call was answered (200); its talking time begins.
    Answered {
        /// The codec both sides agreed on, as in SDP: `PCMU`.
        codec: String,
    },
    /// The call is over; its row ends.
    Ended {
        /// Why, and whose doing it was.
        outcome: Outcome,
    },
}

/// The first record of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallStarted {
    /// Which way.
    pub direction: Direction,
    /// The caller: `+` and digits where it is a number, else the SIP user or `anonymous`.
    pub from: String,
    /// The called number or user, as dialled.
    pub to: String,
    /// The project that owns the called number, if one does.
    pub project_id: Option<String>,
    /// The agent that answers, if one does; `None` is the attendant.
    pub agent_id: Option<String>,
    /// The SIP `Call-ID` of the first dialog, for support.
    pub sip_call_id: String,
}

/// Which way a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From a line to the box.
    Inbound,
    /// From the box to a line.
    Outbound,
}

/// Why a call ended, and whose doing it was. SIP status, API status, log and UI text derive from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Outcome {
    /// Whose doing it was.
    pub blame: Blame,
    /// What happened.
    pub reason: EndReason,
}

/// Whose doing the end of a call was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The person on the phone.
    Caller,
    /// The agent or its provider.
    Agent,
    /// The trunk or the network towards it.
    Trunk,
    /// Whoever runs the box.
    Operator,
    /// This program.
    Gateway,
}

/// What ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// An answered call was hung up as calls are.
    HungUp,
    /// The caller gave up before the answer (CANCEL).
    Cancelled,
    /// Nothing answers the called number (404).
    NotFound,
    /// No codec in common (488).
    NoCommonCodec,
    /// The offer or answer could not be read (400 or 488).
    BadOffer,
    /// No free channel, port or queue (503).
    Overloaded,
    /// The 200 was never acknowledged (RFC 3261 §13.3.1.4).
    NoAck,
    /// No RTP and no RTCP for the media time-out.
    MediaTimeout,
    /// The configured longest duration was reached.
    MaxDuration,
    /// The call's own machine failed.
    Aborted,
    /// The box stopped or restarted with the call up.
    Restarted,
}

impl Outcome {
    /// Builds an outcome.
    pub const fn new(blame: Blame, reason: EndReason) -> Self {
        Outcome { blame, reason }
    }
}

/// A message that could not be read from the pipe. Close the pipe and connect again.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A length above [`MESSAGE_BYTES_MAX`].
    #[error("message of {0} bytes is longer than {MESSAGE_BYTES_MAX}")]
    TooLong(usize),
    /// Not the JSON of a known message.
    #[error("message cannot be read")]
    Json(#[from] serde_json::Error),
}

/// Appends one message, with its length in front, to `out`.
///
/// # Errors
/// [`DecodeError::TooLong`] above [`MESSAGE_BYTES_MAX`]; `out` is then as it was.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    if let Err(error) = serde_json::to_writer(&mut *out, message) {
        out.truncate(start);
        return Err(error.into());
    }
    let bytes = out.len() - start - 4;
    match u32::try_from(bytes) {
        Ok(length) if bytes <= MESSAGE_BYTES_MAX => {
            out[start..start + 4].copy_from_slice(&length.to_be_bytes());
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(DecodeError::TooLong(bytes))
        }
    }
}

/// Cuts a byte stream back into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    read: usize,
}

impl Decoder {
    /// Takes bytes as they came from the pipe.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.buffer.drain(..self.read);
            self.read = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next whole message, or `None` until more bytes come.
    ///
    /// # Errors
    /// [`DecodeError`]; the stream is out of step then and must be closed.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, DecodeError> {
        let rest = &self.buffer[self.read..];
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(DecodeError::TooLong(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = serde_json::from_slice(body)?;
        self.read += 4 + length;
        Ok(Some(message))
    }
}

/// 64 MiB: a snapshot of 100,000 agents with prompts of 500 bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cut_anywhere_arrives_whole_and_once() {
        let messages = [
            ToControl::Hello { version: PROTOCOL_VERSION },
            ToControl::Record(JournalRecord {
                position: Position { boot: 1, seq: 7 },
                at_ms: 1,
                call_id: CallId(0xfeed),
                event: CallEvent::Ended { outcome: Outcome::new(Blame::Caller, EndReason::HungUp) },
            }),
        ];
        let mut bytes = Vec::new();
        for message in &messages {
            encode(message, &mut bytes).expect("short");
        }
        for cut in 0..=bytes.len() {
            let mut decoder = Decoder::default();
            let mut seen: Vec<ToControl> = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                decoder.feed(part);
                while let Some(message) = decoder.next_message().expect("well-formed") {
                    seen.push(message);
                }
            }
            assert_eq!(seen, messages, "cut at {cut}");
        }
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_it_is_awaited() {
        let mut decoder = Decoder::default();
        decoder.feed(&u32::MAX.to_be_bytes());
        assert!(matches!(decoder.next_message::<ToCalls>(), Err(DecodeError::TooLong(_))));
    }

    #[test]
    fn a_call_id_prints_and_parses_as_talkstack_does() {
        let id = CallId(0x26e3_9c97_0fd4_1651_5799_f5a1_6571_8be3);
        assert_eq!(id.to_string(), "CA26e39c970fd416515799f5a165718be3");
        assert_eq!("CA26e39c970fd416515799f5a165718be3".parse(), Ok(id));
        for bad in ["", "CA", "ca26e39c970fd416515799f5a165718be3", "CA26E39C970fd416515799f5a165718be3"] {
            assert_eq!(bad.parse::<CallId>(), Err(CallIdError), "{bad}");
        }
    }
}
