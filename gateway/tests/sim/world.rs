//! The world a simulated call lives in: the network, the box, the clock, and the model that judges.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use talkstack_control::port::{Blame, CallEvent, CallId, EndReason, Outcome};
use talkstack_gateway::call::{Call, CallLimits, CallOutput, LegAddress, LegId, Offer};
use talkstack_gateway::route::Plan;
use talkstack_media::audio::playout::{CUSHION_MAX, FRAME};
use talkstack_media::audio::pool::SpeechPool;
use talkstack_media::rtp::receiver::WAIT_MIN;
use talkstack_media::session::Channel;
use talkstack_media::sip::{DialogId, EndCause, Endpoint, EndpointConfig, Event, Flow, Output, Refusal, Transport};

use crate::phone::{Ending, Phone, Script};

/// A machine broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    None,
    SwallowAck,
    SwallowBye,
    DoubleFrames,
    DelayFrames,
    SwapFrames,
    RecordTwice,
}

/// What a good run tells.
#[derive(Debug, PartialEq)]
pub(crate) struct Report {
    frames_sent: u32,
    frames_heard: usize,
    events: Vec<CallEvent>,
    duration: Duration,
}

pub(crate) struct World {
    script: Script,
    sabotage: Sabotage,
    weather: Weather,
    start: Instant,
    now: Instant,
    network: BTreeMap<(Instant, u64), Packet>,
    sent: u64,
    endpoint: Endpoint,
    dialog: Option<DialogId>,
    call: Option<Call>,
    phone: Phone,
    /// A packet held back to be sent behind the next.
    swapped: Option<Vec<u8>>,
    events: Vec<CallEvent>,
    hang_up_at: Option<Instant>,
    ended_at: Option<Instant>,
}

/// How bad the network is.
struct Weather {
    random: u64,
    loss_percent: u64,
    /// Packets take 1 ms to so much; above 20 ms neighbours change places.
    delay_ms_max: u64,
}

enum Packet {
    SipToBox(Vec<u8>),
    SipToPhone(Vec<u8>),
    RtpToBox(Vec<u8>),
    RtpToPhone(Vec<u8>),
}

impl World {
    pub(crate) fn new(seed: u64, script: Script, sabotage: Sabotage) -> Self {
        let now = Instant::now();
        World {
            script,
            sabotage,
            weather: Weather {
                random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
                loss_percent: seed % 6,
                delay_ms_max: [16, 16, 30, 50][(seed / 6 % 4) as usize],
            },
            start: now,
            now,
            network: BTreeMap::new(),
            sent: 0,
            endpoint: Endpoint::new(EndpointConfig::default(), [seed as u8; 32]),
            dialog: None,
            call: None,
            phone: Phone::new(script, now),
            swapped: None,
            events: Vec::new(),
            hang_up_at: None,
            ended_at: None,
        }
    }

    /// Runs until nothing is left to happen, and judges.
    pub(crate) fn run(mut self) -> Result<Report, String> {
        while let Some(next) = self.next_instant() {
            self.now = next.max(self.now);
            if self.now - self.start > LONGEST {
                return Err(format!("still going after {LONGEST:?}"));
            }
            self.step();
        }
        self.judge()
    }

    fn next_instant(&self) -> Option<Instant> {
        let call = self.call.as_ref().and_then(Call::poll_timeout);
        let endpoint = self.endpoint.poll_timeout().map(|(at, _)| at);
        let network = self.network.keys().next().map(|(at, _)| *at);
        [call, endpoint, network, self.phone.poll_timeout(), self.hang_up_at].into_iter().flatten().min()
    }

