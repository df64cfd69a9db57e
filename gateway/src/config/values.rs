//! The kinds of values that settings have: parsed, hence valid.

use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::outside::StunServer;
use serde::Deserialize;
use serde::de::Error as _;
use talkstack_media::sip::{Network, PublicAddress, PublicPort};

/// Addresses as one text or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenList(pub Vec<SocketAddr>);

/// Prefixes of numbers as one text or a list: `+` and 1 to 15 digits each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowList(pub Vec<String>);

impl<'de> Deserialize<'de> for AllowList {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = one_or_many(deserializer)?;
        let is_prefix = |text: &str| {
            text.strip_prefix('+').is_some_and(|digits| {
                (1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
            })
        };
        match texts.iter().find(|text| !is_prefix(text)) {
            Some(text) => Err(D::Error::custom(format!("{text:?} is no \"+\" and digits"))),
            None => Ok(AllowList(texts)),
        }
    }
}

/// Texts as a list, or as one text with commas, the form of the environment.
fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(text) if text.trim().is_empty() => Vec::new(),
        OneOrMany::One(text) => text.split(',').map(|part| part.trim().to_owned()).collect(),
        OneOrMany::Many(texts) => texts,
    })
}

impl<'de> Deserialize<'de> for ListenList {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = one_or_many(deserializer)?;
        let addresses: Result<Vec<_>, _> = texts
            .iter()
            .map(|text| text.parse().map_err(|_| D::Error::custom(format!("{text:?} is no \"address:port\""))))
            .collect();
        let addresses = addresses?;
        if addresses.is_empty() {
            Err(D::Error::custom("needs at least one address"))
        } else {
            Ok(ListenList(addresses))
        }
    }
}

/// Addresses to listen on besides; there may be none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenList(pub Vec<SocketAddr>);

impl<'de> Deserialize<'de> for OpenList {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse =
            |text: &String| text.parse().map_err(|_| D::Error::custom(format!("{text:?} is no \"address:port\"")));
        one_or_many(deserializer)?.iter().map(parse).collect::<Result<_, _>>().map(OpenList)
    }
}

/// Texts as a list, or as one text with commas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words(pub Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_or_many(deserializer).map(Words)
    }
}

/// Networks as one text or a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkList(pub Vec<Network>);

impl<'de> Deserialize<'de> for NetworkList {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = one_or_many(deserializer)?;
        let network = |text: &String| text.parse().map_err(|wrong| D::Error::custom(format!("{text:?} {wrong}")));
        texts.iter().map(network).collect::<Result<_, _>>().map(NetworkList)
    }
}

/// STUN servers as one text or a list; without a port it is 3478.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StunList(pub Vec<StunServer>);

impl<'de> Deserialize<'de> for StunList {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let server = |text: &String| {
            // An IPv6 address would stand in brackets: those are asked nothing.
            let is_host = |host: &&str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
            let (host, port) = match text.rsplit_once(':') {
                Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)),
                None => (text.as_str(), Some(STUN_PORT)),
            };
            let host = Some(host).filter(is_host).filter(|host| !host.is_empty());
            match host.zip(port) {
                Some((host, port)) => Ok(StunServer { host: host.to_owned(), port }),
                None => Err(D::Error::custom(format!("{text:?} is no STUN server as \"stun.example.com:3478\""))),
            }
        };
        one_or_many(deserializer)?.iter().map(server).collect::<Result<_, _>>().map(StunList)
    }
}

/// RFC 8489 §18.6.
const STUN_PORT: u16 = 3478;

/// Name servers as one text or a list; without a port it is 53.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DnsList(pub Vec<SocketAddr>);

impl<'de> Deserialize<'de> for DnsList {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = one_or_many(deserializer)?;
        let server = |text: &String| {
            let address = text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse().ok()?, DNS_PORT)));
            address.ok_or_else(|| D::Error::custom(format!("{text:?} is no address of a name server")))
        };
        texts.iter().map(server).collect::<Result<_, _>>().map(DnsList)
    }
}

/// RFC 1035 §4.2.
const DNS_PORT: u16 = 53;

/// Ports as a list, one number, or one text with commas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortList(pub Vec<u16>);

