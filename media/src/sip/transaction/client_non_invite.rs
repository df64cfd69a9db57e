//! The non-INVITE client transaction (RFC 3261 §17.1.2, figure 6).
//!
//! ```text
//!             1xx              200–699            K
//!   Trying ──────▶ Proceeding ────────▶ Completed ──▶ Terminated
//!      └── E: retransmit, F: give up ──┘
//! ```

use std::time::{Duration, Instant};

use super::{Reliability, Timers};

/// One request waiting for its answer.
#[derive(Debug)]
pub struct ClientNonInvite {
    state: State,
    timers: Timers,
    reliability: Reliability,
    request: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Trying { retransmit: Option<(Instant, Duration)>, give_up: Instant },
    Proceeding { retransmit: Option<Instant>, give_up: Instant },
    Completed { until: Instant },
    Terminated,
}

/// What a timer makes of the transaction.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Send the request again.
    Send(&'a [u8]),
    /// No answer came within 64·T1: as good as a 408, which is never sent over the wire (RFC 4320 §4.2).
    TimedOut,
    /// Nothing.
    Nothing,
}

impl ClientNonInvite {
    /// Begins; the caller sends the request.
    pub fn new(request: Vec<u8>, reliability: Reliability, timers: Timers, now: Instant) -> Self {
        let retransmit = match reliability {
            Reliability::Unreliable => Some((now + timers.t1, timers.t1)),
            Reliability::Reliable => None,
        };
        let state = State::Trying { retransmit, give_up: now + timers.timeout() };
        ClientNonInvite { state, timers, reliability, request }
    }

    /// A response has come; `true` when it is the first final one.
    pub fn handle_response(&mut self, status: u16, now: Instant) -> bool {
        match self.state {
            State::Trying { retransmit, give_up } if status < 200 => {
                let retransmit = retransmit.map(|(at, _)| at);
                self.state = State::Proceeding { retransmit, give_up };
                false
            }
            State::Trying { .. } | State::Proceeding { .. } if status >= 200 => {
                let linger = match self.reliability {
                    Reliability::Unreliable => self.timers.t4,
                    Reliability::Reliable => Duration::ZERO,
                };
                self.state = State::Completed { until: now + linger };
                true
            }
            _ => false,
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Action<'_> {
        match &mut self.state {
            State::Trying { give_up, .. } | State::Proceeding { give_up, .. } if *give_up <= now => {
                self.state = State::Terminated;
                return Action::TimedOut;
            }
            State::Trying { retransmit: Some((at, interval)), .. } if *at <= now => {
                *interval = (*interval * 2).min(self.timers.t2);
                *at = now + *interval;
                return Action::Send(&self.request);
            }
            State::Proceeding { retransmit: Some(at), .. } if *at <= now => {
                *at = now + self.timers.t2;
                return Action::Send(&self.request);
            }
            State::Completed { until } if *until <= now => self.state = State::Terminated,
            _ => {}
        }
        Action::Nothing
    }

    /// The request has found nobody (§17.1.4): it is given up at `now`. `false` where somebody has answered already.
    pub fn handle_unreachable(&mut self, now: Instant) -> bool {
        if let State::Trying { retransmit, give_up } = &mut self.state {
            (*retransmit, *give_up) = (None, now);
        }
        matches!(self.state, State::Trying { .. })
    }

    /// When to call [`ClientNonInvite::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Trying { retransmit, give_up } => Some(retransmit.map_or(give_up, |(at, _)| at.min(give_up))),
            State::Proceeding { retransmit, give_up } => Some(retransmit.map_or(give_up, |at| at.min(give_up))),
            State::Completed { until } => Some(until),
            State::Terminated => None,
        }
    }

    /// Tells whether the final response is still to come.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Trying { .. } | State::Proceeding { .. })
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
    fn a_request_is_repeated_at_t1_doubling_to_t2_until_timer_f() {
        let start = Instant::now();
        let mut transaction = begin(Reliability::Unreliable, start);
        let (sent, timed_out) = timetable(&mut transaction, start);
        assert_eq!(sent, [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
        assert_eq!(timed_out, Some(32_000));
    }

    #[test]
    fn a_provisional_answer_slows_the_repetition_to_t2() {
        let start = Instant::now();
        let mut transaction = begin(Reliability::Unreliable, start);
        assert!(!transaction.handle_response(100, start));
        let (sent, timed_out) = timetable(&mut transaction, start);
        assert_eq!(sent[..3], [500, 4500, 8500]);
        assert_eq!(timed_out, Some(32_000));
    }

    #[test]
    fn a_request_over_tcp_is_sent_once() {
        let start = Instant::now();
        let mut transaction = begin(Reliability::Reliable, start);
        assert_eq!(timetable(&mut transaction, start), (vec![], Some(32_000)));
    }

    #[test]
    fn the_first_final_answer_counts_and_others_are_absorbed_for_t4() {
        let start = Instant::now();
        let mut transaction = begin(Reliability::Unreliable, start);
        assert!(transaction.handle_response(200, start));
        assert!(!transaction.handle_response(200, start));
        assert_eq!(transaction.poll_timeout(), Some(start + Duration::from_secs(5)), "timer K");
        assert_eq!(timetable(&mut transaction, start), (vec![], None));
        assert!(transaction.is_terminated());
        let mut transaction = begin(Reliability::Reliable, start);
        assert!(transaction.handle_response(200, start));
        assert_eq!(transaction.poll_timeout(), Some(start), "timer K is zero over TCP");
    }

    #[test]
    fn a_provisional_answer_over_tcp_does_not_stop_timer_f() {
        let start = Instant::now();
        let mut transaction = begin(Reliability::Reliable, start);
        assert!(!transaction.handle_response(100, start));
        assert_eq!(timetable(&mut transaction, start), (vec![], Some(32_000)));
        assert!(transaction.is_terminated());
        assert!(!transaction.handle_response(200, start), "too late");
    }

    #[test]
    fn all_intervals_follow_the_base_timers() {
        let start = Instant::now();
        let (t1, t2) = (Duration::from_millis(100), Duration::from_millis(400));
        let timers = Timers { t1, t2, t4: Duration::from_secs(1) };
        let mut transaction = ClientNonInvite::new(b"BYE".to_vec(), Reliability::Unreliable, timers, start);
        let (sent, timed_out) = timetable(&mut transaction, start);
        assert_eq!((&sent[..4], timed_out), (&[100, 300, 700, 1100][..], Some(6_400)), "T1, 2·T1, T2; 64·T1");
    }

    fn begin(reliability: Reliability, now: Instant) -> ClientNonInvite {
        ClientNonInvite::new(b"BYE".to_vec(), reliability, Timers::default(), now)
    }

    fn timetable(transaction: &mut ClientNonInvite, start: Instant) -> (Vec<u64>, Option<u64>) {
        let (mut sent, mut timed_out) = (Vec::new(), None);
        while let Some(at) = transaction.poll_timeout() {
            let ms = (at - start).as_millis() as u64;
            match transaction.handle_timeout(at) {
                Action::Send(_) => sent.push(ms),
                Action::TimedOut => timed_out = Some(ms),
                Action::Nothing => {}
            }
        }
        (sent, timed_out)
    }
}
