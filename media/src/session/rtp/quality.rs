//! How a leg sounds, in each direction, as far as it can be told from here.

use std::time::{Duration, Instant};

use super::RtpSession;
use crate::audio::level::Level;
use crate::codec::Codec;
use crate::rtp::bursts::BurstFigures;
use crate::rtp::quality::{Impairment, Path, mos};
use crate::rtp::rtcp::Account;
use crate::rtp::srtp::Suite;
use crate::rtp::xr::VoipMetrics;

/// The figures of one leg since it began.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// The codec carries more than the telephone's 3.4 kHz. Scores take nothing for the codec itself and count losses as
    /// those of G.711: they tell a good line from a bad one, and 4.4 is a line without a fault, of its kind.
    pub is_wideband: bool,
    /// How its packets are protected.
    pub protection: Protection,
    /// The last round trip to the far end and back, by its reports.
    pub round_trip: Option<Duration>,
    /// What we hear.
    pub inbound: Inbound,
    /// What the far end hears.
    pub outbound: Outbound,
}

/// How a leg's packets are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Not at all.
    Plain,
    /// By keys in the descriptions (RFC 4568).
    Sdes(Suite),
    /// By keys of a handshake (RFC 5763); `None` until it has brought them, and then nothing is sent or heard.
    Dtls(Option<Suite>),
}

/// From the far end to us: our own measurements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inbound {
    /// RTP packets that were taken.
    pub packets: u64,
    /// That never came.
    pub lost: u64,
    /// That came when their place had been given up.
    pub late: u64,
    /// That came more than once.
    pub duplicates: u64,
    /// That were refused: from strangers, malformed, late or doubled, or too many.
    pub refused: u64,
    /// What was made up in place of lost and late ones.
    pub concealed: Duration,
    /// Interarrival jitter (RFC 3550 §6.4.1).
    pub jitter: Duration,
    /// How long a missing packet is waited for at present.
    pub wait: Duration,
    /// How losses lie.
    pub losses: BurstFigures,
    /// The mean opinion score by the E-model, 1 to 4.5; `None` before the first packet.
    pub mos: Option<f64>,
    /// As a recogniser hears it, what was made up included.
    pub sound: Sound,
}

/// From us to the far end: what it reports. Nothing is known without reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outbound {
    /// RTP packets that left.
    pub packets: u64,
    /// That never reached the far end.
    pub lost: Option<u64>,
    /// The part that is lost, or was too late if its extended reports say so, 0 to 1.
    pub loss: Option<f64>,
    /// Interarrival jitter there.
    pub jitter: Option<Duration>,
    /// The mean opinion score by the E-model, 1 to 4.5.
    pub mos: Option<f64>,
    /// What was sent of the agent's speech.
    pub sound: Sound,
}

/// Loudness of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sound {
    /// Speech, in dB below overload; `None` where nobody has spoken.
    pub level_dbov: Option<f64>,
    /// The part of the samples that is at the limit, 0 to 1.
    pub clipped: f64,
}

impl From<Level> for Sound {
    fn from(level: Level) -> Self {
        Sound { level_dbov: level.speech_dbov(), clipped: level.clipped() }
    }
}

impl RtpSession {
    /// How its packets are protected at present.
    pub fn protection(&self) -> Protection {
        self.secure.as_ref().map_or(Protection::Plain, |secure| secure.protection())
    }

    /// How the leg sounds, over all of its time.
    pub fn quality(&self) -> Quality {
        let round_trip = self.rtcp.round_trip();
        Quality {
            protection: self.protection(),
            is_wideband: self.negotiated.codec.rate().hertz() > 8000,
            round_trip,
            inbound: self.inbound(round_trip),
            outbound: self.outbound(round_trip),
        }
    }

    fn inbound(&self, round_trip: Option<Duration>) -> Inbound {
        let receiver = &self.input.receiver;
        let (tally, losses) = (receiver.tally(), receiver.tally().bursts.figures());
        let delay = round_trip.unwrap_or_default() / 2 + receiver.timing().target() + FRAME;
        let path = Path { loss: losses.loss, burst_ratio: losses.burst_ratio, delay };
        let codec = self.negotiated.codec;
        Inbound {
            packets: tally.received,
            lost: tally.lost(),
            late: tally.late,
            duplicates: tally.duplicates,
            refused: self.refused_packets,
            concealed: time(tally.concealed, codec),
            jitter: time(receiver.jitter().into(), codec),
            wait: receiver.timing().wait(),
            losses,
            mos: (tally.received > 0).then(|| mos(path.rating(Impairment::G711))),
            sound: self.input.level.into(),
        }
    }

