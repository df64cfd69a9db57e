//! Opus (RFC 6716) as the telephone uses it: mono at 16 kHz, with what RFC 7587 says of it in SDP and RTP.
//!
//! Its RTP clock is 48 kHz whatever the audio's bandwidth. A packet says itself how long it plays ([`ticks`]). Loss is
//! made good from the next packet's redundancy where the sender put some in (in-band FEC), and else by the decoder's own
//! concealment, which fades. Where the far end prefers it, pauses are not sent at all (DTX).
//!
//! Of all that a frame passes through this library alone allocates: scratch of its encoder, some of it for every packet.

use std::fmt;

use ropus::{Application, Bandwidth, Bitrate, Channels, DecodeMode, InbandFec, Signal};

/// What the far end wishes to be sent: its `a=fmtp` (RFC 7587 §6.1), as far as it concerns speech at 16 kHz.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wishes {
    /// `useinbandfec`: it makes use of redundancy. Default no.
    pub has_fec: bool,
    /// `usedtx`: it prefers not to be sent pauses. Default no.
    pub has_dtx: bool,
    /// `maxaveragebitrate`, in bits a second, 6,000 to [`BITRATE`].
    pub bitrate: u32,
    /// `maxplaybackrate` is below 16 kHz: bandwidth above 4 kHz is wasted on it.
    pub is_narrow: bool,
}

impl Default for Wishes {
    fn default() -> Self {
        Wishes { has_fec: false, has_dtx: false, bitrate: BITRATE, is_narrow: false }
    }
}

impl Wishes {
    /// Reads the parameters of an `a=fmtp`: `useinbandfec=1; usedtx=1`. What is unknown or unreadable is no wish.
    pub fn of_parameters(parameters: &str) -> Self {
        let mut wishes = Wishes::default();
        for parameter in parameters.split(';') {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            let Ok(value) = value.trim().parse::<u32>() else { continue };
            match name.trim().to_ascii_lowercase().as_str() {
                "useinbandfec" => wishes.has_fec = value == 1,
                "usedtx" => wishes.has_dtx = value == 1,
                "maxaveragebitrate" => wishes.bitrate = value.clamp(BITRATE_MIN, BITRATE),
                "maxplaybackrate" => wishes.is_narrow = value < 16_000,
                _ => {}
            }
        }
        wishes
    }
}

/// From 16 kHz samples to packets.
pub struct Encoder {
    codec: ropus::Encoder,
}

/// From packets to 16 kHz samples.
pub struct Decoder {
    codec: ropus::Decoder,
    /// The last packet was the sign of a pause, so that what follows is comfort noise and no loss.
    is_pausing: bool,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decoder {{ is_pausing: {} }}", self.is_pausing)
    }
}

