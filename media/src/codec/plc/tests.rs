use std::f32::consts::PI;

use super::*;

#[test]
fn a_steady_tone_goes_on_in_phase_and_fades_within_60_ms() {
    for scale in [1, 2] {
        let tone = |at: usize| (8000.0 * (at as f32 * 2.0 * PI / (80.0 * scale as f32)).sin()) as i16;
        let mut heard: Vec<i16> = (0..1600).map(tone).collect();
        let mut concealer = Concealer::new(8000 * scale as u32);
        assert!(!concealer.handle_received(&mut heard), "nothing was lost before");
        let mut made = Vec::new();
        concealer.conceal(800 * scale, &mut made);
        for (at, sample) in made[..FADE * scale].iter().enumerate() {
            let at_8000 = at / scale;
            let gain = if at_8000 < HOLD { 1.0 } else { (FADE - at_8000) as f32 / (FADE - HOLD) as f32 };
            let expected = f32::from(tone(1600 + at)) * gain;
            assert!((f32::from(*sample) - expected).abs() < 120.0, "sample {at}: {sample}, not {expected}");
        }
        assert!(made[FADE * scale..].iter().all(|sample| sample.unsigned_abs() <= 16));
        assert!(made[FADE * scale..].iter().any(|sample| *sample != 0), "noise, not digital silence");
    }
}

#[test]
fn loss_before_any_sound_and_a_pause_are_no_more_than_noise() {
    let (mut concealer, mut made) = (Concealer::default(), Vec::new());
    concealer.conceal(160, &mut made);
    concealer.pause(160, &mut made);
    assert_eq!(made.len(), 320);
    assert!(made.iter().all(|sample| sample.unsigned_abs() <= 16));
}

#[test]
fn sound_after_a_loss_fades_in_and_begins_a_fade_of_its_own() {
    let mut concealer = Concealer::default();
    let mut made = Vec::new();
    concealer.handle_received(&mut [1000; HISTORY]);
    concealer.conceal(1000, &mut made);
    let mut sound = [1000; 160];
    assert!(concealer.handle_received(&mut sound), "its beginning is changed");
    assert!(sound[0] < 100 && sound[JOIN_MAX - 1] > 900, "{sound:?}");
    assert!(sound[..JOIN_MAX].windows(2).all(|pair| pair[1] > pair[0] - 40), "{sound:?}");
    assert_eq!(sound[JOIN_MAX..], [1000; 160 - JOIN_MAX], "10 ms at the most");
    assert!(!concealer.handle_received(&mut [1000; HISTORY]), "the next is as it came");
    made.clear();
    concealer.conceal(1, &mut made);
    assert_eq!(made, [1000]);
}

#[test]
fn neither_end_of_a_loss_clicks() {
    for seed in 1..=20 {
        let voice = voice(seed, 4800);
        let step_max = steps(&voice).fold(0, i32::max);
        let out = damage(&voice, &[10, 11, 20], Method::Concealer);
        let worst = steps(&out).fold(0, i32::max);
        assert!(worst <= step_max * 5 / 4, "seed {seed}: a step of {worst}, where the voice has none above {step_max}");
    }
}

#[test]
fn what_is_made_up_is_nearer_to_the_voice_than_silence_or_the_last_packet_again() {
    for loss_percent in [5, 10, 20] {
        let (mut ours, mut repeated, mut silent) = (0.0, 0.0, 0.0);
        for seed in 1..=10u32 {
            let voice = voice(seed, 160 * 150);
            let mut random = seed.wrapping_mul(2_654_435_761) | 1;
            let lost: Vec<usize> = (5..150).filter(|_| next(&mut random) % 100 < loss_percent).collect();
            ours += error(&voice, &damage(&voice, &lost, Method::Concealer));
            repeated += error(&voice, &damage(&voice, &lost, Method::Repetition));
            silent += error(&voice, &damage(&voice, &lost, Method::Silence));
        }
        assert!(ours < 0.5 * repeated, "{loss_percent} %: {ours} of error, {repeated} by repetition");
        assert!(ours < 0.8 * silent, "{loss_percent} %: {ours} of error, {silent} by silence");
    }
}

#[derive(Clone, Copy)]
enum Method {
    Concealer,
    Repetition,
    Silence,
}

/// The voice with packets of 20 ms lost.
fn damage(voice: &[i16], lost: &[usize], method: Method) -> Vec<i16> {
    let (mut concealer, mut out) = (Concealer::default(), Vec::new());
    for (at, packet) in voice.chunks_exact(160).enumerate() {
        let before = out.len();
        match method {
            Method::Concealer if lost.contains(&at) => concealer.conceal(160, &mut out),
            Method::Repetition if lost.contains(&at) => out.extend_from_within(before - 160..),
            Method::Silence if lost.contains(&at) => out.resize(before + 160, 0),
            _ => {
                out.extend_from_slice(packet);
                if let Method::Concealer = method {
                    concealer.handle_received(&mut out[before..]);
                }
            }
        }
    }
    out
}

/// A vowel whose pitch and loudness wander: the harmonics of 90 to 250 Hz below two resonances.
fn voice(seed: u32, samples: usize) -> Vec<i16> {
    let mut random = seed.wrapping_mul(0x9e37_79b9) | 1;
    let pitch = 90.0 + (next(&mut random) % 160) as f32;
    let (mut phase, mut out) = (0.0_f32, Vec::with_capacity(samples));
    for at in 0..samples {
        let time = at as f32 / 8000.0;
        let now = pitch * (1.0 + 0.02 * (2.0 * PI * 2.0 * time).sin());
        phase += now / 8000.0;
        let loudness = 0.7 + 0.3 * (2.0 * PI * 4.0 * time).sin();
        let sum: f32 = (1..(3600.0 / now) as u32)
            .map(|harmonic| {
                let hertz = harmonic as f32 * now;
                let resonance = |centre: f32| 1.0 / (1.0 + ((hertz - centre) / 150.0).powi(2));
                (resonance(600.0) + 0.5 * resonance(1400.0) + 0.02) * (2.0 * PI * phase * harmonic as f32).sin()
            })
            .sum();
        out.push((sum * loudness * 6000.0) as i16);
    }
    out
}

fn steps(samples: &[i16]) -> impl Iterator<Item = i32> {
    samples.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs())
}

/// The energy of what differs.
fn error(voice: &[i16], out: &[i16]) -> f32 {
    voice.iter().zip(out).map(|(a, b)| (f32::from(*a) - f32::from(*b)).powi(2)).sum()
}

fn next(random: &mut u32) -> u32 {
    *random ^= *random << 13;
    *random ^= *random >> 17;
    *random ^= *random << 5;
    *random
}
