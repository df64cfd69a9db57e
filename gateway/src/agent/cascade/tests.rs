//! Whole conversations with scripted services and a caller whose voice is told, in virtual time.

use std::sync::Arc;

use serde_json::{Value, json};
use talkstack_control::port::{AgentTool, CallId, ProviderKind, ProviderRoute, TransferTarget};
use talkstack_media::audio::frame::Speech;
use talkstack_media::codec::Codec;

use super::message::{Failure, Inbound};
use super::*;
use crate::agent::Destination;
use crate::agent::keys::KEYS_QUIET;
use crate::agent::tools::Tools;
use crate::agent::tools::tests::http_tool;

#[test]
fn a_greeting_is_spoken_without_the_model() {
    let mut bench = Bench::new(Some("Good morning, this is Jack's clinic. How may I help?"));
    assert_eq!(bench.poll(), []);
    let [greeting] = bench.speaks();
    assert_eq!((greeting.1.as_str(), bench.sent()), ("Good morning, this is Jack's clinic.", vec![]));
    assert_eq!(bench.tell(greeting.0, News::Rate(SampleRate::Hz16000)), []);
    assert_eq!(bench.sound(greeting.0, 1000), [Out::Play(8000)]);
    bench.tell(greeting.0, News::Spoken);
    let [rest] = bench.speaks();
    assert_eq!(rest.1, "How may I help?");
    bench.sound(rest.0, 500);
    bench.tell(rest.0, News::Spoken);
    let said = Out::Said(Speaker::Agent, "Good morning, this is Jack's clinic. How may I help?".into());
    assert_eq!(bench.pass(1600), [said]);
    assert_eq!(bench.sent(), []);
    // What it has said is no secret to the model.
    bench.says("What time is it?", 300);
    let messages = bench.thinks().1["messages"].clone();
    assert_eq!(messages[1]["content"], GREET_NOW);
    assert_eq!(
        messages[2],
        json!({ "role": "assistant", "content": "Good morning, this is Jack's clinic. How may I help?" })
    );
}

#[test]
fn a_turn_is_written_down_with_what_was_just_before_it_thought_about_in_advance_and_answered_when_it_is_over() {
    let mut bench = Bench::new(None);
    bench.greeted();
    bench.hear(40);
    assert_eq!(bench.sent(), [], "silence goes nowhere");
    bench.voice(Voice::Began);
    bench.hear(2);
    assert_eq!(bench.sent(), [Sent::Listen, Sent::Hear(16_000), Sent::Hear(640), Sent::Hear(640)]);
    bench.voice(Voice::Ended);
    bench.hear(1);
    let [Sent::Transcribe(number), Sent::Hear(640)] = bench.sent()[..] else { panic!("not transcribed") };
    bench.tell(number, News::Transcript(" What time is it? "));
    let (asked, request) = bench.thinks();
    assert_eq!((&request["model"], &request["stream"]), (&json!("m"), &json!(true)));
    assert_eq!(request["messages"].as_array().and_then(|all| all.last()), Some(&user("What time is it?")));
    bench.tell(asked, News::Words("It is noon in all of London. "));
    bench.tell(asked, News::Words("Anything else?"));
    bench.tell(asked, News::Thought);
    assert_eq!(bench.pass(280), [], "nothing is heard before the turn is over");
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.pass(20), [Out::Said(Speaker::Caller, "What time is it?".into())]);
    let [piece] = bench.speaks();
    assert_eq!(piece.1, "It is noon in all of London.");
    bench.sound(piece.0, 2000);
    assert_eq!(bench.sent(), [], "one at a time");
    bench.tell(piece.0, News::Spoken);
    let [next] = bench.speaks();
    assert_eq!(next.1, "Anything else?");
    bench.sound(next.0, 500);
    bench.tell(next.0, News::Spoken);
    assert_eq!(bench.pass(2600), [Out::Said(Speaker::Agent, "It is noon in all of London. Anything else?".into())]);
}

