//! What has become of a stream's packets.

use crate::rtp::bursts::Bursts;

/// Counts since the leg began, over all of its sources.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// Packets that were taken.
    pub received: u64,
    /// Packets that came when their place had been given up; they are among [`Tally::given_up`].
    pub late: u64,
    /// Packets that had been there before.
    pub duplicates: u64,
    /// Packets that were not waited for any longer: lost, or late.
    pub given_up: u64,
    /// What was made up in their place, in timestamp units.
    pub concealed: u64,
    /// How the losses lie.
    pub bursts: Bursts,
}

impl Tally {
    /// Packets that never came.
    pub fn lost(&self) -> u64 {
        self.given_up.saturating_sub(self.late)
    }

    pub(super) fn handle_given_up(&mut self) {
        self.given_up += 1;
        self.bursts.handle_lost();
    }

    pub(super) fn handle_taken(&mut self) {
        self.bursts.handle_received();
    }
}
