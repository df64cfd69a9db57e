#![no_main]
//! Payloads of every codec, as a far end may send them: decoded, and concealed from.

use libfuzzer_sys::fuzz_target;
use talkstack_media::codec::coder::Decoder;
use talkstack_media::codec::comfort_noise::ComfortNoise;
use talkstack_media::codec::opus::{self, Wishes};
use talkstack_media::codec::Codec;

fuzz_target!(|input: &[u8]| {
    // The length of a packet in a byte, then the packet: a decoder remembers those before.
    let mut rest = input;
    let mut decoders = Codec::ALL.map(|codec| (codec, Decoder::new(codec)));
    let mut opus = opus::Decoder::new().expect("a decoder");
    let mut samples = Vec::new();
    while let Some((&length, behind)) = rest.split_first() {
        let (packet, behind) = behind.split_at(usize::from(length).min(behind.len()));
        rest = behind;
        for (codec, decoder) in &mut decoders {
            samples.clear();
            decoder.decode(packet, &mut samples);
            assert!(samples.len() <= codec.ticks(packet) as usize * codec.rate().tick_samples());
        }
        samples.clear();
        opus.conceal(usize::from(length) * 8, Some(packet), &mut samples);
        assert_eq!(samples.len(), usize::from(length) * 8);
        opus.decode(packet, &mut samples);
        if let Some(mut noise) = ComfortNoise::of_payload(packet) {
            noise.fill(160, &mut samples);
        }
        if let Ok(text) = std::str::from_utf8(packet) {
            let _ = Wishes::of_parameters(text);
        }
    }
});
