//! The receiver over a line whose packets and clock the tests hold.

use rtp_rs::RtpPacketBuilder;

use super::*;

#[test]
fn packets_in_order_are_released_at_once() {
    let mut line = Line::new();
    for at in 0..5 {
        assert_eq!(line.arrive(at), [Received::Audio]);
        assert_eq!(line.payload, vec![at as u8; 160]);
        line.pass(20);
    }
}

#[test]
fn who_speaks_again_after_a_long_silence_is_heard_at_once() {
    // A clock that went on, one that stood still, and one that stood still on hold.
    for (jump, is_held) in [(20 * 8000, false), (0, true)] {
        let mut line = Line::new();
        line.arrive(0);
        for _ in 0..1000 {
            line.pass(20);
            line.poll();
        }
        if is_held {
            line.receiver.renumber(PayloadTypes { audio: 0, telephone_event: Some(101) });
        }
        for at in 1..=50 {
            line.receive(at, u32::from(at) * 160 + jump, 0).expect("taken");
            let received = line.poll();
            assert!(received.contains(&Received::Audio), "packet {at} after a jump of {jump}: {received:?}");
            line.pass(20);
        }
    }
}

#[test]
fn a_hole_is_waited_for_and_what_fills_it_restores_the_order() {
    let mut line = Line::new();
    line.arrive(0);
    assert_eq!(line.arrive(2), []);
    line.pass(59);
    assert_eq!(line.poll(), []);
    assert_eq!(line.arrive(1), [Received::Audio, Received::Audio]);
    assert_eq!(line.payload, vec![2; 160]);
}

#[test]
fn a_hole_is_concealed_after_60_ms_and_a_late_packet_dropped() {
    let mut line = Line::new();
    line.arrive(0);
    line.arrive(2);
    assert_eq!(line.receiver.poll_timeout(), Some(line.now + HOLE_WAIT));
    line.pass(60);
    assert_eq!(line.poll(), [Received::Lost(160), Received::Audio]);
    assert_eq!(line.receive(1, 160, 0), Err(Rejected::Late));
    assert_eq!(line.arrive(3), [Received::Audio]);
}

#[test]
fn a_duplicate_is_dropped_before_and_after_its_release() {
    let mut line = Line::new();
    line.arrive(0);
    line.arrive(2);
    assert_eq!(line.receive(2, 320, 0), Err(Rejected::Late));
    assert_eq!(line.receive(0, 0, 0), Err(Rejected::Late));
}

#[test]
fn a_timestamp_jump_in_sequence_is_silence_and_not_loss() {
    let mut line = Line::new();
    line.arrive(0);
    line.receive(1, 160 + 800, 0).expect("taken");
    assert_eq!(line.poll(), [Received::Pause(800), Received::Audio]);
}

#[test]
fn a_timestamp_jump_while_no_time_passes_adds_no_more_than_200_ms() {
    let mut line = Line::new();
    line.arrive(0);
    line.pass(20);
    line.receive(1, 160 + 40_000, 0).expect("taken");
    assert_eq!(line.poll(), [Received::Pause(1600), Received::Audio]);
    line.pass(20);
    line.receive(2, 160 + 40_160, 0).expect("taken");
    assert_eq!(line.poll(), [Received::Audio]);
}

#[test]
fn each_hole_waits_its_own_60_ms() {
    let mut line = Line::new();
    line.arrive(0);
    assert_eq!(line.arrive(2), []);
    line.pass(40);
    assert_eq!(line.arrive(4), []);
    line.pass(20);
    assert_eq!(line.poll(), [Received::Lost(160), Received::Audio]);
    line.pass(30);
    assert_eq!(line.arrive(3), [Received::Audio, Received::Audio], "90 ms behind the first, 50 behind its own");
}

#[test]
fn keys_are_heard_on_whatever_timeline_a_new_source_or_sequence_brings() {
    let mut line = Line::new();
    line.receive(0, 3_000_000_000, 0).expect("taken");
    line.press(1, 3_000_000_160);
    assert_eq!(line.poll(), [Received::Audio, Received::Digit('7')]);
    line.ssrc = 2;
    // Behind the last key's timestamp in the modulo, but of another source.
    let _ = line.receive(900, 2_999_990_000, 0);
    line.receive(901, 2_999_990_160, 0).expect("taken");
    line.press(902, 2_999_990_320);
    assert!(line.poll().contains(&Received::Digit('7')));
    // The same source and sequence, but a timestamp base of its own.
    line.receive(903, 9_000, 0).expect("taken");
    line.press(904, 9_160);
    assert!(line.poll().contains(&Received::Digit('7')));
}

