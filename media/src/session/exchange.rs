//! What goes either way on a leg, and whether the far end says that it hears us.

use crate::rtp::rtcp::TheirFigures;

/// What has gone either way on a leg since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exchange {
    /// RTP packets of the far end that were taken.
    pub received: u64,
    /// RTP packets that left.
    pub sent: u32,
    /// What the far end's last report says of ours.
    pub heed: Heed,
}

/// Whether the far end says that our packets arrive (RFC 3550 §6.4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Heed {
    /// It has sent no report.
    #[default]
    Untold,
    /// Its last report says that nothing of ours arrives.
    Nothing,
    /// Its last report has a block on our stream.
    Arrives,
}

impl Heed {
    /// What is known after another RTCP packet, which says this of our stream.
    pub(super) fn after(self, packet: &[u8], figures: Option<TheirFigures>) -> Self {
        let is_report = packet.get(1).is_some_and(|kind| REPORTS.contains(kind));
        match figures {
            // A stream that has stopped arriving is still reported on, all of it lost.
            Some(figures) if figures.fraction_lost < u8::MAX => Heed::Arrives,
            None if !is_report => self,
            Some(_) | None => Heed::Nothing,
        }
    }
}

/// SR and RR: every compound packet begins with one (RFC 3550 §6.1).
const REPORTS: [u8; 2] = [200, 201];
