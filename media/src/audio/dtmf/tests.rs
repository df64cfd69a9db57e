use std::f64::consts::TAU;
use std::time::Duration;

use super::*;
use crate::codec::Codec;

#[test]
fn every_key_is_heard_over_all_that_q_24_has_accepted() {
    for sample_rate in [8000, 16_000, 48_000] {
        for (low_dbm0, high_dbm0) in [(-3.0, -3.0), (-10.0, -8.0), (-20.0, -16.0), (-16.0, -24.0), (-29.0, -29.0)] {
            for off in [-0.015, -0.007, 0.0, 0.007, 0.015] {
                for (snr_db, duration_ms) in [(60.0, 40.0), (15.0, 50.0)] {
                    let tones = Tones { low_dbm0, high_dbm0, low_off: off, high_off: -off, duration_ms, snr_db };
                    let heard = dial(sample_rate, &tones, 60.0);
                    assert_eq!(heard, ALL, "{tones:?} at {sample_rate} Hz");
                }
            }
        }
    }
}

#[test]
fn what_q_24_has_refused_is_no_key() {
    let good =
        Tones { low_dbm0: -10.0, high_dbm0: -8.0, low_off: 0.0, high_off: 0.0, duration_ms: 100.0, snr_db: 60.0 };
    assert_eq!(dial(8000, &good, 60.0), ALL);
    for off in [-0.06, -0.05, -0.035, 0.035, 0.05, 0.06] {
        for tones in [
            Tones { low_off: off, ..good },
            Tones { high_off: off, ..good },
            Tones { low_off: off, high_off: off, ..good },
            Tones { low_off: off, high_off: -off, snr_db: 20.0, ..good },
        ] {
            assert_eq!(dial(8000, &tones, 60.0), "", "{tones:?}");
        }
    }
    for tones in [
        Tones { duration_ms: 23.0, ..good },
        Tones { low_dbm0: -20.0, ..good },
        Tones { high_dbm0: -22.0, ..good },
        Tones { low_dbm0: -90.0, ..good },
        Tones { low_dbm0: -40.0, high_dbm0: -40.0, ..good },
        Tones { snr_db: 3.0, ..good },
    ] {
        assert_eq!(dial(8000, &tones, 60.0), "", "{tones:?}");
    }
}

#[test]
fn a_pause_of_40_ms_is_another_press_and_an_interruption_of_10_ms_is_none() {
    let of = |pause_ms: f64| {
        let mut sound = Sound::new(8000);
        let tones = Tones { duration_ms: 50.0, ..Tones::default() };
        sound.pause(30.0);
        for _ in 0..2 {
            sound.key('5', &tones);
            sound.pause(pause_ms);
        }
        sound.pause(100.0);
        heard(8000, &sound.samples)
    };
    assert_eq!((of(40.0).as_str(), of(10.0).as_str()), ("55", "5"));
}

#[test]
fn a_key_is_told_once_however_long_it_sounds_and_within_60_ms() {
    let mut sound = Sound::new(8000);
    sound.key('#', &Tones { duration_ms: 5000.0, ..Tones::default() });
    let mut detector = DtmfDetector::new(8000);
    let mut told = Vec::new();
    for (at, samples) in sound.samples.chunks(80).enumerate() {
        detector.handle_audio(samples);
        told.extend(std::iter::from_fn(|| detector.poll_digit()).map(|key| (key, at * 10)));
    }
    assert!(matches!(told[..], [('#', at_ms)] if at_ms <= 60), "{told:?}");
    assert!(detector.is_sounding());
}

#[test]
fn what_is_made_is_detected_through_every_codec_and_has_its_frequencies_and_levels() {
    for codec in [None, Some(Codec::Pcmu), Some(Codec::Pcma)] {
        let mut generator = DtmfGenerator::new(8000);
        let mut samples = vec![0; 160];
        generator.fill(&mut samples);
        assert!(ALL.chars().all(|key| generator.press(key, TONE)) && !generator.press('x', TONE));
        while generator.is_busy() {
            let mut frame = [0; 160];
            generator.fill(&mut frame);
            match codec {
                None => samples.extend(frame),
                Some(codec) => {
                    let mut coded = Vec::new();
                    codec.encode(&frame, &mut coded);
                    codec.decode(&coded, &mut samples);
                }
            }
        }
        // Sixteen keys of 100 ms and 60 ms.
        assert_eq!(samples.len(), 160 + 16 * 1280);
        assert_eq!(heard(8000, &samples), ALL, "{codec:?}");
        let first = &samples[160 + 160..160 + 800];
        let (low, high) = (level_dbm0(first, 697.0), level_dbm0(first, 1209.0));
        assert!((low + 10.0).abs() < 0.2 && (high + 8.0).abs() < 0.2, "{low} and {high} dBm0");
        assert!(samples[160 + 805..160 + 1280].iter().all(|sample| sample.unsigned_abs() <= 8), "60 ms of silence");
    }
}

