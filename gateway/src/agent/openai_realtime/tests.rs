//! Whole conversations with a scripted server, in virtual time.

mod bench;
mod functions;

use base64_simd::STANDARD;
use serde_json::Value;
use talkstack_control::port::{ProviderKind, Speaker};
use talkstack_media::audio::frame::SampleRate;
use talkstack_media::codec::Codec;

use super::dialect::TRANSCRIPTION_MODEL;
use super::*;
use crate::agent::keys::KEYS_QUIET;
use crate::agent::openai_realtime::dialect::declared;
use crate::agent::tools::Tools;
use crate::agent::websocket::OUTBOUND_BYTES_MAX;
use bench::*;

#[test]
fn a_server_that_speaks_the_beta_is_told_so_and_understood() {
    let mut bench = Bench::of(ProviderKind::OpenAiRealtimeBeta, opening(), Codec::Pcma);
    bench.receive(json!({ "type": "session.created" }));
    let session = json!({
        "modalities": ["text", "audio"], "voice": "marin", "instructions": "Be kind to John.",
        "input_audio_format": "g711_alaw", "output_audio_format": "g711_alaw",
        "input_audio_transcription": { "model": TRANSCRIPTION_MODEL },
        "turn_detection": { "type": "server_vad", "create_response": true, "interrupt_response": true },
        "tools": tools(),
    });
    assert_eq!(bench.sent(), [json!({ "type": "session.update", "session": session })]);
    let updated = json!({ "type": "session.updated", "session": { "output_audio_format": "g711_alaw" } });
    assert_eq!(bench.receive(updated), [Out::Ready]);
    bench.receive(json!({ "type": "response.created", "response": { "id": "r" } }));
    let delta = STANDARD.encode_to_string([0xd5; 160]);
    let heard =
        bench.receive(json!({ "type": "response.audio.delta", "response_id": "r", "item_id": "i", "delta": delta }));
    assert_eq!(heard, [Out::Play(160)]);
}

#[test]
fn nothing_is_sent_before_the_session_is_described_and_no_audio_before_it_is_set_up() {
    let mut bench = Bench::connected(opening());
    bench.speak(3);
    assert_eq!(bench.sent(), [] as [Value; 0]);
    assert_eq!(bench.receive(json!({ "type": "session.created", "event_id": "e", "session": null })), []);
    let format = json!({ "type": "audio/pcmu" });
    let session = json!({
        "type": "realtime",
        "instructions": "Be kind to John.",
        "output_modalities": ["audio"],
        "audio": {
            "input": {
                "format": format,
                "transcription": { "model": TRANSCRIPTION_MODEL },
                "turn_detection": { "type": "server_vad", "create_response": true, "interrupt_response": true },
            },
            "output": { "format": format, "voice": "marin" },
        },
        "tools": tools(),
    });
    assert_eq!(bench.sent(), [json!({ "type": "session.update", "session": session })]);
    bench.speak(3);
    assert_eq!(bench.sent(), [] as [Value; 0]);
    assert!(!bench.agent.is_ready());
    assert_eq!(bench.receive(json!({ "type": "session.updated", "session": { "audio": null } })), [Out::Ready]);
    assert_eq!(bench.sent(), [json!({ "type": "response.create" })], "the agent greets");
    bench.speak(1);
    let audio = STANDARD.encode_to_string([0x55; 160]);
    assert_eq!(bench.sent(), [json!({ "type": "input_audio_buffer.append", "audio": audio })]);
    bench.agent.handle_audio(&Frame::linear(SampleRate::Hz8000, &[0; 160]));
    assert_eq!(bench.sent().len(), 1, "silence too");
}

