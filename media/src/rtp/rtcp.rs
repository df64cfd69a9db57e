//! RTCP (RFC 3550 §6): sender and receiver reports, extended reports (RFC 3611) beside them, and when they are due.

use std::time::{Duration, Instant};

use super::figures::ReceptionFigures;
use super::sender::SenderFigures;
use super::xr::{self, Summary, VoipMetrics};

/// The report side of one session.
#[derive(Debug)]
pub struct Rtcp {
    ssrc: u32,
    cname: [u8; CNAME_BYTES],
    due: Instant,
    random: u64,
    last_sender_report: Option<SenderReportSeen>,
    round_trip: Option<Duration>,
    /// The far end's last word on our stream.
    theirs: Option<TheirFigures>,
    their_voip: Option<VoipMetrics>,
}

/// What we tell of the stream that comes in.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    /// Its source.
    pub source: u32,
    /// The report block.
    pub figures: ReceptionFigures,
    /// The extended report's blocks.
    pub extended: Option<(Summary, VoipMetrics)>,
}

/// The far end's last sender report, echoed so that it can measure the round trip.
#[derive(Debug, Clone, Copy)]
struct SenderReportSeen {
    /// The middle 32 bits of its NTP time.
    middle_ntp: u32,
    at: Instant,
}

/// A moment, as reports write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportTime {
    /// The monotonic clock, for deadlines and delays.
    pub now: Instant,
    /// The same on the NTP scale: seconds since 1900 in the upper 32 bits. Our own zero will do: only differences count.
    pub ntp: u64,
}

/// What a report block of the far end says of our packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TheirFigures {
    /// Packets lost since its last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost in all; negative with duplicates.
    pub cumulative_lost: i32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// From our report to its answer and back, without the time it held it.
    pub round_trip: Option<Duration>,
}

/// Bytes that are no RTCP. Count them; nothing else is to be done.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("not an RTCP packet")]
pub struct NotRtcp;

impl Rtcp {
    /// Starts; the first report is due within [`INTERVAL`].
    pub fn new(ssrc: u32, seed: u64, now: Instant) -> Self {
        let mut cname = [0; CNAME_BYTES];
        for (at, byte) in cname.iter_mut().enumerate() {
            // RFC 7022 §4.2: 64 random bits, so that it tells nothing of the box.
            *byte = b"0123456789abcdef"[(seed >> (4 * at)) as usize & 15];
        }
        let mut rtcp = Rtcp {
            ssrc,
            cname,
            due: now,
            random: seed | 1,
            last_sender_report: None,
            round_trip: None,
            theirs: None,
            their_voip: None,
        };
        rtcp.schedule(now, 1);
        rtcp
    }

    /// When the next report is due.
    pub fn deadline(&self) -> Instant {
        self.due
    }

    /// The last round trip that was measured.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// What the far end has last said of our stream.
    pub fn theirs(&self) -> Option<TheirFigures> {
        self.theirs
    }

    /// The VoIP metrics that the far end has last told of our stream.
    pub fn their_voip(&self) -> Option<VoipMetrics> {
        self.their_voip
    }

    /// Writes a report into `packet` and returns its length: SR when something was sent, else RR; then SDES, and XR.
    pub fn build(
        &mut self,
        sent: Option<SenderFigures>,
        received: Option<Account>,
        time: ReportTime,
        packet: &mut [u8],
    ) -> usize {
        self.schedule(time.now, 2);
        let mut out = Writer::new(packet);
        let blocks = u8::from(received.is_some());
        let (kind, words) = if sent.is_some() { (SENDER_REPORT, 6) } else { (RECEIVER_REPORT, 1) };
        out.header(blocks, kind, words + 6 * u16::from(blocks));
        out.word(self.ssrc);
        if let Some(sent) = sent {
            out.word((time.ntp >> 32) as u32);
            out.word(time.ntp as u32);
            out.word(sent.last_timestamp);
            out.word(sent.packets);
            out.word(sent.octets);
        }
        if let Some(account) = received {
            self.write_block(&mut out, account.source, account.figures, time.now);
        }
        // SDES: one chunk with a CNAME of 16 octets and two octets of end.
        out.header(1, SOURCE_DESCRIPTION, 6);
        out.word(self.ssrc);
        out.bytes(&[1, CNAME_BYTES as u8]);
        out.bytes(&self.cname);
        out.bytes(&[0, 0]);
        if let Some((Account { source, .. }, (summary, voip))) =
            received.zip(received.and_then(|account| account.extended))
        {
            xr::write(&mut out, self.ssrc, source, &summary, &voip);
        }
        out.written()
    }

