use super::*;

#[test]
fn a_marker_on_each_side_lands_within_20_ms_of_its_place_for_an_hour_of_jitter_loss_and_drift() {
    for (drift_ppm, jitter_ms) in [(0i64, 0u64), (200, 0), (-200, 0), (200, 40), (-200, 40), (0, 60)] {
        let mut bench = Bench::new();
        bench.run(drift_ppm, jitter_ms, 3600);
        let worst = bench.worst_ms();
        assert!(worst <= 20.0, "{drift_ppm} ppm and {jitter_ms} ms of jitter: {worst} ms off");
        assert!(bench.marks >= 700, "{} marks were found", bench.marks);
    }
}

#[test]
fn silence_is_kept_on_both_sides_and_the_tracks_stay_where_they_are() {
    let mut bench = Bench::new();
    bench.drain_to(2_000);
    bench.hear(2_000, MARK);
    bench.send(2_000, MARK);
    // Hold, or nobody there: 30 s of nothing at all.
    bench.drain_to(32_000);
    bench.hear(32_000, MARK);
    bench.send(32_000, MARK);
    bench.drain_to(33_000);
    for track in [LEFT, RIGHT] {
        assert_eq!(bench.marks_of(track), [16_000, 256_000], "track {track}");
    }
}

#[test]
fn made_up_silence_gives_way_to_what_it_stood_for() {
    let mut bench = Bench::new();
    for step in 0..10 {
        bench.hear(step * 20, 100);
    }
    // Nothing for 100 ms: the receiver makes silence up, and then the packets come after all, all at once.
    bench.recording.handle_heard(&[0; 800], Origin::Silence, bench.at(300));
    for _ in 0..5 {
        bench.hear(300, MARK);
    }
    bench.hear(320, 100);
    bench.drain_to(1000);
    let first = bench.marks_of(LEFT)[0];
    assert!(first.abs_diff(1600) <= 160, "the burst begins at {first}");
    assert_eq!(bench.left().iter().filter(|sample| **sample == MARK).count(), 800, "none of it was lost");
}

#[test]
fn what_the_playout_clears_never_stands_in_the_recording_and_the_rest_stays_in_place() {
    let mut bench = Bench::new();
    let mut timestamp = u32::MAX - 500;
    for step in 0..500u64 {
        // Barge-in every second: the timestamps go on with the wall clock behind a pause of 100 ms.
        if step % 50 >= 5 {
            let value = if step % 50 == 5 { MARK } else { 100 };
            bench.recording.handle_sent(&[value; 160], timestamp, bench.at(step * 20));
        }
        timestamp = timestamp.wrapping_add(160);
        bench.drain_to(step * 20);
    }
    bench.drain_to(11_000);
    let expected: Vec<u64> = (0..10).map(|second| (second * 50 + 5) * 160).collect();
    assert_eq!(bench.marks_of(RIGHT), expected);
}

#[test]
fn the_end_gives_out_what_is_left_and_nothing_is_taken_before_the_answer() {
    let start = Instant::now();
    let mut recording = Recording::new(8000);
    let mut block = [0; BLOCK_VALUES];
    recording.handle_heard(&[1; 160], Origin::Arrived, start);
    assert_eq!(recording.poll_block(&mut block, start + Duration::from_secs(9)), None);
    recording.start(start);
    recording.handle_sent(&[2; 160], 0, start);
    recording.handle_heard(&[1; 160], Origin::Arrived, start + Duration::from_millis(20));
    recording.finish();
    assert_eq!(recording.poll_block(&mut block, start), Some(320));
    assert_eq!(block[..4], [0, 2, 0, 2]);
    assert_eq!(block[636..640], [1, 0, 1, 0]);
    assert_eq!(recording.poll_block(&mut block, start), None);
}

#[test]
fn a_recording_that_nobody_fetches_holds_what_may_be_pending() {
    let mut bench = Bench::new();
    for step in 0..500 {
        bench.hear(step * 20, 100);
    }
    bench.drain_to(10_000);
    let sound = bench.left().iter().filter(|sample| **sample != 0).count() as u64;
    assert!((PENDING_TICKS - 160..=PENDING_TICKS).contains(&sound), "{sound} samples");
}

