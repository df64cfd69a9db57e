//! RTP ports: even for RTP, the odd one above for RTCP, and a rest between two calls so that neither hears the other.
//!
//! ```text
//!   unused ──take──▶ in a call ──release──▶ resting (open, discarding) ──30 s of quiet──▶ closed, unused
//!                        ▲                         │
//!                        └──── after ≥ 5 s, oldest first, when nothing is unused ────┘
//! ```

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// One address family of a call's media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// Two sockets of one call.
#[derive(Debug)]
pub struct PortPair {
    /// The even port.
    pub rtp: UdpSocket,
    /// The odd port above it.
    pub rtcp: UdpSocket,
    /// The even port's number.
    pub port: u16,
    /// Of both.
    pub family: Family,
}

/// The ports of one shard.
#[derive(Debug)]
pub struct Ports {
    /// Even port numbers that nothing of ours has open, in random order.
    unused: [Vec<u16>; 2],
    resting: VecDeque<Resting>,
    random: u64,
}

/// A pair that waits until no stranger's packet can come any more. The caller keeps its sockets.
#[derive(Debug, Clone, Copy)]
struct Resting {
    key: u32,
    family: Family,
    since: Instant,
}

/// Where the next pair comes from.
#[derive(Debug)]
pub enum Taken {
    /// Freshly bound.
    Bound(PortPair),
    /// A rested pair, still held by the caller under this key.
    Rested(u32),
}

/// No port of the range is free. Answer 503 with Retry-After.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("no RTP port is free")]
pub struct NoPort;

impl Ports {
    /// Takes over the even ports of `first..=last` of which `shard` of `shards` is ours.
    pub fn new(first: u16, last: u16, shard: usize, shards: usize, seed: u64) -> Self {
        let first_even = first.checked_add(first % 2).unwrap_or(first);
        let mine: Vec<u16> = (first_even..last).step_by(2).skip(shard).step_by(shards.max(1)).collect();
        Ports { unused: [mine.clone(), mine], resting: VecDeque::new(), random: seed | 1 }
    }

    /// Finds a pair: an unused port at random, else the longest rested one.
    ///
    /// # Errors
    /// [`NoPort`] when all are in calls or have rested for less than [`REST_MIN`].
    pub fn take(&mut self, family: Family, now: Instant) -> Result<Taken, NoPort> {
        for _ in 0..BIND_TRIES {
            let Some(port) = self.draw(family) else { break };
            match bind_pair(family, port) {
                Ok(pair) => return Ok(Taken::Bound(pair)),
                // Someone else holds it: it goes to the far end of the list, not to the call.
                Err(_) => self.unused[family as usize].insert(0, port),
            }
        }
        let oldest = self.resting.iter().position(|resting| resting.family == family).ok_or(NoPort)?;
        if now.saturating_duration_since(self.resting[oldest].since) < REST_MIN {
            return Err(NoPort);
        }
        self.resting.remove(oldest).map(|resting| Taken::Rested(resting.key)).ok_or(NoPort)
    }

    /// Puts a pair to rest under the caller's key.
    pub fn rest(&mut self, key: u32, family: Family, now: Instant) {
        self.resting.push_back(Resting { key, family, since: now });
    }

    /// A packet came for a resting pair: its rest begins anew.
    pub fn disturb(&mut self, key: u32, now: Instant) {
        if let Some(at) = self.resting.iter().position(|resting| resting.key == key)
            && let Some(mut resting) = self.resting.remove(at)
        {
            resting.since = now;
            self.resting.push_back(resting);
        }
    }

    /// Returns a pair that has rested long enough to be closed; hand its port back by [`Ports::close`].
    pub fn next_rested(&mut self, now: Instant) -> Option<u32> {
        let rested = now.saturating_duration_since(self.resting.front()?.since) >= REST;
        if rested { self.resting.pop_front().map(|resting| resting.key) } else { None }
    }

    /// Makes a closed pair's port number available again.
    pub fn close(&mut self, pair: PortPair) {
        self.unused[pair.family as usize].push(pair.port);
    }

