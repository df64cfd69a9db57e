//! The two ends of a coded stream, with what they remember of it.

use super::{Codec, g722, opus};

/// From samples to payloads.
#[derive(Debug)]
pub enum Encoder {
    /// PCMU or PCMA: nothing is remembered.
    G711(Codec),
    /// G.722.
    G722(Box<g722::Encoder>),
    /// Opus.
    Opus(Box<opus::Encoder>),
}

/// From payloads to samples.
#[derive(Debug)]
pub enum Decoder {
    /// PCMU or PCMA: nothing is remembered.
    G711(Codec),
    /// G.722.
    G722(Box<g722::Decoder>),
    /// Opus.
    Opus(Box<opus::Decoder>),
}

impl Encoder {
    /// Starts a stream. `wishes` are the far end's, of Opus.
    ///
    /// # Panics
    /// If the Opus library refuses its own constants, which no input can bring about.
    pub fn new(codec: Codec, wishes: opus::Wishes) -> Self {
        match codec {
            Codec::Pcmu | Codec::Pcma => Encoder::G711(codec),
            Codec::G722 => Encoder::G722(Box::default()),
            Codec::Opus => {
                Encoder::Opus(Box::new(opus::Encoder::new(wishes).expect("its constants are the library's")))
            }
        }
    }

    /// Appends the payload of one packet's samples, at the codec's rate. Nothing is appended where nothing is to be sent
    /// (Opus, in a pause).
    pub fn encode(&mut self, samples: &[i16], payload: &mut Vec<u8>) {
        match self {
            Encoder::G711(codec) => codec.encode(samples, payload),
            Encoder::G722(encoder) => encoder.encode(samples, payload),
            Encoder::Opus(encoder) => encoder.encode(samples, payload),
        }
    }
}

impl Decoder {
    /// Starts a stream.
    ///
    /// # Panics
    /// If the Opus library refuses its own constants, which no input can bring about.
    pub fn new(codec: Codec) -> Self {
        match codec {
            Codec::Pcmu | Codec::Pcma => Decoder::G711(codec),
            Codec::G722 => Decoder::G722(Box::default()),
            Codec::Opus => Decoder::Opus(Box::new(opus::Decoder::new().expect("its constants are the library's"))),
        }
    }

    /// Appends a payload's samples, at the codec's rate; as many as [`Codec::ticks`] says, or none if it cannot be
    /// played.
    pub fn decode(&mut self, payload: &[u8], samples: &mut Vec<i16>) {
        match self {
            Decoder::G711(codec) => codec.decode(payload, samples),
            Decoder::G722(decoder) => decoder.decode(payload, samples),
            Decoder::Opus(decoder) => {
                decoder.decode(payload, samples);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::audio::frame::SampleRate;
    use crate::audio::resample::Resampler;

    #[test]
    fn every_codec_says_how_long_its_payload_plays_and_plays_so_long() {
        for codec in Codec::ALL {
            let rate = codec.rate();
            let (mut encoder, mut decoder) = (Encoder::new(codec, opus::Wishes::default()), Decoder::new(codec));
            let mut samples: Vec<i16> = Vec::new();
            for milliseconds in [10, 20, 40, 60] {
                let tone: Vec<i16> = (0..milliseconds * rate.hertz() / 1000)
                    .map(|at| if at / 20 % 2 == 0 { 3000 } else { -3000 })
                    .collect();
                let mut payload = Vec::new();
                encoder.encode(&tone, &mut payload);
                samples.clear();
                decoder.decode(&payload, &mut samples);
                assert_eq!(codec.ticks(&payload), milliseconds * 8, "{codec:?}");
                assert_eq!(samples.len(), tone.len(), "{codec:?}, {milliseconds} ms");
                assert!(samples.iter().any(|sample| sample.unsigned_abs() > 1000), "{codec:?} is silent");
            }
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_numbers_differ() {
        for codec in Codec::ALL {
            assert_eq!(Codec::of_name(&codec.name().to_ascii_uppercase()), Some(codec));
            assert_eq!(Codec::of_name(&codec.name().to_ascii_lowercase()), Some(codec));
            assert_eq!(Codec::ALL.iter().filter(|other| other.payload_type() == codec.payload_type()).count(), 1);
        }
        assert_eq!(Codec::of_name("G729"), None);
    }

    /// Prints what 20 ms cost; `cargo test -p talkstack-media --release --lib -- --ignored --nocapture codecs_cost`.
    #[test]
    #[ignore = "a measurement"]
    fn codecs_cost() {
        let speech: Vec<i16> = (0..320 * 500i32)
            .map(|at| {
                let syllable = at / 1440;
                ((at * (20 + syllable % 17)) % 12_000 - 6000) as i16 / (1 + syllable as i16 % 3)
            })
            .collect();
        let mut lines = Vec::new();
        for (codec, has_fec) in [
            (Codec::Pcmu, false),
            (Codec::Pcma, false),
            (Codec::G722, false),
            (Codec::Opus, false),
            (Codec::Opus, true),
        ] {
            let length = codec.rate().hertz() as usize / 50;
            let wishes = opus::Wishes { has_fec, ..opus::Wishes::default() };
            let (mut encoder, mut decoder) = (Encoder::new(codec, wishes), Decoder::new(codec));
            let mut payloads: Vec<Vec<u8>> = vec![Vec::with_capacity(2000); speech.len() / length];
            let start = Instant::now();
            for (frame, payload) in speech.chunks_exact(length).zip(&mut payloads) {
                encoder.encode(frame, payload);
            }
            let encoding = start.elapsed() / payloads.len() as u32;
            let mut samples = Vec::with_capacity(2000);
            let start = Instant::now();
            for payload in &payloads {
                samples.clear();
                decoder.decode(payload, &mut samples);
            }
            lines.push((format!("{codec:?}, FEC {has_fec}"), encoding, start.elapsed() / payloads.len() as u32));
        }
        for (from, to) in [
            (SampleRate::Hz8000, SampleRate::Hz16000),
            (SampleRate::Hz16000, SampleRate::Hz8000),
            (SampleRate::Hz16000, SampleRate::Hz24000),
            (SampleRate::Hz24000, SampleRate::Hz16000),
            (SampleRate::Hz8000, SampleRate::Hz24000),
            (SampleRate::Hz24000, SampleRate::Hz8000),
        ] {
            let frame = &speech[..from.hertz() as usize / 50];
            let (mut resampler, mut out) = (Resampler::new(from, to), Vec::with_capacity(2000));
            let start = Instant::now();
            for _ in 0..10_000 {
                out.clear();
                resampler.resample(frame, &mut out);
            }
            let cost = start.elapsed() / 10_000;
            lines.push((format!("{} to {} Hz", from.hertz(), to.hertz()), cost, std::time::Duration::ZERO));
        }
        for (what, first, second) in lines {
            println!("{what:<20} {:>9.1} us {:>9.1} us", first.as_nanos() as f64 / 1e3, second.as_nanos() as f64 / 1e3);
        }
    }
}
