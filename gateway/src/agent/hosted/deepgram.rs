//! Deepgram's Voice Agent API, version 1.
//!
//! ```text
//!   gateway ◀─ Welcome ────────── service
//!           ── Settings ────────▶          first, before any audio
//!           ◀─ SettingsApplied ──          ready
//!           ◀─ audio… ──────────▶          binary both ways, in the line's form
//!           ◀─ UserStartedSpeaking         the queue is emptied
//!           ◀─ ConversationText            whole sentences of both sides
//!           ◀─ AgentAudioDone ───          all of a turn's audio has been sent
//! ```
//!
//! The model is the one that thinks, with its provider in front: `open_ai/gpt-4o-mini`. An agent that is stored at
//! Deepgram needs none: it has its own prompt, voice and greeting, and greets by itself.

use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};
use talkstack_media::audio::frame::{Form, SampleRate};

use super::{Answer, GREET_NOW, Protocol, Session, Step};
use crate::agent::provider::Opening;
use crate::agent::tools;
use crate::agent::websocket::Message;
use crate::agent::wire::{Text, loggable, read_event, readable};
use crate::agent::{AgentLoss, Progress};

/// How far a session is.
#[derive(Default)]
pub(super) struct Deepgram {
    is_set_up: bool,
    /// The caller has interrupted: audio of the same turn may be on its way.
    is_cut: bool,
}

/// A message of the service's. Which of the fields are there depends on its type.
#[derive(Deserialize, Default)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    role: Option<Text<'a>>,
    #[serde(borrow)]
    content: Option<Text<'a>>,
    #[serde(borrow)]
    code: Option<Text<'a>>,
    #[serde(borrow)]
    description: Option<Text<'a>>,
    functions: Option<Vec<Function>>,
}

#[derive(Deserialize)]
struct Function {
    id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    client_side: Option<bool>,
}

impl Protocol for Deepgram {
    fn write_audio(&self, audio: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(audio);
    }

    fn is_binary(&self) -> bool {
        true
    }

    fn read(
        &mut self,
        message: Message<'_>,
        session: &mut Session,
        progress: Progress,
        now: Instant,
    ) -> Result<Step, AgentLoss> {
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) if self.is_cut => return Ok(Step::Nothing),
            Message::Binary(bytes) => {
                session.sound.handle_bytes(bytes);
                return Ok(session.play(progress));
            }
            Message::Close(_) => return Ok(Step::Nothing),
        };
        let event: Event<'_> = read_event(text)?;
        let code = || loggable(event.code.as_deref().unwrap_or("none"));
        match event.kind.as_deref().unwrap_or_default() {
            "Welcome" if !self.is_set_up => {
                self.is_set_up = true;
                session.replies.push(settings(session));
                session.is_greeted |= session.greets_at_once()
                    && (session.opening.greeting.is_some() || session.settings.agent.is_some());
            }
            "SettingsApplied" if self.is_set_up => return Ok(Step::Ready),
            "UserStartedSpeaking" => {
                let is_speaking = session.talk.is_agent_open();
                self.is_cut |= is_speaking;
                let step = session.interrupt(progress, now);
                if is_speaking {
                    // A turn's words come before its audio.
                    session.talk.handle_agent_done();
                }
                return Ok(step);
            }
            "ConversationText" => {
                self.is_cut = false;
                let text = event.content.as_deref().unwrap_or_default();
                match event.role.as_deref() {
                    Some("user") => session.handle_caller_said(text, now),
                    Some("assistant") => session.talk.handle_agent_sentence(text),
                    _ => {}
                }
            }
            "AgentThinking" | "AgentStartedSpeaking" => self.is_cut = false,
            // The end of what was interrupted is none of what follows.
            "AgentAudioDone" if !std::mem::take(&mut self.is_cut) => session.talk.handle_agent_done(),
            "FunctionCallRequest" => {
                let ours = event.functions.into_iter().flatten().filter(|function| function.client_side == Some(true));
                for Function { id, name, arguments, .. } in ours {
                    let [id, name, arguments] =
                        [&id, &name, &arguments].map(|text| text.as_deref().unwrap_or_default());
                    session.duties.handle_call(id, name, arguments);
                }
            }
            "Warning" => {
                let code = code();
                tracing::warn!(code, "The agent's service warns of {code}");
            }
            "Error" => {
                let code = code();
                tracing::warn!(code, "The agent's service reports the error {code}");
                let words = readable(event.description.as_deref().unwrap_or_default());
                session.complaint = Some(format!("{words} ({code})"));
                return Err(AgentLoss::Refused);
            }
            _ => {}
        }
        Ok(Step::Nothing)
    }

    fn greet(&mut self, opening: &Opening) -> Option<Value> {
        Some(match &opening.greeting {
            Some(greeting) => json!({ "type": "InjectAgentMessage", "message": greeting }),
            None => self.tell(GREET_NOW),
        })
    }

    fn answer(&self, answers: Vec<Answer>, out: &mut Vec<Value>) {
        out.extend(answers.into_iter().map(|Answer { call_id, name, output, .. }| {
            json!({ "type": "FunctionCallResponse", "id": call_id, "name": name, "content": output })
        }));
    }

    fn tell(&self, text: &str) -> Value {
        json!({ "type": "InjectUserMessage", "content": text })
    }
}