/// The library refuses its own constants: nothing a peer can bring about. Speak another codec.
#[derive(Debug, thiserror::Error)]
pub enum OpusError {
    /// No encoder.
    #[error("no Opus encoder can be made")]
    Encoder(#[from] ropus::EncoderBuildError),
    /// No decoder.
    #[error("no Opus decoder can be made")]
    Decoder(#[from] ropus::DecoderInitError),
}

impl Encoder {
    /// Starts a stream.
    ///
    /// # Errors
    /// [`OpusError`].
    pub fn new(wishes: Wishes) -> Result<Self, OpusError> {
        let bandwidth = if wishes.is_narrow { Bandwidth::Narrowband } else { Bandwidth::Wideband };
        let codec = ropus::Encoder::builder(RATE, Channels::Mono, Application::Voip)
            .signal(Signal::Voice)
            .bitrate(Bitrate::Bits(wishes.bitrate))
            .complexity(COMPLEXITY)
            .max_bandwidth(bandwidth)
            .packet_loss_perc(if wishes.has_fec { LOSS_EXPECTED_PERCENT } else { 0 })
            .inband_fec(if wishes.has_fec { InbandFec::Enabled } else { InbandFec::Disabled })
            .dtx(wishes.has_dtx)
            .build()?;
        Ok(Encoder { codec })
    }

    /// Appends the packet of 10, 20, 40 or 60 ms of samples. Nothing is appended in a pause that need not be sent
    /// (RFC 7587 §3.1.3), and for any other length.
    pub fn encode(&mut self, samples: &[i16], packet: &mut Vec<u8>) {
        let start = packet.len();
        packet.resize(start + PACKET_BYTES_MAX, 0);
        let written = self.codec.encode(samples, &mut packet[start..]).unwrap_or(0);
        packet.truncate(start + if written <= PAUSE_BYTES_MAX { 0 } else { written });
    }
}

impl Decoder {
    /// Starts a stream.
    ///
    /// # Errors
    /// [`OpusError`].
    pub fn new() -> Result<Self, OpusError> {
        Ok(Decoder { codec: ropus::Decoder::new(RATE, Channels::Mono)?, is_pausing: false })
    }

    /// Appends a packet's samples; `false` and nothing appended when it is none.
    pub fn decode(&mut self, packet: &[u8], samples: &mut Vec<i16>) -> bool {
        // An empty packet would be concealment, and one that is longer than 120 ms has no room.
        if ticks(packet).is_none() {
            return false;
        }
        self.is_pausing = packet.len() <= PAUSE_BYTES_MAX;
        self.run(packet, DecodeMode::Normal, SAMPLES_MAX, samples)
    }

    /// Appends `count` samples in place of lost ones. `next`, the packet behind the hole, makes its last part good where
    /// it carries redundancy.
    pub fn conceal(&mut self, count: usize, next: Option<&[u8]>, samples: &mut Vec<i16>) {
        let end = samples.len() + count;
        let covered = next.and_then(ticks).map_or(0, |ticks| (ticks * SAMPLES_A_TICK) as usize);
        // The library conceals in steps of 2.5 ms, and redundancy covers exactly one packet.
        while samples.len() + covered < end {
            let wanted = (end - covered - samples.len()).next_multiple_of(SAMPLES_STEP).min(SAMPLES_CONCEALED);
            if !self.run(&[], DecodeMode::Normal, wanted, samples) {
                break;
            }
        }
        if let Some(next) = next.filter(|_| covered > 0 && samples.len() < end) {
            let excess = (samples.len() + covered).saturating_sub(end);
            let start = samples.len();
            if self.run(next, DecodeMode::Fec, covered, samples) {
                samples.drain(start..(start + excess).min(samples.len()));
            }
        }
        samples.resize(end, 0);
    }

    /// Tells whether the far end has said that it pauses.
    pub fn is_pausing(&self) -> bool {
        self.is_pausing
    }

    fn run(&mut self, packet: &[u8], mode: DecodeMode, room: usize, samples: &mut Vec<i16>) -> bool {
        let start = samples.len();
        samples.resize(start + room, 0);
        let decoded = self.codec.decode(packet, &mut samples[start..], mode);
        samples.truncate(start + decoded.as_ref().map_or(0, |count| (*count).min(room)));
        decoded.is_ok_and(|count| count > 0)
    }
}

/// How long a packet plays, in ticks of 125 µs: 20 (2.5 ms) to 960 (120 ms). `None` if it is none (RFC 6716 §3.1).
pub fn ticks(packet: &[u8]) -> Option<u32> {
    let (&toc, rest) = packet.split_first()?;
    let configuration = toc >> 3;
    let frame = match configuration {
        // SILK, 10, 20, 40 and 60 ms.
        0..12 => [80, 160, 320, 480][usize::from(configuration & 3)],
        // Hybrid, 10 and 20 ms.
        12..16 => [80, 160][usize::from(configuration & 1)],
        // CELT, 2.5, 5, 10 and 20 ms.
        _ => [20, 40, 80, 160][usize::from(configuration & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(rest.first()? & 0x3f),
    };
    Some(frame * frames).filter(|ticks| (1..=TICKS_MAX).contains(ticks))
}

/// What is offered to the far end (RFC 7587 §6.1).
pub const PARAMETERS: &str = "useinbandfec=1;usedtx=1;maxplaybackrate=16000;sprop-maxcapturerate=16000";

/// The hertz that encoder and decoder work at.
const RATE: u32 = 16_000;

/// 32 kbit/s. Wideband speech wants 16 to 20 (RFC 7587 §3.1.1); below 30 the encoder thinks `COMPLEXITY` too low to
/// leave room for redundancy.
pub const BITRATE: u32 = 32_000;

/// RFC 7587 §6.1.
const BITRATE_MIN: u32 = 6_000;

/// Of 0 to 10. The ITU's speech at 24 kbit/s comes out as like itself as at 5 and at 9 (correlations of 0.927, 0.927 and
/// 0.928), in a third and a seventh of their time.
const COMPLEXITY: u8 = 0;

/// 10 %: so much loss is to leave no hole; the redundancy takes a third of the bits.
const LOSS_EXPECTED_PERCENT: u8 = 10;

/// 16 kHz.
const SAMPLES_A_TICK: u32 = 2;

/// 120 ms.
const TICKS_MAX: u32 = 960;
const SAMPLES_MAX: usize = 1920;

/// 2.5 ms.
const SAMPLES_STEP: usize = 40;

/// 20 ms: what the library makes up at once without looking for a packet's length.
const SAMPLES_CONCEALED: usize = 320;

/// A packet of so few bytes says that nothing follows (RFC 6716 §2.1.9).
const PAUSE_BYTES_MAX: usize = 2;

/// 1,275 bytes: the longest frame (RFC 6716 §3.4).
const PACKET_BYTES_MAX: usize = 1275;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_says_how_long_it_plays() {
        let check =
            |packet: &[u8], ticks_expected: Option<u32>| assert_eq!(ticks(packet), ticks_expected, "{packet:?}");
        check(&[], None);
        check(&[8 << 3], Some(80));
        check(&[9 << 3 | 1], Some(320));
        check(&[3 << 3], Some(480));
        check(&[15 << 3], Some(160));
        check(&[16 << 3], Some(20));
        check(&[9 << 3 | 3], None);
        check(&[9 << 3 | 3, 6], Some(960));
        check(&[9 << 3 | 3, 7], None);
        check(&[9 << 3 | 3, 0], None);
    }

    #[test]
    fn a_far_end_s_wishes_are_read() {
        let wishes = Wishes::of_parameters("minptime=10; UseInbandFec=1;usedtx=1 ;maxaveragebitrate=16000;stereo=0");
        assert_eq!(wishes, Wishes { has_fec: true, has_dtx: true, bitrate: 16_000, is_narrow: false });
        let wishes = Wishes::of_parameters("maxplaybackrate=8000;maxaveragebitrate=510000;usedtx=2;useinbandfec=x");
        assert_eq!(wishes, Wishes { is_narrow: true, ..Wishes::default() });
        assert_eq!(Wishes::of_parameters(PARAMETERS), Wishes { has_fec: true, has_dtx: true, ..Wishes::default() });
    }

    #[test]
    fn speech_survives_and_one_lost_packet_in_ten_is_made_good_by_the_next() {
        let said = voice(200);
        let spoken = |wishes: Wishes, is_lost: fn(usize) -> bool| {
            let packets = coded(&said, wishes);
            let (mut decoder, mut heard) = (Decoder::new().expect("a decoder"), Vec::new());
            for (at, packet) in packets.iter().enumerate() {
                match is_lost(at) {
                    true => decoder.conceal(320, packets.get(at + 1).map(Vec::as_slice), &mut heard),
                    false => assert!(decoder.decode(packet, &mut heard)),
                }
            }
            assert_eq!(heard.len(), said.len());
            heard
        };
        let fec = Wishes { has_fec: true, ..Wishes::default() };
        let whole = spoken(fec, |_| false);
        let (alike, apart) = (likeness(&said, &whole), likeness(&said[32_000..], &whole));
        assert!(alike > 0.7 && alike > apart + 0.3, "{alike} like what was said, {apart} like something else");
        // What is wrong in the frames that were lost.
        let error = |whole: &[i16], heard: &[i16]| -> f64 {
            let lost = whole.chunks(320).zip(heard.chunks(320)).enumerate().filter(|(at, _)| at % 10 == 5);
            let pairs = lost.flat_map(|(_, (whole, heard))| whole.iter().zip(heard));
            pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
        };
        let with_fec = error(&whole, &spoken(fec, |at| at % 10 == 5));
        let without = Wishes::default();
        let made_up = error(&spoken(without, |_| false), &spoken(without, |at| at % 10 == 5));
        assert!(with_fec < 0.7 * made_up, "{with_fec} with redundancy, {made_up} without");
    }

    #[test]
    fn a_pause_is_not_sent_and_heard_as_a_quiet_line() {
        let mut said = voice(50);
        said.extend(std::iter::repeat_n(0, 320 * 100));
        let packets = coded(&said, Wishes { has_dtx: true, ..Wishes::default() });
        let left_out = packets[50..].iter().filter(|packet| packet.is_empty()).count();
        assert!(left_out > 60, "{left_out} of 100 were left out");
        assert!(coded(&said, Wishes::default()).iter().all(|packet| packet.len() > PAUSE_BYTES_MAX));
        let (mut decoder, mut heard) = (Decoder::new().expect("a decoder"), Vec::new());
        for packet in packets.iter().filter(|packet| !packet.is_empty()) {
            decoder.decode(packet, &mut heard);
        }
        heard.clear();
        assert!(decoder.decode(&[9 << 3], &mut heard));
        assert!(decoder.is_pausing());
        decoder.conceal(1000, None, &mut heard);
        assert_eq!(heard.len(), 1320);
        assert!(heard.iter().all(|sample| sample.unsigned_abs() < 500), "loud");
    }

    #[test]
    fn hostile_bytes_are_no_packet_and_never_panic() {
        let mut random = 0x9e37_79b9u32;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            random
        };
        let (mut decoder, mut samples) = (Decoder::new().expect("a decoder"), Vec::new());
        for _ in 0..3000 {
            let packet: Vec<u8> = (0..next() % 120).map(|_| (next() >> 9) as u8).collect();
            samples.clear();
            decoder.decode(&packet, &mut samples);
            decoder.conceal(next() as usize % 700, Some(&packet), &mut samples);
            assert!(samples.len() <= SAMPLES_MAX + 700);
        }
    }

    fn coded(said: &[i16], wishes: Wishes) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new(wishes).expect("an encoder");
        said.chunks_exact(320)
            .map(|frame| {
                let mut packet = Vec::new();
                encoder.encode(frame, &mut packet);
                packet
            })
            .collect()
    }

    /// A buzz in syllables, of so many frames.
    fn voice(frames: usize) -> Vec<i16> {
        let (mut phase, mut out) = (0.0f32, Vec::new());
        for at in 0..frames * 320 {
            let time = at as f32 / 16_000.0;
            // Syllables of 90 ms, each at a pitch and a loudness of its own.
            let syllable = (time / 0.09) as u32;
            phase += (100 + syllable * 37 % 110) as f32 / 16_000.0;
            let loudness = 0.2 + 0.2 * (syllable * 7 % 5) as f32;
            let sum: f32 = (1..20).map(|k| (std::f32::consts::TAU * phase * k as f32).sin() / k as f32).sum();
            out.push((sum * loudness * 5000.0) as i16);
        }
        out
    }

    /// The best normalised correlation within the codec's delay.
    fn likeness(said: &[i16], heard: &[i16]) -> f64 {
        let product = |a: &[i16], b: &[i16]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        (0..400)
            .map(|delay| {
                let (a, b) = (&said[..said.len() - 400], &heard[delay..heard.len() - 400 + delay]);
                product(a, b) / (product(a, a) * product(b, b)).sqrt()
            })
            .fold(0.0, f64::max)
    }
}
