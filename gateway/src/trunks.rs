//! Where the trunks are: names resolved off the call path, the address that answered last tried first.
//!
//! ```text
//!   snapshot ─▶ names ─ due ─▶ (resolver) ─ handle_resolved ─▶ addresses ─ targets ─▶ INVITE
//!                                                                 ▲
//!                                             handle_answered ────┘ the good one goes first
//! ```
//!
//! A name that cannot be resolved keeps the addresses it had: a call does not wait for a name server that is down.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use talkstack_control::port::Snapshot;

/// Host and port of a SIP peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerName {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// The addresses of all trunks.
#[derive(Debug, Default)]
pub struct Trunks {
    peers: BTreeMap<PeerName, Peer>,
    /// Trunk id to its peer.
    by_id: BTreeMap<String, PeerName>,
}

#[derive(Debug)]
struct Peer {
    addresses: Vec<SocketAddr>,
    /// When it is resolved next; `None` for an address, which needs no resolving.
    due: Option<Instant>,
    /// A resolver is at work.
    is_pending: bool,
    /// It has been tried to resolve it.
    is_known: bool,
}

/// What is known of a peer's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// These, the first to be tried first.
    Known(Vec<SocketAddr>),
    /// A resolver is at work on a name that has none yet.
    Pending,
    /// The name has no address.
    None,
}

impl Trunks {
    /// Takes over the trunks of another configuration.
    pub fn apply(&mut self, snapshot: &Snapshot, now: Instant) {
        self.by_id = snapshot
            .trunks
            .iter()
            .map(|(id, trunk)| (id.clone(), PeerName { host: trunk.host.clone(), port: trunk.port.unwrap_or(5060) }))
            .collect();
        let wanted: Vec<PeerName> = self.by_id.values().cloned().collect();
        self.peers.retain(|name, _| wanted.contains(name));
        for name in wanted {
            self.peers.entry(name.clone()).or_insert_with(|| Peer::new(&name, now));
        }
    }

    /// Names that are to be resolved now; each answer comes by [`Trunks::handle_resolved`].
    pub fn take_due(&mut self, now: Instant) -> Vec<PeerName> {
        let mut names = Vec::new();
        for (name, peer) in &mut self.peers {
            if !peer.is_pending && peer.due.is_some_and(|due| due <= now) {
                peer.is_pending = true;
                names.push(name.clone());
            }
        }
        names
    }

    /// A resolver has finished; no address at all keeps those that were known.
    pub fn handle_resolved(&mut self, name: &PeerName, addresses: Vec<SocketAddr>, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else { return };
        peer.is_pending = false;
        peer.is_known = true;
        if addresses.is_empty() {
            peer.due = Some(now + RETRY);
            return;
        }
        peer.due = Some(now + REFRESH);
        let good = peer.addresses.first().copied().filter(|good| addresses.contains(good));
        peer.addresses = addresses;
        if let Some(good) = good {
            peer.prefer(good);
        }
    }

    /// Where a trunk can be reached.
    pub fn targets(&self, trunk_id: &str) -> Targets {
        let Some(peer) = self.by_id.get(trunk_id).and_then(|name| self.peers.get(name)) else { return Targets::None };
        match (peer.addresses.is_empty(), peer.is_known) {
            (false, _) => Targets::Known(peer.addresses.clone()),
            (true, false) => Targets::Pending,
            (true, true) => Targets::None,
        }
    }

    /// An address of the trunk has answered; it is tried first from now on.
    pub fn handle_answered(&mut self, trunk_id: &str, address: SocketAddr) {
        if let Some(peer) = self.by_id.get(trunk_id).and_then(|name| self.peers.get_mut(name)) {
            peer.prefer(address);
        }
    }

    /// The trunk that has this address, whatever the port.
    pub fn trunk_of(&self, source: IpAddr) -> Option<&str> {
        let source = source.to_canonical();
        let has = |name: &PeerName| {
            self.peers.get(name).is_some_and(|peer| peer.addresses.iter().any(|address| address.ip() == source))
        };
        self.by_id.iter().find(|(_, name)| has(name)).map(|(id, _)| id.as_str())
    }

    /// When a name is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.peers.values().filter(|peer| !peer.is_pending).filter_map(|peer| peer.due).min()
    }
}

