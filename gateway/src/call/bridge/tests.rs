//! Two phones and the call between them, in virtual time.

mod bench;

use std::net::SocketAddr;

use talkstack_media::audio::dtmf::DtmfDetector;
use talkstack_media::codec::Codec;
use talkstack_media::sip::InfoDigit;

use super::*;
use crate::route::Plan;
use bench::*;

#[test]
fn two_phones_hear_each_other_once_the_far_one_has_answered() {
    for (theirs, ours) in [(Codec::Pcmu, Codec::Pcmu), (Codec::Pcma, Codec::Pcmu), (Codec::Pcmu, Codec::Pcma)] {
        let mut bench = Bench::talking(&[extension("102")], theirs, ours);
        bench.talk(100);
        for leg in [LegId::First, LegId::Second] {
            let heard = bench.heard(leg);
            let loud = heard.iter().filter(|sample| sample.unsigned_abs() > 900).count();
            assert!(loud > 15_000, "{leg:?} over {theirs:?} and {ours:?}: {loud} of {} samples", heard.len());
        }
        assert_eq!(bench.journal(), ["Ringing", "Answered"]);
    }
}

#[test]
fn the_caller_hears_it_ring_when_the_far_phone_rings_and_then_its_own_ringing_tone() {
    let mut bench = Bench::new(&[extension("102")], Codec::Pcmu);
    bench.place();
    assert!(!bench.rang(), "nobody rings yet");
    bench.call.handle_progressed(LegId::Second, None, bench.now);
    bench.settle();
    assert_eq!(bench.outputs.last(), Some(&CallOutput::Record(CallEvent::Ringing)));
    assert!(bench.outputs.contains(&CallOutput::Ring(None)));
    bench.call.handle_progressed(LegId::Second, Some(&sdp(address(LegId::Second), Codec::Pcmu, "sendrecv")), bench.now);
    bench.settle();
    assert!(bench.outputs.iter().any(|output| matches!(output, CallOutput::Ring(Some(_)))), "183 with SDP");
    bench.phones[1].talks = true;
    bench.talk(50);
    assert!(bench.heard(LegId::First).iter().filter(|sample| sample.unsigned_abs() > 900).count() > 6000);
    assert!(!bench.outputs.iter().any(|output| matches!(output, CallOutput::Answer(..))), "and nobody has answered");
    bench.accept(Codec::Pcmu);
    bench.phones[0].talks = true;
    bench.talk(50);
    assert!(bench.heard(LegId::Second).iter().filter(|sample| sample.unsigned_abs() > 900).count() > 6000);
    assert_eq!(bench.journal(), ["Ringing", "Answered"]);
}

#[test]
fn who_is_busy_silent_or_not_there_is_passed_over_until_one_answers() {
    let mut bench = Bench::new(&[extension("102"), extension("103"), trunk(), extension("104")], Codec::Pcmu);
    bench.call.handle_refused(Outcome::new(Blame::Trunk, EndReason::Unreachable), bench.now);
    bench.place();
    bench.call.handle_refused(Outcome::new(Blame::Caller, EndReason::Busy), bench.now);
    bench.place();
    bench.pass(Duration::from_secs(19));
    assert_eq!(bench.orders(), 3, "the trunk may ring for 20 s");
    bench.pass(Duration::from_secs(2));
    let gone = Outcome::new(Blame::Caller, EndReason::NoAnswer);
    assert!(bench.outputs.contains(&CallOutput::End(LegId::Second, gone)), "and is cancelled then");
    bench.place();
    bench.accept(Codec::Pcmu);
    assert_eq!((bench.orders(), bench.outcome()), (4, None));
    bench.phones.iter_mut().for_each(|phone| phone.talks = true);
    bench.talk(50);
    assert!(!bench.heard(LegId::First).is_empty());
    assert_eq!(bench.journal(), ["Answered"]);
}

#[test]
fn the_agent_at_the_end_of_the_chain_answers_as_ever() {
    let agent = BridgeTarget::Agent { plan: Box::new(Plan::Echo), agent_id: None };
    let mut bench = Bench::new(&[extension("102"), agent], Codec::Pcmu);
    bench.place();
    bench.call.handle_progressed(LegId::Second, None, bench.now);
    bench.call.handle_refused(Outcome::new(Blame::Caller, EndReason::Busy), bench.now);
    bench.settle();
    assert!(bench.outputs.iter().any(|output| matches!(output, CallOutput::Answer(LegId::First, _))));
    bench.phones[0].talks = true;
    bench.talk(50);
    assert!(bench.heard(LegId::First).iter().any(|sample| sample.unsigned_abs() > 900), "the echo");
    assert_eq!(bench.journal(), ["Ringing", "Answered"]);
}

