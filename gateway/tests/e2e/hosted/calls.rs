//! Calls to hosted agents that are there.

use std::time::Duration;

use talkstack_control::port::{Blame, EndReason, Outcome, ProviderKind, Speaker};

use super::{Bench, GREETING, KEY, SILENCE, each, is_loud, question, samples, tones};

#[test]
fn each_greets_answers_and_is_told_the_caller_s_keys() {
    each(|kind| {
        let mut bench = Bench::start(kind, &["--seconds", "1"]);
        let mut phone = bench.call();
        assert_eq!(phone.statuses, ["100", "180", "200"]);
        phone.say_until(SILENCE, |phone| tones(&phone.heard, 1) >= 49);
        phone.say(SILENCE, Duration::from_millis(200));
        phone.say_samples(&question());
        phone.say_until(SILENCE, |phone| tones(&phone.heard, 2) >= 49);
        phone.inform(2, "application/dtmf-relay", "Signal=7\r\nDuration=160\r\n");
        phone.say_until(SILENCE, |phone| tones(&phone.heard, 3) >= 10);
        phone.hang_up();
        assert_eq!(bench.service.events("told")[0]["text"], "The caller pressed 7");
        // It has no place for a greeting but its instructions.
        let greeting = if kind == ProviderKind::Gemini { "Agent turn 1 has seven words here." } else { GREETING };
        assert_eq!(bench.said(), (Speaker::Agent, greeting.into()), "{kind}");
        assert_eq!(bench.said(), (Speaker::Caller, "Caller turn 1.".into()), "{kind}");
        assert_eq!(bench.said(), (Speaker::Agent, "Agent turn 2 has seven words here.".into()), "{kind}");
        assert_eq!(bench.service.wait_for("closed")["code"], 1000, "{kind}");
        bench.service.has_no_complaint();
        assert_eq!(bench.service.events("speech_started").len(), 1, "{kind} has heard the caller once");
        assert!(!bench.log().contains(KEY) && !bench.log().contains("clinic"), "{}", bench.log());
    });
}

#[test]
fn each_falls_silent_when_the_caller_speaks_and_what_comes_late_is_not_heard() {
    each(|kind| {
        let mut bench = Bench::start(kind, &["--scenario", "interrupt", "--seconds", "6"]);
        let mut phone = bench.call();
        phone.say_until(SILENCE, |phone| tones(&phone.heard, 1) >= 60);
        phone.say_samples(&question());
        let at = phone.heard.len();
        let late = phone.heard[at - 15..].iter().filter(|packet| is_loud(packet)).count();
        assert_eq!(late, 0, "{kind}: packets in the last 300 ms of what the caller says");
        phone.say_until(SILENCE, |phone| tones(&phone.heard, 2) >= 25);
        assert_eq!(tones(&phone.heard[at..], 1), 0, "{kind}: what was interrupted");
        phone.hang_up();
        let whole = if kind == ProviderKind::Gemini { "Agent turn 1 has seven words here." } else { GREETING };
        let (speaker, heard) = bench.said();
        let heard = heard.trim_end_matches("...");
        let is_part = !heard.is_empty() && whole.starts_with(heard) && heard.len() < whole.len();
        assert!(speaker == Speaker::Agent && is_part, "{kind}: {heard}");
        assert_eq!(bench.said(), (Speaker::Caller, "Caller turn 1.".into()), "{kind}");
        assert_eq!(bench.service.events("speech_started")[0]["interrupts"], true, "{kind}");
        bench.service.has_no_complaint();
    });
}

#[test]
fn keys_that_an_agent_presses_are_heard_and_it_is_told() {
    each(|kind| {
        let bench = Bench::start(kind, &["--scenario", "send_dtmf", "--seconds", "1"]);
        let mut phone = bench.call();
        phone.say_until(SILENCE, |phone| tones(&phone.heard, 2) >= 10);
        let result = bench.service.events("result")[0]["result"].to_string();
        assert!(result.contains("The keys are being pressed."), "{kind}: {result}");
        bench.service.has_no_complaint();
        // The phone knows no telephone events: the keys are in what it hears.
        for high in [1209.0, 1336.0] {
            let is_key = |samples: &Vec<i16>| power(samples, 697.0) > 0.2 && power(samples, high) > 0.2;
            let count = phone.heard.iter().map(samples).filter(is_key).count();
            assert!(count >= 3, "{kind}: {count} packets with 697 and {high} Hz");
        }
        phone.hang_up();
    });
}

#[test]
fn an_agent_that_ends_the_call_is_heard_to_its_last_word() {
    each(|kind| {
        let mut bench = Bench::start(kind, &["--scenario", "end_call", "--seconds", "1"]);
        let mut phone = bench.call();
        phone.say_until(SILENCE, |phone| phone.was_hung_up);
        let heard = tones(&phone.heard, 1);
        assert!((48..=51).contains(&heard), "{kind}: {heard} packets of 50");
        assert_eq!(bench.control.wait_for_end(), Outcome::new(Blame::Agent, EndReason::HungUp), "{kind}");
        assert_eq!(bench.service.wait_for("closed")["code"], 1000);
        bench.service.has_no_complaint();
    });
}

#[test]
fn each_puts_its_caller_through_to_whom_its_owner_has_named() {
    each(|kind| {
        let bench = Bench::start(kind, &["--scenario", "transfer", "--seconds", "0.5"]);
        let mut phone = bench.call();
        phone.say(SILENCE, Duration::from_millis(1500));
        // The echo says back what the caller says.
        let own = |phone: &crate::rtp_phone::RtpPhone| {
            phone.heard.iter().filter(|packet| packet.payload.contains(&LOUD)).count()
        };
        phone.say_until(LOUD, |phone| own(phone) >= 20);
        phone.hang_up();
        bench.service.has_no_complaint();
    });
}

