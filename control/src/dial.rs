//! Orders to dial, from the store's outbox to the call plane: each handed over once, or given up.
//!
//! ```text
//!   waiting ──offer──▶ asked ──Accepted──▶ settled
//!      ▲                 │
//!      ├────── Busy ─────┤
//!      └─ in doubt ◀─────┘ no answer: it may have been taken on
//! ```
//!
//! Orders are offered only over a connection whose backlog is stored: every `DialAccepted` of earlier boots has taken
//! its order out of the outbox by then, so what still waits has not been dialled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::port::{Blame, CallId, CallPlane, CommandReply, EndReason, Outcome, PlaneError};
use crate::store::dials::{self, Dial};
use crate::store::{Store, StoreError, calls};
use crate::webhook::announce;

/// Decides which orders are offered, and which are given up. Times are milliseconds since the epoch.
#[derive(Debug, Default)]
pub struct Dispatcher {
    /// By age.
    orders: BTreeMap<(i64, CallId), Order>,
    connection: Option<u64>,
}

#[derive(Debug)]
struct Order {
    dial: Dial,
    state: State,
    /// It was offered, and nobody knows yet whether it was taken on.
    is_in_doubt: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be offered, at this time at the earliest.
    Waiting { at_ms: i64 },
    /// Offered; the answer is on its way.
    Asked,
    /// Taken on; the outbox is to forget it, at this time at the earliest.
    Accepted { at_ms: i64 },
    /// Too late; its row is to end, at this time at the earliest.
    Expired { at_ms: i64 },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send the order over this connection and no other.
    Offer {
        /// Which.
        connection: u64,
        /// The order.
        dial: Box<Dial>,
    },
    /// Take the order out of the outbox.
    Settle(CallId),
    /// End the call and take the order out of the outbox.
    GiveUp(CallId),
}

impl Dispatcher {
    /// Takes the connection whose backlog is stored; `None` while there is none. Call before [`Dispatcher::handle_orders`]
    /// with what was read after it.
    pub fn handle_connection(&mut self, connection: Option<u64>) {
        if self.connection == connection {
            return;
        }
        self.connection = connection;
        for order in self.orders.values_mut() {
            if order.state == State::Asked {
                order.state = State::Waiting { at_ms: 0 };
                order.is_in_doubt = true;
            }
            // What was taken on has left the outbox with the backlog.
            if connection.is_some() {
                order.is_in_doubt = false;
            }
        }
    }

    /// Takes the outbox as it stands.
    pub fn handle_orders(&mut self, waiting: Vec<Dial>) {
        let mut former = std::mem::take(&mut self.orders);
        for dial in waiting {
            let key = (dial.created_ms, dial.order.call_id);
            let is_in_doubt = dial.was_offered && self.connection.is_none();
            let order = former.remove(&key).unwrap_or(Order { dial, state: State::Waiting { at_ms: 0 }, is_in_doubt });
            self.orders.insert(key, order);
        }
    }

    /// Takes the answer to an offer.
    pub fn handle_answer(
        &mut self,
        call_id: CallId,
        connection: u64,
        answer: Result<CommandReply, PlaneError>,
        now_ms: i64,
    ) {
        let Some(order) = self.orders.values_mut().find(|order| order.dial.order.call_id == call_id) else { return };
        if answer == Ok(CommandReply::Accepted) {
            order.state = State::Accepted { at_ms: now_ms };
            return;
        }
        // Of an earlier connection nothing else counts.
        if self.connection != Some(connection) || order.state != State::Asked {
            return;
        }
        order.is_in_doubt = match answer {
            Ok(_) => false,
            Err(PlaneError::NotConnected) => order.is_in_doubt,
            Err(PlaneError::TimedOut) => true,
        };
        order.state = State::Waiting { at_ms: now_ms + RETRY_MS };
    }

    /// Returns what is to be done; drain to `None`. What could not be done comes again.
    pub fn poll_output(&mut self, now_ms: i64) -> Option<Output> {
        let asked = self.orders.values().filter(|order| order.state == State::Asked).count();
        let connection = self.connection.filter(|_| asked < ASKED_MAX);
        self.orders.values_mut().find_map(|order| order.poll(connection, now_ms))
    }

    /// When to come back.
    pub fn poll_timeout(&self) -> Option<i64> {
        let is_connected = self.connection.is_some();
        self.orders.values().filter_map(|order| order.timeout_ms(is_connected)).min()
    }
}

