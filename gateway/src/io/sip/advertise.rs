//! Which of our addresses peers are told: the one the kernel would send from, or what the box looks like from outside.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use talkstack_control::port::TrunkTransport;
use talkstack_media::sip::{Advertised, Flow, Network, PublicAddress, Transport};

use super::{SipThread, ToSip, listen};
use crate::call::LegId;
use crate::config::Advertise;
use crate::io::shard::ToCall;
use crate::outside::{Discovery, DiscoveryOutput, Found, Names, OutsideConfig, StunServer};
use crate::trunks::{PeerName, Targets};

/// Our addresses, on both sides of the router.
pub(super) struct Addresses {
    outside: OutsideConfig,
    names: Names,
    discovery: Discovery,
    /// What peers are told now.
    pub(super) advertised: Advertised,
    /// When the machine's own networks are looked at again.
    attached_until: Instant,
    /// By peer, what the kernel would send from.
    local: HashMap<IpAddr, (IpAddr, Instant)>,
}

impl Addresses {
    pub(super) fn new(outside: OutsideConfig, now: Instant) -> Self {
        let advertised = Advertised { local: outside.local.clone(), ..Advertised::default() };
        let stun = if outside.advertise.is_none() { outside.stun.clone() } else { Vec::new() };
        let (names, discovery) = (Names::default(), Discovery::new(stun, now));
        Addresses { outside, names, discovery, advertised, attached_until: now, local: HashMap::new() }
    }

    /// When [`SipThread::handle_addresses_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let is_told = self.advertised.outside.is_some();
        let machines =
            [self.names.poll_timeout(), self.discovery.poll_timeout(), is_told.then_some(self.attached_until)];
        machines.into_iter().flatten().min()
    }
}

impl SipThread {
    /// The address in SDP towards the far end of a flow.
    pub(super) fn media_address(&self, flow: &Flow) -> IpAddr {
        self.addresses.advertised.ip_towards(flow.remote.ip()).unwrap_or(flow.local.ip())
    }

    /// The same where no flow is known yet.
    pub(super) fn media_address_towards(&mut self, remote: SocketAddr, now: Instant) -> IpAddr {
        let advertised = self.addresses.advertised.ip_towards(remote.ip());
        advertised.unwrap_or_else(|| self.local_address(remote, now))
    }

    /// Gathers what peers are told. Call when a trunk, its addresses or ours have changed.
    pub(super) fn apply_advertised(&mut self, now: Instant) {
        let own = |text: &str| text.parse::<Advertise>().ok().map(PublicAddress::from);
        let trunks = self.snapshot.trunks.iter();
        let of_trunks: Vec<(&String, PublicAddress)> =
            trunks.filter_map(|(id, trunk)| Some((id, own(trunk.access.advertise.as_deref()?)?))).collect();
        let addresses = &mut self.addresses;
        let told = of_trunks.iter().map(|(_, public)| public).chain(&addresses.outside.advertise);
        let names = told.filter_map(PublicAddress::name).chain(addresses.discovery.names());
        let names: BTreeSet<String> = names.map(str::to_owned).collect();
        addresses.names.keep(&names, now);
        let mut advertised = Advertised {
            outside: match &addresses.outside.advertise {
                Some(public) => Some(addresses.names.resolve(public)),
                None => addresses.discovery.public(),
            },
            of_peers: Default::default(),
            ..addresses.advertised.clone()
        };
        for (id, public) in of_trunks {
            let Targets::Known(targets) = self.dialling.trunks.targets(id) else { continue };
            let public = addresses.names.resolve(&public);
            advertised
                .of_peers
                .extend(targets.iter().map(|target| (target.address.ip().to_canonical(), public.clone())));
        }
        self.set_advertised(advertised, now);
    }

    /// Tells peers from now on; registrars at once.
    fn set_advertised(&mut self, advertised: Advertised, now: Instant) {
        if advertised == self.addresses.advertised {
            return;
        }
        self.endpoint.set_advertised(advertised.clone());
        let former = std::mem::replace(&mut self.addresses.advertised, advertised);
        self.check_contacts(now);
        self.tell_moved(&former);
    }

    /// Far ends of calls that were told another address than the one that counts now are told that.
    fn tell_moved(&mut self, former: &Advertised) {
        for id in self.switchboard.calls().collect::<Vec<_>>() {
            for leg in [LegId::First, LegId::Second] {
                let dialog = self.switchboard.dialog(id, leg);
                let Some(flow) = dialog.and_then(|dialog| self.endpoint.flow_of(dialog)) else { continue };
                let remote = flow.remote.ip();
                if former.ip_towards(remote) != self.addresses.advertised.ip_towards(remote) {
                    let host = self.media_address(&flow);
                    self.tell(id, ToCall::Moved(leg, host));
                }
            }
        }
    }

