//! ITU-T G.722 at 64 kbit/s: two bands of 8 kHz, each coded as the difference from what was to be expected.
//!
//! ```text
//!   16 kHz ─▶ QMF ─┬─ lower band ─▶ − prediction ─▶ 6 bits ─┐
//!                  └─ upper band ─▶ − prediction ─▶ 2 bits ─┴─▶ one octet for two samples
//! ```
//!
//! Names are the Recommendation's: `det` the quantizer's step (DETL, DETH), `nb` its logarithm (NBL, NBH), `a` and `b`
//! the predictor's poles and zeros, `s` what it predicts. Both ends adapt from the octets alone. After loss they drift
//! together again within some ten milliseconds, because every state leaks.

/// From 16 kHz samples to octets.
#[derive(Debug, Clone)]
pub struct Encoder {
    low: Band,
    high: Band,
    filter: [i32; QMF_TAPS],
    /// The first of a pair whose second has not come.
    odd: Option<i16>,
}

/// From octets to 16 kHz samples.
#[derive(Debug, Clone)]
pub struct Decoder {
    low: Band,
    high: Band,
    filter: [i32; QMF_TAPS],
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder { low: Band::new(DET_LOW), high: Band::new(DET_HIGH), filter: [0; QMF_TAPS], odd: None }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { low: Band::new(DET_LOW), high: Band::new(DET_HIGH), filter: [0; QMF_TAPS] }
    }
}

impl Encoder {
    /// Appends an octet for each pair of samples at 16 kHz; a sample left over waits for its other half.
    pub fn encode(&mut self, samples: &[i16], octets: &mut Vec<u8>) {
        for &sample in samples {
            match self.odd.take() {
                None => self.odd = Some(sample),
                Some(first) => octets.push(self.encode_pair(first, sample)),
            }
        }
    }

    fn encode_pair(&mut self, first: i16, second: i16) -> u8 {
        self.filter.copy_within(2.., 0);
        self.filter[QMF_TAPS - 2] = first.into();
        self.filter[QMF_TAPS - 1] = second.into();
        let (first_half, second_half) = halves(&self.filter);
        let (low, high) = ((second_half + first_half) >> 14, (second_half - first_half) >> 14);
        let code_low = self.low.code_low(saturated(low));
        let code_high = self.high.code_high(saturated(high));
        code_high << 6 | code_low
    }
}

impl Decoder {
    /// Appends two samples at 16 kHz for each octet.
    pub fn decode(&mut self, octets: &[u8], samples: &mut Vec<i16>) {
        for &octet in octets {
            let (code_low, code_high) = (usize::from(octet & 0x3f), usize::from(octet >> 6));
            let low = self.low.heard(QM6[code_low]);
            self.low.adapt_low(code_low >> 2);
            let high = self.high.heard(QM2[code_high]);
            self.high.adapt_high(code_high);
            self.filter.copy_within(2.., 0);
            self.filter[QMF_TAPS - 2] = low + high;
            self.filter[QMF_TAPS - 1] = low - high;
            let (first, second) = crossed(&self.filter);
            samples.extend([first, second].map(|sample| clamped(sample >> 11) as i16));
        }
    }
}

/// One band's quantizer and predictor: the same at both ends.
#[derive(Debug, Clone)]
struct Band {
    nb: i32,
    det: i32,
    s: i32,
    sz: i32,
    /// Reconstructed signal and partially reconstructed signal, the latest first.
    r: [i32; 2],
    p: [i32; 2],
    a: [i32; 2],
    /// Differences, the latest first.
    d: [i32; 6],
    b: [i32; 6],
}

impl Band {
    fn new(det: i32) -> Self {
        Band { nb: 0, det, s: 0, sz: 0, r: [0; 2], p: [0; 2], a: [0; 2], d: [0; 6], b: [0; 6] }
    }

    /// SUBTRA and QUANTL, then the adaptation.
    fn code_low(&mut self, sample: i32) -> u8 {
        let difference = clamped(sample - self.s);
        let magnitude = if difference < 0 { -(difference + 1) } else { difference };
        let level = Q6[1..30].iter().take_while(|&&bound| magnitude >= (bound * self.det) >> 12).count();
        // Levels count down from the outermost code; negative levels 1 and 2 lie at the table's other end.
        let code = match (difference < 0, level as u8) {
            (false, level) => 61 - level,
            (true, level @ (0 | 1)) => 63 - level,
            (true, level) => 33 - level,
        };
        self.adapt_low(usize::from(code >> 2));
        code
    }

    /// SUBTRA and QUANTH, then the adaptation.
    fn code_high(&mut self, sample: i32) -> u8 {
        let difference = clamped(sample - self.s);
        let magnitude = if difference < 0 { -(difference + 1) } else { difference };
        let is_outer = magnitude >= (Q2 * self.det) >> 12;
        let code = match (difference < 0, is_outer) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        self.adapt_high(usize::from(code));
        code
    }