#[test]
fn a_wideband_line_is_recorded_at_16_khz_on_the_same_clock() {
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let mut recording = Recording::new(16_000);
    assert_eq!(recording.sample_rate(), 16_000);
    recording.start(start);
    let (mut out, mut block) = (Vec::new(), [0; BLOCK_VALUES]);
    for step in 0..500u64 {
        let value = if step == 200 { MARK } else { 100 };
        recording.handle_sent(&[value; 320], (step * 160) as u32, at(step * 20));
        recording.handle_heard(&[value; 320], Origin::Arrived, at(step * 20 + step * 7 % 13));
        while let Some(count) = recording.poll_block(&mut block, at(step * 20)) {
            out.extend_from_slice(&block[..count * 2]);
        }
    }
    for track in [LEFT, RIGHT] {
        let first = out.iter().skip(track).step_by(2).position(|sample| *sample == MARK).expect("a mark");
        // 4 s; what is heard is placed by its arrival, within 20 ms.
        assert!(first.abs_diff(64_000) <= 320, "track {track}: {first}");
    }
}

#[test]
fn the_agent_s_track_has_each_word_where_the_agent_delivered_it() {
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let mut recording = Recording::new(8000);
    recording.start(start);
    // 400 ms of speech at once after a second; it leaves 40 ms later, behind a cushion.
    recording.handle_said(0, 3200, at(1000));
    // And 200 ms more while that is said: they follow on. They leave late, behind a key of 240 ms.
    recording.handle_said(3200, 4800, at(1200));
    let (mut said, mut block) = (Vec::new(), [0; BLOCK_VALUES]);
    let mut drain = |recording: &mut Recording, now| {
        while let Some(count) = recording.poll_block(&mut block, now) {
            assert!(block[..count * 2].iter().all(|sample| *sample == 0), "the sides have nothing");
            said.extend_from_slice(&block[count * 2..count * 3]);
        }
    };
    for frame in 0..30u64 {
        let leaves = at(1040 + frame * 20 + if frame >= 20 { 240 } else { 0 });
        drain(&mut recording, leaves);
        recording.handle_played(&[if frame < 20 { 5 } else { 6 }; 160], frame * 160);
    }
    // The caller interrupts: what comes next begins where it is delivered.
    recording.handle_said(4800, 80_000, at(2000));
    recording.handle_cleared(at(2100));
    recording.handle_said(80_000, 80_160, at(2600));
    drain(&mut recording, at(2600));
    recording.handle_played(&[7; 160], 80_000);
    drain(&mut recording, at(4000));
    let first = |value: i16| said.iter().position(|sample| *sample == value).expect("said");
    assert_eq!((first(5), first(6), first(7)), (8000, 11_200, 20_800));
    assert_eq!(said.iter().filter(|sample| **sample == 6).count(), 1600, "all of it");
}

#[test]
fn silence_stands_for_what_is_said_while_the_recording_is_paused() {
    let mut bench = Bench::new();
    let mut recorded = Recording::new(8000);
    assert_eq!((recorded.pause(bench.start), recorded.resume(bench.start)), (None, None), "not begun");
    recorded.start(bench.start);
    bench.recording = recorded;
    let mut marks = Vec::new();
    for step in 0..250 {
        match step {
            50 => marks.push(bench.recording.pause(bench.at(1000))),
            51 => assert_eq!(bench.recording.pause(bench.at(1020)), None, "paused before"),
            150 => marks.push(bench.recording.resume(bench.at(3000))),
            _ => {}
        }
        bench.hear(step * 20, MARK);
        bench.send(step * 20, MARK);
        bench.recording.handle_said(step * 160, step * 160 + 160, bench.at(step * 20));
        bench.recording.handle_played(&[MARK; 160], step * 160);
        bench.drain_to(step * 20);
    }
    bench.drain_to(6000);
    assert_eq!(marks, [1000, 3000].map(|ms| Some(Duration::from_millis(ms))));
    assert_eq!(bench.recording.resume(bench.at(6000)), None);
    for track in [LEFT, RIGHT] {
        let sounds = |from: usize, to: usize| {
            bench.out.iter().skip(track).step_by(2).skip(from).take(to - from).filter(|it| **it == MARK).count()
        };
        assert_eq!((sounds(0, 8000), sounds(8000, 24_000), sounds(24_000, 40_000)), (8000, 0, 16_000));
    }
    assert_eq!(bench.said.iter().filter(|sample| **sample == MARK).count(), 24_000);
}

