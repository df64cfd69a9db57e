//! What is peculiar to each kind of provider, in one table: where it listens, where its key goes, when it talks.
//!
//! | Kind | Listens at, behind its base | Key | Audio | Greets |
//! |---|---|---|---|---|
//! | `openai-realtime`, `-beta` | `/realtime?model=` | `Authorization: Bearer` | the line's G.711, or 24 kHz | when told |
//! | `azure-openai` | `/openai/v1/realtime?model=` | `api-key` | the same | when told |
//! | `deepgram` | `/v1/agent/converse` | `Authorization: Token` | the line's G.711, or 16 kHz | when told; a stored agent at once |
//! | `elevenlabs` | `/v1/convai/conversation?agent_id=`; with a key, asked for | `xi-api-key` | as the agent is set there | at once |
//! | `gemini` | `/ws/….BidiGenerateContent` | `key` in the query | 16 kHz in, usually 24 kHz out | when told |
//! | `ultravox` | asked for at `/api/calls` | `X-API-Key` | 16 kHz, or as set | when told; a stored agent at once |
//! | `cascade` | `/chat/completions`; see [`crate::io::cascade`] | `Authorization: Bearer` | 16 kHz in, any out | when told |
//! | `audiosocket` | a TCP port | none | 8 kHz, or as set | at once |
//! | media streams | the base itself | `Authorization: Bearer` | the dialect's | at once |

use std::fmt;
use std::time::Duration;

use talkstack_control::port::{BargeIn, FirstSpeaker, ProviderKind, ProviderRoute, ProviderSettings, Sealed};

use super::hosted::ultravox_call;
use super::tools::Tools;
use crate::io::cascade::{CascadeTarget, Greeting, ServiceTarget};
use crate::io::connect::{
    AgentTarget, AgentUrl, AgentUrlError, Ask, KeyPlace, SessionLimit, WebSocketTarget, percent_encoded,
};

/// An agent behind a provider: where it is, and what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePlan {
    /// What the provider speaks.
    pub kind: ProviderKind,
    /// How to reach it.
    pub target: AgentTarget,
    /// The model; empty where the kind has none.
    pub model: String,
    /// What only some kinds have.
    pub settings: ProviderSettings,
    /// What its session begins with.
    pub opening: Opening,
    /// Who talks.
    pub parties: Parties,
    /// Who stops it when the caller interrupts.
    pub barge_in: BargeIn,
    /// Nobody interrupts what it opens with.
    pub protects_greeting: bool,
    /// How long a caller waits for it.
    pub patience: Patience,
}

/// How long a caller waits for an agent that is not ready yet, and what becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Patience {
    /// How long it rings at the most; `None`: the usual time.
    pub ring: Option<Duration>,
    /// The SIP status with which they are refused if it does not come; `None` lets them in, to the attendant in the end.
    pub refuse_with: Option<u16>,
}

/// Who calls whom, as agents are told: E.164 with `+` where it is a number, else the SIP user or `anonymous`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parties {
    /// The caller.
    pub from: String,
    /// The called.
    pub to: String,
}

impl fmt::Debug for Parties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parties")
    }
}

/// What a session begins with.
#[derive(Clone, PartialEq, Eq)]
pub struct Opening {
    /// The prompt, filled in.
    pub instructions: String,
    /// The voice; `None` leaves it to the provider.
    pub voice: Option<String>,
    /// What the agent opens with, filled in; `None` leaves it to the prompt.
    pub greeting: Option<String>,
    /// Who speaks first.
    pub first_speaker: FirstSpeaker,
    /// When the agent greets, if it speaks first.
    pub greets: Greets,
    /// What it can do besides speaking.
    pub tools: Tools,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opening({:?} first, {:?}, {} bytes)", self.first_speaker, self.greets, self.instructions.len())
    }
}

/// When an agent that speaks first does so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greets {
    /// Once the session is ready.
    WhenReady,
    /// When it is told: the called side may speak first.
    WhenTold,
}