#[test]
fn a_caller_for_whom_nobody_answers_learns_what_the_last_one_said_or_what_the_rule_says() {
    for status in [None, Some(404)] {
        let mut bench = Bench::with(plan(&[extension("102")], status), Codec::Pcmu);
        bench.place();
        let busy = Outcome::new(Blame::Caller, EndReason::Busy);
        bench.call.handle_refused(busy, bench.now);
        bench.settle();
        assert_eq!(bench.outcome(), Some(busy));
        assert!(bench.outputs.contains(&CallOutput::End(LegId::First, busy)));
        assert_eq!(bench.outputs.contains(&CallOutput::Refuse(404)), status.is_some());
    }
}

#[test]
fn keys_cross_the_bridge_once_by_whichever_way_each_line_has() {
    let info = |key| InfoDigit { key, held: Duration::from_millis(160) };
    let mut bench = Bench::talking(&[extension("102")], Codec::Pcmu, Codec::Pcmu);
    bench.talk(10);
    bench.press(LegId::First, 4);
    // The same press again, and another.
    bench.call.handle_info_digit(LegId::First, info('4'), bench.now);
    bench.call.handle_info_digit(LegId::First, info('9'), bench.now);
    bench.talk(50);
    assert_eq!(bench.phones[1].keys, "49", "by events");
    // A far phone that knows no events hears tones, and its own tones are events for the caller.
    let mut bench = Bench::new(&[extension("102")], Codec::Pcmu);
    bench.place();
    bench.has_events[1] = false;
    bench.accept(Codec::Pcmu);
    bench.talk(10);
    bench.press(LegId::First, 4);
    bench.talk(50);
    let mut detector = DtmfDetector::new(8000);
    detector.handle_audio(&bench.heard(LegId::Second));
    assert_eq!((detector.poll_digit(), detector.poll_digit()), (Some('4'), None));
    assert_eq!(bench.phones[1].keys, "");
    bench.dial_in_audio(LegId::Second, "12");
    bench.talk(20);
    assert_eq!(bench.phones[0].keys, "12");
}

#[test]
fn either_one_who_hangs_up_ends_the_call_for_the_other() {
    for leg in [LegId::First, LegId::Second] {
        let mut bench = Bench::talking(&[extension("102")], Codec::Pcmu, Codec::Pcmu);
        let hung_up = Outcome::new(Blame::Caller, EndReason::HungUp);
        bench.call.handle_ended(leg, hung_up, bench.now);
        bench.settle();
        let ends: Vec<_> = bench.outputs.iter().filter(|output| matches!(output, CallOutput::End(..))).collect();
        assert_eq!(ends, [&CallOutput::End(leg.other(), hung_up)]);
        assert_eq!(bench.outcome(), Some(hung_up));
        assert_eq!(bench.outputs.last(), Some(&CallOutput::Finished));
    }
}

#[test]
fn a_caller_who_gives_up_has_the_far_phone_stop_ringing_wherever_it_is() {
    for is_placed in [false, true] {
        let mut bench = Bench::new(&[extension("102"), extension("103")], Codec::Pcmu);
        if is_placed {
            bench.place();
        }
        let cancelled = Outcome::new(Blame::Caller, EndReason::Cancelled);
        bench.call.handle_ended(LegId::First, cancelled, bench.now);
        bench.settle();
        assert!(bench.outputs.contains(&CallOutput::End(LegId::Second, cancelled)));
        assert_eq!((bench.outcome(), bench.orders()), (Some(cancelled), 1));
    }
}

