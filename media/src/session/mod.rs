//! The sound of one leg: everything between its packets and its audio, behind one face.
//!
//! ```text
//!   RTP in ─▶ SRTP opens ─▶ latch ─▶ receiver (order, loss, digits) ─▶ decode, conceal ─▶ Heard
//!   Speech ─▶ convert ─▶ playout (20 ms clock) ─▶ encode ─▶ sender ─▶ SRTP seals ─▶ RTP out
//!   RTCP in ─▶ figures ─▶ RTCP out
//! ```

mod digits;
mod dtls;
mod exchange;
mod hearing;
mod keys;
mod noise;
mod rtp;
mod secure;
mod speaking;

use std::net::SocketAddr;

pub use crate::audio::playout::NotQueued;
pub use dtls::{HandshakeId, HandshakeInput};
pub use exchange::{Exchange, Heed};
pub use keys::Pressed;
pub use rtp::RtpSession;
pub use rtp::quality::{Inbound, Outbound, Protection, Quality, Sound};

use crate::audio::frame::Frame;

/// What a leg heard.
#[derive(Debug)]
pub enum Heard<'a> {
    /// The next stretch of the caller's timeline; lost audio is concealed, missing audio is silence.
    Audio(Frame<'a>),
    /// Silence in place of what a held line plays: the caller does not hear us either.
    Held(Frame<'a>),
    /// A key was pressed; reported once.
    Digit(char),
}

/// Which of a leg's sockets a packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// The even port.
    Rtp,
    /// The odd port.
    Rtcp,
}

/// A packet that is to be sent; its bytes are in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// The socket to send it from.
    pub channel: Channel,
    /// Where to.
    pub to: SocketAddr,
    /// Its length.
    pub bytes: usize,
}

#[cfg(test)]
mod tests;
