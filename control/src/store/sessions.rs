//! The tables `sessions` and `refresh_tokens`: a log-in, and the chain of tokens that keeps it alive.

use rusqlite::{Connection, OptionalExtension, params};

/// A refresh token and its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    /// The session.
    pub session_id: String,
    /// Whose.
    pub user_id: String,
    /// When the token was replaced by the next.
    pub replaced_ms: Option<i64>,
    /// When the session ends unless it is refreshed.
    pub expires_ms: i64,
    /// The session was ended.
    pub revoked: bool,
}

/// Begins a session with its first refresh token.
///
/// # Errors
/// What SQLite says.
pub fn begin(
    connection: &Connection,
    id: &str,
    user_id: &str,
    expires_ms: i64,
    digest: &[u8; 32],
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO sessions (id, user_id, expires_ms) VALUES (?1, ?2, ?3)";
    connection.execute(sql, params![id, user_id, expires_ms])?;
    add_token(connection, id, digest)
}

/// Adds a refresh token; the same one twice is one.
///
/// # Errors
/// What SQLite says.
pub fn add_token(connection: &Connection, session_id: &str, digest: &[u8; 32]) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO refresh_tokens (digest, session_id) VALUES (?1, ?2)";
    connection.execute(sql, params![digest, session_id]).map(drop)
}

/// Finds a refresh token.
///
/// # Errors
/// What SQLite says.
pub fn find(connection: &Connection, digest: &[u8; 32]) -> rusqlite::Result<Option<Refresh>> {
    let sql = "SELECT s.id, s.user_id, t.replaced_ms, s.expires_ms, s.revoked
        FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id WHERE t.digest = ?1";
    connection
        .prepare_cached(sql)?
        .query_row([digest], |row| {
            Ok(Refresh {
                session_id: row.get(0)?,
                user_id: row.get(1)?,
                replaced_ms: row.get(2)?,
                expires_ms: row.get(3)?,
                revoked: row.get(4)?,
            })
        })
        .optional()
}

/// Marks a token as replaced, the first time, and lets its session live on.
///
/// # Errors
/// What SQLite says.
pub fn replace(connection: &Connection, digest: &[u8; 32], now_ms: i64, expires_ms: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE refresh_tokens SET replaced_ms = coalesce(replaced_ms, ?2) WHERE digest = ?1";
    connection.execute(sql, params![digest, now_ms])?;
    let sql = "UPDATE sessions SET expires_ms = ?2
        WHERE id = (SELECT session_id FROM refresh_tokens WHERE digest = ?1)";
    connection.execute(sql, params![digest, expires_ms]).map(drop)
}

/// Ends a session.
///
/// # Errors
/// What SQLite says.
pub fn revoke(connection: &Connection, session_id: &str) -> rusqlite::Result<()> {
    connection.execute("UPDATE sessions SET revoked = 1 WHERE id = ?1", [session_id]).map(drop)
}

/// Forgets sessions that expired before, with their tokens, some at a time; how many.
///
/// # Errors
/// What SQLite says.
pub fn forget(connection: &Connection, expired_before_ms: i64, max: usize) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_ms < ?1 LIMIT ?2)";
    connection.execute(sql, params![expired_before_ms, max as i64])
}

/// Forgets tokens of live sessions that were replaced before, some at a time; how many.
///
/// # Errors
/// What SQLite says.
pub fn forget_tokens(connection: &Connection, replaced_before_ms: i64, max: usize) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM refresh_tokens WHERE digest IN
        (SELECT digest FROM refresh_tokens WHERE replaced_ms IS NOT NULL AND replaced_ms < ?1 LIMIT ?2)";
    connection.execute(sql, params![replaced_before_ms, max as i64])
}

/// Tells whether a session of the user is alive.
///
/// # Errors
/// What SQLite says.
pub fn is_alive(connection: &Connection, session_id: &str, user_id: &str, now_ms: i64) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM sessions WHERE id = ?1 AND user_id = ?2 AND revoked = 0 AND expires_ms > ?3";
    connection.prepare_cached(sql)?.exists(params![session_id, user_id, now_ms])
}