#[test]
fn who_is_held_hears_noise_and_is_not_missed_and_hears_the_other_again_afterwards() {
    for holder in [LegId::First, LegId::Second] {
        let mut bench = Bench::talking(&[extension("102")], Codec::Pcmu, Codec::Pcmu);
        bench.talk(50);
        bench.reoffer(holder, "sendonly");
        bench.talk(10);
        bench.phones.iter_mut().for_each(|phone| phone.heard.clear());
        bench.talk(100);
        let loud = |bench: &Bench, leg| bench.heard(leg).iter().filter(|sample| sample.unsigned_abs() > 900).count();
        assert_eq!(bench.phones[holder as usize].heard.len(), 0, "who holds is sent nothing");
        assert!(bench.phones[holder.other() as usize].heard.len() > 15_000, "who is held is sent noise");
        assert_eq!(loud(&bench, holder.other()), 0, "and no word of the other's");
        bench.phones[holder as usize].talks = false;
        bench.talk(50 * 100);
        assert_eq!(bench.outcome(), None, "100 s on hold");
        bench.phones[holder as usize].talks = true;
        bench.reoffer(holder, "sendrecv");
        bench.talk(10);
        bench.phones.iter_mut().for_each(|phone| phone.heard.clear());
        bench.talk(50);
        for leg in [LegId::First, LegId::Second] {
            assert!(loud(&bench, leg) > 7000, "{leg:?} hears {} loud samples", loud(&bench, leg));
        }
    }
}

#[test]
fn a_key_pressed_on_one_leg_is_pressed_once_on_the_other() {
    let mut bench = Bench::talking(&[extension("102")], Codec::Pcmu, Codec::Pcma);
    bench.talk(50);
    for leg in [LegId::First, LegId::Second] {
        bench.press(leg, 5);
        bench.talk(50);
        assert_eq!(bench.phones[leg.other() as usize].keys, "5");
    }
    bench.phones.iter_mut().for_each(|phone| phone.heard.clear());
    bench.talk(50);
    assert!(bench.heard(LegId::First).iter().filter(|sample| sample.unsigned_abs() > 900).count() > 7000);
}

#[test]
fn two_clocks_that_differ_never_pile_up_a_delay() {
    let mut bench = Bench::talking(&[extension("102")], Codec::Pcmu, Codec::Pcmu);
    // 1 %, a hundred times what a crystal is off: 20 min of it make 12 s.
    bench.pace = Duration::from_micros(19_800);
    for _ in 0..20 {
        bench.talk(3000);
        let queued = bench.call.second_mut().and_then(|leg| leg.session.as_ref()).map(RtpSession::queued);
        assert!(queued.expect("a second leg") <= DELAY_MAX + Duration::from_millis(20), "{queued:?}");
    }
}

#[test]
fn a_phone_of_which_nothing_is_heard_is_named_while_the_call_is_up() {
    let mut bench = Bench::talking(&[extension("102")], Codec::Pcmu, Codec::Pcmu);
    bench.phones[1].talks = false;
    bench.talk(49 * 5);
    assert_eq!(bench.diagnoses(), Vec::<String>::new(), "not before 5 s");
    bench.talk(8);
    assert_eq!(bench.diagnoses(), ["one_way_in"]);
    bench.talk(50 * 60);
    assert_eq!(bench.diagnoses(), ["one_way_in"], "and once");
    assert!(bench.found().contains("nothing arrives from 10.0.0.2:4000"), "{}", bench.found());
}

#[test]
fn a_private_address_behind_a_public_one_is_named_as_such() {
    let mut bench = Bench::new(&[extension("102")], Codec::Pcmu);
    bench.place();
    let answer = sdp(address(LegId::Second), Codec::Pcmu, "sendrecv");
    bench.call.handle_accepted(LegId::Second, Some(&answer), [198, 51, 100, 7].into(), bench.now);
    bench.phones[0].talks = true;
    bench.talk(50 * 6);
    assert_eq!(bench.diagnoses(), ["private_address"]);
}

#[test]
fn a_far_end_that_reports_that_nothing_of_ours_arrives_is_named() {
    let mut bench = Bench::talking(&[extension("102")], Codec::Pcmu, Codec::Pcmu);
    for _ in 0..12 {
        bench.talk(50);
        // A receiver report without a block: it hears nobody.
        let report = [0x80, 201, 0, 1, 2, 2, 2, 2];
        let source = SocketAddr::new(address(LegId::Second).ip(), 4001);
        bench.call.handle_rtcp(LegId::Second, source, &report, bench.now);
    }
    assert_eq!(bench.diagnoses(), ["one_way_out"]);
}

