//! Offer and answer (RFC 3264, RFC 6337) as pure functions.

use std::fmt;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::crypto::{self, CryptoError};
use super::parse::{Attribute, Direction, Media, SessionDescription};
use super::security::{Chosen, Keying, Security};
use crate::codec::Codec;

/// What we can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The codecs, the preferred first: the order of our offers. Answers follow the offer's order.
    pub codecs: Vec<Codec>,
    /// Whether media is encrypted, and with what.
    pub security: Security,
}

impl Default for Capabilities {
    fn default() -> Self {
        Capabilities { codecs: Codec::ALL.to_vec(), security: Security::default() }
    }
}

/// Our side of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalMedia {
    /// The host in `c=` and `o=`.
    pub address: IpAddr,
    /// The RTP port; RTCP is one above.
    pub port: u16,
    /// The session id in `o=`.
    pub session_id: u64,
    /// The version in `o=`: one more with every description that differs (RFC 3264 §8).
    pub version: u64,
}

/// What both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The codec, for both directions.
    pub codec: Codec,
    /// Its payload type.
    pub payload_type: u8,
    /// telephone-event's payload type, if both know it.
    pub telephone_event: Option<u8>,
    /// Where to send RTP.
    pub remote_rtp: SocketAddr,
    /// Where to send RTCP.
    pub remote_rtcp: SocketAddr,
    /// RTCP shares the RTP port (RFC 5761).
    pub rtcp_mux: bool,
    /// Our direction.
    pub direction: Direction,
    /// How packets are protected.
    pub keying: Keying,
}

impl Negotiated {
    /// Tells whether the far end has put us on hold: it does not want to hear us.
    pub fn is_held(&self) -> bool {
        !self.direction.sends() || self.remote_rtp.ip().is_unspecified()
    }
}

/// An answer, and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What both sides agreed on.
    pub negotiated: Negotiated,
    /// The description to send.
    pub sdp: String,
}

/// The two sides cannot agree.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum NegotiateError {
    /// No payload type in common. The peer's doing; answer 488 (RFC 3261 §21.4.26).
    #[error("no common codec: they offered {offered}")]
    NoCommonCodec {
        /// What they offered.
        offered: CodecList,
    },
    /// No audio section that RTP carries. The peer's doing; answer 488.
    #[error("no audio over RTP/AVP or RTP/SAVP is offered")]
    NoAudio,
    /// SRTP is required here, and they have none. Answer 488, or end the call.
    #[error("SRTP is required, and they offer none: have them offer RTP/SAVP with a=crypto")]
    SrtpRequired,
    /// They take nothing but SRTP, and it is off here. Answer 488, or end the call.
    #[error("they take nothing but SRTP, and it is off here")]
    SrtpOff,
    /// SRTP is required, and our offer may not tell keys. The owner's doing: TLS carries them, or `sdes_over_plain` says
    /// that they may go without.
    #[error("SRTP is required, and the signalling is not encrypted: keys would be told to everybody")]
    KeysUntold,
    /// None of their `a=crypto` lines can be used; this is what is wrong with the first. Answer 488.
    #[error("their a=crypto cannot be used: {0}")]
    Crypto(#[source] CryptoError),
    /// An audio section without an address. The peer's doing; answer 400 or 488.
    #[error("the audio has no connection address")]
    NoAddress,
}

/// Encoding names, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecList(Vec<String>);

impl fmt::Display for CodecList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// Answers an offer: the first audio section that is as secure as it is to be, the offer's first codec that we have.
///
/// # Errors
/// [`NegotiateError`].
pub fn answer(
    offer: &SessionDescription,
    capabilities: &Capabilities,
    local: &LocalMedia,
) -> Result<Answer, NegotiateError> {
    let Chosen { at, keying, crypto } = capabilities.security.choose(offer)?;
    let negotiated = Negotiated { keying, ..agree(offer, &offer.media[at], capabilities)? };
    let mut sdp = head(local);
    for (index, media) in offer.media.iter().enumerate() {
        if index == at {
            write_audio(&mut sdp, local, &negotiated, &media.protocol);
            crypto.iter().for_each(|crypto| crypto::write(&mut sdp, crypto));
        } else {
            // RFC 3264 §6: every section is answered in its place; port 0 refuses it.
            let _ = write!(sdp, "m={} 0 {} {}\r\n", media.kind, media.protocol, media.formats[0]);
        }
    }
    Ok(Answer { negotiated, sdp })
}