impl Peer {
    fn new(name: &PeerName, now: Instant) -> Self {
        let literal = name.host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        Peer {
            addresses: literal.map(|ip| SocketAddr::new(ip, name.port)).into_iter().collect(),
            due: if literal.is_some() { None } else { Some(now) },
            is_pending: false,
            is_known: literal.is_some(),
        }
    }

    fn prefer(&mut self, address: SocketAddr) {
        if let Some(at) = self.addresses.iter().position(|known| *known == address) {
            self.addresses[..=at].rotate_right(1);
        }
    }
}

/// 60 s (`telephony` 7): a peer that moves is found within a minute.
const REFRESH: Duration = Duration::from_secs(60);

/// 5 s: a name server that has just come back is used soon.
const RETRY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use talkstack_control::port::TrunkRoute;

    use super::*;

    #[test]
    fn an_address_needs_no_resolving() {
        let now = Instant::now();
        let mut trunks = Trunks::default();
        trunks.apply(&snapshot(&[("a", "192.0.2.1"), ("b", "[2001:db8::1]")]), now);
        assert_eq!(trunks.take_due(now), []);
        assert_eq!(trunks.targets("a"), Targets::Known(vec!["192.0.2.1:5060".parse().expect("address")]));
        assert_eq!(trunks.trunk_of("2001:db8::1".parse().expect("address")), Some("b"));
        assert_eq!(trunks.trunk_of("::ffff:192.0.2.1".parse().expect("address")), Some("a"));
        assert_eq!(trunks.trunk_of("192.0.2.9".parse().expect("address")), None);
        assert_eq!(trunks.poll_timeout(), None);
    }

    #[test]
    fn a_name_is_resolved_once_a_minute_and_keeps_what_it_had_when_it_cannot_be() {
        let mut now = Instant::now();
        let mut trunks = Trunks::default();
        trunks.apply(&snapshot(&[("a", "sip.example")]), now);
        assert_eq!(trunks.targets("a"), Targets::Pending);
        let name = trunks.take_due(now).pop().expect("due");
        assert_eq!(trunks.take_due(now), [], "one resolver at a time");
        trunks.handle_resolved(&name, vec![], now);
        assert_eq!(trunks.targets("a"), Targets::None);
        now += RETRY;
        assert_eq!(trunks.take_due(now).len(), 1);
        trunks.handle_resolved(&name, addresses(&[1, 2, 3]), now);
        trunks.handle_answered("a", addresses(&[2])[0]);
        assert_eq!(trunks.targets("a"), Targets::Known(addresses(&[2, 1, 3])));
        now += REFRESH;
        assert_eq!(trunks.poll_timeout(), Some(now));
        assert_eq!(trunks.take_due(now).len(), 1);
        trunks.handle_resolved(&name, vec![], now);
        assert_eq!(trunks.targets("a"), Targets::Known(addresses(&[2, 1, 3])), "a dead name server changes nothing");
        trunks.handle_resolved(&name, addresses(&[3, 2]), now);
        assert_eq!(trunks.targets("a"), Targets::Known(addresses(&[2, 3])), "the good one stays first");
    }

    #[test]
    fn another_configuration_keeps_what_is_known_and_forgets_what_is_gone() {
        let now = Instant::now();
        let mut trunks = Trunks::default();
        trunks.apply(&snapshot(&[("a", "sip.example"), ("b", "other.example")]), now);
        let names = trunks.take_due(now);
        trunks.handle_resolved(&names[1], addresses(&[1]), now);
        trunks.apply(&snapshot(&[("c", "sip.example")]), now);
        assert_eq!(trunks.targets("c"), Targets::Known(addresses(&[1])));
        assert_eq!(trunks.targets("b"), Targets::None);
        // The answer to a question that nobody asks any more.
        trunks.handle_resolved(&names[0], addresses(&[9]), now);
        assert_eq!(trunks.trunk_of(addresses(&[9])[0].ip()), None);
    }

    fn addresses(last: &[u8]) -> Vec<SocketAddr> {
        last.iter().map(|last| SocketAddr::from(([192, 0, 2, *last], 5060))).collect()
    }

    fn snapshot(trunks: &[(&str, &str)]) -> Snapshot {
        let route = |host: &str| TrunkRoute::new("t", host);
        let trunks = trunks.iter().map(|(id, host)| ((*id).to_owned(), route(host))).collect();
        Snapshot { trunks, ..Snapshot::default() }
    }
}
