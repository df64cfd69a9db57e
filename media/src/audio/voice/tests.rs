use std::f64::consts::TAU;

use super::*;
use crate::audio::resample::Resampler;
use crate::codec::Codec;
use crate::codec::coder::{Decoder, Encoder};
use crate::codec::opus::Wishes;

#[test]
fn a_voice_begins_within_100_ms_and_ends_200_ms_behind_its_last_sound() {
    for codec in Codec::ALL {
        let (mut begins, mut ends) = (Vec::new(), Vec::new());
        for (number, prompt) in prompts().enumerate() {
            for phase in [0, 53, 101] {
                let loudness = [1.0, 0.4, 0.15][(number + phase) % 3];
                let spoken: Vec<f64> = word(&prompt).iter().map(|sample| loudness * f64::from(*sample)).collect();
                let (from, to) = (8000 + phase, 8000 + phase + spoken.len());
                let mut line = vec![0.0; to + 8000];
                line[from..to].copy_from_slice(&spoken);
                let heard = listen(codec, &hiss(line, 25.0));
                let late = |at: Option<f64>, from: usize| at.map_or(f64::MAX, |at| at - from as f64 / 8.0);
                begins.push(late(heard.first().copied(), from));
                ends.push(late(heard.last().filter(|_| heard.len().is_multiple_of(2)).copied(), to));
            }
        }
        begins.sort_by(f64::total_cmp);
        ends.sort_by(f64::total_cmp);
        let (typical, most) = (begins[begins.len() / 2], begins[begins.len() * 95 / 100]);
        assert!(begins[0] > 0.0 && typical <= 80.0 && most <= 100.0, "{}: {begins:?}", codec.name());
        let (typical, last) = (ends[ends.len() / 2], ends[ends.len() - 1]);
        assert!((180.0..=240.0).contains(&typical) && last <= 260.0, "{}: {ends:?}", codec.name());
    }
}

#[test]
fn tones_are_no_voice() {
    let tones: [&[f64]; 10] = [
        &[440.0, 480.0],
        &[400.0, 450.0],
        &[425.0],
        &[480.0, 620.0],
        &[350.0, 440.0],
        &[697.0, 1209.0],
        &[941.0, 1477.0],
        &[1100.0],
        &[2100.0],
        &[523.0, 659.0, 784.0],
    ];
    for tone in tones {
        for amplitude in [400.0, 2000.0, 8000.0] {
            // A cadence of 400 ms: what begins and ends is part of every tone.
            let line = (0..40_000)
                .map(|at| {
                    let sound = |hertz: &f64| amplitude * (TAU * hertz * f64::from(at) / 8000.0).sin();
                    if at / 3200 % 2 == 0 { 0.0 } else { tone.iter().map(sound).sum() }
                })
                .collect();
            let heard = listen(Codec::Pcmu, &hiss(line, 12.0));
            assert!(heard.is_empty(), "{tone:?} Hz at {amplitude}: {heard:?}");
        }
    }
}

#[test]
fn special_information_is_no_voice() {
    let line = (0..24_000).map(|at| {
        let hertz = [913.8, 1370.6, 1776.7][at / 2640 % 3];
        4000.0 * (TAU * hertz * at as f64 / 8000.0).sin()
    });
    assert_eq!(listen(Codec::Pcma, &hiss(line.collect(), 12.0)), NEVER);
}

#[test]
fn a_line_s_noise_is_no_voice_however_loud_it_is() {
    for amplitude in [0.0, 8.0, 30.0, 100.0] {
        assert_eq!(listen(Codec::Pcmu, &hiss(vec![0.0; 80_000], amplitude)), NEVER, "{amplitude}");
    }
}

#[test]
fn a_noise_that_stays_is_taken_for_one_and_a_voice_above_it_is_heard() {
    let prompt = prompts().next().expect("a prompt");
    let mut line = vec![0.0; 80_000];
    line.extend(word(&prompt).iter().map(|sample| f64::from(*sample)));
    let heard = listen(Codec::Pcmu, &hiss(line, 250.0));
    let late: Vec<f64> = heard.into_iter().filter(|at| *at > 6000.0).collect();
    assert!(late.first().is_some_and(|at| (10_000.0..10_150.0).contains(at)), "{late:?}");
}

