//! The INVITE client transaction (RFC 3261 §17.1.1, figure 5; RFC 6026 §7.2).
//!
//! ```text
//!              1xx              300–699             D
//!   Calling ──────▶ Proceeding ────────▶ Completed ──▶ Terminated
//!      │  A: retransmit, B: give up          ▲ ACK for each copy
//!      └──── 2xx ────▶ Accepted ── M ────────────────▶ Terminated
//! ```

use std::time::{Duration, Instant};

use super::{Reliability, Timers};

/// One INVITE waiting for its answer.
#[derive(Debug)]
pub struct ClientInvite {
    state: State,
    timers: Timers,
    reliability: Reliability,
    request: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Calling { retransmit: Option<(Instant, Duration)>, give_up: Instant },
    Proceeding,
    Completed { until: Instant },
    Accepted { until: Instant },
    Terminated,
}

/// What a response means to the transaction's user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Pass it up: provisional, 2xx (each of them, RFC 6026 §7.2), or the first refusal.
    PassUp,
    /// Pass it up, and acknowledge it within the transaction (RFC 3261 §17.1.1.3).
    PassUpAndAck,
    /// A copy of a refusal: acknowledge it again, tell nobody.
    AckAgain,
    /// Nothing.
    Ignore,
}

/// What a timer makes of the transaction.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Send the INVITE again.
    Send(&'a [u8]),
    /// Nothing came within 64·T1: as good as a 408.
    TimedOut,
    /// Nothing.
    Nothing,
}

impl ClientInvite {
    /// Begins; the caller sends the INVITE.
    pub fn new(request: Vec<u8>, reliability: Reliability, timers: Timers, now: Instant) -> Self {
        let retransmit = match reliability {
            Reliability::Unreliable => Some((now + timers.t1, timers.t1)),
            Reliability::Reliable => None,
        };
        let state = State::Calling { retransmit, give_up: now + timers.timeout() };
        ClientInvite { state, timers, reliability, request }
    }

    /// A response has come.
    pub fn handle_response(&mut self, status: u16, now: Instant) -> Meaning {
        match (self.state, status) {
            (State::Calling { .. } | State::Proceeding, ..200) => {
                // RFC 3261 §17.1.1.2 sets no timer in Proceeding: ringing time is the user's.
                self.state = State::Proceeding;
                Meaning::PassUp
            }
            (State::Calling { .. } | State::Proceeding, 200..300) => {
                self.state = State::Accepted { until: now + self.timers.timeout() };
                Meaning::PassUp
            }
            (State::Calling { .. } | State::Proceeding, _) => {
                let linger = match self.reliability {
                    Reliability::Unreliable => TIMER_D,
                    Reliability::Reliable => Duration::ZERO,
                };
                self.state = State::Completed { until: now + linger };
                Meaning::PassUpAndAck
            }
            (State::Accepted { .. }, 200..300) => Meaning::PassUp,
            (State::Completed { .. }, 300..) => Meaning::AckAgain,
            _ => Meaning::Ignore,
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Action<'_> {
        match &mut self.state {
            State::Calling { give_up, .. } if *give_up <= now => {
                self.state = State::Terminated;
                return Action::TimedOut;
            }
            State::Calling { retransmit: Some((at, interval)), .. } if *at <= now => {
                // Timer A doubles without the bound of T2.
                *interval *= 2;
                *at = now + *interval;
                return Action::Send(&self.request);
            }
            State::Completed { until } | State::Accepted { until } if *until <= now => self.state = State::Terminated,
            _ => {}
        }
        Action::Nothing
    }

    /// The request has found nobody (§17.1.4): it is given up at `now`. `false` where somebody has answered already.
    pub fn handle_unreachable(&mut self, now: Instant) -> bool {
        if let State::Calling { retransmit, give_up } = &mut self.state {
            (*retransmit, *give_up) = (None, now);
        }
        matches!(self.state, State::Calling { .. })
    }

    /// When to call [`ClientInvite::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Calling { retransmit, give_up } => Some(retransmit.map_or(give_up, |(at, _)| at.min(give_up))),
            State::Completed { until } | State::Accepted { until } => Some(until),
            State::Proceeding | State::Terminated => None,
        }
    }

    /// Tells whether the transaction is to be forgotten.
    pub fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }
}

/// RFC 3261 §17.1.1.2: at least 32 s over UDP.
const TIMER_D: Duration = Duration::from_secs(32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invite_is_repeated_at_doubling_intervals_until_timer_b() {
        let start = Instant::now();
        let mut transaction = begin(Reliability::Unreliable, start);
        let (mut sent, mut timed_out) = (Vec::new(), None);
        while let Some(at) = transaction.poll_timeout() {
            match transaction.handle_timeout(at) {
                Action::Send(_) => sent.push((at - start).as_millis()),
                Action::TimedOut => timed_out = Some((at - start).as_millis()),
                Action::Nothing => {}
            }
        }
        assert_eq!(sent, [500, 1500, 3500, 7500, 15_500, 31_500], "timer A, RFC 3261 §17.1.1.2");
        assert_eq!(timed_out, Some(32_000), "timer B");
    }

    #[test]
    fn over_tcp_an_invite_is_sent_once_and_given_up_by_timer_b() {
        let start = Instant::now();
        let mut transaction = begin(Reliability::Reliable, start);
        assert_eq!(transaction.poll_timeout(), Some(start + Duration::from_secs(32)), "no timer A");
        assert_eq!(transaction.handle_timeout(start + Duration::from_secs(32)), Action::TimedOut);
        assert!(transaction.is_terminated());
    }

    #[test]
    fn a_provisional_answer_stops_all_timers() {
        let start = Instant::now();
        let mut transaction = begin(Reliability::Unreliable, start);
        assert_eq!(transaction.handle_response(180, start), Meaning::PassUp);
        assert_eq!(transaction.poll_timeout(), None);
    }

    #[test]
    fn a_refusal_is_acknowledged_each_time_it_comes_until_timer_d() {
        let start = Instant::now();
        let mut transaction = begin(Reliability::Unreliable, start);
        assert_eq!(transaction.handle_response(486, start), Meaning::PassUpAndAck);
        assert_eq!(transaction.handle_response(486, start), Meaning::AckAgain);
        assert_eq!(transaction.poll_timeout(), Some(start + TIMER_D));
        let mut transaction = begin(Reliability::Reliable, start);
        transaction.handle_response(486, start);
        assert_eq!(transaction.poll_timeout(), Some(start), "timer D is zero over TCP");
    }

    #[test]
    fn every_2xx_is_passed_up_until_timer_m() {
        let start = Instant::now();
        let mut transaction = begin(Reliability::Unreliable, start);
        assert_eq!(transaction.handle_response(200, start), Meaning::PassUp);
        assert_eq!(transaction.handle_response(200, start), Meaning::PassUp, "a copy, or another branch of a fork");
        assert_eq!(transaction.handle_response(486, start), Meaning::Ignore);
        let timer_m = start + Duration::from_secs(32);
        assert_eq!(transaction.poll_timeout(), Some(timer_m));
        transaction.handle_timeout(timer_m);
        assert!(transaction.is_terminated());
        assert_eq!(transaction.handle_response(200, timer_m), Meaning::Ignore, "RFC 6026 §7.2");
        let mut transaction = begin(Reliability::Reliable, start);
        transaction.handle_response(200, start);
        assert_eq!(transaction.poll_timeout(), Some(timer_m), "over TCP as well");
    }

    fn begin(reliability: Reliability, now: Instant) -> ClientInvite {
        ClientInvite::new(b"INVITE".to_vec(), reliability, Timers::default(), now)
    }
}