#[test]
fn other_payload_types_take_over_in_the_same_stream() {
    let mut line = Line::new();
    line.arrive(0);
    line.receiver.renumber(PayloadTypes { audio: 8, telephone_event: Some(96) });
    line.receive(1, 160, 8).expect("taken");
    assert_eq!(line.poll(), [Received::Audio]);
    line.receive(2, 320, 96).expect("taken");
    assert_eq!(line.poll(), [Received::Digit('2')], "the payload's first byte is its event");
}

#[test]
fn a_line_that_falls_silent_is_filled_in_and_the_surplus_is_saved_from_the_gap() {
    let mut line = Line::new();
    line.arrive(0);
    line.pass(20 + 60 + 20 * 4);
    assert_eq!(line.poll(), [Received::Silence(160); 5]);
    // Speech goes on 200 ms after it stopped; 100 ms of that are written.
    line.receive(1, 160 + 1600, 0).expect("taken");
    assert_eq!(line.poll(), [Received::Pause(800), Received::Audio]);
}

#[test]
fn audio_that_was_held_up_briefly_is_played_and_long_ago_is_dropped() {
    let mut line = Line::new();
    line.arrive(0);
    line.pass(80 + 20 * 19);
    assert_eq!(line.poll().len(), 20);
    // 400 ms of silence stand in; of the backlog that comes at once, 200 ms are dropped.
    let mut played = 0;
    for at in 1..=20 {
        played += line.arrive(at).iter().filter(|received| **received == Received::Audio).count();
    }
    assert_eq!(played, 10);
}

#[test]
fn another_source_takes_over_with_its_second_packet() {
    let mut line = Line::new();
    line.arrive(0);
    line.ssrc = 2;
    assert_eq!(line.receive(700, 9_000, 0), Err(Rejected::Probation));
    assert_eq!(line.receive(900, 9_000, 0), Err(Rejected::Probation));
    assert_eq!(line.receive(901, 9_160, 0), Ok(()));
    assert_eq!(line.poll(), [Received::Audio]);
}

#[test]
fn sequence_and_timestamp_wrap_without_a_trace() {
    let mut line = Line::new();
    for at in 0..10u16 {
        let sequence = 65_531u16.wrapping_add(at);
        let timestamp = (u32::MAX - 799).wrapping_add(u32::from(at) * 160);
        line.receive(sequence, timestamp, 0).expect("taken");
        assert_eq!(line.poll(), [Received::Audio]);
        line.pass(20);
    }
}

#[test]
fn a_key_is_heard_once_and_in_order_and_its_sound_is_muted() {
    let mut line = Line::new();
    line.arrive(0);
    line.event(1, false);
    assert_eq!(line.poll(), [Received::Digit('7')]);
    line.event(2, false);
    assert_eq!(line.poll(), []);
    line.receive(3, 160, 0).expect("taken");
    assert_eq!(line.poll(), [Received::Silence(160)]);
    line.event(4, true);
    line.event(5, true);
    assert_eq!(line.poll(), []);
    line.receive(6, 320, 0).expect("taken");
    assert_eq!(line.poll(), [Received::Audio]);
}

#[test]
fn ten_minutes_of_a_bad_network_add_up_to_ten_minutes() {
    for seed in 1..=20u32 {
        let mut network = Network::new(seed);
        let mut line = Line::new();
        let (mut samples, mut audio) = (0usize, 0usize);
        for (at_ms, sequence) in network.schedule(30_000) {
            while line.elapsed_ms() < at_ms {
                line.pass(1);
                samples += line.count(&mut audio);
            }
            let _ = line.receive(sequence, u32::from(sequence) * 160, 0);
            samples += line.count(&mut audio);
        }
        let elapsed = line.elapsed_ms() as usize * 8;
        assert!(samples.abs_diff(elapsed) < 3200, "seed {seed}: {samples} samples in {elapsed}");
        assert!(audio > 30_000 * 90 / 100, "seed {seed}: only {audio} packets were heard");
    }
}

