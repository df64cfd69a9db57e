//! Sound in every codec: with baresip and linphone, and with a phone of our own that changes its codec in a call.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::json;
use talkstack_media::audio::convert::RateConverter;
use talkstack_media::audio::frame::{SampleRate, Speech};
use talkstack_media::audio::pool::SpeechPool;
use talkstack_media::codec::Codec;
use talkstack_media::sdp::{Capabilities, LocalMedia, Repertoire, SessionDescription, negotiate};
use talkstack_media::session::{Channel, Heard, RtpSession};

use super::baresip::Account;
use super::lines::Lines;
use super::linphone::Linphone;
use super::phone::{Phone, field};
use super::process::is_installed;
use super::registrar::PASSWORD;
use super::site::Site;
use super::table::{Cell, row};
use crate::daemon::{Daemon, wait_until};
use crate::phones::prompt;
use crate::signal::best_match;

#[test]
fn baresip_in_g722_and_one_in_pcmu_hear_each_other() {
    with_baresip("G722/16000/1", SampleRate::Hz16000, 1);
}

#[test]
fn baresip_in_opus_and_one_in_pcmu_hear_each_other() {
    with_baresip("opus/48000/2", SampleRate::Hz48000, 2);
}

#[test]
fn baresip_in_pcma_and_one_in_pcmu_hear_each_other() {
    with_baresip("PCMA/8000/1", SampleRate::Hz8000, 1);
}

/// One calls the other: sound comes to the box in a codec and leaves it in another, both ways.
fn with_baresip(codec: &str, rate: SampleRate, channels: usize) {
    if !is_installed("baresip") {
        return;
    }
    let mut lines = Lines::new(&[]);
    let target = lines.daemon.sip();
    ["100", "101"].iter().for_each(|user| lines.extension(user, PASSWORD));
    let mut narrow = Account::new("100", target).speaking("PCMU/8000/1").registers();
    let mut wide = Account::new("101", target).speaking(codec).registers();
    let name = codec.split('/').next().unwrap_or_default();
    for is_called in [false, true] {
        let (from, to, user) =
            if is_called { (&mut narrow, &mut wide, "101") } else { (&mut wide, &mut narrow, "100") };
        from.does("dial", &format!("sip:{user}@{target}"));
        to.peer.says("Incoming call from");
        to.does("accept", "");
        hears_the_words(|| at_8_khz(&narrow.heard(), SampleRate::Hz8000, 1));
        hears_the_words(|| at_8_khz(&wide.heard(), rate, channels));
        wide.does("hangup", "");
        lines.ended();
    }
    row(
        &format!("baresip, {name}"),
        &[
            ("calls a phone in PCMU, two-way sound", Cell::Works),
            ("called by a phone in PCMU, two-way sound", Cell::Works),
        ],
    );
}

#[test]
fn linphone_hears_itself_in_g722() {
    with_linphone("G722", SampleRate::Hz16000);
}

#[test]
fn linphone_hears_itself_in_opus() {
    with_linphone("opus", SampleRate::Hz48000);
}

fn with_linphone(codec: &str, rate: SampleRate) {
    if !is_installed("linphonec") {
        return;
    }
    let daemon = Daemon::serve(&[]);
    let mut phone = Linphone::start("");
    phone.speaks(codec);
    phone.calls("echo", daemon.sip());
    hears_the_words(|| at_8_khz(&phone.heard(), rate, 1));
    assert!(phone.log().contains(&format!(" {codec}/")), "no {codec} in what was said");
    phone.does("terminate", "ended (No error)");
    assert_eq!(daemon.ended_calls(1)[0]["status"], "completed");
    row(&format!("linphone, {codec}"), &[("call to the box, two-way sound", Cell::Works)]);
}

#[test]
fn a_call_changes_its_codec_by_re_invite_and_sounds_on() {
    let daemon = Daemon::serve(&[]);
    let mut phone = CodecPhone::call(daemon.sip(), "echo", Codec::Pcmu);
    phone.hears_its_tone(1000.0);
    for codec in [Codec::G722, Codec::Pcma, Codec::Opus, Codec::Pcmu, Codec::Opus, Codec::G722] {
        phone.reinvites(codec);
        phone.hears_its_tone(1000.0);
        if codec.rate() == SampleRate::Hz16000 {
            // Above what G.711 carries.
            phone.hears_its_tone(5500.0);
        }
    }
    phone.hangs_up();
    assert_eq!(daemon.ended_calls(1)[0]["status"], "completed");
    row(
        "our phone, codecs",
        &[
            ("re-INVITE PCMU, G722, PCMA, opus, PCMU, opus, G722: sound", Cell::Works),
            ("5.5 kHz come back from the echo in G722 and opus", Cell::Works),
        ],
    );
}

