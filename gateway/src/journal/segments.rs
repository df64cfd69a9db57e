//! The journal's files: one line a record, a checksum in front, a file per boot and 4 MiB.
//!
//! Beside them lies `live`: the first records of the calls that are up, out of files that were deleted. It is replaced
//! as a whole before anything is deleted, so that at any moment every call that is up can be found.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use talkstack_control::port::{CallEvent, CallId, JournalRecord, Position};

/// The journal cannot be used. The operator's to mend; the program exits 75.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made, read or written.
    #[error("cannot use the journal directory {path} ({source}); make it writable or set store.dir")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// No thread can be started.
    #[error("cannot start the journal's thread ({0})")]
    Thread(#[source] std::io::Error),
}

/// The files and the place of the next record.
#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    boot: u64,
    next_seq: u64,
    files: BTreeMap<PathBuf, Segment>,
    current: Option<(PathBuf, File)>,
    /// What `live` holds.
    carried: Vec<JournalRecord>,
    /// The current file ends in what a failed write left and could not be cut.
    is_torn: bool,
}

/// The calls that have begun and not ended, each with the records that a restart needs: how it began, and its dialog.
#[derive(Debug, Default)]
pub(super) struct LiveCalls(BTreeMap<CallId, Vec<JournalRecord>>);

impl LiveCalls {
    pub(super) fn handle(&mut self, record: &JournalRecord) {
        match record.event {
            CallEvent::DialAccepted { .. } | CallEvent::Started(_) => {
                self.0.entry(record.call_id).or_default().push(record.clone());
            }
            CallEvent::Dialog { .. } => {
                let Some(records) = self.0.get_mut(&record.call_id) else { return };
                // A re-INVITE that moved the far end makes the former one useless.
                records.retain(|former| !matches!(former.event, CallEvent::Dialog { .. }));
                records.push(record.clone());
            }
            CallEvent::Ended { .. } => drop(self.0.remove(&record.call_id)),
            _ => {}
        }
    }

    /// The end of a call that no record tells.
    pub(super) fn forget(&mut self, call_id: CallId) {
        self.0.remove(&call_id);
    }

    pub(super) fn ids(&self) -> Vec<CallId> {
        self.0.keys().copied().collect()
    }

    /// The dialogs that were answered.
    pub(super) fn dialogs(&self) -> Vec<String> {
        let saved = |record: &JournalRecord| match &record.event {
            CallEvent::Dialog { saved } => Some(saved.clone()),
            _ => None,
        };
        self.0.values().flatten().filter_map(saved).collect()
    }

    fn up_to(&self, position: Position) -> Vec<JournalRecord> {
        let records = self.0.values().flatten().filter(|record| record.position <= position);
        let mut records: Vec<_> = records.cloned().collect();
        records.sort_by_key(|record| record.position);
        records
    }
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    bytes: usize,
    last: Position,
}

