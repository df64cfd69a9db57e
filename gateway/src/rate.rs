//! How many calls a trunk takes within a second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Lets at most so many calls pass in any second, wherever the second begins.
#[derive(Debug, Default)]
pub struct Rate {
    /// When the last calls passed, the oldest first.
    passed: VecDeque<Instant>,
}

impl Rate {
    /// Tells whether a call may pass now, with `per_second` of them allowed; one that may is counted.
    pub fn pass(&mut self, per_second: u32, now: Instant) -> bool {
        let per_second = per_second.min(PER_SECOND_MAX) as usize;
        while self.passed.front().is_some_and(|at| now.saturating_duration_since(*at) >= SECOND) {
            self.passed.pop_front();
        }
        let has_room = self.passed.len() < per_second;
        if has_room {
            self.passed.push_back(now);
        }
        has_room
    }
}

/// What providers count by. A bucket that refills would let twice as many through around a burst.
const SECOND: Duration = Duration::from_secs(1);

/// As `TrunkPolicy::calls_per_second` allows: 1,000 instants of 16 bytes.
const PER_SECOND_MAX: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_calls_than_it_may_wherever_it_begins() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        let passed: Vec<u64> =
            (0..3000).step_by(50).filter(|ms| rate.pass(3, start + Duration::from_millis(*ms))).collect();
        assert_eq!(passed, [0, 50, 100, 1000, 1050, 1100, 2000, 2050, 2100]);
        for from in 0..2000 {
            let within = passed.iter().filter(|at| (from..from + 1000).contains(*at)).count();
            assert!(within <= 3, "{within} from {from} ms");
        }
    }

    #[test]
    fn a_lower_limit_holds_from_the_next_call_on() {
        let (mut rate, now) = (Rate::default(), Instant::now());
        assert!((0..5).all(|_| rate.pass(5, now)));
        assert!(!rate.pass(2, now + Duration::from_millis(999)));
        assert!(rate.pass(2, now + SECOND));
    }
}
