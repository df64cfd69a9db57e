//! Offer and answer of one leg (RFC 3264): which session description is whose turn, and what both agreed on.

use std::net::IpAddr;

use talkstack_control::port::EndReason;
use talkstack_media::sdp::{Capabilities, LocalMedia, NegotiateError, Negotiated, SessionDescription, negotiate};

/// What an INVITE brings.
#[derive(Debug)]
pub struct Offer<'a> {
    /// Its SDP; `None` is a late offer: ours goes out in the 200 and theirs comes in the ACK.
    pub sdp: Option<&'a [u8]>,
    /// Where our media is.
    pub local: LegAddress,
    /// Where the signalling comes from.
    pub signalling: IpAddr,
}

/// The two ends of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Where our media is.
    pub local: LegAddress,
    /// Where the signalling comes from: a source that media may come from as well.
    pub signalling: IpAddr,
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
        Negotiation { local, signalling: line.signalling, local_sdp: String::new(), agreed: None, awaits_answer: false }
    }

    /// Answers their offer, or makes ours when they sent none.
    pub(super) fn handle_offer(&mut self, sdp: Option<&[u8]>) -> Result<(), EndReason> {
        let Some(sdp) = sdp else {
            let offer = |local: &LocalMedia| negotiate::offer(&Capabilities::default(), local);
            if !self.local_sdp.is_empty() && offer(&self.local) != self.local_sdp {
                self.local.version += 1;
            }
            self.local_sdp = offer(&self.local);
            self.awaits_answer = true;
            return Ok(());
        };
        let description = SessionDescription::parse(sdp).map_err(|_| EndReason::BadOffer)?;
        let mut answer = negotiate::answer(&description, &Capabilities::default(), &self.local).map_err(reason)?;
        // RFC 3264 §8: another version when the description differs, and only then.
        if !self.local_sdp.is_empty() && answer.sdp != self.local_sdp {
            self.local.version += 1;
            answer = negotiate::answer(&description, &Capabilities::default(), &self.local).map_err(reason)?;
        }
        self.local_sdp = answer.sdp;
        self.awaits_answer = false;
        self.agreed = Some(answer.negotiated);
        Ok(())
    }

    /// Takes their answer; `false` when none was due. One that is due and missing leaves the call without media.
    pub(super) fn handle_answer(&mut self, sdp: Option<&[u8]>) -> Result<bool, EndReason> {
        if !std::mem::take(&mut self.awaits_answer) {
            return Ok(false);
        }
        let sdp = sdp.ok_or(EndReason::BadOffer)?;
        let description = SessionDescription::parse(sdp).map_err(|_| EndReason::BadOffer)?;
        self.agreed = Some(negotiate::accept_answer(&description, &Capabilities::default()).map_err(reason)?);
        Ok(true)
    }

    /// Takes the answer of a called side, whose signalling may come from elsewhere than our INVITE went to.
    pub(super) fn handle_called_answer(&mut self, sdp: Option<&[u8]>, signalling: IpAddr) -> Result<(), EndReason> {
        self.signalling = signalling;
        // Another branch of a fork, or the 200 behind its 183, may say something else (RFC 3261 §13.2.2.4).
        self.awaits_answer |= sdp.is_some();
        self.handle_answer(sdp).map(drop)
    }

    /// Our media has this address from now on: the offer that says so, if the far end was told another.
    pub(super) fn offer_from(&mut self, host: IpAddr) -> Option<String> {
        if self.local.address == host {
            return None;
        }
        self.local.address = host;
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
    pub(super) fn agreed(&self) -> Option<Negotiated> {
        self.agreed.clone()
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
        _ => EndReason::BadOffer,
    }
}
