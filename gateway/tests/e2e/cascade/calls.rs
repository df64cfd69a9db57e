//! Calls to a cascade, over the real binary.

use std::time::{Duration, SystemTime};

use talkstack_control::port::{AgentRoute, CallEvent, FirstSpeaker, ProviderKind, ProviderRoute, Speaker};
use talkstack_control::secret::{PROVIDER_KEY_PURPOSE, SECRET_FILE, Secret};
use talkstack_gateway::agent::cascade::message::Order;
use talkstack_media::audio::frame::SampleRate;
use talkstack_media::audio::resample::Resampler;
use talkstack_media::codec::Codec;

use super::fakes::{KEY, OpenAiServices, WyomingServices};
use super::{Task, Told};
use crate::daemon::{Daemon, wait_until};
use crate::rtp_phone::{Packet, RtpPhone};
use crate::survival::ScriptedControl;

#[test]
fn a_cascade_greets_hears_a_key_answers_and_is_taken_over_when_its_service_is_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let services = OpenAiServices::start(&[]);
    let daemon = Daemon::start("calls", dir.path(), &[]);
    let mut control = ScriptedControl::connect(dir.path());
    let mut agent = agent(provider(dir.path(), services.port));
    agent.greeting = Some("Good morning, this is the clinic.".into());
    control.route_agent(NUMBER, agent);
    let applied = dir.path().join("calls/snapshot");
    wait_until("the number is known", || applied.exists().then_some(()));
    let mut phone = RtpPhone::call(daemon.sip(), NUMBER);
    phone.say_until(SILENCE, |phone| phone.heard.iter().filter(|packet| is_tone(packet)).count() >= 90);
    assert_eq!(services.events("chat"), [] as [serde_json::Value; 0], "a greeting is nothing to think about");
    assert_eq!(said(&mut control), (Speaker::Agent, "Good morning, this is the clinic.".into()));
    phone.inform(2, "application/dtmf-relay", "Signal=7\r\nDuration=160\r\n");
    let heard = phone.heard.len();
    phone.say_until(SILENCE, |phone| phone.heard[heard..].iter().filter(|packet| is_tone(packet)).count() >= 110);
    let asked = services.events("chat");
    let messages = asked[0]["messages"].as_array().expect("messages");
    let roles: Vec<&str> = messages.iter().filter_map(|message| message["role"].as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    assert_eq!(messages[3]["content"], "The caller pressed 7");
    assert_eq!(services.events("violation"), [] as [serde_json::Value; 0]);
    assert_eq!(said(&mut control), (Speaker::Agent, "It is noon in all of London. Anything else?".into()));
    // The key is in no log.
    drop(services);
    phone.inform(3, "application/dtmf-relay", "Signal=8\r\nDuration=160\r\n");
    let heard = phone.heard.len();
    phone.say_until(SILENCE, |phone| phone.heard[heard..].iter().filter(|packet| is_loud(packet)).count() >= 25);
    let log = std::fs::read_to_string(dir.path().join("calls.log")).expect("a log");
    assert!(log.contains("the attendant takes over") && !log.contains(KEY), "{log}");
    phone.hang_up();
}

#[test]
fn a_cascade_that_is_interrupted_falls_silent_and_remembers_what_was_heard() {
    let dir = tempfile::tempdir().expect("a directory");
    let services = OpenAiServices::start(&[]);
    let daemon = Daemon::start("calls", dir.path(), &[]);
    let mut control = ScriptedControl::connect(dir.path());
    let mut agent = agent(provider(dir.path(), services.port));
    let greeting = "We have so very many things to tell you about our hours, our prices and our doctors this morning.";
    agent.greeting = Some(greeting.into());
    control.route_agent(NUMBER, agent);
    let applied = dir.path().join("calls/snapshot");
    wait_until("the number is known", || applied.exists().then_some(()));
    let mut phone = RtpPhone::call(daemon.sip(), NUMBER);
    phone.say_until(SILENCE, |phone| phone.heard.iter().filter(|packet| is_tone(packet)).count() >= 75);
    let prompt = include_bytes!("../../../../config/prompts/en/goodbye.wav");
    let spoken: Vec<i16> = prompt[44..].as_chunks::<2>().0.iter().map(|sample| i16::from_le_bytes(*sample)).collect();
    phone.say_samples(&spoken);
    let (speaker, heard) = said(&mut control);
    assert!(speaker == Speaker::Agent && !heard.is_empty() && greeting.starts_with(&heard), "{heard}");
    assert!(heard.len() < greeting.len() * 2 / 3, "{heard}");
    // It has fallen silent before the caller has, and answers them now.
    let at = phone.heard.len();
    let late = phone.heard[at - 15..].iter().filter(|packet| is_loud(packet)).count();
    assert_eq!(late, 0, "packets of the greeting in the last 300 ms of what the caller says");
    phone.say_until(SILENCE, |phone| phone.heard[at..].iter().filter(|packet| is_tone(packet)).count() >= 25);
    assert_eq!(said(&mut control), (Speaker::Caller, "What time is it?".into()));
    let asked = services.events("chat");
    let messages = asked.last().and_then(|asked| asked["messages"].as_array()).expect("messages");
    assert_eq!(messages[2], serde_json::json!({ "role": "assistant", "content": heard }));
    assert_eq!(messages[3]["content"], "What time is it?");
    phone.hang_up();
}

