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

/// What an agent can do besides speaking, by a function that its model calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentTool {
    /// End the call, once the goodbye has been heard.
    EndCall,
    /// Press keys for the far end, as for a menu.
    SendDtmf,
}

impl AgentTool {
    /// All of them, which is what an agent has unless its owner says otherwise.
    pub const ALL: [AgentTool; 2] = [AgentTool::EndCall, AgentTool::SendDtmf];

    /// As the API and the model have it.
    pub fn as_str(self) -> &'static str {
        match self {
            AgentTool::EndCall => "end_call",
            AgentTool::SendDtmf => "send_dtmf",
        }
    }

    /// What an agent has whose owner has said nothing.
    pub fn usual() -> Vec<Self> {
        AgentTool::ALL.into()
    }
}

/// Someone whom an agent can put its callers through to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferTarget {
    /// As the model calls them, and hears of: `reception`. 1 to 64 characters.
    pub name: String,
    /// A number, an extension or a user of the box, as a phone would dial it. 1 to 40 characters.
    pub to: String,
}
