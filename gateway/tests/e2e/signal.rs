//! Sound, judged: is the prompt in what the phone heard, and was there ever nothing?

use std::path::Path;
use std::time::Duration;

/// The samples of a mono or stereo 16-bit WAV file at 8 kHz; of stereo the left channel.
pub(crate) fn read_wav(path: &Path) -> Vec<i16> {
    let bytes = std::fs::read(path).expect("a recording");
    let at = bytes.windows(4).position(|window| window == b"data").expect("a data chunk") + 8;
    let channels = usize::from(bytes[22]);
    assert_eq!(u32::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]), 8000, "the recording's rate");
    bytes[at..].chunks_exact(2 * channels).map(|frame| i16::from_le_bytes([frame[0], frame[1]])).collect()
}

/// The samples of a mono WAV file that is still being written, whose header comes at the end.
pub(crate) fn read_growing(path: &Path) -> Vec<i16> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let samples = bytes.get(44..).unwrap_or_default().chunks_exact(2);
    samples.map(|sample| i16::from_le_bytes([sample[0], sample[1]])).collect()
}

/// Looks for a sound in a recording that grows, each stretch of it once.
pub(crate) struct Search<'a> {
    sound: &'a [i16],
    searched: usize,
}

impl<'a> Search<'a> {
    pub(crate) fn new(sound: &'a [i16]) -> Self {
        Search { sound, searched: 0 }
    }

    /// Tells whether the sound is in what is new. A recording that is shorter than the last is another one.
    pub(crate) fn is_in(&mut self, recording: &[i16]) -> bool {
        let known = if recording.len() < self.searched { 0 } else { self.searched };
        self.searched = recording.len();
        let from = known.saturating_sub(self.sound.len() - 1);
        best_match(&recording[from..], self.sound).1 > 0.9
    }
}

/// Writes a mono WAV file at 8 kHz.
pub(crate) fn write_wav(path: &Path, samples: &[i16]) {
    let data = samples.len() as u32 * 2;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend(8000u32.to_le_bytes());
    bytes.extend(16_000u32.to_le_bytes());
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend(data.to_le_bytes());
    bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    std::fs::write(path, bytes).expect("written");
}

/// Where `needle` fits best into `haystack`, and how well: 1 is the same but for loudness.
pub(crate) fn best_match(haystack: &[i16], needle: &[i16]) -> (usize, f64) {
    let needle_energy: f64 = needle.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    let mut best = (0, 0.0);
    for (offset, window) in haystack.windows(needle.len()).enumerate() {
        let (mut product, mut energy) = (0i64, 0i64);
        for (a, b) in window.iter().zip(needle) {
            product += i64::from(*a) * i64::from(*b);
            energy += i64::from(*a) * i64::from(*a);
        }
        let score = product as f64 / (needle_energy * energy as f64).sqrt().max(1.0);
        if score > best.1 {
            best = (offset, score);
        }
    }
    best
}

/// The longest stretch of digital silence between the first and the last sound. Comfort noise is no silence.
pub(crate) fn longest_gap(samples: &[i16]) -> Duration {
    let is_sound = |sample: &i16| sample.unsigned_abs() > 0;
    let first = samples.iter().position(is_sound).unwrap_or(0);
    let last = samples.iter().rposition(is_sound).unwrap_or(0);
    let mut longest = 0;
    let mut current = 0;
    for sample in &samples[first..=last.max(first)] {
        current = if is_sound(sample) { 0 } else { current + 1 };
        longest = longest.max(current);
    }
    Duration::from_micros(longest * 125)
}

#[test]
fn a_match_is_found_where_it_is_and_not_where_it_is_not() {
    let mut random = 1u32;
    let noise: Vec<i16> = (0..4000)
        .map(|_| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 18) as i16 - 8192
        })
        .collect();
    let quieter: Vec<i16> = noise[1000..1800].iter().map(|sample| sample / 3).collect();
    let (offset, score) = best_match(&noise, &quieter);
    assert_eq!(offset, 1000);
    assert!(score > 0.99);
    let reversed: Vec<i16> = quieter.iter().rev().copied().collect();
    assert!(best_match(&noise, &reversed).1 < 0.5);
}

#[test]
fn a_gap_counts_between_sounds_only() {
    let samples = [&[0; 900][..], &[5; 10], &[0; 160], &[5; 10], &[0; 900]].concat();
    assert_eq!(longest_gap(&samples), Duration::from_millis(20));
}
