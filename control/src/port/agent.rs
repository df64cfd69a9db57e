//! How an agent talks, as it crosses the port.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Sealed;

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
    /// Note that the called side wants no more calls.
    AddToDnc,
    /// Collect keys from the caller, and be told them.
    CollectDigits,
    /// Collect keys from the caller that the model never learns; a service that it calls next may get them.
    CollectSecretDigits,
    /// End the call, once the goodbye has been heard.
    EndCall,
    /// Press keys for the far end, as for a menu.
    SendDtmf,
    /// Take a message down for the owner of the agent.
    TakeMessage,
    /// Say nothing for a while, as the caller has asked.
    Wait,
}

impl AgentTool {
    /// All of them, in the order of their names.
    pub const ALL: [AgentTool; 7] = [
        AgentTool::AddToDnc,
        AgentTool::CollectDigits,
        AgentTool::CollectSecretDigits,
        AgentTool::EndCall,
        AgentTool::SendDtmf,
        AgentTool::TakeMessage,
        AgentTool::Wait,
    ];

    /// As the API and the model have it.
    pub fn as_str(self) -> &'static str {
        match self {
            AgentTool::AddToDnc => "add_to_dnc",
            AgentTool::CollectDigits => "collect_digits",
            AgentTool::CollectSecretDigits => "collect_secret_digits",
            AgentTool::EndCall => "end_call",
            AgentTool::SendDtmf => "send_dtmf",
            AgentTool::TakeMessage => "take_message",
            AgentTool::Wait => "wait",
        }
    }

    /// What an agent has whose owner has said nothing.
    pub fn usual() -> Vec<Self> {
        vec![AgentTool::EndCall, AgentTool::SendDtmf]
    }
}

/// A function of the owner's, which a web service carries out.
///
/// In `url`, `headers`, `secret_headers` and the texts of `body`, `{{name}}` stands for an argument of the call of the
/// function, or for `call.id`, `call.from`, `call.to` or `digits`, the keys that were collected last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpTool {
    /// As the model calls it: 1 to 64 of letters, digits, `_` and `-`.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// A JSON schema of its arguments, an object.
    pub parameters: Value,
    /// The method.
    pub method: HttpMethod,
    /// Where; the host is fixed.
    pub url: String,
    /// Headers by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Headers whose values nobody is shown, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_headers: BTreeMap<String, Sealed>,
    /// JSON; `None` sends the arguments as they are, in the query of a GET or DELETE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// Seconds to wait for the whole answer, 1 to 15.
    pub timeout_s: u8,
}

/// How a web service is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// Without a body.
    Get,
    /// With one.
    Post,
    /// With one.
    Put,
    /// With one.
    Patch,
    /// Without one.
    Delete,
}

impl HttpMethod {
    /// As it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            HttpMethod::Get => "GET",
            HttpMethod::Post => "POST",
            HttpMethod::Put => "PUT",
            HttpMethod::Patch => "PATCH",
            HttpMethod::Delete => "DELETE",
        }
    }

    /// Whether a request of it has a body.
    pub fn has_body(self) -> bool {
        !matches!(self, HttpMethod::Get | HttpMethod::Delete)
    }
}

/// What a caller has left with an agent. It is personal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenMessage {
    /// Who they said they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The number under which they can be reached, as they said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// What they have to say.
    pub text: String,
}

impl fmt::Debug for TakenMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TakenMessage({} bytes)", self.text.len())
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
