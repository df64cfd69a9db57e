//! The four transaction machines (RFC 3261 §17), one file per figure.
//!
//! | Machine | Figure | Amended by |
//! |---|---|---|
//! | [`client_invite`] | 5 | RFC 6026 §8.4: Accepted, timer M |
//! | [`client_non_invite`] | 6 | RFC 4320 |
//! | [`server_invite`] | 7 | RFC 6026 §8.5: Accepted, timer L |
//! | [`server_non_invite`] | 8 | RFC 4320: no 408 |

pub mod client_invite;
pub mod client_non_invite;
pub mod server_invite;
pub mod server_non_invite;

use std::time::Duration;

/// The base timers of RFC 3261 §17.1.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// The estimate of the round trip. Default 500 ms.
    pub t1: Duration,
    /// The longest interval between retransmissions. Default 4 s.
    pub t2: Duration,
    /// The longest time a message stays in the network. Default 5 s.
    pub t4: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Timers { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

impl Timers {
    /// 64·T1: how long a transaction is given.
    pub fn timeout(&self) -> Duration {
        self.t1 * 64
    }
}

/// Whether the transport delivers by itself (RFC 3261 §17).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reliability {
    /// UDP: we retransmit.
    Unreliable,
    /// TCP and what runs on it.
    Reliable,
}
