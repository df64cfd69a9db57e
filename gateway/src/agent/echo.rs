//! The echo agent: the caller hears themselves, for testing a line in both directions.

use talkstack_media::audio::frame::{Frame, SampleRate, Speech};
use talkstack_media::audio::playout::CUSHION_MAX;
use talkstack_media::codec::Codec;

use super::{AgentOutput, Progress};

/// Says back what it hears, in the codec or at the rate it came in.
#[derive(Debug, Default)]
pub struct Echo {
    heard: Vec<u8>,
    codec: Option<Codec>,
    /// What is heard of a line that speaks no G.711.
    samples: Vec<i16>,
    wide: Option<SampleRate>,
    is_due: bool,
    backlog: Backlog,
}

/// What has waited to be played all the time, in ticks of 125 µs: delay that no jitter needs.
#[derive(Debug, Default)]
struct Backlog {
    least: u64,
    frames: u32,
}

impl Echo {
    /// Hears a stretch of audio.
    pub fn handle_audio(&mut self, frame: &Frame<'_>) {
        if frame.rate != SampleRate::Hz8000 {
            return self.handle_wide(frame);
        }
        if self.wide.take().is_some() {
            self.is_due = false;
        }
        // What was made up comes in no codec; the leg's last one spares a recoding.
        let codec = frame.coded.map_or(self.codec.unwrap_or(Codec::Pcmu), |(codec, _)| codec);
        if !self.is_due || self.codec != Some(codec) {
            self.heard.clear();
        }
        // A call polls after each frame; without it the oldest audio would go first.
        if self.heard.len() < HEARD_BYTES_MAX {
            match frame.coded {
                Some((_, bytes)) => self.heard.extend_from_slice(bytes),
                None => codec.encode(frame.samples, &mut self.heard),
            }
        }
        self.codec = Some(codec);
        self.is_due = true;
    }

    fn handle_wide(&mut self, frame: &Frame<'_>) {
        if !self.is_due || self.wide != Some(frame.rate) {
            self.samples.clear();
        }
        if self.samples.len() < HEARD_BYTES_MAX * frame.rate.tick_samples() {
            self.samples.extend_from_slice(frame.samples);
        }
        self.wide = Some(frame.rate);
        self.is_due = true;
    }

    /// Returns what was heard, once. An echo that has fallen behind is not added to: a caller's fast clock, or packets
    /// that were held up, would delay it for the rest of the talk spurt.
    pub fn poll_output(&mut self, progress: Progress) -> Option<AgentOutput<'_>> {
        if !std::mem::take(&mut self.is_due) {
            return None;
        }
        let behind = progress.pushed.saturating_sub(progress.played);
        if self.backlog.is_needless(behind) || behind > BEHIND_TICKS_MAX {
            return None;
        }
        Some(AgentOutput::Play(match self.wide {
            Some(rate) => Speech::Samples(rate, &self.samples),
            None => Speech::Coded(self.codec?, &self.heard),
        }))
    }
}

impl Backlog {
    /// Tells whether a frame may be left out: at no time within the last [`BACKLOG_FRAMES`] was so little waiting that
    /// it was needed.
    fn is_needless(&mut self, waiting: u64) -> bool {
        self.least = if self.frames == 0 { waiting } else { self.least.min(waiting) };
        self.frames += 1;
        if self.frames < BACKLOG_FRAMES {
            return false;
        }
        self.frames = 0;
        self.least > NEEDED_TICKS
    }
}

/// 3 frames, 60 ms: longer than a network that still carries speech keeps packets back. 80 ms too much are gone in 240 ms.
const BACKLOG_FRAMES: u32 = 3;

/// 480 ticks, 60 ms: what playout keeps against holes in what is heard ([`CUSHION_MAX`]), and the frame that is due next.
const NEEDED_TICKS: u64 = CUSHION_MAX.as_millis() as u64 * 8 + 160;

/// 1,600 ticks, 200 ms: as much as audio may come late and still be heard.
const BEHIND_TICKS_MAX: u64 = 1_600;

/// 8,000 bytes, 1 s: more than the longest stretch of lost audio that is concealed at once.
const HEARD_BYTES_MAX: usize = 8_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_that_has_fallen_behind_catches_up() {
        let mut echo = Echo::default();
        let played = |echo: &mut Echo, behind: u64| {
            echo.handle_audio(&Frame::coded(Codec::Pcma, &[1; 160], &[0; 160]));
            echo.poll_output(Progress { pushed: 9000 + behind, played: 9000 }).is_some()
        };
        assert!(played(&mut echo, 160));
        assert!(played(&mut echo, BEHIND_TICKS_MAX));
        assert!(!played(&mut echo, BEHIND_TICKS_MAX + 1));
        assert!(played(&mut echo, BEHIND_TICKS_MAX), "and goes on");
    }

    #[test]
    fn a_backlog_that_stays_is_shortened_and_one_that_comes_and_goes_is_not() {
        let mut echo = Echo::default();
        let mut played = |waiting: u64| {
            echo.handle_audio(&Frame::coded(Codec::Pcma, &[1; 160], &[0; 160]));
            echo.poll_output(Progress { pushed: 9000 + waiting, played: 9000 }).is_some()
        };
        let stays: Vec<bool> = (0..6).map(|_| played(NEEDED_TICKS + 160)).collect();
        assert_eq!(stays, [true, true, false, true, true, false]);
        assert!([800, 0, 800, 800, 160, 800].map(&mut played).iter().all(|was_played| *was_played));
    }

    #[test]
    fn audio_that_was_made_up_keeps_the_leg_s_codec() {
        let mut echo = Echo::default();
        echo.handle_audio(&Frame::coded(Codec::Pcma, &[1], &[0; 1]));
        echo.handle_audio(&Frame::linear(SampleRate::Hz8000, &[0; 1]));
        let output = echo.poll_output(Progress::default());
        assert!(matches!(output, Some(AgentOutput::Play(Speech::Coded(Codec::Pcma, [1, 0xd5])))), "{output:?}");
    }
    #[test]
    fn a_wideband_line_hears_itself_wide_and_one_that_changes_hears_no_rest_of_the_former() {
        let mut echo = Echo::default();
        echo.handle_audio(&Frame::linear(SampleRate::Hz16000, &[5; 2]));
        echo.handle_audio(&Frame::linear(SampleRate::Hz16000, &[6; 2]));
        let output = echo.poll_output(Progress::default());
        let is_wide = matches!(output, Some(AgentOutput::Play(Speech::Samples(SampleRate::Hz16000, [5, 5, 6, 6]))));
        assert!(is_wide, "{output:?}");
        echo.handle_audio(&Frame::linear(SampleRate::Hz16000, &[7; 2]));
        echo.handle_audio(&Frame::coded(Codec::Pcma, &[1], &[0; 1]));
        let output = echo.poll_output(Progress::default());
        assert!(matches!(output, Some(AgentOutput::Play(Speech::Coded(Codec::Pcma, [1])))), "{output:?}");
    }
}
