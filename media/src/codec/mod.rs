//! Speech codecs behind one closed enum: each turns its bytes into samples and back, and none knows another.
//!
//! ```text
//!   codec   samples   RTP clock   payload type    20 ms        state
//!   PCMU    8 kHz     8,000       0               160 bytes    none: a byte is a sample
//!   PCMA    8 kHz     8,000       8               160 bytes    none
//!   G722    16 kHz    8,000       9               160 bytes    adapts from every octet
//!   opus    16 kHz    48,000      as numbered     about 60     adapts from every packet; FEC, DTX
//! ```
//!
//! G.722's RTP clock is 8,000 although its audio has 16 kHz: an old mistake that stays (RFC 3551 §4.5.2). Opus's is
//! 48,000 at every bandwidth (RFC 7587 §4.1).
//!
//! A leg codes and decodes by an [`coder::Encoder`] and a [`coder::Decoder`], which keep the state; G.711, which has
//! none, is coded and decoded by [`Codec::encode`] and [`Codec::decode`] wherever it lies. Between the two, audio is
//! samples of the codec's own rate ([`crate::audio::frame`]).
//!
//! **Order.** Answers follow the offer's. Phones are offered opus, G722, PCMU and PCMA ([`Codec::ALL`]): Opus first for
//! what it does on a bad line, where a lost packet is found in the next one, in half of G.711's bytes. It costs some 80 µs
//! of a core for 20 ms, as much as four calls in G.711. Trunks are offered what they list, and without a list G722, PCMU
//! and PCMA ([`crate::sdp::Repertoire::of_trunk`]): the telephone network behind them speaks no Opus, and with it an INVITE
//! and its credentials would no longer fit a datagram. G.722 comes before G.711 because it costs little and carries 7 kHz.
//! Where G.711 is agreed on, nothing is coded or resampled between the line and an agent that speaks the same.
//!
//! # What 20 ms cost
//! On one core of the 2-core build machine (`cargo bench -p talkstack-media --bench codecs`, the least of ten runs beside other
//! builds; December 1st 2026, commit 4bba931), in µs:
//!
//! ```text
//!   codec               encode   decode      resample
//!   PCMU, PCMA             0.2      0.1      8 to 16 kHz   5.0     16 to 8 kHz   3.3
//!   G722                  14       11        16 to 24 kHz  7.5     24 to 16 kHz  6.0
//!   opus                  50       13        8 to 24 kHz   7.1     24 to 8 kHz   5.0
//!   one frame in ten concealed: 0.4 at 8 kHz, 0.7 at 16 kHz        48 to 16 kHz  9.3
//! ```

pub mod coder;
pub mod comfort_noise;
pub mod g711;
pub mod g722;
pub mod opus;
pub mod plc;

use crate::audio::frame::{Form, SampleRate};

/// A codec of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// G.711 µ-law (RFC 3551 §4.5.14).
    Pcmu,
    /// G.711 A-law (RFC 3551 §4.5.14).
    Pcma,
    /// G.722 at 64 kbit/s (RFC 3551 §4.5.2).
    G722,
    /// Opus (RFC 7587), as mono speech of 16 kHz.
    Opus,
}

impl Codec {
    /// All codecs, the preferred first.
    pub const ALL: [Codec; 4] = [Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma];

    /// The encoding name in `a=rtpmap` (RFC 3551 §6, RFC 7587 §7).
    pub fn name(self) -> &'static str {
        match self {
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
            Codec::G722 => "G722",
            Codec::Opus => "opus",
        }
    }

    /// The codec of an encoding name, in any case.
    pub fn of_name(name: &str) -> Option<Self> {
        Codec::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name))
    }

    /// The payload type of our offers: the static one (RFC 3551 §6), or 96 for Opus, which has none.
    pub fn payload_type(self) -> u8 {
        match self {
            Codec::Pcmu => 0,
            Codec::Pcma => 8,
            Codec::G722 => 9,
            Codec::Opus => 96,
        }
    }

    /// The RTP clock, in hertz.
    pub fn clock_rate(self) -> u32 {
        match self {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => 8000,
            Codec::Opus => 48_000,
        }
    }

    /// RTP clock units a tick of 125 µs.
    pub fn tick_units(self) -> u32 {
        self.clock_rate() / 8000
    }

    /// The rate of its samples.
    pub fn rate(self) -> SampleRate {
        match self {
            Codec::Pcmu | Codec::Pcma => SampleRate::Hz8000,
            Codec::G722 | Codec::Opus => SampleRate::Hz16000,
        }
    }

    /// What its audio is kept in while it waits to be sent: G.711 as it is sent, the others as samples, since their
    /// bytes mean nothing without those sent before.
    pub fn form(self) -> Form {
        match self {
            Codec::Pcmu => Form::Mulaw,
            Codec::Pcma => Form::Alaw,
            Codec::G722 | Codec::Opus => Form::Linear(self.rate()),
        }
    }

    /// How long a payload plays, in ticks of 125 µs; 0 if it cannot be played.
    pub fn ticks(self, payload: &[u8]) -> u32 {
        match self {
            // A datagram's bytes fit.
            Codec::Pcmu | Codec::Pcma | Codec::G722 => payload.len() as u32,
            Codec::Opus => opus::ticks(payload).unwrap_or(0),
        }
    }

    /// Appends the samples of a payload that stands alone; a stream goes through a [`coder::Decoder`].
    pub fn decode(self, payload: &[u8], samples: &mut Vec<i16>) {
        match self {
            Codec::Pcmu => samples.extend(payload.iter().map(|code| g711::MULAW_TO_LINEAR[usize::from(*code)])),
            Codec::Pcma => samples.extend(payload.iter().map(|code| g711::ALAW_TO_LINEAR[usize::from(*code)])),
            Codec::G722 | Codec::Opus => coder::Decoder::new(self).decode(payload, samples),
        }
    }

    /// Appends the payload of samples that stand alone; a stream goes through a [`coder::Encoder`].
    pub fn encode(self, samples: &[i16], payload: &mut Vec<u8>) {
        match self {
            Codec::Pcmu => payload.extend(samples.iter().map(|sample| g711::mulaw_of(*sample))),
            Codec::Pcma => payload.extend(samples.iter().map(|sample| g711::alaw_of(*sample))),
            Codec::G722 | Codec::Opus => coder::Encoder::new(self, opus::Wishes::default()).encode(samples, payload),
        }
    }
}