    /// INVQAL or INVQAH, RECONS and LIMIT: what the far end hears of this band.
    fn heard(&self, level: i32) -> i32 {
        (((self.det * level) >> 15) + self.s).clamp(-16_384, 16_383)
    }

    /// INVQAL, LOGSCL, SCALEL and the predictor, for a code without its two lowest bits.
    fn adapt_low(&mut self, code: usize) {
        let d = (self.det * QM4[code]) >> 15;
        self.nb = (((self.nb * 127) >> 7) + WL[RL42[code]]).clamp(0, 18_432);
        self.det = scale(self.nb, 8);
        self.predict(d);
    }

    /// INVQAH, LOGSCH, SCALEH and the predictor.
    fn adapt_high(&mut self, code: usize) {
        let d = (self.det * QM2[code]) >> 15;
        self.nb = (((self.nb * 127) >> 7) + WH[code & 1]).clamp(0, 22_528);
        self.det = scale(self.nb, 10);
        self.predict(d);
    }

    /// Takes the quantized difference in and predicts the next sample: PARREC to PREDIC.
    fn predict(&mut self, d: i32) {
        let r = clamped(self.s + d);
        let p = clamped(self.sz + d);
        let is_like = |other: i32| (p < 0) == (other < 0);
        // UPPOL2
        let turned = clamped(self.a[0] << 2);
        let turned = if is_like(self.p[0]) { clamped(-turned) } else { turned };
        let push = if is_like(self.p[1]) { 128 } else { -128 };
        let a2 = ((turned >> 7) + push + ((self.a[1] * 32_512) >> 15)).clamp(-12_288, 12_288);
        // UPPOL1
        let push = if is_like(self.p[0]) { 192 } else { -192 };
        let bound = clamped(15_360 - a2);
        let a1 = clamped(push + ((self.a[0] * 32_640) >> 15)).clamp(-bound, bound);
        // UPZERO
        let push = if d == 0 { 0 } else { 128 };
        for (b, earlier) in self.b.iter_mut().zip(self.d) {
            let push = if (d < 0) == (earlier < 0) { push } else { -push };
            *b = clamped(push + ((*b * 32_640) >> 15));
        }
        // DELAYA
        self.d.copy_within(..5, 1);
        self.d[0] = d;
        self.r = [r, self.r[0]];
        self.p = [p, self.p[0]];
        self.a = [a1, a2];
        // FILTEP and FILTEZ
        let doubled = |value: i32| clamped(2 * value);
        let poles = (0..2).map(|at| (self.a[at] * doubled(self.r[at])) >> 15).sum();
        let zeros = (0..6).map(|at| (self.b[at] * doubled(self.d[at])) >> 15).sum();
        self.sz = clamped(zeros);
        self.s = clamped(clamped(poles) + self.sz);
    }
}

/// SCALEL and SCALEH: the step of a logarithm.
fn scale(nb: i32, shift: i32) -> i32 {
    let mantissa = ILB[(nb >> 6) as usize & 31];
    let shift = shift - (nb >> 11);
    (if shift < 0 { mantissa << -shift } else { mantissa >> shift }) << 2
}

/// The two halves of the transmit filter: over the even places and over the odd ones.
fn halves(filter: &[i32; QMF_TAPS]) -> (i32, i32) {
    let first = (0..12).map(|at| filter[2 * at] * QMF[at]).sum();
    let second = (0..12).map(|at| filter[2 * at + 1] * QMF[11 - at]).sum();
    (first, second)
}

/// The receive filter: the earlier sample and the later one.
fn crossed(filter: &[i32; QMF_TAPS]) -> (i32, i32) {
    let first = (0..12).map(|at| filter[2 * at + 1] * QMF[11 - at]).sum();
    let second = (0..12).map(|at| filter[2 * at] * QMF[at]).sum();
    (first, second)
}

fn clamped(value: i32) -> i32 {
    value.clamp(-32_768, 32_767)
}

/// A band has 15 bits.
fn saturated(value: i32) -> i32 {
    value.clamp(-16_384, 16_383)
}

const QMF_TAPS: usize = 24;

/// Table 11: half of the filter, which is symmetric, times 2^13.
const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];

/// The first steps.
const DET_LOW: i32 = 32;
const DET_HIGH: i32 = 8;

/// Table 14: decision levels of the lower band.
const Q6: [i32; 30] = [
    0, 35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121, 1219, 1339,
    1458, 1612, 1765, 1980, 2195, 2557, 2919,
];

/// Table 17: the decision level of the upper band.
const Q2: i32 = 564;

/// Table 15: output levels of 4 and 6 bits of the lower band; of 2 bits of the upper one.
const QM4: [i32; 16] =
    [0, -20_456, -12_896, -8968, -6288, -4240, -2584, -1200, 20_456, 12_896, 8968, 6288, 4240, 2584, 1200, 0];
const QM6: [i32; 64] = [
    -136, -136, -136, -136, -24_808, -21_904, -19_008, -16_704, -14_984, -13_512, -12_280, -11_192, -10_232, -9360,
    -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688, -1360,
    -1040, -728, 24_808, 21_904, 19_008, 16_704, 14_984, 13_512, 12_280, 11_192, 10_232, 9360, 8576, 7856, 7192, 6576,
    6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
];
const QM2: [i32; 4] = [-7408, -1616, 7408, 1616];

