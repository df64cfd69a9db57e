//! Whether somebody speaks: an energy gate, a neural detector behind it, and tones told from voices.
//!
//! ```text
//!   every 16 ms: level ─▶ gate: noise floor + 6 dB ─▶ 16 kHz ─▶ neural detector ─▶ tones are none ─▶ hysteresis
//!                          └ shut: nothing more is computed           score 0 to 1
//! ```
//!
//! A voice has begun with three hops that sound like one, and ended with 192 ms of none. What came just before
//! the gate opened is heard again by the detector, so that a voice is told from its first sound on.
//!
//! Every neural detector calls a ringing tone speech. A tone can be foretold from what came before it, a voice cannot:
//! `tonality` tells them apart.

mod gate;
mod tonality;

use std::fmt;
use std::time::Duration;

use earshot::Detector;

use super::convert::RateConverter;
use super::frame::SampleRate;
use super::level::power;
use gate::Gate;
use tonality::Tonality;

/// Listens to one direction of a call.
pub struct VoiceDetector {
    gate: Gate,
    rate: SampleRate,
    /// The last hops at the line's rate, the latest last and not yet whole.
    recent: Vec<i16>,
    /// Samples of the hop that is not yet whole.
    fresh: usize,
    rates: RateConverter,
    wide: Vec<i16>,
    detector: Box<Detector>,
    tonality: Tonality,
    run: Run,
}

/// What the last hops sounded like.
#[derive(Debug, Default)]
struct Run {
    is_voice: bool,
    /// Those that sound like a voice, with no others between them but a single one that could be a tone.
    voiced: u32,
    /// Those in a row that sound like a tone.
    toned: u32,
    /// Those since the last that sounded like a voice.
    quiet: u32,
    /// All that sounded like a voice since it began, and those of them that nothing else sounds like.
    sounded: u32,
    certain: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sound {
    Voice { is_certain: bool },
    Tone { is_certain: bool },
    Neither,
}

impl fmt::Debug for VoiceDetector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VoiceDetector({:?}, {:?})", self.run, self.gate)
    }
}

impl Default for VoiceDetector {
    fn default() -> Self {
        VoiceDetector::new()
    }
}

impl VoiceDetector {
    /// Begins in silence.
    pub fn new() -> Self {
        let rate = SampleRate::Hz8000;
        VoiceDetector {
            gate: Gate::default(),
            rate,
            recent: vec![0; RECENT_HOPS * hop(rate)],
            fresh: 0,
            rates: RateConverter::new(SampleRate::Hz16000),
            wide: Vec::with_capacity(HOP),
            detector: Detector::default_boxed(),
            tonality: Tonality::default(),
            run: Run::default(),
        }
    }

    /// Hears the next stretch, of any length. Of our own sound this much may come back with it, as a mean square: what is
    /// not 6 dB louder is not listened to.
    pub fn handle_audio(&mut self, rate: SampleRate, mut samples: &[i16], echo: f32) {
        if rate != self.rate {
            self.set_rate(rate);
        }
        let hop = hop(rate);
        while !samples.is_empty() {
            let (taken, rest) = samples.split_at(samples.len().min(hop - self.fresh));
            samples = rest;
            let at = self.recent.len() - hop + self.fresh;
            self.recent[at..at + taken.len()].copy_from_slice(taken);
            self.fresh += taken.len();
            if self.fresh == hop {
                let sound = self.judge(hop, echo);
                self.run.count(sound);
                self.recent.copy_within(hop.., 0);
                self.fresh = 0;
            }
        }
    }

    /// Tells whether somebody speaks, as of the last whole hop.
    pub fn is_voice(&self) -> bool {
        self.run.is_voice
    }

    /// How long the voice that is heard has sounded so far, without its pauses; zero while there is none.
    pub fn sounded(&self) -> Duration {
        HOP_TIME * if self.run.is_voice { self.run.sounded } else { 0 }
    }

    /// How much of it nothing but a voice sounds like: a cough has next to none.
    pub fn certain(&self) -> Duration {
        HOP_TIME * if self.run.is_voice { self.run.certain } else { 0 }
    }

