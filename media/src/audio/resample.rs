//! Changes between 8, 16, 24 and 48 kHz by a polyphase filter.
//!
//! ```text
//!   samples at `from` ─▶ line of the last taps ─▶ · one phase of the filter ─▶ one sample at `to`
//!                                 ▲ advances by from / to, and the remainder picks the phase
//! ```
//!
//! The filter passes 0.8 of the lower rate's band and stops what would fold back, by more than 80 dB. It delays by half
//! its length: 3 ms where the lower rate is 8 kHz, 1.5 ms at 16 kHz. State is kept from frame to frame, and a frame of
//! 20 ms becomes exactly a frame of 20 ms.
//!
//! What it costs stands in [`crate::codec`].

use std::sync::OnceLock;

use super::frame::SampleRate;

/// Changes one stream's rate.
#[derive(Debug)]
pub struct Resampler {
    bank: &'static Bank,
    /// The last samples heard, and behind them those being filtered.
    line: Vec<f32>,
    /// Where the next sample out lies behind the start of `line`, in parts of a sample in.
    next: usize,
}

/// A filter cut into its phases.
#[derive(Debug)]
struct Bank {
    /// Samples out for so many in.
    up: usize,
    down: usize,
    taps: usize,
    /// `up` phases of `taps` each, in the order of the line: oldest first.
    phases: Vec<f32>,
}

impl Resampler {
    /// Starts a stream in silence.
    pub fn new(from: SampleRate, to: SampleRate) -> Self {
        Resampler::with(bank(from, to))
    }

    /// Starts a stream in silence that comes at a rate of sound files: 11,025, 12,000, 22,050, 32,000 or 44,100 Hz. `None`
    /// for any other.
    pub fn of_file(hertz: u32, to: SampleRate) -> Option<Self> {
        static BANKS: [[OnceLock<Bank>; 4]; 5] = [const { [const { OnceLock::new() }; 4] }; 5];
        let from = FILE_RATES.iter().position(|rate| *rate == hertz)?;
        let bank = || Bank::new(hertz as usize, to.hertz() as usize);
        Some(Resampler::with(BANKS[from][to.index()].get_or_init(bank)))
    }

    fn with(bank: &'static Bank) -> Self {
        let mut line = Vec::with_capacity(bank.taps - 1 + CHUNK);
        line.resize(bank.taps - 1, 0.0);
        Resampler { bank, line, next: 0 }
    }

    /// Appends the stretch at the other rate: `samples.len() · to / from` samples where that is a whole number, and else
    /// so many that all stretches together are off by less than one.
    pub fn resample(&mut self, samples: &[i16], out: &mut Vec<i16>) {
        let Bank { up, down, taps, phases } = self.bank;
        for chunk in samples.chunks(CHUNK) {
            self.line.extend(chunk.iter().map(|sample| f32::from(*sample)));
            let end = chunk.len() * up;
            while self.next < end {
                let (at, phase) = (self.next / up, self.next % up);
                let heard = &self.line[at..at + taps];
                out.push(dot(heard, &phases[phase * taps..(phase + 1) * taps]));
                self.next += down;
            }
            self.next -= end;
            self.line.drain(..chunk.len());
        }
    }
}

/// The filtered sample, rounded. Eight sums side by side, so that the compiler adds them at once.
fn dot(line: &[f32], taps: &[f32]) -> i16 {
    let mut sums = [0.0f32; 8];
    for (line, taps) in line.as_chunks::<8>().0.iter().zip(taps.as_chunks::<8>().0) {
        for ((sum, sample), tap) in sums.iter_mut().zip(line).zip(taps) {
            *sum += sample * tap;
        }
    }
    // A conversion saturates.
    sums.iter().sum::<f32>().round_ties_even() as i16
}

/// The filter between two rates, made once for all calls.
fn bank(from: SampleRate, to: SampleRate) -> &'static Bank {
    static BANKS: [[OnceLock<Bank>; 4]; 4] = [const { [const { OnceLock::new() }; 4] }; 4];
    BANKS[from.index()][to.index()].get_or_init(|| Bank::new(from.hertz() as usize, to.hertz() as usize))
}