#[test]
fn how_a_line_is_cut_up_changes_nothing() {
    let spoken: Vec<i16> = prompts().next().expect("a prompt");
    let mut whole = VoiceDetector::new();
    let mut parts = VoiceDetector::new();
    let mut rest = spoken.as_slice();
    let (mut voices, mut heard) = (0, 0);
    for length in [160, 1, 80, 0, 333, 480].into_iter().cycle() {
        let (part, behind) = rest.split_at(length.min(rest.len()));
        parts.handle_audio(SampleRate::Hz8000, part, 0.0);
        part.iter().for_each(|sample| whole.handle_audio(SampleRate::Hz8000, &[*sample], 0.0));
        assert_eq!(parts.is_voice(), whole.is_voice(), "after {heard} samples");
        voices += u32::from(parts.is_voice());
        heard += part.len();
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    assert!(voices > 20, "{voices}");
}

#[test]
fn a_line_that_changes_its_rate_is_heard_on() {
    let prompt = prompts().next().expect("a prompt");
    for rate in [SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000] {
        let mut detector = VoiceDetector::new();
        detector.handle_audio(SampleRate::Hz8000, &[0; 1000], 0.0);
        let mut spoken = Vec::new();
        Resampler::new(SampleRate::Hz8000, rate).resample(&word(&prompt), &mut spoken);
        let begin = spoken.chunks(rate.hertz() as usize / 100).position(|stretch| {
            detector.handle_audio(rate, stretch, 0.0);
            detector.is_voice()
        });
        assert!(begin.is_some_and(|at| at <= 10), "{rate:?}: {begin:?}");
    }
}

/// When a voice begins and ends, by turns, in milliseconds of a line that brings these samples of 8 kHz.
fn listen(codec: Codec, line: &[i16]) -> Vec<f64> {
    let (mut wide, mut packet, mut decoded) = (Vec::new(), Vec::new(), Vec::new());
    let mut resampler = (codec.rate() != SampleRate::Hz8000).then(|| Resampler::new(SampleRate::Hz8000, codec.rate()));
    let (mut encoder, mut decoder) = (Encoder::new(codec, Wishes::default()), Decoder::new(codec));
    let mut detector = VoiceDetector::new();
    let mut heard = Vec::new();
    for (number, frame) in line.chunks_exact(160).enumerate() {
        wide.clear();
        match &mut resampler {
            Some(resampler) => resampler.resample(frame, &mut wide),
            None => wide.extend_from_slice(frame),
        }
        packet.clear();
        encoder.encode(&wide, &mut packet);
        decoded.clear();
        decoder.decode(&packet, &mut decoded);
        let was_voice = detector.is_voice();
        detector.handle_audio(codec.rate(), &decoded, 0.0);
        if detector.is_voice() != was_voice {
            heard.push((number + 1) as f64 * 20.0);
        }
    }
    heard
}

/// The attendant's prompts, which are speech.
fn prompts() -> impl Iterator<Item = Vec<i16>> {
    macro_rules! recorded {
        ($($name:literal),+) => {
            [$(&include_bytes!(concat!("../../../../config/prompts/", $name, ".wav"))[WAV_HEADER_BYTES..],)+]
        };
    }
    let wavs: [&[u8]; 10] = recorded!(
        "en/greeting",
        "en/menu",
        "en/echo_intro",
        "en/apology",
        "en/goodbye",
        "de/greeting",
        "de/menu",
        "de/echo_intro",
        "de/apology",
        "de/goodbye"
    );
    wavs.into_iter().map(|wav| wav.as_chunks::<2>().0.iter().map(|pair| i16::from_le_bytes(*pair)).collect())
}

/// The prompt's first second, from where it is as loud as 20 dB below its loudest.
fn word(prompt: &[i16]) -> Vec<i16> {
    let peak = prompt.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or_default();
    let from = prompt.iter().position(|sample| sample.unsigned_abs() > peak / 10).unwrap_or_default();
    let spoken = &prompt[from..(from + 8000).min(prompt.len())];
    let to = spoken.iter().rposition(|sample| sample.unsigned_abs() > peak / 10).unwrap_or_default();
    spoken[..=to].to_vec()
}

/// The same line with white noise of this amplitude on it.
fn hiss(line: Vec<f64>, amplitude: f64) -> Vec<i16> {
    let mut random = 1u32;
    let mut noise = move || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (f64::from(random >> 8) / f64::from(1 << 23) - 1.0) * amplitude * 3f64.sqrt()
    };
    // A cast of a float saturates.
    line.into_iter().map(|sample| (sample + noise()).round() as i16).collect()
}

/// No voice has begun.
const NEVER: [f64; 0] = [];

/// Of a file that sox has written.
const WAV_HEADER_BYTES: usize = 44;