#[test]
fn an_alaw_line_is_passed_through_as_alaw_and_another_format_is_a_loss() {
    let mut bench = Bench::new(opening(), Codec::Pcma);
    bench.receive(json!({ "type": "session.created" }));
    let update = bench.sent().remove(0);
    assert_eq!(update["session"]["audio"]["output"]["format"], json!({ "type": "audio/pcma" }));
    for echo in [
        json!({ "audio": { "input": { "format": { "type": "audio/pcm", "rate": 24000 } } } }),
        json!({ "audio": { "input": null, "output": { "format": { "type": "audio/pcmu" } } } }),
        json!({ "input_audio_format": "pcm16" }),
    ] {
        let mut bench = Bench::new(opening(), Codec::Pcma);
        bench.receive(json!({ "type": "session.created" }));
        let heard = bench.receive(json!({ "type": "session.updated", "session": echo }));
        assert_eq!(heard, [Out::Lost(AgentLoss::Format)], "{echo}");
    }
    let echo =
        json!({ "audio": { "output": { "format": { "type": "audio/pcma" } } }, "input_audio_format": "g711_alaw" });
    assert_eq!(bench.receive(json!({ "type": "session.updated", "session": echo })), [Out::Ready]);
}

#[test]
fn a_wideband_line_gets_linear_audio_at_24_khz_and_milliseconds_stay_exact() {
    let mut bench = Bench::new(opening(), Codec::Opus);
    bench.receive(json!({ "type": "session.created" }));
    let update = bench.sent().remove(0);
    let format = json!({ "type": "audio/pcm", "rate": 24000 });
    let audio = &update["session"]["audio"];
    assert_eq!((&audio["input"]["format"], &audio["output"]["format"]), (&format, &format));
    let echo = json!({ "audio": { "input": { "format": { "type": "audio/pcm", "rate": 16000 } } } });
    let mut other = Bench::new(opening(), Codec::Opus);
    other.receive(json!({ "type": "session.created" }));
    let heard = other.receive(json!({ "type": "session.updated", "session": echo }));
    assert_eq!(heard, [Out::Lost(AgentLoss::Format)]);
    let echo = json!({ "audio": { "output": { "format": format } }, "output_audio_format": "pcm16" });
    assert_eq!(bench.receive(json!({ "type": "session.updated", "session": echo })), [Out::Ready]);
    bench.sent();
    bench.agent.handle_audio(&Frame::linear(SampleRate::Hz16000, &[0; 320]));
    let sent = bench.sent();
    assert_eq!(sent[0]["audio"], json!(STANDARD.encode_to_string([0; 960])));
    bench.begin_response("r");
    // A second of it, cut where no sample ends.
    let said = vec![0; 48_000];
    let (first, second) = said.split_at(20_001);
    let delta = |part: &[u8]| {
        json!({ "type": "response.output_audio.delta", "item_id": "a", "response_id": "r", "content_index": 0,
            "delta": STANDARD.encode_to_string(part) })
    };
    assert_eq!(bench.receive(delta(first)), [Out::Play(9999)]);
    assert_eq!(bench.receive(delta(second)), [Out::Play(14_001)]);
    assert_eq!(bench.progress.pushed, 8000);
    bench.play(2400);
    bench.sent();
    assert_eq!(bench.receive(json!({ "type": "input_audio_buffer.speech_started", "item_id": "c" })), [Out::Clear]);
    let truncated = &bench.sent()[0];
    assert_eq!((&truncated["item_id"], &truncated["audio_end_ms"]), (&json!("a"), &json!(300)));
}

#[test]
fn the_owner_s_greeting_is_said_once_and_only_by_an_agent_that_speaks_first() {
    let mut bench = Bench::ready(Opening { greeting: Some("Hi John!".into()), ..opening() });
    let created = bench.sent().pop().expect("a response");
    let instructions = created["response"]["instructions"].as_str().expect("instructions").to_owned();
    assert!(instructions.ends_with("Hi John!"), "{instructions}");
    bench.agent.greet();
    bench.receive(json!({ "type": "response.created", "response": { "id": "r" } }));
    bench.receive(json!({ "type": "response.done", "response": { "id": "r", "status": "completed" } }));
    assert_eq!(bench.sent(), [] as [Value; 0]);
    let mut bench = Bench::ready(Opening { first_speaker: FirstSpeaker::Caller, ..opening() });
    bench.agent.greet();
    assert_eq!(bench.kinds_sent(), ["session.update"]);
}