#[test]
fn who_goes_on_after_a_pause_is_answered_once_and_to_all_of_it() {
    let mut bench = Bench::new(None);
    bench.greeted();
    bench.voice(Voice::Began);
    bench.hear(10);
    bench.voice(Voice::Ended);
    let first = bench.transcribes();
    bench.tell(first, News::Transcript("I would like a table."));
    let (in_advance, _) = bench.thinks();
    bench.tell(in_advance, News::Words("Certainly, for how many people? "));
    bench.pass(200);
    bench.voice(Voice::Began);
    assert_eq!(bench.sent(), [Sent::Cancel(in_advance)]);
    bench.hear(10);
    bench.voice(Voice::Ended);
    let sent = bench.sent();
    assert!(!sent.contains(&Sent::Listen), "the utterance goes on");
    let Some(Sent::Transcribe(second)) = sent.last() else { panic!("{sent:?}") };
    // A ghost: words of before that come late, and an answer to them.
    for news in [News::Transcript("I would"), News::Words("What? "), News::Thought] {
        bench.tell(first, news);
        bench.tell(in_advance, news);
    }
    bench.tell(*second, News::Transcript("I would like a table. For two."));
    let (asked, request) = bench.thinks();
    assert_eq!(
        request["messages"].as_array().and_then(|all| all.last()),
        Some(&user("I would like a table. For two."))
    );
    bench.tell(asked, News::Words("A table for two, with pleasure."));
    bench.tell(asked, News::Thought);
    assert_eq!(bench.pass(300), [Out::Said(Speaker::Caller, "I would like a table. For two.".into())]);
    let [piece] = bench.speaks();
    assert_eq!(piece.1, "A table for two, with pleasure.");
}

#[test]
fn words_that_are_being_written_down_are_cancelled_when_the_caller_goes_on() {
    let mut bench = Bench::new(None);
    bench.greeted();
    bench.voice(Voice::Began);
    bench.voice(Voice::Ended);
    let first = bench.transcribes();
    bench.voice(Voice::Began);
    assert_eq!(bench.sent(), [Sent::Cancel(first)]);
}

#[test]
fn a_hesitation_is_waited_out_and_not_thought_about() {
    let mut bench = Bench::new(None);
    bench.greeted();
    bench.voice(Voice::Began);
    bench.voice(Voice::Ended);
    let number = bench.transcribes();
    bench.tell(number, News::Transcript("My number is, um"));
    assert_eq!(bench.pass(1280), []);
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.pass(20), [Out::Said(Speaker::Caller, "My number is, um".into())]);
    bench.thinks();
}

#[test]
fn words_before_anything_was_heard_of_the_answer_belong_to_the_same_question() {
    let mut bench = Bench::new(None);
    bench.greeted();
    bench.says("What time is it?", 300);
    let (first, _) = bench.thinks();
    bench.tell(first, News::Words("It is noon in all of London. "));
    let [piece] = bench.speaks();
    bench.voice(Voice::Began);
    assert_eq!(bench.sent(), [Sent::Listen, Sent::Cancel(first), Sent::Cancel(piece.0)]);
    assert_eq!(bench.sound(piece.0, 500), [], "a ghost");
    bench.voice(Voice::Ended);
    let number = bench.transcribes();
    bench.tell(number, News::Transcript("In Paris?"));
    let (_, request) = bench.thinks();
    assert_eq!(request["messages"].as_array().and_then(|all| all.last()), Some(&user("What time is it? In Paris?")));
}

#[test]
fn an_interruption_ends_the_answer_where_it_was_heard_for_the_model_too() {
    let mut bench = Bench::new(None);
    bench.greeted();
    bench.says("Tell me a story.", 300);
    let (asked, _) = bench.thinks();
    bench.tell(asked, News::Words("Once upon a time there was a king. He had ten daughters and a son. "));
    bench.tell(asked, News::Words("They lived in a castle by the sea for years. "));
    let [first] = bench.speaks();
    bench.sound(first.0, 2000);
    bench.tell(first.0, News::Spoken);
    let [second] = bench.speaks();
    assert_eq!(second.1, "He had ten daughters and a son. They lived in a castle by the sea for years.");
    bench.sound(second.0, 4000);
    bench.tell(second.0, News::Spoken);
    bench.pass(3000);
    bench.voice(Voice::Began);
    bench.pass(1000);
    assert_eq!(bench.sent(), [Sent::Listen], "it goes on until the box is sure");
    // Two seconds of one, two of four of the other: half of its 76 characters, up to a whole word.
    let heard = "Once upon a time there was a king. He had ten daughters and a son. They";
    assert_eq!(bench.interrupt(), [Out::Said(Speaker::Agent, heard.into())]);
    assert_eq!(bench.sent(), [Sent::Cancel(asked)]);
    for news in [News::Words("And then more of this and that. "), News::Thought] {
        assert_eq!(bench.tell(asked, news), []);
    }
    assert_eq!(bench.sound(second.0, 1000), [], "a ghost");
    bench.voice(Voice::Ended);
    let number = bench.transcribes();
    bench.tell(number, News::Transcript("Stop it, please."));
    let (_, request) = bench.thinks();
    let messages = request["messages"].as_array().expect("messages");
    let [.., answer, question] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!((answer, question), (&json!({ "role": "assistant", "content": heard }), &user("Stop it, please.")));
}

