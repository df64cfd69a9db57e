//! Whole conversations with scripted services, in virtual time.

mod deepgram;
mod elevenlabs;
mod functions;
mod gemini;
mod hang_up;
mod ultravox;

use std::time::Duration;

use serde_json::json;
use talkstack_control::port::{CallId, ProviderRoute, Speaker};
use talkstack_media::audio::frame::Speech;
use talkstack_media::codec::Codec;

use super::*;
use crate::agent::errands::Note;
use crate::agent::tools::Tools;
use crate::agent::websocket::frames::{client_frames, server_frame};

#[derive(Debug, PartialEq)]
enum Out {
    Ready,
    /// Ticks of 125 µs.
    Play(usize),
    Clear,
    Said(Speaker, String),
    Press(char),
    Transfer(String),
    HangUp,
    /// An errand, by its number.
    Run(u32),
    Note(Note),
    Lost(AgentLoss),
}

struct Bench {
    agent: Hosted,
    now: Instant,
    progress: Progress,
}

impl Bench {
    fn new(route: &ProviderRoute, opening: Opening, codec: Codec) -> Self {
        let plan = ServicePlan::new(route, opening).expect("an address");
        let agent = Hosted::new(&plan, CallFacts { id: CallId(1), codec, seed: 7 });
        Bench { agent, now: Instant::now(), progress: Progress::default() }
    }

    fn receive(&mut self, event: Value) -> Vec<Out> {
        self.receive_frame(0x81, event.to_string().as_bytes())
    }

    /// A frame of the service's: 0x81 text, 0x82 binary.
    fn receive_frame(&mut self, first: u8, payload: &[u8]) -> Vec<Out> {
        self.agent.handle_bytes(&server_frame(first, payload));
        self.poll()
    }

    /// Drains the agent, with a playout queue that takes all and plays when told.
    fn poll(&mut self) -> Vec<Out> {
        let mut outputs = Vec::new();
        while let Some(output) = self.agent.poll_output(self.progress, self.now) {
            outputs.push(match output {
                AgentOutput::Ready => Out::Ready,
                AgentOutput::Play(speech) => {
                    let ticks = match speech {
                        Speech::Coded(_, bytes) => bytes.len(),
                        Speech::Samples(rate, samples) => samples.len() / rate.tick_samples(),
                    };
                    self.progress.pushed += ticks as u64;
                    Out::Play(ticks)
                }
                AgentOutput::Clear => {
                    self.progress.played = self.progress.pushed;
                    Out::Clear
                }
                AgentOutput::Said(said) => Out::Said(said.speaker, said.text),
                AgentOutput::Press(key) => Out::Press(key),
                AgentOutput::Transfer(to) => Out::Transfer(to.0),
                AgentOutput::HangUp => Out::HangUp,
                AgentOutput::Run(number, _) => Out::Run(number),
                AgentOutput::Note(note) => Out::Note(note),
                AgentOutput::Lost(loss) => Out::Lost(loss),
                AgentOutput::Pause | AgentOutput::GoOn => unreachable!("no hosted agent pauses"),
            });
        }
        outputs
    }

    /// Speech leaves for the wire.
    fn play(&mut self, ticks: u64) -> Vec<Out> {
        self.progress.played += ticks;
        self.poll()
    }

    fn wait(&mut self, time: Duration) -> Vec<Out> {
        self.now += time;
        self.agent.handle_timeout(self.now);
        self.poll()
    }

    /// Frames of µ-law from the caller.
    fn speak(&mut self, frames: usize) {
        for _ in 0..frames {
            let (samples, coded) = ([1; 160], [0x55; 160]);
            self.agent.handle_audio(&Frame::coded(Codec::Pcmu, &coded, &samples));
        }
    }

    fn press(&mut self, keys: &str) {
        for key in keys.chars() {
            self.agent.handle_digit(key);
            self.poll();
        }
    }

    /// What has been sent since the last call: texts, and binary messages by their bytes' number.
    fn sent(&mut self) -> Vec<Value> {
        let frames = client_frames(&std::mem::take(self.agent.outbound()));
        let read = |(first, payload): &(u8, Vec<u8>)| match first {
            0x81 => serde_json::from_slice(payload).expect("JSON"),
            _ => json!(payload.len()),
        };
        frames.iter().map(read).collect()
    }
}

fn opening() -> Opening {
    Opening {
        instructions: "Be kind to John.".into(),
        voice: None,
        greeting: None,
        first_speaker: FirstSpeaker::Agent,
        greets: Greets::WhenReady,
        tools: Tools::default(),
    }
}

fn greeting(text: &str) -> Opening {
    Opening { greeting: Some(text.into()), ..opening() }
}

fn said(speaker: Speaker, text: &str) -> Out {
    Out::Said(speaker, text.into())
}

const NO_SUCH_FUNCTION: &str = r#"{"error":"There is no such function."}"#;
const NOTHING: [Value; 0] = [];
const QUIET: Duration = Duration::from_millis(1500);
