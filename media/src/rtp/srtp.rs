//! Secure RTP (RFC 3711) with the suites of RFC 4568, RFC 6188 and RFC 7714: packets are sealed and opened in place.
//!
//! ```text
//!   RTP ─▶ Outbound::seal ─▶ header │ ciphertext │ tag ─▶ Inbound::open ─▶ RTP
//!                              replay window, roll-over counter, one set of session keys a direction
//! ```
//!
//! Keys come from the session descriptions ([`crate::sdp::crypto`]) or from a handshake ([`crate::dtls`]); here they are the
//! same.
//!
//! The crate that the WebRTC side brings (`rtc-srtp`) makes a buffer for every packet, remembers an SSRC before its packet
//! is authenticated, and leaves replay protection off unless told; here nothing is allocated for a packet, and a packet
//! that is not authenticated leaves no trace.
//!
//! Nanoseconds of a core a packet of 20 ms of G.711 (`cargo bench -p talkstack-media --bench srtp`, the best of 30 rounds,
//! 1 December 2026, commit 567f721, two cores that had other work); 50 of each make a second of a call:
//!
//! | | seal | open | refuse | keys of a direction |
//! |---|---|---|---|---|
//! | `AEAD_AES_256_GCM` | 203 | 360 | 222 | 590 |
//! | `AEAD_AES_128_GCM` | 183 | 337 | 215 | 520 |
//! | `AES_256_CM_HMAC_SHA1_80` | 279 | 642 | 309 | 810 |
//! | `AES_CM_128_HMAC_SHA1_80` | 274 | 439 | 308 | 690 |
//! | `AES_256_CM_HMAC_SHA1_32` | 280 | 443 | 301 | 610 |
//! | `AES_CM_128_HMAC_SHA1_32` | 268 | 429 | 308 | 800 |

mod keys;
#[cfg(test)]
mod tests;
mod transform;
mod window;

use std::fmt;

pub use keys::{KeyParameter, LIFETIME_MAX, MASTER_BYTES_MAX, MKI_BYTES_MAX, MasterKey, Mki, Suite};

use transform::{Layout, PacketId, TAG_BYTES_MAX, Transform};
use window::{INDEX_MAX, Window, estimate};

/// Seals what we send.
pub struct Outbound {
    master: Master,
    /// The source that was sealed last, and the index of its last packet.
    last: Option<(u32, u64)>,
    control_index: u32,
}

/// Opens what we receive.
pub struct Inbound {
    masters: Vec<Master>,
    streams: Vec<Stream>,
    /// The highest packet index of each source under the keys before these.
    former: Vec<(u32, u64)>,
}

/// The session keys of one master key, and how often they have been used.
struct Master {
    rtp: Transform,
    rtcp: Transform,
    mki: Option<Mki>,
    lifetime: u64,
    packets: u64,
    control_packets: u64,
}

/// One source whose packets were authenticated.
struct Stream {
    ssrc: u32,
    rtp: Window,
    rtcp: Window,
}

/// A packet that was not taken. The far end's doing, or a stranger's; count it, nothing else is to be done.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum SrtpError {
    /// Too short for its header and tag, not version 2, or RTCP that is not encrypted (RFC 4568 §6.3.2).
    #[error("not an SRTP packet")]
    Malformed,
    /// Its tag is wrong: another key, or it was changed on the way.
    #[error("the packet is not authenticated")]
    Unauthenticated,
    /// It has been here before, or is older than the replay window.
    #[error("the packet has been here before")]
    Replayed,
    /// Its master key identifier is none that was agreed on.
    #[error("the packet names no master key that was agreed on")]
    UnknownMki,
    /// Its master key has been used for as many packets as were agreed on (RFC 4568 §6.1).
    #[error("the lifetime of the master key is over")]
    Expired,
    /// More than [`STREAMS_MAX`] sources under one key.
    #[error("too many sources under one key")]
    TooManySources,
}

impl Outbound {
    /// Derives the session keys.
    pub fn new(key: &KeyParameter) -> Self {
        Outbound { master: Master::new(key), last: None, control_index: 0 }
    }

    /// Has packets name their master key otherwise.
    pub fn rename(&mut self, mki: Option<Mki>) {
        self.master.mki = mki;
    }

    /// Seals the RTP packet in the first `bytes` of `packet` in place and returns its new length, at most
    /// [`OVERHEAD_BYTES_MAX`] more. `None` when it is no packet, when there is no room, and when its sequence number does
    /// not go forward: a keystream is never used twice.
    pub fn seal(&mut self, packet: &mut [u8], bytes: usize) -> Option<usize> {
        let (header, ssrc, sequence) = rtp_header(packet.get(..bytes)?)?;
        let last = self.last.filter(|(source, _)| *source == ssrc).map(|(_, index)| index);
        let index = estimate(last, sequence);
        if last.is_some_and(|last| index <= last) || index > INDEX_MAX {
            return None;
        }
        let Master { rtp, mki, .. } = &self.master;
        let layout = Layout::of_body(rtp, *mki, 0, bytes);
        let packet = packet.get_mut(..layout.end)?;
        rtp.seal(PacketId { ssrc, index }, packet, header, &layout)?;
        write_mki(*mki, packet, &layout);
        self.last = Some((ssrc, index));
        Some(layout.end)
    }

