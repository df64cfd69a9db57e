//! Offer and answer of one leg (RFC 3264): which session description is whose turn, and what both agreed on.

use std::net::IpAddr;

use talkstack_control::port::EndReason;
use talkstack_media::rtp::latch::MediaNetworks;
use talkstack_media::sdp::{
    Capabilities, Keying, LocalMedia, NegotiateError, Negotiated, Repertoire, Security, SessionDescription, negotiate,
};

/// What an INVITE brings.
#[derive(Debug)]
pub struct Offer<'a> {
    /// Its SDP; `None` is a late offer: ours goes out in the 200 and theirs comes in the ACK.
    pub sdp: Option<&'a [u8]>,
    /// Where our media is.
    pub local: LegAddress,
    /// Where the signalling comes from.
    pub signalling: IpAddr,
    /// How its media is to be secured.
    pub security: LineSecurity,
}

/// How a leg's media is to be secured, and what it may be made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineSecurity {
    /// What is offered and taken, and what our keys come from.
    pub media: Security,
    /// Nobody on the way reads the descriptions, and the keys in them: SIP goes under TLS.
    pub is_signalling_secure: bool,
    /// What is spoken on it.
    pub repertoire: Repertoire,
    /// Where its media may come from besides the described address and the signalling's.
    pub networks: MediaNetworks,
}

impl LineSecurity {
    /// Tells whether an offer that was made for the one does for the other.
    pub fn wants_the_same(&self, other: &LineSecurity) -> bool {
        self.media.wants_the_same(&other.media) && self.repertoire == other.repertoire
    }
}

/// The two ends of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Where our media is.
    pub local: LegAddress,
    /// Where the signalling comes from: a source that media may come from as well.
    pub signalling: IpAddr,
    /// How its media is to be secured.
    pub security: LineSecurity,
}

/// Where our media is, as the far end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegAddress {
    /// The host in `c=`.
    pub host: IpAddr,
    /// The RTP port in `m=`; RTCP is one above.
    pub port: u16,
}

/// The state of offer and answer.
#[derive(Debug)]
pub(super) struct Negotiation {
    local: LocalMedia,
    signalling: IpAddr,
    capabilities: Capabilities,
    is_signalling_secure: bool,
    networks: MediaNetworks,
    local_sdp: String,
    agreed: Option<Negotiated>,
    /// Our offer is out and their answer is due.
    awaits_answer: bool,
}

impl Negotiation {
    pub(super) fn new(line: Line, seed: u64) -> Self {
        let local = LocalMedia {
            address: line.local.host,
            port: line.local.port,
            // RFC 4566 §5.2 wants a number that no other session has; 53 bits survive every parser.
            session_id: seed >> 11,
            version: 1,
        };
        Negotiation {
            local,
            signalling: line.signalling,
            capabilities: Capabilities { repertoire: line.security.repertoire, security: line.security.media },
            is_signalling_secure: line.security.is_signalling_secure,
            networks: line.security.networks,
            local_sdp: String::new(),
            agreed: None,
            awaits_answer: false,
        }
    }

    /// The same line's, with nothing offered.
    pub(super) fn unbegun(&self) -> Self {
        Negotiation {
            local: self.local,
            signalling: self.signalling,
            capabilities: self.capabilities.clone(),
            is_signalling_secure: self.is_signalling_secure,
            networks: self.networks,
            local_sdp: String::new(),
            agreed: None,
            awaits_answer: false,
        }
    }

    /// Answers their offer, or makes ours when they sent none.
    pub(super) fn handle_offer(&mut self, sdp: Option<&[u8]>) -> Result<(), EndReason> {
        let Some(sdp) = sdp else {
            let offer = |local: &LocalMedia| negotiate::offer(&self.capabilities, local).map_err(reason);
            if !self.local_sdp.is_empty() && offer(&self.local)? != self.local_sdp {
                self.local.version += 1;
            }
            self.local_sdp = negotiate::offer(&self.capabilities, &self.local).map_err(reason)?;
            self.awaits_answer = true;
            return Ok(());
        };
        let description = SessionDescription::parse(sdp).map_err(|_| EndReason::BadOffer)?;
        let mut answer = negotiate::answer(&description, &self.capabilities, &self.local).map_err(reason)?;
        // RFC 3264 §8: another version when the description differs, and only then.
        if !self.local_sdp.is_empty() && answer.sdp != self.local_sdp {
            self.local.version += 1;
            answer = negotiate::answer(&description, &self.capabilities, &self.local).map_err(reason)?;
        }
        self.local_sdp = answer.sdp;
        self.awaits_answer = false;
        self.agree(answer.negotiated);
        Ok(())
    }