/// Writes an offer.
///
/// # Errors
/// [`NegotiateError::KeysUntold`].
pub fn offer(capabilities: &Capabilities, local: &LocalMedia) -> Result<String, NegotiateError> {
    let (protocol, lines) = capabilities.security.offer()?;
    let mut sdp = head(local);
    let _ = write!(sdp, "m=audio {} {protocol}", local.port);
    for codec in &capabilities.codecs {
        let _ = write!(sdp, " {}", codec.payload_type());
    }
    let _ = write!(sdp, " {OFFERED_EVENT}\r\n");
    for codec in &capabilities.codecs {
        let _ = write!(sdp, "a=rtpmap:{} {}/{}\r\n", codec.payload_type(), codec.name(), codec.clock_rate());
    }
    let _ = write!(sdp, "a=rtpmap:{OFFERED_EVENT} telephone-event/8000\r\na=fmtp:{OFFERED_EVENT} 0-15\r\n");
    sdp.push_str("a=ptime:20\r\na=sendrecv\r\n");
    lines.iter().for_each(|crypto| crypto::write(&mut sdp, crypto));
    Ok(sdp)
}

/// Reads the answer to [`offer`].
///
/// # Errors
/// [`NegotiateError`]; the session cannot stand then.
pub fn accept_answer(answer: &SessionDescription, capabilities: &Capabilities) -> Result<Negotiated, NegotiateError> {
    let media = answer.media.first().ok_or(NegotiateError::NoAudio)?;
    let keying = capabilities.security.accept_answer(media)?;
    Ok(Negotiated { keying, ..agree(answer, media, capabilities)? })
}

fn agree(
    theirs: &SessionDescription,
    media: &Media,
    capabilities: &Capabilities,
) -> Result<Negotiated, NegotiateError> {
    let maps: Vec<_> = media.payload_types().filter_map(|payload_type| media.rtp_map(payload_type)).collect();
    let found = maps.iter().find_map(|map| {
        let codec = Codec::of_name(&map.encoding).filter(|codec| codec.clock_rate() == map.clock_rate)?;
        capabilities.codecs.contains(&codec).then_some((codec, map.payload_type))
    });
    let Some((codec, payload_type)) = found else {
        let offered = CodecList(maps.into_iter().map(|map| map.encoding).collect());
        return Err(NegotiateError::NoCommonCodec { offered });
    };
    let is_event = |encoding: &str| encoding.eq_ignore_ascii_case("telephone-event");
    let telephone_event = maps.iter().find(|map| is_event(&map.encoding) && map.clock_rate == 8000);
    let address = media.connection.or(theirs.connection).ok_or(NegotiateError::NoAddress)?;
    let rtcp_mux = media.attributes.contains(&Attribute::RtcpMux);
    let remote_rtp = SocketAddr::new(address, media.port);
    Ok(Negotiated {
        codec,
        payload_type,
        telephone_event: telephone_event.map(|map| map.payload_type),
        remote_rtp,
        remote_rtcp: if rtcp_mux { remote_rtp } else { rtcp_address(media, remote_rtp) },
        rtcp_mux,
        direction: media.direction(theirs.direction).mirrored(),
        keying: Keying::Plain,
    })
}

