//! Refusals, sent and received: each is written to the journal with what caused it, as far as a flood leaves room.

use std::time::{Duration, Instant};

use talkstack_control::port::{CallEvent, CallId, Direction, SipRefusal};
use talkstack_media::sip::RefusalSeen;

use super::SipThread;

/// How many refusals are written one by one, and how many were not.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The second that is counted.
    since: Option<Instant>,
    written: u32,
    left_out: u32,
}

impl Pace {
    /// Tells whether another refusal is written, and how many before it were not.
    pub(super) fn admit(&mut self, now: Instant) -> Option<u32> {
        if self.since.is_none_or(|since| since + SECOND <= now) {
            (self.since, self.written) = (Some(now), 0);
        }
        if self.written >= WRITTEN_MAX {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl SipThread {
    /// A refusal went out or came in.
    pub(super) fn handle_refusal(&mut self, seen: RefusalSeen, now: Instant) {
        tracing::debug!("{seen:?}");
        let Some(more) = self.told.refusals.admit(now) else { return };
        let call = seen.dialog.and_then(|dialog| self.switchboard.call_of(dialog));
        let refusal = SipRefusal {
            direction: if seen.is_ours { Direction::Inbound } else { Direction::Outbound },
            status: seen.status,
            method: seen.method.to_string(),
            peer: seen.flow.remote.to_string(),
            trunk_id: self.dialling.trunks.trunk_of(seen.flow.remote.ip()).map(str::to_owned),
            rule: seen.rule.chars().filter(|letter| !letter.is_control()).take(RULE_CHARS_MAX).collect(),
            more,
        };
        // Refusals are no calls: a journal that is nearly full keeps its room for those.
        if self.has_room() {
            self.record(call.unwrap_or(CallId(0)), CallEvent::Refused(refusal));
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// 10 in a second: all of a box at work, and 300 MB of the journal for nobody's flood of a day.
const WRITTEN_MAX: u32 = 10;

/// 200 letters: a sentence of ours, or of theirs that somebody reads.
const RULE_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_refusals_in_a_second_are_written_and_the_rest_is_counted() {
        let mut pace = Pace::default();
        let start = Instant::now();
        for _ in 0..10 {
            assert_eq!(pace.admit(start), Some(0));
        }
        for _ in 0..990 {
            assert_eq!(pace.admit(start + Duration::from_millis(999)), None);
        }
        assert_eq!(pace.admit(start + SECOND), Some(990));
        assert_eq!(pace.admit(start + SECOND), Some(0));
    }
}
