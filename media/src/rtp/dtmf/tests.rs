use rtp_rs::RtpPacketBuilder;

use super::*;
use crate::codec::Codec;
use crate::rtp::receiver::{PayloadTypes, Received, Receiver};
use crate::sdp::Numbered;

#[test]
fn a_press_is_one_digit_whatever_is_lost_or_repeated() {
    // All subsets of a press's packets that keep at least one.
    let press = [(true, 0x0a, 160), (false, 0x0a, 320), (false, 0x8a, 480), (false, 0x8a, 480), (false, 0x8a, 480)];
    for kept in 1..1u32 << press.len() {
        let mut receiver = EventReceiver::default();
        let digits: String = (0..press.len())
            .filter(|at| kept & 1 << at != 0)
            .filter_map(|at| {
                let (marker, flags, duration) = press[at];
                receiver.handle_payload(9000, marker, &payload(5, flags, duration), Instant::now())
            })
            .collect();
        assert_eq!(digits, "5", "kept {kept:#b}");
    }
}

#[test]
fn the_same_key_twice_is_two_digits() {
    let (mut receiver, now) = (EventReceiver::default(), Instant::now());
    assert_eq!(receiver.handle_payload(1000, true, &payload(10, 0x8a, 800), now), Some('*'));
    assert_eq!(receiver.handle_payload(3000, false, &payload(10, 0x0a, 160), now), Some('*'), "its marker was lost");
    assert_eq!(receiver.handle_payload(1000, false, &payload(10, 0x8a, 800), now), None, "a straggler");
}

#[test]
fn a_key_held_past_the_duration_s_range_is_still_one_digit() {
    for (clock_rate, segment_max) in [(8000, 65_440), (8000, 65_535), (48_000, 65_280), (48_000, 65_535)] {
        let (mut receiver, start) = (EventReceiver::new(clock_rate), Instant::now());
        let mut digits = Vec::new();
        for step in 1..=1000u32 {
            // 20 s in updates of 20 ms; segments change when the duration would overflow.
            let units = step * (clock_rate / 50);
            let (segment, duration) = (units / segment_max, units % segment_max);
            let payload = payload(1, 0x0a, duration as u16);
            let now = start + Duration::from_millis(20) * step;
            digits.extend(receiver.handle_payload(500 + segment * segment_max, step == 1, &payload, now));
            assert!(receiver.is_muting(now));
        }
        assert_eq!(digits, ['1'], "segments of {segment_max} at {clock_rate} Hz");
    }
}

#[test]
fn a_press_of_five_seconds_is_one_digit_at_both_clocks_whatever_nine_packets_are_lost() {
    for clock_rate in [8000, 48_000] {
        for lost_from in 0..260 {
            let (mut sender, mut receiver) = (EventSender::new(clock_rate, FRAME), EventReceiver::new(clock_rate));
            assert!(sender.press('7', Duration::from_secs(5)) && sender.press('7', PRESS));
            let (mut digits, mut segments, mut last) = (Vec::new(), Vec::new(), 0);
            let start = Instant::now();
            for frame in 0..300u32 {
                let taken = sender.take(frame * (clock_rate / 50));
                let Some(EventFrame::Packet { payload, timestamp, marker }) = taken else { continue };
                if timestamp != last || segments.is_empty() {
                    segments.push((timestamp, marker));
                    last = timestamp;
                }
                if (lost_from..lost_from + 9).contains(&frame) {
                    continue;
                }
                let now = start + Duration::from_millis(20) * frame;
                digits.extend(receiver.handle_payload(timestamp, marker, &payload, now).map(|key| (key, frame)));
            }
            let keys: String = digits.iter().map(|(key, _)| key).collect();
            assert_eq!(keys, "77", "{clock_rate} Hz, lost from {lost_from}");
            let marked = segments.iter().filter(|(_, marker)| *marker).count();
            // Five seconds are four durations of 48 kHz, of which three are full, and one of 8 kHz.
            assert_eq!((segments.len(), marked), (if clock_rate == 8000 { 2 } else { 5 }, 2));
        }
    }
}

#[test]
fn a_segment_s_full_duration_is_said_three_times_and_the_next_begins_where_it_ended() {
    let mut sender = EventSender::new(48_000, FRAME);
    sender.press('1', Duration::from_secs(3));
    let mut said: Vec<(u32, u16, bool)> = Vec::new();
    for frame in 0..200u32 {
        if let Some(EventFrame::Packet { payload, timestamp, .. }) = sender.take(frame * 960) {
            said.push((timestamp, u16::from_be_bytes([payload[2], payload[3]]), payload[1] & 0x80 != 0));
        }
    }
    for segment in [0u32, 65_535] {
        let full = said.iter().filter(|said| **said == (segment, 65_535, false)).count();
        assert_eq!(full, 3, "the segment of {segment}");
    }
    let ends: Vec<_> = said.iter().filter(|(_, _, is_end)| *is_end).collect();
    assert_eq!(ends, [&(131_070, 12_930, true); 3], "3 s are 144,000 units");
}

