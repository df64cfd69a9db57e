//! SIP's sockets: UDP and TCP on every configured address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdTcpListener, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use talkstack_media::sip::{Flow, Transport};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::datagrams::{Arrival, Datagrams};
use super::link::{Acceptor, Begins};
use super::tls::Tls;
use super::websocket::Origins;
use super::{Received, streams};

/// Where SIP listens, as it was bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SipAddress(pub SocketAddr);

/// An address that cannot be listened on. The operator's to mend; the program exits 75.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {transport} {address} for SIP ({source}); free the port or set sip.listen")]
pub struct BindError {
    /// UDP or TCP.
    transport: &'static str,
    /// Which.
    address: SocketAddr,
    /// What the kernel says.
    source: std::io::Error,
}

/// SIP's sockets, bound.
#[derive(Debug)]
pub struct Listeners {
    udp: Vec<Datagrams>,
    /// Listeners for streams, and how those begin.
    streams: Vec<(Arc<TcpListener>, Begins)>,
    secured: Vec<SecuredAddress>,
}

/// Where SIP listens under TLS or for WebSockets, as it was bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecuredAddress {
    /// TLS, WS or WSS.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
}

/// Where else SIP is to listen.
#[derive(Clone, Default)]
pub struct MoreListeners {
    /// `sip.tls_listen`.
    pub tls: Vec<SocketAddr>,
    /// `sip.ws_listen`.
    pub ws: Vec<SocketAddr>,
    /// `sip.wss_listen`.
    pub wss: Vec<SocketAddr>,
    /// `sip.ws_origins`.
    pub origins: Vec<String>,
}

impl Listeners {
    /// Binds UDP and TCP on each address; port 0 takes any port that is free for both. Call within the SIP runtime.
    ///
    /// # Errors
    /// [`BindError`] for the first address that cannot be bound.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        let mut listeners = Listeners { udp: Vec::new(), streams: Vec::new(), secured: Vec::new() };
        for &address in addresses {
            let (udp, tcp) = bind_both(address)?;
            let udp = Datagrams::new(udp).map_err(|source| BindError { transport: "UDP", address, source })?;
            let tcp = TcpListener::from_std(tcp).map_err(|source| BindError { transport: "TCP", address, source })?;
            listeners.udp.push(udp);
            listeners.streams.push((Arc::new(tcp), Begins::Plain));
        }
        Ok(listeners)
    }

    /// Binds what is to listen besides; without TLS what needs it is left out.
    ///
    /// # Errors
    /// [`BindError`] for the first address that cannot be bound.
    pub fn bind_more(&mut self, more: &MoreListeners, tls: Option<&Tls>) -> Result<(), BindError> {
        let acceptor = tls.and_then(Tls::acceptor).map(Acceptor);
        let origins = || Origins(more.origins.clone().into());
        let secured = [
            (Transport::Tls, &more.tls, acceptor.clone().map(Begins::Tls)),
            (Transport::Ws, &more.ws, Some(Begins::WebSocket(None, origins()))),
            (Transport::Wss, &more.wss, acceptor.map(|acceptor| Begins::WebSocket(Some(acceptor), origins()))),
        ];
        for (transport, addresses, begins) in secured {
            let Some(begins) = begins else { continue };
            for &address in addresses {
                let failed = |source| BindError { transport: transport.via_name(), address, source };
                let listener = bind_tcp(address).and_then(|listener| {
                    let bound = listener.local_addr()?;
                    Ok((TcpListener::from_std(listener)?, bound))
                });
                let (listener, bound) = listener.map_err(failed)?;
                self.streams.push((Arc::new(listener), begins.clone()));
                self.secured.push(SecuredAddress { transport, address: bound });
            }
        }
        Ok(())
    }

    /// Where it listens besides, with the ports the kernel chose.
    pub fn secured(&self) -> &[SecuredAddress] {
        &self.secured
    }

    /// The addresses, with the ports the kernel chose.
    pub fn addresses(&self) -> Vec<SipAddress> {
        self.bound().map(SipAddress).collect()
    }

    /// The port that a peer of this family reaches us at.
    pub(super) fn port_towards(&self, remote: SocketAddr, transport: Transport) -> u16 {
        if transport == Transport::Tls {
            let is_ours = |secured: &&SecuredAddress| {
                secured.transport == transport && secured.address.is_ipv4() == remote.is_ipv4()
            };
            return self.secured.iter().find(is_ours).map_or(5061, |secured| secured.address.port());
        }
        let of_family = self.bound().find(|address| address.is_ipv4() == remote.is_ipv4());
        of_family.map_or(5060, |address| address.port())
    }

    /// Tells whether anything here speaks the address's family.
    pub(super) fn reaches(&self, remote: SocketAddr) -> bool {
        self.bound().any(|address| address.is_ipv4() == remote.is_ipv4())
    }

    /// Sends a datagram from the socket, and from the address of ours, that the flow came by.
    pub(super) fn send(&self, flow: &Flow, bytes: &[u8]) {
        if let Some(socket) = choose(self.bound(), flow) {
            self.udp[socket].send(flow.local.ip(), flow.remote, bytes);
        }
    }

    fn bound(&self) -> impl Iterator<Item = SocketAddr> + Clone {
        self.udp.iter().map(Datagrams::bound)
    }
}

