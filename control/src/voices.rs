//! Voices that agents can speak with: those of the box, those that an owner has listed for a provider, and where none are
//! listed those that its kind is known to have.

use serde_json::{Value, json};

use crate::port::ProviderKind;
use crate::store::providers::Provider;

/// A voice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voice {
    /// As agents name it.
    pub id: String,
    /// As people do.
    pub name: String,
    /// Whose it is; `None`: the box's own.
    pub provider_id: Option<String>,
    /// What is known of it.
    pub labels: Labels,
}

/// What is known of a voice; empty where nothing is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Labels {
    /// As `American`.
    pub accent: &'static str,
    /// How it sounds.
    pub description: &'static str,
    /// As `female`.
    pub gender: &'static str,
}

impl Voice {
    /// As the API shows the labels.
    pub fn labels(&self) -> Value {
        let Labels { accent, description, gender } = self.labels;
        json!({ "accent": accent, "description": description, "age": "", "gender": gender, "use_case": "phone" })
    }
}

/// All voices: of the default provider first, then of the others by age, then the box's. What two have, the first has.
pub fn all(providers: &[Provider]) -> Vec<Voice> {
    let mut sorted: Vec<&Provider> = providers.iter().collect();
    sorted.sort_by_key(|provider| !provider.is_default);
    let mut voices: Vec<Voice> = Vec::new();
    for voice in sorted.into_iter().flat_map(of_provider).chain(of_box()) {
        if !voices.iter().any(|known| known.id == voice.id) {
            voices.push(voice);
        }
    }
    voices
}

fn of_provider(provider: &Provider) -> Vec<Voice> {
    let known = known(provider.route.kind);
    let voice = |id: &str| {
        let labels = known.iter().find(|(name, _)| *name == id).map(|(_, labels)| *labels).unwrap_or_default();
        Voice { id: id.to_owned(), name: spoken_name(id), provider_id: Some(provider.id.clone()), labels }
    };
    if provider.voices.is_empty() {
        return known.iter().map(|(id, _)| voice(id)).collect();
    }
    provider.voices.iter().map(|id| voice(id)).collect()
}

/// The voices that the attendant speaks with.
pub fn of_box() -> impl Iterator<Item = Voice> {
    BOX_VOICES.into_iter().map(|(id, name, accent, _)| Voice {
        id: id.to_owned(),
        name: name.to_owned(),
        provider_id: None,
        labels: Labels { accent, description: "the attendant, on the box itself", gender: "" },
    })
}

/// What a voice of the box sounds like: a WAV file. `None` where it has no such voice.
pub fn box_preview(id: &str) -> Option<&'static [u8]> {
    BOX_VOICES.iter().find(|(own, ..)| *own == id).map(|(.., wav)| *wav)
}

/// `aura-2-thalia-en` is called Thalia, `alloy` Alloy.
fn spoken_name(id: &str) -> String {
    let word = id.strip_prefix("aura-2-").and_then(|rest| rest.split('-').next()).unwrap_or(id);
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What a kind of provider is known to have; nothing where every account has its own.
fn known(kind: ProviderKind) -> &'static [(&'static str, Labels)] {
    match kind {
        ProviderKind::OpenAiRealtime | ProviderKind::OpenAiRealtimeBeta | ProviderKind::AzureOpenAi => &OPENAI,
        ProviderKind::Gemini => &GEMINI,
        ProviderKind::Deepgram => &DEEPGRAM,
        _ => &[],
    }
}

const fn sounds(description: &'static str) -> Labels {
    Labels { accent: "", description, gender: "" }
}

/// Of OpenAI's Realtime protocol.
const OPENAI: [(&str, Labels); 10] = [
    ("marin", sounds("recommended for calls")),
    ("cedar", sounds("recommended for calls")),
    ("alloy", sounds("")),
    ("ash", sounds("")),
    ("ballad", sounds("")),
    ("coral", sounds("")),
    ("echo", sounds("")),
    ("sage", sounds("")),
    ("shimmer", sounds("")),
    ("verse", sounds("")),
];

/// Of Gemini Live, with Google's own words.
const GEMINI: [(&str, Labels); 8] = [
    ("Puck", sounds("upbeat")),
    ("Charon", sounds("informative")),
    ("Kore", sounds("firm")),
    ("Fenrir", sounds("excitable")),
    ("Aoede", sounds("breezy")),
    ("Leda", sounds("youthful")),
    ("Orus", sounds("firm")),
    ("Zephyr", sounds("bright")),
];

const fn american(gender: &'static str) -> Labels {
    Labels { accent: "American", description: "", gender }
}

/// Of Deepgram's second generation.
const DEEPGRAM: [(&str, Labels); 6] = [
    ("aura-2-thalia-en", american("female")),
    ("aura-2-andromeda-en", american("female")),
    ("aura-2-helena-en", american("female")),
    ("aura-2-apollo-en", american("male")),
    ("aura-2-arcas-en", american("male")),
    ("aura-2-aries-en", american("male")),
];

/// Id, name, accent and what it sounds like.
const BOX_VOICES: [(&str, &str, &str, &[u8]); 2] = [
    ("box-en", "Attendant (English)", "English", include_bytes!("../../config/prompts/en/greeting.wav")),
    ("box-de", "Attendant (German)", "German", include_bytes!("../../config/prompts/de/greeting.wav")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::ProviderRoute;

    fn provider(id: &str, kind: ProviderKind, voices: &[&str], is_default: bool) -> Provider {
        Provider {
            id: id.into(),
            name: id.into(),
            route: ProviderRoute::new(kind, "wss://a", "m"),
            voices: voices.iter().map(|&voice| voice.into()).collect(),
            is_default,
            created_ms: 0,
            updated_ms: 0,
        }
    }

    #[test]
    fn every_voice_is_there_once_and_the_default_provider_s_come_first() {
        let providers = [
            provider("a", ProviderKind::ElevenLabs, &["x7", "alloy"], false),
            provider("b", ProviderKind::OpenAiRealtime, &[], true),
            provider("c", ProviderKind::Twilio, &[], false),
        ];
        let voices = all(&providers);
        assert_eq!((voices[0].id.as_str(), voices[0].provider_id.as_deref()), ("marin", Some("b")));
        let alloy: Vec<_> = voices.iter().filter(|voice| voice.id == "alloy").collect();
        assert_eq!(alloy.len(), 1);
        assert_eq!(alloy[0].provider_id.as_deref(), Some("b"));
        assert!(voices.iter().any(|voice| voice.id == "x7" && voice.name == "X7"));
        assert_eq!(voices.last().map(|voice| voice.id.as_str()), Some("box-de"));
        assert_eq!(spoken_name("aura-2-thalia-en"), "Thalia");
        assert!(of_box().all(|voice| box_preview(&voice.id).is_some_and(|wav| wav.starts_with(b"RIFF"))));
        assert_eq!(box_preview("alloy"), None);
    }
}
