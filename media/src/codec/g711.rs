//! ITU-T G.711: 8-bit companded samples at 8 kHz, decoded by table and coded by arithmetic.

/// What each µ-law code means, in 16-bit linear samples (14 significant bits).
pub const MULAW_TO_LINEAR: [i16; 256] = mulaw_table();

/// What each A-law code means, in 16-bit linear samples (13 significant bits).
pub const ALAW_TO_LINEAR: [i16; 256] = alaw_table();

/// Codes a sample in µ-law.
pub fn mulaw_of(sample: i16) -> u8 {
    let magnitude = (i32::from(sample).unsigned_abs().min(MULAW_CLIP) + MULAW_BIAS) as u16;
    // The bias makes bit 7 the lowest that can lead: segment 0.
    let segment = 8 - magnitude.leading_zeros() as u16;
    let step = (magnitude >> (segment + 3)) & 0x0f;
    let sign = if sample < 0 { 0x80 } else { 0 };
    !(sign | (segment as u8) << 4 | step as u8)
}

/// Codes a sample in A-law.
pub fn alaw_of(sample: i16) -> u8 {
    // One's complement for negative samples: −1 mirrors 0 (ITU-T G.711 table 1).
    let (sign, magnitude) = if sample < 0 { (0, !sample as u16) } else { (0x80, sample as u16) };
    let magnitude = magnitude >> 4;
    // Segments 0 and 1 share one step size; each above doubles it.
    let segment = (16 - magnitude.leading_zeros()).saturating_sub(4);
    let step = if segment == 0 { magnitude } else { magnitude >> (segment - 1) } & 0x0f;
    (sign | (segment as u8) << 4 | step as u8) ^ ALAW_EVEN_BITS
}

const fn mulaw_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let inverted = !(code as u8);
        let segment = (inverted >> 4) & 7;
        let magnitude = ((((inverted & 0x0f) as i32) << 3) + MULAW_BIAS as i32) << segment;
        let magnitude = (magnitude - MULAW_BIAS as i32) as i16;
        table[code] = if inverted & 0x80 != 0 { -magnitude } else { magnitude };
        code += 1;
    }
    table
}

const fn alaw_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let plain = code as u8 ^ ALAW_EVEN_BITS;
        let segment = (plain >> 4) & 7;
        let step = ((plain & 0x0f) as i16) << 4;
        let magnitude = if segment == 0 { step + 8 } else { (step + 0x108) << (segment - 1) };
        table[code] = if plain & 0x80 != 0 { magnitude } else { -magnitude };
        code += 1;
    }
    table
}

/// 33 of the 14-bit scale, times four.
const MULAW_BIAS: u32 = 0x84;

/// The largest magnitude that, biased, still fits 15 bits.
const MULAW_CLIP: u32 = 32_635;

/// G.711 inverts every other bit of A-law on the wire.
const ALAW_EVEN_BITS: u8 = 0x55;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mulaw_codes_survive_decoding_and_coding_but_for_negative_zero() {
        for code in 0..=255u8 {
            let back = mulaw_of(MULAW_TO_LINEAR[code as usize]);
            assert_eq!(back, if code == 0x7f { 0xff } else { code });
        }
    }

    #[test]
    fn alaw_codes_survive_decoding_and_coding() {
        for code in 0..=255u8 {
            assert_eq!(alaw_of(ALAW_TO_LINEAR[code as usize]), code, "{code:#x}");
        }
    }

    #[test]
    fn every_sample_is_coded_to_its_nearest_level() {
        for sample in i16::MIN..=i16::MAX {
            let magnitude = i32::from(sample).unsigned_abs();
            let mulaw = MULAW_TO_LINEAR[mulaw_of(sample) as usize];
            let alaw = ALAW_TO_LINEAR[alaw_of(sample) as usize];
            // A step of G.711 is a sixteenth of its segment; the error is half of one.
            let bound = (magnitude / 32).max(8) + 8;
            for (law, back) in [("mu", mulaw), ("A", alaw)] {
                let error = (i32::from(back) - i32::from(sample)).unsigned_abs();
                assert!(error <= bound || magnitude > 32_000, "{law}-law {sample} came back as {back}");
            }
        }
    }

    /// The vectors hold 8-bit codes in 16-bit words and linear samples left-aligned, both little-endian.
    #[test]
    fn the_itu_s_own_vectors_are_met() {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpora");
        let corpora = std::env::var_os("TALKSTACK_CORPORA").map_or_else(|| beside.into(), std::path::PathBuf::from);
        let read = |name: &str| -> Option<Vec<i16>> {
            let bytes = std::fs::read(corpora.join("itu/g711").join(name)).ok()?;
            Some(bytes.as_chunks::<2>().0.iter().map(|word| i16::from_le_bytes(*word)).collect())
        };
        let Some(source) = read("sweep.src") else {
            eprintln!("skipped: no test corpora beside the checkout (TALKSTACK_CORPORA)");
            return;
        };
        let vectors = |name: &str| read(name).expect("with the source");
        let (mulaw, alaw) = (vectors("sweep-r.u"), vectors("sweep-r.a"));
        let mut off_by_one = 0;
        for (at, sample) in source.iter().enumerate() {
            assert_eq!(i16::from(alaw_of(*sample)), alaw[at], "A-law of sample {at}, {sample}");
            let (code, theirs) = (mulaw_of(*sample), mulaw[at] as u8);
            // At the edge of a negative segment G.711 leaves the code open by one.
            let is_near = code.abs_diff(theirs) <= 1;
            assert!(is_near && (code == theirs || *sample < 0), "mu-law of sample {at}, {sample}: {code} {theirs}");
            off_by_one += usize::from(code != theirs);
        }
        assert!(off_by_one < source.len() / 500, "{off_by_one} of {} differ", source.len());
    }

    #[test]
    fn known_codes_of_the_recommendation() {
        // G.711 table 2a: code 0x80 is the largest positive µ-law value, 0x00 the largest negative.
        assert_eq!((MULAW_TO_LINEAR[0x80], MULAW_TO_LINEAR[0x00]), (32_124, -32_124));
        assert_eq!((MULAW_TO_LINEAR[0xff], MULAW_TO_LINEAR[0xfe]), (0, 8));
        assert_eq!((ALAW_TO_LINEAR[0xd5], ALAW_TO_LINEAR[0x55]), (8, -8));
        assert_eq!((ALAW_TO_LINEAR[0xaa], ALAW_TO_LINEAR[0x2a]), (32_256, -32_256));
        assert_eq!((mulaw_of(i16::MAX), mulaw_of(i16::MIN)), (0x80, 0x00));
        assert_eq!((alaw_of(i16::MAX), alaw_of(i16::MIN)), (0xaa, 0x2a));
    }
}