#[test]
fn hostile_bytes_neither_panic_nor_grow() {
    let mut random = 0x1234_5678u32;
    let mut line = Line::new();
    for _ in 0..20_000 {
        let packet: Vec<u8> = (0..(next(&mut random) % 64) as usize)
            .map(|at| if at == 0 { 0x80 | (next(&mut random) % 64) as u8 } else { (next(&mut random) >> 7) as u8 })
            .collect();
        let _ = line.receiver.handle_packet(&packet, line.now);
        line.pass(u64::from(next(&mut random) % 30));
        assert!(line.poll().len() < 64);
    }
}

struct Line {
    receiver: Receiver,
    payload: Vec<u8>,
    start: Instant,
    now: Instant,
    ssrc: u32,
}

impl Line {
    fn new() -> Self {
        let now = Instant::now();
        let receiver = Receiver::new(PayloadTypes { audio: 0, telephone_event: Some(101) });
        Line { receiver, payload: Vec::new(), start: now, now, ssrc: 1 }
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    fn elapsed_ms(&self) -> u64 {
        (self.now - self.start).as_millis() as u64
    }

    fn receive(&mut self, sequence: u16, timestamp: u32, payload_type: u8) -> Result<(), Rejected> {
        let packet = RtpPacketBuilder::new()
            .payload_type(payload_type)
            .ssrc(self.ssrc)
            .sequence(sequence.into())
            .timestamp(timestamp)
            .payload(&[sequence as u8; 160])
            .build()
            .expect("a packet");
        self.receiver.handle_packet(&packet, self.now)
    }

    fn event(&mut self, sequence: u16, end: bool) {
        let packet = RtpPacketBuilder::new()
            .payload_type(101)
            .ssrc(self.ssrc)
            .sequence(sequence.into())
            .timestamp(160)
            .payload(&[7, if end { 0x8a } else { 0x0a }, 1, 0])
            .build()
            .expect("a packet");
        self.receiver.handle_packet(&packet, self.now).expect("taken");
    }

    /// A whole press of the key 7 in its end packet.
    fn press(&mut self, sequence: u16, timestamp: u32) {
        let packet = RtpPacketBuilder::new()
            .payload_type(101)
            .ssrc(self.ssrc)
            .sequence(sequence.into())
            .timestamp(timestamp)
            .payload(&[7, 0x8a, 3, 32])
            .build()
            .expect("a packet");
        self.receiver.handle_packet(&packet, self.now).expect("taken");
    }

    fn arrive(&mut self, at: u16) -> Vec<Received> {
        self.receive(at, u32::from(at) * 160, 0).expect("taken");
        self.poll()
    }

    fn poll(&mut self) -> Vec<Received> {
        std::iter::from_fn(|| self.receiver.poll_output(&mut self.payload, self.now)).collect()
    }

    fn count(&mut self, audio: &mut usize) -> usize {
        self.poll()
            .into_iter()
            .map(|received| match received {
                Received::Audio => {
                    *audio += 1;
                    160
                }
                Received::Lost(samples) | Received::Pause(samples) | Received::Silence(samples) => samples,
                Received::Digit(_) => 0,
            })
            .sum()
    }
}

/// Loses 5 % of the packets, doubles 1 %, delays each by up to 40 ms.
struct Network(u32);

impl Network {
    fn new(seed: u32) -> Self {
        Network(seed.wrapping_mul(2_654_435_761) | 1)
    }

    fn schedule(&mut self, packets: u16) -> Vec<(u64, u16)> {
        let mut arrivals = Vec::new();
        for sequence in 0..packets {
            let sent = u64::from(sequence) * 20;
            if next(&mut self.0) % 100 < 5 {
                continue;
            }
            arrivals.push((sent + u64::from(next(&mut self.0) % 40), sequence));
            if next(&mut self.0).is_multiple_of(100) {
                arrivals.push((sent + u64::from(next(&mut self.0) % 40), sequence));
            }
        }
        arrivals.sort_unstable();
        arrivals
    }
}

fn next(random: &mut u32) -> u32 {
    *random ^= *random << 13;
    *random ^= *random >> 17;
    *random ^= *random << 5;
    *random
}
