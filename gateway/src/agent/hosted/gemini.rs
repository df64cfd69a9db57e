//! Google's Gemini Live API (`BidiGenerateContent`, v1beta).
//!
//! ```text
//!   gateway ── setup ──────────────────────▶ service
//!           ◀─ setupComplete ───────────────           ready
//!           ── realtimeInput.audio… ───────▶           linear, 16 kHz
//!           ◀─ serverContent ───────────────           parts of audio, words of both sides, and flags, in any mixture
//! ```
//!
//! Messages may come as binary ones. Audio comes at the rate that its type names, usually 24 kHz. The model's name may
//! leave out `models/`. The key goes into the query where the connection is made, so it stands in no address that is
//! shown.

use std::fmt;
use std::time::{Duration, Instant};

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use talkstack_media::audio::frame::{Form, SampleRate};

use super::{Answer, GREET_NOW, Protocol, Session, Step};
use crate::agent::provider::{GREETING_INSTRUCTIONS, Opening};
use crate::agent::tools::Function;
use crate::agent::websocket::Message;
use crate::agent::wire::{Text, read_event, write_base64};
use crate::agent::{AgentLoss, Progress};

/// How far a session is.
#[derive(Default)]
pub(super) struct Gemini {
    /// Until then audio belongs to a turn that the caller has interrupted, unless it is told to be over.
    cut_until: Option<Instant>,
}

/// A message of the service's.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    setup_complete: Option<IgnoredAny>,
    #[serde(borrow)]
    server_content: Option<Content<'a>>,
    tool_call: Option<ToolCall>,
    go_away: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content<'a> {
    #[serde(borrow)]
    model_turn: Option<ModelTurn<'a>>,
    interrupted: Option<bool>,
    generation_complete: Option<bool>,
    turn_complete: Option<bool>,
    #[serde(borrow)]
    input_transcription: Option<Transcription<'a>>,
    #[serde(borrow)]
    output_transcription: Option<Transcription<'a>>,
}

#[derive(Deserialize)]
struct ModelTurn<'a> {
    #[serde(borrow)]
    parts: Option<Parts<'a>>,
}

/// Parts of a turn; the usual one part costs no allocation.
#[derive(Default)]
struct Parts<'a> {
    first: Option<Part<'a>>,
    others: Vec<Part<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(borrow)]
    inline_data: Option<Blob<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    #[serde(borrow)]
    mime_type: Option<Text<'a>>,
    #[serde(borrow)]
    data: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Transcription<'a> {
    #[serde(borrow)]
    text: Option<Text<'a>>,
    finished: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolCall {
    function_calls: Option<Vec<FunctionCall>>,
}

#[derive(Deserialize)]
struct FunctionCall {
    id: Option<String>,
    name: Option<String>,
    args: Option<Value>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Parts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(PartsVisitor)
    }
}

struct PartsVisitor;

impl<'de> Visitor<'de> for PartsVisitor {
    type Value = Parts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Parts<'de>, A::Error> {
        let mut parts = Parts { first: seq.next_element::<Option<Part<'de>>>()?.flatten(), others: Vec::new() };
        while let Some(part) = seq.next_element::<Option<Part<'de>>>()? {
            parts.others.extend(part);
        }
        Ok(parts)
    }
}

impl Protocol for Gemini {
    fn begin(&mut self, session: &mut Session) {
        session.sound.set_said(Form::Linear(SampleRate::Hz24000));
        session.replies.push(setup(session));
    }

    fn write_audio(&self, audio: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"realtimeInput\":{\"audio\":{\"mimeType\":\"audio/pcm;rate=16000\",\"data\":\"");
        write_base64(out, audio);
        out.extend_from_slice(b"\"}}}");
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
            Message::Binary(bytes) => std::str::from_utf8(bytes).map_err(|_| AgentLoss::NotJson)?,
            Message::Close(_) => return Ok(Step::Nothing),
        };
        let event: Event<'_> = read_event(text)?;
        if event.setup_complete.is_some() {
            return Ok(Step::Ready);
        }
        if event.go_away.is_some() {
            tracing::info!("The agent's service is about to end the session");
            session.is_leaving = true;
        }
        let calls = event.tool_call.and_then(|call| call.function_calls).unwrap_or_default();
        for FunctionCall { id, name, args } in calls {
            let (id, name) = (id.unwrap_or_default(), name.unwrap_or_default());
            session.duties.handle_call(&id, &name, &args.unwrap_or_default().to_string());
        }
        Ok(event.server_content.map_or(Step::Nothing, |content| self.handle_content(&content, session, progress, now)))
    }

    fn greet(&mut self, opening: &Opening) -> Option<Value> {
        let text = match &opening.greeting {
            Some(greeting) => format!("{GREETING_INSTRUCTIONS}{greeting}"),
            None => GREET_NOW.to_owned(),
        };
        let turn = json!({ "role": "user", "parts": [{ "text": text }] });
        Some(json!({ "clientContent": { "turns": [turn], "turnComplete": true } }))
    }

    fn answer(&self, answers: Vec<Answer>, out: &mut Vec<Value>) {
        let answer = |Answer { call_id, name, output, .. }| {
            let response: Value = serde_json::from_str(&output).unwrap_or_default();
            json!({ "id": call_id, "name": name, "response": response })
        };
        let answers: Vec<Value> = answers.into_iter().map(answer).collect();
        out.push(json!({ "toolResponse": { "functionResponses": answers } }));
    }

    fn tell(&self, text: &str) -> Value {
        json!({ "realtimeInput": { "text": text } })
    }
}

