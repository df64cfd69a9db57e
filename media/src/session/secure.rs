//! The protection of one session's packets: opened before anything reads them, sealed before they leave.
//!
//! ```text
//!   they change their keys ─▶ new keys open; the former ones too, until they have not for 2 s
//!   DTLS, without keys yet ─▶ nothing opens, nothing leaves
//!   we change ours         ─▶ the former ones are kept: under one key the packet index never goes back
//! ```

use std::time::{Duration, Instant};

use super::dtls::Dtls;
use super::{Channel, Protection};
use crate::rtp::srtp::{Inbound, Outbound, SrtpError};
use crate::sdp::{Keying, Negotiated, SdesKeys};

/// Opens and seals.
#[derive(Debug)]
pub(super) struct Secure {
    /// Both sides' keys; `None` until a handshake has brought them.
    keys: Option<SdesKeys>,
    dtls: Option<Dtls>,
    /// RTCP's own keys, where its port is its own and the keys are from handshakes.
    control: Option<(Inbound, Outbound)>,
    /// The session is secured; it may have been agreed on that it is no more.
    is_active: bool,
    inbound: Inbound,
    /// What opened before they changed their keys, and when it did last.
    former: Option<(Inbound, Instant)>,
    outbound: Option<Outbound>,
    /// What sealed under keys that were ours before.
    retired: Vec<(SdesKeys, Outbound)>,
    opened: Vec<u8>,
    /// The last RTP packet that was sealed, as it was before.
    sent: Vec<u8>,
    unauthenticated: u64,
    replayed: u64,
}

impl Secure {
    fn new(keys: Option<SdesKeys>, dtls: Option<Dtls>) -> Self {
        Secure {
            is_active: true,
            dtls,
            control: None,
            inbound: Inbound::new(keys.as_ref().map_or(&[], |keys| &keys.remote)),
            former: None,
            outbound: keys.as_ref().map(|keys| Outbound::new(&keys.local)),
            retired: Vec::new(),
            opened: Vec::with_capacity(PACKET_BYTES),
            sent: Vec::with_capacity(PACKET_BYTES),
            unauthenticated: 0,
            replayed: 0,
            keys,
        }
    }

    /// Takes in what was agreed on. Keys that stay keep their packet index.
    pub(super) fn agree(secure: &mut Option<Box<Self>>, negotiated: &Negotiated, ssrc: u32, now: Instant) {
        let is_muxed = negotiated.rtcp_mux;
        match (&negotiated.keying, secure) {
            (Keying::Plain, secure) => secure.iter_mut().for_each(|secure| secure.is_active = false),
            (Keying::Sdes(keys), Some(secure)) if secure.dtls.is_none() => secure.rekey(keys, now),
            (Keying::Sdes(keys), secure) => *secure = Some(Box::new(Secure::new(Some((**keys).clone()), None))),
            (Keying::Dtls(peer), secure) => {
                let former = secure.as_mut().and_then(|secure| {
                    secure.is_active = true;
                    secure.dtls.as_mut()
                });
                match former {
                    Some(dtls) if dtls.is_with(peer) => dtls.keep_on(is_muxed),
                    former => {
                        let dtls = Dtls::new((**peer).clone(), is_muxed, ssrc, former.as_deref(), now);
                        *secure = Some(Box::new(Secure::new(None, Some(dtls))));
                    }
                }
            }
        }
    }

    /// A handshake has brought keys.
    pub(super) fn handle_keys(&mut self, channel: Channel, keys: &SdesKeys) {
        match channel {
            Channel::Rtp => {
                self.inbound = Inbound::new(&keys.remote);
                self.outbound = Some(Outbound::new(&keys.local));
                self.keys = Some(keys.clone());
            }
            Channel::Rtcp => self.control = Some((Inbound::new(&keys.remote), Outbound::new(&keys.local))),
        }
    }

    /// Tells whether nothing may leave yet: the session is secured, and a handshake is to bring the keys.
    pub(super) fn awaits_keys(&self) -> bool {
        self.is_active && self.outbound.is_none()
    }

    pub(super) fn protection(&self) -> Protection {
        let suite = self.keys.as_ref().map(|keys| keys.local.master.suite());
        match (&self.dtls, suite) {
            _ if !self.is_active => Protection::Plain,
            (Some(_), suite) => Protection::Dtls(suite),
            (None, suite) => suite.map_or(Protection::Plain, Protection::Sdes),
        }
    }

    pub(super) fn dtls(&self) -> Option<&Dtls> {
        self.dtls.as_ref().filter(|_| self.is_active)
    }

    pub(super) fn dtls_mut(&mut self) -> Option<&mut Dtls> {
        self.dtls.as_mut().filter(|_| self.is_active)
    }