#[test]
fn an_agent_that_is_told_when_to_greet_waits_and_holds_its_tongue_when_the_callee_has_spoken() {
    let waiting = Opening { greets: Greets::WhenTold, ..opening() };
    let mut bench = Bench::ready(waiting.clone());
    assert_eq!(bench.kinds_sent(), ["session.update"]);
    bench.agent.greet();
    assert_eq!(bench.kinds_sent(), ["response.create"]);
    let mut bench = Bench::ready(waiting.clone());
    bench.receive(json!({ "type": "input_audio_buffer.speech_started", "item_id": "u", "audio_start_ms": 0 }));
    bench.agent.greet();
    assert_eq!(bench.kinds_sent(), ["session.update"]);
    let mut bench = Bench::connected(waiting);
    bench.agent.greet();
    bench.set_up();
    assert_eq!(bench.kinds_sent(), ["session.update", "response.create"], "told before it was ready");
}

#[test]
fn audio_of_any_chunk_size_is_played_under_both_names_and_nulls_and_the_unknown_are_ignored() {
    let mut bench = Bench::ready(opening());
    assert_eq!(bench.receive(json!({ "type": "response.output_audio.delta", "delta": null, "item_id": null })), []);
    assert_eq!(bench.receive(json!({ "type": "response.output_audio.delta", "item_id": 7, "delta": [] })), []);
    assert_eq!(bench.receive(json!({ "type": "weather.changed", "item_id": {}, "response": 3 })), []);
    assert_eq!(bench.receive(json!({ "event_id": "no type" })), []);
    for bytes in [1, 159, 161, 1344, 8000] {
        assert_eq!(bench.receive(delta("a", bytes)), [Out::Play(bytes)]);
    }
    let mut beta = delta("a", 5);
    beta["type"] = json!("response.audio.delta");
    assert_eq!(bench.receive(beta), [Out::Play(5)]);
    assert_eq!(bench.receive_text("not JSON"), [Out::Lost(AgentLoss::NotJson)]);
}

#[test]
fn an_interruption_clears_the_queue_and_tells_how_many_milliseconds_were_really_played() {
    let mut bench = Bench::ready(opening());
    bench.begin_response("r");
    for item in ["a", "b", "c"] {
        bench.receive(delta(item, 8000));
        bench.receive(json!({ "type": "response.output_audio.done", "item_id": item, "response_id": "r" }));
    }
    bench.play(8000 + 1927);
    bench.sent();
    assert_eq!(bench.receive(speech_started("u")), [Out::Clear]);
    let truncate = |item: &str, ms: u64| json!({ "type": "conversation.item.truncate", "item_id": item, "content_index": 0, "audio_end_ms": ms });
    assert_eq!(bench.sent(), [truncate("b", 240), truncate("c", 0)], "floor of 240.875; none for what was heard");
    assert_eq!(bench.receive(delta("b", 80)), [], "late audio of an interrupted item");
    assert_eq!(bench.receive(delta("d", 80)), [], "late audio of an interrupted response");
    assert_eq!(bench.receive(delta("d", 80)), []);
    assert_eq!(bench.sent(), [truncate("d", 0)], "once");
    bench.receive(json!({ "type": "response.done", "response": { "id": "r", "status": "cancelled" } }));
    bench.receive(json!({ "type": "input_audio_buffer.speech_stopped", "item_id": "u" }));
    bench.begin_response("r2");
    let mut next = delta("e", 80);
    next["response_id"] = json!("r2");
    assert_eq!(bench.receive(next), [Out::Play(80)], "the next response is heard");
    bench.play(80);
    assert_eq!(bench.receive(speech_started("u2")), [], "nothing is queued");
    assert_eq!(bench.sent(), [truncate("e", 10)], "it is not complete");
}

