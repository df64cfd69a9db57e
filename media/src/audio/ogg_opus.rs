//! Opus in Ogg (RFC 7845): a recording in a sixth of the space.
//!
//! ```text
//!   samples ─▶ 40 ms ─▶ Opus packet ─┐ 25 of them, 1 s
//!                                    └─▶ page: head, lengths, packets, checksum ─▶ bytes, to be appended to the file
//! ```
//!
//! Each page stands for itself: a file that ends in the middle of one can be played up to the page before, so a process
//! that is killed loses the last second and nothing else. The first two pages are the heads.

use std::fmt;

use ropus::{Application, Bitrate, Channels, Signal};

use crate::codec::opus::OpusError;

/// Writes one stream.
pub struct OggOpus {
    encoder: ropus::Encoder,
    serial: u32,
    page_sequence: u32,
    channels: usize,
    sample_rate: u32,
    /// Samples of all channels that do not fill a packet yet.
    waiting: Vec<i16>,
    /// The page under way: its packets, and how they are cut up.
    packets: Vec<u8>,
    lengths: Vec<u8>,
    /// Samples of a channel that packets hold, and that were given, at the stream's rate.
    encoded: u64,
    given: u64,
    /// What the encoder is behind by, in samples of 48 kHz.
    pre_skip: u16,
}

impl fmt::Debug for OggOpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OggOpus {{ serial: {}, given: {} }}", self.serial, self.given)
    }
}

impl OggOpus {
    /// Starts a stream of one or two channels at 8,000 or 16,000 Hz; appends its heads. `serial` tells it from others.
    ///
    /// # Errors
    /// [`OpusError`].
    pub fn new(channels: usize, sample_rate: u32, serial: u32, out: &mut Vec<u8>) -> Result<Self, OpusError> {
        let (layout, channels) = if channels > 1 { (Channels::Stereo, 2) } else { (Channels::Mono, 1) };
        let encoder = ropus::Encoder::builder(sample_rate, layout, Application::Audio)
            .signal(Signal::Voice)
            .bitrate(Bitrate::Bits(BITRATE * channels as u32))
            .complexity(COMPLEXITY)
            .build()?;
        // RFC 7845 §5.1: in samples of 48 kHz, whatever the rate. It is 6.5 ms.
        let pre_skip = (encoder.lookahead() * (48_000 / sample_rate)) as u16;
        let mut stream = OggOpus {
            encoder,
            serial,
            page_sequence: 0,
            channels,
            sample_rate,
            waiting: Vec::new(),
            packets: Vec::new(),
            lengths: Vec::new(),
            encoded: 0,
            given: 0,
            pre_skip,
        };
        stream.write_heads(out);
        Ok(stream)
    }

    /// One or two.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Takes interleaved samples; appends the pages that are full.
    pub fn write(&mut self, samples: &[i16], out: &mut Vec<u8>) {
        self.given += (samples.len() / self.channels) as u64;
        self.waiting.extend_from_slice(samples);
        let packet = self.packet_samples();
        let mut from = 0;
        while self.waiting.len() - from >= packet {
            let end = from + packet;
            let written = encode(&mut self.encoder, &self.waiting[from..end], &mut self.packets, &mut self.lengths);
            self.encoded += if written { (packet / self.channels) as u64 } else { 0 };
            from = end;
            if self.lengths.len() >= PAGE_LENGTHS_MAX || self.encoded.is_multiple_of(u64::from(self.sample_rate)) {
                self.write_page(0, self.granule(self.encoded), out);
            }
        }
        self.waiting.drain(..from);
    }

