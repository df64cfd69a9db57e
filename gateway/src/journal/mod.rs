//! The journal: what happened to calls, on disk before anybody is told, until control has stored it.
//!
//! ```text
//!   shards, SIP ──append──▶ queue ──▶ thread: write, fsync ──▶ subscriber (control)
//!                                        │                          │
//!                                 <dir>/0000000007-000001.log ◀── ack: deleted
//! ```
//!
//! One thread owns the files. Records get their place `(boot, seq)` there; a boot is one start of the call plane.

mod owed;
mod segments;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use talkstack_control::port::{Blame, CallEvent, CallId, EndReason, JournalRecord, Outcome, Position, ToControl};
use tokio::sync::{mpsc, oneshot};

use owed::Owed;
pub use segments::OpenError;
use segments::{LiveCalls, Segments};

/// The way to the journal; cheap to clone, never blocks.
#[derive(Debug, Clone)]
pub struct JournalHandle {
    sender: SyncSender<Message>,
    fill: Arc<Fill>,
}

/// How full the journal is; read by admission.
#[derive(Debug, Default)]
struct Fill {
    queued: AtomicUsize,
    on_disk: AtomicUsize,
}

/// The journal takes nothing more. The event is lost; new calls are refused long before.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("the journal is full")]
pub struct JournalFull;

#[derive(Debug)]
enum Message {
    Append { call_id: CallId, event: CallEvent, at_ms: u64, synced: Option<oneshot::Sender<()>> },
    Subscribe { after: Option<Position>, sender: mpsc::Sender<ToControl>, taken: oneshot::Sender<()> },
    Acknowledge(Position),
    Settle(Vec<String>),
    Close,
}

/// The journal's thread.
#[derive(Debug)]
pub struct Journal {
    handle: JournalHandle,
    thread: std::thread::JoinHandle<()>,
    cut_off: Vec<String>,
}

impl Journal {
    /// Opens or makes the journal in `dir` and ends the calls that an earlier boot left open.
    ///
    /// # Errors
    /// [`OpenError`] when the directory cannot be used.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let (segments, orphans) = Segments::open(dir)?;
        // Before their ends are written: afterwards nothing else says that these are owed a BYE.
        let owed = Owed::open(dir, orphans.dialogs())
            .map_err(|source| OpenError::Directory { path: dir.to_owned(), source })?;
        let cut_off = owed.dialogs().to_vec();
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        let fill = Arc::new(Fill::default());
        fill.on_disk.store(segments.bytes(), Ordering::Relaxed);
        let handle = JournalHandle { sender, fill: Arc::clone(&fill) };
        let mut writer = Writer::new(segments, owed, receiver, fill);
        let outcome = Outcome::new(Blame::Gateway, EndReason::Restarted);
        for call_id in orphans.ids() {
            writer.enqueue(call_id, CallEvent::Ended { outcome }, now_ms(), None);
        }
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                crate::priority::step_back();
                writer.run();
            })
            .map_err(OpenError::Thread)?;
        Ok(Journal { handle, thread, cut_off })
    }

    /// The way to it.
    pub fn handle(&self) -> JournalHandle {
        self.handle.clone()
    }

    /// The dialogs that earlier boots left open, as [`CallEvent::Dialog`] has them: each is owed a BYE, at every start
    /// until [`JournalHandle::settle_cut_off`].
    pub fn take_cut_off(&mut self) -> Vec<String> {
        std::mem::take(&mut self.cut_off)
    }

    /// Writes what is queued and ends the thread.
    pub fn close(self) {
        let _ = self.handle.sender.send(Message::Close);
        let _ = self.thread.join();
    }
}

impl JournalHandle {
    /// Queues an event; it counts once it is on disk.
    ///
    /// # Errors
    /// [`JournalFull`].
    pub fn append(&self, call_id: CallId, event: CallEvent) -> Result<(), JournalFull> {
        self.send(call_id, event, None)
    }

    /// Queues an event and tells when it is on disk: the receiver completes after the fsync that covers it. While the
    /// disk takes nothing it waits; it fails when the journal ends first, or too much waits already.
    ///
    /// # Errors
    /// [`JournalFull`].
    pub fn append_synced(&self, call_id: CallId, event: CallEvent) -> Result<oneshot::Receiver<()>, JournalFull> {
        let (sender, receiver) = oneshot::channel();
        self.send(call_id, event, Some(sender))?;
        Ok(receiver)
    }

