//! Where the trunks are: names resolved off the call path, the address that answered last tried first, one that failed
//! tried last.
//!
//! ```text
//!   snapshot ─▶ names ─ due ─▶ Lookup ─ handle_resolved ─▶ servers ─ hops ─▶ INVITE
//!                                                            ▲
//!                            handle_answered, handle_failed ─┘ the good one goes first, the bad one last
//! ```
//!
//! A name that cannot be resolved keeps the addresses it had: a call does not wait for a name server that is down.

pub mod locate;
pub mod select;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use talkstack_control::port::{Snapshot, TrunkRoute, TrunkTransport};
use talkstack_media::sip::message::{Host, Uri};
use talkstack_media::sip::{Network, Transport};

use locate::{Located, Server, fixed};
use select::Draw;

/// How a SIP peer is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerName {
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// Its port; `None` asks the DNS for one, and is the transport's own without an answer.
    pub port: Option<u16>,
    /// How it is reached.
    pub transport: TrunkTransport,
}

/// The addresses of all trunks.
#[derive(Debug, Default)]
pub struct Trunks {
    peers: BTreeMap<PeerName, Peer>,
    /// Trunk id to its peer.
    by_id: BTreeMap<String, PeerName>,
    /// Where trunks call from besides their own addresses.
    networks: Vec<(Network, String)>,
    draw: Draw,
}

#[derive(Debug, Default)]
struct Peer {
    servers: Vec<Server>,
    /// Addresses that failed, and until when they are tried last.
    failed: BTreeMap<SocketAddr, Instant>,
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
    /// These, each with the transport that it is asked by.
    Known(Vec<Hop>),
    /// A resolver is at work on a name that has none yet.
    Pending,
    /// The name has no address.
    None,
}

/// One place to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Where.
    pub address: SocketAddr,
    /// How.
    pub transport: Transport,
}

impl PeerName {
    /// Where a trunk's requests go: to its outbound proxy, else to its host.
    pub fn of(trunk: &TrunkRoute) -> Self {
        match trunk.access.outbound_proxy.as_deref().and_then(|proxy| PeerName::parse(proxy, trunk.transport)) {
            Some(proxy) => proxy,
            None => PeerName { host: bare(&trunk.host).to_owned(), port: trunk.port, transport: trunk.transport },
        }
    }

    /// Reads `host`, `host:port`, or a URI with or without `transport`; without, it is the trunk's.
    pub fn parse(text: &str, transport: TrunkTransport) -> Option<Self> {
        if text.parse::<IpAddr>().is_ok() {
            return Some(PeerName { host: text.to_owned(), port: None, transport });
        }
        let uri = if text.starts_with("sip:") || text.starts_with("sips:") {
            Uri::parse(text)?
        } else {
            Uri::parse(&format!("sip:{text}"))?
        };
        let uri = uri.sip()?;
        let transport = match uri.params.text("transport").map(str::to_ascii_lowercase).as_deref() {
            Some("tls") => TrunkTransport::Tls,
            Some("tcp") if uri.secure => TrunkTransport::Tls,
            Some("tcp") => TrunkTransport::Tcp,
            Some("udp") => TrunkTransport::Udp,
            _ if uri.secure => TrunkTransport::Tls,
            _ => transport,
        };
        let host = match &uri.host {
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.clone(),
        };
        Some(PeerName { host, port: uri.port, transport })
    }

    /// Its address, when the host is one: nothing is asked then (RFC 3263 §4.1, §4.2).
    pub fn address(&self) -> Option<Hop> {
        let transport = fixed(self.transport);
        let ip = self.host.parse().ok()?;
        let address = SocketAddr::new(ip, self.port.unwrap_or(default_port(transport)));
        Some(Hop { address, transport })
    }
}

impl Trunks {
    /// Knows no trunk yet; the seed shares calls out among servers of one priority.
    pub fn new(seed: u64) -> Self {
        Trunks { draw: Draw::new(seed), ..Trunks::default() }
    }