/// What sets the session up.
fn settings(session: &Session) -> Value {
    let form = session.sound.form();
    let encoding = match form {
        Form::Mulaw => "mulaw",
        Form::Alaw => "alaw",
        Form::Linear(_) => "linear16",
    };
    let rate = form.rate().hertz();
    let agent = session.settings.agent.as_ref().map_or_else(|| agent(session), |stored| json!(stored));
    json!({
        "type": "Settings",
        "audio": {
            "input": { "encoding": encoding, "sample_rate": rate },
            // Without this word a WAV header comes first.
            "output": { "encoding": encoding, "sample_rate": rate, "container": "none" },
        },
        "agent": agent,
    })
}

/// An agent that is described to the service.
fn agent(session: &Session) -> Value {
    let Session { opening, settings, model, .. } = session;
    let (thinks_at, thinks) = model.split_once('/').unwrap_or(("open_ai", model));
    let listens = settings.listen_model.as_deref().unwrap_or(LISTEN_MODEL);
    let speaks = opening.voice.as_deref().or(settings.speak_model.as_deref()).unwrap_or(SPEAK_MODEL);
    let is_flux = listens.starts_with("flux");
    let version = if is_flux { "v2" } else { "v1" };
    let mut agent = json!({
        "listen": { "provider": { "type": "deepgram", "version": version, "model": listens } },
        "think": { "provider": { "type": thinks_at, "model": thinks }, "prompt": opening.instructions },
        "speak": { "provider": { "type": "deepgram", "model": speaks } },
    });
    let functions: Vec<Value> = opening.tools.functions().map(declared).collect();
    if !functions.is_empty() {
        agent["think"]["functions"] = functions.into();
    }
    if let Some(language) = &settings.language {
        agent["language"] = json!(language);
        let provider = &mut agent["listen"]["provider"];
        if is_flux {
            provider["language_hints"] = json!([language]);
        } else {
            provider["language"] = json!(language);
        }
    }
    if let Some(greeting) = opening.greeting.as_ref().filter(|_| session.greets_at_once()) {
        agent["greeting"] = json!(greeting);
    }
    agent
}

/// A function that is called here, and not at an address.
fn declared(function: tools::Function) -> Value {
    let tools::Function { name, description, parameters } = function;
    json!({ "name": name, "description": description, "parameters": parameters })
}

/// G.711 as the line has it, or linear audio at 16 kHz.
pub(super) fn form_for(line: Form) -> Form {
    match line {
        Form::Mulaw | Form::Alaw => line,
        Form::Linear(_) => Form::Linear(SampleRate::Hz16000),
    }
}

/// The newest of the models for telephone speech that know many languages.
const LISTEN_MODEL: &str = "nova-3";

/// The voice of Deepgram's own examples.
const SPEAK_MODEL: &str = "aura-2-thalia-en";
