//! Recordings on disk: one thread writes what the shards hand over.
//!
//! ```text
//!   shard ──blocks, bounded──▶ thread ──▶ <store.dir>/recordings/YYYY/MM/DD/<call>.wav         left heard, right sent
//!     ▲                          │                                          <call>.agent.wav   what the agent said
//!     └────── used blocks ◀──────┘
//! ```
//!
//! Calls that belong to a project are recorded, where `recording.enabled` says so; the built-in users (`demo`, `echo`,
//! `attendant`) never are. Each file can be read at any moment, a `kill -9` included: of a WAV sound goes to disk before
//! the header that counts it, of an Opus file only whole pages do, one a second. What does not reach the disk is lost from
//! the recording and never holds up a call.
//!
//! The agent's track has a file of its own beside that of both sides, on the same clock and from the same first sample: a
//! third channel is what players and recognisers of stereo do not expect.

mod tracks;
mod wav;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use talkstack_control::port::{CallEvent, CallId};
use talkstack_control::recording::Format;
use talkstack_media::audio::recording::{BLOCK_SAMPLES, BLOCK_VALUES, Block};

use crate::journal::JournalHandle;
use tracks::Tracks;

/// The recorder's thread.
#[derive(Debug)]
pub struct Recorder {
    sender: SyncSender<Message>,
    thread: JoinHandle<()>,
}

/// A shard's way to the recorder. Nothing in it waits.
#[derive(Debug)]
pub struct RecorderHandle {
    sender: SyncSender<Message>,
    used: Receiver<Box<Block>>,
    give_back: SyncSender<Box<Block>>,
    spare: Option<Box<Block>>,
}

/// What a shard keeps of a call that is recorded.
#[derive(Debug)]
pub struct Recorded {
    id: CallId,
    /// Samples that found the queue full and are owed as silence.
    gap: u64,
    has_told: bool,
    has_begun: bool,
}

#[derive(Debug)]
enum Message {
    Block(Piece),
    End(CallId),
    Close,
}

/// A stretch of one call.
#[derive(Debug)]
struct Piece {
    id: CallId,
    answered: SystemTime,
    /// Samples of silence in front.
    gap: u64,
    block: Box<Block>,
    samples: usize,
    /// Samples a second.
    sample_rate: u32,
    give_back: SyncSender<Box<Block>>,
}

impl Recorder {
    /// Starts the thread; files of a format go below `dir`, which is made with the first recording.
    ///
    /// # Errors
    /// When the kernel refuses a thread.
    pub fn start(dir: PathBuf, format: Format, journal: JournalHandle) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        let mut writer = Writer { dir, format, journal, files: HashMap::new() };
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(move || {
            crate::priority::step_back();
            writer.run(&receiver);
        })?;
        Ok(Recorder { sender, thread })
    }

    /// A way to it, for one shard.
    pub fn handle(&self) -> RecorderHandle {
        let (give_back, used) = sync_channel(QUEUE_MAX);
        RecorderHandle { sender: self.sender.clone(), used, give_back, spare: None }
    }

    /// Writes what is queued, closes all files and ends the thread.
    pub fn close(self) {
        let _ = self.sender.send(Message::Close);
        let _ = self.thread.join();
    }
}

impl RecorderHandle {
    /// A call is to be recorded. Its file begins with its first block.
    pub fn begin(&self, id: CallId) -> Recorded {
        Recorded { id, gap: 0, has_told: false, has_begun: false }
    }

    /// The buffer that [`RecorderHandle::write`] sends: one that came back, else a new one.
    pub fn block(&mut self) -> &mut Block {
        let used = &self.used;
        self.spare.get_or_insert_with(|| used.try_recv().unwrap_or_else(|_| Box::new([0; BLOCK_VALUES])))
    }

