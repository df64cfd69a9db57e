//! A WAV file that can be read at any moment while it grows.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;

/// 16-bit PCM of one or two channels.
#[derive(Debug)]
pub(super) struct Wav {
    file: File,
    layout: Layout,
    /// Sound on disk that the header counts, in bytes.
    bytes: u64,
    /// The bytes of a stretch; reused.
    written: Vec<u8>,
}

/// What the samples are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) channels: u16,
    /// In hertz.
    pub(super) sample_rate: u32,
}

impl Layout {
    fn frame_bytes(self) -> u64 {
        u64::from(self.channels) * 2
    }
}

impl Wav {
    /// Begins an empty file.
    pub(super) fn create(file: File, layout: Layout) -> Result<Self> {
        let wav = Wav { file, layout, bytes: 0, written: Vec::new() };
        wav.file.write_all_at(&wav.header(), 0)?;
        Ok(wav)
    }

    /// Appends `gap` samples of silence, which take no room on the disk, and then interleaved samples.
    pub(super) fn write(&mut self, gap: u64, interleaved: &[i16]) -> Result<()> {
        let gap_bytes = gap * self.layout.frame_bytes();
        if self.bytes + gap_bytes + interleaved.len() as u64 * 2 > DATA_BYTES_MAX {
            return Err(Error::from(ErrorKind::FileTooLarge));
        }
        self.written.clear();
        self.written.extend(interleaved.iter().flat_map(|sample| sample.to_le_bytes()));
        // The sound before the header that counts it: whoever reads in between finds less, never garbage.
        self.file.write_all_at(&self.written, HEADER_BYTES + self.bytes + gap_bytes)?;
        self.bytes += gap_bytes + self.written.len() as u64;
        self.file.write_all_at(&self.header(), 0)
    }

    /// Waits until all of it is on disk.
    pub(super) fn close(self) -> Result<()> {
        self.file.sync_data()
    }

    fn header(&self) -> [u8; HEADER_BYTES as usize] {
        let Layout { channels, sample_rate } = self.layout;
        // RIFF counts in 32 bits, and no more is written.
        let bytes = self.bytes as u32;
        let mut header = *b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\0\0\0\0\0\0\0\0\x04\0\x10\0data\0\0\0\0";
        header[4..8].copy_from_slice(&(HEADER_BYTES as u32 - 8 + bytes).to_le_bytes());
        header[22..24].copy_from_slice(&channels.to_le_bytes());
        header[24..28].copy_from_slice(&sample_rate.to_le_bytes());
        header[28..32].copy_from_slice(&(sample_rate * self.layout.frame_bytes() as u32).to_le_bytes());
        header[32..34].copy_from_slice(&(channels * 2).to_le_bytes());
        header[40..].copy_from_slice(&bytes.to_le_bytes());
        header
    }
}

const HEADER_BYTES: u64 = 44;

/// RIFF counts in 32 bits: 37 hours of stereo at 8 kHz.
const DATA_BYTES_MAX: u64 = u32::MAX as u64 - HEADER_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_whole_after_every_write() {
        for (channels, sample_rate) in [(2u16, 8000u32), (1, 8000), (2, 16_000)] {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("a.wav");
            let file = File::create(&path).expect("made");
            let mut wav = Wav::create(file, Layout { channels, sample_rate }).expect("made");
            let mut expected = 0;
            for block in 0..7u64 {
                let bytes = std::fs::read(&path).expect("readable");
                let count = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
                assert_eq!(count(40) as usize + 44, bytes.len());
                assert_eq!(count(4) as usize + 8, bytes.len());
                let rate = sample_rate * u32::from(channels) * 2;
                assert_eq!((count(24), count(28), bytes[22], bytes[34]), (sample_rate, rate, channels as u8, 16));
                assert_eq!(bytes[32], channels as u8 * 2);
                assert_eq!(bytes.len() as u64, 44 + expected, "nothing is behind");
                wav.write(block % 2, &[block as i16; 3200]).expect("written");
                expected += 6400 + block % 2 * u64::from(channels) * 2;
            }
            wav.close().expect("closed");
        }
    }

    #[test]
    fn a_file_never_grows_beyond_what_riff_can_count() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = File::create(dir.path().join("a.wav")).expect("made");
        let mut wav = Wav::create(file, Layout { channels: 2, sample_rate: 8000 }).expect("made");
        let samples_max = DATA_BYTES_MAX / 4;
        wav.write(samples_max - 1600, &[0; 3200]).expect("just fits, as a hole");
        assert_eq!(wav.write(0, &[0; 2]).map_err(|error| error.kind()), Err(ErrorKind::FileTooLarge));
    }
}
