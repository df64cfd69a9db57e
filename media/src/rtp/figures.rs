//! What we tell the far end of how its packets arrive (RFC 3550 §6.4, A.1, A.3, A.8).

use std::time::Instant;

use super::xr::Summary;

/// Counts one incoming stream.
#[derive(Debug)]
pub struct Reception {
    base_sequence: u16,
    highest_sequence: u16,
    cycles: u32,
    received: u32,
    expected_prior: u32,
    received_prior: u32,
    /// Timestamp units a second.
    clock_rate: u32,
    /// In timestamp units, times 16.
    jitter_times_16: u32,
    last_transit: Option<(Instant, u32)>,
    has_begun: bool,
    span: Span,
}

/// What the statistics summary tells of the packets since the last report (RFC 3611 §4.6).
#[derive(Debug, Default, Clone, Copy)]
struct Span {
    begin: u16,
    lost: u32,
    duplicates_before: u64,
    /// The least and the greatest difference of two transit times, in timestamp units.
    least: u32,
    greatest: u32,
    sum: u64,
    squares: u64,
    count: u64,
}

/// One reception report block, without its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceptionFigures {
    /// Packets lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost in all; negative with duplicates.
    pub cumulative_lost: i32,
    /// The highest sequence number, extended by its cycles.
    pub extended_highest_sequence: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
}

impl Reception {
    /// Counts nothing yet; `clock_rate` is in timestamp units a second.
    pub fn new(clock_rate: u32) -> Self {
        Reception {
            base_sequence: 0,
            highest_sequence: 0,
            cycles: 0,
            received: 0,
            expected_prior: 0,
            received_prior: 0,
            clock_rate,
            jitter_times_16: 0,
            last_transit: None,
            has_begun: false,
            span: Span::default(),
        }
    }

    /// A stream begins at `sequence`.
    pub fn begin(&mut self, sequence: u16) {
        let fresh = Reception::new(self.clock_rate);
        let span = Span { begin: sequence, duplicates_before: self.span.duplicates_before, ..Span::default() };
        *self = Reception { base_sequence: sequence, highest_sequence: sequence, has_begun: true, span, ..fresh };
    }

    /// A packet was taken; audio packets also say when they were sampled.
    pub fn handle_packet(&mut self, sequence: u16, timestamp: Option<u32>, now: Instant) {
        self.received = self.received.wrapping_add(1);
        let ahead = sequence.wrapping_sub(self.highest_sequence);
        if ahead < 1 << 15 {
            if sequence < self.highest_sequence {
                self.cycles = self.cycles.wrapping_add(1);
            }
            self.highest_sequence = sequence;
        }
        let Some(timestamp) = timestamp else { return };
        if let Some((last_at, last_timestamp)) = self.last_transit.replace((now, timestamp)) {
            let passed = now.saturating_duration_since(last_at).as_micros().min(u128::from(u32::MAX));
            let arrival = (passed * u128::from(self.clock_rate) / 1_000_000) as i64;
            let sampled = i64::from(timestamp.wrapping_sub(last_timestamp) as i32);
            let difference = (arrival - sampled).unsigned_abs().min(u64::from(u16::MAX)) as u32;
            self.span.handle(difference);
            self.jitter_times_16 = self.jitter_times_16 + difference - ((self.jitter_times_16 + 8) >> 4);
        }
    }

    /// Interarrival jitter in timestamp units (RFC 3550 A.8).
    pub fn jitter(&self) -> u32 {
        self.jitter_times_16 >> 4
    }