impl Bank {
    fn new(from: usize, to: usize) -> Self {
        let common = gcd(from, to);
        let (up, down) = (to / common, from / common);
        // The filter runs at the least common multiple of both rates and spans the same time either way.
        let taps = (TAPS * from / from.min(to)).next_multiple_of(8);
        let length = taps * up;
        let cut_off = CUT_OFF * from.min(to) as f64 / (from * up) as f64;
        let centre = (length - 1) as f64 / 2.0;
        let prototype: Vec<f64> = (0..length)
            .map(|at| {
                let place = at as f64 - centre;
                sinc(2.0 * cut_off * place) * kaiser(place / (centre + 1.0))
            })
            .collect();
        let mut phases = Vec::with_capacity(length);
        for phase in 0..up {
            let of_phase: Vec<f64> = (0..taps).map(|tap| prototype[phase + (taps - 1 - tap) * up]).collect();
            // Every phase passes a constant unchanged, so that none is heard as a tone of its own.
            let sum: f64 = of_phase.iter().sum();
            phases.extend(of_phase.iter().map(|tap| (tap / sum) as f32));
        }
        Bank { up, down, taps, phases }
    }
}

fn sinc(x: f64) -> f64 {
    let angle = std::f64::consts::PI * x;
    if angle.abs() < 1e-9 { 1.0 } else { angle.sin() / angle }
}

/// Kaiser's window at a place of −1 to 1.
fn kaiser(place: f64) -> f64 {
    bessel(KAISER_BETA * (1.0 - place * place).max(0.0).sqrt()) / bessel(KAISER_BETA)
}

