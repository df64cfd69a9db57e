//! How good a call sounds, by the E-model (ITU-T G.107) from what is known of its packets.
//!
//! R = 93.2 − Id − Ie,eff, where 93.2 is a line with nothing wrong (G.107's defaults), Id what delay takes and Ie,eff what
//! codec and loss take.

use std::time::Duration;

/// What a codec takes from the quality, and how well its concealment bears loss (ITU-T G.113 Appendix I).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Impairment {
    /// Ie: without loss, 0 to 95.
    pub equipment: f64,
    /// Bpl: the higher, the less a loss is heard.
    pub robustness: f64,
}

/// What has become of the packets of one direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Path {
    /// Lost or come too late, of those expected, 0 to 1.
    pub loss: f64,
    /// The mean run of losses over that of as many random ones, from 1 on.
    pub burst_ratio: f64,
    /// From mouth to ear.
    pub delay: Duration,
}

impl Impairment {
    /// G.711 with packet loss concealment.
    pub const G711: Impairment = Impairment { equipment: 0.0, robustness: 25.1 };
    /// G.711 whose losses are silence.
    pub const G711_BARE: Impairment = Impairment { equipment: 0.0, robustness: 4.3 };
}

impl Path {
    /// The transmission rating R, 0 to 93.2.
    pub fn rating(&self, codec: Impairment) -> f64 {
        let percent = 100.0 * self.loss.clamp(0.0, 1.0);
        let bearing = percent / self.burst_ratio.max(1.0) + codec.robustness;
        let equipment = codec.equipment + (95.0 - codec.equipment) * percent / bearing;
        (RATING_MAX - delay_impairment(self.delay) - equipment).clamp(0.0, RATING_MAX)
    }
}

/// The mean opinion score of a rating (G.107 Annex B), 1 to 4.5.
pub fn mos(rating: f64) -> f64 {
    let rating = rating.clamp(0.0, 100.0);
    let mos = 1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6;
    mos.clamp(1.0, 4.5)
}

/// Idd of G.107 §3.4: nothing up to 100 ms.
fn delay_impairment(delay: Duration) -> f64 {
    let times_100_ms = delay.as_secs_f64() / 0.1;
    if times_100_ms <= 1.0 {
        return 0.0;
    }
    let x = times_100_ms.log2();
    let root = |x: f64| (1.0 + x.powi(6)).powf(1.0 / 6.0);
    25.0 * (root(x) - 3.0 * root(x / 3.0) + 2.0)
}

/// G.107: R0 with every parameter at its default, less Is.
const RATING_MAX: f64 = 93.2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_line_has_4_4_and_loss_and_delay_take_from_it_as_g_107_says() {
        let score = |loss: f64, burst_ratio: f64, ms: u64, codec| {
            let path = Path { loss, burst_ratio, delay: Duration::from_millis(ms) };
            (mos(path.rating(codec)) * 100.0).round() / 100.0
        };
        assert_eq!(score(0.0, 1.0, 50, Impairment::G711), 4.41);
        // Ie,eff = 95 · 5 / (5 + 25.1) = 15.8.
        assert_eq!(score(0.05, 1.0, 50, Impairment::G711), 3.92);
        assert_eq!(score(0.2, 1.0, 50, Impairment::G711), 2.63);
        // 95 · 5 / (5 + 4.3) = 51.1.
        assert_eq!(score(0.05, 1.0, 50, Impairment::G711_BARE), 2.17);
        assert!(score(0.05, 3.0, 50, Impairment::G711) < 3.92, "bursts are worse");
        assert!(score(0.0, 1.0, 300, Impairment::G711) < 4.2, "delay is heard");
        assert_eq!(score(1.0, 1.0, 2000, Impairment::G711), 1.0);
    }

    #[test]
    fn more_damage_is_never_a_better_score() {
        let mut last = 5.0;
        for step in 0..=100u32 {
            let path = Path { loss: f64::from(step) / 100.0, burst_ratio: 1.0, delay: Duration::from_millis(100) };
            let now = mos(path.rating(Impairment::G711));
            assert!(now <= last && (1.0..=4.5).contains(&now), "{step} %: {now} behind {last}");
            last = now;
        }
        let delays = [0, 100, 150, 200, 300, 400, 600, 1000].map(|ms| delay_impairment(Duration::from_millis(ms)));
        assert!(delays.is_sorted(), "{delays:?}");
        // G.107 gives 6.9 or so at 250 ms of pure delay; echo is not counted.
        let at_250 = delay_impairment(Duration::from_millis(250));
        assert!((3.0..10.0).contains(&at_250), "{at_250}");
    }
}
