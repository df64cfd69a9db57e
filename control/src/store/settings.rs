//! The table `settings`: single values of the box.

use rusqlite::{Connection, OptionalExtension, params};

/// Sets a value.
///
/// # Errors
/// What SQLite says.
pub fn put(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    let sql = "INSERT INTO settings (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";
    connection.prepare_cached(sql)?.execute(params![key, value]).map(drop)
}

/// Reads a value.
///
/// # Errors
/// What SQLite says.
pub fn find(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT value FROM settings WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

/// Takes a value away; `true` when it was there.
///
/// # Errors
/// What SQLite says.
pub fn remove(connection: &Connection, key: &str) -> rusqlite::Result<bool> {
    Ok(connection.execute("DELETE FROM settings WHERE key = ?1", [key])? > 0)
}
