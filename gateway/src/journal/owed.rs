//! Dialogs that are owed a BYE: on disk from before their calls' ends are written until the BYE has left, so that a
//! crash in between loses none. A BYE that comes twice is harmless; its dialog is gone.

use std::path::{Path, PathBuf};

/// What is owed, and where that is written.
#[derive(Debug)]
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
        let former = dialogs.len();
        dialogs.extend(cut_off);
        let is_changed = dialogs.len() != former;
        // The latest are the likeliest to be up still.
        dialogs.drain(..dialogs.len().saturating_sub(OWED_MAX));
        if is_changed {
            crate::durable::replace(&path, &serde_json::to_vec(&dialogs)?)?;
        }
        Ok(Owed { path, dialogs })
    }

    pub(super) fn dialogs(&self) -> &[String] {
        &self.dialogs
    }

    /// Nothing is owed any more.
    pub(super) fn settle(&mut self) {
        self.dialogs.clear();
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("Cannot delete {} ({error}); its BYEs are sent again", self.path.display());
        }
    }
}

/// Beside the journal's files, and no name of one.
const NAME: &str = "owed";

/// 10,000 dialogs: of twenty crashes of a box with 500 calls, none of which lived long enough to send its BYEs.
const OWED_MAX: usize = 10_000;
