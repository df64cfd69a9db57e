//! The audio of a Realtime session: the line's own G.711, or linear samples at 24 kHz where the line is wideband.

use talkstack_media::audio::convert::Converter;
use talkstack_media::audio::frame::{Form, Frame, SampleRate, Speech};
use talkstack_media::codec::Codec;

use crate::agent::wire::decode_base64;

/// The audio either way, in the form that the session was set up for.
pub(super) struct Sound {
    converter: Converter,
    /// What is being coded for or was decoded from the agent.
    pub(super) audio: Vec<u8>,
    /// What the agent has begun of a tick of 125 µs: at 24 kHz six bytes make one.
    begun: Vec<u8>,
    samples: Vec<i16>,
}

impl Sound {
    pub(super) fn new(codec: Codec) -> Self {
        // The protocol has G.711 and linear audio at 24 kHz, and no other.
        let form = match codec.form() {
            form @ (Form::Mulaw | Form::Alaw) => form,
            Form::Linear(_) => Form::Linear(SampleRate::Hz24000),
        };
        Sound {
            converter: Converter::new(form),
            audio: Vec::with_capacity(AUDIO_TICKS * form.tick_bytes()),
            begun: Vec::new(),
            samples: Vec::new(),
        }
    }

    pub(super) fn form(&self) -> Form {
        self.converter.form()
    }

    /// What the line heard, for the agent.
    pub(super) fn of_line(&mut self, frame: &Frame<'_>) -> &[u8] {
        self.audio.clear();
        self.converter.append_frame(frame, &mut self.audio);
        &self.audio
    }

    /// Takes audio of the agent, as base64; `false` if it is none. What is left of a tick waits for the next.
    pub(super) fn handle_delta(&mut self, delta: &str) -> bool {
        if !decode_base64(delta, &mut self.audio) {
            return false;
        }
        let tick_bytes = self.form().tick_bytes();
        if tick_bytes > 1 {
            self.audio.splice(..0, self.begun.drain(..));
            let whole = self.audio.len() / tick_bytes * tick_bytes;
            self.begun.extend(self.audio.drain(whole..));
        }
        true
    }

    /// What the agent has begun belongs to something that nobody wants to hear.
    pub(super) fn forget_begun(&mut self) {
        self.begun.clear();
    }

    /// The length of what the agent said last, in ticks.
    pub(super) fn ticks(&self) -> u64 {
        self.form().ticks(self.audio.len()) as u64
    }

    /// What the agent said last.
    pub(super) fn of_agent(&mut self) -> Speech<'_> {
        match self.converter.form() {
            Form::Mulaw => Speech::Coded(Codec::Pcmu, &self.audio),
            Form::Alaw => Speech::Coded(Codec::Pcma, &self.audio),
            form @ Form::Linear(rate) => {
                self.samples.clear();
                form.decode(&self.audio, &mut self.samples);
                Speech::Samples(rate, &self.samples)
            }
        }
    }
}

/// 160 ms; grows to the agent's chunk size and stays there.
const AUDIO_TICKS: usize = 1280;

#[cfg(test)]
mod tests {
    use base64_simd::STANDARD;

    use super::*;

    #[test]
    fn a_wideband_line_is_heard_and_spoken_to_at_24_khz() {
        let mut sound = Sound::new(Codec::G722);
        assert_eq!(sound.form(), Form::Linear(SampleRate::Hz24000));
        for _ in 0..3 {
            assert_eq!(sound.of_line(&Frame::linear(SampleRate::Hz16000, &[0; 320])).len(), 960);
        }
        // The line has become a narrow one: the session stays what it was set up for.
        assert_eq!(sound.of_line(&Frame::coded(Codec::Pcmu, &[0xff; 160], &[0; 160])).len(), 960);
    }

    #[test]
    fn audio_that_is_cut_anywhere_is_put_together_in_whole_ticks() {
        let mut sound = Sound::new(Codec::Opus);
        let said: Vec<u8> = (0..6000u32).map(|at| (at * 7) as u8).collect();
        let mut heard = Vec::new();
        let mut rest = said.as_slice();
        for length in [1, 5, 2, 7, 960, 3, 13, 1000].into_iter().cycle() {
            let (part, behind) = rest.split_at(length.min(rest.len()));
            assert!(sound.handle_delta(&STANDARD.encode_to_string(part)));
            let ticks = sound.ticks();
            let Speech::Samples(SampleRate::Hz24000, samples) = sound.of_agent() else { panic!("coded") };
            assert_eq!(samples.len() as u64, 3 * ticks);
            heard.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        assert_eq!(heard, said);
        assert!(!sound.handle_delta("!"));
    }

    #[test]
    fn what_nobody_wants_to_hear_does_not_shift_what_follows() {
        let mut sound = Sound::new(Codec::Opus);
        assert!(sound.handle_delta(&STANDARD.encode_to_string([9; 7])));
        sound.forget_begun();
        assert!(sound.handle_delta(&STANDARD.encode_to_string([1; 6])));
        assert!(matches!(sound.of_agent(), Speech::Samples(_, [257, 257, 257])));
    }

    #[test]
    fn a_narrow_line_s_codes_pass_untouched() {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            let mut sound = Sound::new(codec);
            assert_eq!(sound.of_line(&Frame::coded(codec, &[1, 2], &[0; 2])), [1, 2]);
            assert!(sound.handle_delta(&STANDARD.encode_to_string([3, 4, 5])));
            assert_eq!(sound.ticks(), 3);
            assert!(matches!(sound.of_agent(), Speech::Coded(theirs, [3, 4, 5]) if theirs == codec));
        }
    }
}
