//! The echo agent: the caller hears themselves, for testing a line in both directions.

use talkstack_media::audio::frame::{Frame, Speech};
use talkstack_media::codec::Codec;

use super::AgentOutput;

/// Says back what it hears, in the codec it came in.
#[derive(Debug, Default)]
pub struct Echo {
    heard: Vec<u8>,
    codec: Option<Codec>,
    is_due: bool,
}

impl Echo {
    /// Hears a stretch of audio.
    pub fn handle_audio(&mut self, frame: &Frame<'_>) {
        let codec = frame.coded.map_or(Codec::Pcmu, |(codec, _)| codec);
        if !self.is_due || self.codec != Some(codec) {
            self.heard.clear();
        }
        // A call polls after each frame; without it the oldest audio would go first.
        if self.heard.len() < HEARD_BYTES_MAX {
            frame.encode_into(codec, &mut self.heard);
        }
        self.codec = Some(codec);
        self.is_due = true;
    }

    /// Returns what was heard, once.
    pub fn poll_output(&mut self) -> Option<AgentOutput<'_>> {
        let codec = self.codec.filter(|_| std::mem::take(&mut self.is_due))?;
        Some(AgentOutput::Play(Speech::Coded(codec, &self.heard)))
    }
}

/// 8,000 bytes, 1 s: more than the longest stretch of lost audio that is concealed at once.
const HEARD_BYTES_MAX: usize = 8_000;
