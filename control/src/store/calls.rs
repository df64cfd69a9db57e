//! The tables `calls` and `journal_cursor`: what the journal told, each record once.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::json::to_json;
use crate::call_status::CallStatus;
use crate::port::{Attestation, CallLeg, CallStarted, DialOrder, Direction, LegQuality, Outcome, Position, Verstat};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT c.id, c.project_id, c.agent_id, c.from_number, c.to_number, c.status, c.outcome, c.codec,
                c.started_ms, c.answered_ms, c.ended_ms, c.recording_file, c.display_name, c.verstat, c.attestation,
                c.diverted_from, c.trunk_id FROM calls c ",
            $rest
        )
    };
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `CA` and 32 hex digits.
    pub id: String,
    /// The project of the called number.
    pub project_id: Option<String>,
    /// Who answered.
    pub agent_id: Option<String>,
    /// Who called.
    pub from: String,
    /// Who was called.
    pub to: String,
    /// Where it stands.
    pub status: CallStatus,
    /// Why it ended.
    pub outcome: Option<Outcome>,
    /// As in SDP.
    pub codec: Option<String>,
    /// Milliseconds since the epoch.
    pub started_ms: i64,
    /// When it was answered.
    pub answered_ms: Option<i64>,
    /// When it ended.
    pub ended_ms: Option<i64>,
    /// Its recording, relative to the folder of recordings, once it is complete.
    pub recording_file: Option<String>,
    /// What the line says of who calls.
    pub caller: Caller,
    /// The trunk that carries it.
    pub trunk_id: Option<String>,
}

/// What the line says of a caller besides the number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The name, unless it is withheld.
    pub display_name: Option<String>,
    /// The trunk's verdict on the number's signature: `TN-Validation-Passed`.
    pub verstat: Option<String>,
    /// How well the caller's provider knows the caller: `A`, `B` or `C`.
    pub attestation: Option<String>,
    /// Whose phone sent the call on.
    pub diverted_from: Option<String>,
}

impl Call {
    /// Talking time in whole seconds, begun ones counted.
    pub fn seconds(&self) -> i64 {
        match (self.answered_ms, self.ended_ms) {
            (Some(answered), Some(ended)) => ((ended - answered).max(0) + 999) / 1000,
            _ => 0,
        }
    }
}

/// Which calls of a project are asked for. Times are half-open ranges in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The called number.
    pub to: Option<String>,
    /// The calling number.
    pub from: Option<String>,
    /// The status.
    pub status: Option<CallStatus>,
    /// Started at or after.
    pub started_from: Option<i64>,
    /// Started before.
    pub started_before: Option<i64>,
    /// Ended at or after.
    pub ended_from: Option<i64>,
    /// Ended before.
    pub ended_before: Option<i64>,
    /// Behind this call: its start and id.
    pub page: Option<(i64, String)>,
}

/// The last record that is stored.
///
/// # Errors
/// What SQLite says.
pub fn cursor(connection: &Connection) -> rusqlite::Result<Option<Position>> {
    connection
        .prepare_cached("SELECT boot, seq FROM journal_cursor")?
        .query_row([], |row| Ok(Position { boot: row.get::<_, i64>(0)? as u64, seq: row.get::<_, i64>(1)? as u64 }))
        .optional()
}

/// Moves the cursor.
///
/// # Errors
/// What SQLite says.
pub fn put_cursor(connection: &Connection, position: Position) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO journal_cursor (only, boot, seq) VALUES (1, ?1, ?2)";
    connection.prepare_cached(sql)?.execute(params![position.boot as i64, position.seq as i64]).map(drop)
}

/// Adds the row of a call that is to be placed.
///
/// # Errors
/// What SQLite says.
pub fn queue(connection: &Connection, order: &DialOrder, trunk_id: &str, now_ms: i64) -> rusqlite::Result<()> {
    let started = CallStarted::placed(order, Some(trunk_id.to_owned()));
    begin(connection, &order.call_id.to_string(), &started, CallStatus::Queued, NO_BOOT, now_ms)
}

