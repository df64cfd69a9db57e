//! What an endpoint tells, and what it is told.

use std::fmt;
use std::time::Duration;

use super::{DialogId, Flow, RequestId, ServerRequestId};
use crate::sip::message::{Headers, Method, NameAddr, Replaces, Request, Uri};

/// What the endpoint wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send these bytes.
    Send {
        /// Over this flow.
        flow: Flow,
        /// One message.
        bytes: Vec<u8>,
    },
    /// The same on a stream: one to `flow.remote` that is open, else one that is opened for it. One that does not stand
    /// within [`LARGE_CONNECT_MAX`](super::LARGE_CONNECT_MAX) is to be closed, and told by
    /// [`Endpoint::handle_stream_closed`](super::Endpoint::handle_stream_closed).
    SendLarge {
        /// Over this flow, which names no stream.
        flow: Flow,
        /// One message that is too large for a datagram.
        bytes: Vec<u8>,
    },
    /// Something happened.
    Event(Event),
}

/// Something happened to a dialog.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An INVITE has come; 100 has been sent.
    Offered(Box<Offered>),
    /// A re-INVITE, an UPDATE or a PRACK with an offer has come: answer or refuse it. One that repeats the description
    /// in force is a session refresh; it is answered without its user.
    ReOffered {
        /// Of which dialog.
        dialog: DialogId,
        /// Its offer; `None` asks for ours.
        sdp: Option<Vec<u8>>,
        /// Of which branch of a call that we placed; 0 in any other dialog.
        branch: u32,
    },
    /// The 200 was acknowledged.
    Acknowledged {
        /// Of which dialog.
        dialog: DialogId,
        /// The answer to an offer in the 200.
        sdp: Option<Vec<u8>>,
    },
    /// An offer of ours was answered: of [`Endpoint::reinvite`](super::Endpoint::reinvite), or the one in a reliable
    /// provisional response (RFC 3262 §5).
    Reanswered {
        /// Of which dialog.
        dialog: DialogId,
        /// Their answer; `None` when the response had none, and all stays as it was.
        sdp: Option<Vec<u8>>,
    },
    /// An offer of [`Endpoint::reinvite`](super::Endpoint::reinvite) was refused; all stays as it was (RFC 6141 §3.4).
    ReofferFailed {
        /// Of which dialog.
        dialog: DialogId,
        /// 300 to 699.
        status: u16,
    },
    /// They ask us to call somebody else (RFC 3515): accept or refuse it.
    Referred {
        /// In which dialog.
        dialog: DialogId,
        /// Whom, without the header fields that it names.
        target: Uri,
        /// Which dialog that call is to take the place of.
        replaces: Option<Replaces>,
        /// Who asks, as Referred-By says it (RFC 3892); it goes into the INVITE.
        referred_by: Option<String>,
    },
    /// What has become of our [`Endpoint::refer`](super::Endpoint::refer).
    ReferProgress {
        /// In which dialog.
        dialog: DialogId,
        /// 202 when they took it on; then what the one they call answers, 100 to 699.
        status: u16,
        /// Nothing more is told.
        is_final: bool,
    },
    /// Our [`Endpoint::refer`](super::Endpoint::refer) was refused: nobody was called.
    ReferRefused {
        /// In which dialog.
        dialog: DialogId,
        /// 300 to 699; 408 when nothing came.
        status: u16,
    },
    /// An INFO with a body that an application may want, such as a digit (RFC 6086 §2); it was answered with 200.
    Info {
        /// In which dialog.
        dialog: DialogId,
        /// Its media type, in small letters and without parameters.
        content_type: String,
        /// Its body.
        body: Vec<u8>,
    },
    /// The dialog is over, or never came to be.
    Ended {
        /// Which.
        dialog: DialogId,
        /// Why.
        cause: EndCause,
        /// What the far end's Reason says (RFC 3326).
        reason: Option<String>,
    },
    /// A 4xx, 5xx or 6xx was sent or received; challenges that an attempt goes on behind are none.
    RefusalSeen(Box<RefusalSeen>),
    /// A call that we placed makes progress: 180 to 199, told once per status and branch of a fork, and once more when
    /// a description comes with it for the first time.
    Progressed {
        /// Which.
        dialog: DialogId,
        /// 180 to 199.
        status: u16,
        /// The answer to our offer: early media may come. Their offer, when our INVITE had none: to be answered.
        sdp: Option<Vec<u8>>,
        /// Which branch of a fork, from 1 up; each is a dialog of its own, with its own description.
        branch: u32,
    },
    /// A call that we placed was answered: the first 2xx. Its ACK has been sent, and is for each copy that comes.
    Accepted {
        /// Which.
        dialog: DialogId,
        /// The answer to our offer; `None` when a [`Event::Progressed`] of this branch brought it already. Their offer,
        /// when our INVITE had none: to be answered, and acknowledged with that answer.
        sdp: Option<Vec<u8>>,
        /// Which branch of a fork; the others are ended.
        branch: u32,
    },
    /// A call that we placed got a final response other than 2xx. It has been acknowledged; the dialog is gone.
    Refused {
        /// Which.
        dialog: DialogId,
        /// 300 to 699.
        status: u16,
        /// Where a 3xx redirects to, by falling `q`; at most 5.
        contacts: Vec<Uri>,
        /// When to try again.
        retry_after: Option<Duration>,
        /// What its Reason says (RFC 3326).
        reason: Option<String>,
    },
    /// A call that we placed got no final response: nothing came for 64·T1 (timer B), or the transport failed. The
    /// dialog is gone.
    Unanswered {
        /// Which.
        dialog: DialogId,
    },
    /// A request of ours outside dialogs has its final response; a challenge only where it cannot be answered.
    Responded {
        /// Which.
        request: RequestId,
        /// 200 to 699.
        status: u16,
        /// The phrase behind it, for people.
        phrase: String,
        /// All header fields.
        headers: Headers,
        /// Where it went.
        flow: Flow,
        /// CSeq of its last try.
        cseq: u32,
    },
    /// A request of ours outside dialogs got no final response for 64·T1 (timer F), or the transport failed.
    RequestTimedOut {
        /// Which.
        request: RequestId,
    },
    /// A REGISTER has come: answer it with [`Endpoint::respond_outside`](super::Endpoint::respond_outside).
    Registering {
        /// Its name for the answer.
        id: ServerRequestId,
        /// Where it came from.
        flow: Flow,
        /// All of it.
        request: Box<Request>,
    },
}