impl Order {
    fn poll(&mut self, connection: Option<u64>, now_ms: i64) -> Option<Output> {
        let call_id = self.dial.order.call_id;
        if matches!(self.state, State::Waiting { .. }) && now_ms >= self.expires_ms() {
            self.state = State::Expired { at_ms: now_ms };
        }
        match (&mut self.state, connection) {
            (State::Accepted { at_ms }, _) if now_ms >= *at_ms => {
                *at_ms = now_ms + RETRY_MS;
                Some(Output::Settle(call_id))
            }
            (State::Expired { at_ms }, _) if now_ms >= *at_ms => {
                *at_ms = now_ms + RETRY_MS;
                Some(Output::GiveUp(call_id))
            }
            (State::Waiting { at_ms }, Some(connection)) if now_ms >= *at_ms => {
                self.state = State::Asked;
                let dial = Box::new(self.dial.clone());
                self.dial.was_offered = true;
                Some(Output::Offer { connection, dial })
            }
            _ => None,
        }
    }

    /// An order that may have been taken on is asked about, or awaits the next connection's backlog, before it is given
    /// up: its call may be up.
    fn expires_ms(&self) -> i64 {
        self.dial.created_ms + if self.is_in_doubt { DOUBT_MS_MAX } else { HANDED_OVER_MS_MAX }
    }

    fn timeout_ms(&self, is_connected: bool) -> Option<i64> {
        match self.state {
            State::Waiting { at_ms } if is_connected => Some(at_ms.min(self.expires_ms())),
            State::Waiting { .. } => Some(self.expires_ms()),
            State::Asked => None,
            State::Accepted { at_ms } | State::Expired { at_ms } => Some(at_ms),
        }
    }
}