impl Segments {
    /// Opens the directory as a boot of its own; also returns the calls that have begun and not ended.
    pub(super) fn open(dir: &Path) -> Result<(Self, LiveCalls), OpenError> {
        let failed = |source| OpenError::Directory { path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        sync_parents(dir).map_err(failed)?;
        let boot = count_boot(dir).map_err(failed)?;
        let live = dir.join(LIVE);
        let carried = if live.exists() { read_segment(&live).map_err(failed)? } else { Vec::new() };
        let mut seen: BTreeMap<Position, JournalRecord> = BTreeMap::new();
        seen.extend(carried.iter().map(|record| (record.position, record.clone())));
        let mut files = BTreeMap::new();
        for path in segment_paths(dir).map_err(failed)? {
            let records = read_segment(&path).map_err(failed)?;
            let bytes = std::fs::metadata(&path).map_err(failed)?.len() as usize;
            match records.last() {
                Some(record) => drop(files.insert(path, Segment { bytes, last: record.position })),
                None => std::fs::remove_file(&path).map_err(failed)?,
            }
            let matters =
                |record: &JournalRecord| !matches!(record.event, CallEvent::Said(_) | CallEvent::Measured { .. });
            seen.extend(records.into_iter().filter(matters).map(|record| (record.position, record)));
        }
        let mut open_calls = LiveCalls::default();
        seen.values().for_each(|record| open_calls.handle(record));
        let dir = dir.to_owned();
        Ok((Segments { dir, boot, next_seq: 1, files, current: None, carried, is_torn: false }, open_calls))
    }

    pub(super) fn boot(&self) -> u64 {
        self.boot
    }

    pub(super) fn bytes(&self) -> usize {
        self.files.values().map(|segment| segment.bytes).sum()
    }

    pub(super) fn next_position(&mut self) -> Position {
        let position = Position { boot: self.boot, seq: self.next_seq };
        self.next_seq += 1;
        position
    }

    /// Whether the place is one that no record has had yet.
    pub(super) fn is_behind(&self, stored: Position) -> bool {
        stored >= Position { boot: self.boot, seq: self.next_seq }
    }

    /// Gives every record on disk a place behind `stored`, in the order they have, and goes on as that boot; returns the
    /// calls that are up. One file replaces all: until it has its name the former ones stand, and from then on they are
    /// repetitions.
    pub(super) fn jump_behind(&mut self, stored: Position) -> std::io::Result<LiveCalls> {
        let boot = stored.boot.saturating_add(1);
        let path = self.dir.join(segment_name(Position { boot, seq: 1 }));
        let temporary = path.with_extension("tmp");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let (mut live, mut bytes, mut seq, mut after) = (LiveCalls::default(), 0, 0, None);
        loop {
            let mut records = self.read_after(after, REWRITE_MAX)?;
            let Some(last) = records.last() else { break };
            after = Some(last.position);
            for record in &mut records {
                seq += 1;
                record.position = Position { boot, seq };
                live.handle(record);
            }
            let lines = lines_of(&records)?;
            file.write_all(&lines)?;
            bytes += lines.len();
        }
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        File::open(&self.dir)?.sync_all()?;
        let former = std::mem::take(&mut self.files);
        (self.boot, self.next_seq, self.current, self.is_torn) = (boot, seq + 1, None, false);
        self.files.insert(path, Segment { bytes, last: Position { boot, seq } });
        for path in former.into_keys() {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!("Cannot delete {} ({error})", path.display());
            }
        }
        // Neither is needed: the file's name counts the boot, and what is carried lies in it.
        let counted = crate::durable::replace(&self.dir.join(BOOT), boot.to_string().as_bytes());
        if let Err(error) = counted.and_then(|()| self.carry(Vec::new())) {
            tracing::warn!("The journal's small files are not rewritten ({error})");
        }
        Ok(live)
    }

    /// Appends records and waits until they are on disk.
    pub(super) fn write(&mut self, records: &[JournalRecord]) -> std::io::Result<()> {
        let Some(last) = records.last() else { return Ok(()) };
        let lines = lines_of(records)?;
        if self.current.is_none() {
            self.begin_segment(records[0].position)?;
        }
        let Some((path, file)) = &mut self.current else { return Ok(()) };
        let segment = self.files.entry(path.clone()).or_insert(Segment { bytes: 0, last: last.position });
        if self.is_torn {
            file.set_len(segment.bytes as u64)?;
            self.is_torn = false;
        }
        if let Err(error) = file.write_all(&lines).and_then(|()| file.sync_data()) {
            // Cut what may have been half written, so that the next try does not double it.
            self.is_torn = file.set_len(segment.bytes as u64).is_err();
            return Err(error);
        }
        segment.bytes += lines.len();
        segment.last = last.position;
        if segment.bytes >= SEGMENT_BYTES {
            self.current = None;
        }
        Ok(())
    }

    /// Reads up to `max` records behind `after`, from the oldest on.
    pub(super) fn read_after(&self, after: Option<Position>, max: usize) -> std::io::Result<Vec<JournalRecord>> {
        let is_behind = |record: &JournalRecord| after.is_none_or(|after| record.position > after);
        // What is carried may lie in a file as well.
        let mut records: BTreeMap<Position, JournalRecord> = BTreeMap::new();
        let carried = self.carried.iter().filter(|record| is_behind(record)).cloned();
        records.extend(carried.map(|record| (record.position, record)));
        for (path, segment) in &self.files {
            if after.is_some_and(|after| segment.last <= after) {
                continue;
            }
            let found = read_segment(path)?.into_iter().filter(is_behind);
            records.extend(found.map(|record| (record.position, record)));
            if records.len() >= max {
                break;
            }
        }
        Ok(records.into_values().take(max).collect())
    }

