//! Sound, keys and sources, packet by packet.

use std::net::Ipv4Addr;
use std::time::Duration;

use talkstack_media::codec::Codec;

use crate::caller::{Caller, Stranger};
use crate::daemon::Daemon;
use crate::phones::prompt;
use crate::signal::{best_match, longest_gap};

#[test]
fn the_keys_of_the_menu_do_what_it_says_whatever_is_lost_of_their_packets() {
    let daemon = Daemon::serve(&[]);
    let mut caller = Caller::call(daemon.sip(), "attendant", "0 101", EVENTS);
    caller.hum(SHORT);
    caller.take_heard(Codec::Pcmu);
    // Key, how many of its end packets arrive, and what is heard then.
    for (key, ends, heard) in [
        (9, 3, "de/greeting"),
        (9, 1, "en/greeting"),
        (2, 0, "en/greeting"),
        (1, 3, "en/echo_intro"),
        (3, 2, "en/echo_end"),
    ] {
        caller.press(key, Duration::from_millis(100), ends);
        caller.hum(SHORT);
        let samples = caller.take_heard(Codec::Pcmu);
        let (_, score) = best_match(&samples, &prompt(heard)[1000..4000]);
        assert!(score >= 0.9, "{heard} after key {key}: {score:.3}");
        assert!(longest_gap(&samples) < Duration::from_millis(60), "gap of {:?}", longest_gap(&samples));
    }
    caller.press(3, Duration::from_millis(100), 3);
    for _ in 0..250 {
        if !caller.is_over {
            caller.hum(Duration::from_millis(20));
        }
    }
    assert!(caller.is_over, "goodbye and the end");
    assert_eq!(daemon.ended_calls(1)[0]["outcome"]["blame"], "agent");
}

#[test]
fn a_key_held_for_five_seconds_is_one_key() {
    let daemon = Daemon::serve(&[]);
    let mut caller = Caller::call(daemon.sip(), "demo", "0 101", EVENTS);
    caller.hum(SHORT);
    caller.take_heard(Codec::Pcmu);
    caller.press(9, Duration::from_secs(5), 3);
    caller.hum(SHORT);
    let samples = caller.take_heard(Codec::Pcmu);
    let german = prompt("de/greeting");
    let (_, begin) = best_match(&samples[..16_000], &german[1000..4000]);
    let (_, on) = best_match(&samples[24_000..], &german[30_000..33_000]);
    assert!(begin >= 0.9 && on >= 0.9, "the greeting begins ({begin:.3}) and goes on ({on:.3})");
    caller.hang_up();
}

#[test]
fn a_law_alone_and_packets_of_10_30_and_40_ms_are_echoed_byte_for_byte() {
    let daemon = Daemon::serve(&[]);
    for (formats, codec, milliseconds) in [("8", Codec::Pcma, 10), ("8", Codec::Pcma, 30), ("0", Codec::Pcmu, 40)] {
        let mut caller = Caller::call(daemon.sip(), "echo", formats, &format!("a=ptime:{milliseconds}\r\n"));
        assert!(caller.answer.contains(&format!("{}/8000", codec.name())), "{}", caller.answer);
        let bytes = milliseconds * 8;
        let words: Vec<Vec<u8>> = (0..1200 / milliseconds)
            .map(|number| (0..bytes).map(|at| 0x80 | (number * 31 + at * 7 + at / 16) as u8 & 0x7e | 1).collect())
            .collect();
        for word in &words {
            caller.send(word, bytes as u32);
        }
        caller.stream.payload_type = formats.parse().expect("a number");
        caller.hum(Duration::from_millis(300));
        let sent = words.concat();
        let found = caller.heard.windows(2000).any(|window| window == &sent[2000..4000]);
        assert!(found, "{formats} in packets of {milliseconds} ms");
        caller.hang_up();
    }
}

#[test]
fn a_stranger_neither_hears_nor_is_heard_before_and_after_the_caller_is_known() {
    let daemon = Daemon::serve(&[]);
    let mut caller = Caller::call(daemon.sip(), "echo", "0", "");
    let (mut far, mut near) =
        (Stranger::on(Ipv4Addr::new(127, 0, 0, 2).into()), Stranger::on(Ipv4Addr::LOCALHOST.into()));
    for _ in 0..20 {
        far.send(caller.media);
    }
    // Five packets in a row prove the caller; the one of the near stranger in between proves nothing.
    near.send(caller.media);
    for _ in 0..60 {
        caller.send(&[0xb5; 160], 160);
        far.send(caller.media);
    }
    caller.heard.clear();
    for _ in 0..60 {
        caller.send(&[0xb5; 160], 160);
        near.send(caller.media);
        far.send(caller.media);
    }
    assert!(!far.was_answered() && !near.was_answered(), "the box talks to a stranger");
    assert!(!caller.heard.contains(&0x11), "the stranger is heard");
    let own = caller.heard.iter().filter(|byte| **byte == 0xb5).count();
    assert!(own > 50 * 160, "{own} bytes of the caller's own");
    caller.hang_up();
}

