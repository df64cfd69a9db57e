//! Two phones and the call between them, in virtual time.

use std::net::SocketAddr;

use talkstack_control::port::CallId;
use talkstack_media::audio::pool::SpeechPool;
use talkstack_media::codec::Codec;
use talkstack_media::rtp::dtmf::EventReceiver;
use talkstack_media::session::Channel;

use super::*;
use crate::call::{CallLimits, LegAddress, Offer};
use crate::caller_id::Disclosure;
use crate::route::Plan;

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
    assert!(bench.outputs.contains(&CallOutput::Restore(busy)));
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

fn extension(user: &str) -> BridgeTarget {
    BridgeTarget::Extension { user: user.into(), ring_s: None }
}

fn trunk() -> BridgeTarget {
    BridgeTarget::Trunk { trunk_id: "t".into(), number: "+15550000001".into(), from: None, ring_s: Some(20) }
}

fn plan(targets: &[BridgeTarget], refused_with: Option<u16>) -> Plan {
    Plan::Bridge(Box::new(bridge_plan(targets, refused_with)))
}

fn bridge_plan(targets: &[BridgeTarget], refused_with: Option<u16>) -> BridgePlan {
    BridgePlan {
        targets: targets.to_vec(),
        refused_with,
        caller: "101".into(),
        disclosure: Disclosure::Shown,
        caller_name: None,
        called: "102".into(),
        is_emergency: false,
    }
}

fn sdp(address: SocketAddr, codec: Codec, direction: &str) -> Vec<u8> {
    let formats = codec.payload_type();
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\nc=IN IP4 {ip}\r\nm=audio {port} RTP/AVP {formats} 101\r\n\
         a=rtpmap:101 telephone-event/8000\r\na={direction}\r\n",
        ip = address.ip(),
        port = address.port(),
    )
    .into_bytes()
}

fn address(leg: LegId) -> SocketAddr {
    ([10, 0, 0, 1 + leg as u8], 4000).into()
}

/// A phone at the end of a leg.
struct Phone {
    address: SocketAddr,
    codec: Codec,
    talks: bool,
    sequence: u16,
    timestamp: u32,
    heard: Vec<u8>,
    receiver: EventReceiver,
    keys: String,
}

impl Phone {
    fn new(address: SocketAddr, codec: Codec) -> Self {
        Phone {
            address,
            codec,
            talks: false,
            sequence: 0,
            timestamp: 0,
            heard: Vec::new(),
            receiver: EventReceiver::default(),
            keys: String::new(),
        }
    }
}

/// Two phones and their call.
struct Bench {
    call: Call,
    now: Instant,
    outputs: Vec<CallOutput>,
    phones: [Phone; 2],
    /// From one packet of the phones' to the next.
    pace: Duration,
}

impl Bench {
    fn new(targets: &[BridgeTarget], codec: Codec) -> Self {
        Bench::with(plan(targets, None), codec)
    }

    fn with(plan: Plan, codec: Codec) -> Self {
        let now = Instant::now();
        let sdp = sdp(address(LegId::First), codec, "sendrecv");
        let local = LegAddress { host: [10, 0, 0, 9].into(), port: 10_000 };
        let offer = Offer { sdp: Some(&sdp), local, signalling: address(LegId::First).ip() };
        let limits = CallLimits {
            duration_max: Duration::from_secs(3600),
            ring_max: Duration::from_secs(45),
            speech: SpeechPool::default(),
        };
        let call = Call::new(CallId(1), plan, offer, limits, 7, now);
        let phones = [LegId::First, LegId::Second].map(|leg| Phone::new(address(leg), codec));
        let mut bench = Bench { call, now, outputs: Vec::new(), phones, pace: Duration::from_millis(20) };
        bench.settle();
        bench
    }

    /// A call whose far phone has rung and answered.
    fn talking(targets: &[BridgeTarget], theirs: Codec, ours: Codec) -> Self {
        let mut bench = Bench::new(targets, theirs);
        bench.place();
        bench.call.handle_progressed(LegId::Second, None, bench.now);
        bench.accept(ours);
        bench.phones.iter_mut().for_each(|phone| phone.talks = true);
        bench
    }

    /// The way to the far phone is found.
    fn place(&mut self) {
        self.settle();
        let local = LegAddress { host: [10, 0, 0, 9].into(), port: 10_010 };
        let line = Line { local, signalling: self.phones[1].address.ip() };
        self.call.handle_line(line, 8, self.now);
        self.settle();
        assert!(matches!(self.outputs.last(), Some(CallOutput::Invite(LegId::Second, _))), "{:?}", self.outputs);
    }

    /// The far phone answers.
    fn accept(&mut self, codec: Codec) {
        self.phones[1].codec = codec;
        let remote = self.phones[1].address;
        let answer = sdp(remote, codec, "sendrecv");
        self.call.handle_accepted(LegId::Second, Some(&answer), remote.ip(), self.now);
        self.settle();
        assert!(self.outputs.iter().any(|output| matches!(output, CallOutput::Answer(LegId::First, _))));
    }

    /// The party of the leg asks for another to take its place; the second phone is to be that one.
    fn transfer(&mut self, from: LegId, targets: &[BridgeTarget]) {
        self.call.handle_transfer(from, &bridge_plan(targets, None), self.now);
        if from == LegId::First {
            self.phones.swap(0, 1);
        }
        self.phones[1] = Phone::new(([10, 0, 0, 7], 4000).into(), Codec::Pcmu);
        self.phones[0].heard.clear();
        self.settle();
    }

