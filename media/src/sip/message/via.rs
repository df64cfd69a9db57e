//! Via: the path a response goes back (RFC 3261 §20.42, RFC 3581).

use super::headers::split;
use super::method::is_token_byte;
use super::uri::{Host, Params, host_port};
use std::fmt;

/// One element of Via.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// The transport token: UDP, TCP, TLS, … as written.
    pub transport: String,
    /// The host of sent-by.
    pub host: Host,
    /// The port of sent-by, when written; 5060, or 5061 for TLS, otherwise.
    pub port: Option<u16>,
    /// Parameters: branch, rport, received, maddr, ttl.
    pub params: Params,
}

impl Via {
    /// Reads one element; `None` when it breaks the grammar. White space around the slashes is allowed.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = split(text, b';').into_iter();
        let head = parts.next()?;
        let (name, rest) = head.split_once('/')?;
        let (version, rest) = rest.split_once('/')?;
        if !name.trim().eq_ignore_ascii_case("SIP") || version.trim() != "2.0" {
            return None;
        }
        let rest = rest.trim();
        let (transport, sent_by) = rest.split_once(char::is_whitespace)?;
        if transport.is_empty() || !transport.bytes().all(is_token_byte) {
            return None;
        }
        let (host, port) = host_port(sent_by.trim())?;
        Some(Self { transport: transport.to_owned(), host, port, params: Params::parse(parts)? })
    }

    /// The branch, when it carries the magic cookie and something after it (RFC 3261 §8.1.1.7); a message without one
    /// is matched by the rules of RFC 2543.
    pub fn branch(&self) -> Option<&str> {
        let branch = self.params.text("branch")?;
        (branch.len() > COOKIE.len() && branch.get(..COOKIE.len())?.eq_ignore_ascii_case(COOKIE)).then_some(branch)
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.params)
    }
}

/// The magic cookie of RFC 3261 §8.1.1.7.
pub(crate) const COOKIE: &str = "z9hG4bK";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_around_slashes_and_colons_is_read() {
        let via = Via::parse("SIP  / 2.0  / TCP     spindle.example.com   ; branch  =   z9hG4bK9ikj8  ").unwrap();
        assert_eq!(via.to_string(), "SIP/2.0/TCP spindle.example.com;branch=z9hG4bK9ikj8");
        assert_eq!(via.branch(), Some("z9hG4bK9ikj8"));
    }

    #[test]
    fn the_bare_cookie_names_no_transaction() {
        assert_eq!(Via::parse("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK").unwrap().branch(), None);
        assert_eq!(Via::parse("SIP/2.0/UDP 192.0.2.1").unwrap().branch(), None);
    }

    #[test]
    fn received_may_be_an_ipv6_address_with_or_without_brackets() {
        for received in ["2001:db8::9:255", "[2001:db8::9:255]"] {
            let via = Via::parse(&format!("SIP/2.0/UDP [2001:db8::9:1]:6050;received={received};branch=z9hG4bK1"));
            assert_eq!(via.unwrap().params.text("received"), Some(received));
        }
        assert!(Via::parse("SIP/2.0/UDP 192.0.2.15;;,;,,").is_none());
        assert!(Via::parse("SIP/7.0/UDP c.example.com").is_none());
    }
}
