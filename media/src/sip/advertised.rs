//! Under which address a peer is to reach us.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::endpoint::{Flow, Transport};
use super::message::Host;

/// A network, as `192.0.2.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// The network that an address with a prefix of so many bits lies in, at most 32 or 128.
    pub fn of(address: IpAddr, bits: u8) -> Self {
        Network { address, bits }
    }

    /// Tells whether the address lies in the network. An IPv4 address written as IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = u32::from(32_u8.saturating_sub(self.bits));
                (own.to_bits() ^ other.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = u32::from(128_u8.saturating_sub(self.bits));
                (own.to_bits() ^ other.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| WRONG)?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(max), |bits| bits.parse().map_err(|_| WRONG))?;
        if bits > max { Err(WRONG) } else { Ok(Network { address, bits }) }
    }
}

/// Where peers are told to find us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicAddress {
    /// As it stands in a URI: a name, an IPv4 address, or an IPv6 address in brackets.
    host: String,
    /// The address itself, or what the DNS says of the name; none while that is not known.
    addresses: Vec<IpAddr>,
    port: PublicPort,
}

/// The port of a [`PublicAddress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PublicPort {
    /// The one we listen on.
    #[default]
    AsBound,
    /// Another for UDP, which STUN has found.
    Udp(u16),
    /// Another for UDP and TCP; TLS and WebSockets have ports of their own.
    UdpAndTcp(u16),
}

impl PublicAddress {
    /// An address, or a name of which nothing is known yet.
    pub fn new(host: String, port: PublicPort) -> Self {
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse();
        PublicAddress { host, addresses: ip.into_iter().collect(), port }
    }

    /// What STUN says of a UDP socket.
    pub fn seen(mapped: SocketAddr) -> Self {
        PublicAddress::new(Host::Ip(mapped.ip()).to_string(), PublicPort::Udp(mapped.port()))
    }

    /// The name, where it is one and not an address.
    pub fn name(&self) -> Option<&str> {
        let is_address = self.host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        (!is_address).then_some(self.host.as_str())
    }

    /// What the DNS says of the name.
    pub fn resolved(mut self, addresses: Vec<IpAddr>) -> Self {
        self.addresses = addresses;
        self
    }

    /// The host and port in a URI towards the far end of a flow.
    fn host_port(&self, flow: &Flow) -> String {
        let port = match (self.port, flow.transport) {
            (PublicPort::Udp(port), Transport::Udp)
            | (PublicPort::UdpAndTcp(port), Transport::Udp | Transport::Tcp) => port,
            _ => flow.local.port(),
        };
        format!("{}:{port}", self.host(flow))
    }

    /// An address wherever it is known: not every peer asks the DNS, and none asks again when it changes. A certificate
    /// proves the name.
    fn host(&self, flow: &Flow) -> String {
        let is_secured = matches!(flow.transport, Transport::Tls | Transport::Wss);
        let ip = self.ip(flow.remote.ip()).filter(|_| !is_secured);
        ip.map_or_else(|| self.host.clone(), |ip| Host::Ip(ip).to_string())
    }

    /// The first address of the peer's family.
    fn ip(&self, remote: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().find(|ip| ip.is_ipv4() == remote.to_canonical().is_ipv4()).copied()
    }
}

/// What Via, Contact and SDP carry in place of the local address, by peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advertised {
    /// Towards peers outside the local networks.
    pub outside: Option<PublicAddress>,
    /// The local networks; none named: loopback, RFC 1918, unique local, link-local, and `attached`.
    pub local: Vec<Network>,
    /// The networks that the machine has an address in.
    pub attached: Vec<Network>,
    /// Towards single peers, wherever they lie.
    pub of_peers: BTreeMap<IpAddr, PublicAddress>,
}

impl Advertised {
    /// Host and port that stand in URIs towards the far end of a flow.
    pub fn host_port(&self, flow: &Flow) -> String {
        self.towards(flow.remote.ip()).map_or_else(|| flow.local.to_string(), |public| public.host_port(flow))
    }

    /// The host alone.
    pub fn host(&self, flow: &Flow) -> String {
        let public = self.towards(flow.remote.ip());
        public.map_or_else(|| Host::Ip(flow.local.ip()).to_string(), |public| public.host(flow))
    }

    /// The address for SDP; `None` is the local one.
    pub fn ip_towards(&self, remote: IpAddr) -> Option<IpAddr> {
        self.towards(remote)?.ip(remote)
    }

    /// What the peer is told; `None` is the local address, as it is where no address of the peer's family is known.
    fn towards(&self, remote: IpAddr) -> Option<&PublicAddress> {
        let remote = remote.to_canonical();
        let outside = || self.outside.as_ref().filter(|_| !self.is_local(remote));
        let told = self.of_peers.get(&remote).or_else(outside)?;
        (told.addresses.is_empty() || told.ip(remote).is_some()).then_some(told)
    }

    fn is_local(&self, remote: IpAddr) -> bool {
        if !self.local.is_empty() {
            return self.local.iter().any(|network| network.contains(remote));
        }
        is_near(remote) || self.attached.iter().any(|network| network.contains(remote))
    }
}

