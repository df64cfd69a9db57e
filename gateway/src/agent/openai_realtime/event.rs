//! What a Realtime server sends, as far as it concerns a phone call. Unknown events and fields are ignored, and nulls
//! stand for absence; the names of the beta interface are taken as well.

use serde::Deserialize;
use talkstack_media::audio::frame::Form;

use crate::agent::conversation::Place;
use crate::agent::wire::{Text, loggable, readable};

/// A server event. Which of the fields are there depends on its type.
#[derive(Deserialize, Default)]
pub(super) struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    item_id: Option<Text<'a>>,
    #[serde(borrow)]
    response_id: Option<Text<'a>>,
    content_index: Option<u32>,
    #[serde(borrow)]
    delta: Option<Text<'a>>,
    #[serde(borrow)]
    transcript: Option<Text<'a>>,
    audio_start_ms: Option<f64>,
    #[serde(borrow)]
    call_id: Option<Text<'a>>,
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    arguments: Option<Text<'a>>,
    session: Option<Session>,
    response: Option<Response>,
    error: Option<ErrorBody>,
}

/// The types of events that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    SessionCreated,
    SessionUpdated,
    SpeechStarted,
    SpeechStopped,
    Committed,
    CallerTranscribed,
    CallerNotTranscribed,
    ResponseCreated,
    ResponseDone,
    AudioDelta,
    AudioDone,
    TranscriptDelta,
    TranscriptDone,
    FunctionCall,
    Error,
    Other,
}

/// A session as the server describes it.
#[derive(Deserialize)]
struct Session {
    audio: Option<SessionAudio>,
    input_audio_format: Option<String>,
    output_audio_format: Option<String>,
}

#[derive(Deserialize)]
struct SessionAudio {
    input: Option<Direction>,
    output: Option<Direction>,
}

#[derive(Deserialize)]
struct Direction {
    format: Option<Format>,
}

#[derive(Deserialize)]
struct Format {
    #[serde(rename = "type")]
    kind: Option<String>,
    rate: Option<u32>,
}

/// A response at its beginning or end.
#[derive(Deserialize, Default)]
pub(super) struct Response {
    pub(super) id: Option<String>,
    status: Option<String>,
    output: Option<Vec<OutputItem>>,
}

#[derive(Deserialize)]
struct OutputItem {
    #[serde(rename = "type")]
    kind: Option<String>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
}

/// A call of a function; its arguments are JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct FunctionCall<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) arguments: &'a str,
}

/// What went wrong.
#[derive(Deserialize, Default)]
pub(super) struct ErrorBody {
    code: Option<String>,
    message: Option<String>,
}

impl<'a> Event<'a> {
    #[cfg(test)]
    pub(super) fn borrows(&self) -> bool {
        matches!(self.delta, Some(Text(std::borrow::Cow::Borrowed(_))))
    }

    pub(super) fn kind(&self) -> Kind {
        match self.kind.as_deref().unwrap_or_default() {
            "response.output_audio.delta" | "response.audio.delta" => Kind::AudioDelta,
            "response.output_audio.done" | "response.audio.done" => Kind::AudioDone,
            "response.output_audio_transcript.delta" | "response.audio_transcript.delta" => Kind::TranscriptDelta,
            "response.output_audio_transcript.done" | "response.audio_transcript.done" => Kind::TranscriptDone,
            "session.created" => Kind::SessionCreated,
            "session.updated" => Kind::SessionUpdated,
            "input_audio_buffer.speech_started" => Kind::SpeechStarted,
            "input_audio_buffer.speech_stopped" => Kind::SpeechStopped,
            "input_audio_buffer.committed" => Kind::Committed,
            "conversation.item.input_audio_transcription.completed" => Kind::CallerTranscribed,
            "conversation.item.input_audio_transcription.failed" => Kind::CallerNotTranscribed,
            "response.created" => Kind::ResponseCreated,
            "response.done" => Kind::ResponseDone,
            "response.function_call_arguments.done" => Kind::FunctionCall,
            "error" => Kind::Error,
            _ => Kind::Other,
        }
    }

