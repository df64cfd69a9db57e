//! One leg over RTP: latch, receiver, concealment, playout, sender and reports, wired together.

mod guard;
pub(super) mod quality;
mod speech;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rtp_rs::RtpReader;

use super::digits::{Digits, Way};
use super::dtls::is_dtls;
use super::exchange::{Exchange, Heed};
use super::hearing::Hearing;
use super::keys::{KeyFrame, Keys};
use super::secure::Secure;
use super::speaking::{Speaking, packing};
use super::{Channel, Heard, Transmit};
use crate::audio::frame::{Frame, SampleRate, Speech};
use crate::audio::level::Level;
use crate::audio::playout::{FrameKind, Playout};
use crate::audio::pool::SpeechPool;
use crate::audio::recording::Origin;
use crate::rtp::budget::PacketBudget;
use crate::rtp::latch::{Latch, Verdict};
use crate::rtp::receiver::{PayloadTypes, Received, Receiver};
use crate::rtp::rtcp::{ReportTime, Rtcp};
use crate::rtp::sender::Sender;
use crate::sdp::{Negotiated, SdesKeys};

/// The sound of one SIP leg.
#[derive(Debug)]
pub struct RtpSession {
    pub(super) negotiated: Negotiated,
    pub(super) input: Input,
    pub(super) output: Output,
    rtcp: Rtcp,
    pub(super) control_latch: Latch,
    control_packets: u16,
    started: Instant,
    last_packet: Option<Instant>,
    /// No packet has come since the far end was excused.
    is_excused: bool,
    pub(super) refused_packets: u64,
    received_packets: u64,
    heed: Heed,
    pub(super) secure: Option<Box<Secure>>,
    budget: PacketBudget,
}

/// What says that a packet is the far end's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// Nothing but where it comes from, and that others came before it.
    Sequence,
    /// Its tag (RFC 3711 §3.3).
    Authenticated,
}

/// From packets to audio.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) latch: Latch,
    pub(super) receiver: Receiver,
    hearing: Hearing,
    pub(super) digits: Digits,
    level: Level,
    coded: Vec<u8>,
    samples: Vec<i16>,
}

/// From audio to packets.
#[derive(Debug)]
pub(super) struct Output {
    playout: Playout,
    sender: Sender,
    pub(super) keys: Keys,
    speaking: Speaking,
    level: Level,
    /// Where the last frame of audio stood, in ticks.
    sent_position: u64,
    /// Packets sent under former SSRCs.
    sent_before: u32,
}

