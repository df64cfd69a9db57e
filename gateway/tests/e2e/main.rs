//! The real binary as a process, watched from outside: SIPp and baresip as phones, HTTP as a client.
//!
//! `gateway/tests/run` installs what these need; without it they fail and say what is missing.

mod calls;
mod cli;
mod daemon;
mod durable;
mod http;
mod phones;
mod signal;
mod sipp;
mod survival;
