//! Keys a caller presses, told to an agent that has no word for them: in one sentence, after a pause.

use std::time::{Duration, Instant};

/// Keys that were pressed and have not been told. They are personal: nothing of it has a `Debug`.
#[derive(Default)]
pub(super) struct Keys {
    pressed: String,
    has_news: bool,
    due: Option<Instant>,
}

impl Keys {
    /// A key was pressed; beyond [`KEYS_MAX`] it is dropped.
    pub(super) fn handle_digit(&mut self, digit: char) {
        if self.pressed.len() < KEYS_MAX {
            self.pressed.push(digit);
            self.has_news = true;
        }
    }

    /// It is now: the pause behind the last key begins.
    pub(super) fn handle_now(&mut self, now: Instant) {
        if std::mem::take(&mut self.has_news) {
            self.due = Some(now + KEYS_QUIET);
        }
    }

    /// When they are to be told.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What the agent is told, if the pause is over.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<String> {
        self.due.take_if(|due| *due <= now)?;
        let told = format!("{TOLD}{}", self.pressed);
        self.pressed.clear();
        Some(told)
    }

    /// Whether a text is what an agent was told of keys: some services give it back as the caller's words.
    pub(super) fn are_told_in(text: &str) -> bool {
        text.starts_with(TOLD)
    }
}

const TOLD: &str = "The caller pressed ";

/// 1.5 s: the pause after which a person has finished typing.
pub(super) const KEYS_QUIET: Duration = Duration::from_millis(1500);

/// 32 keys: a card number and its PIN; further ones wait for nobody and are dropped.
const KEYS_MAX: usize = 32;
