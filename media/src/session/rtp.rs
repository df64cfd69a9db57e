//! One leg over RTP: latch, receiver, concealment, playout, sender and reports, wired together.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rtp_rs::RtpReader;

use super::{Channel, Heard, PlayError, Transmit, noise};
use crate::audio::frame::{Frame, Speech};
use crate::audio::playout::{FRAME_BYTES, FrameKind, Playout};
use crate::codec::Codec;
use crate::codec::plc::Concealer;
use crate::rtp::latch::{Latch, Verdict};
use crate::rtp::receiver::{PayloadTypes, Received, Receiver};
use crate::rtp::rtcp::{ReportTime, Rtcp};
use crate::rtp::sender::Sender;
use crate::sdp::Negotiated;

/// The sound of one SIP leg.
#[derive(Debug)]
pub struct RtpSession {
    negotiated: Negotiated,
    input: Input,
    output: Output,
    rtcp: Rtcp,
    control_latch: Latch,
    control_packets: u16,
    started: Instant,
    last_packet: Option<Instant>,
    refused_packets: u64,
}

/// From packets to audio.
#[derive(Debug)]
struct Input {
    latch: Latch,
    receiver: Receiver,
    concealer: Concealer,
    coded: Vec<u8>,
    samples: Vec<i16>,
}

/// From audio to packets.
#[derive(Debug)]
struct Output {
    playout: Playout,
    sender: Sender,
    noise_at: usize,
    coded: Vec<u8>,
}

impl RtpSession {
    /// Starts when our SDP leaves: comfort noise is due at once, so that two latching sides do not wait for each other.
    pub fn new(negotiated: Negotiated, signalling: IpAddr, seed: u64, now: Instant) -> Self {
        // SSRC, first sequence number and first timestamp from disjoint bits of a hash of the seed (RFC 3550 §5.1).
        let mixed = (seed ^ (seed >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (ssrc, sequence, timestamp) = ((mixed >> 32) as u32, (mixed >> 16) as u16, mixed as u32);
        let payload_types =
            PayloadTypes { audio: negotiated.payload_type, telephone_event: negotiated.telephone_event };
        RtpSession {
            input: Input {
                latch: Latch::new(negotiated.remote_rtp, signalling, now),
                receiver: Receiver::new(payload_types),
                concealer: Concealer::default(),
                coded: Vec::with_capacity(FRAME_BYTES),
                samples: Vec::with_capacity(FRAME_BYTES),
            },
            output: Output {
                playout: Playout::new(timestamp, negotiated.codec.silence(), now),
                sender: Sender::new(ssrc, sequence),
                noise_at: 0,
                coded: Vec::new(),
            },
            rtcp: Rtcp::new(ssrc, mixed, now),
            control_latch: Latch::new(negotiated.remote_rtcp, signalling, now),
            control_packets: 0,
            started: now,
            last_packet: None,
            refused_packets: 0,
            negotiated,
        }
    }

    /// The peers have agreed anew: hold, resume, another address or payload type.
    pub fn renegotiate(&mut self, negotiated: Negotiated, now: Instant) {
        let payload_types =
            PayloadTypes { audio: negotiated.payload_type, telephone_event: negotiated.telephone_event };
        if negotiated.payload_type != self.negotiated.payload_type || negotiated.codec != self.negotiated.codec {
            self.input.receiver = Receiver::new(payload_types);
            self.output.playout.clear();
        }
        if !negotiated.remote_rtp.ip().is_unspecified() {
            self.input.latch.reopen(negotiated.remote_rtp, now);
            self.control_latch.reopen(negotiated.remote_rtcp, now);
        }
        // Held time does not count towards the media time-out.
        self.last_packet = Some(now);
        self.negotiated = negotiated;
    }

    /// Takes a packet from the RTP port.
    pub fn handle_rtp(&mut self, source: SocketAddr, packet: &[u8], now: Instant) {
        if self.negotiated.rtcp_mux && is_rtcp(packet) {
            return self.handle_rtcp(source, packet, now);
        }
        let Ok(reader) = RtpReader::new(packet) else {
            self.refused_packets += 1;
            return;
        };
        let payload_type = reader.payload_type();
        let is_negotiated =
            payload_type == self.negotiated.payload_type || Some(payload_type) == self.negotiated.telephone_event;
        let verdict = if is_negotiated {
            let sequence = u16::from(reader.sequence_number());
            self.input.latch.handle_packet(source, reader.ssrc(), sequence, now)
        } else if source == self.input.latch.destination() {
            Verdict::Accept
        } else {
            Verdict::Refuse
        };
        match verdict {
            Verdict::Accept => {
                self.last_packet = Some(now);
                if self.input.receiver.handle_packet(packet, now).is_err() {
                    self.refused_packets += 1;
                }
            }
            Verdict::Refuse => self.refused_packets += 1,
        }
    }

    /// Takes a packet from the RTCP port.
    pub fn handle_rtcp(&mut self, source: SocketAddr, packet: &[u8], now: Instant) {
        let ssrc = packet.get(4..8).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes));
        // Reports carry no sequence number; counting them makes five of one source in a row the proof.
        self.control_packets = self.control_packets.wrapping_add(1);
        let verdict = self.control_latch.handle_packet(source, ssrc, self.control_packets, now);
        if verdict == Verdict::Refuse || self.rtcp.handle_packet(packet, self.report_time(now)).is_err() {
            self.refused_packets += 1;
            return;
        }
        self.last_packet = Some(now);
    }

