//! What follows an attempt: a pure function of the answer, the attempts made and the time.

use std::time::Duration;

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// There was an answer.
    Answered {
        /// Its HTTP status.
        status: u16,
        /// For how long it asks us to stay away.
        retry_after: Option<Duration>,
    },
    /// There was none: no address, no connection, no answer in time.
    Unanswered,
}

/// What is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It has arrived.
    Delivered,
    /// It is tried again at this time.
    Again {
        /// Milliseconds since the epoch.
        at_ms: i64,
    },
    /// It is given up; later events of the call go on.
    GiveUp,
    /// The receiver is gone for good: the hook is turned off.
    Disable,
}

/// Decides. `attempts` counts those made, this one included; `seed` chooses the jitter.
pub fn plan(attempt: Attempt, attempts: u32, seed: u64, now_ms: i64) -> Step {
    let retry_after = match attempt {
        Attempt::Answered { status: 200..=299, .. } => return Step::Delivered,
        Attempt::Answered { status: 410, .. } => return Step::Disable,
        Attempt::Answered { retry_after, .. } => retry_after.unwrap_or_default().min(RETRY_AFTER_MAX),
        Attempt::Unanswered => Duration::ZERO,
    };
    let Some(wait) = LADDER.get(attempts.saturating_sub(1) as usize) else { return Step::GiveUp };
    let ours = jittered(*wait, seed);
    // Whoever asks for a pause gets all of it: jitter only adds to what was asked.
    let theirs = retry_after + ours.saturating_sub(*wait);
    Step::Again { at_ms: now_ms + ours.max(theirs).as_millis() as i64 }
}

/// Reads the header `Retry-After`: seconds, or a date.
pub fn retry_after(text: &str, now_ms: i64) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::from_millis(u64::try_from(at.as_millisecond() - now_ms).unwrap_or(0)))
}

/// Tells whether a hook that has failed for so long is turned off.
pub fn has_failed_too_long(since_ms: i64, now_ms: i64) -> bool {
    now_ms - since_ms >= FAILING_MAX.as_millis() as i64
}

/// Between 90 and 110 % of `wait`, so that what failed together does not come back together.
fn jittered(wait: Duration, seed: u64) -> Duration {
    let permille = 900 + (seed % 201) as u32;
    wait * permille / 1000
}

/// Standard Webhooks' ladder: ten attempts over three days, the first at once.
const LADDER: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(14 * 3600),
    Duration::from_secs(20 * 3600),
    Duration::from_secs(24 * 3600),
];

/// 24 h: a longer pause is asked for by mistake, and events older than three days help nobody.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// Three days, as long as the ladder.
const FAILING_MAX: Duration = Duration::from_secs(3 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_is_down_is_tried_ten_times_over_three_days() {
        for seed in [0, 100, 200, u64::MAX] {
            let mut now_ms = 0;
            let mut tried_at_s = vec![0];
            for attempts in 1.. {
                match plan(Attempt::Unanswered, attempts, seed, now_ms) {
                    Step::Again { at_ms } => {
                        now_ms = at_ms;
                        tried_at_s.push(at_ms / 1000);
                    }
                    step => {
                        assert_eq!(step, Step::GiveUp);
                        break;
                    }
                }
            }
            let exact = [0, 5, 305, 2105, 9305, 27_305, 63_305, 113_705, 185_705, 272_105];
            assert_eq!(tried_at_s.len(), exact.len());
            for (tried, exact) in tried_at_s.into_iter().zip(exact) {
                assert!((tried - exact).abs() <= exact / 10 + 1, "{tried} for {exact}");
            }
        }
    }

    #[test]
    fn each_answer_has_its_step() {
        let answered = |status| Attempt::Answered { status, retry_after: None };
        for status in [200, 201, 204, 299] {
            assert_eq!(plan(answered(status), 1, 100, 0), Step::Delivered, "{status}");
        }
        assert_eq!(plan(answered(410), 1, 100, 0), Step::Disable);
        for status in [101, 301, 302, 307, 308, 400, 401, 404, 429, 500, 502, 503, 504, 599] {
            assert_eq!(plan(answered(status), 1, 100, 1000), Step::Again { at_ms: 6000 }, "{status}");
        }
        assert_eq!(plan(answered(500), 10, 100, 0), Step::GiveUp);
        assert_eq!(plan(answered(200), 10, 100, 0), Step::Delivered);
    }

    #[test]
    fn a_pause_that_is_asked_for_is_kept_and_never_shortens_ours() {
        let asked = |seconds| Attempt::Answered { status: 503, retry_after: Some(Duration::from_secs(seconds)) };
        let at = |attempt, attempts, seed| match plan(attempt, attempts, seed, 0) {
            Step::Again { at_ms } => at_ms / 1000,
            step => panic!("{step:?}"),
        };
        assert_eq!(at(asked(60), 1, 100), 60);
        assert!(at(asked(60), 1, 0) >= 60, "jitter does not come too early");
        assert_eq!(at(asked(1), 1, 100), 5);
        assert_eq!(at(asked(60), 2, 100), 300);
        assert_eq!(at(asked(u64::MAX), 1, 100), 24 * 3600);
    }

    #[test]
    fn a_pause_is_seconds_or_a_date() {
        let now_ms = 1_445_412_475_000;
        for (text, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(5)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, now_ms), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn three_days_of_failures_are_too_long() {
        let day_ms = 24 * 3_600_000;
        assert!(!has_failed_too_long(1, 3 * day_ms));
        assert!(has_failed_too_long(0, 3 * day_ms));
    }
}
