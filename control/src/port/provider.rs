//! The services that run agents, as they cross the port.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Sealed;

/// The service that runs an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderRoute {
    /// What it speaks.
    pub kind: ProviderKind,
    /// Where it is: `wss://host/path`, without a slash at its end; of a cascade, where it thinks.
    pub base_url: String,
    /// The model; empty where the kind has none.
    #[serde(default)]
    pub model: String,
    /// The key, where the server wants one.
    #[serde(default)]
    pub api_key: Option<Sealed>,
    /// What only some kinds have.
    #[serde(default)]
    pub settings: ProviderSettings,
}

impl ProviderRoute {
    /// A provider at an address, without a key.
    pub fn new(kind: ProviderKind, base_url: &str, model: &str) -> Self {
        let (base_url, model) = (base_url.to_owned(), model.to_owned());
        ProviderRoute { kind, base_url, model, api_key: None, settings: ProviderSettings::default() }
    }

    /// The first field that it cannot do without and does not have, by its name in the API.
    pub fn missing(&self) -> Option<&'static str> {
        let needs_model = match self.kind {
            // An agent that is made there has its model.
            ProviderKind::Deepgram => self.settings.agent.is_none(),
            ProviderKind::ElevenLabs | ProviderKind::Ultravox => false,
            kind => !kind.is_media_stream(),
        };
        if self.base_url.is_empty() {
            return Some("base_url");
        }
        if self.kind == ProviderKind::ElevenLabs && self.settings.agent.is_none() {
            return Some("agent_id");
        }
        (needs_model && self.model.is_empty()).then_some("model")
    }
}

/// What a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderKind {
    /// OpenAI's Realtime protocol, as it is generally available.
    #[serde(rename = "openai-realtime")]
    OpenAiRealtime,
    /// The same as its beta was; Azure's preview versions and some servers of one's own speak it.
    #[serde(rename = "openai-realtime-beta")]
    OpenAiRealtimeBeta,
    /// The same at Azure OpenAI.
    #[serde(rename = "azure-openai")]
    AzureOpenAi,
    /// Deepgram's Voice Agent API.
    Deepgram,
    /// ElevenLabs Agents.
    #[serde(rename = "elevenlabs")]
    ElevenLabs,
    /// Google's Gemini Live API.
    Gemini,
    /// Ultravox.
    Ultravox,
    /// Twilio Media Streams: the box is the telephony provider.
    Twilio,
    /// Telnyx media streaming.
    Telnyx,
    /// Plivo audio streams.
    Plivo,
    /// Exotel AgentStream.
    Exotel,
    /// Vonage's WebSocket endpoint.
    Vonage,
    /// Samples as they are, and a few texts: for an agent of one's own.
    Pcm,
    /// Asterisk's WebSocket channel: the box is the Asterisk that connects to the agent.
    #[serde(rename = "asterisk-websocket")]
    AsteriskWebSocket,
    /// Asterisk's AudioSocket: the box is the Asterisk that dials the agent's port.
    #[serde(rename = "audiosocket")]
    AudioSocket,
    /// Three services, one that listens, one that thinks, one that speaks, and the box takes the turns.
    Cascade,
}

impl ProviderKind {
    /// All of them, in the order in which they are shown.
    pub const ALL: [ProviderKind; 16] = [
        ProviderKind::OpenAiRealtime,
        ProviderKind::OpenAiRealtimeBeta,
        ProviderKind::AzureOpenAi,
        ProviderKind::Deepgram,
        ProviderKind::ElevenLabs,
        ProviderKind::Gemini,
        ProviderKind::Ultravox,
        ProviderKind::Twilio,
        ProviderKind::Telnyx,
        ProviderKind::Plivo,
        ProviderKind::Exotel,
        ProviderKind::Vonage,
        ProviderKind::Pcm,
        ProviderKind::AsteriskWebSocket,
        ProviderKind::AudioSocket,
        ProviderKind::Cascade,
    ];

