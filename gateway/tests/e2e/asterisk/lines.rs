//! Calls that an Asterisk gives the box. The Asterisk is played by these tests, as strictly as the real one is: it sends what
//! a 22.10 was seen to send, and takes nothing that an 18 would not.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use talkstack_control::port::{
    AgentRoute, Blame, CallEvent, CallStarted, EndReason, Outcome, ProviderKind, ProviderRoute,
};
use talkstack_media::codec::Codec;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::http::Request;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, client};

use super::{Bot, GREETING, NUMBER, SILENCE, WORD};
use crate::daemon::{Daemon, wait_until};
use crate::survival::ScriptedControl;

#[test]
fn an_audiosocket_call_is_echoed_in_real_time_and_ends_with_the_caller() {
    let mut bench = Bench::start("echo", None);
    let mut pbx = Pbx::call(bench.audiosocket());
    pbx.say_until(WORD, |pbx| pbx.count(WORD) >= 20);
    // Whatever the box has to say or not, Asterisk hears a frame each 20 ms.
    let (at, since) = (pbx.heard.len(), Instant::now());
    pbx.say(SILENCE, Duration::from_secs(1));
    let frames = pbx.heard.len() - at;
    let wanted = (since.elapsed().as_millis() / 20) as usize;
    // A machine that is busy with others leaves some out; none are too many.
    assert!(frames * 2 >= wanted && frames <= wanted + 4, "{frames} frames in the time of {wanted}");
    let started = bench.started();
    assert_eq!((&*started.from, &*started.to), (UUID_TEXT, "echo"));
    pbx.frame(0x00, &[]);
    assert_eq!(bench.outcome(), Outcome::new(Blame::Caller, EndReason::HungUp));
}

#[test]
fn what_piled_up_before_the_channels_were_bridged_delays_nothing() {
    let bench = Bench::start("echo", None);
    let mut pbx = Pbx::call(bench.audiosocket());
    pbx.say_until(SILENCE, |pbx| !pbx.heard.is_empty());
    for _ in 0..80 {
        pbx.frame(0x10, &samples(GREETING));
    }
    pbx.say(SILENCE, Duration::from_millis(500));
    let said = Instant::now();
    pbx.say_until(WORD, |pbx| pbx.count(WORD) > 0);
    let delay = said.elapsed();
    assert!(delay < Duration::from_millis(300), "the echo came after {delay:?}");
    assert!(pbx.count(GREETING) <= 20, "{} frames of the burst", pbx.count(GREETING));
}

#[test]
fn an_agent_talks_over_audiosocket_hears_keys_is_interrupted_and_hangs_up() {
    let Some(bot) = Bot::audiosocket("talk") else { return };
    let provider = ProviderRoute::new(ProviderKind::AudioSocket, &format!("tcp://127.0.0.1:{}", bot.port), "");
    let mut bench = Bench::start(NUMBER, Some(provider));
    let mut pbx = Pbx::call(bench.audiosocket());
    // As Dial's `D(7)` has it: before there is sound.
    pbx.frame(0x03, b"7");
    pbx.say_until(SILENCE, |pbx| pbx.count(GREETING) >= 10);
    pbx.say_until(WORD, |pbx| pbx.count(WORD) >= 10);
    assert!(pbx.count(GREETING) < 50, "{} of 50 frames of the greeting", pbx.count(GREETING));
    pbx.frame(0x03, b"5");
    pbx.say_until(SILENCE, |_| bot.events("error").len() == 2);
    for (event, code) in bot.events("error").iter().zip(["code=55", "code=53"]) {
        assert!(event["text"].as_str().expect("a text").ends_with(code), "{event}");
    }
    pbx.frame(0x03, b"*");
    pbx.say_until(SILENCE, |pbx| pbx.is_hung_up);
    assert_eq!(bench.outcome(), Outcome::new(Blame::Agent, EndReason::HungUp));
    wait_until("the connection closes", || pbx.is_closed().then_some(()));
}

