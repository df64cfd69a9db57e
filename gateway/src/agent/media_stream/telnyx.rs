//! Telnyx media streaming in its RTP mode: base64 of PCMU at 8 kHz.

use serde_json::{Value, json};
use talkstack_control::port::ProviderSettings;
use talkstack_media::audio::frame::Form;

use super::{Dialect, FromAgent, Names, Request, Sound, Stream, parameters};
use crate::agent::provider::ServicePlan;

pub(super) struct Telnyx;

impl Dialect for Telnyx {
    fn form(&self, _settings: &ProviderSettings) -> Form {
        Form::Mulaw
    }

    fn introduce(&self, stream: &mut Stream, plan: &ServicePlan) -> Vec<Value> {
        let number = stream.next_message().to_string();
        let start = json!({ "event": "start", "sequence_number": number, "stream_id": stream.sid(), "start": {
            "user_id": "talkstack", "call_control_id": stream.id.to_string(), "call_session_id": stream.id.to_string(),
            "from": plan.parties.from, "to": plan.parties.to, "tags": [], "client_state": null,
            "custom_parameters": parameters(plan),
            "media_format": { "encoding": "PCMU", "sample_rate": 8000, "channels": 1 },
        }});
        vec![json!({ "event": "connected", "version": "1.0.0" }), start]
    }

    fn write_audio(&self, stream: &Stream, audio: &[u8], out: &mut Vec<u8>) {
        NAMES.write_audio(stream, audio, out);
    }

    fn digit(&self, stream: &mut Stream, key: char) -> Value {
        let number = stream.next_message().to_string();
        json!({ "event": "dtmf", "stream_id": stream.sid(), "sequence_number": number, "dtmf": { "digit": key } })
    }

    fn mark(&self, stream: &mut Stream, mark: &str, _was_cleared: bool) -> Option<Value> {
        let number = stream.next_message().to_string();
        Some(json!({ "event": "mark", "stream_id": stream.sid(), "sequence_number": number, "mark": { "name": mark } }))
    }

    fn stop(&self, stream: &mut Stream) -> Option<Value> {
        let number = stream.next_message().to_string();
        let stop = json!({ "user_id": "talkstack", "call_control_id": stream.id.to_string() });
        Some(json!({ "event": "stop", "stream_id": stream.sid(), "sequence_number": number, "stop": stop }))
    }

    fn read(&self, text: &str, sound: &mut Sound) -> serde_json::Result<Request> {
        Ok(serde_json::from_str::<FromAgent<'_>>(text)?.request(sound))
    }
}

const NAMES: Names = Names { number: "sequence_number", stream: "stream_id", track: "\"track\":\"inbound\"," };
