//! What a cascade wants of its call.

use std::collections::VecDeque;
use std::time::Instant;

use crate::agent::{AgentLoss, Destination, Said};

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

/// A transfer that the model has asked for, by the id of its function's call.
#[derive(Default)]
pub(super) enum Transfer {
    #[default]
    None,
    /// To begin once what has been said was heard.
    Wanted { call_id: String, to: String },
    /// It has begun; the model waits for what becomes of it.
    Begun { call_id: String },
}

impl Wishes {
    /// Whether a transfer is to begin.
    pub(super) fn wants_transfer(&self) -> bool {
        matches!(self.transfer, Transfer::Wanted { .. })
    }

    /// Whom to put the caller through to, now that what was said has been heard; once.
    pub(super) fn take_transfer(&mut self) -> Option<Destination> {
        if !self.wants_transfer() {
            return None;
        }
        let Transfer::Wanted { call_id, to } = std::mem::take(&mut self.transfer) else { return None };
        self.transfer = Transfer::Begun { call_id };
        Some(Destination(to))
    }

    /// The transfer is not to be, or was none: the call of the function that asked for it.
    pub(super) fn end_transfer(&mut self) -> Option<String> {
        match std::mem::take(&mut self.transfer) {
            Transfer::None => None,
            Transfer::Wanted { call_id, .. } | Transfer::Begun { call_id } => Some(call_id),
        }
    }
}
