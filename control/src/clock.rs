//! The wall clock, as an argument: expiry is tested without waiting.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Clock::of(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64))
    }

    /// A clock of one's own.
    pub fn of(now_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Clock(Arc::new(now_ms))
    }

    /// Now.
    pub fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

/// `2025-03-10T05:20:39.831Z`.
pub fn iso8601(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

/// `Tue, 30 Jan 2024 13:39:53 +0000`.
pub fn rfc2822(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| String::new(), |at| at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string())
}

/// The start of a `YYYY-MM-DD` in UTC; `None` when it is no date.
pub fn day_start_ms(text: &str) -> Option<i64> {
    let date: jiff::civil::Date = text.parse().ok().filter(|_| text.len() == 10)?;
    jiff::tz::TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok().map(|at| at.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_talkstack_does() {
        assert_eq!(iso8601(1_741_584_039_831), "2025-03-10T05:20:39.831Z");
        assert_eq!(iso8601(1_741_584_039_000), "2025-03-10T05:20:39.000Z");
        assert_eq!(rfc2822(1_706_621_993_000), "Tue, 30 Jan 2024 13:39:53 +0000");
        assert_eq!(day_start_ms("2024-01-30"), Some(1_706_572_800_000));
        for bad in ["2009-0-06", "2024-02-30", "", "2024-01-30T00:00:00"] {
            assert_eq!(day_start_ms(bad), None, "{bad}");
        }
    }
}
