//! A provider tried out without a call: a test of it, or a sample of one of its voices.

use serde::{Deserialize, Serialize};

use super::{ProviderRoute, TestStep};

/// What is to be tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditionOrder {
    /// The service.
    pub provider: ProviderRoute,
    /// The voice; `None` leaves it to the provider.
    pub voice: Option<String>,
    /// What it is to say first.
    pub says: String,
    /// Whether it is spoken to, and its answer waited for.
    pub is_asked: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audition {
    /// `connect`, `session`, `greeting`, `answer`, as far as it went.
    pub steps: Vec<TestStep>,
    /// What it said first, as a WAV file in Base64.
    pub speech: Option<String>,
}
