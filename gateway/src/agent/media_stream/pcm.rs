//! The plainest agent: binary messages of 16-bit little-endian samples both ways, and a few texts.
//!
//! ```text
//!   gateway ─ {"type":"start","call_id":…,"from":…,"to":…,"sample_rate":16000,"parameters":{}} ─▶ agent
//!           ─ samples…, {"type":"dtmf","digit":"5"}, {"type":"mark","name":…,"played":true} ────▶
//!           ◀─ samples…, {"type":"mark","name":…}, {"type":"clear"}, {"type":"dtmf","digit":"5"}, {"type":"hangup"} ─
//! ```
//!
//! A mark that was cleared comes back with `"played": false`. 16 kHz unless the owner has set another rate.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, json};
use talkstack_control::port::ProviderSettings;
use talkstack_media::audio::frame::{Form, SampleRate};

use super::{Dialect, Request, Sound, Stream, linear};
use crate::agent::provider::ServicePlan;

pub(super) struct Pcm;

#[derive(Deserialize)]
struct FromAgent<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    name: Option<String>,
    digit: Option<char>,
}

impl Dialect for Pcm {
    fn form(&self, settings: &ProviderSettings) -> Form {
        linear(settings, SampleRate::Hz16000)
    }

    fn is_binary(&self) -> bool {
        true
    }

    fn introduce(&self, stream: &mut Stream, plan: &ServicePlan) -> Vec<Value> {
        vec![json!({
            "type": "start", "call_id": stream.id.to_string(), "from": plan.parties.from, "to": plan.parties.to,
            "sample_rate": stream.form.rate().hertz(), "parameters": plan.settings.parameters,
        })]
    }

    fn write_audio(&self, _stream: &Stream, audio: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(audio);
    }

    fn digit(&self, _stream: &mut Stream, key: char) -> Value {
        json!({ "type": "dtmf", "digit": key })
    }

    fn mark(&self, _stream: &mut Stream, name: &str, was_cleared: bool) -> Option<Value> {
        Some(json!({ "type": "mark", "name": name, "played": !was_cleared }))
    }

    fn read(&self, text: &str, _sound: &mut Sound) -> serde_json::Result<Request> {
        let message: FromAgent<'_> = serde_json::from_str(text)?;
        Ok(match message.kind.as_deref() {
            Some("mark") => message.name.map_or(Request::Nothing, Request::Mark),
            Some("clear") => Request::Clear,
            Some("dtmf") => message.digit.map_or(Request::Nothing, Request::Press),
            Some("hangup") => Request::HangUp,
            _ => Request::Nothing,
        })
    }
}
