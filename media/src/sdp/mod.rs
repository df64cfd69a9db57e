//! Session Description Protocol (RFC 4566) and offer/answer (RFC 3264): reading is strict about what matters and bounded
//! in everything, negotiation is a pure function of the offer and what we can do.

pub mod negotiate;
pub mod parse;

pub use negotiate::{
    Answer, Capabilities, CodecList, LocalMedia, NegotiateError, Negotiated, Numbered, TelephoneEvent,
};
pub use parse::{Attribute, Direction, Media, RtpMap, SdpError, SessionDescription};