    /// Seals the RTCP packet in the first `bytes` of `packet` in place (RFC 3711 §3.4) and returns its new length, at most
    /// [`OVERHEAD_BYTES_MAX`] more. `None` when it is no packet, when there is no room, and after 2^31 packets.
    pub fn seal_control(&mut self, packet: &mut [u8], bytes: usize) -> Option<usize> {
        let ssrc = rtcp_header(packet.get(..bytes)?)?;
        let index = self.control_index.checked_add(1).filter(|index| *index < ENCRYPTED)?;
        let Master { rtcp, mki, .. } = &self.master;
        let layout = Layout::of_body(rtcp, *mki, INDEX_BYTES, bytes);
        let packet = packet.get_mut(..layout.end)?;
        let word = (ENCRYPTED | index).to_be_bytes();
        packet[layout.index..][..INDEX_BYTES].copy_from_slice(&word);
        rtcp.seal_control(PacketId { ssrc, index: index.into() }, packet, word, &layout)?;
        write_mki(*mki, packet, &layout);
        self.control_index = index;
        Some(layout.end)
    }
}

impl Inbound {
    /// Derives the session keys of the far end's master keys; of more than [`MASTERS_MAX`] the first count. They have one
    /// suite, and their master key identifiers one length.
    pub fn new(keys: &[KeyParameter]) -> Self {
        let masters = keys.iter().take(MASTERS_MAX).map(Master::new).collect();
        Inbound { masters, streams: Vec::with_capacity(STREAMS_MAX), former: Vec::new() }
    }

    /// Tells what stood under the keys before. With new keys the roll-over counter begins again by RFC 4568 §7.1.4, and
    /// goes on by RFC 3711 §3.3.1: a source's first packet may be either.
    pub fn succeed(&mut self, former: &Inbound) {
        let stood = former.streams.iter().filter_map(|stream| Some((stream.ssrc, stream.rtp.highest()?)));
        self.former = stood.filter(|(_, index)| *index > u64::from(u16::MAX)).collect();
    }

    /// Opens an RTP packet in place and returns the length of what is in it. One that is refused stays as it came.
    ///
    /// # Errors
    /// [`SrtpError`], whose variants say why.
    pub fn open(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let (header, ssrc, sequence) = rtp_header(packet).ok_or(SrtpError::Malformed)?;
        let (at, layout) = self.layout(packet, |master| &master.rtp, 0)?;
        if layout.body < header {
            return Err(SrtpError::Malformed);
        }
        let stream = self.stream(ssrc)?;
        let highest = stream.and_then(|at| self.streams[at].rtp.highest());
        let is_first = highest.is_none();
        let former = self.former.iter().find(|(source, _)| is_first && *source == ssrc).map(|(_, index)| *index);
        let master = &mut self.masters[at];
        if master.packets >= master.lifetime {
            return Err(SrtpError::Expired);
        }
        for before in [Some(highest), former.map(Some)].into_iter().flatten() {
            let index = estimate(before, sequence);
            if index > INDEX_MAX || stream.is_some_and(|at| !self.streams[at].rtp.is_new(index)) {
                return Err(SrtpError::Replayed);
            }
            if master.rtp.open(PacketId { ssrc, index }, packet, header, &layout).is_some() {
                master.packets += 1;
                self.accepted(stream, ssrc).rtp.accept(index);
                return Ok(layout.body);
            }
        }
        Err(SrtpError::Unauthenticated)
    }

    /// Opens an RTCP packet in place and returns the length of what is in it. One that is refused stays as it came.
    ///
    /// # Errors
    /// [`SrtpError`], whose variants say why.
    pub fn open_control(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let ssrc = rtcp_header(packet).ok_or(SrtpError::Malformed)?;
        let (at, layout) = self.layout(packet, |master| &master.rtcp, INDEX_BYTES)?;
        if layout.body < RTCP_HEADER_BYTES {
            return Err(SrtpError::Malformed);
        }
        let word: [u8; INDEX_BYTES] =
            packet[layout.index..][..INDEX_BYTES].try_into().map_err(|_| SrtpError::Malformed)?;
        let (is_encrypted, index) = (word[0] & 0x80 != 0, u64::from(u32::from_be_bytes(word) & !ENCRYPTED));
        if !is_encrypted {
            return Err(SrtpError::Malformed);
        }
        let stream = self.stream(ssrc)?;
        let master = &mut self.masters[at];
        if master.control_packets >= master.lifetime.min(CONTROL_LIFETIME_MAX) {
            return Err(SrtpError::Expired);
        }
        if stream.is_some_and(|at| !self.streams[at].rtcp.is_new(index)) {
            return Err(SrtpError::Replayed);
        }
        let opened = master.rtcp.open_control(PacketId { ssrc, index }, packet, word, &layout);
        opened.ok_or(SrtpError::Unauthenticated)?;
        master.control_packets += 1;
        self.accepted(stream, ssrc).rtcp.accept(index);
        Ok(layout.body)
    }

