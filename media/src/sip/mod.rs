//! Session Initiation Protocol (RFC 3261): messages, transactions, dialogs and the endpoint that owns them.

pub mod dialog;
pub mod digest;
pub mod endpoint;
pub mod message;
pub mod stream;
pub mod transaction;

pub use digest::Credentials;
pub use endpoint::{
    CommandError, Counters, DialogId, EndCause, Endpoint, EndpointConfig, Event, Extensions, Flow, InviteError,
    InviteOrder, Offered, Output, Refusal, RefusalSeen, Reliable, SavedError, StreamId, Transport,
};
pub use message::Replaces;
