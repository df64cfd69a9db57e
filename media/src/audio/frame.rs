//! Audio on its way between a leg and an agent: samples, and the coded bytes they came from where they are at hand.
//!
//! ```text
//!   leg's payload ─▶ decode ─▶ Frame at 8 or 16 kHz ─▶ [Converter: one resampling, or none] ─▶ agent's form
//!   agent's bytes ─▶ Speech ─▶ [Converter: one resampling, or none] ─▶ playout in the leg's Form ─▶ encode ─▶ payload
//! ```
//!
//! A [`Frame`] has the rate of the leg's codec: 8 kHz of G.711, 16 kHz of G.722 and Opus, so a wideband line stays one
//! to the agent. Where leg and agent speak the same G.711 the coded bytes pass through unchanged; where their rates
//! agree nothing is resampled; and no path resamples twice.
//!
//! What all forms have in common is time. Lengths that several of them share are counted in ticks of 125 µs: a sample
//! of 8 kHz, a byte of G.711, two samples of 16 kHz, three of 24 kHz ([`Form::tick_bytes`]).

use super::recording::Origin;
use crate::codec::Codec;

/// Samples a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SampleRate {
    /// The telephone's.
    Hz8000,
    /// Wideband telephony's.
    Hz16000,
    /// That of OpenAI's Realtime protocol.
    Hz24000,
    /// That of sound cards and Opus's RTP clock.
    Hz48000,
}

impl SampleRate {
    /// All of them, the lowest first.
    pub const ALL: [SampleRate; 4] =
        [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000];

    /// In hertz.
    pub fn hertz(self) -> u32 {
        match self {
            SampleRate::Hz8000 => 8000,
            SampleRate::Hz16000 => 16_000,
            SampleRate::Hz24000 => 24_000,
            SampleRate::Hz48000 => 48_000,
        }
    }

    /// Samples a tick of 125 µs: 1, 2, 3 or 6.
    pub fn tick_samples(self) -> usize {
        match self {
            SampleRate::Hz8000 => 1,
            SampleRate::Hz16000 => 2,
            SampleRate::Hz24000 => 3,
            SampleRate::Hz48000 => 6,
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            SampleRate::Hz8000 => 0,
            SampleRate::Hz16000 => 1,
            SampleRate::Hz24000 => 2,
            SampleRate::Hz48000 => 3,
        }
    }
}

/// How audio lies in bytes: what an agent's messages carry, and what the playout queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// G.711 µ-law, one byte a sample at 8 kHz.
    Mulaw,
    /// G.711 A-law, one byte a sample at 8 kHz.
    Alaw,
    /// 16-bit linear samples, little-endian.
    Linear(SampleRate),
}

impl Form {
    /// Bytes a tick of 125 µs: 1 of G.711, 2 a sample of linear audio.
    pub fn tick_bytes(self) -> usize {
        match self {
            Form::Mulaw | Form::Alaw => 1,
            Form::Linear(rate) => 2 * rate.tick_samples(),
        }
    }

    /// Whole ticks that so many bytes last. Asked several times a frame: G.711 costs no division.
    pub fn ticks(self, bytes: usize) -> usize {
        match self {
            Form::Mulaw | Form::Alaw => bytes,
            Form::Linear(_) => bytes / self.tick_bytes(),
        }
    }

    /// Samples a second.
    pub fn rate(self) -> SampleRate {
        match self {
            Form::Mulaw | Form::Alaw => SampleRate::Hz8000,
            Form::Linear(rate) => rate,
        }
    }

    /// The byte that digital silence is made of.
    pub fn silence(self) -> u8 {
        match self {
            Form::Mulaw => 0xff,
            Form::Alaw => 0xd5,
            Form::Linear(_) => 0,
        }
    }

    /// Appends samples of this form's rate.
    pub fn encode(self, samples: &[i16], bytes: &mut Vec<u8>) {
        match self {
            Form::Mulaw => Codec::Pcmu.encode(samples, bytes),
            Form::Alaw => Codec::Pcma.encode(samples, bytes),
            Form::Linear(_) => bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes())),
        }
    }

    /// Appends the samples of bytes in this form. Half a sample at the end is left out.
    pub fn decode(self, bytes: &[u8], samples: &mut Vec<i16>) {
        match self {
            Form::Mulaw => Codec::Pcmu.decode(bytes, samples),
            Form::Alaw => Codec::Pcma.decode(bytes, samples),
            Form::Linear(_) => {
                samples.extend(bytes.as_chunks::<2>().0.iter().map(|sample| i16::from_le_bytes(*sample)));
            }
        }
    }
}

/// A stretch of audio, borrowed from whoever produced it.
///
/// The hub between leg codec and agent: each side turns its own form into samples and back.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// 16-bit linear samples.
    pub samples: &'a [i16],
    /// Their rate: 8 or 16 kHz.
    pub rate: SampleRate,
    /// How it came about.
    pub origin: Origin,
    /// The same audio as it was coded, if it came in G.711 and nothing had to be made up.
    pub coded: Option<(Codec, &'a [u8])>,
}

impl<'a> Frame<'a> {
    /// Samples that have arrived, without the bytes they came from.
    pub fn linear(rate: SampleRate, samples: &'a [i16]) -> Self {
        Frame { samples, rate, origin: Origin::Arrived, coded: None }
    }

    /// Samples of 8 kHz that have arrived as G.711.
    pub fn coded(codec: Codec, bytes: &'a [u8], samples: &'a [i16]) -> Self {
        Frame { samples, rate: SampleRate::Hz8000, origin: Origin::Arrived, coded: Some((codec, bytes)) }
    }

    /// The frame as something to be played, in the form that costs least.
    pub fn speech(&self) -> Speech<'a> {
        match self.coded {
            Some((codec, bytes)) => Speech::Coded(codec, bytes),
            None => Speech::Samples(self.rate, self.samples),
        }
    }
}

/// Audio to be played, in the form its source has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech<'a> {
    /// G.711.
    Coded(Codec, &'a [u8]),
    /// 16-bit linear samples.
    Samples(SampleRate, &'a [i16]),
}
