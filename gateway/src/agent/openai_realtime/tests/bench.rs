//! The bench: the agent's side of the protocol, driven by a server's events.

use base64_simd::STANDARD;
use serde_json::Value;
use talkstack_control::port::{CallId, ProviderKind, ProviderRoute, Speaker};
use talkstack_media::audio::frame::{SampleRate, Speech};
use talkstack_media::codec::Codec;

use super::super::*;
use crate::agent::tools::Tools;
use crate::agent::websocket::frames::{client_frames, server_frame};

#[derive(Debug, PartialEq)]
pub(super) enum Out {
    Ready,
    Play(usize),
    Clear,
    Press(char),
    HangUp,
    Said(Speaker, String, Instant),
    /// An errand, by its number.
    Run(u32),
    Lost(AgentLoss),
}

pub(super) struct Bench {
    pub(super) agent: OpenAiRealtime,
    pub(super) now: Instant,
    pub(super) progress: Progress,
}

impl Bench {
    pub(super) fn new(opening: Opening, codec: Codec) -> Self {
        Bench::of(ProviderKind::OpenAiRealtime, opening, codec)
    }

    pub(super) fn of(kind: ProviderKind, opening: Opening, codec: Codec) -> Self {
        let provider = ProviderRoute::new(kind, "ws://agent/v1", "m");
        let plan = ServicePlan::new(&provider, opening).expect("an address");
        let agent = OpenAiRealtime::new(&plan, CallFacts { id: CallId(1), codec, seed: 7 });
        Bench { agent, now: Instant::now(), progress: Progress::default() }
    }

    pub(super) fn connected(opening: Opening) -> Self {
        Bench::new(opening, Codec::Pcmu)
    }

    pub(super) fn ready(opening: Opening) -> Self {
        let mut bench = Bench::connected(opening);
        bench.set_up();
        bench
    }

    pub(super) fn set_up(&mut self) {
        self.receive(json!({ "type": "session.created", "session": {} }));
        assert_eq!(self.receive(json!({ "type": "session.updated", "session": {} })), [Out::Ready]);
    }

    pub(super) fn begin_response(&mut self, id: &str) {
        self.receive(json!({ "type": "response.created", "response": { "id": id, "status": "in_progress" } }));
    }

    pub(super) fn receive(&mut self, event: Value) -> Vec<Out> {
        self.receive_text(&event.to_string())
    }

    pub(super) fn receive_text(&mut self, text: &str) -> Vec<Out> {
        self.agent.handle_bytes(&frame(text));
        self.poll()
    }

    /// Drains the agent, with a playout queue that takes all and plays when told.
    pub(super) fn poll(&mut self) -> Vec<Out> {
        let mut outputs = Vec::new();
        while let Some(output) = self.agent.poll_output(self.progress, self.now) {
            outputs.push(match output {
                AgentOutput::Ready => Out::Ready,
                AgentOutput::Play(Speech::Coded(_, bytes)) => {
                    self.progress.pushed += bytes.len() as u64;
                    Out::Play(bytes.len())
                }
                AgentOutput::Play(Speech::Samples(SampleRate::Hz24000, samples)) => {
                    self.progress.pushed += samples.len() as u64 / 3;
                    Out::Play(samples.len())
                }
                AgentOutput::Clear => {
                    self.progress.played = self.progress.pushed;
                    Out::Clear
                }
                AgentOutput::Said(said) => Out::Said(said.speaker, said.text, said.began),
                AgentOutput::Press(key) => Out::Press(key),
                AgentOutput::HangUp => Out::HangUp,
                AgentOutput::Run(number, _) => Out::Run(number),
                AgentOutput::Lost(loss) => Out::Lost(loss),
                other => panic!("{other:?}"),
            });
        }
        outputs
    }

    /// Bytes leave for the wire.
    pub(super) fn play(&mut self, bytes: u64) -> Vec<Out> {
        self.progress.played += bytes;
        self.poll()
    }

    pub(super) fn wait(&mut self, time: Duration) -> Vec<Out> {
        self.now += time;
        self.agent.handle_timeout(self.now);
        self.poll()
    }

    /// Frames of µ-law from the caller.
    pub(super) fn speak(&mut self, frames: usize) {
        for _ in 0..frames {
            let (samples, coded) = ([1; 160], [0x55; 160]);
            self.agent.handle_audio(&Frame::coded(Codec::Pcmu, &coded, &samples));
        }
    }

    /// What has been sent to the server since the last call.
    pub(super) fn sent(&mut self) -> Vec<Value> {
        let frames = client_frames(&std::mem::take(self.agent.outbound()));
        frames.iter().map(|(_, text)| serde_json::from_slice(text).expect("JSON")).collect()
    }

    pub(super) fn kinds_sent(&mut self) -> Vec<String> {
        self.sent().iter().map(|sent| sent["type"].as_str().expect("a type").to_owned()).collect()
    }
}

pub(super) fn opening() -> Opening {
    Opening {
        instructions: "Be kind to John.".into(),
        voice: Some("marin".into()),
        greeting: None,
        first_speaker: FirstSpeaker::Agent,
        greets: Greets::WhenReady,
        tools: Tools::usual(),
    }
}

pub(super) fn delta(item: &str, bytes: usize) -> Value {
    let delta = STANDARD.encode_to_string(vec![0x21; bytes]);
    json!({ "type": "response.output_audio.delta", "response_id": "r", "item_id": item, "output_index": 0, "content_index": 0, "delta": delta })
}

pub(super) fn transcript(item: &str, text: &str) -> Value {
    json!({ "type": "response.output_audio_transcript.done", "response_id": "r", "item_id": item, "transcript": text })
}

pub(super) fn speech_started(item: &str) -> Value {
    json!({ "type": "input_audio_buffer.speech_started", "item_id": item, "audio_start_ms": null })
}

/// A server's text frame.
pub(super) fn frame(text: &str) -> Vec<u8> {
    server_frame(0x81, text.as_bytes())
}
