//! The table `agents`. Every look-up of a client names the account through the project.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::json::{read_json, to_json};
use crate::port::{AgentTool, BargeIn, FirstSpeaker, HttpTool, TransferTarget};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT a.id, a.project_id, a.name, a.system_instruction, a.voice_id, a.provider_id, a.first_speaker, a.greeting, a.tools,
                a.transfers, a.barge_in, a.protects_greeting, a.http_tools, a.ring_s, a.refuse_with,
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
    /// The service that runs it; `None` is the default.
    pub provider_id: Option<String>,
    /// Who speaks first.
    pub first_speaker: FirstSpeaker,
    /// What it opens with.
    pub greeting: Option<String>,
    /// What it can do besides speaking.
    pub tools: Vec<AgentTool>,
    /// Functions that web services carry out.
    pub http_tools: Vec<HttpTool>,
    /// Whom it can put its callers through to.
    pub transfers: Vec<TransferTarget>,
    /// Who stops it when the caller interrupts; `None` is what its provider's kind usually has.
    pub barge_in: Option<BargeIn>,
    /// How long its callers wait for it.
    pub waiting: Waiting,
    /// Nobody interrupts what it opens with.
    pub protects_greeting: bool,
    /// The number assigned to it.
    pub phone_number: Option<String>,
}

/// How long callers wait for an agent that is not ready yet, and what becomes of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Seconds that they hear it ring at the most; `None`: the usual ones.
    pub ring_s: Option<u8>,
    /// The SIP status with which they are refused if it cannot come.
    pub refuse_with: Option<u16>,
}

/// As the API writes it.
pub fn first_speaker_name(first_speaker: FirstSpeaker) -> &'static str {
    match first_speaker {
        FirstSpeaker::Agent => "agent",
        FirstSpeaker::Caller => "caller",
    }
}

/// Adds an agent.
///
/// # Errors
/// What SQLite says.
pub fn insert(connection: &Connection, agent: &Agent, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO agents (id, project_id, name, system_instruction, voice_id, provider_id, first_speaker,
            greeting, created_ms, updated_ms, tools, transfers, barge_in, protects_greeting, http_tools,
            ring_s, refuse_with)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
    write(connection, sql, agent, now_ms)
}

/// Changes an agent; its project and number stay.
///
/// # Errors
/// What SQLite says.
pub fn update(connection: &Connection, agent: &Agent, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE agents SET name = ?3, system_instruction = ?4, voice_id = ?5, provider_id = ?6,
            first_speaker = ?7, greeting = ?8, updated_ms = ?9, tools = ?10, transfers = ?11, barge_in = ?12,
            protects_greeting = ?13, http_tools = ?14, ring_s = ?15, refuse_with = ?16
        WHERE id = ?1";
    write(connection, sql, agent, now_ms)
}

/// Carries out a statement that numbers an agent's fields so.
fn write(connection: &Connection, sql: &str, agent: &Agent, now_ms: i64) -> rusqlite::Result<()> {
    let Agent { id, project_id, name, system_instruction, voice_id, provider_id, greeting, .. } = agent;
    let values = params![
        id,
        project_id,
        name,
        system_instruction,
        voice_id,
        provider_id,
        first_speaker_name(agent.first_speaker),
        greeting,
        now_ms,
        to_json(&agent.tools)?,
        to_json(&agent.transfers)?,
        agent.barge_in.map(BargeIn::as_str),
        agent.protects_greeting,
        to_json(&agent.http_tools)?,
        agent.waiting.ring_s,
        agent.waiting.refuse_with
    ];
    connection.execute(sql, values).map(drop)
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

/// Tells whether there is an agent of this id, whoever owns it.
///
/// # Errors
/// What SQLite says.
pub fn exists(connection: &Connection, id: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM agents WHERE id = ?1")?.exists([id])
}

/// All agents of a project of the account, the oldest first.
///
/// # Errors
/// What SQLite says.
pub fn all(connection: &Connection, user_id: &str, project_id: &str) -> rusqlite::Result<Vec<Agent>> {
    let sql = select!("WHERE a.project_id = ?1 AND p.user_id = ?2 AND p.is_deleted = 0 ORDER BY a.created_ms, a.id");
    connection.prepare_cached(sql)?.query_map([project_id, user_id], read)?.collect()
}

/// What names, prompts, greetings, transfers and functions of all agents take in a routing configuration, in bytes, with 512 for the rest of each.
///
/// # Errors
/// What SQLite says.
pub fn text_bytes(connection: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT coalesce(sum(octet_length(a.name) + octet_length(a.system_instruction)
            + coalesce(octet_length(a.greeting), 0) + octet_length(a.transfers) + octet_length(a.http_tools) - 4 + 512), 0)
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
        provider_id: row.get(5)?,
        first_speaker: if row.get::<_, String>(6)? == "caller" { FirstSpeaker::Caller } else { FirstSpeaker::Agent },
        greeting: row.get(7)?,
        tools: read_json(row, 8)?,
        transfers: read_json(row, 9)?,
        barge_in: row.get::<_, Option<String>>(10)?.as_deref().and_then(BargeIn::named),
        protects_greeting: row.get(11)?,
        http_tools: read_json(row, 12)?,
        waiting: Waiting { ring_s: row.get(13)?, refuse_with: row.get(14)? },
        phone_number: row.get(15)?,
    })
}
