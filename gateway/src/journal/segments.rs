//! The journal's files: one line a record, a checksum in front, a file per boot and 4 MiB.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
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
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    bytes: usize,
    last: Position,
}

impl Segments {
    /// Opens the directory as a boot of its own; also returns the calls that have begun and not ended.
    pub(super) fn open(dir: &Path) -> Result<(Self, BTreeSet<CallId>), OpenError> {
        let failed = |source| OpenError::Directory { path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let boot = count_boot(dir).map_err(failed)?;
        let mut segments = Segments { dir: dir.to_owned(), boot, next_seq: 1, files: BTreeMap::new(), current: None };
        let mut open_calls = BTreeSet::new();
        for path in segment_paths(dir).map_err(failed)? {
            let records = read_segment(&path).map_err(failed)?;
            for record in &records {
                match record.event {
                    CallEvent::Started(_) => drop(open_calls.insert(record.call_id)),
                    CallEvent::Ended { .. } => drop(open_calls.remove(&record.call_id)),
                    _ => {}
                }
            }
            let bytes = std::fs::metadata(&path).map_err(failed)?.len() as usize;
            match records.last() {
                Some(record) => drop(segments.files.insert(path, Segment { bytes, last: record.position })),
                None => std::fs::remove_file(&path).map_err(failed)?,
            }
        }
        Ok((segments, open_calls))
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

    /// Appends records and waits until they are on disk.
    pub(super) fn write(&mut self, records: &[JournalRecord]) -> std::io::Result<()> {
        let Some(last) = records.last() else { return Ok(()) };
        let mut lines = Vec::with_capacity(records.len() * LINE_BYTES);
        for record in records {
            let json = serde_json::to_vec(record)?;
            write!(lines, "{:08x} ", crc32fast::hash(&json))?;
            lines.extend_from_slice(&json);
            lines.push(b'\n');
        }
        if self.current.is_none() {
            self.begin_segment(records[0].position)?;
        }
        let Some((path, file)) = &mut self.current else { return Ok(()) };
        let segment = self.files.entry(path.clone()).or_insert(Segment { bytes: 0, last: last.position });
        if let Err(error) = file.write_all(&lines).and_then(|()| file.sync_data()) {
            // Cut what may have been half written, so that the next try does not double it.
            let _ = file.set_len(segment.bytes as u64);
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
        let mut records = Vec::new();
        for (path, segment) in &self.files {
            if after.is_some_and(|after| segment.last <= after) {
                continue;
            }
            let behind = |record: &JournalRecord| after.is_none_or(|after| record.position > after);
            records.extend(read_segment(path)?.into_iter().filter(behind));
            if records.len() >= max {
                records.truncate(max);
                break;
            }
        }
        Ok(records)
    }

    /// Deletes the files that hold nothing behind `position`, but never the one being written.
    pub(super) fn delete_up_to(&mut self, position: Position) {
        let current = self.current.as_ref().map(|(path, _)| path.clone());
        self.files.retain(|path, segment| {
            let is_done = segment.last <= position && Some(path) != current.as_ref();
            if is_done && let Err(error) = std::fs::remove_file(path) {
                tracing::warn!("Cannot delete {} ({error})", path.display());
            }
            !is_done
        });
        // The file being written goes as well once all of it is stored and it has grown.
        if let Some((path, _)) = &self.current
            && let Some(segment) = self.files.get(path)
            && segment.last <= position
        {
            let _ = std::fs::remove_file(path);
            self.files.remove(path);
            self.current = None;
        }
    }

    fn begin_segment(&mut self, first: Position) -> std::io::Result<()> {
        let path = self.dir.join(format!("{:010}-{:010}.log", first.boot, first.seq));
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        File::open(&self.dir)?.sync_all()?;
        self.current = Some((path, file));
        Ok(())
    }
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
    let path = dir.join("boot");
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

/// 4 MiB: 20,000 records; small enough to read back at once.
const SEGMENT_BYTES: usize = 4 << 20;

/// 256 bytes: a record of the usual length.
const LINE_BYTES: usize = 256;