    /// Takes their answer; `false` when none was due. One that is due and missing leaves the call without media.
    pub(super) fn handle_answer(&mut self, sdp: Option<&[u8]>) -> Result<bool, EndReason> {
        if !std::mem::take(&mut self.awaits_answer) {
            return Ok(false);
        }
        let sdp = sdp.ok_or(EndReason::BadOffer)?;
        let description = SessionDescription::parse(sdp).map_err(|_| EndReason::BadOffer)?;
        self.agree(negotiate::accept_answer(&description, &self.capabilities).map_err(reason)?);
        Ok(true)
    }

    /// Takes the answer of a called side, whose signalling may come from elsewhere than our INVITE went to.
    pub(super) fn handle_called_answer(&mut self, sdp: Option<&[u8]>, signalling: IpAddr) -> Result<(), EndReason> {
        self.signalling = signalling;
        // Another branch of a fork, or the 200 behind its 183, may say something else (RFC 3261 §13.2.2.4).
        self.awaits_answer |= sdp.is_some();
        self.handle_answer(sdp).map(drop)
    }

    /// Another trunk carries the call: nothing has been agreed on with it.
    pub(super) fn secure(&mut self, security: LineSecurity) {
        self.capabilities = Capabilities { repertoire: security.repertoire, security: security.media };
        self.is_signalling_secure = security.is_signalling_secure;
        self.networks = security.networks;
        self.agreed = None;
    }

    fn agree(&mut self, negotiated: Negotiated) {
        self.capabilities.security.handle_agreed(&negotiated);
        self.agreed = Some(negotiated);
    }

    /// Tells whether keys were agreed on that others on the way may have read.
    pub(super) fn are_keys_told(&self) -> bool {
        !self.is_signalling_secure
            && self.agreed.as_ref().is_some_and(|agreed| matches!(agreed.keying, Keying::Sdes(_)))
    }

    /// Our media has this address from now on: the offer that says so, if the far end was told another.
    pub(super) fn offer_from(&mut self, host: IpAddr) -> Option<String> {
        if self.local.address == host {
            return None;
        }
        self.local.address = host;
        self.capabilities.security.renew();
        self.handle_offer(None).ok()?;
        Some(self.local_sdp())
    }

    /// Nobody answers our offer: what was agreed on stays.
    pub(super) fn give_up_offer(&mut self) {
        self.awaits_answer = false;
    }

    /// Our offer is out: sound may come ahead of the answer to it.
    pub(super) fn awaits_answer(&self) -> bool {
        self.awaits_answer
    }

    /// What we say: the answer to their offer, or our own offer.
    pub(super) fn local_sdp(&self) -> String {
        self.local_sdp.clone()
    }

    /// What both sides agreed on, once they have.
    pub(super) fn agreed(&self) -> Option<&Negotiated> {
        self.agreed.as_ref()
    }

    /// Where media may come from besides.
    pub(super) fn networks(&self) -> MediaNetworks {
        self.networks
    }

    pub(super) fn signalling(&self) -> IpAddr {
        self.signalling
    }

    pub(super) fn codec_name(&self) -> &'static str {
        self.agreed.as_ref().map_or("PCMU", |agreed| agreed.codec.name())
    }
}

fn reason(error: NegotiateError) -> EndReason {
    match error {
        NegotiateError::NoCommonCodec { .. } => EndReason::NoCommonCodec,
        NegotiateError::SrtpRequired => EndReason::SrtpRequired,
        NegotiateError::SrtpOff => EndReason::SrtpOff,
        NegotiateError::KeysUntold => EndReason::KeysUntold,
        NegotiateError::Crypto(_) => EndReason::BadKeys,
        _ => EndReason::BadOffer,
    }
}

#[cfg(test)]
mod tests;
