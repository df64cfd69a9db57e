//! Hosted agents that cannot be had: the caller is with the attendant at once, and the log says why.

use talkstack_control::port::ProviderKind;

use super::{Bench, Fake, KEY, SILENCE, each, provider, tones};

#[test]
fn whom_a_service_refuses_at_its_door_the_attendant_answers_and_the_log_has_the_status() {
    each(|kind| {
        for status in ["401", "404", "429"] {
            let bench = Bench::start(kind, &["--refuse", status]);
            let mut phone = bench.call();
            bench.is_apologised_for(&mut phone);
            phone.hang_up();
            assert!(bench.log().contains(&format!("the agent answered HTTP {status}")), "{kind}: {}", bench.log());
            assert!(!bench.log().contains(KEY), "{}", bench.log());
            assert_eq!(bench.service.events("refused").len(), 1, "{kind} is asked once");
        }
    });
}

#[test]
fn a_wrong_key_is_refused_as_each_service_does_it() {
    each(|kind| {
        let bench = Bench::keyed(Fake::start(kind, &["--key", "another"]), kind);
        let mut phone = bench.call();
        bench.is_apologised_for(&mut phone);
        phone.hang_up();
        let told = match kind {
            // It lets everybody in first.
            ProviderKind::Gemini => "closes the connection with 1007",
            _ => "the agent answered HTTP 401",
        };
        assert!(bench.log().contains(told) && !bench.log().contains(KEY), "{kind}: {}", bench.log());
    });
}

#[test]
fn what_a_service_refuses_only_later_is_told_by_its_code() {
    for (kind, flags, told) in [
        (ProviderKind::Gemini, ["--exhausted", "--seconds=1"], "closes the connection with 1011"),
        (ProviderKind::ElevenLabs, ["--forbid=first_message", "--seconds=1"], "closes the connection with 1008"),
    ] {
        let bench = Bench::start(kind, &flags);
        let mut phone = bench.call();
        bench.is_apologised_for(&mut phone);
        phone.hang_up();
        assert!(bench.log().contains(told), "{kind}: {}", bench.log());
    }
}

#[test]
fn an_address_that_is_none_is_not_gone_to() {
    for (kind, flag) in [(ProviderKind::ElevenLabs, "--signed-scheme"), (ProviderKind::Ultravox, "--join-scheme")] {
        let bench = Bench::start(kind, &[flag, "http"]);
        let mut phone = bench.call();
        bench.is_apologised_for(&mut phone);
        phone.hang_up();
        assert!(bench.log().contains("has no address of a WebSocket"), "{kind}: {}", bench.log());
        assert!(bench.service.events("closed").is_empty(), "{kind}: nobody came");
    }
}

#[test]
fn an_agent_that_is_open_to_everybody_needs_no_key() {
    let service = Fake::start(ProviderKind::ElevenLabs, &["--seconds", "0.5"]);
    let provider = provider(ProviderKind::ElevenLabs, service.port);
    let bench = Bench::with(service, tempfile::tempdir().expect("a directory"), provider);
    let mut phone = bench.call();
    phone.say_until(SILENCE, |phone| tones(&phone.heard, 1) >= 24);
    phone.hang_up();
    assert!(bench.service.events("signed").is_empty());
    bench.service.has_no_complaint();
}
