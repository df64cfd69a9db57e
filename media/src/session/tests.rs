//! Two sessions that talk to each other over a wire of ours, in virtual time: every codec, and every change of codec.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Channel, Heard, RtpSession};
use crate::audio::frame::{SampleRate, Speech};
use crate::audio::pool::SpeechPool;
use crate::audio::recording::Origin;
use crate::codec::Codec;
use crate::codec::opus::Wishes;
use crate::rtp::dtmf::PRESS;
use crate::sdp::{Direction, DtmfMode, Keying, Negotiated, Numbered, TelephoneEvent};

#[test]
fn every_codec_carries_sound_both_ways_and_the_wide_ones_carry_all_of_it() {
    for codec in Codec::ALL {
        let mut wire = Wire::new(codec);
        wire.say(1000.0, 3000);
        wire.run(3000, |_| true);
        let heard = wire.heard_since(500);
        assert!(share(&heard, codec, 1000.0) > 0.97, "{codec:?}: {}", share(&heard, codec, 1000.0));
        let seconds = wire.heard.len() as f64 / f64::from(codec.rate().hertz());
        assert!((2.9..3.2).contains(&seconds), "{codec:?}: {seconds} s");
        let mut wire = Wire::new(codec);
        wire.say(5000.0, 2000);
        wire.run(2000, |_| true);
        let loudest = wire.heard_since(500).iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0);
        let is_wide = codec.rate() == SampleRate::Hz16000;
        assert_eq!(loudest > 4000, is_wide, "{codec:?} at 5 kHz: {loudest}");
    }
}

#[test]
fn a_live_call_changes_from_any_codec_to_any_other_and_back() {
    for former in Codec::ALL {
        for next in Codec::ALL.into_iter().filter(|next| *next != former) {
            let mut wire = Wire::new(former);
            // All of it waits from the start: what was queued before the change is said behind it.
            wire.say(1000.0, 6000);
            wire.run(1000, |_| true);
            for codec in [next, former] {
                wire.renegotiate(&negotiated(codec));
                let from = wire.heard.len();
                wire.heard.clear();
                assert!(from > 0);
                wire.run(1500, |_| true);
                let heard = wire.heard_since(300);
                let part = share(&heard, codec, 1000.0);
                assert!(part > 0.95, "{former:?} to {next:?}, in {codec:?}: {part}");
                let seconds = wire.heard.len() as f64 / f64::from(codec.rate().hertz());
                assert!((1.3..1.7).contains(&seconds), "{former:?} to {next:?}, in {codec:?}: {seconds} s");
            }
            let (pushed, played) = (wire.here.pushed(), wire.here.played());
            assert_eq!(pushed, 48_000);
            assert!(played.abs_diff(32_000) <= 480, "{former:?} to {next:?}: {played} of {pushed} ticks were played");
        }
    }
}

#[test]
fn packets_have_the_length_that_was_agreed_on_and_count_by_the_codec_s_clock() {
    for codec in Codec::ALL {
        for ptime_ms in [10, 20, 40, 60] {
            let mut wire = Wire::of(Negotiated { ptime_ms, ..negotiated(codec) });
            wire.say(1000.0, 1000);
            wire.run(900, |_| true);
            let speech = &wire.timestamps[2..];
            let step = u32::from(ptime_ms) * codec.clock_rate() / 1000;
            for pair in speech.windows(2) {
                assert_eq!(pair[1].wrapping_sub(pair[0]), step, "{codec:?}, {ptime_ms} ms");
            }
            assert!(speech.len() as u32 + 4 >= 900 / u32::from(ptime_ms), "{codec:?}, {ptime_ms} ms: {}", speech.len());
            let heard = wire.heard_since(400);
            assert!(share(&heard, codec, 1000.0) > 0.95, "{codec:?}, {ptime_ms} ms");
        }
    }
}

