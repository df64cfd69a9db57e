use talkstack_media::codec::g711::ALAW_TO_LINEAR;
use talkstack_media::session::{Channel, RtpSession};

use super::*;

#[test]
fn a_caller_who_sends_nothing_is_asked_once_and_then_the_call_ends() {
    let mut bench = Bench::new(Plan::Echo, Some(&offer("0", "sendrecv")));
    bench.pass(29);
    assert!(!bench.saw(&CallOutput::Probe(LegId::First)));
    bench.pass(2);
    assert!(bench.saw(&CallOutput::Probe(LegId::First)), "after 30 s without a first packet");
    bench.pass(58);
    assert_eq!(bench.outcome(), None);
    bench.pass(3);
    assert_eq!(bench.outcome(), Some(Outcome::new(Blame::Trunk, EndReason::MediaTimeout)));
}

#[test]
fn media_that_stops_is_missed_after_60_s_but_not_while_the_caller_holds() {
    let mut bench = Bench::new(Plan::Echo, Some(&offer("0", "sendrecv")));
    bench.talk(50);
    bench.pass(58);
    assert!(!bench.saw(&CallOutput::Probe(LegId::First)));
    bench.call.handle_reoffer(LegId::First, Some(offer("0", "sendonly").as_bytes()), bench.now);
    bench.pass(300);
    assert!(!bench.saw(&CallOutput::Probe(LegId::First)), "held");
    bench.call.handle_reoffer(LegId::First, Some(offer("0", "sendrecv").as_bytes()), bench.now);
    bench.pass(59);
    assert!(!bench.saw(&CallOutput::Probe(LegId::First)), "held time does not count");
    bench.pass(2);
    assert!(bench.saw(&CallOutput::Probe(LegId::First)));
}

#[test]
fn a_caller_who_was_heard_again_is_asked_again() {
    let mut bench = Bench::new(Plan::Echo, Some(&offer("0", "sendrecv")));
    for round in 1..=2 {
        bench.talk(50);
        bench.pass(61);
        let probes = bench.outputs.iter().filter(|output| **output == CallOutput::Probe(LegId::First)).count();
        assert_eq!((probes, bench.outcome()), (round, None));
    }
}

#[test]
fn an_ack_without_the_answer_that_was_due_ends_the_call() {
    let mut bench = Bench::new(Plan::Echo, None);
    bench.call.handle_acknowledged(LegId::First, None, bench.now);
    bench.pass(1);
    assert_eq!(bench.outcome(), Some(Outcome::new(Blame::Caller, EndReason::BadOffer)));
}

#[test]
fn a_late_offer_in_mid_call_takes_effect_with_the_answer_in_its_ack() {
    let mut bench = Bench::new(Plan::Echo, Some(&offer("0", "sendrecv")));
    bench.call.handle_acknowledged(LegId::First, None, bench.now);
    bench.call.handle_reoffer(LegId::First, None, bench.now);
    bench.pass(1);
    assert_eq!(bench.sent_to, "10.0.0.1:4000");
    bench.call.handle_acknowledged(
        LegId::First,
        Some(offer("8", "sendrecv").replace("4000", "4010").as_bytes()),
        bench.now,
    );
    bench.pass(1);
    assert_eq!((&*bench.sent_to, bench.payload_type), ("10.0.0.1:4010", 8));
}

#[test]
fn a_key_that_is_pressed_before_its_answer_is_here_is_heard_and_older_sound_is_not() {
    for (keys_ago, hears_it) in [(100, true), (1000, false)] {
        let mut bench = Bench::new(Plan::attendant(), None);
        bench.pass(4);
        bench.key(1);
        bench.run_until(bench.now + Duration::from_millis(keys_ago));
        let answer = offer("0 101", "sendrecv") + "a=rtpmap:101 telephone-event/8000\r\n";
        bench.call.handle_acknowledged(LegId::First, Some(answer.as_bytes()), bench.now);
        // The first key has the caller hear themselves.
        bench.word = 0x20;
        bench.talk(400);
        let word = bench.heard.iter().filter(|code| **code == bench.word).count();
        assert_eq!(word > 20 * 160, hears_it, "{word} samples, {keys_ago} ms");
    }
}

#[test]
fn the_version_of_our_description_moves_only_when_it_differs() {
    let mut bench = Bench::new(Plan::Echo, Some(&offer("0", "sendrecv")));
    for direction in ["sendrecv", "sendonly", "sendonly", "sendrecv"] {
        bench.call.handle_reoffer(LegId::First, Some(offer("0", direction).as_bytes()), bench.now);
    }
    bench.pass(0);
    let versions: Vec<_> = bench
        .outputs
        .iter()
        .filter_map(|output| match output {
            CallOutput::Answer(_, sdp) => sdp.lines().find(|line| line.starts_with("o="))?.split(' ').nth(2),
            _ => None,
        })
        .collect();
    assert_eq!(versions, ["1", "1", "2", "2", "3"]);
}

