//! How late the packets of a stream come, and hence how long one that is missing is worth waiting for.
//!
//! A packet's lateness is its transit time less the least of the last seconds, so that neither the network's own delay
//! nor a far clock that is slow or fast counts. A packet that came when its place had been given up weighs as ten: the
//! target is up with the next hole, and down again within a minute of calm.

use std::time::{Duration, Instant};

use crate::audio::lateness::Lateness;

/// The timing of one stream.
#[derive(Debug)]
pub struct Timing {
    clock_rate: u32,
    last: Option<(Instant, u32)>,
    /// The last packet's transit time over that of the first, in microseconds.
    transit: i64,
    /// The least transit of the last full stretch and of the present one.
    least: [i64; 2],
    counted: u16,
    lateness: Lateness<LATENESS_BINS>,
    /// Of the lateness, as of the last time it was worked out.
    target: Duration,
}

impl Timing {
    /// Begins with nothing known; `clock_rate` is in timestamp units a second.
    pub(super) fn new(clock_rate: u32) -> Self {
        Timing {
            clock_rate: clock_rate.max(1),
            last: None,
            transit: 0,
            least: [i64::MAX; 2],
            counted: 0,
            lateness: Lateness::new(LATENESS_WINDOW),
            target: TARGET_MIN,
        }
    }

    /// Another timeline begins; what is known of the network stays.
    pub(super) fn restart(&mut self) {
        (self.last, self.transit, self.least, self.counted) = (None, 0, [i64::MAX; 2], 0);
    }

    /// A packet has come in time.
    pub(super) fn handle_packet(&mut self, timestamp: u32, now: Instant) {
        let transit = self.transit_of(timestamp, now);
        if transit.abs_diff(self.transit) > JUMP_US {
            self.restart();
        }
        self.transit = if self.last.is_some() { transit } else { 0 };
        self.last = Some((now, timestamp));
        if self.counted == STRETCH {
            self.least = [self.least[1], i64::MAX];
            self.counted = 0;
        }
        self.counted += 1;
        self.least[1] = self.least[1].min(self.transit);
        self.lateness.record(self.late_by(self.transit));
        if self.counted.is_multiple_of(REVIEW) {
            self.review();
        }
    }

    /// A packet has come whose place had been given up.
    pub(super) fn handle_late(&mut self, timestamp: u32, now: Instant) {
        let late = self.late_by(self.transit_of(timestamp, now));
        // What no wait would have saved makes no wait longer.
        if self.last.is_some() && late <= WAIT_MAX {
            self.lateness.record_times(late, LATE_WEIGHT);
            self.review();
        }
    }

    /// How much later than the most punctual 99 of a hundred packets come: 20 to 160 ms.
    pub fn target(&self) -> Duration {
        self.target
    }

    /// How long to wait for what is missing: 60 to 200 ms.
    pub fn wait(&self) -> Duration {
        self.target() + SPARE
    }

    fn review(&mut self) {
        self.target = self.lateness.p99().clamp(TARGET_MIN, WAIT_MAX - SPARE);
    }

    fn late_by(&self, transit: i64) -> Duration {
        let least = self.least[0].min(self.least[1]).min(self.transit);
        Duration::from_micros(u64::try_from(transit.saturating_sub(least)).unwrap_or(0))
    }

    fn transit_of(&self, timestamp: u32, now: Instant) -> i64 {
        let Some((last_at, last_timestamp)) = self.last else { return 0 };
        let passed = now.saturating_duration_since(last_at).as_micros().min(u128::from(u32::MAX)) as i64;
        let sampled = i64::from(timestamp.wrapping_sub(last_timestamp) as i32);
        self.transit.saturating_add(passed - sampled * 1_000_000 / i64::from(self.clock_rate))
    }
}

/// 20 ms: one packet, what the scheduler of a quiet phone is off by.
const TARGET_MIN: Duration = Duration::from_millis(20);