#[test]
fn a_key_whose_end_is_lost_is_let_go_after_three_updates() {
    for (interval_ms, patience_ms) in [(20, 60), (50, 150), (200, 300)] {
        let (mut receiver, start) = (EventReceiver::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        for update in 1..=4u64 {
            let payload = payload(1, 0x0a, (update * interval_ms * 8) as u16);
            receiver.handle_payload(0, update == 1, &payload, at(update * interval_ms));
        }
        let last = 4 * interval_ms;
        assert!(receiver.is_muting(at(last + patience_ms - 1)));
        assert!(!receiver.is_muting(at(last + patience_ms)), "updates of {interval_ms} ms");
        // A hole in the updates, and the key is still down.
        receiver.handle_payload(0, false, &payload(1, 0x0a, 6000), at(last + 400));
        assert!(receiver.is_muting(at(last + 410)));
    }
}

#[test]
fn a_source_that_comes_back_with_the_key_still_down_presses_it_once() {
    let (mut receiver, start) = (EventReceiver::default(), Instant::now());
    assert_eq!(receiver.handle_payload(800, true, &payload(3, 0x0a, 160), start), Some('3'));
    let later = start + Duration::from_millis(400);
    receiver.handle_restart(true, later);
    assert_eq!(receiver.handle_payload(800, false, &payload(3, 0x0a, 3200), later), None);
    receiver.handle_restart(false, later);
    assert_eq!(receiver.handle_payload(800, false, &payload(3, 0x0a, 3200), later), Some('3'), "of another source");
}

#[test]
fn what_is_no_key_or_no_event_says_nothing() {
    let (mut receiver, now) = (EventReceiver::default(), Instant::now());
    assert_eq!(receiver.handle_payload(0, true, &payload(16, 0, 160), now), None, "hook flash");
    assert_eq!(receiver.handle_payload(0, true, &[1, 2, 3], now), None, "three bytes");
}

#[test]
fn what_the_sender_sends_the_receiver_reads_once_a_press() {
    let (mut sender, mut receiver, now) = (EventSender::default(), EventReceiver::default(), Instant::now());
    assert!("1*1".chars().all(|key| sender.press(key, PRESS)) && !sender.press('x', PRESS));
    let (mut digits, mut packets, mut pauses) = (String::new(), Vec::new(), 0);
    for frame in 0..50u32 {
        match sender.take(frame * 160) {
            Some(EventFrame::Packet { payload, timestamp, marker }) => {
                digits.extend(receiver.handle_payload(timestamp, marker, &payload, now));
                packets.push((timestamp, payload[1] & 0x80 != 0));
            }
            Some(EventFrame::Pause) => pauses += 1,
            None => {}
        }
    }
    assert_eq!((digits.as_str(), pauses), ("1*1", 6));
    let ends = packets.iter().filter(|(_, is_end)| *is_end).count();
    assert_eq!((packets.len(), ends, packets[29].0), (30, 9, 24 * 160));
    assert!(!sender.is_busy());
}

#[test]
fn whatever_the_packets_length_a_press_has_its_length_and_its_pause() {
    for (frame_ms, packets, pauses) in [(10, 18, 4), (20, 10, 2), (30, 8, 2), (40, 6, 1), (60, 5, 1)] {
        let mut sender = EventSender::new(8000, Duration::from_millis(frame_ms));
        sender.press('1', PRESS);
        let frames: Vec<EventFrame> = std::iter::from_fn(|| sender.take(7)).collect();
        let paused = frames.iter().filter(|frame| **frame == EventFrame::Pause).count();
        assert_eq!((frames.len() - paused, paused), (packets, pauses), "{frame_ms} ms");
        let Some(EventFrame::Packet { payload, .. }) = frames.get(packets - 1) else { panic!("{frames:?}") };
        assert_eq!(payload[..], [1, 0x8a, 5, 0], "1,280 units");
    }
}

#[test]
fn a_flood_of_keys_is_cut_off() {
    let mut sender = EventSender::default();
    let taken = (0..100).filter(|_| sender.press('5', PRESS)).count();
    assert_eq!(taken, PRESSES_MAX);
}

/// 20 of 20 at 10 %, and all of a thousand sequences through loss at random and in bursts.
#[test]
fn a_thousand_sequences_arrive_whole_through_loss() {
    let mut lost = 0;
    for seed in 1..=1000 {
        let loss = if seed % 2 == 0 { Loss::Random(10) } else { Loss::Bursts(1 + seed % 9) };
        let (sent, heard, dropped) = dial(seed, loss, 20);
        assert_eq!(heard, sent, "seed {seed}, {loss:?}");
        lost += dropped;
    }
    assert!(lost > 50_000, "only {lost} packets were lost");
}

#[test]
fn loss_that_no_redundancy_carries_is_seen() {
    // Twelve in a row are more than the ten packets of a press.
    let missed = (1..=50).filter(|seed| {
        let (sent, heard, _) = dial(*seed, Loss::Bursts(14), 20);
        sent != heard
    });
    assert!(missed.count() > 10);
}

#[test]
fn a_long_press_through_a_burst_of_half_a_second_is_one_digit() {
    for lost in 17..120 {
        let (mut sender, start) = (EventSender::default(), Instant::now());
        let mut receiver = Receiver::new(payload_types());
        let (mut keys, mut buffer) = (String::new(), Vec::new());
        sender.press('9', Duration::from_secs(4));
        for frame in 0..300u16 {
            let timestamp = u32::from(frame) * 160;
            let now = start + Duration::from_millis(20) * frame.into();
            let packet = match sender.take(timestamp) {
                Some(EventFrame::Packet { payload, timestamp, marker }) => {
                    build(frame, timestamp, marker, 101, &payload)
                }
                _ => build(frame, timestamp, false, 0, &[0x33; 160]),
            };
            if !(50..50 + lost).contains(&frame) {
                let _ = receiver.handle_packet(&packet, now);
            }
            while let Some(received) = receiver.poll_output(&mut buffer, now) {
                if let Received::Digit(key) = received {
                    keys.push(key);
                }
            }
        }
        assert_eq!(keys, "9", "{lost} packets lost");
    }
}

#[derive(Debug, Clone, Copy)]
enum Loss {
    /// In percent.
    Random(u32),
    /// Packets in a row, with twenty and more between.
    Bursts(u32),
}

impl Loss {
    /// The packets behind this one that are lost.
    fn burst(self, random: &mut u32, since: u32) -> u32 {
        match self {
            Loss::Random(percent) => u32::from(next(random) % 100 < percent),
            Loss::Bursts(packets) if since > 20 && next(random).is_multiple_of(8) => packets,
            Loss::Bursts(_) => 0,
        }
    }
}

/// Dials so many random keys into a stream of audio with a network of loss; what was sent, what was heard, and how many
/// packets were lost. One key in twenty is held for five to twelve seconds.
fn dial(seed: u32, loss: Loss, keys: usize) -> (String, String, u64) {
    let mut random = seed.wrapping_mul(2_654_435_761) | 1;
    let (mut sender, mut sent) = (EventSender::default(), String::new());
    for _ in 0..keys {
        // Few keys, so that many are pressed twice.
        let key = char::from(KEYS[(next(&mut random) % 4) as usize]);
        let held_ms = if next(&mut random).is_multiple_of(20) { 5000 + next(&mut random) % 7000 } else { 160 };
        assert!(sender.press(key, Duration::from_millis(held_ms.into())));
        sent.push(key);
    }
    let mut receiver = Receiver::new(payload_types());
    let (start, mut heard, mut buffer) = (Instant::now(), String::new(), Vec::new());
    let (mut lost, mut burst, mut since) = (0, 0, 0);
    let (mut frame, mut quiet, mut sequence) = (0u32, 0, 0u16);
    // Speech behind the last key too, so that a hole in it is not waited for in vain.
    while quiet < 20 {
        quiet = if sender.is_busy() { 0 } else { quiet + 1 };
        let now = start + Duration::from_millis(20) * frame;
        let timestamp = frame * 160;
        frame += 1;
        // Speech in front, so that the stream stands.
        let event = if frame > 10 { sender.take(timestamp) } else { None };
        let packet = match event {
            None => build(sequence, timestamp, false, 0, &[0x33; 160]),
            Some(EventFrame::Packet { payload, timestamp, marker }) => {
                build(sequence, timestamp, marker, 101, &payload)
            }
            Some(EventFrame::Pause) => continue,
        };
        sequence = sequence.wrapping_add(1);
        if burst == 0 && frame > 10 {
            burst = loss.burst(&mut random, since);
            since = if burst > 0 { 0 } else { since + 1 };
        }
        if burst > 0 {
            (burst, lost) = (burst - 1, lost + 1);
        } else {
            let _ = receiver.handle_packet(&packet, now);
        }
        while let Some(received) = receiver.poll_output(&mut buffer, now) {
            if let Received::Digit(key) = received {
                heard.push(key);
            }
        }
    }
    (sent, heard, lost)
}

fn build(sequence: u16, timestamp: u32, marker: bool, payload_type: u8, payload: &[u8]) -> Vec<u8> {
    let packet = RtpPacketBuilder::new().payload_type(payload_type).ssrc(9).sequence(sequence.into());
    packet.timestamp(timestamp).marked(marker).payload(payload).build().expect("a packet")
}

fn next(random: &mut u32) -> u32 {
    *random ^= *random << 13;
    *random ^= *random >> 17;
    *random ^= *random << 5;
    *random
}

fn payload_types() -> PayloadTypes {
    PayloadTypes {
        audio: Numbered::alike(0),
        codec: Codec::Pcmu,
        telephone_event: Some(Numbered::alike(101)),
        comfort_noise: None,
    }
}

const FRAME: Duration = Duration::from_millis(20);

fn payload(code: u8, flags: u8, duration: u16) -> [u8; 4] {
    let [high, low] = duration.to_be_bytes();
    [code, flags, high, low]
}
