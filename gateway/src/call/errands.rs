//! What a call does for its agent besides carrying sound: keys collected, web services asked, things noted.

use std::time::Instant;

use talkstack_control::port::CallEvent;

use super::{Call, CallOutput};
use crate::agent::errands::{Done, Errand, Note};
use crate::agent::http_tool::prepare;
use crate::route::Plan;

impl Call {
    /// Does something for the agent; it is told what has become of it.
    pub(super) fn run(&mut self, number: u32, errand: Errand, now: Instant) {
        match errand {
            Errand::Collect(_) if self.collection.is_some() => self.agent.handle_done(number, Done::Collecting),
            Errand::Collect(order) => self.collect_for(Some(number), order, now),
            Errand::Fetch(request) => {
                let Plan::Service(plan) = &self.plan else { return };
                match prepare(&request, &self.id.to_string(), &plan.parties) {
                    Ok(prepared) => self.outputs.push_back(CallOutput::Fetch(number, Box::new(prepared))),
                    Err(why) => self.agent.handle_done(number, Done::Fetched(Err(why))),
                }
            }
        }
    }

    /// A web service has answered, or why it has not.
    pub fn handle_fetched(&mut self, number: u32, fetched: Result<String, String>, now: Instant) {
        self.agent.handle_done(number, Done::Fetched(fetched));
        self.talk(now);
    }

    /// Writes down what the agent has noted.
    pub(super) fn note(&mut self, note: Note) {
        let event = match note {
            Note::Message(message) => CallEvent::MessageTaken(message),
            Note::DoNotCall => CallEvent::DoNotCall,
        };
        self.outputs.push_back(CallOutput::Record(event));
    }
}
