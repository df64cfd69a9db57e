//! The table `codes`: e-mail verification codes, hashed, one per account.

use rusqlite::{Connection, OptionalExtension, params};

/// A code that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// Under the box's key.
    pub mac: Vec<u8>,
    /// Milliseconds since the epoch.
    pub sent_ms: i64,
    /// Wrong ones so far.
    pub attempts: i64,
}

/// Replaces the account's code.
///
/// # Errors
/// What SQLite says.
pub fn put(connection: &Connection, user_id: &str, mac: &[u8; 32], now_ms: i64) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO codes (user_id, mac, sent_ms, attempts) VALUES (?1, ?2, ?3, 0)";
    connection.execute(sql, params![user_id, mac, now_ms]).map(drop)
}

/// Reads the account's code.
///
/// # Errors
/// What SQLite says.
pub fn find(connection: &Connection, user_id: &str) -> rusqlite::Result<Option<Code>> {
    connection
        .prepare_cached("SELECT mac, sent_ms, attempts FROM codes WHERE user_id = ?1")?
        .query_row([user_id], |row| Ok(Code { mac: row.get(0)?, sent_ms: row.get(1)?, attempts: row.get(2)? }))
        .optional()
}

/// Counts a wrong attempt.
///
/// # Errors
/// What SQLite says.
pub fn count_attempt(connection: &Connection, user_id: &str) -> rusqlite::Result<()> {
    connection.execute("UPDATE codes SET attempts = attempts + 1 WHERE user_id = ?1", [user_id]).map(drop)
}

/// Takes the account's code away.
///
/// # Errors
/// What SQLite says.
pub fn remove(connection: &Connection, user_id: &str) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM codes WHERE user_id = ?1", [user_id]).map(drop)
}
