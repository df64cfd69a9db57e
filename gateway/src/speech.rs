//! Free text as speech, where Debian's `espeak-ng` is installed. Where it is not, the attendant has its prompts.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::prompts::under_noise;

/// Speaks texts, two at once at the most.
#[derive(Debug, Clone)]
pub struct Speaker {
    permits: Arc<Semaphore>,
}

/// A text that was not spoken. Play the nearest prompt.
#[derive(Debug, thiserror::Error)]
pub enum NotSpoken {
    /// The program is not there, or failed.
    #[error("{PROGRAM} cannot be run")]
    Program(#[from] std::io::Error),
    /// Two texts are being spoken already.
    #[error("two texts are being spoken already")]
    Busy,
    /// It took longer than [`SPEAK_MAX`].
    #[error("it took longer than {} s", SPEAK_MAX.as_secs())]
    TimedOut,
    /// What came out is no speech.
    #[error("no speech came out")]
    Output,
}

impl Default for Speaker {
    fn default() -> Self {
        Speaker { permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Speaker {
    /// Speaks a text; samples at 8 kHz. Control characters and anything above [`TEXT_CHARS_MAX`] are left out.
    ///
    /// # Errors
    /// [`NotSpoken`].
    pub async fn speak(&self, text: &str) -> Result<Vec<i16>, NotSpoken> {
        let _permit = self.permits.try_acquire().map_err(|_| NotSpoken::Busy)?;
        tokio::time::timeout(SPEAK_MAX, run(plain(text))).await.map_err(|_| NotSpoken::TimedOut)?
    }
}

async fn run(text: String) -> Result<Vec<i16>, NotSpoken> {
    let mut child = Command::new(PROGRAM)
        .args(ARGUMENTS)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A call that ends or a text that takes too long leaves no process behind.
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    // The header, whose lengths a pipe leaves open; then 16-bit samples at 22,050 Hz.
    let samples = output.stdout.get(WAV_HEADER_BYTES..).filter(|_| output.status.success()).ok_or(NotSpoken::Output)?;
    let (pairs, _) = samples.as_chunks::<2>();
    let samples: Vec<i16> = pairs.iter().map(|pair| i16::from_le_bytes(*pair)).collect();
    if samples.is_empty() { Err(NotSpoken::Output) } else { Ok(under_noise(to_8_khz(&samples))) }
}

/// What may be spoken: no control characters, nothing that the program could take for markup.
fn plain(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control() && !"<>[]&".contains(*letter)).take(TEXT_CHARS_MAX).collect()
}

/// Resamples from 22,050 Hz by a windowed sinc, cut off below 4 kHz.
fn to_8_khz(samples: &[i16]) -> Vec<i16> {
    let step = SPOKEN_RATE / 8000.0;
    let count = (samples.len() as f32 / step) as usize;
    (0..count)
        .map(|at| {
            let center = at as f32 * step;
            let first = (center - HALF_TAPS).ceil().max(0.0) as usize;
            let last = ((center + HALF_TAPS) as usize).min(samples.len() - 1);
            let (mut sum, mut weights) = (0.0, 0.0);
            for (offset, sample) in samples[first..=last].iter().enumerate() {
                let distance = (first + offset) as f32 - center;
                let angle = std::f32::consts::PI * distance;
                let phase = angle * CUT_OFF;
                let sinc = if phase.abs() < 1e-4 { 1.0 } else { phase.sin() / phase };
                let weight = sinc * (0.5 + 0.5 * (angle / HALF_TAPS).cos());
                sum += weight * f32::from(*sample);
                weights += weight;
            }
            (sum / weights).clamp(-32_768.0, 32_767.0) as i16
        })
        .collect()
}

/// A fixed path: nothing of the environment chooses what runs.
const PROGRAM: &str = "/usr/bin/espeak-ng";

/// A fixed voice and speed; the text comes by stdin, so no text can be an option.
const ARGUMENTS: [&str; 8] = ["-v", "en-gb", "-s", "150", "-b", "1", "--stdin", "--stdout"];

/// Two processes at once: one core stays with the calls.
const AT_ONCE: usize = 2;

/// 2 s; a sentence takes 50 ms.
pub const SPEAK_MAX: Duration = Duration::from_secs(2);

/// 500 characters: half a minute of speech.
pub const TEXT_CHARS_MAX: usize = 500;

/// RIFF, format and data chunk.
const WAV_HEADER_BYTES: usize = 44;

/// What espeak-ng's voices are synthesised at.
const SPOKEN_RATE: f32 = 22_050.0;

/// 24 input samples to each side: 1 ms, stop band below −50 dB.
const HALF_TAPS: f32 = 24.0;

/// 3.6 kHz of the input's 11.025.
const CUT_OFF: f32 = 3600.0 / 11_025.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resampling_keeps_a_tone_and_removes_what_8_khz_cannot_carry() {
        let tone = |hertz: f32| -> Vec<i16> {
            (0..22_050)
                .map(|at| (10_000.0 * (at as f32 * hertz * std::f32::consts::TAU / SPOKEN_RATE).sin()) as i16)
                .collect()
        };
        let level = |samples: &[i16]| {
            let inner = &samples[100..samples.len() - 100];
            (inner.iter().map(|sample| f32::from(*sample).powi(2)).sum::<f32>() / inner.len() as f32).sqrt()
        };
        let (kept, removed) = (to_8_khz(&tone(1000.0)), to_8_khz(&tone(6000.0)));
        assert_eq!(kept.len(), 8000);
        assert!((level(&kept) - 7071.0).abs() < 100.0, "{}", level(&kept));
        assert!(level(&removed) < 50.0, "{}", level(&removed));
    }

    #[test]
    fn what_could_be_markup_or_an_escape_is_not_spoken() {
        assert_eq!(plain("Dr. <b>Who</b>\u{1b}[31m & Co\n"), "Dr. bWho/b31m  Co");
        assert_eq!(plain(&"x".repeat(1000)).len(), TEXT_CHARS_MAX);
    }

    #[tokio::test]
    async fn a_sentence_is_spoken_where_the_program_is_installed() {
        if !std::path::Path::new(PROGRAM).exists() {
            eprintln!("skipped: {PROGRAM} is not installed");
            return;
        }
        let samples = Speaker::default().speak("You have reached Jack.").await.expect("speaks");
        assert!((4_000..40_000).contains(&samples.len()), "{} samples", samples.len());
        assert!(samples.iter().any(|sample| sample.unsigned_abs() > 3_000));
    }
}