/// Hands orders over until the process ends.
pub(crate) async fn run(store: Store, plane: Arc<dyn CallPlane>, clock: Clock, order_waits: Arc<Notify>) {
    let mut dispatcher = Dispatcher::default();
    let mut live = plane.live();
    let mut asked: JoinSet<(CallId, u64, Result<CommandReply, PlaneError>)> = JoinSet::new();
    loop {
        // The connection before the outbox: what is read was stored after that connection's backlog.
        let connection = *live.borrow_and_update();
        let waiting = store.read(|connection| dials::waiting(connection, ORDERS_MAX).map_err(StoreError::from)).await;
        let idle_ms = if waiting.is_ok() { IDLE_MS } else { RETRY_MS };
        match waiting {
            Ok(waiting) => {
                dispatcher.handle_connection(connection);
                dispatcher.handle_orders(waiting);
            }
            Err(error) => tracing::error!("Cannot read the orders to dial ({error})"),
        }
        let mut outputs = Vec::new();
        while let Some(output) = dispatcher.poll_output(clock.now_ms()) {
            outputs.push(output);
        }
        let is_stored = store_decisions(&store, &clock, &outputs).await;
        for output in outputs {
            let Output::Offer { connection, dial } = output else { continue };
            let call_id = dial.order.call_id;
            if !is_stored && !dial.was_offered {
                // Were it sent, nobody would know after a restart that it may have been taken on.
                dispatcher.handle_answer(call_id, connection, Err(PlaneError::NotConnected), clock.now_ms());
                continue;
            }
            let plane = Arc::clone(&plane);
            asked
                .spawn(async move { (call_id, connection, plane.dial(connection, dial.command_id, dial.order).await) });
        }
        let wait_ms = dispatcher.poll_timeout().map_or(idle_ms, |at_ms| at_ms - clock.now_ms());
        let wait = Duration::from_millis(wait_ms.clamp(PAUSE_MS, idle_ms).unsigned_abs());
        tokio::select! {
            Ok(()) = live.changed() => {}
            () = order_waits.notified() => {}
            Some(answered) = asked.join_next() => {
                if let Ok((call_id, connection, answer)) = answered {
                    dispatcher.handle_answer(call_id, connection, answer, clock.now_ms());
                }
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Stores what was decided in one transaction; offers may leave only once that is done.
async fn store_decisions(store: &Store, clock: &Clock, outputs: &[Output]) -> bool {
    if outputs.is_empty() {
        return true;
    }
    let (now_ms, decided) = (clock.now_ms(), outputs.to_vec());
    let stored = store.write(move |connection| {
        for output in &decided {
            match output {
                Output::Offer { dial, .. } => dials::mark_offered(connection, &dial.order.call_id.to_string())?,
                Output::Settle(call_id) => dials::settle(connection, &call_id.to_string())?,
                Output::GiveUp(call_id) => {
                    let call_id = call_id.to_string();
                    // The journal may have brought its acceptance since the outbox was read.
                    if dials::is_waiting(connection, &call_id)? {
                        let outcome = Outcome::new(Blame::Gateway, EndReason::Overloaded);
                        calls::end(connection, &call_id, outcome, now_ms)?;
                        announce(connection, &call_id, now_ms)?;
                        dials::settle(connection, &call_id)?;
                    }
                }
            }
        }
        Ok::<_, StoreError>(())
    });
    match stored.await {
        Ok(()) => true,
        Err(error) => {
            tracing::error!("Cannot store what became of the orders to dial ({error})");
            false
        }
    }
}

/// 60 s: whoever asked for a call has given up by then.
const HANDED_OVER_MS_MAX: i64 = 60_000;

/// 10 min for an order that may have been taken on; its call has then shown itself, or never will.
const DOUBT_MS_MAX: i64 = 600_000;

/// 1 s between two tries.
const RETRY_MS: i64 = 1000;

/// 64 offers without an answer, of 64 KiB at most.
const ASKED_MAX: usize = 64;

/// 1,000 orders are looked at; later ones move up as those are settled or given up.
const ORDERS_MAX: usize = 1000;

/// An idle task looks around once a minute.
const IDLE_MS: i64 = 60_000;

/// 20 ms between two looks at least.
const PAUSE_MS: i64 = 20;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap as Map;

    use super::*;
    use crate::port::{CommandId, DialOrder};

    #[test]
    fn nothing_is_offered_before_the_backlog_is_stored_and_everything_once_after() {
        let mut dispatcher = with(&[dial(1, 0, false), dial(2, 5, true)]);
        assert_eq!(drain(&mut dispatcher, 10), []);
        connect(&mut dispatcher, 1, &[dial(1, 0, false), dial(2, 5, true)]);
        assert_eq!(drain(&mut dispatcher, 20), [offer(1, 1), offer(1, 2)]);
        assert_eq!(drain(&mut dispatcher, 30_000), [], "both answers are on their way");
        dispatcher.handle_answer(CallId(1), 1, Ok(CommandReply::Accepted), 40);
        assert_eq!(drain(&mut dispatcher, 40), [Output::Settle(CallId(1))]);
        assert_eq!(drain(&mut dispatcher, 41), []);
        assert_eq!(drain(&mut dispatcher, 1040), [Output::Settle(CallId(1))], "the store did not take it");
        dispatcher.handle_orders(vec![dial(2, 5, true)]);
        assert_eq!(drain(&mut dispatcher, 9000), [], "it did");
    }

    #[test]
    fn busy_is_tried_again_each_second_for_a_minute_and_then_given_up() {
        let mut dispatcher = Dispatcher::default();
        connect(&mut dispatcher, 1, &[dial(1, 0, false)]);
        let mut offers = 0;
        let mut now_ms = 0;
        loop {
            match drain(&mut dispatcher, now_ms).as_slice() {
                [Output::Offer { .. }] => offers += 1,
                [Output::GiveUp(CallId(1))] => break,
                other => panic!("{now_ms}: {other:?}"),
            }
            dispatcher.handle_answer(CallId(1), 1, Ok(CommandReply::Busy), now_ms);
            now_ms = dispatcher.poll_timeout().expect("it goes on");
        }
        assert_eq!((now_ms, offers), (60_000, 60));
    }

    #[test]
    fn an_order_that_was_never_sent_is_given_up_without_a_connection() {
        let mut dispatcher = with(&[dial(1, 100, false)]);
        assert_eq!(dispatcher.poll_timeout(), Some(60_100));
        assert_eq!(drain(&mut dispatcher, 60_099), []);
        assert_eq!(drain(&mut dispatcher, 60_100), [Output::GiveUp(CallId(1))]);
    }

    #[test]
    fn an_order_that_may_have_been_taken_on_awaits_the_next_backlog() {
        for taken_on in [true, false] {
            let mut dispatcher = Dispatcher::default();
            connect(&mut dispatcher, 1, &[dial(1, 0, false)]);
            assert_eq!(drain(&mut dispatcher, 0), [offer(1, 1)]);
            dispatcher.handle_connection(None);
            dispatcher.handle_answer(CallId(1), 1, Err(PlaneError::TimedOut), 5000);
            assert_eq!(drain(&mut dispatcher, 70_000), [], "it may be up");
            let waiting = if taken_on { vec![] } else { vec![dial(1, 0, true)] };
            connect(&mut dispatcher, 2, &waiting);
            let expected = if taken_on { vec![] } else { vec![Output::GiveUp(CallId(1))] };
            assert_eq!(drain(&mut dispatcher, 70_001), expected, "{taken_on}");
        }
        // The same after a restart of control, which knows of the offer from the outbox.
        let mut dispatcher = with(&[dial(1, 0, true)]);
        assert_eq!(drain(&mut dispatcher, 70_000), []);
        assert_eq!(drain(&mut dispatcher, 600_000), [Output::GiveUp(CallId(1))], "not for ever");
    }

    #[test]
    fn an_unanswered_offer_is_repeated_over_a_live_connection() {
        let mut dispatcher = Dispatcher::default();
        connect(&mut dispatcher, 1, &[dial(1, 0, false)]);
        drain(&mut dispatcher, 0);
        dispatcher.handle_answer(CallId(1), 1, Err(PlaneError::TimedOut), 5000);
        assert_eq!(drain(&mut dispatcher, 5999), []);
        assert_eq!(drain(&mut dispatcher, 6000), [offer_again(1, 1)]);
        dispatcher.handle_answer(CallId(1), 1, Err(PlaneError::TimedOut), 61_000);
        assert_eq!(drain(&mut dispatcher, 62_000), [offer_again(1, 1)], "a minute is over, the doubt is not");
        dispatcher.handle_answer(CallId(1), 1, Ok(CommandReply::Busy), 62_500);
        assert_eq!(drain(&mut dispatcher, 62_500), [Output::GiveUp(CallId(1))]);
    }

    #[test]
    fn an_answer_of_an_earlier_connection_does_not_unlock_a_second_offer() {
        let mut dispatcher = Dispatcher::default();
        connect(&mut dispatcher, 1, &[dial(1, 0, false)]);
        drain(&mut dispatcher, 0);
        connect(&mut dispatcher, 2, &[dial(1, 0, true)]);
        assert_eq!(drain(&mut dispatcher, 10), [offer_again(2, 1)]);
        dispatcher.handle_answer(CallId(1), 1, Err(PlaneError::TimedOut), 5000);
        assert_eq!(drain(&mut dispatcher, 9000), []);
        dispatcher.handle_answer(CallId(1), 2, Ok(CommandReply::Accepted), 9000);
        assert_eq!(drain(&mut dispatcher, 9000), [Output::Settle(CallId(1))]);
    }

    #[test]
    fn at_most_64_offers_are_without_an_answer() {
        let all: Vec<Dial> = (0..200).map(|call| dial(call, call as i64, false)).collect();
        let mut dispatcher = Dispatcher::default();
        connect(&mut dispatcher, 1, &all);
        assert_eq!(drain(&mut dispatcher, 200).len(), ASKED_MAX);
        dispatcher.handle_answer(CallId(0), 1, Ok(CommandReply::Busy), 200);
        assert_eq!(drain(&mut dispatcher, 201), [offer(1, 64)], "the next in age");
    }

    fn with(waiting: &[Dial]) -> Dispatcher {
        let mut dispatcher = Dispatcher::default();
        dispatcher.handle_orders(waiting.to_vec());
        dispatcher
    }

    fn connect(dispatcher: &mut Dispatcher, connection: u64, waiting: &[Dial]) {
        dispatcher.handle_connection(Some(connection));
        dispatcher.handle_orders(waiting.to_vec());
    }

    fn drain(dispatcher: &mut Dispatcher, now_ms: i64) -> Vec<Output> {
        std::iter::from_fn(|| dispatcher.poll_output(now_ms)).collect()
    }

    fn offer(connection: u64, call: u128) -> Output {
        let created_ms = [(2, 5), (64, 64)].iter().find(|(of, _)| *of == call).map_or(0, |(_, created_ms)| *created_ms);
        Output::Offer { connection, dial: Box::new(dial(call, created_ms, call == 2)) }
    }

    fn offer_again(connection: u64, call: u128) -> Output {
        Output::Offer { connection, dial: Box::new(dial(call, 0, true)) }
    }

    fn dial(call: u128, created_ms: i64, was_offered: bool) -> Dial {
        let order = DialOrder {
            call_id: CallId(call),
            to: "+36201234567".into(),
            from: "+3612345678".into(),
            project_id: "p".into(),
            agent_id: "a".into(),
            variables: Map::new(),
        };
        Dial { order, command_id: CommandId(call.to_string()), was_offered, created_ms }
    }
}