const MARK: i16 = 9999;

struct Bench {
    recording: Recording,
    start: Instant,
    out: Vec<i16>,
    said: Vec<i16>,
    given: u64,
    last: [i16; 2],
    worst: u64,
    marks: usize,
    due: [std::collections::VecDeque<u64>; 2],
}

impl Bench {
    fn new() -> Self {
        let start = Instant::now();
        let mut recording = Recording::new(8000);
        recording.start(start);
        Bench {
            recording,
            start,
            out: Vec::new(),
            said: Vec::new(),
            given: 0,
            last: [0; 2],
            worst: 0,
            marks: 0,
            due: Default::default(),
        }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn hear(&mut self, ms: u64, value: i16) {
        self.recording.handle_heard(&[value; 160], Origin::Arrived, self.at(ms));
    }

    fn send(&mut self, ms: u64, value: i16) {
        self.recording.handle_sent(&[value; 160], (ms * 8) as u32, self.at(ms));
    }

    fn drain_to(&mut self, ms: u64) {
        let mut block = [0; BLOCK_VALUES];
        while let Some(count) = self.recording.poll_block(&mut block, self.at(ms)) {
            self.out.extend_from_slice(&block[..count * 2]);
            self.said.extend_from_slice(&block[count * 2..count * 3]);
        }
    }

    fn left(&self) -> Vec<i16> {
        self.out.iter().copied().step_by(2).collect()
    }

    fn marks_of(&self, track: usize) -> Vec<u64> {
        let samples: Vec<i16> = self.out.iter().copied().skip(track).step_by(2).collect();
        (0..samples.len())
            .filter(|&at| samples[at] == MARK && (at == 0 || samples[at - 1] != MARK))
            .map(|at| at as u64)
            .collect()
    }

    /// A call with a mark on each side every five seconds; each packet of the caller comes late by up to `jitter_ms`
    /// and one of a hundred is lost.
    fn run(&mut self, drift_ppm: i64, jitter_ms: u64, seconds: u64) {
        let (mut random, mut block) = (1u32, [0; BLOCK_VALUES]);
        let (mut said, mut arrives) = (0u64, self.start);
        for step in 0..seconds * 50 {
            let now = self.start + Duration::from_millis(step * 20);
            let value = |step: u64| if step % 250 == 125 { MARK } else { 100 };
            if value(step) == MARK {
                self.due[RIGHT].push_back(step * 160);
            }
            self.recording.handle_sent(&[value(step); 160], (step * 160) as u32, now);
            while arrives <= now {
                let is_lost = random % 100 == 0 && value(said) != MARK;
                let origin = if is_lost { Origin::Concealed } else { Origin::Arrived };
                self.recording.handle_heard(&[value(said); 160], origin, arrives);
                said += 1;
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let late_us = u64::from(random >> 16) * jitter_ms * 1000 / 65_536;
                let said_us = (said as i64 * 20_000 * (1_000_000 - drift_ppm) / 1_000_000) as u64;
                if value(said) == MARK {
                    self.due[LEFT].push_back(said_us / 125);
                }
                // In order: the receiver holds back what overtakes.
                arrives = arrives.max(self.start + Duration::from_micros(said_us + late_us));
            }
            while let Some(count) = self.recording.poll_block(&mut block, now) {
                self.judge(&block[..count * 2]);
            }
        }
    }

    fn judge(&mut self, block: &[i16]) {
        for pair in block.chunks_exact(2) {
            for track in [LEFT, RIGHT] {
                if pair[track] == MARK && self.last[track] != MARK {
                    let due = self.due[track].pop_front().expect("a mark that was made");
                    self.worst = self.worst.max(due.abs_diff(self.given));
                    self.marks += 1;
                }
                self.last[track] = pair[track];
            }
            self.given += 1;
        }
    }

    fn worst_ms(&self) -> f64 {
        self.worst as f64 / 8.0
    }
}
