//! The table `dials`: orders that the call plane is not known to have taken on. A row goes when it has, or when the
//! order is given up.

use rusqlite::{Connection, Row, params};

use crate::port::{CommandId, DialOrder};

/// An order that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dial {
    /// What is to be dialled.
    pub order: DialOrder,
    /// The command's name, the same at every try.
    pub command_id: CommandId,
    /// It was sent at least once, so it may have been taken on.
    pub was_offered: bool,
    /// Milliseconds since the epoch.
    pub created_ms: i64,
}

/// Adds an order; its call's row is there already.
///
/// # Errors
/// What SQLite says.
pub fn insert(connection: &Connection, dial: &Dial) -> rusqlite::Result<()> {
    let sql = "INSERT INTO dials (call_id, command_id, dial_order, offered, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
    let Dial { order, command_id, was_offered, created_ms } = dial;
    let json = serde_json::to_string(order).unwrap_or_default();
    let values = params![order.call_id.to_string(), command_id.0, json, was_offered, created_ms];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// The oldest orders that wait.
///
/// # Errors
/// What SQLite says.
pub fn waiting(connection: &Connection, max: usize) -> rusqlite::Result<Vec<Dial>> {
    let sql = "SELECT command_id, dial_order, offered, created_ms FROM dials ORDER BY created_ms, call_id LIMIT ?1";
    let rows = connection.prepare_cached(sql)?.query_map([max as i64], read)?.collect::<Result<Vec<_>, _>>()?;
    Ok(rows.into_iter().flatten().collect())
}

/// Remembers that an order is about to be sent.
///
/// # Errors
/// What SQLite says.
pub fn mark_offered(connection: &Connection, call_id: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE dials SET offered = 1 WHERE call_id = ?1")?.execute([call_id]).map(drop)
}

/// Takes an order away: it was taken on, or is given up.
///
/// # Errors
/// What SQLite says.
pub fn settle(connection: &Connection, call_id: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM dials WHERE call_id = ?1")?.execute([call_id]).map(drop)
}

/// Whether the call's order still waits.
///
/// # Errors
/// What SQLite says.
pub fn is_waiting(connection: &Connection, call_id: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM dials WHERE call_id = ?1")?.exists([call_id])
}

/// An order that this version cannot read is passed over; nothing but damage makes one.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<Dial>> {
    let json: String = row.get(1)?;
    let Ok(order) = serde_json::from_str(&json) else { return Ok(None) };
    Ok(Some(Dial { order, command_id: CommandId(row.get(0)?), was_offered: row.get(2)?, created_ms: row.get(3)? }))
}
