//! The way to an address: a connection that stands, or a new one, or datagrams.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use talkstack_media::sip::{Flow, Transport};

use super::SipThread;
use super::listen::route_source;
use super::tls::PeerIdentity;
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

    /// The address the kernel would send to `remote` from, looked up anew every minute.
    pub(super) fn local_address(&mut self, remote: SocketAddr, now: Instant) -> IpAddr {
        if let Some((local, until)) = self.local_addresses.get(&remote.ip())
            && *until > now
        {
            return *local;
        }
        if self.local_addresses.len() >= LOCAL_ADDRESSES_MAX {
            self.local_addresses.clear();
        }
        let local = route_source(remote);
        self.local_addresses.insert(remote.ip(), (local, now + LOCAL_ADDRESS_AGE));
        local
    }
}

/// 60 s (`telephony`): an interface that changes is found within a minute.
const LOCAL_ADDRESS_AGE: Duration = Duration::from_secs(60);

/// 4,096 peers; a box has tens.
const LOCAL_ADDRESSES_MAX: usize = 4096;
