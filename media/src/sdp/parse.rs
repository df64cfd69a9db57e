//! Reading a session description.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use super::crypto::{Crypto, CryptoError};
use super::fingerprint::{Fingerprint, Setup};

/// A session description, as far as it concerns audio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionDescription {
    /// The session-level `c=`.
    pub connection: Option<IpAddr>,
    /// The session-level direction.
    pub direction: Option<Direction>,
    /// The session-level fingerprints, setup and association, for sections without their own.
    pub attributes: Vec<Attribute>,
    /// The `m=` sections, in order.
    pub media: Vec<Media>,
}

/// One `m=` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// `audio`, `video`, `image`, …
    pub kind: String,
    /// 0 is a stream that is not wanted.
    pub port: u16,
    /// `RTP/AVP`, …
    pub protocol: String,
    /// The formats, in the order of preference, as written.
    pub formats: Vec<String>,
    /// The section's `c=`.
    pub connection: Option<IpAddr>,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
}

/// An attribute we understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// `a=rtpmap`.
    RtpMap(RtpMap),
    /// `a=fmtp`: a payload type's parameters, as written.
    Fmtp(u8, String),
    /// `a=ptime`, in milliseconds.
    Ptime(u16),
    /// `a=maxptime`, in milliseconds.
    MaxPtime(u16),
    /// `a=sendrecv` and its kin.
    Direction(Direction),
    /// `a=rtcp` (RFC 3605): another port, perhaps another host.
    Rtcp(u16, Option<IpAddr>),
    /// `a=rtcp-mux` (RFC 5761).
    RtcpMux,
    /// `a=rtcp-xr` (RFC 3611 §5): whether VoIP metrics are among the extended reports it asks for.
    RtcpXr(bool),
    /// `a=crypto` (RFC 4568), or why it cannot be used.
    Crypto(Result<Crypto, CryptoError>),
    /// `a=fingerprint` (RFC 8122), of a hash that is known here.
    Fingerprint(Fingerprint),
    /// `a=setup` (RFC 4145).
    Setup(Setup),
    /// `a=tls-id` (RFC 8842): which DTLS association is meant.
    TlsId(String),
}

/// What a payload type stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpMap {
    /// 0 to 127.
    pub payload_type: u8,
    /// As written: `PCMU`, `telephone-event`.
    pub encoding: String,
    /// In hertz.
    pub clock_rate: u32,
}

/// Who sends (RFC 3264 §5.1), from the describing side's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Both.
    #[default]
    Sendrecv,
    /// The describer only.
    Sendonly,
    /// The other side only.
    Recvonly,
    /// Nobody.
    Inactive,
}

impl Direction {
    /// The attribute's name.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Sendrecv => "sendrecv",
            Direction::Sendonly => "sendonly",
            Direction::Recvonly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    /// The same, seen from the other side.
    pub fn mirrored(self) -> Self {
        match self {
            Direction::Sendonly => Direction::Recvonly,
            Direction::Recvonly => Direction::Sendonly,
            both => both,
        }
    }

    /// Tells whether the describer sends.
    pub fn sends(self) -> bool {
        matches!(self, Direction::Sendrecv | Direction::Sendonly)
    }

    /// Tells whether the describer wants to receive.
    pub fn receives(self) -> bool {
        matches!(self, Direction::Sendrecv | Direction::Recvonly)
    }

    fn of_name(name: &str) -> Option<Self> {
        [Direction::Sendrecv, Direction::Sendonly, Direction::Recvonly, Direction::Inactive]
            .into_iter()
            .find(|direction| direction.name() == name)
    }
}

/// A description that cannot be read. The peer's doing; answer 400 or 488.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum SdpError {
    /// Longer than [`SDP_BYTES_MAX`], or with more sections, formats or attributes than anyone needs.
    #[error("the session description is larger than any phone's")]
    TooLarge,
    /// Not UTF-8, and not text in any other way.
    #[error("the session description is not text")]
    NotText,
    /// The first line is not `v=0`.
    #[error("the session description does not begin with v=0")]
    Version,
    /// The line does not follow RFC 4566.
    #[error("line {0} of the session description cannot be read")]
    Line(usize),
}