/// Table 18: how a code moves the logarithm of the step.
const WL: [i32; 8] = [-60, -30, 58, 172, 334, 538, 1198, 3042];
const RL42: [usize; 16] = [0, 7, 6, 5, 4, 3, 2, 1, 7, 6, 5, 4, 3, 2, 1, 0];

/// Codes 0 and 2 are the outer ones.
const WH: [i32; 2] = [798, -214];

/// Table 19: 2^11 · 2^(i/32).
const ILB: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896, 2960, 3025,
    3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors hold samples and octets in 16-bit words, little-endian. They cover mode 1, the one that RTP carries.
    #[test]
    fn the_itu_s_own_vectors_are_met_bit_by_bit() {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpora");
        let corpora = std::env::var_os("TALKSTACK_CORPORA").map_or_else(|| beside.into(), std::path::PathBuf::from);
        let read = |name: &str| -> Option<Vec<i16>> {
            let bytes = std::fs::read(corpora.join("itu/g722").join(name)).ok()?;
            Some(bytes.as_chunks::<2>().0.iter().map(|word| i16::from_le_bytes(*word)).collect())
        };
        let Some(speech) = read("inpsp.bin") else {
            eprintln!("skipped: no test corpora beside the checkout (TALKSTACK_CORPORA)");
            return;
        };
        let vector = |name: &str| read(name).expect("with the source");
        let expected: Vec<u8> = vector("codspw.cod").into_iter().map(|word| word as u8).collect();
        let (mut octets, mut samples) = (Vec::new(), Vec::new());
        Encoder::default().encode(&speech, &mut octets);
        assert_eq!(octets.len(), 48_768);
        assert_eq!(octets.iter().zip(&expected).position(|(ours, theirs)| ours != theirs), None);
        Decoder::default().decode(&expected, &mut samples);
        let heard = vector("outsp1.bin");
        assert_eq!(samples.len(), heard.len());
        assert_eq!(samples.iter().zip(&heard).position(|(ours, theirs)| ours != theirs), None);
    }

    #[test]
    fn tones_of_both_bands_survive() {
        for hertz in [300.0, 1000.0, 3000.0, 5000.0, 6500.0] {
            let step = std::f64::consts::TAU * hertz / 16_000.0;
            let said: Vec<i16> = (0..16_000).map(|at| (8000.0 * (f64::from(at) * step).sin()) as i16).collect();
            let (mut octets, mut heard) = (Vec::new(), Vec::new());
            let mut encoder = Encoder::default();
            said.chunks(333).for_each(|part| encoder.encode(part, &mut octets));
            Decoder::default().decode(&octets, &mut heard);
            assert_eq!(heard.len(), said.len());
            let (mut sines, mut cosines, mut whole) = (0.0, 0.0, 0.0);
            for (at, sample) in heard.iter().enumerate().skip(1600) {
                let (sine, cosine) = (at as f64 * step).sin_cos();
                sines += f64::from(*sample) * sine;
                cosines += f64::from(*sample) * cosine;
                whole += f64::from(*sample).powi(2);
            }
            let of_tone = 2.0 * (sines * sines + cosines * cosines) / (heard.len() - 1600) as f64;
            assert!(of_tone / whole > 0.97, "{hertz} Hz: {} of it is the tone", of_tone / whole);
        }
    }

    #[test]
    fn a_decoder_that_missed_the_beginning_comes_together_with_the_encoder() {
        let said: Vec<i16> = (0..32_000i32).map(|at| (at * 7919 % 12_000 - 6000) as i16).collect();
        let (mut octets, mut whole, mut late) = (Vec::new(), Vec::new(), Vec::new());
        Encoder::default().encode(&said, &mut octets);
        Decoder::default().decode(&octets, &mut whole);
        Decoder::default().decode(&octets[4000..], &mut late);
        let apart = |at: usize| whole[8000 + at].abs_diff(late[at]);
        assert!((0..100).any(|at| apart(at) > 1000), "the beginning is not the same");
        assert!((8000..late.len()).all(|at| apart(at) <= 200), "a half second later it is");
    }

    #[test]
    fn any_octets_are_sound_and_never_panic() {
        let mut random = 0x1234_5678u32;
        let octets: Vec<u8> = (0..200_000)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                random as u8
            })
            .collect();
        let mut samples = Vec::new();
        Decoder::default().decode(&octets, &mut samples);
        Decoder::default().decode(&[0; 50_000], &mut samples);
        Decoder::default().decode(&[0xff; 50_000], &mut samples);
        assert_eq!(samples.len(), 600_000);
        let mut encoder = Encoder::default();
        let mut coded = Vec::new();
        encoder.encode(&[i16::MIN; 1000], &mut coded);
        encoder.encode(&samples, &mut coded);
        assert_eq!(coded.len(), 300_500);
    }
}
