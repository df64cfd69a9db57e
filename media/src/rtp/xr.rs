//! RTCP extended reports (RFC 3611): the statistics summary (§4.6) and the VoIP metrics (§4.7), written and read.

use super::bursts::{BurstFigures, GAP_MIN};
use super::rtcp::Writer;

/// The VoIP metrics block (RFC 3611 §4.7), of one source as its receiver hears it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct VoipMetrics {
    /// Packets that never came, of those expected, 0 to 1.
    pub lost: f64,
    /// Packets that came too late, of those expected, 0 to 1.
    pub discarded: f64,
    /// Of the packets in bursts, the part lost or discarded, 0 to 1.
    pub burst_density: f64,
    /// Of the packets in gaps, the part lost or discarded, 0 to 1.
    pub gap_density: f64,
    /// The mean burst in milliseconds.
    pub burst_ms: u16,
    /// The mean gap in milliseconds.
    pub gap_ms: u16,
    /// The last round trip in milliseconds; 0 where it is not known.
    pub round_trip_ms: u16,
    /// From arrival to ear, and from mouth to departure, in milliseconds.
    pub end_system_ms: u16,
    /// The speech in dBm0; `None` where nobody has spoken.
    pub signal_dbm0: Option<i8>,
    /// The transmission rating, 0 to 100.
    pub rating: Option<u8>,
    /// The mean opinion score of what is heard, 1 to 5, by tenths.
    pub mos_listening: Option<f64>,
    /// The same with delay counted.
    pub mos_conversational: Option<f64>,
    /// The jitter buffer's present delay in milliseconds, and its greatest.
    pub jitter_buffer_ms: (u16, u16),
}

/// The statistics summary block (RFC 3611 §4.6) of the packets since the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// The first sequence number.
    pub begin: u16,
    /// The last, plus one.
    pub end: u16,
    /// Packets lost.
    pub lost: u32,
    /// Packets that came more than once.
    pub duplicates: u32,
    /// The least, greatest and mean difference of two packets' transit times, and its standard deviation, in timestamp
    /// units.
    pub jitter: [u32; 4],
}

impl VoipMetrics {
    /// The losses of a stream whose packets last so long.
    pub fn with_bursts(self, bursts: BurstFigures, packet_ms: f64) -> Self {
        VoipMetrics {
            burst_density: bursts.burst_density,
            gap_density: bursts.gap_density,
            burst_ms: (bursts.burst_packets * packet_ms) as u16,
            gap_ms: (bursts.gap_packets * packet_ms) as u16,
            ..self
        }
    }
}

/// Writes an XR packet of `ssrc` on what comes from `source`.
pub(super) fn write(out: &mut Writer<'_>, ssrc: u32, source: u32, summary: &Summary, voip: &VoipMetrics) {
    out.header(0, EXTENDED_REPORT, 1 + 1 + SUMMARY_WORDS + 1 + VOIP_WORDS);
    out.word(ssrc);
    // Losses, duplicates and jitter are told, times to live are not.
    out.block(SUMMARY, 0b1110_0000, SUMMARY_WORDS);
    out.word(source);
    out.word(u32::from(summary.begin) << 16 | u32::from(summary.end));
    out.word(summary.lost);
    out.word(summary.duplicates);
    summary.jitter.iter().for_each(|figure| out.word(*figure));
    out.word(0);
    out.block(VOIP, 0, VOIP_WORDS);
    out.word(source);
    out.bytes(&[voip.lost, voip.discarded, voip.burst_density, voip.gap_density].map(of_256));
    let pair = |a: u16, b: u16| u32::from(a) << 16 | u32::from(b);
    out.word(pair(voip.burst_ms, voip.gap_ms));
    out.word(pair(voip.round_trip_ms, voip.end_system_ms));
    let signal = voip.signal_dbm0.map_or(UNKNOWN, |level| level as u8);
    out.bytes(&[signal, UNKNOWN, UNKNOWN, GAP_MIN as u8]);
    let tenths = |mos: Option<f64>| mos.map_or(UNKNOWN, |mos| (mos * 10.0).round().clamp(10.0, 50.0) as u8);
    let rating = voip.rating.unwrap_or(UNKNOWN);
    out.bytes(&[rating, UNKNOWN, tenths(voip.mos_listening), tenths(voip.mos_conversational)]);
    out.bytes(&[RECEIVER_CONFIGURATION, 0]);
    let (nominal, greatest) = voip.jitter_buffer_ms;
    out.bytes(&nominal.to_be_bytes());
    out.word(pair(greatest, BUFFER_MS_MAX));
}

