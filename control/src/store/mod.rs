//! The store: one SQLite file, one writer, a few readers. The only SQL of the project is in this folder.
//!
//! Writes from many requests share one transaction and one fsync (group commit); each is answered after the COMMIT, so
//! what was acknowledged survives `kill -9` and a power cut.

pub mod agents;
pub mod calls;
pub mod codes;
pub mod deliveries;
pub mod diagnoses;
pub mod dials;
pub mod do_not_call;
pub mod extensions;
pub mod idempotency;
mod json;
pub mod mails;
pub mod messages;
mod migrations;
pub mod numbers;
pub mod projects;
pub mod providers;
pub mod refusals;
pub mod routes;
pub mod sessions;
pub mod settings;
pub mod trunks;
pub mod users;
pub mod utterances;
pub mod webhooks;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{Semaphore, oneshot, watch};

/// The store of one box.
#[derive(Clone)]
pub struct Store {
    writer: SyncSender<Job>,
    readers: Arc<Readers>,
    commits: watch::Receiver<u64>,
}

/// A store that cannot be opened. The operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be used.
    #[error("cannot use the database {path} ({source}); make the directory writable or set store.dir")]
    Open {
        /// Which file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A later version of this program has written it.
    #[error("the database {path} has schema {found}, this version knows {known}; upgrade, or restore a backup")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// The schema in the file.
        found: i64,
        /// The newest known here.
        known: i64,
    },
    /// No thread can be started.
    #[error("cannot start the store's thread ({0})")]
    Thread(#[source] std::io::Error),
}

/// A request that the store could not carry out. Answer 503 where it may go better later, else 500.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite failed: a mistake of ours, or a broken file. Answer 500.
    #[error("the database failed")]
    Sql(#[source] rusqlite::Error),
    /// What was asked of it panicked; nothing of it is stored. Answer 500.
    #[error("the database's task panicked")]
    Panicked,
    /// The disk is full or fails; nothing is stored. Answer 503.
    #[error("the disk does not take the data")]
    Disk,
    /// Too many writes wait, or another process holds the file. Answer 503.
    #[error("the database is busy")]
    Busy,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => StoreError::Disk,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy,
            _ => StoreError::Sql(error),
        }
    }
}

/// Runs inside the transaction, or is refused where there is none; what it returns is told how the transaction ended.
type Job = Box<dyn FnOnce(Option<&Connection>) -> Box<dyn FnOnce(Ended) + Send> + Send>;

/// How a transaction ended.
#[derive(Clone, Copy)]
enum Ended {
    Committed,
    Busy,
    Lost,
}

struct Readers {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Store {
    /// Opens or makes the file and brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Open { path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(failed)?;
        configure(&connection).map_err(failed)?;
        restrict(path);
        migrations::migrate(&mut connection).map_err(|error| match error {
            migrations::MigrateError::Sql(source) => failed(source),
            migrations::MigrateError::Newer { found, known } => {
                OpenError::Newer { path: path.to_owned(), found, known }
            }
        })?;
        let mut idle = Vec::new();
        for _ in 0..READERS {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let reader = Connection::open_with_flags(path, flags).map_err(failed)?;
            reader.busy_timeout(BUSY).map_err(failed)?;
            idle.push(reader);
        }
        let (writer, jobs) = sync_channel(JOBS_MAX);
        let (committed, commits) = watch::channel(0);
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || write_jobs(&connection, &jobs, &committed))
            .map_err(OpenError::Thread)?;
        let readers = Arc::new(Readers { idle: Mutex::new(idle), permits: Arc::new(Semaphore::new(READERS)) });
        Ok(Store { writer, readers, commits })
    }

    /// Runs `work` in the writer's next transaction and returns its result once that is committed. An `Err` undoes what
    /// `work` did and nothing else.
    ///
    /// # Errors
    /// What `work` returns, or a [`StoreError`] of the commit.
    pub async fn write<T, E>(&self, work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = connection.map(|connection| in_savepoint(connection, work));
            Box::new(move |ended| {
                let result = match (result, ended) {
                    (Some(Err(error)), _) => Err(error),
                    (Some(done), Ended::Committed) => done,
                    (_, Ended::Busy) => Err(StoreError::Busy.into()),
                    (_, Ended::Committed | Ended::Lost) => Err(StoreError::Disk.into()),
                };
                // Whoever asked may have gone; what was committed stays.
                let _ = sender.send(result);
            })
        });
        self.writer.try_send(job).map_err(|_| StoreError::Busy)?;
        receiver.await.unwrap_or_else(|_| Err(StoreError::Panicked.into()))
    }

    /// Counts transactions: it changes whenever something may have, for whoever works off what others store.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.clone()
    }

    /// Runs `work` on a reader.
    ///
    /// # Errors
    /// What `work` returns, or a [`StoreError`].
    pub async fn read<T, E>(&self, work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let readers = Arc::clone(&self.readers);
        // The permit goes with the reader, also when whoever asked has gone meanwhile.
        let permit = Arc::clone(&readers.permits).acquire_owned().await.map_err(|_| StoreError::Busy)?;
        let task = tokio::task::spawn_blocking(move || {
            let reader = readers.idle.lock().ok().and_then(|mut idle| idle.pop()).ok_or(StoreError::Busy)?;
            let result = contained(&reader, work);
            if let Ok(mut idle) = readers.idle.lock() {
                idle.push(reader);
            }
            drop(permit);
            result
        });
        task.await.unwrap_or_else(|_| Err(StoreError::Panicked.into()))
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")
}

