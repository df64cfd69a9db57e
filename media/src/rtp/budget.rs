//! How many packets a leg looks at: a flood at one port costs the others nothing but its reading.
//!
//! Packets from where the leg's media comes from and packets from anywhere else have budgets of their own, so that
//! strangers cannot use up a talker's. What is over budget is dropped before anything is parsed or opened.

use std::time::Instant;

/// The budget of one leg, RTP and RTCP together.
#[derive(Debug)]
pub struct PacketBudget {
    known: Bucket,
    strangers: Bucket,
}

/// Whether a packet comes from where the leg's media is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It does.
    Known,
    /// It comes from elsewhere.
    Stranger,
}

#[derive(Debug)]
struct Bucket {
    /// In microseconds' worth of refilling: a packet takes [`Bucket::cost`].
    level: u64,
    cost: u64,
    full: u64,
    at: Instant,
}

impl PacketBudget {
    /// Starts with both budgets full.
    pub fn new(now: Instant) -> Self {
        PacketBudget {
            known: Bucket::new(KNOWN_RATE, KNOWN_BURST, now),
            strangers: Bucket::new(STRANGERS_RATE, STRANGERS_BURST, now),
        }
    }

    /// Tells whether a packet may be looked at; if not, it is to be dropped.
    pub fn take(&mut self, origin: Origin, now: Instant) -> bool {
        match origin {
            Origin::Known => self.known.take(now),
            Origin::Stranger => self.strangers.take(now),
        }
    }
}

impl Bucket {
    fn new(rate: u64, burst: u64, now: Instant) -> Self {
        let cost = 1_000_000 / rate;
        Bucket { level: burst * cost, cost, full: burst * cost, at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_micros().min(u128::from(self.full)) as u64;
        // Less than a microsecond's refilling is never lost: the mark moves by what was counted.
        if passed > 0 {
            self.at = now;
            self.level = (self.level + passed).min(self.full);
        }
        let Some(rest) = self.level.checked_sub(self.cost) else { return false };
        self.level = rest;
        true
    }
}

/// 250 packets a second: two and a half phones with packets of 10 ms, or one with 5 ms, and its reports.
const KNOWN_RATE: u64 = 250;

/// 200 packets: 2 s of packets of 10 ms that a network held up and lets go at once.
const KNOWN_BURST: u64 = 200;

/// 100 packets a second: a phone behind a NAT that proves itself sends as many.
const STRANGERS_RATE: u64 = 100;

/// 100 packets: a second's.
const STRANGERS_BURST: u64 = 100;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_cut_to_the_rate_and_a_talker_beside_it_loses_nothing() {
        let start = Instant::now();
        let mut budget = PacketBudget::new(start);
        let (mut strangers, mut known) = (0, 0);
        // 8,000 packets a second for 10 s, and a phone with packets of 10 ms.
        for step in 0..80_000u32 {
            let now = start + Duration::from_micros(125) * step;
            strangers += u32::from(budget.take(Origin::Stranger, now));
            if step % 80 == 0 {
                known += u32::from(budget.take(Origin::Known, now));
            }
        }
        assert_eq!(known, 1000);
        assert!((1090..=1101).contains(&strangers), "{strangers} of the flood were looked at");
    }

    #[test]
    fn what_a_network_held_up_is_looked_at_when_it_comes_at_once() {
        let start = Instant::now();
        let mut budget = PacketBudget::new(start);
        let taken = (0..300).filter(|_| budget.take(Origin::Known, start)).count();
        assert_eq!(taken as u64, KNOWN_BURST);
        let later = start + Duration::from_secs(100);
        let taken = (0..300).filter(|_| budget.take(Origin::Known, later)).count();
        assert_eq!(taken as u64, KNOWN_BURST, "never more than that");
    }
}
