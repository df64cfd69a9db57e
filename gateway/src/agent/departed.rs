//! An agent that has gone while its words were still queued: they are heard to their end, and then the call goes on as its
//! going wants it.

use std::time::Instant;

use super::{AgentLoss, AgentOutput, Progress};

/// Nobody any more, with something left to be heard.
#[derive(Debug)]
pub struct Departed {
    /// No longer than this.
    until: Instant,
    /// Why it is gone; `None`: it has hung up.
    loss: Option<AgentLoss>,
    has_told: bool,
}

impl Departed {
    /// Waits until the queue is empty, or this time has come.
    pub fn new(until: Instant, loss: Option<AgentLoss>) -> Self {
        Departed { until, loss, has_told: false }
    }

    /// What its going comes to, once its words were heard.
    pub fn poll_output(&mut self, progress: Progress, now: Instant) -> Option<AgentOutput<'static>> {
        if self.has_told || (!progress.is_drained() && now < self.until) {
            return None;
        }
        self.has_told = true;
        Some(self.loss.map_or(AgentOutput::HangUp, AgentOutput::Lost))
    }

    /// When nobody listens any longer.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.has_told).then_some(self.until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn its_words_are_heard_to_their_end_but_not_for_ever() {
        let now = Instant::now();
        let half = Progress { pushed: 16_000, played: 8000 };
        let done = Progress { pushed: 16_000, played: 16_000 };
        let mut hung_up = Departed::new(now + Duration::from_secs(10), None);
        assert!(hung_up.poll_output(half, now).is_none());
        assert!(matches!(hung_up.poll_output(done, now), Some(AgentOutput::HangUp)));
        assert!(hung_up.poll_output(done, now).is_none() && hung_up.poll_timeout().is_none(), "once");
        let mut lost = Departed::new(now + Duration::from_secs(10), Some(AgentLoss::Disconnected));
        assert!(lost.poll_output(half, now + Duration::from_millis(9999)).is_none());
        let late = lost.poll_output(half, now + Duration::from_secs(10));
        assert!(matches!(late, Some(AgentOutput::Lost(AgentLoss::Disconnected))));
    }
}
