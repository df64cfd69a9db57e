//! A transfer that an agent's model has asked for, from its wish to what becomes of it.

use super::Destination;

/// How far it is, by the id of the function's call that asked for it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Transfer {
    #[default]
    None,
    /// To begin once what has been said was heard.
    Wanted { call_id: String, to: Destination },
    /// It has begun; the model waits for what becomes of it.
    Begun { call_id: String },
}

impl Transfer {
    /// Whether it is to begin.
    pub(super) fn is_wanted(&self) -> bool {
        matches!(self, Transfer::Wanted { .. })
    }

    /// Whom to put the caller through to, now that what was said has been heard; once.
    pub(super) fn begin(&mut self) -> Option<Destination> {
        match std::mem::take(self) {
            Transfer::Wanted { call_id, to } => {
                *self = Transfer::Begun { call_id };
                Some(to)
            }
            other => {
                *self = other;
                None
            }
        }
    }

    /// It is not to be, or has come to nothing: the call of the function that asked for it.
    pub(super) fn end(&mut self) -> Option<String> {
        match std::mem::take(self) {
            Transfer::None => None,
            Transfer::Wanted { call_id, .. } | Transfer::Begun { call_id } => Some(call_id),
        }
    }
}
