//! Where tenants' requests may go: `http` and `https`, to public and LAN addresses.
//!
//! The judgement is on the address that is connected to, whatever the name or the spelling that led there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use url::{Host, Url};

/// The address of a webhook: `http` or `https`, without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookUrl(Url);

/// The text is no address that a webhook may have. The client's doing; answer 400.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum HookUrlError {
    /// It is no URL, or has no host.
    #[error("The webhook must be an http or https URL of at most 2048 characters.")]
    NotAUrl,
    /// It is a URL of another kind.
    #[error("The webhook must be an http or https URL.")]
    Scheme,
    /// It carries a user or a password.
    #[error("The webhook's URL must not carry a user or a password.")]
    Credentials,
}

impl HookUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// [`HookUrlError`].
    pub fn parse(text: &str) -> Result<Self, HookUrlError> {
        // The URL standard drops tabs and line ends silently: what is stored must be what is meant.
        if text.len() > URL_BYTES_MAX || text.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
            return Err(HookUrlError::NotAUrl);
        }
        let mut url = Url::parse(text).map_err(|_| HookUrlError::NotAUrl)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(HookUrlError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(HookUrlError::Credentials);
        }
        if !url.has_host() || url.port() == Some(0) {
            return Err(HookUrlError::NotAUrl);
        }
        url.set_fragment(None);
        Ok(HookUrl(url))
    }

    /// Where to connect: the host as the URL standard reads it (decimal, octal and hex addresses are addresses).
    pub fn host(&self) -> Option<Host<&str>> {
        self.0.host()
    }

    /// The port, or the scheme's own.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }

    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The header `Host`: without the port where it is the scheme's own.
    pub fn authority(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Path and query.
    pub fn path_and_query(&self) -> String {
        let path = self.0.path();
        self.0.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
    }
}

/// Where requests that tenants cause may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outbound {
    /// Ports of this machine's loopback that are open to them; none by default.
    pub loopback_ports: Arc<[u16]>,
    /// Ports that this program listens on: never open, on any address of this machine.
    pub own_ports: Arc<[u16]>,
}

/// Why an address is not connected to.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum Refusal {
    /// This machine, on a port that the operator has not opened.
    #[error("loopback")]
    Loopback,
    /// This program itself.
    #[error("own listener")]
    Own,
    /// Nowhere.
    #[error("unspecified")]
    Unspecified,
    /// The same link only: where clouds keep their metadata.
    #[error("link-local")]
    LinkLocal,
    /// A cloud's metadata elsewhere.
    #[error("metadata")]
    Metadata,
    /// Many hosts, or an address that nobody may have.
    #[error("multicast or reserved")]
    Reserved,
}

impl Outbound {
    /// Judges an address. `is_own` tells whether it is one of this machine's.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check(&self, address: SocketAddr, is_own: bool) -> Result<(), Refusal> {
        let port = address.port();
        let verdict = judge(address.ip());
        let is_own = is_own || verdict == Err(Refusal::Loopback);
        if is_own && self.own_ports.contains(&port) {
            return Err(Refusal::Own);
        }
        match verdict {
            Err(Refusal::Loopback) if self.loopback_ports.contains(&port) => Ok(()),
            verdict => verdict,
        }
    }
}

/// Judges an address, and the IPv4 address inside it where it has one.
fn judge(ip: IpAddr) -> Result<(), Refusal> {
    match ip {
        IpAddr::V4(ip) => judge_v4(ip),
        IpAddr::V6(ip) => match embedded(ip) {
            Some(inner) => judge_v4(inner),
            None => judge_v6(ip),
        },
    }
}

fn judge_v4(ip: Ipv4Addr) -> Result<(), Refusal> {
    match ip.octets() {
        [0, ..] => Err(Refusal::Unspecified),
        [127, ..] => Err(Refusal::Loopback),
        [169, 254, ..] => Err(Refusal::LinkLocal),
        octets if METADATA_V4.contains(&octets) => Err(Refusal::Metadata),
        [224..=255, ..] => Err(Refusal::Reserved),
        _ => Ok(()),
    }
}

fn judge_v6(ip: Ipv6Addr) -> Result<(), Refusal> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Err(Refusal::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Err(Refusal::Loopback),
        [0xfe80..=0xfebf, ..] => Err(Refusal::LinkLocal),
        // Amazon's and Google's.
        [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..] => Err(Refusal::Metadata),
        [0xff00..=0xffff, ..] => Err(Refusal::Reserved),
        // Teredo hides its IPv4 address, and nobody serves through it.
        [0x2001, 0, ..] => Err(Refusal::Reserved),
        _ => Ok(()),
    }
}

/// The IPv4 address that an IPv6 one stands for: mapped (`::ffff:0:0/96`), compatible (`::/96`, but for `::` and
/// `::1`), translated (`::ffff:0:0:0/96`, `64:ff9b::/96` and `64:ff9b:1::/48`) or 6to4 (`2002::/16`).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => of(high, low),
        [0, 0, 0, 0, 0xffff, 0, high, low] => of(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => of(high, low),
        [0x2002, high, low, ..] => of(high, low),
        _ => None,
    }
}

/// Alibaba's, Azure's wire server and Oracle's; the others' is link-local.
const METADATA_V4: [[u8; 4]; 3] = [[100, 100, 100, 200], [168, 63, 129, 16], [192, 0, 0, 192]];

