//! What a shard and the threads around it tell each other.

use std::net::IpAddr;

use talkstack_control::port::{CallEvent, CallId, CollectOrder, CommandReply, Outcome};
use talkstack_media::dtls::HandshakeOutput;
use talkstack_media::session::{Exchange, HandshakeId, HandshakeInput};
use talkstack_media::sip::InfoDigit;
use tokio::sync::oneshot;

use crate::agent::Destination;
use crate::agent::http_tool::Prepared;
use crate::agent::tone_test::ToneHeard;
use crate::call::{Leg, LegId, LegOrder, LineSecurity};
use crate::io::connect::{AgentTarget, Connected, SessionLimit};
use crate::io::ports::PortPair;
use crate::route::{BridgePlan, Plan};

/// What a shard is told.
#[derive(Debug)]
pub enum ToShard {
    /// A call for this shard.
    Offered(Box<OfferedCall>),
    /// A call that this shard places.
    Placed(Box<PlacedCall>),
    /// Something happened to a call.
    Call(CallId, ToCall),
    /// A leg of another call takes the place of one of this call's.
    Take(CallId, Box<GivenLeg>),
    /// Drop a call that SIP has given up, without a word.
    Drop(CallId),
    /// Finish: the thread ends when it has read this.
    Stop,
}

/// A call as SIP hands it over.
#[derive(Debug)]
pub struct OfferedCall {
    /// Our name for it.
    pub id: CallId,
    /// Who answers.
    pub plan: Plan,
    /// The INVITE's SDP; `None` is a late offer.
    pub sdp: Option<Vec<u8>>,
    /// The host our SDP shows to this caller.
    pub local: IpAddr,
    /// Where the signalling comes from.
    pub signalling: IpAddr,
    /// Unpredictable: SSRC, first sequence number and masking keys come from it.
    pub seed: u64,
    /// How its media is to be secured.
    pub security: LineSecurity,
    /// Whether it belongs to a project, and hence is recorded where recordings are made at all.
    pub is_recorded: bool,
}

/// A call that is to be placed.
#[derive(Debug)]
pub struct PlacedCall {
    /// Our name for it.
    pub id: CallId,
    /// Who talks.
    pub plan: Plan,
    /// The host our SDP shows to the called side.
    pub local: IpAddr,
    /// Where the first INVITE goes.
    pub signalling: IpAddr,
    /// Unpredictable, as [`OfferedCall::seed`].
    pub seed: u64,
    /// How its media is to be secured.
    pub security: LineSecurity,
}

/// What a live call is told.
#[derive(Debug)]
pub enum ToCall {
    /// ACK, with the answer if the offer was late.
    Acknowledged(LegId, Option<Vec<u8>>),
    /// re-INVITE.
    ReOffered(LegId, Option<Vec<u8>>),
    /// Towards this leg's far end our media has another address.
    Moved(LegId, IpAddr),
    /// Our re-INVITE was answered, with a description or without.
    ReAnswered(LegId, Option<Vec<u8>>),
    /// Our re-INVITE was refused.
    ReOfferFailed(LegId),
    /// The called side rings; perhaps with an answer ahead of the answer.
    Progressed(LegId, Option<Vec<u8>>),
    /// The called side has answered.
    Accepted {
        /// Which.
        leg: LegId,
        /// Its answer; `None` when it came with [`ToCall::Progressed`].
        sdp: Option<Vec<u8>>,
        /// Where the signalling comes from.
        signalling: IpAddr,
    },
    /// The way to the line that [`SipWish::Lead`] asked for is known.
    Line {
        /// The host our SDP shows to it.
        local: IpAddr,
        /// Where its INVITE goes.
        signalling: IpAddr,
        /// Unpredictable, as [`OfferedCall::seed`].
        seed: u64,
        /// How its media is to be secured.
        security: Box<LineSecurity>,
    },
    /// The call goes on with another trunk, which wants other keys or none: the offer is made anew.
    Carried(Box<LineSecurity>),
    /// The line that was called has refused, or cannot be called.
    Refused(Outcome),
    /// The far end of a leg has pressed a key by INFO.
    Pressed(LegId, InfoDigit),
    /// Have silence stand for what is said on the recording, or record it again.
    PauseRecording {
        /// Whether silence stands for it.
        is_paused: bool,
    },
    /// Collect keys from the caller; whoever waits is told which.
    Collect(CollectOrder, oneshot::Sender<CommandReply>),
    /// The dialog of a leg is over.
    Ended(LegId, Outcome),
    /// The party of this leg leaves, and asks for another to take its place. Its dialog is the parked one from here on,
    /// and that of who stays the first leg's.
    Transfer {
        /// Who leaves.
        from: LegId,
        /// Who is to come.
        plan: Box<BridgePlan>,
    },
    /// The way for a caller whom the agent puts through ([`SipWish::PutThrough`]), or why there is none.
    PutThrough(Result<Box<BridgePlan>, Outcome>),
    /// A leg goes over to another call, and this call ends; [`Surroundings::give`] brings it there.
    Give {
        /// Which of its legs.
        leg: LegId,
        /// To which call.
        to: CallId,
        /// In the place of which of its legs.
        at: LegId,
    },
    /// Another line takes the place of a leg's.
    Replaced {
        /// Which leg.
        leg: LegId,
        /// The SDP of its INVITE; `None` is a late offer.
        sdp: Option<Vec<u8>>,
        /// The host our SDP shows to it.
        local: IpAddr,
        /// Where its signalling comes from.
        signalling: IpAddr,
        /// Unpredictable, as [`OfferedCall::seed`].
        seed: u64,
        /// How its media is to be secured.
        security: Box<LineSecurity>,
    },
    /// End the call.
    HangUp(Outcome),
    /// The agent's connection is up.
    AgentConnected(Connected),
    /// The agent could not be reached.
    AgentUnreachable,
    /// A DTLS handshake of a leg's wants something done.
    Shaken(HandshakeId, Box<HandshakeOutput>),
    /// What a web service has answered to the agent, under its number, or why it has not.
    Fetched(u32, Result<String, String>),
    /// A text has been spoken, or cannot be.
    Spoken(Option<Vec<i16>>),
}

