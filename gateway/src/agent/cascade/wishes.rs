//! What a cascade wants of its call.

use std::collections::VecDeque;
use std::time::Instant;

use crate::agent::transfer::Transfer;
use crate::agent::{AgentLoss, Said};

/// What the call is to be told.
#[derive(Default)]
pub(super) struct Wishes {
    pub(super) said: VecDeque<Said>,
    pub(super) presses: VecDeque<char>,
    /// Whom the caller is to be put through to.
    pub(super) transfer: Transfer,
    /// When the call ends, whose goodbye has been heard.
    pub(super) hangs_up_at: Option<Instant>,
    pub(super) loss: Option<AgentLoss>,
}
