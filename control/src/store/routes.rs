//! The table `routes`: where calls go, in the order they are asked.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::json::{read_json, to_json};
use super::trunks::PutError;
use crate::port::RouteRule;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, called, callers, source, hours, targets, created_ms, updated_ms, position FROM routes ",
            $rest
        )
    };
}

/// A line of the routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The rule; its id is `rte_` and 32 hex digits, its name unique on the box.
    pub rule: RouteRule,
    /// Its place; the lowest is asked first.
    pub position: i64,
    /// Milliseconds since the epoch.
    pub created_ms: i64,
    /// Milliseconds since the epoch.
    pub updated_ms: i64,
}

/// Adds or replaces a route.
///
/// # Errors
/// [`PutError::NameTaken`].
pub fn put(connection: &Connection, route: &Route) -> Result<(), PutError> {
    let rule = &route.rule;
    let sql = "SELECT 1 FROM routes WHERE name = ?1 AND id <> ?2";
    if connection.prepare_cached(sql)?.exists([&rule.name, &rule.id])? {
        return Err(PutError::NameTaken);
    }
    let sql = "INSERT INTO routes
        (id, position, name, called, callers, source, hours, targets, created_ms, updated_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
        ON CONFLICT (id) DO UPDATE SET position = ?2, name = ?3, called = ?4, callers = ?5, source = ?6, hours = ?7,
            targets = ?8, updated_ms = ?10";
    connection.prepare_cached(sql)?.execute(params![
        rule.id,
        route.position,
        rule.name,
        to_json(&rule.called)?,
        to_json(&rule.callers)?,
        to_json(&rule.from)?,
        to_json(&rule.hours)?,
        to_json(&rule.targets)?,
        route.created_ms,
        route.updated_ms
    ])?;
    Ok(())
}

/// All routes, in their order.
///
/// # Errors
/// What SQLite says.
pub fn all(connection: &Connection) -> rusqlite::Result<Vec<Route>> {
    connection.prepare_cached(select!("ORDER BY position, created_ms, id"))?.query_map([], read)?.collect()
}

/// Finds a route.
///
/// # Errors
/// What SQLite says.
pub fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<Route>> {
    connection.prepare_cached(select!("WHERE id = ?1"))?.query_row([id], read).optional()
}

/// The place behind the last.
///
/// # Errors
/// What SQLite says.
pub fn next_position(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT COALESCE(MAX(position), 0) + 1 FROM routes", [], |row| row.get(0))
}

/// Gives a route its place.
///
/// # Errors
/// What SQLite says.
pub fn put_position(connection: &Connection, id: &str, position: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE routes SET position = ?2 WHERE id = ?1")?.execute(params![id, position])?;
    Ok(())
}

/// Takes a route away; `true` when it was there.
///
/// # Errors
/// What SQLite says.
pub fn remove(connection: &Connection, id: &str) -> rusqlite::Result<bool> {
    Ok(connection.execute("DELETE FROM routes WHERE id = ?1", [id])? > 0)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Route> {
    let rule = RouteRule {
        id: row.get(0)?,
        name: row.get(1)?,
        called: read_json(row, 2)?,
        callers: read_json(row, 3)?,
        from: read_json(row, 4)?,
        hours: read_json(row, 5)?,
        targets: read_json(row, 6)?,
    };
    Ok(Route { rule, position: row.get(9)?, created_ms: row.get(7)?, updated_ms: row.get(8)? })
}
