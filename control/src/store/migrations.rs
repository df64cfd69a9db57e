//! The schema, as numbered steps. A step that has been released is never changed.

use rusqlite::Connection;

/// Why the schema cannot be brought up to date.
#[derive(Debug, thiserror::Error)]
pub(super) enum MigrateError {
    #[error("the schema cannot be changed")]
    Sql(#[from] rusqlite::Error),
    #[error("schema {found} is newer than {known}")]
    Newer { found: i64, known: i64 },
}

/// Applies the steps that the file does not have, each in a transaction of its own.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), MigrateError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = STEPS.len() as i64;
    if found > known {
        return Err(MigrateError::Newer { found, known });
    }
    for (at, step) in STEPS.iter().enumerate().skip(found as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", at as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Times are milliseconds since the Unix epoch. Tokens, keys and codes are kept as SHA-256 or HMAC only.
const STEPS: &[&str] = &[
    // 1: accounts, projects, agents, numbers, calls, mails.
    "CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

    CREATE TABLE users (
        id TEXT PRIMARY KEY,
        email TEXT NOT NULL UNIQUE,              -- lower case
        name TEXT NOT NULL,
        password_hash TEXT NOT NULL,
        verified INTEGER NOT NULL DEFAULT 0,
        is_owner INTEGER NOT NULL DEFAULT 0,     -- the first verified account
        active_project TEXT,
        company_name TEXT,
        api_key_digest BLOB UNIQUE,
        created_ms INTEGER NOT NULL,
        updated_ms INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE codes (                         -- e-mail verification, one per account
        user_id TEXT PRIMARY KEY REFERENCES users(id) ON DELETE CASCADE,
        mac BLOB NOT NULL,
        sent_ms INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0
    ) STRICT;

    CREATE TABLE sessions (                      -- one per log-in: a family of refresh tokens
        id TEXT PRIMARY KEY,
        user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
        expires_ms INTEGER NOT NULL,
        revoked INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE refresh_tokens (
        digest BLOB PRIMARY KEY,
        session_id TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
        replaced_ms INTEGER
    ) STRICT;

    CREATE TABLE projects (
        id TEXT PRIMARY KEY,
        user_id TEXT NOT NULL REFERENCES users(id),
        name TEXT NOT NULL,
        description TEXT NOT NULL,
        call_status_webhook TEXT,
        active_agent TEXT,
        is_deleted INTEGER NOT NULL DEFAULT 0,
        created_ms INTEGER NOT NULL,
        updated_ms INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX projects_name ON projects(user_id, name) WHERE is_deleted = 0;

    CREATE TABLE agents (
        id TEXT PRIMARY KEY,
        project_id TEXT NOT NULL REFERENCES projects(id),
        name TEXT NOT NULL,
        system_instruction TEXT NOT NULL,
        voice_id TEXT,
        created_ms INTEGER NOT NULL,
        updated_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX agents_project ON agents(project_id, created_ms);

    CREATE TABLE numbers (
        id TEXT PRIMARY KEY,
        e164 TEXT NOT NULL UNIQUE,               -- once per box
        project_id TEXT NOT NULL REFERENCES projects(id),
        agent_id TEXT REFERENCES agents(id),
        created_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX numbers_agent ON numbers(agent_id);

    CREATE TABLE calls (
        id TEXT PRIMARY KEY,                     -- CA and 32 hex digits
        project_id TEXT,                         -- NULL: a built-in user was called
        agent_id TEXT,
        direction TEXT NOT NULL,
        from_number TEXT NOT NULL,
        to_number TEXT NOT NULL,
        status TEXT NOT NULL,
        outcome TEXT,                            -- JSON {blame, reason}
        codec TEXT,
        sip_call_id TEXT NOT NULL,
        boot INTEGER NOT NULL,
        started_ms INTEGER NOT NULL,
        answered_ms INTEGER,
        ended_ms INTEGER
    ) STRICT;
    CREATE INDEX calls_project ON calls(project_id, started_ms, id);
    CREATE INDEX calls_started ON calls(started_ms, id);
    CREATE INDEX calls_open ON calls(id) WHERE ended_ms IS NULL;

    CREATE TABLE journal_cursor (only INTEGER PRIMARY KEY CHECK (only = 1), boot INTEGER NOT NULL, seq INTEGER NOT NULL) STRICT;

    CREATE TABLE mails (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        recipient TEXT NOT NULL,
        subject TEXT NOT NULL,
        body TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        delivered INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX mails_waiting ON mails(id) WHERE delivered = 0;",
    // 2: trunks, providers and dialling have this number; the steps meet when they are merged.
    "",
    // 3: webhooks and their deliveries, recordings, what was said.
    "ALTER TABLE calls ADD COLUMN recording_file TEXT;        -- YYYY/MM/DD/<id>.wav
    ALTER TABLE calls ADD COLUMN recording_ms INTEGER;

    CREATE TABLE utterances (
        call_id TEXT NOT NULL,
        position INTEGER NOT NULL,               -- of its journal record: boot * 2^40 + seq
        speaker TEXT NOT NULL,                   -- caller or agent
        text TEXT NOT NULL,
        at_ms INTEGER NOT NULL,                  -- since the answer
        PRIMARY KEY (call_id, position)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE webhooks (                      -- beside projects.call_status_webhook, which has the address
        project_id TEXT PRIMARY KEY REFERENCES projects(id),
        secret TEXT NOT NULL,                    -- sealed
        failing_since_ms INTEGER,                -- the first failure since the last success
        disabled_ms INTEGER,
        waiting INTEGER NOT NULL DEFAULT 0       -- deliveries with a next_ms
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE deliveries (
        id INTEGER PRIMARY KEY AUTOINCREMENT,    -- a call's events go out in this order
        event_id TEXT NOT NULL UNIQUE,           -- the webhook-id
        project_id TEXT NOT NULL,
        call_id TEXT NOT NULL,
        body TEXT NOT NULL,                      -- JSON; links are filled in when it goes out
        created_ms INTEGER NOT NULL,
        next_ms INTEGER,                         -- when it is tried next; NULL: settled
        attempts INTEGER NOT NULL DEFAULT 0,
        delivered INTEGER NOT NULL DEFAULT 0,
        last_status INTEGER,
        last_error TEXT,
        settled_ms INTEGER
    ) STRICT;
    CREATE INDEX deliveries_waiting ON deliveries(project_id, next_ms) WHERE next_ms IS NOT NULL;
    CREATE INDEX deliveries_next ON deliveries(next_ms) WHERE next_ms IS NOT NULL;
    CREATE INDEX deliveries_call ON deliveries(call_id, id);
    CREATE INDEX deliveries_settled ON deliveries(settled_ms) WHERE settled_ms IS NOT NULL;",
];
