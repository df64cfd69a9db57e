//! What a model's functions want done whose answer comes later: keys to be collected, a web service to be asked, a while
//! to be silent. Each is answered once, whatever becomes of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use talkstack_control::port::{CollectEnd, CollectOrder, Collected, HttpTool, TakenMessage};

use super::AgentOutput;
use super::duties::Answer;

/// Something that the box does for an agent.
#[derive(Debug)]
pub enum Errand {
    /// Collect keys from the caller, unless the box is at it for somebody else.
    Collect(CollectOrder),
    /// Ask a web service.
    Fetch(Box<Request>),
}

/// A call of a function that a web service carries out. Its arguments are personal.
pub struct Request {
    /// The function.
    pub tool: Arc<HttpTool>,
    /// As the model has given them.
    pub arguments: Map<String, Value>,
    /// The keys that were collected last.
    pub digits: String,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Request({})", self.tool.name)
    }
}

/// Something to be noted about a call, for its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The agent has taken a message down.
    Message(TakenMessage),
    /// The far end wants no more calls.
    DoNotCall,
}

/// What has become of an errand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Keys were collected.
    Collected(Collected),
    /// The box collects keys already.
    Collecting,
    /// A web service has answered, or has not.
    Fetched(Result<String, String>),
}

/// What is under way for one agent.
#[derive(Default)]
pub(super) struct Errands {
    pending: Vec<Pending>,
    begun: VecDeque<(u32, Errand)>,
    notes: VecDeque<Note>,
    next: u32,
    /// The keys that were collected last.
    digits: String,
}

struct Pending {
    number: u32,
    call_id: String,
    name: String,
    kind: Kind,
}

enum Kind {
    Fetch,
    Collect {
        is_secret: bool,
    },
    /// Until then; known once time has been told.
    Wait {
        length: Duration,
        until: Option<Instant>,
    },
}

/// What a function wants that takes a while.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wanted {
    Collect { order: CollectOrder, is_secret: bool },
    Fetch { tool: Arc<HttpTool>, arguments: Map<String, Value> },
    Wait(Duration),
}

impl Errands {
    /// Begins one, for a call of a function.
    ///
    /// # Errors
    /// What the model is told when too many are under way.
    pub(super) fn begin(&mut self, call_id: &str, name: &str, wanted: Wanted) -> Result<(), &'static str> {
        if self.pending.len() >= PENDING_MAX {
            return Err("Too many functions are under way; wait for their answers.");
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let kind = match wanted {
            Wanted::Collect { order, is_secret } => {
                if self.pending.iter().any(|pending| matches!(pending.kind, Kind::Collect { .. })) {
                    return Err(COLLECTING);
                }
                self.begun.push_back((number, Errand::Collect(order)));
                Kind::Collect { is_secret }
            }
            Wanted::Fetch { tool, arguments } => {
                let request = Request { tool, arguments, digits: self.digits.clone() };
                self.begun.push_back((number, Errand::Fetch(Box::new(request))));
                Kind::Fetch
            }
            Wanted::Wait(length) => Kind::Wait { length, until: None },
        };
        self.pending.push(Pending { number, call_id: call_id.to_owned(), name: name.to_owned(), kind });
        Ok(())
    }

    /// Notes something.
    pub(super) fn note(&mut self, note: Note) {
        // A model calls no more functions than it is answered, which is bounded.
        self.notes.push_back(note);
    }

    /// What has become of one; the answer to the model.
    pub(super) fn handle_done(&mut self, number: u32, done: Done) -> Option<Answer> {
        let at = self.pending.iter().position(|pending| pending.number == number)?;
        let Pending { call_id, name, kind, .. } = self.pending.swap_remove(at);
        let (output, is_refusal) = match (done, kind) {
            (Done::Collected(collected), Kind::Collect { is_secret }) => self.collected(collected, is_secret),
            (Done::Fetched(Ok(text)), _) => (text, false),
            (Done::Fetched(Err(why)), _) => (json!({ "error": why }).to_string(), true),
            (Done::Collecting | Done::Collected(_), _) => (json!({ "error": COLLECTING }).to_string(), true),
        };
        Some(Answer { call_id, name, output, is_refusal })
    }

    fn collected(&mut self, collected: Collected, is_secret: bool) -> (String, bool) {
        let Collected { keys, ended_by } = collected;
        let output = match ended_by {
            _ if keys.0.is_empty() => json!({ "error": "The caller has pressed no key." }),
            _ if is_secret => json!({ "result": format!("{} keys were pressed.", keys.0.len()), "ended_by": ended_by }),
            CollectEnd::Full | CollectEnd::FinishKey | CollectEnd::Timeout => {
                json!({ "digits": keys.0, "ended_by": ended_by })
            }
            CollectEnd::CallOver | CollectEnd::NotAnswered => json!({ "error": "There is nobody to press keys." }),
        };
        let is_refusal = keys.0.is_empty();
        self.digits = keys.0;
        (output.to_string(), is_refusal)
    }