#[test]
fn how_both_legs_sound_is_told_every_ten_seconds_and_at_the_end() {
    let mut bench = Bench::talking(&[extension("102")], Codec::Pcmu, Codec::Pcmu);
    bench.talk(50 * 9);
    assert!(bench.measured(LegId::First).is_empty() && bench.measured(LegId::Second).is_empty(), "not yet");
    bench.talk(50 * 22);
    // The second phone's network loses one in ten.
    for _ in 0..100 {
        bench.talk(9);
        bench.phones[1].sequence = bench.phones[1].sequence.wrapping_add(1);
        bench.phones[1].timestamp = bench.phones[1].timestamp.wrapping_add(160);
        bench.pass(bench.pace);
    }
    // What was lost last is known by what comes behind it.
    bench.talk(10);
    assert_eq!(bench.measured(LegId::First).len(), 5);
    let outcome = Outcome::new(Blame::Caller, EndReason::HungUp);
    bench.call.handle_ended(LegId::First, outcome, bench.now);
    bench.settle();
    let (first, second) = (bench.measured(LegId::First), bench.measured(LegId::Second));
    assert_eq!((first.len(), second.len()), (6, 6));
    let (first, second) = (&first[5].inbound, &second[5].inbound);
    assert_eq!((first.lost, second.lost), (0, 100));
    assert_eq!(second.concealed_ms, 2000.0);
    assert!(first.mos > second.mos && second.mos.is_some(), "{first:?}, {second:?}");
    // 1,000 at every sample.
    assert!(first.level_dbov.is_some_and(|dbov| (dbov + 30.3).abs() < 0.5), "{first:?}");
}

#[test]
fn a_call_that_is_held_or_goes_well_has_no_diagnosis() {
    let mut bench = Bench::talking(&[extension("102")], Codec::Pcmu, Codec::Pcmu);
    bench.reoffer(LegId::Second, "sendonly");
    bench.phones[1].talks = false;
    bench.talk(50 * 20);
    bench.phones[1].talks = true;
    bench.reoffer(LegId::Second, "sendrecv");
    bench.talk(50 * 60);
    assert_eq!(bench.diagnoses(), Vec::<String>::new());
}

#[test]
fn who_is_transferred_hears_it_ring_and_then_the_one_who_comes() {
    for from in [LegId::First, LegId::Second] {
        let mut bench = Bench::talking(&[extension("102")], Codec::Pcma, Codec::Pcmu);
        bench.talk(50);
        bench.transfer(from, &[extension("103")]);
        bench.talk(100);
        let ringing = bench.heard(LegId::First).iter().filter(|sample| sample.unsigned_abs() > 3000).count();
        // Six in ten samples of a sine are above six tenths of its peak.
        assert!((4500..5000).contains(&ringing), "{from:?}: a second of tone, not {ringing} samples");
        bench.place();
        bench.accept(Codec::Pcmu);
        assert!(bench.outputs.contains(&CallOutput::Transferred));
        bench.phones[1].talks = true;
        bench.talk(10);
        bench.phones.iter_mut().for_each(|phone| phone.heard.clear());
        bench.talk(50);
        for leg in [LegId::First, LegId::Second] {
            let loud = bench.heard(leg).iter().filter(|sample| (900..1100).contains(&sample.unsigned_abs())).count();
            assert!(loud > 7000, "{from:?}: {leg:?} hears {loud} samples of the other");
        }
        assert_eq!((bench.journal(), bench.outcome()), (vec!["Ringing", "Answered"], None));
    }
}

#[test]
fn who_asked_for_a_transfer_that_comes_to_nothing_is_back_and_talks_on() {
    let mut bench = Bench::talking(&[extension("102")], Codec::Pcmu, Codec::Pcmu);
    bench.talk(50);
    let parked = std::mem::replace(&mut bench.phones[1], Phone::new(([10, 0, 0, 7], 4000).into(), Codec::Pcmu));
    bench.call.handle_transfer(LegId::Second, &bridge_plan(&[extension("103")], None), bench.now);
    bench.talk(50);
    bench.place();
    let busy = Outcome::new(Blame::Caller, EndReason::Busy);
    bench.call.handle_refused(busy, bench.now);
    bench.phones[1] = parked;
    bench.settle();
    assert!(bench.outputs.contains(&CallOutput::Restore(LegId::Second, busy)));
    bench.talk(10);
    bench.phones.iter_mut().for_each(|phone| phone.heard.clear());
    bench.talk(50);
    for leg in [LegId::First, LegId::Second] {
        let loud = bench.heard(leg).iter().filter(|sample| (900..1100).contains(&sample.unsigned_abs())).count();
        assert!(loud > 7000, "{leg:?} hears {loud} samples of the other");
    }
    let hung_up = Outcome::new(Blame::Caller, EndReason::HungUp);
    bench.call.handle_ended(LegId::Parked, hung_up, bench.now);
    bench.settle();
    assert_eq!(bench.outcome(), Some(hung_up), "a BYE that was on its way while the leg was parked is its own");
}