impl RtpSession {
    /// Starts when our SDP leaves: comfort noise is due at once, so that two latching sides do not wait for each other.
    pub fn new(negotiated: Negotiated, signalling: IpAddr, pool: SpeechPool, seed: u64, now: Instant) -> Self {
        // SSRC, first sequence number and first timestamp from disjoint bits of a hash of the seed (RFC 3550 §5.1).
        let mixed = (seed ^ (seed >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // RFC 4568 §6.4: below 2^15, so that a roll-over is seen although the first packets are lost.
        let (ssrc, sequence, timestamp) = ((mixed >> 32) as u32, (mixed >> 16) as u16 & 0x7fff, mixed as u32);
        let mut secure = None;
        Secure::agree(&mut secure, &negotiated, ssrc, now);
        let mut session = RtpSession {
            input: Input {
                latch: Latch::new(negotiated.remote_rtp, signalling, now),
                receiver: Receiver::new(payload_types(&negotiated)),
                hearing: Hearing::new(negotiated.codec),
                digits: Digits::default(),
                level: Level::default(),
                coded: Vec::new(),
                samples: Vec::new(),
            },
            output: Output {
                playout: Playout::new(timestamp, packing(&negotiated), pool, now),
                sender: Sender::new(ssrc, sequence),
                keys: Keys::new(&negotiated),
                speaking: Speaking::new(&negotiated),
                level: Level::default(),
                sent_position: 0,
                sent_before: 0,
            },
            rtcp: Rtcp::new(ssrc, mixed, now),
            control_latch: Latch::new(negotiated.remote_rtcp, signalling, now),
            control_packets: 0,
            started: now,
            last_packet: None,
            is_excused: false,
            refused_packets: 0,
            received_packets: 0,
            heed: Heed::Untold,
            secure,
            budget: PacketBudget::new(now),
            negotiated,
        };
        session.listen_for_keys();
        session
    }

    /// The peers have agreed anew: hold, resume, another address, payload type or codec.
    pub fn renegotiate(&mut self, negotiated: Negotiated, now: Instant) {
        Secure::agree(&mut self.secure, &negotiated, self.output.sender.ssrc(), now);
        self.input.receiver.renumber(payload_types(&negotiated));
        self.input.hearing.set_codec(negotiated.codec);
        self.output.playout.repack(packing(&negotiated));
        self.output.speaking.renegotiate(&self.negotiated, &negotiated);
        self.output.keys.agree(&negotiated);
        if negotiated.codec.clock_rate() != self.negotiated.codec.clock_rate() {
            self.begin_stream(now);
        }
        if self.negotiated.is_held() && !negotiated.is_held() {
            self.output.playout.resume(now);
        }
        if !negotiated.remote_rtp.ip().is_unspecified() {
            self.input.latch.reopen(negotiated.remote_rtp, now);
            self.control_latch.reopen(negotiated.remote_rtcp, now);
        }
        // Held time does not count towards the media time-out.
        self.hear_of(now);
        self.negotiated = negotiated;
        self.listen_for_keys();
    }

    /// Takes a packet from the RTP port.
    pub fn handle_rtp(&mut self, source: SocketAddr, packet: &[u8], now: Instant) {
        if self.negotiated.rtcp_mux && is_rtcp(packet) {
            return self.handle_rtcp(source, packet, now);
        }
        if !self.is_within_budget(source, self.input.latch.destination(), now) {
            return;
        }
        if is_dtls(packet) {
            return self.handle_dtls(Channel::Rtp, source, packet);
        }
        let Some(mut secure) = self.secure.take_if(|secure| secure.is_active()) else {
            return self.handle_opened(source, packet, Proof::Sequence, now);
        };
        match secure.open(packet, now) {
            Some(packet) => self.handle_opened(source, packet, Proof::Authenticated, now),
            None => self.refused_packets += 1,
        }
        self.secure = Some(secure);
    }

    fn handle_opened(&mut self, source: SocketAddr, packet: &[u8], proof: Proof, now: Instant) {
        let Ok(reader) = RtpReader::new(packet) else {
            self.refused_packets += 1;
            return;
        };
        let payload_type = reader.payload_type();
        let verdict = if proof == Proof::Authenticated {
            self.input.latch.handle_authenticated(source, now)
        } else if self.negotiated.takes(payload_type) {
            let sequence = u16::from(reader.sequence_number());
            self.input.latch.handle_packet(source, reader.ssrc(), sequence, now)
        } else if source == self.input.latch.destination() {
            Verdict::Accept
        } else {
            Verdict::Refuse
        };
        match verdict {
            Verdict::Accept => {
                self.hear_of(now);
                match self.input.receiver.handle_packet(packet, now) {
                    Ok(()) => self.received_packets += 1,
                    Err(_) => self.refused_packets += 1,
                }
            }
            Verdict::Refuse => self.refused_packets += 1,
        }
    }

    /// Takes a packet from the RTCP port.
    pub fn handle_rtcp(&mut self, source: SocketAddr, packet: &[u8], now: Instant) {
        if !self.is_within_budget(source, self.control_latch.destination(), now) {
            return;
        }
        if is_dtls(packet) {
            return self.handle_dtls(Channel::Rtcp, source, packet);
        }
        let Some(mut secure) = self.secure.take_if(|secure| secure.is_active()) else {
            return self.handle_opened_rtcp(source, packet, Proof::Sequence, now);
        };
        match secure.open_control(packet, now) {
            Some(packet) => self.handle_opened_rtcp(source, packet, Proof::Authenticated, now),
            None => self.refused_packets += 1,
        }
        self.secure = Some(secure);
    }

    fn handle_opened_rtcp(&mut self, source: SocketAddr, packet: &[u8], proof: Proof, now: Instant) {
        let ssrc = packet.get(4..8).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes));
        // Reports carry no sequence number; counting them makes five of one source in a row the proof.
        self.control_packets = self.control_packets.wrapping_add(1);
        let verdict = match proof {
            Proof::Authenticated => self.control_latch.handle_authenticated(source, now),
            Proof::Sequence => self.control_latch.handle_packet(source, ssrc, self.control_packets, now),
        };
        let (Verdict::Accept, Ok(figures)) = (verdict, self.rtcp.handle_packet(packet, self.report_time(now))) else {
            self.refused_packets += 1;
            return;
        };
        self.heed = self.heed.after(packet, figures);
        self.hear_of(now);
    }