    fn send(&self, call_id: CallId, event: CallEvent, synced: Option<oneshot::Sender<()>>) -> Result<(), JournalFull> {
        self.fill.queued.fetch_add(1, Ordering::Relaxed);
        self.sender.try_send(Message::Append { call_id, event, at_ms: now_ms(), synced }).map_err(|_| {
            self.fill.queued.fetch_sub(1, Ordering::Relaxed);
            JournalFull
        })
    }

    /// Sends everything behind `after`, then the calls that are up, then what happens from there on. The receiver
    /// completes when that is agreed; it fails when the journal is too full, or cannot be rewritten: try again then.
    pub fn subscribe(&self, after: Option<Position>, sender: mpsc::Sender<ToControl>) -> oneshot::Receiver<()> {
        let (taken, is_taken) = oneshot::channel();
        // Full of events: the receiver fails with the message.
        let _ = self.sender.try_send(Message::Subscribe { after, sender, taken });
        is_taken
    }

    /// Control has stored everything up to here.
    pub fn acknowledge(&self, position: Position) {
        // Lost, it is made good by the next one.
        let _ = self.sender.try_send(Message::Acknowledge(position));
    }

    /// These of the dialogs that were cut off have had their BYE.
    ///
    /// # Errors
    /// [`JournalFull`]; they are owed it at the next start again.
    pub fn settle_cut_off(&self, dialogs: Vec<String>) -> Result<(), JournalFull> {
        self.sender.try_send(Message::Settle(dialogs)).map_err(|_| JournalFull)
    }

    /// 0 is empty, 1 is full; from 0.8 on no new calls are taken.
    pub fn fullness(&self) -> f32 {
        let queue = self.fill.queued.load(Ordering::Relaxed) as f32 / QUEUE_MAX as f32;
        let disk = self.fill.on_disk.load(Ordering::Relaxed) as f32 / DISK_BYTES_MAX as f32;
        queue.max(disk)
    }
}

/// The thread's state.
struct Writer {
    segments: Segments,
    owed: Owed,
    receiver: Receiver<Message>,
    fill: Arc<Fill>,
    /// Records that have a place but are not on disk yet.
    waiting: VecDeque<JournalRecord>,
    /// Who is told once the record is on disk.
    synced: VecDeque<(Position, oneshot::Sender<()>)>,
    live: LiveCalls,
    subscriber: Option<Subscriber>,
    /// The last write failed, then, and that was told.
    failed_at: Option<Instant>,
    /// Records that nobody will ever see, since the disk took something.
    lost: u64,
}

/// Who is told, and how far it has been.
struct Subscriber {
    sender: mpsc::Sender<ToControl>,
    after: Option<Position>,
    /// Records on disk that are still to be sent.
    backlog: VecDeque<JournalRecord>,
    /// More is on disk than the backlog has: it is read back when the backlog has been sent.
    is_behind: bool,
    /// The calls that are up have been told.
    is_live: bool,
}

impl Writer {
    fn new(segments: Segments, owed: Owed, receiver: Receiver<Message>, fill: Arc<Fill>) -> Self {
        Writer {
            segments,
            owed,
            receiver,
            fill,
            waiting: VecDeque::new(),
            synced: VecDeque::new(),
            live: LiveCalls::default(),
            subscriber: None,
            failed_at: None,
            lost: 0,
        }
    }