    /// Deletes the files that hold nothing behind `position`, once what calls that are up have in them is carried over.
    /// The file being written goes only while no call is up: until then it grows to its full size.
    pub(super) fn delete_up_to(&mut self, position: Position, live: &LiveCalls) {
        let current = self.current.as_ref().map(|(path, _)| path.clone());
        let is_idle = live.0.is_empty();
        let is_done =
            |path: &PathBuf, segment: &Segment| segment.last <= position && (is_idle || Some(path) != current.as_ref());
        let done: Vec<PathBuf> =
            self.files.iter().filter(|(path, segment)| is_done(path, segment)).map(|(path, _)| path.clone()).collect();
        if done.is_empty() {
            return;
        }
        if let Err(error) = self.carry(live.up_to(position)) {
            tracing::error!("Cannot carry live calls over ({error}); the journal's files stay");
            return;
        }
        for path in done {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!("Cannot delete {} ({error})", path.display());
            }
            self.files.remove(&path);
            if Some(&path) == current.as_ref() {
                self.current = None;
            }
        }
    }

    /// Replaces what `live` holds. A call that has ended leaves it before the file with its end is deleted: it would
    /// come back to life otherwise.
    fn carry(&mut self, records: Vec<JournalRecord>) -> std::io::Result<()> {
        if records != self.carried {
            crate::durable::replace(&self.dir.join(LIVE), &lines_of(&records)?)?;
            self.carried = records;
        }
        Ok(())
    }

    fn begin_segment(&mut self, first: Position) -> std::io::Result<()> {
        let path = self.dir.join(segment_name(first));
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        File::open(&self.dir)?.sync_all()?;
        self.current = Some((path, file));
        Ok(())
    }
}

fn segment_name(first: Position) -> String {
    format!("{:010}-{:010}.log", first.boot, first.seq)
}

fn lines_of(records: &[JournalRecord]) -> std::io::Result<Vec<u8>> {
    let mut lines = Vec::with_capacity(records.len() * LINE_BYTES);
    for record in records {
        let json = serde_json::to_vec(record)?;
        write!(lines, "{:08x} ", crc32fast::hash(&json))?;
        lines.extend_from_slice(&json);
        lines.push(b'\n');
    }
    Ok(lines)
}

/// Makes the directory itself durable: its entry, and its parent's.
fn sync_parents(dir: &Path) -> std::io::Result<()> {
    for parent in dir.ancestors().skip(1).take(2).filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Reads a file's whole records; torn and corrupt lines are left out and told.
fn read_segment(path: &Path) -> std::io::Result<Vec<JournalRecord>> {
    let mut reader = BufReader::new(File::open(path)?);
    let (mut records, mut line) = (Vec::new(), Vec::new());
    while reader.read_until(b'\n', &mut line)? > 0 {
        match parse_line(&line) {
            Some(record) => records.push(record),
            None => tracing::warn!("A damaged record in {} is left out", path.display()),
        }
        line.clear();
    }
    Ok(records)
}

fn parse_line(line: &[u8]) -> Option<JournalRecord> {
    let json = line.strip_suffix(b"\n")?;
    let (checksum, json) = json.split_at_checked(8)?;
    let json = json.strip_prefix(b" ")?;
    let checksum = u32::from_str_radix(std::str::from_utf8(checksum).ok()?, 16).ok()?;
    if checksum != crc32fast::hash(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn segment_paths(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Counts this start: one more than the last, on disk before anything else is.
fn count_boot(dir: &Path) -> std::io::Result<u64> {
    let path = dir.join(BOOT);
    let counted = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
    // Should the counter be lost, the files still say how far it was.
    let named = segment_paths(dir)?
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.split('-').next()?.parse::<u64>().ok())
        .max()
        .unwrap_or(0);
    let boot = counted.max(named) + 1;
    crate::durable::replace(&path, boot.to_string().as_bytes())?;
    Ok(boot)
}

/// Beside the files, and no name of one.
const LIVE: &str = "live";

/// Counts the boots.
const BOOT: &str = "boot";

/// 16,384 records at a time are renumbered: as many as lie in a file.
const REWRITE_MAX: usize = 16_384;

/// 4 MiB: 20,000 records; small enough to read back at once.
const SEGMENT_BYTES: usize = 4 << 20;

/// 256 bytes: a record of the usual length.
const LINE_BYTES: usize = 256;
