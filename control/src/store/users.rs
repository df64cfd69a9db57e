//! The table `users`.

use rusqlite::{Connection, OptionalExtension, Row, params};

/// An account.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// A UUID.
    pub id: String,
    /// Lower case.
    pub email: String,
    /// As given.
    pub name: String,
    /// See [`crate::auth::password`].
    pub password_hash: String,
    /// The address has been proved.
    pub verified: bool,
    /// The first verified account.
    pub is_owner: bool,
    /// The project chosen last.
    pub active_project: Option<String>,
    /// Never set through this API yet documented.
    pub company_name: Option<String>,
    /// Milliseconds since the epoch.
    pub created_ms: i64,
    /// Milliseconds since the epoch.
    pub updated_ms: i64,
}

/// Adds an account that is not verified.
///
/// # Errors
/// What SQLite says.
pub fn insert(connection: &Connection, user: &User) -> rusqlite::Result<()> {
    let sql = "INSERT INTO users (id, email, name, password_hash, verified, is_owner, created_ms, updated_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    connection
        .prepare_cached(sql)?
        .execute(params![
            user.id,
            user.email,
            user.name,
            user.password_hash,
            user.verified,
            user.is_owner,
            user.created_ms,
            user.updated_ms
        ])
        .map(drop)
}

/// Replaces name and password of an account that is not verified.
///
/// # Errors
/// What SQLite says.
pub fn replace_pending(
    connection: &Connection,
    id: &str,
    name: &str,
    password_hash: &str,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let sql = "UPDATE users SET name = ?2, password_hash = ?3, updated_ms = ?4 WHERE id = ?1 AND verified = 0";
    connection.execute(sql, params![id, name, password_hash, now_ms]).map(drop)
}

/// Marks the address as proved; the first such account owns the box.
///
/// # Errors
/// What SQLite says.
pub fn verify(connection: &Connection, id: &str, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE users SET verified = 1, updated_ms = ?2,
        is_owner = NOT EXISTS (SELECT 1 FROM users WHERE is_owner = 1) WHERE id = ?1";
    connection.execute(sql, params![id, now_ms]).map(drop)
}

/// Sets the digest of the account's only API key.
///
/// # Errors
/// What SQLite says.
pub fn put_api_key(connection: &Connection, id: &str, digest: &[u8; 32], now_ms: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE users SET api_key_digest = ?2, updated_ms = ?3 WHERE id = ?1";
    connection.execute(sql, params![id, digest, now_ms]).map(drop)
}

/// Finds an account by its address, in lower case.
///
/// # Errors
/// What SQLite says.
pub fn by_email(connection: &Connection, email: &str) -> rusqlite::Result<Option<User>> {
    one(connection, "email = ?1", email)
}

/// Finds an account.
///
/// # Errors
/// What SQLite says.
pub fn by_id(connection: &Connection, id: &str) -> rusqlite::Result<Option<User>> {
    one(connection, "id = ?1", id)
}

/// Forgets accounts that never verified their address and were last touched before, some at a time; how many.
///
/// # Errors
/// What SQLite says.
pub fn forget_pending(connection: &Connection, touched_before_ms: i64, max: usize) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM users WHERE id IN (SELECT id FROM users u WHERE verified = 0 AND updated_ms < ?1
        AND NOT EXISTS (SELECT 1 FROM projects p WHERE p.user_id = u.id) LIMIT ?2)";
    connection.execute(sql, params![touched_before_ms, max as i64])
}

/// Finds the verified account of an API key.
///
/// # Errors
/// What SQLite says.
pub fn by_api_key(connection: &Connection, digest: &[u8; 32]) -> rusqlite::Result<Option<User>> {
    one(connection, "api_key_digest = ?1 AND verified = 1", digest)
}

/// The owner of the box, once there is one.
///
/// # Errors
/// What SQLite says.
pub fn owner(connection: &Connection) -> rusqlite::Result<Option<User>> {
    one(connection, "is_owner = ?1", true)
}

fn one(connection: &Connection, condition: &str, value: impl rusqlite::ToSql) -> rusqlite::Result<Option<User>> {
    // The condition is one of the constants above.
    let sql = [
        "SELECT id, email, name, password_hash, verified, is_owner, active_project, company_name, created_ms, \
         updated_ms FROM users WHERE ",
        condition,
    ]
    .concat();
    connection.prepare_cached(&sql)?.query_row([value], read).optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: row.get(0)?,
        email: row.get(1)?,
        name: row.get(2)?,
        password_hash: row.get(3)?,
        verified: row.get(4)?,
        is_owner: row.get(5)?,
        active_project: row.get(6)?,
        company_name: row.get(7)?,
        created_ms: row.get(8)?,
        updated_ms: row.get(9)?,
    })
}