#[test]
fn what_the_box_has_cut_off_is_truncated_cancelled_and_not_heard_of_again() {
    let mut bench = Bench::ready(opening());
    bench.begin_response("r");
    bench.receive(delta("a", 800));
    bench.play(240);
    bench.sent();
    bench.agent.handle_interrupted(bench.progress, bench.now);
    bench.progress.played = bench.progress.pushed;
    let truncate =
        json!({ "type": "conversation.item.truncate", "item_id": "a", "content_index": 0, "audio_end_ms": 30 });
    assert_eq!(bench.sent(), [truncate, json!({ "type": "response.cancel", "response_id": "r" })]);
    assert_eq!(bench.receive(delta("a", 800)), [], "the rest of it");
    assert_eq!(bench.receive(speech_started("u")), [], "the server has heard it too");
    assert_eq!(bench.sent(), [] as [Value; 0], "and needs to be told nothing more");
    bench.receive(json!({ "type": "response.done", "response": { "id": "r", "status": "cancelled" } }));
    bench.begin_response("r2");
    let mut next = delta("b", 80);
    next["response_id"] = json!("r2");
    assert_eq!(bench.receive(next), [Out::Play(80)], "the answer is heard");
}

#[test]
fn an_item_that_was_heard_to_its_end_is_not_truncated_and_items_that_interleave_are_counted_apart() {
    let mut bench = Bench::ready(opening());
    bench.begin_response("r");
    bench.receive(delta("a", 800));
    bench.receive(json!({ "type": "response.output_audio.done", "item_id": "a" }));
    bench.play(800);
    bench.sent();
    bench.receive(speech_started("u"));
    assert_eq!(bench.sent(), [] as [Value; 0]);

    let mut bench = Bench::ready(opening());
    bench.begin_response("r");
    for item in ["a", "b", "a", "b"] {
        bench.receive(delta(item, 80));
    }
    bench.play(200);
    bench.sent();
    bench.receive(speech_started("u"));
    let ends: Vec<_> = bench.sent().iter().map(|sent| sent["audio_end_ms"].clone()).collect();
    assert_eq!(ends, [json!(15), json!(10)]);
}

#[test]
fn keys_are_told_after_a_pause_and_answered_when_no_response_is_going_on() {
    let mut bench = Bench::ready(opening());
    bench.begin_response("r");
    bench.sent();
    bench.agent.handle_digit('5');
    bench.poll();
    bench.wait(KEYS_QUIET / 2);
    bench.agent.handle_digit('#');
    bench.poll();
    bench.wait(KEYS_QUIET / 2);
    assert_eq!(bench.sent(), [] as [Value; 0]);
    bench.wait(KEYS_QUIET / 2);
    let sent = bench.sent();
    assert_eq!(sent.len(), 1, "the response waits for the other: {sent:?}");
    assert_eq!(sent[0]["item"]["content"][0], json!({ "type": "input_text", "text": "The caller pressed 5#" }));
    bench.receive(json!({ "type": "response.done", "response": { "id": "r" } }));
    assert_eq!(bench.sent(), [json!({ "type": "response.create" })]);
}

#[test]
fn a_response_that_the_server_began_first_only_delays_ours() {
    let mut bench = Bench::ready(opening());
    bench.sent();
    let error = json!({ "type": "invalid_request_error", "code": "conversation_already_has_active_response", "message": "x", "param": null, "event_id": null });
    assert_eq!(bench.receive(json!({ "type": "error", "error": error })), []);
    assert_eq!(bench.sent(), [] as [Value; 0]);
    bench.receive(json!({ "type": "response.done", "response": { "id": "theirs", "status": "completed" } }));
    assert_eq!(bench.sent(), [json!({ "type": "response.create" })]);
    assert_eq!(bench.receive(json!({ "type": "error", "error": null })), [], "not fatal");
    assert_eq!(
        bench.receive(json!({ "type": "error", "error": { "code": "session_expired" } })),
        [Out::Lost(AgentLoss::Expired)]
    );
}