/// Reads every socket into one queue.
pub(super) fn spawn_readers(listeners: &Arc<Listeners>, sender: &mpsc::Sender<Received>) {
    for socket in 0..listeners.udp.len() {
        let (reader, messages) = (Arc::clone(listeners), sender.clone());
        tokio::spawn(async move {
            let mut buffer = vec![0; DATAGRAM_BYTES];
            loop {
                let Ok(arrival) = reader.udp[socket].receive(&mut buffer).await else { continue };
                let Arrival { bytes, remote, local } = arrival;
                let received = Received::Datagram { local, remote, bytes: buffer[..bytes].to_vec() };
                if messages.send(received).await.is_err() {
                    return;
                }
            }
        });
        let (listeners, sender) = (Arc::clone(listeners), sender.clone());
        tokio::spawn(async move {
            let mut buffer = vec![0; QUOTED_BYTES];
            loop {
                let Ok((remote, bytes)) = listeners.udp[socket].refused(&mut buffer).await else { continue };
                // Nobody waits for it: a transaction that is not told ends by its timer.
                let _ = sender.try_send(Received::Refused { remote, quoted: buffer[..bytes].to_vec() });
            }
        });
    }
    for (listener, begins) in &listeners.streams {
        let (listener, begins, sender) = (Arc::clone(listener), begins.clone(), sender.clone());
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, remote)) => {
                        let stream = streams::Opened { link: begins.link(stream), remote, listens_at: None };
                        if sender.send(Received::Opened { stream }).await.is_err() {
                            return;
                        }
                    }
                    // Out of file descriptors: others must close first.
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
        });
    }
}

/// The socket that is bound to the flow's address, else one of its port and family: a peer takes an answer only from
/// where it asked (RFC 3581 §4).
fn choose(bound: impl Iterator<Item = SocketAddr> + Clone, flow: &Flow) -> Option<usize> {
    let of_family = |address: &SocketAddr| address.is_ipv4() == flow.remote.is_ipv4();
    let exact = bound.clone().position(|address| of_family(&address) && address == flow.local);
    exact.or_else(|| bound.clone().position(|address| of_family(&address) && address.port() == flow.local.port()))
}

/// The address the kernel would send to `remote` from.
pub(super) fn route_source(remote: SocketAddr) -> IpAddr {
    let any: IpAddr = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Connecting a UDP socket sends nothing; it makes the kernel choose a route.
    let chosen = StdUdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(remote)?;
        socket.local_addr()
    });
    chosen.map_or(any, |address| address.ip())
}

/// UDP and TCP on one port. One that the kernel chose for UDP may be taken for TCP: then another.
fn bind_both(address: SocketAddr) -> Result<(StdUdpSocket, StdTcpListener), BindError> {
    let mut attempts = if address.port() == 0 { BIND_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        let udp = bind_udp(address).map_err(|source| BindError { transport: "UDP", address, source })?;
        let bound = udp.local_addr().map_err(|source| BindError { transport: "UDP", address, source })?;
        match bind_tcp(bound) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(source) if attempts == 0 => return Err(BindError { transport: "TCP", address: bound, source }),
            Err(_) => {}
        }
    }
}

fn bind_udp(address: SocketAddr) -> std::io::Result<StdUdpSocket> {
    let socket = socket(address, SocketType::DGRAM)?;
    bind(&socket, &address)?;
    Ok(socket.into())
}

fn bind_tcp(address: SocketAddr) -> std::io::Result<StdTcpListener> {
    let socket = socket(address, SocketType::STREAM)?;
    // A restart must not wait for the last connections' TIME_WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, TCP_BACKLOG)?;
    Ok(socket.into())
}

/// A non-blocking socket; an IPv6 one leaves the port free for IPv4.
fn socket(address: SocketAddr, kind: SocketType) -> std::io::Result<std::os::fd::OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}

/// 64 KiB: the largest datagram.
const DATAGRAM_BYTES: usize = 1 << 16;

/// 1,500 bytes: what ICMP quotes fits into one packet.
const QUOTED_BYTES: usize = 1500;

/// 16: with half of all ports taken for TCP one start in 65,536 fails.
const BIND_ATTEMPTS: u32 = 16;

/// 1,024 connections not yet accepted; Linux caps it at `net.core.somaxconn`.
const TCP_BACKLOG: i32 = 1024;

/// 100 ms.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_leaves_from_the_address_that_was_asked() {
        let bound: Vec<SocketAddr> = ["10.0.0.2:5060", "[::]:5060", "192.168.1.2:5060", "0.0.0.0:5070"]
            .map(|text| text.parse().expect("address"))
            .into();
        for (local, remote, socket) in [
            ("10.0.0.2:5060", "10.0.0.9:5060", Some(0)),
            ("192.168.1.2:5060", "192.168.1.9:5060", Some(2)),
            ("192.168.1.2:5070", "192.168.1.9:5060", Some(3)),
            ("[fd00::2]:5060", "[fd00::9]:40000", Some(1)),
            ("[fd00::2]:5070", "[fd00::9]:40000", None),
        ] {
            let (local, remote) = (local.parse().expect("address"), remote.parse().expect("address"));
            let flow = Flow { transport: Transport::Udp, local, remote, stream: None };
            assert_eq!(choose(bound.iter().copied(), &flow), socket, "{local} {remote}");
        }
    }
}
