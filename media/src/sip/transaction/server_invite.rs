//! The INVITE server transaction (RFC 3261 §17.2.1, figure 7; RFC 6026 §7.1).
//!
//! ```text
//!             1xx             300–699             ACK            I
//!   Proceeding ──▶ Proceeding ───────▶ Completed ────▶ Confirmed ──▶ Terminated
//!        │ 2xx                            │ H: no ACK ever came ─────────▲
//!        └────▶ Accepted ── L ───────────────────────────────────────────┘
//! ```

use std::time::{Duration, Instant};

use super::{Reliability, Timers};

/// One INVITE being answered.
#[derive(Debug)]
pub struct ServerInvite {
    state: State,
    timers: Timers,
    reliability: Reliability,
    /// The last response sent, for retransmission.
    response: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Proceeding,
    Completed { retransmit: Option<(Instant, Duration)>, give_up: Instant },
    Confirmed { until: Instant },
    Accepted { until: Instant },
    Terminated,
}

/// What a timer or a request makes of the transaction.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Send this.
    Send(&'a [u8]),
    /// Nothing.
    Nothing,
}

impl ServerInvite {
    /// Begins with the 100 that tells the client to stop retransmitting.
    pub fn new(trying: Vec<u8>, reliability: Reliability, timers: Timers) -> Self {
        ServerInvite { state: State::Proceeding, timers, reliability, response: trying }
    }

