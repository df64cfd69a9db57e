//! How the lines are, as the call plane tells it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{RouteSource, RouteTarget};

/// All lines that are configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineStates {
    /// Trunks by id.
    pub trunks: BTreeMap<String, TrunkState>,
    /// Bindings of extensions by user.
    pub extensions: BTreeMap<String, Vec<ContactState>>,
}

/// How a trunk is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkState {
    /// How its registration is.
    pub registration: RegistrationState,
    /// Whether its last OPTIONS was answered; `None` before the first.
    pub is_reachable: Option<bool>,
    /// How long that answer took, in milliseconds.
    pub rtt_ms: Option<u32>,
    /// Its addresses, the preferred first.
    pub addresses: Vec<String>,
    /// Calls that are up on it.
    pub channels: u32,
    /// What is wrong, in one sentence.
    pub problem: Option<String>,
}

/// How a registration is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RegistrationState {
    /// The trunk is not registered with.
    #[default]
    Off,
    /// Under way.
    Registering,
    /// It stands.
    Registered {
        /// For so many seconds more.
        expires_s: u32,
    },
    /// It was refused; tried again later.
    Refused {
        /// 300 to 699.
        status: u16,
    },
    /// Nobody answers there; tried again later.
    Unreachable,
}

/// One phone that has registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactState {
    /// Its Contact.
    pub contact: String,
    /// Where it is seen at.
    pub address: String,
    /// How: `udp`, `tcp`, `tls`, `ws`, `wss`.
    pub transport: String,
    /// Its User-Agent.
    pub user_agent: Option<String>,
    /// For so many seconds more.
    pub expires_s: u32,
}

/// A call that might come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteQuestion {
    /// The called number or user, as dialled.
    pub called: String,
    /// The caller, as presented.
    pub caller: String,
    /// The line it would come from.
    pub from: RouteSource,
    /// When, in milliseconds since the Unix epoch; `None` is now.
    pub at_ms: Option<u64>,
}

/// Where a call would go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteAnswer {
    /// The rule that decides: a route's id; `None` is a built-in one.
    pub route_id: Option<String>,
    /// The same in words: `emergency`, `number +3612345678`, the route's name.
    pub rule: String,
    /// The called number as the rule sees and rewrites it.
    pub called: String,
    /// Where it goes, one after the other; nothing when nobody answers.
    pub targets: Vec<RouteTarget>,
    /// Each rule that was asked before, and why it did not match.
    pub passed: Vec<String>,
}

/// One step of a trunk's test, or of a provider's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestStep {
    /// Of a trunk `dns`, `reach`, `options`, `register`, `call`, `audio`; of a provider `connect`, `session`, `greeting`,
    /// `answer`.
    pub step: String,
    /// Whether it went well; `None` when it was not tried.
    pub is_ok: Option<bool>,
    /// A stable name of the fault: `refused`, `tls`, `no_rtp`.
    pub fault: Option<String>,
    /// What was found, in one sentence that says what to do.
    pub found: String,
    /// How long it took, in milliseconds.
    pub took_ms: u32,
}
