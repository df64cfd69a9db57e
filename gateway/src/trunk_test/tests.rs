use std::net::SocketAddr;

use talkstack_control::port::{Blame, TRUNK_TEST_TIME};

use super::*;

#[test]
fn a_trunk_that_is_right_passes_every_step() {
    let mut bench = Bench::new(Subject { registers: true, has_credentials: true, ..CALLS });
    bench.up_to_call();
    bench.test.handle_progressed(180);
    bench.test.handle_answered(Some(ip("192.0.2.1")), ip("192.0.2.1"), bench.now);
    bench.test.handle_measured(ToneHeard { audible: 50, tone: 50 }, exchange(60, Heed::Untold), bench.now);
    let told = bench.told();
    assert!(told.iter().all(|step| step.is_ok == Some(true) && step.fault.is_none()), "{told:?}");
    assert_eq!(told.iter().map(|step| step.step.as_str()).collect::<Vec<_>>(), STAGES.map(Stage::name));
    assert_eq!(told[5].found, "The tone came back: sound goes both ways");
}

#[test]
fn each_final_response_to_the_call_is_named_and_says_what_to_do() {
    for (subject, status, fault, sentence) in [
        (CALLS, 403, "forbidden", "PBX answered 403: the secret or the extension is wrong"),
        (REGISTERS, 403, "call_forbidden", "PBX answered 403: it does not let this trunk call"),
        (KNOWN, 401, "loop_401", "PBX answered 401 to the right question again: the secret or the user is wrong"),
        (KNOWN, 407, "loop_407", "PBX answered 407"),
        (CALLS, 407, "no_credentials", "PBX answered 407: it wants a user and a secret"),
        (CALLS, 404, "not_found", "PBX answered 404"),
        (CALLS, 484, "not_found", "PBX answered 484"),
        (CALLS, 488, "no_common_codec", "PBX answered 488: no common codec, so allow G.711"),
        (CALLS, 606, "no_common_codec", "PBX answered 488: no common codec"),
        (CALLS, 486, "busy", "PBX answered that the number is busy"),
        (CALLS, 503, "status", "PBX answered 503"),
    ] {
        let mut bench = Bench::new(subject);
        bench.up_to_call();
        bench.test.handle_call_refused(status, bench.now);
        bench.check_fault("call", fault, sentence);
    }
}

#[test]
fn each_final_response_to_a_registration_is_named_and_no_call_follows() {
    for (status, fault) in
        [(403, "forbidden"), (404, "not_found"), (401, "loop_401"), (407, "loop_407"), (500, "status")]
    {
        let mut bench = Bench::new(REGISTERS);
        bench.up_to_register();
        bench.test.handle_response(status, bench.now);
        let told = bench.check_fault("register", fault, "PBX answered");
        assert_eq!((told[4].is_ok, told[5].is_ok), (None, None));
    }
}

#[test]
fn a_host_that_cannot_be_reached_is_named_by_its_last_address() {
    let mut bench = Bench::new(CALLS);
    bench.test.handle_hops(&[], bench.now);
    bench.check_fault("dns", "dns", "The name has no address");
    let mut bench = Bench::new(CALLS);
    bench.pass(DNS_MAX);
    bench.check_fault("dns", "dns", "The name has no address");
    for (reached, fault) in
        [(Reached::Refused, "refused"), (Reached::Silent, "no_answer"), (Reached::NoTls(TlsFault::NotTls), "tls")]
    {
        let mut bench = Bench::new(CALLS);
        bench.test.handle_hops(&[hop(1), hop(2)], bench.now);
        assert_eq!(bench.test.poll_output(), Some(TestOutput::Reach(hop(1))));
        bench.test.handle_reached(Reached::Silent, bench.now);
        assert_eq!(bench.test.poll_output(), Some(TestOutput::Reach(hop(2))));
        bench.test.handle_reached(reached, bench.now);
        bench.check_fault("reach", fault, "");
    }
    let mut bench = Bench::new(CALLS);
    bench.test.handle_hops(&[hop(1), hop(2)], bench.now);
    bench.test.handle_reached(Reached::Refused, bench.now);
    bench.test.handle_reached(Reached::Up, bench.now);
    while let Some(output) = bench.test.poll_output() {
        assert!(output != TestOutput::Options(hop(1)), "the address that was refused");
    }
}

