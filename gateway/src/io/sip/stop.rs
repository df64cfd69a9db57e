//! The end: what every call gets when the box stops.

use std::time::{Duration, Instant};

use talkstack_control::port::{Blame, CallId, EndReason, Outcome};

use super::{SipThread, Sockets};
use crate::call::LegId;
use crate::io::shard::ToCall;

impl SipThread {
    /// The box stops: every call gets its BYE and its record, within [`STOP_MAX`].
    pub(super) async fn end_all_calls(&mut self, sockets: &mut Sockets) {
        self.is_stopping = true;
        let outcome = Outcome::new(Blame::Operator, EndReason::Restarted);
        let calls: Vec<CallId> = self.switchboard.calls().collect();
        for id in calls {
            self.end_legs(id, outcome);
            self.tell(id, ToCall::Ended(LegId::First, outcome));
        }
        self.close_accounts();
        let until = Instant::now() + STOP_MAX;
        while (self.endpoint.dialogs() > 0 || self.dialling.accounts.lines.are_asked()) && Instant::now() < until {
            self.carry_out();
            let wake = self.endpoint.poll_timeout().map_or(until, |(at, _)| at.min(until));
            tokio::select! {
                Some(received) = sockets.0.recv() => self.handle_received(received),
                () = tokio::time::sleep_until(wake.into()) => self.endpoint.handle_timeout(Instant::now()),
            }
        }
        self.carry_out();
    }
}

/// 3 s: BYE and two retransmissions over UDP.
const STOP_MAX: Duration = Duration::from_secs(3);
