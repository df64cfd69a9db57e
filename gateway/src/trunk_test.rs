//! The test of a trunk: which step comes next, what its outcome means, and what is told of it.
//!
//! ```text
//!   dns ─▶ reach ─▶ options ─▶ register ─▶ call ─▶ audio
//!    │       │         │           │         │       │
//!    └───────┴── a fault: the steps behind it are not tried ──▶ told
//! ```
//!
//! Silence upon OPTIONS alone is no fault yet: there are providers that answer nothing else.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use talkstack_control::port::{EndReason, Outcome, TestStep};
use talkstack_media::session::{Exchange, Heed};
use talkstack_media::sip::Transport;

use crate::agent::tone_test::{LISTEN_MAX, ToneHeard};
use crate::diagnosis::{Fault, is_out_of_reach};
use crate::io::sip::TlsFault;
use crate::trunks::Hop;

/// What is tested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The box registers there.
    pub registers: bool,
    /// The trunk has a user and a secret.
    pub has_credentials: bool,
    /// Somebody is to be called.
    pub calls: bool,
}

/// One test.
#[derive(Debug)]
pub struct TrunkTest {
    subject: Subject,
    stage: Stage,
    since: Instant,
    /// Still to be tried.
    hops: VecDeque<Hop>,
    /// The one that could be reached.
    hop: Option<Hop>,
    is_options_silent: bool,
    has_rung: bool,
    /// Where their answer wants audio, and where their signalling is.
    shown: Option<(IpAddr, IpAddr)>,
    steps: Vec<TestStep>,
    outputs: VecDeque<TestOutput>,
}

/// The step that is being taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Dns,
    Reach,
    Options,
    Register,
    Call,
    Audio,
    Over,
}

/// What a test wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum TestOutput {
    /// See whether anything listens there; [`TrunkTest::handle_reached`] answers.
    Reach(Hop),
    /// Send OPTIONS there; [`TrunkTest::handle_response`] answers.
    Options(Hop),
    /// Send a REGISTER there that asks for the bindings and changes none (RFC 3261 §10.2.3).
    Register(Hop),
    /// Call the number there, with a tone.
    Call(Hop),
    /// End the call.
    HangUp,
    /// The test is over.
    Told(Vec<TestStep>),
}

/// What came of an attempt to reach an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// A connection stands, or nothing refuses datagrams.
    Up,
    /// Nothing listens there.
    Refused,
    /// Nothing came back, or no network leads there.
    Silent,
    /// TLS failed upon a connection that was made.
    NoTls(TlsFault),
}

