use serde_json::{Value, json};
use talkstack_control::port::{ProviderKind, ProviderRoute};

use super::*;
use crate::agent::websocket::frames::server_frame;

struct Bench {
    trial: Trial,
    now: Instant,
}

impl Bench {
    fn new(kind: ProviderKind, is_asked: bool) -> Self {
        let provider = ProviderRoute::new(kind, "ws://agent/v1", "m");
        let order = AuditionOrder { provider, voice: Some("marin".into()), says: "Hello.".into(), is_asked };
        let now = Instant::now();
        let plan = plan(&order).expect("an address");
        let connected = (Duration::from_millis(80), &b""[..]);
        Bench { trial: Trial::new(&plan, is_asked, vec![9000; 8000], 7, connected, now), now }
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 20 {
            self.now += Duration::from_millis(20);
            self.trial.handle_tick(self.now);
            // The service reads.
            self.trial.outbound().map(Vec::clear);
        }
    }

    fn tell(&mut self, event: Value) {
        self.trial.handle_bytes(&server_frame(0x81, event.to_string().as_bytes()), self.now);
    }

    /// Samples of the plain protocol's.
    fn sound(&mut self, ms: usize) {
        self.trial.handle_bytes(&server_frame(0x82, &vec![1; 32 * ms]), self.now);
    }

    fn set_up(&mut self) {
        self.tell(json!({ "type": "session.created", "session": {} }));
        self.pass(100);
        self.tell(json!({ "type": "session.updated", "session": {} }));
    }

    fn steps(self) -> Vec<(String, Option<bool>, Option<String>, u32)> {
        let (_, audition) = self.trial.finish();
        audition.steps.into_iter().map(|step| (step.step, step.is_ok, step.fault, step.took_ms)).collect()
    }
}

fn good(step: &str, took_ms: u32) -> (String, Option<bool>, Option<String>, u32) {
    (step.into(), Some(true), None, took_ms)
}

#[test]
fn a_provider_that_speaks_and_answers_passes_with_the_time_of_each_step() {
    let mut bench = Bench::new(ProviderKind::Pcm, true);
    bench.pass(400);
    bench.sound(500);
    bench.pass(1200);
    assert!(matches!(bench.trial.stage, Stage::Asking(_)), "it was heard out: {:?}", bench.trial.stage);
    bench.pass(1000);
    assert_eq!(bench.trial.stage, Stage::Answering, "since half a second");
    bench.pass(600);
    bench.sound(20);
    assert!(bench.trial.is_over());
    let (farewell, audition) = bench.trial.finish();
    assert!(!farewell.is_empty(), "it is told goodbye");
    let took: Vec<_> = audition.steps.iter().map(|step| (step.step.as_str(), step.is_ok, step.took_ms)).collect();
    let expected = [("connect", 80), ("session", 0), ("greeting", 400)].map(|(step, took)| (step, Some(true), took));
    assert_eq!(took[..3], expected);
    assert!(took[3].0 == "answer" && took[3].2.abs_diff(1100) <= 20, "{took:?}");
    let wav = base64_simd::STANDARD.decode_to_vec(audition.speech.expect("speech")).expect("Base64");
    assert_eq!(wav.len(), 44 + 2 * 500 * 16, "the greeting at 16 kHz, and nothing of the answer");
    assert_eq!(wav[24..28], 16_000u32.to_le_bytes());
}

#[test]
fn an_agent_that_waits_to_be_spoken_to_is_spoken_to() {
    let mut bench = Bench::new(ProviderKind::Twilio, true);
    bench.pass(4020);
    assert!(matches!(bench.trial.stage, Stage::Asking(_)));
    bench.pass(14_000);
    let steps = bench.steps();
    assert_eq!((steps[2].0.as_str(), steps[2].1), ("greeting", None));
    assert_eq!((steps[3].0.as_str(), steps[3].2.as_deref()), ("answer", Some("silent")));
}

#[test]
fn what_the_provider_says_of_its_error_is_shown() {
    let mut bench = Bench::new(ProviderKind::OpenAiRealtime, true);
    bench.tell(json!({ "type": "session.created", "session": {} }));
    let error = json!({ "type": "invalid_request_error", "code": "session_expired", "message": "No money\nleft." });
    bench.tell(json!({ "type": "error", "error": error }));
    assert!(bench.trial.is_over());
    let (_, audition) = bench.trial.finish();
    let last = audition.steps.last().expect("a step");
    assert_eq!((last.step.as_str(), last.is_ok, last.fault.as_deref()), ("session", Some(false), Some("lost")));
    assert!(last.found.ends_with("No money left. (session_expired)"), "{}", last.found);
}

#[test]
fn a_session_that_never_opens_and_an_agent_that_says_nothing_are_told_apart() {
    let mut late = Bench::new(ProviderKind::OpenAiRealtime, false);
    late.pass(12_000);
    assert_eq!(late.steps()[1..], [("session".into(), Some(false), Some("late".into()), 12_000)]);
    let mut silent = Bench::new(ProviderKind::OpenAiRealtime, false);
    silent.set_up();
    silent.pass(12_000);
    let steps = silent.steps();
    assert_eq!(steps[1], good("session", 100));
    assert_eq!(steps[2], ("greeting".into(), Some(false), Some("silent".into()), 12_000));
    let mut gone = Bench::new(ProviderKind::OpenAiRealtime, false);
    gone.set_up();
    gone.trial.handle_disconnect(gone.now);
    assert_eq!(gone.steps()[2].2.as_deref(), Some("lost"));
}
