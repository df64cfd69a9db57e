//! Session Initiation Protocol (RFC 3261): messages, transactions, dialogs and the endpoint that owns them.

pub mod advertised;
pub mod auth;
pub mod dialog;
pub mod digest;
pub mod endpoint;
pub mod info_digit;
pub mod message;
pub mod registrar;
pub mod registration;
pub mod session_timer;
pub mod stream;
pub mod transaction;

pub use advertised::{Advertised, Network, PublicAddress, PublicPort, is_near};
pub use digest::Credentials;
pub use endpoint::{
    CommandError, Counters, DialogId, EndCause, Endpoint, EndpointConfig, Event, Extensions, Flow, InviteError,
    InviteOrder, LARGE_CONNECT_MAX, Offered, Output, OutsideReply, OutsideRequest, Refusal, RefusalSeen, Reliable,
    RequestId, SavedError, ServerRequestId, StreamId, Transport, UdpLarge,
};
pub use info_digit::InfoDigit;
pub use message::Replaces;
