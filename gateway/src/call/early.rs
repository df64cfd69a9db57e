//! Sound that is here before the answer that describes it: who has offered must be ready for it (RFC 3264 §5.1), and the
//! first word of a called side, or its first key, is under way while the answer still crosses from the signalling.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The newest packets of a leg that waits for its answer.
#[derive(Debug, Default)]
pub(super) struct EarlyPackets(VecDeque<EarlyPacket>);

/// A packet, and when and where from it came.
#[derive(Debug)]
pub(super) struct EarlyPacket {
    pub(super) came_at: Instant,
    pub(super) source: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

impl EarlyPackets {
    /// Keeps a packet; the oldest goes when there are too many.
    pub(super) fn keep(&mut self, source: SocketAddr, packet: &[u8], now: Instant) {
        if packet.len() > PACKET_BYTES_MAX {
            return;
        }
        if self.0.len() == PACKETS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(EarlyPacket { came_at: now, source, bytes: packet.to_vec() });
    }

    /// Those that are still worth hearing, in the order they came; none are kept.
    pub(super) fn take(&mut self, now: Instant) -> impl Iterator<Item = EarlyPacket> + use<> {
        std::mem::take(&mut self.0)
            .into_iter()
            .filter(move |packet| now.saturating_duration_since(packet.came_at) <= AGE_MAX)
    }
}

/// 200 ms: longer than an answer takes from the signalling to a busy media thread. What is older is ringing tone of
/// early media, which no agent should hear.
const AGE_MAX: Duration = Duration::from_millis(200);

/// 24 packets of 10 ms are more than [`AGE_MAX`]; with 1,500 bytes each a leg holds 36 kB at the most, while it is called.
const PACKETS_MAX: usize = 24;

/// What Ethernet carries.
const PACKET_BYTES_MAX: usize = 1500;
