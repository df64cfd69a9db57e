//! The non-INVITE server transaction (RFC 3261 §17.2.2, figure 8).
//!
//! ```text
//!            200–699            J
//!   Trying ──────────▶ Completed ──▶ Terminated
//!      └── 64·T1: its client has given up ──▲
//! ```
//!
//! Most requests are answered at once, and begin in Completed. RFC 4320 §4.1 allows no provisional response but 100,
//! and that one only late: none is sent.

use std::time::{Duration, Instant};

use super::{Reliability, Timers};

/// One request.
#[derive(Debug)]
pub struct ServerNonInvite {
    /// The final response; none while its user thinks.
    response: Option<Vec<u8>>,
    until: Instant,
}

impl ServerNonInvite {
    /// Begins in Trying: the final response comes later.
    pub fn waiting(timers: Timers, now: Instant) -> Self {
        // RFC 4320 §4.2: behind 64·T1 the client has given up, and no 408 is sent.
        ServerNonInvite { response: None, until: now + timers.timeout() }
    }

    /// Begins in Completed with the final response, which the caller sends.
    pub fn answered(response: Vec<u8>, reliability: Reliability, timers: Timers, now: Instant) -> Self {
        let mut transaction = ServerNonInvite::waiting(timers, now);
        transaction.respond(response, reliability, timers, now);
        transaction
    }

    /// Takes the final response, which the caller sends; `false` when one has been sent already.
    pub fn respond(&mut self, response: Vec<u8>, reliability: Reliability, timers: Timers, now: Instant) -> bool {
        if self.response.is_some() {
            return false;
        }
        let linger = match reliability {
            Reliability::Unreliable => timers.timeout(),
            Reliability::Reliable => Duration::ZERO,
        };
        self.response = Some(response);
        self.until = now + linger;
        true
    }

    /// The request has come again: send this; nothing while it waits.
    pub fn handle_retransmission(&self) -> Option<&[u8]> {
        self.response.as_deref()
    }

    /// When the transaction is to be forgotten: timer J, or the client's timer F.
    pub fn poll_timeout(&self) -> Instant {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retransmission_gets_the_same_answer_for_64_t1_over_udp() {
        let start = Instant::now();
        let udp = ServerNonInvite::answered(b"200".to_vec(), Reliability::Unreliable, Timers::default(), start);
        assert_eq!(udp.handle_retransmission(), Some(&b"200"[..]));
        assert_eq!(udp.poll_timeout(), start + Duration::from_secs(32), "timer J");
        let tcp = ServerNonInvite::answered(b"200".to_vec(), Reliability::Reliable, Timers::default(), start);
        assert_eq!(tcp.poll_timeout(), start, "timer J is zero over TCP");
    }

    #[test]
    fn a_request_that_waits_absorbs_its_copies_and_is_answered_once() {
        let start = Instant::now();
        let timers = Timers::default();
        let mut transaction = ServerNonInvite::waiting(timers, start);
        assert_eq!(transaction.handle_retransmission(), None);
        assert_eq!(transaction.poll_timeout(), start + Duration::from_secs(32), "its client's timer F");
        let later = start + Duration::from_secs(3);
        assert!(transaction.respond(b"200".to_vec(), Reliability::Unreliable, timers, later));
        assert!(!transaction.respond(b"500".to_vec(), Reliability::Unreliable, timers, later));
        assert_eq!(transaction.handle_retransmission(), Some(&b"200"[..]));
        assert_eq!(transaction.poll_timeout(), later + Duration::from_secs(32));
    }
}
