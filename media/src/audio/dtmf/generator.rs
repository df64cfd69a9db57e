//! Keys made audible.

use std::collections::VecDeque;
use std::f64::consts::TAU;
use std::time::Duration;

use super::{HIGH, KEYS, LOW};

/// Makes the tones of keys, one behind the other, at -8 dBm0 for the high frequency and 2 dB less for the low one.
///
/// ```text
///   press ─▶ 100 ms of two tones, or as long as the key is held ─▶ 60 ms of silence ─▶ the next
/// ```
#[derive(Debug)]
pub struct DtmfGenerator {
    /// In hertz.
    sample_rate: u32,
    waiting: VecDeque<(char, Duration)>,
    press: Option<Press>,
}

/// A key that sounds, or has sounded.
#[derive(Debug)]
struct Press {
    low: u32,
    high: u32,
    /// Samples made so far.
    at: u32,
    /// Of the tones, in samples; the silence follows.
    length: u32,
}

impl DtmfGenerator {
    /// Makes tones at a sample rate, in hertz: 8,000 to 48,000.
    pub fn new(sample_rate: u32) -> Self {
        DtmfGenerator { sample_rate, waiting: VecDeque::new(), press: None }
    }

    /// Has a key sound behind those that wait, for 100 ms to a minute; `false` when it is none, or 32 wait.
    pub fn press(&mut self, key: char, held: Duration) -> bool {
        let is_key = KEYS.iter().flatten().any(|known| *known == key);
        if !is_key || self.waiting.len() >= PRESSES_MAX {
            return false;
        }
        self.waiting.push_back((key, held.clamp(TONE, TONE_MAX)));
        true
    }

    /// Tells whether a key sounds or waits.
    pub fn is_busy(&self) -> bool {
        self.press.is_some() || !self.waiting.is_empty()
    }

    /// Writes the next stretch of what sounds over `samples`; silence where nothing does.
    pub fn fill(&mut self, samples: &mut [i16]) {
        let rate = self.sample_rate;
        for sample in samples {
            if self.press.is_none() {
                self.press = self.waiting.pop_front().and_then(|(key, held)| Press::new(key, held, rate));
            }
            *sample = self.press.as_mut().map_or(0, |press| press.next_sample(rate));
            let silence = SILENCE.as_millis() as u32 * rate / 1000;
            if self.press.as_ref().is_some_and(|press| press.at >= press.length + silence) {
                self.press = None;
            }
        }
    }
}

impl Press {
    fn new(key: char, held: Duration, sample_rate: u32) -> Option<Self> {
        let at = KEYS.iter().flatten().position(|known| *known == key)?;
        // A minute of 48 kHz.
        let length = (held.as_millis() as u64 * u64::from(sample_rate) / 1000) as u32;
        Some(Press { low: LOW[at / 4], high: HIGH[at % 4], at: 0, length })
    }

    fn next_sample(&mut self, sample_rate: u32) -> i16 {
        let at = self.at;
        self.at += 1;
        let Some(left) = self.length.checked_sub(at) else { return 0 };
        // The phase in whole samples of a second, so that no error builds up.
        let sine = |frequency: u32| {
            let turned = u64::from(at) * u64::from(frequency) % u64::from(sample_rate);
            (turned as f64 / f64::from(sample_rate) * TAU).sin()
        };
        // A tone that begins or ends at once clicks, and a click is no DTMF.
        let ramp = f64::from(RAMP_MS * sample_rate / 1000);
        let edge = (f64::from(at.min(left)) / ramp).min(1.0);
        ((sine(self.low) * LOW_PEAK + sine(self.high) * HIGH_PEAK) * edge) as i16
    }
}

/// 100 ms: detectors want 40 (ITU-T Q.24), and networks shorten.
pub const TONE: Duration = Duration::from_millis(100);

/// One minute, as telephone events.
const TONE_MAX: Duration = Duration::from_secs(60);

/// 60 ms: detectors want 40 (ITU-T Q.24).
const SILENCE: Duration = Duration::from_millis(60);

/// 2 ms.
const RAMP_MS: u32 = 2;

/// -8 dBm0: 0 dBm0 is a sine 3.17 dB below the largest that G.711 has (ITU-T G.711, table 5), a peak of 22,750.
const HIGH_PEAK: f64 = 9057.0;

/// -10 dBm0: lines lose more of what is high, so it begins 2 dB above.
const LOW_PEAK: f64 = 7194.0;

/// 32, as telephone events: a number with its area code and a PIN.
const PRESSES_MAX: usize = 32;