#[test]
fn an_agent_that_hangs_up_at_its_service_is_heard_to_the_end_and_one_that_closes_is_replaced_behind_it() {
    each(|kind| {
        let mut bench = Bench::start(kind, &["--scenario", "hang_up", "--seconds", "1.5"]);
        let mut phone = bench.call();
        if matches!(kind, ProviderKind::ElevenLabs | ProviderKind::Ultravox) {
            phone.say_until(SILENCE, |phone| phone.was_hung_up);
            let heard = tones(&phone.heard, 1);
            assert!((73..=76).contains(&heard), "{kind}: {heard} packets of 75");
            assert_eq!(bench.control.wait_for_end(), Outcome::new(Blame::Agent, EndReason::HungUp), "{kind}");
            assert!(!bench.log().contains("takes over"), "{}", bench.log());
        } else {
            bench.is_apologised_for(&mut phone);
            // A few packets of the apology sound like the tone.
            let heard = tones(&phone.heard, 1);
            assert!(heard >= 73, "{kind}: {heard} packets of 75");
            assert!(bench.log().contains("has closed its connection; the attendant takes over"), "{}", bench.log());
            phone.hang_up();
        }
        bench.service.has_no_complaint();
    });
}

#[test]
fn nearly_ten_minutes_in_a_second_are_played_in_order_and_forgotten_when_the_caller_speaks() {
    each(|kind| {
        let bench = Bench::start(kind, &["--scenario", "flood", "--seconds", "0.5"]);
        let mut phone = bench.call();
        // A phone that waits for something else than its next frame has packets to catch up on.
        let is_sent = || !bench.service.events("spoken").is_empty();
        phone.say_until(SILENCE, |phone| tones(&phone.heard, 1) >= 100 && is_sent());
        let sent = &bench.service.events("spoken")[0];
        assert!(sent["seconds"].as_f64().expect("a time") < 6.0, "{kind}: {sent}");
        phone.say_samples(&question());
        phone.say_until(SILENCE, |phone| tones(&phone.heard, 2) >= 10);
        let tail = &phone.heard[phone.heard.len() - 25..];
        assert_eq!(tones(tail, 1), 0, "{kind}: the rest of it");
        phone.hang_up();
        let status = std::fs::read_to_string(format!("/proc/{}/status", bench.daemon.pid())).expect("Linux");
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a size").trim();
        let most: u64 = most.trim_end_matches(" kB").parse().expect("a number");
        assert!(most < 200 << 10, "{kind}: {most} kB at most");
        assert!(!bench.log().contains("takes over"), "{}", bench.log());
        bench.service.has_no_complaint();
    });
}

#[test]
fn a_service_that_says_nothing_at_all_is_given_its_time() {
    each(|kind| {
        let mut bench = Bench::start(kind, &["--scenario", "silent"]);
        let mut phone = bench.call();
        phone.say(SILENCE, Duration::from_secs(4));
        assert!(!phone.was_hung_up && !phone.heard.iter().any(is_loud), "{kind}");
        phone.hang_up();
        assert_eq!(bench.control.wait_for_end(), Outcome::new(Blame::Caller, EndReason::HungUp), "{kind}");
        assert_eq!(bench.service.wait_for("closed")["code"], 1000, "{kind}");
        bench.service.has_no_complaint();
    });
}

#[test]
fn what_means_nothing_is_passed_over_and_the_conversation_goes_on() {
    each(|kind| {
        let mut bench = Bench::start(kind, &["--scenario", "garbage", "--seconds", "1"]);
        let mut phone = bench.call();
        let is_thrown = || !bench.service.events("thrown").is_empty();
        phone.say_until(SILENCE, |phone| tones(&phone.heard, 1) >= 49 && is_thrown());
        phone.say(SILENCE, Duration::from_millis(200));
        phone.say_samples(&question());
        phone.say_until(SILENCE, |phone| tones(&phone.heard, 2) >= 20);
        phone.hang_up();
        assert_eq!(bench.control.wait_for_end(), Outcome::new(Blame::Caller, EndReason::HungUp), "{kind}");
        bench.service.has_no_complaint();
        assert!(!bench.log().contains("takes over") && !bench.log().contains("panic"), "{}", bench.log());
    });
}

#[test]
fn a_service_that_breaks_its_protocol_is_replaced_and_the_line_stays_up() {
    each(|kind| {
        let bench = Bench::start(kind, &["--scenario", "not_json", "--seconds", "0.5"]);
        let mut phone = bench.call();
        bench.is_apologised_for(&mut phone);
        assert!(bench.log().contains("text that is not JSON; the attendant takes over"), "{}", bench.log());
        phone.hang_up();
        assert_eq!(bench.service.wait_for("closed")["code"], 1007, "{kind}");
        bench.service.has_no_complaint();
    });
}

/// How much of a sound is this tone, from 0 to 1 (Goertzel).
fn power(samples: &[i16], hertz: f64) -> f64 {
    let turn = std::f64::consts::TAU * hertz / 8000.0;
    let (mut last, mut before) = (0.0, 0.0);
    let mut energy = 1.0;
    for sample in samples {
        let sample = f64::from(*sample);
        (last, before) = (sample + 2.0 * turn.cos() * last - before, last);
        energy += sample * sample;
    }
    let power = last * last + before * before - 2.0 * turn.cos() * last * before;
    2.0 * power / (energy * samples.len() as f64)
}

/// µ-law for a voice.
const LOUD: u8 = 0x30;
