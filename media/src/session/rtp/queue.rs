//! What waits to be said on a leg: how far it has come, and how it is held up and forgotten.

use super::RtpSession;

impl RtpSession {
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
}
