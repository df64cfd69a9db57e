//! Concealment of lost G.711: the last pitch period again, fading to soft noise within 60 ms.

/// Remembers what was heard and makes up what was lost.
#[derive(Debug)]
pub struct Concealer {
    /// Samples of the signal for one of 8 kHz.
    scale: usize,
    history: Vec<i16>,
    /// Where the next sample is read from; meaningful while concealing.
    read: usize,
    period: usize,
    concealed: usize,
    noise: Noise,
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
        let history = vec![0; HISTORY * scale];
        Concealer { scale, history, read: 0, period: PERIOD_MAX * scale, concealed: 0, noise: Noise::default() }
    }

    /// Remembers audio that was received.
    pub fn handle_received(&mut self, samples: &[i16]) {
        self.concealed = 0;
        let length = self.history.len();
        let keep = &samples[samples.len().saturating_sub(length)..];
        self.history.copy_within(keep.len().., 0);
        self.history[length - keep.len()..].copy_from_slice(keep);
    }

    /// Appends `count` samples in place of what was not sent (RFC 3389), as soft as a live line.
    pub fn pause(&mut self, count: usize, samples: &mut Vec<i16>) {
        samples.extend((0..count).map(|_| self.noise.next_sample()));
    }

    /// Appends `count` samples in place of lost ones. After [`FADE`] in a row only noise comes.
    pub fn conceal(&mut self, count: usize, samples: &mut Vec<i16>) {
        let fade = FADE * self.scale;
        for _ in 0..count {
            let noise = self.noise.next_sample();
            if self.concealed >= fade {
                samples.push(noise);
                continue;
            }
            if self.concealed == 0 {
                self.period = pitch_period(&self.history, self.scale);
                self.read = 0;
            }
            let sample = self.history[self.history.len() - self.period + self.read];
            self.read = (self.read + 1) % self.period;
            let gain = (fade - self.concealed) as i32;
            let noise = i32::from(noise) * self.concealed as i32;
            samples.push(((i32::from(sample) * gain + noise) / fade as i32) as i16);
            self.concealed += 1;
        }
    }
}

/// The lag at which the history looks most like its own end.
fn pitch_period(history: &[i16], scale: usize) -> usize {
    let (length, template_length) = (history.len(), TEMPLATE * scale);
    let template = &history[length - template_length..];
    let mut best = (PERIOD_MAX * scale, 0.0_f32);
    for lag in PERIOD_MIN * scale..=PERIOD_MAX * scale {
        let earlier = &history[length - template_length - lag..length - lag];
        let (mut product, mut energy) = (0.0_f32, 1.0_f32);
        for (a, b) in template.iter().zip(earlier) {
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

/// Template and longest lag: 35 ms.
const HISTORY: usize = TEMPLATE + PERIOD_MAX;

/// 60 ms: past it a repeated period sounds like a machine.
pub const FADE: usize = 480;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_tone_goes_on_in_phase_and_fades() {
        let tone = |at: usize| (8000.0 * (at as f32 * 2.0 * std::f32::consts::PI / 80.0).sin()) as i16;
        let heard: Vec<i16> = (0..800).map(tone).collect();
        let mut concealer = Concealer::default();
        concealer.handle_received(&heard);
        let mut made = Vec::new();
        concealer.conceal(800, &mut made);
        for (at, sample) in made[..FADE].iter().enumerate() {
            let expected = i32::from(tone(800 + at)) * (FADE - at) as i32 / FADE as i32;
            assert!((i32::from(*sample) - expected).abs() < 100, "sample {at}: {sample}, not {expected}");
        }
        assert!(made[FADE..].iter().all(|sample| sample.unsigned_abs() <= 16));
        assert!(made[FADE..].iter().any(|sample| *sample != 0), "noise, not digital silence");
    }

    #[test]
    fn loss_before_any_sound_and_a_pause_are_no_more_than_noise() {
        let (mut concealer, mut made) = (Concealer::default(), Vec::new());
        concealer.conceal(160, &mut made);
        concealer.pause(160, &mut made);
        assert_eq!(made.len(), 320);
        assert!(made.iter().all(|sample| sample.unsigned_abs() <= 16));
    }

    #[test]
    fn sound_after_a_loss_begins_a_fade_of_its_own() {
        let mut concealer = Concealer::default();
        let mut made = Vec::new();
        concealer.handle_received(&[1000; HISTORY]);
        concealer.conceal(1000, &mut made);
        concealer.handle_received(&[1000; 160]);
        made.clear();
        concealer.conceal(1, &mut made);
        assert_eq!(made, [1000]);
    }
}
