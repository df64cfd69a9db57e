//! UDP sockets that tell which of our addresses a datagram came to, answer from there, and hear what ICMP says of the
//! datagrams that they have sent.

use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket as StdUdpSocket};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::libc::{ECONNREFUSED, in_pktinfo, in6_addr, in6_pktinfo, sock_extended_err, sockaddr_in6};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// One UDP socket.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: UdpSocket,
    bound: SocketAddr,
}

/// A datagram that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Its bytes in the buffer.
    pub(super) bytes: usize,
    /// Where it comes from.
    pub(super) remote: SocketAddr,
    /// Which of our addresses it came to.
    pub(super) local: SocketAddr,
}

impl Datagrams {
    /// Takes over a bound, non-blocking socket. Call within the SIP runtime.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn new(socket: StdUdpSocket) -> Result<Self> {
        let bound = socket.local_addr()?;
        if bound.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
        }
        Ok(Datagrams { socket: UdpSocket::from_std(socket)?, bound })
    }

    /// Where it is bound.
    pub(super) fn bound(&self) -> SocketAddr {
        self.bound
    }

    /// Waits for the next datagram.
    ///
    /// # Errors
    /// What the kernel says; the next call may succeed.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> Result<Arrival> {
        let mut control = cmsg_space!(in6_pktinfo);
        self.socket
            .async_io(Interest::READABLE, || {
                let (fd, mut slices) = (self.socket.as_raw_fd(), [IoSliceMut::new(buffer)]);
                let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), MsgFlags::empty())?;
                let remote = message.address.as_ref().and_then(address).ok_or(ErrorKind::InvalidData)?;
                let ip = message.cmsgs()?.find_map(arrived_at).unwrap_or(self.bound.ip());
                Ok(Arrival { bytes: message.bytes, remote, local: SocketAddr::new(ip, self.bound.port()) })
            })
            .await
    }

    /// Waits until ICMP says that nothing listens where a datagram of ours went: where, and how many bytes of the
    /// datagram, put into the buffer, it quotes.
    ///
    /// # Errors
    /// What the kernel says, or another thing that ICMP says and that may pass; the next call may succeed.
    pub(super) async fn refused(&self, buffer: &mut [u8]) -> Result<(SocketAddr, usize)> {
        let mut control = cmsg_space!(sock_extended_err, sockaddr_in6, in6_pktinfo);
        self.socket
            .async_io(Interest::ERROR, || {
                let (fd, mut slices) = (self.socket.as_raw_fd(), [IoSliceMut::new(buffer)]);
                let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), MsgFlags::MSG_ERRQUEUE)?;
                let is_refusal = message.cmsgs()?.any(|control| match control {
                    ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
                        error.ee_errno == ECONNREFUSED as u32
                    }
                    _ => false,
                });
                let remote = message.address.as_ref().and_then(address).filter(|_| is_refusal);
                Ok((remote.ok_or(ErrorKind::Other)?, message.bytes))
            })
            .await
    }

    /// Sends a datagram from one of our addresses, or, where that is gone, from the one that the kernel chooses. A full
    /// kernel buffer loses it, as the network may; the transaction sends it again.
    pub(super) fn send(&self, from: IpAddr, remote: SocketAddr, bytes: &[u8]) {
        let from = Some(from).filter(|from| self.bound.ip().is_unspecified() && !from.is_unspecified());
        for from in [from, None] {
            // What ICMP has said of earlier ones is told first, once each, in place of sending.
            let mut sent = self.try_send(from, remote, bytes);
            for _ in 0..ERRORS_MAX {
                match &sent {
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                    _ => break,
                }
                sent = self.try_send(from, remote, bytes);
            }
            match sent {
                Err(error) if from.is_some() && error.kind() != ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }

    fn try_send(&self, from: Option<IpAddr>, remote: SocketAddr, bytes: &[u8]) -> Result<()> {
        let (v4, v6);
        let control = match from.map(|from| from.to_canonical()) {
            Some(IpAddr::V4(ip)) => {
                v4 = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: in_addr(ip.octets()), ipi_addr: in_addr([0; 4]) };
                Some(ControlMessage::Ipv4PacketInfo(&v4))
            }
            Some(IpAddr::V6(ip)) => {
                v6 = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
                Some(ControlMessage::Ipv6PacketInfo(&v6))
            }
            None => None,
        };
        self.socket.try_io(Interest::WRITABLE, || {
            let (fd, slices, to) = (self.socket.as_raw_fd(), [IoSlice::new(bytes)], SockaddrStorage::from(remote));
            sendmsg(fd, &slices, control.as_slice(), MsgFlags::empty(), Some(&to)).map_err(Error::from)?;
            Ok(())
        })
    }
}

