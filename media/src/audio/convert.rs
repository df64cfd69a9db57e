//! From whatever form audio comes in to the one that is wanted, with at most one resampling.

use super::frame::{Form, Frame, SampleRate, Speech};
use super::resample::Resampler;
use crate::codec::Codec;

/// Turns one stream into a form. The stream may change its own form at any time.
#[derive(Debug)]
pub struct Converter {
    form: Form,
    rates: RateConverter,
    decoded: Vec<i16>,
    resampled: Vec<i16>,
}

/// Turns one stream of samples into a rate.
#[derive(Debug)]
pub struct RateConverter {
    to: SampleRate,
    resampler: Option<(SampleRate, Resampler)>,
}

impl Converter {
    /// Starts a stream that comes out in `form`.
    pub fn new(form: Form) -> Self {
        Converter { form, rates: RateConverter::new(form.rate()), decoded: Vec::new(), resampled: Vec::new() }
    }

    /// The form that comes out.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Another form is wanted from here on.
    pub fn set_form(&mut self, form: Form) {
        if form != self.form {
            self.form = form;
            self.rates = RateConverter::new(form.rate());
        }
    }

    /// Appends a frame, without recoding when it came in the form.
    pub fn append_frame(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) {
        match frame.coded {
            Some((codec, bytes)) if is_form(codec, self.form) => out.extend_from_slice(bytes),
            _ => self.append_samples(frame.rate, frame.samples, out),
        }
    }

    /// Appends speech, without recoding when it comes in the form.
    pub fn append_speech(&mut self, speech: Speech<'_>, out: &mut Vec<u8>) {
        match speech {
            Speech::Coded(codec, bytes) if is_form(codec, self.form) => out.extend_from_slice(bytes),
            Speech::Coded(codec, bytes) => {
                let mut decoded = std::mem::take(&mut self.decoded);
                decoded.clear();
                codec.decode(bytes, &mut decoded);
                self.append_samples(codec.rate(), &decoded, out);
                self.decoded = decoded;
            }
            Speech::Samples(rate, samples) => self.append_samples(rate, samples, out),
        }
    }

    /// Appends bytes that lie in another form.
    pub fn append_bytes(&mut self, form: Form, bytes: &[u8], out: &mut Vec<u8>) {
        if form == self.form {
            return out.extend_from_slice(bytes);
        }
        let mut decoded = std::mem::take(&mut self.decoded);
        decoded.clear();
        form.decode(bytes, &mut decoded);
        self.append_samples(form.rate(), &decoded, out);
        self.decoded = decoded;
    }

    fn append_samples(&mut self, rate: SampleRate, samples: &[i16], out: &mut Vec<u8>) {
        if rate == self.form.rate() {
            return self.form.encode(samples, out);
        }
        self.resampled.clear();
        self.rates.append(rate, samples, &mut self.resampled);
        self.form.encode(&self.resampled, out);
    }
}

impl RateConverter {
    /// Starts a stream that comes out at a rate.
    pub fn new(to: SampleRate) -> Self {
        RateConverter { to, resampler: None }
    }

    /// Appends samples; those of the rate itself are passed on as they are.
    pub fn append(&mut self, rate: SampleRate, samples: &[i16], out: &mut Vec<i16>) {
        if rate == self.to {
            return out.extend_from_slice(samples);
        }
        if self.resampler.as_ref().is_none_or(|(from, _)| *from != rate) {
            self.resampler = Some((rate, Resampler::new(rate, self.to)));
        }
        if let Some((_, resampler)) = &mut self.resampler {
            resampler.resample(samples, out);
        }
    }
}

fn is_form(codec: Codec, form: Form) -> bool {
    matches!((codec, form), (Codec::Pcmu, Form::Mulaw) | (Codec::Pcma, Form::Alaw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_the_form_that_is_wanted_passes_untouched() {
        let mut converter = Converter::new(Form::Alaw);
        let mut out = Vec::new();
        let frame = Frame::coded(Codec::Pcma, &[1, 2, 3], &[0; 3]);
        converter.append_frame(&frame, &mut out);
        converter.append_speech(Speech::Coded(Codec::Pcma, &[4]), &mut out);
        converter.append_bytes(Form::Alaw, &[5], &mut out);
        assert_eq!(out, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn ticks_stay_ticks_from_any_form_to_any_other() {
        let rates = SampleRate::ALL.map(Form::Linear);
        let forms = [Form::Mulaw, Form::Alaw].into_iter().chain(rates);
        for from in forms.clone() {
            for to in forms.clone() {
                let mut converter = Converter::new(to);
                for ticks in [160, 1, 79, 3, 480] {
                    let mut out = Vec::new();
                    converter.append_bytes(from, &vec![0; ticks * from.tick_bytes()], &mut out);
                    assert_eq!(out.len(), ticks * to.tick_bytes(), "{from:?} to {to:?}");
                }
            }
        }
    }

    #[test]
    fn a_stream_that_changes_its_rate_goes_on() {
        let mut converter = Converter::new(Form::Mulaw);
        let mut out = Vec::new();
        for (rate, count) in [(SampleRate::Hz16000, 320), (SampleRate::Hz8000, 160), (SampleRate::Hz24000, 480)] {
            converter.append_speech(Speech::Samples(rate, &vec![1000; count]), &mut out);
        }
        assert_eq!(out.len(), 480);
        let mut samples = Vec::new();
        Codec::Pcmu.decode(&out[200..320], &mut samples);
        assert!(samples.iter().all(|sample| sample.abs_diff(1000) < 40), "{samples:?}");
    }
}