    fn run(mut self) {
        let mut is_open = true;
        while is_open {
            let idle = self.waiting.is_empty() && self.subscriber.as_ref().is_none_or(Subscriber::is_idle);
            match self.receiver.recv_timeout(if idle { IDLE } else { RETRY }) {
                Ok(message) => is_open = self.handle(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => is_open = false,
            }
            // Group commit: everything that is queued goes to disk with one fsync.
            for _ in 1..BATCH_MAX {
                let Some(message) = is_open.then(|| self.receiver.try_recv().ok()).flatten() else { break };
                is_open = self.handle(message);
            }
            self.commit();
            self.feed_subscriber();
        }
    }

    fn handle(&mut self, message: Message) -> bool {
        match message {
            Message::Append { call_id, event, at_ms, synced } => {
                self.fill.queued.fetch_sub(1, Ordering::Relaxed);
                self.enqueue(call_id, event, at_ms, synced);
            }
            Message::Subscribe { after, sender, taken } => {
                self.commit();
                if self.catch_up_with(after) {
                    self.subscriber = Some(Subscriber::new(sender, after));
                    // Whoever asked may have gone.
                    let _ = taken.send(());
                }
            }
            Message::Acknowledge(position) => {
                // What is deleted is judged by what is on disk.
                self.commit();
                if self.waiting.is_empty() {
                    self.segments.delete_up_to(position, &self.live);
                }
                self.fill.on_disk.store(self.segments.bytes(), Ordering::Relaxed);
            }
            Message::Settle(dialogs) => self.owed.settle(&dialogs),
            Message::Close => return false,
        }
        true
    }

    fn enqueue(&mut self, call_id: CallId, event: CallEvent, at_ms: u64, synced: Option<oneshot::Sender<()>>) {
        let is_spare = matches!(event, CallEvent::Said(_) | CallEvent::Measured { .. });
        let max = if is_spare { WAITING_SAID_MAX } else { WAITING_MAX };
        if self.waiting.len() >= max {
            if matches!(event, CallEvent::Ended { .. }) {
                // Not among the calls that are up any more, and so control ends its row.
                self.live.forget(call_id);
            }
            self.lost += 1;
            if self.lost == 1 {
                tracing::error!("The disk takes nothing and {max} records of calls wait; what comes now is lost");
            }
            return;
        }
        let position = self.segments.next_position();
        self.synced.extend(synced.map(|synced| (position, synced)));
        let record = JournalRecord { position, at_ms, call_id, event };
        self.live.handle(&record);
        self.waiting.push_back(record);
    }

    /// A subscriber that has stored more than was ever written here knows an earlier journal: this one was deleted, or
    /// restored from a copy. It would pass over everything up to there, so everything gets a place behind it.
    fn catch_up_with(&mut self, stored: Option<Position>) -> bool {
        let Some(stored) = stored.filter(|stored| self.segments.is_behind(*stored)) else { return true };
        if !self.waiting.is_empty() {
            return false;
        }
        let former = self.segments.boot();
        match self.segments.jump_behind(stored) {
            Ok(live) => {
                self.live = live;
                let boot = self.segments.boot();
                tracing::warn!(
                    "The journal is older than what control has stored (boot {former} and {}): it was deleted or \
                     restored. It goes on as boot {boot}",
                    stored.boot
                );
                true
            }
            Err(error) => {
                tracing::error!("The journal is older than what control has stored, and cannot be rewritten ({error})");
                false
            }
        }
    }

    /// Writes what waits. On an error it stays waiting, the journal counts as full, and it is tried again.
    fn commit(&mut self) {
        if self.failed_at.is_some_and(|at| at.elapsed() < RETRY) {
            return;
        }
        while !self.waiting.is_empty() {
            let count = self.waiting.len().min(BATCH_MAX);
            match self.segments.write(&self.waiting.make_contiguous()[..count]) {
                Ok(()) => self.handle_written(count),
                Err(error) => {
                    if self.failed_at.replace(Instant::now()).is_none() {
                        tracing::error!(
                            "Cannot write the journal ({error}); no new calls are taken until it can be written"
                        );
                    }
                    self.fill.on_disk.store(DISK_BYTES_MAX, Ordering::Relaxed);
                    return;
                }
            }
        }
    }

    fn handle_written(&mut self, count: usize) {
        let last = self.waiting.get(count.saturating_sub(1)).map(|record| record.position);
        let written = self.waiting.drain(..count);
        if let Some(subscriber) = &mut self.subscriber {
            subscriber.handle_written(written);
        }
        self.failed_at = None;
        while self.synced.front().is_some_and(|(position, _)| Some(*position) <= last)
            && let Some((_, synced)) = self.synced.pop_front()
        {
            // Nobody may wait any longer.
            let _ = synced.send(());
        }
        self.fill.on_disk.store(self.segments.bytes(), Ordering::Relaxed);
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            tracing::error!(lost, "The disk takes records again; {lost} were lost meanwhile");
            if let Some(subscriber) = &mut self.subscriber {
                // Told anew which calls are up, control ends the rows whose ends were lost.
                subscriber.is_live = false;
            }
        }
    }