/// The modified Bessel function of the first kind and order zero, by its series.
fn bessel(x: f64) -> f64 {
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..40 {
        term *= (x / 2.0 / f64::from(k)).powi(2);
        sum += term;
    }
    sum
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Rates that speech is synthesised at and no line has.
const FILE_RATES: [u32; 5] = [11_025, 12_000, 22_050, 32_000, 44_100];

/// 48 samples of the lower rate.
const TAPS: usize = 48;

/// 0.442 of the lower rate, so that the stop band begins at half of it.
const CUT_OFF: f64 = 0.442;

/// 85 dB by Kaiser's formula, 0.1102 · (85 − 8.7).
const KAISER_BETA: f64 = 8.4;

/// 20 ms at 48 kHz are filtered at once.
const CHUNK: usize = 960;

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [SampleRate; 4] = SampleRate::ALL;

    #[test]
    fn a_frame_of_20_ms_becomes_a_frame_of_20_ms_from_the_first_on() {
        for (from, to) in pairs() {
            let mut resampler = Resampler::new(from, to);
            for _ in 0..10 {
                let mut out = Vec::new();
                resampler.resample(&vec![0; from.hertz() as usize / 50], &mut out);
                assert_eq!(out.len(), to.hertz() as usize / 50, "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn how_a_stream_is_cut_up_changes_nothing() {
        for (from, to) in pairs() {
            let samples = tone(from, 700.0, 4800);
            let (mut whole, mut parts) = (Vec::new(), Vec::new());
            Resampler::new(from, to).resample(&samples, &mut whole);
            let mut resampler = Resampler::new(from, to);
            let mut rest = samples.as_slice();
            for length in [1, 7, 160, 0, 33, 1001, 5].into_iter().cycle() {
                let (part, behind) = rest.split_at(length.min(rest.len()));
                resampler.resample(part, &mut parts);
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            assert_eq!(whole, parts, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn what_both_rates_can_carry_passes_and_the_rest_is_stopped_by_80_db() {
        for (from, to) in pairs() {
            let band = f64::from(from.hertz().min(to.hertz())) / 2.0;
            for part in [0.02, 0.2, 0.5, 0.7, 0.8] {
                let hertz = band * part;
                let (kept, rest) = through(from, to, hertz);
                assert!(kept.abs() < 0.1, "{from:?} to {to:?}: {hertz} Hz comes out at {kept} dB");
                assert!(rest < -80.0, "{from:?} to {to:?}: beside {hertz} Hz there is {rest} dB");
            }
            if from.hertz() > to.hertz() {
                for part in [1.0, 1.05, 1.3, 1.7, 1.99] {
                    let (_, rest) = through(from, to, band * part);
                    assert!(rest < -80.0, "{from:?} to {to:?}: {} Hz fold back at {rest} dB", band * part);
                }
            }
        }
    }

    #[test]
    fn full_scale_saturates_and_does_not_wrap() {
        let square: Vec<i16> = (0..1600).map(|at| if at / 20 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let mut out = Vec::new();
        Resampler::new(SampleRate::Hz8000, SampleRate::Hz16000).resample(&square, &mut out);
        for (at, pair) in out[200..].windows(2).enumerate() {
            assert!(i32::from(pair[0]).abs_diff(i32::from(pair[1])) < 50_000, "a wrap at {at}: {pair:?}");
        }
    }

    #[test]
    fn a_file_s_rate_becomes_a_line_s_with_the_same_quality() {
        for hertz in FILE_RATES {
            for to in ALL {
                let mut resampler = Resampler::of_file(hertz, to).expect("known");
                let step = std::f64::consts::TAU * 1000.0 / f64::from(hertz);
                let second: Vec<i16> =
                    (0..hertz).map(|at| (LOUDNESS * (f64::from(at) * step).sin()).round() as i16).collect();
                let mut out = Vec::new();
                second.chunks(441).for_each(|part| resampler.resample(part, &mut out));
                assert!(out.len().abs_diff(to.hertz() as usize) <= 1, "{hertz} to {to:?}: {}", out.len());
                let (kept, rest) = measured(&out[out.len() / 2..], to, 1000.0);
                assert!(kept.abs() < 0.1 && rest < -80.0, "{hertz} to {to:?}: {kept} dB, beside it {rest} dB");
            }
        }
        assert!(Resampler::of_file(23_000, SampleRate::Hz8000).is_none());
    }

    fn pairs() -> impl Iterator<Item = (SampleRate, SampleRate)> {
        ALL.into_iter().flat_map(|from| ALL.map(|to| (from, to))).filter(|(from, to)| from != to)
    }

    fn tone(rate: SampleRate, hertz: f64, count: usize) -> Vec<i16> {
        let step = std::f64::consts::TAU * hertz / f64::from(rate.hertz());
        (0..count).map(|at| (LOUDNESS * (at as f64 * step).sin()).round() as i16).collect()
    }

    /// How loud a tone comes out, and everything else, against how it went in: in dB.
    ///
    /// 16-bit samples carry noise of their own, 100 dB below.
    fn through(from: SampleRate, to: SampleRate, hertz: f64) -> (f64, f64) {
        let mut out = Vec::new();
        Resampler::new(from, to).resample(&tone(from, hertz, from.hertz() as usize / 2), &mut out);
        measured(&out[to.hertz() as usize / 20..], to, hertz)
    }

    /// How loud a tone is in what came out, and everything else.
    fn measured(out: &[i16], to: SampleRate, hertz: f64) -> (f64, f64) {
        let out: Vec<f64> = out.iter().map(|sample| f64::from(*sample)).collect();
        let step = std::f64::consts::TAU * hertz / f64::from(to.hertz());
        // The least squares' tone: sine and cosine.
        let (mut ss, mut sc, mut cc, mut xs, mut xc) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (at, sample) in out.iter().enumerate() {
            let (sine, cosine) = (step * at as f64).sin_cos();
            ss += sine * sine;
            sc += sine * cosine;
            cc += cosine * cosine;
            xs += sample * sine;
            xc += sample * cosine;
        }
        let determinant = (ss * cc - sc * sc).max(1e-9);
        let (a, b) = ((xs * cc - xc * sc) / determinant, (xc * ss - xs * sc) / determinant);
        let is_folded = hertz >= f64::from(to.hertz()) / 2.0;
        let (a, b) = if is_folded { (0.0, 0.0) } else { (a, b) };
        let rest: f64 = out
            .iter()
            .enumerate()
            .map(|(at, sample)| (sample - a * (step * at as f64).sin() - b * (step * at as f64).cos()).powi(2))
            .sum();
        let decibels = |power: f64| 10.0 * (power / (LOUDNESS * LOUDNESS / 2.0)).max(1e-12).log10();
        (decibels((a * a + b * b) / 2.0), decibels(rest / out.len() as f64))
    }

    const LOUDNESS: f64 = 30_000.0;
}
