//! Speech as a service sends it: a WAV file that streams, or bare samples. Comes out as whole 16-bit mono samples.

use super::message::Failure;

/// Reads one text's speech.
pub struct SpokenStream {
    state: State,
    channels: usize,
    rate: u32,
    /// What has come of a sample.
    begun: Vec<u8>,
}

enum State {
    /// The header has not come whole.
    Head(Vec<u8>),
    /// So many bytes of samples are to come; `None`: until the end.
    Samples(Option<u64>),
    /// Whatever follows the samples.
    Over,
}

impl SpokenStream {
    /// A WAV file; its header says its rate.
    pub fn wav() -> Self {
        SpokenStream { state: State::Head(Vec::new()), channels: 1, rate: 0, begun: Vec::new() }
    }

    /// Mono samples of a rate that is known.
    pub fn bare(rate: u32) -> Self {
        SpokenStream { state: State::Samples(None), channels: 1, rate, begun: Vec::new() }
    }

    /// Takes bytes as they came, and appends the samples that are whole, little-endian.
    ///
    /// # Errors
    /// [`Failure::Format`] when it is no WAV file of 16-bit samples in one or two channels.
    pub fn handle_bytes(&mut self, bytes: &[u8], samples: &mut Vec<u8>) -> Result<(), Failure> {
        match &mut self.state {
            State::Head(head) => {
                head.extend_from_slice(bytes);
                let Some(header) = header(head)? else {
                    return if head.len() > HEAD_BYTES_MAX { Err(Failure::Format) } else { Ok(()) };
                };
                let rest = head.split_off(header.bytes);
                (self.channels, self.rate) = (header.channels, header.rate);
                self.state = State::Samples(header.sample_bytes);
                self.handle_samples(&rest, samples);
            }
            State::Samples(_) => self.handle_samples(bytes, samples),
            State::Over => {}
        }
        Ok(())
    }

    /// Samples a second, once they are known.
    pub fn rate(&self) -> Option<u32> {
        Some(self.rate).filter(|rate| *rate > 0)
    }

    fn handle_samples(&mut self, bytes: &[u8], samples: &mut Vec<u8>) {
        let State::Samples(left) = &mut self.state else { return };
        let bytes = match left {
            None => bytes,
            Some(left) => {
                let count = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                &bytes[..count]
            }
        };
        if matches!(left, Some(0)) {
            self.state = State::Over;
        }
        self.begun.extend_from_slice(bytes);
        let whole = self.begun.len() / (2 * self.channels) * 2 * self.channels;
        if self.channels == 1 {
            samples.extend_from_slice(&self.begun[..whole]);
        } else {
            for [a, b, c, d] in self.begun[..whole].as_chunks::<4>().0 {
                let (left, right) = (i16::from_le_bytes([*a, *b]), i16::from_le_bytes([*c, *d]));
                samples.extend_from_slice(&i16::midpoint(left, right).to_le_bytes());
            }
        }
        self.begun.drain(..whole);
    }
}

struct Header {
    bytes: usize,
    channels: usize,
    rate: u32,
    sample_bytes: Option<u64>,
}

/// Reads up to the first sample; `None` until all of it is there.
fn header(head: &[u8]) -> Result<Option<Header>, Failure> {
    let Some((riff, mut rest)) = head.split_first_chunk::<12>() else {
        return if b"RIFF".starts_with(&head[..head.len().min(4)]) { Ok(None) } else { Err(Failure::Format) };
    };
    if !riff.starts_with(b"RIFF") || !riff.ends_with(b"WAVE") {
        return Err(Failure::Format);
    }
    let mut format = None;
    loop {
        let Some(([a, b, c, d, length @ ..], behind)) = rest.split_first_chunk::<8>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length);
        if [*a, *b, *c, *d] == *b"data" {
            let (channels, rate) = format.ok_or(Failure::Format)?;
            // A server that streams does not know the length, and writes none or one without end.
            let sample_bytes = (1..0x7fff_0000).contains(&length).then(|| u64::from(length));
            return Ok(Some(Header { bytes: head.len() - behind.len(), channels, rate, sample_bytes }));
        }
        // Chunks begin at even places.
        let padded = length as usize + length as usize % 2;
        if padded > HEAD_BYTES_MAX {
            return Err(Failure::Format);
        }
        let Some((chunk, next)) = behind.split_at_checked(padded) else { return Ok(None) };
        if [*a, *b, *c, *d] == *b"fmt " {
            format = Some(samples_of(chunk)?);
        }
        rest = next;
    }
}