    /// How a packet is laid out, and the master key that it names.
    fn layout(
        &self,
        packet: &[u8],
        transform: impl Fn(&Master) -> &Transform,
        index_bytes: usize,
    ) -> Result<(usize, Layout), SrtpError> {
        let first = self.masters.first().ok_or(SrtpError::UnknownMki)?;
        let layout = Layout::of_packet(transform(first), first.mki, index_bytes, packet.len());
        let layout = layout.ok_or(SrtpError::Malformed)?;
        let is_named = |master: &Master| master.mki.is_none_or(|mki| mki.is_at(&packet[layout.mki..]));
        let at = self.masters.iter().position(is_named).ok_or(SrtpError::UnknownMki)?;
        Ok((at, layout))
    }

    /// Where a source is kept; `None` while none of its packets has been authenticated.
    fn stream(&self, ssrc: u32) -> Result<Option<usize>, SrtpError> {
        let at = self.streams.iter().position(|stream| stream.ssrc == ssrc);
        if at.is_none() && self.streams.len() >= STREAMS_MAX { Err(SrtpError::TooManySources) } else { Ok(at) }
    }

    /// The source of a packet that has just been authenticated.
    fn accepted(&mut self, at: Option<usize>, ssrc: u32) -> &mut Stream {
        let at = at.unwrap_or_else(|| {
            self.streams.push(Stream { ssrc, rtp: Window::default(), rtcp: Window::default() });
            self.streams.len() - 1
        });
        &mut self.streams[at]
    }
}

impl Master {
    fn new(key: &KeyParameter) -> Self {
        let (rtp, rtcp) = Transform::pair(&key.master);
        Master { rtp, rtcp, mki: key.mki, lifetime: key.lifetime, packets: 0, control_packets: 0 }
    }
}

/// Keys are never printed.
impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("last", &self.last).finish_non_exhaustive()
    }
}

/// Keys are never printed.
impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").field("streams", &self.streams.len()).finish_non_exhaustive()
    }
}

fn write_mki(mki: Option<Mki>, packet: &mut [u8], layout: &Layout) {
    if let Some(mki) = mki {
        mki.write(&mut packet[layout.mki..]);
    }
}

/// The header's length with contributing sources and extension (RFC 3550 §5.1, §5.3.1), the SSRC and the sequence number.
fn rtp_header(packet: &[u8]) -> Option<(usize, u32, u16)> {
    let fixed: &[u8; RTP_HEADER_BYTES] = packet.first_chunk()?;
    if fixed[0] >> 6 != 2 {
        return None;
    }
    let mut bytes = RTP_HEADER_BYTES + 4 * usize::from(fixed[0] & 0x0f);
    if fixed[0] & 0x10 != 0 {
        let words = packet.get(bytes + 2..bytes + 4)?;
        bytes += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    }
    let ssrc = u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]);
    (bytes <= packet.len()).then_some((bytes, ssrc, u16::from_be_bytes([fixed[2], fixed[3]])))
}

/// The SSRC of an RTCP packet's sender.
fn rtcp_header(packet: &[u8]) -> Option<u32> {
    let fixed: &[u8; RTCP_HEADER_BYTES] = packet.first_chunk()?;
    (fixed[0] >> 6 == 2).then(|| u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]))
}

const RTP_HEADER_BYTES: usize = 12;

/// RFC 3711 §3.4: the fixed header and the sender's SSRC are not encrypted.
const RTCP_HEADER_BYTES: usize = 8;

/// The E flag and the SRTCP index.
const INDEX_BYTES: usize = 4;

/// The E flag of the SRTCP index word; the index itself stays below.
const ENCRYPTED: u32 = 1 << 31;

/// RFC 3711 §9.2: 2^31 SRTCP packets under one key.
const CONTROL_LIFETIME_MAX: u64 = 1 << 31;

/// 4 master keys in one `a=crypto` line: one in use, one to change to, and both again.
pub const MASTERS_MAX: usize = 4;

/// 64 sources under one key, at 80 bytes each: a line whose music, queue and talker each have their own changes fewer
/// times in a call. What comes from further ones is refused until the next key.
pub const STREAMS_MAX: usize = 64;

/// What sealing adds at the most: a tag of 16 bytes, the SRTCP index and the longest MKI.
pub const OVERHEAD_BYTES_MAX: usize = TAG_BYTES_MAX + INDEX_BYTES + MKI_BYTES_MAX;
