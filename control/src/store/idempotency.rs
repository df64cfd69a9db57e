//! The table `idempotency_keys`: what was answered to a request that dials, so that a repetition does not dial again.

use rusqlite::{Connection, OptionalExtension, params};

/// What was asked and answered under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Of the body.
    pub body_digest: Vec<u8>,
    /// JSON.
    pub answer: String,
}

/// Finds what the account was answered under a key since `since_ms`.
///
/// # Errors
/// What SQLite says.
pub fn find(connection: &Connection, user_id: &str, key: &str, since_ms: i64) -> rusqlite::Result<Option<Kept>> {
    let sql = "SELECT body_digest, answer FROM idempotency_keys
        WHERE user_id = ?1 AND key = ?2 AND created_ms > ?3";
    connection
        .prepare_cached(sql)?
        .query_row(params![user_id, key, since_ms], |row| Ok(Kept { body_digest: row.get(0)?, answer: row.get(1)? }))
        .optional()
}

/// Keeps an answer, and forgets those up to `since_ms`.
///
/// # Errors
/// What SQLite says.
pub fn put(
    connection: &Connection,
    user_id: &str,
    key: &str,
    kept: &Kept,
    since_ms: i64,
    now_ms: i64,
) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM idempotency_keys WHERE created_ms <= ?1")?.execute([since_ms])?;
    let sql =
        "INSERT INTO idempotency_keys (user_id, key, body_digest, answer, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = params![user_id, key, kept.body_digest, kept.answer, now_ms];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}
