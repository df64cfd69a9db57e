//! Two phones and the call between them: each talks in numbered frames over a network of its own that loses and delays.
//! What must be heard is known; a run is its seed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use talkstack_control::port::{Blame, CallEvent, CallId, EndReason, Outcome};
use talkstack_gateway::call::{Call, CallLimits, CallOutput, LegAddress, LegId, Line, Offer};
use talkstack_gateway::caller_id::Disclosure;
use talkstack_gateway::route::{BridgePlan, BridgeTarget, Plan};
use talkstack_media::audio::pool::SpeechPool;
use talkstack_media::session::Channel;

use crate::phone::{frame, frame_number};

#[test]
fn two_hundred_seeds_of_bridged_calls_are_heard_both_ways_and_end_as_the_model_says() {
    for seed in 1..=crate::seeds() {
        if let Err(failure) = Bridged::new(seed).run() {
            panic!("seed {seed}: {failure}");
        }
    }
}

#[test]
fn a_bridge_that_swaps_its_phones_does_not_get_through() {
    let mut bridged = Bridged::new(2);
    bridged.is_deaf = true;
    assert!(bridged.run().is_err(), "nobody heard anybody, and nobody noticed");
}

/// One phone and its network.
struct End {
    sent: u32,
    sent_at: BTreeMap<u32, Instant>,
    /// By RTP sequence: what was heard, and when.
    heard: BTreeMap<u16, (u32, Instant)>,
    next: Instant,
}

struct Bridged {
    seed: u64,
    random: u64,
    now: Instant,
    call: Call,
    ends: [End; 2],
    network: BTreeMap<(Instant, u64), (LegId, Vec<u8>)>,
    count: u64,
    events: Vec<&'static str>,
    ends_told: Vec<(LegId, Outcome)>,
    /// A saboteur takes every packet.
    is_deaf: bool,
}