    /// Nothing has been heard for a while: what comes next has no beginning before it. The noise floor stays.
    pub fn forget(&mut self) {
        self.run = Run::default();
        self.gate.shut();
        self.set_rate(self.rate);
    }

    fn set_rate(&mut self, rate: SampleRate) {
        self.rate = rate;
        self.fresh = 0;
        self.recent.clear();
        self.recent.resize(RECENT_HOPS * hop(rate), 0);
    }

    /// Judges the hop that has just become whole.
    fn judge(&mut self, hop: usize, echo: f32) -> Sound {
        let last = self.recent.len() - hop;
        let was_open = self.gate.is_open();
        let stands_out = self.gate.handle(power(&self.recent[last..]), echo);
        if !self.gate.is_open() {
            return Sound::Neither;
        }
        let from = if was_open { last } else { 0 };
        if !was_open {
            self.detector.reset();
        }
        let mut score = 0.0;
        for heard in self.recent[from..].chunks_exact(hop) {
            self.wide.clear();
            self.rates.append(self.rate, heard, &mut self.wide);
            self.tonality.handle(&self.wide);
            score = self.detector.predict_i16(&self.wide);
        }
        match stands_out && score >= SCORE_MIN {
            false => Sound::Neither,
            true if self.tonality.is_tone() => Sound::Tone { is_certain: score >= SCORE_CERTAIN },
            true => Sound::Voice { is_certain: score >= SCORE_CERTAIN },
        }
    }
}

impl Run {
    fn count(&mut self, sound: Sound) {
        self.toned = if matches!(sound, Sound::Tone { .. }) { self.toned.saturating_add(1) } else { 0 };
        self.quiet = self.quiet.saturating_add(1);
        match sound {
            Sound::Voice { is_certain } => self.sound(is_certain),
            Sound::Tone { is_certain } if self.is_voice && self.toned <= VOWEL_HOPS_MAX => self.sound(is_certain),
            Sound::Tone { .. } if self.toned <= TONED_HOPS_MAX => {}
            Sound::Tone { .. } | Sound::Neither => self.voiced = 0,
        }
        self.is_voice = if self.is_voice { self.quiet < QUIET_HOPS } else { self.voiced >= VOICED_HOPS };
        if !self.is_voice && self.voiced == 0 {
            (self.sounded, self.certain) = (0, 0);
        }
    }

    /// One more hop of a voice.
    fn sound(&mut self, is_certain: bool) {
        self.quiet = 0;
        self.voiced = self.voiced.saturating_add(1);
        self.sounded = self.sounded.saturating_add(1);
        self.certain = self.certain.saturating_add(is_certain.into());
    }
}

/// Samples of a hop at a rate.
fn hop(rate: SampleRate) -> usize {
    HOP_TICKS * rate.tick_samples()
}

/// A hop's length.
const HOP_TIME: Duration = Duration::from_millis(16);

/// 16 ms in ticks of 125 µs: what the detector is trained for.
const HOP_TICKS: usize = 128;

/// 16 ms at 16 kHz.
const HOP: usize = 256;

/// 5 hops, 80 ms: what the detector looks back on (48 ms), and the first of an onset that was too soft for the gate.
const RECENT_HOPS: usize = 5;

/// Of 0 to 1. A line's noise scores up to 0.4, which the gate keeps away; the first 60 ms of a word score 0.4 to 0.6.
const SCORE_MIN: f32 = 0.45;

/// Vowels of most voices score so; coughs, breath and knocks hardly ever.
const SCORE_CERTAIN: f32 = 0.65;

/// 3 hops, 48 ms: a click scores in two, because the detector's window is 48 ms long.
const VOICED_HOPS: u32 = 3;

/// One hop: the beginning of a word has such a one now and then, a tone has nothing else.
const TONED_HOPS_MAX: u32 = 1;

/// 8 hops, 128 ms: so long a vowel of a voice that has begun may be held.
const VOWEL_HOPS_MAX: u32 = 8;

/// 12 hops, 192 ms: longer than the closure of any consonant, shorter than a pause between sentences.
const QUIET_HOPS: u32 = 12;

#[cfg(test)]
mod tests;
