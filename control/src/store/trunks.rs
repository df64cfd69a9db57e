//! The tables `trunks` and `trunk_numbers`: a number is on one trunk, and one trunk at most is the default.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::json::{read_json, to_json};
use crate::port::{Sealed, TrunkRoute, TrunkTransport};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, host, port, transport, username, password, max_channels, is_default, created_ms,
                updated_ms, access, policy, numbering, signalling, media FROM trunks ",
            $rest
        )
    };
}

/// A trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trunk {
    /// `trk_` and 32 hex digits.
    pub id: String,
    /// All that routing knows of it; the name is unique on the box, the numbers stand in order.
    pub route: TrunkRoute,
    /// Milliseconds since the epoch.
    pub created_ms: i64,
    /// Milliseconds since the epoch.
    pub updated_ms: i64,
}

/// Why a trunk or a provider is not stored as it is.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// Another one has the name. The client's doing; answer 409.
    #[error("another one has the name")]
    NameTaken,
    /// A number is on another trunk. The client's doing; answer 409.
    #[error("a number is on another trunk")]
    NumberTaken,
    /// SQLite failed. Answer 500.
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
}

/// Adds or replaces a trunk and its numbers; a new default takes it over from the former.
///
/// # Errors
/// [`PutError`]; whatever is stored then is undone with the caller's savepoint.
pub fn put(connection: &Connection, trunk: &Trunk) -> Result<(), PutError> {
    let route = &trunk.route;
    let sql = "SELECT 1 FROM trunks WHERE name = ?1 AND id <> ?2";
    if connection.prepare_cached(sql)?.exists([&route.name, &trunk.id])? {
        return Err(PutError::NameTaken);
    }
    if route.is_default {
        connection.execute("UPDATE trunks SET is_default = 0 WHERE is_default = 1 AND id <> ?1", [&trunk.id])?;
    }
    let sql = "INSERT INTO trunks
        (id, name, host, port, transport, username, password, max_channels, is_default, created_ms, updated_ms,
         access, policy, numbering, signalling, media)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
        ON CONFLICT (id) DO UPDATE SET name = ?2, host = ?3, port = ?4, transport = ?5, username = ?6, password = ?7,
            max_channels = ?8, is_default = ?9, updated_ms = ?11, access = ?12, policy = ?13, numbering = ?14,
            signalling = ?15, media = ?16";
    connection.execute(
        sql,
        params![
            trunk.id,
            route.name,
            route.host,
            route.port.unwrap_or(DNS_PORT),
            transport_name(route.transport),
            route.username,
            route.password.as_ref().map(|sealed| &sealed.0),
            route.max_channels,
            route.is_default,
            trunk.created_ms,
            trunk.updated_ms,
            to_json(&route.access)?,
            to_json(&route.policy)?,
            to_json(&route.numbering)?,
            to_json(&route.signalling)?,
            to_json(&route.media)?
        ],
    )?;
    connection.execute("DELETE FROM trunk_numbers WHERE trunk_id = ?1", [&trunk.id])?;
    let sql = "INSERT OR IGNORE INTO trunk_numbers (digits, trunk_id) VALUES (?1, ?2)";
    for digits in &route.numbers {
        if connection.prepare_cached(sql)?.execute([digits, &trunk.id])? == 0 {
            return Err(PutError::NumberTaken);
        }
    }
    Ok(())
}

/// All trunks, the oldest first.
///
/// # Errors
/// What SQLite says.
pub fn all(connection: &Connection) -> rusqlite::Result<Vec<Trunk>> {
    let found: Vec<Trunk> = connection
        .prepare_cached(select!("ORDER BY created_ms, id"))?
        .query_map([], read)?
        .collect::<Result<_, _>>()?;
    found.into_iter().map(|trunk| with_numbers(connection, trunk)).collect()
}

/// Finds a trunk.
///
/// # Errors
/// What SQLite says.
pub fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<Trunk>> {
    let found = connection.prepare_cached(select!("WHERE id = ?1"))?.query_row([id], read).optional()?;
    found.map(|trunk| with_numbers(connection, trunk)).transpose()
}

/// Takes a trunk away; `true` when it was there. Calls that it carries go on.
///
/// # Errors
/// What SQLite says.
pub fn remove(connection: &Connection, id: &str) -> rusqlite::Result<bool> {
    Ok(connection.execute("DELETE FROM trunks WHERE id = ?1", [id])? > 0)
}

/// How many there are.
///
/// # Errors
/// What SQLite says.
pub fn count(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT COUNT(*) FROM trunks", [], |row| row.get(0))
}

/// As the API writes it.
pub fn transport_name(transport: TrunkTransport) -> &'static str {
    match transport {
        TrunkTransport::Udp => "udp",
        TrunkTransport::Tcp => "tcp",
        TrunkTransport::Tls => "tls",
        TrunkTransport::Auto => "auto",
    }
}

/// What the API calls so.
pub fn transport_of(name: &str) -> Option<TrunkTransport> {
    [TrunkTransport::Udp, TrunkTransport::Tcp, TrunkTransport::Tls, TrunkTransport::Auto]
        .into_iter()
        .find(|transport| transport_name(*transport) == name)
}

fn with_numbers(connection: &Connection, trunk: Trunk) -> rusqlite::Result<Trunk> {
    let sql = "SELECT digits FROM trunk_numbers WHERE trunk_id = ?1 ORDER BY digits";
    let numbers =
        connection.prepare_cached(sql)?.query_map([&trunk.id], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(Trunk { route: TrunkRoute { numbers, ..trunk.route }, ..trunk })
}

fn read(row: &Row<'_>) -> rusqlite::Result<Trunk> {
    let transport: String = row.get(4)?;
    let route = TrunkRoute {
        name: row.get(1)?,
        host: row.get(2)?,
        port: Some(row.get(3)?).filter(|port| *port != DNS_PORT),
        transport: transport_of(&transport).unwrap_or_default(),
        username: row.get(5)?,
        password: row.get::<_, Option<String>>(6)?.map(Sealed),
        numbers: Vec::new(),
        max_channels: row.get(7)?,
        is_default: row.get(8)?,
        access: read_json(row, 11)?,
        policy: read_json(row, 12)?,
        numbering: read_json(row, 13)?,
        signalling: read_json(row, 14)?,
        media: read_json(row, 15)?,
    };
    Ok(Trunk { id: row.get(0)?, route, created_ms: row.get(9)?, updated_ms: row.get(10)? })
}

/// What stands in the column of a trunk whose port the DNS tells.
const DNS_PORT: u16 = 0;
