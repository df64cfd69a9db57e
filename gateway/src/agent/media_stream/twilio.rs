//! Twilio Media Streams, bidirectional. Audio is base64 µ-law at 8 kHz; counters are JSON strings, as Twilio sends them.
//! `clear` brings all marks back at once.

use serde_json::{Value, json};
use talkstack_control::port::ProviderSettings;
use talkstack_media::audio::frame::Form;

use super::{ACCOUNT_SID, Dialect, FromAgent, Names, Request, Sound, Stream, parameters};
use crate::agent::provider::ServicePlan;

pub(super) struct Twilio;

impl Dialect for Twilio {
    fn form(&self, _settings: &ProviderSettings) -> Form {
        Form::Mulaw
    }

    fn introduce(&self, stream: &mut Stream, plan: &ServicePlan) -> Vec<Value> {
        let (sid, number) = (stream.sid(), stream.next_message().to_string());
        let start = json!({ "event": "start", "sequenceNumber": number, "streamSid": sid, "start": {
            "accountSid": ACCOUNT_SID, "streamSid": sid, "callSid": stream.id.to_string(), "tracks": ["inbound"],
            "mediaFormat": { "encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1 },
            "customParameters": parameters(plan),
        }});
        vec![json!({ "event": "connected", "protocol": "Call", "version": "1.0.0" }), start]
    }

    fn write_audio(&self, stream: &Stream, audio: &[u8], out: &mut Vec<u8>) {
        NAMES.write_audio(stream, audio, out);
    }

    fn digit(&self, stream: &mut Stream, key: char) -> Value {
        let number = stream.next_message().to_string();
        json!({ "event": "dtmf", "sequenceNumber": number, "streamSid": stream.sid(),
                "dtmf": { "track": "inbound_track", "digit": key } })
    }

    fn mark(&self, stream: &mut Stream, name: &str, _was_cleared: bool) -> Option<Value> {
        let number = stream.next_message().to_string();
        Some(json!({ "event": "mark", "sequenceNumber": number, "streamSid": stream.sid(), "mark": { "name": name } }))
    }

    fn stop(&self, stream: &mut Stream) -> Option<Value> {
        let number = stream.next_message().to_string();
        let stop = json!({ "accountSid": ACCOUNT_SID, "callSid": stream.id.to_string() });
        Some(json!({ "event": "stop", "sequenceNumber": number, "streamSid": stream.sid(), "stop": stop }))
    }

    fn read(&self, text: &str, sound: &mut Sound) -> serde_json::Result<Request> {
        Ok(serde_json::from_str::<FromAgent<'_>>(text)?.request(sound))
    }
}

const NAMES: Names = Names { number: "sequenceNumber", stream: "streamSid", track: "\"track\":\"inbound\"," };
