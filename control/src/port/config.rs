//! The configuration that routing reads, as it crosses the port.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The configuration that routing reads: the whole of it, every time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Counts up with every change; a lower one never replaces a higher one.
    pub revision: u64,
    /// The box has an owner. Until it has, a box with `setup.required` answers no SIP.
    #[serde(default)]
    pub is_claimed: bool,
    /// Projects by id.
    pub projects: BTreeMap<String, ProjectRoute>,
    /// Agents by id.
    pub agents: BTreeMap<String, AgentRoute>,
    /// Called numbers, E.164 digits without the `+`, to what answers them.
    pub numbers: BTreeMap<String, NumberRoute>,
    /// Trunks by id.
    #[serde(default)]
    pub trunks: BTreeMap<String, TrunkRoute>,
}

impl Snapshot {
    /// The trunk that a number is presented on: the one that lists it, else the default.
    pub fn trunk_for(&self, from: &str) -> Option<(&str, &TrunkRoute)> {
        let digits = from.strip_prefix('+').unwrap_or(from);
        let listing = self.trunks.iter().find(|(_, trunk)| trunk.numbers.iter().any(|number| number == digits));
        let found = listing.or_else(|| self.trunks.iter().find(|(_, trunk)| trunk.is_default));
        found.map(|(id, trunk)| (id.as_str(), trunk))
    }
}

/// A SIP peer that calls are placed through and come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkRoute {
    /// As the owner named it.
    pub name: String,
    /// Host name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How SIP reaches it.
    pub transport: TrunkTransport,
    /// Who we are when it asks.
    #[serde(default)]
    pub username: Option<String>,
    /// The password that goes with it.
    #[serde(default)]
    pub password: Option<Sealed>,
    /// Our numbers on it, E.164 digits without the `+`.
    #[serde(default)]
    pub numbers: Vec<String>,
    /// Calls at once, both ways.
    pub max_channels: u32,
    /// It carries the calls of numbers that no trunk lists.
    #[serde(default)]
    pub is_default: bool,
}

/// How SIP reaches a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrunkTransport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
}

/// A secret encrypted under the box's own; opened only where it is used.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(pub String);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sealed")
    }
}

/// What routing needs to know of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectRoute {
    /// The agent that answers a number of the project that has none of its own.
    pub active_agent: Option<String>,
}

/// What a call needs to know of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentRoute {
    /// The project it belongs to.
    pub project_id: String,
    /// Its name, as the client chose it.
    pub name: String,
    /// Its prompt, placeholders not yet filled in.
    pub system_instruction: String,
    /// The voice it speaks with; `None` leaves the choice to the provider.
    pub voice_id: Option<String>,
    /// The service that runs it; `None` leaves the call to the attendant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderRoute>,
    /// Who speaks first.
    #[serde(default)]
    pub first_speaker: FirstSpeaker,
    /// What the agent opens with; `None` leaves it to the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greeting: Option<String>,
}

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

/// The service that runs an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ProviderRoute {
    /// A WebSocket server that speaks Twilio Media Streams.
    MediaStream {
        /// `ws://host:port/path`.
        url: String,
    },
    /// A server that speaks OpenAI's Realtime protocol.
    OpenAiRealtime {
        /// `wss://host/v1`, to which `/realtime` is added; `ws`, `http` and `https` are taken as well.
        base_url: String,
        /// The model.
        model: String,
        /// The key, where the server wants one.
        #[serde(default)]
        api_key: Option<Sealed>,
    },
}

/// What answers a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberRoute {
    /// The project that owns the number.
    pub project_id: String,
    /// The agent it is assigned to.
    pub agent_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_goes_through_the_trunk_that_lists_it_else_the_default_else_none() {
        let trunk = |numbers: &[&str], is_default| TrunkRoute {
            name: "t".into(),
            host: "h".into(),
            port: 5060,
            transport: TrunkTransport::Udp,
            username: None,
            password: None,
            numbers: numbers.iter().map(|number| (*number).to_owned()).collect(),
            max_channels: 1,
            is_default,
        };
        let mut snapshot = Snapshot::default();
        assert_eq!(snapshot.trunk_for("+361"), None);
        snapshot.trunks.insert("a".into(), trunk(&["361"], false));
        snapshot.trunks.insert("b".into(), trunk(&["362"], false));
        let id = |snapshot: &Snapshot, from: &str| snapshot.trunk_for(from).map(|(id, _)| id.to_owned());
        assert_eq!(id(&snapshot, "+362").as_deref(), Some("b"));
        assert_eq!(id(&snapshot, "361").as_deref(), Some("a"));
        assert_eq!(id(&snapshot, "+3611"), None);
        snapshot.trunks.insert("c".into(), trunk(&[], true));
        assert_eq!(id(&snapshot, "+3611").as_deref(), Some("c"));
        assert_eq!(id(&snapshot, "+361").as_deref(), Some("a"));
    }

    #[test]
    fn the_pipe_names_a_provider_by_its_kind() {
        // As gateway/benches/route.py writes them.
        let stream = r#"{"kind":"media_stream","url":"ws://agent/twilio"}"#;
        let realtime = r#"{"kind":"open_ai_realtime","base_url":"ws://agent/v1","model":"bench"}"#;
        let read = |text| serde_json::from_str::<ProviderRoute>(text).expect("a provider");
        assert_eq!(read(stream), ProviderRoute::MediaStream { url: "ws://agent/twilio".into() });
        let (base_url, model) = ("ws://agent/v1".into(), "bench".into());
        assert_eq!(read(realtime), ProviderRoute::OpenAiRealtime { base_url, model, api_key: None });
    }
}
