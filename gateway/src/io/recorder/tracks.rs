//! One call's files: both sides, and beside them the agent's track once the agent has said something.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Error, Result, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use talkstack_control::recording::Format;
use talkstack_media::audio::ogg_opus::OggOpus;
use talkstack_media::audio::recording::Block;

use super::wav::{Layout, Wav};

/// The files of one call.
#[derive(Debug)]
pub(super) struct Tracks {
    /// Of both sides, relative to the recordings' directory, with its extension.
    name: String,
    path: PathBuf,
    sides: Sink,
    said: Option<Sink>,
    format: Format,
    sample_rate: u32,
    /// Of each track.
    samples: u64,
}

impl Tracks {
    /// Makes the file of both sides, `name` below `dir` with the format's extension, and the directories it needs.
    pub(super) fn create(dir: &Path, name: &str, format: Format, sample_rate: u32) -> Result<Self> {
        let name = format!("{name}.{}", format.extension());
        let path = dir.join(&name);
        if let Some(day) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(day)?;
        }
        let sides = Sink::create(&path, format, Layout { channels: 2, sample_rate })?;
        Ok(Tracks { name, path, sides, said: None, format, sample_rate, samples: 0 })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn duration_ms(&self) -> u64 {
        self.samples * 1000 / u64::from(self.sample_rate)
    }

    /// Appends `gap` samples of silence and then the first `samples` of a block.
    pub(super) fn write(&mut self, gap: u64, block: &Block, samples: usize) -> Result<()> {
        self.sides.write(gap, &block[..samples * 2])?;
        let said = &block[samples * 2..samples * 3];
        if let Some(sink) = &mut self.said {
            sink.write(gap, said)?;
        } else if said.iter().any(|sample| *sample != 0) {
            let path = self.path.with_extension(format!("agent.{}", self.format.extension()));
            let mut sink = Sink::create(&path, self.format, Layout { channels: 1, sample_rate: self.sample_rate })?;
            sink.write(self.samples + gap, said)?;
            self.said = Some(sink);
        }
        self.samples += gap + samples as u64;
        Ok(())
    }

    /// Writes the rest and waits until all of it is on disk.
    pub(super) fn close(self) -> Result<()> {
        if let Some(said) = self.said {
            said.close()?;
        }
        self.sides.close()
    }
}

/// A file in one of the formats.
#[derive(Debug)]
enum Sink {
    Wav(Wav),
    Opus { file: File, stream: Box<OggOpus>, pages: Vec<u8> },
}

impl Sink {
    fn create(path: &Path, format: Format, layout: Layout) -> Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        match format {
            Format::Wav => Ok(Sink::Wav(Wav::create(file, layout)?)),
            Format::Opus => {
                let mut pages = Vec::new();
                let channels = usize::from(layout.channels);
                // One stream a file: whichever number tells it from itself.
                let stream = OggOpus::new(channels, layout.sample_rate, 1, &mut pages).map_err(Error::other)?;
                let mut sink = Sink::Opus { file, stream: Box::new(stream), pages };
                sink.flush()?;
                Ok(sink)
            }
        }
    }

    fn write(&mut self, gap: u64, samples: &[i16]) -> Result<()> {
        match self {
            Sink::Wav(wav) => wav.write(gap, samples),
            Sink::Opus { stream, pages, .. } => {
                let channels = stream.channels();
                let mut gap = gap as usize * channels;
                while gap > 0 {
                    let silence = gap.min(SILENCE.len());
                    stream.write(&SILENCE[..silence], pages);
                    gap -= silence;
                }
                stream.write(samples, pages);
                self.flush()
            }
        }
    }

    /// Appends the pages that are full, in one write: a file ends with a whole one unless the power fails.
    fn flush(&mut self) -> Result<()> {
        if let Sink::Opus { file, pages, .. } = self
            && !pages.is_empty()
        {
            file.write_all(pages)?;
            pages.clear();
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        match self {
            Sink::Wav(wav) => wav.close(),
            Sink::Opus { mut file, stream, mut pages } => {
                stream.finish(&mut pages);
                file.write_all(&pages)?;
                file.sync_data()
            }
        }
    }
}

/// 200 ms of stereo at 8 kHz.
static SILENCE: [i16; 3200] = [0; 3200];
