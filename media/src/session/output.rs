//! From audio to packets: what is said, what is pressed, and the noise in between.

use std::time::{Duration, Instant};

use super::keys::{KeyFrame, Keys};
use super::speaking::{Speaking, packing};
use crate::audio::frame::Speech;
use crate::audio::playout::{FrameKind, Playout};
use crate::rtp::dtmf::EventSender;
use crate::rtp::sender::Sender;
use crate::sdp::Negotiated;

/// One leg's outgoing stream.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) playout: Playout,
    pub(super) sender: Sender,
    pub(super) keys: Keys,
    pub(super) speaking: Speaking,
    /// The samples of a tone that is pressed.
    tone: Vec<i16>,
    /// Where the last frame of audio stood, in ticks.
    sent_position: u64,
    /// Packets sent under former SSRCs.
    sent_before: u32,
}

impl Output {
    pub(super) fn new(negotiated: &Negotiated, playout: Playout, sender: Sender) -> Self {
        let (clock_rate, frame) = event_pace(negotiated);
        Output {
            playout,
            sender,
            keys: Keys::new(EventSender::new(clock_rate, frame)),
            speaking: Speaking::new(negotiated),
            tone: Vec::new(),
            sent_position: 0,
            sent_before: 0,
        }
    }

    /// The stream goes on as was agreed on anew. Where timestamps count by another clock, it begins another one under an
    /// SSRC of its own (RFC 7160 §4.1), and says so.
    pub(super) fn renegotiate(&mut self, former: &Negotiated, negotiated: &Negotiated) -> bool {
        self.speaking.renegotiate(former, negotiated);
        if packing(former) != packing(negotiated) || former.telephone_event != negotiated.telephone_event {
            self.playout.repack(packing(negotiated));
            let (clock_rate, frame) = event_pace(negotiated);
            self.keys.events.agree(clock_rate, frame);
        }
        let is_other_clock = former.codec.clock_rate() != negotiated.codec.clock_rate();
        if is_other_clock {
            let ssrc = u64::from(self.sender.ssrc());
            let mixed = (ssrc ^ (ssrc << 32) ^ self.sent_position).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.sent_before = self.packets();
            self.sender = Sender::new((mixed >> 32) as u32, (mixed >> 16) as u16 & 0x7fff);
        }
        is_other_clock
    }

    /// Writes the packet that is due and returns its length; drain to `None`.
    pub(super) fn poll_packet(&mut self, negotiated: &Negotiated, packet: &mut [u8], now: Instant) -> Option<usize> {
        let Output { playout, sender, keys, speaking, tone, sent_position, .. } = self;
        let audio = negotiated.payload_type.sent;
        loop {
            let frame = if keys.is_busy() {
                // What is said waits until the key is up (RFC 4733 §2.5.1.2).
                let frame = playout.pass(now)?;
                tone.clear();
                tone.resize(playout.packing().frame_samples(), 0);
                match (keys.take(frame.timestamp, tone), negotiated.telephone_event) {
                    (KeyFrame::Packet { payload, timestamp, marker }, Some(event)) => {
                        return Some(sender.build(event.payload_type.sent, timestamp, marker, &payload, packet));
                    }
                    (KeyFrame::Tone, _) => speaking.set_frame(tone),
                    (KeyFrame::Packet { .. } | KeyFrame::Pause, _) => continue,
                }
                frame
            } else {
                let frame = playout.take(&mut speaking.frame, now)?;
                if frame.kind == FrameKind::ComfortNoise {
                    speaking.fill_noise(playout.packing());
                }
                frame
            };
            if let Some((payload, marker)) = speaking.code(frame.marker) {
                *sent_position = frame.position;
                return Some(sender.build(audio, frame.timestamp, marker, payload, packet));
            }
        }
    }

    /// The audio in the packet that was written last, and where it stands on the leg's own clock, in ticks.
    pub(super) fn sent_audio<'a>(&'a self, negotiated: &Negotiated, packet: &'a [u8]) -> Option<(u32, Speech<'a>)> {
        // The sender's header has its shortest form (RFC 3550 §5.1).
        let (header, payload) = packet.split_first_chunk::<RTP_HEADER_BYTES>()?;
        let is_audio = header[1] & 0x7f == negotiated.payload_type.sent;
        let speech = || self.speaking.sent().unwrap_or(Speech::Coded(negotiated.codec, payload));
        // Truncation is the modulo that timestamps live in.
        is_audio.then(|| (self.sent_position as u32, speech()))
    }

    /// Packets that have left, under whichever SSRC.
    pub(super) fn packets(&self) -> u32 {
        self.sent_before.wrapping_add(self.sender.figures().map_or(0, |sent| sent.packets))
    }

    pub(super) fn ssrc(&self) -> u32 {
        self.sender.ssrc()
    }

    /// When [`Output::poll_packet`] has something.
    pub(super) fn deadline(&self) -> Instant {
        if self.keys.is_busy() { self.playout.due() } else { self.playout.deadline() }
    }
}

/// Keys count by the clock that was agreed on for them, and take the place of a packet each.
fn event_pace(negotiated: &Negotiated) -> (u32, Duration) {
    let clock_rate = negotiated.telephone_event.map_or(8000, |event| event.clock_rate);
    (clock_rate, Duration::from_millis(negotiated.ptime_ms.into()))
}

/// 12 bytes: no extension and no contributing source.
const RTP_HEADER_BYTES: usize = 12;
