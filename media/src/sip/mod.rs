//! Session Initiation Protocol (RFC 3261): messages, transactions, dialogs and the endpoint that owns them.

pub mod dialog;
pub mod endpoint;
pub mod message;
pub mod stream;
pub mod transaction;

pub use endpoint::{
    Counters, DialogId, EndCause, Endpoint, EndpointConfig, Event, Flow, Offered, Output, Refusal, StreamId, Transport,
};
