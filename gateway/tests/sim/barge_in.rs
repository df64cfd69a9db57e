//! Barge-in by the box, through whole calls: how soon the agent falls silent, what stops it that should not, and how well
//! it is told what was heard.
//!
//! A few dozen trials at each commit; `TALKSTACK_LONG=1 cargo test --release -p talkstack-gateway --test sim barge_in --
//! --nocapture` runs the benchmark, whose table stands in `gateway/src/call/barge_in.rs`.

mod line;
mod sounds;

use std::fmt;
use std::time::{Duration, Instant};

use line::{Echo, Line};
use serde_json::json;
use sounds::{HELD_OUT, Random, Sound, can_speak, cough, prompts, speak};
use talkstack_control::port::BargeIn;
use talkstack_gateway::agent::provider::ServicePlan;
use talkstack_gateway::prompts::Language;

#[test]
fn a_caller_who_interrupts_silences_the_agent_within_150_ms_and_it_is_told_what_was_heard() {
    let callers = sentences();
    let mut random = Random(11);
    let trials: Vec<Trial> = (0..count(50, 1000)).map(|seed| interrupt(seed, &callers, None, &mut random)).collect();
    let figures = Figures::of(&trials);
    println!("no echo: {figures}");
    assert!(figures.p95_ms <= 150 && figures.unheard * 50 <= trials.len(), "{figures}");
    assert!(figures.error_ms_max <= 20, "{figures}");
}

#[test]
fn coughs_and_back_channels_stop_nothing_and_take_nothing_away() {
    let mut random = Random(12);
    let mut sounds: Vec<(String, Vec<f32>)> =
        (0..count(40, 120)).map(|number| (format!("cough {number}"), cough(&mut random))).collect();
    if can_speak() {
        for voice in HELD_OUT.iter().take(if is_long() { 10 } else { 4 }) {
            for (number, text) in voice.listening.into_iter().enumerate() {
                for (pitch, speed) in [(35, 150), (50, 170), (65, 190)].into_iter().take(if is_long() { 3 } else { 1 })
                {
                    sounds.push((format!("{} {number} at {speed}", voice.name), speak(voice.name, pitch, speed, text)));
                }
            }
        }
    } else {
        println!("No espeak-ng: no back-channels.");
    }
    let (mut stopped, mut paused) = (Vec::new(), 0);
    for (seed, (name, samples)) in sounds.iter().enumerate() {
        let agent = &prompts(Language::En)[seed % 4];
        let mut line = Line::new(seed as u64 + 500, None);
        line.run(Duration::from_millis(300));
        line.agent_says(agent);
        let sound = Sound::at(samples, random.within(-30.0, -16.0));
        line.caller_says(&sound, Duration::from_secs_f32(random.within(0.3, 1.5)));
        line.run(Duration::from_secs_f32(agent.len() as f32 / 8000.0 + 6.0));
        paused += usize::from(!line.held.is_empty());
        if line.truncated.is_empty() {
            assert!(line.is_all_said(), "{name}: {} ms of it", line.played_ms());
        } else {
            stopped.push(name.as_str());
        }
    }
    println!("{} of {} stopped the agent, {paused} paused it: {stopped:?}", stopped.len(), sounds.len());
    assert!(stopped.len() * 50 <= sounds.len(), "{stopped:?} of {}", sounds.len());
}

#[test]
fn the_agent_does_not_interrupt_itself() {
    for loss_db in if is_long() { vec![30.0, 20.0, 10.0] } else { vec![20.0] } {
        let (mut turns, mut pauses, mut stops) = (0, 0, 0);
        for (seed, delay_ms) in (0..count(1, 34)).flat_map(|seed| [20, 120, 400].map(|delay_ms| (seed, delay_ms))) {
            let mut line = Line::new(seed + 900, Some(Echo { delay_ms, loss_db }));
            line.run(Duration::from_millis(500));
            for turn in 0..10 {
                let said = &prompts([Language::En, Language::De][turn / 4 % 2])[turn % 4];
                line.agent_says(&said[..said.len().min(24_000)]);
                line.held.clear();
                line.run(Duration::from_secs(4));
                turns += 1;
                pauses += usize::from(!line.held.is_empty());
                stops += std::mem::take(&mut line.truncated).len();
            }
        }
        println!("echo at -{loss_db} dB: {turns} turns, {pauses} paused, {stops} stopped");
        assert!(stops == 0 && (pauses == 0 || loss_db < 20.0), "{pauses} pauses, {stops} stops at -{loss_db} dB");
    }
}

#[test]
fn a_caller_is_heard_through_the_echo() {
    let callers = sentences();
    for loss_db in if is_long() { vec![30.0, 20.0, 10.0] } else { vec![20.0] } {
        for delay_ms in if is_long() { vec![20, 120, 400] } else { vec![120] } {
            let mut random = Random(13);
            let echo = Some(Echo { delay_ms, loss_db });
            let trials: Vec<Trial> =
                (0..count(20, 200)).map(|seed| interrupt(seed, &callers, echo, &mut random)).collect();
            let figures = Figures::of(&trials);
            println!("echo at -{loss_db} dB after {delay_ms} ms: {figures}");
            assert!(loss_db < 20.0 || figures.p95_ms <= 150 && figures.unheard * 50 <= trials.len(), "{figures}");
        }
    }
}