/// Begins a row. One that was queued has begun already: it learns of its dialog and trunk, and goes on should it have
/// been given up meanwhile.
///
/// # Errors
/// What SQLite says.
pub fn begin(
    connection: &Connection,
    id: &str,
    started: &CallStarted,
    status: CallStatus,
    boot: u64,
    at_ms: i64,
) -> rusqlite::Result<()> {
    let direction = match started.direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    };
    let sql = "INSERT INTO calls
        (id, project_id, agent_id, direction, from_number, to_number, status, sip_call_id, boot, started_ms, trunk_id,
         display_name, verstat, attestation, diverted_from)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
        ON CONFLICT (id) DO UPDATE SET sip_call_id = ?8, boot = ?9, trunk_id = coalesce(?11, trunk_id), status = ?7,
            outcome = NULL, ended_ms = NULL
        WHERE boot = 0 AND ?9 <> 0";
    connection
        .prepare_cached(sql)?
        .execute(params![
            id,
            started.project_id,
            started.agent_id,
            direction,
            started.from,
            started.to,
            status.name(),
            started.sip_call_id,
            boot as i64,
            at_ms,
            started.trunk_id,
            started.display_name,
            started.verstat.map(Verstat::as_str),
            started.attestation.map(Attestation::as_str),
            started.diverted_from
        ])
        .map(drop)
}

/// Sets the status of a call that has not ended.
///
/// # Errors
/// What SQLite says.
pub fn put_status(connection: &Connection, id: &str, status: CallStatus) -> rusqlite::Result<()> {
    let sql = "UPDATE calls SET status = ?2 WHERE id = ?1 AND ended_ms IS NULL";
    connection.prepare_cached(sql)?.execute(params![id, status.name()]).map(drop)
}

/// Notes that another trunk carries a call.
///
/// # Errors
/// What SQLite says.
pub fn put_trunk(connection: &Connection, id: &str, trunk_id: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE calls SET trunk_id = ?2 WHERE id = ?1 AND ended_ms IS NULL";
    connection.prepare_cached(sql)?.execute(params![id, trunk_id]).map(drop)
}

/// Marks a call as answered.
///
/// # Errors
/// What SQLite says.
pub fn answer(connection: &Connection, id: &str, codec: &str, at_ms: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE calls SET status = ?2, codec = ?3, answered_ms = ?4 WHERE id = ?1 AND ended_ms IS NULL";
    connection.prepare_cached(sql)?.execute(params![id, CallStatus::InProgress.name(), codec, at_ms]).map(drop)
}

/// Ends a call, once.
///
/// # Errors
/// What SQLite says.
pub fn end(connection: &Connection, id: &str, outcome: Outcome, at_ms: i64) -> rusqlite::Result<()> {
    let sql = "SELECT answered_ms FROM calls WHERE id = ?1 AND ended_ms IS NULL";
    let answered: Option<Option<i64>> = connection.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?;
    let Some(answered) = answered else { return Ok(()) };
    let status = CallStatus::of_outcome(outcome, answered.is_some());
    let json = serde_json::to_string(&outcome).unwrap_or_default();
    let sql = "UPDATE calls SET status = ?2, outcome = ?3, ended_ms = ?4 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![id, status.name(), json, at_ms]).map(drop)
}

/// How many calls have not ended.
///
/// # Errors
/// What SQLite says.
pub fn count_open(connection: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT COUNT(*) FROM calls WHERE ended_ms IS NULL";
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

/// How many calls on a trunk have not ended.
///
/// # Errors
/// What SQLite says.
pub fn count_open_on_trunk(connection: &Connection, trunk_id: &str) -> rusqlite::Result<i64> {
    let sql = "SELECT COUNT(*) FROM calls WHERE ended_ms IS NULL AND trunk_id = ?1";
    connection.prepare_cached(sql)?.query_row([trunk_id], |row| row.get(0))
}

/// How many calls that an account has placed have not ended.
///
/// # Errors
/// What SQLite says.
pub fn count_open_outbound(connection: &Connection, user_id: &str) -> rusqlite::Result<i64> {
    let sql = "SELECT COUNT(*) FROM calls c CROSS JOIN projects p ON p.id = c.project_id
        WHERE c.ended_ms IS NULL AND c.direction = 'outbound' AND p.user_id = ?1";
    connection.prepare_cached(sql)?.query_row([user_id], |row| row.get(0))
}

/// When the account placed its `nth` latest call, counted from 1; `None` when that was not after `since_ms`.
///
/// # Errors
/// What SQLite says.
pub fn nth_latest_outbound_ms(
    connection: &Connection,
    user_id: &str,
    nth: u32,
    since_ms: i64,
) -> rusqlite::Result<Option<i64>> {
    // The latest calls of the box first: an account's own may be many.
    let sql = "SELECT c.started_ms FROM calls c CROSS JOIN projects p ON p.id = c.project_id
        WHERE c.started_ms > ?3 AND c.direction = 'outbound' AND p.user_id = ?1
        ORDER BY c.started_ms DESC LIMIT 1 OFFSET ?2";
    let values = params![user_id, nth.saturating_sub(1), since_ms];
    connection.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()
}

/// Notes the recording of a call.
///
/// # Errors
/// What SQLite says.
pub fn put_recording(connection: &Connection, id: &str, file: &str, duration_ms: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE calls SET recording_file = ?2, recording_ms = ?3 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![id, file, duration_ms]).map(drop)
}

