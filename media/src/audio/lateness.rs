//! How late something comes, as a decaying histogram of milliseconds.

use std::time::Duration;

/// Counts by lateness: from 0 to `BINS` − 2 ms, the last bin for all above.
#[derive(Debug)]
pub(crate) struct Lateness<const BINS: usize> {
    bins: [u16; BINS],
    recorded: u16,
    /// So many are looked back on, and halved then.
    window: u16,
}

impl<const BINS: usize> Lateness<BINS> {
    /// Begins with nothing; `window` counts are looked back on.
    pub(crate) fn new(window: u16) -> Self {
        Lateness { bins: [0; BINS], recorded: 0, window }
    }

    /// Counts one.
    pub(crate) fn record(&mut self, late: Duration) {
        self.record_times(late, 1);
    }

    /// Counts one that weighs as much as so many.
    pub(crate) fn record_times(&mut self, late: Duration, weight: u16) {
        // No histogram reaches to a second.
        let milliseconds = if late.as_secs() == 0 { late.subsec_micros().div_ceil(1000) as usize } else { BINS };
        let bin = milliseconds.min(BINS - 1);
        self.bins[bin] = self.bins[bin].saturating_add(weight);
        self.recorded = self.recorded.saturating_add(weight);
        if self.recorded >= self.window {
            self.bins.iter_mut().for_each(|count| *count /= 2);
            self.recorded = self.bins.iter().fold(0, |sum, count| sum.saturating_add(*count));
        }
    }

    /// What 99 of a hundred do not exceed; nothing before [`SETTLED`] are counted.
    pub(crate) fn p99(&self) -> Duration {
        if self.recorded < SETTLED {
            return Duration::ZERO;
        }
        let mut beyond = self.recorded / 100;
        for (milliseconds, count) in self.bins.iter().enumerate().rev() {
            if *count > beyond {
                return Duration::from_millis(milliseconds as u64);
            }
            beyond -= count;
        }
        Duration::ZERO
    }
}

/// 100 frames, 2 s: fewer have no 99th percentile.
const SETTLED: u16 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_99th_percentile_follows_what_comes_and_forgets_it() {
        let mut lateness = Lateness::<50>::new(200);
        let ms = Duration::from_millis;
        for _ in 0..99 {
            lateness.record(ms(3));
        }
        assert_eq!(lateness.p99(), Duration::ZERO, "not yet settled");
        lateness.record(ms(3));
        assert_eq!(lateness.p99(), ms(3));
        lateness.record_times(ms(700), 10);
        assert_eq!(lateness.p99(), ms(49), "the last bin stands for all above");
        for _ in 0..1000 {
            lateness.record(ms(0));
        }
        assert_eq!(lateness.p99(), Duration::ZERO);
    }
}
