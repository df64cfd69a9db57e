//! The states of a call, in Talkstack's words.

use crate::port::{Blame, EndReason, Outcome};

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallStatus {
    /// Accepted, not yet dialled.
    Queued,
    /// Dialled.
    Initiated,
    /// The far end is being alerted, or an inbound call has not been answered yet.
    Ringing,
    /// Answered.
    InProgress,
    /// Answered and ended.
    Completed,
    /// The far end was busy.
    Busy,
    /// It could not be carried.
    Failed,
    /// Nobody answered, or the caller gave up.
    NoAnswer,
    /// A machine answered.
    Voicemail,
    /// Nobody spoke.
    Silence,
}

impl CallStatus {
    const ALL: [CallStatus; 10] = [
        CallStatus::Queued,
        CallStatus::Initiated,
        CallStatus::Ringing,
        CallStatus::InProgress,
        CallStatus::Completed,
        CallStatus::Busy,
        CallStatus::Failed,
        CallStatus::NoAnswer,
        CallStatus::Voicemail,
        CallStatus::Silence,
    ];

    /// As the API writes it.
    pub fn name(self) -> &'static str {
        match self {
            CallStatus::Queued => "queued",
            CallStatus::Initiated => "initiated",
            CallStatus::Ringing => "ringing",
            CallStatus::InProgress => "in-progress",
            CallStatus::Completed => "completed",
            CallStatus::Busy => "busy",
            CallStatus::Failed => "failed",
            CallStatus::NoAnswer => "no-answer",
            CallStatus::Voicemail => "voicemail",
            CallStatus::Silence => "silence",
        }
    }

    /// Reads a name.
    pub fn of_name(name: &str) -> Option<Self> {
        CallStatus::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Tells whether it is the last one a call has.
    pub fn is_permanent(self) -> bool {
        !matches!(self, CallStatus::Queued | CallStatus::Initiated | CallStatus::Ringing | CallStatus::InProgress)
    }

    /// The status that a call ends in.
    pub fn of_outcome(outcome: Outcome, answered: bool) -> Self {
        match (outcome.reason, outcome.blame) {
            (EndReason::Restarted, Blame::Gateway) | (EndReason::Aborted, _) => CallStatus::Failed,
            _ if answered => CallStatus::Completed,
            (EndReason::Busy, _) => CallStatus::Busy,
            (EndReason::NoAnswer, _) => CallStatus::NoAnswer,
            (EndReason::Cancelled | EndReason::HungUp, _) => CallStatus::NoAnswer,
            _ => CallStatus::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_status() {
        for (blame, reason, answered, status) in [
            (Blame::Caller, EndReason::HungUp, true, CallStatus::Completed),
            (Blame::Agent, EndReason::HungUp, true, CallStatus::Completed),
            (Blame::Trunk, EndReason::MediaTimeout, true, CallStatus::Completed),
            (Blame::Operator, EndReason::MaxDuration, true, CallStatus::Completed),
            (Blame::Operator, EndReason::Restarted, true, CallStatus::Completed),
            (Blame::Gateway, EndReason::Restarted, true, CallStatus::Failed),
            (Blame::Gateway, EndReason::Aborted, true, CallStatus::Failed),
            (Blame::Caller, EndReason::Cancelled, false, CallStatus::NoAnswer),
            (Blame::Caller, EndReason::NoCommonCodec, false, CallStatus::Failed),
            (Blame::Gateway, EndReason::Overloaded, false, CallStatus::Failed),
            (Blame::Caller, EndReason::Busy, false, CallStatus::Busy),
            (Blame::Caller, EndReason::NoAnswer, false, CallStatus::NoAnswer),
            (Blame::Trunk, EndReason::Rejected, false, CallStatus::Failed),
            (Blame::Trunk, EndReason::Unreachable, false, CallStatus::Failed),
        ] {
            assert_eq!(CallStatus::of_outcome(Outcome::new(blame, reason), answered), status, "{reason:?}");
        }
    }
}