#[test]
fn another_source_sequence_and_timestamp_go_on_sounding_and_keys_still_count() {
    let daemon = Daemon::serve(&[]);
    let mut caller = Caller::call(daemon.sip(), "echo", "0", "");
    caller.hum(Duration::from_millis(300));
    let jumps: [fn(&mut Caller); 5] = [
        |caller| caller.stream.ssrc = 78,
        |caller| caller.stream.sequence = caller.stream.sequence.wrapping_add(20_000),
        |caller| caller.stream.timestamp = caller.stream.timestamp.wrapping_add(70_000),
        |caller| caller.stream.timestamp = caller.stream.timestamp.wrapping_sub(3_000_000),
        |caller| {
            // A payload type nobody agreed on fills its place and says nothing.
            caller.stream.payload_type = 18;
            caller.send(&[0x11; 20], 160);
            caller.stream.payload_type = 0;
        },
    ];
    for (at, jump) in jumps.into_iter().enumerate() {
        jump(&mut caller);
        caller.heard.clear();
        for _ in 0..40 {
            caller.send(&[0xb5; 160], 160);
        }
        let own = caller.heard.iter().filter(|byte| **byte == 0xb5).count();
        assert!(own > 25 * 160, "{own} bytes came back after jump {at}");
        caller.hum(Duration::from_millis(300));
    }
    caller.hang_up();
    let mut caller = Caller::call(daemon.sip(), "demo", "0 101", EVENTS);
    caller.hum(SHORT);
    caller.press(9, Duration::from_millis(100), 3);
    caller.hum(Duration::from_millis(200));
    caller.stream.ssrc = 79;
    caller.stream.timestamp = caller.stream.timestamp.wrapping_sub(1_000_000);
    caller.hum(Duration::from_millis(200));
    caller.take_heard(Codec::Pcmu);
    caller.press(1, Duration::from_millis(100), 3);
    caller.hum(SHORT);
    let (_, score) = best_match(&caller.take_heard(Codec::Pcmu), &prompt("de/echo_intro")[1000..4000]);
    assert!(score >= 0.9, "the key of the new source: {score:.3}");
    caller.hang_up();
}

#[test]
fn keys_are_collected_behind_the_agent_s_back_as_events_and_as_tones() {
    let daemon = Daemon::serve(&[]);
    for formats in ["0 101", "0"] {
        let is_event = formats.contains("101");
        let mut caller = Caller::call(daemon.sip(), "echo", formats, if is_event { EVENTS } else { "" });
        caller.hum(SHORT);
        let id = daemon.calls()[0]["sid"].as_str().expect("an id").to_owned();
        let collected = std::thread::scope(|scope| {
            let collecting = scope.spawn(|| daemon.command(&["call", "digits", &id, "--max", "9", "--json"]));
            caller.start_talking();
            // The caller hears themselves until the collection has begun.
            let begun = (0..100).any(|_| {
                caller.heard.clear();
                (0..10).for_each(|_| caller.send(&[0xb5; 160], 160));
                !caller.heard.contains(&0xb5)
            });
            assert!(begun, "the echo has not fallen silent");
            let mut heard = Vec::new();
            for (at, key) in [4, 7, 1, 1, 11].into_iter().enumerate() {
                if is_event {
                    caller.press(key, Duration::from_millis(100), 3);
                } else {
                    press_in_audio(&mut caller, key, if at == 4 { 50 } else { 5 });
                }
                heard.extend(caller.take_heard(Codec::Pcmu));
                caller.hum(Duration::from_millis(100));
            }
            let loud = heard.iter().filter(|sample| sample.unsigned_abs() > 1000).count();
            assert_eq!(loud, 0, "what was pressed came back");
            collecting.join().expect("an answer")
        });
        let collected: serde_json::Value = serde_json::from_str(&collected).expect("JSON");
        assert_eq!((&collected["digits"], &collected["ended_by"]), (&"4711".into(), &"finish_key".into()), "{formats}");
        assert!(!daemon.log().contains("4711"));
        caller.hang_up();
        daemon.ended_calls(1 + usize::from(!is_event));
    }
}

/// Sends a key as the tones that it is made of (ITU-T Q.23), for so many packets of 20 ms.
fn press_in_audio(caller: &mut Caller, key: u8, packets: usize) {
    let (low, high) = match key {
        1 => (697.0, 1209.0),
        4 => (770.0, 1209.0),
        7 => (852.0, 1209.0),
        11 => (941.0, 1477.0),
        _ => panic!("not one of the keys that are pressed here"),
    };
    let wave = |at: usize, hertz: f64| (at as f64 * hertz * std::f64::consts::TAU / 8000.0).sin();
    let samples: Vec<i16> = (0..packets * 160).map(|at| (6000.0 * (wave(at, low) + wave(at, high))) as i16).collect();
    for samples in samples.chunks(160) {
        let mut payload = Vec::new();
        Codec::Pcmu.encode(samples, &mut payload);
        caller.send(&payload, 160);
    }
}

#[test]
fn media_and_signalling_come_before_everything_else() {
    let daemon = Daemon::serve(&[]);
    let mut threads = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("Linux").flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).expect("Linux");
        let (head, tail) = stat.rsplit_once(')').expect("a name");
        let nice: i32 = tail.split_ascii_whitespace().nth(16).and_then(|nice| nice.parse().ok()).expect("a number");
        threads.push((head.split_once('(').expect("a name").1.to_owned(), nice));
    }
    let of = |first: bool| {
        let named = threads.iter().filter(move |(name, _)| (name == "sip" || name.starts_with("media-")) == first);
        named.map(|(_, nice)| *nice).collect::<Vec<_>>()
    };
    let (first, behind) = (of(true), of(false));
    assert!(first.len() >= 2 && first.iter().all(|nice| *nice == first[0]), "{threads:?}");
    assert!(behind.len() >= 3 && behind.iter().all(|nice| *nice == (first[0] + 5).min(19)), "{threads:?}");
}

const EVENTS: &str = "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n";

/// Enough to know a prompt by.
const SHORT: Duration = Duration::from_millis(900);