    /// Takes over the trunks of another configuration.
    pub fn apply(&mut self, snapshot: &Snapshot, now: Instant) {
        self.by_id = snapshot.trunks.iter().map(|(id, trunk)| (id.clone(), PeerName::of(trunk))).collect();
        let networks = snapshot.trunks.iter().flat_map(|(id, trunk)| {
            trunk.access.networks.iter().filter_map(move |text| Some((text.parse().ok()?, id.clone())))
        });
        self.networks = networks.collect();
        let wanted: BTreeSet<PeerName> = self.by_id.values().cloned().collect();
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

    /// A lookup has finished. One that found nothing, or could ask only half, changes nothing that was known.
    pub fn handle_resolved(&mut self, name: &PeerName, located: Located, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else { return };
        peer.is_pending = false;
        peer.is_known = true;
        peer.due = Some(now + if located.is_whole && !located.servers.is_empty() { located.ttl } else { RETRY });
        if located.servers.is_empty() || !(located.is_whole || peer.servers.is_empty()) {
            return;
        }
        let good: Vec<SocketAddr> =
            peer.servers.iter().filter_map(|server| server.addresses.first().copied()).collect();
        peer.servers = located.servers;
        for address in good {
            peer.prefer(address);
        }
        let is_there = |address: &SocketAddr| peer.servers.iter().any(|server| server.addresses.contains(address));
        peer.failed.retain(|address, until| *until > now && is_there(address));
    }

    /// Where a trunk can be reached, for those who only look: in no order that matters.
    pub fn targets(&self, trunk_id: &str) -> Targets {
        let Some(peer) = self.peer(trunk_id) else { return Targets::None };
        let hops: Vec<Hop> = peer.servers.iter().flat_map(Server::hops).collect();
        match (hops.is_empty(), peer.is_known) {
            (false, _) => Targets::Known(hops),
            (true, false) => Targets::Pending,
            (true, true) => Targets::None,
        }
    }

    /// Where a trunk is to be tried, one place after the other; each call draws anew among servers of one priority
    /// (RFC 2782). None at all when it has no address; `None` while a resolver is at work on the first.
    pub fn hops(&mut self, trunk_id: &str, now: Instant) -> Option<Vec<Hop>> {
        let Some(peer) = self.by_id.get(trunk_id).and_then(|name| self.peers.get(name)) else {
            return Some(Vec::new());
        };
        if peer.servers.is_empty() && !peer.is_known {
            return None;
        }
        let servers = self.draw.order(&peer.servers);
        let mut hops: Vec<Hop> = servers.into_iter().flat_map(Server::hops).collect();
        hops.sort_by_key(|hop| peer.failed.get(&hop.address).is_some_and(|until| *until > now));
        hops.truncate(HOPS_MAX);
        Some(hops)
    }

    /// The name that a trunk's certificate must prove: that of the host or proxy, never what the DNS made of it
    /// (RFC 5922 §4).
    pub fn host_of(&self, trunk_id: &str) -> Option<&str> {
        self.by_id.get(trunk_id).map(|name| name.host.as_str())
    }

    /// An address of the trunk has answered; it is tried first among its server's from now on.
    pub fn handle_answered(&mut self, trunk_id: &str, address: SocketAddr) {
        if let Some(peer) = self.by_id.get(trunk_id).and_then(|name| self.peers.get_mut(name)) {
            peer.failed.remove(&address);
            peer.prefer(address);
        }
    }

    /// An address of the trunk gave no answer, or 503: it is tried last for as long as it asks, else for 5 minutes.
    pub fn handle_failed(&mut self, trunk_id: &str, address: SocketAddr, retry_after: Option<Duration>, now: Instant) {
        if let Some(peer) = self.by_id.get(trunk_id).and_then(|name| self.peers.get_mut(name)) {
            let is_known = peer.servers.iter().any(|server| server.addresses.contains(&address));
            if is_known {
                peer.failed.insert(address, now + retry_after.unwrap_or(FAILED).clamp(FAILED_MIN, FAILED_MAX));
            }
        }
    }

    /// The trunk that calls from this address, whatever the port.
    pub fn trunk_of(&self, source: IpAddr) -> Option<&str> {
        self.trunks_of(source).next()
    }

    /// All trunks that call from this address: several accounts may lie with one provider.
    pub fn trunks_of(&self, source: IpAddr) -> impl Iterator<Item = &str> {
        let source = source.to_canonical();
        let has = move |name: &PeerName| {
            let mut addresses = self.peers.get(name).into_iter().flat_map(|peer| &peer.servers);
            addresses.any(|server| server.addresses.iter().any(|address| address.ip() == source))
        };
        let own = self.by_id.iter().filter(move |(_, name)| has(name)).map(|(id, _)| id.as_str());
        let near = self.networks.iter().filter(move |(network, _)| network.contains(source)).map(|(_, id)| id.as_str());
        own.chain(near)
    }

    /// When a name is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.peers.values().filter(|peer| !peer.is_pending).filter_map(|peer| peer.due).min()
    }