impl Gemini {
    fn handle_content(
        &mut self,
        content: &Content<'_>,
        session: &mut Session,
        progress: Progress,
        now: Instant,
    ) -> Step {
        let mut step = Step::Nothing;
        if content.interrupted == Some(true) {
            step = session.interrupt(progress, now);
            self.cut_until = Some(now + CUT_MAX);
        }
        if let Some(heard) = &content.input_transcription {
            let text = heard.text.as_deref().unwrap_or_default();
            if !text.is_empty() {
                session.is_greeted = true;
                session.talk.handle_caller_words(text, now);
            }
            if heard.finished == Some(true) {
                session.talk.handle_caller_done(now);
            }
        }
        let words = content.output_transcription.as_ref().and_then(|said| said.text.as_deref());
        session.talk.handle_agent_words(words.unwrap_or_default());
        let parts = content.model_turn.as_ref().and_then(|turn| turn.parts.as_ref());
        if let Some(parts) = parts
            && parts.read_audio(session)
            && !self.is_cut(session, now)
        {
            step = session.play(progress);
        }
        if content.generation_complete == Some(true) {
            session.talk.close_answered(now);
        }
        if content.turn_complete == Some(true) {
            // The turn that interrupted is not the one that is over.
            match self.cut_until.take() {
                Some(_) => session.talk.close_answered(now),
                None => session.talk.handle_caller_done(now),
            }
            session.talk.handle_agent_done();
        }
        step
    }

    /// Whether audio belongs to what the caller has interrupted.
    fn is_cut(&mut self, session: &mut Session, now: Instant) -> bool {
        let Some(until) = self.cut_until else { return false };
        if until > now {
            session.sound.forget_begun();
            return true;
        }
        self.cut_until = None;
        session.talk.handle_agent_done();
        false
    }
}

impl Parts<'_> {
    /// Puts their audio together in the session's sound; tells whether there is any.
    fn read_audio(&self, session: &mut Session) -> bool {
        let mut has_audio = false;
        let blobs = self.first.iter().chain(&self.others).filter_map(|part| part.inline_data.as_ref());
        for blob in blobs {
            let (mime, data) = (blob.mime_type.as_deref(), blob.data.as_deref().unwrap_or_default());
            let Some(form) = form_of(mime) else { continue };
            if has_audio {
                session.sound.append_base64(data);
            } else {
                session.sound.set_said(form);
                has_audio = session.sound.handle_base64(data);
            }
        }
        has_audio
    }
}

/// What sets the session up.
fn setup(session: &Session) -> Value {
    let Session { opening, settings, model, .. } = session;
    let prefix = if model.contains('/') { "" } else { "models/" };
    let mut generation = json!({ "responseModalities": ["AUDIO"] });
    if let Some(voice) = &opening.voice {
        generation["speechConfig"]["voiceConfig"]["prebuiltVoiceConfig"]["voiceName"] = json!(voice);
    }
    if let Some(language) = &settings.language {
        generation["speechConfig"]["languageCode"] = json!(language);
    }
    let mut setup = json!({
        "model": format!("{prefix}{model}"),
        "generationConfig": generation,
        "systemInstruction": { "parts": [{ "text": opening.instructions }] },
        "inputAudioTranscription": {},
        "outputAudioTranscription": {},
    });
    let functions: Vec<Value> = opening.tools.functions().map(declared).collect();
    if !functions.is_empty() {
        setup["tools"] = json!([{ "functionDeclarations": functions }]);
    }
    json!({ "setup": setup })
}

/// A function as the service is told of it: parameters that are none must not be there.
fn declared(function: Function) -> Value {
    let Function { name, description, parameters } = function;
    let mut declared = json!({ "name": name, "description": description });
    if parameters["properties"].as_object().is_some_and(|properties| !properties.is_empty()) {
        declared["parameters"] = parameters;
    }
    declared
}

/// The form that a type of audio names (`audio/pcm;rate=24000`); `None` where it is no audio that can be played.
fn form_of(mime: Option<&str>) -> Option<Form> {
    let mut parameters = mime.unwrap_or("audio/pcm").split(';').map(str::trim);
    if parameters.next() != Some("audio/pcm") {
        return None;
    }
    let rate = match parameters.find_map(|parameter| parameter.strip_prefix("rate=")) {
        None | Some("24000") => SampleRate::Hz24000,
        Some("8000") => SampleRate::Hz8000,
        Some("16000") => SampleRate::Hz16000,
        Some("48000") => SampleRate::Hz48000,
        Some(_) => return None,
    };
    Some(Form::Linear(rate))
}

/// 1 s: what was on its way has come by then, and no answer to the caller has.
const CUT_MAX: Duration = Duration::from_secs(1);