/// A leg on its way from one call to another, with its sockets: what comes meanwhile waits in the kernel's buffers.
#[derive(Debug)]
pub struct GivenLeg {
    pub(super) leg: Leg,
    pub(super) pair: PortPair,
    pub(super) at: LegId,
}

/// What a shard asks of the threads around it. Implementations must not block.
pub trait Surroundings: Send {
    /// Hands a call's wish to the SIP thread; `false` when its queue is full.
    fn sip(&self, id: CallId, wish: SipWish) -> bool;
    /// Writes to the journal; `false` when it is full.
    fn record(&self, id: CallId, event: CallEvent) -> bool;
    /// Brings a leg to the shard of the call that it is for; `false` when it is lost on the way.
    fn give(&self, to: CallId, given: Box<GivenLeg>) -> bool;
    /// Tells a DTLS handshake of a leg's; [`ToCall::Shaken`] answers. `false` when nobody takes it.
    fn shake(&self, call: CallId, id: HandshakeId, input: HandshakeInput) -> bool;
    /// Has a text spoken; [`ToCall::Spoken`] answers.
    fn speak(&self, id: CallId, text: String);
    /// Has a web service asked for an agent; [`ToCall::Fetched`] answers, under this number.
    fn fetch(&self, id: CallId, number: u32, prepared: Box<Prepared>);
    /// Has the agent's connection made; [`ToCall::AgentConnected`] or [`ToCall::AgentUnreachable`] answers.
    fn connect(&self, id: CallId, target: AgentTarget, limit: Option<SessionLimit>) -> bool;
}

/// What a call asks of SIP.
#[derive(Debug, Clone, PartialEq)]
pub enum SipWish {
    /// Find the way to another line; [`ToCall::Line`] or [`ToCall::Refused`] answers.
    Lead(Box<LegOrder>),
    /// INVITE with this offer.
    Invite(LegId, String),
    /// 180, or 183 with SDP.
    Ring(Option<String>),
    /// 200 with SDP.
    Answer(LegId, String),
    /// re-INVITE with this offer.
    ReOffer(LegId, String),
    /// 488 to the open re-INVITE.
    RefuseReOffer(LegId),
    /// This final response to the caller.
    Refuse(u16),
    /// Find the way for a caller whom the agent puts through; [`ToCall::PutThrough`] answers.
    PutThrough(Destination),
    /// OPTIONS within the dialog.
    Probe(LegId),
    /// INFO with a key.
    Press(LegId, InfoDigit),
    /// What a test call has heard, and how its packets went.
    Measured(ToneHeard, Exchange),
    /// A final response, CANCEL or BYE.
    End(LegId, Outcome),
    /// Tell the one who has asked for a transfer that it is done, and end the parked dialog.
    Transferred,
    /// Tell them that nobody came; the parked dialog is this leg's again.
    Restore(LegId, Outcome),
    /// The second leg's dialog is the first leg's from here on.
    Promote,
    /// The shard has forgotten the call.
    Forgotten,
}
