//! The table `sip_refusals`: what was refused on the wire, and by which rule. The latest 10,000 are kept.

use rusqlite::{Connection, Row, params};

use crate::port::{Direction, Position, SipRefusal};

/// A stored refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Counts up with time.
    pub position: i64,
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    /// The call it belongs to, if one.
    pub call_id: Option<String>,
    /// What happened.
    pub refusal: SipRefusal,
}

/// Stores one; a record that comes again changes nothing.
///
/// # Errors
/// What SQLite says.
pub fn insert(
    connection: &Connection,
    position: Position,
    at_ms: i64,
    call_id: Option<&str>,
    refusal: &SipRefusal,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO sip_refusals
        (position, at_ms, call_id, direction, status, method, peer, trunk_id, rule, more)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    connection.prepare_cached(sql)?.execute(params![
        super::utterances::place(position),
        at_ms,
        call_id,
        if refusal.direction == Direction::Inbound { "inbound" } else { "outbound" },
        refusal.status,
        refusal.method,
        refusal.peer,
        refusal.trunk_id,
        refusal.rule,
        refusal.more
    ])?;
    // One in 64 sweeps: the table holds at most so many more.
    if position.seq.is_multiple_of(64) {
        let sql = "DELETE FROM sip_refusals WHERE position <
            (SELECT position FROM sip_refusals ORDER BY position DESC LIMIT 1 OFFSET ?1)";
        connection.prepare_cached(sql)?.execute([KEPT])?;
    }
    Ok(())
}

/// The latest ones before `before`, the newest first, at most `limit`; of one trunk or one call where it is named.
///
/// # Errors
/// What SQLite says.
pub fn latest(
    connection: &Connection,
    trunk_id: Option<&str>,
    call_id: Option<&str>,
    before: Option<i64>,
    limit: u32,
) -> rusqlite::Result<Vec<Refusal>> {
    let sql = "SELECT position, at_ms, call_id, direction, status, method, peer, trunk_id, rule, more FROM sip_refusals
        WHERE (?1 IS NULL OR trunk_id = ?1) AND (?2 IS NULL OR call_id = ?2) AND (?3 IS NULL OR position < ?3)
        ORDER BY position DESC LIMIT ?4";
    connection.prepare_cached(sql)?.query_map(params![trunk_id, call_id, before, limit], read)?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Refusal> {
    let direction: String = row.get(3)?;
    let refusal = SipRefusal {
        direction: if direction == "inbound" { Direction::Inbound } else { Direction::Outbound },
        status: row.get(4)?,
        method: row.get(5)?,
        peer: row.get(6)?,
        trunk_id: row.get(7)?,
        rule: row.get(8)?,
        more: row.get(9)?,
    };
    Ok(Refusal { position: row.get(0)?, at_ms: row.get(1)?, call_id: row.get(2)?, refusal })
}

/// 10,000 refusals of 200 bytes: 2 MB, and a day of a badly set trunk.
const KEPT: i64 = 10_000;