    /// What to report, if a stream has begun; the interval of the fraction begins anew.
    pub fn report(&mut self) -> Option<ReceptionFigures> {
        if !self.has_begun {
            return None;
        }
        let extended_highest_sequence = (self.cycles << 16) | u32::from(self.highest_sequence);
        let expected = extended_highest_sequence.wrapping_sub(u32::from(self.base_sequence)).wrapping_add(1);
        let expected_now = expected.wrapping_sub(self.expected_prior);
        let received_now = self.received.wrapping_sub(self.received_prior);
        self.expected_prior = expected;
        self.received_prior = self.received;
        let lost_now = i64::from(expected_now) - i64::from(received_now);
        let fraction_lost = match lost_now {
            1.. if expected_now > 0 => ((lost_now << 8) / i64::from(expected_now)).min(255) as u8,
            _ => 0,
        };
        self.span.lost = u32::try_from(lost_now).unwrap_or(0);
        let lost = i64::from(expected) - i64::from(self.received);
        Some(ReceptionFigures {
            fraction_lost,
            // The field has 24 bits, signed.
            cumulative_lost: lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            extended_highest_sequence,
            jitter: self.jitter(),
        })
    }
}

impl Reception {
    /// The summary of the packets since the last, to be asked for behind [`Reception::report`]; `duplicates` came in all.
    pub fn summary(&mut self, duplicates: u64) -> Summary {
        let Span { begin, lost, duplicates_before, least, greatest, sum, squares, count } = self.span;
        let end = self.highest_sequence.wrapping_add(1);
        self.span = Span { begin: end, duplicates_before: duplicates, ..Span::default() };
        let mean = sum.checked_div(count).unwrap_or(0);
        let deviation = (squares.checked_div(count).unwrap_or(0).saturating_sub(mean * mean)).isqrt();
        Summary {
            begin,
            end,
            lost,
            duplicates: u32::try_from(duplicates.saturating_sub(duplicates_before)).unwrap_or(u32::MAX),
            jitter: [least, greatest, mean as u32, deviation as u32],
        }
    }
}

impl Span {
    fn handle(&mut self, difference: u32) {
        self.least = if self.count == 0 { difference } else { self.least.min(difference) };
        self.greatest = self.greatest.max(difference);
        self.sum += u64::from(difference);
        self.squares += u64::from(difference) * u64::from(difference);
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn loss_is_reported_once_per_interval_and_in_all() {
        let start = Instant::now();
        let mut reception = Reception::new(8000);
        assert_eq!(reception.report(), None);
        reception.begin(65_530);
        for sequence in (0..20u16).filter(|at| at % 4 != 3) {
            reception.handle_packet(65_530u16.wrapping_add(sequence), None, start);
        }
        let figures = reception.report().expect("begun");
        assert_eq!(figures.extended_highest_sequence, 65_530 + 18);
        assert_eq!((figures.cumulative_lost, figures.fraction_lost), (4, (4 * 256 / 19) as u8));
        assert_eq!(reception.report().expect("begun").fraction_lost, 0);
    }

    #[test]
    fn a_summary_is_of_the_packets_since_the_last() {
        let start = Instant::now();
        let mut reception = Reception::new(8000);
        reception.begin(65_530);
        for at in (0..20u16).filter(|at| *at != 7) {
            let late = Duration::from_millis(if at == 12 { 10 } else { 0 });
            let now = start + Duration::from_millis(u64::from(at) * 20) + late;
            reception.handle_packet(65_530u16.wrapping_add(at), Some(u32::from(at) * 160), now);
        }
        reception.report().expect("begun");
        let summary = reception.summary(3);
        assert_eq!((summary.begin, summary.end, summary.lost, summary.duplicates), (65_530, 14, 1, 3));
        // 10 ms late and 10 ms early again, 80 units each, of 18 differences.
        assert_eq!(summary.jitter, [0, 80, 160 / 18, 25]);
        reception.report().expect("begun");
        let empty = Summary { begin: 14, end: 14, ..Summary::default() };
        assert_eq!(reception.summary(3), empty);
    }

    #[test]
    fn jitter_settles_at_the_mean_deviation() {
        let start = Instant::now();
        let mut reception = Reception::new(8000);
        reception.begin(0);
        for at in 0..1000u16 {
            let late = Duration::from_millis(if at % 2 == 0 { 0 } else { 10 });
            let now = start + Duration::from_millis(u64::from(at) * 20) + late;
            reception.handle_packet(at, Some(u32::from(at) * 160), now);
        }
        let jitter = reception.report().expect("begun").jitter;
        assert!((78..=82).contains(&jitter), "10 ms are 80 units, not {jitter}");
    }
}