/// Puts down how a leg sounds; what was put down before is forgotten.
///
/// # Errors
/// What SQLite says.
pub fn put_quality(connection: &Connection, id: &str, leg: CallLeg, quality: &LegQuality) -> rusqlite::Result<()> {
    let sql = match leg {
        CallLeg::First => "UPDATE calls SET quality = ?2 WHERE id = ?1",
        CallLeg::Second => "UPDATE calls SET second_quality = ?2 WHERE id = ?1",
    };
    connection.prepare_cached(sql)?.execute(params![id, to_json(quality)?]).map(drop)
}

/// How the legs of a call sound, the first and the second, as far as it is known.
///
/// # Errors
/// What SQLite says.
pub fn quality(connection: &Connection, id: &str) -> rusqlite::Result<[Option<LegQuality>; 2]> {
    let sql = "SELECT quality, second_quality FROM calls WHERE id = ?1";
    let read = |row: &Row<'_>| Ok([row.get(0)?, row.get(1)?]);
    let found: [Option<String>; 2] =
        connection.prepare_cached(sql)?.query_row([id], read).optional()?.unwrap_or_default();
    Ok(found.map(|text| serde_json::from_str(&text?).ok()))
}

/// Notes that a recording has silence from here on, in milliseconds from its start.
///
/// # Errors
/// What SQLite says.
pub fn begin_gap(connection: &Connection, id: &str, at_ms: i64) -> rusqlite::Result<()> {
    let sql =
        "UPDATE calls SET recording_gaps = json_insert(coalesce(recording_gaps, '[]'), '$[#]', json_array(?2, NULL))
        WHERE id = ?1 AND json_array_length(coalesce(recording_gaps, '[]')) < ?3";
    connection.prepare_cached(sql)?.execute(params![id, at_ms, GAPS_MAX]).map(drop)
}

/// Notes that a recording has sound again.
///
/// # Errors
/// What SQLite says.
pub fn end_gap(connection: &Connection, id: &str, at_ms: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE calls SET recording_gaps = json_set(recording_gaps, '$[#-1][1]', ?2)
        WHERE id = ?1 AND recording_gaps IS NOT NULL";
    connection.prepare_cached(sql)?.execute(params![id, at_ms]).map(drop)
}

/// Where a recording was paused: from and to, in milliseconds from its start. The last may have no end.
///
/// # Errors
/// What SQLite says.
pub fn gaps(connection: &Connection, id: &str) -> rusqlite::Result<Vec<(i64, Option<i64>)>> {
    let sql = "SELECT recording_gaps FROM calls WHERE id = ?1";
    let json: Option<String> = connection.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?.flatten();
    Ok(json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default())
}

/// The status of a call, by its name.
///
/// # Errors
/// What SQLite says.
pub fn status(connection: &Connection, id: &str) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT status FROM calls WHERE id = ?1";
    connection.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()
}

/// Calls that have not ended.
///
/// # Errors
/// What SQLite says.
pub fn open(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT id FROM calls WHERE ended_ms IS NULL";
    connection.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect()
}

