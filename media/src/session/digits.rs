//! Keys that a leg's far end presses, by whichever way they come, each heard once.
//!
//! ```text
//!   telephone events ─┐
//!   SIP INFO ─────────┼─▶ one key by two ways within 500 ms is one press ─▶ Heard::Digit
//!   tones, where no ──┘
//!   events were agreed on
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::audio::dtmf::DtmfDetector;

/// The way a key came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Events,
    Info,
    Audio,
}

/// Puts the keys of all ways into one order.
#[derive(Debug, Default)]
pub(super) struct Digits {
    /// Presses that another way may still tell of.
    recent: VecDeque<Recent>,
    waiting: VecDeque<(char, Way)>,
    /// The key that was told last sounds in the audio too.
    is_audible: bool,
    detector: Option<Box<DtmfDetector>>,
}

#[derive(Debug, Clone, Copy)]
struct Recent {
    key: char,
    way: Way,
    at: Instant,
}

impl Digits {
    /// Has keys looked for in audio of this rate, in hertz; `None` ends it.
    pub(super) fn listen(&mut self, sample_rate: Option<u32>) {
        self.detector = sample_rate.map(|sample_rate| Box::new(DtmfDetector::new(sample_rate)));
    }

    /// Hears the next stretch of audio, concealed or silent ones too.
    pub(super) fn handle_audio(&mut self, samples: &[i16], now: Instant) {
        let Some(detector) = &mut self.detector else { return };
        detector.handle_audio(samples);
        while let Some(key) = self.detector.as_mut().and_then(|detector| detector.poll_digit()) {
            self.handle_key(key, Way::Audio, now);
        }
    }

    /// A key was pressed.
    pub(super) fn handle_key(&mut self, key: char, way: Way, now: Instant) {
        self.recent.retain(|recent| now.saturating_duration_since(recent.at) < SAME_PRESS);
        // Each press is told of once by each way, so a press stands for one other at the most.
        if let Some(at) = self.recent.iter().position(|recent| recent.key == key && recent.way != way) {
            self.recent.remove(at);
            return;
        }
        if self.waiting.len() < DIGITS_MAX {
            self.waiting.push_back((key, way));
            self.recent.push_back(Recent { key, way, at: now });
        }
    }

    /// The next key, once.
    pub(super) fn poll(&mut self) -> Option<char> {
        let (key, way) = self.waiting.pop_front()?;
        self.is_audible = way == Way::Audio;
        Some(key)
    }

    /// Tells whether what was heard last sounds like a key.
    pub(super) fn is_sounding(&self) -> bool {
        self.detector.as_ref().is_some_and(|detector| detector.is_sounding())
    }

    /// Tells whether the key that was told last sounds in the audio too.
    pub(super) fn is_audible(&self) -> bool {
        self.is_audible
    }
}

/// 500 ms: a slow INFO is behind its event by a few hundred, and nobody presses one key faster by two ways.
const SAME_PRESS: Duration = Duration::from_millis(500);

/// 32 keys wait at the most; a person presses ten a second.
const DIGITS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_by_two_ways_within_half_a_second_is_one_press() {
        let digits = |presses: &[(u64, char, Way)]| {
            let (mut digits, start) = (Digits::default(), Instant::now());
            for (at_ms, key, way) in presses {
                digits.handle_key(*key, *way, start + Duration::from_millis(*at_ms));
            }
            std::iter::from_fn(|| digits.poll()).collect::<String>()
        };
        assert_eq!(digits(&[(0, '5', Way::Events), (499, '5', Way::Info)]), "5");
        assert_eq!(digits(&[(0, '5', Way::Info), (40, '5', Way::Events)]), "5");
        assert_eq!(digits(&[(0, '5', Way::Events), (500, '5', Way::Info)]), "55", "too late to be the same");
        assert_eq!(digits(&[(0, '5', Way::Events), (100, '6', Way::Info)]), "56", "another key");
        assert_eq!(digits(&[(0, '5', Way::Events), (100, '5', Way::Events)]), "55", "the same way");
        let twice = [(0, '5', Way::Events), (90, '5', Way::Info), (200, '5', Way::Events), (290, '5', Way::Info)];
        assert_eq!(digits(&twice), "55", "two presses, each told of twice");
        let late = [(0, '5', Way::Events), (200, '5', Way::Events), (300, '5', Way::Info), (450, '5', Way::Info)];
        assert_eq!(digits(&late), "55");
    }

    #[test]
    fn a_flood_of_keys_is_cut_off() {
        let (mut digits, now) = (Digits::default(), Instant::now());
        (0..100).for_each(|_| digits.handle_key('1', Way::Info, now));
        assert_eq!(std::iter::from_fn(|| digits.poll()).count(), DIGITS_MAX);
        assert!(digits.recent.len() <= DIGITS_MAX);
    }
}