    /// Sends what is on disk and has not been sent, as far as the subscriber takes it.
    fn feed_subscriber(&mut self) {
        let Some(subscriber) = &mut self.subscriber else { return };
        loop {
            if subscriber.backlog.is_empty() && subscriber.is_behind {
                match self.segments.read_after(subscriber.after, BATCH_MAX) {
                    Ok(records) => {
                        subscriber.is_behind = !records.is_empty();
                        subscriber.backlog = records.into();
                    }
                    Err(error) => {
                        tracing::error!("Cannot read the journal back ({error})");
                        return;
                    }
                }
            }
            let Some(record) = subscriber.backlog.front() else { break };
            let position = record.position;
            match subscriber.sender.try_send(ToControl::Record(record.clone())) {
                Ok(()) => {
                    subscriber.backlog.pop_front();
                    subscriber.after = Some(position);
                }
                Err(mpsc::error::TrySendError::Full(_)) => return,
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    self.subscriber = None;
                    return;
                }
            }
        }
        if !subscriber.is_live && self.waiting.is_empty() {
            let live = ToControl::Live { boot: self.segments.boot(), calls: self.live.ids() };
            subscriber.is_live = subscriber.sender.try_send(live).is_ok();
        }
    }
}

impl Subscriber {
    fn new(sender: mpsc::Sender<ToControl>, after: Option<Position>) -> Self {
        Subscriber { sender, after, backlog: VecDeque::new(), is_behind: true, is_live: false }
    }

    /// So that who keeps up is sent what is at hand: reading it back costs as much as its whole file, at each commit.
    fn handle_written(&mut self, records: impl ExactSizeIterator<Item = JournalRecord>) {
        self.is_behind |= self.backlog.len() + records.len() > BATCH_MAX;
        if !self.is_behind {
            self.backlog.extend(records);
        }
    }

    fn is_idle(&self) -> bool {
        self.backlog.is_empty() && self.is_live
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// 16,384 events: 1,000 calls with their five events each, three times over. Full: the event is lost, and counted.
const QUEUE_MAX: usize = 16_384;

/// 256 MiB: 400,000 calls of three records of 200 bytes that control has not fetched. Full: no new calls.
const DISK_BYTES_MAX: usize = 256 << 20;

/// 1,024 records a commit and a read.
const BATCH_MAX: usize = 1024;

/// An idle thread looks around once a minute.
const IDLE: Duration = Duration::from_secs(60);

/// 65,536 records of 200 bytes, 13 MB: 1,000 calls that go on without a disk, with 60 events each. What comes then is
/// lost, and counted; of an end that is lost control learns by the list of calls that are up.
const WAITING_MAX: usize = 65_536;

/// 16,384: what was said gives way to how calls ended.
const WAITING_SAID_MAX: usize = 16_384;

/// 20 ms: how often a slow subscriber or a full disk is tried again.
const RETRY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use talkstack_control::port::{CallStarted, CommandId, Direction, Speaker, Utterance};

    use super::*;

    #[test]
    fn what_was_written_is_sent_in_order_and_once_acknowledged_never_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(dir.path()).expect("opens");
        for call in 1..=2000u128 {
            start(&journal, call);
            end(&journal, call);
        }
        let seen = take(&journal, None, 4001);
        let positions: Vec<_> = records(&seen).map(|record| record.position).collect();
        assert_eq!(positions.len(), 4000);
        assert!(positions.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(seen.last(), Some(&ToControl::Live { boot: 1, calls: vec![] }));
        journal.handle().acknowledge(positions[3999]);
        journal.close();
        let journal = Journal::open(dir.path()).expect("opens again");
        assert_eq!(take(&journal, None, 1), [ToControl::Live { boot: 2, calls: vec![] }]);
    }

    #[test]
    fn a_call_that_a_crash_left_open_is_ended_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(dir.path()).expect("opens");
        start(&journal, 7);
        assert_eq!(take(&journal, None, 2).len(), 2, "on disk");
        // The process is gone without a word: nothing is closed.
        std::mem::forget(journal);
        for boot in 2..=3 {
            let journal = Journal::open(dir.path()).expect("opens again");
            let seen = take(&journal, None, 3);
            let ends: Vec<_> =
                records(&seen).filter(|record| matches!(record.event, CallEvent::Ended { .. })).collect();
            assert_eq!(ends.len(), 1, "boot {boot}");
            assert_eq!(ends[0].position.boot, 2);
            assert_eq!(seen[2], ToControl::Live { boot, calls: vec![] });
            std::mem::forget(journal);
        }
    }

