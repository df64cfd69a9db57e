//! A cascade: its services by OpenAI's API reference (a strict fake, which OpenAI's own client has been heard by) and real
//! ones of Wyoming, and calls over them.
//!
//! | Services | What is shown |
//! |---|---|
//! | strict fake of transcriptions, chat completions and speech | forms and bodies, streams, connections kept, loading, refusals, cancelling, rates |
//! | OpenAI's Python client 3.57.0 on the fake | that the fake takes and refuses as the client expects |
//! | `wyoming-piper` 2.5.2 with the voice en_US-joe-medium, `wyoming-faster-whisper` 3.8.1 with whisper tiny | a spoken question is written down; in a call it is answered, see [`calls`] |
//! | a Wyoming service that sends garbage, an error, half an answer | what is told of it |
//!
//! Run on 2026-12-01 on two cores that were shared with three compilers: 3.4 s passed from the spoken question's end to the
//! first packet of the answer. `gateway/tests/run` installs the real ones; without them their tests are skipped, and
//! say so.

mod calls;
mod fakes;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use talkstack_gateway::agent::cascade::message::{Failure, Inbound, News, Order};
use talkstack_gateway::io::cascade::{CascadeTarget, Greeting, Greetings, ServiceKeys, ServiceTarget, open};
use talkstack_gateway::io::connect::{AgentStream, AgentUrl, ConnectError, client_config};
use talkstack_media::audio::frame::SampleRate;
use tokio::runtime::Runtime;

use crate::daemon::wait_until;
use fakes::{KEY, OpenAiServices, WyomingServices, python};

#[test]
fn openai_s_services_are_asked_as_their_reference_has_it_over_connections_that_are_kept() {
    let services = OpenAiServices::start(&[]);
    let mut task = Task::open(target(services.port), KEY).expect("connected");
    for round in 0..2u32 {
        task.order(0, Order::Listen);
        task.order(0, Order::Hear(&[0x10; 32_000]));
        task.order(1 + round, Order::Transcribe);
        assert_eq!(task.told(1 + round), [Told::Transcript("What time is it?".into())]);
        let request = br#"{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"press one"}]}"#;
        task.order(11 + round, Order::Think(request));
        let call = r#"{"id":"call_1","name":"send_dtmf","arguments":"{\"digits\":\"1\"}"}"#;
        assert_eq!(task.told(11 + round), [Told::Call(call.into()), Told::Thought]);
        task.order(21 + round, Order::Speak(SampleRate::Hz8000, "Hello."));
        let told = task.told(21 + round);
        assert_eq!((told.first(), told.last()), (Some(&Told::Rate(SampleRate::Hz24000)), Some(&Told::Spoken)));
        assert_eq!(samples(&told).len(), (24_000.0f64 * 0.06 * 6.0) as usize);
    }
    assert_eq!(services.events("violation"), [] as [serde_json::Value; 0]);
    let heard = services.events("transcription");
    assert_eq!((&heard[0]["seconds"], &heard[0]["language"]), (&1.0.into(), &"en".into()));
    let mut connections: Vec<u64> =
        services.events("").iter().filter_map(|event| event["connection"].as_u64()).collect();
    connections.sort_unstable();
    connections.dedup();
    assert_eq!(connections.len(), 3, "one of each service");
}

#[test]
fn words_come_as_they_are_thought_and_stop_when_nobody_wants_them() {
    let services = OpenAiServices::start(&[]);
    let mut task = Task::open(target(services.port), KEY).expect("connected");
    let request = br#"{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"a story"}]}"#;
    task.order(1, Order::Think(request));
    assert!(matches!(task.next(), (1, Told::Words(_))), "long before the end");
    task.order(1, Order::Cancel);
    wait_until("the service has noticed", || services.events("gone").pop());
    // The next is asked over another connection.
    let request = br#"{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"the time"}]}"#;
    task.order(2, Order::Think(request));
    let words: String =
        task.told(2).iter().map(|told| if let Told::Words(words) = told { words } else { "" }).collect();
    assert_eq!(words, "It is noon in all of London. Anything else?");
}

