//! Asterisk's own media protocols, as either side speaks them: the box plays Asterisk to an agent made for it
//! ([`crate::agent::audiosocket`], [`crate::agent::chan_websocket`]), or an Asterisk gives its calls to the box.

pub mod audiosocket;
pub mod channel;
pub mod control;
pub mod line;
pub mod parameters;
