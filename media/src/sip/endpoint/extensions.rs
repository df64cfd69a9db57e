//! Extensions of SIP: what a line is to use of them, and what its far end can do.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::sip::message::{Headers, Method};

/// What a dialog uses of SIP's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extensions {
    /// Reliable provisional responses. Default [`Reliable::Supported`].
    pub reliable: Reliable,
    /// The session interval to ask for, at least 90 s; `None` asks for none and keeps to none (RFC 4028).
    /// Default 1,800 s.
    pub session_expires: Option<Duration>,
    /// Whether the far end may send us elsewhere by REFER (RFC 3515). Default true.
    pub refer: bool,
}

/// How provisional responses are sent (RFC 3262).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reliable {
    /// Never acknowledged; a call that requires it gets 420.
    Off,
    /// Acknowledged where the far end requires it, or supports it and the response carries a description.
    Supported,
    /// Always acknowledged; a call from whoever does not support it gets 421.
    Required,
}

impl Default for Extensions {
    fn default() -> Self {
        Extensions { reliable: Reliable::Supported, session_expires: Some(SESSION_EXPIRES), refer: true }
    }
}

impl Extensions {
    /// The value of Supported.
    pub(super) fn supported(&self) -> String {
        let is_used = |tag: &&&str| match **tag {
            "100rel" => self.reliable != Reliable::Off,
            "timer" => self.session_expires.is_some(),
            _ => true,
        };
        SUPPORTED.iter().filter(is_used).copied().collect::<Vec<_>>().join(", ")
    }

    /// The header fields that tell what we can do.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        vec![("Allow", self.allow().to_owned()), ("Supported", self.supported())]
    }

    /// The value of Allow.
    pub(super) fn allow(&self) -> &'static str {
        if self.refer { ALLOW } else { ALLOW_WITHOUT_REFER }
    }
}

/// What the far end of a dialog can do, as its last Allow and Supported say.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer {
    methods: BTreeSet<Method>,
    tags: BTreeSet<&'static str>,
    pub(super) requires_reliable: bool,
}

impl Peer {
    /// What an INVITE says; it alone can require reliable responses (RFC 3262 §4).
    pub(super) fn of(headers: &Headers) -> Self {
        let mut peer = Peer { requires_reliable: headers.lists("Require", "100rel"), ..Peer::default() };
        peer.learn(headers);
        peer
    }

    /// Reads another message. A field that is absent says nothing.
    pub(super) fn learn(&mut self, headers: &Headers) {
        if headers.raw("Allow").next().is_some() {
            let methods = headers.elements("Allow").into_iter().take(METHODS_MAX);
            self.methods = methods.filter_map(|method| Method::parse(&method)).collect();
        }
        if headers.raw("Supported").next().is_some() {
            self.tags.clear();
        }
        let is_named = |tag: &&&str| headers.lists("Supported", tag) || headers.lists("Require", tag);
        self.tags.extend(SUPPORTED.iter().filter(is_named).copied());
    }

    pub(super) fn allows(&self, method: &Method) -> bool {
        self.methods.contains(method)
    }

    /// It has refused a method that its Allow names.
    pub(super) fn disallow(&mut self, method: &Method) {
        self.methods.remove(method);
    }

    pub(super) fn supports(&self, tag: &str) -> bool {
        self.tags.contains(tag)
    }
}

/// The extensions that this element understands, in the order of Supported. `norefersub` is RFC 4488's.
pub(super) const SUPPORTED: [&str; 4] = ["100rel", "timer", "replaces", "norefersub"];

/// What this element serves.
pub(super) const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK, UPDATE, REFER, NOTIFY";

/// The same where nobody is to be sent elsewhere.
const ALLOW_WITHOUT_REFER: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK, UPDATE, NOTIFY";

/// 1,800 s (`telephony` 6), as RFC 4028 §4 recommends.
const SESSION_EXPIRES: Duration = Duration::from_secs(1800);

/// 32 methods: IANA lists 14.
const METHODS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_switched_off_is_not_announced() {
        assert_eq!(Extensions::default().supported(), "100rel, timer, replaces, norefersub");
        let extensions = Extensions { reliable: Reliable::Off, session_expires: None, refer: false };
        assert_eq!(extensions.supported(), "replaces, norefersub");
        assert!(!extensions.allow().contains("REFER") && Extensions::default().allow().contains("REFER"));
    }

    #[test]
    fn a_message_that_says_nothing_of_it_changes_nothing() {
        let mut headers = Headers::default();
        headers.push("Allow", "INVITE, UPDATE");
        headers.push("k", "timer, x-other");
        headers.push("Require", "100rel");
        let mut peer = Peer::of(&headers);
        assert!(peer.allows(&Method::Update) && !peer.allows(&Method::Refer));
        assert!(peer.supports("timer") && peer.supports("100rel") && !peer.supports("x-other"));
        peer.learn(&Headers::default());
        assert!(peer.allows(&Method::Update) && peer.supports("timer") && peer.requires_reliable);
    }
}
