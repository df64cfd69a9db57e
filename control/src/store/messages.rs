//! The table `messages`: what callers have left with agents.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::utterances::place;
use crate::port::{Position, TakenMessage};

/// A message, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Counts up with their arrival.
    pub id: i64,
    /// The call in which it was taken down.
    pub call_id: String,
    /// The number that called, or was called; `anonymous` where it is withheld.
    pub far_end: String,
    /// The agent that took it down, if it is known.
    pub agent_id: Option<String>,
    /// What was left.
    pub taken: TakenMessage,
    /// When, in milliseconds since the epoch.
    pub taken_ms: i64,
    /// Somebody has said that it was read.
    pub is_read: bool,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT m.id, m.call_id, CASE c.direction WHEN 'inbound' THEN c.from_number ELSE c.to_number END, c.agent_id,
                m.name, m.number, m.text, m.taken_ms, m.is_read
             FROM messages m JOIN calls c ON c.id = m.call_id LEFT JOIN projects p ON p.id = c.project_id
             WHERE (?1 IS NULL OR p.user_id = ?1) ",
            $rest
        )
    };
}

/// Stores a message; a record that is stored already changes nothing.
///
/// # Errors
/// What SQLite says.
pub fn insert(
    connection: &Connection,
    call_id: &str,
    position: Position,
    at_ms: i64,
    message: &TakenMessage,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO messages (call_id, position, name, number, text, taken_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let TakenMessage { name, number, text } = message;
    connection.prepare_cached(sql)?.execute(params![call_id, place(position), name, number, text, at_ms]).map(drop)
}

/// The newest messages before one, of an account or, without one, of the box.
///
/// # Errors
/// What SQLite says.
pub fn latest(
    connection: &Connection,
    user_id: Option<&str>,
    before: Option<i64>,
    limit: u32,
) -> rusqlite::Result<Vec<Message>> {
    let sql = select!("AND (?2 IS NULL OR m.id < ?2) ORDER BY m.id DESC LIMIT ?3");
    connection.prepare_cached(sql)?.query_map(params![user_id, before, limit], read)?.collect()
}

/// One message, of an account or, without one, of the box.
///
/// # Errors
/// What SQLite says.
pub fn find(connection: &Connection, user_id: Option<&str>, id: i64) -> rusqlite::Result<Option<Message>> {
    connection.prepare_cached(select!("AND m.id = ?2"))?.query_row(params![user_id, id], read).optional()
}

/// Says whether a message was read. The caller has checked whose it is.
///
/// # Errors
/// What SQLite says.
pub fn put_read(connection: &Connection, id: i64, is_read: bool) -> rusqlite::Result<()> {
    connection.execute("UPDATE messages SET is_read = ?2 WHERE id = ?1", params![id, is_read]).map(drop)
}

/// Forgets a message. The caller has checked whose it is.
///
/// # Errors
/// What SQLite says.
pub fn remove(connection: &Connection, id: i64) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM messages WHERE id = ?1", [id]).map(drop)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        id: row.get(0)?,
        call_id: row.get(1)?,
        far_end: row.get(2)?,
        agent_id: row.get(3)?,
        taken: TakenMessage { name: row.get(4)?, number: row.get(5)?, text: row.get(6)? },
        taken_ms: row.get(7)?,
        is_read: row.get(8)?,
    })
}