impl ServicePlan {
    /// The plan for a call to an agent of this provider.
    ///
    /// # Errors
    /// [`AgentUrlError`] when the provider's address is none.
    pub fn new(provider: &ProviderRoute, opening: Opening) -> Result<Self, AgentUrlError> {
        let ProviderRoute { kind, model, api_key, settings, .. } = provider;
        let target = match kind {
            ProviderKind::AudioSocket => AgentTarget::Port(AgentUrl::of_port(&provider.base_url)?),
            ProviderKind::Cascade => {
                let target = cascade(provider, opening.voice.as_deref())?;
                AgentTarget::Cascade(Box::new(CascadeTarget { greeting: Greeting(opening.greeting.clone()), ..target }))
            }
            _ => AgentTarget::WebSocket(WebSocketTarget {
                url: url(provider)?,
                api_key: api_key.clone(),
                key_place: key_place(*kind),
                ask: ask(provider)?,
                protocol: (*kind == ProviderKind::AsteriskWebSocket).then_some("media"),
            }),
        };
        let (model, settings) = (model.clone(), settings.clone());
        Ok(ServicePlan {
            kind: *kind,
            target,
            model,
            settings,
            opening,
            parties: Parties::default(),
            barge_in: usual_barge_in(*kind),
            protects_greeting: false,
            patience: Patience::default(),
        })
    }

    /// The plan for an agent that is told nothing but where it is: for machines and benchmarks.
    ///
    /// # Errors
    /// [`AgentUrlError`] when the address is none.
    pub fn bare(kind: ProviderKind, base_url: &str, first_speaker: FirstSpeaker) -> Result<Self, AgentUrlError> {
        let opening = Opening {
            instructions: String::new(),
            voice: None,
            greeting: None,
            first_speaker,
            greets: Greets::WhenReady,
            tools: Tools::usual(),
        };
        ServicePlan::new(&ProviderRoute::new(kind, base_url, "m"), opening)
    }

    /// How to reach it now, with all that is known of the call.
    pub fn summons(&self) -> AgentTarget {
        let mut target = self.target.clone();
        if let (ProviderKind::Ultravox, AgentTarget::WebSocket(WebSocketTarget { ask: Some(ask), .. })) =
            (self.kind, &mut target)
        {
            ask.body = Some(ultravox_call(self).to_string());
        }
        target
    }

    /// How many sessions its provider may have at once, where its owner has set that.
    pub fn session_limit(&self) -> Option<SessionLimit> {
        let max = self.settings.max_sessions?;
        Some(SessionLimit { key: format!("{} {}", self.kind, self.target.url()), max })
    }

    /// Whether it talks as soon as it is connected, and cannot be told to wait until the called side has answered.
    pub fn talks_at_once(&self) -> bool {
        match self.kind {
            // An agent that is made there greets as it was made.
            ProviderKind::Deepgram | ProviderKind::Ultravox => self.settings.agent.is_some(),
            ProviderKind::ElevenLabs => true,
            kind => kind.is_media_stream(),
        }
    }
}

/// Where the WebSocket is, behind the address that the owner has given.
fn url(provider: &ProviderRoute) -> Result<AgentUrl, AgentUrlError> {
    let ProviderRoute { kind, base_url, model, settings, .. } = provider;
    let base = AgentUrl::of_base(base_url)?;
    Ok(match kind {
        ProviderKind::OpenAiRealtime | ProviderKind::OpenAiRealtimeBeta => {
            base.with_path("/realtime").with_query("model", model)
        }
        ProviderKind::AzureOpenAi => base.with_path("/openai/v1/realtime").with_query("model", model),
        ProviderKind::Deepgram => base.with_path("/v1/agent/converse"),
        ProviderKind::ElevenLabs => base
            .with_path("/v1/convai/conversation")
            .with_query("agent_id", settings.agent.as_deref().unwrap_or_default()),
        ProviderKind::Gemini => base.with_path(GEMINI_PATH),
        ProviderKind::Ultravox => match &settings.agent {
            Some(agent) => base.with_path("/api/agents").with_segment(agent).with_path("/calls"),
            None => base.with_path("/api/calls"),
        },
        // What an Asterisk is told by `v()`.
        ProviderKind::AsteriskWebSocket => {
            settings.parameters.iter().fold(base, |url, (name, value)| url.with_query(&percent_encoded(name), value))
        }
        _ => base,
    })
}

