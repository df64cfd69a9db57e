//! Protocol machines and signal processing: SIP, SDP, RTP, codecs and audio.
//!
//! Everything here takes bytes and time in and gives bytes and events out. Nothing opens a socket, reads a clock,
//! starts a task or draws a random number: `now` and a seed are arguments, so each timer is tested in virtual time.

pub mod audio;
pub mod codec;
pub mod dtls;
pub mod rtp;
pub mod sdp;
pub mod session;
pub mod sip;
pub mod stun;