#[test]
fn a_trunk_s_own_codecs_are_offered_in_its_order_and_no_other_is_taken() {
    let mut phone = Phone::at("127.0.0.1");
    let site = Site::new(&[], phone.address(), json!({ "codecs": ["pcma", "g722"], "ptime_ms": 30 }));
    let refusal = phone.is_refused(site.daemon.sip(), &format!("sip:echo@{}", site.daemon.sip()));
    assert!(refusal.starts_with("SIP/2.0 488 "), "{refusal}");
    let call = site.dial("+15550000001");
    let invite = phone.answers();
    assert!(invite.contains(" RTP/AVP 8 9 13 101\r\n") && invite.contains("\r\na=ptime:30\r\n"), "{invite}");
    // It has answered in PCMU, which was not offered.
    phone.is_hung_up();
    assert_eq!(site.ended(&call)["outcome"]["reason"], "no_common_codec");
    row(
        "our phone, codecs of a trunk",
        &[
            ("offered in the trunk's order, with its ptime", Cell::Works),
            ("another one offered: 488; answered: the call ends", Cell::Works),
        ],
    );
}

/// Waits until the words that every phone says are heard. A codec of few bits is less like them than G.711.
fn hears_the_words(heard: impl Fn() -> Vec<i16>) {
    let words = prompt("en/goodbye");
    let (mut searched, mut best) = (0, 0.0f64);
    wait_until("the words are heard", || {
        let heard = heard();
        let from = searched.min(heard.len().saturating_sub(1600));
        searched = heard.len();
        best = best.max(best_match(&heard[from.saturating_sub(1600)..], &words[4000..5600]).1);
        (best > LIKENESS).then_some(())
    });
    let (_, other) = best_match(&heard(), &prompt("de/echo_intro")[4000..5600]);
    assert!(other < LIKENESS, "something else is as like: {other}");
}

/// The left channel, at the rate of the prompts.
fn at_8_khz(samples: &[i16], rate: SampleRate, channels: usize) -> Vec<i16> {
    let left: Vec<i16> = samples.iter().copied().step_by(channels).collect();
    let mut out = Vec::new();
    RateConverter::new(SampleRate::Hz8000).append(rate, &left, &mut out);
    out
}

/// A phone that plays a tone in whichever codec it has agreed on.
struct CodecPhone {
    sip: UdpSocket,
    rtp: UdpSocket,
    target: SocketAddr,
    user: String,
    to: String,
    local: LocalMedia,
    capabilities: Capabilities,
    session: Option<RtpSession>,
    cseq: u32,
    heard: Vec<i16>,
}

impl CodecPhone {
    fn call(target: SocketAddr, user: &str, codec: Codec) -> Self {
        let bind = || UdpSocket::bind("127.0.0.1:0").expect("a port");
        let (sip, rtp) = (bind(), bind());
        sip.set_read_timeout(Some(ANSWER_MAX)).expect("set");
        rtp.set_read_timeout(Some(Duration::from_millis(1))).expect("set");
        let port = rtp.local_addr().expect("bound").port();
        let mut phone = CodecPhone {
            sip,
            rtp,
            target,
            user: user.into(),
            to: format!("<sip:{user}@{target}>"),
            local: LocalMedia { address: target.ip(), port, session_id: 7, version: 0 },
            capabilities: Capabilities::default(),
            session: None,
            cseq: 0,
            heard: Vec::new(),
        };
        phone.reinvites(codec);
        phone
    }

