//! What the box looks like from outside: the address that is set, the addresses that the DNS has for its name, or what
//! a STUN server sees.
//!
//! ```text
//!   sip.advertise, trunks' own ─▶ Names ─ take_due ─▶ DNS ─ handle_found ─┬▶ PublicAddress ─▶ Via, Contact, SDP
//!   sip.stun ────────────────────────────────────────▶ Discovery ─────────┘
//! ```

mod discovery;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use talkstack_media::sip::{Network, PublicAddress};

pub use discovery::{Discovery, DiscoveryOutput, StunServer};

/// What it is set up with.
#[derive(Debug, Clone, Default)]
pub struct OutsideConfig {
    /// `sip.advertise`.
    pub advertise: Option<PublicAddress>,
    /// `sip.local_networks`.
    pub local: Vec<Network>,
    /// `sip.stun`, which is for nothing where `advertise` is set.
    pub stun: Vec<StunServer>,
}

/// Names of ours and what the DNS says of them.
#[derive(Debug, Default)]
pub struct Names {
    names: BTreeMap<String, Name>,
}

#[derive(Debug)]
struct Name {
    addresses: Vec<IpAddr>,
    due: Instant,
    /// A resolver is at work.
    is_asked: bool,
}

/// What has become of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It has the addresses it had.
    Unchanged,
    /// It has others.
    Changed,
    /// It has none now; what was known of it holds.
    Nothing,
}

impl Names {
    /// Keeps these names and no others.
    pub fn keep(&mut self, wanted: &BTreeSet<String>, now: Instant) {
        self.names.retain(|name, _| wanted.contains(name));
        for name in wanted {
            let name = self.names.entry(name.clone());
            name.or_insert(Name { addresses: Vec::new(), due: now, is_asked: false });
        }
    }

    /// When [`Names::take_due`] has something to give.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.names.values().filter(|name| !name.is_asked).map(|name| name.due).min()
    }

    /// Names to ask the DNS for, each until [`Names::handle_found`].
    pub fn take_due(&mut self, now: Instant) -> Vec<String> {
        let due = self.names.iter_mut().filter(|(_, name)| !name.is_asked && name.due <= now);
        due.map(|(text, name)| {
            name.is_asked = true;
            text.clone()
        })
        .collect()
    }

    /// The DNS has answered, with nothing where it could not. The order of addresses says nothing.
    pub fn handle_found(&mut self, text: &str, mut addresses: Vec<IpAddr>, now: Instant) -> Found {
        let Some(name) = self.names.get_mut(text) else { return Found::Unchanged };
        name.is_asked = false;
        name.due = now + if addresses.is_empty() && name.addresses.is_empty() { AGAIN } else { EVERY };
        // The one that peers know stays the first while it is there at all.
        let rank = |ip: &IpAddr| name.addresses.iter().position(|known| known == ip).unwrap_or(usize::MAX);
        addresses.sort_by_key(|ip| (rank(ip), *ip));
        addresses.truncate(ADDRESSES_MAX);
        if addresses.is_empty() {
            Found::Nothing
        } else if addresses == name.addresses {
            Found::Unchanged
        } else {
            name.addresses = addresses;
            Found::Changed
        }
    }

    /// What is known of a name.
    pub fn addresses(&self, text: &str) -> &[IpAddr] {
        self.names.get(text).map_or(&[], |name| &name.addresses)
    }

    /// The address with what is known of its name.
    pub fn resolve(&self, public: &PublicAddress) -> PublicAddress {
        match public.name() {
            Some(name) => public.clone().resolved(self.addresses(name).to_vec()),
            None => public.clone(),
        }
    }
}

/// 60 s (`telephony` 7).
const EVERY: Duration = Duration::from_secs(60);

/// 5 s until a name of which nothing is known is asked for again: the network may be just coming up.
const AGAIN: Duration = Duration::from_secs(5);

/// 8 addresses of one name; one of each family is used.
const ADDRESSES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use talkstack_media::sip::PublicPort;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn a_name_is_read_again_every_60_s_and_keeps_what_was_known_when_the_dns_fails() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut names = Names::default();
        names.keep(&BTreeSet::from(["box.example".to_owned()]), start);
        assert_eq!(names.take_due(start), ["box.example"]);
        assert_eq!((names.take_due(at(9)), names.poll_timeout()), (vec![], None), "one question at a time");
        assert_eq!(names.handle_found("box.example", vec![], start), Found::Nothing);
        assert_eq!(names.poll_timeout(), Some(at(5)));
        assert_eq!(names.take_due(at(5)).len(), 1);
        assert_eq!(names.handle_found("box.example", ips(&["203.0.113.7"]), at(5)), Found::Changed);
        assert_eq!((names.take_due(at(64)), names.take_due(at(65)).len()), (vec![], 1));
        assert_eq!(names.handle_found("box.example", vec![], at(65)), Found::Nothing);
        assert_eq!(names.addresses("box.example"), ips(&["203.0.113.7"]));
        assert_eq!(names.take_due(at(125)).len(), 1);
        let public = PublicAddress::new("box.example".into(), PublicPort::AsBound);
        let before = names.resolve(&public);
        assert_eq!(names.handle_found("box.example", ips(&["203.0.113.8"]), at(125)), Found::Changed);
        assert_ne!(names.resolve(&public), before);
        names.keep(&BTreeSet::new(), at(126));
        assert_eq!(names.handle_found("box.example", ips(&["203.0.113.9"]), at(126)), Found::Unchanged, "gone");
    }

    #[test]
    fn a_name_with_several_addresses_does_not_change_with_their_order() {
        let now = Instant::now();
        let mut names = Names::default();
        names.keep(&BTreeSet::from(["box.example".to_owned()]), now);
        assert_eq!(names.handle_found("box.example", ips(&["203.0.113.7"]), now), Found::Changed);
        assert_eq!(names.handle_found("box.example", ips(&["203.0.113.1", "203.0.113.7"]), now), Found::Changed);
        assert_eq!(names.addresses("box.example"), ips(&["203.0.113.7", "203.0.113.1"]), "the known one first");
        assert_eq!(names.handle_found("box.example", ips(&["203.0.113.1", "203.0.113.7"]), now), Found::Unchanged);
    }
}
