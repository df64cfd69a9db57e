//! The last configuration snapshot on disk: the call plane boots and answers from it when control is away.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use talkstack_control::port::Snapshot;

/// The file that a snapshot is kept in cannot be used. Start without, and say so.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("the saved file cannot be read ({0})")]
    Io(#[from] std::io::Error),
    /// Its checksum does not fit.
    #[error("the saved file is damaged")]
    Damaged,
    /// It is of another format.
    #[error("the saved file is of another version")]
    Version,
}

/// Keeps a snapshot.
///
/// # Errors
/// What the kernel says; the former snapshot is kept then.
pub fn save(path: &Path, snapshot: &Snapshot) -> std::io::Result<()> {
    save_as(FORMAT, path, snapshot)
}

/// Reads the kept snapshot; `None` when none was kept yet.
///
/// # Errors
/// [`LoadError`].
pub fn load(path: &Path) -> Result<Option<Snapshot>, LoadError> {
    load_as(FORMAT, path)
}

/// Keeps anything, under a first line that names its format and its checksum.
///
/// # Errors
/// What the kernel says; the former content is kept then.
pub fn save_as<T: Serialize + ?Sized>(format: &str, path: &Path, kept: &T) -> std::io::Result<()> {
    let json = serde_json::to_vec(kept)?;
    let mut content = format!("{format} {:08x}\n", crc32fast::hash(&json)).into_bytes();
    content.extend_from_slice(&json);
    crate::durable::replace(path, &content)
}

/// Reads what [`save_as`] kept; `None` when nothing was kept yet.
///
/// # Errors
/// [`LoadError`].
pub fn load_as<T: DeserializeOwned>(format: &str, path: &Path) -> Result<Option<T>, LoadError> {
    let content = match std::fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let end = content.iter().position(|byte| *byte == b'\n').ok_or(LoadError::Damaged)?;
    let head = std::str::from_utf8(&content[..end]).map_err(|_| LoadError::Damaged)?;
    let checksum = head.strip_prefix(format).and_then(|rest| rest.strip_prefix(' ')).ok_or(LoadError::Version)?;
    let json = &content[end + 1..];
    if u32::from_str_radix(checksum, 16) != Ok(crc32fast::hash(json)) {
        return Err(LoadError::Damaged);
    }
    serde_json::from_slice(json).map(Some).map_err(|_| LoadError::Version)
}

/// The first word of the file.
const FORMAT: &str = "talkstack-snapshot-1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_damage_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("snapshot");
        assert!(matches!(load(&path), Ok(None)));
        let snapshot = Snapshot { revision: 7, ..Snapshot::default() };
        save(&path, &snapshot).expect("saved");
        assert_eq!(load(&path).expect("whole"), Some(snapshot));
        let mut content = std::fs::read(&path).expect("readable");
        let last = content.len() - 2;
        content[last] ^= 1;
        std::fs::write(&path, &content).expect("written");
        assert!(matches!(load(&path), Err(LoadError::Damaged)));
        std::fs::write(&path, b"talkstack-snapshot-9 0\n").expect("written");
        assert!(matches!(load(&path), Err(LoadError::Version)));
    }
}
