//! Under which address a peer is to reach us.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

/// A network, as `192.0.2.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
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

/// What Via, Contact and SDP carry in place of the local address, by peer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Advertised {
    /// Host and port towards peers outside the local networks.
    pub outside: Option<(String, Option<u16>)>,
    /// The local networks; none named: loopback, RFC 1918, unique local and link-local.
    pub local: Vec<Network>,
    /// Host and port towards single peers, wherever they lie.
    pub of_peers: BTreeMap<IpAddr, (String, Option<u16>)>,
}

impl Advertised {
    /// Host and port that the peer is to be told; `None` is the local address.
    pub fn towards(&self, remote: IpAddr) -> Option<&(String, Option<u16>)> {
        let remote = remote.to_canonical();
        self.of_peers.get(&remote).or_else(|| self.outside.as_ref().filter(|_| !self.is_local(remote)))
    }

    /// The address for SDP, where what the peer is to be told is one.
    pub fn ip_towards(&self, remote: IpAddr) -> Option<IpAddr> {
        let (host, _) = self.towards(remote)?;
        host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    fn is_local(&self, remote: IpAddr) -> bool {
        if !self.local.is_empty() {
            return self.local.iter().any(|network| network.contains(remote));
        }
        match remote {
            IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        }
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

    fn told(advertised: &Advertised, remote: &str) -> Option<String> {
        advertised.towards(ip(remote)).map(|(host, _)| host.clone())
    }

    #[test]
    fn only_peers_outside_are_told_the_advertised_address() {
        let mut advertised = Advertised { outside: Some(("203.0.113.7".into(), None)), ..Advertised::default() };
        for local in ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "::1", "fd00::1", "fe80::1"]
        {
            assert_eq!(told(&advertised, local), None, "{local}");
        }
        for outside in ["198.51.100.1", "172.32.0.1", "2001:db8::1", "::ffff:198.51.100.1"] {
            assert_eq!(told(&advertised, outside).as_deref(), Some("203.0.113.7"), "{outside}");
        }
        assert_eq!(told(&advertised, "::ffff:10.0.0.1"), None);
        advertised.local = vec!["198.51.100.0/24".parse().expect("a network")];
        assert_eq!(told(&advertised, "198.51.100.255"), None);
        assert_eq!(advertised.ip_towards(ip("198.51.101.0")), Some(ip("203.0.113.7")));
        assert_eq!(advertised.ip_towards(ip("10.1.2.3")), Some(ip("203.0.113.7")));
    }

    #[test]
    fn a_peer_of_its_own_is_told_its_own_address() {
        let mut advertised = Advertised { outside: Some(("box.example".into(), None)), ..Advertised::default() };
        advertised.of_peers.insert(ip("10.0.0.9"), ("192.0.2.1".into(), Some(5070)));
        assert_eq!(told(&advertised, "10.0.0.9").as_deref(), Some("192.0.2.1"));
        assert_eq!(told(&advertised, "10.0.0.8"), None);
        assert_eq!(advertised.ip_towards(ip("198.51.100.1")), None);
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