    /// As the API and the command line have it.
    pub fn as_str(self) -> &'static str {
        match self {
            ProviderKind::OpenAiRealtime => "openai-realtime",
            ProviderKind::OpenAiRealtimeBeta => "openai-realtime-beta",
            ProviderKind::AzureOpenAi => "azure-openai",
            ProviderKind::Deepgram => "deepgram",
            ProviderKind::ElevenLabs => "elevenlabs",
            ProviderKind::Gemini => "gemini",
            ProviderKind::Ultravox => "ultravox",
            ProviderKind::Twilio => "twilio",
            ProviderKind::Telnyx => "telnyx",
            ProviderKind::Plivo => "plivo",
            ProviderKind::Exotel => "exotel",
            ProviderKind::Vonage => "vonage",
            ProviderKind::Pcm => "pcm",
            ProviderKind::AsteriskWebSocket => "asterisk-websocket",
            ProviderKind::AudioSocket => "audiosocket",
            ProviderKind::Cascade => "cascade",
        }
    }

    /// Where it is unless the owner says otherwise; `None` where everybody's is somewhere else.
    pub fn base_url(self) -> Option<&'static str> {
        match self {
            ProviderKind::OpenAiRealtime => Some("wss://api.openai.com/v1"),
            ProviderKind::Cascade => Some("https://api.openai.com/v1"),
            ProviderKind::Deepgram => Some("wss://agent.deepgram.com"),
            ProviderKind::ElevenLabs => Some("wss://api.elevenlabs.io"),
            ProviderKind::Gemini => Some("wss://generativelanguage.googleapis.com"),
            ProviderKind::Ultravox => Some("https://api.ultravox.ai"),
            _ => None,
        }
    }

    /// Whether it is a hosted agent in a protocol of its own.
    pub fn is_hosted(self) -> bool {
        matches!(
            self,
            ProviderKind::Deepgram | ProviderKind::ElevenLabs | ProviderKind::Gemini | ProviderKind::Ultravox
        )
    }

    /// Whether it gets a call's audio as from a telephony provider, and does everything else by itself.
    pub fn is_media_stream(self) -> bool {
        match self {
            ProviderKind::Twilio
            | ProviderKind::Telnyx
            | ProviderKind::Plivo
            | ProviderKind::Exotel
            | ProviderKind::Vonage
            | ProviderKind::Pcm
            | ProviderKind::AsteriskWebSocket
            | ProviderKind::AudioSocket => true,
            ProviderKind::OpenAiRealtime
            | ProviderKind::OpenAiRealtimeBeta
            | ProviderKind::AzureOpenAi
            | ProviderKind::Deepgram
            | ProviderKind::ElevenLabs
            | ProviderKind::Gemini
            | ProviderKind::Ultravox
            | ProviderKind::Cascade => false,
        }
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no kind of provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such kind of provider")]
pub struct ProviderKindError;

impl FromStr for ProviderKind {
    type Err = ProviderKindError;

    fn from_str(text: &str) -> Result<Self, ProviderKindError> {
        ProviderKind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(ProviderKindError)
    }
}

/// How the control messages of Asterisk's WebSocket channel are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlFormat {
    /// As `f(json)` has it.
    #[default]
    Json,
    /// As Asterisk 22.6 has it, which knows nothing else.
    PlainText,
}

impl ControlFormat {
    /// All of them.
    pub const ALL: [ControlFormat; 2] = [ControlFormat::Json, ControlFormat::PlainText];

    /// As the API and the command line have it.
    pub fn as_str(self) -> &'static str {
        match self {
            ControlFormat::Json => "json",
            ControlFormat::PlainText => "plain-text",
        }
    }
}

/// What only some kinds of providers have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProviderSettings {
    /// The agent's name at the provider, where agents are made there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Hertz of linear audio, where there is a choice: 8,000, 16,000 or 24,000. Of a cascade, hertz of bare samples that
    /// its speech is to come in, up to 48,000; `None` has it come in a WAV file, which says its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<u32>,
    /// The language that is spoken, as `de` or `en-US` (BCP 47).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The model that listens, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_model: Option<String>,
    /// The model that speaks, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speak_model: Option<String>,
    /// Where a cascade listens: `https://host/path` or, of Wyoming's services, `tcp://host:port`; `None`: at its base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_url: Option<String>,
    /// The key there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_api_key: Option<Sealed>,
    /// Where a cascade speaks, as `listen_url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speak_url: Option<String>,
    /// The key there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speak_api_key: Option<Sealed>,
    /// The voice of agents that have none of their own, where the service needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    /// Whether an AudioSocket server is told of keys, as few were before 2025; `None`: it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtmf: Option<bool>,
    /// How an agent behind Asterisk's WebSocket channel is written to; `None`: in JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_format: Option<ControlFormat>,
    /// So many sessions at once, 1 to 1,000; further callers are as those of an agent that cannot be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<u16>,
    /// Seconds that what an agent has said is heard after it has closed its connection, 0 to 60; `None`: 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_s: Option<u8>,
    /// What goes along with each call, where the protocol has a place for it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_named_alike_on_the_pipe_and_in_the_api() {
        for kind in ProviderKind::ALL {
            assert_eq!(serde_json::to_string(&kind).expect("JSON"), format!("\"{kind}\""));
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert_eq!("openai".parse::<ProviderKind>(), Err(ProviderKindError));
    }

    #[test]
    fn what_a_kind_cannot_do_without_is_named() {
        let mut route = ProviderRoute::new(ProviderKind::Deepgram, "", "");
        assert_eq!(route.missing(), Some("base_url"));
        route.base_url = "wss://agent.deepgram.com".into();
        assert_eq!(route.missing(), Some("model"));
        route.settings.agent = Some("stored".into());
        assert_eq!(route.missing(), None);
        assert_eq!(ProviderRoute::new(ProviderKind::Twilio, "ws://agent", "").missing(), None);
        let mut route = ProviderRoute::new(ProviderKind::ElevenLabs, "wss://api.elevenlabs.io", "");
        assert_eq!(route.missing(), Some("agent_id"));
        route.settings.agent = Some("made there".into());
        assert_eq!(route.missing(), None);
        let ultravox = ProviderRoute::new(ProviderKind::Ultravox, "https://api.ultravox.ai", "");
        assert_eq!(ultravox.missing(), None, "it has a model of its own");
    }

    #[test]
    fn the_pipe_has_a_provider_as_the_benchmark_writes_it() {
        // gateway/benches/route.py
        let stream = r#"{"kind":"twilio","base_url":"ws://agent/twilio"}"#;
        let read: ProviderRoute = serde_json::from_str(stream).expect("a provider");
        assert_eq!(read, ProviderRoute::new(ProviderKind::Twilio, "ws://agent/twilio", ""));
        assert_eq!(
            serde_json::to_string(&ProviderSettings::default()).expect("JSON"),
            "{}",
            "what is not set takes no room"
        );
    }
}
