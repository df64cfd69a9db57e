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