/// Finds a call, whosever it is: for the box's own work, never for an answer to a client.
///
/// # Errors
/// What SQLite says.
pub fn find_anywhere(connection: &Connection, id: &str) -> rusqlite::Result<Option<Call>> {
    connection.prepare_cached(select!("WHERE c.id = ?1"))?.query_row([id], read).optional()
}

/// Which way a call went.
///
/// # Errors
/// What SQLite says.
pub fn direction(connection: &Connection, id: &str) -> rusqlite::Result<Direction> {
    let sql = "SELECT direction = 'outbound' FROM calls WHERE id = ?1";
    let is_outbound: Option<bool> = connection.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?;
    Ok(if is_outbound == Some(true) { Direction::Outbound } else { Direction::Inbound })
}

/// Finds a call of a project of the account.
///
/// # Errors
/// What SQLite says.
pub fn find(connection: &Connection, user_id: &str, project_id: &str, id: &str) -> rusqlite::Result<Option<Call>> {
    let sql = select!(
        "JOIN projects p ON p.id = c.project_id
         WHERE c.id = ?1 AND c.project_id = ?2 AND p.user_id = ?3 AND p.is_deleted = 0"
    );
    connection.prepare_cached(sql)?.query_row([id, project_id, user_id], read).optional()
}

/// Calls of a project, the newest first. The caller has checked whose project it is.
///
/// # Errors
/// What SQLite says.
pub fn page(connection: &Connection, project_id: &str, filter: &Filter, max: usize) -> rusqlite::Result<Vec<Call>> {
    let mut sql = select!("WHERE c.project_id = ?").to_owned();
    let mut values = vec![Value::from(project_id.to_owned())];
    let mut and = |condition: &str, value: Option<Value>| {
        if let Some(value) = value {
            sql.push_str(" AND ");
            sql.push_str(condition);
            values.push(value);
        }
    };
    and("c.to_number = ?", filter.to.clone().map(Value::from));
    and("c.from_number = ?", filter.from.clone().map(Value::from));
    and("c.status = ?", filter.status.map(|status| Value::from(status.name().to_owned())));
    and("c.started_ms >= ?", filter.started_from.map(Value::from));
    and("c.started_ms < ?", filter.started_before.map(Value::from));
    and("c.ended_ms >= ?", filter.ended_from.map(Value::from));
    and("c.ended_ms < ?", filter.ended_before.map(Value::from));
    if let Some((started_ms, id)) = &filter.page {
        sql.push_str(" AND (c.started_ms, c.id) < (?, ?)");
        values.extend([Value::from(*started_ms), Value::from(id.clone())]);
    }
    sql.push_str(" ORDER BY c.started_ms DESC, c.id DESC LIMIT ?");
    values.push(Value::from(max as i64));
    connection.prepare_cached(&sql)?.query_map(params_from_iter(values), read)?.collect()
}

/// The latest calls of the box, for its owner.
///
/// # Errors
/// What SQLite says.
pub fn latest(connection: &Connection, max: usize) -> rusqlite::Result<Vec<Call>> {
    let sql = select!("ORDER BY c.started_ms DESC, c.id DESC LIMIT ?1");
    connection.prepare_cached(sql)?.query_map([max as i64], read)?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Call> {
    let outcome: Option<String> = row.get(6)?;
    Ok(Call {
        id: row.get(0)?,
        project_id: row.get(1)?,
        agent_id: row.get(2)?,
        from: row.get(3)?,
        to: row.get(4)?,
        status: CallStatus::of_name(&row.get::<_, String>(5)?).unwrap_or(CallStatus::Failed),
        outcome: outcome.and_then(|json| serde_json::from_str(&json).ok()),
        codec: row.get(7)?,
        started_ms: row.get(8)?,
        answered_ms: row.get(9)?,
        ended_ms: row.get(10)?,
        recording_file: row.get(11)?,
        caller: Caller {
            display_name: row.get(12)?,
            verstat: row.get(13)?,
            attestation: row.get(14)?,
            diverted_from: row.get(15)?,
        },
        trunk_id: row.get(16)?,
    })
}

/// 1,000 pauses of one call: an hour of one each four seconds.
const GAPS_MAX: i64 = 1000;

/// The boot of a row that no call plane has begun.
const NO_BOOT: u64 = 0;
