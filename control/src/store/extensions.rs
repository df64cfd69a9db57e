//! The table `extensions`: phones of our own.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::json::{read_json, to_json};
use super::trunks::PutError;
use crate::port::{ExtensionRoute, Sealed};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT user, name, password, number, contacts_max, project_id, numbering, created_ms, updated_ms,
                srtp, sdes_over_plain
            FROM extensions ",
            $rest
        )
    };
}

/// An extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// As it registers; unique on the box.
    pub user: String,
    /// All that routing knows of it.
    pub route: ExtensionRoute,
    /// Milliseconds since the epoch.
    pub created_ms: i64,
    /// Milliseconds since the epoch.
    pub updated_ms: i64,
}

/// Adds an extension.
///
/// # Errors
/// [`PutError::NameTaken`] when there is one of the user already.
pub fn insert(connection: &Connection, extension: &Extension) -> Result<(), PutError> {
    if find(connection, &extension.user)?.is_some() {
        return Err(PutError::NameTaken);
    }
    Ok(put(connection, extension)?)
}

/// Adds or replaces an extension.
///
/// # Errors
/// What SQLite says.
pub fn put(connection: &Connection, extension: &Extension) -> rusqlite::Result<()> {
    let route = &extension.route;
    let sql = "INSERT INTO extensions
        (user, name, password, number, contacts_max, project_id, numbering, created_ms, updated_ms, srtp,
         sdes_over_plain)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
        ON CONFLICT (user) DO UPDATE SET name = ?2, password = ?3, number = ?4, contacts_max = ?5, project_id = ?6,
            numbering = ?7, updated_ms = ?9, srtp = ?10, sdes_over_plain = ?11";
    let password = route.password.as_ref().map(|sealed| sealed.0.as_str()).unwrap_or_default();
    connection.prepare_cached(sql)?.execute(params![
        extension.user,
        route.name,
        password,
        route.number,
        route.contacts_max,
        route.project_id,
        to_json(&route.numbering)?,
        extension.created_ms,
        extension.updated_ms,
        to_json(&route.srtp)?,
        route.sdes_over_plain
    ])?;
    Ok(())
}

/// All extensions, by user.
///
/// # Errors
/// What SQLite says.
pub fn all(connection: &Connection) -> rusqlite::Result<Vec<Extension>> {
    connection.prepare_cached(select!("ORDER BY user"))?.query_map([], read)?.collect()
}

/// Finds an extension.
///
/// # Errors
/// What SQLite says.
pub fn find(connection: &Connection, user: &str) -> rusqlite::Result<Option<Extension>> {
    connection.prepare_cached(select!("WHERE user = ?1"))?.query_row([user], read).optional()
}

/// Takes an extension away; `true` when it was there.
///
/// # Errors
/// What SQLite says.
pub fn remove(connection: &Connection, user: &str) -> rusqlite::Result<bool> {
    Ok(connection.execute("DELETE FROM extensions WHERE user = ?1", [user])? > 0)
}

/// How many there are.
///
/// # Errors
/// What SQLite says.
pub fn count(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT COUNT(*) FROM extensions", [], |row| row.get(0))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Extension> {
    let route = ExtensionRoute {
        name: row.get(1)?,
        password: Some(Sealed(row.get(2)?)).filter(|sealed| !sealed.0.is_empty()),
        number: row.get(3)?,
        contacts_max: row.get(4)?,
        project_id: row.get(5)?,
        numbering: read_json(row, 6)?,
        srtp: read_json(row, 9)?,
        sdes_over_plain: row.get(10)?,
    };
    Ok(Extension { user: row.get(0)?, route, created_ms: row.get(7)?, updated_ms: row.get(8)? })
}
