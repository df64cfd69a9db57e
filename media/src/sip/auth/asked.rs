//! Who was asked in SHA-256 and MD5 and never answered: it is asked in MD5 alone from then on.
//!
//! RFC 8760 §2.3 has a phone pass over what it does not know. Many do not: libre up to 1.1 (baresip of Debian 12) gives
//! up on a challenge in SHA-256 wherever it stands, and tries again later as if nothing had been.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::Claim;

/// The memory: a slot for each who asks, by hash; who comes later takes it over.
#[derive(Debug)]
pub(super) struct Asked(Vec<Option<Slot>>);

#[derive(Debug, Clone, Copy)]
struct Slot {
    asker: u64,
    at: Instant,
    is_md5_alone: bool,
}

impl Asked {
    pub(super) fn new() -> Self {
        Asked(vec![None; SLOTS])
    }

    /// The claim is about to be challenged; tells whether in MD5 alone.
    pub(super) fn challenge(&mut self, claim: &Claim<'_>, key: &[u8], now: Instant) -> bool {
        let asker = asker(claim, key);
        let slot = &mut self.0[asker as usize % SLOTS];
        match slot {
            Some(known) if known.asker == asker && now.saturating_duration_since(known.at) < MEMORY => {
                let is_again = claim.answers.is_empty() && now.saturating_duration_since(known.at) >= ANSWER_TIME;
                known.is_md5_alone |= is_again;
                known.is_md5_alone
            }
            _ => {
                *slot = claim.answers.is_empty().then_some(Slot { asker, at: now, is_md5_alone: false });
                false
            }
        }
    }

    /// The claim's sender has answered well: it can.
    pub(super) fn answer(&mut self, claim: &Claim<'_>, key: &[u8], now: Instant) {
        let asker = asker(claim, key);
        let slot = &mut self.0[asker as usize % SLOTS];
        match slot {
            Some(known) if known.asker == asker && known.is_md5_alone => known.at = now,
            Some(known) if known.asker == asker => *slot = None,
            _ => {}
        }
    }
}

/// Without the key nobody can tell whose slot is whose.
fn asker(claim: &Claim<'_>, key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, claim.source, claim.asker).hash(&mut hasher);
    hasher.finish()
}

/// 1,024 phones that are asked at once, 40 KiB. Whose slot is taken over is asked in both once more.
const SLOTS: usize = 1024;

/// 1 s: who can answer does so within a round trip; who cannot tries again in half a minute.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// 2 h: two lives of a binding.
const MEMORY: Duration = Duration::from_secs(7200);