    #[test]
    fn a_torn_or_corrupt_line_costs_only_itself() {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(dir.path()).expect("opens");
        for call in 1..=3u128 {
            end(&journal, call);
        }
        journal.close();
        let file = std::fs::read_dir(dir.path())
            .expect("readable")
            .filter_map(Result::ok)
            .find(|entry| entry.file_name().to_string_lossy().ends_with(".log"))
            .expect("a segment")
            .path();
        let mut bytes = std::fs::read(&file).expect("readable");
        let second = bytes.iter().position(|byte| *byte == b'\n').expect("a line") + 20;
        bytes[second] ^= 1;
        bytes.extend_from_slice(b"0badc0de {\"position\":{\"boot\":1,");
        std::fs::write(&file, bytes).expect("written");
        let journal = Journal::open(dir.path()).expect("opens");
        let calls: Vec<_> = records(&take(&journal, None, 3)).map(|record| record.call_id.0).collect();
        assert_eq!(calls, [1, 3]);
    }

    #[test]
    fn a_subscriber_gets_what_is_behind_its_position_and_a_slow_one_misses_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(dir.path()).expect("opens");
        start(&journal, 9999);
        for call in 1..=500u128 {
            end(&journal, call);
        }
        let (sender, mut receiver) = mpsc::channel(1);
        journal.handle().subscribe(Some(Position { boot: 1, seq: 401 }), sender);
        let seen: Vec<_> = (0..101).filter_map(|_| receiver.blocking_recv()).collect();
        let calls: Vec<_> = records(&seen).map(|record| record.call_id.0).collect();
        assert_eq!(calls, (401..=500).collect::<Vec<_>>());
        assert_eq!(seen[100], ToControl::Live { boot: 1, calls: vec![CallId(9999)] });
        end(&journal, 9999);
        assert!(matches!(receiver.blocking_recv(), Some(ToControl::Record(record)) if record.call_id == CallId(9999)));
    }

    #[test]
    fn a_subscriber_that_has_had_everything_and_then_takes_nothing_for_a_while_misses_nothing_either() {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(dir.path()).expect("opens");
        let (sender, mut receiver) = mpsc::channel(64);
        journal.handle().subscribe(None, sender);
        assert_eq!(receiver.blocking_recv(), Some(ToControl::Live { boot: 1, calls: vec![] }));
        let count = 3 * BATCH_MAX as u64;
        for call in 1..=count {
            end(&journal, call.into());
            if call % 500 == 0 {
                sync(&journal);
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let mut next = || {
            let received = async { tokio::time::timeout(Duration::from_secs(10), receiver.recv()).await };
            runtime.block_on(received).expect("a record is missed")
        };
        let seen: Vec<_> = (0..count + 6).filter_map(|_| next()).collect();
        let positions: Vec<_> = records(&seen).map(|record| record.position.seq).collect();
        assert_eq!(positions, (1..=count + 6).collect::<Vec<_>>());
    }

    #[test]
    fn a_call_outlives_the_deletion_of_its_records_and_a_crash_at_any_step_of_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(dir.path()).expect("opens");
        begin_dialog(&journal, 7);
        begin_dialog(&journal, 8);
        let mut last = 4;
        for call in 100..13_100u128 {
            start(&journal, call);
            end(&journal, call);
            last += 2;
            if call == 200 {
                end(&journal, 8);
                last += 1;
            }
            if call % 1000 == 0 {
                sync(&journal);
                last += 1;
            }
        }
        sync(&journal);
        let before = snapshot(dir.path());
        assert!(before.keys().filter(|name| name.ends_with(".log")).count() >= 2, "more than one file");
        journal.handle().acknowledge(Position { boot: 1, seq: last });
        sync(&journal);
        let after = snapshot(dir.path());
        std::mem::forget(journal);
        let gone: Vec<&String> = before.keys().filter(|name| !after.contains_key(*name)).collect();
        assert!(!gone.is_empty() && after.contains_key("live"), "{gone:?}");
        // A crash with the new file half written, written, and with each number of files deleted.
        let mut states = vec![before.clone()];
        states[0].insert("live.tmp".into(), after["live"][..after["live"].len() / 2].to_vec());
        for deleted in 0..=gone.len() {
            let mut state = before.clone();
            state.insert("live".into(), after["live"].clone());
            gone[..deleted].iter().for_each(|name| drop(state.remove(*name)));
            states.push(state);
        }
        states.push(after);
        for (step, state) in states.iter().enumerate() {
            let dir = tempfile::tempdir().expect("a directory");
            state.iter().for_each(|(name, bytes)| std::fs::write(dir.path().join(name), bytes).expect("written"));
            for boot in 2..=4 {
                let mut journal = Journal::open(dir.path()).expect("opens");
                // Until its BYE is known to have left, it is owed one.
                let cut_off: &[String] = if boot <= 3 { &["dialog 7".into()] } else { &[] };
                assert_eq!(journal.take_cut_off(), cut_off, "step {step}, boot {boot}");
                if boot == 3 {
                    journal.handle().settle_cut_off(vec!["dialog 7".into()]).expect("room");
                }
                let (sender, mut receiver) = mpsc::channel(8192);
                journal.handle().subscribe(Some(Position { boot: 1, seq: last }), sender);
                journal.close();
                let mut ends = Vec::new();
                while let Some(message) = receiver.blocking_recv() {
                    if let ToControl::Record(record) = message
                        && let CallEvent::Ended { .. } = record.event
                    {
                        ends.push((record.call_id.0, record.position.boot));
                    }
                }
                assert_eq!(ends, [(7, 2)], "step {step}, boot {boot}");
            }
        }
    }

    #[test]
    fn control_that_knows_a_later_journal_is_told_everything_of_the_one_that_is_there() {
        let dir = tempfile::tempdir().expect("a directory");
        for call in 1..=2 {
            let journal = Journal::open(dir.path()).expect("opens");
            start(&journal, call);
            end(&journal, call);
            sync(&journal);
            journal.close();
        }
        let older = snapshot(dir.path());
        for kept in [None, Some(older)] {
            let dir = tempfile::tempdir().expect("a directory");
            for (name, bytes) in kept.iter().flatten() {
                std::fs::write(dir.path().join(name), bytes).expect("written");
            }
            let journal = Journal::open(dir.path()).expect("opens");
            start(&journal, 7);
            end(&journal, 7);
            start(&journal, 8);
            let stored = Position { boot: 9, seq: 400 };
            let told = if kept.is_some() { 9 } else { 3 };
            for _ in 0..2 {
                let seen = take(&journal, Some(stored), told + 1);
                let positions: Vec<_> =
                    records(&seen).map(|record| (record.position.boot, record.position.seq)).collect();
                assert_eq!(positions, (1..=told as u64).map(|seq| (10, seq)).collect::<Vec<_>>());
                assert_eq!(seen.last(), Some(&ToControl::Live { boot: 10, calls: vec![CallId(8)] }));
            }
            end(&journal, 8);
            let seen = take(&journal, Some(Position { boot: 10, seq: told as u64 }), 2);
            assert!(matches!(&seen[0], ToControl::Record(record) if record.call_id == CallId(8)), "{seen:?}");
            journal.close();
            let journal = Journal::open(dir.path()).expect("opens");
            let live = take(&journal, Some(Position { boot: 10, seq: told as u64 + 1 }), 1);
            assert_eq!(live, [ToControl::Live { boot: 11, calls: vec![] }]);
        }
    }

    #[test]
    fn a_crash_while_a_restored_journal_is_renumbered_leaves_it_as_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(dir.path()).expect("opens");
        start(&journal, 7);
        sync(&journal);
        journal.close();
        std::fs::write(dir.path().join("0000000010-0000000001.tmp"), "half a li").expect("written");
        let journal = Journal::open(dir.path()).expect("opens");
        let seen = take(&journal, Some(Position { boot: 9, seq: 1 }), 4);
        assert_eq!(records(&seen).map(|record| record.position.boot).collect::<Vec<_>>(), [10; 3]);
        assert!(snapshot(dir.path()).keys().all(|name| !name.ends_with(".tmp")));
    }

    #[test]
    fn a_disk_that_stays_full_costs_what_exceeds_the_bound_and_control_learns_which_calls_are_up() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("journal");
        let (segments, _) = Segments::open(&dir).expect("opens");
        let owed = Owed::open(&dir, Vec::new()).expect("opens");
        let (_appender, receiver) = sync_channel(1);
        let mut writer = Writer::new(segments, owed, receiver, Arc::default());
        let (sender, mut told) = mpsc::channel(2 * WAITING_MAX);
        let (taken, _is_taken) = oneshot::channel();
        writer.handle(Message::Subscribe { after: None, sender, taken });
        writer.feed_subscriber();
        assert!(matches!(told.try_recv(), Ok(ToControl::Live { .. })));
        std::fs::remove_dir_all(&dir).expect("the disk is gone");
        let outcome = Outcome::new(Blame::Caller, EndReason::HungUp);
        let said = || CallEvent::Said(Utterance { speaker: Speaker::Caller, text: "yes".into(), at_ms: 0 });
        writer.enqueue(CallId(1), CallEvent::Started(started()), 0, None);
        (0..WAITING_MAX).for_each(|_| writer.enqueue(CallId(1), said(), 0, None));
        assert_eq!(writer.waiting.len(), WAITING_SAID_MAX);
        (0..WAITING_MAX).for_each(|call| writer.enqueue(CallId(call as u128), CallEvent::Ringing, 0, None));
        assert_eq!(writer.waiting.len(), WAITING_MAX);
        let (synced, mut is_synced) = oneshot::channel();
        writer.enqueue(CallId(1), CallEvent::Ended { outcome }, 0, Some(synced));
        assert_eq!(writer.lost as usize, 2 * WAITING_MAX + 2 - WAITING_MAX);
        assert_eq!(is_synced.try_recv(), Err(oneshot::error::TryRecvError::Closed), "nobody waits in vain");
        writer.commit();
        assert!(writer.failed_at.is_some() && told.try_recv().is_err());

        std::fs::create_dir(&dir).expect("the disk is back");
        writer.failed_at = None;
        writer.commit();
        writer.feed_subscriber();
        assert_eq!((writer.lost, writer.waiting.len()), (0, 0));
        let seen: Vec<_> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        assert_eq!(seen.len(), WAITING_MAX + 1);
        assert_eq!(seen.last(), Some(&ToControl::Live { boot: 1, calls: vec![] }), "call 1 has ended");
    }

    fn begin_dialog(journal: &Journal, call: u128) {
        start(journal, call);
        let event = CallEvent::Dialog { saved: format!("dialog {call}") };
        journal.handle().append(CallId(call), event).expect("room");
    }

    /// Waits until all of it is on disk.
    fn sync(journal: &Journal) {
        let synced = journal.handle().append_synced(CallId(0), CallEvent::Ringing).expect("room");
        synced.blocking_recv().expect("told");
    }

    fn snapshot(dir: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(dir).expect("readable").flatten();
        entries
            .map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                (name, std::fs::read(entry.path()).expect("readable"))
            })
            .collect()
    }

    #[test]
    fn whoever_waits_for_the_disk_is_told_once_the_record_can_be_read_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(dir.path()).expect("opens");
        let event = || CallEvent::DialAccepted { command_id: CommandId("a".into()) };
        let synced: Vec<_> =
            (0..10).map(|call| journal.handle().append_synced(CallId(call), event()).expect("room")).collect();
        for receiver in synced {
            receiver.blocking_recv().expect("told");
        }
        let path = dir.path().join(format!("{:010}-{:010}.log", 1, 1));
        let lines = std::fs::read_to_string(path).expect("readable").lines().count();
        assert_eq!(lines, 10);
    }

    fn start(journal: &Journal, call: u128) {
        journal.handle().append(CallId(call), CallEvent::Started(started())).expect("room");
    }

    fn started() -> CallStarted {
        CallStarted {
            direction: Direction::Inbound,
            from: "+1".into(),
            to: "+2".into(),
            project_id: None,
            agent_id: None,
            sip_call_id: "x".into(),
            trunk_id: None,
            display_name: None,
            verstat: None,
            attestation: None,
            diverted_from: None,
        }
    }

    fn end(journal: &Journal, call: u128) {
        let outcome = Outcome::new(Blame::Caller, EndReason::HungUp);
        journal.handle().append(CallId(call), CallEvent::Ended { outcome }).expect("room");
    }

    fn take(journal: &Journal, after: Option<Position>, count: usize) -> Vec<ToControl> {
        let (sender, mut receiver) = mpsc::channel(8192);
        journal.handle().subscribe(after, sender);
        (0..count).filter_map(|_| receiver.blocking_recv()).collect()
    }

    fn records(seen: &[ToControl]) -> impl Iterator<Item = &JournalRecord> {
        seen.iter().filter_map(|message| match message {
            ToControl::Record(record) => Some(record),
            _ => None,
        })
    }
}
