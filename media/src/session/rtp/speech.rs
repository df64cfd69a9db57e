//! What a leg says: speech is queued, counted and forgotten.

use std::time::Instant;

use super::{Output, RtpSession};
use crate::audio::frame::Speech;
use crate::audio::playout::NotQueued;

impl RtpSession {
    /// Queues speech behind what is queued.
    ///
    /// # Errors
    /// [`NotQueued`]; nothing is queued then.
    pub fn play(&mut self, speech: Speech<'_>, now: Instant) -> Result<(), NotQueued> {
        let Output { playout, speaking, .. } = &mut self.output;
        playout.push(speaking.convert(speech), now)
    }

    /// Forgets what is queued, for barge-in.
    pub fn clear(&mut self) {
        self.output.playout.clear();
    }

    /// Has what is queued wait behind comfort noise, because the caller may be interrupting; nothing of it is lost.
    pub fn pause(&mut self) {
        self.output.playout.pause();
    }

    /// Goes on behind a pause, where it was stopped. What is cleared ends the pause as well.
    pub fn unpause(&mut self) {
        self.output.playout.unpause();
    }

    /// Speech queued since the start, in ticks of 125 µs.
    pub fn pushed(&self) -> u64 {
        self.output.playout.pushed()
    }

    /// Speech that has left for the wire or was cleared, in ticks of 125 µs.
    pub fn played(&self) -> u64 {
        self.output.playout.played()
    }

    /// Forgets what is queued and counts on from where a session that this one follows had come to, so that who has marked
    /// places in what was queued finds them behind.
    pub fn follow(&mut self, pushed: u64) {
        self.output.playout.follow(pushed);
    }
}
