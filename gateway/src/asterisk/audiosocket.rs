//! AudioSocket's frames: a type, the payload's length in two bytes, the payload.
//!
//! | Type | Payload | Sent by |
//! |---|---|---|
//! | `0x00` hang-up | none | both |
//! | `0x01` id | a UUID, 16 bytes; the first frame | Asterisk |
//! | `0x03` key | one ASCII character | Asterisk, since 2025 |
//! | `0x10` … `0x18` audio | 16-bit little-endian samples of 8 to 192 kHz; 20 ms each | both; `0x10` alone until 2025 |
//! | `0xff` error | a code of the application's, or none | both |
//!
//! <https://docs.asterisk.org/Configuration/Channel-Drivers/AudioSocket/>

use talkstack_media::audio::frame::SampleRate;

/// A frame of the other side's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The call is over.
    HangUp,
    /// The call's id, which ought to have 16 bytes.
    Id(&'a [u8]),
    /// A key was pressed.
    Key(char),
    /// Samples, and how many of them make a second.
    Audio {
        /// 8,000 to 192,000.
        hertz: u32,
        /// 16-bit little-endian.
        samples: &'a [u8],
    },
    /// Something went wrong there.
    Error(Option<u8>),
    /// Of a type, or with a payload, that nobody knows.
    Unknown(u8),
}

/// Reads the other side's frames, wherever they are cut. Whatever comes is some frame.
#[derive(Debug, Default)]
pub struct Frames {
    inbound: Vec<u8>,
    /// Bytes at the front of `inbound` that have been dealt with.
    read: usize,
}

impl Frames {
    /// Takes bytes as they came. The longest frame has 65,538; read all that are whole before the next call.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.inbound.drain(..self.read);
            self.read = 0;
        }
        self.inbound.extend_from_slice(bytes);
    }

    /// The next whole frame.
    pub fn next_frame(&mut self) -> Option<Frame<'_>> {
        let [kind, high, low, rest @ ..] = self.inbound.get(self.read..)? else { return None };
        let payload = rest.get(..usize::from(u16::from_be_bytes([*high, *low])))?;
        self.read += HEADER_BYTES + payload.len();
        Some(match (*kind, payload) {
            (HANG_UP, _) => Frame::HangUp,
            (ID, id) => Frame::Id(id),
            (KEY, &[key]) => Frame::Key(char::from(key)),
            (kind @ AUDIO_FIRST..=AUDIO_LAST, samples) => {
                Frame::Audio { hertz: HERTZ[usize::from(kind - AUDIO_FIRST)], samples }
            }
            (ERROR, code) => Frame::Error(code.first().copied()),
            (kind, _) => Frame::Unknown(kind),
        })
    }
}

/// Appends the frame that ends the call.
pub fn write_hang_up(out: &mut Vec<u8>) {
    write(out, HANG_UP, &[]);
}

/// Appends an id as a UUID of version 4 (RFC 9562 §5.4), whose six fixed bits take the place of the id's: there are
/// servers that hang up on any other.
pub fn write_id(out: &mut Vec<u8>, id: u128) {
    write(out, ID, &uuid(id).to_be_bytes());
}

/// The id with those bits set.
pub fn uuid(id: u128) -> u128 {
    id & !(0xf << 76 | 0b11 << 62) | 4 << 76 | 0b10 << 62
}

/// Appends a key; what is no ASCII character is left out.
pub fn write_key(out: &mut Vec<u8>, key: char) {
    if let Ok(key @ ..=0x7f) = u8::try_from(key) {
        write(out, KEY, &[key]);
    }
}

/// Appends at most 65,535 bytes of 16-bit little-endian samples.
pub fn write_audio(out: &mut Vec<u8>, rate: SampleRate, samples: &[u8]) {
    let at = HERTZ.iter().position(|hertz| *hertz == rate.hertz()).unwrap_or_default();
    write(out, AUDIO_FIRST + at as u8, samples);
}

