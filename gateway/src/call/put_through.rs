//! Transfers by an agent: it has its caller put through to somebody, and is let go once they talk; else it talks on.
//!
//! ```text
//!   Transfer ─▶ PutThrough ─▶ the target rings, the caller hears it ring, the agent hears silence
//!                               ├ answered ─▶ the two talk, the agent is let go
//!                               └ nobody   ─▶ the agent is told why, and talks to its caller again
//! ```

use std::time::Instant;

use talkstack_control::port::{Blame, EndReason, Outcome};

use super::bridge::{Bridge, Waits};
use super::{Call, CallOutput, Phase};
use crate::agent::AgentSession;
use crate::agent::attendant::Attendant;
use crate::route::BridgePlan;

impl Call {
    /// The way is known for the caller whom the agent puts through, or there is none.
    pub fn put_through(&mut self, way: Result<Box<BridgePlan>, Outcome>, now: Instant) {
        // A transfer of the caller's own may have been first.
        let is_free = matches!(self.phase, Phase::Answered { .. }) && self.bridge.is_none();
        let crossed = Err(Outcome::new(Blame::Caller, EndReason::Unreachable));
        match if is_free { way } else { crossed } {
            Ok(plan) => {
                let mut bridge = Bridge::new(&plan);
                bridge.agent_waits = Waits::ForItsCaller;
                bridge.rings_at = Some(now);
                self.lead(bridge, now);
            }
            Err(outcome) => {
                self.agent.handle_not_transferred(outcome);
                self.talk(now);
            }
        }
    }

    /// Whoever was called for the agent's caller has answered.
    pub(super) fn let_agent_go(&mut self) {
        let Some(bridge) = &mut self.bridge else { return };
        if bridge.agent_waits != Waits::ForItsCaller {
            return;
        }
        (bridge.agent_waits, bridge.rings_at) = (Waits::NoAgent, None);
        self.record_last_words();
        self.outputs.push_back(CallOutput::Disconnect(self.agent.stop(1000)));
        self.agent = AgentSession::Awaited;
        if let Some(session) = &mut self.leg.session {
            session.clear();
        }
    }

    /// Nobody has answered: the caller talks to the agent again, or to the attendant if it is gone meanwhile.
    pub(super) fn return_to_agent(&mut self, outcome: Outcome, now: Instant) -> bool {
        if self.bridge.take_if(|bridge| bridge.agent_waits == Waits::ForItsCaller).is_none() {
            return false;
        }
        if let Some(session) = &mut self.leg.session {
            session.clear();
        }
        match &mut self.agent {
            AgentSession::Attendant(attendant) => *attendant = Attendant::apologising(),
            agent => agent.handle_not_transferred(outcome),
        }
        self.talk(now);
        true
    }
}
