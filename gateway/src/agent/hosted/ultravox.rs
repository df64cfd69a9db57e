//! Ultravox, over its server WebSocket.
//!
//! ```text
//!   gateway ── POST /api/calls ─────▶ service     prompt, tools and forms; it answers with an address for this call
//!           ◀─ call_started, state ──             ready
//!           ◀─ audio… ─────────────▶              binary both ways, linear
//!           ◀─ playback_clear_buffer              the queue is emptied
//!           ◀─ transcript ──────────              the agent's in pieces, the caller's whole
//! ```
//!
//! The service takes the queue here for a long one and sends audio as it is made. While a function runs it listens to
//! nobody, and for seconds at most: what takes a while is answered at once, and what came of it is told as a text. An
//! agent that is stored at Ultravox has its own prompt, voice and tools, and greets by itself. A service that closes has
//! hung up.

use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};
use talkstack_control::port::{FirstSpeaker, ProviderSettings};
use talkstack_media::audio::frame::{Form, SampleRate};

use super::{Answer, GREET_NOW, Protocol, Session, Step};
use crate::agent::duties::Dealt;
use crate::agent::provider::{Greets, Opening, ServicePlan};
use crate::agent::tools::{END_CALL, Function, TRANSFER};
use crate::agent::websocket::Message;
use crate::agent::wire::{Text, read_event};
use crate::agent::{AgentLoss, Progress};

/// How far a session is.
#[derive(Default)]
pub(super) struct Ultravox {
    /// The service was told to let the caller speak first, until we know better.
    waits: bool,
    /// The agent makes speech.
    is_speaking: bool,
    /// What of the agent's turn has been told of, by its number in the call.
    told: (i64, String),
    /// The calls of functions that have been answered, whatever comes of them; no more than are under way.
    answered: Vec<String>,
}

/// A message of the service's. Which of the fields are there depends on its type.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    state: Option<Text<'a>>,
    #[serde(borrow)]
    role: Option<Text<'a>>,
    #[serde(borrow)]
    medium: Option<Text<'a>>,
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    delta: Option<Text<'a>>,
    r#final: Option<bool>,
    ordinal: Option<i64>,
    tool_name: Option<String>,
    invocation_id: Option<String>,
    parameters: Option<Value>,
}

impl Protocol for Ultravox {
    fn begin(&mut self, session: &mut Session) {
        self.waits = waits(&session.opening, session.settings.agent.is_some());
    }

    fn write_audio(&self, audio: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(audio);
    }

    fn is_binary(&self) -> bool {
        true
    }

    fn hangs_up_by_closing(&self) -> bool {
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
            Message::Binary(bytes) => {
                session.sound.handle_bytes(bytes);
                return Ok(session.play(progress));
            }
            Message::Close(_) => return Ok(Step::Nothing),
        };
        let event: Event<'_> = read_event(text)?;
        match event.kind.as_deref().unwrap_or_default() {
            "call_started" => return Ok(self.begin_call(session)),
            "state" => {
                let was_speaking = std::mem::replace(&mut self.is_speaking, event.state.as_deref() == Some("speaking"));
                if was_speaking && !self.is_speaking {
                    session.talk.handle_agent_done();
                } else if !was_speaking {
                    // A turn begins with a whole sample.
                    session.sound.forget_begun();
                }
                return Ok(self.begin_call(session));
            }
            "playback_clear_buffer" => {
                let is_open = session.talk.is_agent_open();
                let step = session.interrupt(progress, now);
                if is_open {
                    session.talk.handle_agent_done();
                }
                return Ok(step);
            }
            "transcript" => self.handle_transcript(&event, session, now),
            "client_tool_invocation" => self.handle_invocation(event, session),
            _ => {}
        }
        Ok(Step::Nothing)
    }

    /// An agent that is told when to greet was made to wait for the caller.
    fn greet(&mut self, opening: &Opening) -> Option<Value> {
        Some(match &opening.greeting {
            Some(greeting) => json!({ "type": "forced_agent_message", "content": { "text": greeting } }),
            None => self.tell(GREET_NOW),
        })
    }

    fn answer(&self, answers: Vec<Answer>, out: &mut Vec<Value>) {
        out.extend(answers.into_iter().map(|Answer { call_id, name, output, .. }| {
            if self.answered.contains(&call_id) {
                let what = if name == TRANSFER { "The transfer has failed" } else { name.as_str() };
                return self.tell(&format!("({what}: {output})"));
            }
            let mut told = json!({ "type": "client_tool_result", "invocationId": call_id, "result": output });
            if name == END_CALL {
                told["agentReaction"] = json!(SPEAKS_ONCE);
            }
            told
        }));
    }

    fn tell(&self, text: &str) -> Value {
        json!({ "type": "user_text_message", "text": text })
    }
}

impl Ultravox {
    /// The service is there: it says so in one of two ways, and again.
    fn begin_call(&self, session: &mut Session) -> Step {
        session.is_greeted |= !self.waits;
        Step::Ready
    }