    /// Sends the buffer's first `samples` of each track, so many a second, `since_answer` behind the answer. A full queue
    /// makes a gap of it, told once.
    pub fn write(&mut self, recorded: &mut Recorded, samples: usize, sample_rate: u32, since_answer: Duration) {
        let Some(block) = self.spare.take() else { return };
        let piece = Piece {
            id: recorded.id,
            answered: SystemTime::now() - since_answer,
            gap: recorded.gap,
            block,
            samples,
            sample_rate,
            give_back: self.give_back.clone(),
        };
        match self.sender.try_send(Message::Block(piece)) {
            Ok(()) => {
                recorded.gap = 0;
                recorded.has_begun = true;
            }
            Err(refused) => {
                recorded.gap += samples as u64;
                if !std::mem::replace(&mut recorded.has_told, true) {
                    tracing::warn!(call = %recorded.id, "The recorder is behind; the recording has a gap");
                }
                if let std::sync::mpsc::TrySendError::Full(Message::Block(piece)) = refused {
                    self.spare = Some(piece.block);
                }
            }
        }
    }

    /// The call is over.
    pub fn end(&mut self, recorded: Recorded) {
        // Lost in a full queue, the file is closed with the thread; it can be read all the same.
        if recorded.has_begun && self.sender.try_send(Message::End(recorded.id)).is_err() {
            tracing::warn!(call = %recorded.id, "The recorder is behind; the end of a recording is not told");
        }
    }
}

/// The thread's state.
struct Writer {
    dir: PathBuf,
    format: Format,
    journal: JournalHandle,
    /// `None` where the disk has refused: that recording is over.
    files: HashMap<CallId, Option<Tracks>>,
}

impl Writer {
    fn run(&mut self, receiver: &Receiver<Message>) {
        loop {
            // While calls are recorded the queue is looked at by the clock: a thread that does not wait for a message
            // costs the shards no lock and no wake-up.
            let message = match receiver.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Empty) => {
                    if self.files.is_empty() {
                        match receiver.recv_timeout(IDLE) {
                            Ok(message) => message,
                            Err(RecvTimeoutError::Timeout) => continue,
                            Err(RecvTimeoutError::Disconnected) => break,
                        }
                    } else {
                        std::thread::sleep(LOOK);
                        continue;
                    }
                }
                Err(TryRecvError::Disconnected) => break,
            };
            match message {
                Message::Block(piece) => self.write(piece),
                Message::End(id) => self.end(id),
                Message::Close => break,
            }
        }
        let left: Vec<CallId> = self.files.keys().copied().collect();
        for id in left {
            self.end(id);
        }
    }

    fn write(&mut self, piece: Piece) {
        let (id, dir, format) = (piece.id, &self.dir, self.format);
        let file = self.files.entry(id).or_insert_with(|| {
            let opened = Tracks::create(dir, &file_name(id, piece.answered), format, piece.sample_rate);
            opened.map_err(|error| failed(id, &error)).ok()
        });
        if let Some(tracks) = file
            && let Err(error) = tracks.write(piece.gap, &piece.block, piece.samples)
        {
            failed(id, &error);
            *file = None;
        }
        // A shard that has as many as it may have lets this one go.
        let _ = piece.give_back.try_send(piece.block);
    }

    fn end(&mut self, id: CallId) {
        let Some(Some(tracks)) = self.files.remove(&id) else { return };
        let (file, duration_ms) = (tracks.name().to_owned(), tracks.duration_ms());
        if let Err(error) = tracks.close() {
            return failed(id, &error);
        }
        let event = CallEvent::Recorded { file, duration_ms };
        if self.journal.append(id, event).is_err() {
            tracing::error!(call = %id, "The journal is full; a recording is not announced");
        }
    }
}

fn failed(id: CallId, error: &std::io::Error) {
    tracing::error!(call = %id, "The recording ends here ({error}); the call goes on");
}

/// Relative to the recordings' directory, by the UTC date of the answer, without an extension.
fn file_name(id: CallId, answered: SystemTime) -> String {
    let date = Timestamp::try_from(answered).unwrap_or(Timestamp::UNIX_EPOCH).strftime("%Y/%m/%d").to_string();
    format!("{date}/{id}")
}

