//! The real binary as a process, watched from outside: SIPp and baresip as phones, HTTP as a client.
//!
//! `gateway/tests/run` installs what these need; without it they fail and say what is missing.

mod agents;
mod asterisk;
mod auditions;
mod caller;
mod calls;
mod cascade;
mod cli;
mod daemon;
mod dns;
mod durable;
mod flows;
mod functions;
mod hooks;
mod hosted;
mod http;
mod ledger;
mod outbound;
#[path = "../peers/mod.rs"]
mod peers;
mod phones;
mod pipecat;
mod realtime;
mod relay;
mod routes;
mod rtp_phone;
mod secure;
mod signal;
mod sipp;
mod sound;
mod strain;
mod streams;
mod survival;
mod synced;
mod trunk_test;
mod trunks;
mod uas;
mod wire;
