//! The pipe inside one process: it is connected again, and an order goes over the connection it was meant for only.

use std::time::Duration;

use talkstack_control::clock::Clock;
use talkstack_control::plane::{PipeSource, PipedPlane};
use talkstack_control::port::{
    CallEvent, CallId, CallPlane, Command, CommandId, CommandReply, Decoder, DialOrder, JournalRecord,
    PROTOCOL_VERSION, PlaneError, Position, ToCalls, ToControl, encode,
};
use talkstack_control::store::{Store, StoreError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

#[tokio::test]
async fn one_commit_that_fails_does_not_end_ingestion_within_one_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("t.db")).expect("opens");
    let statement = |sql: &'static str| {
        let store = store.clone();
        async move { store.write(move |connection| Ok::<_, StoreError>(connection.execute_batch(sql)?)).await }
    };
    // As a full disk does.
    let full = "CREATE TRIGGER full BEFORE INSERT ON journal_cursor BEGIN SELECT RAISE(ABORT, 'full'); END";
    statement(full).await.expect("made");
    let (connected, mut ends) = mpsc::channel(8);
    let source = PipeSource::InProcess(Box::new(move || {
        let (ours, theirs) = UnixStream::pair()?;
        connected.try_send(End { stream: ours, decoder: Decoder::default() }).map_err(std::io::Error::other)?;
        Ok(theirs)
    }));
    let plane = PipedPlane::spawn(source, store.clone(), Clock::of(|| 0));
    let position = Position { boot: 1, seq: 1 };
    let accepted = CallEvent::DialAccepted { command_id: CommandId("c".into()) };
    let record = ToControl::Record(JournalRecord { position, at_ms: 0, call_id: CallId(1), event: accepted });

    let mut first = ends.recv().await.expect("connected");
    first.greet(None).await;
    first.send(&record).await;
    first.send(&ToControl::Live { boot: 1, calls: vec![] }).await;
    let early = tokio::time::timeout(WAIT_MIN, first.next_but_snapshots()).await;
    assert!(early.is_err(), "what is not stored is not confirmed: {early:?}");
    let mut live = plane.live();
    assert_eq!(*live.borrow_and_update(), None, "nor is the connection live before its backlog is stored");
    statement("DROP TRIGGER full").await.expect("gone");
    assert_eq!(first.next_but_snapshots().await, Some(ToCalls::Ack(position)), "over the same connection");
    let mut is_live = async |connection: u64| {
        let seen = tokio::time::timeout(WAIT_MAX, live.wait_for(|live| *live == Some(connection))).await;
        seen.expect("in time").expect("it lives");
    };
    is_live(1).await;

    drop(first);
    let mut second = ends.recv().await.expect("connected again");
    second.greet(Some(position)).await;
    second.send(&record).await;
    assert_eq!(second.next_but_snapshots().await, Some(ToCalls::Ack(position)), "again, and nothing is stored twice");
    second.send(&ToControl::Live { boot: 1, calls: vec![] }).await;
    is_live(2).await;

    let former = plane.dial(1, CommandId("d".into()), order()).await;
    assert_eq!(former, Err(PlaneError::NotConnected), "the first connection is over");
    let (answer, ()) = tokio::join!(plane.dial(2, CommandId("d".into()), order()), async {
        let command = ToCalls::Command { command_id: CommandId("d".into()), command: Command::Dial(Box::new(order())) };
        assert_eq!(second.next_but_snapshots().await, Some(command));
        second.send(&ToControl::Reply { command_id: CommandId("d".into()), reply: CommandReply::Accepted }).await;
    });
    assert_eq!(answer, Ok(CommandReply::Accepted));

    // Whoever waits when the connection is lost learns it at once, and the next one is not live before it says so.
    let (answer, ()) = tokio::join!(plane.dial(2, CommandId("e".into()), order()), async {
        second.next_but_snapshots().await.expect("the command");
        drop(second);
    });
    assert_eq!(answer, Err(PlaneError::TimedOut));
    assert_eq!(*plane.live().borrow(), None);
    ends.recv().await.expect("connected a third time");
}

#[tokio::test]
async fn a_change_is_answered_once_calls_go_by_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("t.db")).expect("opens");
    let (connected, mut ends) = mpsc::channel(8);
    let source = PipeSource::InProcess(Box::new(move || {
        let (ours, theirs) = UnixStream::pair()?;
        connected.try_send(End { stream: ours, decoder: Decoder::default() }).map_err(std::io::Error::other)?;
        Ok(theirs)
    }));
    let plane = PipedPlane::spawn(source, store, Clock::of(|| 0));
    plane.applied(7).await;
    let mut end = ends.recv().await.expect("connected");
    end.greet(None).await;
    end.send(&ToControl::Live { boot: 1, calls: vec![] }).await;
    let mut live = plane.live();
    tokio::time::timeout(WAIT_MAX, live.wait_for(Option::is_some)).await.expect("in time").expect("it lives");

    end.send(&ToControl::Applied { revision: 6 }).await;
    let mut seventh = plane.applied(7);
    assert!(tokio::time::timeout(WAIT_MIN, &mut seventh).await.is_err(), "calls go by the sixth");
    end.send(&ToControl::Applied { revision: 7 }).await;
    tokio::time::timeout(WAIT_MIN, seventh).await.expect("at once");
    plane.applied(6).await;
    // A call plane that says nothing holds nobody up for long.
    tokio::time::timeout(WAIT_MAX, plane.applied(8)).await.expect("given up");
}

/// The call plane's end.
struct End {
    stream: UnixStream,
    decoder: Decoder,
}

impl End {
    /// Both sides say hello, and control what it has stored.
    async fn greet(&mut self, stored: Option<Position>) {
        self.send(&ToControl::Hello { version: PROTOCOL_VERSION }).await;
        assert_eq!(self.next_but_snapshots().await, Some(ToCalls::Hello { version: PROTOCOL_VERSION, stored }));
    }

    async fn send(&mut self, message: &ToControl) {
        let mut bytes = Vec::new();
        encode(message, &mut bytes).expect("short");
        self.stream.write_all(&bytes).await.expect("sent");
    }

    /// `None` when control has hung up.
    async fn next_but_snapshots(&mut self) -> Option<ToCalls> {
        loop {
            while let Some(message) = self.decoder.next_message().expect("well-formed") {
                if !matches!(message, ToCalls::Snapshot(_)) {
                    return Some(message);
                }
            }
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(WAIT_MAX, self.stream.read(&mut buffer)).await.expect("in time");
            match read {
                Ok(bytes) if bytes > 0 => self.decoder.feed(&buffer[..bytes]),
                _ => return None,
            }
        }
    }
}

fn order() -> DialOrder {
    DialOrder {
        call_id: CallId(7),
        to: "+36201234567".into(),
        from: "+3612345678".into(),
        project_id: "p".into(),
        agent_id: "a".into(),
        variables: [].into(),
    }
}

const WAIT_MAX: Duration = Duration::from_secs(8);

/// What is stored is confirmed sooner.
const WAIT_MIN: Duration = Duration::from_millis(200);
