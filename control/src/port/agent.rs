//! How an agent talks, as it crosses the port.

use serde::{Deserialize, Serialize};

/// Who speaks first in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstSpeaker {
    /// The agent greets.
    #[default]
    Agent,
    /// The agent waits to be spoken to.
    Caller,
}

/// Who stops an agent when the caller interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BargeIn {
    /// The box, by its own ear and at once; the provider too.
    Box,
    /// The provider alone.
    Provider,
    /// Nobody.
    Off,
}

impl BargeIn {
    /// All of them.
    pub const ALL: [BargeIn; 3] = [BargeIn::Box, BargeIn::Provider, BargeIn::Off];

    /// As the API and the database have it.
    pub fn as_str(self) -> &'static str {
        match self {
            BargeIn::Box => "box",
            BargeIn::Provider => "provider",
            BargeIn::Off => "off",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        BargeIn::ALL.into_iter().find(|barge_in| barge_in.as_str() == name)
    }
}
