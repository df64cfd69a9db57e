//! Keep-alives: pings on connections that we have opened (RFC 5626 §3.5.1, §4.4.1), and answers to STUN on SIP's own
//! UDP ports (RFC 5626 §8).
//!
//! ```text
//!   95 to 120 s ─▶ ping ── anything comes ──▶ 95 to 120 s …
//!                    └ nothing for 10 s: from one that has answered before, the connection is dead
//! ```

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use talkstack_media::sip::Flow;
use talkstack_media::stun;
use tokio::time::Instant;

use super::SipThread;

/// The pings of one connection.
#[derive(Debug)]
pub(super) struct KeepAlive {
    random: RandomState,
    due: Instant,
    /// A ping is out: until when its answer is awaited.
    awaited: Option<Instant>,
    /// A ping has been answered: servers that know no pong must not lose their connections.
    is_answered: bool,
    pings: u64,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A ping.
    Ping,
    /// To close the connection: nobody is there.
    Close,
    /// Nothing.
    Nothing,
}

impl KeepAlive {
    pub(super) fn new(now: Instant) -> Self {
        let (random, awaited, is_answered) = (RandomState::new(), None, false);
        let mut keep_alive = KeepAlive { random, due: now, awaited, is_answered, pings: 0 };
        keep_alive.rest(now);
        keep_alive
    }

    /// When [`KeepAlive::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.awaited.unwrap_or(self.due)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Due {
        match self.awaited {
            Some(until) if until <= now && self.is_answered => Due::Close,
            Some(until) if until <= now => {
                self.rest(now);
                Due::Nothing
            }
            None if self.due <= now => {
                self.awaited = Some(now + PONG_MAX);
                Due::Ping
            }
            _ => Due::Nothing,
        }
    }

    /// Tells whether a pong may come.
    pub(super) fn is_awaiting(&self) -> bool {
        self.awaited.is_some()
    }

    /// A ping of ours was answered.
    pub(super) fn handle_pong(&mut self) {
        self.is_answered = true;
    }

    /// Something was read: whoever sent it is there.
    pub(super) fn handle_sign_of_life(&mut self, now: Instant) {
        if self.awaited.is_some() {
            self.rest(now);
        }
    }

    fn rest(&mut self, now: Instant) {
        self.pings += 1;
        let spread = self.random.hash_one(self.pings) % (REST_MAX - REST_MIN).as_millis() as u64;
        self.awaited = None;
        self.due = now + REST_MIN + Duration::from_millis(spread);
    }
}

impl SipThread {
    /// Answers a datagram that is STUN; `false` when it is none. What is neither question nor SIP gets no answer.
    pub(super) fn answer_stun(&self, flow: &Flow, bytes: &[u8]) -> bool {
        let is_stun = stun::is_stun(bytes);
        if is_stun && let Some(answer) = stun::answer(bytes, flow.remote) {
            self.listeners.send(flow, &answer);
        }
        is_stun
    }
}

/// 95 s (RFC 5626 §4.4.1), four fifths of the most.
const REST_MIN: Duration = Duration::from_secs(95);

/// 120 s (RFC 5626 §4.4.1): address translators forget a connection that is silent for longer.
const REST_MAX: Duration = Duration::from_secs(120);

/// 10 s (RFC 5626 §4.4.1) for the answer.
const PONG_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_goes_out_every_95_to_120_s_and_who_has_answered_once_is_dead_after_10_s_of_silence() {
        let mut now = Instant::now();
        let mut keep_alive = KeepAlive::new(now);
        let (mut least, mut most) = (REST_MAX, REST_MIN);
        for is_answered in [false, false, true, true].into_iter().cycle().take(100) {
            let (rest, start) = (keep_alive.poll_timeout() - now, now);
            (least, most) = (least.min(rest), most.max(rest));
            assert_eq!(keep_alive.handle_timeout(now), Due::Nothing, "too early");
            now += rest;
            assert_eq!(keep_alive.handle_timeout(now), Due::Ping);
            assert!((REST_MIN..REST_MAX).contains(&(now - start)), "{rest:?}");
            assert!(keep_alive.is_awaiting());
            if is_answered {
                keep_alive.handle_pong();
                keep_alive.handle_sign_of_life(now);
                assert!(!keep_alive.is_awaiting());
                keep_alive.is_answered = false;
                continue;
            }
            now = keep_alive.poll_timeout();
            assert_eq!(keep_alive.handle_timeout(now), Due::Nothing, "it may know no pong");
        }
        assert!(least < Duration::from_secs(98) && most > Duration::from_secs(117), "{least:?} {most:?}");
        keep_alive.handle_pong();
        now = keep_alive.poll_timeout();
        assert_eq!(keep_alive.handle_timeout(now), Due::Ping);
        assert_eq!(keep_alive.poll_timeout(), now + PONG_MAX);
        assert_eq!(keep_alive.handle_timeout(now + PONG_MAX), Due::Close);
    }
}
