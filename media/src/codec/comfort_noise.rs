//! Comfort noise as a payload (RFC 3389): how loud the far end's room is while it sends nothing.
//!
//! The first octet is the level in −dBov, 0 to 127; octets behind it would shape the spectrum. White noise of the right
//! level is what a telephone line carries, so the shape is not read.
//!
//! It is offered beside G.711 and heard, never sent: while an agent is silent the box goes on with soft noise in the codec
//! itself, because a far end that waits for our packets to learn where we are must get some (RFC 6263).

/// Makes noise of a level.
#[derive(Debug, Clone)]
pub struct ComfortNoise {
    /// The largest sample.
    peak: i32,
    random: u32,
}

impl ComfortNoise {
    /// Noise as a payload describes it; `None` for an empty one, or one whose first bit is set (RFC 3389 §3.1).
    pub fn of_payload(payload: &[u8]) -> Option<Self> {
        let level = *payload.first().filter(|level| **level < 128)?;
        // 0 dBov is the square of full scale; white noise between ±p has the level p / √3.
        let level = level.max(LOUDEST);
        let root = 32_768.0 * 10f32.powf(-f32::from(level) / 20.0);
        // At most 1,795.
        Some(ComfortNoise { peak: (root * 3f32.sqrt()).round() as i32, random: 0x2545_f491 })
    }

    /// Appends so many samples.
    pub fn fill(&mut self, count: usize, samples: &mut Vec<i16>) {
        let span = 2 * self.peak.unsigned_abs() + 1;
        samples.extend((0..count).map(|_| {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 17;
            self.random ^= self.random << 5;
            ((self.random % span) as i32 - self.peak) as i16
        }));
    }
}

/// The static payload type, of the 8 kHz clock (RFC 3389 §4).
pub const PAYLOAD_TYPE: u8 = 13;

/// −30 dBov: no room is louder, and a forged packet does not make one.
const LOUDEST: u8 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_the_level_it_was_said_to_have() {
        for level in [30u8, 45, 60, 70] {
            let mut samples = Vec::new();
            ComfortNoise::of_payload(&[level, 0x80]).expect("noise").fill(16_000, &mut samples);
            let power = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / 16_000.0;
            let heard = -10.0 * (power / 32_768f64.powi(2)).log10();
            assert!((heard - f64::from(level)).abs() < 0.5, "{heard} dB for {level}");
        }
    }

    #[test]
    fn the_loudest_and_the_softest_are_no_noise_and_none() {
        let peak = |level: u8| {
            let mut samples = Vec::new();
            ComfortNoise::of_payload(&[level]).expect("noise").fill(1000, &mut samples);
            samples.iter().map(|sample| sample.unsigned_abs()).max()
        };
        assert_eq!(peak(0), peak(LOUDEST));
        assert_eq!(peak(127), Some(0));
        assert!(ComfortNoise::of_payload(&[]).is_none() && ComfortNoise::of_payload(&[0x80]).is_none());
    }
}
