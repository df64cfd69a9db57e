//! A call that is led on to another line: what the call plane is told to try, one after the other.

use super::Plan;
use crate::caller_id::Disclosure;

/// Where a caller is led on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgePlan {
    /// Tried one after the other until one answers; at least one, and an agent or the attendant only as the last.
    pub targets: Vec<BridgeTarget>,
    /// The final response when none answers, 400 to 699; `None` follows from what the last one said.
    pub refused_with: Option<u16>,
    /// The caller as the far end is shown it where no trunk's rules decide: an extension's user, or the number or user
    /// that came.
    pub caller: String,
    /// Who calls, for people, where that is known.
    pub caller_name: Option<String>,
    /// Whether the far end may know who calls.
    pub disclosure: Disclosure,
    /// The called number as it was dialled, for Diversion (RFC 5806).
    pub called: String,
    /// Help is called: past every limit, list and announcement.
    pub is_emergency: bool,
}

/// One place where a caller is led on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BridgeTarget {
    /// A phone of our own; all its contacts ring.
    Extension {
        /// The user it registers as.
        user: String,
        /// How long it rings, in seconds; `None` is `calls.ring_timeout_s`.
        ring_s: Option<u16>,
    },
    /// Out through a trunk.
    Trunk {
        /// Its id.
        trunk_id: String,
        /// Whom to call: E.164 with `+`, or a number that stands for itself, such as 112.
        number: String,
        /// Whose number is shown, E.164 with `+`, where the trunk's own rules leave it.
        from: Option<String>,
        /// How long it rings, as of an extension.
        ring_s: Option<u16>,
    },
    /// The box itself answers.
    Agent {
        /// Who talks; never a bridge.
        plan: Box<Plan>,
        /// The agent; `None` is the attendant or the echo.
        agent_id: Option<String>,
    },
}