#[test]
fn what_is_said_beside_is_not_answered_and_what_outlasts_the_answer_is() {
    let mut bench = Bench::new(None);
    bench.greeted();
    bench.says("Tell me a story.", 300);
    let (asked, _) = bench.thinks();
    bench.tell(asked, News::Words("Once upon a time there was a king."));
    bench.tell(asked, News::Thought);
    let [piece] = bench.speaks();
    bench.sound(piece.0, 2000);
    bench.tell(piece.0, News::Spoken);
    bench.pass(200);
    let beside = |bench: &mut Bench, words: &'static str| {
        bench.voice(Voice::Began);
        bench.voice(Voice::Ended);
        let number = bench.transcribes();
        bench.tell(number, News::Transcript(words));
    };
    beside(&mut bench, "Mhm.");
    assert_eq!(bench.pass(800), []);
    assert_eq!(bench.sent(), []);
    beside(&mut bench, "And then, um");
    let said = |speaker, text: &str| Out::Said(speaker, text.into());
    let story = said(Speaker::Agent, "Once upon a time there was a king.");
    assert_eq!(bench.pass(1400), [story, said(Speaker::Caller, "And then, um")]);
    bench.thinks();
}

#[test]
fn a_noise_that_is_no_word_takes_nothing_away() {
    let mut bench = Bench::new(None);
    bench.greeted();
    bench.says("Tell me a story.", 300);
    let (asked, _) = bench.thinks();
    // Before anything was heard the model is asked again.
    bench.noise();
    bench.pass(520);
    let sent = bench.sent();
    let Some(Sent::Think(again, _)) = sent.last() else { panic!("{sent:?}") };
    assert_ne!(*again, asked);
    let again = *again;
    bench.tell(again, News::Words("Once upon a time there was a king. He had ten daughters."));
    bench.tell(again, News::Thought);
    let [piece] = bench.speaks();
    bench.sound(piece.0, 2000);
    bench.tell(piece.0, News::Spoken);
    let [last] = bench.speaks();
    bench.sound(last.0, 1000);
    bench.tell(last.0, News::Spoken);
    bench.pass(1000);
    bench.interrupt();
    bench.noise();
    bench.pass(520);
    let sent = bench.sent();
    let Some(Sent::Speak(_, _, text)) = sent.last() else { panic!("{sent:?}") };
    assert_eq!(text, "Once upon a time there was a king.", "the sentence that was cut, from its beginning");
}

