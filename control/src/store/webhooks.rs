//! The table `webhooks`: what a project's `call_status_webhook` needs beside its address.

use rusqlite::{Connection, OptionalExtension, params};

use crate::port::Sealed;

/// Where the events of a project go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The address, as it was given.
    pub url: String,
    /// What signs; opened with [`crate::webhook::SECRET_PURPOSE`].
    pub secret: Sealed,
    /// The first failure since the last success.
    pub failing_since_ms: Option<i64>,
}

/// Whether an event may wait for its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It may.
    Taken,
    /// The project has no hook, or it is off.
    NoHook,
    /// [`WAITING_MAX`] wait already: the event is lost.
    Full,
}

/// Sets the hook of a project, with a secret of its own, and turns it on.
///
/// # Errors
/// What SQLite says.
pub fn put(connection: &Connection, project_id: &str, url: &str, secret: &Sealed, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE projects SET call_status_webhook = ?2, updated_ms = ?3 WHERE id = ?1";
    connection.execute(sql, params![project_id, url, now_ms])?;
    let sql = "INSERT INTO webhooks (project_id, secret) VALUES (?1, ?2)
        ON CONFLICT (project_id) DO UPDATE SET secret = ?2, failing_since_ms = NULL, disabled_ms = NULL";
    connection.execute(sql, params![project_id, secret.0]).map(drop)
}

/// The hook of a project, if it has one that is on.
///
/// # Errors
/// What SQLite says.
pub fn find(connection: &Connection, project_id: &str) -> rusqlite::Result<Option<Hook>> {
    let sql = "SELECT p.call_status_webhook, w.secret, w.failing_since_ms
        FROM webhooks w JOIN projects p ON p.id = w.project_id
        WHERE w.project_id = ?1 AND w.disabled_ms IS NULL AND p.is_deleted = 0 AND p.call_status_webhook IS NOT NULL";
    connection
        .prepare_cached(sql)?
        .query_row([project_id], |row| {
            Ok(Hook { url: row.get(0)?, secret: Sealed(row.get(1)?), failing_since_ms: row.get(2)? })
        })
        .optional()
}

/// Takes a place among the waiting deliveries of a project.
///
/// # Errors
/// What SQLite says.
pub fn take_place(connection: &Connection, project_id: &str) -> rusqlite::Result<Place> {
    if find(connection, project_id)?.is_none() {
        return Ok(Place::NoHook);
    }
    let sql = "UPDATE webhooks SET waiting = waiting + 1 WHERE project_id = ?1 AND waiting < ?2";
    let taken = connection.prepare_cached(sql)?.execute(params![project_id, WAITING_MAX])?;
    Ok(if taken == 1 { Place::Taken } else { Place::Full })
}

/// Gives places back.
///
/// # Errors
/// What SQLite says.
pub fn free_places(connection: &Connection, project_id: &str, count: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE webhooks SET waiting = max(waiting - ?2, 0) WHERE project_id = ?1";
    connection.prepare_cached(sql)?.execute(params![project_id, count]).map(drop)
}

/// Projects with deliveries that wait.
///
/// # Errors
/// What SQLite says.
pub fn waiting_projects(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT project_id FROM webhooks WHERE waiting > 0";
    connection.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect()
}

/// The address of the account that a project belongs to, and the project's name.
///
/// # Errors
/// What SQLite says.
pub fn owner(connection: &Connection, project_id: &str) -> rusqlite::Result<Option<(String, String)>> {
    let sql = "SELECT u.email, p.name FROM projects p JOIN users u ON u.id = p.user_id WHERE p.id = ?1";
    connection.prepare_cached(sql)?.query_row([project_id], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// Notes since when attempts fail; `None` when one went well.
///
/// # Errors
/// What SQLite says.
pub fn put_failing_since(connection: &Connection, project_id: &str, since_ms: Option<i64>) -> rusqlite::Result<()> {
    let sql = "UPDATE webhooks SET failing_since_ms = ?2 WHERE project_id = ?1";
    connection.prepare_cached(sql)?.execute(params![project_id, since_ms]).map(drop)
}

/// Turns a hook off, unless it has another address by now; `true` when it did.
///
/// # Errors
/// What SQLite says.
pub fn disable(connection: &Connection, project_id: &str, url: &str, now_ms: i64) -> rusqlite::Result<bool> {
    let sql = "UPDATE webhooks SET disabled_ms = ?3 WHERE project_id = ?1 AND disabled_ms IS NULL
        AND EXISTS (SELECT 1 FROM projects WHERE id = ?1 AND call_status_webhook = ?2)";
    Ok(connection.execute(sql, params![project_id, url, now_ms])? == 1)
}

/// 10,000 events wait for one project: three days of a call every two minutes with four events each, 6 MB. Full: further
/// events are lost, and the log says so.
pub const WAITING_MAX: i64 = 10_000;