#[test]
fn silence_upon_options_alone_is_no_fault_and_silence_upon_all_is() {
    let mut bench = Bench::new(REGISTERS);
    bench.up_to_options();
    bench.pass(OPTIONS_MAX);
    assert_eq!(bench.test.poll_output(), Some(TestOutput::Register(hop(1))));
    bench.test.handle_response(200, bench.now);
    bench.test.handle_call_refused(486, bench.now);
    let told = bench.check_fault("call", "busy", "");
    assert_eq!((told[2].is_ok, told[2].fault.as_deref()), (Some(true), None));
    assert!(told[2].found.contains("OPTIONS interval to 0"), "{}", told[2].found);

    let mut bench = Bench::new(REGISTERS);
    bench.up_to_options();
    bench.pass(OPTIONS_MAX);
    bench.pass(REGISTER_MAX);
    let told = bench.told();
    assert_eq!(told[2].fault.as_deref(), Some("no_answer"));
    assert_eq!((told[3].fault.as_deref(), told[4].is_ok), (Some("no_answer"), None));

    let mut bench = Bench::new(Subject { calls: false, ..CALLS });
    bench.up_to_options();
    bench.test.handle_silence(bench.now);
    bench.check_fault("options", "no_answer", "Nothing came back");
}

#[test]
fn sound_that_goes_one_way_or_none_is_told_apart_by_packets_and_reports() {
    let near = Some(ip("192.0.2.9"));
    let private = Some(ip("10.1.2.3"));
    for (shown, received, heed, fault) in [
        (near, 0, Heed::Untold, Some("no_rtp")),
        (near, 0, Heed::Nothing, Some("no_rtp")),
        (near, 0, Heed::Arrives, Some("one_way_in")),
        (near, 400, Heed::Nothing, Some("one_way_out")),
        (near, 400, Heed::Arrives, None),
        (near, 400, Heed::Untold, None),
        (private, 0, Heed::Untold, Some("private_address")),
        (private, 0, Heed::Arrives, Some("private_address")),
        (private, 400, Heed::Nothing, Some("private_address")),
        (private, 400, Heed::Arrives, None),
        (None, 0, Heed::Untold, Some("no_rtp")),
    ] {
        let mut bench = Bench::new(CALLS);
        bench.up_to_call();
        bench.test.handle_answered(shown, ip("192.0.2.1"), bench.now);
        bench.test.handle_measured(ToneHeard { audible: 9, tone: 0 }, exchange(received, heed), bench.now);
        match fault {
            Some(fault) => drop(bench.check_fault("audio", fault, "")),
            None => assert_eq!(bench.told()[5].is_ok, Some(true), "{received} {heed:?}"),
        }
    }
}

#[test]
fn a_number_that_only_rings_is_hung_up_and_one_that_hangs_up_is_named() {
    let mut bench = Bench::new(CALLS);
    bench.up_to_call();
    bench.test.handle_progressed(180);
    bench.pass(CALL_MAX);
    assert_eq!(bench.test.poll_output(), Some(TestOutput::HangUp));
    bench.check_fault("call", "rings_out", "The number rang");
    for (is_answered, reason, step, fault) in [
        (false, EndReason::NoCommonCodec, "call", "no_common_codec"),
        (true, EndReason::NoCommonCodec, "audio", "no_common_codec"),
        (true, EndReason::SrtpRequired, "audio", "no_srtp"),
        (true, EndReason::BadKeys, "audio", "no_srtp"),
        (true, EndReason::SrtpOff, "audio", "only_srtp"),
        (false, EndReason::KeysUntold, "call", "keys_untold"),
        (false, EndReason::Overloaded, "call", "not_placed"),
        (false, EndReason::Unreachable, "call", "no_answer"),
        (true, EndReason::HungUp, "audio", "hung_up"),
    ] {
        let mut bench = Bench::new(CALLS);
        bench.up_to_call();
        if is_answered {
            bench.test.handle_answered(None, ip("192.0.2.1"), bench.now);
        }
        bench.test.handle_call_over(Outcome::new(Blame::Trunk, reason), bench.now);
        bench.check_fault(step, fault, "");
    }
}

