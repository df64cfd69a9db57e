//! The table `deliveries`: events on their way to webhooks, and for 30 days what became of them.

use rusqlite::{Connection, Row, params};

/// An event on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Counts up: a call's events go out in this order.
    pub id: i64,
    /// The `webhook-id`, the same at every attempt.
    pub event_id: String,
    /// Whose hook.
    pub project_id: String,
    /// Which call.
    pub call_id: String,
    /// JSON, links not yet filled in.
    pub body: String,
    /// Attempts made.
    pub attempts: u32,
}

/// What is known of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The event.
    pub delivery: Delivery,
    /// When it is tried next; `None` when it is settled.
    pub next_ms: Option<i64>,
    /// It has arrived.
    pub delivered: bool,
    /// The status of the last answer.
    pub last_status: Option<u16>,
    /// What went wrong the last time, cut to 500 bytes.
    pub last_error: Option<String>,
}

/// What an attempt has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: Option<String>,
    /// When it is tried next; `None` settles it.
    pub next_ms: Option<i64>,
}

/// Queues an event; it is due at once.
///
/// # Errors
/// What SQLite says.
pub fn insert(
    connection: &Connection,
    event_id: &str,
    project_id: &str,
    call_id: &str,
    body: &str,
    at_ms: i64,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO deliveries (event_id, project_id, call_id, body, created_ms, next_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, 0)";
    connection.prepare_cached(sql)?.execute(params![event_id, project_id, call_id, body, at_ms]).map(drop)
}

/// The events of a project that are due: of each call the earliest that is not settled.
///
/// # Errors
/// What SQLite says.
pub fn due(connection: &Connection, project_id: &str, now_ms: i64, max: usize) -> rusqlite::Result<Vec<Delivery>> {
    let sql = "SELECT d.id, d.event_id, d.project_id, d.call_id, d.body, d.attempts FROM deliveries d
        WHERE d.project_id = ?1 AND d.next_ms IS NOT NULL AND d.next_ms <= ?2 AND NOT EXISTS
            (SELECT 1 FROM deliveries e WHERE e.call_id = d.call_id AND e.id < d.id AND e.next_ms IS NOT NULL)
        ORDER BY d.next_ms, d.id LIMIT ?3";
    connection.prepare_cached(sql)?.query_map(params![project_id, now_ms, max as i64], read)?.collect()
}

/// When the next event becomes due.
///
/// # Errors
/// What SQLite says.
pub fn next_ms(connection: &Connection, now_ms: i64) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT min(next_ms) FROM deliveries WHERE next_ms IS NOT NULL AND next_ms > ?1";
    connection.prepare_cached(sql)?.query_row([now_ms], |row| row.get(0))
}

/// Notes an attempt; `true` when it settles the delivery.
///
/// # Errors
/// What SQLite says.
pub fn report(connection: &Connection, id: i64, report: &Report, now_ms: i64) -> rusqlite::Result<bool> {
    let Report { status, error, next_ms } = report;
    let is_delivered = error.is_none();
    let sql = "UPDATE deliveries SET attempts = attempts + 1, last_status = ?2, last_error = ?3, next_ms = ?4,
        delivered = ?5, settled_ms = CASE WHEN ?4 IS NULL THEN ?6 END WHERE id = ?1 AND next_ms IS NOT NULL";
    let changed = connection.prepare_cached(sql)?.execute(params![id, status, error, next_ms, is_delivered, now_ms])?;
    Ok(changed == 1 && next_ms.is_none())
}

/// Gives up whatever waits for a project; how many.
///
/// # Errors
/// What SQLite says.
pub fn give_up_all(connection: &Connection, project_id: &str, error: &str, now_ms: i64) -> rusqlite::Result<i64> {
    let sql = "UPDATE deliveries SET next_ms = NULL, settled_ms = ?3, last_error = coalesce(last_error, ?2)
        WHERE project_id = ?1 AND next_ms IS NOT NULL";
    Ok(connection.execute(sql, params![project_id, error, now_ms])? as i64)
}

/// Forgets deliveries settled before, some at a time; how many.
///
/// # Errors
/// What SQLite says.
pub fn forget(connection: &Connection, settled_before_ms: i64, max: usize) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM deliveries WHERE id IN
        (SELECT id FROM deliveries WHERE settled_ms IS NOT NULL AND settled_ms < ?1 LIMIT ?2)";
    connection.execute(sql, params![settled_before_ms, max as i64])
}

/// What became of a call's events, the earliest first. The caller has checked whose call it is.
///
/// # Errors
/// What SQLite says.
pub fn of_call(connection: &Connection, call_id: &str) -> rusqlite::Result<Vec<Entry>> {
    let sql = "SELECT id, event_id, project_id, call_id, body, attempts, next_ms, delivered, last_status, last_error
        FROM deliveries WHERE call_id = ?1 ORDER BY id";
    connection
        .prepare_cached(sql)?
        .query_map([call_id], |row| {
            Ok(Entry {
                delivery: read(row)?,
                next_ms: row.get(6)?,
                delivered: row.get(7)?,
                last_status: row.get(8)?,
                last_error: row.get(9)?,
            })
        })?
        .collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        id: row.get(0)?,
        event_id: row.get(1)?,
        project_id: row.get(2)?,
        call_id: row.get(3)?,
        body: row.get(4)?,
        attempts: row.get(5)?,
    })
}