/// RFC 3605: `a=rtcp`, else the port above. A host other than the media's own is not believed.
fn rtcp_address(media: &Media, rtp: SocketAddr) -> SocketAddr {
    let port = media.attributes.iter().find_map(|attribute| match attribute {
        Attribute::Rtcp(port, host) if host.is_none_or(|host| host == rtp.ip()) => Some(*port),
        _ => None,
    });
    SocketAddr::new(rtp.ip(), port.unwrap_or_else(|| rtp.port().saturating_add(1)))
}

fn head(local: &LocalMedia) -> String {
    let family = if local.address.is_ipv4() { "IP4" } else { "IP6" };
    let LocalMedia { address, session_id, version, .. } = local;
    format!(
        "v=0\r\no=talkstack {session_id} {version} IN {family} {address}\r\ns=-\r\nc=IN {family} {address}\r\nt=0 0\r\n"
    )
}

fn write_audio(sdp: &mut String, local: &LocalMedia, negotiated: &Negotiated, protocol: &str) {
    let Negotiated { codec, payload_type, .. } = negotiated;
    let _ = write!(sdp, "m=audio {} {protocol} {payload_type}", local.port);
    if let Some(event) = negotiated.telephone_event {
        let _ = write!(sdp, " {event}");
    }
    let _ = write!(sdp, "\r\na=rtpmap:{payload_type} {}/{}\r\n", codec.name(), codec.clock_rate());
    if let Some(event) = negotiated.telephone_event {
        let _ = write!(sdp, "a=rtpmap:{event} telephone-event/8000\r\na=fmtp:{event} 0-15\r\n");
    }
    if negotiated.rtcp_mux {
        sdp.push_str("a=rtcp-mux\r\n");
    }
    let _ = write!(sdp, "a=ptime:20\r\na={}\r\n", negotiated.direction.name());
}

