//! The gate in front of the detector: open while it is louder than the line's noise.

/// Follows the noise floor, and tells what stands out of it.
#[derive(Debug)]
pub(super) struct Gate {
    /// The floor as a mean square.
    floor: f32,
    /// Hops for which it stays open.
    open: u32,
}

impl Default for Gate {
    fn default() -> Self {
        Gate { floor: FLOOR_AT_FIRST, open: 0 }
    }
}

impl Gate {
    /// Takes the mean square of one hop, and of the echo that may be in it; tells whether it stands out of both.
    pub(super) fn handle(&mut self, power: f32, echo: f32) -> bool {
        let stands_out = power >= self.floor.max(echo) * STANDS_OUT;
        self.open = if stands_out { OPEN_HOPS } else { self.open.saturating_sub(1) };
        let next = if power < self.floor { self.floor + (power - self.floor) * FALL } else { self.floor * RISE };
        self.floor = next.max(FLOOR_MIN);
        stands_out
    }

    /// Nothing has been heard for a while.
    pub(super) fn shut(&mut self) {
        self.open = 0;
    }

    /// Tells whether something stands out, or has just done so.
    pub(super) fn is_open(&self) -> bool {
        self.open > 0
    }
}

/// 6 dB above the floor.
const STANDS_OUT: f32 = 4.0;

/// -54 dBFS, an amplitude of 65: a usual line.
const FLOOR_AT_FIRST: f32 = 65.0 * 65.0;

/// -60 dBFS, an amplitude of 33: digital silence has no floor, and what is softer than the gate above this is no speech.
const FLOOR_MIN: f32 = 33.0 * 33.0;

/// A quarter of the way in 16 ms: a pause of 60 ms between two words shows the floor.
const FALL: f32 = 0.25;

/// 5 dB a second: a noise that has begun is taken for one after a few seconds, and a sentence does not shut itself out.
const RISE: f32 = 1.0186;

/// 12 hops, 192 ms, as long as a voice lasts through a pause.
const OPEN_HOPS: u32 = 12;