    pub(super) fn place(&self) -> Place<'_> {
        Place {
            response_id: self.response_id.as_deref().unwrap_or_default(),
            item_id: self.item_id(),
            content_index: self.content_index.unwrap_or(0),
        }
    }

    pub(super) fn item_id(&self) -> &str {
        self.item_id.as_deref().unwrap_or_default()
    }

    pub(super) fn delta(&self) -> &str {
        self.delta.as_deref().unwrap_or_default()
    }

    pub(super) fn transcript(&self) -> &str {
        self.transcript.as_deref().unwrap_or_default()
    }

    /// Where the caller began to speak, in milliseconds of the audio we appended.
    pub(super) fn audio_start_ms(&self) -> Option<u64> {
        // A cast of a float saturates.
        self.audio_start_ms.map(|at| at as u64)
    }

    /// The function that is called.
    pub(super) fn function_call(&self) -> FunctionCall<'_> {
        FunctionCall {
            id: self.call_id.as_deref().unwrap_or_default(),
            name: self.name.as_deref().unwrap_or_default(),
            arguments: self.arguments.as_deref().unwrap_or_default(),
        }
    }

    pub(super) fn response(&self) -> Option<&Response> {
        self.response.as_ref()
    }

    /// What an error says, with its code.
    pub(super) fn error_text(&self) -> String {
        let message = self.error.as_ref().and_then(|error| error.message.as_deref()).unwrap_or_default();
        format!("{} ({})", readable(message), self.error_code())
    }

    /// The code of an error, cut to what a log can take.
    pub(super) fn error_code(&self) -> String {
        loggable(self.error.as_ref().and_then(|error| error.code.as_deref()).unwrap_or("none"))
    }

    /// Tells whether a described session names another audio format. One that names none agrees.
    pub(super) fn contradicts(&self, form: Form) -> bool {
        let Some(session) = &self.session else { return false };
        let audio = session.audio.as_ref();
        let directions = [audio.and_then(|audio| audio.input.as_ref()), audio.and_then(|audio| audio.output.as_ref())];
        let formats = directions.into_iter().filter_map(|direction| direction?.format.as_ref());
        let is_other_rate = formats.clone().any(|format| format.rate.is_some_and(|rate| rate != form.rate().hertz()));
        let named = formats.filter_map(|format| format.kind.as_deref());
        let beta = [session.input_audio_format.as_deref(), session.output_audio_format.as_deref()];
        let is_other = |name: &str| name != format_name(form) && name != beta_format_name(form);
        is_other_rate || named.chain(beta.into_iter().flatten()).any(is_other)
    }
}

impl Response {
    /// Tells whether the server could not make it.
    pub(super) fn has_failed(&self) -> bool {
        self.status.as_deref() == Some("failed")
    }

    /// The functions it calls.
    pub(super) fn function_calls(&self) -> impl Iterator<Item = FunctionCall<'_>> {
        let items = self.output.iter().flatten().filter(|item| item.kind.as_deref() == Some("function_call"));
        items.map(|item| FunctionCall {
            id: item.call_id.as_deref().unwrap_or_default(),
            name: item.name.as_deref().unwrap_or_default(),
            arguments: item.arguments.as_deref().unwrap_or_default(),
        })
    }
}

/// A form as the protocol names it.
pub(super) fn format_name(form: Form) -> &'static str {
    match form {
        Form::Mulaw => "audio/pcmu",
        Form::Alaw => "audio/pcma",
        Form::Linear(_) => "audio/pcm",
    }
}

/// The same in the beta.
pub(super) fn beta_format_name(form: Form) -> &'static str {
    match form {
        Form::Mulaw => "g711_ulaw",
        Form::Alaw => "g711_alaw",
        Form::Linear(_) => "pcm16",
    }
}
