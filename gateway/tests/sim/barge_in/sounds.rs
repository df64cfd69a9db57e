//! What callers sound like: sentences, back-channels, coughs. Made here, from voices and noise that nothing was tuned on.

use std::process::Command;

use talkstack_gateway::prompts::{Language, Prompt};

/// A sound at 8 kHz, and where it begins to be heard.
#[derive(Clone)]
pub(crate) struct Sound {
    pub(crate) samples: Vec<f32>,
    pub(crate) onset: usize,
}

impl Sound {
    /// Brings it to a level in dBFS; it begins with its first 10 ms that are at most 20 dB softer.
    pub(crate) fn at(samples: &[f32], dbfs: f32) -> Self {
        let powers: Vec<f32> = samples
            .chunks(80)
            .map(|stretch| stretch.iter().map(|sample| sample * sample).sum::<f32>() / 80.0)
            .collect();
        let mut loudest = powers.clone();
        loudest.sort_by(|a, b| b.total_cmp(a));
        loudest.truncate((loudest.len() * 2 / 5).max(1));
        let active = loudest.iter().sum::<f32>() / loudest.len() as f32;
        let gain = 32_768.0 * 10f32.powf(dbfs / 20.0) / active.sqrt().max(1e-3);
        let onset = 80 * powers.iter().position(|power| *power >= active / 100.0).unwrap_or_default();
        Sound { samples: samples.iter().map(|sample| sample * gain).collect(), onset }
    }
}

/// A generator of numbers that are the same every time.
#[derive(Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// 0 to 1.
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    pub(crate) fn within(&mut self, from: f32, to: f32) -> f32 {
        from + (to - from) * self.next()
    }

    /// About normal, with a deviation of 1.
    pub(crate) fn noise(&mut self) -> f32 {
        (0..4).map(|_| self.next()).sum::<f32>() * 1.732 - 3.464
    }
}

/// The attendant's prompts: what is always there to be said.
pub(crate) fn prompts(language: Language) -> Vec<Vec<f32>> {
    [Prompt::Greeting, Prompt::Menu, Prompt::EchoIntro, Prompt::Apology]
        .map(|prompt| prompt.samples(language).iter().map(|sample| f32::from(*sample)).collect())
        .into()
}

/// One to three coughs: a burst, a breath through the open throat, sometimes a voiced end.
pub(crate) fn cough(random: &mut Random) -> Vec<f32> {
    let mut samples = vec![0.0; 400];
    for _ in 0..1 + (random.next() * 2.5) as usize {
        let (burst, breath, end) = (random.within(0.03, 0.08), random.within(0.08, 0.25), random.within(0.03, 0.1));
        let count = ((burst + breath + end) * 8000.0) as usize;
        let mut one = vec![0.0; count];
        for (from, to, loudness) in [(300.0, 700.0, 1.0), (900.0, 1600.0, 0.8), (2200.0, 3300.0, 0.5)] {
            let (hertz, width) = (random.within(from, to), random.within(150.0, 600.0));
            let resonance = resonant_noise(random, count, hertz, width);
            one.iter_mut().zip(resonance).for_each(|(sum, sample)| *sum += loudness * sample);
        }
        // Some end in a groan.
        let pitch = random.within(80.0, 160.0);
        let groan = if random.next() < 0.3 { 1.0 } else { 0.0 };
        for (at, sample) in one.iter_mut().enumerate() {
            let seconds = at as f32 / 8000.0;
            let envelope = match seconds {
                _ if seconds < 0.01 => seconds / 0.01,
                _ if seconds < burst => 1.0,
                _ if seconds < burst + breath => 0.6 - 0.3 * (seconds - burst) / breath,
                _ => 0.3 * (1.0 - (seconds - burst - breath) / end).max(0.0),
            };
            let voiced = if seconds > burst { groan * (seconds * pitch % 1.0 - 0.5) } else { 0.0 };
            *sample = (*sample + voiced) * envelope;
        }
        samples.extend(one);
        samples.resize(samples.len() + (random.within(0.12, 0.4) * 8000.0) as usize, 0.0);
    }
    samples
}