#[test]
fn an_agent_is_stopped_by_whom_its_owner_says() {
    let caller = Sound::at(&prompts(Language::De)[0], -20.0);
    let heard = |set_up: fn(&mut ServicePlan), is_heard_by_provider: bool| {
        let mut line = Line::with(1, None, set_up);
        line.agent_says(&prompts(Language::En).concat());
        line.run(Duration::from_secs(1));
        line.caller_says(&caller, Duration::ZERO);
        if is_heard_by_provider {
            line.tell(&json!({ "type": "input_audio_buffer.speech_started", "item_id": "u", "audio_start_ms": null }));
        }
        line.run(Duration::from_millis(1500));
        (line.spoken.len() > 100, line.truncated.len())
    };
    assert_eq!(heard(|_| {}, false), (false, 1), "the box is usual");
    assert_eq!(heard(|plan| plan.barge_in = BargeIn::Provider, false), (true, 0));
    assert_eq!(heard(|plan| plan.barge_in = BargeIn::Provider, true), (false, 1));
    assert_eq!(heard(|plan| plan.barge_in = BargeIn::Off, false), (true, 0));
    assert!(heard(|plan| plan.barge_in = BargeIn::Off, true).0, "nobody");
    assert!(heard(|plan| plan.protects_greeting = true, true).0, "it discloses something");
}

#[test]
fn only_what_an_agent_opens_with_is_protected() {
    let caller = Sound::at(&prompts(Language::De)[0], -20.0);
    let mut line = Line::with(1, None, |plan| plan.protects_greeting = true);
    for (turn, is_stopped) in [false, true].into_iter().enumerate() {
        line.agent_says(&prompts(Language::En)[0]);
        line.run(Duration::from_millis(500));
        line.caller_says(&caller, Duration::ZERO);
        line.run(Duration::from_secs(8));
        assert_eq!((line.truncated.len(), line.is_all_said()), (usize::from(is_stopped), !is_stopped), "turn {turn}");
    }
}

/// What came of one interruption.
struct Trial {
    /// From the onset to the last packet of the agent's.
    silent_after: Option<Duration>,
    error_ms: Option<u64>,
}

struct Figures {
    p50_ms: u128,
    p95_ms: u128,
    max_ms: u128,
    /// Trials in which the agent spoke on, or was not stopped for good.
    unheard: usize,
    error_ms_max: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { p50_ms, p95_ms, max_ms, unheard, error_ms_max } = self;
        write!(f, "silent after {p50_ms} / {p95_ms} / {max_ms} ms (p50, p95, max), {unheard} unheard, ")?;
        write!(f, "told wrong by {error_ms_max} ms at the most")
    }
}

impl Figures {
    fn of(trials: &[Trial]) -> Self {
        let mut silent: Vec<u128> =
            trials.iter().map(|trial| trial.silent_after.map_or(9999, |it| it.as_millis())).collect();
        silent.sort_unstable();
        Figures {
            p50_ms: silent[silent.len() / 2],
            p95_ms: silent[silent.len() * 95 / 100],
            max_ms: silent[silent.len() - 1],
            unheard: trials.iter().filter(|trial| trial.error_ms.is_none()).count(),
            error_ms_max: trials.iter().filter_map(|trial| trial.error_ms).max().unwrap_or_default(),
        }
    }
}

/// A caller interrupts an agent in the middle of what it says.
fn interrupt(seed: u64, callers: &[Vec<f32>], echo: Option<Echo>, random: &mut Random) -> Trial {
    let said: Vec<f32> = prompts(Language::En).concat();
    let mut line = Line::new(seed, echo);
    line.run(Duration::from_millis(300));
    line.agent_says(&said);
    line.run(Duration::from_secs_f32(random.within(0.8, 2.5)));
    assert!(echo.is_some_and(|echo| echo.loss_db < 20.0) || line.held.is_empty(), "seed {seed}: paused for nobody");
    line.held.clear();
    let caller = &callers[(random.next() * callers.len() as f32) as usize];
    let onset = line.caller_says(&Sound::at(caller, random.within(-28.0, -16.0)), Duration::from_millis(200));
    line.run(Duration::from_secs(3));
    let silence = line.held.iter().find(|at| **at >= onset);
    let last = silence.and_then(|silence| line.spoken.iter().rfind(|at| *at < silence));
    Trial {
        silent_after: last.map(|last: &Instant| last.saturating_duration_since(onset)),
        error_ms: line.truncated.first().map(|told| told.abs_diff(line.played_ms())),
    }
}

/// What callers interrupt with.
fn sentences() -> Vec<Vec<f32>> {
    if !can_speak() {
        println!("No espeak-ng: callers speak in prompts.");
        return prompts(Language::De)
            .into_iter()
            .map(|mut prompt| {
                prompt.truncate(16_000);
                prompt
            })
            .collect();
    }
    let speeds = [(30, 150), (50, 170), (70, 190)];
    let voices = HELD_OUT.iter().take(if is_long() { 10 } else { 3 });
    voices.flat_map(|voice| speeds.map(|(pitch, speed)| speak(voice.name, pitch, speed, voice.sentence))).collect()
}

fn is_long() -> bool {
    std::env::var_os("TALKSTACK_LONG").is_some()
}

fn count(usual: u64, long: u64) -> u64 {
    if is_long() { long } else { usual }
}
