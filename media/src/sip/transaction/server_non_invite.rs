//! The non-INVITE server transaction (RFC 3261 §17.2.2, figure 8).
//!
//! ```text
//!            1xx              200–699            J
//!   Trying ─────▶ Proceeding ────────▶ Completed ──▶ Terminated
//! ```
//!
//! This element answers such requests at once, so the machine begins with its final response.

use std::time::{Duration, Instant};

use super::{Reliability, Timers};

/// One request that has been answered.
#[derive(Debug)]
pub struct ServerNonInvite {
    response: Vec<u8>,
    until: Instant,
}

impl ServerNonInvite {
    /// Begins in Completed with the final response, which the caller sends.
    pub fn answered(response: Vec<u8>, reliability: Reliability, timers: Timers, now: Instant) -> Self {
        let linger = match reliability {
            Reliability::Unreliable => timers.timeout(),
            Reliability::Reliable => Duration::ZERO,
        };
        ServerNonInvite { response, until: now + linger }
    }

    /// The request has come again: send this.
    pub fn handle_retransmission(&self) -> &[u8] {
        &self.response
    }

    /// When the transaction is to be forgotten (timer J).
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
        assert_eq!(udp.handle_retransmission(), b"200");
        assert_eq!(udp.poll_timeout(), start + Duration::from_secs(32));
        let tcp = ServerNonInvite::answered(b"200".to_vec(), Reliability::Reliable, Timers::default(), start);
        assert_eq!(tcp.poll_timeout(), start);
    }
}