impl<'de> Deserialize<'de> for PortList {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            One(i64),
            Text(String),
            Many(Vec<i64>),
        }
        let numbers = match Form::deserialize(deserializer)? {
            Form::One(port) => vec![port],
            Form::Many(ports) => ports,
            Form::Text(text) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                let wrong = |_| D::Error::custom(format!("{text:?} is no list of ports"));
                parts.map(|part| part.parse().map_err(wrong)).collect::<Result<_, _>>()?
            }
        };
        let port = |number: &i64| u16::try_from(*number).ok().filter(|port| *port > 0);
        let wrong = |number: &i64| D::Error::custom(format!("{number} is no port"));
        numbers.iter().map(|number| port(number).ok_or_else(|| wrong(number))).collect::<Result<_, _>>().map(PortList)
    }
}

/// What the far end is told in place of our own address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertise {
    /// An address or a name.
    pub host: String,
    /// SIP's port, when it is another.
    pub port: Option<u16>,
}

impl From<Advertise> for PublicAddress {
    fn from(advertise: Advertise) -> Self {
        PublicAddress::new(advertise.host, advertise.port.map_or(PublicPort::AsBound, PublicPort::UdpAndTcp))
    }
}

impl FromStr for Advertise {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "must be an address or a name, perhaps with a port";
        if text.parse::<Ipv6Addr>().is_ok() {
            return Ok(Advertise { host: format!("[{text}]"), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port.parse().map_err(|_| wrong)?)),
            _ => (text, None),
        };
        let is_host =
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte));
        if is_host { Ok(Advertise { host: host.to_owned(), port }) } else { Err(wrong) }
    }
}

/// First and last port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last, included.
    pub last: u16,
}

impl Default for PortRange {
    fn default() -> Self {
        PortRange { first: 10_000, last: 32_767 }
    }
}

impl FromStr for PortRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "must be two ports of 1024 to 65535 as in \"10000-32767\", with room for a pair that begins even";
        let (first, last) = text.split_once('-').ok_or(wrong)?;
        let (first, last) = (first.trim().parse().map_err(|_| wrong)?, last.trim().parse().map_err(|_| wrong)?);
        let range = PortRange { first, last };
        let fits = first >= 1024 && u32::from(first) + u32::from(first % 2) < u32::from(last);
        if fits { Ok(range) } else { Err(wrong) }
    }
}

/// An `http` or `https` address without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(pub String);

impl FromStr for PublicUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
        let is_clean =
            !host.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>".contains(&byte));
        if is_clean {
            Ok(PublicUrl(text.trim_end_matches('/').to_owned()))
        } else {
            Err("must be an http or https address")
        }
    }
}

/// An IANA time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timezone(pub String);

impl FromStr for Timezone {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match jiff::tz::TimeZone::get(text) {
            Ok(_) => Ok(Timezone(text.to_owned())),
            Err(_) => Err("must be a time zone such as \"Europe/Budapest\""),
        }
    }
}

/// A mail server, perhaps with a password: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SmtpUrl(pub String);

impl std::fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SmtpUrl(•••)")
    }
}

impl FromStr for SmtpUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // As the mailer itself reads it, so that nothing is found out at the first letter.
        match talkstack_control::mail::Mailer::new(std::path::PathBuf::new(), Some(text)) {
            Ok(_) => Ok(SmtpUrl(text.to_owned())),
            Err(_) => Err("must be an address such as \"smtp://user:password@host:587?tls=required\""),
        }
    }
}

/// Without the text, which may hold a password.
impl<'de> Deserialize<'de> for SmtpUrl {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|wrong| D::Error::custom(format!("the mail server {wrong}")))
    }
}

macro_rules! from_text {
    ($($kind:ty),+) => {$(
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|wrong| D::Error::custom(format!("{text:?} {wrong}")))
            }
        }
    )+};
}
from_text!(Advertise, PortRange, PublicUrl, Timezone);

macro_rules! bounded {
    ($($(#[$meta:meta])* $name:ident($kind:ty) in $low:literal..=$high:literal;)+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name(pub $kind);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = i64::deserialize(deserializer)?;
                match <$kind>::try_from(number) {
                    Ok(value) if ($low..=$high).contains(&value) => Ok($name(value)),
                    _ => Err(D::Error::custom(format!("{number} is not within {} to {}", $low, $high))),
                }
            }
        }
    )+};
}
bounded! {
    /// Calls at once.
    CallsMax(u32) in 1..=10_000;
    /// Seconds.
    DurationMax(u32) in 10..=14_400;
    /// Seconds.
    RingTimeout(u32) in 5..=180;
    /// Calls placed at once.
    DialsMax(u32) in 1..=10_000;
    /// Calls placed within 60 s.
    DialsPerMinute(u32) in 1..=10_000;
    /// Media threads; 0 is one per core.
    Threads(u32) in 0..=64;
}
