//! What peers are told in place of our own address.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use talkstack_media::sip::Flow;

use super::SipThread;
use crate::config::Advertise;
use crate::trunks::Targets;

impl SipThread {
    /// The address in SDP towards the far end of a flow.
    pub(super) fn media_address(&self, flow: &Flow) -> IpAddr {
        self.config.advertised.ip_towards(flow.remote.ip()).unwrap_or(flow.local.ip())
    }

    /// The same where no flow is known yet.
    pub(super) fn media_address_towards(&mut self, remote: SocketAddr, now: Instant) -> IpAddr {
        let advertised = self.config.advertised.ip_towards(remote.ip());
        advertised.unwrap_or_else(|| self.local_address(remote, now))
    }

    /// Gathers what trunks are told by their own settings. Call when a trunk or its addresses have changed.
    pub(super) fn apply_advertised(&mut self) {
        let mut advertised = self.config.advertised.clone();
        advertised.of_peers.clear();
        for (id, trunk) in &self.snapshot.trunks {
            let own = trunk.access.advertise.as_deref().and_then(|text| text.parse::<Advertise>().ok());
            let (Some(own), Targets::Known(addresses)) = (own, self.dialling.trunks.targets(id)) else { continue };
            for address in addresses {
                advertised.of_peers.insert(address.ip().to_canonical(), (own.host.clone(), own.port));
            }
        }
        if advertised != self.config.advertised {
            self.endpoint.set_advertised(advertised.clone());
            self.config.advertised = advertised;
        }
    }
}