impl Bridged {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let local = LegAddress { host: [10, 0, 0, 9].into(), port: 10_000 };
        let first = sdp(LegId::First, "sendrecv");
        let offer =
            Offer { sdp: Some(&first), local, signalling: address(LegId::First).ip(), security: Default::default() };
        let limits = CallLimits {
            duration_max: Duration::from_secs(3600),
            ring_max: Duration::from_secs(45),
            speech: SpeechPool::default(),
        };
        let targets = ["102", "103"].map(|user| BridgeTarget::Extension { user: user.into(), ring_s: None }).to_vec();
        let plan = BridgePlan {
            targets,
            refused_with: None,
            caller: "101".into(),
            disclosure: Disclosure::Shown,
            caller_name: None,
            called: "102".into(),
            is_emergency: false,
        };
        let call = Call::new(CallId(1), Plan::Bridge(Box::new(plan)), offer, limits, seed, now);
        let end = || End { sent: 0, sent_at: BTreeMap::new(), heard: BTreeMap::new(), next: now };
        Bridged {
            seed,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now,
            call,
            ends: [end(), end()],
            network: BTreeMap::new(),
            count: 0,
            events: Vec::new(),
            ends_told: Vec::new(),
            is_deaf: false,
        }
    }

    fn run(mut self) -> Result<(), String> {
        self.settle();
        let far = Line {
            local: LegAddress { host: [10, 0, 0, 9].into(), port: 10_010 },
            signalling: address(LegId::Second).ip(),
            security: Default::default(),
        };
        self.call.handle_line(far, self.seed + 1, self.now);
        if self.seed.is_multiple_of(4) {
            self.call.handle_refused(Outcome::new(Blame::Caller, EndReason::Busy), self.now);
            self.call.handle_line(far, self.seed + 2, self.now);
        }
        self.call.handle_progressed(LegId::Second, None, self.now);
        self.talk_until(self.now + Duration::from_millis(self.seed % 700), false);
        let answer = sdp(LegId::Second, "sendrecv");
        self.call.handle_accepted(LegId::Second, Some(&answer), address(LegId::Second).ip(), self.now);
        for end in &mut self.ends {
            end.next = self.now;
        }
        let seconds = 2 + self.seed % 4;
        self.talk_until(self.now + Duration::from_secs(seconds), true);
        let holder = if self.seed.is_multiple_of(2) { LegId::First } else { LegId::Second };
        if self.seed.is_multiple_of(3) {
            self.call.handle_reoffer(holder, Some(&sdp(holder, "sendonly")), self.now);
            self.talk_until(self.now + Duration::from_secs(1), false);
            self.call.handle_reoffer(holder, Some(&sdp(holder, "sendrecv")), self.now);
            self.talk_until(self.now + Duration::from_secs(2), true);
        }
        let hung_up = Outcome::new(Blame::Caller, EndReason::HungUp);
        self.call.handle_ended(holder, hung_up, self.now);
        self.settle();
        self.judge(holder, hung_up)
    }

    /// Goes on to the instant, with or without talk.
    fn talk_until(&mut self, until: Instant, talk: bool) {
        while self.now < until {
            for leg in [LegId::First, LegId::Second] {
                let end = &mut self.ends[leg as usize];
                if end.next > self.now {
                    continue;
                }
                end.next += FRAME;
                end.sent += 1;
                if talk {
                    let (number, packet) = (end.sent, frame(end.sent));
                    end.sent_at.insert(number, self.now);
                    self.send(leg, packet);
                }
            }
            while let Some(entry) = self.network.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (leg, packet) = entry.remove();
                self.call.handle_rtp(leg, address(leg), &packet, self.now);
            }
            self.call.handle_timeout(self.now);
            self.settle();
            self.now += Duration::from_millis(1);
        }
    }

    /// Up to 5 % are lost; the others take 1 to 30 ms.
    fn send(&mut self, leg: LegId, packet: Vec<u8>) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        if self.is_deaf || self.random % 100 < self.seed % 6 {
            return;
        }
        self.count += 1;
        let at = self.now + Duration::from_millis(1 + (self.random >> 8) % 30);
        self.network.insert((at, self.count), (leg, packet));
    }

    fn settle(&mut self) {
        let mut packet = [0; 2048];
        while let Some((leg, transmit)) = self.call.poll_transmit(&mut packet, self.now) {
            if transmit.channel == Channel::Rtp
                && let Some(number) = frame_number(&packet[12..transmit.bytes])
            {
                let sequence = u16::from_be_bytes([packet[2], packet[3]]);
                self.ends[leg as usize].heard.insert(sequence, (number, self.now));
            }
        }
        while let Some(output) = self.call.poll_output() {
            match output {
                CallOutput::Record(CallEvent::Ringing) => self.events.push("ringing"),
                CallOutput::Record(CallEvent::Answered { .. }) => self.events.push("answered"),
                CallOutput::Record(CallEvent::Ended { .. }) => self.events.push("ended"),
                CallOutput::Record(CallEvent::Diagnosed { .. }) => self.events.push("diagnosed"),
                CallOutput::End(leg, outcome) => self.ends_told.push((leg, outcome)),
                _ => {}
            }
        }
    }

    fn judge(&self, holder: LegId, hung_up: Outcome) -> Result<(), String> {
        if self.events != ["ringing", "answered", "ended"] {
            return Err(format!("the journal was told {:?}", self.events));
        }
        if self.ends_told != [(holder.other(), hung_up)] {
            return Err(format!("{:?} were ended", self.ends_told));
        }
        for leg in [LegId::First, LegId::Second] {
            let (heard, said) = (&self.ends[leg as usize].heard, &self.ends[leg.other() as usize].sent_at);
            let mut numbers: Vec<(u16, u32)> =
                heard.iter().map(|(sequence, (number, _))| (*sequence, *number)).collect();
            // The stream may have begun anywhere in its modulo.
            let start = numbers.windows(2).position(|pair| pair[1].0 - pair[0].0 > 1000).map_or(0, |at| at + 1);
            numbers.rotate_left(start);
            if numbers.windows(2).any(|pair| pair[0].1 >= pair[1].1) {
                return Err(format!("{leg:?} heard frames doubled or out of order"));
            }
            let late = heard.values().filter(|(number, at)| *at - said[number] > DELAY_MAX).count();
            if late > 0 {
                return Err(format!("{leg:?} heard {late} frames late"));
            }
            // A frame that reordering or a hole has cut in two is heard and not counted.
            let least = said.len() * (100 - self.seed as usize % 6) * 70 / 10_000;
            if heard.len() < least {
                return Err(format!("{leg:?} heard {} of {} frames, not {least}", heard.len(), said.len()));
            }
        }
        Ok(())
    }
}

fn sdp(leg: LegId, direction: &str) -> Vec<u8> {
    let (ip, port) = (address(leg).ip(), address(leg).port());
    format!("v=0\r\no=- 1 1 IN IP4 {ip}\r\nc=IN IP4 {ip}\r\nm=audio {port} RTP/AVP 0\r\na={direction}\r\n").into_bytes()
}

fn address(leg: LegId) -> SocketAddr {
    ([10, 0, 0, 1 + leg as u8], 4000).into()
}

const FRAME: Duration = Duration::from_millis(20);

/// 250 ms: the network's 30, a hole's 60, and what a bridge lets pile up.
const DELAY_MAX: Duration = Duration::from_millis(250);
