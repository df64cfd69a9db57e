//! Offer and answer (RFC 3264, RFC 6337) as pure functions.

use std::fmt;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::crypto::CryptoError;
use super::dtmf::DtmfMode;
use super::parse::{Attribute, Direction, Media, RtpMap, SessionDescription};
use super::repertoire::Repertoire;
use super::security::{Chosen, Keying, Security};
use crate::codec::{Codec, comfort_noise, opus};

/// What we can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The codecs: our offers are in its order, answers follow the offer's.
    pub repertoire: Repertoire,
    /// Whether media is encrypted, and with what.
    pub security: Security,
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
    pub payload_type: Numbered,
    /// telephone-event, if both know it.
    pub telephone_event: Option<TelephoneEvent>,
    /// How keys travel.
    pub dtmf: DtmfMode,
    /// Comfort noise's payload type, if both know it: the far end may fall silent (RFC 3389).
    pub comfort_noise: Option<u8>,
    /// What the far end wishes to be sent, of Opus.
    pub opus: opus::Wishes,
    /// The length of the packets it wishes to be sent, in milliseconds: 10 to 60, and 20 if it wishes nothing that can
    /// be done.
    pub ptime_ms: u8,
    /// Where to send RTP.
    pub remote_rtp: SocketAddr,
    /// Where to send RTCP.
    pub remote_rtcp: SocketAddr,
    /// RTCP shares the RTP port (RFC 5761).
    pub rtcp_mux: bool,
    /// Whether the far end asks for VoIP metrics in extended reports (RFC 3611 §5); `None` where it says nothing of them.
    pub wants_metrics: Option<bool>,
    /// Our direction.
    pub direction: Direction,
    /// How packets are protected.
    pub keying: Keying,
}

/// A payload type as each side numbers it: who answers may take a number of its own (RFC 3264 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbered {
    /// In the far end's description: what it is sent.
    pub sent: u8,
    /// In ours: what it should send. Many send their own number, so both are taken.
    pub received: u8,
}

impl Numbered {
    /// The same number on both sides.
    pub fn alike(number: u8) -> Self {
        Numbered { sent: number, received: number }
    }

    /// Tells whether a packet of the number may be meant.
    pub fn is(self, number: u8) -> bool {
        number == self.received || number == self.sent
    }
}

/// Keys as packets of their own (RFC 4733).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// Its payload type.
    pub payload_type: Numbered,
    /// The clock of its durations, in hertz: 8,000, or 48,000 beside Opus.
    pub clock_rate: u32,
}

impl Negotiated {
    /// What a codec and its number agree on by themselves: both ways, 20 ms a packet, RTCP on the RTP port, in the clear,
    /// and nothing besides.
    pub fn plain(codec: Codec, payload_type: u8, remote: SocketAddr) -> Self {
        Negotiated {
            codec,
            payload_type: Numbered::alike(payload_type),
            telephone_event: None,
            dtmf: DtmfMode::default(),
            comfort_noise: None,
            opus: opus::Wishes::default(),
            ptime_ms: 20,
            remote_rtp: remote,
            remote_rtcp: remote,
            rtcp_mux: true,
            wants_metrics: None,
            direction: Direction::Sendrecv,
            keying: Keying::Plain,
        }
    }

    /// Tells whether the far end has put us on hold: it does not want to hear us.
    pub fn is_held(&self) -> bool {
        !self.direction.sends() || self.remote_rtp.ip().is_unspecified()
    }