#[test]
fn a_model_that_is_being_loaded_is_asked_again() {
    let services = OpenAiServices::start(&["--loading", "2"]);
    let mut task = Task::open(target(services.port), KEY).expect("connected");
    let request = br#"{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;
    task.order(1, Order::Think(request));
    assert_eq!(task.told(1).last(), Some(&Told::Thought));
    assert_eq!(services.events("loading").len(), 2);
}

#[test]
fn what_a_service_refuses_is_told_and_where_none_is_nobody_connects() {
    let services = OpenAiServices::start(&[]);
    let mut strange = target(services.port);
    strange.voice = Some("nobody".into());
    let speak = Order::Speak(SampleRate::Hz8000, "Hello.");
    let long = "x".repeat(4097);
    for (target, key, order) in [
        (target(services.port), "sk-other", speak),
        (target(services.port), "sk-other", Order::Think(b"{}")),
        (target(services.port), KEY, Order::Think(b"{}")),
        (target(services.port), KEY, Order::Transcribe),
        (target(services.port), KEY, Order::Speak(SampleRate::Hz8000, &long)),
        (strange, KEY, speak),
    ] {
        let mut task = Task::open(target, key).expect("connected");
        task.order(1, order);
        assert_eq!(task.told(1), [Told::Failed(Failure::Refused)], "{order:?}");
    }
    let codes: Vec<serde_json::Value> =
        services.events("violation").into_iter().map(|mut event| event["code"].take()).collect();
    let key = "invalid_api_key";
    let codes: Vec<&str> = codes.iter().map(|code| code.as_str().unwrap_or("none")).collect();
    assert_eq!(codes, [key, key, "none", "audio_too_short", "string_above_max_length", "invalid_value"]);
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let mut nowhere = target(services.port);
    nowhere.speak.url = service(&format!("tcp://127.0.0.1:{port}")).url;
    assert!(matches!(Task::open(nowhere, KEY), Err(ConnectError::Io(_))));
}

#[test]
fn speech_of_a_rate_that_no_line_has_comes_at_the_line_s() {
    for (flags, sample_rate, line, rate) in [
        (["--rate", "22050"], None, SampleRate::Hz8000, SampleRate::Hz8000),
        (["--rate", "22050"], Some(22_050), SampleRate::Hz16000, SampleRate::Hz16000),
        (["--rate", "16000"], None, SampleRate::Hz8000, SampleRate::Hz16000),
        (["--rate", "24000"], Some(24_000), SampleRate::Hz8000, SampleRate::Hz24000),
    ] {
        let services = OpenAiServices::start(&flags);
        let mut task = Task::open(CascadeTarget { sample_rate, ..target(services.port) }, KEY).expect("connected");
        task.order(1, Order::Speak(line, "Hello, who is it?"));
        let told = task.told(1);
        assert_eq!(told.first(), Some(&Told::Rate(rate)), "{flags:?}");
        let samples = samples(&told);
        let wanted = f64::from(rate.hertz()) * 0.06 * 17.0;
        assert!((samples.len() as f64 - wanted).abs() < 3.0, "{} of {wanted} samples", samples.len());
        // A filter rings before the first sound.
        let loud: Vec<i16> = samples.into_iter().filter(|sample| sample.unsigned_abs() > 500).collect();
        let crossings = loud.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
        assert!(crossings.abs_diff(448) <= 1, "440 Hz for 1.02 s, not {crossings}");
    }
    let services = OpenAiServices::start(&["--rate", "23000"]);
    let mut task = Task::open(target(services.port), KEY).expect("connected");
    task.order(1, Order::Speak(SampleRate::Hz8000, "Hello."));
    assert_eq!(task.told(1), [Told::Failed(Failure::Format)]);
}

