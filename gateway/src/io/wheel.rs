//! A timer wheel of 1 ms slots: each leg's deadline lands in a slot of its own phase, so calls never tick together.

use std::time::{Duration, Instant};

/// Deadlines of up to [`HORIZON_SLOTS`] ms ahead; later ones wait at the horizon and are scheduled again from there.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<u32>>,
    origin: Instant,
    /// The first slot that has not been handed out.
    next_slot: u64,
}

impl Wheel {
    /// Starts with no deadlines.
    pub fn new(now: Instant) -> Self {
        Wheel { slots: (0..HORIZON_SLOTS).map(|_| Vec::with_capacity(SLOT_KEYS)).collect(), origin: now, next_slot: 0 }
    }

    /// Enters `key` at `deadline`, rounded up to the slot's end, and returns when it will come up.
    pub fn schedule(&mut self, key: u32, deadline: Instant) -> Instant {
        let wanted = self.slot_of(deadline).max(self.next_slot).min(self.next_slot + HORIZON_SLOTS as u64 - 1);
        self.slots[(wanted % HORIZON_SLOTS as u64) as usize].push(key);
        self.origin + SLOT * wanted as u32
    }

    /// Moves every key whose slot has begun by `now` to `due`.
    pub fn advance(&mut self, now: Instant, due: &mut Vec<u32>) {
        let current = (now.saturating_duration_since(self.origin).as_micros() / SLOT.as_micros()) as u64;
        // After a stall each slot comes up once, however long it was.
        let first = self.next_slot.max((current + 1).saturating_sub(HORIZON_SLOTS as u64));
        for slot in first..=current {
            due.append(&mut self.slots[(slot % HORIZON_SLOTS as u64) as usize]);
        }
        self.next_slot = self.next_slot.max(current + 1);
        self.rebase(current);
    }

    /// Keeps slot numbers small enough to multiply a `Duration` by.
    fn rebase(&mut self, current: u64) {
        let whole_turns = current / HORIZON_SLOTS as u64 * HORIZON_SLOTS as u64;
        if whole_turns >= 1 << 30 {
            self.origin += SLOT * whole_turns as u32;
            self.next_slot -= whole_turns;
        }
    }

    fn slot_of(&self, deadline: Instant) -> u64 {
        deadline.saturating_duration_since(self.origin).as_micros().div_ceil(SLOT.as_micros()) as u64
    }
}

/// The grid that shards wake up on: 1 ms adds 0.5 ms on average to a frame, and costs 1,000 wake-ups a second.
pub const SLOT: Duration = Duration::from_millis(1);

/// 64 deadlines in a slot without an allocation: 1,000 calls at 50 frames a second have 49; 256 KiB in all.
const SLOT_KEYS: usize = 64;

/// 1,024 slots, 1 s: frames are due within 60 ms; what is due later is looked at once a second.
pub const HORIZON_SLOTS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_up_in_the_slot_that_ends_its_wait_and_only_there() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        wheel.schedule(7, start + Duration::from_micros(19_400));
        for ms in 0..20 {
            assert_eq!(due(&mut wheel, start + SLOT * ms), [0u32; 0], "at {ms} ms");
        }
        assert_eq!(due(&mut wheel, start + SLOT * 20), [7]);
        assert_eq!(due(&mut wheel, start + SLOT * 2000), [0u32; 0]);
    }

    #[test]
    fn a_deadline_beyond_the_horizon_comes_up_at_the_horizon() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let up = wheel.schedule(7, start + Duration::from_secs(60));
        assert_eq!(up, start + SLOT * 1023);
        assert_eq!(due(&mut wheel, up), [7]);
    }

    #[test]
    fn a_stall_longer_than_the_wheel_loses_no_key() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        for ms in [0, 1, 500, 1023] {
            wheel.schedule(ms, start + SLOT * ms);
        }
        let mut keys = due(&mut wheel, start + Duration::from_secs(10));
        keys.sort_unstable();
        assert_eq!(keys, [0, 1, 500, 1023]);
    }

    #[test]
    fn a_past_deadline_comes_up_in_the_next_slot() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        due(&mut wheel, start + SLOT * 100);
        wheel.schedule(7, start);
        assert_eq!(due(&mut wheel, start + SLOT * 101), [7]);
    }

    #[test]
    fn weeks_of_slots_still_come_up_on_time() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let mut now = start + SLOT * (1 << 30) + Duration::from_millis(12_345);
        due(&mut wheel, now);
        now += SLOT;
        wheel.schedule(7, now + SLOT * 5);
        assert_eq!(due(&mut wheel, now + SLOT * 4), [0u32; 0]);
        assert_eq!(due(&mut wheel, now + SLOT * 6), [7]);
    }

    fn due(wheel: &mut Wheel, now: Instant) -> Vec<u32> {
        let mut keys = Vec::new();
        wheel.advance(now, &mut keys);
        keys
    }
}
