//! What happens to calls, as the journal writes it and control stores it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CallId, CallLeg, CommandId, DialOrder, LegQuality, Position, TakenMessage};

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
    /// A [`Command::Dial`](super::Command::Dial) was taken on; its INVITE leaves once this is on disk.
    DialAccepted {
        /// The command's name.
        command_id: CommandId,
    },
    /// A call came in or is going out; its row begins.
    Started(CallStarted),
    /// The trunk that was to carry the call could not; another one does.
    Carried {
        /// The one it goes on with.
        trunk_id: String,
    },
    /// The INVITE has left.
    Initiated,
    /// The far end is being alerted (180).
    Ringing,
    /// The call was answered (200); its talking time begins.
    Answered {
        /// The codec both sides agreed on, as in SDP: `PCMU`.
        codec: String,
    },
    /// The answered dialog, in the call plane's own form, so that a restart can end it with a BYE.
    Dialog {
        /// Opaque to control.
        saved: String,
    },
    /// Something was said.
    Said(Utterance),
    /// The agent has taken a message down.
    MessageTaken(TakenMessage),
    /// The far end wants no more calls from the owner of the agent.
    DoNotCall,
    /// From here on the recording has silence in place of what is said.
    RecordingPaused {
        /// Where on the recording, in milliseconds.
        at_ms: u64,
    },
    /// What is said is recorded again.
    RecordingResumed {
        /// Where on the recording, in milliseconds.
        at_ms: u64,
    },
    /// The recording is complete.
    Recorded {
        /// The file, relative to `<store.dir>/recordings`.
        file: String,
        /// Its length in milliseconds.
        duration_ms: u64,
    },
    /// A refusal was sent or received, of this call's INVITE or, with the call id 0, of a request of no call.
    Refused(SipRefusal),
    /// Something is wrong with the sound of the call, found while it was up.
    Diagnosed {
        /// Its stable name: `one_way_in`, `one_way_out`, `no_rtp`, `private_address`, `srtp_keys`,
        /// `sdes_over_plain`, `dtls_certificate`, `dtls_failed`.
        fault: String,
        /// What was found, in one sentence.
        found: String,
    },
    /// How a leg sounds so far: every ten seconds, and once more at its end. The last one counts.
    Measured {
        /// Which of the call's.
        leg: CallLeg,
        /// Its figures.
        quality: Box<LegQuality>,
    },
    /// The call is over; its row ends.
    Ended {
        /// Why, and whose doing it was.
        outcome: Outcome,
    },
}

/// A 4xx, 5xx or 6xx on the wire, and what caused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipRefusal {
    /// Inbound: we refused. Outbound: they did.
    pub direction: Direction,
    /// 400 to 699.
    pub status: u16,
    /// Of the request that was refused: `INVITE`.
    pub method: String,
    /// The far end's address and port.
    pub peer: String,
    /// The trunk it is, if one.
    #[serde(default)]
    pub trunk_id: Option<String>,
    /// The rule that caused it, in words for people: ours, or what their response says.
    pub rule: String,
    /// How many like it were not written one by one since the last.
    #[serde(default)]
    pub more: u32,
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
    /// The trunk it came from or goes through, if one.
    #[serde(default)]
    pub trunk_id: Option<String>,
    /// The caller's name, as the line tells it and unless it is withheld; at most 64 letters.
    #[serde(default)]
    pub display_name: Option<String>,
    /// What the trunk says of the calling number's signature.
    #[serde(default)]
    pub verstat: Option<Verstat>,
    /// How well the caller's own provider knows the caller, as the trunk says; never what nobody has verified.
    #[serde(default)]
    pub attestation: Option<Attestation>,
    /// Whose phone sent the call on to here, written as `from`.
    #[serde(default)]
    pub diverted_from: Option<String>,
}

/// A trunk's verdict on the signature of a calling number (ATIS-1000074, 3GPP TS 24.229 §7.2A.20).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verstat {
    /// The signature is good: the number is the caller's.
    #[serde(rename = "TN-Validation-Passed")]
    Passed,
    /// The signature is bad: the number may be forged.
    #[serde(rename = "TN-Validation-Failed")]
    Failed,
    /// There was no signature, or none that could be checked.
    #[serde(rename = "No-TN-Validation")]
    Absent,
}

impl Verstat {
    /// As it is written on the wire: `TN-Validation-Passed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Verstat::Passed => "TN-Validation-Passed",
            Verstat::Failed => "TN-Validation-Failed",
            Verstat::Absent => "No-TN-Validation",
        }
    }
}

/// How well a provider knows who calls (RFC 8588 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attestation {
    /// Full: the customer, and the customer's right to the number.
    A,
    /// Partial: the customer only.
    B,
    /// Gateway: only where the call entered.
    C,
}

impl Attestation {
    /// Its letter.
    pub fn as_str(self) -> &'static str {
        match self {
            Attestation::A => "A",
            Attestation::B => "B",
            Attestation::C => "C",
        }
    }
}

impl CallStarted {
    /// A call that the box places; its dialog does not exist yet.
    pub fn placed(order: &DialOrder, trunk_id: Option<String>) -> Self {
        CallStarted {
            direction: Direction::Outbound,
            from: order.from.clone(),
            to: order.to.clone(),
            project_id: Some(order.project_id.clone()),
            agent_id: Some(order.agent_id.clone()),
            sip_call_id: String::new(),
            trunk_id,
            display_name: None,
            verstat: None,
            attestation: None,
            diverted_from: None,
        }
    }
}

/// What one side said.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Utterance {
    /// Who.
    pub speaker: Speaker,
    /// In words; of an interrupted agent only what was heard.
    pub text: String,
    /// When it began, in milliseconds since the answer.
    pub at_ms: u64,
}

impl fmt::Debug for Utterance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Utterance({:?} at {} ms, {} bytes)", self.speaker, self.at_ms, self.text.len())
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// The person on the phone, whoever placed the call.
    Caller,
    /// The agent.
    Agent,
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
    /// The person on the phone, whoever placed the call.
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
    /// The called person's line is busy (486, 600).
    Busy,
    /// Nobody answered in time (408, 480, 487, or our own ring time-out).
    NoAnswer,
    /// The far end refused the call for another reason.
    Rejected,
    /// The far end could not be reached: no address, no connection, no response.
    Unreachable,
    /// No trunk carries the call.
    NoTrunk,
    /// The far end sent the call on to where this box does not call.
    DestinationNotAllowed,
    /// Nothing answers the called number (404).
    NotFound,
    /// No codec in common (488).
    NoCommonCodec,
    /// The offer or answer could not be read (400 or 488).
    BadOffer,
    /// SRTP is required here, and the far end has none or takes none (488).
    SrtpRequired,
    /// The far end takes nothing but SRTP, and it is off here (488).
    SrtpOff,
    /// The far end's keys for SRTP cannot be used (488).
    BadKeys,
    /// SRTP is required, and its keys would go over plain SIP, which the trunk or extension does not allow.
    KeysUntold,
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
