//! The way to an address: a connection that stands, or a new one, or datagrams.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use talkstack_media::sip::{Flow, Transport};

use super::tls::PeerIdentity;
use super::{SipThread, ToSip};
use crate::trunks::Hop;

impl SipThread {
    /// Sends a message over its flow. Without a stream it goes by one that leads there already, else by one that is to
    /// stand `within` so long.
    pub(super) fn send(&mut self, flow: &Flow, bytes: Vec<u8>, within: Duration) {
        let open = || self.streams.towards(flow.remote, flow.transport);
        match (flow.transport, flow.stream.or_else(open)) {
            (Transport::Udp, _) => self.listeners.send(flow, &bytes),
            (_, Some(stream)) => self.streams.send(stream, bytes),
            (_, None) => {
                if let Err(error) = self.streams.connect(flow, bytes, within) {
                    self.told.counters.streams_refused += 1;
                    tracing::debug!("Opened no SIP connection: {error}");
                    self.endpoint.handle_stream_closed(flow, Instant::now());
                }
            }
        }
    }

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

    /// Resolves the names that are due; each answer comes back by the inbox.
    pub(super) fn resolve_due(&mut self, now: Instant) {
        for name in self.dialling.trunks.take_due(now) {
            let (inbox, dns) = (self.dialling.own_inbox.clone(), self.dialling.dns.clone());
            tokio::spawn(async move {
                let located = dns.locate(name.clone()).await;
                // The thread that asked is the one that is told; it may have stopped.
                let _ = inbox.send(ToSip::Resolved(name, located)).await;
            });
        }
    }
}
