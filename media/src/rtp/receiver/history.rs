//! Which of the last packets were there: what tells a duplicate from a packet that comes too late.

/// The last 128 sequence numbers, the latest in the lowest bit.
#[derive(Debug, Clone, Copy)]
pub(super) struct History(u128);

impl Default for History {
    /// What lies before the beginning counts as having been there: nobody has missed it.
    fn default() -> Self {
        History(u128::MAX)
    }
}

impl History {
    /// The next packet was there.
    pub(super) fn push(&mut self) {
        self.0 = self.0 << 1 | 1;
    }

    /// So many packets were given up.
    pub(super) fn skip(&mut self, packets: u16) {
        self.0 = self.0.checked_shl(packets.into()).unwrap_or(0);
    }

    /// A packet has come that is `back` (from 1 on) behind the next: `true` if it had not been there.
    pub(super) fn recall(&mut self, back: u16) -> bool {
        let Some(bit) = 1u128.checked_shl(u32::from(back.saturating_sub(1))) else { return false };
        let is_first = self.0 & bit == 0;
        self.0 |= bit;
        is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_is_late_once_and_a_duplicate_then() {
        let mut history = History::default();
        history.push();
        history.skip(2);
        history.push();
        assert_eq!([1, 2, 3, 4].map(|back| history.recall(back)), [false, true, true, false]);
        assert_eq!([2, 3].map(|back| history.recall(back)), [false, false]);
        history.skip(300);
        assert!(history.recall(5));
        assert!(!history.recall(129), "too far back to be known");
    }
}