#[test]
fn nobody_waits_for_a_caller_who_holds() {
    let mut bench = Bench::new(Plan::attendant(), Some(&offer("0", "sendrecv")));
    bench.talk(100 * 20);
    bench.call.handle_reoffer(LegId::First, Some(offer("0", "sendonly").as_bytes()), bench.now);
    let queued = |bench: &Bench| bench.call.leg.session.as_ref().map(RtpSession::pushed);
    let before = queued(&bench);
    bench.pass(600);
    assert_eq!((bench.outcome(), queued(&bench)), (None, before), "nothing is said in ten minutes on hold");
    bench.call.handle_reoffer(LegId::First, Some(offer("0", "sendrecv").as_bytes()), bench.now);
    bench.talk(100 * 60);
    assert_eq!(bench.outcome(), Some(Outcome::new(Blame::Agent, EndReason::HungUp)), "goodbye after the last menu");
}

#[test]
fn another_codec_in_mid_prompt_says_the_rest_of_it() {
    let mut bench = Bench::new(Plan::attendant(), Some(&offer("0", "sendrecv")));
    bench.talk(50);
    bench.heard.clear();
    bench.call.handle_reoffer(LegId::First, Some(offer("8", "sendrecv").as_bytes()), bench.now);
    bench.payload_type = 8;
    bench.talk(50);
    let loud = bench.heard.iter().filter(|code| ALAW_TO_LINEAR[usize::from(**code)].unsigned_abs() > 300).count();
    assert!(loud > 1500, "{loud} of {} samples are speech", bench.heard.len());
}

/// An hour, and three quarters of a minute of ringing.
pub(super) fn limits() -> CallLimits {
    CallLimits {
        duration_max: Duration::from_secs(3600),
        ring_max: Duration::from_secs(45),
        speech: SpeechPool::default(),
    }
}

pub(super) fn offer(formats: &str, direction: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\nc=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP {formats}\r\na={direction}\r\n"
    )
}

/// A call in virtual time, and what it did.
pub(super) struct Bench {
    pub(super) call: Call,
    pub(super) now: Instant,
    pub(super) outputs: Vec<CallOutput>,
    sequence: u16,
    pub(super) sent_to: String,
    payload_type: u8,
    pub(super) heard: Vec<u8>,
    /// What each sample of the caller's speech is.
    pub(super) word: u8,
}

impl Bench {
    pub(super) fn new(plan: Plan, sdp: Option<&str>) -> Self {
        let now = Instant::now();
        let local = LegAddress { host: [10, 0, 0, 2].into(), port: 10_000 };
        let offer = Offer {
            sdp: sdp.map(str::as_bytes),
            local,
            signalling: [10, 0, 0, 1].into(),
            security: Default::default(),
        };
        Bench {
            call: Call::new(CallId(1), plan, offer, limits(), 7, now),
            now,
            outputs: Vec::new(),
            sequence: 0,
            sent_to: String::new(),
            payload_type: 0,
            heard: Vec::new(),
            word: 0xff,
        }
    }

    /// Lets seconds go by without a packet.
    pub(super) fn pass(&mut self, seconds: u64) {
        self.run_until(self.now + Duration::from_secs(seconds));
    }

    /// The caller sends so many packets of 20 ms.
    pub(super) fn talk(&mut self, packets: u32) {
        for _ in 0..packets {
            let mut packet = [self.word; 172];
            packet[..2].copy_from_slice(&[0x80, self.payload_type]);
            packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
            packet[4..8].copy_from_slice(&(u32::from(self.sequence) * 160).to_be_bytes());
            self.sequence += 1;
            self.call.handle_rtp(LegId::First, SocketAddr::from(([10, 0, 0, 1], 4000)), &packet, self.now);
            self.run_until(self.now + Duration::from_millis(20));
        }
    }

    /// The caller presses a key for 100 ms (RFC 4733).
    pub(super) fn key(&mut self, key: u8) {
        let timestamp = (u32::from(self.sequence) * 160).to_be_bytes();
        for end in [0x0a, 0x8a, 0x8a, 0x8a] {
            let [high, low] = self.sequence.to_be_bytes();
            self.sequence += 1;
            let mut packet = vec![0x80, 101, high, low];
            packet.extend(timestamp);
            packet.extend([0, 0, 0, 0, key, end, 0x03, 0x20]);
            self.call.handle_rtp(LegId::First, SocketAddr::from(([10, 0, 0, 1], 4000)), &packet, self.now);
        }
    }

    fn run_until(&mut self, end: Instant) {
        let mut packet = [0; 2048];
        loop {
            self.call.handle_timeout(self.now);
            while let Some((_, transmit)) = self.call.poll_transmit(&mut packet, self.now) {
                if transmit.channel == Channel::Rtp {
                    (self.sent_to, self.payload_type) = (transmit.to.to_string(), packet[1] & 0x7f);
                    self.heard.extend_from_slice(&packet[12..transmit.bytes]);
                }
            }
            self.outputs.extend(std::iter::from_fn(|| self.call.poll_output()));
            let next = self.call.poll_timeout().unwrap_or(end);
            if next > end || self.outcome().is_some() {
                self.now = end;
                return;
            }
            self.now = next.max(self.now + Duration::from_micros(100));
        }
    }

    fn saw(&self, output: &CallOutput) -> bool {
        self.outputs.contains(output)
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.outputs.iter().find_map(|output| match output {
            CallOutput::Record(CallEvent::Ended { outcome }) => Some(*outcome),
            _ => None,
        })
    }
}
