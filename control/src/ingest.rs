//! From the journal to rows: one transaction a batch, and a cursor so that a repetition changes nothing.

use rusqlite::Connection;

use crate::call_status::CallStatus;
use crate::port::{Blame, CallEvent, CallId, Direction, EndReason, JournalRecord, Outcome};
use crate::recording::format_of;
use crate::store::diagnoses::{self, Diagnosis};
use crate::store::{StoreError, calls, dials, do_not_call, messages, refusals, utterances};
use crate::webhook::announce;

/// Stores records that follow each other; those at or before the cursor are passed over.
///
/// # Errors
/// [`StoreError`]; nothing is stored then.
pub fn ingest(connection: &Connection, records: &[JournalRecord]) -> Result<(), StoreError> {
    let mut cursor = calls::cursor(connection)?;
    for record in records {
        if cursor.is_some_and(|cursor| record.position <= cursor) {
            continue;
        }
        store(connection, record)?;
        cursor = Some(record.position);
    }
    if let Some(cursor) = cursor {
        calls::put_cursor(connection, cursor)?;
    }
    Ok(())
}

/// Ends every open row that is not among the calls that are up, nor waits to be dialled.
///
/// # Errors
/// [`StoreError`].
pub fn close_others(connection: &Connection, live: &[CallId], now_ms: i64) -> Result<(), StoreError> {
    let live: Vec<String> = live.iter().map(ToString::to_string).collect();
    let outcome = Outcome::new(Blame::Gateway, EndReason::Restarted);
    for id in calls::open(connection)? {
        if !live.contains(&id) && !dials::is_waiting(connection, &id)? {
            calls::end(connection, &id, outcome, now_ms)?;
            announce(connection, &id, now_ms)?;
        }
    }
    Ok(())
}

fn store(connection: &Connection, record: &JournalRecord) -> rusqlite::Result<()> {
    let (id, at_ms) = (record.call_id.to_string(), record.at_ms as i64);
    let before = calls::status(connection, &id)?;
    apply(connection, record, &id, at_ms)?;
    if calls::status(connection, &id)? != before {
        announce(connection, &id, at_ms)?;
    }
    Ok(())
}

