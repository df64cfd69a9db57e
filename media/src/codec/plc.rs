//! Concealment of lost waveform audio (G.711, G.722) by pitch repetition, in the manner of G.711 Appendix I.
//!
//! ```text
//!   received ──┤ the last pitch period, again and again │ two of them │ three of them … │ noise
//!              │◀──────────── 10 ms ──────────▶│◀─ 10 ─▶│◀──── 40 ms, fading ────▶│
//!   received again: it fades in over what would have gone on
//! ```
//!
//! It differs from the appendix in one thing: nothing is held back to smooth the beginning of a loss. The step there is
//! spread over a quarter of a period instead, which costs no delay.
//!
//! # How well it does
//! See `gateway/tests/quality/plc.py`, which scores it with PLCMOS.

/// Remembers what was heard and makes up what was lost.
#[derive(Debug)]
pub struct Concealer {
    /// Samples of 8 kHz in one of the signal's.
    scale: usize,
    history: Vec<i16>,
    period: usize,
    /// Samples made up since something was last received.
    concealed: usize,
    /// What is repeated, and what was before the last change.
    reader: Reader,
    former: Option<Reader>,
    /// The step where the loss began.
    step: f32,
    noise: Noise,
}

/// A stretch of whole pitch periods, and the place in it.
#[derive(Debug, Clone, Copy, Default)]
struct Reader {
    periods: usize,
    at: usize,
    /// Samples read since the beginning.
    read: usize,
}

/// Soft white noise of ±16 steps, about −69 dBov: a live line, softer than a quiet room.
#[derive(Debug)]
pub struct Noise(u32);

impl Default for Noise {
    fn default() -> Self {
        Noise(0x2545_f491)
    }
}

impl Noise {
    /// The next sample.
    pub fn next_sample(&mut self) -> i16 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        (self.0 % 33) as i16 - 16
    }
}

impl Default for Concealer {
    fn default() -> Self {
        Concealer::new(8000)
    }
}

impl Concealer {
    /// Has heard nothing yet. `sample_rate` is a multiple of 8,000.
    pub fn new(sample_rate: u32) -> Self {
        let scale = (sample_rate as usize / 8000).max(1);
        Concealer {
            scale,
            history: vec![0; HISTORY * scale],
            period: PERIOD_MAX * scale,
            concealed: 0,
            reader: Reader::default(),
            former: None,
            step: 0.0,
            noise: Noise::default(),
        }
    }

    /// Remembers audio that was received. Behind a loss its beginning is changed, so that it joins on to what was made
    /// up; returns whether it was.
    pub fn handle_received(&mut self, samples: &mut [i16]) -> bool {
        let is_joined = self.concealed > 0 && !samples.is_empty();
        if is_joined {
            self.join(samples);
        }
        self.concealed = 0;
        let length = self.history.len();
        let keep = &samples[samples.len().saturating_sub(length)..];
        self.history.copy_within(keep.len().., 0);
        self.history[length - keep.len()..].copy_from_slice(keep);
        is_joined
    }

    /// Appends `count` samples in place of what was not sent (RFC 3389), as soft as a live line.
    pub fn pause(&mut self, count: usize, samples: &mut Vec<i16>) {
        samples.extend((0..count).map(|_| self.noise.next_sample()));
    }

    /// Appends `count` samples in place of lost ones. After [`FADE`] in a row only noise comes.
    pub fn conceal(&mut self, count: usize, samples: &mut Vec<i16>) {
        samples.extend((0..count).map(|_| self.next_sample()));
    }

    /// Tells whether what is made up has faded away.
    pub fn is_silent(&self) -> bool {
        self.concealed >= FADE * self.scale
    }

    fn next_sample(&mut self) -> i16 {
        let noise = self.noise.next_sample();
        let at = self.concealed / self.scale;
        if at >= FADE {
            // Not counted on: an hour of loss is as faded as a second.
            return noise;
        }
        if self.concealed == 0 {
            self.begin();
        } else if self.concealed.is_multiple_of(STRETCH * self.scale) && self.reader.periods < PERIODS_MAX {
            let at = self.reader.at % self.period;
            self.former = Some(self.reader);
            self.reader = Reader { periods: self.reader.periods + 1, at, read: 0 };
        }
        let sample = self.read();
        let gain = if at < HOLD { 1.0 } else { (FADE - at) as f32 / (FADE - HOLD) as f32 };
        self.concealed += 1;
        (sample * gain + f32::from(noise) * (1.0 - gain)) as i16
    }