/// What is asked before the address of the WebSocket is known.
fn ask(provider: &ProviderRoute) -> Result<Option<Ask>, AgentUrlError> {
    let ProviderRoute { kind, base_url, api_key, settings, .. } = provider;
    let base = AgentUrl::of_base(base_url)?;
    Ok(match kind {
        // Whoever may have one is let in by it, whether or not the agent is open to everybody.
        ProviderKind::ElevenLabs if api_key.is_some() => {
            let agent = settings.agent.as_deref().unwrap_or_default();
            let url = base.with_path("/v1/convai/conversation/get-signed-url").with_query("agent_id", agent);
            Some(Ask { url, body: None, field: "signed_url" })
        }
        ProviderKind::Ultravox => Some(Ask { url: url(provider)?, body: None, field: "joinUrl" }),
        _ => None,
    })
}

/// Where a cascade's services are. Those without an address of their own are where it thinks; its key goes to no other
/// host.
fn cascade(provider: &ProviderRoute, voice: Option<&str>) -> Result<CascadeTarget, AgentUrlError> {
    let ProviderRoute { base_url, model, api_key, settings, .. } = provider;
    let base = AgentUrl::of_service(base_url)?;
    if base.is_wyoming() {
        return Err(AgentUrlError);
    }
    let service = |own: &Option<String>, key: &Option<Sealed>, model: &Option<String>| {
        let url = own.as_deref().map_or_else(|| Ok(base.clone()), AgentUrl::of_service)?;
        let shared = api_key.as_ref().filter(|_| url.shares_origin_with(&base));
        Ok(ServiceTarget { api_key: key.as_ref().or(shared).cloned(), url, model: model.clone() })
    };
    Ok(CascadeTarget {
        listen: service(&settings.listen_url, &settings.listen_api_key, &settings.listen_model)?,
        think: service(&None, api_key, &Some(model.clone()))?,
        speak: service(&settings.speak_url, &settings.speak_api_key, &settings.speak_model)?,
        language: settings.language.clone(),
        voice: voice.or(settings.voice.as_deref()).map(str::to_owned),
        sample_rate: settings.sample_rate,
        greeting: Greeting::default(),
    })
}

/// Where the provider wants its key.
fn key_place(kind: ProviderKind) -> KeyPlace {
    match kind {
        ProviderKind::AzureOpenAi => KeyPlace::Header("api-key"),
        ProviderKind::Deepgram => KeyPlace::Token,
        ProviderKind::ElevenLabs => KeyPlace::Header("xi-api-key"),
        ProviderKind::Ultravox => KeyPlace::Header("x-api-key"),
        ProviderKind::Gemini => KeyPlace::Query("key"),
        _ => KeyPlace::Bearer,
    }
}

/// The box stops whoever hears the caller only behind a network and takes its time over it. A media stream's agent has the
/// clearing of the queue in its own hands, and counts on what it has sent.
fn usual_barge_in(kind: ProviderKind) -> BargeIn {
    if kind.is_media_stream() { BargeIn::Provider } else { BargeIn::Box }
}

/// Google names its methods in its paths.
const GEMINI_PATH: &str = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";

