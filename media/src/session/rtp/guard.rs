//! What a leg does not listen to, and whom it may come to trust.

use std::net::SocketAddr;
use std::time::Instant;

use super::RtpSession;
use crate::rtp::budget::Origin;
use crate::rtp::latch::MediaNetworks;

impl RtpSession {
    /// Media may come from these networks as well, once its source has fallen silent.
    pub fn trust(&mut self, networks: MediaNetworks) {
        self.input.latch.trust(networks);
        self.control_latch.trust(networks);
    }

    /// A packet over budget is dropped unread, and counted.
    pub(super) fn is_within_budget(&mut self, source: SocketAddr, known: SocketAddr, now: Instant) -> bool {
        let origin = if source == known { Origin::Known } else { Origin::Stranger };
        let is_within = self.budget.take(origin, now);
        self.refused_packets += u64::from(!is_within);
        is_within
    }
}