#[test]
fn a_probe_nonsense_and_mislabelled_audio_harm_nothing() {
    let bench = Bench::start("echo", None);
    drop(TcpStream::connect(bench.audiosocket()).expect("connected"));
    for nonsense in [&[0xff; 4096][..], &[0x10, 0xff, 0xff, 1], b"INVITE sip:echo SIP/2.0\r\n\r\n"] {
        let mut stream = TcpStream::connect(bench.audiosocket()).expect("connected");
        // It may be closed already.
        let _ = stream.write_all(nonsense);
    }
    let mut pbx = Pbx::call(bench.audiosocket());
    pbx.frame(0x10, &[0xff; 160]);
    wait_until("it is hung up", || {
        pbx.listen();
        pbx.is_hung_up.then_some(())
    });
    assert!(bench.log().contains("add /c(slin)"), "{}", bench.log());
    let mut pbx = Pbx::call(bench.audiosocket());
    pbx.say_until(WORD, |pbx| pbx.count(WORD) >= 5);
    pbx.stream.write_all(&[0x10, 0x01]).expect("written");
    pbx.stream.write_all(&[0x40]).expect("written");
    pbx.stream.write_all(&samples(WORD)).expect("a frame in three pieces");
    pbx.frame(0x42, b"from the future");
    let at = pbx.count(WORD);
    pbx.say_until(WORD, |pbx| pbx.count(WORD) >= at + 10);
}

#[test]
fn a_call_that_leads_nowhere_and_one_from_a_stranger_are_refused() {
    let bench = Bench::start("nobody", None);
    let mut pbx = Pbx::call(bench.audiosocket());
    pbx.say_until(SILENCE, |pbx| pbx.is_hung_up);
    assert!(bench.log().contains("was refused with 4"), "{}", bench.log());
    let bench = Bench::with("echo", None, &[("TALKSTACK__CALLS__ASTERISK_ALLOW", "192.0.2.0/24")]);
    let mut stream = TcpStream::connect(bench.audiosocket()).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    assert!(matches!(stream.read(&mut [0; 16]), Ok(0) | Err(_)), "closed without a word");
    assert!(bench.log().contains("calls.asterisk_allow does not admit"), "{}", bench.log());
}

#[test]
fn a_call_over_the_websocket_channel_is_routed_by_its_parameter_and_ends_either_way() {
    for (is_json, format, bytes) in [(true, "ulaw", 160), (false, "slin16", 640)] {
        let mut bench = Bench::start("nobody", None);
        let mut channel = Channel::call(bench.websocket(), "/media?to=echo&from=%2B3611111111", is_json, format, bytes);
        channel.say_until(|channel| channel.loud >= 10);
        assert_eq!(channel.commands.first().map(String::as_str), Some("ANSWER"));
        let started = bench.started();
        assert_eq!((&*started.from, &*started.to), ("+3611111111", "echo"));
        channel.socket.close(None).expect("closed");
        channel.socket.flush().expect("flushed");
        assert_eq!(bench.outcome(), Outcome::new(Blame::Caller, EndReason::HungUp));

        // Nobody has that number: the box hangs up.
        let mut channel = Channel::call(bench.websocket(), "/media", is_json, format, bytes);
        channel.say_until(|channel| channel.commands.contains(&"HANGUP".to_owned()));
    }
}

#[test]
fn a_key_of_the_websocket_channel_reaches_the_agent() {
    let Some(bot) = Bot::chan_websocket() else { return };
    let provider = ProviderRoute::new(ProviderKind::AsteriskWebSocket, &format!("ws://127.0.0.1:{}", bot.port), "");
    let bench = Bench::start(NUMBER, Some(provider));
    let mut channel = Channel::call(bench.websocket(), "/media", true, "ulaw", 160);
    channel.word = SILENCE;
    channel.say_until(|channel| channel.loud >= 20);
    let event = json!({ "event": "DTMF_END", "channel_id": "1", "digit": "2" });
    channel.socket.send(Message::text(event.to_string())).expect("sent");
    // It says goodbye, and hangs up.
    channel.say_until(|channel| channel.commands.contains(&"HANGUP".to_owned()));
    assert_eq!(bot.wait_for("dtmf")["digit"], "2");
}

/// A call plane that an Asterisk can call, and its control.
struct Bench {
    daemon: Daemon,
    control: ScriptedControl,
    dir: TempDir,
}

