//! A WAV file that can be read at any moment while it grows.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

/// 16-bit stereo PCM at 8 kHz.
#[derive(Debug)]
pub(super) struct Wav {
    file: File,
    name: String,
    /// Sound on disk that the header counts, in bytes.
    bytes: u64,
    /// Sound that is to be written.
    unwritten: Vec<u8>,
    samples: u64,
}

impl Wav {
    /// Makes `name` below `dir`, with the directories it needs.
    pub(super) fn create(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(name);
        if let Some(day) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(day)?;
        }
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all_at(&header(0), 0)?;
        Ok(Wav { file, name: name.to_owned(), bytes: 0, unwritten: Vec::with_capacity(FLUSH_BYTES * 2), samples: 0 })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Samples of each track so far.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// Appends `gap` samples of silence and then interleaved samples.
    pub(super) fn write(&mut self, gap: u64, interleaved: &[i16]) -> Result<()> {
        let added = gap + interleaved.len() as u64 / 2;
        if (self.samples + added) * FRAME_BYTES > DATA_BYTES_MAX {
            return Err(Error::from(ErrorKind::FileTooLarge));
        }
        for _ in 0..gap {
            self.unwritten.extend([0; FRAME_BYTES as usize]);
            if self.unwritten.len() >= FLUSH_BYTES {
                self.flush()?;
            }
        }
        self.unwritten.extend(interleaved.iter().flat_map(|sample| sample.to_le_bytes()));
        self.samples += added;
        if self.unwritten.len() >= FLUSH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes the rest and waits until all of it is on disk.
    pub(super) fn close(mut self) -> Result<()> {
        self.flush()?;
        self.file.sync_data()
    }

    fn flush(&mut self) -> Result<()> {
        // The sound before the header that counts it: whoever reads in between finds less, never garbage.
        self.file.write_all_at(&self.unwritten, HEADER_BYTES + self.bytes)?;
        self.bytes += self.unwritten.len() as u64;
        self.unwritten.clear();
        self.file.write_all_at(&header(self.bytes as u32), 0)
    }
}

fn header(bytes: u32) -> [u8; HEADER_BYTES as usize] {
    let mut header = *b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\0\0\0\0\0\0\0\0\x04\0\x10\0data\0\0\0\0";
    header[4..8].copy_from_slice(&(HEADER_BYTES as u32 - 8 + bytes).to_le_bytes());
    header[24..28].copy_from_slice(&RATE.to_le_bytes());
    header[28..32].copy_from_slice(&(RATE * FRAME_BYTES as u32).to_le_bytes());
    header[40..].copy_from_slice(&bytes.to_le_bytes());
    header
}

const RATE: u32 = 8000;

/// Two samples of 16 bits.
const FRAME_BYTES: u64 = 4;

const HEADER_BYTES: u64 = 44;

/// RIFF counts in 32 bits: 37 hours.
const DATA_BYTES_MAX: u64 = u32::MAX as u64 - HEADER_BYTES;

/// Two blocks, 400 ms: with the blocks themselves a file is less than a second behind its call.
const FLUSH_BYTES: usize = 12_800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_whole_after_every_write() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut wav = Wav::create(dir.path(), "2026/11/25/a.wav").expect("made");
        for block in 0..7u64 {
            let bytes = std::fs::read(dir.path().join("2026/11/25/a.wav")).expect("readable");
            let count = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            assert_eq!(count(40) as usize + 44, bytes.len());
            assert_eq!(count(4) as usize + 8, bytes.len());
            assert_eq!((count(24), count(28), bytes[22], bytes[34]), (8000, 32_000, 2, 16));
            assert!(bytes.len() as u64 >= 44 + block.saturating_sub(1) * 6400, "at most a block behind");
            wav.write(0, &[block as i16; 3200]).expect("written");
        }
        wav.close().expect("closed");
    }

    #[test]
    fn a_file_never_grows_beyond_what_riff_can_count() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut wav = Wav::create(dir.path(), "a.wav").expect("made");
        wav.samples = DATA_BYTES_MAX / FRAME_BYTES - 1600;
        wav.write(0, &[0; 3200]).expect("just fits");
        assert_eq!(wav.write(0, &[0; 2]).map_err(|error| error.kind()), Err(ErrorKind::FileTooLarge));
    }
}