    fn peer(&self, trunk_id: &str) -> Option<&Peer> {
        self.by_id.get(trunk_id).and_then(|name| self.peers.get(name))
    }
}

impl Peer {
    fn new(name: &PeerName, now: Instant) -> Self {
        let Some(Hop { address, transport }) = name.address() else {
            return Peer { due: Some(now), ..Peer::default() };
        };
        let server = Server { transport, rank: 0, priority: 0, weight: 0, addresses: vec![address] };
        Peer { servers: vec![server], is_known: true, ..Peer::default() }
    }

    fn prefer(&mut self, address: SocketAddr) {
        for server in &mut self.servers {
            if let Some(at) = server.addresses.iter().position(|known| *known == address) {
                server.addresses[..=at].rotate_right(1);
            }
        }
    }
}

/// Without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// RFC 3261 §19.1.2, RFC 7118 §5.2.
pub fn default_port(transport: Transport) -> u16 {
    match transport {
        Transport::Udp | Transport::Tcp => 5060,
        Transport::Tls => 5061,
        Transport::Ws => 80,
        Transport::Wss => 443,
    }
}

/// 5 s: a name server that has just come back is used soon.
const RETRY: Duration = Duration::from_secs(5);

/// 5 minutes: whoever calls meanwhile does not wait 32 s for a server that was dead a minute ago.
const FAILED: Duration = Duration::from_secs(300);

/// 1 s: a Retry-After of 0 still lets the call at hand go elsewhere.
const FAILED_MIN: Duration = Duration::from_secs(1);

/// An hour: longer is a setting, not a fault.
const FAILED_MAX: Duration = Duration::from_secs(3600);

