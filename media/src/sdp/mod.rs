//! Session Description Protocol (RFC 4566) and offer/answer (RFC 3264): reading is strict about what matters and bounded
//! in everything, negotiation is a pure function of the offer and what we can do.

pub mod crypto;
pub mod dtls;
pub mod dtmf;
pub mod fingerprint;
pub mod negotiate;
pub mod parse;
pub mod repertoire;
pub mod security;

pub use crypto::{Crypto, CryptoError};
pub use dtls::{DtlsPeer, DtlsRole};
pub use dtmf::DtmfMode;
pub use fingerprint::{Fingerprint, Setup};
pub use negotiate::{
    Answer, Capabilities, CodecList, LocalMedia, NegotiateError, Negotiated, Numbered, TelephoneEvent,
};
pub use parse::{Attribute, Direction, Media, RtpMap, SdpError, SessionDescription};
pub use repertoire::Repertoire;
pub use security::{Keying, SdesKeys, Security, Srtp};