    fn outbound(&self, round_trip: Option<Duration>) -> Outbound {
        let packets = u64::from(self.exchange().sent);
        let (theirs, voip) = (self.rtcp.theirs(), self.rtcp.their_voip());
        let lost = theirs.map(|theirs| u64::try_from(theirs.cumulative_lost).unwrap_or(0));
        let reported = lost.map(|lost| if packets == 0 { 0.0 } else { (lost as f64 / packets as f64).min(1.0) });
        let loss = voip.map(|voip| (voip.lost + voip.discarded).min(1.0)).or(reported);
        let buffer = voip.map_or(0, |voip| voip.jitter_buffer_ms.0.min(BUFFER_MS_MAX));
        let delay = round_trip.unwrap_or_default() / 2
            + self.output.playout.cushion()
            + FRAME
            + Duration::from_millis(buffer.into());
        let codec = self.negotiated.codec;
        let score = |loss| mos(Path { loss, burst_ratio: 1.0, delay }.rating(Impairment::G711));
        Outbound {
            packets,
            lost,
            loss,
            jitter: theirs.map(|theirs| time(theirs.jitter.into(), codec)),
            mos: loss.map(score),
            sound: self.output.level.into(),
        }
    }

    /// What the next report says of the far end's stream, if there is one.
    pub(super) fn account(&mut self, now: Instant) -> Option<Account> {
        let source = self.input.receiver.ssrc()?;
        let duplicates = self.input.receiver.tally().duplicates;
        let figures = self.input.receiver.reception().report()?;
        let summary = self.input.receiver.reception().summary(duplicates);
        // RFC 3611 §5.1: a list without them is a wish to be spared.
        let extended = (self.negotiated.wants_metrics != Some(false)).then(|| (summary, self.voip_metrics(now)));
        Some(Account { source, figures, extended })
    }

    fn voip_metrics(&self, now: Instant) -> VoipMetrics {
        let Quality { round_trip, inbound, .. } = self.quality();
        let expected = (inbound.packets + inbound.lost + inbound.late).max(1) as f64;
        let milliseconds = |time: Duration| u16::try_from(time.as_millis()).unwrap_or(u16::MAX);
        // What the packets last is not told by their number: the time since the first tells.
        let packet_ms = now.saturating_duration_since(self.started).as_secs_f64() * 1000.0 / expected;
        let listening = Path { loss: inbound.losses.loss, burst_ratio: inbound.losses.burst_ratio, delay: FRAME };
        let rating = listening.rating(Impairment::G711);
        VoipMetrics {
            lost: inbound.lost as f64 / expected,
            discarded: inbound.late as f64 / expected,
            round_trip_ms: milliseconds(round_trip.unwrap_or_default()),
            end_system_ms: milliseconds(self.input.receiver.timing().target() + FRAME),
            // A sine at overload has 3.17 dBm0 and −3.01 dBov.
            signal_dbm0: inbound.sound.level_dbov.map(|dbov| (dbov + 6.18).round() as i8),
            rating: inbound.mos.map(|_| rating.round() as u8),
            mos_listening: inbound.mos.map(|_| mos(rating)),
            mos_conversational: inbound.mos,
            jitter_buffer_ms: (milliseconds(self.input.receiver.timing().target()), milliseconds(inbound.wait)),
            ..VoipMetrics::default()
        }
        .with_bursts(inbound.losses, packet_ms.clamp(10.0, 60.0))
    }
}

fn time(units: u64, codec: Codec) -> Duration {
    Duration::from_micros(units.saturating_mul(1_000_000 / 8000) / u64::from(codec.tick_units()))
}

/// 20 ms: what a packet waits for its last sample.
const FRAME: Duration = Duration::from_millis(20);