    fn reoffer(&mut self, leg: LegId, direction: &str) {
        let phone = &self.phones[leg as usize];
        let offer = sdp(phone.address, phone.codec, direction);
        self.call.handle_reoffer(leg, Some(&offer), self.now);
        self.settle();
        assert!(matches!(self.outputs.last(), Some(CallOutput::Answer(answered, _)) if *answered == leg));
    }

    /// Both phones send so many packets, of what they say or of nothing.
    fn talk(&mut self, packets: u32) {
        for _ in 0..packets {
            for leg in [LegId::First, LegId::Second] {
                let phone = &mut self.phones[leg as usize];
                phone.timestamp = phone.timestamp.wrapping_add(160);
                if phone.talks {
                    let mut said = Vec::new();
                    // 1,000: loud enough to be told from noise, in either code.
                    phone.codec.encode(&[1000; 160], &mut said);
                    self.send(leg, false, self.phones[leg as usize].codec.payload_type(), &said);
                }
            }
            self.pass(self.pace);
        }
    }

    /// A press of 100 ms, as a phone sends it.
    fn press(&mut self, leg: LegId, event: u8) {
        let start = self.phones[leg as usize].timestamp + 160;
        self.phones[leg as usize].timestamp = start;
        for step in 1..=7u16 {
            let [high, low] = (step.min(5) * 160).to_be_bytes();
            let end = if step >= 5 { 0x8a } else { 0x0a };
            self.send(leg, step == 1, 101, &[event, end, high, low]);
            self.pass(Duration::from_millis(20));
        }
        self.phones[leg as usize].timestamp = start + 7 * 160;
    }

    fn send(&mut self, leg: LegId, marker: bool, payload_type: u8, payload: &[u8]) {
        let phone = &mut self.phones[leg as usize];
        let mut packet = vec![0x80, payload_type | if marker { 0x80 } else { 0 }];
        packet.extend(phone.sequence.to_be_bytes());
        packet.extend(phone.timestamp.to_be_bytes());
        packet.extend([leg as u8 + 1; 4]);
        packet.extend(payload);
        phone.sequence = phone.sequence.wrapping_add(1);
        self.call.handle_rtp(leg, phone.address, &packet, self.now);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.call.handle_timeout(self.now);
            self.settle();
            let next = self.call.poll_timeout().unwrap_or(end);
            if next > end || self.outcome().is_some() {
                self.now = end;
                return;
            }
            self.now = next.max(self.now + Duration::from_micros(100));
        }
    }

    fn settle(&mut self) {
        let mut packet = [0; 2048];
        while let Some((leg, transmit)) = self.call.poll_transmit(&mut packet, self.now) {
            let phone = &mut self.phones[leg as usize];
            if transmit.channel != Channel::Rtp {
                continue;
            }
            assert_eq!(transmit.to, phone.address);
            let (payload, marker) = (&packet[12..transmit.bytes], packet[1] & 0x80 != 0);
            if packet[1] & 0x7f == 101 {
                let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
                phone.keys.extend(phone.receiver.handle_payload(timestamp, marker, payload));
            } else {
                assert_eq!(packet[1] & 0x7f, phone.codec.payload_type());
                phone.heard.extend_from_slice(payload);
            }
        }
        self.outputs.extend(std::iter::from_fn(|| self.call.poll_output()));
    }

    fn heard(&self, leg: LegId) -> Vec<i16> {
        let phone = &self.phones[leg as usize];
        let mut samples = Vec::new();
        phone.codec.decode(&phone.heard, &mut samples);
        samples
    }

    fn orders(&self) -> usize {
        self.outputs.iter().filter(|output| matches!(output, CallOutput::Lead(_))).count()
    }

    fn rang(&self) -> bool {
        self.outputs.iter().any(|output| matches!(output, CallOutput::Ring(_)))
    }

    /// What the journal was told, by name.
    fn journal(&self) -> Vec<&'static str> {
        let name = |output: &CallOutput| match output {
            CallOutput::Record(CallEvent::Ringing) => Some("Ringing"),
            CallOutput::Record(CallEvent::Answered { .. }) => Some("Answered"),
            CallOutput::Record(CallEvent::Ended { .. }) => Some("Ended"),
            _ => None,
        };
        self.outputs.iter().filter_map(name).collect()
    }

    fn diagnoses(&self) -> Vec<String> {
        let name = |output: &CallOutput| match output {
            CallOutput::Record(CallEvent::Diagnosed { fault, .. }) => Some(fault.clone()),
            _ => None,
        };
        self.outputs.iter().filter_map(name).collect()
    }

    fn found(&self) -> &str {
        let found = self.outputs.iter().find_map(|output| match output {
            CallOutput::Record(CallEvent::Diagnosed { found, .. }) => Some(found.as_str()),
            _ => None,
        });
        found.expect("a diagnosis")
    }

    fn outcome(&self) -> Option<Outcome> {
        self.outputs.iter().find_map(|output| match output {
            CallOutput::Record(CallEvent::Ended { outcome }) => Some(*outcome),
            _ => None,
        })
    }
}
