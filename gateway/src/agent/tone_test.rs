//! The agent of a trunk's test call: plays a tone and measures what comes back.

use std::time::{Duration, Instant};

use talkstack_media::audio::convert::RateConverter;
use talkstack_media::audio::frame::{Frame, SampleRate, Speech};

use super::{AgentOutput, Progress};

/// Plays 1,000 Hz and listens for it, until it has heard enough or [`LISTEN_MAX`] is over.
#[derive(Debug)]
pub struct ToneTest {
    began: Option<Instant>,
    is_over: bool,
    heard: ToneHeard,
    converter: RateConverter,
    samples: Vec<i16>,
}

impl Default for ToneTest {
    fn default() -> Self {
        let converter = RateConverter::new(SampleRate::Hz8000);
        ToneTest { began: None, is_over: false, heard: ToneHeard::default(), converter, samples: Vec::new() }
    }
}

/// What came back in a test call, in frames of 20 ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ToneHeard {
    /// In which something was to be heard at all.
    pub audible: u32,
    /// In which it was the tone.
    pub tone: u32,
}

impl ToneHeard {
    /// Tells whether the tone has come back for so long that it was no chance.
    pub fn is_echoed(self) -> bool {
        self.tone >= TONE_FRAMES
    }
}

impl ToneTest {
    /// Hears a stretch of the far end's audio.
    pub fn handle_audio(&mut self, frame: &Frame<'_>) {
        self.samples.clear();
        self.converter.append(frame.rate, frame.samples, &mut self.samples);
        for samples in self.samples.chunks_exact(FRAME_SAMPLES) {
            let energy: f32 = samples.iter().map(|sample| f32::from(*sample).powi(2)).sum();
            if energy / FRAME_SAMPLES as f32 <= AUDIBLE_POWER {
                continue;
            }
            self.heard.audible = self.heard.audible.saturating_add(1);
            if tone_share(samples, energy) >= TONE_SHARE {
                self.heard.tone = self.heard.tone.saturating_add(1);
            }
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.is_over = true;
        }
    }

    /// Returns the next stretch of the tone, or the wish to hang up.
    pub fn poll_output(&mut self, progress: Progress, now: Instant) -> Option<AgentOutput<'_>> {
        self.began.get_or_insert(now);
        if self.is_over || self.heard.is_echoed() {
            return Some(AgentOutput::HangUp);
        }
        let waiting = progress.pushed.saturating_sub(progress.played);
        (waiting < AHEAD_BYTES).then_some(AgentOutput::Play(Speech::Samples(SampleRate::Hz8000, &TONE)))
    }

    /// When the test is over at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.began.filter(|_| !self.is_over).map(|began| began + LISTEN_MAX)
    }

    /// What has come back so far.
    pub fn heard(&self) -> ToneHeard {
        self.heard
    }
}

/// The share of the energy that lies at 1,000 Hz, by Goertzel's algorithm, 0 to 1.
fn tone_share(samples: &[i16], energy: f32) -> f32 {
    let (mut last, mut before) = (0.0f32, 0.0f32);
    for sample in samples {
        (last, before) = (f32::from(*sample) + GOERTZEL * last - before, last);
    }
    let power = last * last + before * before - GOERTZEL * last * before;
    // A pure tone of amplitude A has A²N²/4 here and A²N/2 of energy.
    power / (energy * samples.len() as f32 / 2.0)
}

/// 8 s: past the latest first report of a far end (7.5 s, RFC 3550 §6.2), within the time a test has.
pub const LISTEN_MAX: Duration = Duration::from_secs(8);

/// 50 frames, 1 s: longer than any announcement hits one pitch.
const TONE_FRAMES: u32 = 50;

/// 0.6: a G.711 echo of the tone has 0.99, speech and music seldom a third.
const TONE_SHARE: f32 = 0.6;

/// 10,000, an RMS of 100, −50 dB: above the comfort noise of any codec.
const AUDIBLE_POWER: f32 = 10_000.0;

/// 480 bytes, 60 ms: the tone has no gaps, and hardly anything is left to play when the test is over.
const AHEAD_BYTES: u64 = 480;