#[test]
fn an_agent_stays_when_its_caller_is_replaced_and_hears_whoever_comes() {
    for hangs_up_early in [false, true] {
        let mut bench = Bench::with_agent();
        bench.talk(50);
        assert!(bench.heard(LegId::First).iter().any(|sample| sample.unsigned_abs() > 900), "the echo");
        let queued = bench.call.leg.pushed();
        bench.call.handle_transfer(LegId::First, &bridge_plan(&[extension("103")], None), bench.now);
        bench.phones[1].talks = false;
        bench.phones[0].talks = false;
        bench.pass(Duration::from_millis(200));
        if hangs_up_early {
            bench.call.handle_ended(LegId::Parked, Outcome::new(Blame::Caller, EndReason::HungUp), bench.now);
        }
        bench.place();
        let comes = address(LegId::Second);
        let answer = sdp(comes, Codec::Pcma, "sendrecv");
        bench.call.handle_accepted(LegId::Second, Some(&answer), comes.ip(), bench.now);
        bench.phones.swap(0, 1);
        bench.phones[0].codec = Codec::Pcma;
        bench.settle();
        let told = [CallOutput::Transferred, CallOutput::Promote];
        assert!(bench.outputs.windows(2).any(|outputs| outputs == told), "{:?}", bench.outputs);
        assert!(bench.call.leg.pushed() >= queued, "marks of what was said before are behind");
        bench.phones[0].talks = true;
        bench.phones[0].heard.clear();
        bench.talk(50);
        let loud = bench.heard(LegId::First).iter().filter(|sample| sample.unsigned_abs() > 900).count();
        assert!(loud > 5000, "who came hears {loud} samples of their own echo");
        assert_eq!((bench.journal(), bench.outcome()), (vec!["Ringing", "Answered"], None));
    }
}

#[test]
fn who_asked_for_an_agent_s_transfer_that_comes_to_nothing_is_back_with_it_or_ends_the_call() {
    for hangs_up_early in [false, true] {
        let mut bench = Bench::with_agent();
        bench.talk(50);
        bench.call.handle_transfer(LegId::First, &bridge_plan(&[extension("103")], None), bench.now);
        bench.place();
        let (hung_up, busy) = (EndReason::HungUp, Outcome::new(Blame::Caller, EndReason::Busy));
        if hangs_up_early {
            bench.call.handle_ended(LegId::Parked, Outcome::new(Blame::Caller, hung_up), bench.now);
        }
        bench.call.handle_refused(busy, bench.now);
        bench.settle();
        assert_eq!(bench.outputs.contains(&CallOutput::Restore(LegId::First, busy)), !hangs_up_early);
        assert_eq!(bench.outcome(), hangs_up_early.then_some(busy));
        if !hangs_up_early {
            bench.phones[0].heard.clear();
            bench.talk(50);
            let loud = bench.heard(LegId::First).iter().filter(|sample| sample.unsigned_abs() > 900).count();
            assert!(loud > 5000, "who is back hears {loud} samples of their echo");
        }
    }
}

#[test]
fn who_hangs_up_behind_their_transfer_does_not_end_it_and_who_waits_ends_all() {
    let mut bench = Bench::talking(&[extension("102")], Codec::Pcmu, Codec::Pcmu);
    let hung_up = Outcome::new(Blame::Caller, EndReason::HungUp);
    bench.transfer(LegId::Second, &[extension("103")]);
    bench.place();
    bench.call.handle_ended(LegId::Parked, hung_up, bench.now);
    bench.settle();
    assert_eq!(bench.outcome(), None);
    bench.accept(Codec::Pcmu);
    bench.transfer(LegId::Second, &[extension("104")]);
    bench.call.handle_ended(LegId::First, hung_up, bench.now);
    bench.settle();
    for leg in [LegId::Second, LegId::Parked] {
        assert!(bench.outputs.contains(&CallOutput::End(leg, hung_up)), "{leg:?}");
    }
    assert_eq!(bench.outcome(), Some(hung_up));
}