/// 4,096 blocks of 9.6 kB, 39 MB: 1,000 calls for 0.8 s. Full: the recording gets a gap.
const QUEUE_MAX: usize = 4096;

/// 20 ms between two looks at the queue: a tenth of a block.
const LOOK: Duration = Duration::from_millis(20);

/// An idle thread looks around once a minute.
const IDLE: Duration = Duration::from_secs(60);

/// The queue holds a bounded time of sound.
const _: () = assert!(BLOCK_SAMPLES == 1600);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::journal::Journal;

    #[test]
    fn a_recording_is_announced_with_its_file_and_length_and_readable_by_its_owner_alone() {
        let bench = Bench::new(Format::Wav);
        let mut handle = bench.recorder.handle();
        let mut recorded = handle.begin(CallId(7));
        for value in [1, 2] {
            handle.block().fill(value);
            handle.write(&mut recorded, 1600, 8000, Duration::ZERO);
        }
        handle.end(recorded);
        let (dir, events) = bench.finish();
        let [CallEvent::Recorded { file, duration_ms: 400 }] = &events[..] else { panic!("{events:?}") };
        let path = dir.path().join("recordings").join(file);
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let day = path.parent().expect("a day");
        assert_eq!(std::fs::metadata(day).expect("there").permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::metadata(&path).expect("there").len(), 44 + 2 * 6400);
    }

    #[test]
    fn the_agent_s_track_lies_beside_both_sides_from_their_first_sample_on() {
        for format in Format::ALL {
            let bench = Bench::new(format);
            let mut handle = bench.recorder.handle();
            let (mut with_agent, mut without) = (handle.begin(CallId(7)), handle.begin(CallId(8)));
            for block in 0..10 {
                handle.block().fill(0);
                // The agent speaks from the fourth block on.
                handle.block()[3200..].fill(if block >= 3 { 9000 } else { 0 });
                handle.write(&mut with_agent, 1600, 8000, Duration::ZERO);
                handle.block()[..3200].fill(5);
                handle.block()[3200..].fill(0);
                handle.write(&mut without, 1600, 8000, Duration::ZERO);
            }
            handle.end(with_agent);
            handle.end(without);
            let (dir, events) = bench.finish();
            let [CallEvent::Recorded { file, duration_ms: 2000 }, CallEvent::Recorded { file: second, .. }] =
                &events[..]
            else {
                panic!("{events:?}")
            };
            let extension = format.extension();
            let path = |file: &str| dir.path().join("recordings").join(file);
            let agent = |file: &str| path(file).with_extension(format!("agent.{extension}"));
            assert!(file.ends_with(extension) && path(file).exists() && agent(file).exists());
            assert!(path(second).exists() && !agent(second).exists(), "where nothing was said there is no file");
            let bytes = std::fs::read(agent(file)).expect("readable");
            match format {
                Format::Wav => {
                    assert_eq!(bytes.len(), 44 + 10 * 3200);
                    let sample = |at: usize| i16::from_le_bytes([bytes[44 + at * 2], bytes[45 + at * 2]]);
                    assert_eq!((sample(4799), sample(4800), sample(15_999)), (0, 9000, 9000));
                }
                Format::Opus => {
                    assert!(bytes.starts_with(b"OggS") && bytes.len() < 16_000);
                    // The last page ends where the call did: 2 s of 48 kHz, and the encoder's delay.
                    let last = bytes.windows(4).rposition(|window| window == b"OggS").expect("a page");
                    let granule =
                        bytes[last + 6..last + 10].iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
                    assert!(granule.abs_diff(96_000) < 1000 && bytes[last + 5] == 4, "{granule}");
                }
            }
        }
    }

    #[test]
    fn a_recording_whose_process_is_killed_can_be_read_to_its_last_second() {
        for format in Format::ALL {
            let dir = tempfile::tempdir().expect("a directory");
            let mut tracks = Tracks::create(dir.path(), "2026/12/01/a", format, 8000).expect("made");
            let mut block: Box<Block> = Box::new([0; BLOCK_VALUES]);
            for at in 0..51i16 {
                block.fill(1000 + at);
                tracks.write(0, &block, 1600).expect("written");
            }
            // Nothing is closed: this is what the next process finds.
            let bytes = std::fs::read(dir.path().join(tracks.name())).expect("readable");
            match format {
                Format::Wav => {
                    let counted = u32::from_le_bytes([bytes[40], bytes[41], bytes[42], bytes[43]]) as usize;
                    assert_eq!((counted, bytes.len()), (51 * 6400, 44 + 51 * 6400));
                }
                Format::Opus => {
                    let pages = bytes.windows(4).filter(|window| *window == b"OggS").count();
                    assert_eq!(pages, 2 + 10, "the heads, and ten whole seconds of 10.2");
                }
            }
        }
    }

    #[test]
    fn a_full_queue_becomes_silence_of_its_length() {
        let (sender, receiver) = sync_channel(1);
        let (give_back, used) = sync_channel(4);
        let mut handle = RecorderHandle { sender, used, give_back, spare: None };
        let mut recorded = handle.begin(CallId(7));
        for _ in 0..3 {
            handle.block().fill(5);
            handle.write(&mut recorded, 1600, 8000, Duration::ZERO);
        }
        assert_eq!(recorded.gap, 3200);
        let dir = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(&dir.path().join("journal")).expect("opens");
        let (dir, journal) = (dir.path().to_owned(), journal.handle());
        let mut writer = Writer { dir, format: Format::Wav, journal, files: HashMap::new() };
        let take = |writer: &mut Writer| match receiver.try_recv() {
            Ok(Message::Block(piece)) => {
                let path = writer.dir.join(format!("{}.wav", file_name(piece.id, piece.answered)));
                writer.write(piece);
                path
            }
            other => panic!("{other:?}"),
        };
        take(&mut writer);
        handle.block().fill(6);
        handle.write(&mut recorded, 1600, 8000, Duration::ZERO);
        let path = take(&mut writer);
        writer.end(CallId(7));
        let bytes = std::fs::read(path).expect("readable");
        let at = |block: usize| bytes[44 + block * 6400];
        assert_eq!([at(0), at(1), at(2), at(3)], [5, 0, 0, 6]);
        assert_eq!(bytes.len(), 44 + 4 * 6400);
    }

    #[test]
    fn a_disk_that_refuses_ends_the_recording_and_nothing_else() {
        let bench = Bench::new(Format::Wav);
        // A file where the directory should be.
        std::fs::write(bench.dir.path().join("recordings"), b"").expect("written");
        let mut handle = bench.recorder.handle();
        let mut recorded = handle.begin(CallId(7));
        for _ in 0..3 {
            handle.block().fill(1);
            handle.write(&mut recorded, 1600, 8000, Duration::ZERO);
        }
        handle.end(recorded);
        let (_, events) = bench.finish();
        assert_eq!(events, []);
    }

    struct Bench {
        dir: tempfile::TempDir,
        journal: Journal,
        recorder: Recorder,
    }

    impl Bench {
        fn new(format: Format) -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let journal = Journal::open(&dir.path().join("journal")).expect("opens");
            let recorder = Recorder::start(dir.path().join("recordings"), format, journal.handle()).expect("starts");
            Bench { dir, journal, recorder }
        }

        /// What was journalled.
        fn finish(self) -> (tempfile::TempDir, Vec<CallEvent>) {
            self.recorder.close();
            let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
            self.journal.handle().subscribe(None, sender);
            self.journal.close();
            let mut events = Vec::new();
            while let Some(message) = receiver.blocking_recv() {
                if let talkstack_control::port::ToControl::Record(record) = message {
                    events.push(record.event);
                }
            }
            (self.dir, events)
        }
    }
}
