//! Tones told from voices: ringing, busy, keys, special information and held notes can be foretold from the milliseconds
//! before them.
//!
//! Eight coefficients of linear prediction (covariance method) foretell four steady frequencies. Over 32 ms what is left
//! of a tone lies 23 dB and more below it, G.711's noise included; of speech, whose pitch moves and whose throat opens
//! anew a hundred times a second, 14 dB in the median, and more than 22 dB in one hop of twelve (people's speech out of
//! Debian's telephone prompts, in G.711).

/// The last 32 ms at 8 kHz.
#[derive(Debug)]
pub(super) struct Tonality {
    history: [f32; HISTORY],
}

impl Default for Tonality {
    fn default() -> Self {
        Tonality { history: [0.0; HISTORY] }
    }
}

impl Tonality {
    /// Hears samples of 16 kHz.
    pub(super) fn handle(&mut self, wide: &[i16]) {
        let count = (wide.len() / 2).min(HISTORY);
        self.history.copy_within(count.., 0);
        for (place, pair) in self.history[HISTORY - count..].iter_mut().zip(wide.as_chunks::<2>().0) {
            *place = (f32::from(pair[0]) + f32::from(pair[1])) / 2.0;
        }
    }

    /// Tells whether the last 32 ms are nothing but a few steady frequencies.
    pub(super) fn is_tone(&self) -> bool {
        let covariance = self.covariance();
        let energy = covariance[0][0];
        energy > 0.0 && energy - explained(&covariance) < energy / GAIN_MIN
    }

    /// The products of the signal with itself, each delayed by 0 to [`ORDER`] samples.
    fn covariance(&self) -> [[f64; ORDER + 1]; ORDER + 1] {
        let mut covariance = [[0.0; ORDER + 1]; ORDER + 1];
        let signal = &self.history;
        for (delay, sum) in covariance[0].iter_mut().enumerate() {
            *sum = dot(&signal[ORDER..], &signal[ORDER - delay..HISTORY - delay]);
        }
        for row in 1..=ORDER {
            for column in row..=ORDER {
                let product = |end: usize| f64::from(signal[end - row]) * f64::from(signal[end - column]);
                covariance[row][column] = covariance[row - 1][column - 1] + product(ORDER) - product(HISTORY);
            }
        }
        covariance
    }
}

/// The energy that the best prediction explains, by Cholesky's decomposition.
fn explained(covariance: &[[f64; ORDER + 1]; ORDER + 1]) -> f64 {
    let mut lower = [[0.0; ORDER]; ORDER];
    let mut solved = [0.0; ORDER];
    for row in 0..ORDER {
        for column in 0..=row {
            let known: f64 = (0..column).map(|at| lower[row][at] * lower[column][at]).sum();
            let rest = covariance[column + 1][row + 1] - known;
            lower[row][column] = if row != column {
                rest / lower[column][column]
            } else if rest > covariance[0][0] * PRECISION {
                rest.sqrt()
            } else {
                // This delay tells nothing that the others do not.
                f64::INFINITY
            };
        }
        let known: f64 = (0..row).map(|at| lower[row][at] * solved[at]).sum();
        solved[row] = (covariance[0][row + 1] - known) / lower[row][row];
    }
    solved.iter().map(|value| value * value).sum()
}

/// Eight sums side by side, so that the compiler adds them at once.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f32; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().map(|sum| f64::from(*sum)).sum()
}

/// Coefficients: two for each frequency.
const ORDER: usize = 8;

/// 32 ms at 8 kHz, two hops: of what has just begun to sound the third hop shows that it is a tone.
const HISTORY: usize = 256;

/// 22 dB.
const GAIN_MIN: f64 = 158.0;

/// What sums of 32-bit floats are good for.
const PRECISION: f64 = 1e-6;
