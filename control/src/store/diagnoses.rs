//! The table `call_diagnoses`: what was found wrong with the sound of a call while it was up. The latest 10,000 are kept.

use rusqlite::{Connection, params};

use crate::port::Position;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Diagnosis<'a> {
    /// Its stable name.
    pub fault: &'a str,
    /// One sentence.
    pub found: &'a str,
}

/// Stores one; a record that comes again changes nothing.
///
/// # Errors
/// What SQLite says.
pub fn insert(
    connection: &Connection,
    position: Position,
    at_ms: i64,
    call_id: &str,
    diagnosis: &Diagnosis<'_>,
) -> rusqlite::Result<()> {
    let sql =
        "INSERT OR IGNORE INTO call_diagnoses (position, call_id, at_ms, fault, found) VALUES (?1, ?2, ?3, ?4, ?5)";
    let place = super::utterances::place(position);
    connection.prepare_cached(sql)?.execute(params![place, call_id, at_ms, diagnosis.fault, diagnosis.found])?;
    // One in 64 sweeps: the table holds at most so many more.
    if position.seq.is_multiple_of(64) {
        let sql = "DELETE FROM call_diagnoses WHERE position <
            (SELECT position FROM call_diagnoses ORDER BY position DESC LIMIT 1 OFFSET ?1)";
        connection.prepare_cached(sql)?.execute([KEPT])?;
    }
    Ok(())
}

/// What was found in a call, the oldest first: fault, sentence and milliseconds since the epoch.
///
/// # Errors
/// What SQLite says.
pub fn of_call(connection: &Connection, call_id: &str) -> rusqlite::Result<Vec<(String, String, i64)>> {
    let sql = "SELECT fault, found, at_ms FROM call_diagnoses WHERE call_id = ?1 ORDER BY position";
    connection.prepare_cached(sql)?.query_map([call_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

/// 10,000 rows of 300 bytes, 3 MB.
const KEPT: u32 = 10_000;