#[test]
fn a_lost_packet_leaves_no_hole_in_any_codec_and_opus_finds_it_in_the_next() {
    let mut parts = Vec::new();
    for (codec, has_fec) in [(Codec::Pcmu, false), (Codec::G722, false), (Codec::Opus, false), (Codec::Opus, true)] {
        let mut wire = Wire::of(Negotiated { opus: Wishes { has_fec, ..Wishes::default() }, ..negotiated(codec) });
        wire.say_voice(6000);
        let mut whole = Wire::of(Negotiated { opus: Wishes { has_fec, ..Wishes::default() }, ..negotiated(codec) });
        whole.say_voice(6000);
        whole.run(6000, |_| true);
        wire.run(6000, |sequence| sequence % 10 != 7);
        assert!(wire.origins.contains(&Origin::Concealed) && !wire.origins[3..].contains(&Origin::Silence));
        let length = wire.heard.len().min(whole.heard.len());
        assert!(wire.heard.len().abs_diff(whole.heard.len()) <= 2000, "{codec:?}: the timeline is kept");
        let error: f64 = (0..length).map(|at| f64::from(wire.heard[at] - whole.heard[at]).powi(2)).sum();
        let power: f64 = whole.heard[..length].iter().map(|sample| f64::from(*sample).powi(2)).sum();
        parts.push(error / power);
    }
    assert!(parts[3] < 0.6 * parts[2], "Opus with redundancy {}, without {}", parts[3], parts[2]);
    // Made up, Opus goes on in another phase; what the others make up stays near.
    assert!([parts[0], parts[1], parts[3]].iter().all(|part| *part < 0.25), "{parts:?}");
}

#[test]
fn a_pause_of_opus_is_not_sent_and_takes_as_long_as_it_takes() {
    let mut wire =
        Wire::of(Negotiated { opus: Wishes { has_dtx: true, ..Wishes::default() }, ..negotiated(Codec::Opus) });
    wire.say(1000.0, 1000);
    wire.run(1000, |_| true);
    let before = wire.timestamps.len();
    wire.run(4000, |_| true);
    let sent = wire.timestamps.len() - before;
    assert!(sent < 60, "{sent} packets in 4 s of nothing");
    wire.say(1000.0, 1000);
    wire.run(1500, |_| true);
    let seconds = wire.heard.len() as f64 / 16_000.0;
    assert!((6.3..6.8).contains(&seconds), "{seconds} s were heard of 6.5");
    assert!(wire.markers >= 2, "who speaks again says so");
    let pause = &wire.heard[2 * 16_000..4 * 16_000];
    assert!(pause.iter().all(|sample| sample.unsigned_abs() < 300), "a quiet line");
}

#[test]
fn a_far_end_that_says_how_loud_its_line_is_is_heard_so_until_it_speaks() {
    let mut wire = Wire::new(Codec::Pcmu);
    wire.run(100, |_| true);
    let mut packet = [0; 13];
    packet[..2].copy_from_slice(&[0x80, 13]);
    packet[12] = 40;
    let (sequence, timestamp, ssrc) = wire.last;
    packet[2..4].copy_from_slice(&sequence.wrapping_add(1).to_be_bytes());
    packet[4..8].copy_from_slice(&timestamp.wrapping_add(160).to_be_bytes());
    packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
    wire.there.handle_rtp(HERE, &packet, wire.now);
    wire.heard.clear();
    wire.origins.clear();
    for _ in 0..50 {
        wire.now += Duration::from_millis(20);
        wire.listen();
    }
    assert!(wire.heard.len() >= 40 * 160 && wire.origins.iter().all(|origin| *origin == Origin::Concealed));
    let power = wire.heard.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / wire.heard.len() as f64;
    let level = -10.0 * (power / 32_768f64.powi(2)).log10();
    assert!((39.0..41.0).contains(&level), "{level} dB below overload");
    assert_eq!(wire.there.refused_packets(), 0);
    // It speaks again, and falls silent without a word: that is loss.
    packet[1] = 0;
    packet[2..4].copy_from_slice(&sequence.wrapping_add(2).to_be_bytes());
    packet[4..8].copy_from_slice(&timestamp.wrapping_add(160 * 52).to_be_bytes());
    wire.there.handle_rtp(HERE, &packet, wire.now);
    wire.listen();
    wire.origins.clear();
    for _ in 0..10 {
        wire.now += Duration::from_millis(20);
        wire.listen();
    }
    assert!(wire.origins.contains(&Origin::Silence), "{:?}", wire.origins);
}