    /// Takes a packet; returns what the far end says of our stream, if it does.
    ///
    /// # Errors
    /// [`NotRtcp`].
    pub fn handle_packet(&mut self, packet: &[u8], time: ReportTime) -> Result<Option<TheirFigures>, NotRtcp> {
        let mut rest = packet;
        let mut figures = None;
        for _ in 0..PARTS_MAX {
            if rest.is_empty() {
                return Ok(figures);
            }
            let [first, kind, high, low, ..] = *rest else { return Err(NotRtcp) };
            let bytes = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
            if first >> 6 != 2 || bytes > rest.len() {
                return Err(NotRtcp);
            }
            let (part, behind) = rest.split_at(bytes);
            rest = behind;
            let body = match kind {
                SENDER_REPORT => {
                    let Some(ntp) = part.get(8..16) else { return Err(NotRtcp) };
                    let middle_ntp = word(&ntp[2..]);
                    self.last_sender_report = Some(SenderReportSeen { middle_ntp, at: time.now });
                    part.get(28..)
                }
                RECEIVER_REPORT => part.get(8..),
                xr::EXTENDED_REPORT => {
                    let voip = part.get(8..).and_then(|blocks| xr::read(blocks, self.ssrc));
                    self.their_voip = voip.or(self.their_voip);
                    None
                }
                _ => None,
            };
            if let Some(block) = body.and_then(|blocks| self.own_block(blocks, usize::from(first & 31))) {
                figures = Some(self.read_block(block, time));
            }
        }
        Ok(figures)
    }

    fn own_block<'a>(&self, blocks: &'a [u8], count: usize) -> Option<&'a [u8]> {
        blocks.chunks_exact(24).take(count).find(|block| word(block) == self.ssrc)
    }

    fn read_block(&mut self, block: &[u8], time: ReportTime) -> TheirFigures {
        let (last_report, delay) = (word(&block[16..]), word(&block[20..]));
        if last_report != 0 {
            let middle = (time.ntp >> 16) as u32;
            let units = middle.wrapping_sub(last_report).wrapping_sub(delay);
            // 16.16 seconds; a negative or absurd figure is a peer's clock, not a round trip.
            if units < 60 << 16 {
                self.round_trip = Some(Duration::from_micros((u64::from(units) * 1_000_000) >> 16));
            }
        }
        // 24 bits, signed.
        let cumulative_lost = ((word(&block[4..]) << 8) as i32) >> 8;
        let (fraction_lost, jitter) = (block[4], word(&block[12..]));
        let theirs = TheirFigures { fraction_lost, cumulative_lost, jitter, round_trip: self.round_trip };
        self.theirs = Some(theirs);
        theirs
    }

    fn write_block(&self, out: &mut Writer<'_>, source: u32, figures: ReceptionFigures, now: Instant) {
        out.word(source);
        out.word((u32::from(figures.fraction_lost) << 24) | (figures.cumulative_lost as u32 & 0x00ff_ffff));
        out.word(figures.extended_highest_sequence);
        out.word(figures.jitter);
        let (last, delay) = self.last_sender_report.map_or((0, 0), |seen| {
            let held = now.saturating_duration_since(seen.at).as_micros();
            (seen.middle_ntp, ((held << 16) / 1_000_000) as u32)
        });
        out.word(last);
        out.word(delay);
    }

    /// RFC 3550 §6.2: half to one and a half intervals, so that reports of many calls never come together.
    fn schedule(&mut self, now: Instant, divided_by: u32) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let part = (self.random >> 32) as u32 % 1000;
        self.due = now + INTERVAL / divided_by / 1000 * part + INTERVAL / 2;
    }
}

