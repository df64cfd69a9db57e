//! What keys and recordings cost a frame of 20 ms: `cargo bench -p talkstack-media --bench digits`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use talkstack_media::audio::dtmf::{DtmfDetector, DtmfGenerator, TONE};
use talkstack_media::audio::ogg_opus::OggOpus;
use talkstack_media::audio::recording::{BLOCK_VALUES, Block, Origin, Recording};

fn main() {
    println!("{:<44} {:>10}", "a frame of 20 ms", "ns");
    for sample_rate in [8000, 16_000] {
        let kilohertz = sample_rate / 1000;
        let (speech, keys, silence) = (speech(sample_rate), tones(sample_rate), vec![0; sample_rate as usize / 50]);
        for (what, frames) in [("speech", &speech), ("keys", &keys), ("silence", &silence)] {
            let mut detector = DtmfDetector::new(sample_rate);
            let nanoseconds = best(frames, sample_rate, |frame| detector.handle_audio(frame));
            while detector.poll_digit().is_some() {}
            println!("{:<44} {nanoseconds:>10.0}", format!("detector, {what} at {kilohertz} kHz"));
        }
        println!(
            "{:<44} {:>10.0}",
            format!("recording, three tracks at {kilohertz} kHz"),
            record(&speech, sample_rate)
        );
        let mut stream = OggOpus::new(2, sample_rate, 1, &mut Vec::new()).expect("made");
        let mut pages = Vec::new();
        let stereo: Vec<i16> = speech.iter().flat_map(|sample| [*sample, sample / 2]).collect();
        let nanoseconds = best(&stereo, sample_rate * 2, |frame| {
            pages.clear();
            stream.write(frame, &mut pages);
        });
        println!("{:<44} {nanoseconds:>10.0}", format!("Opus in Ogg, both sides at {kilohertz} kHz"));
    }
}

/// A call of both sides and an agent, its blocks given out.
fn record(speech: &[i16], sample_rate: u32) -> f64 {
    let start = Instant::now();
    let mut recording = Recording::new(sample_rate);
    recording.start(start);
    let mut block: Box<Block> = Box::new([0; BLOCK_VALUES]);
    let mut ticks = 0u64;
    best(speech, sample_rate, |frame| {
        let now = start + Duration::from_micros(ticks * 125);
        recording.handle_heard(frame, Origin::Arrived, now);
        recording.handle_said(ticks, ticks + 160, now);
        recording.handle_sent(frame, ticks as u32, now);
        recording.handle_played(frame, ticks);
        while recording.poll_block(&mut block, now).is_some() {
            black_box(&block);
        }
        ticks += 160;
    })
}

/// Nanoseconds a frame, the best of five rounds: what else the machine does only adds.
fn best(samples: &[i16], sample_rate: u32, mut work: impl FnMut(&[i16])) -> f64 {
    let frame = sample_rate as usize / 50;
    let rounds = (0..5).map(|_| {
        let begin = Instant::now();
        let mut frames = 0;
        while frames < FRAMES {
            for frame in samples.chunks_exact(frame) {
                work(black_box(frame));
                frames += 1;
            }
        }
        begin.elapsed().as_nanos() as f64 / f64::from(frames)
    });
    rounds.fold(f64::MAX, f64::min)
}

/// A buzz that glides under an envelope, a second of it.
fn speech(sample_rate: u32) -> Vec<i16> {
    let mut phase = 0.0f64;
    let sample = |at: u32| {
        let time = f64::from(at) / f64::from(sample_rate);
        phase += (120.0 + 30.0 * (time * 3.0).sin()) / f64::from(sample_rate);
        let harmonic = |number: u32| (phase * std::f64::consts::TAU * f64::from(number)).sin() / f64::from(number);
        ((1..=12).map(harmonic).sum::<f64>() * (0.6 + 0.4 * (time * 20.0).sin()) * 6000.0) as i16
    };
    (0..sample_rate).map(sample).collect()
}

fn tones(sample_rate: u32) -> Vec<i16> {
    let mut generator = DtmfGenerator::new(sample_rate);
    "159D24".chars().for_each(|key| assert!(generator.press(key, TONE)));
    let mut samples = vec![0; sample_rate as usize];
    generator.fill(&mut samples);
    samples
}

/// 5,000 frames: 100 s of a call.
const FRAMES: u32 = 5000;
