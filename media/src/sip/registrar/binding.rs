//! One phone of one user, the way to it, and how it is written down.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::sip::endpoint::{Flow, StreamId, Transport};
use crate::sip::message::{NameAddr, Request, Uri};

/// What a phone has bound.
#[derive(Clone, PartialEq)]
pub struct Binding {
    /// Its Contact's address.
    pub contact: Uri,
    /// Preference in thousandths, 0 to 1,000.
    pub q: u16,
    /// Its `+sip.instance`.
    pub instance: Option<String>,
    /// Its `reg-id` (RFC 5626), where it is used.
    pub reg_id: Option<u32>,
    /// Path, from us to it.
    pub path: Vec<String>,
    /// The flow it registered by.
    pub flow: Flow,
    /// Its User-Agent.
    pub user_agent: Option<String>,
    /// When it ends.
    pub expires_at: Instant,
    pub(super) call_id: String,
    pub(super) cseq: u32,
}

/// Where somebody is, is personal.
impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Binding(over {:?})", self.flow.transport)
    }
}

/// How to call a phone.
#[derive(Clone, PartialEq)]
pub struct Way {
    /// The Request-URI.
    pub uri: Uri,
    /// Values of Route, in order.
    pub routes: Vec<String>,
    /// Where the request goes.
    pub flow: Flow,
}

/// As a binding.
impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Way(over {:?})", self.flow.transport)
    }
}

/// A binding as it is written down.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedBinding {
    /// Whose.
    pub user: String,
    contact: String,
    q: u16,
    instance: Option<String>,
    reg_id: Option<u32>,
    path: Vec<String>,
    transport: String,
    local: SocketAddr,
    remote: SocketAddr,
    user_agent: Option<String>,
    /// Seconds since the Unix epoch.
    expires_at: u64,
    call_id: String,
    cseq: u32,
}

/// As a binding.
impl fmt::Debug for SavedBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SavedBinding(over {})", self.transport)
    }
}

impl Binding {
    /// The way to this phone.
    pub fn way(&self) -> Way {
        let mut uri = self.contact.clone();
        if let Uri::Sip(uri) = &mut uri {
            // RFC 3261 §19.1.5: they would be what somebody else wants said in our name.
            uri.headers = None;
        }
        Way { uri, routes: self.path.clone(), flow: self.target_flow() }
    }

    /// A stream leads back by itself. A datagram goes to the first hop where that is no further than its last one came
    /// from, else there: behind a NAT, Contact names an address that only the phone can see.
    fn target_flow(&self) -> Flow {
        let first = self.path.first().and_then(|path| NameAddr::parse(path)).map(|path| path.uri);
        let next = first.as_ref().unwrap_or(&self.contact).sip();
        let next = next.and_then(|uri| Some((uri.host.ip()?, uri.port.unwrap_or(5060))));
        match next {
            _ if self.flow.stream.is_some() => self.flow,
            Some((ip, port)) if ip == self.flow.remote.ip() => {
                let mut remote = self.flow.remote;
                // The zone of a link-local address is the source's to know.
                remote.set_port(port);
                Flow { remote, ..self.flow }
            }
            _ => self.flow,
        }
    }

    /// The stream has ended: tells whether another one can be made. Who is behind a NAT, in a browser, or keeps flows
    /// of its own (RFC 5626 §6) can only come back by itself.
    pub(super) fn survive_stream(&mut self) -> bool {
        self.flow.stream = None;
        self.can_be_connected()
    }

    fn can_be_connected(&self) -> bool {
        let is_direct = self.contact.sip().and_then(|uri| uri.host.ip()) == Some(self.flow.remote.ip());
        self.flow.transport == Transport::Tcp && self.reg_id.is_none() && self.path.is_empty() && is_direct
    }

    /// A later request of the same phone has been here (RFC 3261 §10.3, step 7).
    pub(super) fn is_after(&self, request: &Request) -> bool {
        self.call_id == request.core.call_id && request.core.cseq <= self.cseq
    }

    /// The other one takes its place: the same flow of the same instance (RFC 5626 §6), else the same address.
    pub(super) fn is_replaced_by(&self, other: &Binding) -> bool {
        match (&self.instance, &other.instance) {
            (Some(a), Some(b)) if self.reg_id.is_some() || other.reg_id.is_some() => {
                a == b && self.reg_id == other.reg_id
            }
            _ => self.contact.is_equivalent(&other.contact),
        }
    }

    /// The other one is the same phone, started anew.
    pub(super) fn is_left_by(&self, other: &Binding) -> bool {
        match (&self.instance, &other.instance) {
            (Some(a), Some(b)) => a == b,
            (None, None) => self.flow.remote.ip() == other.flow.remote.ip() && self.user_agent == other.user_agent,
            _ => false,
        }
    }

    pub(super) fn saved(&self, user: &str, now: Instant, unix: Duration) -> Option<SavedBinding> {
        // A stream does not outlive the box.
        (self.flow.transport == Transport::Udp || self.can_be_connected()).then_some(())?;
        Some(SavedBinding {
            user: user.to_owned(),
            contact: self.contact.to_string(),
            q: self.q,
            instance: self.instance.clone(),
            reg_id: self.reg_id,
            path: self.path.clone(),
            transport: self.flow.transport.via_name().to_owned(),
            local: self.flow.local,
            remote: self.flow.remote,
            user_agent: self.user_agent.clone(),
            expires_at: (unix + self.expires_at.saturating_duration_since(now)).as_secs(),
            call_id: self.call_id.clone(),
            cseq: self.cseq,
        })
    }
}

impl SavedBinding {
    pub(super) fn restored(&self, now: Instant, unix: Duration) -> Option<Binding> {
        let left = Duration::from_secs(self.expires_at).checked_sub(unix)?.min(super::contact::EXPIRES_MAX);
        let transport = match self.transport.as_str() {
            "UDP" => Transport::Udp,
            "TCP" => Transport::Tcp,
            _ => return None,
        };
        let contact = Uri::parse(&self.contact)?;
        Some(Binding {
            contact,
            q: self.q,
            instance: self.instance.clone(),
            reg_id: self.reg_id,
            path: self.path.clone(),
            flow: Flow { transport, local: self.local, remote: self.remote, stream: None::<StreamId> },
            user_agent: self.user_agent.clone(),
            expires_at: now + left,
            call_id: self.call_id.clone(),
            cseq: self.cseq,
        })
    }
}
