//! Vonage's WebSocket endpoint: binary frames of 16-bit little-endian samples, 20 ms each, and text for the rest.
//!
//! A mark is a `notify`: it comes back with its payload when the audio before it has been played.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, json};
use talkstack_control::port::ProviderSettings;
use talkstack_media::audio::frame::{Form, SampleRate};

use super::{Dialect, Request, Sound, Stream, linear, parameters};
use crate::agent::provider::ServicePlan;

pub(super) struct Vonage;

#[derive(Deserialize)]
struct FromAgent<'a> {
    #[serde(borrow)]
    action: Option<Cow<'a, str>>,
    payload: Option<Value>,
}

impl Dialect for Vonage {
    fn form(&self, settings: &ProviderSettings) -> Form {
        linear(settings, SampleRate::Hz16000)
    }

    fn is_binary(&self) -> bool {
        true
    }

    fn introduce(&self, stream: &mut Stream, plan: &ServicePlan) -> Vec<Value> {
        // What goes along stands beside the event, as the headers of an NCCO do.
        let mut message = parameters(plan);
        message.insert("call_uuid".into(), stream.id.to_string().into());
        message.insert("event".into(), "websocket:connected".into());
        message.insert("content-type".into(), format!("audio/l16;rate={}", stream.form.rate().hertz()).into());
        vec![Value::Object(message)]
    }

    fn write_audio(&self, _stream: &Stream, audio: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(audio);
    }

    fn digit(&self, _stream: &mut Stream, key: char) -> Value {
        json!({ "event": "websocket:dtmf", "digit": key, "duration": 100 })
    }

    fn mark(&self, _stream: &mut Stream, name: &str, was_cleared: bool) -> Option<Value> {
        // The name is the payload as it came.
        let payload = serde_json::from_str::<Value>(name).ok().filter(|_| !was_cleared)?;
        Some(json!({ "event": "websocket:notify", "payload": payload }))
    }

    fn cleared(&self, _stream: &mut Stream) -> Option<Value> {
        Some(json!({ "event": "websocket:cleared" }))
    }

    fn read(&self, text: &str, _sound: &mut Sound) -> serde_json::Result<Request> {
        let message: FromAgent<'_> = serde_json::from_str(text)?;
        Ok(match message.action.as_deref() {
            Some("clear") => Request::Clear,
            Some("notify") => Request::Mark(message.payload.unwrap_or_default().to_string()),
            _ => Request::Nothing,
        })
    }
}