/// The dynamic payload type that most phones use for telephone-event.
const OFFERED_EVENT: u8 = 101;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offer_s_first_codec_that_we_have_is_answered_with_its_own_number() {
        let answer = check(
            "m=audio 4000 RTP/AVP 18 9 97 0 101\r\na=rtpmap:97 pcma/8000\r\na=rtpmap:101 telephone-event/8000\r\n",
        )
        .expect("agreed");
        assert_eq!((answer.negotiated.codec, answer.negotiated.payload_type), (Codec::Pcma, 97));
        assert_eq!(answer.negotiated.telephone_event, Some(101));
        assert_eq!(answer.negotiated.remote_rtcp.port(), 4001);
        assert!(answer.sdp.contains("m=audio 10000 RTP/AVP 97 101\r\n"), "{}", answer.sdp);
    }

    #[test]
    fn our_own_offer_is_answered_and_accepted() {
        let capabilities = Capabilities::default();
        let offered =
            SessionDescription::parse(offer(&capabilities, &local()).expect("plain").as_bytes()).expect("readable");
        let answered = answer(&offered, &capabilities, &local()).expect("agreed");
        let read = SessionDescription::parse(answered.sdp.as_bytes()).expect("readable");
        let accepted = accept_answer(&read, &capabilities).expect("accepted");
        assert_eq!((accepted.codec, accepted.telephone_event), (Codec::Pcmu, Some(101)));
    }

    #[test]
    fn every_section_is_answered_in_its_place() {
        let answer = check(
            "m=video 5000 RTP/AVP 96\r\nm=audio 4002 RTP/SAVP 0\r\nm=audio 4000 RTP/AVP 0\r\nm=image 1 udptl t38\r\n",
        )
        .expect("agreed");
        let sections: Vec<_> = answer.sdp.lines().filter(|line| line.starts_with("m=")).collect();
        assert_eq!(
            sections,
            ["m=video 0 RTP/AVP 96", "m=audio 0 RTP/SAVP 0", "m=audio 10000 RTP/AVP 0", "m=image 0 udptl t38"]
        );
    }

    #[test]
    fn hold_is_mirrored() {
        for (theirs, ours, held) in [
            ("sendonly", Direction::Recvonly, true),
            ("inactive", Direction::Inactive, true),
            ("recvonly", Direction::Sendonly, false),
            ("sendrecv", Direction::Sendrecv, false),
        ] {
            let answer = check(&format!("m=audio 4000 RTP/AVP 0\r\na={theirs}\r\n")).expect("agreed");
            assert_eq!((answer.negotiated.direction, answer.negotiated.is_held()), (ours, held), "{theirs}");
            assert!(answer.sdp.contains(&format!("a={}\r\n", ours.name())));
        }
        let old = check("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n").expect("agreed");
        assert!(old.negotiated.is_held(), "RFC 2543 hold");
    }

    #[test]
    fn what_cannot_be_agreed_on_says_why() {
        let error = check("m=audio 4000 RTP/AVP 18 9\r\n").expect_err("no codec");
        assert_eq!(error.to_string(), "no common codec: they offered G729, G722");
        assert_eq!(check("m=audio 0 RTP/AVP 0\r\n"), Err(NegotiateError::NoAudio));
        assert_eq!(check("m=audio 1 RTP/SAVP 0\r\n"), Err(NegotiateError::SrtpOff));
        assert_eq!(check("m=audio 1 UDP/BFCP 0\r\n"), Err(NegotiateError::NoAudio));
        let homeless = SessionDescription::parse(b"v=0\r\nm=audio 4000 RTP/AVP 0\r\n").expect("readable");
        assert_eq!(answer(&homeless, &Capabilities::default(), &local()), Err(NegotiateError::NoAddress));
    }

    #[test]
    fn rtcp_goes_where_the_offer_says_but_not_to_another_host() {
        let port = |sdp: &str| check(sdp).expect("agreed").negotiated.remote_rtcp;
        assert_eq!(port("m=audio 4000 RTP/AVP 0\r\na=rtcp:6000\r\n").to_string(), "10.0.0.1:6000");
        assert_eq!(port("m=audio 4000 RTP/AVP 0\r\na=rtcp:6000 IN IP4 10.9.9.9\r\n").to_string(), "10.0.0.1:4001");
        assert_eq!(port("m=audio 4000 RTP/AVP 0\r\na=rtcp-mux\r\n").to_string(), "10.0.0.1:4000");
    }

    #[test]
    fn other_people_s_descriptions_are_read_and_answered_or_refused_by_name() {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpora");
        let corpora = std::env::var_os("TALKSTACK_CORPORA").map_or_else(|| beside.into(), std::path::PathBuf::from);
        let Ok(entries) = std::fs::read_dir(corpora.join("sdp/sdp-transform")) else {
            eprintln!("skipped: no test corpora beside the checkout (TALKSTACK_CORPORA)");
            return;
        };
        let (mut answered, mut unreadable) = (Vec::new(), Vec::new());
        for entry in entries.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "sdp")) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(offer) = SessionDescription::parse(&std::fs::read(entry.path()).expect("readable")) else {
                unreadable.push(name);
                continue;
            };
            if let Ok(answer) = answer(&offer, &Capabilities::default(), &local()) {
                let sections = answer.sdp.lines().filter(|line| line.starts_with("m=")).count();
                assert_eq!(sections, offer.media.len(), "{name}");
                answered.push(name);
            }
        }
        answered.sort();
        unreadable.sort();
        // The rest has no audio over plain RTP in G.711; alac.sdp maps a payload type to a name without a clock.
        assert_eq!(answered, ["invalid.sdp", "simulcast.sdp", "ts-refclk-media.sdp", "ts-refclk-sess.sdp"]);
        assert_eq!(unreadable, ["alac.sdp"]);
    }

    fn check(sections: &str) -> Result<Answer, NegotiateError> {
        let sdp = format!("v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n{sections}");
        let offer = SessionDescription::parse(sdp.as_bytes()).expect("readable");
        answer(&offer, &Capabilities::default(), &local())
    }

    fn local() -> LocalMedia {
        LocalMedia { address: "10.0.0.2".parse().expect("address"), port: 10_000, session_id: 7, version: 1 }
    }
}
