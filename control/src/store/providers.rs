//! The table `providers`: the services that run agents; one of them at most is the default.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::trunks::PutError;
use crate::port::{ProviderRoute, Sealed};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, base_url, model, api_key, voices, is_default, created_ms, updated_ms FROM providers ",
            $rest
        )
    };
}

/// A provider that speaks OpenAI's Realtime protocol with G.711 audio: the only kind so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// `prv_` and 32 hex digits.
    pub id: String,
    /// Unique on the box.
    pub name: String,
    /// `wss://host/v1`, without a slash at its end.
    pub base_url: String,
    /// The model.
    pub model: String,
    /// The key, where the server wants one.
    pub api_key: Option<Sealed>,
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
    /// What the call plane needs to know of it.
    pub fn route(&self) -> ProviderRoute {
        ProviderRoute::OpenAiRealtime {
            base_url: self.base_url.clone(),
            model: self.model.clone(),
            api_key: self.api_key.clone(),
        }
    }

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
    let sql = "INSERT INTO providers
        (id, name, kind, base_url, model, api_key, audio, voices, is_default, created_ms, updated_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
        ON CONFLICT (id) DO UPDATE SET name = ?2, base_url = ?4, model = ?5, api_key = ?6, voices = ?8,
            is_default = ?9, updated_ms = ?11";
    connection.execute(
        sql,
        params![
            provider.id,
            provider.name,
            KIND,
            provider.base_url,
            provider.model,
            provider.api_key.as_ref().map(|sealed| &sealed.0),
            AUDIO,
            serde_json::to_string(&provider.voices).unwrap_or_default(),
            provider.is_default,
            provider.created_ms,
            provider.updated_ms
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
    let voices: String = row.get(5)?;
    Ok(Provider {
        id: row.get(0)?,
        name: row.get(1)?,
        base_url: row.get(2)?,
        model: row.get(3)?,
        api_key: row.get::<_, Option<String>>(4)?.map(Sealed),
        voices: serde_json::from_str(&voices).unwrap_or_default(),
        is_default: row.get(6)?,
        created_ms: row.get(7)?,
        updated_ms: row.get(8)?,
    })
}

/// The only kind.
pub const KIND: &str = "openai-realtime";

/// The only audio: G.711 passed through.
pub const AUDIO: &str = "g711";