/// Bytes of a frame of 20 ms, with its header.
pub fn packet_bytes(rate: SampleRate) -> usize {
    HEADER_BYTES + payload_bytes(rate)
}

/// Bytes of 20 ms of samples.
pub fn payload_bytes(rate: SampleRate) -> usize {
    2 * PACKET_TICKS * rate.tick_samples()
}

/// The rate as ours, where it is one of them.
pub fn rate(hertz: u32) -> Option<SampleRate> {
    SampleRate::ALL.into_iter().find(|rate| rate.hertz() == hertz)
}

fn write(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    let payload = &payload[..payload.len().min(u16::MAX.into())];
    out.push(kind);
    out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    out.extend_from_slice(payload);
}

const HANG_UP: u8 = 0x00;
const ID: u8 = 0x01;
const KEY: u8 = 0x03;
const AUDIO_FIRST: u8 = 0x10;
const AUDIO_LAST: u8 = 0x18;
const ERROR: u8 = 0xff;

/// What the types from `0x10` on stand for.
const HERTZ: [u32; 9] = [8000, 12_000, 16_000, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000];

const HEADER_BYTES: usize = 3;

/// 20 ms, in ticks of 125 µs.
pub const PACKET_TICKS: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_wherever_they_are_cut() {
        let mut bytes = Vec::new();
        write_id(&mut bytes, 0x0102);
        write_audio(&mut bytes, SampleRate::Hz8000, &[7; 320]);
        write_audio(&mut bytes, SampleRate::Hz48000, &[]);
        write_key(&mut bytes, '#');
        write_audio(&mut bytes, SampleRate::Hz16000, &[9; 65_535]);
        bytes.extend_from_slice(&[0x11, 0, 1, 5, 0xff, 0, 2, 4, 3, 0xff, 0, 0, 0x02, 0, 1, 1, 0x03, 0, 0]);
        write_hang_up(&mut bytes);
        let wanted = [
            format!("{:?}", Frame::Id(&uuid(0x0102).to_be_bytes())),
            "8000: 320 of 7".into(),
            "48000: 0 of 0".into(),
            "Key('#')".into(),
            "16000: 65535 of 9".into(),
            "12000: 1 of 5".into(),
            "Error(Some(4))".into(),
            "Error(None)".into(),
            "Unknown(2)".into(),
            "Unknown(3)".into(),
            "HangUp".into(),
        ];
        for step in [1, 2, 3, 322, 1000, 100_000] {
            let (mut frames, mut read) = (Frames::default(), Vec::new());
            for part in bytes.chunks(step) {
                frames.handle_bytes(part);
                while let Some(frame) = frames.next_frame() {
                    read.push(match frame {
                        Frame::Audio { hertz, samples } => {
                            format!("{hertz}: {} of {}", samples.len(), samples.first().unwrap_or(&0))
                        }
                        frame => format!("{frame:?}"),
                    });
                }
            }
            assert_eq!(read, wanted, "{step} bytes at a time");
        }
    }

    #[test]
    fn an_id_is_a_uuid() {
        assert_eq!(format!("{:032x}", uuid(u128::MAX)), "ffffffffffff4fffbfffffffffffffff");
        assert_eq!(format!("{:032x}", uuid(0)), "00000000000040008000000000000000");
    }

    #[test]
    fn any_bytes_are_frames_and_none_is_read_twice() {
        let mut state = 7u32;
        let mut bytes = Vec::new();
        for _ in 0..200_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes.push((state >> 24) as u8);
        }
        let mut frames = Frames::default();
        let mut read = 0;
        for part in bytes.chunks(997) {
            frames.handle_bytes(part);
            while let Some(frame) = frames.next_frame() {
                read += match frame {
                    Frame::Audio { samples, .. } => samples.len(),
                    _ => 0,
                };
            }
        }
        assert!(read <= bytes.len() && frames.inbound.len() <= HEADER_BYTES + 65_535 + 997);
    }
}
