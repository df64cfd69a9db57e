use std::net::SocketAddr;
use std::time::{Duration, Instant};

use talkstack_control::port::{Blame, CallEvent, CallId, CollectOrder, EndReason, Outcome};
use talkstack_media::audio::recording::{BLOCK_VALUES, Block};
use talkstack_media::session::Pressed;

use super::*;
use crate::call::tests::limits;
use crate::call::{LegAddress, LegId, Offer};
use crate::route::Plan;

#[test]
fn a_recording_has_both_sides_and_the_agent_and_none_of_it_while_it_is_paused() {
    let mut bench = Bench::new(Plan::attendant(), 0);
    bench.talk(100);
    bench.call.pause_recording(true, bench.now);
    bench.call.pause_recording(true, bench.now);
    bench.talk(100);
    bench.call.pause_recording(false, bench.now);
    bench.talk(100);
    bench.call.hang_up(Outcome::new(Blame::Operator, EndReason::HungUp));
    bench.settle();
    let loud = |samples: &mut dyn Iterator<Item = i16>| samples.filter(|sample| sample.unsigned_abs() > 1000).count();
    let side = |track: usize, from: usize, to: usize| {
        loud(&mut bench.sides.iter().copied().skip(track).step_by(2).skip(from).take(to - from))
    };
    // Six seconds, the middle two of them paused; the caller and the prompt go on all the time.
    for (from, to, has_sound) in [(0, 16_000, true), (16_400, 31_600, false), (32_400, 47_000, true)] {
        let (heard, sent) = (side(0, from, to), side(1, from, to));
        let said = loud(&mut bench.said[from..to].iter().copied());
        assert!([heard, sent, said].iter().all(|loud| (*loud > 500) == has_sound), "{from}: {heard}, {sent}, {said}");
        // An agent that has nothing to catch up on is recorded as it is heard.
        assert!(said.abs_diff(sent) < 200, "{said} and {sent}");
    }
    let told = |event: &CallEvent| bench.outputs.iter().filter(|it| **it == CallOutput::Record(event.clone())).count();
    assert_eq!(told(&CallEvent::RecordingPaused { at_ms: 2000 }), 1, "a second time it changes nothing");
    assert_eq!(told(&CallEvent::RecordingResumed { at_ms: 4000 }), 1);
}

#[test]
fn what_is_collected_from_the_caller_is_not_recorded_and_the_owner_s_own_pause_outlives_it() {
    let order = CollectOrder { keys_max: 1, finish_key: None, first_within_s: 1, next_within_s: 1 };
    for (pauses, is_paused_behind) in [(None, false), (Some(true), true), (Some(false), false)] {
        let mut bench = Bench::new(Plan::Echo, 0);
        bench.talk(100);
        bench.call.collect(order, bench.now);
        bench.talk(25);
        if let Some(pauses) = pauses {
            bench.call.pause_recording(pauses, bench.now);
        }
        bench.talk(125);
        bench.call.hang_up(Outcome::new(Blame::Operator, EndReason::HungUp));
        bench.settle();
        let loud = |from: usize, to: usize| {
            let left = bench.sides.iter().step_by(2).skip(from).take(to - from);
            left.filter(|sample| sample.unsigned_abs() > 1000).count()
        };
        assert!(loud(0, 15_000) > 1000);
        assert_eq!(loud(16_400, 23_600), 0, "while keys are collected");
        assert_eq!(loud(25_000, 39_000) == 0, is_paused_behind, "{pauses:?}");
        let told = |event: &CallEvent| bench.outputs.contains(&CallOutput::Record(event.clone()));
        assert!(told(&CallEvent::RecordingPaused { at_ms: 2000 }));
        assert_eq!(told(&CallEvent::RecordingResumed { at_ms: 3000 }), !is_paused_behind);
    }
}

#[test]
fn a_wideband_line_is_recorded_wide() {
    let mut bench = Bench::new(Plan::attendant(), 9);
    bench.talk(100);
    assert_eq!(bench.call.recorded_rate(), 16_000);
    // Two seconds at 16 kHz, less what waits for its block.
    assert!((22_000..=32_000).contains(&(bench.sides.len() / 2)), "{} samples", bench.sides.len() / 2);
    assert!(bench.said.iter().any(|sample| sample.unsigned_abs() > 1000));
}

#[test]
fn keys_do_not_stand_in_a_recording_whichever_way_they_go() {
    let mut bench = Bench::new(Plan::Echo, 0);
    bench.word = 0xff;
    bench.talk(50);
    // The caller's phone sends the tone beside its events: 0x10 is loud.
    bench.word = 0x10;
    let from = bench.timestamp;
    for step in 1..=40u16 {
        let [high, low] = (step * 160).to_be_bytes();
        bench.send(101, from, &[5, 0x0a, high, low]);
        bench.talk(1);
    }
    bench.send(101, from, &[5, 0x8a, 25, 0]);
    bench.word = 0xff;
    if let Some(session) = &mut bench.call.leg.session {
        assert_eq!(session.press('9', Duration::from_millis(160)), Pressed::OnTheLine, "and one of ours");
    }
    bench.talk(100);
    let loud = bench.sides.iter().filter(|sample| sample.unsigned_abs() > 1000).count();
    assert!(bench.sides.len() > 2 * 16_000 && loud == 0, "{loud} loud samples of {}", bench.sides.len());
}

/// A recorded call in virtual time, and what is recorded of it.
struct Bench {
    call: Call,
    now: Instant,
    outputs: Vec<CallOutput>,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    /// What the caller's packets are made of.
    word: u8,
    block: Box<Block>,
    sides: Vec<i16>,
    said: Vec<i16>,
}

impl Bench {
    fn new(plan: Plan, payload_type: u8) -> Self {
        let now = Instant::now();
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\nc=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP {payload_type} 101\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"
        );
        let offer = Offer {
            sdp: Some(sdp.as_bytes()),
            local: LegAddress { host: [10, 0, 0, 2].into(), port: 10_000 },
            signalling: [10, 0, 0, 1].into(),
            security: Default::default(),
        };
        let mut call = Call::new(CallId(1), plan, offer, limits(), 7, now);
        call.record();
        Bench {
            call,
            now,
            outputs: Vec::new(),
            payload_type,
            sequence: 0,
            timestamp: 0,
            word: 0x10,
            block: Box::new([0; BLOCK_VALUES]),
            sides: Vec::new(),
            said: Vec::new(),
        }
    }

    /// The caller sends so many packets of 20 ms.
    fn talk(&mut self, packets: u32) {
        for _ in 0..packets {
            self.send(self.payload_type, self.timestamp, &[self.word; 160]);
            self.timestamp += 160;
            let end = self.now + Duration::from_millis(20);
            while self.now < end {
                self.call.handle_timeout(self.now);
                self.settle();
                self.now += Duration::from_millis(1);
            }
        }
    }

    fn send(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) {
        let mut packet = vec![0x80, payload_type];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend([1, 2, 3, 4]);
        packet.extend(payload);
        self.sequence += 1;
        self.call.handle_rtp(LegId::First, SocketAddr::from(([10, 0, 0, 1], 4000)), &packet, self.now);
    }

    fn settle(&mut self) {
        let mut packet = [0; 2048];
        while self.call.poll_transmit(&mut packet, self.now).is_some() {}
        self.outputs.extend(std::iter::from_fn(|| self.call.poll_output()));
        while let Some(count) = self.call.poll_recorded(&mut self.block, self.now) {
            self.sides.extend_from_slice(&self.block[..count * 2]);
            self.said.extend_from_slice(&self.block[count * 2..count * 3]);
        }
    }
}
