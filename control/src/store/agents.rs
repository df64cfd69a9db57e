//! The table `agents`. Every look-up of a client names the account through the project.

use rusqlite::{Connection, OptionalExtension, Row, params};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT a.id, a.project_id, a.name, a.system_instruction, a.voice_id,
                (SELECT e164 FROM numbers n WHERE n.agent_id = a.id ORDER BY n.created_ms LIMIT 1)
             FROM agents a JOIN projects p ON p.id = a.project_id ",
            $rest
        )
    };
}

/// An agent, with its number where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// A UUID.
    pub id: String,
    /// Its project.
    pub project_id: String,
    /// As given.
    pub name: String,
    /// The prompt.
    pub system_instruction: String,
    /// The voice.
    pub voice_id: Option<String>,
    /// The number assigned to it.
    pub phone_number: Option<String>,
}

/// Adds an agent.
///
/// # Errors
/// What SQLite says.
pub fn insert(connection: &Connection, agent: &Agent, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO agents (id, project_id, name, system_instruction, voice_id, created_ms, updated_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)";
    let Agent { id, project_id, name, system_instruction, voice_id, .. } = agent;
    connection.execute(sql, params![id, project_id, name, system_instruction, voice_id, now_ms]).map(drop)
}

/// Finds an agent of a project of the account.
///
/// # Errors
/// What SQLite says.
pub fn find(connection: &Connection, user_id: &str, project_id: &str, id: &str) -> rusqlite::Result<Option<Agent>> {
    let sql = select!("WHERE a.id = ?1 AND a.project_id = ?2 AND p.user_id = ?3 AND p.is_deleted = 0");
    connection.prepare_cached(sql)?.query_row([id, project_id, user_id], read).optional()
}

/// Finds an agent of any project of the account.
///
/// # Errors
/// What SQLite says.
pub fn find_anywhere(connection: &Connection, user_id: &str, id: &str) -> rusqlite::Result<Option<Agent>> {
    let sql = select!("WHERE a.id = ?1 AND p.user_id = ?2 AND p.is_deleted = 0");
    connection.prepare_cached(sql)?.query_row([id, user_id], read).optional()
}

/// All agents of a project of the account, the oldest first.
///
/// # Errors
/// What SQLite says.
pub fn all(connection: &Connection, user_id: &str, project_id: &str) -> rusqlite::Result<Vec<Agent>> {
    let sql = select!("WHERE a.project_id = ?1 AND p.user_id = ?2 AND p.is_deleted = 0 ORDER BY a.created_ms, a.id");
    connection.prepare_cached(sql)?.query_map([project_id, user_id], read)?.collect()
}

/// What names and prompts of all agents take in a routing configuration, in bytes, with 512 for the rest of each.
///
/// # Errors
/// What SQLite says.
pub fn text_bytes(connection: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT coalesce(sum(octet_length(a.name) + octet_length(a.system_instruction) + 512), 0)
        FROM agents a JOIN projects p ON p.id = a.project_id WHERE p.is_deleted = 0";
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

/// Every agent of the box, for routing.
///
/// # Errors
/// What SQLite says.
pub fn routes(connection: &Connection) -> rusqlite::Result<Vec<Agent>> {
    connection.prepare_cached(select!("WHERE p.is_deleted = 0"))?.query_map([], read)?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Agent> {
    Ok(Agent {
        id: row.get(0)?,
        project_id: row.get(1)?,
        name: row.get(2)?,
        system_instruction: row.get(3)?,
        voice_id: row.get(4)?,
        phone_number: row.get(5)?,
    })
}
