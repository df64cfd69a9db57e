//! Where on a recording an agent has said what: the third track's clock.
//!
//! An agent delivers seconds of speech at once, or frame by frame. Each stretch belongs where it was delivered, or behind
//! what was delivered before and is not said yet. Its sound comes from the playout queue, a little later; until then only
//! where it belongs is kept.

use std::collections::VecDeque;

/// Maps positions in the agent's queue to places on the recording, both in ticks of 125 µs.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Behind the last sound that was written, in samples.
    pub(super) end: u64,
    spurts: VecDeque<Spurt>,
    /// Where what is delivered next follows on.
    expected: u64,
}

/// What was delivered without a break.
#[derive(Debug, Clone, Copy)]
struct Spurt {
    /// Of its first tick in the queue.
    position: u64,
    /// On the recording.
    place: u64,
}

impl Said {
    /// Speech from one position to another was delivered at a time of the recording's clock.
    pub(super) fn handle_delivery(&mut self, from: u64, to: u64, at: u64) {
        let is_break = self.spurts.is_empty() || at > self.expected + BREAK;
        if is_break {
            // Nothing that was ever delivered lies before it.
            let place = at.max(self.expected);
            if self.spurts.len() >= SPURTS_MAX {
                self.spurts.pop_front();
            }
            self.spurts.push_back(Spurt { position: from, place });
            self.expected = place;
        }
        self.expected += to.saturating_sub(from);
    }

    /// What waits is not going to be said.
    pub(super) fn handle_clear(&mut self, at: u64) {
        self.expected = self.expected.min(at);
        self.spurts.clear();
    }

    /// Where on the recording a position of the queue belongs.
    pub(super) fn place_of(&mut self, position: u64) -> Option<u64> {
        while self.spurts.get(1).is_some_and(|next| next.position <= position) {
            self.spurts.pop_front();
        }
        let spurt = self.spurts.front()?;
        Some(spurt.place + position.saturating_sub(spurt.position))
    }
}

/// 60 ms: a delivery that is late by less is jitter, and its speech goes on without a break.
const BREAK: u64 = 480;

/// 64 breaks wait at once: more than fit between a delivery and its sound. Beyond, the oldest is forgotten.
const SPURTS_MAX: usize = 64;