fn in_addr(octets: [u8; 4]) -> nix::libc::in_addr {
    nix::libc::in_addr { s_addr: u32::from_ne_bytes(octets) }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddrV4::from(*v4).into()),
        (_, Some(v6)) => Some(SocketAddrV6::from(*v6).into()),
        _ => None,
    }
}

/// The address that a datagram came to.
fn arrived_at(control: ControlMessageOwned) -> Option<IpAddr> {
    match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes())),
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    }
}

/// 16 refusals at once: more peers than that do not restart in one moment.
const ERRORS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime
            .block_on(async { tokio::time::timeout(std::time::Duration::from_secs(5), future).await.expect("in time") })
    }

    async fn bound(address: &str) -> Datagrams {
        let socket = StdUdpSocket::bind(address).expect("a port");
        socket.set_nonblocking(true).expect("set");
        let datagrams = Datagrams::new(socket).expect("taken over");
        datagrams.socket.writable().await.expect("it is known to be");
        datagrams
    }

    fn peer(ip: &str) -> StdUdpSocket {
        let socket = StdUdpSocket::bind((ip, 0)).expect("a port");
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("set");
        socket
    }

    #[test]
    fn a_datagram_tells_which_address_it_came_to_and_its_answer_leaves_from_there() {
        for (any, ours) in [("0.0.0.0:0", ["127.0.0.1", "127.0.0.5"]), ("[::]:0", ["::1", "::1"])] {
            block_on(async {
                let (socket, mut buffer) = (bound(any).await, [0; 64]);
                for ip in ours {
                    let ours = SocketAddr::new(ip.parse().expect("an address"), socket.bound().port());
                    let peer = peer(if ours.is_ipv4() { "127.0.0.1" } else { "::1" });
                    peer.send_to(b"REGISTER", ours).expect("sent");
                    let arrival = socket.receive(&mut buffer).await.expect("it comes");
                    let remote = peer.local_addr().expect("bound");
                    assert_eq!(arrival, Arrival { bytes: 8, remote, local: ours });
                    socket.send(arrival.local.ip(), remote, b"200");
                    assert_eq!(peer.recv_from(&mut buffer).expect("an answer"), (3, ours));
                }
            });
        }
    }

    #[test]
    fn an_address_that_is_gone_costs_no_datagram() {
        block_on(async {
            let (socket, peer) = (bound("0.0.0.0:0").await, peer("127.0.0.1"));
            socket.send("192.0.2.77".parse().expect("an address"), peer.local_addr().expect("bound"), b"BYE");
            assert_eq!(peer.recv(&mut [0; 64]).expect("it comes"), 3);
        });
    }

    #[test]
    fn a_refusal_is_told_with_what_was_refused_and_costs_the_next_datagram_nothing() {
        for any in ["0.0.0.0:0", "127.0.0.1:0", "[::1]:0"] {
            block_on(async {
                let (socket, mut buffer) = (bound(any).await, [0; 64]);
                let ip = if socket.bound().is_ipv4() { "127.0.0.1" } else { "::1" };
                let closed = StdUdpSocket::bind((ip, 0)).and_then(|socket| socket.local_addr()).expect("a port");
                let peer = peer(ip);
                let own = ip.parse().expect("an address");
                socket.send(own, closed, b"INVITE 1");
                socket.send(own, closed, b"INVITE 2");
                socket.send(own, peer.local_addr().expect("bound"), b"200 OK");
                assert_eq!(peer.recv(&mut buffer).expect("not lost"), 6);
                let (remote, bytes) = socket.refused(&mut buffer).await.expect("told");
                assert_eq!((remote, &buffer[..bytes]), (closed, b"INVITE 1".as_slice()));
            });
        }
    }
}
