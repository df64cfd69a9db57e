//! Requests that find nobody (RFC 3261 §17.1.4): ICMP says that nothing listens where they went.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Endpoint, Flow, Purpose, Timer, TransactionKey, Transport};

impl Endpoint {
    /// ICMP says that no port is open where a datagram of ours went, and quotes how it began. Its transaction times out
    /// at once, unless it has been answered before or may be repeated for the sake of a call that is up: UPDATE and
    /// re-INVITE go on, for a far end that restarts.
    ///
    /// Who forges ICMP must know the branch, which nobody off the path does; what quotes less changes nothing.
    pub fn handle_port_unreachable(&mut self, remote: SocketAddr, quoted: &[u8], now: Instant) {
        let Some(key) = quoted_key(quoted) else { return };
        let is_there = |flow: &Flow| flow.transport == Transport::Udp && flow.remote == remote;
        let is_over = if let Some(client) = self.clients.get_mut(&key) {
            is_there(&client.flow) && client.ask.purpose != Purpose::Update && client.machine.handle_unreachable(now)
        } else if let Some((flow, machine)) = self.outside.client(&key) {
            is_there(flow) && machine.handle_unreachable(now)
        } else if let Some((flow, machine)) = self.outgoing.first_invite(&key) {
            is_there(flow) && machine.handle_unreachable(now)
        } else {
            false
        };
        if is_over {
            self.timers.insert((now, Timer::Client(key)));
        }
    }
}

/// The transaction of a request of ours, of which only the beginning is there.
fn quoted_key(quoted: &[u8]) -> Option<TransactionKey> {
    let text = str::from_utf8(quoted.utf8_chunks().next()?.valid().as_bytes()).ok()?;
    let method = text.split(' ').next()?;
    let (_, rest) = text.split_once("\r\nVia: ")?;
    let (_, rest) = rest.split_once(";branch=")?;
    // Without what comes behind it the branch may go on.
    let end = rest.find([';', ',', '\r', ' '])?;
    Some(TransactionKey(format!("{}|{method}", &rest[..end]).into()))
}
