//! The control plane: accounts, projects, agents, numbers and calls, served as the Talkstack API from one SQLite file.
//!
//! Control knows nothing of SIP, RTP, codecs or frames. What it needs from whoever carries the calls is the trait
//! [`port::CallPlane`]; what it hears back are [`port::JournalRecord`]s, which ingest turns into rows.

pub mod port;
