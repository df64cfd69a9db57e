//! Control's end of the pipe: snapshots and commands down, records up into the store.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::ingest;
use crate::port::{
    CallPlane, Command, CommandId, CommandReply, DecodeError, Decoder, DialOrder, JournalRecord, PROTOCOL_VERSION,
    PlaneError, Position, Snapshot, ToCalls, ToControl, encode,
};
use crate::snapshot;
use crate::store::{Store, StoreError, calls};

/// The call plane behind an encoded pipe.
#[derive(Clone)]
pub struct PipedPlane {
    outgoing: mpsc::Sender<Outgoing>,
    /// Only the latest configuration matters: one that nobody has taken yet is replaced.
    latest: watch::Sender<Option<Arc<Snapshot>>>,
    is_connected: Arc<AtomicBool>,
    /// Connections so far.
    connections: Arc<AtomicU64>,
    /// The connection whose backlog is stored.
    live: Arc<watch::Sender<Option<u64>>>,
    replies: Arc<Mutex<Replies>>,
    /// The configuration that routes calls; 0 while there is none.
    applied: Arc<watch::Sender<u64>>,
}

/// A message, and the only connection that it may go over, if there is but one.
type Outgoing = (ToCalls, Option<u64>);

type Replies = HashMap<CommandId, oneshot::Sender<Result<CommandReply, PlaneError>>>;

/// What waits to be sent.
struct Incoming {
    outgoing: mpsc::Receiver<Outgoing>,
    changes: watch::Receiver<Option<Arc<Snapshot>>>,
}

/// Where the pipe comes from.
pub enum PipeSource {
    /// The same process: each call makes one end of a pair whose other end it serves.
    InProcess(Box<dyn Fn() -> std::io::Result<UnixStream> + Send + Sync>),
    /// The socket of `talkstack calls`, connected again whenever it is lost.
    Path(std::path::PathBuf),
}