#[test]
fn a_greeting_that_crosses_with_the_caller_s_first_word_is_cancelled() {
    let mut bench = Bench::ready(opening());
    bench.receive(speech_started("u"));
    bench.sent();
    bench.receive(json!({ "type": "response.created", "response": { "id": "r" } }));
    assert_eq!(bench.sent(), [json!({ "type": "response.cancel", "response_id": "r" })]);
    assert_eq!(bench.receive(delta("a", 80)), []);
}

#[test]
fn what_both_said_is_told_in_the_order_of_speaking_whenever_the_transcripts_come() {
    let mut bench = Bench::ready(opening());
    bench.begin_response("r");
    bench.receive(delta("a", 8000));
    bench.receive(transcript("a", "Hello, how may I help?"));
    assert_eq!(bench.receive(json!({ "type": "response.output_audio.done", "item_id": "a" })), []);
    bench.receive(json!({ "type": "response.done", "response": { "id": "r" } }));
    let began = bench.now;
    assert_eq!(bench.play(8000), [Out::Said(Speaker::Agent, "Hello, how may I help?".into(), began)]);
    bench.wait(Duration::from_secs(1));
    let spoke = bench.now;
    assert_eq!(bench.receive(speech_started("u")), []);
    bench.receive(json!({ "type": "input_audio_buffer.speech_stopped", "item_id": "u" }));
    bench.begin_response("r2");
    bench.receive(delta("b", 800));
    bench.receive(transcript("b", "At nine."));
    bench.receive(json!({ "type": "response.output_audio.done", "item_id": "b" }));
    let began = bench.now;
    assert_eq!(bench.play(800), [], "the caller spoke before");
    let words = json!({ "type": "conversation.item.input_audio_transcription.completed", "item_id": "u", "content_index": 0, "transcript": " When do you open? ", "usage": null });
    assert_eq!(
        bench.receive(words),
        [
            Out::Said(Speaker::Caller, "When do you open?".into(), spoke),
            Out::Said(Speaker::Agent, "At nine.".into(), began)
        ]
    );
}

#[test]
fn an_interrupted_agent_s_words_are_cut_in_proportion_to_what_was_heard() {
    let mut bench = Bench::ready(opening());
    bench.begin_response("r");
    bench.receive(delta("a", 8000));
    bench.receive(transcript("a", "one two three four five"));
    bench.play(4000);
    let said = bench.receive(speech_started("u"));
    assert!(matches!(&said[..], [Out::Clear, Out::Said(Speaker::Agent, text, _)] if text == "one two"), "{said:?}");
    bench.receive(json!({ "type": "response.done", "response": { "id": "r", "status": "cancelled" } }));
    assert_eq!(bench.poll(), []);

    // Words that come behind the interruption, and audio that nobody heard, count towards the whole.
    let mut bench = Bench::ready(opening());
    bench.begin_response("r");
    bench.receive(delta("a", 8000));
    bench.play(4000);
    assert_eq!(bench.receive(speech_started("u")), [Out::Clear]);
    bench.receive(delta("a", 8000));
    let said = bench.receive(transcript("a", "one two three four five six seven eight"));
    assert!(matches!(&said[..], [Out::Said(Speaker::Agent, text, _)] if text == "one two"), "{said:?}");
}

#[test]
fn a_transcript_that_never_comes_keeps_the_others_for_ten_seconds_and_the_end_of_the_call_for_none() {
    let mut bench = Bench::ready(opening());
    bench.receive(speech_started("lost"));
    bench.receive(json!({ "type": "input_audio_buffer.speech_stopped", "item_id": "lost" }));
    bench.begin_response("r");
    bench.receive(delta("a", 800));
    bench.receive(transcript("a", "Sorry?"));
    bench.receive(json!({ "type": "response.output_audio.done", "item_id": "a" }));
    bench.play(800);
    assert_eq!(bench.agent.poll_timeout(), Some(bench.now + Duration::from_secs(10)));
    let said = bench.wait(Duration::from_secs(10));
    assert!(matches!(&said[..], [Out::Said(Speaker::Agent, text, _)] if text == "Sorry?"), "{said:?}");

    bench.receive(speech_started("lost too"));
    bench.begin_response("r2");
    let mut more = delta("b", 1600);
    more["response_id"] = json!("r2");
    bench.receive(more);
    bench.receive(transcript("b", "Half of it"));
    bench.play(800);
    let last = bench.agent.poll_last_words(bench.progress).expect("words");
    assert_eq!((last.speaker, &*last.text), (Speaker::Agent, "Half"));
    assert_eq!(bench.agent.poll_last_words(bench.progress), None);
}