    /// The INVITE has come again.
    pub fn handle_retransmission(&self) -> Action<'_> {
        match self.state {
            State::Proceeding | State::Completed { .. } => Action::Send(&self.response),
            // RFC 6026 §7.1: absorbed; the 2xx is the dialog's to repeat.
            State::Accepted { .. } | State::Confirmed { .. } | State::Terminated => Action::Nothing,
        }
    }

    /// An ACK of a non-2xx response has come.
    pub fn handle_ack(&mut self, now: Instant) {
        if let State::Completed { .. } = self.state {
            let linger = match self.reliability {
                Reliability::Unreliable => self.timers.t4,
                Reliability::Reliable => Duration::ZERO,
            };
            self.state = State::Confirmed { until: now + linger };
        }
    }

    /// Sends a response; `false` when a final one has been sent already.
    pub fn respond(&mut self, status: u16, response: Vec<u8>, now: Instant) -> bool {
        if self.state != State::Proceeding {
            return false;
        }
        self.response = response;
        self.state = match status {
            100..200 => State::Proceeding,
            200..300 => State::Accepted { until: now + self.timers.timeout() },
            _ => {
                let retransmit = match self.reliability {
                    Reliability::Unreliable => Some((now + self.timers.t1, self.timers.t1)),
                    Reliability::Reliable => None,
                };
                State::Completed { retransmit, give_up: now + self.timers.timeout() }
            }
        };
        true
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Action<'_> {
        match &mut self.state {
            State::Completed { give_up, .. } if *give_up <= now => self.state = State::Terminated,
            State::Completed { retransmit: Some((at, interval)), .. } if *at <= now => {
                *interval = (*interval * 2).min(self.timers.t2);
                *at = now + *interval;
                return Action::Send(&self.response);
            }
            State::Confirmed { until } | State::Accepted { until } if *until <= now => self.state = State::Terminated,
            _ => {}
        }
        Action::Nothing
    }

    /// When to call [`ServerInvite::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Proceeding | State::Terminated => None,
            State::Completed { retransmit, give_up } => Some(retransmit.map_or(give_up, |(at, _)| at.min(give_up))),
            State::Confirmed { until } | State::Accepted { until } => Some(until),
        }
    }

    /// The last response that was sent.
    pub fn last_response(&self) -> &[u8] {
        &self.response
    }

    /// Tells whether no final response has been sent.
    pub fn is_proceeding(&self) -> bool {
        self.state == State::Proceeding
    }

    /// Tells whether a 2xx has been sent.
    pub fn is_accepted(&self) -> bool {
        matches!(self.state, State::Accepted { .. })
    }

    /// Tells whether the transaction is to be forgotten.
    pub fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_repeated_at_t1_doubling_to_t2_until_timer_h() {
        let (mut transaction, start) = refused(Reliability::Unreliable);
        // RFC 3261 §17.2.1: G at T1, 2·T1, 4·T1, then every T2; H at 64·T1.
        let at = timetable(&mut transaction, start);
        assert_eq!(at, [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
        assert!(transaction.is_terminated());
    }

    #[test]
    fn a_refusal_over_tcp_is_sent_once_and_waits_for_its_ack_as_long() {
        let (mut transaction, start) = refused(Reliability::Reliable);
        assert_eq!(transaction.poll_timeout(), Some(start + Duration::from_secs(32)));
        assert_eq!(timetable(&mut transaction, start), [0u64; 0]);
        assert!(transaction.is_terminated());
    }

    #[test]
    fn an_ack_ends_the_repetition_and_absorbs_others_for_t4() {
        let (mut transaction, start) = refused(Reliability::Unreliable);
        transaction.handle_ack(start);
        assert_eq!(transaction.poll_timeout(), Some(start + Duration::from_secs(5)), "timer I");
        assert_eq!(transaction.handle_retransmission(), Action::Nothing);
        transaction.handle_timeout(start + Duration::from_secs(5));
        assert!(transaction.is_terminated());
        let (mut transaction, start) = refused(Reliability::Reliable);
        transaction.handle_ack(start);
        assert_eq!(transaction.poll_timeout(), Some(start), "timer I is zero over TCP");
    }

    #[test]
    fn a_2xx_is_accepted_for_64_t1_and_absorbs_retransmissions() {
        let start = Instant::now();
        let mut transaction = ServerInvite::new(b"100".to_vec(), Reliability::Unreliable, Timers::default());
        assert_eq!(transaction.handle_retransmission(), Action::Send(b"100"));
        assert!(transaction.respond(180, b"180".to_vec(), start));
        assert_eq!(transaction.handle_retransmission(), Action::Send(b"180"));
        assert_eq!(transaction.poll_timeout(), None, "ringing time is the user's");
        assert!(transaction.respond(200, b"200".to_vec(), start));
        assert!(!transaction.respond(486, b"486".to_vec(), start), "one final response");
        assert_eq!(transaction.handle_retransmission(), Action::Nothing);
        assert_eq!(transaction.poll_timeout(), Some(start + Duration::from_secs(32)), "timer L");
        transaction.handle_timeout(start + Duration::from_secs(32));
        assert!(transaction.is_terminated());
    }

    #[test]
    fn a_2xx_over_tcp_is_accepted_as_long() {
        let start = Instant::now();
        let mut transaction = ServerInvite::new(b"100".to_vec(), Reliability::Reliable, Timers::default());
        assert!(transaction.respond(200, b"200".to_vec(), start));
        assert_eq!(transaction.poll_timeout(), Some(start + Duration::from_secs(32)), "RFC 6026 §8.7: timer L");
        assert!(transaction.is_accepted() && !transaction.is_proceeding());
    }

    fn refused(reliability: Reliability) -> (ServerInvite, Instant) {
        let start = Instant::now();
        let mut transaction = ServerInvite::new(b"100".to_vec(), reliability, Timers::default());
        assert!(transaction.respond(486, b"486".to_vec(), start));
        (transaction, start)
    }

    /// Jumps from timer to timer; returns when something was sent, in ms.
    fn timetable(transaction: &mut ServerInvite, start: Instant) -> Vec<u64> {
        let mut sent = Vec::new();
        while let Some(at) = transaction.poll_timeout() {
            if transaction.handle_timeout(at) == Action::Send(b"486") {
                sent.push((at - start).as_millis() as u64);
            }
        }
        sent
    }
}