    fn begin(&mut self) {
        self.period = pitch_period(&self.history, self.scale);
        let length = self.history.len();
        let before = |at: usize| f32::from(self.history[at - 1]);
        self.step = before(length) - before(length - self.period);
        self.reader = Reader { periods: 1, at: 0, read: 0 };
        self.former = None;
    }

    /// The next sample of the repetition, at full volume.
    fn read(&mut self) -> f32 {
        let quarter = self.period / 4;
        let mut sample = self.look(self.reader);
        if let Some(former) = self.former {
            if self.reader.read < quarter {
                let part = self.reader.read as f32 / quarter as f32;
                sample = sample * part + self.look(former) * (1.0 - part);
                self.former = Some(self.advanced(former));
            } else {
                self.former = None;
            }
        }
        if self.concealed < quarter {
            sample += self.step * (1.0 - self.concealed as f32 / quarter as f32);
        }
        self.reader = self.advanced(self.reader);
        sample.clamp(f32::from(i16::MIN), f32::from(i16::MAX))
    }

    /// Towards its end a stretch becomes what lies before its beginning, so that it can begin again.
    fn look(&self, reader: Reader) -> f32 {
        let (length, quarter) = (self.period * reader.periods, self.period / 4);
        let begin = self.history.len() - length;
        let sample = f32::from(self.history[begin + reader.at]);
        let Some(over) = reader.at.checked_sub(length - quarter) else { return sample };
        let part = (over + 1) as f32 / quarter as f32;
        sample * (1.0 - part) + f32::from(self.history[begin - quarter + over]) * part
    }

    fn advanced(&self, reader: Reader) -> Reader {
        Reader { at: (reader.at + 1) % (self.period * reader.periods), read: reader.read + 1, ..reader }
    }

    /// What was made up goes on beneath the beginning of what is received, the longer the loss the longer.
    fn join(&mut self, samples: &mut [i16]) {
        let lost = self.concealed / (STRETCH * self.scale);
        let length = (self.period / 4 + lost.saturating_sub(1) * JOIN_STEP * self.scale).min(STRETCH * self.scale);
        let length = length.min(samples.len());
        for (at, sample) in samples[..length].iter_mut().enumerate() {
            let part = (at + 1) as f32 / (length + 1) as f32;
            let made_up = f32::from(self.next_sample());
            *sample = (f32::from(*sample) * part + made_up * (1.0 - part)) as i16;
        }
    }
}

/// The lag at which the history looks most like its own end. Every second sample of 8 kHz first, then all around it.
fn pitch_period(history: &[i16], scale: usize) -> usize {
    let stride = 2 * scale;
    let (least, most) = (PERIOD_MIN * scale, PERIOD_MAX * scale);
    let coarse = best_lag(history, TEMPLATE * scale, (least..=most).step_by(stride), stride);
    let around = coarse.saturating_sub(stride - 1).max(least)..=(coarse + stride - 1).min(most);
    best_lag(history, TEMPLATE * scale, around, 1)
}

fn best_lag(history: &[i16], template: usize, lags: impl Iterator<Item = usize>, stride: usize) -> usize {
    let length = history.len();
    let end = &history[length - template..];
    let mut best = (0, f32::MIN);
    for lag in lags {
        let earlier = &history[length - template - lag..length - lag];
        let (mut product, mut energy) = (0.0_f32, 1.0_f32);
        for (a, b) in end.iter().step_by(stride).zip(earlier.iter().step_by(stride)) {
            product += f32::from(*a) * f32::from(*b);
            energy += f32::from(*b) * f32::from(*b);
        }
        let likeness = product / energy.sqrt();
        if likeness > best.1 {
            best = (lag, likeness);
        }
    }
    best.0
}

/// 5 ms, a voice of 200 Hz; shorter periods are found as their multiples.
const PERIOD_MIN: usize = 40;

/// 15 ms, a voice of 66 Hz: the lowest pitch of G.711 Appendix I.
const PERIOD_MAX: usize = 120;

/// 20 ms are compared.
const TEMPLATE: usize = 160;

/// Three of the longest periods and a quarter: 48.75 ms, as in G.711 Appendix I.
const HISTORY: usize = PERIODS_MAX * PERIOD_MAX + PERIOD_MAX / 4;

/// One period alone, repeated for 60 ms, is a buzz.
const PERIODS_MAX: usize = 3;

/// 10 ms: so long one stretch is repeated before it is made longer.
const STRETCH: usize = 80;

/// 10 ms at full volume: most losses are one packet, and half of it then.
const HOLD: usize = 80;

/// 60 ms: past it a repeated period sounds like a machine.
pub const FADE: usize = 480;

/// 4 ms more for every 10 ms lost, as in G.711 Appendix I.
const JOIN_STEP: usize = 32;

#[cfg(test)]
mod tests;