    /// Returns what the caller said next; drain to `None`.
    pub fn poll_heard(&mut self, now: Instant) -> Option<Heard<'_>> {
        let Input { receiver, hearing, digits, level, coded, samples, .. } = &mut self.input;
        if let Some(digit) = digits.poll() {
            return Some(Heard::Digit(digit));
        }
        samples.clear();
        let (origin, is_as_sent) = loop {
            match receiver.poll_output(coded, now)? {
                Received::Audio => {
                    let is_joined = hearing.decode(coded, samples);
                    let is_saved = receiver.owes() && is_quiet(samples) && receiver.save(hearing.units(samples.len()));
                    if !is_saved {
                        break (Origin::Arrived, !is_joined);
                    }
                    samples.clear();
                }
                Received::Silence(0) => {}
                Received::Pause(count) => {
                    hearing.pause(count, receiver, samples);
                    break (Origin::Concealed, false);
                }
                Received::Silence(count) => {
                    samples.resize(hearing.samples(count), 0);
                    break (Origin::Silence, false);
                }
                Received::Missing(count) => break (hearing.miss(count, receiver, samples), false),
                Received::Lost(count) => {
                    hearing.conceal(count, receiver, samples);
                    break (Origin::Concealed, false);
                }
                Received::Digit(digit) => {
                    digits.handle_key(digit, Way::Events, now);
                    if let Some(digit) = digits.poll() {
                        return Some(Heard::Digit(digit));
                    }
                }
            }
        };
        let rate = self.negotiated.codec.rate();
        digits.handle_audio(samples, now);
        if self.negotiated.is_held() {
            // What a held line plays is the far end's music; the agent hears silence.
            samples.fill(0);
            return Some(Heard::Held(Frame { samples, rate, origin: Origin::Silence, coded: None }));
        }
        level.handle(samples);
        let plain = hearing.plain_codec().filter(|_| is_as_sent);
        Some(Heard::Audio(Frame { samples, rate, origin, coded: plain.map(|codec| (codec, coded.as_slice())) }))
    }

    /// Writes the packet that is due into `packet`; drain to `None`.
    pub fn poll_transmit(&mut self, packet: &mut [u8], now: Instant) -> Option<Transmit> {
        if let Some(datagram) = self.poll_dtls(packet) {
            return Some(datagram);
        }
        if self.rtcp.deadline() <= now {
            let report = self.report(packet, now);
            if report.bytes > 0 {
                return Some(report);
            }
        }
        if self.negotiated.is_held() || self.awaits_keys() {
            return None;
        }
        let Output { playout, sender, keys, speaking, level, sent_position, .. } = &mut self.output;
        loop {
            // What is said waits until the key is up (RFC 4733 §2.5.1.2).
            let (frame, key) = if keys.is_busy() {
                let frame = playout.pass(now)?;
                (frame, Some(keys.take(frame.timestamp, playout.packing(), &mut speaking.frame)))
            } else {
                (playout.take(&mut speaking.frame, now)?, None)
            };
            let bytes = match (key, self.negotiated.telephone_event) {
                (Some(KeyFrame::Packet { payload, timestamp, marker }), Some(event)) => {
                    sender.build(event.payload_type.sent, timestamp, marker, &payload, packet)
                }
                (Some(KeyFrame::Packet { .. } | KeyFrame::Pause), _) => continue,
                (None | Some(KeyFrame::Tone), _) => {
                    if frame.kind == FrameKind::ComfortNoise && key.is_none() {
                        speaking.fill_noise(playout.packing());
                    }
                    if frame.kind == FrameKind::Speech {
                        speaking.measure(level);
                    }
                    let Some((payload, marker)) = speaking.code(frame.marker) else { continue };
                    *sent_position = frame.position;
                    sender.build(self.negotiated.payload_type.sent, frame.timestamp, marker, payload, packet)
                }
            };
            let bytes = self.secured().map_or(bytes, |secure| secure.seal(packet, bytes));
            return Some(Transmit { channel: Channel::Rtp, to: self.input.latch.destination(), bytes });
        }
    }

    /// Speech that waits for its turn, in time.
    pub fn queued(&self) -> Duration {
        self.output.playout.queued()
    }

    /// The audio in the packet that [`RtpSession::poll_transmit`] wrote last, and where it stands on the leg's own clock in
    /// ticks of 125 µs. `None` for a report or a key.
    pub fn sent_audio<'a>(&'a self, packet: &'a [u8]) -> Option<(u32, Speech<'a>)> {
        let packet = self.secure.as_ref().filter(|secure| secure.is_active()).map_or(packet, |secure| secure.sent());
        // The sender's header has its shortest form (RFC 3550 §5.1).
        let (header, payload) = packet.split_first_chunk::<RTP_HEADER_BYTES>()?;
        let is_audio = header[1] & 0x7f == self.negotiated.payload_type.sent;
        let speech = || self.output.speaking.sent().unwrap_or(Speech::Coded(self.negotiated.codec, payload));
        // Truncation is the modulo that timestamps live in.
        is_audio.then(|| (self.output.sent_position as u32, speech()))
    }

    /// When to poll next.
    pub fn poll_timeout(&self) -> Instant {
        let mut at = self.rtcp.deadline().min(self.abandoned_at());
        if let Some(dtls) = self.secure.as_ref().and_then(|secure| secure.dtls()?.poll_timeout(self.started)) {
            at = at.min(dtls);
        }
        if let Some(receiver) = self.input.receiver.poll_timeout() {
            at = at.min(receiver);
        }
        if self.negotiated.is_held() || self.awaits_keys() {
            return at;
        }
        let playout = &self.output.playout;
        at.min(if self.output.keys.is_busy() { playout.due() } else { playout.deadline() })
    }

    /// The rate of what is heard.
    pub fn rate(&self) -> SampleRate {
        self.negotiated.codec.rate()
    }

    /// Tells whether the far end has put us on hold.
    pub fn is_held(&self) -> bool {
        self.negotiated.is_held()
    }

    /// What has gone either way so far.
    pub fn exchange(&self) -> Exchange {
        let sent = self.output.sender.figures().map_or(0, |sent| sent.packets);
        Exchange { received: self.received_packets, sent: self.output.sent_before.wrapping_add(sent), heed: self.heed }
    }

    /// Timestamps go on in another clock: a stream of its own begins, under an SSRC of its own (RFC 7160 §4.1).
    fn begin_stream(&mut self, now: Instant) {
        let former = u64::from(self.output.sender.ssrc());
        let mixed = (former ^ (former << 32) ^ self.output.sent_position).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let sent = self.output.sender.figures().map_or(0, |sent| sent.packets);
        self.output.sent_before = self.output.sent_before.wrapping_add(sent);
        self.output.sender = Sender::new((mixed >> 32) as u32, (mixed >> 16) as u16);
        self.rtcp = Rtcp::new(self.output.sender.ssrc(), mixed, now);
    }

    pub(super) fn handle_keys(&mut self, channel: Channel, keys: &SdesKeys, now: Instant) {
        let Some(secure) = &mut self.secure else { return };
        secure.handle_keys(channel, keys);
        if channel == Channel::Rtp {
            // What was to be said meanwhile is said from here on.
            self.output.playout.resume(now);
            self.hear_of(now);
        }
    }

    fn awaits_keys(&self) -> bool {
        self.secure.as_ref().is_some_and(|secure| secure.awaits_keys())
    }

    fn secured(&mut self) -> Option<&mut Secure> {
        self.secure.as_deref_mut().filter(|secure| secure.is_active())
    }

    fn hear_of(&mut self, now: Instant) {
        self.last_packet = Some(now);
        self.is_excused = false;
    }

    fn abandoned_at(&self) -> Instant {
        if self.negotiated.is_held() {
            return self.started + Duration::from_secs(u64::from(u32::MAX));
        }
        self.last_packet.map_or(self.started + FIRST_PACKET_TIMEOUT, |at| at + MEDIA_TIMEOUT)
    }

    fn report(&mut self, packet: &mut [u8], now: Instant) -> Transmit {
        let received = self.account(now);
        let time = self.report_time(now);
        let bytes = self.rtcp.build(self.output.sender.figures(), received, time, packet);
        let bytes = self.secured().map_or(bytes, |secure| secure.seal_control(packet, bytes));
        let (channel, to) = if self.negotiated.rtcp_mux {
            (Channel::Rtp, self.input.latch.destination())
        } else {
            (Channel::Rtcp, self.control_latch.destination())
        };
        Transmit { channel, to, bytes }
    }

    /// The session's own clock on the NTP scale.
    fn report_time(&self, now: Instant) -> ReportTime {
        let elapsed = now.saturating_duration_since(self.started).as_micros();
        ReportTime { now, ntp: NTP_START.wrapping_add(((elapsed << 32) / 1_000_000) as u64) }
    }
}

