//! Where a stream stands: the next packet, and to when what was handed out suffices.

use std::time::{Duration, Instant};

use super::GAP_MAX;

/// Where the stream stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    pub(super) ssrc: u32,
    /// Timestamp units a second.
    pub(super) clock_rate: u32,
    pub(super) next_sequence: u16,
    pub(super) next_timestamp: u32,
    /// Sequence numbers have been given up since the last audio.
    pub(super) has_hole: bool,
    /// To when the audio and silence handed out suffice.
    pub(super) covered_until: Instant,
    /// Silence handed out that the timestamps have not caught up with, in timestamp units.
    pub(super) surplus: u32,
    /// The peers have agreed anew since the last audio.
    pub(super) is_resumed: bool,
}

impl Stream {
    /// A sequence number has been dealt with.
    pub(super) fn advance(&mut self) {
        self.next_sequence = self.next_sequence.wrapping_add(1);
        self.has_hole = false;
    }

    /// What the wall clock says has not been handed out, in timestamp units.
    pub(super) fn missing(&self, now: Instant) -> u32 {
        self.units(now.saturating_duration_since(self.covered_until).min(GAP_MAX))
    }

    /// Audio or silence has been handed out. It counts from when it was: a far clock that is fast hands out more than time
    /// passes, 0.7 s in an hour at 200 ppm, and must not put off the silence which says that nothing comes any more.
    pub(super) fn cover(&mut self, units: u32, now: Instant) {
        self.covered_until = now + Duration::from_micros(u64::from(units) * 1_000_000 / u64::from(self.clock_rate));
    }

    /// A time in timestamp units.
    pub(super) fn units(&self, time: Duration) -> u32 {
        u32::try_from(time.as_micros() * u128::from(self.clock_rate) / 1_000_000).unwrap_or(u32::MAX)
    }
}
