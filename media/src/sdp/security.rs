//! Which sections of an offer are taken, and which keys a session gets (RFC 4568 §5.1, §7.1).
//!
//! ```text
//!   srtp        our offer                           their offer
//!   off         RTP/AVP                             RTP/AVP
//!   optional    RTP/AVP, with a=crypto where keys   RTP/SAVP, RTP/AVP with a=crypto, or UDP/TLS/RTP/SAVP; else
//!               may be told                         RTP/AVP
//!   required    RTP/SAVP                            RTP/SAVP, RTP/AVP with a=crypto, or UDP/TLS/RTP/SAVP; else none
//! ```
//!
//! `RTP/AVP` with `a=crypto` is the widest form of an offer that leaves the choice: who knows no SRTP answers it as it
//! answers any other, and who does adds keys of its own. Two sections, one secured and one not, would say the same, and
//! many phones answer both or neither.
//!
//! Who offers DTLS (`UDP/TLS/RTP/SAVP`, or `RTP/SAVP` with a fingerprint) gets it, and we begin the handshake where we may
//! (`a=setup:active`); it is never offered first. A section with both, keys and a fingerprint, gets keys where nobody on
//! the way reads them, and DTLS otherwise.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::crypto::{self, Crypto, CryptoError};
use super::dtls::{self, DtlsPeer, DtlsRole, Turn, is_dtls};
use super::fingerprint::Fingerprint;
use super::negotiate::{NegotiateError, Negotiated};
use super::parse::{Attribute, Media, SessionDescription};
use crate::rtp::srtp::{KeyParameter, LIFETIME_MAX, MASTER_BYTES_MAX, MasterKey, Suite};

/// Whether media is encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Srtp {
    /// Never.
    #[default]
    Off,
    /// Where the far end can.
    Optional,
    /// Always: without it there is no call.
    Required,
}

/// What a leg needs to agree on keys.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Security {
    /// Whether media is encrypted.
    pub srtp: Srtp,
    /// Our offers may tell keys: the signalling is encrypted, or its owner has said that this is no matter.
    pub offers_keys: bool,
    /// How the session is secured: later offers of ours leave no choice.
    agreed: Agreed,
    /// Who we are in DTLS; without it there is none.
    identity: Option<Fingerprint>,
    secret: [u8; SECRET_BYTES],
}

/// How a session is secured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Agreed {
    #[default]
    Plain,
    Sdes,
    Dtls(Option<DtlsRole>, RtcpPort),
}

/// Where RTCP goes: it has an association of its own unless it shares the media's port (RFC 5764 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RtcpPort {
    Own,
    Shared,
}

/// How a session's packets are protected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Keying {
    /// Not at all.
    #[default]
    Plain,
    /// By keys in the descriptions (RFC 4568).
    Sdes(Box<SdesKeys>),
    /// By keys of a DTLS handshake with this far end (RFC 5763).
    Dtls(Box<DtlsPeer>),
}

/// The keys of both sides, of one suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdesKeys {
    /// Ours, for what we send.
    pub local: KeyParameter,
    /// Theirs, for what we receive; one or more.
    pub remote: Vec<KeyParameter>,
}

/// A section of an offer, and how it will be protected.
pub(super) struct Chosen {
    pub(super) at: usize,
    pub(super) keying: Keying,
    /// Our lines in the answer.
    pub(super) lines: String,
}

impl Security {
    /// Sets it up. The secret must be random, of 256 bits, and no other leg's: all of our keys come from it.
    pub fn new(srtp: Srtp, offers_keys: bool, secret: [u8; SECRET_BYTES]) -> Self {
        Security { srtp, offers_keys, agreed: Agreed::Plain, identity: None, secret }
    }

    /// Takes DTLS as well, where it is offered; our certificate has this fingerprint.
    pub fn with_identity(self, fingerprint: Fingerprint) -> Self {
        Security { identity: Some(fingerprint), ..self }
    }

    /// Tells whether our offers have keys in them.
    pub fn tells_keys(&self) -> bool {
        self.srtp != Srtp::Off && self.offers_keys
    }

    /// Tells whether the same would be offered and taken, if under other keys.
    pub fn wants_the_same(&self, other: &Security) -> bool {
        (self.srtp, self.tells_keys()) == (other.srtp, other.tells_keys())
    }

    /// Our media moves: RFC 4568 §7.1.4 wants other keys then.
    pub fn renew(&mut self) {
        self.secret = self.derived(b"renewed", 0);
    }