/// Reads the VoIP metrics on `source` out of an XR packet, whose header and SSRC are skipped.
pub(super) fn read(mut blocks: &[u8], source: u32) -> Option<VoipMetrics> {
    while let [kind, _, high, low, rest @ ..] = blocks {
        let bytes = 4 * usize::from(u16::from_be_bytes([*high, *low]));
        let body = rest.get(..bytes)?;
        if *kind == VOIP
            && let Some(body) = body.first_chunk::<VOIP_BYTES>()
            && body[..4] == source.to_be_bytes()
        {
            return Some(read_voip(body));
        }
        blocks = &rest[bytes..];
    }
    None
}

fn read_voip(body: &[u8; VOIP_BYTES]) -> VoipMetrics {
    let part = |at: usize| f64::from(body[at]) / 256.0;
    let half = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let known = |at: usize| (body[at] != UNKNOWN).then_some(body[at]);
    let mos = |at: usize| known(at).filter(|tenths| (10..=50).contains(tenths)).map(|tenths| f64::from(tenths) / 10.0);
    VoipMetrics {
        lost: part(4),
        discarded: part(5),
        burst_density: part(6),
        gap_density: part(7),
        burst_ms: half(8),
        gap_ms: half(10),
        round_trip_ms: half(12),
        end_system_ms: half(14),
        signal_dbm0: known(16).map(|level| level as i8),
        rating: known(20).filter(|rating| *rating <= 100),
        mos_listening: mos(22),
        mos_conversational: mos(23),
        jitter_buffer_ms: (half(26), half(28)),
    }
}

fn of_256(part: f64) -> u8 {
    (part * 256.0).clamp(0.0, 255.0) as u8
}

/// RFC 3611 §2.
pub(super) const EXTENDED_REPORT: u8 = 207;

const SUMMARY: u8 = 6;
const VOIP: u8 = 7;

/// Behind the block's header.
const SUMMARY_WORDS: u16 = 9;
const VOIP_WORDS: u16 = 8;
const VOIP_BYTES: usize = 4 * VOIP_WORDS as usize;

/// What is not known.
const UNKNOWN: u8 = 127;

/// Losses are concealed by more than repetition (10), the jitter buffer adapts (11), and its rate is not told.
const RECEIVER_CONFIGURATION: u8 = 0b1011_0000;

/// 200 ms: what a hole is waited for at the most.
const BUFFER_MS_MAX: u16 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_is_of_the_length_that_it_says() {
        let voip = VoipMetrics {
            lost: 0.125,
            discarded: 0.0625,
            burst_density: 0.5,
            gap_density: 0.25,
            burst_ms: 160,
            gap_ms: 9000,
            round_trip_ms: 83,
            end_system_ms: 70,
            signal_dbm0: Some(-23),
            rating: Some(81),
            mos_listening: Some(4.1),
            mos_conversational: Some(3.9),
            jitter_buffer_ms: (60, 120),
        };
        let mut packet = [0; 256];
        let mut out = Writer::new(&mut packet);
        write(&mut out, 1, 2, &Summary { begin: 5, end: 9, lost: 1, duplicates: 2, jitter: [1, 9, 4, 2] }, &voip);
        let bytes = out.written();
        assert_eq!(bytes, 4 + 4 * usize::from(u16::from_be_bytes([packet[2], packet[3]])));
        // RFC 3611 §4.6: lost, duplicates, then jitter.
        assert_eq!(packet[8..12], [6, 0xe0, 0, 9]);
        assert_eq!(packet[16..24], [0, 5, 0, 9, 0, 0, 0, 1]);
        assert_eq!(read(&packet[8..bytes], 2), Some(voip));
        assert_eq!(read(&packet[8..bytes], 3), None, "of another source");
        for cut in 8..bytes {
            assert_eq!(read(&packet[8..cut], 2), None, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_known_is_said_to_be_so() {
        let mut packet = [0; 256];
        let mut out = Writer::new(&mut packet);
        write(&mut out, 1, 2, &Summary::default(), &VoipMetrics::default());
        let bytes = out.written();
        let read = read(&packet[8..bytes], 2).expect("metrics");
        assert_eq!((read.signal_dbm0, read.rating, read.mos_listening), (None, None, None));
    }
}
