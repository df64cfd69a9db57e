//! Exotel AgentStream: Twilio's messages in snake_case, and linear audio at 8 kHz, or at the rate that the owner has set.

use serde_json::{Value, json};
use talkstack_control::port::ProviderSettings;
use talkstack_media::audio::frame::{Form, SampleRate};

use super::{ACCOUNT_SID, Dialect, FromAgent, Names, Request, Sound, Stream, linear, parameters};
use crate::agent::provider::ServicePlan;

pub(super) struct Exotel;

impl Dialect for Exotel {
    fn form(&self, settings: &ProviderSettings) -> Form {
        linear(settings, SampleRate::Hz8000)
    }

    fn introduce(&self, stream: &mut Stream, plan: &ServicePlan) -> Vec<Value> {
        let (sid, number, rate) = (stream.sid(), stream.next_message().to_string(), stream.form.rate().hertz());
        let start = json!({ "event": "start", "sequence_number": number, "stream_sid": sid, "start": {
            "stream_sid": sid, "call_sid": stream.id.to_string(), "account_sid": ACCOUNT_SID,
            "from": plan.parties.from, "to": plan.parties.to, "custom_parameters": parameters(plan),
            "media_format": { "encoding": "base64", "sample_rate": rate.to_string(), "bit_rate": format!("{}kbps", rate * 16 / 1000) },
        }});
        vec![json!({ "event": "connected" }), start]
    }

    fn write_audio(&self, stream: &Stream, audio: &[u8], out: &mut Vec<u8>) {
        NAMES.write_audio(stream, audio, out);
    }

    fn digit(&self, stream: &mut Stream, key: char) -> Value {
        let number = stream.next_message().to_string();
        json!({ "event": "dtmf", "sequence_number": number, "stream_sid": stream.sid(),
                "dtmf": { "digit": key, "duration": "100" } })
    }

    fn mark(&self, stream: &mut Stream, name: &str, _was_cleared: bool) -> Option<Value> {
        let number = stream.next_message().to_string();
        Some(
            json!({ "event": "mark", "sequence_number": number, "stream_sid": stream.sid(), "mark": { "name": name } }),
        )
    }

    fn stop(&self, stream: &mut Stream) -> Option<Value> {
        let number = stream.next_message().to_string();
        let stop = json!({ "call_sid": stream.id.to_string(), "account_sid": ACCOUNT_SID, "reason": "callended" });
        Some(json!({ "event": "stop", "sequence_number": number, "stream_sid": stream.sid(), "stop": stop }))
    }

    fn read(&self, text: &str, sound: &mut Sound) -> serde_json::Result<Request> {
        Ok(serde_json::from_str::<FromAgent<'_>>(text)?.request(sound))
    }
}

const NAMES: Names = Names { number: "sequence_number", stream: "stream_sid", track: "" };