#[test]
fn functions_are_carried_out_once_the_turn_is_over_and_answered() {
    let mut bench = Bench::new(None);
    bench.greeted();
    bench.voice(Voice::Began);
    bench.voice(Voice::Ended);
    let number = bench.transcribes();
    bench.tell(number, News::Transcript("Press one, please."));
    let (asked, request) = bench.thinks();
    assert_eq!(request["tools"].as_array().map(Vec::len), Some(9));
    bench.tell(asked, News::Words("One moment."));
    bench.call(asked, "a", "send_dtmf", r#"{"digits":"1#"}"#);
    bench.call(asked, "b", "book_table", "{}");
    bench.tell(asked, News::Thought);
    bench.pass(280);
    let said = Out::Said(Speaker::Caller, "Press one, please.".into());
    assert_eq!(bench.pass(20), [said, Out::Press('1'), Out::Press('#')]);
    let sent = bench.sent();
    let [Sent::Speak(piece, _, text), Sent::Think(again, request)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(text, "One moment.");
    let messages = request["messages"].as_array().expect("messages");
    let [.., called, first, second] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!((&called["role"], &called["content"]), (&json!("assistant"), &json!("One moment.")));
    assert_eq!(called["tool_calls"][0]["function"], json!({ "name": "send_dtmf", "arguments": "{\"digits\":\"1#\"}" }));
    assert_eq!((&first["role"], &first["tool_call_id"]), (&json!("tool"), &json!("a")));
    assert_eq!(
        second,
        &json!({ "role": "tool", "tool_call_id": "b", "content": "{\"error\":\"There is no such function.\"}" })
    );
    let (again, piece) = (*again, *piece);
    bench.tell(again, News::Words("I have pressed it for you."));
    bench.tell(again, News::Thought);
    bench.sound(piece, 500);
    bench.tell(piece, News::Spoken);
    let [last] = bench.speaks();
    bench.sound(last.0, 500);
    bench.tell(last.0, News::Spoken);
    assert_eq!(bench.pass(1100), [Out::Said(Speaker::Agent, "One moment. I have pressed it for you.".into())]);
}

#[test]
fn the_caller_is_put_through_behind_what_was_said_and_the_model_told_when_nobody_takes_them() {
    for interrupts in [false, true] {
        let mut bench = Bench::new(None);
        bench.greeted();
        bench.says("The reception, please.", 300);
        let (asked, _) = bench.thinks();
        bench.tell(asked, News::Words("I put you through at once."));
        bench.call(asked, "a", "transfer", r#"{"to":"reception"}"#);
        bench.tell(asked, News::Thought);
        let [piece] = bench.speaks();
        bench.sound(piece.0, 1000);
        bench.tell(piece.0, News::Spoken);
        assert_eq!(bench.pass(980), []);
        let reason = if interrupts {
            bench.interrupt();
            bench.voice(Voice::Began);
            bench.voice(Voice::Ended);
            let number = bench.transcribes();
            bench.tell(number, News::Transcript("No, wait."));
            "The caller spoke before the transfer began."
        } else {
            let said = Out::Said(Speaker::Agent, "I put you through at once.".into());
            assert_eq!(bench.pass(20), [said, Out::Transfer("101".into())]);
            assert_eq!(bench.pass(1000), [], "once");
            bench.agent.handle_not_transferred(Outcome::new(Blame::Trunk, EndReason::NoAnswer));
            bench.poll();
            "Nobody answered."
        };
        let (_, request) = bench.thinks();
        let messages = request["messages"].as_array().expect("messages");
        let told = messages.iter().find(|message| message["role"] == "tool").expect("an answer");
        let answer = format!("{{\"error\":\"{reason} The caller is with you again.\"}}");
        assert_eq!(told["content"], Value::String(answer));
    }
}

#[test]
fn a_model_that_only_calls_functions_is_stopped() {
    let mut bench = Bench::new(None);
    bench.greeted();
    bench.says("Press one for ever.", 300);
    let (mut asked, _) = bench.thinks();
    for _ in 1..functions::ROUNDS_MAX {
        bench.call(asked, "a", "send_dtmf", r#"{"digits":"1"}"#);
        bench.tell(asked, News::Thought);
        asked = bench.thinks().0;
    }
    bench.call(asked, "a", "send_dtmf", r#"{"digits":"1"}"#);
    bench.tell(asked, News::Thought);
    bench.pass(1000);
    assert_eq!(bench.sent(), []);
}

#[test]
fn the_call_ends_a_breath_behind_the_goodbye_unless_the_caller_has_more_to_say() {
    for speaks_on in [false, true] {
        let mut bench = Bench::new(None);
        bench.greeted();
        bench.says("That was all.", 300);
        let (mut asked, _) = bench.thinks();
        if speaks_on {
            // Without a word: the model is to say goodbye.
            bench.call(asked, "a", "end_call", "{}");
            bench.tell(asked, News::Thought);
            asked = bench.thinks().0;
        }
        bench.tell(asked, News::Words("Goodbye and have a nice day!"));
        if !speaks_on {
            bench.call(asked, "a", "end_call", "{}");
        }
        bench.tell(asked, News::Thought);
        let [piece] = bench.speaks();
        bench.sound(piece.0, 1000);
        bench.tell(piece.0, News::Spoken);
        assert_eq!(bench.pass(1000), [Out::Said(Speaker::Agent, "Goodbye and have a nice day!".into())]);
        if speaks_on {
            bench.pass(280);
            bench.voice(Voice::Began);
            assert_eq!(bench.pass(1000), []);
        } else {
            assert_eq!(bench.pass(280), []);
            assert_eq!(bench.pass(20), [Out::HangUp]);
            assert_eq!(bench.pass(1000), []);
        }
    }
}

#[test]
fn speech_is_made_no_further_ahead_than_five_seconds() {
    let mut bench = Bench::new(None);
    bench.greeted();
    bench.says("Tell me a story.", 300);
    let (asked, _) = bench.thinks();
    let sentence = "Once upon a time there was a king who had as many daughters as there are days in a whole year. ";
    bench.tell(asked, News::Words(&sentence.repeat(4)));
    let [first] = bench.speaks();
    bench.sound(first.0, 7000);
    bench.tell(first.0, News::Spoken);
    bench.pass(1980);
    assert_eq!(bench.sent(), []);
    bench.pass(40);
    bench.speaks::<1>();
}

#[test]
fn keys_are_told_after_a_pause_and_answered() {
    let mut bench = Bench::new(None);
    bench.greeted();
    for key in "42".chars() {
        bench.agent.handle_digit(key);
    }
    bench.poll();
    bench.pass(KEYS_QUIET.as_millis() as u64);
    let (_, request) = bench.thinks();
    assert_eq!(request["messages"].as_array().and_then(|all| all.last()), Some(&user("The caller pressed 42")));
}

#[test]
fn a_service_that_fails_is_the_agent_s_loss_and_one_that_nobody_waits_for_is_not() {
    for (failure, loss) in [
        (Failure::Unreachable, AgentLoss::Unreachable),
        (Failure::Refused, AgentLoss::Refused),
        (Failure::Failing, AgentLoss::Failing),
        (Failure::Format, AgentLoss::Format),
    ] {
        let mut bench = Bench::new(None);
        bench.greeted();
        bench.says("Hello?", 300);
        let (asked, _) = bench.thinks();
        assert_eq!(bench.tell(asked + 7, News::Failed(failure)), []);
        assert_eq!(bench.tell(asked, News::Failed(failure)), [Out::Lost(loss)]);
        assert_eq!(bench.tell(asked, News::Words("late")), []);
    }
    let mut bench = Bench::new(Some("Good morning to all of you."));
    bench.poll();
    let [greeting] = bench.speaks();
    assert_eq!(bench.tell(greeting.0, News::Failed(Failure::Refused)), [Out::Lost(AgentLoss::Refused)]);
    let mut bench = Bench::new(None);
    bench.greeted();
    bench.voice(Voice::Began);
    bench.voice(Voice::Ended);
    let number = bench.transcribes();
    assert_eq!(bench.tell(number, News::Failed(Failure::Failing)), [Out::Lost(AgentLoss::Failing)]);
}

#[test]
fn a_connection_that_ends_or_speaks_nonsense_is_lost() {
    let mut bench = Bench::new(None);
    bench.agent.handle_disconnect();
    assert_eq!(bench.poll(), [Out::Lost(AgentLoss::Disconnected)]);
    let mut bench = Bench::new(None);
    bench.agent.handle_bytes(&[255; 20]);
    assert_eq!(bench.poll(), [Out::Lost(AgentLoss::Disconnected)]);
    let mut bench = Bench::new(None);
    bench.voice(Voice::Began);
    for _ in 0..UTTERANCE_BYTES_MAX / 640 {
        bench.agent.handle_audio(&Frame::linear(SampleRate::Hz16000, &[0; 320]));
    }
    assert_eq!(bench.poll(), [Out::Lost(AgentLoss::Stalled)]);
}

#[test]
fn an_utterance_without_end_is_heard_for_a_minute() {
    let mut bench = Bench::new(None);
    bench.greeted();
    bench.voice(Voice::Began);
    let mut heard = 0;
    for _ in 0..70 * 50 {
        bench.hear(1);
        heard += bench.sent().iter().map(|sent| if let Sent::Hear(bytes) = sent { *bytes } else { 0 }).sum::<usize>();
    }
    assert_eq!(heard, UTTERANCE_BYTES_MAX);
}

#[test]
fn an_agent_that_is_to_wait_greets_when_told_and_not_after_the_caller_has_spoken() {
    for speaks_first in [false, true] {
        let mut opening = opening(Some("Good morning to all of you."));
        opening.greets = Greets::WhenTold;
        let mut bench = Bench::with(opening);
        assert_eq!(bench.poll(), []);
        assert_eq!(bench.sent(), []);
        if speaks_first {
            bench.says("Hello, who is it?", 300);
            bench.thinks();
        }
        bench.agent.greet();
        bench.poll();
        assert_eq!(bench.sent().len(), usize::from(!speaks_first));
    }
}

#[test]
fn what_was_heard_before_the_end_is_told() {
    let mut bench = Bench::new(Some("Good morning to all of you."));
    bench.poll();
    let [greeting] = bench.speaks();
    bench.sound(greeting.0, 2000);
    bench.tell(greeting.0, News::Spoken);
    bench.pass(1000);
    bench.voice(Voice::Began);
    bench.voice(Voice::Ended);
    let number = bench.transcribes();
    bench.tell(number, News::Transcript("Wrong number"));
    let mut last = Vec::new();
    while let Some(said) = bench.agent.poll_last_words(bench.progress) {
        last.push((said.speaker, said.text));
    }
    assert_eq!(last, [(Speaker::Agent, "Good morning".into()), (Speaker::Caller, "Wrong number".into())]);
}

#[derive(Debug, PartialEq)]
enum Out {
    /// Ticks of 125 µs.
    Play(usize),
    Said(Speaker, String),
    Press(char),
    Transfer(String),
    /// An errand, by its number.
    Run(u32),
    HangUp,
    Lost(AgentLoss),
}

#[derive(Debug, PartialEq)]
enum Sent {
    Listen,
    /// Bytes.
    Hear(usize),
    Transcribe(u32),
    Think(u32, Value),
    Speak(u32, SampleRate, String),
    Cancel(u32),
}

struct Bench {
    agent: Cascade,
    now: Instant,
    progress: Progress,
    orders: Inbound,
}

#[test]
fn the_model_goes_on_once_every_service_has_answered() {
    let mut bench = Bench::new(None);
    bench.greeted();
    bench.says("Book two rooms.", 1600);
    let (asked, _) = bench.thinks();
    bench.tell(asked, News::Words("One moment."));
    bench.call(asked, "c1", "book", "{}");
    bench.call(asked, "c2", "book", "{}");
    assert_eq!(bench.tell(asked, News::Thought), [Out::Run(0), Out::Run(1)]);
    let [piece] = bench.speaks();
    bench.sound(piece.0, 100);
    bench.tell(piece.0, News::Spoken);
    bench.agent.handle_done(1, Done::Fetched(Ok(r#"{"room":2}"#.into())));
    bench.poll();
    assert_eq!(bench.sent(), [], "the other one is under way");
    assert_eq!(bench.pass(100), [Out::Said(Speaker::Agent, "One moment.".into())]);
    bench.agent.handle_done(0, Done::Fetched(Err("The service cannot be reached.".into())));
    bench.poll();
    let (_, request) = bench.thinks();
    let messages = request["messages"].as_array().expect("a list");
    let told: Vec<&Value> = messages.iter().filter(|message| message["role"] == "tool").collect();
    assert_eq!(
        (&told[0]["tool_call_id"], &told[0]["content"]),
        (&json!("c1"), &json!(r#"{"error":"The service cannot be reached."}"#))
    );
    assert_eq!((&told[1]["tool_call_id"], &told[1]["content"]), (&json!("c2"), &json!(r#"{"room":2}"#)));
}

#[test]
fn a_service_that_answers_before_the_words_are_heard_has_the_answer_go_on() {
    let mut bench = Bench::new(None);
    bench.greeted();
    bench.says("Book a room.", 1600);
    let (asked, _) = bench.thinks();
    bench.tell(asked, News::Words("One moment."));
    bench.call(asked, "c1", "book", "{}");
    bench.tell(asked, News::Thought);
    let [piece] = bench.speaks();
    bench.sound(piece.0, 100);
    bench.agent.handle_done(0, Done::Fetched(Ok("{}".into())));
    bench.poll();
    let (again, request) = bench.thinks();
    let last = request["messages"].as_array().and_then(|all| all.last()).expect("messages").clone();
    assert_eq!(last, json!({ "role": "tool", "tool_call_id": "c1", "content": "{}" }));
    bench.tell(again, News::Words("Booked."));
    bench.tell(again, News::Thought);
    bench.tell(piece.0, News::Spoken);
    let [booked] = bench.speaks();
    assert_eq!(booked.1, "Booked.");
}

#[test]
fn a_wait_ends_with_the_caller_s_words_or_its_time() {
    for speaks in [true, false] {
        let mut bench = Bench::new(None);
        bench.greeted();
        bench.says("One moment please.", 1600);
        let (asked, _) = bench.thinks();
        bench.call(asked, "c1", "wait", r#"{"seconds":10}"#);
        bench.tell(asked, News::Thought);
        assert_eq!((bench.pass(9000), bench.sent()), (vec![], vec![]), "silence");
        if speaks {
            bench.says("Here I am.", 1600);
        } else {
            bench.pass(1100);
        }
        let (_, request) = bench.thinks();
        let messages = request["messages"].as_array().expect("a list");
        let told = messages.iter().find(|message| message["role"] == "tool").expect("an answer");
        assert_eq!(told["content"].as_str().is_some_and(|text| text.contains("speaks again")), speaks, "{told}");
    }
}

fn opening(greeting: Option<&str>) -> Opening {
    Opening {
        instructions: "Be kind.".into(),
        voice: None,
        greeting: greeting.map(str::to_owned),
        first_speaker: FirstSpeaker::Agent,
        greets: Greets::WhenReady,
        tools: Tools {
            transfers: vec![TransferTarget { name: "reception".into(), to: "101".into() }],
            http: vec![Arc::new(http_tool())],
            list: AgentTool::ALL.to_vec(),
        },
    }
}

fn user(text: &str) -> Value {
    json!({ "role": "user", "content": text })
}

impl Bench {
    fn new(greeting: Option<&str>) -> Self {
        Bench::with(opening(greeting))
    }

    fn with(opening: Opening) -> Self {
        let plan = ServicePlan::new(&ProviderRoute::new(ProviderKind::Cascade, "http://lan/v1", "m"), opening);
        let facts = CallFacts { id: CallId(1), codec: Codec::Pcmu, seed: 7 };
        let agent = Cascade::new(&plan.expect("addresses"), facts);
        Bench { agent, now: Instant::now(), progress: Progress::default(), orders: Inbound::default() }
    }

    /// The model's greeting, heard to its end.
    fn greeted(&mut self) {
        self.poll();
        let (asked, request) = self.thinks();
        assert_eq!(request["messages"], json!([{ "role": "system", "content": "Be kind." }, user(GREET_NOW)]));
        self.tell(asked, News::Words("Hello."));
        self.tell(asked, News::Thought);
        let [piece] = self.speaks();
        self.sound(piece.0, 100);
        self.tell(piece.0, News::Spoken);
        assert_eq!(self.pass(100), [Out::Said(Speaker::Agent, "Hello.".into())]);
    }

    /// Drains the agent, with a playout queue that takes all.
    fn poll(&mut self) -> Vec<Out> {
        let mut outputs = Vec::new();
        while let Some(output) = self.agent.poll_output(self.progress, self.now) {
            outputs.push(match output {
                AgentOutput::Play(Speech::Samples(rate, samples)) => {
                    let ticks = samples.len() / rate.tick_samples();
                    self.progress.pushed += ticks as u64;
                    Out::Play(ticks)
                }
                AgentOutput::Said(said) => Out::Said(said.speaker, said.text),
                AgentOutput::Press(key) => Out::Press(key),
                AgentOutput::Transfer(Destination(to)) => Out::Transfer(to),
                AgentOutput::HangUp => Out::HangUp,
                AgentOutput::Run(number, _) => Out::Run(number),
                AgentOutput::Lost(loss) => Out::Lost(loss),
                other => panic!("{other:?}"),
            });
        }
        outputs
    }

    /// Lets time pass, in frames of 20 ms that are played.
    fn pass(&mut self, ms: u64) -> Vec<Out> {
        let mut outputs = Vec::new();
        for _ in 0..ms / 20 {
            self.now += Duration::from_millis(20);
            self.progress.played = (self.progress.played + 160).min(self.progress.pushed);
            if self.agent.poll_timeout().is_some_and(|due| due <= self.now) {
                self.agent.handle_timeout(self.now);
            }
            outputs.extend(self.poll());
        }
        outputs
    }

    fn tell(&mut self, number: u32, news: News<'_>) -> Vec<Out> {
        let mut bytes = Vec::new();
        news.write(number, &mut bytes);
        self.agent.handle_bytes(&bytes);
        self.poll()
    }

    fn sound(&mut self, number: u32, ms: usize) -> Vec<Out> {
        self.tell(number, News::Sound(&vec![1; ms * 32]))
    }

    fn call(&mut self, number: u32, id: &str, name: &str, arguments: &str) {
        let call = json!({ "id": id, "name": name, "arguments": arguments });
        self.tell(number, News::Call(call.to_string().as_bytes()));
    }

    fn voice(&mut self, voice: Voice) {
        self.agent.handle_voice(voice, self.now);
        self.poll();
    }

    /// The caller's audio, in frames of 20 ms.
    fn hear(&mut self, frames: usize) {
        for _ in 0..frames {
            self.agent.handle_audio(&Frame::coded(Codec::Pcmu, &[0xff; 160], &[0; 160]));
            self.poll();
        }
    }

    /// The caller says this, and their turn is over so long after they have paused.
    fn says(&mut self, words: &str, pause_ms: u64) {
        self.voice(Voice::Began);
        self.voice(Voice::Ended);
        let number = self.transcribes();
        self.tell(number, News::Transcript(words));
        assert_eq!(self.pass(pause_ms), [Out::Said(Speaker::Caller, words.into())]);
    }

    /// The caller makes a sound in which there is no word.
    fn noise(&mut self) {
        self.voice(Voice::Began);
        self.voice(Voice::Ended);
        let number = self.transcribes();
        self.tell(number, News::Transcript(""));
    }

    /// The box is sure that the caller interrupts, and has cleared the queue.
    fn interrupt(&mut self) -> Vec<Out> {
        self.agent.handle_interrupted(self.progress, self.now);
        self.progress.played = self.progress.pushed;
        self.poll()
    }

    fn sent(&mut self) -> Vec<Sent> {
        self.orders.handle_bytes(&std::mem::take(self.agent.outbound()));
        let mut sent = Vec::new();
        while let Some((number, order)) = self.orders.next_order().expect("an order") {
            sent.push(match order {
                Order::Listen => Sent::Listen,
                Order::Hear(samples) => Sent::Hear(samples.len()),
                Order::Transcribe => Sent::Transcribe(number),
                Order::Think(body) => Sent::Think(number, serde_json::from_slice(body).expect("JSON")),
                Order::Speak(rate, text) => Sent::Speak(number, rate, text.to_owned()),
                Order::Cancel => Sent::Cancel(number),
            });
        }
        sent
    }

    /// The one thing that was sent is a request for the caller's words, apart from what they said.
    fn transcribes(&mut self) -> u32 {
        let sent = self.sent();
        let Some(Sent::Transcribe(number)) = sent.last() else { panic!("{sent:?}") };
        *number
    }

    fn thinks(&mut self) -> (u32, Value) {
        let mut sent = self.sent();
        match (sent.pop(), sent.is_empty()) {
            (Some(Sent::Think(number, request)), true) => (number, request),
            (last, _) => panic!("{sent:?} and {last:?}"),
        }
    }

    fn speaks<const N: usize>(&mut self) -> [(u32, String); N] {
        let spoken = self.sent().into_iter().map(|sent| match sent {
            Sent::Speak(number, SampleRate::Hz8000, text) => (number, text),
            other => panic!("{other:?}"),
        });
        spoken.collect::<Vec<_>>().try_into().expect("so many")
    }
}