    fn step(&mut self) {
        while let Some(entry) = self.network.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let packet = entry.remove();
            self.deliver(packet);
        }
        let (sip, rtp) = self.phone.poll(self.now);
        if let Some(text) = sip {
            self.send(Packet::SipToBox(text.into_bytes()));
        }
        if let Some(packet) = rtp {
            self.send(Packet::RtpToBox(packet));
        }
        self.endpoint.handle_timeout(self.now);
        if self.hang_up_at.is_some_and(|at| at <= self.now) {
            self.hang_up_at = None;
            if let Some(call) = &mut self.call {
                call.hang_up(Outcome::new(Blame::Operator, EndReason::HungUp));
            }
        }
        if let Some(call) = &mut self.call {
            call.handle_timeout(self.now);
        }
        self.settle();
    }

    fn deliver(&mut self, packet: Packet) {
        let (phone_rtp, phone_sip): (SocketAddr, SocketAddr) =
            (([10, 0, 0, 1], 4000).into(), ([10, 0, 0, 1], 5060).into());
        match packet {
            Packet::SipToBox(bytes) => {
                let local = ([10, 0, 0, 2], 5060).into();
                let flow = Flow { transport: Transport::Udp, local, remote: phone_sip, stream: None };
                self.endpoint.handle_message(&flow, &bytes, self.now);
            }
            Packet::SipToPhone(bytes) => {
                let answer = self.phone.handle_sip(&String::from_utf8_lossy(&bytes), self.now);
                if let Some(answer) = answer {
                    self.send(Packet::SipToBox(answer.into_bytes()));
                }
            }
            Packet::RtpToBox(bytes) => {
                if let Some(call) = &mut self.call {
                    call.handle_rtp(LegId::First, phone_rtp, &bytes, self.now);
                }
            }
            Packet::RtpToPhone(bytes) => self.phone.handle_rtp(&bytes, self.now),
        }
        self.settle();
    }

    /// Lets endpoint and call tell each other what they have to, as the SIP thread and the shard do.
    fn settle(&mut self) {
        loop {
            let mut is_quiet = true;
            while let Some(output) = self.endpoint.poll_output() {
                is_quiet = false;
                match output {
                    Output::Send { bytes, .. } | Output::SendLarge { bytes, .. } => {
                        self.send(Packet::SipToPhone(bytes))
                    }
                    Output::Event(event) => self.handle_event(event),
                }
            }
            while let Some(output) = self.call.as_mut().and_then(Call::poll_output) {
                is_quiet = false;
                self.carry_out(output);
            }
            self.send_media();
            if is_quiet {
                return;
            }
        }
    }

    fn send_media(&mut self) {
        let mut buffer = [0; 2048];
        let delay = if self.sabotage == Sabotage::DelayFrames { Duration::from_millis(300) } else { Duration::ZERO };
        while let Some((_, transmit)) = self.call.as_mut().and_then(|call| call.poll_transmit(&mut buffer, self.now)) {
            if transmit.channel == Channel::Rtp && self.sabotage == Sabotage::SwapFrames {
                self.swap(buffer[..transmit.bytes].to_vec());
            } else if transmit.channel == Channel::Rtp {
                self.send_later(Packet::RtpToPhone(buffer[..transmit.bytes].to_vec()), delay);
                if self.sabotage == Sabotage::DoubleFrames {
                    buffer[2] ^= 0x20;
                    self.send(Packet::RtpToPhone(buffer[..transmit.bytes].to_vec()));
                }
            }
        }
    }

    /// Exchanges the sound of two packets in a row, as a buffer that does not look at sequence numbers would.
    fn swap(&mut self, mut packet: Vec<u8>) {
        match self.swapped.take() {
            None => self.swapped = Some(packet),
            Some(mut former) => {
                former[12..].swap_with_slice(&mut packet[12..]);
                self.send(Packet::RtpToPhone(former));
                self.send(Packet::RtpToPhone(packet));
            }
        }
    }

    fn handle_event(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Offered(offered) => {
                self.dialog = Some(offered.dialog);
                let local = LegAddress { host: [10, 0, 0, 2].into(), port: 10_000 };
                let offer = Offer {
                    sdp: offered.sdp.as_deref(),
                    local,
                    signalling: offered.flow.remote.ip(),
                    security: Default::default(),
                };
                let limits = CallLimits {
                    duration_max: Duration::from_secs(3600),
                    ring_max: Duration::from_secs(45),
                    speech: SpeechPool::default(),
                };
                self.call = Some(Call::new(CallId(1), Plan::Echo, offer, limits, 42, now));
                if self.script.ending == Ending::BoxHangsUp {
                    self.hang_up_at = Some(now + Duration::from_secs(self.script.seconds));
                }
            }
            Event::Acknowledged { sdp, .. } if self.sabotage != Sabotage::SwallowAck => {
                if let Some(call) = &mut self.call {
                    call.handle_acknowledged(LegId::First, sdp.as_deref(), now);
                }
            }
            Event::Acknowledged { .. } => {
                // As if the machine had not seen it.
                if let Some(call) = &mut self.call {
                    call.handle_ended(LegId::First, Outcome::new(Blame::Trunk, EndReason::NoAck), now);
                }
            }
            Event::ReOffered { sdp, .. } => {
                if let Some(call) = &mut self.call {
                    call.handle_reoffer(LegId::First, sdp.as_deref(), now);
                }
            }
            Event::Ended { cause: EndCause::Bye, .. } if self.sabotage == Sabotage::SwallowBye => {}
            Event::Ended { cause, .. } => {
                let outcome = match cause {
                    EndCause::Bye => Outcome::new(Blame::Caller, EndReason::HungUp),
                    EndCause::Cancelled => Outcome::new(Blame::Caller, EndReason::Cancelled),
                    EndCause::NoAck | EndCause::NoPrack => Outcome::new(Blame::Trunk, EndReason::NoAck),
                    EndCause::Extension => Outcome::new(Blame::Caller, EndReason::Rejected),
                    EndCause::Gone | EndCause::Expired => Outcome::new(Blame::Trunk, EndReason::MediaTimeout),
                };
                if let Some(call) = &mut self.call {
                    call.handle_ended(LegId::First, outcome, now);
                }
            }
            // The simulated phone calls; nobody calls it, and it neither transfers nor presses a key.
            _ => {}
        }
    }

    fn carry_out(&mut self, output: CallOutput) {
        let (Some(dialog), now) = (self.dialog, self.now) else { return };
        let _ = match output {
            CallOutput::Ring(_) => self.endpoint.ring(dialog, None, now),
            CallOutput::Answer(_, sdp) => self.endpoint.answer(dialog, sdp.as_bytes(), now),
            CallOutput::ReOffer(_, sdp) => self.endpoint.reinvite(dialog, sdp.as_bytes(), now),
            CallOutput::RefuseReOffer(_) => self.endpoint.refuse(dialog, Refusal::new(488), now),
            CallOutput::Probe(_) => self.endpoint.probe(dialog, now),
            CallOutput::Press(_, digit) => self.endpoint.press_by_info(dialog, digit, now),
            CallOutput::End(..) => self.endpoint.hang_up(dialog, None, now),
            // A phone that vanishes is heard by nobody, and its line has the fault it has.
            CallOutput::Record(CallEvent::Diagnosed { .. }) | CallOutput::Sounds(..) => Ok(()),
            CallOutput::Record(event) => {
                if matches!(event, CallEvent::Ended { .. }) {
                    self.ended_at = Some(now);
                }
                if self.sabotage == Sabotage::RecordTwice && matches!(event, CallEvent::Ended { .. }) {
                    self.events.push(event.clone());
                }
                self.events.push(event);
                Ok(())
            }
            CallOutput::Lead(_)
            | CallOutput::Transferred
            | CallOutput::Restore(..)
            | CallOutput::Promote
            | CallOutput::PutThrough(_)
            | CallOutput::Refuse(_)
            | CallOutput::Invite(..)
            | CallOutput::Connect(..)
            | CallOutput::Measured(..)
            | CallOutput::Collected(_)
            | CallOutput::Speak(_)
            | CallOutput::Fetch(..)
            | CallOutput::Disconnect(_) => Ok(()),
            CallOutput::Finished => {
                self.call = None;
                Ok(())
            }
        };
    }

    fn send(&mut self, packet: Packet) {
        self.send_later(packet, Duration::ZERO);
    }

    /// Puts a packet on the network: lost, doubled, late, and out of order where the seed says so.
    fn send_later(&mut self, packet: Packet, delay: Duration) {
        if self.next_random() % 100 < self.weather.loss_percent {
            return;
        }
        let copies = if self.next_random().is_multiple_of(200) { 2 } else { 1 };
        for _ in 0..copies {
            let late = Duration::from_micros(1000 + self.next_random() % (self.weather.delay_ms_max * 1000 - 1000));
            self.sent += 1;
            let copy = match &packet {
                Packet::SipToBox(bytes) => Packet::SipToBox(bytes.clone()),
                Packet::SipToPhone(bytes) => Packet::SipToPhone(bytes.clone()),
                Packet::RtpToBox(bytes) => Packet::RtpToBox(bytes.clone()),
                Packet::RtpToPhone(bytes) => Packet::RtpToPhone(bytes.clone()),
            };
            self.network.insert((self.now + delay + late, self.sent), copy);
        }
    }

    fn next_random(&mut self) -> u64 {
        self.weather.random ^= self.weather.random << 13;
        self.weather.random ^= self.weather.random >> 7;
        self.weather.random ^= self.weather.random << 17;
        self.weather.random >> 11
    }

    /// The model: what must have been recorded and heard.
    fn judge(self) -> Result<Report, String> {
        let outcome = match self.script.ending {
            Ending::PhoneHangsUp => Outcome::new(Blame::Caller, EndReason::HungUp),
            // 30 s without a packet only ask; 32 s without an ACK end the call.
            Ending::PhoneVanishes => Outcome::new(Blame::Trunk, EndReason::NoAck),
            Ending::BoxHangsUp => Outcome::new(Blame::Operator, EndReason::HungUp),
        };
        let expected = [CallEvent::Ringing, CallEvent::Answered { codec: "PCMU".into() }, CallEvent::Ended { outcome }];
        if self.events != expected {
            return Err(format!("recorded {:?}", self.events));
        }
        if self.endpoint.dialogs() != 0 {
            return Err("a dialog is left over".into());
        }
        let phone = &self.phone;
        if self.script.ending != Ending::PhoneVanishes {
            if !phone.is_over {
                return Err("the phone never learnt of the end".into());
            }
            if phone.has_answer_for() > Duration::from_secs(20) {
                return Err("the answer came too late".into());
            }
            self.judge_sound()?;
        }
        Ok(Report {
            frames_sent: phone.frames_sent,
            frames_heard: phone.heard.len(),
            events: self.events,
            duration: self.now - self.start,
        })
    }

    /// Each frame comes back at most once, in order, soon, and most of them do.
    fn judge_sound(&self) -> Result<(), String> {
        let phone = &self.phone;
        let numbers: Vec<u32> = phone.heard.values().map(|(number, _)| *number).collect();
        if numbers.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err("frames came back doubled or out of order".into());
        }
        let delays = phone.heard.values().filter_map(|(number, at)| Some(*at - *phone.sent_at.get(number)?));
        // Behind a hole a frame waits for what is missing, for the cushion and for its turn, beside the way there and back.
        let delay = Duration::from_millis(self.weather.delay_ms_max);
        // A hole waits as long as late packets take, and 40 ms; a quiet network's are 20 ms late.
        let wait = WAIT_MIN + delay.saturating_sub(FRAME);
        let soon = (2 * delay + wait + CUSHION_MAX + FRAME).max(Duration::from_millis(200));
        let late = delays.filter(|delay| *delay > soon).count();
        // What was queued when the phone held waits until it is back: a hole of 60 ms, a cushion, and what was on its way.
        let waited = if self.script.hold { 8 } else { 0 };
        if late > waited {
            return Err(format!("{late} frames came back late"));
        }
        // Both directions lose; a held phone gets nothing back; a hole may end a talk spurt's frame.
        let kept = (100 - self.weather.loss_percent) * (100 - self.weather.loss_percent);
        // A phone that has lost the box's BYE talks on to nobody.
        let is_in_time = |number: &u32, at: &Instant| {
            self.ended_at.is_none_or(|ended| *at < ended) && !phone.hold.sent.contains(number)
        };
        let in_time = phone.sent_at.iter().filter(|(number, at)| is_in_time(number, at)).count() as u64;
        let least = in_time * kept * 85 / 100 / 10_000;
        if (numbers.len() as u64) < least.saturating_sub(15) {
            return Err(format!("only {} of {in_time} frames came back, not {least}", numbers.len()));
        }
        if self.script.hold && !phone.hold.was_mirrored && !phone.hold.was_refused {
            return Err("hold was not mirrored".into());
        }
        Ok(())
    }
}

/// 64·T1 twice over, and the talk.
const LONGEST: Duration = Duration::from_secs(120);