#[test]
fn a_key_beside_opus_counts_by_its_own_clock_and_is_one_digit() {
    for (clock_rate, held) in [(48_000, 5000), (8000, 5000), (48_000, 160)] {
        let event = TelephoneEvent { payload_type: Numbered::alike(97), clock_rate };
        let mut wire = Wire::of(Negotiated { telephone_event: Some(event), ..negotiated(Codec::Opus) });
        wire.say(1000.0, 500);
        wire.run(500, |_| true);
        wire.here.press('5', PRESS.max(Duration::from_millis(held)));
        wire.run(held + 1000, |sequence| sequence % 7 != 3);
        assert_eq!(wire.digits, "5", "{clock_rate} Hz, {held} ms");
    }
}

#[test]
fn either_side_s_number_of_a_payload_type_is_taken() {
    let numbered = Numbered { sent: 107, received: 96 };
    let mut wire = Wire::of(Negotiated { payload_type: Numbered::alike(96), ..negotiated(Codec::Opus) });
    wire.there.renegotiate(Negotiated { payload_type: numbered, ..negotiated(Codec::Opus) }, wire.now);
    wire.say(1000.0, 1000);
    wire.run(1000, |_| true);
    assert!(share(&wire.heard_since(300), Codec::Opus, 1000.0) > 0.95);
    wire.here.renegotiate(Negotiated { payload_type: Numbered::alike(107), ..negotiated(Codec::Opus) }, wire.now);
    wire.heard.clear();
    wire.say(1000.0, 1000);
    wire.run(1000, |_| true);
    assert!(share(&wire.heard_since(300), Codec::Opus, 1000.0) > 0.95);
}

const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 4000);
const THERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), 4000);

fn negotiated(codec: Codec) -> Negotiated {
    let event = TelephoneEvent { payload_type: Numbered::alike(101), clock_rate: codec.clock_rate() };
    Negotiated {
        codec,
        payload_type: Numbered::alike(codec.payload_type()),
        telephone_event: Some(event),
        dtmf: DtmfMode::default(),
        comfort_noise: Some(13),
        opus: Wishes::default(),
        ptime_ms: 20,
        remote_rtp: THERE,
        remote_rtcp: SocketAddr::new(THERE.ip(), 4001),
        rtcp_mux: false,
        wants_metrics: None,
        direction: Direction::Sendrecv,
        keying: Keying::Plain,
    }
}

/// Sound goes from here to there.
struct Wire {
    here: RtpSession,
    there: RtpSession,
    now: Instant,
    heard: Vec<i16>,
    rate: SampleRate,
    origins: Vec<Origin>,
    digits: String,
    /// Of audio packets that left here.
    timestamps: Vec<u32>,
    markers: usize,
    /// Sequence number, timestamp and SSRC of the last packet.
    last: (u16, u32, u32),
}

impl Wire {
    fn new(codec: Codec) -> Self {
        Wire::of(negotiated(codec))
    }

    fn of(agreed: Negotiated) -> Self {
        let now = Instant::now();
        let rate = agreed.codec.rate();
        let session = |agreed: Negotiated, seed| {
            let signalling = agreed.remote_rtp.ip();
            RtpSession::new(agreed, signalling, SpeechPool::default(), seed, now)
        };
        let there = Negotiated { remote_rtp: HERE, remote_rtcp: SocketAddr::new(HERE.ip(), 4001), ..agreed.clone() };
        Wire {
            here: session(agreed, 3),
            there: session(there, 5),
            now,
            heard: Vec::new(),
            rate,
            origins: Vec::new(),
            digits: String::new(),
            timestamps: Vec::new(),
            markers: 0,
            last: (0, 0, 0),
        }
    }

