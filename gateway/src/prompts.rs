//! What the attendant says, spoken beforehand and carried in the binary.
//!
//! `config/prompts/make.sh` made the files from the texts in `config/prompts/texts.tsv`.

use std::sync::LazyLock;

use talkstack_media::codec::plc::Noise;

/// A language the attendant speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English.
    En,
    /// German.
    De,
}

impl Language {
    /// The one the menu switches to.
    pub fn other(self) -> Self {
        match self {
            Language::En => Language::De,
            Language::De => Language::En,
        }
    }
}

/// Something the attendant can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    /// Who answers.
    Greeting,
    /// What the keys do.
    Menu,
    /// The echo begins.
    EchoIntro,
    /// The echo has ended.
    EchoEnd,
    /// The agent cannot be reached.
    Apology,
    /// The call ends.
    Goodbye,
    /// That key does nothing.
    Invalid,
}

impl Prompt {
    /// The prompt at 8 kHz.
    pub fn samples(self, language: Language) -> &'static [i16] {
        &SAMPLES[language as usize * PROMPTS + self as usize]
    }
}

/// Decodes all prompts, so that no call has to wait for it.
pub fn warm_up() {
    LazyLock::force(&SAMPLES);
}

/// The number of [`Prompt`]s.
const PROMPTS: usize = 7;

macro_rules! recorded {
    ($($language:literal: $($name:literal),+;)+) => {
        [$($(include_bytes!(concat!("../../config/prompts/", $language, "/", $name, ".wav")),)+)+]
    };
}

/// By language, then by prompt, in the order of the enums.
static RECORDED: [&[u8]; 2 * PROMPTS] = recorded! {
    "en": "greeting", "menu", "echo_intro", "echo_end", "apology", "goodbye", "invalid";
    "de": "greeting", "menu", "echo_intro", "echo_end", "apology", "goodbye", "invalid";
};

static SAMPLES: LazyLock<Vec<Vec<i16>>> =
    LazyLock::new(|| RECORDED.iter().map(|wav| under_noise(samples(wav).unwrap_or_default())).collect());

/// Lays soft noise under speech: between two sentences a line that is digitally silent sounds dead.
pub(crate) fn under_noise(mut samples: Vec<i16>) -> Vec<i16> {
    let mut noise = Noise::default();
    samples.iter_mut().for_each(|sample| *sample = sample.saturating_add(noise.next_sample()));
    samples
}

/// The samples of an 8 kHz mono 16-bit WAV file; `None` when it is another kind.
pub(crate) fn samples(wav: &[u8]) -> Option<Vec<i16>> {
    let mut chunks = wav.strip_prefix(b"RIFF")?.get(4..)?.strip_prefix(b"WAVE")?;
    let mut is_ours = false;
    loop {
        let (id, rest) = chunks.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let body = &rest[..length.min(rest.len())];
        match id {
            // PCM, one channel, 8,000 a second, 16 bits.
            b"fmt " => {
                is_ours = body.get(..4)? == [1, 0, 1, 0]
                    && body.get(4..8)? == 8000u32.to_le_bytes()
                    && body.get(14..16)? == [16, 0];
            }
            b"data" if is_ours => {
                let (pairs, _) = body.as_chunks::<2>();
                return Some(pairs.iter().map(|pair| i16::from_le_bytes(*pair)).collect());
            }
            _ => {}
        }
        // Chunks are padded to an even length.
        chunks = rest.get(length + length % 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use talkstack_media::codec::Codec;

    use super::*;

    #[test]
    fn every_prompt_is_speech_of_a_second_or_more_that_never_clips() {
        for (at, samples) in SAMPLES.iter().enumerate() {
            assert!(samples.len() > 8000, "prompt {at} has {} samples", samples.len());
            let peak = samples.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or_default();
            assert!((8_000..30_000).contains(&peak), "prompt {at} peaks at {peak}");
        }
    }

    #[test]
    fn no_prompt_is_silent_for_60_ms_in_either_codec() {
        for (at, samples) in SAMPLES.iter().enumerate() {
            for codec in Codec::ALL {
                let mut coded = Vec::new();
                codec.encode(samples, &mut coded);
                let longest = coded.chunk_by(|a, b| a == b).map(<[u8]>::len).max().unwrap_or_default();
                assert!(longest < 480, "prompt {at} in {} stands still for {longest} samples", codec.name());
            }
        }
    }

    #[test]
    fn what_is_no_wav_file_of_ours_is_refused() {
        for wav in [&b""[..], b"RIFF", b"RIFF\0\0\0\0WAVEfmt ", &[0; 64]] {
            assert_eq!(samples(wav), None);
        }
    }
}