#[test]
fn a_key_may_be_held_and_a_flood_of_keys_is_cut_off() {
    let mut generator = DtmfGenerator::new(16_000);
    assert!(generator.press('1', Duration::from_secs(2)));
    let mut samples = vec![0; 2 * 16_000];
    generator.fill(&mut samples);
    assert!(samples[31_000..31_900].iter().any(|sample| sample.unsigned_abs() > 9000));
    assert_eq!(heard(16_000, &samples), "1");
    assert_eq!((0..100).filter(|_| generator.press('5', TONE)).count(), 32);
}

#[test]
fn tones_of_the_network_and_noise_are_no_keys() {
    for frequencies in
        [[350.0, 440.0], [440.0, 480.0], [480.0, 620.0], [425.0, 425.0], [950.0, 1400.0], [1100.0, 2100.0]]
    {
        let mut sound = Sound::new(8000);
        for _ in 0..5 {
            sound.chord(&frequencies, -10.0, 500.0);
            sound.pause(100.0);
        }
        assert_eq!(heard(8000, &sound.samples), "", "{frequencies:?}");
    }
    let mut sound = Sound::new(8000);
    for level in [-50.0, -30.0, -10.0] {
        sound.noise(level, 10_000.0);
    }
    assert_eq!(heard(8000, &sound.samples), "");
}

/// Three minutes; half an hour with TALKSTACK_LONG.
#[test]
fn chords_and_melodies_have_at_most_one_key_in_half_an_hour() {
    let minutes = if std::env::var_os("TALKSTACK_LONG").is_some() { 30.0 } else { 3.0 };
    let mut keys = String::new();
    let mut random = 7;
    let mut seconds = 0.0;
    while seconds < minutes * 60.0 {
        let mut sound = Sound::new(8000);
        sound.random = random;
        sound.music(20.0);
        random = sound.random;
        seconds += sound.samples.len() as f64 / 8000.0;
        keys.push_str(&heard(8000, &sound.samples));
    }
    assert!(keys.len() <= 1, "{keys:?} in {minutes} minutes of music");
}

/// Three minutes; half an hour with TALKSTACK_LONG.
#[test]
fn speech_has_at_most_one_key_in_half_an_hour() {
    let minutes = if std::env::var_os("TALKSTACK_LONG").is_some() { 30.0 } else { 3.0 };
    if !std::path::Path::new(ESPEAK).exists() {
        return println!("No {ESPEAK}: no speech to be taken for keys.");
    }
    let paragraphs: Vec<&str> =
        include_str!("../../../../README.md").split("\n\n").filter(|text| text.len() > 60).collect();
    let (mut keys, mut seconds, mut at) = (String::new(), 0.0, 0usize);
    while seconds < minutes * 60.0 {
        let voice = VOICES[at % VOICES.len()];
        // Low voices and high ones, slow and fast: none like another.
        let (pitch, speed) = (at * 37 % 100, 110 + at * 23 % 130);
        let text = paragraphs[at % paragraphs.len()].replace(['`', '|', '#', '*', '_'], " ");
        let spoken = speak(voice, pitch, speed, &text);
        seconds += spoken.len() as f64 / 8000.0;
        keys.push_str(&heard(8000, &spoken));
        at += 1;
    }
    assert!(keys.len() <= 1, "{keys:?} in {:.0} minutes of speech", seconds / 60.0);
}

#[test]
fn recorded_speech_has_no_keys() {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpora");
    let corpora = std::env::var("TALKSTACK_CORPORA").unwrap_or_else(|_| beside.into());
    for (file, sample_rate) in [("input.8.wav", 8000), ("input.16.wav", 16_000), ("input.48.wav", 48_000)] {
        let Ok(bytes) = std::fs::read(format!("{corpora}/audio/pjsua-wavs/{file}")) else {
            return println!("No third-party corpora (TALKSTACK_CORPORA): recorded speech is not listened to.");
        };
        let samples = samples_of(&bytes[44..]);
        assert!(samples.len() as u32 > sample_rate, "{file} has a second and more");
        assert_eq!(heard(sample_rate, &samples), "", "{file}");
    }
}

