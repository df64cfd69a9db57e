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
            line.receiver.renumber(payload_types());
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
    assert_eq!(line.receiver.poll_timeout(), Some(line.now + WAIT_MIN));
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
    assert_eq!(line.receive(2, 320, 0), Err(Rejected::Duplicate));
    assert_eq!(line.receive(0, 0, 0), Err(Rejected::Duplicate));
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
    line.receiver.renumber(PayloadTypes {
        audio: Numbered::alike(8),
        codec: Codec::Pcma,
        telephone_event: Some(Numbered::alike(96)),
        ..payload_types()
    });
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
    assert_eq!(line.poll(), [Received::Missing(160); 5]);
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
fn the_wait_follows_the_jitter_so_that_nothing_is_concealed_that_still_comes() {
    let mut late_at_first = 0;
    for seed in 1..=20u32 {
        // Up to 100 ms a packet, each on its own: most overtake.
        let mut network = Network { jitter_ms: 100, loss_percent: 0, ..Network::new(seed) };
        let mut line = Line::new();
        line.run(network.schedule(500), 0, 20);
        let before = *line.receiver.tally();
        line.run(network.schedule(5000), 500, 20);
        let after = *line.receiver.tally();
        let given_up = after.given_up - before.given_up;
        assert!(given_up <= 50, "seed {seed}: {given_up} of 5,000 packets were given up");
        late_at_first += before.late;
        let wait = line.receiver.timing().wait();
        assert!(wait <= Duration::from_millis(150), "seed {seed}: {wait:?}");
        let mut calm = Network { jitter_ms: 0, loss_percent: 0, ..Network::new(seed) };
        line.run(calm.schedule(3000), 5500, 20);
        assert_eq!(line.receiver.timing().wait(), WAIT_MIN, "seed {seed}: after a minute of calm");
    }
    assert!(late_at_first > 20, "{late_at_first} packets were late before the wait was raised");
}

#[test]
fn every_packet_of_any_network_is_counted_once_as_what_became_of_it() {
    for seed in 1..=50u32 {
        let mut network = Network { jitter_ms: u64::from(seed) * 4, loss_percent: seed % 21, ..Network::new(seed) };
        let (arrivals, mut line) = (network.schedule(3000), Line::new());
        let offered = arrivals.len() as u64;
        line.run(arrivals, 0, 20);
        line.pass(1000);
        line.poll();
        let tally = *line.receiver.tally();
        assert_eq!(tally.received + tally.late + tally.duplicates, offered, "seed {seed}: {tally:?}");
        // What was expected is what was there and what was not, but for the ends.
        let expected = tally.received + tally.given_up;
        assert!(expected.abs_diff(3000) <= 25, "seed {seed}: {expected} packets were expected");
        let lost = network.lost.abs_diff(tally.lost());
        assert!(lost <= 25, "seed {seed}: {} packets were lost, and {} were found to be", network.lost, tally.lost());
        let concealed = tally.concealed.abs_diff(tally.given_up * 160);
        assert!(concealed <= 30 * 160, "seed {seed}: {concealed} units are neither lost nor concealed");
    }
}

#[test]
fn an_hour_of_a_clock_that_is_off_delays_nothing_and_silence_is_told_in_time() {
    for ppm in [-200i64, 200] {
        let mut line = Line::new();
        let (mut heard, mut held_back) = (0u64, 0u64);
        let packets = 3600 * 50;
        for at in 0..packets {
            let sent_us = (i128::from(at) * 20_000 * i128::from(1_000_000 - ppm) / 1_000_000) as u64;
            line.now = line.start + Duration::from_micros(sent_us);
            line.receive(at as u16, (at * 160) as u32, 0).expect("taken");
            let received = line.poll();
            held_back += u64::from(received != [Received::Audio]);
            heard += received.len() as u64;
        }
        assert_eq!((held_back, heard), (0, packets), "{ppm} ppm");
        // The line breaks: 60 ms behind its last audio there is silence, whatever the far clock was ahead by.
        line.pass(20 + 60);
        assert_eq!(line.poll().len(), 1, "{ppm} ppm");
        line.pass(920);
        assert_eq!(line.poll().len(), 46, "{ppm} ppm");
    }
}

#[test]
fn silence_that_stood_in_for_late_audio_is_saved_where_it_is_quiet() {
    let mut line = Line::new();
    line.arrive(0);
    assert!(!line.receiver.save(160), "nothing to make up for");
    line.pass(20 + 60 + 40);
    assert_eq!(line.poll(), [Received::Missing(160); 3]);
    for at in 1..=6 {
        assert_eq!(line.arrive(at), [Received::Audio], "late by less than 200 ms");
    }
    assert!(line.receiver.save(320));
    assert!(line.receiver.save(160));
    assert!(!line.receiver.save(160), "all is made good");
}

