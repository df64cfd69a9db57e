//! The control plane: accounts, projects, agents, numbers and calls, served as the Talkstack API from one SQLite file.
//!
//! ```text
//!   client ─▶ http ─▶ principal ─▶ model ─▶ store (one transaction) ─▶ answer
//!                                              │
//!                                  snapshot ───┴─▶ plane ─▶ the call plane
//!                                  ingest ◀─────── plane ◀─ its journal
//! ```
//!
//! Control knows nothing of SIP, RTP, codecs or frames. What it needs from whoever carries the calls is the trait
//! [`port::CallPlane`]; what it hears back are [`port::JournalRecord`]s, which [`ingest`] turns into rows.

pub mod auth;
mod call_object;
pub mod call_status;
pub mod clock;
pub mod dial;
pub mod gate;
mod housekeeping;
pub mod http;
pub mod ingest;
mod listen;
pub mod mail;
pub mod model;
pub mod pattern;
pub mod plane;
pub mod port;
pub mod recording;
pub mod secret;
pub mod server;
pub mod snapshot;
pub mod store;
pub mod voices;
pub mod webhook;
