//! What an endpoint tells, and what it is told.

use std::time::Duration;

use super::{DialogId, Flow};
use crate::sip::message::{NameAddr, Uri};

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
    /// Something happened.
    Event(Event),
}

/// Something happened to a dialog.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An INVITE has come; 100 has been sent.
    Offered(Box<Offered>),
    /// A re-INVITE has come: answer or refuse it.
    ReOffered {
        /// Of which dialog.
        dialog: DialogId,
        /// Its offer; `None` asks for ours.
        sdp: Option<Vec<u8>>,
    },
    /// The 200 was acknowledged.
    Acknowledged {
        /// Of which dialog.
        dialog: DialogId,
        /// The answer to an offer in the 200.
        sdp: Option<Vec<u8>>,
    },
    /// The dialog is over, or never came to be.
    Ended {
        /// Which.
        dialog: DialogId,
        /// Why.
        cause: EndCause,
    },
    /// A call that we placed makes progress: 180 to 199, told once per status and branch of a fork, and once more when
    /// a description comes with it for the first time.
    Progressed {
        /// Which.
        dialog: DialogId,
        /// 180 to 199.
        status: u16,
        /// The answer to our offer: early media may come.
        sdp: Option<Vec<u8>>,
    },
    /// A call that we placed was answered: the first 2xx. Its ACK has been sent, and is for each copy that comes.
    Accepted {
        /// Which.
        dialog: DialogId,
        /// The answer to our offer; `None` when a [`Event::Progressed`] brought it already.
        sdp: Option<Vec<u8>>,
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
    },
    /// A call that we placed got no final response: nothing came for 64·T1 (timer B), or the transport failed. The
    /// dialog is gone.
    Unanswered {
        /// Which.
        dialog: DialogId,
    },
}

/// An INVITE, as far as its user needs it.
#[derive(Debug, Clone, PartialEq)]
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
}

/// A command that the dialog's state does not allow. The caller's mistake or a race; nothing was sent.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum CommandError {
    /// The dialog is over.
    #[error("no such dialog")]
    NoDialog,
    /// No INVITE waits for an answer.
    #[error("no INVITE waits for an answer")]
    NothingPending,
}