/// Tells whether an address is one that no router of the internet forwards: loopback, RFC 1918, unique local (RFC 4193) or
/// link-local. An IPv4 address written as IPv6 is to be made one first.
pub fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// What is wrong with a network that cannot be read.
const WRONG: &str = "is no network such as 192.0.2.0/24";

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn flow(remote: &str, transport: Transport) -> Flow {
        let remote = SocketAddr::new(ip(remote), 5062);
        let local = if remote.is_ipv4() { "10.0.0.2:5060" } else { "[fd00::2]:5060" };
        Flow { transport, local: local.parse().expect("an address"), remote, stream: None }
    }

    fn told(advertised: &Advertised, remote: &str) -> String {
        advertised.host_port(&flow(remote, Transport::Udp))
    }

    fn outside(host: &str) -> Advertised {
        let outside = Some(PublicAddress::new(host.into(), PublicPort::AsBound));
        Advertised { outside, ..Advertised::default() }
    }

    #[test]
    fn only_peers_outside_are_told_the_advertised_address() {
        let mut advertised = outside("203.0.113.7");
        advertised.attached = vec![Network::of(ip("198.18.0.2"), 15)];
        for local in ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "198.19.0.1"] {
            assert_eq!(told(&advertised, local), "10.0.0.2:5060", "{local}");
            assert_eq!(advertised.ip_towards(ip(local)), None, "{local}");
        }
        for outside in ["198.51.100.1", "172.32.0.1", "198.20.0.1", "::ffff:198.51.100.1"] {
            assert_eq!(told(&advertised, outside), "203.0.113.7:5060", "{outside}");
            assert_eq!(advertised.ip_towards(ip(outside)), Some(ip("203.0.113.7")), "{outside}");
        }
        for other in ["::1", "fd00::1", "fe80::1", "2001:db8::1"] {
            assert_eq!(told(&advertised, other), "[fd00::2]:5060", "{other}");
        }
        advertised.local = vec!["198.51.100.0/24".parse().expect("a network")];
        assert_eq!(told(&advertised, "198.51.100.255"), "10.0.0.2:5060");
        assert_eq!(advertised.ip_towards(ip("198.51.101.0")), Some(ip("203.0.113.7")));
        assert_eq!(advertised.ip_towards(ip("10.1.2.3")), Some(ip("203.0.113.7")), "named networks replace the others");
    }

    #[test]
    fn a_name_stands_for_its_addresses_and_for_itself_where_a_certificate_proves_it() {
        let mut advertised = outside("box.example");
        assert_eq!(told(&advertised, "198.51.100.1"), "box.example:5060", "not looked up yet");
        assert_eq!(advertised.ip_towards(ip("198.51.100.1")), None);
        let found = vec![ip("203.0.113.7"), ip("2001:db8::7")];
        advertised.outside = advertised.outside.map(|public| public.resolved(found));
        assert_eq!(told(&advertised, "198.51.100.1"), "203.0.113.7:5060");
        assert_eq!(told(&advertised, "2001:db8:1::1"), "[2001:db8::7]:5060");
        assert_eq!(advertised.ip_towards(ip("2001:db8:1::1")), Some(ip("2001:db8::7")));
        assert_eq!(advertised.host_port(&flow("198.51.100.1", Transport::Tls)), "box.example:5060");
        assert_eq!(advertised.host(&flow("198.51.100.1", Transport::Tcp)), "203.0.113.7");
    }

    #[test]
    fn a_port_is_told_where_the_router_has_it() {
        let seen = Advertised {
            outside: Some(PublicAddress::seen("203.0.113.7:40001".parse().expect("an address"))),
            ..Advertised::default()
        };
        let set = PublicAddress::new("203.0.113.7".into(), PublicPort::UdpAndTcp(5070));
        let set = Advertised { outside: Some(set), ..Advertised::default() };
        for (transport, by_stun, by_hand) in
            [(Transport::Udp, 40001, 5070), (Transport::Tcp, 5060, 5070), (Transport::Tls, 5060, 5060)]
        {
            let flow = flow("198.51.100.1", transport);
            assert_eq!(seen.host_port(&flow), format!("203.0.113.7:{by_stun}"), "{transport:?}");
            assert_eq!(set.host_port(&flow), format!("203.0.113.7:{by_hand}"), "{transport:?}");
        }
    }

    #[test]
    fn a_peer_of_its_own_is_told_its_own_address() {
        let mut advertised = outside("box.example");
        advertised.of_peers.insert(ip("10.0.0.9"), PublicAddress::new("192.0.2.1".into(), PublicPort::UdpAndTcp(5070)));
        assert_eq!(told(&advertised, "10.0.0.9"), "192.0.2.1:5070");
        assert_eq!(told(&advertised, "10.0.0.8"), "10.0.0.2:5060");
    }

    #[test]
    fn networks_are_read_strictly() {
        for wrong in ["", "/", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "x/8", "10.0.0.0/8/8"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        let all: Network = "0.0.0.0/0".parse().expect("a network");
        assert!(all.contains(ip("8.8.8.8")) && !all.contains(ip("::1")));
        let one: Network = "192.0.2.1".parse().expect("a network");
        assert!(one.contains(ip("192.0.2.1")) && !one.contains(ip("192.0.2.2")));
    }
}
