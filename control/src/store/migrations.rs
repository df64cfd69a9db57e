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
    // 2: trunks, providers, what an agent runs on, and calls that are to be placed.
    "CREATE TABLE trunks (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        host TEXT NOT NULL,
        port INTEGER NOT NULL,
        transport TEXT NOT NULL,                 -- udp, tcp
        username TEXT,
        password TEXT,                           -- sealed
        max_channels INTEGER NOT NULL,
        is_default INTEGER NOT NULL DEFAULT 0,
        created_ms INTEGER NOT NULL,
        updated_ms INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX trunks_default ON trunks(is_default) WHERE is_default = 1;
    CREATE TABLE trunk_numbers (                 -- a number is on one trunk
        digits TEXT PRIMARY KEY,                 -- E.164 without the +
        trunk_id TEXT NOT NULL REFERENCES trunks(id) ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX trunk_numbers_trunk ON trunk_numbers(trunk_id);

    CREATE TABLE providers (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        base_url TEXT NOT NULL,
        model TEXT NOT NULL,
        api_key TEXT,                            -- sealed
        audio TEXT NOT NULL,
        voices TEXT NOT NULL,                    -- JSON list; empty: any
        is_default INTEGER NOT NULL DEFAULT 0,
        created_ms INTEGER NOT NULL,
        updated_ms INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX providers_default ON providers(is_default) WHERE is_default = 1;

    ALTER TABLE agents ADD COLUMN provider_id TEXT REFERENCES providers(id) ON DELETE SET NULL;
    ALTER TABLE agents ADD COLUMN first_speaker TEXT NOT NULL DEFAULT 'agent';
    ALTER TABLE agents ADD COLUMN greeting TEXT;
    CREATE INDEX agents_provider ON agents(provider_id);

    ALTER TABLE calls ADD COLUMN trunk_id TEXT;
    CREATE INDEX calls_open_trunk ON calls(trunk_id) WHERE ended_ms IS NULL;

    CREATE TABLE dials (                         -- orders that the call plane is not known to have taken on
        call_id TEXT PRIMARY KEY REFERENCES calls(id),
        command_id TEXT NOT NULL,
        dial_order TEXT NOT NULL,                -- JSON
        offered INTEGER NOT NULL DEFAULT 0,      -- sent at least once, so it may have been taken on
        created_ms INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE idempotency_keys (              -- for 24 hours
        user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
        key TEXT NOT NULL,
        body_digest BLOB NOT NULL,
        answer TEXT NOT NULL,                    -- JSON
        created_ms INTEGER NOT NULL,
        PRIMARY KEY (user_id, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX idempotency_keys_created ON idempotency_keys(created_ms);",
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
    // 4: what housekeeping looks for, and what follows a row that it deletes.
    "CREATE INDEX refresh_tokens_session ON refresh_tokens(session_id);
    CREATE INDEX refresh_tokens_replaced ON refresh_tokens(replaced_ms) WHERE replaced_ms IS NOT NULL;
    CREATE INDEX sessions_expires ON sessions(expires_ms);
    CREATE INDEX sessions_user ON sessions(user_id);
    CREATE INDEX users_pending ON users(updated_ms) WHERE verified = 0;
    CREATE INDEX projects_user ON projects(user_id);
    CREATE INDEX mails_delivered ON mails(created_ms) WHERE delivered = 1;",
    // 5: how trunks are spoken to, phones of our own, where calls go, and what was refused. A trunk's port 0 is the DNS's.
    "ALTER TABLE trunks ADD COLUMN access TEXT NOT NULL DEFAULT '{}';      -- these four: JSON, as port::config has them
    ALTER TABLE trunks ADD COLUMN policy TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE trunks ADD COLUMN numbering TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE trunks ADD COLUMN signalling TEXT NOT NULL DEFAULT '{}';

    CREATE TABLE extensions (
        user TEXT PRIMARY KEY,                   -- as it registers
        name TEXT NOT NULL,
        password TEXT NOT NULL,                  -- sealed
        number TEXT,                             -- that it presents outside, E.164 digits
        contacts_max INTEGER NOT NULL,
        project_id TEXT REFERENCES projects(id),
        numbering TEXT NOT NULL,                 -- JSON
        created_ms INTEGER NOT NULL,
        updated_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX extensions_project ON extensions(project_id);

    CREATE TABLE routes (
        id TEXT PRIMARY KEY,
        position INTEGER NOT NULL,               -- the lowest is asked first
        name TEXT NOT NULL UNIQUE,
        called TEXT NOT NULL,                    -- these five: JSON
        callers TEXT NOT NULL,
        source TEXT NOT NULL,
        hours TEXT NOT NULL,
        targets TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        updated_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX routes_position ON routes(position);

    CREATE TABLE sip_refusals (
        position INTEGER PRIMARY KEY,            -- of its journal record: boot * 2^40 + seq
        at_ms INTEGER NOT NULL,
        call_id TEXT,
        direction TEXT NOT NULL,                 -- inbound: we refused
        status INTEGER NOT NULL,
        method TEXT NOT NULL,
        peer TEXT NOT NULL,
        trunk_id TEXT,
        rule TEXT NOT NULL,
        more INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX sip_refusals_call ON sip_refusals(call_id) WHERE call_id IS NOT NULL;
    CREATE INDEX sip_refusals_trunk ON sip_refusals(trunk_id, position) WHERE trunk_id IS NOT NULL;",
    // 6: what was wrong with the sound of calls.
    "CREATE TABLE call_diagnoses (
        position INTEGER PRIMARY KEY,            -- of its journal record: boot * 2^40 + seq
        call_id TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        fault TEXT NOT NULL,
        found TEXT NOT NULL
    ) STRICT;
    CREATE INDEX call_diagnoses_call ON call_diagnoses(call_id);",
    // 7: what the line says of who calls.
    "ALTER TABLE calls ADD COLUMN display_name TEXT;
    ALTER TABLE calls ADD COLUMN verstat TEXT;               -- TN-Validation-Passed, TN-Validation-Failed, No-TN-Validation
    ALTER TABLE calls ADD COLUMN attestation TEXT;           -- A, B, C
    ALTER TABLE calls ADD COLUMN diverted_from TEXT;",
    // 8: how sound is carried on a trunk.
    "ALTER TABLE trunks ADD COLUMN media TEXT NOT NULL DEFAULT '{}';      -- JSON, as port::media has it",
    // 9: whether the sound of our own phones is encrypted.
    "ALTER TABLE extensions ADD COLUMN srtp TEXT NOT NULL DEFAULT '\"optional\"';         -- JSON
    ALTER TABLE extensions ADD COLUMN sdes_over_plain INTEGER NOT NULL DEFAULT 0;",
    // 10: where recordings were paused.
    "ALTER TABLE calls ADD COLUMN recording_gaps TEXT;        -- JSON: [[from ms, to ms or null], …]",
    // 11: how the legs of calls sounded.
    "ALTER TABLE calls ADD COLUMN quality TEXT;              -- these two: JSON, as port::quality has it
    ALTER TABLE calls ADD COLUMN second_quality TEXT;",
    // 12: what only some kinds of providers have.
    "ALTER TABLE providers ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';  -- JSON, as port::provider has it",
    // 13: what an agent can do besides speaking.
    "ALTER TABLE agents ADD COLUMN tools TEXT NOT NULL DEFAULT '[\"end_call\",\"send_dtmf\"]';  -- JSON",
    // 14: whom an agent can put its callers through to.
    "ALTER TABLE agents ADD COLUMN transfers TEXT NOT NULL DEFAULT '[]';    -- JSON: [{name, to}, …]",
    // 15: who may interrupt an agent.
    "ALTER TABLE agents ADD COLUMN barge_in TEXT;            -- box, provider, off; null is the provider's usual
    ALTER TABLE agents ADD COLUMN protects_greeting INTEGER NOT NULL DEFAULT 0;",
    // 16: functions that web services carry out, how long a caller waits for an agent, messages that agents take down, and who is not to be called.
    "ALTER TABLE agents ADD COLUMN http_tools TEXT NOT NULL DEFAULT '[]';  -- JSON, values of secret headers sealed
    ALTER TABLE agents ADD COLUMN ring_s INTEGER;            -- seconds; null is the usual
    ALTER TABLE agents ADD COLUMN refuse_with INTEGER;       -- a SIP status; null leaves the caller to the attendant
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY,
        call_id TEXT NOT NULL,
        position INTEGER NOT NULL,          -- in the journal
        name TEXT,
        number TEXT,                        -- as the caller said it
        text TEXT NOT NULL,
        taken_ms INTEGER NOT NULL,
        is_read INTEGER NOT NULL DEFAULT 0,
        UNIQUE (call_id, position)
    ) STRICT;
    CREATE TABLE do_not_call (
        user_id TEXT NOT NULL REFERENCES users(id),
        number TEXT NOT NULL,               -- E.164
        reason TEXT NOT NULL,
        call_id TEXT,                       -- in which it was asked for
        added_ms INTEGER NOT NULL,
        PRIMARY KEY (user_id, number)
    ) STRICT, WITHOUT ROWID;",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_of_the_first_schema_keeps_its_agents_and_calls() {
        let mut connection = Connection::open_in_memory().expect("opens");
        connection.execute_batch(STEPS[0]).expect("the first schema");
        connection.pragma_update(None, "user_version", 1).expect("set");
        let rows = "INSERT INTO users (id, email, name, password_hash, created_ms, updated_ms)
                VALUES ('u', 'a@b.com', 'A', '', 0, 0);
            INSERT INTO projects (id, user_id, name, description, created_ms, updated_ms)
                VALUES ('p', 'u', 'P', '', 0, 0);
            INSERT INTO agents (id, project_id, name, system_instruction, created_ms, updated_ms)
                VALUES ('a', 'p', 'Jack', 'x', 0, 0);
            INSERT INTO calls (id, direction, from_number, to_number, status, sip_call_id, boot, started_ms)
                VALUES ('CA', 'inbound', '+1', '+2', 'ringing', 'x', 1, 0);";
        connection.execute_batch(rows).expect("filled");
        migrate(&mut connection).expect("migrates");
        let agents = super::super::agents::all(&connection, "u", "p").expect("read");
        assert_eq!((agents[0].name.as_str(), &agents[0].provider_id, &agents[0].greeting), ("Jack", &None, &None));
        assert_eq!(agents[0].first_speaker, crate::port::FirstSpeaker::Agent);
        assert_eq!(super::super::calls::count_open(&connection), Ok(1));
        let call = super::super::calls::find_anywhere(&connection, "CA").expect("read").expect("kept");
        assert_eq!(
            (call.recording_file, super::super::calls::status(&connection, "CA")),
            (None, Ok(Some("ringing".into())))
        );
        let hook = crate::port::Sealed("00".into());
        super::super::webhooks::put(&connection, "p", "https://h", &hook, 0).expect("stored");
        let place = super::super::webhooks::take_place(&connection, "p");
        assert_eq!(place, Ok(super::super::webhooks::Place::Taken));
        migrate(&mut connection).expect("a second time changes nothing");
    }
}