/// Speech at 8 kHz.
fn speak(voice: &str, pitch: usize, speed: usize, text: &str) -> Vec<i16> {
    let (pitch, speed) = (pitch.to_string(), speed.to_string());
    let arguments = ["-v", voice, "-p", &pitch, "-s", &speed, "-b", "1", "--stdout", "--", text];
    let output = std::process::Command::new(ESPEAK).args(arguments).output().expect("espeak-ng runs");
    let spoken = samples_of(output.stdout.get(44..).unwrap_or_default());
    // From 22,050 Hz through a windowed sinc that ends below 4 kHz.
    let step = 22_050.0 / 8000.0;
    let value = |at: usize| {
        let center = at as f64 * step;
        let first = (center - 24.0).max(0.0).ceil() as usize;
        let last = (center as usize + 24).min(spoken.len() - 1);
        let weight = |place: usize| {
            let distance = place as f64 - center;
            let phase = std::f64::consts::PI * distance * 3600.0 / 11_025.0;
            let sinc = if phase.abs() < 1e-6 { 1.0 } else { phase.sin() / phase };
            sinc * (0.5 + 0.5 * (std::f64::consts::PI * distance / 25.0).cos()) * 3600.0 / 11_025.0
        };
        (first..=last).map(|place| f64::from(spoken[place]) * weight(place)).sum::<f64>() as i16
    };
    (0..(spoken.len() as f64 / step) as usize).map(value).collect()
}

