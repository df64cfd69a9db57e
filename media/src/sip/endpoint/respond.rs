//! Writing responses: what is copied from the request, and where they go (RFC 3261 §8.2.6, §18.2).

use std::net::SocketAddr;

use super::requests::capabilities;
use super::session::reason_value;
use super::{Flow, Refusal};
use crate::sip::message::{Headers, Via, reason_phrase};

/// A response on its way to bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// In place of the status's own phrase.
    pub(super) phrase: Option<String>,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) sdp: Option<Vec<u8>>,
    /// What caused a refusal, in words for people.
    pub(super) rule: Option<String>,
}

impl Reply {
    pub(super) fn new(status: u16) -> Self {
        Reply { status, ..Reply::default() }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// A refusal by whoever uses the dialog.
    pub(super) fn of_refusal(refusal: Refusal) -> Self {
        let Refusal { status, reason, retry_after, fields } = refusal;
        let mut reply = Reply { status, rule: reason.clone(), ..Reply::default() };
        if let Some(reason) = reason {
            reply = reply.with("Reason", reason_value(status, &reason));
        }
        if let Some(after) = retry_after {
            reply = reply.with("Retry-After", after.as_secs().to_string());
        }
        if status == 405 {
            reply = capabilities(reply);
        }
        reply.fields.extend(fields.into_iter().map(|(name, value)| (name, clean(&value))));
        reply
    }

    /// Says what causes this refusal, in words for people.
    pub(super) fn because(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    pub(super) fn phrased(mut self, phrase: String) -> Self {
        self.phrase = Some(phrase);
        self
    }

    /// Writes the response to a request with these header fields. `to_tag` is added to a To that has none.
    pub(super) fn write(&self, request: &Headers, flow: &Flow, to_tag: Option<&str>, server: &str) -> Vec<u8> {
        let phrase = self.phrase.as_deref().unwrap_or_else(|| reason_phrase(self.status));
        let mut out = format!("SIP/2.0 {} {phrase}\r\n", self.status).into_bytes();
        let mut field = |name: &str, value: &[u8]| {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        };
        for (at, via) in request.elements("Via").iter().enumerate() {
            match Via::parse(via).filter(|_| at == 0) {
                Some(top) => field("Via", stamped(top, flow).to_string().as_bytes()),
                None => field("Via", via.as_bytes()),
            }
        }
        for name in ["From", "To", "Call-ID", "CSeq"] {
            let Some(value) = request.raw(name).next() else { continue };
            match to_tag.filter(|_| name == "To" && !has_tag(value)) {
                Some(tag) => field(name, &[value, b";tag=", tag.as_bytes()].concat()),
                None => field(name, value),
            }
        }
        if (180..300).contains(&self.status) {
            for route in request.raw("Record-Route") {
                field("Record-Route", route);
            }
        }
        for (name, value) in &self.fields {
            field(name, value.as_bytes());
        }
        field("Server", server.as_bytes());
        if self.sdp.is_some() {
            field("Content-Type", b"application/sdp");
        }
        let body = self.sdp.as_deref().unwrap_or_default();
        field("Content-Length", body.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
        out
    }
}

/// Where a response to a datagram goes (RFC 3261 §18.2.2, RFC 3581 §4): back to the source address, to its port with
/// `rport` and else to the port of sent-by. `maddr` is not followed: it would let a stranger choose the target.
pub(super) fn destination(via: &Via, mut source: SocketAddr) -> SocketAddr {
    if !via.params.has("rport") {
        // The rest of an IPv6 address, its zone above all, stays.
        source.set_port(via.port.unwrap_or(5060));
    }
    source
}

/// The topmost Via with what the source tells: `received` when it differs, `rport` when it was asked for.
fn stamped(mut via: Via, flow: &Flow) -> Via {
    let asks_for_port = via.params.has("rport");
    if asks_for_port || via.host.ip() != Some(flow.remote.ip()) {
        via.params.set("received", Some(flow.remote.ip().to_string()));
    }
    if asks_for_port {
        via.params.set("rport", Some(flow.remote.port().to_string()));
    }
    via
}

/// A header value without what would end it.
pub(super) fn clean(value: &str) -> String {
    value.chars().filter(|letter| !letter.is_control()).collect()
}

fn has_tag(value: &[u8]) -> bool {
    crate::sip::message::NameAddr::parse(&String::from_utf8_lossy(value)).is_none_or(|to| to.tag().is_some())
}