    fn renegotiate(&mut self, agreed: &Negotiated) {
        let there = Negotiated { remote_rtp: HERE, remote_rtcp: SocketAddr::new(HERE.ip(), 4001), ..agreed.clone() };
        self.there.renegotiate(there, self.now);
        self.here.renegotiate(agreed.clone(), self.now);
        self.rate = agreed.codec.rate();
    }

    /// Queues so many milliseconds of a tone, at 24 kHz as an agent does.
    fn say(&mut self, hertz: f64, ms: usize) {
        let step = std::f64::consts::TAU * hertz / 24_000.0;
        let samples: Vec<i16> = (0..ms * 24).map(|at| (8000.0 * (at as f64 * step).sin()) as i16).collect();
        self.here.play(Speech::Samples(SampleRate::Hz24000, &samples), self.now).expect("room");
    }

    /// Queues a buzz whose pitch changes in syllables.
    fn say_voice(&mut self, ms: usize) {
        let (mut phase, mut samples) = (0.0f32, Vec::new());
        for at in 0..ms * 16 {
            let syllable = (at / 1440) as u32;
            phase += (100 + syllable * 37 % 110) as f32 / 16_000.0;
            let sum: f32 = (1..20).map(|k| (std::f32::consts::TAU * phase * k as f32).sin() / k as f32).sum();
            samples.push((sum * 3000.0) as i16);
        }
        self.here.play(Speech::Samples(SampleRate::Hz16000, &samples), self.now).expect("room");
    }

    /// Time passes; packets whose sequence number `arrives` does not want are lost.
    fn run(&mut self, ms: u64, arrives: impl Fn(u16) -> bool) {
        let mut packet = [0; 2048];
        for _ in 0..ms {
            while let Some(transmit) = self.here.poll_transmit(&mut packet, self.now) {
                let packet = &packet[..transmit.bytes];
                if transmit.channel == Channel::Rtcp {
                    continue;
                }
                let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().expect("four bytes"));
                let sequence = u16::from_be_bytes([packet[2], packet[3]]);
                if self.here.sent_audio(packet).is_some() {
                    self.timestamps.push(word(4));
                    self.markers += usize::from(packet[1] & 0x80 != 0);
                }
                self.last = (sequence, word(4), word(8));
                if arrives(sequence) {
                    self.there.handle_rtp(HERE, packet, self.now);
                }
            }
            self.listen();
            self.now += Duration::from_millis(1);
        }
    }

    fn listen(&mut self) {
        while let Some(heard) = self.there.poll_heard(self.now) {
            match heard {
                Heard::Audio(frame) => {
                    assert_eq!(frame.rate, self.rate);
                    self.heard.extend_from_slice(frame.samples);
                    self.origins.push(frame.origin);
                }
                Heard::Digit(digit) => self.digits.push(digit),
                Heard::Held(_) => panic!("held"),
            }
        }
    }

    /// What was heard behind so many milliseconds.
    fn heard_since(&self, ms: usize) -> Vec<i16> {
        self.heard[(ms * self.rate.tick_samples() * 8).min(self.heard.len())..].to_vec()
    }
}

/// How much of the sound is the tone, 0 to 1.
fn share(samples: &[i16], codec: Codec, hertz: f64) -> f64 {
    let step = std::f64::consts::TAU * hertz / f64::from(codec.rate().hertz());
    // In stretches of 100 ms, since a change of codec may move the phase.
    let length = codec.rate().hertz() as usize / 10;
    let (mut tone, mut whole) = (0.0, 1.0);
    for stretch in samples.chunks_exact(length) {
        let (mut sines, mut cosines) = (0.0, 0.0);
        for (at, sample) in stretch.iter().enumerate() {
            let (sine, cosine) = (at as f64 * step).sin_cos();
            sines += f64::from(*sample) * sine;
            cosines += f64::from(*sample) * cosine;
            whole += f64::from(*sample).powi(2);
        }
        tone += 2.0 * (sines * sines + cosines * cosines) / length as f64;
    }
    tone / whole
}
