//! The only place that awaits sockets and timers. Nothing in it decides: it calls machines.

mod agent_socket;
pub mod asterisk;
pub mod audition;
pub mod cascade;
pub mod connect;
pub mod handshakes;
pub mod inbox;
pub mod ports;
pub mod recorder;
pub mod resolve;
pub mod shard;
pub mod sip;
pub mod wheel;
