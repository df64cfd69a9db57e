//! The protection of one session's packets: opened before anything reads them, sealed before they leave.
//!
//! ```text
//!   they change their keys ─▶ new keys open; the former ones too, until they have not for 2 s
//!   we change ours         ─▶ the former ones are kept: under one key the packet index never goes back
//! ```

use std::time::{Duration, Instant};

use crate::rtp::srtp::{Inbound, Outbound, SrtpError};
use crate::sdp::{Keying, SdesKeys};

/// Opens and seals.
#[derive(Debug)]
pub(super) struct Secure {
    keys: SdesKeys,
    /// The session is secured; it may have been agreed on that it is no more.
    is_active: bool,
    inbound: Inbound,
    /// What opened before they changed their keys, and when it did last.
    former: Option<(Inbound, Instant)>,
    outbound: Outbound,
    /// What sealed under keys that were ours before.
    retired: Vec<(SdesKeys, Outbound)>,
    opened: Vec<u8>,
    /// The last RTP packet that was sealed, as it was before.
    sent: Vec<u8>,
    unauthenticated: u64,
    replayed: u64,
}

impl Secure {
    fn new(keys: SdesKeys) -> Self {
        Secure {
            is_active: true,
            inbound: Inbound::new(&keys.remote),
            former: None,
            outbound: Outbound::new(&keys.local),
            retired: Vec::new(),
            opened: Vec::with_capacity(PACKET_BYTES),
            sent: Vec::with_capacity(PACKET_BYTES),
            unauthenticated: 0,
            replayed: 0,
            keys,
        }
    }

    /// Takes in what was agreed on. Keys that stay keep their packet index.
    pub(super) fn agree(secure: &mut Option<Box<Self>>, keying: &Keying, now: Instant) {
        match (keying, secure) {
            (Keying::Plain, secure) => secure.iter_mut().for_each(|secure| secure.is_active = false),
            (Keying::Sdes(keys), Some(secure)) => secure.rekey(keys, now),
            (Keying::Sdes(keys), secure) => *secure = Some(Box::new(Secure::new((**keys).clone()))),
        }
    }

    fn rekey(&mut self, keys: &SdesKeys, now: Instant) {
        self.is_active = true;
        if keys.remote != self.keys.remote {
            let mut inbound = Inbound::new(&keys.remote);
            inbound.succeed(&self.inbound);
            self.former = Some((std::mem::replace(&mut self.inbound, inbound), now));
        }
        if keys.local.master == self.keys.local.master {
            self.outbound.rename(keys.local.mki);
        } else {
            let again = self.retired.iter().position(|(former, _)| former.local.master == keys.local.master);
            let outbound = again.map_or_else(|| Outbound::new(&keys.local), |at| self.retired.swap_remove(at).1);
            let former = std::mem::replace(&mut self.outbound, outbound);
            self.outbound.rename(keys.local.mki);
            if self.retired.len() == RETIRED_MAX {
                self.retired.remove(0);
            }
            self.retired.push((self.keys.clone(), former));
        }
        self.keys = keys.clone();
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
        self.open_with(packet, now, Inbound::open)
    }

    /// Opens an RTCP packet.
    pub(super) fn open_control(&mut self, packet: &[u8], now: Instant) -> Option<&[u8]> {
        self.open_with(packet, now, Inbound::open_control)
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
        self.outbound.seal(packet, bytes).unwrap_or(0)
    }

    /// Seals an RTCP packet; its length then, 0 when it must not leave.
    pub(super) fn seal_control(&mut self, packet: &mut [u8], bytes: usize) -> usize {
        self.sent.clear();
        self.outbound.seal_control(packet, bytes).unwrap_or(0)
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
