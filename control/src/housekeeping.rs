//! What nobody needs any more, forgotten once a day: sessions, replaced tokens, accounts that were never verified, and
//! letters that were delivered. Deliveries of webhooks and idempotency keys are forgotten where they are made.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use crate::clock::Clock;
use crate::mail::outbox_file;
use crate::store::{Store, StoreError, mails, sessions, users};

/// Tidies up at once and then every day, until the process ends.
pub(crate) async fn run(store: Store, clock: Clock, outbox: PathBuf) {
    loop {
        match tidy_up(&store, clock.now_ms(), &outbox).await {
            Ok(0) => {}
            Ok(forgotten) => tracing::debug!("Forgot {forgotten} sessions, tokens, pending accounts and letters"),
            Err(error) => tracing::warn!("Old sessions and letters stay for a day more ({error})"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Forgets all that is due, a transaction for some of it at a time; how much.
async fn tidy_up(store: &Store, now_ms: i64, outbox: &Path) -> Result<usize, StoreError> {
    let mut forgotten = 0;
    loop {
        let (rows, letters) =
            store.write(move |connection| forget(connection, now_ms).map_err(StoreError::from)).await?;
        for id in &letters {
            // Gone already, or sent by a mail server: there is no file.
            let _ = tokio::fs::remove_file(outbox_file(outbox, *id)).await;
        }
        forgotten += rows + letters.len();
        if rows + letters.len() == 0 {
            return Ok(forgotten);
        }
    }
}

fn forget(connection: &Connection, now_ms: i64) -> rusqlite::Result<(usize, Vec<i64>)> {
    let rows = sessions::forget(connection, now_ms - SESSION_KEPT_MS, ROWS_MAX)?
        + sessions::forget_tokens(connection, now_ms - TOKEN_KEPT_MS, ROWS_MAX)?
        + users::forget_pending(connection, now_ms - PENDING_KEPT_MS, ROWS_MAX)?;
    Ok((rows, mails::forget(connection, now_ms - MAIL_KEPT_MS, ROWS_MAX)?))
}

const DAY_MS: i64 = 24 * 3600 * 1000;

/// 30 days after a session has expired: whoever asks who was logged in asks within a month.
const SESSION_KEPT_MS: i64 = 30 * DAY_MS;

/// 30 days after a token was replaced: a session that nobody refreshed has expired by then, so a thief who comes with it
/// later has nothing to take.
const TOKEN_KEPT_MS: i64 = 30 * DAY_MS;

/// 7 days: whoever signs up and never verifies may sign up again. The code itself lives for minutes.
const PENDING_KEPT_MS: i64 = 7 * DAY_MS;

/// 30 days: what an operator looks up to see whether a letter has left.
const MAIL_KEPT_MS: i64 = 30 * DAY_MS;

/// 500 rows of each kind a transaction: some milliseconds, between which calls and requests are stored.
const ROWS_MAX: usize = 500;

/// A day.
const EVERY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_old_goes_with_all_that_hangs_on_it_and_everything_else_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("t.db")).expect("opens");
        let now_ms = 100 * DAY_MS;
        let fill = move |connection: &Connection| {
            let user = |id: &str, verified: u8, at_ms: i64| {
                connection.execute(
                    "INSERT INTO users (id, email, name, password_hash, verified, created_ms, updated_ms)
                        VALUES (?1, ?1, '', '', ?2, 0, ?3)",
                    rusqlite::params![id, verified, at_ms],
                )
            };
            user("verified", 1, 0)?;
            user("pending", 0, now_ms - PENDING_KEPT_MS)?;
            for old in 0..1200 {
                user(&format!("old {old}"), 0, now_ms - PENDING_KEPT_MS - 1)?;
            }
            user("with a project", 0, 0)?;
            connection.execute_batch(
                "INSERT INTO projects (id, user_id, name, description, created_ms, updated_ms)
                    VALUES ('p', 'with a project', '', '', 0, 0)",
            )?;
            for (at, (id, expires_ms)) in
                [("dead", now_ms - SESSION_KEPT_MS - 1), ("alive", now_ms + 1)].into_iter().enumerate()
            {
                sessions::begin(connection, id, "verified", expires_ms, &[at as u8; 32])?;
            }
            for (token, replaced_ms) in [(7, now_ms - TOKEN_KEPT_MS - 1), (8, now_ms - TOKEN_KEPT_MS)] {
                sessions::add_token(connection, "alive", &[token; 32])?;
                sessions::replace(connection, &[token; 32], replaced_ms, now_ms + 1)?;
            }
            for at_ms in [0, now_ms, 0] {
                mails::insert(connection, "a@b.com", "", "", at_ms)?;
            }
            mails::mark_delivered(connection, 1)?;
            mails::mark_delivered(connection, 2)
        };
        store.write(move |connection| fill(connection).map_err(StoreError::from)).await.expect("filled");
        std::fs::write(dir.path().join("00000001.eml"), "").expect("written");
        let forgotten = tidy_up(&store, now_ms, dir.path()).await.expect("done");
        assert_eq!(forgotten, 1200 + 1 + 1 + 1);
        assert!(!dir.path().join("00000001.eml").exists());
        let left = |sql: &'static str| {
            let store = store.clone();
            async move {
                let read = move |connection: &Connection| connection.query_row(sql, [], |row| row.get::<_, String>(0));
                store.read(move |connection| read(connection).map_err(StoreError::from)).await.expect("read")
            }
        };
        let users = left("SELECT group_concat(id, ', ') FROM (SELECT id FROM users ORDER BY id)").await;
        assert_eq!(users, "pending, verified, with a project");
        assert_eq!(left("SELECT group_concat(id) FROM sessions").await, "alive");
        let tokens =
            "SELECT group_concat(hex(substr(digest, 1, 1))) FROM (SELECT digest FROM refresh_tokens ORDER BY 1)";
        assert_eq!(left(tokens).await, "01,08");
        assert_eq!(left("SELECT group_concat(id) FROM mails").await, "2,3", "one is not delivered yet");
        assert_eq!(tidy_up(&store, now_ms, dir.path()).await.expect("done"), 0);
    }
}
