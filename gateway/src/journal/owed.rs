//! Dialogs that are owed a BYE: on disk from before their calls' ends are written until the BYE has left, so that a
//! crash in between loses none. A BYE that comes twice is harmless; its dialog is gone.

use std::path::{Path, PathBuf};

/// What is owed, and where that is written.
pub(super) struct Owed {
    path: PathBuf,
    dialogs: Vec<String>,
}

impl Owed {
    /// Adds what a crash has cut off to what is still owed; all of it is on disk on return.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn open(dir: &Path, cut_off: Vec<String>) -> std::io::Result<Self> {
        let path = dir.join(NAME);
        let mut dialogs: Vec<String> = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!("{} is damaged and left out ({error})", path.display());
                Vec::new()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let is_changed = !cut_off.is_empty();
        dialogs.retain(|dialog| !cut_off.contains(dialog));
        // The latest first: in a row of crashes they are the likeliest to be up still.
        dialogs.splice(0..0, cut_off);
        dialogs.truncate(OWED_MAX);
        if is_changed {
            crate::durable::replace(&path, &serde_json::to_vec(&dialogs)?)?;
        }
        Ok(Owed { path, dialogs })
    }

    pub(super) fn dialogs(&self) -> &[String] {
        &self.dialogs
    }

    /// These are owed no more.
    pub(super) fn settle(&mut self, dialogs: &[String]) {
        self.dialogs.retain(|dialog| !dialogs.contains(dialog));
        let settled = if self.dialogs.is_empty() {
            std::fs::remove_file(&self.path)
        } else {
            serde_json::to_vec(&self.dialogs)
                .map_err(std::io::Error::from)
                .and_then(|json| crate::durable::replace(&self.path, &json))
        };
        if let Err(error) = settled
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("Cannot rewrite {} ({error}); its BYEs are sent again", self.path.display());
        }
    }
}

/// Beside the journal's files, and no name of one.
const NAME: &str = "owed";

/// 10,000 dialogs: of twenty crashes of a box with 500 calls, none of which lived long enough to send its BYEs.
const OWED_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_row_of_crashes_the_latest_come_first_and_each_is_owed_until_it_is_settled() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = |cut_off: &[&str]| {
            Owed::open(dir.path(), cut_off.iter().map(|dialog| (*dialog).to_owned()).collect()).expect("opens")
        };
        assert_eq!(open(&["a", "b"]).dialogs(), ["a", "b"]);
        let mut owed = open(&["c", "b"]);
        assert_eq!(owed.dialogs(), ["c", "b", "a"], "each once");
        owed.settle(&["c".into(), "a".into()]);
        assert_eq!(open(&[]).dialogs(), ["b"]);
        open(&[]).settle(&["b".into()]);
        assert_eq!(open(&[]).dialogs(), Vec::<String>::new());
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
    }
}