/// Channels and rate of a format chunk.
fn samples_of(chunk: &[u8]) -> Result<(usize, u32), Failure> {
    let Some(([t1, t2, c1, c2, rate @ .., _, _, _, _, _, _, b1, b2], _)) = chunk.split_first_chunk::<16>() else {
        return Err(Failure::Format);
    };
    let rate: [u8; 4] = *rate;
    let (tag, channels) = (u16::from_le_bytes([*t1, *t2]), usize::from(u16::from_le_bytes([*c1, *c2])));
    let is_linear = [LINEAR, EXTENSIBLE].contains(&tag) && u16::from_le_bytes([*b1, *b2]) == 16;
    let rate = u32::from_le_bytes(rate);
    if is_linear && (1..=2).contains(&channels) && rate > 0 { Ok((channels, rate)) } else { Err(Failure::Format) }
}

/// `WAVE_FORMAT_PCM`.
const LINEAR: u16 = 1;

/// `WAVE_FORMAT_EXTENSIBLE`: the same at 16 bits, as far as anyone sends it.
const EXTENSIBLE: u16 = 0xfffe;

/// 64 KiB: tags in front of the samples; whoever has more has no speech.
const HEAD_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_out_whole_wherever_a_file_is_cut() {
        let samples: Vec<u8> = (0..200).collect();
        for length in [200, 0, u32::MAX] {
            let file = [&wav(1, 22_050, 16, length)[..], &samples].concat();
            for step in [1, 3, 44, 45, 1000] {
                let (mut stream, mut out) = (SpokenStream::wav(), Vec::new());
                for bytes in file.chunks(step) {
                    stream.handle_bytes(bytes, &mut out).expect("a file");
                    assert_eq!(out.len() % 2, 0);
                }
                assert_eq!((stream.rate(), &out), (Some(22_050), &samples), "{length}, {step}");
            }
        }
    }

    #[test]
    fn what_follows_the_samples_is_not_heard_and_two_channels_are_one() {
        let file = [&wav(2, 8000, 16, 8)[..], &[10, 0, 20, 0, 30, 0, 50, 0], b"LIST1234"].concat();
        let (mut stream, mut out) = (SpokenStream::wav(), Vec::new());
        stream.handle_bytes(&file[..50], &mut out).expect("a file");
        stream.handle_bytes(&file[50..], &mut out).expect("a file");
        stream.handle_bytes(b"more", &mut out).expect("a file");
        assert_eq!(out, [15, 0, 40, 0]);
    }

    #[test]
    fn an_odd_byte_waits_for_its_other_half() {
        let (mut stream, mut out) = (SpokenStream::bare(24_000), Vec::new());
        for bytes in [&[1u8][..], &[2, 3], &[4, 5, 6], &[7]] {
            stream.handle_bytes(bytes, &mut out).expect("samples");
        }
        assert_eq!((stream.rate(), out), (Some(24_000), vec![1, 2, 3, 4, 5, 6]));
    }

    #[test]
    fn what_is_no_speech_is_refused() {
        let big_chunk = [&b"RIFF0000WAVELIST"[..], &u32::MAX.to_le_bytes()].concat();
        let endless: Vec<u8> = [b"RIFF0000WAVE".to_vec(), b"LIST\x04\0\0\0abcd".repeat(6000)].concat();
        for bytes in [
            b"ID3\x04".to_vec(),
            b"{\"error\":1}".to_vec(),
            b"RIFF0000AVI ".to_vec(),
            b"RIFF0000WAVEdata\0\0\0\0".to_vec(),
            b"RIFF0000WAVEfmt \x02\0\0\0\0\0".to_vec(),
            wav(3, 8000, 16, 0),
            wav(1, 8000, 8, 0),
            wav(1, 0, 16, 0),
            big_chunk,
            endless,
        ] {
            let read = SpokenStream::wav().handle_bytes(&bytes, &mut Vec::new());
            assert_eq!(read, Err(Failure::Format), "{:?}", &bytes[..bytes.len().min(48)]);
        }
    }

    /// A header with a chunk of odd length in front of the samples.
    fn wav(channels: u16, rate: u32, bits: u16, length: u32) -> Vec<u8> {
        let mut file = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0".to_vec();
        file.extend(channels.to_le_bytes());
        file.extend(rate.to_le_bytes());
        file.extend([0; 6]);
        file.extend(bits.to_le_bytes());
        file.extend(b"LIST\x03\0\0\0abc\0data");
        file.extend(length.to_le_bytes());
        file
    }
}