    fn draw(&mut self, family: Family) -> Option<u16> {
        let unused = &mut self.unused[family as usize];
        if unused.is_empty() {
            return None;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let at = (self.random % unused.len() as u64) as usize;
        Some(unused.swap_remove(at))
    }
}

fn bind_pair(family: Family, port: u16) -> std::io::Result<PortPair> {
    let bind = |port: u16| -> std::io::Result<UdpSocket> {
        let any: IpAddr = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = match family {
            Family::V4 => UdpSocket::bind(SocketAddr::new(any, port))?,
            Family::V6 => bind_v6_only(SocketAddr::new(any, port))?,
        };
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    Ok(PortPair { rtp: bind(port)?, rtcp: bind(port + 1)?, port, family })
}

/// An IPv6 socket that leaves the same port free for IPv4.
fn bind_v6_only(address: SocketAddr) -> std::io::Result<UdpSocket> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
    let socket = socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_ipv6_v6only(&socket, true)?;
    bind(&socket, &address)?;
    Ok(socket.into())
}

/// 30 s: longer than any phone goes on sending after a BYE it has not seen, two NAT keep-alives.
const REST: Duration = Duration::from_secs(30);

/// 5 s: shorter, and the last call's packets may still be under way.
pub const REST_MIN: Duration = Duration::from_secs(5);

/// 64 ports held by others in a row mean that the range is not ours.
const BIND_TRIES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_even_and_odd_drawn_at_random_and_shared_out_between_shards() {
        let now = Instant::now();
        let mut seen = Vec::new();
        for shard in 0..2 {
            let mut ports = Ports::new(41_001, 41_060, shard, 2, 7);
            let mut own = Vec::new();
            while let Ok(Taken::Bound(pair)) = ports.take(Family::V4, now) {
                assert_eq!(pair.port % 2, 0);
                assert_eq!(pair.rtcp.local_addr().expect("bound").port(), pair.port + 1);
                own.push(pair);
            }
            assert!(!own.iter().map(|pair| pair.port).is_sorted(), "drawn in order");
            seen.extend(own.into_iter().map(|pair| pair.port));
        }
        seen.sort_unstable();
        assert!(seen.len() > 20 && seen.windows(2).all(|two| two[0] < two[1]), "{seen:?}");
        assert!(seen.iter().all(|port| (41_002..=41_058).contains(port)), "{seen:?}");
    }

    #[test]
    fn a_port_that_someone_else_holds_is_skipped() {
        let now = Instant::now();
        let held = UdpSocket::bind(("0.0.0.0", 41_103)).expect("free");
        let mut ports = Ports::new(41_100, 41_105, 0, 1, 7);
        for _ in 0..2 {
            let Ok(Taken::Bound(pair)) = ports.take(Family::V4, now) else { panic!("two pairs are free") };
            assert_ne!(pair.port, 41_102);
            std::mem::forget(pair);
        }
        assert!(matches!(ports.take(Family::V4, now), Err(NoPort)));
        drop(held);
        assert!(matches!(ports.take(Family::V4, now), Ok(Taken::Bound(pair)) if pair.port == 41_102));
    }

    #[test]
    fn released_pairs_rest_oldest_first_never_under_5_s_and_30_s_where_there_are_others() {
        let start = Instant::now();
        let mut ports = Ports::new(41_200, 41_200, 0, 1, 7);
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        ports.rest(1, Family::V4, at(0));
        ports.rest(2, Family::V4, at(1));
        assert!(matches!(ports.take(Family::V4, at(4)), Err(NoPort)), "under 5 s");
        assert!(matches!(ports.take(Family::V6, at(9)), Err(NoPort)), "of the other family");
        assert!(matches!(ports.take(Family::V4, at(5)), Ok(Taken::Rested(1))));
        assert_eq!(ports.next_rested(at(30)), None);
        assert_eq!(ports.next_rested(at(31)), Some(2));
    }

    #[test]
    fn a_packet_begins_the_rest_anew() {
        let start = Instant::now();
        let mut ports = Ports::new(41_300, 41_300, 0, 1, 7);
        ports.rest(1, Family::V4, start);
        ports.rest(2, Family::V4, start);
        ports.disturb(1, start + Duration::from_secs(4));
        let at = start + Duration::from_secs(8);
        assert!(matches!(ports.take(Family::V4, at), Ok(Taken::Rested(2))));
        assert!(matches!(ports.take(Family::V4, at), Err(NoPort)), "4 s of quiet");
        assert_eq!(ports.next_rested(start + REST), None);
    }
}