/// Noise through one resonance, with a deviation of about 1.
fn resonant_noise(random: &mut Random, count: usize, hertz: f32, width: f32) -> Vec<f32> {
    let radius = (-std::f32::consts::PI * width / 8000.0).exp();
    let (first, second) = (2.0 * radius * (std::f32::consts::TAU * hertz / 8000.0).cos(), -radius * radius);
    let (mut last, mut before) = (0.0, 0.0);
    (0..count)
        .map(|_| {
            let next = random.noise() * (1.0 - radius * radius) + first * last + second * before;
            (before, last) = (last, next);
            next
        })
        .collect()
}

/// A voice of espeak-ng's, a sentence it interrupts with, and what it says while it listens.
pub(crate) struct Voice {
    pub(crate) name: &'static str,
    pub(crate) sentence: &'static str,
    pub(crate) listening: [&'static str; 4],
}

/// Languages and variants that nothing was tuned on: that were English, German, and people's English, French, Spanish,
/// Italian and Russian.
pub(crate) const HELD_OUT: [Voice; 10] = [
    Voice {
        name: "nl+m2",
        sentence: "Wacht even, ik heb een andere vraag.",
        listening: ["ja", "oké", "hm", "precies"],
    },
    Voice {
        name: "sv+f5",
        sentence: "Vänta lite, jag har en annan fråga.",
        listening: ["ja", "okej", "mm", "just det"],
    },
    Voice {
        name: "pt-br+f3",
        sentence: "Espere um momento, eu tenho outra pergunta.",
        listening: ["sim", "tá", "hum", "certo"],
    },
    Voice { name: "pl+m4", sentence: "Chwileczkę, mam inne pytanie.", listening: ["tak", "aha", "hm", "dobrze"] },
    Voice {
        name: "tr+m6", sentence: "Bir dakika, başka bir sorum var.", listening: ["evet", "hı hı", "tamam", "aha"]
    },
    Voice {
        name: "da+f4", sentence: "Vent lige, jeg har et andet spørgsmål.", listening: ["ja", "nå", "mm", "okay"]
    },
    Voice { name: "cs+m8", sentence: "Počkejte, mám jinou otázku.", listening: ["jo", "ano", "hm", "aha"] },
    Voice {
        name: "fi+f2",
        sentence: "Hetkinen, minulla on toinen kysymys.",
        listening: ["joo", "niin", "hmm", "aivan"],
    },
    Voice { name: "ro+m1", sentence: "O clipă, am o altă întrebare.", listening: ["da", "bine", "aha", "hm"] },
    Voice {
        name: "el+f1", sentence: "Ένα λεπτό, έχω άλλη ερώτηση.", listening: ["ναι", "χμ", "αχά", "σωστά"]
    },
];

/// Whether there are voices.
pub(crate) fn can_speak() -> bool {
    std::path::Path::new(ESPEAK).exists()
}

/// A text at 8 kHz.
pub(crate) fn speak(voice: &str, pitch: u32, speed: u32, text: &str) -> Vec<f32> {
    let (pitch, speed) = (pitch.to_string(), speed.to_string());
    let arguments = ["-v", voice, "-p", &pitch, "-s", &speed, "-b", "1", "--stdout", "--", text];
    let output = Command::new(ESPEAK).args(arguments).output().expect("espeak-ng runs");
    let bytes = output.stdout.get(44..).unwrap_or_default();
    let spoken: Vec<f32> = bytes.as_chunks::<2>().0.iter().map(|pair| f32::from(i16::from_le_bytes(*pair))).collect();
    assert!(spoken.len() > 2000, "{voice} says {text:?}");
    // From 22,050 Hz through a windowed sinc that ends below 4 kHz.
    let step = 22_050.0 / 8000.0;
    let value = |at: usize| {
        let center = at as f32 * step;
        let (first, last) = ((center - 24.0).max(0.0).ceil() as usize, (center as usize + 24).min(spoken.len() - 1));
        let weight = |place: usize| {
            let distance = place as f32 - center;
            let phase = std::f32::consts::PI * distance * 3600.0 / 11_025.0;
            let sinc = if phase.abs() < 1e-4 { 1.0 } else { phase.sin() / phase };
            sinc * (0.5 + 0.5 * (std::f32::consts::PI * distance / 25.0).cos()) * 3600.0 / 11_025.0
        };
        (first..=last).map(|place| spoken[place] * weight(place)).sum::<f32>()
    };
    (0..(spoken.len() as f32 / step) as usize).map(value).collect()
}

/// Of Debian's package of that name.
const ESPEAK: &str = "/usr/bin/espeak-ng";
