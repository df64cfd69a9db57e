//! A phone that follows a script: it calls, talks in numbered frames, perhaps holds, and ends as told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What a phone does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script {
    pub(crate) ending: Ending,
    /// Holds and resumes in the middle.
    pub(crate) hold: bool,
    /// How long it talks.
    pub(crate) seconds: u64,
}

/// How a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// BYE.
    PhoneHangsUp,
    /// The phone is gone before its ACK.
    PhoneVanishes,
    /// The operator ends it.
    BoxHangsUp,
}

impl Script {
    pub(crate) fn of_seed(seed: u64) -> Self {
        let ending = match seed % 8 {
            0 => Ending::PhoneVanishes,
            1 | 2 => Ending::BoxHangsUp,
            _ => Ending::PhoneHangsUp,
        };
        Script { ending, hold: seed.is_multiple_of(3), seconds: 2 + seed % 4 }
    }
}

/// The phone's state.
pub(crate) struct Phone {
    script: Script,
    start: Instant,
    to_tag: String,
    /// The box's media port, once it is known.
    pub(crate) media: Option<u16>,
    answered_at: Option<Instant>,
    /// The request that waits for its answer: text, next sending, interval.
    pending: Option<(String, Instant, Duration)>,
    steps: Vec<Step>,
    next_frame: Option<(Instant, u32)>,
    pub(crate) frames_sent: u32,
    pub(crate) is_over: bool,
    /// Numbered frames that came back, with the RTP sequence they came in.
    pub(crate) heard: BTreeMap<u16, (u32, Instant)>,
    pub(crate) sent_at: BTreeMap<u32, Instant>,
    pub(crate) packets_heard: u32,
    pub(crate) hold: Hold,
}

/// What became of holding.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    /// From asking for it until the resumption is granted: what is sent then need not come back.
    is_on: bool,
    pub(crate) sent: BTreeSet<u32>,
    pub(crate) was_mirrored: bool,
    /// A lost ACK made the box refuse it for the moment (491).
    pub(crate) was_refused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Hold,
    Resume,
    Bye,
}

impl Phone {
    pub(crate) fn new(script: Script, now: Instant) -> Self {
        let mut steps = vec![Step::Bye];
        if script.hold {
            steps.extend([Step::Resume, Step::Hold]);
        }
        let mut phone = Phone {
            script,
            start: now,
            to_tag: String::new(),
            media: None,
            answered_at: None,
            pending: None,
            steps,
            next_frame: None,
            frames_sent: 0,
            is_over: false,
            heard: BTreeMap::new(),
            sent_at: BTreeMap::new(),
            packets_heard: 0,
            hold: Hold::default(),
        };
        let invite = phone.request("INVITE", 1, "sendrecv");
        phone.pending = Some((invite, now, T1 / 2));
        phone
    }

    /// Takes a SIP datagram; returns what it answers.
    pub(crate) fn handle_sip(&mut self, text: &str, now: Instant) -> Option<String> {
        if self.script.ending == Ending::PhoneVanishes && text.starts_with("SIP/2.0 200") {
            self.pending = None;
            return None;
        }
        if text.starts_with("BYE ") {
            self.is_over = true;
            self.next_frame = None;
            self.pending = None;
            return Some(answer(text));
        }
        let status = text.strip_prefix("SIP/2.0 ")?.get(..3)?.to_owned();
        let (number, method) = field(text, "CSeq")?.split_once(' ')?;
        match (status.as_str(), method) {
            ("100" | "180", "INVITE") if number == "1" => {
                self.pending = None;
                None
            }
            ("200", "INVITE") => {
                self.pending = None;
                self.to_tag = field(text, "To")?.split("tag=").nth(1)?.to_owned();
                self.media =
                    text.lines().find_map(|line| line.strip_prefix("m=audio ")?.split(' ').next()?.parse().ok());
                self.hold.is_on &= number != RESUME;
                self.hold.was_mirrored |= text.contains("a=recvonly");
                if self.answered_at.is_none() {
                    self.answered_at = Some(now);
                    self.next_frame = Some((now, 0));
                }
                Some(self.request("ACK", number.parse().ok()?, ""))
            }
            ("481" | "491" | "500", "INVITE") => {
                self.pending = None;
                self.hold.was_refused = true;
                None
            }
            ("200", "BYE") => {
                self.pending = None;
                self.is_over = true;
                None
            }
            _ => None,
        }
    }

    /// Takes an RTP packet that carries the echo.
    pub(crate) fn handle_rtp(&mut self, packet: &[u8], now: Instant) {
        self.packets_heard += 1;
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        if let Some(number) = frame_number(&packet[12..]) {
            self.heard.insert(sequence, (number, now));
        }
    }

