//! Calls over networks that do them harm, and on a box that is held up: what is heard is compared with what was said.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use talkstack_media::codec::Codec;

use crate::caller::Caller;
use crate::daemon::{Daemon, wait_until};
use crate::phones::prompt;
use crate::relay::{BothWays, Damage};
use crate::rtp_phone::RtpPhone;
use crate::signal::{best_match, write_wav};
use crate::sipp::Sipp;

#[test]
fn more_damage_is_a_lower_score_and_fewer_words_and_never_the_end_of_the_call() {
    let daemon = Daemon::serve(&[]);
    let speech: Vec<i16> = prompt("en/greeting").into_iter().take(6 * 8000).collect();
    // One after the other, so that the box's list has them in this order; then they talk all at once.
    let callers: Vec<Caller> = DAMAGES
        .iter()
        .enumerate()
        .map(|(at, damage)| {
            let caller = Caller::call_over(daemon.sip(), "echo", "0", *damage, BothWays::No, SEED);
            // Two that begin in one millisecond would be in no order.
            wait_until("the call is listed", || (daemon.calls().len() > at).then_some(()));
            caller
        })
        .collect();
    let heard: Vec<Vec<i16>> = std::thread::scope(|scope| {
        let speech = &speech;
        let talks: Vec<_> = callers.into_iter().map(|caller| scope.spawn(move || say(caller, speech))).collect();
        talks.into_iter().map(|talk| talk.join().expect("the call went on to its end")).collect()
    });
    let mut calls = daemon.ended_calls(DAMAGES.len());
    calls.reverse();
    let figures: Vec<Value> = calls.iter().map(|call| inbound(&daemon, call)).collect();
    println!(
        "{:<28} {:>6} {:>6} {:>6} {:>9} {:>5} {:>7}",
        "damage", "lost", "late", "twice", "concealed", "MOS", "intact"
    );
    let mut rows = Vec::new();
    for ((damage, figures), heard) in DAMAGES.iter().zip(&figures).zip(&heard) {
        let (mos, intact) = (figures["mos"].as_f64().expect("a score"), intact(&speech, heard));
        println!(
            "{:<28} {:>6} {:>6} {:>6} {:>6} ms {mos:>5.2} {:>5.0} %",
            damage.name,
            figures["lost"],
            figures["late"],
            figures["duplicates"],
            figures["concealed_ms"],
            intact * 100.0
        );
        keep(damage, heard);
        rows.push((mos, intact));
    }
    let [none, five, ten, twenty, .., bursts, jitter, doubled] = rows[..] else { panic!("as many rows as damages") };
    assert!(none.0 > five.0 && five.0 > ten.0 && ten.0 > twenty.0, "scores fall with the loss: {rows:?}");
    assert!(none.1 > five.1 && five.1 > ten.1 && ten.1 > twenty.1, "words fall with the loss: {rows:?}");
    assert!(none.1 >= 0.97 && five.1 >= 0.9 && ten.1 >= 0.85 && twenty.1 >= 0.75, "words: {rows:?}");
    assert!(bursts.0 < none.0 && jitter.1 >= 0.8, "{rows:?}");
    assert!(doubled.0 >= none.0 - 0.1 && doubled.1 >= 0.9, "what overtakes and what is doubled does no harm: {rows:?}");
}

#[test]
fn a_call_that_is_harmed_both_ways_goes_on_and_ends_as_it_should() {
    let daemon = Daemon::serve(&[]);
    let harm =
        Damage { loss_percent: 20, burst: 3, jitter_ms: 100, reorder_percent: 10, double_percent: 10, name: "all" };
    let mut caller = Caller::call_over(daemon.sip(), "echo", "0", harm, BothWays::Yes, 9);
    for _ in 0..250 {
        caller.send(&[0xb5; 160], 160);
    }
    assert!(!caller.is_over, "the box hung up");
    let own = caller.heard.iter().filter(|byte| **byte == 0xb5).count();
    assert!(own > 250 * 160 / 3, "{own} bytes came back of {}", 250 * 160);
    caller.hang_up();
    let calls = daemon.ended_calls(1);
    assert_eq!(calls[0]["outcome"]["blame"], "caller");
    let figures = inbound(&daemon, &calls[0]);
    assert!(figures["lost"].as_u64() > Some(10) && figures["concealed_ms"].as_f64() > Some(200.0), "{figures}");
    assert!(figures["wait_ms"].as_f64() > Some(100.0), "the wait has grown with the jitter: {figures}");
}

#[test]
fn a_box_that_was_held_up_catches_up_without_a_burst() {
    let daemon = Daemon::serve(&[]);
    let mut phone = RtpPhone::call(daemon.sip(), "echo");
    phone.say(0x21, Duration::from_millis(600));
    let before = phone.heard.len();
    daemon.signal(Signal::STOP);
    phone.say(0x21, Duration::from_millis(400));
    let during = phone.heard.len() - before;
    daemon.signal(Signal::CONT);
    phone.say(0x21, Duration::from_millis(1500));
    assert!(during <= 3, "{during} packets came from a process that stood still");
    let after = &phone.heard[before + during..];
    assert!(after.len() >= 65, "{} packets came in the second and a half behind it", after.len());
    // Three within the time of less than one are a burst.
    let is_burst = |three: &&[crate::rtp_phone::Packet]| {
        three[2].at.duration_since(three[0].at).unwrap_or_default() < Duration::from_millis(10)
    };
    let bursts = after.windows(3).filter(is_burst).count();
    assert_eq!(bursts, 0, "packets came in bursts");
    let own = after.iter().rev().take(20).filter(|packet| packet.payload.contains(&0x21)).count();
    assert!(own >= 18, "{own} of the last 20 packets are the echo");
    assert!(!phone.was_hung_up);
    phone.hang_up();
}

