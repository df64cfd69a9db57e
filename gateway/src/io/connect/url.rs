//! Where an agent listens.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An agent's address: `ws://host:port/path` or `wss://host:port/path`; of a service of a cascade, the same with `http`,
/// `https` or `tcp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentUrl {
    scheme: Scheme,
    host: String,
    port: u16,
    path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Ws,
    Wss,
    Http,
    Https,
    /// Wyoming's and AudioSocket's.
    Tcp,
}

/// The text is no address of a WebSocket. Whoever configured it must mend it.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("an agent's address looks like wss://host:port/path")]
pub struct AgentUrlError;

impl AgentUrl {
    /// A server's address as its owner gives it: `http` and `https` are taken as `ws` and `wss`.
    ///
    /// # Errors
    /// [`AgentUrlError`] when it is no address.
    pub fn of_base(base_url: &str) -> Result<Self, AgentUrlError> {
        match base_url.split_once("://") {
            Some(("http", rest)) => format!("ws://{rest}").parse(),
            Some(("https", rest)) => format!("wss://{rest}").parse(),
            _ => base_url.parse(),
        }
    }

    /// A service's address as its owner gives it: `http`, `https` or `tcp`.
    ///
    /// # Errors
    /// [`AgentUrlError`] when it is no address.
    pub fn of_service(base_url: &str) -> Result<Self, AgentUrlError> {
        match base_url.split_once("://") {
            Some(("http", rest)) => AgentUrl::parse(Scheme::Http, rest),
            Some(("https", rest)) => AgentUrl::parse(Scheme::Https, rest),
            Some(("tcp", rest)) => AgentUrl::parse(Scheme::Tcp, rest),
            _ => Err(AgentUrlError),
        }
    }

    /// A bare TCP port's address as its owner gives it: `tcp`.
    ///
    /// # Errors
    /// [`AgentUrlError`] when it is no address.
    pub fn of_port(base_url: &str) -> Result<Self, AgentUrlError> {
        AgentUrl::of_service(base_url).ok().filter(|url| url.scheme == Scheme::Tcp).ok_or(AgentUrlError)
    }

    /// With `path` behind its own; a query stays.
    #[must_use]
    pub fn with_path(mut self, path: &str) -> Self {
        let (own, query) = self.path.split_once('?').map_or((&*self.path, None), |(own, query)| (own, Some(query)));
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        self.path = format!("{}{path}{query}", own.trim_end_matches('/'));
        self
    }

    /// With one more segment behind its path (RFC 3986 §3.3), which is encoded.
    #[must_use]
    pub fn with_segment(self, segment: &str) -> Self {
        self.with_path(&format!("/{}", percent_encoded(segment)))
    }

    /// With one more parameter in its query (RFC 3986 §3.4), whose value is encoded.
    #[must_use]
    pub fn with_query(mut self, name: &str, value: &str) -> Self {
        let mark = match self.path.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some(_) => "&",
        };
        self.path = format!("{}{mark}{name}={}", self.path, percent_encoded(value));
        self
    }

    /// Whether both are at one host and port: what the one may know, the other may.
    pub fn shares_origin_with(&self, other: &AgentUrl) -> bool {
        (self.scheme, &self.host, self.port) == (other.scheme, &other.host, other.port)
    }

    /// Whether a service here may name that address: on the public internet, or on a network of the box's own where it
    /// is on one itself, and behind TLS where it is.
    pub(in crate::io) fn may_lead_to(&self, other: &AgentUrl) -> bool {
        (self.is_near() || !other.is_near()) && (!self.is_tls() || other.is_tls())
    }

    /// Whether it is on this machine or a network of its own, as far as its name tells.
    fn is_near(&self) -> bool {
        let host = self.host().trim_end_matches('.').to_ascii_lowercase();
        match host.parse::<IpAddr>() {
            Ok(address) => is_near_address(address.to_canonical()),
            // A number in another notation is a name for some resolvers.
            Err(_) => !host.contains('.') || NEAR.iter().any(|end| host.ends_with(end)) || !ends_in_letters(&host),
        }
    }

    /// Whether it is a Wyoming service.
    pub fn is_wyoming(&self) -> bool {
        self.scheme == Scheme::Tcp
    }

    pub(in crate::io) fn is_tls(&self) -> bool {
        matches!(self.scheme, Scheme::Wss | Scheme::Https)
    }

    /// The host without the brackets of an IPv6 address.
    pub(in crate::io) fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(in crate::io) fn port(&self) -> u16 {
        self.port
    }

    pub(in crate::io) fn path(&self) -> &str {
        &self.path
    }

    /// Host and port as the `Host` header has them (RFC 9110 §7.2): the scheme's own port is left out.
    pub(in crate::io) fn authority(&self) -> String {
        if self.port == self.scheme.port() { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Scheme::Ws | Scheme::Http => 80,
            Scheme::Wss | Scheme::Https => 443,
            // Any that is given: none is usual for all of them.
            Scheme::Tcp => 10_200,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Tcp => "tcp",
        }
    }
}

impl FromStr for AgentUrl {
    type Err = AgentUrlError;

    fn from_str(text: &str) -> Result<Self, AgentUrlError> {
        match text.split_once("://") {
            Some(("ws", rest)) => AgentUrl::parse(Scheme::Ws, rest),
            Some(("wss", rest)) => AgentUrl::parse(Scheme::Wss, rest),
            _ => Err(AgentUrlError),
        }
    }
}

impl AgentUrl {
    fn parse(scheme: Scheme, rest: &str) -> Result<Self, AgentUrlError> {
        let (authority, path) = rest.find(['/', '?']).map_or((rest, "/"), |at| rest.split_at(at));
        let is_clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| AgentUrlError)?),
            _ => (authority, scheme.port()),
        };
        if host.is_empty() || !is_clean(host) || !is_clean(path) || host.contains('@') {
            return Err(AgentUrlError);
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(AgentUrl { scheme, host: host.to_owned(), port, path: format!("{slash}{path}") })
    }
}

