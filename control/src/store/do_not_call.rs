//! The table `do_not_call`: numbers that an account does not call.

use rusqlite::{Connection, Row, params};

/// A number that is not called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// E.164.
    pub number: String,
    /// Why, in words.
    pub reason: String,
    /// The call in which it was asked for, if it was in one.
    pub call_id: Option<String>,
    /// Since when, in milliseconds since the epoch.
    pub added_ms: i64,
}

/// Adds a number; one that is there keeps its reason. Tells whether it was not.
///
/// # Errors
/// What SQLite says.
pub fn add(connection: &Connection, user_id: &str, entry: &Entry) -> rusqlite::Result<bool> {
    let sql =
        "INSERT OR IGNORE INTO do_not_call (user_id, number, reason, call_id, added_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
    let Entry { number, reason, call_id, added_ms } = entry;
    Ok(connection.prepare_cached(sql)?.execute(params![user_id, number, reason, call_id, added_ms])? > 0)
}

/// Adds the far end of a call to the list of whose project it is; nothing where it has no number or no project.
///
/// # Errors
/// What SQLite says.
pub fn add_far_end(connection: &Connection, call_id: &str, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO do_not_call (user_id, number, reason, call_id, added_ms)
        SELECT user_id, number, ?2, ?1, ?3
        FROM (SELECT p.user_id AS user_id,
                CASE c.direction WHEN 'inbound' THEN c.from_number ELSE c.to_number END AS number
              FROM calls c JOIN projects p ON p.id = c.project_id WHERE c.id = ?1)
        WHERE number GLOB '+[1-9]*'";
    connection.prepare_cached(sql)?.execute(params![call_id, ASKED_FOR, now_ms]).map(drop)
}

/// Whether an account does not call a number.
///
/// # Errors
/// What SQLite says.
pub fn is_listed(connection: &Connection, user_id: &str, number: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM do_not_call WHERE user_id = ?1 AND number = ?2";
    connection.prepare_cached(sql)?.exists([user_id, number])
}

/// Numbers behind one, in their order.
///
/// # Errors
/// What SQLite says.
pub fn list(connection: &Connection, user_id: &str, behind: &str, limit: u32) -> rusqlite::Result<Vec<Entry>> {
    let sql = "SELECT number, reason, call_id, added_ms FROM do_not_call WHERE user_id = ?1 AND number > ?2
        ORDER BY number LIMIT ?3";
    connection.prepare_cached(sql)?.query_map(params![user_id, behind, limit], read)?.collect()
}

/// Takes a number off the list; tells whether it was there.
///
/// # Errors
/// What SQLite says.
pub fn remove(connection: &Connection, user_id: &str, number: &str) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM do_not_call WHERE user_id = ?1 AND number = ?2";
    Ok(connection.execute(sql, [user_id, number])? > 0)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry { number: row.get(0)?, reason: row.get(1)?, call_id: row.get(2)?, added_ms: row.get(3)? })
}

/// Why a number is on the list that an agent has put there.
const ASKED_FOR: &str = "asked for in a call";