#[test]
fn a_box_whose_only_ports_are_taken_or_at_rest_says_when_to_try_again() {
    let ports = free_pair();
    let daemon = Daemon::serve(&[("TALKSTACK__RTP__PORTS", &ports), ("TALKSTACK__MEDIA__THREADS", "1")]);
    let mut caller = Caller::call(daemon.sip(), "echo", "0", "");
    caller.hum(Duration::from_millis(100));
    Sipp::new(daemon.sip(), "busy").succeeds();
    assert!(!caller.is_over, "and the call goes on");
    let (late, media) = (caller.rtp.try_clone().expect("a handle"), caller.media);
    caller.hang_up();
    daemon.ended_calls(1);
    // Who goes on sending behind the BYE is not heard by whoever would come next: nobody comes.
    for _ in 0..20 {
        late.send_to(&[0x80; 172], media).expect("sent");
    }
    Sipp::new(daemon.sip(), "busy").succeeds();
}

/// An even port and the one above it that nobody holds at present.
fn free_pair() -> String {
    let pair = (0..100).find_map(|_| {
        let port = UdpSocket::bind("0.0.0.0:0").ok()?.local_addr().ok()?.port() & !1;
        let is_free = |port: u16| UdpSocket::bind(("0.0.0.0", port)).is_ok();
        (is_free(port) && is_free(port + 1)).then(|| format!("{port}-{}", port + 1))
    });
    pair.expect("a free pair of ports")
}

/// One for all: what the smaller loss takes, the greater takes as well.
const SEED: u32 = 1;

/// In falling order of what is done: at random, in bursts, and without loss.
const DAMAGES: [Damage; 7] = [
    Damage::NONE,
    Damage { name: "5 % at random", loss_percent: 5, ..Damage::NONE },
    Damage { name: "10 % at random", loss_percent: 10, ..Damage::NONE },
    Damage { name: "20 % at random", loss_percent: 20, ..Damage::NONE },
    Damage { name: "10 % in bursts of 3", loss_percent: 10, burst: 3, ..Damage::NONE },
    Damage { name: "100 ms of jitter", jitter_ms: 100, ..Damage::NONE },
    Damage { name: "10 % overtaken, 10 % twice", reorder_percent: 10, double_percent: 10, ..Damage::NONE },
];

/// Says it and hears the echo; then the call ends.
fn say(mut caller: Caller, speech: &[i16]) -> Vec<i16> {
    caller.start_talking();
    caller.hum(Duration::from_millis(200));
    for samples in speech.chunks_exact(160) {
        let mut payload = Vec::new();
        Codec::Pcmu.encode(samples, &mut payload);
        caller.send(&payload, 160);
    }
    caller.hum(Duration::from_millis(400));
    assert!(!caller.is_over, "the box hung up");
    let heard = caller.played(Codec::Pcmu);
    caller.hang_up();
    heard
}

/// What the box heard of the caller, by its own figures.
fn inbound(daemon: &Daemon, call: &Value) -> Value {
    let id = call["id"].as_str().or(call["callSid"].as_str()).or(call["sid"].as_str()).expect("an id");
    let shown: Value = serde_json::from_str(&daemon.command(&["call", "show", id, "--json"])).expect("JSON");
    shown["quality"]["first"]["inbound"].clone()
}

/// How like the speech is what is heard where it belongs, 0 to 1: the mean over its loud stretches of 100 ms. A stretch that
/// is found or not would do for one call; between calls the count of them moves by chance more than the damage does.
fn intact(speech: &[i16], heard: &[i16]) -> f64 {
    let is_loud = |stretch: &[i16]| stretch.iter().map(|sample| i64::from(*sample).pow(2)).sum::<i64>() > 800 * 250_000;
    let likenesses: Vec<f64> = speech
        .chunks_exact(800)
        .enumerate()
        .filter(|(_, stretch)| is_loud(stretch))
        .map(|(at, stretch)| {
            // The hum before it and the way there and back: 200 ms and up to 500.
            let from = ((at + 1) * 800).min(heard.len());
            best_match(&heard[from..(from + 800 + 6400).min(heard.len())], stretch).1
        })
        .collect();
    likenesses.iter().sum::<f64>() / likenesses.len() as f64
}

/// For `media/quality/run --heard`, which scores it with PLCMOS.
fn keep(damage: &Damage, heard: &[i16]) {
    if let Some(folder) = std::env::var_os("TALKSTACK_HEARD") {
        write_wav(&PathBuf::from(folder).join(format!("{}.wav", damage.name)), heard);
    }
}
