//! Whether a trunk is there: OPTIONS at an interval (RFC 3261 §11), any response is a sign of life.

use std::time::{Duration, Instant};

/// One trunk's health.
#[derive(Debug)]
pub(super) struct Health {
    interval: Duration,
    due: Instant,
    /// The question that waits for its answer.
    asked_at: Option<Instant>,
    unanswered: u32,
    is_reachable: Option<bool>,
    rtt: Option<Duration>,
}

impl Health {
    /// Asks every `interval`, from `now` on; `None` for a trunk that is never asked.
    pub(super) fn new(interval_s: u32, now: Instant) -> Option<Self> {
        let interval = Duration::from_secs(interval_s.into());
        let health = Health { interval, due: now, asked_at: None, unanswered: 0, is_reachable: None, rtt: None };
        (interval_s > 0).then_some(health)
    }

    /// When OPTIONS is to be sent; never while one waits.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.asked_at.is_none().then_some(self.due)
    }

    /// OPTIONS has been sent.
    pub(super) fn handle_sent(&mut self, now: Instant) {
        self.asked_at = Some(now);
        self.due = now + self.interval;
    }

    /// It was answered, whatever the answer says.
    pub(super) fn handle_answered(&mut self, now: Instant) {
        self.rtt = self.asked_at.take().map(|at| now.saturating_duration_since(at));
        self.unanswered = 0;
        self.is_reachable = Some(true);
    }

    /// Nothing came, or it could not be sent; the third in a row means that the trunk is not there.
    pub(super) fn handle_unanswered(&mut self, now: Instant) {
        self.asked_at = None;
        self.due = self.due.max(now);
        self.unanswered += 1;
        if self.unanswered >= UNANSWERED_MAX {
            self.is_reachable = Some(false);
            self.rtt = None;
        }
    }

    /// Whether it is there; `None` before the first answer, and until three went without one.
    pub(super) fn is_reachable(&self) -> Option<bool> {
        self.is_reachable
    }

    /// How long the last answer took.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }
}

/// 3 (`trunks`): with the transaction's own retransmissions 33 lost datagrams.
const UNANSWERED_MAX: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_unanswered_questions_make_a_trunk_unreachable_and_one_answer_brings_it_back() {
        let mut now = Instant::now();
        let mut health = Health::new(60, now).expect("asked");
        for (unanswered, is_reachable) in [(1, None), (2, None), (3, Some(false)), (4, Some(false))] {
            assert_eq!(health.poll_timeout(), Some(now), "{unanswered}");
            health.handle_sent(now);
            assert_eq!(health.poll_timeout(), None, "one at a time");
            health.handle_unanswered(now + Duration::from_secs(32));
            assert_eq!(health.is_reachable(), is_reachable, "{unanswered}");
            now += Duration::from_secs(60);
        }
        health.handle_sent(now);
        health.handle_answered(now + Duration::from_millis(25));
        assert_eq!((health.is_reachable(), health.rtt()), (Some(true), Some(Duration::from_millis(25))));
        assert_eq!(health.poll_timeout(), Some(now + Duration::from_secs(60)));
        // Two losses are the network's.
        for _ in 0..2 {
            now += Duration::from_secs(60);
            health.handle_sent(now);
            health.handle_unanswered(now);
        }
        assert_eq!(health.is_reachable(), Some(true));
    }

    #[test]
    fn a_trunk_that_is_never_asked_has_no_health() {
        assert!(Health::new(0, Instant::now()).is_none());
    }
}