/// 160 samples, 20 ms at 8,000 a second.
const FRAME_SAMPLES: usize = 160;

/// 2·cos(2π · 1,000 / 8,000).
const GOERTZEL: f32 = std::f32::consts::SQRT_2;

/// 20 cycles of 1,000 Hz at 8,000 samples a second, an amplitude of 8,000: −12 dB, loud and not distorted.
static TONE: [i16; FRAME_SAMPLES] = tone();

const fn tone() -> [i16; FRAME_SAMPLES] {
    // sin(0°), sin(45°), … times 8,000.
    let cycle = [0, 5657, 8000, 5657, 0, -5657, -8000, -5657];
    let mut samples = [0; FRAME_SAMPLES];
    let mut at = 0;
    while at < FRAME_SAMPLES {
        samples[at] = cycle[at % 8];
        at += 1;
    }
    samples
}

#[cfg(test)]
mod tests {
    use talkstack_media::codec::Codec;

    use super::*;

    #[test]
    fn the_tone_is_known_again_behind_either_codec_at_any_phase_and_level() {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            for (shift, divided_by) in [(0, 1), (3, 1), (1, 10), (5, 40)] {
                let echo: Vec<i16> = (0..160).map(|at| TONE[(at + shift) % 8] / divided_by).collect();
                let (mut coded, mut samples) = (Vec::new(), Vec::new());
                codec.encode(&echo, &mut coded);
                codec.decode(&coded, &mut samples);
                assert_eq!(heard(&samples), ToneHeard { audible: 1, tone: 1 }, "{codec:?} {shift} {divided_by}");
            }
        }
    }

    #[test]
    fn other_sounds_are_heard_and_are_no_echo_and_silence_is_nothing() {
        let pitch = |hertz: f32| {
            let sine = |at: usize| (8000.0 * (at as f32 * hertz * std::f32::consts::TAU / 8000.0).sin()) as i16;
            (0..160).map(sine).collect::<Vec<_>>()
        };
        for hertz in [200.0, 425.0, 850.0, 1150.0, 1400.0, 2000.0, 3000.0] {
            assert_eq!(heard(&pitch(hertz)), ToneHeard { audible: 1, tone: 0 }, "{hertz} Hz");
        }
        let mut random = 0x2545_f491u32;
        let mut noise = || {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            (random as i16) / 8
        };
        let noise: Vec<i16> = (0..160).map(|_| noise()).collect();
        assert_eq!(heard(&noise), ToneHeard { audible: 1, tone: 0 });
        assert_eq!(heard(&[0; 160]), ToneHeard::default());
        assert_eq!(heard(&[30; 160]), ToneHeard::default());
    }

    #[test]
    fn the_tone_has_no_gap_and_the_call_ends_after_a_second_of_echo_or_at_its_time() {
        let start = Instant::now();
        let mut test = ToneTest::default();
        let mut progress = Progress::default();
        for at in 0..100u32 {
            let now = start + Duration::from_millis(20) * at;
            while let Some(AgentOutput::Play(Speech::Samples(_, samples))) = test.poll_output(progress, now) {
                progress.pushed += samples.len() as u64;
            }
            assert!(progress.pushed - progress.played >= AHEAD_BYTES);
            progress.played += 160;
        }
        assert_eq!(test.poll_timeout(), Some(start + LISTEN_MAX));
        test.handle_timeout(start + LISTEN_MAX);
        assert!(matches!(test.poll_output(progress, start), Some(AgentOutput::HangUp)));
        let mut test = ToneTest::default();
        for _ in 0..TONE_FRAMES {
            assert!(matches!(test.poll_output(Progress::default(), start), Some(AgentOutput::Play(_))));
            test.handle_audio(&Frame::linear(SampleRate::Hz8000, &TONE));
        }
        assert!(matches!(test.poll_output(Progress::default(), start), Some(AgentOutput::HangUp)));
    }

    fn heard(samples: &[i16]) -> ToneHeard {
        let mut test = ToneTest::default();
        test.handle_audio(&Frame::linear(SampleRate::Hz8000, samples));
        test.heard()
    }
}