#[test]
fn without_a_number_or_a_registration_these_steps_are_left_out() {
    let mut bench = Bench::new(Subject { calls: false, ..CALLS });
    bench.up_to_options();
    bench.test.handle_response(405, bench.now);
    let told = bench.told();
    assert_eq!(
        told.iter().map(|step| step.is_ok).collect::<Vec<_>>(),
        [Some(true), Some(true), Some(true), None, None, None]
    );
    assert!(bench.test.is_over() && bench.test.poll_timeout().is_none());
}

#[test]
fn the_slowest_test_that_there_is_keeps_its_time() {
    let mut bench = Bench::new(REGISTERS);
    let began = bench.now;
    let almost = |limit: Duration| limit - Duration::from_millis(1);
    bench.now += almost(DNS_MAX);
    bench.test.handle_hops(&[hop(1)], bench.now);
    bench.now += almost(REACH_MAX);
    bench.test.handle_reached(Reached::Up, bench.now);
    bench.now += almost(OPTIONS_MAX);
    bench.test.handle_response(200, bench.now);
    bench.now += almost(REGISTER_MAX);
    bench.test.handle_response(200, bench.now);
    bench.now += almost(CALL_MAX);
    bench.test.handle_answered(None, ip("192.0.2.1"), bench.now);
    bench.pass(AUDIO_MAX);
    assert_eq!(bench.told()[5].fault.as_deref(), Some("no_rtp"));
    assert!(bench.now - began < TRUNK_TEST_TIME, "{:?}", bench.now - began);
}

const CALLS: Subject = Subject { registers: false, has_credentials: false, calls: true };
const KNOWN: Subject = Subject { has_credentials: true, ..CALLS };
const REGISTERS: Subject = Subject { registers: true, ..KNOWN };

struct Bench {
    test: TrunkTest,
    now: Instant,
}

impl Bench {
    fn new(subject: Subject) -> Self {
        let now = Instant::now();
        Bench { test: TrunkTest::new(subject, now), now }
    }

    fn up_to_options(&mut self) {
        self.test.handle_hops(&[hop(1)], self.now);
        assert_eq!(self.test.poll_output(), Some(TestOutput::Reach(hop(1))));
        self.test.handle_reached(Reached::Up, self.now);
        assert_eq!(self.test.poll_output(), Some(TestOutput::Options(hop(1))));
    }

    fn up_to_register(&mut self) {
        self.up_to_options();
        self.test.handle_response(200, self.now);
        assert_eq!(self.test.poll_output(), Some(TestOutput::Register(hop(1))));
    }

    fn up_to_call(&mut self) {
        if self.test.subject.registers {
            self.up_to_register();
        } else {
            self.up_to_options();
        }
        self.test.handle_response(200, self.now);
        assert_eq!(self.test.poll_output(), Some(TestOutput::Call(hop(1))));
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.test.handle_timeout(self.now);
    }

    fn told(&mut self) -> Vec<TestStep> {
        loop {
            match self.test.poll_output() {
                Some(TestOutput::Told(steps)) => return steps,
                Some(_) => {}
                None => panic!("nothing is told"),
            }
        }
    }

    fn check_fault(&mut self, step: &str, fault: &str, sentence: &str) -> Vec<TestStep> {
        let told = self.told();
        let failed: Vec<_> = told.iter().filter(|told| told.is_ok == Some(false)).collect();
        assert_eq!(failed.len(), 1, "{told:?}");
        assert_eq!((failed[0].step.as_str(), failed[0].fault.as_deref()), (step, Some(fault)));
        assert!(failed[0].found.starts_with(sentence), "{}", failed[0].found);
        assert_eq!(told.len(), 6);
        told
    }
}

fn exchange(received: u64, heed: Heed) -> Exchange {
    Exchange { received, sent: 400, heed }
}

fn hop(last: u8) -> Hop {
    Hop { address: SocketAddr::from(([192, 0, 2, last], 5060)), transport: Transport::Udp }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