#[test]
fn a_greeting_is_spoken_once_for_all_callers_and_nothing_else_is_kept() {
    let services = OpenAiServices::start(&[]);
    let greetings = Greetings::default();
    let asked = || services.events("speech").len();
    let mut heard = Vec::new();
    for round in 1..=2 {
        let greeting = Greeting(Some("Hello, who is it? Speak.".into()));
        let target = CascadeTarget { greeting, ..target(services.port) };
        let mut task = Task::open_with(target, KEY, &greetings).expect("connected");
        task.order(1, Order::Speak(SampleRate::Hz8000, "Hello, who is it?"));
        heard.push(samples(&task.told(1)));
        assert_eq!(asked(), round, "the greeting once, the rest each time");
        task.order(2, Order::Speak(SampleRate::Hz8000, "It is noon."));
        samples(&task.told(2));
        assert_eq!(asked(), round + 1);
    }
    assert_eq!(heard[0], heard[1], "as it was");
    let other = CascadeTarget {
        voice: Some("echo".into()),
        greeting: Greeting(Some("Hello, who is it?".into())),
        ..target(services.port)
    };
    let mut task = Task::open_with(other, KEY, &greetings).expect("connected");
    task.order(1, Order::Speak(SampleRate::Hz8000, "Hello, who is it?"));
    samples(&task.told(1));
    assert_eq!(asked(), 4, "another voice is another sound");
}

#[test]
fn openai_s_own_client_is_served_by_the_fake() {
    let Some(python) = python() else { return };
    let services = OpenAiServices::start(&["--loading", "1"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/openai_services_sdk.py");
    let output = Command::new(python).args(["-B", script, &services.port.to_string()]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("taken"), "{said}");
}

#[test]
fn piper_speaks_a_question_and_whisper_writes_it_down_over_wyoming() {
    let Some(wyoming) = WyomingServices::get() else { return };
    let mut target = target(9);
    let openai = OpenAiServices::start(&[]);
    target.think = target_of(openai.port);
    target.listen = service(&format!("tcp://127.0.0.1:{}", wyoming.listen));
    target.speak = service(&format!("tcp://127.0.0.1:{}", wyoming.speak));
    target.voice = None;
    let mut task = Task::open(target, KEY).expect("connected");
    // Twice over the same connections.
    for number in [1, 3] {
        task.order(number, Order::Speak(SampleRate::Hz16000, "What time is it in London?"));
        let told = task.told(number);
        assert_eq!(told.first(), Some(&Told::Rate(SampleRate::Hz16000)));
        let question: Vec<u8> = samples(&told).iter().flat_map(|sample| sample.to_le_bytes()).collect();
        task.order(0, Order::Listen);
        question.chunks(640).for_each(|frame| task.order(0, Order::Hear(frame)));
        task.order(number + 1, Order::Transcribe);
        let told = task.told(number + 1);
        let [Told::Transcript(words)] = &told[..] else { panic!("{told:?}") };
        assert!(words.to_lowercase().contains("what time is it in london"), "{words}");
    }
}

#[test]
fn a_wyoming_service_that_breaks_its_protocol_or_its_connection_is_a_failure() {
    let openai = OpenAiServices::start(&[]);
    for (answer, failure) in [
        (&b"garbage\n"[..], Failure::Format),
        (b"{\"type\":\"error\",\"data\":{\"text\":\"no\",\"code\":\"x\"}}\n", Failure::Refused),
        (b"{\"type\":\"audio-start\",\"data\":{\"rate\":16000,\"width\":2,\"channels\":1}}\n", Failure::Unreachable),
        (b"{\"type\":\"audio-start\",\"data\":{\"rate\":16000,\"width\":4,\"channels\":1}}\n", Failure::Format),
        (b"{\"type\":\"audio-start\",\"data\":{\"rate\":0,\"width\":2,\"channels\":1}}\n", Failure::Format),
        (b"", Failure::Unreachable),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut target = target(openai.port);
        target.speak = service(&format!("tcp://{}", listener.local_addr().expect("bound")));
        let mut task = Task::open(target, KEY).expect("connected");
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer);
            }
        });
        task.order(1, Order::Speak(SampleRate::Hz8000, "Hello."));
        assert_eq!(task.told(1).last(), Some(&Told::Failed(failure)), "{}", String::from_utf8_lossy(answer));
    }
}