#[test]
fn an_agent_that_fails_twice_in_a_row_or_closes_or_reads_nothing_is_lost() {
    let mut bench = Bench::ready(opening());
    let failed = || json!({ "type": "response.done", "response": { "id": null, "status": "failed" } });
    assert_eq!(bench.receive(failed()), []);
    assert_eq!(bench.receive(json!({ "type": "response.done", "response": { "status": "completed" } })), []);
    assert_eq!(bench.receive(failed()), []);
    assert_eq!(bench.receive(failed()), [Out::Lost(AgentLoss::Failing)]);

    let mut bench = Bench::ready(opening());
    bench.agent.handle_disconnect();
    assert_eq!(bench.poll(), [Out::Lost(AgentLoss::Disconnected)]);
    assert_eq!(bench.poll(), []);

    let mut bench = Bench::ready(opening());
    bench.speak(1200);
    assert_eq!(bench.poll(), [Out::Lost(AgentLoss::Stalled)]);
    assert!(bench.agent.outbound().len() < OUTBOUND_BYTES_MAX + 1000);
}

#[test]
fn a_server_that_floods_the_session_with_items_or_turns_is_lost_and_one_with_functions_is_bounded() {
    let mut bench = Bench::ready(opening());
    let lost = (0..1000).find_map(|item| {
        bench.receive(delta(&item.to_string(), 1)).pop().filter(|out| *out == Out::Lost(AgentLoss::Flood))
    });
    assert!(lost.is_some(), "items");
    let mut bench = Bench::ready(opening());
    let turns: Vec<u8> = (0..1000).flat_map(|turn| frame(&speech_started(&turn.to_string()).to_string())).collect();
    bench.agent.handle_bytes(&turns);
    assert_eq!(bench.poll(), [Out::Lost(AgentLoss::Flood)]);
    let mut bench = Bench::ready(opening());
    bench.sent();
    let calls: Vec<_> = (0..1000).map(|call| json!({ "type": "function_call", "call_id": call.to_string() })).collect();
    bench.receive(json!({ "type": "response.done", "response": { "id": "r", "output": calls } }));
    assert_eq!(bench.sent().len(), CALLS_ANSWERED + 1);
}

#[test]
fn what_was_said_and_pressed_is_in_no_debug_text() {
    let mut bench = Bench::ready(opening());
    bench.receive(delta("a", 8000));
    bench.receive(transcript("a", "Your secret is safe"));
    bench.agent.handle_digit('7');
    let shown = format!("{:?}", bench.agent);
    assert!(!shown.contains("secret") && !shown.contains('7') && !shown.contains("kind"), "{shown}");
}

#[test]
fn a_frame_costs_no_allocation_in_steady_state() {
    let mut bench = Bench::ready(opening());
    bench.speak(50);
    bench.sent();
    bench.speak(2);
    let event = delta("a", 160).to_string();
    assert!(read_event::<Event<'_>>(&event).is_ok_and(|event| event.borrows()), "the audio is read where it lies");
    let (capacity, buffer) = (bench.agent.outbound().capacity(), bench.agent.sound.audio.capacity());
    for _ in 0..500 {
        bench.agent.outbound().clear();
        bench.speak(2);
        bench.receive_text(&event);
    }
    assert_eq!((bench.agent.outbound().capacity(), bench.agent.sound.audio.capacity()), (capacity, buffer));
}

/// What one response may call.
const CALLS_ANSWERED: usize = 64;

fn tools() -> Value {
    Tools::usual().functions().map(declared).collect()
}