    fn handle_transcript(&mut self, event: &Event<'_>, session: &mut Session, now: Instant) {
        let text = event.text.as_deref().unwrap_or_default();
        let is_final = event.r#final == Some(true);
        match event.role.as_deref() {
            // What was typed was typed here.
            Some("user") if is_final && event.medium.as_deref() != Some("text") => {
                session.handle_caller_said(text, now)
            }
            Some("agent") => {
                let ordinal = event.ordinal.unwrap_or(0);
                if ordinal != self.told.0 {
                    self.told = (ordinal, String::new());
                }
                // The whole of a turn so far, or what comes behind it; of an interrupted one the whole is less.
                let more = match &event.delta {
                    Some(delta) => &**delta,
                    None => text.strip_prefix(self.told.1.as_str()).unwrap_or_default(),
                };
                if self.told.1.len() + more.len() <= TOLD_BYTES_MAX {
                    self.told.1.push_str(more);
                    session.talk.handle_agent_words(more);
                }
            }
            _ => {}
        }
    }

    fn handle_invocation(&mut self, event: Event<'_>, session: &mut Session) {
        let id = event.invocation_id.unwrap_or_default();
        let (name, arguments) = (event.tool_name.unwrap_or_default(), event.parameters.unwrap_or_default().to_string());
        if session.duties.handle_call(&id, &name, &arguments) == Dealt::Deferred {
            let result = if name == TRANSFER {
                json!({ "result": "The caller is being put through. Say nothing more until you are told." })
            } else {
                json!({ "result": "It is under way; you are told what comes of it." })
            };
            session.replies.push(json!({ "type": "client_tool_result", "invocationId": id,
                                         "result": result.to_string(), "agentReaction": SPEAKS_ONCE }));
            if self.answered.len() >= ANSWERED_MAX {
                self.answered.remove(0);
            }
            self.answered.push(id);
        }
    }
}

/// Linear audio at the rate that is set, or at 16 kHz: a wide line keeps its breadth.
pub(super) fn form(settings: &ProviderSettings) -> Form {
    Form::Linear(match settings.sample_rate {
        Some(8000) => SampleRate::Hz8000,
        Some(24_000) => SampleRate::Hz24000,
        _ => SampleRate::Hz16000,
    })
}

/// What a call is made with.
pub(in crate::agent) fn call(plan: &ServicePlan) -> Value {
    let ServicePlan { opening, settings, model, .. } = plan;
    let rate = form(settings).rate().hertz();
    let medium = json!({ "serverWebSocket": {
        "inputSampleRate": rate, "outputSampleRate": rate, "clientBufferSizeMs": BUFFER_MS } });
    let mut call = json!({ "medium": medium });
    let is_stored = settings.agent.is_some();
    if let Some(first) = first_speaker(opening, is_stored) {
        call["firstSpeakerSettings"] = first;
    }
    if !settings.parameters.is_empty() {
        call[if is_stored { "templateContext" } else { "metadata" }] = json!(settings.parameters);
    }
    if is_stored {
        return call;
    }
    call["systemPrompt"] = json!(opening.instructions);
    let voice = opening.voice.as_ref().or(settings.voice.as_ref());
    let model = Some(model).filter(|model| !model.is_empty());
    for (field, given) in [("model", model), ("voice", voice), ("languageHint", settings.language.as_ref())] {
        if let Some(given) = given {
            call[field] = json!(given);
        }
    }
    let tools: Vec<Value> = opening.tools.functions().map(|function| selected(&function)).collect();
    if !tools.is_empty() {
        call["selectedTools"] = tools.into();
    }
    call
}

/// Who speaks first, and what; `None` leaves it to an agent that is stored there.
fn first_speaker(opening: &Opening, is_stored: bool) -> Option<Value> {
    match &opening.greeting {
        _ if opening.first_speaker == FirstSpeaker::Caller || waits(opening, is_stored) => Some(json!({ "user": {} })),
        Some(greeting) => Some(json!({ "agent": { "text": greeting } })),
        None if is_stored => None,
        None => Some(json!({ "agent": {} })),
    }
}

/// Whether the agent is told later that it may greet. One that is stored there cannot be.
fn waits(opening: &Opening, is_stored: bool) -> bool {
    opening.greets == Greets::WhenTold && !is_stored
}

/// A function that is called here.
fn selected(function: &Function<'_>) -> Value {
    let Function { name, description, parameters } = function;
    let required = parameters["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    let properties = parameters["properties"].as_object().into_iter().flatten();
    let dynamic: Vec<Value> = properties
        .map(|(name, schema)| {
            let is_required = required.iter().any(|required| required == name);
            json!({ "name": name, "location": "PARAMETER_LOCATION_BODY", "schema": schema, "required": is_required })
        })
        .collect();
    json!({ "temporaryTool": {
        "modelToolName": name, "description": description, "dynamicParameters": dynamic, "client": {} } })
}

/// The agent says something about a function only if it has said nothing before.
const SPEAKS_ONCE: &str = "speaks-once";

/// 16: twice as many as can be under way.
const ANSWERED_MAX: usize = 16;

/// 30 s, as the service's own examples have it: far more than it says in a turn, and it is told when to forget them.
const BUFFER_MS: u32 = 30_000;

/// 64 KiB of one turn: an hour of speech.
const TOLD_BYTES_MAX: usize = 64 << 10;