#[test]
fn a_spoken_question_is_answered_in_speech_by_services_on_the_lan() {
    let Some(wyoming) = WyomingServices::get() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let openai = OpenAiServices::start(&["--says", "It is five o'clock in the afternoon."]);
    let mut lan = super::target(openai.port);
    lan.listen = super::service(&format!("tcp://127.0.0.1:{}", wyoming.listen));
    lan.speak = super::service(&format!("tcp://127.0.0.1:{}", wyoming.speak));
    let mut ear = Task::open(lan, KEY).expect("connected");
    ear.order(1, Order::Speak(SampleRate::Hz8000, "What time is it in London?"));
    let question = super::samples(&ear.told(1));
    let daemon = Daemon::start("calls", dir.path(), &[]);
    let mut control = ScriptedControl::connect(dir.path());
    let mut provider = provider(dir.path(), openai.port);
    provider.settings.listen_url = Some(format!("tcp://127.0.0.1:{}", wyoming.listen));
    provider.settings.speak_url = Some(format!("tcp://127.0.0.1:{}", wyoming.speak));
    control.route_agent(NUMBER, AgentRoute { first_speaker: FirstSpeaker::Caller, ..agent(provider) });
    let applied = dir.path().join("calls/snapshot");
    wait_until("the number is known", || applied.exists().then_some(()));
    let mut phone = RtpPhone::call(daemon.sip(), NUMBER);
    phone.say(SILENCE, Duration::from_millis(300));
    phone.say_samples(&question);
    let asked_at = SystemTime::now();
    // Speech, and then half a second without.
    phone.say_until(SILENCE, |phone| {
        let heard = phone.heard.iter().filter(|packet| packet.at >= asked_at).map(is_loud);
        let heard: Vec<bool> = heard.skip_while(|is_loud| !is_loud).collect();
        heard.len() >= 50 && heard[heard.len() - 25..].iter().all(|is_loud| !is_loud)
    });
    let first = phone.heard.iter().find(|packet| packet.at >= asked_at && is_loud(packet)).expect("an answer");
    let waited = first.at.duration_since(asked_at).expect("later");
    println!("{} ms from the question's end to the answer's first packet", waited.as_millis());
    let (speaker, words) = said(&mut control);
    assert!(speaker == Speaker::Caller && words.to_lowercase().contains("what time is it in london"), "{words}");
    assert_eq!(said(&mut control), (Speaker::Agent, "It is five o'clock in the afternoon.".into()));
    let answer = phone.samples_since(asked_at);
    let mut heard = Vec::new();
    Resampler::new(SampleRate::Hz8000, SampleRate::Hz16000).resample(&answer, &mut heard);
    ear.order(0, Order::Listen);
    let bytes: Vec<u8> = heard.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    bytes.chunks(640).for_each(|frame| ear.order(0, Order::Hear(frame)));
    ear.order(2, Order::Transcribe);
    let told = ear.told(2);
    let [Told::Transcript(words)] = &told[..] else { panic!("{told:?}") };
    assert!(words.to_lowercase().contains("in the afternoon"), "{words}");
    phone.hang_up();
}

/// The next thing that was said.
fn said(control: &mut ScriptedControl) -> (Speaker, String) {
    control.wait_for_event(|event| match event {
        CallEvent::Said(utterance) => Some((utterance.speaker, utterance.text)),
        _ => None,
    })
}

fn provider(dir: &std::path::Path, port: u16) -> ProviderRoute {
    let mut provider = ProviderRoute::new(ProviderKind::Cascade, &format!("http://127.0.0.1:{port}/v1"), "gpt-4o-mini");
    let secret = Secret::open(&dir.join(SECRET_FILE)).expect("made at the start");
    provider.api_key = Some(secret.seal(PROVIDER_KEY_PURPOSE, KEY));
    provider
}

fn agent(provider: ProviderRoute) -> AgentRoute {
    AgentRoute { provider: Some(provider), system_instruction: "Be kind.".into(), ..AgentRoute::new("project", "Jack") }
}

/// The fake's voice: 440 Hz.
fn is_tone(packet: &Packet) -> bool {
    let samples = samples(packet);
    let crossings = samples.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
    is_loud(packet) && (8..=10).contains(&crossings)
}

fn is_loud(packet: &Packet) -> bool {
    samples(packet).iter().filter(|sample| sample.unsigned_abs() > 1000).count() > 80
}

fn samples(packet: &Packet) -> Vec<i16> {
    let mut samples = Vec::new();
    Codec::Pcmu.decode(&packet.payload, &mut samples);
    samples
}

const NUMBER: &str = "3612345678";

/// A code of µ-law that is next to nothing.
const SILENCE: u8 = 0x7f;
