//! The table `providers`: the services that run agents; one of them at most is the default.

use rusqlite::Error::FromSqlConversionFailure;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::json::{read_json, to_json};
use super::trunks::PutError;
use crate::port::{ProviderRoute, Sealed};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, kind, base_url, model, api_key, settings, voices, is_default, created_ms, updated_ms
            FROM providers ",
            $rest
        )
    };
}

/// A service that runs agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// `prv_` and 32 hex digits.
    pub id: String,
    /// Unique on the box.
    pub name: String,
    /// What the call plane needs to know of it.
    pub route: ProviderRoute,
    /// The voices it has; empty: any.
    pub voices: Vec<String>,
    /// It runs the agents that name none.
    pub is_default: bool,
    /// Milliseconds since the epoch.
    pub created_ms: i64,
    /// Milliseconds since the epoch.
    pub updated_ms: i64,
}

impl Provider {
    /// Whether an agent on it may have the voice.
    pub fn has_voice(&self, voice: &str) -> bool {
        self.voices.is_empty() || self.voices.iter().any(|own| own == voice)
    }
}

/// Adds or replaces a provider; a new default takes it over from the former.
///
/// # Errors
/// [`PutError`]; whatever is stored then is undone with the caller's savepoint.
pub fn put(connection: &Connection, provider: &Provider) -> Result<(), PutError> {
    let sql = "SELECT 1 FROM providers WHERE name = ?1 AND id <> ?2";
    if connection.prepare_cached(sql)?.exists([&provider.name, &provider.id])? {
        return Err(PutError::NameTaken);
    }
    if provider.is_default {
        connection.execute("UPDATE providers SET is_default = 0 WHERE is_default = 1 AND id <> ?1", [&provider.id])?;
    }
    // Written for a column of the first schema; what it stands for is in the settings now.
    let audio = "g711";
    let sql = "INSERT INTO providers
        (id, name, kind, base_url, model, api_key, audio, voices, is_default, created_ms, updated_ms, settings)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
        ON CONFLICT (id) DO UPDATE SET name = ?2, kind = ?3, base_url = ?4, model = ?5, api_key = ?6, voices = ?8,
            is_default = ?9, updated_ms = ?11, settings = ?12";
    let ProviderRoute { kind, base_url, model, api_key, settings } = &provider.route;
    connection.execute(
        sql,
        params![
            provider.id,
            provider.name,
            kind.as_str(),
            base_url,
            model,
            api_key.as_ref().map(|sealed| &sealed.0),
            audio,
            to_json(&provider.voices)?,
            provider.is_default,
            provider.created_ms,
            provider.updated_ms,
            to_json(settings)?,
        ],
    )?;
    Ok(())
}

/// All providers, the oldest first.
///
/// # Errors
/// What SQLite says.
pub fn all(connection: &Connection) -> rusqlite::Result<Vec<Provider>> {
    connection.prepare_cached(select!("ORDER BY created_ms, id"))?.query_map([], read)?.collect()
}

/// Finds a provider.
///
/// # Errors
/// What SQLite says.
pub fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<Provider>> {
    connection.prepare_cached(select!("WHERE id = ?1"))?.query_row([id], read).optional()
}

/// The provider of agents that name none.
///
/// # Errors
/// What SQLite says.
pub fn default(connection: &Connection) -> rusqlite::Result<Option<Provider>> {
    connection.prepare_cached(select!("WHERE is_default = 1"))?.query_row([], read).optional()
}

/// Takes a provider away; `true` when it was there. Its agents fall back to the default.
///
/// # Errors
/// What SQLite says.
pub fn remove(connection: &Connection, id: &str) -> rusqlite::Result<bool> {
    Ok(connection.execute("DELETE FROM providers WHERE id = ?1", [id])? > 0)
}

/// How many there are.
///
/// # Errors
/// What SQLite says.
pub fn count(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT COUNT(*) FROM providers", [], |row| row.get(0))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Provider> {
    let kind: String = row.get(2)?;
    Ok(Provider {
        id: row.get(0)?,
        name: row.get(1)?,
        route: ProviderRoute {
            kind: kind.parse().map_err(|error| FromSqlConversionFailure(2, Type::Text, Box::new(error)))?,
            base_url: row.get(3)?,
            model: row.get(4)?,
            api_key: row.get::<_, Option<String>>(5)?.map(Sealed),
            settings: read_json(row, 6)?,
        },
        voices: read_json(row, 7)?,
        is_default: row.get(8)?,
        created_ms: row.get(9)?,
        updated_ms: row.get(10)?,
    })
}