    /// Returns what the caller said next; drain to `None`.
    pub fn poll_heard(&mut self, now: Instant) -> Option<Heard<'_>> {
        let Input { receiver, concealer, coded, samples, .. } = &mut self.input;
        samples.clear();
        let is_audio = loop {
            match receiver.poll_output(coded, now)? {
                Received::Audio => break true,
                Received::Silence(0) => {}
                Received::Silence(count) => {
                    samples.resize(count, 0);
                    break false;
                }
                Received::Lost(count) => {
                    concealer.conceal(count, samples);
                    break false;
                }
                Received::Digit(digit) => return Some(Heard::Digit(digit)),
            }
        };
        if self.negotiated.is_held() {
            // What a held line plays is the far end's music; the agent hears silence.
            let count = if is_audio { coded.len() } else { samples.len() };
            samples.clear();
            samples.resize(count, 0);
            return Some(Heard::Held(Frame { samples, coded: None }));
        }
        if !is_audio {
            return Some(Heard::Audio(Frame { samples, coded: None }));
        }
        self.negotiated.codec.decode(coded, samples);
        concealer.handle_received(samples);
        Some(Heard::Audio(Frame { samples, coded: Some((self.negotiated.codec, coded)) }))
    }

    /// Queues speech behind what is queued.
    ///
    /// # Errors
    /// [`PlayError::QueueFull`]; nothing is queued then.
    pub fn play(&mut self, speech: Speech<'_>, now: Instant) -> Result<(), PlayError> {
        let codec = self.negotiated.codec;
        let Output { playout, coded, .. } = &mut self.output;
        let coded = match speech {
            Speech::Coded(theirs, bytes) if theirs == codec => bytes,
            Speech::Coded(theirs, bytes) => {
                let mut samples = Vec::with_capacity(bytes.len());
                theirs.decode(bytes, &mut samples);
                coded.clear();
                codec.encode(&samples, coded);
                coded
            }
            Speech::Samples(samples) => {
                coded.clear();
                codec.encode(samples, coded);
                coded
            }
        };
        playout.push(coded, now).map_err(|_| PlayError::QueueFull)
    }

    /// Forgets what is queued, for barge-in.
    pub fn clear(&mut self) {
        self.output.playout.clear();
    }

    /// Speech queued since the start, in bytes at 8,000 a second.
    pub fn pushed(&self) -> u64 {
        self.output.playout.pushed()
    }

    /// Speech that has left for the wire or was cleared, in bytes.
    pub fn played(&self) -> u64 {
        self.output.playout.played()
    }

    /// Writes the packet that is due into `packet`; drain to `None`.
    pub fn poll_transmit(&mut self, packet: &mut [u8], now: Instant) -> Option<Transmit> {
        if self.rtcp.deadline() <= now {
            return Some(self.report(packet, now));
        }
        if self.negotiated.is_held() {
            return None;
        }
        let mut payload = [0; FRAME_BYTES];
        let Output { playout, sender, noise_at, .. } = &mut self.output;
        let frame = playout.take(&mut payload, now)?;
        if frame.kind == FrameKind::ComfortNoise {
            noise::fill(self.negotiated.codec, noise_at, &mut payload);
        }
        let bytes = sender.build(self.negotiated.payload_type, frame.timestamp, frame.marker, &payload, packet);
        Some(Transmit { channel: Channel::Rtp, to: self.input.latch.destination(), bytes })
    }

    /// The audio in a packet that [`RtpSession::poll_transmit`] wrote: its RTP timestamp, codec and payload. `None` for a
    /// report.
    pub fn sent_audio<'a>(&self, packet: &'a [u8]) -> Option<(u32, Codec, &'a [u8])> {
        // The sender's header has its shortest form (RFC 3550 §5.1).
        let (header, payload) = packet.split_first_chunk::<RTP_HEADER_BYTES>()?;
        let [_, second, _, _, timestamp @ .., _, _, _, _] = header;
        let is_audio = second & 0x7f == self.negotiated.payload_type;
        is_audio.then(|| (u32::from_be_bytes(*timestamp), self.negotiated.codec, payload))
    }

    /// When to poll next.
    pub fn poll_timeout(&self) -> Instant {
        let mut at = self.rtcp.deadline().min(self.abandoned_at());
        if let Some(receiver) = self.input.receiver.poll_timeout() {
            at = at.min(receiver);
        }
        if self.negotiated.is_held() { at } else { at.min(self.output.playout.deadline()) }
    }

    /// Tells whether nothing has come for so long that nobody can be there.
    pub fn is_abandoned(&self, now: Instant) -> bool {
        !self.negotiated.is_held() && self.abandoned_at() <= now
    }

    /// Gives the far end another time-out: it has shown by other means, or is being asked, whether it is there.
    pub fn excuse(&mut self, now: Instant) {
        self.last_packet = Some(now);
    }

    /// Packets that were dropped: from strangers, malformed, late or doubled.
    pub fn refused_packets(&self) -> u64 {
        self.refused_packets
    }

    fn abandoned_at(&self) -> Instant {
        if self.negotiated.is_held() {
            return self.started + Duration::from_secs(u64::from(u32::MAX));
        }
        self.last_packet.map_or(self.started + FIRST_PACKET_TIMEOUT, |at| at + MEDIA_TIMEOUT)
    }

    fn report(&mut self, packet: &mut [u8], now: Instant) -> Transmit {
        let ssrc = self.input.receiver.ssrc();
        let received = ssrc.and_then(|ssrc| Some((ssrc, self.input.receiver.reception().report()?)));
        let time = self.report_time(now);
        let bytes = self.rtcp.build(self.output.sender.figures(), received, time, packet);
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

/// 12 bytes: no extension and no contributing source.
const RTP_HEADER_BYTES: usize = 12;
