//! Talkstack Edge: the daemon that answers phone calls and bridges them to voice agents.
//!
//! ```text
//!  phone lines                           talkstack                                   agents
//!  SIP trunk / PBX / phone ─ SIP+RTP ─▶ media ─▶ gateway: Call ─────────▶ the built-in attendant, always there
//!                                                │        ▲    ├───────▶ an OpenAI Realtime server (WebSocket, TLS)
//!                                                │        │    └───────▶ a media-stream service (WebSocket)
//!                                        journal ▼        │ snapshot
//!                                          control: REST API, SQLite, webhooks
//! ```
//!
//! # Invariants
//!
//! 1. Protocol machines take bytes and time in and give bytes and events out. They own no socket, clock, task or random
//!    source. So every timer is tested in virtual time: no test waits for one.
//! 2. Only [`io`] (and control's server) awaits sockets and timers. Nothing in it decides.
//! 3. Every live object has exactly one owning task or thread. No lock is reachable from an audio frame or a SIP message.
//! 4. Calls never wait for the database: routing is a pure function of the last configuration ([`route`]); what happens
//!    is appended to the [`journal`] and ingested by control, which may restart or die while callers keep talking.
//! 5. Every queue, buffer and retry has a bound; its constant says with arithmetic why, and what is lost when it is full.
//! 6. A panic or hostile packet ends at most the one call it belongs to, with a BYE and a record.
//! 7. Every ending is attributed: [`Outcome`](talkstack_control::port::Outcome). SIP status, API status and log derive
//!    from it.
//! 8. Personal data (numbers, speech) is not logged above DEBUG.
//!
//! # Threads
//!
//! | Thread | Owns | Talks by |
//! |---|---|---|
//! | `media-N` ([`io::shard`]), one per core, pinned | whole calls: machines, RTP sockets, the agent's connected socket | bounded inbox ([`io::inbox`]) |
//! | `sip` ([`io::sip`]) | the SIP endpoint, its sockets, the [`switchboard`] | bounded tokio channel |
//! | `journal` ([`journal`]) | the journal's files | bounded queue |
//! | `recorder` ([`io::recorder`]) | the recordings' files; only calls of a project are recorded | bounded queue |
//! | `store` (control) | the only writing SQLite connection | bounded queue |
//! | tokio, two workers | the API, the pipe between the halves ([`plane`]), connecting to agents ([`io::connect`]) | |
//!
//! # One call
//!
//! INVITE → [`io::sip`] reads the datagram, [`accept`] lets it in, the endpoint
//! ([`talkstack_media::sip::endpoint`]) answers 100 and says `Offered` → [`route::route`] finds who answers →
//! [`switchboard::Switchboard::admit`] picks a shard → the journal gets `Started` → the shard takes two ports
//! ([`io::ports`]) and makes a [`call::Call`], which negotiates ([`talkstack_media::sdp`]), rings and answers →
//! the SIP thread sends 180 and 200 and repeats the 200 until the ACK.
//!
//! # One call that the box places
//!
//! `makeCall` → control checks number, destination ([`talkstack_control::gate`]), caller id and limits, and commits the
//! call's row with its order → the dispatcher ([`talkstack_control::dial`]) hands the order over, once, whatever crashes
//! → [`io::sip`] journals `DialAccepted`; nothing leaves before it is on disk → the trunk's addresses come from
//! [`trunks`], where names are resolved beforehand → a shard makes the [`call::Call`] and its offer, and the agent's
//! session is opened → [`dial::Attempt`] says which address is tried next and where a redirection may lead → the endpoint
//! calls, answers a challenge, acknowledges → 1.5 s after the answer the agent greets, unless the called side has spoken.
//!
//! # One audio frame
//!
//! Caller → agent: the shard reads the socket → [`RtpSession`](talkstack_media::session::RtpSession): latch, order and
//! loss ([`talkstack_media::rtp::receiver`]), decoding → [`agent::AgentSession::handle_audio`] → one write to the agent's
//! socket at the end of the same millisecond.
//!
//! Agent → caller: bytes → [`agent::AgentSession::poll_output`] → the playout queue
//! ([`talkstack_media::audio::playout`]), whose 20 ms grid belongs to the leg → RTP. When the caller interrupts, the queue
//! is empty before the next frame, and the agent is told how many milliseconds left for the wire
//! ([`agent::openai_realtime`]).
//!
//! # One API request
//!
//! [`talkstack_control::http`]: principal → parsed values → one SQLite transaction, committed before the answer → the
//! routing configuration goes to the call plane by [`CallPlane::apply`](talkstack_control::port::CallPlane::apply).
//!
//! # One ending
//!
//! `Ended{outcome}` → journal, on disk → the [`plane`] sends it to control → one transaction stores row and cursor
//! ([`talkstack_control::ingest`]) → the acknowledged segment is deleted. What a crash left open is ended at the next
//! start, once, by the gateway, and its far end gets a BYE.
//!
//! # What it costs
//!
//! Measured on 2026-11-24 at commit 0c04df1 on two shared cores (Debian 12, Rust 1.95), one core for the gateway, agent
//! and generator on the other; all lines in one run, G.711, 50 packets a second each way. 150 calls, each bridged to its
//! own WebSocket agent in the Twilio Media Streams dialect; 200 calls to `echo` for 60 s. `gateway/benches/yardstick`
//! repeats it.
//!
//! | | CPU µs per call-second | ratio | added round trip p50 / p99 ms | lost | later than 20 ms | KB per call |
//! |---|--:|--:|--:|--:|--:|--:|
//! | floor, paced, a socket a call (8 ms cushion) | 916 | 1.00 | 11.8 / 13.4 | 0 | 0 | 1 |
//! | floor, unpaced | 840 | 0.92 | 2.2 / 3.9 | 0 | 0 | 1 |
//! | this gateway | 1,232 | 1.35 | 2.5 / 6.3 | 0 | 0 | 29 |
//! | this gateway, `echo`, no agent | 581 | 0.63 | 1.0 / 3.1 | 0 | 0 | 4 |
//!
//! The gateway's round trip includes its playout cushion, which follows the agent's jitter (1 to 4 ms here); without it
//! p99 stays below 5 ms. An earlier run of the same machines gave 1,047 µs and a ratio of 1.06: the cores are shared.

pub mod accept;
pub mod agent;
pub mod call;
pub mod cli;
pub mod config;
pub mod dial;
pub mod durable;
pub mod io;
pub mod journal;
pub mod plane;
pub mod priority;
pub mod prompts;
pub mod random;
pub mod route;
pub mod serve;
pub mod snapshot_file;
pub mod speech;
pub mod switchboard;
pub mod trunks;