    /// The caller speaks: nobody waits any more.
    pub(super) fn handle_caller(&mut self) -> Option<Answer> {
        self.end_wait(|_| true, "The caller speaks again.")
    }

    /// Ends a wait whose time is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Answer> {
        self.end_wait(|until| until.is_some_and(|until| until <= now), "The time is over; the caller has said nothing.")
    }

    fn end_wait(&mut self, is_over: impl Fn(Option<Instant>) -> bool, text: &str) -> Option<Answer> {
        let is_over = |pending: &Pending| matches!(pending.kind, Kind::Wait { until, .. } if is_over(until));
        let at = self.pending.iter().position(is_over)?;
        let Pending { call_id, name, .. } = self.pending.swap_remove(at);
        Some(Answer { call_id, name, output: json!({ "result": text }).to_string(), is_refusal: false })
    }

    /// What is to be done now.
    pub(super) fn poll_output(&mut self, now: Instant) -> Option<AgentOutput<'static>> {
        for pending in &mut self.pending {
            if let Kind::Wait { length, until } = &mut pending.kind {
                until.get_or_insert(now + *length);
            }
        }
        if let Some(note) = self.notes.pop_front() {
            return Some(AgentOutput::Note(note));
        }
        self.begun.pop_front().map(|(number, errand)| AgentOutput::Run(number, errand))
    }

    /// When a wait ends.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let until = |pending: &Pending| match pending.kind {
            Kind::Wait { until, .. } => until,
            Kind::Fetch | Kind::Collect { .. } => None,
        };
        self.pending.iter().filter_map(until).min()
    }

    /// Whether one is under way whose answer the model needs before it goes on.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }
}

/// Eight at once: a model that wants more does not wait for anything.
const PENDING_MAX: usize = 8;

const COLLECTING: &str = "Keys are being collected already; wait for their end.";

#[cfg(test)]
mod tests {
    use talkstack_control::port::PressedKeys;

    use super::*;

    fn order() -> CollectOrder {
        CollectOrder { keys_max: 4, finish_key: Some('#'), first_within_s: 10, next_within_s: 5 }
    }

    fn collected(keys: &str) -> Done {
        Done::Collected(Collected { keys: PressedKeys(keys.into()), ended_by: CollectEnd::Full })
    }

    #[test]
    fn secret_keys_reach_the_next_service_and_not_the_model() {
        let (mut errands, now) = (Errands::default(), Instant::now());
        errands
            .begin("c1", "collect_secret_digits", Wanted::Collect { order: order(), is_secret: true })
            .expect("room");
        let second = Wanted::Collect { order: order(), is_secret: false };
        assert_eq!(errands.begin("c2", "collect_digits", second), Err(COLLECTING));
        let Some(AgentOutput::Run(number, Errand::Collect(_))) = errands.poll_output(now) else { panic!("an errand") };
        let answer = errands.handle_done(number, collected("4711")).expect("an answer");
        assert_eq!(answer.output, r#"{"ended_by":"full","result":"4 keys were pressed."}"#);
        assert_eq!(errands.handle_done(number, collected("1")), None, "once");
        let tool = Arc::new(crate::agent::tools::tests::http_tool());
        errands.begin("c3", "book", Wanted::Fetch { tool, arguments: Map::new() }).expect("room");
        let Some(AgentOutput::Run(number, Errand::Fetch(request))) = errands.poll_output(now) else {
            panic!("another")
        };
        assert_eq!(request.digits, "4711");
        assert_eq!(format!("{request:?}"), "Request(book)", "no argument in a log");
        let answer = errands.handle_done(number, Done::Fetched(Err("The service has not answered.".into())));
        assert!(answer.is_some_and(|answer| answer.is_refusal && answer.output.contains("not answered")));
        assert!(errands.is_idle());
    }

    #[test]
    fn a_wait_ends_with_its_time_or_with_the_caller_s_word() {
        let (mut errands, now) = (Errands::default(), Instant::now());
        for speaks in [false, true] {
            errands.begin("c", "wait", Wanted::Wait(Duration::from_secs(30))).expect("room");
            assert!(errands.poll_output(now).is_none());
            assert_eq!(errands.poll_timeout(), Some(now + Duration::from_secs(30)));
            assert_eq!(errands.handle_timeout(now + Duration::from_secs(29)), None);
            let ended =
                if speaks { errands.handle_caller() } else { errands.handle_timeout(now + Duration::from_secs(30)) };
            assert_eq!(ended.expect("an end").output.contains("speaks"), speaks);
            assert!(errands.is_idle() && errands.handle_caller().is_none());
        }
    }

    #[test]
    fn no_more_are_under_way_than_there_is_room_for() {
        let mut errands = Errands::default();
        for call in 0..PENDING_MAX {
            errands.begin(&call.to_string(), "wait", Wanted::Wait(Duration::from_secs(1))).expect("room");
        }
        assert!(errands.begin("more", "wait", Wanted::Wait(Duration::from_secs(1))).is_err());
    }
}