/// 16 places: at 32 s each nobody waits for more.
const HOPS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_no_resolving() {
        let now = Instant::now();
        let mut trunks = Trunks::default();
        trunks.apply(&snapshot(&[("a", "192.0.2.1"), ("b", "[2001:db8::1]")]), now);
        assert_eq!(trunks.take_due(now), []);
        assert_eq!(trunks.targets("a"), Targets::Known(vec![hop(1)]));
        assert_eq!(trunks.trunk_of("2001:db8::1".parse().expect("address")), Some("b"));
        assert_eq!(trunks.trunk_of("::ffff:192.0.2.1".parse().expect("address")), Some("a"));
        assert_eq!(trunks.trunk_of("192.0.2.9".parse().expect("address")), None);
        assert_eq!(trunks.poll_timeout(), None);
    }

    #[test]
    fn a_name_is_resolved_once_its_records_have_aged_and_keeps_what_it_had_when_it_cannot_be() {
        let mut now = Instant::now();
        let mut trunks = Trunks::default();
        trunks.apply(&snapshot(&[("a", "sip.example")]), now);
        assert_eq!((trunks.targets("a"), trunks.hops("a", now)), (Targets::Pending, None));
        let name = trunks.take_due(now).pop().expect("due");
        assert_eq!(trunks.take_due(now), [], "one resolver at a time");
        trunks.handle_resolved(&name, Located::nothing(), now);
        assert_eq!((trunks.targets("a"), trunks.hops("a", now)), (Targets::None, Some(vec![])));
        now += RETRY;
        assert_eq!(trunks.take_due(now).len(), 1);
        trunks.handle_resolved(&name, located(&[1, 2, 3]), now);
        trunks.handle_answered("a", address(2));
        assert_eq!(tried(&mut trunks, now), [2, 1, 3]);
        now += TTL;
        assert_eq!(trunks.poll_timeout(), Some(now));
        assert_eq!(trunks.take_due(now).len(), 1);
        trunks.handle_resolved(&name, Located::nothing(), now);
        assert_eq!(tried(&mut trunks, now), [2, 1, 3], "a dead name server changes nothing");
        assert_eq!(trunks.poll_timeout(), Some(now + RETRY), "it is asked again soon");
        let half = Located { is_whole: false, ..located(&[9]) };
        trunks.handle_resolved(&name, half.clone(), now);
        assert_eq!(tried(&mut trunks, now), [2, 1, 3], "nor does one that answers half");
        trunks.handle_resolved(&name, located(&[3, 2]), now);
        assert_eq!(tried(&mut trunks, now), [2, 3], "the good one stays first");

        let mut fresh = Trunks::default();
        fresh.apply(&snapshot(&[("a", "sip.example")]), now);
        fresh.handle_resolved(&name, half, now);
        assert_eq!(tried(&mut fresh, now), [9], "half is better than nothing");
    }

    #[test]
    fn an_address_that_failed_is_tried_last_for_a_while_or_as_long_as_it_asks() {
        let mut now = Instant::now();
        let mut trunks = Trunks::default();
        trunks.apply(&snapshot(&[("a", "sip.example")]), now);
        let name = trunks.take_due(now).pop().expect("due");
        trunks.handle_resolved(&name, located(&[1, 2, 3]), now);
        trunks.handle_failed("a", address(1), None, now);
        trunks.handle_failed("a", address(2), Some(Duration::from_secs(30)), now);
        assert_eq!(tried(&mut trunks, now), [3, 1, 2]);
        now += Duration::from_secs(30);
        assert_eq!(tried(&mut trunks, now), [2, 3, 1]);
        trunks.handle_resolved(&name, located(&[1, 2, 3]), now);
        assert_eq!(tried(&mut trunks, now), [2, 3, 1], "the DNS does not make it well");
        trunks.handle_answered("a", address(1));
        assert_eq!(tried(&mut trunks, now), [1, 2, 3], "its own answer does");
        trunks.handle_failed("a", address(1), None, now);
        assert_eq!(tried(&mut trunks, now + FAILED), [1, 2, 3], "and time");
    }

    #[test]
    fn another_configuration_keeps_what_is_known_and_forgets_what_is_gone() {
        let now = Instant::now();
        let mut trunks = Trunks::default();
        trunks.apply(&snapshot(&[("a", "sip.example"), ("b", "other.example")]), now);
        let names = trunks.take_due(now);
        let other = names.iter().find(|name| name.host == "sip.example").expect("due");
        trunks.handle_resolved(other, located(&[1]), now);
        trunks.apply(&snapshot(&[("c", "sip.example")]), now);
        assert_eq!(trunks.targets("c"), Targets::Known(vec![hop(1)]));
        assert_eq!(trunks.targets("b"), Targets::None);
        // The answer to a question that nobody asks any more.
        let gone = names.iter().find(|name| name.host == "other.example").expect("due");
        trunks.handle_resolved(gone, located(&[9]), now);
        assert_eq!(trunks.trunk_of(address(9).ip()), None);
    }

    #[test]
    fn an_outbound_proxy_is_where_requests_go() {
        for (proxy, host, port, transport) in [
            ("proxy.example", "proxy.example", None, TrunkTransport::Auto),
            ("proxy.example:5080", "proxy.example", Some(5080), TrunkTransport::Auto),
            ("192.0.2.1:5080", "192.0.2.1", Some(5080), TrunkTransport::Auto),
            ("2001:db8::1", "2001:db8::1", None, TrunkTransport::Auto),
            ("[2001:db8::1]:5080", "2001:db8::1", Some(5080), TrunkTransport::Auto),
            ("sip:proxy.example;transport=tcp", "proxy.example", None, TrunkTransport::Tcp),
            ("sip:proxy.example:5061;transport=TLS", "proxy.example", Some(5061), TrunkTransport::Tls),
            ("sips:proxy.example", "proxy.example", None, TrunkTransport::Tls),
            ("sip:proxy.example;lr", "proxy.example", None, TrunkTransport::Auto),
            // What cannot be read is passed over, not called.
            ("not a host", "trunk.example", Some(5070), TrunkTransport::Auto),
        ] {
            let mut trunk = TrunkRoute::new("t", "trunk.example");
            (trunk.port, trunk.transport) = (Some(5070), TrunkTransport::Auto);
            trunk.access.outbound_proxy = Some(proxy.into());
            assert_eq!(PeerName::of(&trunk), PeerName { host: host.into(), port, transport }, "{proxy}");
        }
    }

    #[test]
    fn a_trunk_is_known_by_its_networks_too_and_an_address_may_be_several_trunks() {
        let mut snapshot = snapshot(&[("a", "192.0.2.1"), ("b", "192.0.2.1"), ("c", "198.51.100.1")]);
        let networks = ["203.0.113.64/26", "2001:db8::/32", "198.51.100.7", "nonsense", "192.0.2.0/33"];
        snapshot.trunks.get_mut("c").expect("it").access.networks = networks.map(str::to_owned).into();
        let mut trunks = Trunks::default();
        trunks.apply(&snapshot, Instant::now());
        for (source, expected) in [
            ("192.0.2.1", &["a", "b"][..]),
            ("198.51.100.1", &["c"]),
            ("203.0.113.64", &["c"]),
            ("::ffff:203.0.113.127", &["c"]),
            ("203.0.113.128", &[]),
            ("2001:db8:1::1", &["c"]),
            ("2001:db9::1", &[]),
            ("198.51.100.7", &["c"]),
            ("198.51.100.8", &[]),
            ("192.0.2.2", &[]),
        ] {
            let found: Vec<&str> = trunks.trunks_of(source.parse().expect("address")).collect();
            assert_eq!(found, expected, "{source}");
        }
    }

    fn tried(trunks: &mut Trunks, now: Instant) -> Vec<u8> {
        let last = |hop: &Hop| match hop.address.ip() {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => 0,
        };
        trunks.hops("a", now).expect("resolved").iter().map(last).collect()
    }

    fn address(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 5060).into()
    }

    fn hop(last: u8) -> Hop {
        Hop { address: address(last), transport: Transport::Udp }
    }

    fn located(last: &[u8]) -> Located {
        let addresses = last.iter().map(|last| address(*last)).collect();
        let server = Server { transport: Transport::Udp, rank: 0, priority: 0, weight: 0, addresses };
        Located { servers: vec![server], ttl: TTL, is_whole: true }
    }

    fn snapshot(trunks: &[(&str, &str)]) -> Snapshot {
        let route = |host: &str| TrunkRoute::new("t", host);
        let trunks = trunks.iter().map(|(id, host)| ((*id).to_owned(), route(host))).collect();
        Snapshot { trunks, ..Snapshot::default() }
    }

    const TTL: Duration = Duration::from_secs(20);
}