    fn rekey(&mut self, keys: &SdesKeys, now: Instant) {
        self.is_active = true;
        let (Some(former), Some(outbound)) = (&self.keys, &mut self.outbound) else { return };
        if keys.remote != former.remote {
            let mut inbound = Inbound::new(&keys.remote);
            inbound.succeed(&self.inbound);
            self.former = Some((std::mem::replace(&mut self.inbound, inbound), now));
        }
        if keys.local.master != former.local.master {
            let again = self.retired.iter().position(|(retired, _)| retired.local.master == keys.local.master);
            let next = again.map_or_else(|| Outbound::new(&keys.local), |at| self.retired.swap_remove(at).1);
            let retired = std::mem::replace(outbound, next);
            if self.retired.len() == RETIRED_MAX {
                self.retired.remove(0);
            }
            self.retired.push((former.clone(), retired));
        }
        outbound.rename(keys.local.mki);
        self.keys = Some(keys.clone());
    }

    pub(super) fn is_active(&self) -> bool {
        self.is_active
    }

    /// Packets that were not authenticated.
    pub(super) fn unauthenticated(&self) -> u64 {
        self.unauthenticated
    }

    /// Packets that had been here before.
    pub(super) fn replayed(&self) -> u64 {
        self.replayed
    }

    /// Opens an RTP packet.
    pub(super) fn open(&mut self, packet: &[u8], now: Instant) -> Option<&[u8]> {
        if self.awaits_keys() {
            // Who has shaken hands first speaks first: that is no stranger's packet, and cannot be opened yet.
            return None;
        }
        self.open_with(packet, now, Inbound::open)
    }

    /// Opens an RTCP packet.
    pub(super) fn open_control(&mut self, packet: &[u8], now: Instant) -> Option<&[u8]> {
        if !self.has_control_keys() {
            return if self.awaits_keys() { None } else { self.open_with(packet, now, Inbound::open_control) };
        }
        let (inbound, _) = self.control.as_mut()?;
        self.opened.clear();
        self.opened.extend_from_slice(packet.get(..PACKET_BYTES.min(packet.len()))?);
        let bytes = inbound.open_control(&mut self.opened).ok()?;
        self.opened.get(..bytes)
    }

    fn has_control_keys(&self) -> bool {
        self.dtls.as_ref().is_some_and(Dtls::has_control_keys)
    }

    fn open_with(
        &mut self,
        packet: &[u8],
        now: Instant,
        open: impl Fn(&mut Inbound, &mut [u8]) -> Result<usize, SrtpError>,
    ) -> Option<&[u8]> {
        if packet.len() > PACKET_BYTES {
            self.unauthenticated += 1;
            return None;
        }
        self.opened.clear();
        self.opened.extend_from_slice(packet);
        let mut opened = open(&mut self.inbound, &mut self.opened);
        if opened.is_err()
            && let Some((former, last)) = &mut self.former
        {
            if now.saturating_duration_since(*last) >= FORMER_KEPT {
                self.former = None;
            } else if let Ok(bytes) = open(former, &mut self.opened) {
                *last = now;
                opened = Ok(bytes);
            }
        }
        match opened {
            Ok(bytes) => self.opened.get(..bytes),
            Err(SrtpError::Replayed) => {
                self.replayed += 1;
                None
            }
            Err(_) => {
                self.unauthenticated += 1;
                None
            }
        }
    }

    /// Seals an RTP packet; its length then, 0 when it must not leave.
    pub(super) fn seal(&mut self, packet: &mut [u8], bytes: usize) -> usize {
        self.sent.clear();
        self.sent.extend_from_slice(packet.get(..bytes).unwrap_or_default());
        self.outbound.as_mut().and_then(|outbound| outbound.seal(packet, bytes)).unwrap_or(0)
    }

    /// Seals an RTCP packet; its length then, 0 when it must not leave.
    pub(super) fn seal_control(&mut self, packet: &mut [u8], bytes: usize) -> usize {
        self.sent.clear();
        let outbound = if self.has_control_keys() {
            self.control.as_mut().map(|(_, outbound)| outbound)
        } else {
            self.outbound.as_mut()
        };
        outbound.and_then(|outbound| outbound.seal_control(packet, bytes)).unwrap_or(0)
    }

    /// The last packet as it was before it was sealed; empty for a report.
    pub(super) fn sent(&self) -> &[u8] {
        &self.sent
    }
}

/// 2 s after the last packet under the former keys: what was on its way has come.
const FORMER_KEPT: Duration = Duration::from_secs(2);

/// 6 keys: a leg has one of each suite, and others only once its media has moved; the former ones never come back then.
const RETIRED_MAX: usize = 6;

/// 2,048 bytes: an Ethernet frame, the longest tag and identifier.
const PACKET_BYTES: usize = 2048;

#[cfg(test)]
mod tests;
