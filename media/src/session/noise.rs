//! Comfort noise for a leg whose far end has agreed on no payload for it: soft noise in the leg's own form.

use std::sync::LazyLock;

use crate::audio::frame::{Form, SampleRate};
use crate::audio::playout::FRAME_TICKS;
use crate::codec::plc::Noise;

/// Writes so many ticks of comfort noise in a form; `at` walks through one second of it, in ticks.
pub(super) fn fill(form: Form, ticks: u32, at: &mut usize, bytes: &mut Vec<u8>) {
    let coded = match form {
        Form::Mulaw => &NOISE[0],
        Form::Alaw => &NOISE[1],
        Form::Linear(_) => &NOISE[2],
    };
    let (ticks, tick_bytes) = (ticks as usize, form.tick_bytes());
    bytes.clear();
    // No packet is as long as the noise.
    let before = ticks.min(NOISE_TICKS - *at);
    bytes.extend_from_slice(&coded[*at * tick_bytes..(*at + before) * tick_bytes]);
    bytes.extend_from_slice(&coded[..(ticks - before) * tick_bytes]);
    *at = (*at + ticks) % NOISE_TICKS;
}

/// One second of [`Noise`], as µ-law, A-law and samples of 16 kHz, which is what legs speak.
static NOISE: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    [Form::Mulaw, Form::Alaw, Form::Linear(SampleRate::Hz16000)].map(|form| {
        let mut noise = Noise::default();
        let samples: Vec<i16> = (0..NOISE_TICKS * form.rate().tick_samples()).map(|_| noise.next_sample()).collect();
        let mut coded = Vec::new();
        form.encode(&samples, &mut coded);
        coded
    })
});

/// 50 frames, 1 s: long enough that no ear finds the repetition at this level.
const NOISE_TICKS: usize = 50 * FRAME_TICKS as usize;
