//! The server transactions that are kept, and how many.

use std::time::Instant;

use super::{DialogId, Endpoint, Flow, Output, Timer, TransactionKey};
use crate::sip::message::{Headers, Method};
use crate::sip::transaction::server_invite::{self, ServerInvite};
use crate::sip::transaction::server_non_invite::ServerNonInvite;

#[derive(Debug)]
pub(super) enum Server {
    Invite { machine: ServerInvite, flow: Flow, headers: Headers, to_tag: String, dialog: Option<DialogId> },
    Other { machine: ServerNonInvite, flow: Flow, asked: Option<Box<Asked>> },
}

/// What a response that comes later is written from.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) headers: Headers,
    pub(super) to_tag: String,
    /// Where the request came from, for `received` and `rport`.
    pub(super) source: Flow,
}

impl Server {
    /// What it keeps of messages: the response, which repeats most of the request, and the request's fields.
    fn bytes(&self) -> usize {
        match self {
            Server::Invite { headers, .. } => twice(headers),
            Server::Other { asked: Some(asked), .. } => twice(&asked.headers),
            Server::Other { machine, .. } => machine.handle_retransmission().unwrap_or_default().len(),
        }
    }
}

fn twice(headers: &Headers) -> usize {
    headers.iter().map(|header| 2 * (header.value.len() + FIELD_BYTES)).sum()
}

impl Endpoint {
    pub(super) fn handle_server_timeout(&mut self, key: TransactionKey, now: Instant) {
        let Some(server) = self.servers.get_mut(&key) else { return };
        match server {
            Server::Other { machine, .. } if machine.poll_timeout() <= now => self.forget_server(&key),
            Server::Other { .. } => self.schedule_server(key),
            Server::Invite { machine, flow, .. } => {
                if let server_invite::Action::Send(bytes) = machine.handle_timeout(now) {
                    self.outputs.push_back(Output::Send { flow: *flow, bytes: bytes.to_vec() });
                }
                if machine.is_terminated() {
                    self.forget_server(&key);
                } else {
                    self.schedule_server(key);
                }
            }
        }
    }

    pub(super) fn remember_server(&mut self, key: TransactionKey, server: Server) {
        self.servers_bytes += server.bytes();
        if let Some(former) = self.servers.insert(key, server) {
            self.servers_bytes -= former.bytes();
        }
    }

    pub(super) fn forget_server(&mut self, key: &TransactionKey) {
        drop(self.take_server(key));
    }

    pub(super) fn take_server(&mut self, key: &TransactionKey) -> Option<Server> {
        let server = self.servers.remove(key)?;
        self.servers_bytes -= server.bytes();
        Some(server)
    }

    /// Tells whether what was refused or answered at once is no longer remembered: a retransmission is judged anew.
    /// The other half is kept for calls, so that a flood of refused ones keeps nobody out.
    pub(super) fn is_flooded(&self) -> bool {
        self.servers.len() >= TRANSACTIONS_MAX / 2 || self.servers_bytes >= TRANSACTIONS_BYTES_MAX / 2
    }

    /// Tells whether no further call can be taken in.
    pub(super) fn is_full(&self) -> bool {
        self.servers.len() >= TRANSACTIONS_MAX || self.servers_bytes >= TRANSACTIONS_BYTES_MAX
    }

    pub(super) fn schedule_server(&mut self, key: TransactionKey) {
        let at = match self.servers.get(&key) {
            Some(Server::Invite { machine, .. }) => machine.poll_timeout(),
            Some(Server::Other { machine, .. }) => Some(machine.poll_timeout()),
            None => None,
        };
        self.timers.extend(at.map(|at| (at, Timer::Server(key))));
    }
}

/// 65,536 answered requests at 64·T1 each: 2,000 a second.
const TRANSACTIONS_MAX: usize = 1 << 16;

/// 128 MiB: 65,536 requests of 2 KiB. Longer ones fill it sooner, never further.
pub(super) const TRANSACTIONS_BYTES_MAX: usize = 128 << 20;

/// 64 octets: the name of a header field and what the lists around it take.
const FIELD_BYTES: usize = 64;
