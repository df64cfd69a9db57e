//! Greetings that have been spoken before: the next caller of the same agent hears theirs at once, and the service is not
//! asked again.
//!
//! Only what belongs to a greeting is kept, in memory alone; all else is said once.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use talkstack_media::audio::frame::SampleRate;

/// What an agent opens with. It may name the caller.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Greeting(pub Option<String>);

impl fmt::Debug for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Greeting({} bytes)", self.0.as_ref().map_or(0, String::len))
    }
}

impl Greeting {
    /// Whether a text is a piece of it.
    pub(super) fn has(&self, text: &str) -> bool {
        self.0.as_ref().is_some_and(|greeting| !text.is_empty() && greeting.contains(text))
    }
}

/// Greetings of all calls, the one used last at the end.
#[derive(Clone, Default)]
pub struct Greetings(Arc<Mutex<Kept>>);

/// By who speaks, how, and what.
type Kept = VecDeque<(String, Arc<Spoken>)>;

/// A text as it was spoken: 16-bit little-endian samples of a rate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spoken {
    pub(super) rate: SampleRate,
    pub(super) samples: Vec<u8>,
}

impl Greetings {
    /// What was kept under a key.
    pub(super) fn find(&self, key: &str) -> Option<Arc<Spoken>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(own, _)| own == key)?;
        let found = kept.remove(at)?;
        let spoken = Arc::clone(&found.1);
        kept.push_back(found);
        Some(spoken)
    }

    /// Keeps a text, unless it is too long; the one that was not used for longest goes.
    pub(super) fn keep(&self, key: String, spoken: Spoken) {
        if spoken.samples.is_empty() || spoken.samples.len() > SPOKEN_BYTES_MAX {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(own, _)| *own != key);
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back((key, Arc::new(spoken)));
    }
}

/// 64 texts: the greetings of some 30 agents, of two sentences each.
const KEPT_MAX: usize = 64;

/// 1 MiB: 20 s at 24 kHz. 64 MiB in all.
pub(super) const SPOKEN_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(bytes: usize) -> Spoken {
        Spoken { rate: SampleRate::Hz24000, samples: vec![1; bytes] }
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let greetings = Greetings::default();
        for number in 0..KEPT_MAX {
            greetings.keep(number.to_string(), spoken(number + 1));
        }
        assert_eq!(greetings.find("0").map(|spoken| spoken.samples.len()), Some(1));
        greetings.keep("more".into(), spoken(7));
        assert!(greetings.find("0").is_some() && greetings.find("more").is_some());
        assert_eq!(greetings.find("1"), None, "it was not used for longest");
        greetings.keep("long".into(), spoken(SPOKEN_BYTES_MAX + 1));
        greetings.keep("silent".into(), spoken(0));
        assert!(greetings.find("long").is_none() && greetings.find("silent").is_none());
        let greeting = Greeting(Some("Hello Ann. How are you?".into()));
        assert!(greeting.has("Hello Ann.") && !greeting.has("Goodbye.") && !greeting.has(""));
        assert_eq!(format!("{greeting:?}"), "Greeting(23 bytes)");
    }
}
