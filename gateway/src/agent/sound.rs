//! The audio of a session with a service: what the line heard in the service's form, and what the service said.

use talkstack_media::audio::convert::Converter;
use talkstack_media::audio::frame::{Form, Frame, Speech};
use talkstack_media::codec::Codec;

use super::wire::decode_base64;

/// The audio either way.
#[derive(Debug)]
pub(super) struct Sound {
    converter: Converter,
    said: Form,
    /// What is being coded for or was decoded from the agent.
    pub(super) audio: Vec<u8>,
    /// What the agent has begun of a tick of 125 µs: at 24 kHz six bytes make one.
    begun: Vec<u8>,
    samples: Vec<i16>,
    /// Where one more part of a message is decoded.
    part: Vec<u8>,
}

impl Sound {
    /// Audio that has this form both ways.
    pub(super) fn new(form: Form) -> Self {
        Sound {
            converter: Converter::new(form),
            said: form,
            audio: Vec::with_capacity(AUDIO_TICKS * form.tick_bytes()),
            begun: Vec::new(),
            samples: Vec::new(),
            part: Vec::new(),
        }
    }

    /// What the service hears.
    pub(super) fn form(&self) -> Form {
        self.converter.form()
    }

    /// What the service says comes in another form than it hears. What is left of a tick is forgotten.
    pub(super) fn set_said(&mut self, form: Form) {
        if form != self.said {
            self.said = form;
            self.begun.clear();
        }
    }

    /// What the line heard, for the agent.
    pub(super) fn of_line(&mut self, frame: &Frame<'_>) -> &[u8] {
        self.audio.clear();
        self.converter.append_frame(frame, &mut self.audio);
        &self.audio
    }

    /// Takes audio of the agent, as base64; `false` if it is none. What is left of a tick waits for the next.
    pub(super) fn handle_base64(&mut self, text: &str) -> bool {
        if !decode_base64(text, &mut self.audio) {
            return false;
        }
        self.keep_whole_ticks();
        true
    }

    /// Takes more audio of the same message; what is no base64 is left out.
    pub(super) fn append_base64(&mut self, text: &str) {
        std::mem::swap(&mut self.audio, &mut self.part);
        self.handle_base64(text);
        std::mem::swap(&mut self.audio, &mut self.part);
        self.audio.extend_from_slice(&self.part);
    }

    /// Takes audio of the agent as it is. What is left of a tick waits for the next.
    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) {
        self.audio.clear();
        self.audio.extend_from_slice(bytes);
        self.keep_whole_ticks();
    }

    fn keep_whole_ticks(&mut self) {
        let tick_bytes = self.said.tick_bytes();
        if tick_bytes > 1 {
            self.audio.splice(..0, self.begun.drain(..));
            let whole = self.audio.len() / tick_bytes * tick_bytes;
            self.begun.extend(self.audio.drain(whole..));
        }
    }

    /// What the agent has begun belongs to something that nobody wants to hear.
    pub(super) fn forget_begun(&mut self) {
        self.begun.clear();
    }

    /// The length of what the agent said last, in ticks.
    pub(super) fn ticks(&self) -> u64 {
        self.said.ticks(self.audio.len()) as u64
    }

    /// What the agent said last.
    pub(super) fn of_agent(&mut self) -> Speech<'_> {
        match self.said {
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
    use talkstack_media::audio::frame::SampleRate;

    use super::*;

    #[test]
    fn a_wideband_line_is_heard_and_spoken_to_at_24_khz() {
        let mut sound = Sound::new(WIDE);
        assert_eq!(sound.form(), Form::Linear(SampleRate::Hz24000));
        for _ in 0..3 {
            assert_eq!(sound.of_line(&Frame::linear(SampleRate::Hz16000, &[0; 320])).len(), 960);
        }
        // The line has become a narrow one: the session stays what it was set up for.
        assert_eq!(sound.of_line(&Frame::coded(Codec::Pcmu, &[0xff; 160], &[0; 160])).len(), 960);
    }

    #[test]
    fn audio_that_is_cut_anywhere_is_put_together_in_whole_ticks() {
        let mut sound = Sound::new(WIDE);
        let said: Vec<u8> = (0..6000u32).map(|at| (at * 7) as u8).collect();
        let mut heard = Vec::new();
        let mut rest = said.as_slice();
        for length in [1, 5, 2, 7, 960, 3, 13, 1000].into_iter().cycle() {
            let (part, behind) = rest.split_at(length.min(rest.len()));
            assert!(sound.handle_base64(&STANDARD.encode_to_string(part)));
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
        assert!(!sound.handle_base64("!"));
    }

    #[test]
    fn what_nobody_wants_to_hear_does_not_shift_what_follows() {
        let mut sound = Sound::new(WIDE);
        assert!(sound.handle_base64(&STANDARD.encode_to_string([9; 7])));
        sound.forget_begun();
        assert!(sound.handle_base64(&STANDARD.encode_to_string([1; 6])));
        assert!(matches!(sound.of_agent(), Speech::Samples(_, [257, 257, 257])));
    }

    #[test]
    fn a_narrow_line_s_codes_pass_untouched() {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            let mut sound = Sound::new(codec.form());
            assert_eq!(sound.of_line(&Frame::coded(codec, &[1, 2], &[0; 2])), [1, 2]);
            assert!(sound.handle_base64(&STANDARD.encode_to_string([3, 4, 5])));
            assert_eq!(sound.ticks(), 3);
            assert!(matches!(sound.of_agent(), Speech::Coded(theirs, [3, 4, 5]) if theirs == codec));
        }
    }

    const WIDE: Form = Form::Linear(SampleRate::Hz24000);
}