fn samples_of(bytes: &[u8]) -> Vec<i16> {
    bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// Of Debian's package of that name.
const ESPEAK: &str = "/usr/bin/espeak-ng";

/// Languages and voices that are unlike each other.
const VOICES: [&str; 10] =
    ["en-gb", "en-us+f3", "de+m3", "fr+f2", "es+m7", "it+f4", "ru+m5", "cmn+f5", "en-gb+croak", "hi+whisper"];

/// All keys at once, in the order of the table.
const ALL: &str = "123A456B789C*0#D";

#[derive(Debug, Clone, Copy)]
struct Tones {
    low_dbm0: f64,
    high_dbm0: f64,
    low_off: f64,
    high_off: f64,
    duration_ms: f64,
    snr_db: f64,
}

impl Default for Tones {
    fn default() -> Self {
        Tones { low_dbm0: -10.0, high_dbm0: -8.0, low_off: 0.0, high_off: 0.0, duration_ms: 100.0, snr_db: 60.0 }
    }
}

/// All keys with these tones and pauses, as the detector hears them.
fn dial(sample_rate: u32, tones: &Tones, pause_ms: f64) -> String {
    let mut sound = Sound::new(sample_rate);
    sound.pause(33.0);
    for key in ALL.chars() {
        sound.key(key, tones);
        sound.pause(pause_ms);
    }
    let energy = [tones.low_dbm0, tones.high_dbm0].map(|dbm0| 10f64.powf(dbm0 / 10.0)).iter().sum::<f64>();
    sound.add_noise(10.0 * energy.log10() - tones.snr_db);
    heard(sample_rate, &sound.samples)
}

fn heard(sample_rate: u32, samples: &[i16]) -> String {
    let mut detector = DtmfDetector::new(sample_rate);
    let mut keys = String::new();
    // Lengths that have nothing to do with the detector's own.
    for samples in samples.chunks(133) {
        detector.handle_audio(samples);
        keys.extend(std::iter::from_fn(|| detector.poll_digit()));
    }
    keys
}

/// Sound that is put together piece by piece.
struct Sound {
    rate: f64,
    samples: Vec<i16>,
    random: u32,
}

impl Sound {
    fn new(sample_rate: u32) -> Self {
        Sound { rate: f64::from(sample_rate), samples: Vec::new(), random: 0x2545_f491 }
    }

    fn pause(&mut self, ms: f64) {
        self.samples.resize(self.samples.len() + (ms * self.rate / 1000.0) as usize, 0);
    }

    fn key(&mut self, key: char, tones: &Tones) {
        let at = KEYS.iter().flatten().position(|known| *known == key).expect("a key");
        let low = f64::from(LOW[at / 4]) * (1.0 + tones.low_off);
        let high = f64::from(HIGH[at % 4]) * (1.0 + tones.high_off);
        let phases = [self.uniform() * TAU, self.uniform() * TAU];
        for at in 0..(tones.duration_ms * self.rate / 1000.0) as usize {
            let time = at as f64 / self.rate;
            let value = (low * TAU * time + phases[0]).sin() * peak(tones.low_dbm0)
                + (high * TAU * time + phases[1]).sin() * peak(tones.high_dbm0);
            self.samples.push(value as i16);
        }
    }

    fn chord(&mut self, frequencies: &[f64], dbm0: f64, ms: f64) {
        for at in 0..(ms * self.rate / 1000.0) as usize {
            let time = at as f64 / self.rate;
            let value: f64 = frequencies.iter().map(|frequency| (frequency * TAU * time).sin() * peak(dbm0)).sum();
            self.samples.push(value as i16);
        }
    }

    fn noise(&mut self, dbm0: f64, ms: f64) {
        let from = self.samples.len();
        self.pause(ms);
        let amplitude = peak(dbm0) / 2f64.sqrt();
        for at in from..self.samples.len() {
            self.samples[at] = (self.gaussian() * amplitude) as i16;
        }
    }

    fn add_noise(&mut self, dbm0: f64) {
        let amplitude = peak(dbm0) / 2f64.sqrt();
        for at in 0..self.samples.len() {
            let noisy = f64::from(self.samples[at]) + self.gaussian() * amplitude;
            self.samples[at] = noisy.clamp(-32768.0, 32767.0) as i16;
        }
    }

    /// A piece in a key of its own, in equal temperament: triads and sevenths of its scale and a melody over them, of one
    /// to four voices with attack, decay and vibrato, some as pure as a flute or a cheap ringtone, most with harmonics.
    fn music(&mut self, seconds: f64) {
        let tonic = 110.0 * 2f64.powf(self.below(12) as f64 / 12.0);
        let (mut left, mut melody) = (seconds, 14usize);
        while left > 0.0 {
            let length = [0.1, 0.2, 0.3, 0.5, 1.0][self.below(5)];
            let root = self.below(7);
            melody = (melody + self.below(5)).saturating_sub(2).min(30);
            let mut degrees = vec![melody];
            for _ in 0..self.below(4) {
                degrees.push(root + [0, 2, 4, 6][self.below(4)] + 7 * self.below(4));
            }
            let note = |degree: usize| tonic * 2f64.powf(f64::from(SCALE[degree % 7]) / 12.0 + (degree / 7) as f64);
            let notes: Vec<f64> = degrees.into_iter().map(note).collect();
            self.strike(&notes, length);
            left -= length;
        }
    }

    fn strike(&mut self, notes: &[f64], length: f64) {
        let harmonics = [1, 2, 4, 8, 8][self.below(5)];
        let decay = self.uniform() * 6.0;
        let vibrato = if self.below(3) == 0 { self.uniform() * 0.01 } else { 0.0 };
        let level = peak(-6.0 - self.uniform() * 20.0) / notes.len() as f64;
        for at in 0..(length * self.rate) as usize {
            let time = at as f64 / self.rate;
            let bend = time + vibrato / (TAU * 5.5) * (1.0 - (TAU * 5.5 * time).cos());
            let mut value = 0.0;
            for note in notes {
                for harmonic in 1..=harmonics {
                    let frequency = note * f64::from(harmonic);
                    if frequency < 3600.0 {
                        value += (frequency * TAU * bend).sin() / f64::from(harmonic);
                    }
                }
            }
            let envelope = (time / 0.01).min(1.0) * (-decay * time).exp();
            self.samples.push((value * level * envelope) as i16);
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.uniform() * bound as f64) as usize
    }

    fn uniform(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        f64::from(self.random) / 4_294_967_296.0
    }

    fn gaussian(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// The steps of a major scale, in semitones.
const SCALE: [u8; 7] = [0, 2, 4, 5, 7, 9, 11];

/// The peak of a sine of this level: +3.17 dBm0 is full scale (ITU-T G.711).
fn peak(dbm0: f64) -> f64 {
    32_768.0 * 10f64.powf((dbm0 - 3.17) / 20.0)
}

/// The level of a tone in a stretch that holds whole periods or many of them.
fn level_dbm0(samples: &[i16], frequency: f64) -> f64 {
    let (mut re, mut im) = (0.0, 0.0);
    let length = samples.len() as f64;
    for (at, sample) in samples.iter().enumerate() {
        let angle = TAU * frequency * at as f64 / 8000.0;
        let weight = 1.0 - (TAU * (at as f64 + 0.5) / length).cos();
        re += f64::from(*sample) * weight * angle.cos();
        im += f64::from(*sample) * weight * angle.sin();
    }
    20.0 * (re.hypot(im) * 2.0 / length / peak(0.0)).log10()
}