impl SessionDescription {
    /// Reads a description.
    ///
    /// # Errors
    /// [`SdpError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SdpError> {
        if bytes.len() > SDP_BYTES_MAX {
            return Err(SdpError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| SdpError::NotText)?;
        let mut description =
            SessionDescription { connection: None, direction: None, attributes: Vec::new(), media: Vec::new() };
        let mut attributes = 0;
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if at == 0 {
                if line != "v=0" {
                    return Err(SdpError::Version);
                }
                continue;
            }
            if line.is_empty() {
                continue;
            }
            let (kind, value) =
                line.split_once('=').filter(|(kind, _)| kind.len() == 1).ok_or(SdpError::Line(at + 1))?;
            if kind == "a" {
                attributes += 1;
            }
            if attributes > ATTRIBUTES_MAX || description.media.len() > MEDIA_MAX {
                return Err(SdpError::TooLarge);
            }
            description.handle_line(kind, value).ok_or(SdpError::Line(at + 1))?;
        }
        if text.is_empty() { Err(SdpError::Version) } else { Ok(description) }
    }

    /// Takes one line in; `None` when it is malformed in a way that matters.
    fn handle_line(&mut self, kind: &str, value: &str) -> Option<()> {
        match kind {
            "c" => {
                let address = connection(value)?;
                match self.media.last_mut() {
                    Some(media) => media.connection = Some(address),
                    None => self.connection = Some(address),
                }
            }
            "m" => self.media.push(media(value)?),
            "a" => match self.media.last_mut() {
                Some(media) => media.attributes.extend(attribute(value)?),
                None => {
                    if let Some(direction) = Direction::of_name(value) {
                        self.direction = Some(direction);
                    }
                    self.attributes.extend(attribute(value).flatten().filter(is_of_session));
                }
            },
            _ => {}
        }
        Some(())
    }
}

impl Media {
    /// The direction of the section, its own or the session's.
    pub fn direction(&self, session: Option<Direction>) -> Direction {
        let own = self.attributes.iter().find_map(|attribute| match attribute {
            Attribute::Direction(direction) => Some(*direction),
            _ => None,
        });
        own.or(session).unwrap_or_default()
    }

    /// What a payload type stands for: its `a=rtpmap`, else the static assignment (RFC 3551 §6).
    pub fn rtp_map(&self, payload_type: u8) -> Option<RtpMap> {
        let mapped = self.attributes.iter().find_map(|attribute| match attribute {
            Attribute::RtpMap(map) if map.payload_type == payload_type => Some(map.clone()),
            _ => None,
        });
        let fixed = |encoding: &str| Some(RtpMap { payload_type, encoding: encoding.into(), clock_rate: 8000 });
        mapped.or_else(|| match payload_type {
            0 => fixed("PCMU"),
            8 => fixed("PCMA"),
            9 => fixed("G722"),
            13 => fixed("CN"),
            18 => fixed("G729"),
            _ => None,
        })
    }

    /// The parameters of a payload type, as written; empty without any.
    pub fn parameters(&self, payload_type: u8) -> &str {
        let own = self.attributes.iter().find_map(|attribute| match attribute {
            Attribute::Fmtp(of, parameters) if *of == payload_type => Some(parameters.as_str()),
            _ => None,
        });
        own.unwrap_or_default()
    }

    /// The payload types, in order. Formats that are none are left out.
    pub fn payload_types(&self) -> impl Iterator<Item = u8> {
        self.formats.iter().filter_map(|format| format.parse().ok()).filter(|payload_type| *payload_type <= 127)
    }
}