#[test]
fn a_packet_that_comes_late_is_told_from_one_that_was_there() {
    let mut line = Line::new();
    for at in [0, 1, 3, 4] {
        line.receive(at, u32::from(at) * 160, 0).expect("taken");
    }
    line.pass(60);
    assert_eq!(line.poll().len(), 5);
    assert_eq!(line.receive(2, 320, 0), Err(Rejected::Late));
    assert_eq!(line.receive(2, 320, 0), Err(Rejected::Duplicate));
    assert_eq!(line.receive(1, 160, 0), Err(Rejected::Duplicate));
    let tally = line.receiver.tally();
    assert_eq!((tally.received, tally.late, tally.duplicates, tally.lost()), (4, 1, 2, 0));
    assert_eq!(tally.concealed, 160);
}

#[test]
fn sources_that_change_and_timestamps_that_jump_leave_the_sound_going() {
    for seed in 1..=50u32 {
        let (mut line, mut random) = (Line::new(), seed.wrapping_mul(2_654_435_761) | 1);
        let (mut sequence, mut timestamp, mut heard, mut sent) = (0u16, 0u32, 0, 0);
        for step in 0..2000u32 {
            match next(&mut random) % 200 {
                0 => line.ssrc = next(&mut random),
                1 => sequence = next(&mut random) as u16,
                2 => timestamp = next(&mut random),
                _ => {}
            }
            sent += 1;
            let _ = line.receive(sequence, timestamp, 0);
            let received = line.poll();
            assert!(received.len() <= 40, "seed {seed}, step {step}: {} stretches at once", received.len());
            heard += received.iter().filter(|received| **received == Received::Audio).count();
            (sequence, timestamp) = (sequence.wrapping_add(1), timestamp.wrapping_add(160));
            line.pass(20);
        }
        assert!(heard >= sent * 95 / 100, "seed {seed}: {heard} of {sent} packets were heard");
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

fn payload_types() -> PayloadTypes {
    PayloadTypes {
        audio: Numbered::alike(0),
        codec: Codec::Pcmu,
        telephone_event: Some(Numbered::alike(101)),
        comfort_noise: Some(13),
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
        let receiver = Receiver::new(payload_types());
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

    /// Receives what a network delivers, its first packet being number `first`; each lasts `packet_ms`.
    fn run(&mut self, arrivals: Vec<(u64, u16)>, first: u16, packet_ms: u64) {
        let begin = u64::from(first) * packet_ms;
        for (at_ms, number) in arrivals {
            while self.elapsed_ms() < begin + at_ms {
                self.pass(1);
                self.poll();
            }
            let sequence = first + number;
            let _ = self.receive(sequence, u32::from(sequence) * 160, 0);
            self.poll();
        }
    }

    fn count(&mut self, audio: &mut usize) -> usize {
        self.poll()
            .into_iter()
            .map(|received| match received {
                Received::Audio => {
                    *audio += 1;
                    160
                }
                Received::Lost(units)
                | Received::Pause(units)
                | Received::Missing(units)
                | Received::Silence(units) => units,
                Received::Digit(_) => 0,
            })
            .sum()
    }
}

/// Loses packets, doubles 1 %, delays each on its own.
struct Network {
    random: u32,
    jitter_ms: u64,
    loss_percent: u32,
    /// Packets that were lost.
    lost: u64,
}

impl Network {
    /// 5 % are lost; the others take up to 40 ms.
    fn new(seed: u32) -> Self {
        Network { random: seed.wrapping_mul(2_654_435_761) | 1, jitter_ms: 40, loss_percent: 5, lost: 0 }
    }

    /// When which packets arrive, in milliseconds from the first.
    fn schedule(&mut self, packets: u16) -> Vec<(u64, u16)> {
        let mut arrivals = Vec::new();
        for sequence in 0..packets {
            let sent = u64::from(sequence) * 20;
            if next(&mut self.random) % 100 < self.loss_percent {
                self.lost += 1;
                continue;
            }
            arrivals.push((sent + self.delay(), sequence));
            if next(&mut self.random).is_multiple_of(100) {
                arrivals.push((sent + self.delay(), sequence));
            }
        }
        arrivals.sort_unstable();
        arrivals
    }

    fn delay(&mut self) -> u64 {
        u64::from(next(&mut self.random)) % self.jitter_ms.max(1)
    }
}

fn next(random: &mut u32) -> u32 {
    *random ^= *random << 13;
    *random ^= *random >> 17;
    *random ^= *random << 5;
    *random
}
