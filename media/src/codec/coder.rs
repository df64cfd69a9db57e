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
    use super::*;

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
}