impl fmt::Display for AgentUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}{}", self.scheme.as_str(), self.host, self.port, self.path)
    }
}

fn is_near_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            // 100.64.0.0/10: RFC 6598.
            let is_shared = first == 100 && second & 0xc0 == 64;
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                || first == 0
                || is_shared
        }
        IpAddr::V6(address) => {
            let is_own = address.is_unique_local() || address.is_unicast_link_local();
            address.is_loopback() || address.is_unspecified() || address.is_multicast() || is_own
        }
    }
}

/// A name on the internet ends in a domain of letters; `127.1` and `0x7f.1` do not.
fn ends_in_letters(host: &str) -> bool {
    host.rsplit('.').next().is_some_and(|last| last.starts_with(|first: char| first.is_ascii_alphabetic()))
}

/// Names that lead nowhere else (RFC 6761, RFC 6762, RFC 9476 and what routers call their own).
const NEAR: [&str; 6] = [".localhost", ".local", ".internal", ".home.arpa", ".lan", ".alt"];

/// RFC 3986 §2.1: what is not unreserved, as `%` and two hex digits.
pub fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_url_is_host_port_and_path() {
        for (text, shown) in [
            ("ws://127.0.0.1:9000/twilio", Some("ws://127.0.0.1:9000/twilio")),
            ("ws://agent", Some("ws://agent:80/")),
            ("ws://[::1]:90/a?b=c", Some("ws://[::1]:90/a?b=c")),
            ("wss://agent", Some("wss://agent:443/")),
            ("wss://agent:8443/v1", Some("wss://agent:8443/v1")),
            ("http://agent/", None),
            ("ws:///x", None),
            ("ws://agent:port/", None),
            ("ws://agent/a b", None),
            ("ws://user@agent/", None),
            ("ws://agent/\r\nX: y", None),
        ] {
            assert_eq!(text.parse::<AgentUrl>().ok().map(|url| url.to_string()).as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn a_service_on_the_internet_leads_to_the_internet_alone_and_keeps_tls() {
        let url = |text: &str| AgentUrl::of_base(text).expect("an address");
        let (internet, lan) = (url("https://api.service.com"), url("http://192.168.1.9:8000"));
        for far in ["wss://voice.service.com/a", "wss://8.8.8.8/a", "wss://[2001:db8::1]/a"] {
            assert!(internet.may_lead_to(&url(far)) && lan.may_lead_to(&url(far)), "{far}");
        }
        for near in [
            "wss://127.0.0.1/a",
            "wss://localhost/a",
            "wss://LOCALHOST./a",
            "wss://a.localhost/a",
            "wss://printer.local/a",
            "wss://box/a",
            "wss://10.1.2.3/a",
            "wss://100.64.0.1/a",
            "wss://169.254.169.254/latest",
            "wss://0.0.0.0/a",
            "wss://[::1]/a",
            "wss://[::ffff:127.0.0.1]/a",
            "wss://[fd00::1]/a",
            "wss://[fe80::1]/a",
            "wss://127.1/a",
            "wss://2130706433/a",
            "wss://0x7f.0.0.1/a",
        ] {
            assert!(!internet.may_lead_to(&url(near)), "{near}");
            assert!(lan.may_lead_to(&url(near)), "{near}");
        }
        assert!(!internet.may_lead_to(&url("ws://voice.service.com/a")));
        assert!(lan.may_lead_to(&url("ws://192.168.1.9:8001/a")));
    }

    #[test]
    fn a_service_s_address_comes_from_the_base_its_path_a_parameter_and_any_usual_scheme() {
        for (base, model, shown) in [
            ("wss://api.openai.com/v1", "gpt-realtime", "wss://api.openai.com:443/v1/realtime?model=gpt-realtime"),
            ("https://api.openai.com/v1/", "a", "wss://api.openai.com:443/v1/realtime?model=a"),
            ("http://127.0.0.1:8080", "org/m x&y", "ws://127.0.0.1:8080/realtime?model=org%2Fm%20x%26y"),
            ("ws://[::1]:9/a?api=2", "ü", "ws://[::1]:9/a/realtime?api=2&model=%C3%BC"),
            ("ws://agent?api=2", "m", "ws://agent:80/realtime?api=2&model=m"),
        ] {
            let url = AgentUrl::of_base(base).expect("an address").with_path("/realtime").with_query("model", model);
            assert_eq!(url.to_string(), shown, "{base}");
        }
        for (base, shown) in [
            ("http://lan:11434/v1", Some("http://lan:11434/v1/x")),
            ("https://api.openai.com/v1/", Some("https://api.openai.com:443/v1/x")),
            ("tcp://[::1]:10300", Some("tcp://[::1]:10300/x")),
            ("ws://lan", None),
            ("tcp://", None),
        ] {
            let url = AgentUrl::of_service(base).map(|url| url.with_path("/x").to_string());
            assert_eq!(url.ok().as_deref(), shown, "{base}");
        }
        let [here, there, plain] =
            ["https://a/v1", "https://a:8443", "http://a"].map(|base| AgentUrl::of_service(base).expect("an address"));
        assert!(here.shares_origin_with(&here.clone().with_path("/x")));
        assert!(!here.shares_origin_with(&there) && !here.shares_origin_with(&plain));
        for base in ["", "api.openai.com/v1", "ftp://agent", "https://", "wss://user:key@agent/v1", "wss://a/#b"] {
            assert_eq!(AgentUrl::of_base(base), Err(AgentUrlError), "{base}");
        }
    }
}