impl Bench {
    fn start(number: &str, provider: Option<ProviderRoute>) -> Self {
        Bench::with(number, provider, &[])
    }

    fn with(number: &str, provider: Option<ProviderRoute>, more: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = [
            ("TALKSTACK__CALLS__ASTERISK_AUDIOSOCKET", "127.0.0.1:0"),
            ("TALKSTACK__CALLS__ASTERISK_WEBSOCKET", "127.0.0.1:0"),
            ("TALKSTACK__CALLS__ASTERISK_NUMBER", number),
        ];
        let daemon = Daemon::start("calls", dir.path(), &[&settings[..], more].concat());
        let mut control = ScriptedControl::connect(dir.path());
        control.route_agent(NUMBER, AgentRoute { provider, ..AgentRoute::new("project", "Bot") });
        let applied = dir.path().join("calls/snapshot");
        wait_until("the number is known", || applied.exists().then_some(()));
        Bench { daemon, control, dir }
    }

    fn audiosocket(&self) -> SocketAddr {
        self.daemon.asterisk("audiosocket")
    }

    fn websocket(&self) -> SocketAddr {
        self.daemon.asterisk("websocket")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("calls.log")).expect("a log")
    }

    fn started(&mut self) -> CallStarted {
        self.control.wait_for_event(|event| match event {
            CallEvent::Started(started) => Some(started),
            _ => None,
        })
    }

    fn outcome(&mut self) -> Outcome {
        self.control.wait_for_event(|event| match event {
            CallEvent::Ended { outcome } => Some(outcome),
            _ => None,
        })
    }
}

/// An Asterisk's end of an AudioSocket call.
struct Pbx {
    stream: TcpStream,
    inbound: Vec<u8>,
    heard: Vec<Vec<u8>>,
    next: Instant,
    is_hung_up: bool,
}

impl Pbx {
    fn call(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_nodelay(true).expect("set");
        stream.set_nonblocking(true).expect("set");
        let mut pbx = Pbx { stream, inbound: Vec::new(), heard: Vec::new(), next: Instant::now(), is_hung_up: false };
        pbx.frame(0x01, &UUID);
        pbx
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) {
        let mut frame = vec![kind];
        frame.extend((payload.len() as u16).to_be_bytes());
        frame.extend(payload);
        // Who has hung up takes nothing more.
        let _ = self.stream.write_all(&frame);
    }

    fn say(&mut self, word: u8, time: Duration) {
        let until = Instant::now() + time;
        self.say_until(word, |pbx| pbx.next >= until);
    }

    fn say_until(&mut self, word: u8, is_enough: impl Fn(&Pbx) -> bool) {
        let deadline = Instant::now() + SAY_MAX;
        self.next = self.next.max(Instant::now());
        while !is_enough(self) {
            assert!(Instant::now() < deadline, "waited in vain on the channel");
            self.frame(0x10, &samples(word));
            self.next += Duration::from_millis(20);
            while Instant::now() < self.next {
                self.listen();
                std::thread::park_timeout(Duration::from_millis(2));
            }
        }
    }

    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(bytes @ 1..) = self.stream.read(&mut buffer) {
            self.inbound.extend(&buffer[..bytes]);
        }
        while let [kind, high, low, rest @ ..] = self.inbound.as_slice() {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let Some(payload) = rest.get(..length) else { return };
            match (*kind, length) {
                (0x10, 320) => self.heard.push(payload.to_vec()),
                (0x00, 0) => self.is_hung_up = true,
                other => panic!("an older Asterisk takes no {other:?}"),
            }
            self.inbound.drain(..3 + length);
        }
    }

    fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0; 4096]) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Frames that are made of a word.
    fn count(&self, word: u8) -> usize {
        let wanted = level(word);
        let is_word = |sample: &&[u8; 2]| i16::from_le_bytes(**sample).unsigned_abs() == wanted;
        let is_made = |frame: &&Vec<u8>| frame.as_chunks::<2>().0.iter().filter(is_word).count() > 80;
        self.heard.iter().filter(is_made).count()
    }
}

