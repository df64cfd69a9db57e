//! The packet index of a source, and which indices have been seen (RFC 3711 §3.3.1, §3.3.2).

/// What has been seen of one source.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    highest: Option<u64>,
    /// Bit n is the index n below the highest.
    seen: u128,
}

impl Window {
    pub(super) fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// Tells whether a packet of this index may be taken: it is neither old nor known.
    pub(super) fn is_new(&self, index: u64) -> bool {
        let Some(highest) = self.highest else { return true };
        match highest.checked_sub(index) {
            None => true,
            Some(age) => age < WINDOW && self.seen >> age & 1 == 0,
        }
    }

    /// Takes an authenticated packet in.
    pub(super) fn accept(&mut self, index: u64) {
        match self.highest.and_then(|highest| highest.checked_sub(index)) {
            Some(age) if age < WINDOW => self.seen |= 1 << age,
            Some(_) => {}
            None => {
                let ahead = self.highest.map_or(WINDOW, |highest| index - highest);
                self.seen = if ahead < WINDOW { self.seen << ahead } else { 0 } | 1;
                self.highest = Some(index);
            }
        }
    }
}

/// The 48-bit index that a sequence number most likely stands for, next to the highest one so far.
pub(super) fn estimate(highest: Option<u64>, sequence: u16) -> u64 {
    let Some(highest) = highest else { return sequence.into() };
    let (rollover, last, sequence) = (highest >> 16, highest & 0xffff, u64::from(sequence));
    let rollover = if last < HALF && sequence > last + HALF {
        // Late, from before the last wrap. Before the first there is nothing.
        rollover.saturating_sub(1)
    } else if last >= HALF && sequence < last - HALF {
        rollover + 1
    } else {
        rollover
    };
    rollover << 16 | sequence
}

/// 2^15: half the sequence numbers.
const HALF: u64 = 1 << 15;

/// RFC 3711 §9.2: 2^48 packets under one key, then it is used up.
pub(super) const INDEX_MAX: u64 = (1 << 48) - 1;

/// 128 packets, 2.5 s at 20 ms each: twice the least of RFC 3711 §3.3.2.
const WINDOW: u64 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_follows_the_sequence_number_over_its_wraps_and_back() {
        for (highest, sequence, index) in [
            (None, 65_535, 65_535),
            (Some(65_535), 0, 0x1_0000),
            (Some(0x1_0002), 65_530, 65_530),
            (Some(0x1_0002), 0x8002, 0x1_8002),
            (Some(0x1_0002), 0x8003, 0x8003),
            (Some(5), 0xfff0, 0xfff0),
            (Some(0x7_ffff), 0x8000, 0x7_8000),
            (Some(0x7_ffff), 0x7ffe, 0x8_7ffe),
            (Some(0xffff_ffff_ffff), 0, 0x1_0000_0000_0000),
        ] {
            assert_eq!(estimate(highest, sequence), index, "{highest:x?}, {sequence:x}");
        }
    }

    #[test]
    fn an_index_is_new_once_and_as_long_as_the_window_reaches() {
        let mut window = Window::default();
        for index in [1000, 1003, 1001] {
            assert!(window.is_new(index));
            window.accept(index);
            assert!(!window.is_new(index), "{index} again");
        }
        assert!(window.is_new(1002) && window.is_new(1003 - 127) && !window.is_new(1003 - 128));
        window.accept(1003 + 127);
        assert!(!window.is_new(1003) && window.is_new(1004), "at the window's end");
        window.accept(5000);
        assert!(window.is_new(4999) && !window.is_new(1130));
        assert_eq!(window.highest(), Some(5000));
    }
}