    /// What is due: SIP texts and RTP packets.
    pub(crate) fn poll(&mut self, now: Instant) -> (Option<String>, Option<Vec<u8>>) {
        self.take_step(now);
        let sip = match &mut self.pending {
            Some((text, at, interval)) if *at <= now => {
                *interval = (*interval * 2).min(Duration::from_secs(4));
                *at = now + *interval;
                Some(text.clone())
            }
            _ => None,
        };
        let rtp = match self.next_frame {
            Some((at, number)) if at <= now && !self.is_over => {
                self.next_frame = Some((at + FRAME, number + 1));
                self.frames_sent = number + 1;
                self.sent_at.insert(number, now);
                if self.hold.is_on {
                    self.hold.sent.insert(number);
                }
                Some(frame(number))
            }
            _ => None,
        };
        (sip, rtp)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let step = self.answered_at.filter(|_| !self.is_over && self.pending.is_none()).and_then(|_| self.step_at());
        let frame = self.next_frame.filter(|_| !self.is_over).map(|(at, _)| at);
        [self.pending.as_ref().map(|(_, at, _)| *at), step, frame].into_iter().flatten().min()
    }

    fn step_at(&self) -> Option<Instant> {
        let part = match self.steps.last()? {
            Step::Hold => 1,
            Step::Resume => 2,
            Step::Bye if self.script.ending == Ending::BoxHangsUp => return None,
            Step::Bye => 3,
        };
        Some(self.answered_at? + Duration::from_secs(self.script.seconds) * part / 3)
    }

    fn take_step(&mut self, now: Instant) {
        if self.pending.is_some() || self.step_at().is_none_or(|at| at > now) {
            return;
        }
        let Some(step) = self.steps.pop() else { return };
        let text = match step {
            Step::Hold => {
                self.hold.is_on = true;
                self.request("INVITE", 2, "sendonly")
            }
            Step::Resume => self.request("INVITE", 3, "sendrecv"),
            Step::Bye => {
                self.next_frame = None;
                self.request("BYE", 4, "")
            }
        };
        self.pending = Some((text, now, T1 / 2));
    }

    fn request(&self, method: &str, cseq: u32, direction: &str) -> String {
        let tag = if self.to_tag.is_empty() { String::new() } else { format!(";tag={}", self.to_tag) };
        let body = if direction.is_empty() {
            String::new()
        } else {
            format!(
                "v=0\r\no=p 1 {cseq} IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na={direction}\r\n"
            )
        };
        // An ACK to a 2xx is a transaction of its own.
        let branch = format!("z9hG4bK{}{cseq}", method.to_lowercase());
        format!(
            "{method} sip:echo@10.0.0.2 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;branch={branch};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:phone@10.0.0.1>;tag=p\r\nTo: <sip:echo@10.0.0.2>{tag}\r\nCall-ID: sim\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:phone@10.0.0.1:5060>\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    pub(crate) fn has_answer_for(&self) -> Duration {
        self.answered_at.map_or(Duration::ZERO, |at| at - self.start)
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn answer(request: &str) -> String {
    let fields: String = request
        .lines()
        .filter(|line| {
            ["Via", "From", "To", "Call-ID", "CSeq"].iter().any(|name| line.starts_with(&format!("{name}: ")))
        })
        .map(|line| format!("{line}\r\n"))
        .collect();
    format!("SIP/2.0 200 OK\r\n{fields}Content-Length: 0\r\n\r\n")
}

/// A frame that says its number, in bytes that µ-law brings back as they are.
pub(crate) fn frame(number: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend((number as u16).to_be_bytes());
    packet.extend((number * 160).to_be_bytes());
    packet.extend(7u32.to_be_bytes());
    packet.resize(12 + 160 - 12, 0xb5);
    packet.extend([0x21, 0x3c, 0x21, 0x4d]);
    packet.extend((0..8).map(|digit| 0xa0 + ((number >> (4 * digit)) & 15) as u8));
    packet
}

/// The number of a whole frame. Behind a loss its first 10 ms join on to what was made up and are not as they were.
pub(crate) fn frame_number(payload: &[u8]) -> Option<u32> {
    let (filler, digits) = payload.split_at_checked(160 - 8)?;
    let is_whole = filler[80..].strip_suffix(&[0x21, 0x3c, 0x21, 0x4d])?.iter().all(|byte| *byte == 0xb5);
    is_whole.then(|| digits.iter().enumerate().map(|(at, byte)| u32::from(byte & 15) << (4 * at)).sum())
}

/// The CSeq of the re-INVITE that resumes.
const RESUME: &str = "3";

const T1: Duration = Duration::from_millis(500);
const FRAME: Duration = Duration::from_millis(20);
