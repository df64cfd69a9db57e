//! Keys that are collected from a caller behind the agent's back, as they cross the port.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is to be collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectOrder {
    /// So many keys at the most, 1 to [`COLLECT_KEYS_MAX`].
    pub keys_max: u8,
    /// The key that ends it and is not one of them; `None`: only the number of keys and time do.
    pub finish_key: Option<char>,
    /// Seconds to wait for the first key, 1 to 60.
    pub first_within_s: u8,
    /// Seconds to wait for each further one, 1 to 30.
    pub next_within_s: u8,
}

/// What was collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// The keys, in order.
    pub keys: PressedKeys,
    /// What ended it.
    pub ended_by: CollectEnd,
}

/// Keys that somebody has pressed: a card's number, perhaps. No log shows them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PressedKeys(pub String);

impl fmt::Debug for PressedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PressedKeys({})", self.0.len())
    }
}

/// What ended a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectEnd {
    /// As many keys as were wanted.
    Full,
    /// The key that ends it.
    FinishKey,
    /// No key came in time.
    Timeout,
    /// The call has ended.
    CallOver,
    /// There is nothing to collect from: the call has not been answered.
    NotAnswered,
}

/// 32 keys: the longest account number (IBAN, 34) has letters that nobody presses; a card's has 19 digits.
pub const COLLECT_KEYS_MAX: u8 = 32;

/// 120 s in all, however slowly the keys come.
pub const COLLECT_TIME: Duration = Duration::from_secs(120);