    /// Tells whether a payload type is one of those agreed on.
    pub fn takes(&self, number: u8) -> bool {
        self.payload_type.is(number)
            || self.telephone_event.is_some_and(|event| event.payload_type.is(number))
            || self.comfort_noise == Some(number)
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
    let Chosen { at, keying, lines } = capabilities.security.choose(offer)?;
    let agreed = agree(offer, &offer.media[at], capabilities, |number, _| Numbered::alike(number))?;
    let negotiated = Negotiated { keying, ..agreed };
    let mut sdp = head(local);
    for (index, media) in offer.media.iter().enumerate() {
        if index == at {
            write_audio(&mut sdp, local, &negotiated, &media.protocol);
            sdp.push_str(&lines);
        } else {
            // RFC 3264 §6: every section is answered in its place; port 0 refuses it.
            let _ = write!(sdp, "m={} 0 {} {}\r\n", media.kind, media.protocol, media.formats[0]);
        }
    }
    Ok(Answer { negotiated, sdp })
}

/// Writes an offer: the codecs in our order, comfort noise beside G.711, keys in the clock of each codec.
///
/// # Errors
/// [`NegotiateError::KeysUntold`].
pub fn offer(capabilities: &Capabilities, local: &LocalMedia) -> Result<String, NegotiateError> {
    let (protocol, lines) = capabilities.security.offer()?;
    let repertoire = capabilities.repertoire;
    let has_g711 = repertoire.offered().any(is_g711);
    let has_opus = repertoire.offered().any(|codec| codec == Codec::Opus);
    let has_events = repertoire.dtmf().has_events();
    let events = OFFERED_EVENTS.into_iter().filter(|(_, clock_rate)| has_events && (*clock_rate == 8000 || has_opus));
    let mut sdp = head(local);
    let _ = write!(sdp, "m=audio {} {protocol}", local.port);
    for codec in repertoire.offered() {
        let _ = write!(sdp, " {}", codec.payload_type());
    }
    if has_g711 {
        let _ = write!(sdp, " {}", comfort_noise::PAYLOAD_TYPE);
    }
    for (number, _) in events.clone() {
        let _ = write!(sdp, " {number}");
    }
    sdp.push_str("\r\n");
    for codec in repertoire.offered() {
        write_codec(&mut sdp, codec.payload_type(), codec);
    }
    if has_g711 {
        write_noise(&mut sdp, comfort_noise::PAYLOAD_TYPE);
    }
    for (number, clock_rate) in events {
        write_event(&mut sdp, number, clock_rate);
    }
    let _ = write!(sdp, "{METRICS}a=ptime:{}\r\na=sendrecv\r\n", repertoire.ptime_ms());
    sdp.push_str(&lines);
    Ok(sdp)
}

/// Reads the answer to [`offer`].
///
/// # Errors
/// [`NegotiateError`]; the session cannot stand then.
pub fn accept_answer(answer: &SessionDescription, capabilities: &Capabilities) -> Result<Negotiated, NegotiateError> {
    let media = answer.media.first().ok_or(NegotiateError::NoAudio)?;
    let keying = capabilities.security.accept_answer(answer, media)?;
    Ok(Negotiated { keying, ..agree(answer, media, capabilities, |sent, received| Numbered { sent, received })? })
}

fn agree(
    theirs: &SessionDescription,
    media: &Media,
    capabilities: &Capabilities,
    numbered: fn(theirs: u8, offered: u8) -> Numbered,
) -> Result<Negotiated, NegotiateError> {
    let maps: Vec<_> = media.payload_types().filter_map(|payload_type| media.rtp_map(payload_type)).collect();
    let found = maps.iter().find_map(|map| {
        let codec = Codec::of_name(&map.encoding).filter(|codec| codec.clock_rate() == map.clock_rate)?;
        capabilities.repertoire.contains(codec).then_some((codec, map.payload_type))
    });
    let Some((codec, payload_type)) = found else {
        let offered = CodecList(maps.into_iter().map(|map| map.encoding).collect());
        return Err(NegotiateError::NoCommonCodec { offered });
    };
    let comfort_noise = maps.iter().find(|map| is_named(map, "CN") && map.clock_rate == 8000 && is_g711(codec));
    let address = media.connection.or(theirs.connection).ok_or(NegotiateError::NoAddress)?;
    let rtcp_mux = media.attributes.contains(&Attribute::RtcpMux);
    let dtmf = capabilities.repertoire.dtmf();
    let remote_rtp = SocketAddr::new(address, media.port);
    Ok(Negotiated {
        codec,
        payload_type: numbered(payload_type, codec.payload_type()),
        telephone_event: telephone_event(&maps, codec, numbered).filter(|_| dtmf.has_events()),
        dtmf,
        comfort_noise: comfort_noise.map(|map| map.payload_type),
        opus: opus::Wishes::of_parameters(media.parameters(payload_type)),
        ptime_ms: ptime(media, codec, capabilities.repertoire.ptime_ms()),
        remote_rtp,
        remote_rtcp: if rtcp_mux { remote_rtp } else { rtcp_address(media, remote_rtp) },
        rtcp_mux,
        wants_metrics: media.attributes.iter().chain(&theirs.attributes).find_map(|attribute| match attribute {
            Attribute::RtcpXr(has_metrics) => Some(*has_metrics),
            _ => None,
        }),
        direction: media.direction(theirs.direction).mirrored(),
        keying: Keying::Plain,
    })
}

fn is_g711(codec: Codec) -> bool {
    matches!(codec, Codec::Pcmu | Codec::Pcma)
}

fn is_named(map: &RtpMap, name: &str) -> bool {
    map.encoding.eq_ignore_ascii_case(name)
}

/// The keys' payload type: one of the codec's own clock if there is one, else the first.
fn telephone_event(maps: &[RtpMap], codec: Codec, numbered: fn(u8, u8) -> Numbered) -> Option<TelephoneEvent> {
    let offered = |clock_rate: u32| OFFERED_EVENTS.into_iter().find(|(_, rate)| *rate == clock_rate);
    let known = || maps.iter().filter(|map| is_named(map, "telephone-event") && offered(map.clock_rate).is_some());
    let map = known().find(|map| map.clock_rate == codec.clock_rate()).or_else(|| known().next())?;
    let (number, clock_rate) = offered(map.clock_rate)?;
    Some(TelephoneEvent { payload_type: numbered(map.payload_type, number), clock_rate })
}

/// What the far end wishes its packets to play for (RFC 8866 §6.4), as far as the codec can do it; ours without a wish.
fn ptime(media: &Media, codec: Codec, ours: u8) -> u8 {
    let is_packet = |ms: u16| match codec {
        // RFC 7587 §6.1: these, and some that nobody uses.
        Codec::Opus => [10, 20, 40, 60].contains(&ms),
        _ => (10..=60).contains(&ms) && ms.is_multiple_of(10),
    };
    let (mut wanted, mut max) = (u16::from(ours), 60);
    for attribute in &media.attributes {
        match attribute {
            Attribute::Ptime(ms) if is_packet(*ms) => wanted = *ms,
            Attribute::MaxPtime(ms) => max = (*ms).max(10),
            _ => {}
        }
    }
    // At most 60.
    (10..=wanted.min(max)).rev().find(|ms| is_packet(*ms)).unwrap_or(20) as u8
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
    let _ = write!(sdp, "m=audio {} {protocol} {}", local.port, payload_type.received);
    if let Some(number) = negotiated.comfort_noise {
        let _ = write!(sdp, " {number}");
    }
    if let Some(event) = negotiated.telephone_event {
        let _ = write!(sdp, " {}", event.payload_type.received);
    }
    sdp.push_str("\r\n");
    write_codec(sdp, payload_type.received, *codec);
    if let Some(number) = negotiated.comfort_noise {
        write_noise(sdp, number);
    }
    if let Some(event) = negotiated.telephone_event {
        write_event(sdp, event.payload_type.received, event.clock_rate);
    }
    if negotiated.rtcp_mux {
        sdp.push_str("a=rtcp-mux\r\n");
    }
    if negotiated.wants_metrics == Some(true) {
        sdp.push_str(METRICS);
    }
    let _ = write!(sdp, "a=ptime:{}\r\na={}\r\n", negotiated.ptime_ms, negotiated.direction.name());
}

fn write_codec(sdp: &mut String, number: u8, codec: Codec) {
    let (name, clock_rate) = (codec.name(), codec.clock_rate());
    // RFC 7587 §7: two channels always, whatever is sent.
    let channels = if codec == Codec::Opus { "/2" } else { "" };
    let _ = write!(sdp, "a=rtpmap:{number} {name}/{clock_rate}{channels}\r\n");
    if codec == Codec::Opus {
        let _ = write!(sdp, "a=fmtp:{number} {}\r\n", opus::PARAMETERS);
    }
}

fn write_noise(sdp: &mut String, number: u8) {
    let _ = write!(sdp, "a=rtpmap:{number} CN/8000\r\n");
}

fn write_event(sdp: &mut String, number: u8, clock_rate: u32) {
    let _ = write!(sdp, "a=rtpmap:{number} telephone-event/{clock_rate}\r\na=fmtp:{number} 0-15\r\n");
}

/// The numbers and clocks of telephone-event in our offers: the one beside Opus first. 101 is most phones' own.
const OFFERED_EVENTS: [(u8, u32); 2] = [(97, 48_000), (101, 8000)];

/// VoIP metrics are told, and asked for (RFC 3611 §5.1).
const METRICS: &str = "a=rtcp-xr:voip-metrics\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offer_s_first_codec_that_we_have_is_answered_with_its_own_number() {
        let answer = check(
            "m=audio 4000 RTP/AVP 18 3 97 0 101\r\na=rtpmap:97 pcma/8000\r\na=rtpmap:101 telephone-event/8000\r\n",
        )
        .expect("agreed");
        assert_eq!((answer.negotiated.codec, answer.negotiated.payload_type), (Codec::Pcma, Numbered::alike(97)));
        let event = TelephoneEvent { payload_type: Numbered::alike(101), clock_rate: 8000 };
        assert_eq!(answer.negotiated.telephone_event, Some(event));
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
        assert_eq!((accepted.codec, accepted.payload_type), (Codec::Opus, Numbered::alike(96)));
        let event = TelephoneEvent { payload_type: Numbered::alike(97), clock_rate: 48_000 };
        assert_eq!(accepted.telephone_event, Some(event));
        assert_eq!(accepted.opus, opus::Wishes { has_fec: true, has_dtx: true, ..opus::Wishes::default() });
    }

    #[test]
    fn metrics_are_asked_for_in_offers_and_answered_where_they_are_asked_for() {
        let ours = offer(&Capabilities::default(), &local()).expect("an offer");
        assert!(ours.contains("\r\na=rtcp-xr:voip-metrics\r\n"), "{ours}");
        for (theirs, wants) in [
            ("", None),
            ("a=rtcp-xr:rcvr-rtt=all voip-metrics\r\n", Some(true)),
            ("a=rtcp-xr\r\n", Some(false)),
            ("a=rtcp-xr:pkt-loss-rle=100\r\n", Some(false)),
        ] {
            let answer = check(&format!("m=audio 4000 RTP/AVP 0\r\n{theirs}")).expect("agreed");
            assert_eq!(answer.negotiated.wants_metrics, wants, "{theirs}");
            assert_eq!(answer.sdp.contains("a=rtcp-xr:"), wants == Some(true), "{}", answer.sdp);
        }
    }

    #[test]
    fn an_offer_is_in_our_order_and_leaves_room_in_a_datagram() {
        let sdp = offer(&Capabilities::default(), &local()).expect("an offer");
        assert!(sdp.contains("m=audio 10000 RTP/AVP 96 9 0 8 13 97 101\r\n"), "{sdp}");
        // 1,300 bytes of an INVITE over UDP: what remains is for its header fields.
        assert!(sdp.len() < 520, "{} bytes:\n{sdp}", sdp.len());
        let narrow = speaking(&[Codec::Pcma, Codec::G722]);
        let sdp = offer(&narrow, &local()).expect("an offer");
        assert!(sdp.contains("m=audio 10000 RTP/AVP 8 9 13 101\r\n"), "{sdp}");
        let trunk = Capabilities { repertoire: Repertoire::of_trunk(20), ..Capabilities::default() };
        let sdp = offer(&trunk, &local()).expect("an offer");
        assert!(sdp.contains("m=audio 10000 RTP/AVP 9 0 8 13 101\r\n"), "{sdp}");
        // 350 bytes of an INVITE are its credentials, and 560 the rest of its head.
        assert!(sdp.len() < 1300 - 350 - 560, "{} bytes:\n{sdp}", sdp.len());
        let wide = speaking(&[Codec::G722]);
        assert!(offer(&wide, &local()).expect("an offer").contains("m=audio 10000 RTP/AVP 9 101\r\n"));
    }

    #[test]
    fn an_answer_follows_the_offer_s_order_among_the_codecs_that_are_allowed() {
        let all = "m=audio 4000 RTP/AVP 9 111 0 8\r\na=rtpmap:111 OPUS/48000/2\r\na=fmtp:111 usedtx=1\r\n";
        for (allowed, codec, number) in [
            (vec![Codec::Opus, Codec::G722], Codec::G722, 9),
            (vec![Codec::Pcma, Codec::Opus], Codec::Opus, 111),
            (vec![Codec::Pcma, Codec::Pcmu], Codec::Pcmu, 0),
        ] {
            let answer = check_with(all, &speaking(&allowed)).expect("agreed");
            assert_eq!((answer.negotiated.codec, answer.negotiated.payload_type.sent), (codec, number));
            let map = format!("a=rtpmap:{number} {}/{}", codec.name(), codec.clock_rate());
            assert!(answer.sdp.contains(&map), "{}", answer.sdp);
        }
        let answer = check(all.replace("9 111", "111 9").as_str()).expect("agreed");
        assert_eq!(answer.negotiated.opus, opus::Wishes { has_dtx: true, ..opus::Wishes::default() });
        assert!(answer.sdp.contains("a=fmtp:111 useinbandfec=1"), "{}", answer.sdp);
    }

    #[test]
    fn who_answers_may_number_otherwise_than_we_have_offered() {
        let sdp = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n\
            m=audio 4000 RTP/AVP 107 100\r\na=rtpmap:107 opus/48000/2\r\na=rtpmap:100 telephone-event/48000\r\n";
        let answer = SessionDescription::parse(sdp.as_bytes()).expect("readable");
        let accepted = accept_answer(&answer, &Capabilities::default()).expect("agreed");
        assert_eq!(accepted.payload_type, Numbered { sent: 107, received: 96 });
        assert!(accepted.payload_type.is(96) && accepted.payload_type.is(107) && !accepted.payload_type.is(0));
        let event = accepted.telephone_event.expect("agreed");
        assert_eq!(event.payload_type, Numbered { sent: 100, received: 97 });
    }

    #[test]
    fn keys_are_in_the_codec_s_clock_if_the_far_end_has_it_and_else_in_the_one_it_has() {
        let maps = "a=rtpmap:96 opus/48000/2\r\na=rtpmap:97 telephone-event/48000\r\n\
            a=rtpmap:101 telephone-event/8000\r\na=rtpmap:102 telephone-event/16000\r\n";
        for (formats, number, clock_rate) in [
            ("96 101 97", 97, 48_000),
            ("96 102 101", 101, 8000),
            ("0 97 101", 101, 8000),
            ("9 97 102 101", 101, 8000),
            ("0 97", 97, 48_000),
        ] {
            let answer = check(&format!("m=audio 4000 RTP/AVP {formats}\r\n{maps}")).expect("agreed");
            let event = answer.negotiated.telephone_event.expect("agreed");
            assert_eq!((event.payload_type.sent, event.clock_rate), (number, clock_rate), "{formats}");
            assert!(answer.sdp.contains(&format!("a=rtpmap:{number} telephone-event/{clock_rate}\r\n")));
        }
        let answer = check(&format!("m=audio 4000 RTP/AVP 0 102\r\n{maps}")).expect("agreed");
        assert_eq!(answer.negotiated.telephone_event, None);
    }

    #[test]
    fn packets_have_the_length_the_far_end_wishes_if_it_can_be_done() {
        for (formats, wish, ms) in [
            ("0", "", 20),
            ("0", "a=ptime:10\r\n", 10),
            ("0", "a=ptime:30.0\r\n", 30),
            ("0", "a=ptime:60\r\na=maxptime:40\r\n", 40),
            ("9", "a=maxptime:10\r\n", 10),
            ("0", "a=ptime:25\r\n", 20),
            ("0", "a=ptime:80\r\n", 20),
            ("0", "a=ptime:0\r\na=maxptime:0\r\n", 10),
            ("96", "a=ptime:60\r\n", 60),
            ("96", "a=ptime:30\r\n", 20),
            ("96", "a=ptime:60\r\na=maxptime:50\r\n", 40),
        ] {
            let sections = format!("m=audio 4000 RTP/AVP {formats}\r\na=rtpmap:96 opus/48000/2\r\n{wish}");
            let answer = check(&sections).expect("agreed");
            assert_eq!(answer.negotiated.ptime_ms, ms, "{formats} {wish:?}");
            assert!(answer.sdp.contains(&format!("a=ptime:{ms}\r\n")));
        }
        let ours = Capabilities { repertoire: Repertoire::new([], 30), ..Capabilities::default() };
        assert!(offer(&ours, &local()).expect("an offer").contains("a=ptime:30\r\n"));
        let length = |sections| check_with(sections, &ours).expect("agreed").negotiated.ptime_ms;
        assert_eq!(length("m=audio 4000 RTP/AVP 0\r\n"), 30, "who wishes nothing gets what we wish for");
        assert_eq!(length("m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n"), 20);
    }

    #[test]
    fn comfort_noise_is_agreed_on_beside_g_711_alone() {
        let noise = |formats: &str| check(&format!("m=audio 4000 RTP/AVP {formats}\r\n")).expect("agreed");
        assert_eq!(noise("0 13").negotiated.comfort_noise, Some(13));
        assert!(noise("8 13").sdp.contains("a=rtpmap:13 CN/8000\r\n"));
        assert_eq!(noise("9 0 13").negotiated.comfort_noise, None);
        assert_eq!(noise("0").negotiated.comfort_noise, None);
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
        let error = check("m=audio 4000 RTP/AVP 18 13\r\n").expect_err("no codec");
        assert_eq!(error.to_string(), "no common codec: they offered G729, CN");
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
        // The rest has no audio over plain RTP in a codec of ours; alac.sdp maps a payload type to a name without a clock.
        let known =
            ["bfcp.sdp", "invalid.sdp", "rtcp-fb.sdp", "simulcast.sdp", "ts-refclk-media.sdp", "ts-refclk-sess.sdp"];
        assert_eq!(answered, known);
        assert_eq!(unreadable, ["alac.sdp"]);
    }

    fn speaking(codecs: &[Codec]) -> Capabilities {
        Capabilities { repertoire: Repertoire::new(codecs.iter().copied(), 20), ..Capabilities::default() }
    }

    fn check(sections: &str) -> Result<Answer, NegotiateError> {
        check_with(sections, &Capabilities::default())
    }

    fn check_with(sections: &str, capabilities: &Capabilities) -> Result<Answer, NegotiateError> {
        let sdp = format!("v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n{sections}");
        let offer = SessionDescription::parse(sdp.as_bytes()).expect("readable");
        answer(&offer, capabilities, &local())
    }

    fn local() -> LocalMedia {
        LocalMedia { address: "10.0.0.2".parse().expect("address"), port: 10_000, session_id: 7, version: 1 }
    }
}
