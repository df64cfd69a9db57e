//! Twilio Media Streams, bidirectional. Audio is base64 µ-law at 8 kHz; counters are JSON strings, as Twilio sends them.
//! `clear` brings all marks back at once.

use serde_json::{Value, json};
use talkstack_control::port::ProviderSettings;
use talkstack_media::audio::frame::Form;

use super::{ACCOUNT_SID, Dialect, FromAgent, Request, Sound, Stream, parameters};
use crate::agent::provider::ServicePlan;
use crate::agent::wire::{write_base64, write_number};

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
        out.extend_from_slice(b"{\"event\":\"media\",\"sequenceNumber\":\"");
        write_number(out, stream.messages);
        out.extend_from_slice(b"\",\"streamSid\":\"");
        write_sid(stream, out);
        out.extend_from_slice(b"\",\"media\":{\"track\":\"inbound\",\"chunk\":\"");
        write_number(out, stream.chunks);
        out.extend_from_slice(b"\",\"timestamp\":\"");
        write_number(out, stream.at_ms());
        out.extend_from_slice(b"\",\"payload\":\"");
        write_base64(out, audio);
        out.extend_from_slice(b"\"}}");
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

/// The stream's name, without an allocation.
pub(super) fn write_sid(stream: &Stream, out: &mut Vec<u8>) {
    out.extend_from_slice(b"MZ");
    for nibble in (0..32).rev() {
        out.push(b"0123456789abcdef"[(stream.id.0 >> (4 * nibble)) as usize & 0xf]);
    }
}