/// An Asterisk's end of a call over its WebSocket channel.
struct Channel {
    socket: WebSocket<TcpStream>,
    is_json: bool,
    bytes: usize,
    word: u8,
    loud: usize,
    commands: Vec<String>,
}

impl Channel {
    fn call(address: SocketAddr, path: &str, is_json: bool, format: &str, bytes: usize) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        let request = Request::builder()
            .uri(format!("ws://{address}{path}"))
            .header("Host", address.to_string())
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", generate_key())
            .header("Sec-WebSocket-Protocol", "media")
            .body(())
            .expect("a request");
        let (mut socket, response) = client(request, stream).expect("a WebSocket");
        assert_eq!(response.headers()["sec-websocket-protocol"], "media");
        let start = if is_json {
            json!({ "event": "MEDIA_START", "connection_id": "box", "channel": "WebSocket/box/0x7f", "channel_id": "1.2",
                    "format": format, "optimal_frame_size": bytes, "ptime": 20, "channel_variables": {} })
            .to_string()
        } else {
            format!(
                "MEDIA_START connection_id:box channel:WebSocket/box/0x7f channel_id:1.2 format:{format} \
                 optimal_frame_size:{bytes} ptime:20"
            )
        };
        socket.send(Message::text(start)).expect("sent");
        socket.get_mut().set_read_timeout(Some(Duration::from_millis(2))).expect("set");
        Channel { socket, is_json, bytes, word: WORD, loud: 0, commands: Vec::new() }
    }

    fn say_until(&mut self, is_enough: impl Fn(&Channel) -> bool) {
        let deadline = Instant::now() + SAY_MAX;
        let mut next = Instant::now();
        while !is_enough(self) {
            assert!(Instant::now() < deadline, "waited in vain on the channel: {:?}", self.commands);
            // A tone of 500 Hz at 16 kHz, which no band cuts off; a word otherwise.
            let audio = match self.bytes {
                160 => [self.word, self.word | 0x80].repeat(80),
                _ => (0..320).flat_map(|at| if at / 16 % 2 == 0 { 8000i16 } else { -8000 }.to_le_bytes()).collect(),
            };
            self.socket.send(Message::binary(audio)).expect("sent");
            next += Duration::from_millis(20);
            while Instant::now() < next {
                match self.socket.read() {
                    Ok(Message::Binary(audio)) => {
                        assert_eq!(audio.len(), self.bytes, "a frame");
                        self.loud += usize::from(is_loud(&audio, self.bytes));
                    }
                    Ok(Message::Text(text)) => self.commands.push(self.command(&text)),
                    Ok(_) => {}
                    Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    fn command(&self, text: &str) -> String {
        if self.is_json {
            let value: Value = serde_json::from_str(text).expect("JSON");
            return value["command"].as_str().expect("a command").to_owned();
        }
        assert!(!text.starts_with('{'), "{text}");
        text.to_owned()
    }
}

fn is_loud(audio: &[u8], bytes: usize) -> bool {
    let mut samples = Vec::new();
    match bytes {
        160 => Codec::Pcmu.decode(audio, &mut samples),
        _ => samples.extend(audio.as_chunks::<2>().0.iter().map(|sample| i16::from_le_bytes(*sample))),
    }
    samples.iter().filter(|sample| sample.unsigned_abs() > 1000).count() * 2 > samples.len()
}

/// 20 ms of samples of a word.
fn samples(word: u8) -> Vec<u8> {
    let level = level(word) as i16;
    (0..160).flat_map(|at| if at % 2 == 0 { level } else { -level }.to_le_bytes()).collect()
}

/// What µ-law makes of a code.
fn level(word: u8) -> u16 {
    let mut samples = Vec::new();
    Codec::Pcmu.decode(&[word], &mut samples);
    samples[0].unsigned_abs()
}

const UUID: [u8; 16] = [0x40, 0x32, 0x5e, 0xc2, 0x5e, 0xfd, 0x4b, 0xd3, 0x80, 0x5f, 0x53, 0x57, 0x6e, 0x58, 0x1d, 0x13];
const UUID_TEXT: &str = "40325ec2-5efd-4bd3-805f-53576e581d13";

/// No case may take longer than ten seconds.
const SAY_MAX: Duration = Duration::from_secs(8);
