//! Talkstack Edge: the daemon that answers phone calls and bridges them to voice agents.

pub mod agent;
pub mod call;
pub mod io;
pub mod prompts;
pub mod route;