/// Writes big-endian words; what does not fit is left out, and the length tells.
pub(super) struct Writer<'a> {
    packet: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(packet: &'a mut [u8]) -> Self {
        Writer { packet, at: 0 }
    }

    pub(super) fn written(&self) -> usize {
        self.at
    }

    /// A packet's header: `words` follow.
    pub(super) fn header(&mut self, count: u8, kind: u8, words: u16) {
        let [high, low] = words.to_be_bytes();
        self.bytes(&[0x80 | count, kind, high, low]);
    }

    /// The header of a block within an extended report.
    pub(super) fn block(&mut self, kind: u8, specific: u8, words: u16) {
        let [high, low] = words.to_be_bytes();
        self.bytes(&[kind, specific, high, low]);
    }

    pub(super) fn word(&mut self, word: u32) {
        self.bytes(&word.to_be_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        if let Some(room) = self.packet.get_mut(self.at..self.at + bytes.len()) {
            room.copy_from_slice(bytes);
            self.at += bytes.len();
        }
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;

/// 16 hex digits.
const CNAME_BYTES: usize = 16;

/// RFC 3550 §6.2: 5 s; two parties never come near the bandwidth share.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// A compound packet of two parties has three parts; more are not read.
const PARTS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ends_measure_their_round_trip() {
        let start = Instant::now();
        let at = |ms: u64| ReportTime {
            now: start + Duration::from_millis(ms),
            ntp: (1 << 40) + ((u128::from(ms) << 32) / 1000) as u64,
        };
        let (mut here, mut there) = (Rtcp::new(1, 7, start), Rtcp::new(2, 9, start));
        let mut packet = [0; 256];
        let sent = SenderFigures { packets: 10, octets: 1600, last_timestamp: 5 };
        let bytes = here.build(Some(sent), None, at(0), &mut packet);
        assert_eq!(there.handle_packet(&packet[..bytes], at(30)), Ok(None));
        let figures =
            ReceptionFigures { fraction_lost: 64, cumulative_lost: -1, extended_highest_sequence: 9, jitter: 40 };
        // Held for 500 ms, then 50 ms back.
        let account = Account { source: 1, figures, extended: None };
        let bytes = there.build(None, Some(account), at(530), &mut packet);
        let theirs = here.handle_packet(&packet[..bytes], at(580)).expect("RTCP").expect("of our stream");
        assert_eq!((theirs.fraction_lost, theirs.cumulative_lost, theirs.jitter), (64, -1, 40));
        let round_trip = theirs.round_trip.expect("measured").as_millis();
        assert!((79..=81).contains(&round_trip), "{round_trip} ms");
    }

    #[test]
    fn an_extended_report_rides_behind_the_others_and_is_read() {
        let start = Instant::now();
        let time = ReportTime { now: start, ntp: 1 << 40 };
        let (mut here, mut there) = (Rtcp::new(1, 7, start), Rtcp::new(2, 9, start));
        let figures =
            ReceptionFigures { fraction_lost: 0, cumulative_lost: 0, extended_highest_sequence: 9, jitter: 0 };
        let voip = VoipMetrics { lost: 0.25, rating: Some(70), ..VoipMetrics::default() };
        let extended = Some((Summary::default(), voip));
        let mut packet = [0; 256];
        let bytes = there.build(None, Some(Account { source: 1, figures, extended }), time, &mut packet);
        assert!(bytes < packet.len(), "all of it fits");
        here.handle_packet(&packet[..bytes], time).expect("RTCP").expect("of our stream");
        assert_eq!(here.their_voip(), Some(voip));
        // A report without one leaves the last standing.
        let bytes = there.build(None, Some(Account { source: 1, figures, extended: None }), time, &mut packet);
        here.handle_packet(&packet[..bytes], time).expect("RTCP");
        assert_eq!(here.their_voip(), Some(voip));
    }

    #[test]
    fn reports_are_due_between_half_and_one_and_a_half_intervals() {
        let start = Instant::now();
        let mut rtcp = Rtcp::new(1, 0xdead_beef, start);
        let mut packet = [0; 256];
        let mut now = start;
        for _ in 0..1000 {
            rtcp.build(None, None, ReportTime { now, ntp: 0 }, &mut packet);
            let wait = rtcp.deadline() - now;
            assert!(wait >= INTERVAL / 2 && wait <= INTERVAL * 3 / 2, "{wait:?}");
            now = rtcp.deadline();
        }
    }

    #[test]
    fn hostile_bytes_never_panic() {
        let start = Instant::now();
        let mut rtcp = Rtcp::new(1, 7, start);
        let mut valid = [0; 256];
        let time = ReportTime { now: start, ntp: 0 };
        let figures =
            ReceptionFigures { fraction_lost: 0, cumulative_lost: 0, extended_highest_sequence: 0, jitter: 0 };
        let sent = SenderFigures { packets: 1, octets: 1, last_timestamp: 1 };
        let extended = Some((Summary::default(), VoipMetrics::default()));
        let bytes = rtcp.build(Some(sent), Some(Account { source: 1, figures, extended }), time, &mut valid);
        let mut random = 0x9e37_79b9u32;
        for _ in 0..20_000 {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let mut packet = valid;
            packet[random as usize % bytes] = (random >> 8) as u8;
            let cut = (random >> 16) as usize % (bytes + 1);
            let _ = rtcp.handle_packet(&packet[..cut], time);
        }
    }
}