/// 2,048: what every server takes.
const URL_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_web_addresses_without_credentials_are_taken() {
        for (text, expected) in [
            ("https://hooks.example.com/a?b=c", Ok(())),
            ("http://192.168.1.20:8000/hook", Ok(())),
            ("http://[fd12::1]/", Ok(())),
            ("https://xn--bcher-kva.example/", Ok(())),
            ("This is a demo project.", Err(HookUrlError::NotAUrl)),
            ("", Err(HookUrlError::NotAUrl)),
            ("hooks.example.com/a", Err(HookUrlError::NotAUrl)),
            ("http://", Err(HookUrlError::NotAUrl)),
            ("http://a.example/\r\nx: y", Err(HookUrlError::NotAUrl)),
            ("http://a.example:0/", Err(HookUrlError::NotAUrl)),
            ("ftp://a.example/", Err(HookUrlError::Scheme)),
            ("file:///etc/passwd", Err(HookUrlError::Scheme)),
            ("gopher://a.example/", Err(HookUrlError::Scheme)),
            ("javascript:alert(1)", Err(HookUrlError::Scheme)),
            ("http://user@a.example/", Err(HookUrlError::Credentials)),
            ("http://:pw@a.example/", Err(HookUrlError::Credentials)),
        ] {
            assert_eq!(HookUrl::parse(text).map(drop), expected, "{text:?}");
        }
        assert!(HookUrl::parse(&format!("http://a.example/{}", "a".repeat(2048))).is_err());
        let url = HookUrl::parse("https://a.example:443/p?q#f").expect("an address");
        assert_eq!((url.authority(), url.path_and_query(), url.port()), ("a.example".into(), "/p?q".into(), 443));
        let url = HookUrl::parse("http://a.example:8080").expect("an address");
        assert_eq!((url.authority(), url.path_and_query()), ("a.example:8080".into(), "/".into()));
    }

    #[test]
    fn every_spelling_of_what_is_refused_is_refused() {
        let closed = Outbound::default();
        for (text, expected) in [
            ("127.0.0.1", Some(Refusal::Loopback)),
            ("127.1", Some(Refusal::Loopback)),
            ("2130706433", Some(Refusal::Loopback)),
            ("0x7f.0.0.1", Some(Refusal::Loopback)),
            ("0177.0.0.1", Some(Refusal::Loopback)),
            ("127.255.255.254", Some(Refusal::Loopback)),
            ("[::1]", Some(Refusal::Loopback)),
            ("[::ffff:127.0.0.1]", Some(Refusal::Loopback)),
            ("[::ffff:7f00:1]", Some(Refusal::Loopback)),
            ("[::127.0.0.1]", Some(Refusal::Loopback)),
            ("[::ffff:0:127.0.0.1]", Some(Refusal::Loopback)),
            ("[64:ff9b::127.0.0.1]", Some(Refusal::Loopback)),
            ("[64:ff9b:1::7f00:1]", Some(Refusal::Loopback)),
            ("[2002:7f00:1::]", Some(Refusal::Loopback)),
            ("0.0.0.0", Some(Refusal::Unspecified)),
            ("0", Some(Refusal::Unspecified)),
            ("[::]", Some(Refusal::Unspecified)),
            ("[::ffff:0.0.0.0]", Some(Refusal::Unspecified)),
            ("169.254.169.254", Some(Refusal::LinkLocal)),
            ("0xa9fea9fe", Some(Refusal::LinkLocal)),
            ("[::ffff:a9fe:a9fe]", Some(Refusal::LinkLocal)),
            ("[64:ff9b::a9fe:a9fe]", Some(Refusal::LinkLocal)),
            ("[fe80::1]", Some(Refusal::LinkLocal)),
            ("[febf::1]", Some(Refusal::LinkLocal)),
            ("[fd00:ec2::254]", Some(Refusal::Metadata)),
            ("[fd20:ce::254]", Some(Refusal::Metadata)),
            ("100.100.100.200", Some(Refusal::Metadata)),
            ("168.63.129.16", Some(Refusal::Metadata)),
            ("192.0.0.192", Some(Refusal::Metadata)),
            ("224.0.0.1", Some(Refusal::Reserved)),
            ("255.255.255.255", Some(Refusal::Reserved)),
            ("[ff02::1]", Some(Refusal::Reserved)),
            ("[2001::1]", Some(Refusal::Reserved)),
            ("10.0.0.7", None),
            ("172.16.0.1", None),
            ("192.168.1.1", None),
            ("100.64.0.1", None),
            ("8.8.8.8", None),
            ("[::ffff:192.168.1.1]", None),
            ("[fd12:3456::1]", None),
            ("[2606:4700::1111]", None),
            ("[64:ff9b::808:808]", None),
        ] {
            let url = HookUrl::parse(&format!("http://{text}:81/")).expect(text);
            let ip = match url.host().expect(text) {
                Host::Ipv4(ip) => IpAddr::V4(ip),
                Host::Ipv6(ip) => IpAddr::V6(ip),
                Host::Domain(name) => panic!("{name} should be an address"),
            };
            assert_eq!(closed.check((ip, 81).into(), false).err(), expected, "{text}");
        }
    }

    #[test]
    fn the_operator_opens_ports_of_the_loopback_but_never_our_own() {
        let open = Outbound { loopback_ports: [81, 8080].into(), own_ports: [8080].into() };
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(open.check(local(81), false), Ok(()));
        assert_eq!(open.check(local(82), false), Err(Refusal::Loopback));
        assert_eq!(open.check(local(8080), false), Err(Refusal::Own));
        let lan = |port| SocketAddr::from(([192, 168, 1, 2], port));
        assert_eq!(open.check(lan(8080), true), Err(Refusal::Own), "by the machine's LAN address, too");
        assert_eq!(open.check(lan(8080), false), Ok(()), "another machine's port of the same number");
        assert_eq!(open.check(SocketAddr::from(([169, 254, 1, 1], 81)), false), Err(Refusal::LinkLocal));
    }
}