/// An INVITE, as far as its user needs it.
#[derive(Clone, PartialEq)]
pub struct Offered {
    /// The dialog's name for all that follows.
    pub dialog: DialogId,
    /// Where it came from.
    pub flow: Flow,
    /// The header `Call-ID`.
    pub call_id: String,
    /// Whom it asks for.
    pub request_uri: Uri,
    /// Who calls.
    pub from: NameAddr,
    /// Whom they called.
    pub to: NameAddr,
    /// Its offer; `None` is a late offer.
    pub sdp: Option<Vec<u8>>,
    /// The dialog of ours that it is to take the place of (RFC 3891): whoever answers it hangs that one up.
    pub replaces: Option<DialogId>,
    /// The values of Authorization and Proxy-Authorization, as they came.
    pub authorization: Vec<String>,
    /// All header fields: Diversion, History-Info and whatever else is told of the call.
    pub headers: Headers,
}

/// Names, numbers and what proves an account are personal.
impl fmt::Debug for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offered").field("dialog", &self.dialog).field("flow", &self.flow).finish_non_exhaustive()
    }
}

/// A 4xx, 5xx or 6xx, and what caused it.
#[derive(Clone, PartialEq)]
pub struct RefusalSeen {
    /// We sent it; else we received it.
    pub is_ours: bool,
    /// 400 to 699.
    pub status: u16,
    /// Of the request that was refused.
    pub method: Method,
    /// Between whom.
    pub flow: Flow,
    /// The dialog it concerns, if one.
    pub dialog: Option<DialogId>,
    /// In words for people: the rule of ours that caused it, or what the far end says.
    pub rule: String,
}

/// A rule may name who called whom.
impl fmt::Debug for RefusalSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.is_ours { "sent" } else { "received" };
        write!(f, "RefusalSeen({direction} {} to {}, {:?})", self.status, self.method, self.dialog)
    }
}

/// Why a dialog ended without our doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCause {
    /// BYE.
    Bye,
    /// CANCEL, before the answer.
    Cancelled,
    /// The 200 was not acknowledged for 64·T1 (RFC 3261 §13.3.1.4); BYE has been sent.
    NoAck,
    /// A reliable provisional response was not acknowledged for 64·T1 (RFC 3262 §3); 504 has been sent.
    NoPrack,
    /// The far end lacks an extension that the line requires, or requires one that it must not use; 421 or 420 has been
    /// sent.
    Extension,
    /// The session was not refreshed in time (RFC 4028 §10); BYE has been sent.
    Expired,
    /// The far end does not know the dialog, or answers nothing (RFC 3261 §12.2.1.2); BYE has been sent.
    Gone,
}

/// A final response other than 2xx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 300 to 699.
    pub status: u16,
    /// What caused it, in words for people: becomes a Reason header field (RFC 3326).
    pub reason: Option<String>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// Further header fields, such as WWW-Authenticate.
    pub fields: Vec<(&'static str, String)>,
}

impl Refusal {
    /// A refusal that says nothing but its status.
    pub fn new(status: u16) -> Self {
        Refusal { status, reason: None, retry_after: None, fields: Vec::new() }
    }
}

/// A command that the dialog's state does not allow. The caller's mistake or a race; nothing was sent.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum CommandError {
    /// The dialog is over.
    #[error("no such dialog")]
    NoDialog,
    /// No request waits for an answer.
    #[error("no request waits for an answer")]
    NothingPending,
    /// The dialog is not as far as this needs.
    #[error("the dialog is not in a state for this")]
    NotNow,
    /// The far end's Allow does not name the method, or the line does not use it.
    #[error("the far end does not allow this method")]
    NotAllowed,
}
