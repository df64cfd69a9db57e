//! Real-time Transport Protocol (RFC 3550): one stream in, one stream out.

pub mod budget;
pub mod bursts;
pub mod dtmf;
pub mod figures;
pub mod latch;
pub mod quality;
pub mod receiver;
pub mod rtcp;
pub mod sender;
pub mod srtp;
pub mod xr;
