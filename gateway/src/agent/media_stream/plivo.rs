//! Plivo audio streams. Audio is base64 µ-law at 8 kHz, or L16 at 8 or 16 kHz where the owner has set a rate; the agent
//! names the form of each piece of its own. A checkpoint comes back only if it is played.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, json};
use talkstack_control::port::ProviderSettings;
use talkstack_media::audio::frame::{Form, SampleRate};

use super::{ACCOUNT_SID, Dialect, Request, Sound, Stream, parameters};
use crate::agent::provider::ServicePlan;
use crate::agent::wire::{write_base64, write_number};

pub(super) struct Plivo;

#[derive(Deserialize)]
struct FromAgent<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    media: Option<Media<'a>>,
    name: Option<String>,
    dtmf: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Media<'a> {
    #[serde(borrow)]
    content_type: Option<Cow<'a, str>>,
    sample_rate: Option<u32>,
    #[serde(borrow)]
    payload: Cow<'a, str>,
}

impl Dialect for Plivo {
    fn form(&self, settings: &ProviderSettings) -> Form {
        match settings.sample_rate {
            None => Form::Mulaw,
            Some(8000) => Form::Linear(SampleRate::Hz8000),
            Some(_) => Form::Linear(SampleRate::Hz16000),
        }
    }

    fn introduce(&self, stream: &mut Stream, plan: &ServicePlan) -> Vec<Value> {
        let number = stream.next_message();
        vec![json!({ "event": "start", "sequenceNumber": number, "start": {
            "callId": stream.id.to_string(), "streamId": stream.sid(), "accountId": ACCOUNT_SID, "tracks": ["inbound"],
            "mediaFormat": { "encoding": content_type(stream.form), "sampleRate": stream.form.rate().hertz() },
        }, "extra_headers": Value::Object(parameters(plan)).to_string() })]
    }

    fn write_audio(&self, stream: &Stream, audio: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"event\":\"media\",\"sequenceNumber\":");
        write_number(out, stream.messages);
        out.extend_from_slice(b",\"streamId\":\"");
        stream.write_sid(out);
        out.extend_from_slice(b"\",\"media\":{\"track\":\"inbound\",\"chunk\":");
        write_number(out, stream.chunks);
        out.extend_from_slice(b",\"timestamp\":\"");
        write_number(out, stream.at_ms());
        out.extend_from_slice(b"\",\"payload\":\"");
        write_base64(out, audio);
        out.extend_from_slice(b"\"}}");
    }

    fn digit(&self, stream: &mut Stream, key: char) -> Value {
        let (number, at) = (stream.next_message(), stream.at_ms().to_string());
        json!({ "event": "dtmf", "sequenceNumber": number, "streamId": stream.sid(),
                "dtmf": { "track": "inbound", "digit": key, "timestamp": at } })
    }

    fn mark(&self, stream: &mut Stream, name: &str, was_cleared: bool) -> Option<Value> {
        (!was_cleared).then(|| json!({ "event": "playedStream", "streamId": stream.sid(), "name": name }))
    }

    fn cleared(&self, stream: &mut Stream) -> Option<Value> {
        Some(json!({ "event": "clearedAudio", "streamId": stream.sid() }))
    }

    fn read(&self, text: &str, sound: &mut Sound) -> serde_json::Result<Request> {
        let message: FromAgent<'_> = serde_json::from_str(text)?;
        Ok(match (&*message.event, message.media) {
            ("playAudio", Some(media)) => {
                if let Some(form) = form_of(&media) {
                    sound.set_said(form);
                }
                if sound.handle_base64(&media.payload) { Request::Play } else { Request::Nothing }
            }
            ("checkpoint", _) => message.name.map_or(Request::Nothing, Request::Mark),
            ("clearAudio", _) => Request::Clear,
            ("sendDTMF", _) => {
                let key = message.dtmf.as_deref().and_then(|keys| keys.chars().next());
                key.map_or(Request::Nothing, Request::Press)
            }
            _ => Request::Nothing,
        })
    }
}

fn content_type(form: Form) -> &'static str {
    if form == Form::Mulaw { "audio/x-mulaw" } else { "audio/x-l16" }
}

/// The form that a piece of audio names, if it names one that is known.
fn form_of(media: &Media<'_>) -> Option<Form> {
    match (media.content_type.as_deref()?, media.sample_rate) {
        ("audio/x-mulaw", _) => Some(Form::Mulaw),
        ("audio/x-l16", Some(8000)) => Some(Form::Linear(SampleRate::Hz8000)),
        ("audio/x-l16", Some(16_000)) => Some(Form::Linear(SampleRate::Hz16000)),
        _ => None,
    }
}
