//! The table `mails`: letters that were promised and are delivered off the request's path.

use rusqlite::{Connection, OptionalExtension, Row, params};

/// A letter.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// Counts up.
    pub id: i64,
    /// One address.
    pub recipient: String,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// Milliseconds since the epoch.
    pub created_ms: i64,
}

/// Queues a letter.
///
/// # Errors
/// What SQLite says.
pub fn insert(connection: &Connection, to: &str, subject: &str, body: &str, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO mails (recipient, subject, body, created_ms) VALUES (?1, ?2, ?3, ?4)";
    connection.execute(sql, params![to, subject, body, now_ms]).map(drop)
}

/// Letters that have not been delivered, the oldest first.
///
/// # Errors
/// What SQLite says.
pub fn waiting(connection: &Connection, max: usize) -> rusqlite::Result<Vec<Mail>> {
    let sql = "SELECT id, recipient, subject, body, created_ms FROM mails WHERE delivered = 0 ORDER BY id LIMIT ?1";
    connection.prepare_cached(sql)?.query_map([max as i64], read)?.collect()
}

/// A letter is where it should be.
///
/// # Errors
/// What SQLite says.
pub fn mark_delivered(connection: &Connection, id: i64) -> rusqlite::Result<()> {
    connection.execute("UPDATE mails SET delivered = 1 WHERE id = ?1", [id]).map(drop)
}

/// Forgets delivered letters written before, some at a time; which.
///
/// # Errors
/// What SQLite says.
pub fn forget(connection: &Connection, created_before_ms: i64, max: usize) -> rusqlite::Result<Vec<i64>> {
    let sql = "DELETE FROM mails WHERE id IN
        (SELECT id FROM mails WHERE delivered = 1 AND created_ms < ?1 LIMIT ?2) RETURNING id";
    connection.prepare_cached(sql)?.query_map(params![created_before_ms, max as i64], |row| row.get(0))?.collect()
}

/// The latest letters.
///
/// # Errors
/// What SQLite says.
pub fn latest(connection: &Connection, max: usize) -> rusqlite::Result<Vec<Mail>> {
    let sql = "SELECT id, recipient, subject, body, created_ms FROM mails ORDER BY id DESC LIMIT ?1";
    connection.prepare_cached(sql)?.query_map([max as i64], read)?.collect()
}

/// One letter.
///
/// # Errors
/// What SQLite says.
pub fn find(connection: &Connection, id: i64) -> rusqlite::Result<Option<Mail>> {
    let sql = "SELECT id, recipient, subject, body, created_ms FROM mails WHERE id = ?1";
    connection.prepare_cached(sql)?.query_row([id], read).optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Mail> {
    Ok(Mail {
        id: row.get(0)?,
        recipient: row.get(1)?,
        subject: row.get(2)?,
        body: row.get(3)?,
        created_ms: row.get(4)?,
    })
}
