//! The table `numbers`: a number exists once per box.

use rusqlite::{Connection, OptionalExtension, params};

/// What becomes of an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assigned {
    /// The agent has the number; one it had before is free.
    Done,
    /// Another account has the number.
    Taken,
}

/// Gives a number to an agent of the account (settlement A40).
///
/// # Errors
/// What SQLite says.
pub fn assign(
    connection: &Connection,
    user_id: &str,
    new_id: &str,
    e164: &str,
    project_id: &str,
    agent_id: &str,
    now_ms: i64,
) -> rusqlite::Result<Assigned> {
    let sql = "SELECT p.user_id FROM numbers n JOIN projects p ON p.id = n.project_id WHERE n.e164 = ?1";
    let holder: Option<String> = connection.prepare_cached(sql)?.query_row([e164], |row| row.get(0)).optional()?;
    if holder.is_some_and(|holder| holder != user_id) {
        return Ok(Assigned::Taken);
    }
    connection.execute("UPDATE numbers SET agent_id = NULL WHERE agent_id = ?1", [agent_id])?;
    let sql = "INSERT INTO numbers (id, e164, project_id, agent_id, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (e164) DO UPDATE SET project_id = ?3, agent_id = ?4";
    connection.execute(sql, params![new_id, e164, project_id, agent_id, now_ms])?;
    Ok(Assigned::Done)
}

/// Numbers of a project that no agent has; two at most, since more do not matter.
///
/// # Errors
/// What SQLite says.
pub fn free(connection: &Connection, project_id: &str) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT e164 FROM numbers WHERE project_id = ?1 AND agent_id IS NULL ORDER BY created_ms LIMIT 2";
    connection.prepare_cached(sql)?.query_map([project_id], |row| row.get(0))?.collect()
}

/// Number, project and agent of every number of the box, for routing.
///
/// # Errors
/// What SQLite says.
pub fn routes(connection: &Connection) -> rusqlite::Result<Vec<(String, String, Option<String>)>> {
    let sql = "SELECT e164, project_id, agent_id FROM numbers";
    connection.prepare_cached(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}