    /// Offers a codec alone and goes on in it.
    fn reinvites(&mut self, codec: Codec) {
        self.cseq += 1;
        self.local.version += 1;
        self.capabilities.repertoire = Repertoire::new([codec], 20);
        let offer = negotiate::offer(&self.capabilities, &self.local).expect("an offer");
        self.send("INVITE", &offer);
        let answer = loop {
            let mut buffer = [0; 4096];
            let bytes = self.sip.recv(&mut buffer).expect("an answer");
            let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
            assert!(text.starts_with("SIP/2.0 1") || text.starts_with("SIP/2.0 200"), "{text}");
            if text.starts_with("SIP/2.0 200") && text.contains(&format!("CSeq: {} INVITE", self.cseq)) {
                break text;
            }
        };
        self.to = field(&answer, "To");
        self.send("ACK", "");
        let sdp = answer.split_once("\r\n\r\n").expect("a body").1;
        let description = SessionDescription::parse(sdp.as_bytes()).expect("readable");
        let agreed = negotiate::accept_answer(&description, &self.capabilities).expect("agreed");
        assert_eq!(agreed.codec, codec, "{answer}");
        let now = Instant::now();
        match &mut self.session {
            Some(session) => session.renegotiate(agreed, now),
            None => {
                let pool = SpeechPool::default();
                self.session = Some(RtpSession::new(agreed, self.target.ip(), pool, 9, now));
            }
        }
    }

    /// Says a tone until it has come back for a fifth of a second without a hole.
    fn hears_its_tone(&mut self, hertz: f64) {
        let step = std::f64::consts::TAU * hertz / 16_000.0;
        let tone: Vec<i16> = (0..16_000).map(|at| (8000.0 * (f64::from(at) * step).sin()) as i16).collect();
        let until = Instant::now() + TONE_MAX;
        self.heard.clear();
        let mut best = 0.0f64;
        while Instant::now() < until {
            let session = self.session.as_mut().expect("in a call");
            if session.queued() < Duration::from_millis(100) {
                session.play(Speech::Samples(SampleRate::Hz16000, &tone), Instant::now()).expect("room");
            }
            self.exchanges();
            let rate = self.session.as_ref().map_or(SampleRate::Hz8000, |session| session.rate());
            let length = rate.hertz() as usize / 5;
            if self.heard.len() >= length {
                best = best.max(share(&self.heard[self.heard.len() - length..], rate, hertz));
            }
            if best > 0.95 {
                self.session.as_mut().expect("in a call").clear();
                return;
            }
        }
        panic!("{hertz} Hz came back as {best} of the sound");
    }

    /// A millisecond of the call.
    fn exchanges(&mut self) {
        let session = self.session.as_mut().expect("in a call");
        let mut packet = [0; 2048];
        while let Some(transmit) = session.poll_transmit(&mut packet, Instant::now()) {
            if transmit.channel == Channel::Rtp {
                self.rtp.send_to(&packet[..transmit.bytes], transmit.to).expect("sent");
            }
        }
        if let Ok((bytes, source)) = self.rtp.recv_from(&mut packet) {
            session.handle_rtp(source, &packet[..bytes], Instant::now());
        }
        while let Some(heard) = session.poll_heard(Instant::now()) {
            if let Heard::Audio(frame) = heard {
                self.heard.extend_from_slice(frame.samples);
            }
        }
    }

    fn hangs_up(&mut self) {
        self.cseq += 1;
        self.send("BYE", "");
    }

    fn send(&self, method: &str, sdp: &str) {
        let (target, user, to, local) = (self.target, &self.user, &self.to, self.sip.local_addr().expect("bound"));
        let content = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let number = self.cseq;
        let text = format!(
            "{method} sip:{user}@{target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{method}{number};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:phone@{local}>;tag=phone\r\nTo: {to}\r\nCall-ID: codecs-{local}\r\n\
             CSeq: {number} {method}\r\nContact: <sip:phone@{local}>\r\n{content}Content-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        self.sip.send_to(text.as_bytes(), target).expect("sent");
    }
}

/// How much of the sound is the tone, 0 to 1.
fn share(samples: &[i16], rate: SampleRate, hertz: f64) -> f64 {
    let step = std::f64::consts::TAU * hertz / f64::from(rate.hertz());
    let (mut sines, mut cosines, mut whole) = (0.0, 0.0, 1.0);
    for (at, sample) in samples.iter().enumerate() {
        let (sine, cosine) = (at as f64 * step).sin_cos();
        sines += f64::from(*sample) * sine;
        cosines += f64::from(*sample) * cosine;
        whole += f64::from(*sample).powi(2);
    }
    2.0 * (sines * sines + cosines * cosines) / (samples.len() as f64 * whole)
}

/// Another prompt comes to a third of it.
const LIKENESS: f64 = 0.75;

const ANSWER_MAX: Duration = Duration::from_secs(6);

const TONE_MAX: Duration = Duration::from_secs(3);