    /// Does what is due.
    pub(super) fn handle_addresses_timeout(&mut self, now: Instant) {
        if self.addresses.advertised.outside.is_some() && self.addresses.attached_until <= now {
            self.addresses.attached_until = now + LOCAL_ADDRESS_AGE;
            let advertised = Advertised { attached: attached(), ..self.addresses.advertised.clone() };
            self.set_advertised(advertised, now);
        }
        let (addresses, seed) = (&mut self.addresses, self.random.seed());
        addresses.discovery.handle_timeout(&addresses.names, seed, now);
        self.carry_out_discovery(now);
        for name in self.addresses.names.take_due(now) {
            let (inbox, dns) = (self.dialling.own_inbox.clone(), self.dialling.dns.clone());
            tokio::spawn(async move {
                // With a port only addresses are asked for (RFC 3263 §4.2).
                let peer = PeerName { host: name.clone(), port: Some(5060), transport: TrunkTransport::Udp };
                let servers = dns.locate(peer).await.servers;
                let addresses = servers.iter().flat_map(|server| &server.addresses).map(SocketAddr::ip).collect();
                // The thread that asked is the one that is told; it may have stopped.
                let _ = inbox.send(ToSip::Found(name, addresses)).await;
            });
        }
    }

    /// Takes a datagram that is STUN; tells whether it answers a question of ours.
    pub(super) fn handle_stun(&mut self, bytes: &[u8], remote: SocketAddr, now: Instant) -> bool {
        let is_ours = self.addresses.discovery.handle_message(bytes, remote, now);
        self.carry_out_discovery(now);
        is_ours
    }

    fn carry_out_discovery(&mut self, now: Instant) {
        while let Some(output) = self.addresses.discovery.poll_output() {
            match output {
                DiscoveryOutput::Send(remote, bytes) => {
                    let port = self.listeners.port_towards(remote, Transport::Udp);
                    let local = SocketAddr::new(self.local_address(remote, now), port);
                    self.listeners.send(&Flow { transport: Transport::Udp, local, remote, stream: None }, &bytes);
                }
                DiscoveryOutput::Seen(seen) => {
                    tracing::info!(%seen, "A STUN server sees this box at {seen}: peers outside are told so");
                    self.apply_advertised(now);
                }
                DiscoveryOutput::Silent(StunServer { host, port }) => {
                    tracing::warn!(
                        "The STUN server {host}:{port} has not said where it sees this box: correct sip.stun, or let UDP \
                         through the firewall; until one does, peers outside are told what they were told before"
                    );
                }
            }
        }
    }

    /// The DNS has answered for a name of ours.
    pub(super) fn handle_found(&mut self, name: &str, addresses: Vec<IpAddr>, now: Instant) {
        match self.addresses.names.handle_found(name, addresses, now) {
            Found::Unchanged => {}
            Found::Changed => {
                let addresses = self.addresses.names.addresses(name);
                tracing::info!(?addresses, "The DNS has another address for {name}");
                self.apply_advertised(now);
            }
            Found::Nothing if self.addresses.names.addresses(name).is_empty() => {
                tracing::warn!("The name {name} has no address: correct sip.advertise or sip.stun");
            }
            Found::Nothing => {
                tracing::warn!("The name {name} has no address now; the last one counts");
            }
        }
    }

    /// The address the kernel would send to `remote` from, looked up anew every minute.
    pub(super) fn local_address(&mut self, remote: SocketAddr, now: Instant) -> IpAddr {
        let known = &mut self.addresses.local;
        if let Some((local, until)) = known.get(&remote.ip())
            && *until > now
        {
            return *local;
        }
        if known.len() >= LOCAL_ADDRESSES_MAX {
            known.clear();
        }
        let local = listen::route_source(remote);
        known.insert(remote.ip(), (local, now + LOCAL_ADDRESS_AGE));
        local
    }
}

/// The networks that the machine has an address in; none where the kernel does not say.
fn attached() -> Vec<Network> {
    let interfaces = getifaddrs().into_iter().flatten();
    let network =
        |address: SockaddrStorage, mask: SockaddrStorage| match (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
            (Some(address), Some(mask)) => {
                let bits = mask.ip().to_bits().leading_ones();
                Some(Network::of(address.ip().into(), bits as u8))
            }
            _ => {
                let bits = mask.as_sockaddr_in6()?.ip().to_bits().leading_ones();
                Some(Network::of(address.as_sockaddr_in6()?.ip().into(), bits as u8))
            }
        };
    interfaces.filter_map(|interface| network(interface.address?, interface.netmask?)).collect()
}

/// 60 s (`telephony` 7): an interface that changes is found within a minute.
const LOCAL_ADDRESS_AGE: Duration = Duration::from_secs(60);

/// 4,096 peers; a box has tens.
const LOCAL_ADDRESSES_MAX: usize = 4096;