    /// Takes in what was agreed on: who has been told our keys may be told them again, and a session that is secured does
    /// not become plain by an offer of ours.
    pub fn handle_agreed(&mut self, negotiated: &Negotiated) {
        let former = self.agreed;
        let port = if negotiated.rtcp_mux { RtcpPort::Shared } else { RtcpPort::Own };
        self.agreed = match &negotiated.keying {
            Keying::Plain => Agreed::Plain,
            Keying::Sdes(_) => Agreed::Sdes,
            Keying::Dtls(peer) => Agreed::Dtls(peer.role, port),
        };
        self.offers_keys |= self.agreed == Agreed::Sdes;
        if former == Agreed::Sdes && matches!(self.agreed, Agreed::Dtls(..)) {
            // What the former keys have sealed is forgotten with them: they never come back.
            self.renew();
        }
    }

    /// Our key for a suite: always the same, so that the packet index goes on over offers that change nothing.
    fn key(&self, suite: Suite) -> MasterKey {
        let mut bytes = [0; MASTER_BYTES_MAX];
        for (block, part) in bytes.chunks_mut(32).zip(0u8..) {
            block.copy_from_slice(&self.derived(suite.name().as_bytes(), part)[..block.len()]);
        }
        #[expect(clippy::expect_used, reason = "no suite has more than MASTER_BYTES_MAX")]
        MasterKey::new(suite, &bytes[..suite.master_bytes()]).expect("cut to its length")
    }

    fn derived(&self, purpose: &[u8], part: u8) -> [u8; 32] {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of every length (RFC 2104 §2)")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("any length");
        mac.update(purpose);
        mac.update(&[part]);
        mac.finalize().into_bytes().into()
    }

    /// The protocol of our offer's section, and its lines about keys.
    ///
    /// # Errors
    /// [`NegotiateError::KeysUntold`].
    pub(super) fn offer(&self) -> Result<(&'static str, String), NegotiateError> {
        if let (Agreed::Dtls(role, port), Some(identity)) = (self.agreed, self.identity) {
            // RFC 8842 §5.5: with the role that each side has already, the association stays.
            let lines = dtls::lines(identity, role, "actpass");
            return Ok((DTLS, if port == RtcpPort::Shared { lines + "a=rtcp-mux\r\n" } else { lines }));
        }
        let protocol = match (self.srtp, self.offers_keys) {
            (Srtp::Off, _) | (Srtp::Optional, false) => return Ok((PLAIN, String::new())),
            (Srtp::Optional, true) if self.agreed == Agreed::Plain => PLAIN,
            (Srtp::Optional | Srtp::Required, true) => "RTP/SAVP",
            (Srtp::Required, false) => return Err(NegotiateError::KeysUntold),
        };
        let line = |(suite, tag): (Suite, u32)| {
            let master = self.key(suite);
            crypto::line(&Crypto { tag, suite, keys: vec![KeyParameter { master, lifetime: LIFETIME_MAX, mki: None }] })
        };
        Ok((protocol, Suite::ALL.into_iter().zip(1..).map(line).collect()))
    }

    /// Finds the section of an offer to take: a secured one where there is one and it is wanted.
    ///
    /// # Errors
    /// [`NegotiateError`].
    pub(super) fn choose(&self, offer: &SessionDescription) -> Result<Chosen, NegotiateError> {
        let mut failure = None;
        if self.srtp != Srtp::Off {
            for (at, media) in offer.media.iter().enumerate().filter(|(_, media)| is_audio(media)) {
                match self.accept(offer, media, Turn::Offer(self.role())) {
                    Some(Ok((keying, lines))) => return Ok(Chosen { at, keying, lines }),
                    Some(Err(error)) => failure = failure.or(Some(NegotiateError::Crypto(error))),
                    None => {}
                }
            }
        }
        let plain = offer.media.iter().position(|media| is_audio(media) && is_plain(media));
        match plain {
            Some(_) if self.srtp == Srtp::Required => Err(failure.unwrap_or(NegotiateError::SrtpRequired)),
            Some(at) => Ok(Chosen { at, keying: Keying::Plain, lines: String::new() }),
            None => Err(failure.unwrap_or_else(|| self.unusable(offer))),
        }
    }

