//! URIs: sip, sips, tel, and any other scheme kept as it came (RFC 3261 §19.1, RFC 3966).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The host of a URI or of a Via.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A domain name, as written.
    Name(String),
    /// An address literal.
    Ip(IpAddr),
}

impl Host {
    /// Reads a host without port; IPv6 stands in brackets (RFC 5118 §4.1).
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            return ipv6(inner.strip_suffix(']')?).map(|ip| Self::Ip(IpAddr::V6(ip)));
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Some(Self::Ip(IpAddr::V4(ip)));
        }
        let named = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        named.then(|| Self::Name(text.to_owned()))
    }

    /// The address, when this is a literal.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(*ip),
            Self::Name(_) => None,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// Reads an IPv6 address; RFC 5118 §4.8 wants the third colon of RFC 3261's mistaken grammar tolerated.
fn ipv6(text: &str) -> Option<Ipv6Addr> {
    text.parse().ok().or_else(|| text.replacen(":::", "::", 1).parse().ok())
}

/// Splits `host[:port]`, brackets respected.
pub(crate) fn host_port(text: &str) -> Option<(Host, Option<u16>)> {
    let end = match text.find(']') {
        Some(bracket) => bracket + 1,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at_checked(end)?;
    let port = match rest.trim() {
        "" => None,
        rest => Some(digits(rest.strip_prefix(':')?.trim())?),
    };
    Some((Host::parse(host.trim())?, port))
}

/// Reads an unsigned number of digits only: no sign, no space.
pub(crate) fn digits<N: std::str::FromStr>(text: &str) -> Option<N> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// Parameters in order: names as written, compared without case; a value may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, Option<String>)>);

impl Params {
    /// Reads `name[=value]` parts; empty parts are an error (RFC 4475 §3.1.2.1).
    pub(crate) fn parse<'a>(parts: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut list = Vec::new();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim())),
                None => (part.trim(), None),
            };
            if name.is_empty() || name.contains(char::is_whitespace) || list.len() == PARAMS_MAX {
                return None;
            }
            list.push((name.to_owned(), value.map(str::to_owned)));
        }
        Some(Self(list))
    }

    /// The value of a parameter: `Some(None)` when it stands without one.
    pub fn value(&self, name: &str) -> Option<Option<&str>> {
        self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_deref())
    }

    /// The value of a parameter that has one.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name).flatten()
    }

    /// Whether the parameter stands, with or without value.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Sets a parameter, replacing one of the same name.
    pub fn set(&mut self, name: &str, value: Option<String>) {
        match self.0.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case(name)) {
            Some(found) => found.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            match value {
                Some(value) => write!(f, ";{name}={value}")?,
                None => write!(f, ";{name}")?,
            }
        }
        Ok(())
    }
}

/// A sip or sips URI (RFC 3261 §19.1.1). Escapes stay as written.
#[derive(Clone, PartialEq, Eq)]
pub struct SipUri {
    /// Whether the scheme is sips.
    pub secure: bool,
    /// The user part with its parameters, escapes kept, without password.
    pub user: Option<String>,
    /// The host.
    pub host: Host,
    /// The port, when written.
    pub port: Option<u16>,
    /// URI parameters.
    pub params: Params,
    /// What follows `?`, escaped, when written.
    pub headers: Option<String>,
}

/// A URI by scheme.
#[derive(Clone, PartialEq, Eq)]
pub enum Uri {
    /// sip or sips.
    Sip(SipUri),
    /// tel: the number with visual separators, and the parameters (RFC 3966).
    Tel(String, Params),
    /// Any other scheme, kept whole.
    Other(String),
}

impl Uri {
    /// Reads a URI; `None` when it has no scheme, holds white space or brackets, or breaks its scheme's grammar.
    pub fn parse(text: &str) -> Option<Self> {
        if text.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control() || b"<>\"".contains(&b)) {
            return None;
        }
        let (scheme, rest) = text.split_once(':')?;
        let starts_well = scheme.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
        if !starts_well || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
            return None;
        }
        match scheme.to_ascii_lowercase().as_str() {
            "sip" => sip(rest, false).map(Self::Sip),
            "sips" => sip(rest, true).map(Self::Sip),
            "tel" => tel(rest),
            _ => (!rest.is_empty()).then(|| Self::Other(text.to_owned())),
        }
    }

    /// The sip or sips URI, when it is one.
    pub fn sip(&self) -> Option<&SipUri> {
        match self {
            Self::Sip(uri) => Some(uri),
            _ => None,
        }
    }

    /// Tells whether both name the same resource (RFC 3261 §19.1.4).
    pub fn is_equivalent(&self, other: &Uri) -> bool {
        match (self, other) {
            (Self::Sip(a), Self::Sip(b)) => a.is_equivalent(b),
            _ => self == other,
        }
    }

    /// The user of a sip URI or the number of a tel URI, escapes kept.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Sip(uri) => uri.user.as_deref(),
            Self::Tel(number, _) => Some(number),
            Self::Other(_) => None,
        }
    }
}