/// The pipe is closed.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("the call plane has gone")]
    Gone,
    #[error("the pipe failed ({0})")]
    Io(#[from] std::io::Error),
    #[error("the call plane sent what cannot be read ({0})")]
    Decode(#[from] crate::port::DecodeError),
    #[error("the call plane speaks version {0} of the pipe, this is version {PROTOCOL_VERSION}; upgrade both")]
    Version(u32),
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl PipedPlane {
    /// Connects and keeps connected, on the current runtime.
    pub fn spawn(source: PipeSource, store: Store, clock: Clock) -> Self {
        let (outgoing, receiver) = mpsc::channel(OUTGOING_MAX);
        let (latest, changes) = watch::channel(None);
        let plane = PipedPlane {
            outgoing,
            latest,
            is_connected: Arc::default(),
            connections: Arc::default(),
            live: Arc::new(watch::channel(None).0),
            replies: Arc::default(),
            applied: Arc::new(watch::channel(0).0),
        };
        let incoming = Incoming { outgoing: receiver, changes };
        tokio::spawn(plane.clone().keep_connected(source, incoming, store, clock));
        plane
    }

    async fn keep_connected(self, source: PipeSource, mut incoming: Incoming, store: Store, clock: Clock) {
        loop {
            let stream = match &source {
                PipeSource::InProcess(connect) => connect(),
                PipeSource::Path(path) => UnixStream::connect(path).await,
            };
            match stream {
                Ok(stream) => {
                    let closed = self.converse(stream, &mut incoming, &store, &clock).await;
                    self.is_connected.store(false, Ordering::Relaxed);
                    self.live.send_replace(None);
                    self.applied.send_replace(0);
                    // Whoever waits for an answer learns that none will come.
                    if let Ok(mut replies) = self.replies.lock() {
                        replies.clear();
                    }
                    tracing::warn!("{closed}; connecting again");
                }
                Err(error) => tracing::debug!("The call plane is not there yet ({error})"),
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    async fn converse(&self, stream: UnixStream, incoming: &mut Incoming, store: &Store, clock: &Clock) -> Closed {
        let (reader, mut writer) = stream.into_split();
        let connection = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        // What was queued for an earlier connection is in the snapshot or has timed out.
        while incoming.outgoing.try_recv().is_ok() {}
        incoming.changes.mark_unchanged();
        let greeted = async {
            let stored = store.read(|connection| Ok::<_, StoreError>(calls::cursor(connection)?)).await?;
            send(&mut writer, &ToCalls::Hello { version: PROTOCOL_VERSION, stored }).await?;
            let snapshot = store.read(snapshot::build).await?;
            send_snapshot(&mut writer, Some(&snapshot)).await
        };
        if let Err(closed) = greeted.await {
            return closed;
        }
        let (acks, mut acked) = mpsc::channel(16);
        let read = self.read(connection, reader, acks, store, clock);
        let Incoming { outgoing, changes } = incoming;
        let write = async {
            loop {
                let message = tokio::select! {
                    biased;
                    // The sender is in `self` and outlives this.
                    _ = changes.changed() => {
                        changes.mark_changed();
                        None
                    }
                    message = outgoing.recv() => message,
                    position = acked.recv() => position.map(|position| (ToCalls::Ack(position), None)),
                };
                let sent = async {
                    // Before a command the configuration that it relies on.
                    if changes.has_changed().unwrap_or(false) {
                        let latest = changes.borrow_and_update().clone();
                        send_snapshot(&mut writer, latest.as_deref()).await?;
                    }
                    match message {
                        Some((message, Some(only))) if only != connection => self.refuse(&message),
                        Some((message, _)) => send(&mut writer, &message).await?,
                        None => {}
                    }
                    Ok(())
                };
                if let Err(closed) = sent.await {
                    return closed;
                }
            }
        };
        tokio::select! {
            closed = read => closed.err().unwrap_or(Closed::Gone),
            closed = write => closed,
        }
    }

    /// Stores what comes, a batch at a time, and confirms it.
    async fn read(
        &self,
        connection: u64,
        mut reader: OwnedReadHalf,
        acks: mpsc::Sender<Position>,
        store: &Store,
        clock: &Clock,
    ) -> Result<(), Closed> {
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let mut records: Vec<JournalRecord> = Vec::new();
            while records.len() < BATCH_MAX {
                match decoder.next_message()? {
                    None => break,
                    Some(ToControl::Record(record)) => records.push(record),
                    Some(other) => {
                        store_batch(store, std::mem::take(&mut records), &acks).await?;
                        self.handle(connection, other, store, clock).await?;
                    }
                }
            }
            let was_full = records.len() == BATCH_MAX;
            store_batch(store, records, &acks).await?;
            if !was_full {
                match reader.read(&mut buffer).await? {
                    0 => return Err(Closed::Gone),
                    bytes => decoder.feed(&buffer[..bytes]),
                }
            }
        }
    }

    async fn handle(&self, connection: u64, message: ToControl, store: &Store, clock: &Clock) -> Result<(), Closed> {
        match message {
            ToControl::Hello { version: PROTOCOL_VERSION } => self.is_connected.store(true, Ordering::Relaxed),
            ToControl::Hello { version } => return Err(Closed::Version(version)),
            ToControl::Live { calls, .. } => {
                let now_ms = clock.now_ms();
                let calls: Arc<[_]> = calls.into();
                persist(store, move |connection| ingest::close_others(connection, &calls, now_ms)).await;
                self.live.send_replace(Some(connection));
            }
            ToControl::Reply { command_id, reply } => {
                if let Some(waiting) = self.replies.lock().ok().and_then(|mut replies| replies.remove(&command_id)) {
                    // It may have timed out meanwhile.
                    let _ = waiting.send(Ok(reply));
                }
            }
            ToControl::Applied { revision } => {
                self.applied.send_replace(revision);
            }
            ToControl::Record(_) => {}
        }
        Ok(())
    }

    /// Tells whoever sent a command that it has not left.
    fn refuse(&self, message: &ToCalls) {
        let ToCalls::Command { command_id, .. } = message else { return };
        if let Some(waiting) = self.replies.lock().ok().and_then(|mut replies| replies.remove(command_id)) {
            // It may have timed out meanwhile.
            let _ = waiting.send(Err(PlaneError::NotConnected));
        }
    }

    /// Sends a command and waits for its answer.
    async fn ask(
        &self,
        command_id: CommandId,
        command: Command,
        only: Option<u64>,
    ) -> Result<CommandReply, PlaneError> {
        if !self.is_connected() {
            return Err(PlaneError::NotConnected);
        }
        let (sender, receiver) = oneshot::channel();
        if let Ok(mut replies) = self.replies.lock() {
            replies.insert(command_id.clone(), sender);
        }
        let max = command.time().unwrap_or_default() + COMMAND_MAX;
        let message = ToCalls::Command { command_id: command_id.clone(), command };
        self.outgoing.send((message, only)).await.map_err(|_| PlaneError::NotConnected)?;
        let answer = tokio::time::timeout(max, receiver).await;
        if let Ok(mut replies) = self.replies.lock() {
            replies.remove(&command_id);
        }
        match answer {
            Ok(Ok(answer)) => answer,
            _ => Err(PlaneError::TimedOut),
        }
    }
}

impl CallPlane for PipedPlane {
    fn apply(&self, snapshot: Snapshot) {
        self.latest.send_if_modified(|latest| {
            // Two requests may arrive here in the other order than they were stored.
            let is_newer = latest.as_ref().is_none_or(|latest| latest.revision <= snapshot.revision);
            if is_newer {
                *latest = Some(Arc::new(snapshot));
            }
            is_newer
        });
    }

    fn applied(&self, revision: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut applied = self.applied.subscribe();
        Box::pin(async move {
            if self.is_connected() {
                // Stored is stored: the configuration follows as soon as the call plane can take it.
                let _ = tokio::time::timeout(APPLY_MAX, applied.wait_for(|applied| *applied >= revision)).await;
            }
        })
    }

    fn command(
        &self,
        command_id: CommandId,
        command: Command,
    ) -> Pin<Box<dyn Future<Output = Result<CommandReply, PlaneError>> + Send + '_>> {
        Box::pin(self.ask(command_id, command, None))
    }

    fn dial(
        &self,
        connection: u64,
        command_id: CommandId,
        order: DialOrder,
    ) -> Pin<Box<dyn Future<Output = Result<CommandReply, PlaneError>> + Send + '_>> {
        if *self.live.borrow() != Some(connection) {
            return Box::pin(async { Err(PlaneError::NotConnected) });
        }
        Box::pin(self.ask(command_id, Command::Dial(Box::new(order)), Some(connection)))
    }

    fn live(&self) -> watch::Receiver<Option<u64>> {
        self.live.subscribe()
    }

    fn acknowledge(&self, position: Position) {
        // Lost, it is made good by the next one.
        let _ = self.outgoing.try_send((ToCalls::Ack(position), None));
    }

    fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }
}

async fn store_batch(store: &Store, records: Vec<JournalRecord>, acks: &mpsc::Sender<Position>) -> Result<(), Closed> {
    let Some(last) = records.last().map(|record| record.position) else { return Ok(()) };
    let records: Arc<[JournalRecord]> = records.into();
    persist(store, move |connection| ingest::ingest(connection, &records)).await;
    acks.send(last).await.map_err(|_| Closed::Gone)
}

/// Stores, and tries again until it is stored: a full disk or a held file passes, and meanwhile the journal keeps what
/// comes. Giving up instead would part the halves of `talkstack serve` for good.
async fn persist(store: &Store, work: impl Fn(&Connection) -> Result<(), StoreError> + Clone + Send + 'static) {
    while let Err(error) = store.write(work.clone()).await {
        tracing::error!("Records of calls wait: {error}; trying again");
        tokio::time::sleep(STORE_RETRY).await;
    }
}

/// A configuration that does not fit into a message is not sent; the one before goes on.
async fn send_snapshot(writer: &mut OwnedWriteHalf, snapshot: Option<&Snapshot>) -> Result<(), Closed> {
    let Some(snapshot) = snapshot else { return Ok(()) };
    match send(writer, &ToCalls::Snapshot(snapshot.clone())).await {
        Err(Closed::Decode(DecodeError::TooLong(bytes))) => {
            tracing::error!("The configuration has {bytes} bytes and does not fit; calls go by the one before");
            Ok(())
        }
        sent => sent,
    }
}

async fn send<T: Serialize>(writer: &mut OwnedWriteHalf, message: &T) -> Result<(), Closed> {
    let mut bytes = Vec::new();
    encode(message, &mut bytes)?;
    Ok(writer.write_all(&bytes).await?)
}

/// 256 messages: commands and confirmations of a busy minute.
const OUTGOING_MAX: usize = 256;

/// 64 KiB a read.
const READ_BYTES: usize = 64 << 10;

/// 1,024 records a transaction.
const BATCH_MAX: usize = 1024;

/// 1 s: a call plane that is held up holds up no answer for longer.
const APPLY_MAX: Duration = Duration::from_secs(1);

/// 5 s: twice the call plane's own limit.
const COMMAND_MAX: Duration = Duration::from_secs(5);

/// 1 s before records are stored again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// 200 ms between two tries.
const RECONNECT: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::tests::started;
    use crate::port::{CallEvent, CallId};

    #[tokio::test]
    async fn calls_are_stored_once_the_database_is_free_again_and_the_halves_stay_joined() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("t.db");
        let store = Store::open(&path).expect("opens");
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let theirs = Mutex::new(Some(theirs));
        // A second connection is refused: the halves must stay joined over the first.
        let connect = move || theirs.lock().expect("unpoisoned").take().ok_or(std::io::ErrorKind::NotConnected.into());
        let plane = PipedPlane::spawn(PipeSource::InProcess(Box::new(connect)), store.clone(), Clock::of(|| 1));
        let (mut reader, mut writer) = ours.into_split();
        send(&mut writer, &ToControl::Hello { version: PROTOCOL_VERSION }).await.expect("sent");
        let holder = Connection::open(&path).expect("opens");
        holder.execute_batch("BEGIN IMMEDIATE").expect("held");
        let position = Position { boot: 1, seq: 1 };
        let record = JournalRecord { position, at_ms: 1, call_id: CallId(1), event: CallEvent::Started(started()) };
        send(&mut writer, &ToControl::Record(record)).await.expect("sent");
        let failed = store.write(|_| Ok::<(), StoreError>(())).await;
        assert!(matches!(failed, Err(StoreError::Busy)), "the record fails with this one");
        holder.execute_batch("ROLLBACK").expect("free");
        let mut decoder = Decoder::default();
        let mut buffer = [0; 4096];
        let acknowledged = loop {
            match decoder.next_message().expect("readable") {
                Some(ToCalls::Ack(position)) => break position,
                Some(_) => {}
                None => {
                    let bytes = reader.read(&mut buffer).await.expect("open");
                    assert_ne!(bytes, 0, "the halves have parted");
                    decoder.feed(&buffer[..bytes]);
                }
            }
        };
        assert_eq!(acknowledged, position);
        assert!(plane.is_connected());
    }

    #[tokio::test]
    async fn only_the_latest_configuration_is_kept_for_whoever_reads_late() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("t.db")).expect("opens");
        let plane = PipedPlane::spawn(PipeSource::Path(dir.path().join("nobody.sock")), store, Clock::of(|| 1));
        for revision in [5, 7, 6] {
            plane.apply(Snapshot { revision, ..Snapshot::default() });
        }
        assert_eq!(plane.latest.borrow().as_ref().map(|snapshot| snapshot.revision), Some(7));
    }
}
