//! What an Asterisk tells over AudioSocket of a call that it gives the box.

use talkstack_media::audio::frame::SampleRate;

use super::audiosocket::{Frame, Frames, rate};

/// Reads Asterisk's side of one connection.
#[derive(Debug, Default)]
pub struct Channel {
    frames: Frames,
    has_begun: bool,
}

/// What it tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// There is a call with this UUID, as UUIDs are written.
    Began(String),
    /// Another thing than a UUID came first: whoever this is, it is no Asterisk.
    NoCall,
    /// Samples of this rate.
    Audio(SampleRate, Vec<u8>),
    /// A key was pressed.
    Key(char),
    /// G.711 that is said to be samples: `Dial(AudioSocket/…)` without `/c(slin)` sends the caller's codec.
    Mislabelled,
    /// The call is over.
    HungUp,
}

impl Channel {
    /// Takes bytes as they came.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.frames.handle_bytes(bytes);
    }

    /// What has been told; drain to `None` before the next bytes.
    pub fn poll_told(&mut self) -> Option<Told> {
        loop {
            let frame = self.frames.next_frame()?;
            let Frame::Id(id) = frame else {
                if !self.has_begun {
                    return Some(Told::NoCall);
                }
                match frame {
                    Frame::Audio { hertz: 8000, samples } if samples.len() == G711_BYTES => {
                        return Some(Told::Mislabelled);
                    }
                    // One of a rate that the box does not know is passed over: Asterisk has no way to be told.
                    Frame::Audio { hertz, samples } => {
                        if let Some(rate) = rate(hertz) {
                            return Some(Told::Audio(rate, samples.to_vec()));
                        }
                    }
                    Frame::Key(key) => return Some(Told::Key(key)),
                    Frame::HangUp => return Some(Told::HungUp),
                    Frame::Error(code) => {
                        tracing::warn!(code, "An Asterisk reports an error over AudioSocket");
                        return Some(Told::HungUp);
                    }
                    Frame::Id(_) | Frame::Unknown(_) => {}
                }
                continue;
            };
            let number = id.try_into().ok().map(u128::from_be_bytes);
            match number {
                Some(number) if !std::mem::replace(&mut self.has_begun, true) => {
                    return Some(Told::Began(uuid_text(number)));
                }
                // A call has one id.
                _ if self.has_begun => {}
                _ => return Some(Told::NoCall),
            }
        }
    }
}

/// As RFC 9562 §4 writes UUIDs.
fn uuid_text(number: u128) -> String {
    let hex = format!("{number:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// 20 ms of G.711. Of samples it would be 10 ms, which no Asterisk sends.
const G711_BYTES: usize = 160;

#[cfg(test)]
mod tests {
    use super::super::audiosocket::{write_audio, write_hang_up, write_id, write_key};
    use super::*;

    #[test]
    fn a_call_has_an_id_sound_keys_and_an_end() {
        let id = 0x4032_5ec2_5efd_4bd3_805f_5357_6e58_1d13;
        let mut bytes = Vec::new();
        write_id(&mut bytes, id);
        write_key(&mut bytes, '5');
        write_id(&mut bytes, 7);
        write_audio(&mut bytes, SampleRate::Hz16000, &[1; 640]);
        // 12 kHz, and what is not known.
        bytes.extend_from_slice(&[0x11, 0, 1, 9, 0x42, 0, 0]);
        write_hang_up(&mut bytes);
        let wanted = [
            Told::Began("40325ec2-5efd-4bd3-805f-53576e581d13".into()),
            Told::Key('5'),
            Told::Audio(SampleRate::Hz16000, vec![1; 640]),
            Told::HungUp,
        ];
        for step in [1, 7, 1000] {
            let (mut channel, mut told) = (Channel::default(), Vec::new());
            for part in bytes.chunks(step) {
                channel.handle_bytes(part);
                told.extend(std::iter::from_fn(|| channel.poll_told()));
            }
            assert_eq!(told, wanted, "{step} bytes at a time");
        }
    }

    #[test]
    fn what_is_no_call_or_no_samples_is_known() {
        let began = |more: &[u8]| {
            let mut bytes = Vec::new();
            write_id(&mut bytes, 1);
            bytes.extend_from_slice(more);
            bytes
        };
        let mut mislabelled = Vec::new();
        write_audio(&mut mislabelled, SampleRate::Hz8000, &[0xff; 160]);
        for (bytes, wanted) in [
            (mislabelled.clone(), Told::NoCall),
            (b"GET / HTTP/1.1\r\n\r\n".repeat(2000), Told::NoCall),
            (vec![0x01, 0, 2, 1, 2], Told::NoCall),
            (began(&mislabelled), Told::Mislabelled),
            (began(&[0xff, 0, 1, 4]), Told::HungUp),
        ] {
            let mut channel = Channel::default();
            channel.handle_bytes(&bytes);
            let told = std::iter::from_fn(|| channel.poll_told()).find(|told| !matches!(told, Told::Began(_)));
            assert_eq!(told, Some(wanted));
        }
    }
}
