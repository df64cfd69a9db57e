//! From speech to payloads: one conversion into the form that waits, one coding of what is sent.

use super::noise;
use crate::audio::convert::Converter;
use crate::audio::frame::{Form, Speech};
use crate::audio::level::Level;
use crate::audio::playout::Packing;
use crate::codec::coder::Encoder;
use crate::codec::opus::Wishes;
use crate::sdp::Negotiated;

/// One outgoing stream's encoder.
#[derive(Debug)]
pub(super) struct Speaking {
    encoder: Encoder,
    wishes: Wishes,
    converter: Converter,
    converted: Vec<u8>,
    /// The frame that leaves, in the leg's form; its samples, for G.711 only where they are measured; and its payload.
    pub(super) frame: Vec<u8>,
    samples: Vec<i16>,
    payload: Vec<u8>,
    noise_at: usize,
    /// A frame was not sent: the next one begins a talk spurt.
    was_left_out: bool,
}

/// What a leg's audio is cut up into, as was agreed on.
pub(super) fn packing(negotiated: &Negotiated) -> Packing {
    let codec = negotiated.codec;
    Packing { form: codec.form(), tick_units: codec.tick_units(), ticks: u32::from(negotiated.ptime_ms) * 8 }
}

impl Speaking {
    pub(super) fn new(negotiated: &Negotiated) -> Self {
        Speaking {
            encoder: Encoder::new(negotiated.codec, negotiated.opus),
            wishes: negotiated.opus,
            converter: Converter::new(negotiated.codec.form()),
            converted: Vec::new(),
            frame: Vec::new(),
            samples: Vec::new(),
            payload: Vec::new(),
            noise_at: 0,
            was_left_out: false,
        }
    }

    /// The stream goes on as was agreed on anew.
    pub(super) fn renegotiate(&mut self, former: &Negotiated, negotiated: &Negotiated) {
        if former.codec != negotiated.codec || self.wishes != negotiated.opus {
            self.encoder = Encoder::new(negotiated.codec, negotiated.opus);
            self.wishes = negotiated.opus;
            self.converter.set_form(negotiated.codec.form());
        }
    }

    /// Speech in the leg's form.
    pub(super) fn convert<'a>(&'a mut self, speech: Speech<'a>) -> &'a [u8] {
        match (speech, self.converter.form()) {
            (Speech::Coded(codec, bytes), form) if codec.form() == form => bytes,
            _ => {
                self.converted.clear();
                self.converter.append_speech(speech, &mut self.converted);
                &self.converted
            }
        }
    }

    /// Fills the frame with soft noise.
    pub(super) fn fill_noise(&mut self, packing: Packing) {
        noise::fill(packing.form, packing.ticks, &mut self.noise_at, &mut self.frame);
    }

    /// Has the frame's loudness counted.
    pub(super) fn measure(&mut self, level: &mut Level) {
        self.samples.clear();
        self.converter.form().decode(&self.frame, &mut self.samples);
        level.handle(&self.samples);
    }

    /// Codes the frame. Returns its payload, and whether it begins a talk spurt where `marker` does not say so; `None` if
    /// it need not be sent.
    pub(super) fn code(&mut self, marker: bool) -> Option<(&[u8], bool)> {
        let payload = match (&mut self.encoder, self.converter.form()) {
            (Encoder::G711(_), _) => &self.frame,
            (encoder, form) => {
                self.samples.clear();
                form.decode(&self.frame, &mut self.samples);
                self.payload.clear();
                encoder.encode(&self.samples, &mut self.payload);
                &self.payload
            }
        };
        if payload.is_empty() {
            self.was_left_out = true;
            return None;
        }
        Some((payload, std::mem::take(&mut self.was_left_out) || marker))
    }

    /// What the last frame sounds like, where its payload does not say so by itself.
    pub(super) fn sent(&self) -> Option<Speech<'_>> {
        match self.converter.form() {
            Form::Mulaw | Form::Alaw => None,
            Form::Linear(rate) => Some(Speech::Samples(rate, &self.samples)),
        }
    }
}
