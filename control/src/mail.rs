//! Letters on their way: from the table to the outbox, off the request's path and across restarts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::store::mails::Mail;
use crate::store::{Store, StoreError, mails};

/// Writes each waiting letter as `<dir>/<id>.eml`, now and whenever `waits` says so.
pub async fn deliver(store: Store, dir: PathBuf, waits: Arc<Notify>) {
    loop {
        match deliver_waiting(&store, &dir).await {
            Ok(0) => waits.notified().await,
            Ok(_) => {}
            Err(error) => {
                tracing::error!("Cannot write to the outbox ({error}); trying again");
                let _ = tokio::time::timeout(RETRY, waits.notified()).await;
            }
        }
    }
}

/// Why a letter stays where it is.
#[derive(Debug, thiserror::Error)]
enum DeliverError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

async fn deliver_waiting(store: &Store, dir: &Path) -> Result<usize, DeliverError> {
    let waiting = store.read(|connection| mails::waiting(connection, 100).map_err(StoreError::from)).await?;
    let count = waiting.len();
    for mail in waiting {
        let path = dir.join(format!("{:08}.eml", mail.id));
        let text = letter(&mail);
        tokio::task::spawn_blocking(move || write(&path, text.as_bytes()))
            .await
            .map_err(|_| std::io::Error::other("the program is stopping"))??;
        // Written twice after a crash in between, it is the same file.
        store.write(move |connection| mails::mark_delivered(connection, mail.id).map_err(StoreError::from)).await?;
    }
    Ok(count)
}

/// RFC 5322. Recipient and subject were checked when they were made; the body is plain text.
fn letter(mail: &Mail) -> String {
    format!(
        "Date: {}\r\nFrom: Talkstack Edge <talkstack@localhost>\r\nTo: {}\r\nSubject: {}\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\n{}",
        crate::clock::rfc2822(mail.created_ms),
        mail.recipient,
        mail.subject,
        mail.body.replace('\n', "\r\n")
    )
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

/// 10 s: a full disk is looked at again.
const RETRY: Duration = Duration::from_secs(10);