    /// What the answer to our offer makes of it.
    ///
    /// # Errors
    /// [`NegotiateError`].
    pub(super) fn accept_answer(&self, answer: &SessionDescription, media: &Media) -> Result<Keying, NegotiateError> {
        if !is_audio(media) {
            return Err(NegotiateError::NoAudio);
        }
        let has_dtls = matches!(self.agreed, Agreed::Dtls(..));
        let offered = if is_dtls(media) { has_dtls } else { !has_dtls && self.tells_keys() };
        match self.accept(answer, media, Turn::Answer).filter(|_| offered) {
            Some(Ok((keying, _))) => Ok(keying),
            Some(Err(error)) => Err(NegotiateError::Crypto(error)),
            None if has_dtls || self.srtp == Srtp::Required => Err(NegotiateError::SrtpRequired),
            None if is_plain(media) => Ok(Keying::Plain),
            None => Err(NegotiateError::SrtpOff),
        }
    }

    /// What we are in DTLS already.
    fn role(&self) -> Option<DtlsRole> {
        match self.agreed {
            Agreed::Dtls(role, _) => role,
            Agreed::Plain | Agreed::Sdes => None,
        }
    }

    /// How a section would be protected, and our lines in answer to it; `None` when it asks for nothing of the kind.
    fn accept(
        &self,
        description: &SessionDescription,
        media: &Media,
        turn: Turn,
    ) -> Option<Result<(Keying, String), CryptoError>> {
        let dtls = || {
            let identity = self.identity?;
            Some(DtlsPeer::read(description, media, turn).map(|peer| {
                let lines = dtls::lines(identity, peer.role, "holdconn");
                (Keying::Dtls(Box::new(peer)), lines)
            }))
        };
        if is_dtls(media) {
            return dtls();
        }
        let keys = self.accept_keys(media);
        if is_secured(media) && turn != Turn::Answer && !(self.offers_keys && matches!(keys, Some(Ok(_)))) {
            return dtls().filter(Result::is_ok).or(keys);
        }
        keys
    }

    /// The first `a=crypto` line that can be used, and ours in answer to it; `None` without any.
    fn accept_keys(&self, media: &Media) -> Option<Result<(Keying, String), CryptoError>> {
        if !is_plain(media) && !is_secured(media) {
            return None;
        }
        let lines = media.attributes.iter().filter_map(|attribute| match attribute {
            Attribute::Crypto(line) => Some(line),
            _ => None,
        });
        let mut failure = is_secured(media).then_some(CryptoError::Missing);
        for line in lines {
            match line {
                Ok(theirs) => return Some(Ok(self.answer(theirs))),
                Err(error) => failure = failure.filter(|error| *error != CryptoError::Missing).or(Some(*error)),
            }
        }
        failure.map(Err)
    }

    fn answer(&self, theirs: &Crypto) -> (Keying, String) {
        // RFC 4568 §6.1: our packets name their key as theirs do.
        let mki = theirs.keys.first().and_then(|key| key.mki);
        let local = KeyParameter { master: self.key(theirs.suite), lifetime: LIFETIME_MAX, mki };
        let line = Crypto { tag: theirs.tag, suite: theirs.suite, keys: vec![local.clone()] };
        (Keying::Sdes(Box::new(SdesKeys { local, remote: theirs.keys.clone() })), crypto::line(&line))
    }

    /// Why nothing of an offer can be used.
    fn unusable(&self, offer: &SessionDescription) -> NegotiateError {
        let is_wanted = |media: &Media| is_audio(media) && (is_secured(media) || is_dtls(media));
        let is_secured_only = self.srtp == Srtp::Off && offer.media.iter().any(is_wanted);
        if is_secured_only { NegotiateError::SrtpOff } else { NegotiateError::NoAudio }
    }
}

impl Keying {
    /// Tells whether packets are protected.
    pub fn is_secured(&self) -> bool {
        *self != Keying::Plain
    }

    /// How, for people: the suite's name.
    pub fn name(&self) -> &'static str {
        match self {
            Keying::Plain => "none",
            Keying::Sdes(keys) => keys.local.master.suite().name(),
            Keying::Dtls(_) => "DTLS-SRTP",
        }
    }
}

/// The secret is never printed.
impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("srtp", &self.srtp)
            .field("offers_keys", &self.offers_keys)
            .finish_non_exhaustive()
    }
}

fn is_audio(media: &Media) -> bool {
    media.kind == "audio" && media.port != 0
}

fn is_plain(media: &Media) -> bool {
    matches!(media.protocol.as_str(), "RTP/AVP" | "RTP/AVPF")
}

fn is_secured(media: &Media) -> bool {
    matches!(media.protocol.as_str(), "RTP/SAVP" | "RTP/SAVPF")
}

const PLAIN: &str = "RTP/AVP";

const DTLS: &str = "UDP/TLS/RTP/SAVP";

/// 256 bits: as many as the longest key.
pub const SECRET_BYTES: usize = 32;

#[cfg(test)]
mod tests;
