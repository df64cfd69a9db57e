//! The table `projects`. Every look-up names the account: another's project is one that does not exist.

use rusqlite::{Connection, OptionalExtension, Row, params};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, user_id, name, description, call_status_webhook, active_agent, created_ms, updated_ms \
             FROM projects ",
            $rest
        )
    };
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// A UUID.
    pub id: String,
    /// The account.
    pub user_id: String,
    /// Unique in the account.
    pub name: String,
    /// May be empty.
    pub description: String,
    /// Where call updates go.
    pub call_status_webhook: Option<String>,
    /// Who answers numbers without an agent of their own.
    pub active_agent: Option<String>,
    /// Milliseconds since the epoch.
    pub created_ms: i64,
    /// Milliseconds since the epoch.
    pub updated_ms: i64,
}

/// Adds a project; `false` when the account has one of that name.
///
/// # Errors
/// What SQLite says.
pub fn insert(connection: &Connection, project: &Project) -> rusqlite::Result<bool> {
    let sql = "INSERT INTO projects (id, user_id, name, description, created_ms, updated_ms)
        SELECT ?1, ?2, ?3, ?4, ?5, ?6
        WHERE NOT EXISTS (SELECT 1 FROM projects WHERE user_id = ?2 AND name = ?3 AND is_deleted = 0)";
    let Project { id, user_id, name, description, created_ms, updated_ms, .. } = project;
    let added = connection.execute(sql, params![id, user_id, name, description, created_ms, updated_ms])?;
    Ok(added == 1)
}

/// Finds a project of the account.
///
/// # Errors
/// What SQLite says.
pub fn find(connection: &Connection, user_id: &str, id: &str) -> rusqlite::Result<Option<Project>> {
    let sql = select!("WHERE id = ?1 AND user_id = ?2 AND is_deleted = 0");
    connection.prepare_cached(sql)?.query_row([id, user_id], read).optional()
}

/// Tells whether there is a project of this id, whoever owns it.
///
/// # Errors
/// What SQLite says.
pub fn exists(connection: &Connection, id: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM projects WHERE id = ?1 AND is_deleted = 0")?.exists([id])
}

/// All projects of the account, the oldest first.
///
/// # Errors
/// What SQLite says.
pub fn all(connection: &Connection, user_id: &str) -> rusqlite::Result<Vec<Project>> {
    let sql = select!("WHERE user_id = ?1 AND is_deleted = 0 ORDER BY created_ms, id");
    connection.prepare_cached(sql)?.query_map([user_id], read)?.collect()
}

/// Sets the agent that answers by default.
///
/// # Errors
/// What SQLite says.
pub fn put_active_agent(connection: &Connection, id: &str, agent_id: &str, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE projects SET active_agent = ?2, updated_ms = ?3 WHERE id = ?1";
    connection.execute(sql, params![id, agent_id, now_ms]).map(drop)
}

/// Id and active agent of every project of the box, for routing.
///
/// # Errors
/// What SQLite says.
pub fn routes(connection: &Connection) -> rusqlite::Result<Vec<(String, Option<String>)>> {
    let sql = "SELECT id, active_agent FROM projects WHERE is_deleted = 0";
    connection.prepare_cached(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Project> {
    Ok(Project {
        id: row.get(0)?,
        user_id: row.get(1)?,
        name: row.get(2)?,
        description: row.get(3)?,
        call_status_webhook: row.get(4)?,
        active_agent: row.get(5)?,
        created_ms: row.get(6)?,
        updated_ms: row.get(7)?,
    })
}
