//! The table `utterances`: what was said in calls.

use rusqlite::{Connection, params};

use crate::port::{Position, Speaker, Utterance};

/// Stores what was said; a record that is stored already changes nothing.
///
/// # Errors
/// What SQLite says.
pub fn insert(
    connection: &Connection,
    call_id: &str,
    position: Position,
    utterance: &Utterance,
) -> rusqlite::Result<()> {
    // A journal that was restored from a copy tells it anew, from another place.
    let sql = "INSERT OR IGNORE INTO utterances (call_id, position, speaker, text, at_ms) SELECT ?1, ?2, ?3, ?4, ?5
        WHERE NOT EXISTS (SELECT 1 FROM utterances WHERE call_id = ?1 AND speaker = ?3 AND text = ?4 AND at_ms = ?5)";
    let Utterance { speaker, text, at_ms } = utterance;
    let place = place(position);
    let speaker = match speaker {
        Speaker::Caller => CALLER,
        Speaker::Agent => AGENT,
    };
    connection.prepare_cached(sql)?.execute(params![call_id, place, speaker, text, *at_ms as i64]).map(drop)
}

/// A journal's place as one number that counts up.
pub(super) fn place(position: Position) -> i64 {
    (position.boot as i64) << SEQ_BITS | position.seq as i64
}

/// What was said in a call, in the order in which it was begun. The caller has checked whose call it is.
///
/// # Errors
/// What SQLite says.
pub fn of_call(connection: &Connection, call_id: &str) -> rusqlite::Result<Vec<Utterance>> {
    let sql = "SELECT speaker, text, at_ms FROM utterances WHERE call_id = ?1 ORDER BY at_ms, position";
    connection
        .prepare_cached(sql)?
        .query_map([call_id], |row| {
            let speaker = if row.get_ref(0)?.as_str()? == CALLER { Speaker::Caller } else { Speaker::Agent };
            Ok(Utterance { speaker, text: row.get(1)?, at_ms: row.get::<_, i64>(2)? as u64 })
        })?
        .collect()
}

const CALLER: &str = "caller";
const AGENT: &str = "agent";

/// 2^40 records a boot, 2^23 boots: more than a box writes in its life.
const SEQ_BITS: u32 = 40;