/// 40 ms over the target: two packets, for what is later than 99 of a hundred.
const SPARE: Duration = Duration::from_millis(40);

/// 60 ms: what a line without jitter waits for.
pub const WAIT_MIN: Duration = Duration::from_millis(60);

/// 200 ms: what comes later than this is no longer part of a conversation.
pub(super) const WAIT_MAX: Duration = Duration::from_millis(200);

/// 1 ms each up to the longest wait, and one for all above.
const LATENESS_BINS: usize = 202;

/// 500 packets, 10 s, halved every 5 s then: jitter that has ended is one in a hundred after 35 s.
const LATENESS_WINDOW: u16 = 500;

/// One late packet of a window is above its 99th percentile.
const LATE_WEIGHT: u16 = 10;

/// 250 packets, 5 s: a clock that is 200 ppm off moves 1 ms meanwhile.
const STRETCH: u16 = 250;

/// Every tenth packet, 200 ms: a percentile costs as much as five packets.
const REVIEW: u16 = 10;

/// 2 s: a jump of the far end's timestamps, not of the network.
const JUMP_US: u64 = 2_000_000;

const _: () = assert!(WAIT_MIN.as_millis() == TARGET_MIN.as_millis() + SPARE.as_millis());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_with_the_jitter_and_shrinks_when_it_ends() {
        for clock_rate in [8_000, 48_000] {
            let mut stream = Stream::new(clock_rate);
            stream.run(500, 0);
            assert_eq!(stream.timing.wait(), WAIT_MIN);
            stream.run(500, 100);
            let wait = stream.timing.wait().as_millis();
            assert!((130..=142).contains(&wait), "{wait} ms at 100 ms of jitter");
            stream.run(3000, 0);
            assert_eq!(stream.timing.wait(), WAIT_MIN, "a minute of calm");
        }
    }

    #[test]
    fn one_packet_that_came_too_late_is_enough_and_one_that_nothing_would_have_saved_is_not() {
        let mut stream = Stream::new(8_000);
        stream.run(500, 0);
        let timestamp = stream.timestamp;
        stream.timing.handle_late(timestamp, stream.now + Duration::from_millis(700));
        assert_eq!(stream.timing.wait(), WAIT_MIN);
        stream.timing.handle_late(timestamp, stream.now + Duration::from_millis(90 - 20));
        assert_eq!(stream.timing.target(), Duration::from_millis(70));
    }

    #[test]
    fn a_clock_that_is_off_and_a_jump_of_the_timestamps_are_no_jitter() {
        for ppm in [-200, 200] {
            let mut stream = Stream::new(8_000);
            stream.ppm = ppm;
            for minute in 0..60 {
                stream.run(3000, 0);
                assert_eq!(stream.timing.wait(), WAIT_MIN, "{ppm} ppm, minute {minute}");
                stream.timestamp = stream.timestamp.wrapping_add(1 << 30);
            }
        }
    }

    struct Stream {
        timing: Timing,
        clock_rate: u32,
        sent: Instant,
        now: Instant,
        timestamp: u32,
        ppm: i64,
        random: u32,
    }

    impl Stream {
        fn new(clock_rate: u32) -> Self {
            let now = Instant::now();
            Stream { timing: Timing::new(clock_rate), clock_rate, sent: now, now, timestamp: 7, ppm: 0, random: 1 }
        }

        /// Sends packets of 20 ms that take up to `jitter_ms`.
        fn run(&mut self, packets: u32, jitter_ms: u32) {
            for _ in 0..packets {
                self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let late = Duration::from_millis(u64::from(((self.random >> 16) * (jitter_ms + 1)) >> 16));
                self.sent += Duration::from_nanos((20_000_000 - 20 * self.ppm) as u64);
                self.now = self.now.max(self.sent + late);
                self.timestamp = self.timestamp.wrapping_add(self.clock_rate / 50);
                self.timing.handle_packet(self.timestamp, self.now);
            }
        }
    }
}