/// Readable by its owner only; SQLite gives the WAL the same mode.
fn restrict(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if let Err(error) = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)) {
        tracing::warn!("Cannot restrict the mode of the database ({error})");
    }
}

/// The writer's thread: whatever waits goes into one transaction.
fn write_jobs(connection: &Connection, jobs: &Receiver<Job>, commits: &watch::Sender<u64>) {
    while let Ok(first) = jobs.recv() {
        let begun = connection.execute_batch("BEGIN IMMEDIATE");
        let mut done = vec![first(begun.is_ok().then_some(connection))];
        while done.len() < BATCH_MAX {
            let Ok(job) = jobs.try_recv() else { break };
            // A full disk ends the transaction under the jobs that are in it.
            let is_open = !connection.is_autocommit();
            done.push(job(is_open.then_some(connection)));
        }
        let ended = match begun.and_then(|()| connection.execute_batch("COMMIT")).map_err(StoreError::from) {
            Ok(()) => Ended::Committed,
            Err(error) => {
                tracing::error!("A transaction was not stored: {error}");
                // A transaction that is over already cannot be rolled back.
                let _ = connection.execute_batch("ROLLBACK");
                if matches!(error, StoreError::Busy) { Ended::Busy } else { Ended::Lost }
            }
        };
        for finish in done {
            finish(ended);
        }
        commits.send_modify(|count| *count += 1);
    }
}

fn in_savepoint<T, E: From<StoreError>>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    connection.execute_batch("SAVEPOINT job").map_err(StoreError::from)?;
    let result = contained(connection, work);
    let end = if result.is_ok() { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
    match connection.execute_batch(end) {
        // The first error says more.
        Err(error) if result.is_ok() => Err(StoreError::from(error).into()),
        _ => result,
    }
}

/// A panic ends what was asked and neither the writer nor a reader.
fn contained<T, E: From<StoreError>>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(|| work(connection))).unwrap_or_else(|_| Err(StoreError::Panicked.into()))
}

/// Four readers: two cores, and two that wait for the disk.
const READERS: usize = 4;

/// 1,024 writes wait; at 2,000 a second that is half a second. Full: 503.
const JOBS_MAX: usize = 1024;

/// 256 writes a transaction: enough to share the fsync, few enough to answer soon.
const BATCH_MAX: usize = 256;

/// 2 s: another process that holds the file longer is an operator with a tool. With the wait for a batch that waits, too,
/// a client hears 503 within 5 s.
const BUSY: std::time::Duration = std::time::Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_write_that_fails_undoes_itself_and_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("t.db")).expect("opens");
        let put = |key: &'static str, fail: bool| {
            let store = store.clone();
            async move {
                store
                    .write(move |connection| {
                        settings::put(connection, key, "x")?;
                        if fail { Err(StoreError::Busy) } else { Ok(()) }
                    })
                    .await
            }
        };
        let (a, b, c) = tokio::join!(put("a", false), put("b", true), put("c", false));
        assert!(a.is_ok() && b.is_err() && c.is_ok());
        for (key, expected) in [("a", Some("x")), ("b", None), ("c", Some("x"))] {
            let value: Result<_, StoreError> = store.read(move |connection| Ok(settings::find(connection, key)?)).await;
            assert_eq!(value.expect("read").as_deref(), expected, "{key}");
        }
    }

    #[tokio::test]
    async fn a_panic_ends_one_request_and_the_store_goes_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("t.db")).expect("opens");
        for _ in 0..2 * READERS {
            let read: Result<(), StoreError> = store.read(|_| panic!("on purpose")).await;
            assert!(matches!(read, Err(StoreError::Panicked)));
        }
        let write = store.write(|connection| -> Result<(), StoreError> {
            settings::put(connection, "half", "x")?;
            panic!("on purpose")
        });
        assert!(matches!(write.await, Err(StoreError::Panicked)));
        let write = store.write(|connection| Ok::<_, StoreError>(settings::put(connection, "whole", "x")?));
        write.await.expect("the writer lives");
        let read = store.read(|connection| {
            Ok::<_, StoreError>((settings::find(connection, "half")?, settings::find(connection, "whole")?))
        });
        assert_eq!(read.await.expect("a reader lives"), (None, Some("x".into())));
    }

    #[tokio::test]
    async fn while_another_process_holds_the_file_nothing_is_written_and_then_all_goes_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("t.db");
        let store = Store::open(&path).expect("opens");
        let other = Connection::open(&path).expect("opens");
        other.execute_batch("BEGIN IMMEDIATE").expect("held");
        let put = |key: &'static str| {
            store.write(move |connection| Ok::<_, StoreError>(settings::put(connection, key, "x")?))
        };
        let (first, second) = tokio::join!(put("first"), put("second"));
        assert!(matches!((first, second), (Err(StoreError::Busy), Err(StoreError::Busy))));
        other.execute_batch("ROLLBACK").expect("free");
        put("third").await.expect("stored");
        let read = store.read(|connection| {
            Ok::<_, StoreError>((settings::find(connection, "first")?, settings::find(connection, "third")?))
        });
        assert_eq!(read.await.expect("read"), (None, Some("x".into())));
    }

    #[test]
    fn a_later_schema_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("t.db");
        drop(Store::open(&path).expect("opens"));
        Connection::open(&path).expect("opens").pragma_update(None, "user_version", 999).expect("set");
        assert!(matches!(Store::open(&path), Err(OpenError::Newer { found: 999, .. })));
    }
}
