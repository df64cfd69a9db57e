//! Audio on its way between a leg and an agent: samples, and the coded bytes they came from where they are at hand.

use crate::codec::Codec;

/// A stretch of 8 kHz audio, borrowed from whoever produced it.
///
/// The hub between leg codec and agent codec: each side turns its own form into samples and back. Where the two agree,
/// the coded bytes pass through unchanged.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// 16-bit linear samples at 8 kHz.
    pub samples: &'a [i16],
    /// The same audio as it was coded, if nothing had to be made up.
    pub coded: Option<(Codec, &'a [u8])>,
}

impl Frame<'_> {
    /// Appends the audio in `codec` to `out`, without recoding when it came in it.
    pub fn encode_into(&self, codec: Codec, out: &mut Vec<u8>) {
        match self.coded {
            Some((coded, bytes)) if coded == codec => out.extend_from_slice(bytes),
            _ => codec.encode(self.samples, out),
        }
    }
}

/// Audio to be played, in the form its source has it: 8 kHz, coded or linear.
#[derive(Debug, Clone, Copy)]
pub enum Speech<'a> {
    /// Coded bytes.
    Coded(Codec, &'a [u8]),
    /// 16-bit linear samples.
    Samples(&'a [i16]),
}