impl TrunkTest {
    /// Begins: the addresses are awaited.
    pub fn new(subject: Subject, now: Instant) -> Self {
        TrunkTest {
            subject,
            stage: Stage::Dns,
            since: now,
            hops: VecDeque::new(),
            hop: None,
            is_options_silent: false,
            has_rung: false,
            shown: None,
            steps: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Where the trunk is, the preferred place first; nowhere when its name has no address.
    pub fn handle_hops(&mut self, hops: &[Hop], now: Instant) {
        if self.stage != Stage::Dns {
            return;
        }
        let Some(first) = hops.first() else { return self.fail(Fault::Dns, now) };
        self.hops = hops.iter().copied().take(HOPS_MAX).collect();
        let (address, over) = (first.address, first.transport.via_name());
        let found = match hops.len() {
            1 => format!("The host has the address {address}, over {over}"),
            count => format!("The host has {count} addresses, {address} over {over} first"),
        };
        self.pass(found, Stage::Reach, now);
        self.reach_next(Fault::NoAnswer, now);
    }

    /// What came of [`TestOutput::Reach`].
    pub fn handle_reached(&mut self, reached: Reached, now: Instant) {
        if self.stage != Stage::Reach {
            return;
        }
        match reached {
            Reached::Up => {
                let Some(hop) = self.hops.pop_front() else { return };
                self.hop = Some(hop);
                let Hop { address, transport } = hop;
                let found = match transport {
                    Transport::Udp => format!("Nothing at {address} refuses SIP"),
                    Transport::Tcp | Transport::Ws => format!("{address} takes connections"),
                    Transport::Tls | Transport::Wss => format!("{address} takes connections under TLS"),
                };
                self.pass(found, Stage::Options, now);
                self.outputs.push_back(TestOutput::Options(hop));
            }
            Reached::Refused => self.reach_another(Fault::Refused, now),
            Reached::Silent => self.reach_another(Fault::NoAnswer, now),
            Reached::NoTls(cause) => self.reach_another(Fault::Tls { cause }, now),
        }
    }

    /// The final response to OPTIONS or REGISTER, 200 to 699.
    pub fn handle_response(&mut self, status: u16, now: Instant) {
        match self.stage {
            Stage::Options => {
                self.pass(format!("It answers OPTIONS, with {status}"), Stage::Register, now);
                self.register(now);
            }
            Stage::Register => {
                self.forgive_options();
                match status {
                    200..300 => {
                        self.pass("The user and the secret are right".into(), Stage::Call, now);
                        self.call(now);
                    }
                    _ => self.fail(self.fault_of(status), now),
                }
            }
            _ => {}
        }
    }

    /// OPTIONS or REGISTER, or the call, brought no response at all.
    pub fn handle_silence(&mut self, now: Instant) {
        match self.stage {
            Stage::Options if self.subject.registers || self.subject.calls => {
                self.is_options_silent = true;
                self.tell(Some(false), Some(Fault::NoAnswer), Fault::NoAnswer.to_string(), now);
                (self.stage, self.since) = (Stage::Register, now);
                self.register(now);
            }
            Stage::Options | Stage::Register | Stage::Call => self.fail(Fault::NoAnswer, now),
            _ => {}
        }
    }

    /// The far end has said something to the call on its way.
    pub fn handle_progressed(&mut self, status: u16) {
        if self.stage == Stage::Call {
            self.has_rung |= status >= 180;
            self.forgive_options();
        }
    }

    /// The call got a final response, 300 to 699.
    pub fn handle_call_refused(&mut self, status: u16, now: Instant) {
        if self.stage != Stage::Call {
            return;
        }
        self.forgive_options();
        let fault = match status {
            // The secret has been proven; what is refused is the call.
            403 if self.subject.registers => Fault::CallForbidden,
            status => self.fault_of(status),
        };
        self.fail(fault, now);
    }

    /// The call was answered: where its answer wants audio, and where the signalling is.
    pub fn handle_answered(&mut self, shown: Option<IpAddr>, signalling: IpAddr, now: Instant) {
        if self.stage != Stage::Call {
            return;
        }
        self.forgive_options();
        self.shown = shown.map(|shown| (shown, signalling));
        let took = now.saturating_duration_since(self.since).as_secs_f32();
        self.pass(format!("The number was answered after {took:.1} s"), Stage::Audio, now);
    }

    /// What the call has heard, and how its packets have gone.
    pub fn handle_measured(&mut self, heard: ToneHeard, exchange: Exchange, now: Instant) {
        if self.stage != Stage::Audio {
            return;
        }
        match self.audio_fault(heard, exchange) {
            Some(fault) => self.fail(fault, now),
            None => {
                let found = if heard.is_echoed() {
                    "The tone came back: sound goes both ways"
                } else if exchange.heed == Heed::Arrives {
                    "Sound comes back, and the PBX reports that ours arrives: sound goes both ways"
                } else {
                    "Sound comes back; neither an echo nor a report says whether ours arrives: call an echo test to be sure"
                };
                self.tell(Some(true), None, found.into(), now);
                self.finish(now);
            }
        }
    }

    /// The call is over, with or without having been measured.
    pub fn handle_call_over(&mut self, outcome: Outcome, now: Instant) {
        match (self.stage, outcome.reason) {
            (Stage::Call | Stage::Audio, EndReason::NoCommonCodec | EndReason::BadOffer) => {
                self.fail(Fault::NoCommonCodec, now);
            }
            (Stage::Call | Stage::Audio, EndReason::SrtpRequired | EndReason::BadKeys) => {
                self.fail(Fault::NoSrtp, now);
            }
            (Stage::Call | Stage::Audio, EndReason::SrtpOff) => self.fail(Fault::OnlySrtp, now),
            (Stage::Call, EndReason::KeysUntold) => self.fail(Fault::KeysUntold, now),
            (Stage::Call, EndReason::NoAnswer) => self.handle_timeout(self.until().unwrap_or(now).max(now)),
            (Stage::Call, EndReason::Unreachable) => self.fail(Fault::NoAnswer, now),
            (Stage::Call, _) => self.fail(Fault::NotPlaced, now),
            (Stage::Audio, _) => self.fail(Fault::HungUp, now),
            _ => {}
        }
    }

    /// The far end has hung up.
    pub fn handle_hung_up(&mut self, now: Instant) {
        if self.stage == Stage::Audio && now < self.since + JUDGED_AFTER {
            self.fail(Fault::HungUp, now);
        }
    }

    /// The box does not call the number.
    pub fn handle_not_allowed(&mut self, now: Instant) {
        if self.stage == Stage::Call {
            self.fail(Fault::DestinationNotAllowed, now);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.until().is_none_or(|until| until > now) {
            return;
        }
        match self.stage {
            Stage::Dns => self.fail(Fault::Dns, now),
            Stage::Reach => self.reach_another(Fault::NoAnswer, now),
            Stage::Options | Stage::Register => self.handle_silence(now),
            Stage::Call if self.has_rung => self.fail(Fault::RingsOut, now),
            Stage::Call => self.fail(Fault::NoAnswer, now),
            Stage::Audio => self.fail(Fault::NoRtp, now),
            Stage::Over => {}
        }
    }

    /// Returns what is to be done next; drain to `None`.
    pub fn poll_output(&mut self) -> Option<TestOutput> {
        self.outputs.pop_front()
    }

    /// When the step that is being taken has failed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.until()
    }

    /// Tells whether nothing more happens.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    fn until(&self) -> Option<Instant> {
        let limit = match self.stage {
            Stage::Dns => DNS_MAX,
            Stage::Reach => REACH_MAX,
            Stage::Options => OPTIONS_MAX,
            Stage::Register => REGISTER_MAX,
            Stage::Call => CALL_MAX,
            Stage::Audio => AUDIO_MAX,
            Stage::Over => return None,
        };
        Some(self.since + limit)
    }

    fn reach_next(&mut self, otherwise: Fault, now: Instant) {
        match self.hops.front() {
            Some(hop) => self.outputs.push_back(TestOutput::Reach(*hop)),
            None => self.fail(otherwise, now),
        }
    }

    /// Passes an address over; the last one's fault is told.
    fn reach_another(&mut self, fault: Fault, now: Instant) {
        self.hops.pop_front();
        // The time of the step is that of all its addresses.
        if self.until().is_some_and(|until| until <= now) {
            return self.fail(fault, now);
        }
        self.reach_next(fault, now);
    }

    fn register(&mut self, now: Instant) {
        match self.hop.filter(|_| self.subject.registers) {
            Some(hop) => self.outputs.push_back(TestOutput::Register(hop)),
            None => {
                self.tell(None, None, "This trunk is not registered with".into(), now);
                (self.stage, self.since) = (Stage::Call, now);
                self.call(now);
            }
        }
    }

    fn call(&mut self, now: Instant) {
        match self.hop.filter(|_| self.subject.calls) {
            Some(hop) => self.outputs.push_back(TestOutput::Call(hop)),
            None => {
                self.tell(None, None, "No number was given to call".into(), now);
                self.stage = Stage::Audio;
                self.tell(None, None, "No call was placed".into(), now);
                self.finish(now);
            }
        }
    }

    /// Another request was answered: OPTIONS is what the far end leaves out.
    fn forgive_options(&mut self) {
        if std::mem::take(&mut self.is_options_silent)
            && let Some(step) = self.steps.iter_mut().find(|step| step.step == Stage::Options.name())
        {
            (step.is_ok, step.fault) = (Some(true), None);
            step.found = "It leaves OPTIONS unanswered, but is there: set the trunk's OPTIONS interval to 0".into();
        }
    }

    fn fault_of(&self, status: u16) -> Fault {
        match status {
            401 | 407 if self.subject.has_credentials => Fault::ChallengeLoop { status },
            401 | 407 => Fault::NoCredentials { status },
            403 => Fault::Forbidden,
            404 | 484 | 604 => Fault::NotFound { status },
            415 | 488 | 606 => Fault::NoCommonCodec,
            486 | 600 => Fault::Busy,
            status => Fault::Status { status },
        }
    }

    fn audio_fault(&self, heard: ToneHeard, exchange: Exchange) -> Option<Fault> {
        let hidden = self.shown.filter(|(shown, signalling)| is_out_of_reach(*shown, *signalling));
        let private = hidden.map(|(address, _)| Fault::PrivateAddress { address });
        match (exchange.received, exchange.heed) {
            _ if heard.is_echoed() => None,
            (0, _) if private.is_some() => private,
            (0, Heed::Arrives) => Some(Fault::NothingReceived),
            (0, Heed::Nothing | Heed::Untold) => Some(Fault::NoRtp),
            (_, Heed::Nothing) => private.or(Some(Fault::NothingHeard)),
            (_, Heed::Arrives | Heed::Untold) => None,
        }
    }

    fn pass(&mut self, found: String, next: Stage, now: Instant) {
        self.tell(Some(true), None, found, now);
        (self.stage, self.since) = (next, now);
    }

    fn fail(&mut self, fault: Fault, now: Instant) {
        if matches!(self.stage, Stage::Call | Stage::Audio) {
            self.outputs.push_back(TestOutput::HangUp);
        }
        self.tell(Some(false), Some(fault), fault.to_string(), now);
        self.finish(now);
    }

    fn tell(&mut self, is_ok: Option<bool>, fault: Option<Fault>, found: String, now: Instant) {
        let took = now.saturating_duration_since(self.since).as_millis();
        self.steps.push(TestStep {
            step: self.stage.name().into(),
            is_ok,
            fault: fault.map(|fault| fault.name().into()),
            found,
            // A step takes seconds.
            took_ms: took as u32,
        });
    }

    fn finish(&mut self, now: Instant) {
        self.since = now;
        for stage in STAGES.into_iter().skip(self.steps.len()) {
            self.stage = stage;
            self.tell(None, None, "Not tried, since a step before it failed".into(), now);
        }
        self.stage = Stage::Over;
        self.outputs.push_back(TestOutput::Told(std::mem::take(&mut self.steps)));
    }
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::Dns => "dns",
            Stage::Reach => "reach",
            Stage::Options => "options",
            Stage::Register => "register",
            Stage::Call => "call",
            Stage::Audio | Stage::Over => "audio",
        }
    }
}

const STAGES: [Stage; 6] = [Stage::Dns, Stage::Reach, Stage::Options, Stage::Register, Stage::Call, Stage::Audio];

/// 3 addresses: the time that there is for reaching one would not do for more.
const HOPS_MAX: usize = 3;

/// 6 s, as a call waits for a name (`io::sip::dial`).
const DNS_MAX: Duration = Duration::from_secs(6);

/// 5 s for up to three addresses: two retransmissions of a SYN.
const REACH_MAX: Duration = Duration::from_secs(5);

/// 4 s: three retransmissions over UDP (RFC 3261 §17.1.2.2).
const OPTIONS_MAX: Duration = Duration::from_secs(4);

/// 6 s: the same twice, with a challenge in between.
const REGISTER_MAX: Duration = Duration::from_secs(6);

/// 14 s: two rings, and what a PBX needs to find the phone.
const CALL_MAX: Duration = Duration::from_secs(14);

/// 9 s: the tone, and a second for its end; with all steps before it 44 s, within `TRUNK_TEST_TIME`.
const AUDIO_MAX: Duration = Duration::from_secs(LISTEN_MAX.as_secs() + 1);

/// 3 s: sound that has not come by then is late; before that its absence means nothing.
const JUDGED_AFTER: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