/// The gateway's task between a call and its services, and the call's end of the connection.
struct Task {
    stream: UnixStream,
    inbound: Inbound,
    _runtime: Runtime,
}

/// News, by value.
#[derive(Debug, PartialEq)]
enum Told {
    Transcript(String),
    Words(String),
    Call(String),
    Thought,
    Rate(SampleRate),
    Sound(Vec<u8>),
    Spoken,
    Failed(Failure),
}

impl Task {
    fn open(target: CascadeTarget, key: &str) -> Result<Self, ConnectError> {
        Task::open_with(target, key, &Greetings::default())
    }

    /// The same for an agent whose greeting others may have had spoken.
    fn open_with(target: CascadeTarget, key: &str, greetings: &Greetings) -> Result<Self, ConnectError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let key = || Some(key.to_owned());
        let keys = ServiceKeys { listen: key(), think: key(), speak: key() };
        let tls = client_config().expect("TLS");
        let connected = runtime.block_on(open(&target, keys, &tls, greetings))?;
        let AgentStream::Local(stream) = connected.stream else { panic!("a socket to elsewhere") };
        stream.set_nonblocking(false).expect("set");
        stream.set_read_timeout(Some(ANSWER_MAX)).expect("set");
        Ok(Task { stream, inbound: Inbound::default(), _runtime: runtime })
    }

    fn order(&mut self, number: u32, order: Order<'_>) {
        let mut message = Vec::new();
        order.write(number, &mut message);
        self.stream.write_all(&message).expect("the task reads");
    }

    fn next(&mut self) -> (u32, Told) {
        let mut buffer = [0; 65_536];
        loop {
            if let Some((number, news)) = self.inbound.next_news().expect("news") {
                let told = match news {
                    News::Transcript(text) => Told::Transcript(text.to_owned()),
                    News::Words(text) => Told::Words(text.to_owned()),
                    News::Call(json) => Told::Call(String::from_utf8_lossy(json).into_owned()),
                    News::Thought => Told::Thought,
                    News::Rate(rate) => Told::Rate(rate),
                    News::Sound(samples) => Told::Sound(samples.to_vec()),
                    News::Spoken => Told::Spoken,
                    News::Failed(failure) => Told::Failed(failure),
                };
                return (number, told);
            }
            let bytes = self.stream.read(&mut buffer).expect("the task tells in time");
            assert!(bytes > 0, "the task has ended");
            self.inbound.handle_bytes(&buffer[..bytes]);
        }
    }

    /// All that comes of an order.
    fn told(&mut self, number: u32) -> Vec<Told> {
        let mut all = Vec::new();
        loop {
            let (its, told) = self.next();
            if its != number {
                continue;
            }
            let is_last = matches!(told, Told::Transcript(_) | Told::Thought | Told::Spoken | Told::Failed(_));
            all.push(told);
            if is_last {
                return all;
            }
        }
    }
}

fn samples(told: &[Told]) -> Vec<i16> {
    let bytes = told.iter().flat_map(|told| if let Told::Sound(samples) = told { &samples[..] } else { &[] });
    let bytes: Vec<u8> = bytes.copied().collect();
    bytes.as_chunks::<2>().0.iter().map(|sample| i16::from_le_bytes(*sample)).collect()
}

fn service(url: &str) -> ServiceTarget {
    ServiceTarget { url: AgentUrl::of_service(url).expect("an address"), api_key: None, model: None }
}

fn target_of(port: u16) -> ServiceTarget {
    service(&format!("http://127.0.0.1:{port}/v1"))
}

fn target(port: u16) -> CascadeTarget {
    CascadeTarget {
        listen: target_of(port),
        think: target_of(port),
        speak: target_of(port),
        language: Some("en-GB".into()),
        voice: None,
        sample_rate: None,
        greeting: Greeting::default(),
    }
}

/// 9 s: no case may take longer than ten.
const ANSWER_MAX: Duration = Duration::from_secs(9);