/// 500 ms: a far end that tells of more means something else.
const BUFFER_MS_MAX: u16 = 500;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::audio::frame::Speech;
    use crate::audio::pool::SpeechPool;
    use crate::rtp::rtcp::{ReportTime, Rtcp};
    use crate::sdp::Negotiated;

    #[test]
    fn more_loss_is_a_lower_score_in_and_the_far_end_s_reports_are_the_score_out() {
        let mut last = (4.6, 4.6);
        for percent in [0, 2, 5, 10, 20, 40] {
            let quality = talk(percent, true);
            let Quality { inbound, outbound, .. } = quality;
            let (heard, told) = (inbound.mos.expect("a score"), outbound.mos.expect("a score"));
            assert!(heard < last.0 && told < last.1, "{percent} %: {heard} and {told} behind {last:?}");
            last = (heard, told);
            let loss = 100.0 * inbound.losses.loss;
            assert!((loss - f64::from(percent)).abs() <= 1.0 + f64::from(percent) / 4.0, "{percent} %: {loss}");
            let reported = 100.0 * outbound.loss.expect("told");
            assert!((reported - f64::from(percent)).abs() <= 1.0 + f64::from(percent) / 4.0, "{percent} %: {reported}");
            assert_eq!(inbound.concealed, Duration::from_millis(20) * inbound.lost as u32, "{percent} %");
            assert!(inbound.duplicates == 0 && inbound.late == 0, "{quality:?}");
        }
        assert!(last.0 < 2.0, "at 40 %: {last:?}");
    }

    #[test]
    fn nothing_is_made_up_of_a_far_end_that_does_not_report() {
        let Quality { round_trip, inbound, outbound, .. } = talk(0, false);
        assert_eq!(
            (round_trip, outbound.lost, outbound.loss, outbound.jitter, outbound.mos),
            (None, None, None, None, None)
        );
        assert!(outbound.packets > 900 && inbound.packets == 1000);
    }

    #[test]
    fn levels_are_of_what_is_heard_and_of_what_is_said() {
        let Quality { inbound, outbound, .. } = talk(0, true);
        // 3,000 at every sample has 20.8 dB less than overload, 8,000 has 12.2.
        let close = |level: Option<f64>, dbov: f64| (level.expect("speech") - dbov).abs() < 0.5;
        assert!(close(inbound.sound.level_dbov, -20.8), "{:?}", inbound.sound);
        assert!(close(outbound.sound.level_dbov, -12.2), "{:?}", outbound.sound);
        assert_eq!((inbound.sound.clipped, outbound.sound.clipped), (0.0, 0.0));
    }

    #[test]
    fn metrics_are_told_to_all_who_do_not_ask_to_be_spared() {
        let (now, remote) = (Instant::now(), SocketAddr::from(([10, 0, 0, 1], 4000)));
        for (wants_metrics, is_told) in [(None, true), (Some(true), true), (Some(false), false)] {
            let negotiated = Negotiated { wants_metrics, ..Negotiated::plain(Codec::Pcmu, 0, remote) };
            let mut session = RtpSession::new(negotiated, remote.ip(), SpeechPool::default(), 7, now);
            for sequence in 0..3u8 {
                let mut packet = [0xff; 172];
                packet[..12].copy_from_slice(&[0x80, 0, 0, sequence, 0, 0, 0, sequence * 80, 0, 0, 0, 9]);
                session.handle_rtp(remote, &packet, now);
            }
            let account = session.account(now).expect("a stream");
            assert_eq!(account.extended.is_some(), is_told, "{wants_metrics:?}");
        }
    }

    /// Twenty seconds over a line that loses so many in a hundred packets either way. The far end answers within 40 ms.
    fn talk(percent: u32, reports: bool) -> Quality {
        let start = Instant::now();
        let remote = SocketAddr::from(([10, 0, 0, 1], 4000));
        let negotiated = Negotiated::plain(Codec::Pcmu, 0, remote);
        let mut session = RtpSession::new(negotiated.clone(), remote.ip(), SpeechPool::default(), 7, start);
        let mut far = RtpSession::new(negotiated, remote.ip(), SpeechPool::default(), 9, start);
        let mut far_rtcp = Rtcp::new(9, 9, start);
        let (mut random, mut packet) = (1u32, [0; 2048]);
        let (mut said, mut spoken) = (Vec::new(), Vec::new());
        Codec::Pcmu.encode(&[3000; 160], &mut said);
        Codec::Pcmu.encode(&[8000; 160], &mut spoken);
        for at in 0..1000u32 {
            let now = start + Duration::from_millis(20) * at;
            let mut is_lost = || {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 16) % 100 < percent
            };
            session.play(Speech::Coded(Codec::Pcmu, &spoken), now).expect("room");
            if at == 0 || !is_lost() {
                let mut heard = vec![0x80, 0];
                heard.extend((at as u16).to_be_bytes());
                heard.extend((at * 160).to_be_bytes());
                heard.extend([0, 0, 0, 9]);
                heard.extend(&said);
                session.handle_rtp(remote, &heard, now);
            }
            while session.poll_heard(now).is_some() {}
            while let Some(transmit) = session.poll_transmit(&mut packet, now) {
                if packet[1] == 200 || packet[1] == 201 {
                    let _ = far_rtcp.handle_packet(&packet[..transmit.bytes], ReportTime { now, ntp: 1 << 40 });
                } else if !is_lost() {
                    far.handle_rtp(remote, &packet[..transmit.bytes], now);
                    while far.poll_heard(now).is_some() {}
                }
            }
            if reports && at % 100 == 99 {
                let account = far.account(now).expect("a stream");
                let time = ReportTime { now, ntp: 1 << 40 };
                let bytes = far_rtcp.build(None, Some(account), time, &mut packet);
                session.handle_rtp(remote, &packet[..bytes], now);
            }
        }
        session.quality()
    }
}
