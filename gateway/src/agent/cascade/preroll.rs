//! What was heard just before the caller was known to speak.

use std::collections::VecDeque;

/// The last half second, 16-bit samples at 16 kHz.
pub(super) struct Preroll {
    samples: VecDeque<u8>,
}

impl Default for Preroll {
    fn default() -> Self {
        // Once for all: a frame costs no memory.
        Preroll { samples: VecDeque::with_capacity(2 * PREROLL_BYTES) }
    }
}

impl Preroll {
    /// More was heard.
    pub(super) fn push(&mut self, samples: &[u8]) {
        let kept = &samples[samples.len().saturating_sub(PREROLL_BYTES)..];
        let surplus = (self.samples.len() + kept.len()).saturating_sub(PREROLL_BYTES);
        self.samples.drain(..surplus);
        self.samples.extend(kept);
    }

    /// What there is, in at most two parts; then it is forgotten.
    pub(super) fn take(&mut self, mut part: impl FnMut(&[u8])) {
        let (first, second) = self.samples.as_slices();
        [first, second].into_iter().filter(|samples| !samples.is_empty()).for_each(&mut part);
        self.samples.clear();
    }
}

/// 500 ms: the 100 ms in which the ear makes sure, and the breath in front of the first word.
const PREROLL_BYTES: usize = 16_000;
