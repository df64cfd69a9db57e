//! Requests too large for a datagram go over TCP (RFC 3261 §18.1.1).
//!
//! ```text
//!   over 1,300 octets ─▶ TCP ── taken ─▶ the response comes by it
//!                         └ refused, or not up in 2 s ─▶ as a datagram after all; for 10 min that host gets datagrams
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::session::via;
use super::{Endpoint, Flow, Output, Timer, TransactionKey, Transport};
use crate::sip::transaction::client_invite::ClientInvite;
use crate::sip::transaction::client_non_invite::ClientNonInvite;

/// What becomes of requests over 1,300 octets whose next hop is reached by UDP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UdpLarge {
    /// TCP is tried for 2 s, then UDP; a host that does not take TCP is remembered for 10 minutes.
    #[default]
    Auto,
    /// UDP, in fragments.
    Udp,
    /// TCP only.
    Tcp,
}

/// Hosts that do not take TCP, and until when that is believed.
#[derive(Debug, Default)]
pub(super) struct Refusing(BTreeMap<SocketAddr, Instant>);

/// A request as it goes out.
pub(super) struct Fitted {
    pub(super) flow: Flow,
    pub(super) via: String,
    pub(super) bytes: Vec<u8>,
    pub(super) spare: Option<Box<Spare>>,
}

/// The same request as a datagram, until anything is heard of the one that went over TCP.
#[derive(Debug)]
pub(super) struct Spare {
    flow: Flow,
    via: String,
    bytes: Vec<u8>,
}

impl Refusing {
    fn note(&mut self, remote: SocketAddr, now: Instant) {
        self.0.retain(|_, until| *until > now);
        if self.0.len() >= REFUSING_MAX {
            self.0.pop_first();
        }
        self.0.insert(remote, now + REFUSING);
    }

    fn has(&self, remote: SocketAddr, now: Instant) -> bool {
        self.0.get(&remote).is_some_and(|until| *until > now)
    }
}

impl Endpoint {
    /// Writes a request for `flow`, or for TCP where it is too large for a datagram. `write` is given the flow and the
    /// Via to write.
    pub(super) fn fit(
        &self,
        flow: Flow,
        branch: &str,
        now: Instant,
        mut write: impl FnMut(&Flow, &str) -> Vec<u8>,
    ) -> Fitted {
        let mut written = |flow: Flow| {
            let via = via(&self.config.advertised, &flow, branch);
            let bytes = write(&flow, &via);
            Fitted { flow, via, bytes, spare: None }
        };
        let datagram = written(flow);
        let (length, policy) = (datagram.bytes.len(), self.config.udp_large);
        let fits = length <= LARGE || policy == UdpLarge::Udp;
        let is_refused = policy == UdpLarge::Auto && self.refusing.has(flow.remote, now);
        if flow.transport != Transport::Udp || ((fits || is_refused) && length <= DATAGRAM_MAX) {
            return datagram;
        }
        let spare = (policy != UdpLarge::Tcp && length <= DATAGRAM_MAX).then(|| {
            let Fitted { flow, via, bytes, .. } = datagram;
            Box::new(Spare { flow, via, bytes })
        });
        Fitted { spare, ..written(Flow { transport: Transport::Tcp, ..flow }) }
    }

    /// Sends what was fitted for the first time.
    pub(super) fn send_fitted(&mut self, flow: Flow, bytes: Vec<u8>, spare: Option<&Spare>) {
        let output = match spare {
            Some(_) => Output::SendLarge { flow, bytes },
            None => Output::Send { flow, bytes },
        };
        self.outputs.push_back(output);
    }

    /// A stream has ended, or did not come to be: large requests that nothing was heard of go out as datagrams.
    pub(super) fn fall_back(&mut self, closed: &Flow, now: Instant) {
        let timers = self.config.timers;
        let mut again: Vec<(TransactionKey, Flow, Vec<u8>, Option<Instant>)> = Vec::new();
        let clients = self
            .clients
            .iter_mut()
            .map(|(key, client)| (key, &mut client.flow, &mut client.machine, &mut client.spare));
        let outside = self.outside.requests_mut();
        for (key, flow, machine, spare) in clients.chain(outside).filter(|(_, flow, ..)| flow.is_by(closed)) {
            let Some(Spare { flow: by_datagram, bytes, .. }) = spare.take().map(|spare| *spare) else { continue };
            *flow = by_datagram;
            *machine = ClientNonInvite::new(bytes.clone(), flow.reliability(), timers, now);
            again.push((key.clone(), *flow, bytes, machine.poll_timeout()));
        }
        for (key, invite) in self.outgoing.invites_mut().filter(|(_, invite)| invite.flow.is_by(closed)) {
            let Some(Spare { flow, via, bytes }) = invite.spare.take().map(|spare| *spare) else { continue };
            (invite.flow, invite.sent.via) = (flow, via);
            invite.machine = ClientInvite::new(bytes.clone(), flow.reliability(), timers, now);
            again.push((key.clone(), flow, bytes, invite.machine.poll_timeout()));
        }
        let acks = self.outgoing.invites_mut().flat_map(|(_, invite)| &mut invite.acks);
        let mut acknowledged = Vec::new();
        for ack in acks.filter(|ack| ack.flow.is_by(closed)) {
            // Nobody answers an ACK, so whether it was taken is not known: once more is right, and says nothing of the host.
            let Some(Spare { flow, bytes, .. }) = ack.spare.take().map(|spare| *spare) else { continue };
            (ack.flow, ack.bytes) = (flow, bytes.clone());
            acknowledged.push((flow, bytes));
        }
        for (flow, bytes) in acknowledged {
            self.send(flow, bytes);
        }
        for (key, flow, bytes, at) in again {
            self.refusing.note(flow.remote, now);
            self.send(flow, bytes);
            self.timers.extend(at.map(|at| (at, Timer::Client(key))));
        }
    }
}

/// RFC 3261 §18.1.1: 1,300 octets where the path's MTU is not known.
const LARGE: usize = 1300;

/// 65,507 octets: what IPv4 and UDP leave of 65,535.
const DATAGRAM_MAX: usize = 65_507;

/// 10 min (`telephony` 6): a host that takes TCP after an upgrade is asked so on the same day, one that does not costs
/// 2 s six times an hour.
const REFUSING: Duration = Duration::from_secs(600);

/// 1,024 hosts; a box has tens. Beyond them one is asked again too early.
const REFUSING_MAX: usize = 1024;

/// 2 s (`telephony` 6) for the stream of a large request to stand; then it goes out as a datagram.
pub const LARGE_CONNECT_MAX: Duration = Duration::from_secs(2);
