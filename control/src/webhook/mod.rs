//! Webhooks: every change of a call's status, told to whoever asked, at least once and in order.
//!
//! ```text
//!   journal ─▶ ingest ── one transaction ──▶ calls, deliveries
//!                                               │ commit
//!              ┌── due: each call's first ◀─────┘
//!              ▼
//!   dispatch ─ sign ─ post ─▶ receiver          post: resolve, judge the address, connect to it, TLS, one POST
//!              ▲        │
//!              └─ plan ◀┘                       plan: delivered, again at …, given up, hook off
//! ```
//!
//! A delivery stays in its table until it is settled, so an attempt that a crash cut short is made again under the same
//! `webhook-id`. Signatures, headers and retries are those of [Standard Webhooks](https://www.standardwebhooks.com);
//! the body is Talkstack's flat call object.

mod dispatch;
mod event;
mod plan;
mod post;
mod sign;
mod target;

pub use dispatch::Dispatcher;
pub use event::announce;
pub use plan::{Attempt, Step, has_failed_too_long, plan, retry_after};
pub use post::{Answered, FETCHED_BYTES_MAX, Fetch, Fetched, Message, PostError, Poster};
pub use sign::{SecretError, WebhookSecret};
pub use target::{HookUrl, HookUrlError, Outbound, Refusal};

/// What webhooks' secrets are sealed for.
pub const SECRET_PURPOSE: &str = "webhook secret";
