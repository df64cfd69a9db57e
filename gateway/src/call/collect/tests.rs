use talkstack_control::port::{Blame, CallEvent, EndReason, FirstSpeaker, Outcome, ProviderKind};

use super::*;
use crate::agent::provider::ServicePlan;
use crate::call::tests::{Bench, offer};
use crate::route::Plan;

const ORDER: CollectOrder = CollectOrder { keys_max: 4, finish_key: Some('#'), first_within_s: 10, next_within_s: 5 };

#[test]
fn the_keys_reach_who_asked_for_them_and_the_agent_hears_neither_them_nor_the_caller() {
    let mut bench = answered(Plan::Echo);
    bench.word = 0x20;
    bench.talk(50);
    assert!(words(&mut bench) > 40 * 160, "the caller hears themselves");
    bench.call.collect(ORDER, bench.now);
    bench.talk(20);
    words(&mut bench);
    for key in [1, 2] {
        bench.key(key);
        bench.talk(50);
    }
    assert_eq!(words(&mut bench), 0, "silence");
    bench.key(11);
    bench.talk(4);
    assert_eq!((words(&mut bench), collected(&bench)), (0, vec![]), "what is left of the last key");
    bench.talk(50);
    assert_eq!(collected(&bench), [("12", CollectEnd::FinishKey)]);
    assert!(words(&mut bench) > 40 * 160, "and hears themselves again");
}

#[test]
fn a_key_behind_the_last_is_the_agent_s() {
    let mut bench = answered(Plan::attendant());
    bench.word = 0x20;
    bench.call.collect(CollectOrder { finish_key: None, ..ORDER }, bench.now);
    for key in [11, 1, 1, 1] {
        assert_eq!(collected(&bench), []);
        bench.key(key);
        bench.talk(10);
    }
    assert_eq!(collected(&bench), [("#111", CollectEnd::Full)]);
    words(&mut bench);
    bench.talk(100);
    assert!(words(&mut bench) < 160, "none of them has been heard by the attendant");
    bench.key(1);
    bench.talk(400);
    assert!(words(&mut bench) > 20 * 160, "1 has the caller hear themselves");
}

#[test]
fn without_keys_it_is_over_in_time_and_however_slowly_they_come() {
    let mut bench = answered(Plan::Echo);
    let begun = bench.now;
    bench.call.collect(ORDER, bench.now);
    bench.talk(499);
    assert_eq!(collected(&bench), []);
    bench.talk(2);
    assert_eq!(collected(&bench), [("", CollectEnd::Timeout)]);
    bench.call.collect(ORDER, bench.now);
    bench.talk(450);
    bench.key(7);
    bench.talk(249);
    assert_eq!(collected(&bench).len(), 1);
    bench.talk(2);
    assert_eq!(collected(&bench)[1..], [("7", CollectEnd::Timeout)]);
    assert!(bench.now - begun < Duration::from_secs(30));
    let begun = bench.now;
    bench.call.collect(CollectOrder { keys_max: 32, next_within_s: 30, ..ORDER }, bench.now);
    while collected(&bench).len() == 2 {
        bench.key(1);
        bench.talk(100);
    }
    let taken = bench.now - begun;
    assert!(taken <= Duration::from_secs(120) && collected(&bench)[2].1 == CollectEnd::Full, "{taken:?}");
    bench.call.collect(CollectOrder { keys_max: 32, next_within_s: 30, ..ORDER }, bench.now);
    let begun = bench.now;
    while collected(&bench).len() == 3 {
        bench.key(1);
        bench.talk(450);
    }
    let taken = bench.now - begun;
    assert!(collected(&bench)[3].1 == CollectEnd::Timeout && taken < Duration::from_secs(130), "{taken:?}");
}

#[test]
fn a_call_that_is_not_answered_or_ends_meanwhile_says_so() {
    let mut bench = Bench::new(agent(), Some(&offer("0", "sendrecv")));
    bench.call.collect(ORDER, bench.now);
    bench.pass(0);
    assert_eq!(collected(&bench), [("", CollectEnd::NotAnswered)]);
    let mut bench = answered(Plan::Echo);
    bench.call.collect(ORDER, bench.now);
    bench.key(9);
    bench.talk(10);
    bench.call.hang_up(Outcome::new(Blame::Operator, EndReason::HungUp));
    bench.pass(1);
    assert_eq!(collected(&bench), [("9", CollectEnd::CallOver)]);
    let told = bench.outputs.iter().any(|output| matches!(output, CallOutput::Record(CallEvent::Ended { .. })));
    assert!(told, "and the call has ended as it would have");
    assert!(!format!("{:?}", bench.outputs).contains("\"9\""), "no log shows what was pressed");
}

fn agent() -> Plan {
    let plan = ServicePlan::bare(ProviderKind::Twilio, "ws://127.0.0.1:1/", FirstSpeaker::Agent);
    Plan::Service(Box::new(plan.expect("an address")))
}

fn answered(plan: Plan) -> Bench {
    let sdp = offer("0 101", "sendrecv") + "a=rtpmap:101 telephone-event/8000\r\n";
    let mut bench = Bench::new(plan, Some(&sdp));
    bench.talk(10);
    bench
}

/// How much of the caller's word has come back since the last time.
fn words(bench: &mut Bench) -> usize {
    let word = bench.word;
    std::mem::take(&mut bench.heard).into_iter().filter(|code| *code == word).count()
}

fn collected(bench: &Bench) -> Vec<(&str, CollectEnd)> {
    let all = bench.outputs.iter().filter_map(|output| match output {
        CallOutput::Collected(collected) => Some((collected.keys.0.as_str(), collected.ended_by)),
        _ => None,
    });
    all.collect()
}
