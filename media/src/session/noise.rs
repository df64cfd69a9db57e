//! Comfort noise for a leg whose far end has agreed on no payload for it: soft noise in the leg's own codec.

use std::sync::LazyLock;

use crate::audio::playout::FRAME_BYTES;
use crate::codec::Codec;
use crate::codec::plc::Noise;

/// Writes one frame of comfort noise; `at` walks through one second of it.
pub(super) fn fill(codec: Codec, at: &mut usize, payload: &mut [u8; FRAME_BYTES]) {
    let coded = match codec {
        Codec::Pcmu => &NOISE[0],
        Codec::Pcma => &NOISE[1],
    };
    payload.copy_from_slice(&coded[*at * FRAME_BYTES..(*at + 1) * FRAME_BYTES]);
    *at = (*at + 1) % FRAMES;
}

/// One second of [`Noise`], coded.
static NOISE: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let mut noise = Noise::default();
    let samples: Vec<i16> = (0..FRAMES * FRAME_BYTES).map(|_| noise.next_sample()).collect();
    [Codec::Pcmu, Codec::Pcma].map(|codec| {
        let mut coded = Vec::with_capacity(samples.len());
        codec.encode(&samples, &mut coded);
        coded
    })
});

/// 50 frames, 1 s: long enough that no ear finds the repetition at this level.
const FRAMES: usize = 50;