fn payload_types(negotiated: &Negotiated) -> PayloadTypes {
    PayloadTypes {
        audio: negotiated.payload_type,
        codec: negotiated.codec,
        telephone_event: negotiated.telephone_event.map(|event| event.payload_type),
        comfort_noise: negotiated.comfort_noise,
    }
}

/// Nothing is said in it: silence that was handed out before may stand for it.
fn is_quiet(samples: &[i16]) -> bool {
    samples.iter().all(|sample| sample.unsigned_abs() < QUIET)
}

/// RFC 5761 §4: payload types 64 to 95 with the marker bit are RTCP's.
fn is_rtcp(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|second| (192..=223).contains(second))
}

/// Any start but zero, which says "no report" in LSR.
const NTP_START: u64 = 1 << 48;

/// 60 s without RTP and RTCP: two of the longest NAT bindings, twelve reports.
const MEDIA_TIMEOUT: Duration = Duration::from_secs(60);

/// 30 s: a phone that has sent nothing by then never will.
const FIRST_PACKET_TIMEOUT: Duration = Duration::from_secs(30);

/// -46 dBFS: below any speech, above the noise of a room on a good phone.
const QUIET: u16 = 160;

/// 12 bytes: no extension and no contributing source.
const RTP_HEADER_BYTES: usize = 12;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::rtp::dtmf::PRESS;
    use crate::sdp::DtmfMode;
    use crate::sdp::{Direction, Keying, Numbered, TelephoneEvent};
    use crate::session::Pressed;

    #[test]
    fn reports_share_the_media_s_port_where_both_sides_agreed_on_it() {
        for mux in [false, true] {
            let mut bench = Bench::new(mux);
            let sent = bench.run(Duration::from_secs(8));
            let (channel, port) = if mux { (Channel::Rtp, 4000) } else { (Channel::Rtcp, 4001) };
            let report = sent.iter().find(|(_, packet)| is_rtcp(packet)).expect("a report");
            assert_eq!((report.0.channel, report.0.to.port()), (channel, port));
            assert_eq!(report.1[1], 200, "a sender report");
            let before = bench.session.refused_packets();
            let report = report.1.clone();
            if mux {
                bench.receive("10.0.0.1:4000", &report)
            } else {
                bench.receive_report("10.0.0.1:4001", &report)
            }
            assert_eq!(bench.session.refused_packets(), before);
        }
    }

    #[test]
    fn nothing_is_sent_to_an_address_that_has_not_proved_itself() {
        let mut bench = Bench::new(false);
        for sequence in 0..200u16 {
            bench.receive("192.0.2.66:4000", &packet(sequence, 0));
            bench.receive("10.0.0.1:5555", &packet(sequence * 2, 0));
            let sent = bench.run(Duration::from_millis(20));
            assert!(sent.iter().all(|(transmit, _)| transmit.to.ip().to_string() == "10.0.0.1"));
            assert!(sent.iter().all(|(transmit, _)| [4000, 4001].contains(&transmit.to.port())));
        }
    }

    #[test]
    fn a_packet_of_a_payload_type_nobody_agreed_on_proves_nothing_and_is_not_heard() {
        let mut bench = Bench::new(false);
        for sequence in 0..20 {
            bench.receive("10.0.0.1:5555", &packet(sequence, 18));
        }
        assert_eq!(bench.session.refused_packets(), 20);
        assert!(bench.session.poll_heard(bench.now).is_none());
    }

    #[test]
    fn a_held_caller_is_sent_nothing_but_reports_and_their_music_is_not_heard() {
        let mut bench = Bench::new(false);
        let held = Negotiated { direction: Direction::Recvonly, ..bench.session.negotiated.clone() };
        bench.session.renegotiate(held, bench.now);
        bench.receive("10.0.0.1:4000", &packet(0, 0));
        assert!(matches!(bench.session.poll_heard(bench.now), Some(Heard::Held(frame)) if frame.samples == [0; 160]));
        assert!(bench.run(Duration::from_secs(10)).iter().all(|(_, packet)| is_rtcp(packet)));
    }

    #[test]
    fn the_far_end_s_reports_tell_whether_our_packets_arrive() {
        let mut bench = Bench::new(false);
        let sent = bench.run(Duration::from_secs(1));
        assert_eq!(bench.session.exchange(), Exchange { received: 0, sent: sent.len() as u32, heed: Heed::Untold });
        bench.receive("10.0.0.1:4000", &packet(0, 0));
        // A sender report of a side that has heard nobody has no block.
        let mut report = vec![0x80, 200, 0, 6, 0, 0, 0, 9];
        report.resize(28, 1);
        bench.receive_report("10.0.0.1:4001", &report);
        assert_eq!((bench.session.exchange().received, bench.session.exchange().heed), (1, Heed::Nothing));
        let ssrc = sent.first().map(|(_, packet)| packet[8..12].to_vec()).expect("noise");
        let block = |lost: u8| [&ssrc[..], &[lost, 0, 0, 0], &[0; 16]].concat();
        let receiver_report = |lost: u8| [&[0x81, 201, 0, 7, 0, 0, 0, 9][..], &block(lost)].concat();
        bench.receive_report("10.0.0.1:4001", &receiver_report(3));
        assert_eq!(bench.session.exchange().heed, Heed::Arrives);
        // Bytes that report nothing change nothing.
        bench.receive_report("10.0.0.1:4001", &[0x80, 203, 0, 0]);
        assert_eq!(bench.session.exchange().heed, Heed::Arrives);
        bench.receive_report("10.0.0.1:4001", &receiver_report(255));
        assert_eq!(bench.session.exchange().heed, Heed::Nothing);
    }

    #[test]
    fn what_is_said_waits_while_keys_are_pressed_and_none_of_it_is_lost() {
        let mut bench = Bench::new(false);
        let speech: Vec<u8> = (0..8000u32).map(|at| (at / 160) as u8).collect();
        bench.session.play(Speech::Coded(Codec::Pcmu, &speech), bench.now).expect("queued");
        let mut sent = bench.run(Duration::from_millis(100));
        assert!(['5', '6'].into_iter().all(|key| bench.session.press(key, PRESS) == Pressed::OnTheLine));
        sent.extend(bench.run(Duration::from_millis(1700)));
        let packets: Vec<Vec<u8>> = sent.into_iter().map(|(_, packet)| packet).filter(|it| !is_rtcp(it)).collect();
        let first = packets.iter().position(|packet| packet[1] & 0x7f == 101).expect("a key");
        let last = packets.iter().rposition(|packet| packet[1] & 0x7f == 101).expect("a key");
        assert!(packets[first..=last].iter().all(|packet| packet[1] & 0x7f == 101), "the audio pauses");
        assert_eq!((first, last - first + 1), (5, 20), "two presses of ten packets");
        let spoken: Vec<u8> = packets.iter().filter(|it| it[1] & 0x7f == 0).flat_map(|it| it[12..].to_vec()).collect();
        assert_eq!(spoken[..8000], speech, "all of it, in its order");
        let goes_on = &packets[last + 1];
        assert_eq!(goes_on[1], 0x80, "a talk spurt of its own begins");
        let timestamps: Vec<u32> = packets.iter().map(|it| u32::from_be_bytes([it[4], it[5], it[6], it[7]])).collect();
        // Two presses of twelve frames lie between what was said before and what is said behind them.
        assert_eq!(timestamps[last + 1].wrapping_sub(timestamps[first - 1]), 25 * 160);
    }

    #[test]
    fn without_events_keys_are_tones_both_ways_and_what_is_said_waits() {
        let without = |bench: &mut Bench| {
            let negotiated = Negotiated { telephone_event: None, ..bench.session.negotiated.clone() };
            bench.session.renegotiate(negotiated, bench.now);
        };
        let (mut bench, mut other) = (Bench::new(false), Bench::new(false));
        [&mut bench, &mut other].into_iter().for_each(without);
        bench.session.play(Speech::Coded(Codec::Pcmu, &[0x33; 1600]), bench.now).expect("queued");
        assert!("159D".chars().all(|key| bench.session.press(key, PRESS) == Pressed::OnTheLine));
        let (mut keys, mut spoken) = (String::new(), 0);
        for (_, packet) in bench.run(Duration::from_secs(2)).into_iter().filter(|(_, packet)| !is_rtcp(packet)) {
            spoken += packet[12..].iter().filter(|code| **code == 0x33).count();
            other.receive("10.0.0.1:4000", &packet);
            while let Some(heard) = other.session.poll_heard(other.now) {
                if let Heard::Digit(key) = heard {
                    keys.push(key);
                }
            }
            other.now += Duration::from_millis(20);
        }
        assert_eq!(keys, "159D");
        assert!(spoken >= 1600, "what waited was said: {spoken}");
        let set = |bench: &mut Bench, dtmf| {
            let negotiated = Negotiated { dtmf, ..bench.session.negotiated.clone() };
            bench.session.renegotiate(negotiated, bench.now);
        };
        set(&mut bench, DtmfMode::Rfc4733);
        assert_eq!(bench.session.press('1', PRESS), Pressed::Refused, "no events, and no tones either");
        set(&mut bench, DtmfMode::Info);
        assert_eq!(bench.session.press('1', PRESS), Pressed::ByInfo);
        assert_eq!(bench.session.press('x', PRESS), Pressed::Refused);
    }

    #[test]
    fn a_key_by_info_and_by_event_is_heard_once_and_in_order_with_speech() {
        let mut bench = Bench::new(false);
        let mut heard = Vec::new();
        let mut event = packet(1, 101);
        event.truncate(16);
        event[12..].copy_from_slice(&[5, 0x0a, 0, 160]);
        for (at, packet) in [packet(0, 0), event, packet(2, 0)].iter().enumerate() {
            if at == 2 {
                bench.session.handle_info_digit('5', bench.now);
                bench.session.handle_info_digit('6', bench.now);
            }
            bench.receive("10.0.0.1:4000", packet);
            while let Some(next) = bench.session.poll_heard(bench.now) {
                heard.push(match next {
                    Heard::Digit(key) => key,
                    Heard::Audio(_) | Heard::Held(_) => '~',
                });
            }
            bench.now += Duration::from_millis(80);
        }
        assert_eq!(heard.iter().collect::<String>().replace("~~", "~"), "~5~6~");
    }

    #[test]
    fn the_sound_of_a_key_is_not_heard_from_its_first_packet_to_its_end_whatever_is_lost() {
        // A sender that goes on with its audio beside the events; the key sounds in frames 10 to 30.
        for lost in 0..200u64 {
            let mut bench = Bench::new(false);
            let (mut heard, mut keys, mut sequence) = (Vec::new(), String::new(), 0u16);
            for frame in 0..60u16 {
                let is_down = (10..=30).contains(&frame);
                let mut audio = packet(sequence, 0);
                audio[4..8].copy_from_slice(&(u32::from(frame) * 160).to_be_bytes());
                audio[12..].fill(if is_down { 0x11 } else { 0x33 });
                let mut packets = vec![audio];
                if is_down {
                    sequence += 1;
                    let mut event = packet(sequence, 101);
                    event.truncate(16);
                    event[4..8].copy_from_slice(&(10u32 * 160).to_be_bytes());
                    let [high, low] = ((frame - 9) * 160).to_be_bytes();
                    event[12..].copy_from_slice(&[5, if frame >= 28 { 0x8a } else { 0x0a }, high, low]);
                    packets.insert(0, event);
                    // The event goes first.
                    packets[0][2..4].copy_from_slice(&(sequence - 1).to_be_bytes());
                    packets[1][2..4].copy_from_slice(&sequence.to_be_bytes());
                }
                sequence += 1;
                for packet in packets {
                    // Every tenth event packet or so, another in each run; never all three ends.
                    let is_event = packet[1] == 101;
                    if !(is_event && frame > 10 && frame < 28 && (u64::from(frame) * 7 + lost).is_multiple_of(5)) {
                        bench.receive("10.0.0.1:4000", &packet);
                    }
                }
                bench.now += Duration::from_millis(20);
                while let Some(next) = bench.session.poll_heard(bench.now) {
                    match next {
                        Heard::Digit(key) => keys.push(key),
                        Heard::Audio(frame) => heard.extend_from_slice(frame.samples),
                        Heard::Held(_) => {}
                    }
                }
            }
            assert_eq!(keys, "5");
            let mut sound = Vec::new();
            Codec::Pcmu.decode(&[0x11], &mut sound);
            let loud = heard.iter().filter(|sample| **sample == sound[0]).count();
            // Behind the end, which is told in frame 28, the audio is heard again.
            assert!(loud <= 3 * 160, "{loud} samples of the key's sound");
        }
    }

    fn packet(sequence: u16, payload_type: u8) -> Vec<u8> {
        let mut packet = vec![0x80, payload_type];
        packet.extend(sequence.to_be_bytes());
        packet.extend((u32::from(sequence) * 160).to_be_bytes());
        packet.extend([0, 0, 0, 9]);
        packet.resize(172, 0x33);
        packet
    }

    struct Bench {
        session: RtpSession,
        now: Instant,
    }

    impl Bench {
        fn new(rtcp_mux: bool) -> Self {
            let remote_rtp: SocketAddr = "10.0.0.1:4000".parse().expect("address");
            let negotiated = Negotiated {
                keying: Keying::Plain,
                codec: crate::codec::Codec::Pcmu,
                payload_type: Numbered::alike(0),
                telephone_event: Some(TelephoneEvent { payload_type: Numbered::alike(101), clock_rate: 8000 }),
                dtmf: DtmfMode::Auto,
                comfort_noise: Some(13),
                opus: Default::default(),
                ptime_ms: 20,
                remote_rtp,
                remote_rtcp: if rtcp_mux { remote_rtp } else { "10.0.0.1:4001".parse().expect("address") },
                rtcp_mux,
                wants_metrics: None,
                direction: Direction::Sendrecv,
            };
            let now = Instant::now();
            let session = RtpSession::new(negotiated, remote_rtp.ip(), SpeechPool::default(), 7, now);
            Bench { session, now }
        }

        fn receive(&mut self, source: &str, packet: &[u8]) {
            self.session.handle_rtp(source.parse().expect("address"), packet, self.now);
        }

        fn receive_report(&mut self, source: &str, packet: &[u8]) {
            self.session.handle_rtcp(source.parse().expect("address"), packet, self.now);
        }

        fn run(&mut self, time: Duration) -> Vec<(Transmit, Vec<u8>)> {
            let (end, mut sent, mut packet) = (self.now + time, Vec::new(), [0; 2048]);
            while self.now < end {
                while let Some(transmit) = self.session.poll_transmit(&mut packet, self.now) {
                    sent.push((transmit, packet[..transmit.bytes].to_vec()));
                }
                self.now += Duration::from_millis(1);
            }
            sent
        }
    }
}