/// `IN IP4 192.0.2.1`, perhaps with `/ttl`.
fn connection(value: &str) -> Option<IpAddr> {
    let mut parts = value.split_ascii_whitespace();
    let (net, family, address) = (parts.next()?, parts.next()?, parts.next()?);
    let address = address.split('/').next()?;
    if net != "IN" {
        return None;
    }
    match family {
        "IP4" | "IP6" => match IpAddr::from_str(address) {
            Ok(address) => Some(address),
            // A name: nothing is looked up on the call path, so there is nowhere to send to yet.
            Err(_) if is_name(address) => Some(Ipv4Addr::UNSPECIFIED.into()),
            Err(_) => None,
        },
        _ => None,
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
}

/// `audio 49170 RTP/AVP 0 8 101`.
fn media(value: &str) -> Option<Media> {
    // RFC 8866 §9: visible characters between the spaces. A section that is refused is written back as it is, and what
    // writes it must not be able to add a line.
    if !value.bytes().all(|byte| byte == b' ' || byte == b'\t' || byte.is_ascii_graphic()) {
        return None;
    }
    let mut parts = value.split_ascii_whitespace();
    let (kind, port, protocol) = (parts.next()?, parts.next()?, parts.next()?);
    let port = port.split('/').next()?.parse().ok()?;
    let formats: Vec<String> = parts.map(str::to_owned).collect();
    if formats.is_empty() || formats.len() > FORMATS_MAX {
        return None;
    }
    Some(Media {
        kind: kind.to_owned(),
        port,
        protocol: protocol.to_owned(),
        formats,
        connection: None,
        attributes: Vec::new(),
    })
}

/// The outer `None` is malformed, the inner one unknown.
#[expect(clippy::option_option, reason = "malformed and unknown are different answers")]
fn attribute(value: &str) -> Option<Option<Attribute>> {
    let (name, value) = value.split_once(':').unwrap_or((value, ""));
    Some(match name {
        "rtpmap" => Some(Attribute::RtpMap(rtp_map(value)?)),
        "fmtp" => fmtp(value),
        "ptime" => milliseconds(value).map(Attribute::Ptime),
        "maxptime" => milliseconds(value).map(Attribute::MaxPtime),
        "rtcp-mux" => Some(Attribute::RtcpMux),
        "rtcp-xr" => Some(Attribute::RtcpXr(value.split_ascii_whitespace().any(|block| block == "voip-metrics"))),
        "fingerprint" => Fingerprint::parse(value).map(Attribute::Fingerprint),
        "setup" => Setup::parse(value).map(Attribute::Setup),
        "tls-id" => (value.len() <= TLS_ID_BYTES_MAX).then(|| Attribute::TlsId(value.trim().to_owned())),
        // A line that cannot be used leaves the others: the section is refused when none is left.
        "crypto" => Some(Attribute::Crypto(Crypto::parse(value))),
        "rtcp" => {
            let (port, address) = value.split_once(' ').unwrap_or((value, ""));
            let port: u16 = port.trim().parse().ok()?;
            Some(Attribute::Rtcp(port, connection(address)))
        }
        name => Direction::of_name(name).map(Attribute::Direction),
    })
}

/// What may be said for all sections at once.
fn is_of_session(attribute: &Attribute) -> bool {
    matches!(attribute, Attribute::Fingerprint(_) | Attribute::Setup(_) | Attribute::TlsId(_) | Attribute::RtcpXr(_))
}

/// `101 telephone-event/8000`.
fn rtp_map(value: &str) -> Option<RtpMap> {
    let (payload_type, encoding) = value.trim().split_once(' ')?;
    let payload_type = payload_type.parse().ok().filter(|payload_type| *payload_type <= 127)?;
    let mut parts = encoding.trim().split('/');
    let encoding = parts.next().filter(|encoding| !encoding.is_empty())?;
    let clock_rate = parts.next()?.parse().ok()?;
    Some(RtpMap { payload_type, encoding: encoding.to_owned(), clock_rate })
}

/// `96 useinbandfec=1; usedtx=1`; of anything but a payload type, nothing.
fn fmtp(value: &str) -> Option<Attribute> {
    let (payload_type, parameters) = value.trim().split_once(' ')?;
    let payload_type = payload_type.parse().ok().filter(|payload_type| *payload_type <= 127)?;
    Some(Attribute::Fmtp(payload_type, parameters.trim().to_owned()))
}

/// Some phones write 20.0; what is no number is no wish.
fn milliseconds(value: &str) -> Option<u16> {
    value.trim().split('.').next().and_then(|ms| ms.parse().ok())
}

/// 64 KiB: a UDP datagram cannot carry more.
pub const SDP_BYTES_MAX: usize = 64 << 10;

/// 8 sections: audio, video, image and what a conference phone adds to them.
const MEDIA_MAX: usize = 8;

/// 64 formats in a section; the longest lists seen have 25.
const FORMATS_MAX: usize = 64;

/// 512 attributes: 8 sections of 64.
const ATTRIBUTES_MAX: usize = 512;

/// 255 bytes: RFC 8842 §4.
const TLS_ID_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_s_offer_is_read() {
        let sdp = SessionDescription::parse(PHONE.as_bytes()).expect("well-formed");
        assert_eq!(sdp.connection, Some("10.0.0.1".parse().expect("address")));
        let audio = &sdp.media[0];
        assert_eq!((audio.port, audio.protocol.as_str()), (49_170, "RTP/AVP"));
        assert_eq!(audio.payload_types().collect::<Vec<_>>(), [0, 8, 101]);
        assert_eq!(audio.rtp_map(8).expect("static").encoding, "PCMA");
        assert_eq!(audio.rtp_map(101).expect("mapped").encoding, "telephone-event");
        assert_eq!((audio.parameters(101), audio.parameters(0)), ("0-16", ""));
        assert!(audio.attributes.contains(&Attribute::MaxPtime(60)));
        assert_eq!(audio.direction(sdp.direction), Direction::Sendonly);
        assert_eq!(sdp.media[1].direction(sdp.direction), Direction::Recvonly);
    }

    #[test]
    fn line_ends_and_white_space_do_not_matter() {
        let unix = PHONE.replace("\r\n", "\n");
        assert_eq!(SessionDescription::parse(unix.as_bytes()), SessionDescription::parse(PHONE.as_bytes()));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, error) in [
            ("", SdpError::Version),
            ("v=1\r\n", SdpError::Version),
            ("v=0\r\nnonsense\r\n", SdpError::Line(2)),
            ("v=0\r\nc=IN IP4 300.1.1.1.1 x y\r\nm=audio 1 RTP/AVP 0\r\n", SdpError::Line(3)),
            ("v=0\r\nm=audio 99999 RTP/AVP 0\r\n", SdpError::Line(2)),
            ("v=0\r\nm=audio 1 RTP/AVP\r\n", SdpError::Line(2)),
            ("v=0\r\nm=audio 1 0\x0b \x0b 0\r\n", SdpError::Line(2)),
            ("v=0\r\nm=audio 1 RTP/AVP 0\ra=inactive 0\r\n", SdpError::Line(2)),
            ("v=0\r\nm=audio 1 RTP/AVP 0\r\na=rtpmap:200 PCMU/8000\r\n", SdpError::Line(3)),
        ] {
            if text.contains("300.1") {
                // Looks like a name, and is kept as an address that is not known.
                assert!(SessionDescription::parse(text.as_bytes()).is_ok());
                continue;
            }
            assert_eq!(SessionDescription::parse(text.as_bytes()), Err(error), "{text:?}");
        }
        assert_eq!(SessionDescription::parse(&[0xff]), Err(SdpError::NotText));
    }

    #[test]
    fn a_description_without_end_is_refused() {
        let many = format!("v=0\r\n{}", "m=audio 1 RTP/AVP 0\r\n".repeat(100));
        assert_eq!(SessionDescription::parse(many.as_bytes()), Err(SdpError::TooLarge));
        let many = format!("v=0\r\n{}", "a=x\r\n".repeat(1000));
        assert_eq!(SessionDescription::parse(many.as_bytes()), Err(SdpError::TooLarge));
        assert_eq!(SessionDescription::parse(&[b'v'; SDP_BYTES_MAX + 1]), Err(SdpError::TooLarge));
    }

    #[test]
    fn mutated_descriptions_never_panic() {
        let mut random = 0x9e37_79b9u32;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            random as usize
        };
        for _ in 0..20_000 {
            let mut bytes = PHONE.as_bytes().to_vec();
            for _ in 0..1 + next() % 8 {
                let at = next() % bytes.len();
                match next() % 3 {
                    0 => bytes[at] = next() as u8,
                    1 => drop(bytes.drain(at..(at + next() % 9).min(bytes.len()))),
                    _ => bytes.insert(at, b"0 =/:9\n"[next() % 7]),
                }
                if bytes.is_empty() {
                    bytes.push(b'v');
                }
            }
            if let Ok(sdp) = SessionDescription::parse(&bytes) {
                let _ = sdp.media.iter().map(|media| media.payload_types().filter_map(|at| media.rtp_map(at)).count());
            }
        }
    }

    const PHONE: &str = "v=0\r\no=phone 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\na=recvonly\r\n\
        m=audio 49170 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=maxptime:60.0\r\n\
        a=sendonly\r\na=rtcp:49171 IN IP4 10.0.0.1\r\nm=video 0 RTP/AVP 96\r\n";
}
