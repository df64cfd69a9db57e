//! From payloads to samples: decoding, and what stands for what was lost or never sent.

use crate::audio::recording::Origin;
use crate::codec::Codec;
use crate::codec::coder::Decoder;
use crate::codec::plc::Concealer;
use crate::rtp::receiver::Receiver;

/// One incoming stream's decoder.
#[derive(Debug)]
pub(super) struct Hearing {
    codec: Codec,
    decoder: Decoder,
    concealer: Concealer,
}

impl Hearing {
    pub(super) fn new(codec: Codec) -> Self {
        Hearing { codec, decoder: Decoder::new(codec), concealer: Concealer::new(codec.rate().hertz()) }
    }

    /// The stream goes on in another codec.
    pub(super) fn set_codec(&mut self, codec: Codec) {
        if codec != self.codec {
            *self = Hearing::new(codec);
        }
    }

    /// The codec, where its bytes mean the same wherever they stand.
    pub(super) fn plain_codec(&self) -> Option<Codec> {
        matches!(self.decoder, Decoder::G711(_)).then_some(self.codec)
    }

    /// Samples of so many timestamp units.
    pub(super) fn samples(&self, units: usize) -> usize {
        units / self.codec.tick_units() as usize * self.codec.rate().tick_samples()
    }

    /// Timestamp units of so many samples.
    pub(super) fn units(&self, samples: usize) -> usize {
        samples / self.codec.rate().tick_samples() * self.codec.tick_units() as usize
    }

    /// Returns whether the samples are no longer what was coded, because they join on to concealed ones.
    pub(super) fn decode(&mut self, payload: &[u8], samples: &mut Vec<i16>) -> bool {
        self.decoder.decode(payload, samples);
        self.concealer.handle_received(samples)
    }

    /// So many timestamp units were lost. Opus finds some of them in the packet that comes next.
    pub(super) fn conceal(&mut self, units: usize, receiver: &Receiver, samples: &mut Vec<i16>) {
        let count = self.samples(units);
        match &mut self.decoder {
            Decoder::Opus(decoder) => decoder.conceal(count, receiver.next_payload(), samples),
            Decoder::G711(_) | Decoder::G722(_) => self.concealer.conceal(count, samples),
        }
    }

    /// So many timestamp units were not sent: the far end's noise if it has told of it, and else a line's.
    pub(super) fn pause(&mut self, units: usize, receiver: &mut Receiver, samples: &mut Vec<i16>) {
        let count = self.samples(units);
        match (receiver.comfort_noise(), &mut self.decoder) {
            (Some(noise), _) => noise.fill(count, samples),
            (None, Decoder::Opus(decoder)) => decoder.conceal(count, None, samples),
            (None, Decoder::G711(_) | Decoder::G722(_)) => self.concealer.pause(count, samples),
        }
    }

    /// Nothing has come for so many timestamp units. Unless the far end has said that it falls silent it may have been
    /// lost: what was heard fades as if it were, and is silence then.
    pub(super) fn miss(&mut self, units: usize, receiver: &mut Receiver, samples: &mut Vec<i16>) -> Origin {
        let is_pausing = match &self.decoder {
            Decoder::Opus(decoder) => decoder.is_pausing(),
            Decoder::G711(_) | Decoder::G722(_) => receiver.comfort_noise().is_some(),
        };
        if is_pausing {
            self.pause(units, receiver, samples);
            return Origin::Concealed;
        }
        let count = self.samples(units);
        if matches!(self.decoder, Decoder::Opus(_)) || self.concealer.is_silent() {
            samples.resize(samples.len() + count, 0);
            return Origin::Silence;
        }
        self.concealer.conceal(count, samples);
        Origin::Concealed
    }
}
