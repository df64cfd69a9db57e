//! What 20 ms of speech cost in each codec, and from one rate to another.
//!
//! `cargo bench -p talkstack-media --bench codecs` prints nanoseconds for each; the least of ten runs, which others on the
//! machine disturb the least. Figures stand in [`talkstack_media::codec`].

use std::hint::black_box;
use std::time::{Duration, Instant};

use talkstack_media::audio::frame::SampleRate;
use talkstack_media::audio::resample::Resampler;
use talkstack_media::codec::Codec;
use talkstack_media::codec::coder::{Decoder, Encoder};
use talkstack_media::codec::opus::Wishes;
use talkstack_media::codec::plc::Concealer;

fn main() {
    for (name, codec) in [("PCMU", Codec::Pcmu), ("PCMA", Codec::Pcma), ("G722", Codec::G722), ("opus", Codec::Opus)] {
        code(name, codec);
    }
    for codec in [Codec::Pcmu, Codec::G722] {
        conceal(codec.rate());
    }
    for (from, to) in [
        (SampleRate::Hz8000, SampleRate::Hz16000),
        (SampleRate::Hz16000, SampleRate::Hz8000),
        (SampleRate::Hz8000, SampleRate::Hz24000),
        (SampleRate::Hz24000, SampleRate::Hz8000),
        (SampleRate::Hz16000, SampleRate::Hz24000),
        (SampleRate::Hz24000, SampleRate::Hz16000),
        (SampleRate::Hz48000, SampleRate::Hz16000),
    ] {
        resample(from, to);
    }
}

/// Something between a vowel and noise: 20 ms, FRAMES times.
fn speech(rate: SampleRate) -> Vec<Vec<i16>> {
    let mut noise = 1u32;
    let mut sample = |at: usize| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let seconds = at as f32 / rate.hertz() as f32;
        let vowel =
            (1..8).map(|harmonic| (seconds * 140.0 * harmonic as f32 * std::f32::consts::TAU).sin()).sum::<f32>();
        (vowel * 1200.0 + (noise >> 22) as f32 - 512.0) as i16
    };
    let frame = rate.hertz() as usize / 50;
    (0..FRAMES).map(|number| (0..frame).map(|at| sample(number * frame + at)).collect()).collect()
}

fn code(name: &str, codec: Codec) {
    let (frames, mut encoder) = (speech(codec.rate()), Encoder::new(codec, Wishes::default()));
    let (mut packets, mut payload) = (Vec::new(), Vec::new());
    measure(&format!("{name}, encode"), || {
        for frame in &frames {
            payload.clear();
            encoder.encode(black_box(frame), &mut payload);
        }
    });
    for frame in &frames {
        let mut packet = Vec::new();
        encoder.encode(frame, &mut packet);
        packets.push(packet);
    }
    let (mut decoder, mut samples) = (Decoder::new(codec), Vec::new());
    measure(&format!("{name}, decode"), || {
        for packet in &packets {
            samples.clear();
            decoder.decode(black_box(packet), &mut samples);
        }
    });
}

fn conceal(rate: SampleRate) {
    let frames = speech(rate);
    let (mut concealer, mut samples) = (Concealer::new(rate.hertz()), Vec::new());
    measure(&format!("conceal one frame in ten at {} Hz, a frame", rate.hertz()), || {
        for (number, frame) in frames.iter().enumerate() {
            samples.clear();
            if number % 10 == 9 {
                concealer.conceal(frame.len(), &mut samples);
            } else {
                samples.extend_from_slice(frame);
                concealer.handle_received(&mut samples);
            }
            black_box(&samples);
        }
    });
}

fn resample(from: SampleRate, to: SampleRate) {
    let (frames, mut resampler, mut out) = (speech(from), Resampler::new(from, to), Vec::new());
    measure(&format!("{} Hz to {} Hz", from.hertz(), to.hertz()), || {
        for frame in &frames {
            out.clear();
            resampler.resample(black_box(frame), &mut out);
        }
    });
}

fn measure(name: &str, mut run: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed());
    }
    println!("{name:<44} {:>8.0} ns", best.as_nanos() as f64 / FRAMES as f64);
}

/// 200 frames of 20 ms: four seconds.
const FRAMES: usize = 200;
