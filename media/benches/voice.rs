//! What listening for voices costs a frame of 20 ms: `cargo bench -p talkstack-media --bench voice`. Figures stand in
//! [`talkstack_media::audio::voice`].

use std::hint::black_box;
use std::time::Instant;

use talkstack_media::audio::frame::SampleRate;
use talkstack_media::audio::resample::Resampler;
use talkstack_media::audio::voice::VoiceDetector;

fn main() {
    println!("{:<44} {:>10}", "a frame of 20 ms", "ns");
    let spoken: Vec<i16> = SPOKEN[44..].as_chunks::<2>().0.iter().map(|pair| i16::from_le_bytes(*pair)).collect();
    for rate in [SampleRate::Hz8000, SampleRate::Hz16000] {
        let mut speech = Vec::new();
        if rate == SampleRate::Hz8000 {
            speech.extend_from_slice(&spoken);
        } else {
            Resampler::new(SampleRate::Hz8000, rate).resample(&spoken, &mut speech);
        }
        let tone = (0..rate.hertz()).map(|at| (4000.0 * (at as f32 * 2800.0 / rate.hertz() as f32).sin()) as i16);
        let silence = vec![0; rate.hertz() as usize];
        for (what, line) in [("speech", &speech), ("a tone", &tone.collect()), ("silence", &silence)] {
            let name = format!("{what} at {} kHz", rate.hertz() / 1000);
            println!("{name:<44} {:>10.0}", measure(rate, line));
        }
    }
}

/// Nanoseconds a frame, the best of ten rounds: what else the machine does only adds.
fn measure(rate: SampleRate, line: &[i16]) -> f64 {
    let frame = rate.hertz() as usize / 50;
    let mut detector = VoiceDetector::new();
    let rounds = (0..10).map(|_| {
        let begin = Instant::now();
        let mut frames = 0;
        while frames < FRAMES {
            for frame in line.chunks_exact(frame) {
                detector.handle_audio(rate, black_box(frame), 0.0);
                black_box(detector.is_voice());
                frames += 1;
            }
        }
        begin.elapsed().as_nanos() as f64 / f64::from(frames)
    });
    rounds.fold(f64::MAX, f64::min)
}

/// The attendant's greeting, 8 kHz behind its header.
static SPOKEN: &[u8] = include_bytes!("../../config/prompts/en/greeting.wav");

/// 2,000 frames: 40 s of a call.
const FRAMES: u32 = 2000;
