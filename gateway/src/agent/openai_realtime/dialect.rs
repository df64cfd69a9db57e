//! The two forms of the protocol: as it is generally available, and as its beta was.
//!
//! Events of either form are understood in both; only what is sent differs.

use serde_json::{Value, json};
use talkstack_control::port::ProviderKind;
use talkstack_media::audio::frame::Form;

use super::event::{beta_format_name, format_name};
use crate::agent::provider::Opening;
use crate::agent::tools::Function;

/// How a session is described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Generally available.
    Ga,
    /// The beta's, which some servers still speak.
    Beta,
}

impl Dialect {
    pub(super) fn of(kind: ProviderKind) -> Self {
        match kind {
            ProviderKind::OpenAiRealtimeBeta => Dialect::Beta,
            _ => Dialect::Ga,
        }
    }

    /// What sets the session up.
    pub(super) fn session_update(self, opening: &Opening, form: Form) -> Value {
        let turns = json!({ "type": "server_vad", "create_response": true, "interrupt_response": true });
        let transcription = json!({ "model": TRANSCRIPTION_MODEL });
        let mut session = match self {
            Dialect::Ga => {
                let mut format = json!({ "type": format_name(form) });
                if let Form::Linear(rate) = form {
                    format["rate"] = json!(rate.hertz());
                }
                json!({
                    "type": "realtime",
                    "output_modalities": ["audio"],
                    "audio": {
                        "input": { "format": format, "transcription": transcription, "turn_detection": turns },
                        "output": { "format": format },
                    },
                })
            }
            Dialect::Beta => json!({
                "modalities": ["text", "audio"],
                "input_audio_format": beta_format_name(form),
                "output_audio_format": beta_format_name(form),
                "input_audio_transcription": transcription,
                "turn_detection": turns,
            }),
        };
        session["instructions"] = json!(opening.instructions);
        let tools: Vec<Value> = opening.tools.functions().map(declared).collect();
        if !tools.is_empty() {
            session["tools"] = tools.into();
        }
        if let Some(voice) = &opening.voice {
            match self {
                Dialect::Ga => session["audio"]["output"]["voice"] = json!(voice),
                Dialect::Beta => session["voice"] = json!(voice),
            }
        }
        json!({ "type": "session.update", "session": session })
    }
}

pub(super) fn declared(function: Function) -> Value {
    let Function { name, description, parameters } = function;
    json!({ "type": "function", "name": name, "description": description, "parameters": parameters })
}

/// The smaller of OpenAI's transcription models: transcripts are for reading afterwards, the agent hears the audio.
pub(super) const TRANSCRIPTION_MODEL: &str = "gpt-4o-mini-transcribe";