fn apply(connection: &Connection, record: &JournalRecord, id: &str, at_ms: i64) -> rusqlite::Result<()> {
    match &record.event {
        CallEvent::Started(started) => {
            let status = match started.direction {
                Direction::Inbound => CallStatus::Ringing,
                Direction::Outbound => CallStatus::Queued,
            };
            calls::begin(connection, id, started, status, record.position.boot, at_ms)
        }
        CallEvent::Carried { trunk_id } => calls::put_trunk(connection, id, trunk_id),
        CallEvent::Initiated => calls::put_status(connection, id, CallStatus::Initiated),
        CallEvent::Ringing => calls::put_status(connection, id, CallStatus::Ringing),
        CallEvent::Answered { codec } => calls::answer(connection, id, codec, at_ms),
        CallEvent::Ended { outcome } => calls::end(connection, id, *outcome, at_ms),
        CallEvent::DialAccepted { .. } => dials::settle(connection, id),
        // The call plane's own.
        CallEvent::Dialog { .. } => Ok(()),
        CallEvent::Refused(refusal) => {
            let call_id = (record.call_id != CallId(0)).then_some(id);
            refusals::insert(connection, record.position, at_ms, call_id, refusal)
        }
        CallEvent::Diagnosed { fault, found } => {
            diagnoses::insert(connection, record.position, at_ms, id, &Diagnosis { fault, found })
        }
        CallEvent::Measured { leg, quality } => calls::put_quality(connection, id, *leg, quality),
        CallEvent::Said(utterance) => utterances::insert(connection, id, record.position, utterance),
        CallEvent::MessageTaken(message) => messages::insert(connection, id, record.position, at_ms, message),
        CallEvent::DoNotCall => do_not_call::add_far_end(connection, id, at_ms),
        CallEvent::RecordingPaused { at_ms } => calls::begin_gap(connection, id, *at_ms as i64),
        CallEvent::RecordingResumed { at_ms } => calls::end_gap(connection, id, *at_ms as i64),
        CallEvent::Recorded { file, duration_ms } if format_of(file, record.call_id).is_some() => {
            calls::put_recording(connection, id, file, *duration_ms as i64)
        }
        CallEvent::Recorded { .. } => {
            tracing::warn!(call = id, "A recording has the name of none and is not linked");
            Ok(())
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::port::{CallLeg, CallStarted, Direction, Position};
    use crate::store::Store;

    #[tokio::test]
    async fn a_replay_changes_nothing_and_calls_that_are_not_up_are_closed() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("t.db")).expect("opens");
        let records: Vec<JournalRecord> = (1..=2u128)
            .flat_map(|call| {
                [CallEvent::Started(started()), CallEvent::Answered { codec: "PCMU".into() }].map(|event| (call, event))
            })
            .chain([(1, CallEvent::Ended { outcome: Outcome::new(Blame::Caller, EndReason::HungUp) })])
            .enumerate()
            .map(|(at, (call, event))| JournalRecord {
                position: Position { boot: 1, seq: at as u64 + 1 },
                at_ms: 1000 * (at as u64 + 1),
                call_id: CallId(call),
                event,
            })
            .collect();
        let run = |records: Vec<JournalRecord>| {
            let store = store.clone();
            async move { store.write(move |connection| ingest(connection, &records)).await }
        };
        run(records.clone()).await.expect("stored");
        let first = all(&store).await;
        run(records[..3].to_vec()).await.expect("stored");
        run(records).await.expect("stored");
        assert_eq!(all(&store).await, first);
        assert_eq!((first[1].status, first[1].seconds()), (CallStatus::Completed, 3));
        assert_eq!(first[0].status, CallStatus::InProgress);

        store.write(|connection| close_others(connection, &[CallId(2)], 9000)).await.expect("stored");
        assert_eq!(all(&store).await, first, "call 2 is up");
        store.write(|connection| close_others(connection, &[], 9000)).await.expect("stored");
        assert_eq!(all(&store).await[0].status, CallStatus::Failed);
    }

    #[tokio::test]
    async fn a_leg_sounds_as_it_was_measured_last() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("t.db")).expect("opens");
        let measured = |leg, lost: u64| {
            let text = format!(
                r#"{{"is_wideband":false,"round_trip_ms":40.5,"inbound":{{"packets":900,"lost":{lost},"late":1,"duplicates":0,
                "refused":0,"concealed_ms":60.0,"loss_percent":0.4,"burst_loss_percent":0.0,"gap_loss_percent":0.4,
                "jitter_ms":3.5,"wait_ms":60.0,"mos":4.3,"level_dbov":-26.1,"clipped_percent":0.0}},"outbound":{{
                "packets":900,"lost":null,"loss_percent":null,"jitter_ms":null,"mos":null,"level_dbov":null,
                "clipped_percent":0.0}}}}"#
            );
            CallEvent::Measured { leg, quality: serde_json::from_str(&text).expect("figures") }
        };
        let events = [
            CallEvent::Started(started()),
            measured(CallLeg::First, 2),
            measured(CallLeg::First, 3),
            CallEvent::Ended { outcome: Outcome::new(Blame::Caller, EndReason::HungUp) },
        ];
        take_in(&store, events).await;
        let id = CallId(1).to_string();
        let read = store.read(move |connection| calls::quality(connection, &id).map_err(StoreError::from)).await;
        let [first, second] = read.expect("read");
        let first = first.expect("measured");
        assert_eq!((first.inbound.lost, first.round_trip_ms, first.outbound.mos), (3, Some(40.5), None));
        assert_eq!(second, None);
    }

    #[tokio::test]
    async fn a_call_is_on_the_trunk_that_carries_it_at_last() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("t.db")).expect("opens");
        let begun = CallStarted { trunk_id: Some("first".into()), ..started() };
        let events = [CallEvent::Started(begun), CallEvent::Carried { trunk_id: "second".into() }];
        take_in(&store, events).await;
        assert_eq!(all(&store).await[0].trunk_id.as_deref(), Some("second"));
    }

    #[tokio::test]
    async fn what_was_found_wrong_with_a_call_is_kept_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("t.db")).expect("opens");
        let event = CallEvent::Diagnosed { fault: "one_way_in".into(), found: "Nothing arrives".into() };
        let record = JournalRecord { position: Position { boot: 1, seq: 1 }, at_ms: 1000, call_id: CallId(1), event };
        for _ in 0..2 {
            let record = record.clone();
            let stored: Result<(), StoreError> =
                store.write(move |connection| Ok(super::store(connection, &record)?)).await;
            stored.expect("stored");
        }
        let found: Result<_, StoreError> =
            store.read(|connection| Ok(diagnoses::of_call(connection, &CallId(1).to_string())?)).await;
        assert_eq!(found.expect("readable"), [("one_way_in".into(), "Nothing arrives".into(), 1000)]);
    }

    /// Takes in what happened to one call, in this order.
    async fn take_in(store: &Store, events: impl IntoIterator<Item = CallEvent>) {
        let record = |(at, event): (u64, CallEvent)| JournalRecord {
            position: Position { boot: 1, seq: at },
            at_ms: 1000,
            call_id: CallId(1),
            event,
        };
        let records: Vec<JournalRecord> = (1..).zip(events).map(record).collect();
        let stored: Result<(), StoreError> = store.write(move |connection| ingest(connection, &records)).await;
        stored.expect("stored");
    }

    async fn all(store: &Store) -> Vec<calls::Call> {
        let read: Result<_, StoreError> = store.read(|connection| Ok(calls::latest(connection, 10)?)).await;
        read.expect("readable")
    }

    /// A call to nobody in particular comes in.
    pub(crate) fn started() -> CallStarted {
        CallStarted {
            direction: Direction::Inbound,
            from: "+1".into(),
            to: "+2".into(),
            project_id: None,
            agent_id: None,
            sip_call_id: "x".into(),
            trunk_id: None,
            display_name: None,
            verstat: None,
            attestation: None,
            diverted_from: None,
        }
    }
}
