//! A shard's sockets: what epoll calls them, and the pairs of RTP and RTCP ports that are open.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll;
use talkstack_media::session::Channel;

use crate::call::LegId;
use crate::io::ports::{Family, PortPair};

/// What a readable socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SocketKind {
    Inbox,
    Rtp,
    Rtcp,
    Agent,
}

/// A socket's name in epoll: its kind, and the key of its pair or its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token(u64);

impl Token {
    pub(super) const INBOX: Token = Token::new(SocketKind::Inbox, 0);

    pub(super) const fn new(kind: SocketKind, key: u32) -> Self {
        Token((kind as u64) << 32 | key as u64)
    }

    pub(super) const fn from_raw(raw: u64) -> Self {
        Token(raw)
    }

    pub(super) const fn kind(self) -> SocketKind {
        match self.0 >> 32 {
            1 => SocketKind::Rtp,
            2 => SocketKind::Rtcp,
            3 => SocketKind::Agent,
            _ => SocketKind::Inbox,
        }
    }

    pub(super) const fn key(self) -> u32 {
        self.0 as u32
    }
}

/// Has epoll report the socket under `token`.
pub(super) fn watch(epoll: &OwnedFd, socket: BorrowedFd<'_>, token: Token, for_write: bool) -> std::io::Result<()> {
    epoll::add(epoll, socket, epoll::EventData::new_u64(token.0), interest(for_write))?;
    Ok(())
}

/// Changes what epoll reports of a watched socket.
pub(super) fn watch_again(
    epoll: &OwnedFd,
    socket: BorrowedFd<'_>,
    token: Token,
    for_write: bool,
) -> std::io::Result<()> {
    epoll::modify(epoll, socket, epoll::EventData::new_u64(token.0), interest(for_write))?;
    Ok(())
}

fn interest(for_write: bool) -> epoll::EventFlags {
    if for_write { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN }
}

/// The open port pairs of a shard, in calls and at rest.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    open: Vec<Option<Open>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Open {
    pair: PortPair,
    /// The call that has it, and for which leg; `None` while it rests.
    owner: Option<(u32, LegId)>,
}

impl Pairs {
    /// Watches a bound pair and returns its key.
    pub(super) fn open(&mut self, epoll: &OwnedFd, pair: PortPair) -> std::io::Result<u32> {
        let key = self.free.pop().unwrap_or_else(|| {
            self.open.push(None);
            (self.open.len() - 1) as u32
        });
        let watched = watch(epoll, pair.rtp.as_fd(), Token::new(SocketKind::Rtp, key), false)
            .and_then(|()| watch(epoll, pair.rtcp.as_fd(), Token::new(SocketKind::Rtcp, key), false));
        match watched {
            Ok(()) => {
                self.open[key as usize] = Some(Open { pair, owner: None });
                Ok(key)
            }
            Err(error) => {
                self.free.push(key);
                Err(error)
            }
        }
    }

    /// Closes a pair; dropping it takes it out of epoll.
    pub(super) fn close(&mut self, key: u32) -> Option<PortPair> {
        let open = self.open.get_mut(key as usize)?.take()?;
        self.free.push(key);
        Some(open.pair)
    }

    /// Gives a pair away: its sockets stay open, and are watched here no more.
    pub(super) fn give(&mut self, epoll: &OwnedFd, key: u32) -> Option<PortPair> {
        let pair = self.close(key)?;
        for socket in [&pair.rtp, &pair.rtcp] {
            // One that is not watched need not be forgotten.
            let _ = epoll::delete(epoll, socket);
        }
        Some(pair)
    }

    pub(super) fn assign(&mut self, key: u32, owner: Option<(u32, LegId)>) {
        if let Some(Some(open)) = self.open.get_mut(key as usize) {
            open.owner = owner;
        }
    }

    pub(super) fn owner(&self, key: u32) -> Option<(u32, LegId)> {
        self.open.get(key as usize)?.as_ref()?.owner
    }

    pub(super) fn port(&self, key: u32) -> u16 {
        self.open.get(key as usize).and_then(Option::as_ref).map_or(0, |open| open.pair.port)
    }

    pub(super) fn family(&self, key: u32) -> Family {
        self.open.get(key as usize).and_then(Option::as_ref).map_or(Family::V4, |open| open.pair.family)
    }

    /// Reads one packet; `None` when there is none.
    pub(super) fn receive(&self, key: u32, channel: Channel, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let socket = self.socket(key, channel)?;
        loop {
            match socket.recv_from(buffer) {
                Ok(received) => return Some(received),
                // An ICMP error of an earlier send, reported here: the packet behind it is still to be read.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::Interrupted) => {}
                Err(_) => return None,
            }
        }
    }

    /// Sends one packet. What the kernel does not take now is late anyway and is lost.
    pub(super) fn send(&self, key: u32, channel: Channel, packet: &[u8], to: SocketAddr) {
        if let Some(socket) = self.socket(key, channel) {
            let _ = socket.send_to(packet, to);
        }
    }

    fn socket(&self, key: u32, channel: Channel) -> Option<&UdpSocket> {
        let pair = &self.open.get(key as usize)?.as_ref()?.pair;
        Some(match channel {
            Channel::Rtp => &pair.rtp,
            Channel::Rtcp => &pair.rtcp,
        })
    }
}