    /// Appends what is left, and the sign of the end.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        let given = self.given;
        // What the encoder holds back comes out behind silence.
        let behind = u64::from(self.pre_skip) * u64::from(self.sample_rate) / 48_000;
        let packet = self.packet_samples() / self.channels;
        let missing = (given + behind).next_multiple_of(packet as u64) - given;
        self.write(&vec![0; missing as usize * self.channels], out);
        // RFC 7845 §4.5: the end cuts the silence off.
        let end = u64::from(self.pre_skip) + given * u64::from(48_000 / self.sample_rate);
        self.write_page(LAST, end, out);
    }

    /// What a page says whose last packet ends so many samples behind the start: 48 kHz, the encoder's delay included.
    fn granule(&self, encoded: u64) -> u64 {
        encoded * u64::from(48_000 / self.sample_rate)
    }

    fn packet_samples(&self) -> usize {
        self.sample_rate as usize / 25 * self.channels
    }

    /// RFC 7845 §5.
    fn write_heads(&mut self, out: &mut Vec<u8>) {
        self.packets.extend_from_slice(b"OpusHead\x01");
        self.packets.push(self.channels as u8);
        self.packets.extend_from_slice(&self.pre_skip.to_le_bytes());
        self.packets.extend_from_slice(&self.sample_rate.to_le_bytes());
        // No gain, and the mapping of one or two channels.
        self.packets.extend_from_slice(&[0; 3]);
        self.lengths.push(self.packets.len() as u8);
        self.write_page(FIRST, 0, out);
        self.packets.extend_from_slice(b"OpusTags");
        self.packets.extend_from_slice(&(VENDOR.len() as u32).to_le_bytes());
        self.packets.extend_from_slice(VENDOR.as_bytes());
        self.packets.extend_from_slice(&[0; 4]);
        self.lengths.push(self.packets.len() as u8);
        self.write_page(0, 0, out);
    }

    /// RFC 3533 §6.
    fn write_page(&mut self, flags: u8, granule: u64, out: &mut Vec<u8>) {
        if self.lengths.is_empty() && flags & LAST == 0 {
            return;
        }
        let start = out.len();
        out.extend_from_slice(b"OggS\0");
        out.push(flags);
        out.extend_from_slice(&granule.to_le_bytes());
        out.extend_from_slice(&self.serial.to_le_bytes());
        out.extend_from_slice(&self.page_sequence.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        // At most `PAGE_LENGTHS_MAX` and a packet's.
        out.push(self.lengths.len() as u8);
        out.extend_from_slice(&self.lengths);
        out.extend_from_slice(&self.packets);
        let sum = checksum(&out[start..]).to_le_bytes();
        out[start + CHECKSUM_AT..start + CHECKSUM_AT + 4].copy_from_slice(&sum);
        self.page_sequence = self.page_sequence.wrapping_add(1);
        self.lengths.clear();
        self.packets.clear();
    }
}

/// Appends one packet and its lengths; `false` when the codec refuses it, which no length of ours makes it do.
fn encode(encoder: &mut ropus::Encoder, samples: &[i16], packets: &mut Vec<u8>, lengths: &mut Vec<u8>) -> bool {
    let start = packets.len();
    packets.resize(start + PACKET_BYTES_MAX, 0);
    let written = encoder.encode(samples, &mut packets[start..]).unwrap_or(0);
    packets.truncate(start + written);
    if written == 0 {
        return false;
    }
    // RFC 3533 §5: a packet is as many 255s as fit, and what is left.
    lengths.extend(std::iter::repeat_n(255, written / 255));
    lengths.push((written % 255) as u8);
    true
}

/// The CRC of RFC 3533 §6: generator 0x04c11db7, from the highest bit down, nothing inverted.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| (sum << 8) ^ TABLE[usize::from((sum >> 24) as u8 ^ byte)])
}

static TABLE: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut at = 0;
    while at < 256 {
        let mut value = (at as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 0x8000_0000 == 0 { value << 1 } else { (value << 1) ^ 0x04c1_1db7 };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
};

/// The first page of a stream.
const FIRST: u8 = 2;

/// The last page of a stream.
const LAST: u8 = 4;

/// Of a page's head.
const CHECKSUM_AT: usize = 22;

/// 200 of 255 lengths: a packet's six fit behind them.
const PAGE_LENGTHS_MAX: usize = 200;

/// RFC 6716 §3.4: 1,275 bytes a frame, two frames in 40 ms.
const PACKET_BYTES_MAX: usize = 2560;

/// 24 kbit/s a channel: speech of a telephone that nobody tells from the original.
const BITRATE: u32 = 24_000;

/// Of 0 to 10; each step more costs a tenth, and at this bit rate nobody hears it.
const COMPLEXITY: u8 = 1;

/// Who has made it (RFC 7845 §5.2).
const VENDOR: &str = "Talkstack Edge";

#[cfg(test)]
mod tests;
