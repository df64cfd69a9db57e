//! The way to an address of a trunk: a connection that stands, or a new one, or datagrams.

use std::net::SocketAddr;
use std::time::Instant;

use talkstack_media::sip::{Flow, Transport};

use super::SipThread;
use super::tls::PeerIdentity;
use crate::trunks::Hop;

impl SipThread {
    /// The flow to a hop, behind which `peer` must be found where it is TLS.
    pub(super) fn way_to(&mut self, hop: Hop, peer: PeerIdentity, now: Instant) -> Flow {
        let Hop { address: remote, transport } = hop;
        let port = self.listeners.port_towards(remote, transport);
        let local = SocketAddr::new(self.local_address(remote, now), port);
        if transport == Transport::Tls {
            self.streams.expect(remote, peer);
        }
        let stream = transport.is_reliable().then(|| self.streams.towards(remote, transport)).flatten();
        let open = stream.and_then(|stream| self.streams.flow(stream));
        open.unwrap_or(Flow { transport, local, remote, stream: None })
    }
}
