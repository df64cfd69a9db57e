//! What can be wrong with bytes that claim to be a SIP message.

use super::Headers;

/// Why bytes are no acceptable SIP message. The sender's doing; a request is answered with [`Fault::status`] when
/// enough of it could be read, anything else is dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Longer than the 64 KiB a message may have (RFC 3261 §21.4.11).
    #[error("Message Too Large")]
    TooLarge,
    /// More header fields than any honest sender writes.
    #[error("Too Many Header Fields")]
    TooManyHeaders,
    /// The first line is neither a request line nor a status line.
    #[error("Malformed Start Line")]
    StartLine,
    /// The Request-URI cannot be read (RFC 3261 §19.1).
    #[error("Malformed Request-URI")]
    RequestUri,
    /// A version other than SIP/2.0 (RFC 3261 §21.5.6).
    #[error("Version Not Supported")]
    Version,
    /// A status code outside 100..=699.
    #[error("Malformed Status Code")]
    StatusCode,
    /// A header line without a colon, or with a name that is no token.
    #[error("Malformed Header Field")]
    HeaderLine,
    /// The header section does not end.
    #[error("Header Section Not Terminated")]
    Unterminated,
    /// A mandatory header field is absent (RFC 3261 §8.1.1).
    #[error("Missing {0} Header Field")]
    Missing(&'static str),
    /// A header field that may stand once stands more often.
    #[error("Repeated {0} Header Field")]
    Repeated(&'static str),
    /// A header field's value cannot be read.
    #[error("Malformed {0} Header Field")]
    Malformed(&'static str),
    /// CSeq names another method than the request line (RFC 3261 §8.1.1.5).
    #[error("CSeq Method Does Not Match Request Method")]
    CSeqMethod,
    /// Content-Length promises more octets than the datagram holds (RFC 3261 §18.3).
    #[error("Content-Length Exceeds Datagram")]
    Truncated,
}

impl Fault {
    /// The status a request with this fault is refused with.
    pub fn status(self) -> u16 {
        match self {
            Self::Version => 505,
            Self::TooLarge => 413,
            _ => 400,
        }
    }
}

/// A message that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct Rejected {
    /// What is wrong.
    pub fault: Fault,
    /// Header fields to answer from: present when this was a request other than ACK with at least one Via.
    pub salvage: Option<Headers>,
}
