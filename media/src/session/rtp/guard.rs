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

    /// Tells whether nothing has come for so long that nobody can be there.
    pub fn is_abandoned(&self, now: Instant) -> bool {
        !self.negotiated.is_held() && self.abandoned_at() <= now
    }

    /// Gives the far end another time-out: it has shown by other means, or is being asked, whether it is there.
    pub fn excuse(&mut self, now: Instant) {
        self.last_packet = Some(now);
        self.is_excused = true;
    }

    /// Tells whether the far end has been excused and nothing has come since.
    pub fn is_excused(&self) -> bool {
        self.is_excused
    }

    /// Packets that were dropped: from strangers, malformed, late or doubled.
    pub fn refused_packets(&self) -> u64 {
        self.refused_packets
    }

    /// Packets that were refused because nothing says that they are the far end's: SRTP alone has them.
    pub fn unauthenticated_packets(&self) -> u64 {
        self.secure.as_ref().map_or(0, |secure| secure.unauthenticated())
    }

    /// Packets that were refused because they had come before: SRTP alone counts them.
    pub fn replayed_packets(&self) -> u64 {
        self.secure.as_ref().map_or(0, |secure| secure.replayed())
    }

    /// A packet over budget is dropped unread, and counted.
    pub(super) fn is_within_budget(&mut self, source: SocketAddr, known: SocketAddr, now: Instant) -> bool {
        let origin = if source == known { Origin::Known } else { Origin::Stranger };
        let is_within = self.budget.take(origin, now);
        self.refused_packets += u64::from(!is_within);
        is_within
    }
}
