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

mod agent;
mod audition;
mod collect;
mod config;
mod event;
mod lines;
mod media;
mod pipe;
mod provider;
mod quality;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use agent::{AgentTool, BargeIn, FirstSpeaker, HttpMethod, HttpTool, TakenMessage, TransferTarget};
pub use audition::{Audition, AuditionOrder};
pub use collect::{COLLECT_KEYS_MAX, COLLECT_TIME, CollectEnd, CollectOrder, Collected, PressedKeys};
pub use config::{
    AgentRoute, CallerIdField, DialFormat, ExtensionRoute, Hours, NumberRoute, Numbering, ProjectRoute, Reliable,
    RouteRule, RouteSource, RouteTarget, Sealed, Signalling, Snapshot, TrunkAccess, TrunkPolicy, TrunkRoute,
    TrunkTransport,
};
pub use event::{
    Attestation, Blame, CallEvent, CallStarted, Direction, EndReason, JournalRecord, Outcome, SipRefusal, Speaker,
    Utterance, Verstat,
};
pub use lines::{ContactState, LineStates, RegistrationState, RouteAnswer, RouteQuestion, TestStep, TrunkState};
pub use media::{Dtmf, SpeechCodec, Srtp, TrunkMedia};
pub use pipe::{DecodeError, Decoder, MESSAGE_BYTES_MAX, encode};
pub use provider::{ControlFormat, ProviderKind, ProviderKindError, ProviderRoute, ProviderSettings};
pub use quality::{CallLeg, Encryption, InboundQuality, KeyExchange, LegQuality, OutboundQuality};

/// What the control plane needs from whoever carries the calls.
///
/// Implemented over the encoded pipe; tests implement it over a script.
pub trait CallPlane: Send + Sync + 'static {
    /// Replaces the configuration that routing reads. Applies to the next call; live calls keep what they started with.
    fn apply(&self, snapshot: Snapshot);

    /// Waits until this configuration, or a later one, routes calls: whoever was told that something has changed may
    /// call at once. Gives up without a word after a second, and at once while nobody is connected.
    fn applied(&self, revision: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

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

    /// Hands an order over, over one connection and no other: the one that [`CallPlane::live`] named when the order was
    /// last known not to have been taken on.
    fn dial(
        &self,
        connection: u64,
        command_id: CommandId,
        order: DialOrder,
    ) -> Pin<Box<dyn Future<Output = Result<CommandReply, PlaneError>> + Send + '_>>;

    /// The connection, counted from 1, whose backlog and [`ToControl::Live`] are stored; `None` while there is none.
    fn live(&self) -> watch::Receiver<Option<u64>>;

    /// Tells whether the pipe to the call plane is up.
    fn is_connected(&self) -> bool;
}

/// The reason a command got no answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum PlaneError {
    /// The call plane is not connected, and nothing was sent. Answer 503 and let the caller retry.
    #[error("the call plane is not connected")]
    NotConnected,
    /// The call plane did not answer within its time limit. The command may still be carried out.
    #[error("the call plane did not answer in time")]
    TimedOut,
}

/// The version of the messages in this file; both sides send it first and refuse another.
pub const PROTOCOL_VERSION: u32 = 8;

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
    /// Calls are routed by this configuration from now on.
    Applied {
        /// [`Snapshot::revision`].
        revision: u64,
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
    /// Has silence stand for what is said on a live call's recording, or records it again. A call that is not recorded
    /// stays so.
    PauseRecording {
        /// Which call.
        call_id: CallId,
        /// Whether silence stands for what is said from now on.
        is_paused: bool,
    },
    /// Puts the caller of an agent through to a number or an extension, as dialled, by the rules of the agent's own
    /// transfers; the agent waits, and has them back if nobody takes them.
    Transfer {
        /// Which call.
        call_id: CallId,
        /// Whom to call.
        to: String,
    },
    /// Collects keys from the caller of a live call, hidden from its agent and its recording; [`CommandReply::Collected`]
    /// answers, within [`COLLECT_TIME`].
    Collect {
        /// Which call.
        call_id: CallId,
        /// What.
        order: CollectOrder,
    },
    /// Places a call. The call plane writes it to its journal before the INVITE leaves, and never places it twice.
    Dial(Box<DialOrder>),
    /// Asks how trunks and extensions are; [`CommandReply::Lines`] answers.
    Lines,
    /// Asks where a call would go; [`CommandReply::Routed`] answers, and nothing rings.
    Simulate(RouteQuestion),
    /// Tests a trunk step by step; [`CommandReply::Tested`] answers, within [`TRUNK_TEST_TIME`].
    TestTrunk {
        /// Which.
        trunk_id: String,
        /// Whom the test call goes to, as dialled; `None` places none.
        number: Option<String>,
    },
    /// Tries a provider out, without a call; [`CommandReply::Auditioned`] answers, within [`AUDITION_TIME`].
    Audition(Box<AuditionOrder>),
}

/// A call to be placed. Control has checked the destination, the caller's number and the tenant's limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialOrder {
    /// The call's name, chosen by control; its row exists already.
    pub call_id: CallId,
    /// Whom to call, E.164 with `+`.
    pub to: String,
    /// Whose number to show, E.164 with `+`. It also chooses the trunk.
    pub from: String,
    /// The project that pays.
    pub project_id: String,
    /// The agent that talks.
    pub agent_id: String,
    /// What the prompt's placeholders stand for.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
}

/// The answer to a [`Command`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandReply {
    /// Accepted and under way.
    Accepted,
    /// No such call is up.
    NoSuchCall,
    /// A queue is full; try again.
    Busy,
    /// What was collected.
    Collected(Collected),
    /// Keys are being collected in this call already.
    Collecting,
    /// How the lines are.
    Lines(Box<LineStates>),
    /// Where the call would go.
    Routed(Box<RouteAnswer>),
    /// What a trunk's test found, step by step; nothing when there is no such trunk.
    Tested(Vec<TestStep>),
    /// What came of a provider that was tried out.
    Auditioned(Box<Audition>),
}

/// 60 s: a connection, a session, a greeting and an answer, each of which may take 12 s.
pub const AUDITION_TIME: Duration = Duration::from_secs(60);

/// 45 s: a name, an address, a registration and a call that rings for 20 s.
pub const TRUNK_TEST_TIME: Duration = Duration::from_secs(45);

impl Command {
    /// How long the call plane may be at it; `None` answers at once.
    pub fn time(&self) -> Option<Duration> {
        match self {
            Command::TestTrunk { .. } => Some(TRUNK_TEST_TIME),
            Command::Collect { .. } => Some(COLLECT_TIME),
            Command::Audition(_) => Some(AUDITION_TIME),
            Command::HangUp { .. }
            | Command::PauseRecording { .. }
            | Command::Transfer { .. }
            | Command::Dial(_)
            | Command::Lines
            | Command::Simulate(_) => None,
        }
    }
}

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
