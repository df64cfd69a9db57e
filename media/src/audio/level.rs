//! How loud speech is, and whether it is cut off: what a recogniser makes of it.

/// Measures one direction of a call.
#[derive(Debug, Default, Clone, Copy)]
pub struct Level {
    /// Squares of the samples of stretches in which somebody speaks.
    energy: u64,
    spoken: u64,
    /// Samples at the limit.
    clipped: u64,
    samples: u64,
}

impl Level {
    /// Takes a stretch of 10 to 60 ms. It counts as speech as a whole or not at all.
    pub fn handle(&mut self, samples: &[i16]) {
        let (mut energy, mut clipped, count) = (0u64, 0u64, samples.len() as u64);
        for chunk in samples.chunks(CHUNK) {
            // No sum of a chunk can wrap; without checks of it the compiler adds many samples at once.
            let squares = chunk.iter().fold(0u32, |sum, sample| {
                let sample = i32::from(*sample);
                // What is lost of a square is no speech.
                sum.wrapping_add(sample.wrapping_mul(sample) as u32 >> 8)
            });
            let at_limit = |sample: &i16| u16::from(sample.unsigned_abs() >= CLIPPED);
            energy += u64::from(squares) << 8;
            clipped += u64::from(chunk.iter().fold(0u16, |sum, sample| sum.wrapping_add(at_limit(sample))));
        }
        self.samples += count;
        self.clipped += clipped;
        if count > 0 && energy / count >= SPEECH_POWER {
            self.energy = self.energy.saturating_add(energy);
            self.spoken += count;
        }
    }

    /// The mean level of what was spoken, in dB below overload (dBov): -26 is usual, above -15 is too loud, below -35 too
    /// soft. `None` where nobody has spoken.
    pub fn speech_dbov(&self) -> Option<f64> {
        if self.spoken == 0 {
            return None;
        }
        let power = self.energy as f64 / self.spoken as f64;
        Some(10.0 * (power / (32_768.0 * 32_768.0)).log10())
    }

    /// The part of all samples that is at the limit, 0 to 1. Speech that is not cut off has less than one in 10,000.
    pub fn clipped(&self) -> f64 {
        if self.samples == 0 { 0.0 } else { self.clipped as f64 / self.samples as f64 }
    }
}

/// The mean square of a stretch; zero where there is none.
pub fn power(samples: &[i16]) -> f32 {
    let energy: f32 = samples.iter().map(|sample| f32::from(*sample).powi(2)).sum();
    energy / samples.len().max(1) as f32
}

/// The loudest code of G.711 is 32,124 in µ-law and 32,256 in A-law, the next below 31,100 and 31,232.
const CLIPPED: u16 = 32_000;

/// 512 squares of at most 2^22, by 256ths, are 2^31 and fit 32 bits.
const CHUNK: usize = 512;

/// −45 dBov, an amplitude of 184: softer is a room, not speech.
const SPEECH_POWER: u64 = 184 * 184;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_and_room_noise_do_not_make_speech_softer() {
        let mut level = Level::default();
        assert_eq!(level.speech_dbov(), None);
        let tone =
            |amplitude: f32| -> Vec<i16> { (0..160).map(|at| (amplitude * (at as f32 * 0.4).sin()) as i16).collect() };
        for _ in 0..50 {
            level.handle(&tone(2322.0));
            level.handle(&[100; 160]);
            level.handle(&[0; 160]);
        }
        // A sine of 2,322 has 23 dB less than overload, and 3 dB less again for its power.
        let dbov = level.speech_dbov().expect("speech");
        assert!((dbov + 26.0).abs() < 0.3, "{dbov}");
        assert_eq!(level.clipped(), 0.0);
    }

    #[test]
    fn the_loudest_that_there_is_overflows_nothing() {
        let mut level = Level::default();
        level.handle(&[i16::MIN; 3 * CHUNK + 1]);
        assert_eq!((level.speech_dbov(), level.clipped()), (Some(0.0), 1.0));
    }

    #[test]
    fn what_is_cut_off_is_counted_in_either_law() {
        for code in [32_124, -32_124, 32_256, i16::MAX, i16::MIN] {
            let mut level = Level::default();
            level.handle(&[code, 31_100, 0, 0]);
            assert_eq!(level.clipped(), 0.25, "{code}");
        }
    }
}