/// In front of a greeting that the owner has set, where the protocol has no place for one.
pub(super) const GREETING_INSTRUCTIONS: &str =
    "Greet the caller with exactly these words and then wait for their answer: ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_reached_where_it_listens() {
        for (kind, base, wanted) in [
            (
                ProviderKind::OpenAiRealtime,
                "wss://api.openai.com/v1",
                "wss://api.openai.com:443/v1/realtime?model=a%20b",
            ),
            (ProviderKind::OpenAiRealtimeBeta, "http://lan:8000/v1", "ws://lan:8000/v1/realtime?model=a%20b"),
            (
                ProviderKind::AzureOpenAi,
                "https://me.openai.azure.com",
                "wss://me.openai.azure.com:443/openai/v1/realtime?model=a%20b",
            ),
            (ProviderKind::Deepgram, "wss://agent.deepgram.com", "wss://agent.deepgram.com:443/v1/agent/converse"),
            (
                ProviderKind::ElevenLabs,
                "wss://api.elevenlabs.io",
                "wss://api.elevenlabs.io:443/v1/convai/conversation?agent_id=c%20d",
            ),
            (
                ProviderKind::Gemini,
                "http://lan",
                "ws://lan:80/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
            ),
            (ProviderKind::Twilio, "ws://agent:9000/twilio", "ws://agent:9000/twilio"),
            (ProviderKind::AsteriskWebSocket, "ws://agent:9000/media", "ws://agent:9000/media?a%20b=1%262&shop=7"),
        ] {
            let mut provider = ProviderRoute::new(kind, base, "a b");
            provider.settings.agent = Some("c d".into());
            provider.settings.parameters = [("shop", "7"), ("a b", "1&2")].map(|(a, b)| (a.into(), b.into())).into();
            assert_eq!(url(&provider).expect("an address").to_string(), wanted);
        }
    }

    #[test]
    fn an_address_that_is_made_for_each_call_is_asked_for_where_there_is_a_key() {
        let asked = |provider: &ProviderRoute| {
            let ask = ask(provider).expect("an address")?;
            Some((ask.url.to_string(), ask.field))
        };
        let mut eleven = ProviderRoute::new(ProviderKind::ElevenLabs, "wss://api.elevenlabs.io", "");
        eleven.settings.agent = Some("a b".into());
        assert_eq!(asked(&eleven), None, "anybody may talk to the agent");
        eleven.api_key = Some(Sealed("k".into()));
        let url = "wss://api.elevenlabs.io:443/v1/convai/conversation/get-signed-url?agent_id=a%20b";
        assert_eq!(asked(&eleven), Some((url.into(), "signed_url")));
        let mut ultravox = ProviderRoute::new(ProviderKind::Ultravox, "https://api.ultravox.ai", "");
        assert_eq!(asked(&ultravox), Some(("wss://api.ultravox.ai:443/api/calls".into(), "joinUrl")));
        for (agent, path) in [("6c9f-8a", "6c9f-8a"), ("../a?b", "..%2Fa%3Fb")] {
            ultravox.settings.agent = Some(agent.into());
            let url = format!("wss://api.ultravox.ai:443/api/agents/{path}/calls");
            assert_eq!(asked(&ultravox), Some((url, "joinUrl")));
        }
        assert_eq!(asked(&ProviderRoute::new(ProviderKind::Gemini, "wss://g", "m")), None);
    }

    #[test]
    fn a_cascade_s_key_goes_nowhere_but_where_it_thinks() {
        let sealed = |text: &str| Some(Sealed(text.into()));
        let mut provider = ProviderRoute::new(ProviderKind::Cascade, "https://api.openai.com/v1", "m");
        provider.api_key = sealed("base");
        let keys = |provider: &ProviderRoute| {
            let target = cascade(provider, None).expect("addresses");
            [target.listen.api_key, target.think.api_key, target.speak.api_key]
        };
        assert_eq!(keys(&provider), [sealed("base"), sealed("base"), sealed("base")]);
        provider.settings.listen_url = Some("tcp://lan:10300".into());
        provider.settings.speak_url = Some("http://api.openai.com/v1".into());
        assert_eq!(keys(&provider), [None, sealed("base"), None]);
        provider.settings.speak_api_key = sealed("own");
        assert_eq!(keys(&provider), [None, sealed("base"), sealed("own")]);
        let target = cascade(&provider, Some("anna")).expect("addresses");
        assert_eq!((target.voice.as_deref(), target.listen.url.is_wyoming()), (Some("anna"), true));
        provider.settings.voice = Some("usual".into());
        assert_eq!(cascade(&provider, None).expect("addresses").voice.as_deref(), Some("usual"));
        provider.base_url = "tcp://lan:1".into();
        assert_eq!(cascade(&provider, None), Err(AgentUrlError));
    }
}
