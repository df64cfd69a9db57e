//! Talkstack Edge: the daemon that answers phone calls and bridges them to voice agents.

pub mod accept;
pub mod agent;
pub mod call;
pub mod cli;
pub mod config;
pub mod durable;
pub mod io;
pub mod journal;
pub mod plane;
pub mod prompts;
pub mod random;
pub mod route;
pub mod serve;
pub mod snapshot_file;
pub mod switchboard;