impl SipUri {
    /// Tells whether both name the same resource (RFC 3261 §19.1.4). Header fields are not compared.
    pub fn is_equivalent(&self, other: &SipUri) -> bool {
        let is_same_host = match (&self.host, &other.host) {
            (Host::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            (a, b) => a == b,
        };
        let unescaped = |uri: &SipUri| uri.user.as_deref().map(unescape);
        let is_same_param = |name: &str| {
            let (a, b) = (self.params.value(name), other.params.value(name));
            match (a, b) {
                (Some(Some(a)), Some(Some(b))) => a.eq_ignore_ascii_case(b),
                (a, b) => a == b,
            }
        };
        let is_in_both = |name: &&str| self.params.has(name) && other.params.has(name);
        self.secure == other.secure
            && unescaped(self) == unescaped(other)
            && is_same_host
            && self.port == other.port
            && ["transport", "user", "ttl", "method", "maddr"].into_iter().all(is_same_param)
            && self.params.names().filter(is_in_both).all(is_same_param)
    }

    /// The user with its escapes read.
    pub fn plain_user(&self) -> Option<String> {
        self.user.as_deref().map(unescape)
    }
}

/// Reads `%xx`; what is no such escape stays.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match code.filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            Some(hex) => {
                bytes.push(u8::from_str_radix(hex, 16).unwrap_or_default());
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn sip(rest: &str, secure: bool) -> Option<SipUri> {
    // The user part may hold ';' and '?' (RFC 4475 §3.1.1.9), so the last '@' before any '?' after it decides.
    let (user, rest) = match rest.rfind('@') {
        Some(at) => (Some(rest.get(..at)?), rest.get(at + 1..)?),
        None => (None, rest),
    };
    let (rest, headers) = match rest.split_once('?') {
        Some((rest, headers)) => (rest, Some(headers.to_owned())),
        None => (rest, None),
    };
    let mut parts = rest.split(';');
    let (host, port) = host_port(parts.next()?)?;
    let user = match user {
        Some("") => return None,
        Some(user) => Some(user.split_once(':').map_or(user, |(user, _password)| user).to_owned()),
        None => None,
    };
    Some(SipUri { secure, user, host, port, params: Params::parse(parts)?, headers })
}

fn tel(rest: &str) -> Option<Uri> {
    let mut parts = rest.split(';');
    let number = parts.next()?;
    let digits = number.strip_prefix('+').unwrap_or(number);
    let dialable = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit() || b"*#-.()".contains(&b));
    dialable.then_some(())?;
    Some(Uri::Tel(number.to_owned(), Params::parse(parts)?))
}

/// A user part may be a number, which is personal.
impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Uri(•••)")
    }
}

/// As for [`Uri`].
impl fmt::Debug for SipUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SipUri(•••)")
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sip(uri) => uri.fmt(f),
            Self::Tel(number, params) => write!(f, "tel:{number}{params}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for SipUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "sips:" } else { "sip:" })?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        write!(f, "{}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.params)?;
        match &self.headers {
            Some(headers) => write!(f, "?{headers}"),
            None => Ok(()),
        }
    }
}

/// RFC 4475's longest has 5; 64 is more than any URI that is not an attack.
const PARAMS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_part_keeps_semicolons_and_escapes() {
        let uri = Uri::parse("sip:user;par=u%40example.net@example.com;lr").unwrap();
        assert_eq!(uri.user(), Some("user;par=u%40example.net"));
        assert!(uri.sip().unwrap().params.has("LR"));
        assert_eq!(uri.to_string(), "sip:user;par=u%40example.net@example.com;lr");
    }

    #[test]
    fn an_ipv6_literal_needs_its_brackets() {
        assert!(Uri::parse("sip:2001:db8::10").is_none());
        let uri = Uri::parse("sip:[2001:db8::10]:5070").unwrap();
        assert_eq!(uri.sip().unwrap().port, Some(5070));
        assert_eq!(Uri::parse("sip:[2001:db8::10:5070]").unwrap().sip().unwrap().port, None);
        assert!(Uri::parse("sip:u@[2001:db8:::192.0.2.1]").is_some());
    }

    #[test]
    fn tel_numbers_and_unknown_schemes_are_kept() {
        assert_eq!(Uri::parse("tel:+1-201-555-0123;ext=4").unwrap().user(), Some("+1-201-555-0123"));
        assert_eq!(Uri::parse("isbn:2983792873").unwrap(), Uri::Other("isbn:2983792873".to_owned()));
        assert!(Uri::parse("tel:").is_none());
        assert!(Uri::parse("nonsense").is_none());
        assert!(Uri::parse("sip:user@host:99999").is_none());
    }

    #[test]
    fn uris_are_compared_as_the_rfc_s_examples() {
        // RFC 3261 §19.1.4.
        for (a, b, is_same) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp", true),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5", true),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5", true),
            ("sip:biloxi.com;transport=tcp;method=REGISTER", "sip:biloxi.com;method=REGISTER;transport=tcp", true),
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP", false),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060", false),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp", false),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp", false),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off", false),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4", false),
            ("sip:a@b", "sips:a@b", false),
            ("tel:+1", "tel:+1", true),
        ] {
            let (left, right) = (Uri::parse(a).unwrap(), Uri::parse(b).unwrap());
            assert_eq!(left.is_equivalent(&right), is_same, "{a} {b}");
            assert_eq!(right.is_equivalent(&left), is_same, "{b} {a}");
        }
        assert_eq!(Uri::parse("sip:a%4%zz%C3%A9@b").unwrap().sip().unwrap().plain_user().unwrap(), "a%4%zzé");
    }
}
