//! What of the caller's audio goes to the service that listens, and when it is to write it down.

use super::link::Link;
use super::message::Order;
use super::preroll::Preroll;
use super::turn::Turn;

/// What is heard of the caller.
#[derive(Default)]
pub(super) struct Ear {
    pub(super) turn: Turn,
    preroll: Preroll,
    /// Of this utterance.
    heard_bytes: usize,
    /// The request for its words, while it is open.
    pub(super) transcribing: Option<u32>,
}

impl Ear {
    /// Hears a stretch of the caller's audio.
    pub(super) fn handle_audio(&mut self, samples: &[u8], link: &mut Link) {
        if !self.turn.is_open() {
            self.preroll.push(samples);
        } else if self.heard_bytes < UTTERANCE_BYTES_MAX {
            self.heard_bytes += samples.len();
            Order::Hear(samples).write(0, &mut link.outbound);
        }
    }

    pub(super) fn begin(&mut self, link: &mut Link) {
        self.heard_bytes = 0;
        Order::Listen.write(0, &mut link.outbound);
        self.preroll.take(|samples| Order::Hear(samples).write(0, &mut link.outbound));
    }

    pub(super) fn transcribe(&mut self, link: &mut Link) {
        self.transcribing = Some(link.request(Order::Transcribe));
    }

    pub(super) fn forget_transcription(&mut self, link: &mut Link) {
        link.cancel(self.transcribing.take());
    }
}

/// 60 s at 16 kHz, 1.9 MB: what the task keeps of an utterance. What is said beyond that without a pause is not heard.
pub const UTTERANCE_BYTES_MAX: usize = 60 * 32_000;
