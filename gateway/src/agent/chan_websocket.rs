//! An agent made for Asterisk's WebSocket channel (`chan_websocket`): the box connects to it as an Asterisk would.
//!
//! ```text
//!   gateway ─ MEDIA_START, audio…, DTMF_END, MEDIA_MARK_PROCESSED, MEDIA_XOFF … ─▶ agent
//!           ◀───────── audio…, MARK_MEDIA, FLUSH_MEDIA, PAUSE_MEDIA, HANGUP … ─────
//! ```
//!
//! Audio is binary: µ-law, 20 ms a message, or samples where the owner has set a rate. Where an Asterisk drops what comes
//! after `MEDIA_XOFF`, and half frames, the box keeps both.

use std::collections::VecDeque;
use std::time::Instant;

use talkstack_control::port::{CallId, ControlFormat};
use talkstack_media::audio::frame::{Form, Frame, SampleRate};

use super::media_stream::parameters;
use super::provider::ServicePlan;
use super::service::{CallFacts, Service};
use super::sound::Sound;
use super::websocket::{Message, WebSocket};
use super::{AgentLoss, AgentOutput, Progress};
use crate::asterisk::control::{Command, Event, Start, Status, XOFF_FRAMES, XON_FRAMES};

/// One session with such an agent.
#[derive(Debug)]
pub struct ChanWebSocket {
    id: CallId,
    socket: WebSocket,
    format: ControlFormat,
    sound: Sound,
    /// What the line heard and what does not fill a message yet.
    begun: Vec<u8>,
    queue: Queue,
    /// Audio goes to the agent.
    hears: bool,
    /// Audio is taken from it.
    speaks: bool,
    is_connected: bool,
    loss: Option<AgentLoss>,
}

/// What the agent knows of what it has queued.
#[derive(Debug, Default)]
struct Queue {
    /// What is told when the queue has come to the position.
    waiting: VecDeque<(Event, u64)>,
    is_full: bool,
    is_paused: bool,
    is_bulk: bool,
    reports_drained: bool,
}

/// What a message from the agent asks for.
enum Request {
    /// Play what has been read into the sound.
    Play,
    Command(Command),
    Nothing,
}

impl ChanWebSocket {
    /// Starts a session; what the agent is told first waits in the outgoing buffer.
    pub fn new(plan: &ServicePlan, facts: CallFacts) -> Self {
        let (form, name) = match plan.settings.sample_rate {
            Some(8000) => (Form::Linear(SampleRate::Hz8000), "slin"),
            Some(16_000) => (Form::Linear(SampleRate::Hz16000), "slin16"),
            Some(24_000) => (Form::Linear(SampleRate::Hz24000), "slin24"),
            _ => (Form::Mulaw, "ulaw"),
        };
        let mut session = ChanWebSocket {
            id: facts.id,
            socket: WebSocket::new(facts.seed),
            format: plan.settings.control_format.unwrap_or_default(),
            sound: Sound::new(form),
            begun: Vec::new(),
            queue: Queue::default(),
            hears: true,
            speaks: true,
            is_connected: true,
            loss: None,
        };
        session.tell(&Event::Start(Start {
            connection_id: facts.id.to_string(),
            channel: format!("WebSocket/{}", facts.id),
            channel_id: facts.id.to_string(),
            format: name.into(),
            optimal_frame_size: PACKET_TICKS * form.tick_bytes(),
            channel_variables: parameters(plan),
        }));
        session
    }

    fn tell(&mut self, event: &Event) {
        let text = event.text(self.format, &self.id.to_string());
        self.socket.send_text(|out| out.extend_from_slice(text.as_bytes()));
    }

    /// Reads a message.
    fn next_request(&mut self) -> Result<Option<Request>, AgentLoss> {
        Ok(Some(match self.socket.next_message()? {
            None => return Ok(None),
            Some(Message::Binary(bytes)) => {
                self.sound.handle_bytes(bytes);
                if self.speaks && self.sound.ticks() > 0 { Request::Play } else { Request::Nothing }
            }
            Some(Message::Text(text)) => match Command::read(text) {
                Ok(command) => Request::Command(command),
                Err(_) => {
                    self.tell(&Event::Error("Unable to parse JSON command"));
                    Request::Nothing
                }
            },
            Some(Message::Close(None | Some(1000))) => Request::Command(Command::HangUp),
            Some(Message::Close(_)) => return Err(AgentLoss::Closed),
        }))
    }

    /// Carries out a command; what it comes to for the call.
    fn carry_out(&mut self, command: Command, progress: Progress) -> Option<AgentOutput<'static>> {
        match command {
            // The caller is let in once the connection stands.
            Command::Answer => {}
            Command::HangUp => return Some(AgentOutput::HangUp),
            Command::StartBuffering => self.queue.is_bulk = true,
            Command::StopBuffering(id) => {
                self.queue.is_bulk = false;
                self.queue.await_position(Event::BufferingCompleted(id), progress);
            }
            Command::Mark(id) => self.queue.await_position(Event::MarkProcessed(id), progress),
            Command::Flush => {
                self.sound.forget_begun();
                let Queue { is_full, reports_drained, .. } = self.queue;
                self.queue = Queue { is_full, reports_drained, ..Queue::default() };
                return Some(AgentOutput::Clear);
            }
            Command::Pause => {
                self.queue.is_paused = true;
                return Some(AgentOutput::Pause);
            }
            Command::Continue => {
                self.queue.is_paused = false;
                return Some(AgentOutput::GoOn);
            }
            Command::Status => {
                let Queue { is_full: queue_full, is_paused: media_paused, is_bulk: bulk_media, .. } = self.queue;
                let queue_length = frames(progress);
                self.tell(&Event::Status(Status { queue_length, queue_full, bulk_media, media_paused }));
            }
            Command::ReportDrained => self.queue.reports_drained = true,
            Command::Direction { hears, speaks } => (self.hears, self.speaks) = (hears, speaks),
            Command::Unknown => tracing::debug!(call = %self.id, "The agent sent a command that no Asterisk knows"),
        }
        None
    }

    /// Tells what the queue has come to.
    fn follow(&mut self, progress: Progress) {
        while let Some(event) = self.queue.poll_event(progress) {
            self.tell(&event);
        }
    }

    fn lose(&mut self, loss: AgentLoss) {
        if self.is_connected {
            self.is_connected = false;
            self.loss = Some(loss);
        }
    }
}

impl Queue {
    fn await_position(&mut self, event: Event, progress: Progress) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back((event, progress.pushed));
        }
    }

    /// What is to be told next; drain to `None`.
    fn poll_event(&mut self, progress: Progress) -> Option<Event> {
        // As in Asterisk, a queue that is paused tells nothing but that it is full.
        if !self.is_full && frames(progress) >= XOFF_FRAMES {
            self.is_full = true;
            return Some(Event::Xoff);
        }
        if self.is_paused {
            return None;
        }
        if self.is_full && frames(progress) < XON_FRAMES {
            self.is_full = false;
            return Some(Event::Xon);
        }
        if self.waiting.front().is_some_and(|(_, position)| *position <= progress.played) {
            return self.waiting.pop_front().map(|(event, _)| event);
        }
        (progress.is_drained() && std::mem::take(&mut self.reports_drained)).then_some(Event::QueueDrained)
    }
}

impl Service for ChanWebSocket {
    fn handle_audio(&mut self, frame: &Frame<'_>) {
        if !self.is_connected {
            return;
        }
        let form = self.sound.form();
        if self.socket.is_stalled(form) {
            return self.lose(AgentLoss::Stalled);
        }
        self.begun.extend_from_slice(self.sound.of_line(frame));
        let packets = self.begun.chunks_exact(PACKET_TICKS * form.tick_bytes());
        let rest = packets.remainder().len();
        for packet in packets.filter(|_| self.hears) {
            self.socket.send_binary(|out| out.extend_from_slice(packet));
        }
        self.begun.drain(..self.begun.len() - rest);
    }

    fn handle_digit(&mut self, digit: char) {
        self.tell(&Event::Digit(digit));
    }

    fn handle_interrupted(&mut self, progress: Progress, _now: Instant) {
        self.sound.forget_begun();
        // The agent has not wished it: what it waits for comes as if it had been heard.
        self.queue.is_paused = false;
        let gone = Progress { played: progress.pushed, ..progress };
        self.follow(gone);
    }

    fn handle_bytes(&mut self, bytes: &[u8]) {
        self.socket.handle_bytes(bytes);
    }

    fn handle_disconnect(&mut self) {
        self.lose(AgentLoss::Disconnected);
    }

    fn poll_output(&mut self, progress: Progress, _now: Instant) -> Option<AgentOutput<'_>> {
        if let Some(loss) = self.loss.take() {
            return Some(AgentOutput::Lost(loss));
        }
        while self.is_connected {
            self.follow(progress);
            match self.next_request() {
                Ok(None) => return None,
                Ok(Some(Request::Play)) => return Some(AgentOutput::Play(self.sound.of_agent())),
                Ok(Some(Request::Command(command))) => {
                    if let Some(output) = self.carry_out(command, progress) {
                        return Some(output);
                    }
                }
                Ok(Some(Request::Nothing)) => {}
                Err(loss) => {
                    self.is_connected = false;
                    return Some(AgentOutput::Lost(loss));
                }
            }
        }
        None
    }

    fn outbound(&mut self) -> &mut Vec<u8> {
        self.socket.outbound()
    }

    fn stop(&mut self, code: u16) {
        self.socket.close(code);
        self.is_connected = false;
    }
}

/// Frames of 20 ms that wait.
fn frames(progress: Progress) -> u64 {
    progress.pushed.saturating_sub(progress.played).div_ceil(PACKET_TICKS as u64)
}

/// 20 ms, in ticks of 125 µs.
const PACKET_TICKS: usize = 160;

/// 1,000 marks, one a frame of Asterisk's whole queue. Further ones are dropped.
const WAITING_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use talkstack_control::port::{FirstSpeaker, ProviderKind};
    use talkstack_media::audio::frame::Speech;
    use talkstack_media::codec::Codec;

    use super::*;
    use crate::agent::provider::Parties;
    use crate::agent::websocket::frames::{client_frames, server_frame};

    #[test]
    fn the_agent_is_told_of_the_call_and_hears_the_line_in_frames_of_20_ms() {
        for (rate, format, bytes, packet) in
            [(None, "ulaw", 160, vec![0x21; 160]), (Some(16_000), "slin16", 640, Vec::new())]
        {
            let mut bench = Bench::new(rate, ControlFormat::Json);
            let id = CallId(31).to_string();
            let start = json!({ "event": "MEDIA_START", "connection_id": id, "channel": format!("WebSocket/{id}"),
                "channel_id": id, "format": format, "optimal_frame_size": bytes, "ptime": 20,
                "channel_variables": { "from_number": "+361", "to_number": "+362", "shop": "7" } });
            assert_eq!(bench.told(), [start.to_string()].map(|text| normal(&text)));
            // Packets of 30 ms: five of them are seven frames and a half.
            for _ in 0..5 {
                bench.speak(&[0x21; 240]);
            }
            let heard: Vec<_> = client_frames(&std::mem::take(bench.session.outbound()));
            assert_eq!(
                heard.iter().map(|(first, frame)| (*first, frame.len())).collect::<Vec<_>>(),
                [(0x82, bytes); 7]
            );
            assert!(packet.is_empty() || heard[0].1 == packet);
        }
    }

    #[test]
    fn marks_come_back_when_they_are_heard_and_a_flush_takes_them_away_silently() {
        for format in [ControlFormat::Json, ControlFormat::PlainText] {
            let mut bench = Bench::new(None, format);
            bench.told();
            bench.say(400);
            bench.command("MARK_MEDIA", Some("m1"));
            bench.command("START_MEDIA_BUFFERING", None);
            bench.say(401);
            assert_eq!(bench.command("STOP_MEDIA_BUFFERING", Some("b1")), [] as [&str; 0]);
            bench.command("REPORT_QUEUE_DRAINED", None);
            bench.progress.played = 399;
            assert_eq!((bench.poll(), bench.told()), (vec![], vec![]));
            bench.progress.played = 400;
            assert_eq!((bench.poll(), bench.told()), (vec![], vec![bench.event("MEDIA_MARK_PROCESSED", "m1")]));
            bench.progress.played = 801;
            bench.poll();
            let wanted = [bench.event("MEDIA_BUFFERING_COMPLETED", "b1"), bench.event("QUEUE_DRAINED", "")];
            assert_eq!(bench.told(), wanted);
            // Once only.
            bench.say(160);
            bench.progress.played = bench.progress.pushed;
            assert_eq!((bench.poll(), bench.told()), (vec![], vec![]));
            bench.say(160);
            bench.command("MARK_MEDIA", Some("m2"));
            bench.command("REPORT_QUEUE_DRAINED", None);
            assert_eq!(bench.command("FLUSH_MEDIA", None), ["clear"]);
            bench.progress.played = bench.progress.pushed;
            bench.poll();
            assert_eq!(
                bench.told(),
                [bench.event("QUEUE_DRAINED", "")],
                "the notice outlives a flush, a mark does not"
            );
            bench.command("MARK_MEDIA", Some("m3"));
            assert_eq!(bench.told(), [bench.event("MEDIA_MARK_PROCESSED", "m3")], "nothing is before it");
        }
    }

    #[test]
    fn what_the_box_has_cleared_counts_as_heard() {
        let mut bench = Bench::new(None, ControlFormat::Json);
        bench.told();
        bench.say(1000);
        bench.command("MARK_MEDIA", Some("m1"));
        bench.session.handle_interrupted(bench.progress, Instant::now());
        assert_eq!(bench.told(), [bench.event("MEDIA_MARK_PROCESSED", "m1")]);
    }

    #[test]
    fn a_full_queue_says_stop_and_one_that_has_room_again_go_on() {
        let mut bench = Bench::new(None, ControlFormat::PlainText);
        bench.told();
        bench.say(899 * 160);
        assert_eq!(bench.told(), [] as [&str; 0]);
        bench.say(160);
        assert_eq!(bench.told(), ["MEDIA_XOFF"]);
        assert_eq!(bench.say(160), ["play 160"], "it is not lost");
        bench.command("GET_STATUS", None);
        let told = bench.told();
        assert!(told[0].contains("queue_length:901 xon_level:800 xoff_level:900 queue_full:true"), "{told:?}");
        bench.progress.played = 101 * 160;
        assert_eq!((bench.poll(), bench.told()), (vec![], vec![]), "800 wait");
        bench.progress.played += 1;
        assert_eq!((bench.poll(), bench.told()), (vec![], vec![]), "799 and a bit");
        bench.progress.played = 102 * 160;
        assert_eq!((bench.poll(), bench.told()), (vec![], vec!["MEDIA_XON".to_owned()]));
        bench.say(900 * 160);
        bench.told();
        bench.command("FLUSH_MEDIA", None);
        bench.progress.played = bench.progress.pushed;
        assert_eq!((bench.poll(), bench.told()), (vec![], vec!["MEDIA_XON".to_owned()]), "a flush makes room");
    }

    #[test]
    fn a_pause_holds_back_what_is_queued_and_what_is_told_of_it() {
        let mut bench = Bench::new(None, ControlFormat::Json);
        bench.told();
        assert_eq!(bench.command("PAUSE_MEDIA", None), ["Pause"]);
        bench.command("REPORT_QUEUE_DRAINED", None);
        bench.command("MARK_MEDIA", Some("m1"));
        bench.command("GET_STATUS", None);
        let told = bench.told();
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("\"media_paused\":true"), "{told:?}");
        assert_eq!(bench.command("CONTINUE_MEDIA", None), ["GoOn"]);
        bench.poll();
        assert_eq!(bench.told().len(), 2);
    }

    #[test]
    fn directions_keys_and_ends_are_taken_as_asterisk_takes_them() {
        let mut bench = Bench::new(None, ControlFormat::Json);
        bench.told();
        bench.session.handle_digit('5');
        assert_eq!(
            bench.told(),
            [normal(&json!({ "event": "DTMF_END", "channel_id": CallId(31).to_string(), "digit": "5" }).to_string())]
        );
        bench.text(&json!({ "command": "SET_MEDIA_DIRECTION", "direction": "in" }).to_string());
        assert_eq!(bench.say(160), [] as [&str; 0]);
        bench.text(&json!({ "command": "SET_MEDIA_DIRECTION", "direction": "out" }).to_string());
        bench.speak(&[0x21; 160]);
        assert!(bench.session.outbound().is_empty(), "it is not heard");
        assert_eq!(bench.say(160), ["play 160"]);
        for text in ["{\"command\":\"hangup\"}", "{\"command\":\"ANSWER\"}", "{}", "NEW"] {
            assert_eq!((bench.text(text), bench.told()), (vec![], vec![]), "{text}");
        }
        bench.text("{");
        let told = bench.told();
        assert!(told[0].contains("Unable to parse JSON command"), "{told:?}");
        assert_eq!(bench.command("HANGUP", None), ["HangUp"]);
        let close = |code: u16| server_frame(0x88, &code.to_be_bytes());
        for (bytes, wanted) in
            [(close(1000), "HangUp"), (server_frame(0x88, &[]), "HangUp"), (close(1011), "Lost(Closed)")]
        {
            let mut bench = Bench::new(None, ControlFormat::Json);
            bench.session.handle_bytes(&bytes);
            assert_eq!(bench.poll(), [wanted]);
        }
        let mut gone = Bench::new(None, ControlFormat::Json);
        gone.session.handle_disconnect();
        assert_eq!(gone.poll(), ["Lost(Disconnected)"]);
    }

    /// One session, without its connection.
    struct Bench {
        session: ChanWebSocket,
        progress: Progress,
        format: ControlFormat,
    }

    impl Bench {
        fn new(rate: Option<u32>, format: ControlFormat) -> Self {
            let mut plan = ServicePlan::bare(ProviderKind::AsteriskWebSocket, "ws://agent/", FirstSpeaker::Agent)
                .expect("an address");
            (plan.settings.sample_rate, plan.settings.control_format) = (rate, Some(format));
            plan.settings.parameters.insert("shop".into(), "7".into());
            plan.parties = Parties { from: "+361".into(), to: "+362".into() };
            let facts = CallFacts { id: CallId(31), codec: Codec::Pcmu, seed: 7 };
            Bench { session: ChanWebSocket::new(&plan, facts), progress: Progress::default(), format }
        }

        fn speak(&mut self, coded: &[u8]) {
            let mut samples = Vec::new();
            Codec::Pcmu.decode(coded, &mut samples);
            self.session.handle_audio(&Frame::coded(Codec::Pcmu, coded, &samples));
        }

        /// So many ticks of the agent's, in messages of at most 60,000 bytes.
        fn say(&mut self, ticks: usize) -> Vec<String> {
            vec![0x21; ticks].chunks(60_000).flat_map(|part| self.receive(0x82, part)).collect()
        }

        fn command(&mut self, name: &str, id: Option<&str>) -> Vec<String> {
            match (self.format, id) {
                (ControlFormat::Json, id) => self.text(&json!({ "command": name, "correlation_id": id }).to_string()),
                (ControlFormat::PlainText, Some(id)) => self.text(&format!("{name} {id}")),
                (ControlFormat::PlainText, None) => self.text(name),
            }
        }

        fn text(&mut self, text: &str) -> Vec<String> {
            self.receive(0x81, text.as_bytes())
        }

        fn receive(&mut self, first: u8, payload: &[u8]) -> Vec<String> {
            self.session.handle_bytes(&server_frame(first, payload));
            self.poll()
        }

        fn poll(&mut self) -> Vec<String> {
            let mut outputs = Vec::new();
            while let Some(output) = self.session.poll_output(self.progress, Instant::now()) {
                outputs.push(match output {
                    AgentOutput::Play(Speech::Coded(Codec::Pcmu, bytes)) => {
                        self.progress.pushed += bytes.len() as u64;
                        format!("play {}", bytes.len())
                    }
                    AgentOutput::Clear => "clear".into(),
                    other => format!("{other:?}"),
                });
                if outputs.last().is_some_and(|last| last == "HangUp") {
                    break;
                }
            }
            outputs
        }

        fn event(&self, name: &str, id: &str) -> String {
            let mut wanted = json!({ "event": name, "channel_id": CallId(31).to_string() });
            if !id.is_empty() {
                wanted["correlation_id"] = id.into();
            }
            match self.format {
                ControlFormat::Json => normal(&wanted.to_string()),
                ControlFormat::PlainText => format!("{name} {id}").trim().to_owned(),
            }
        }

        /// The texts that have been sent since the last time.
        fn told(&mut self) -> Vec<String> {
            let sent = client_frames(&std::mem::take(self.session.outbound()));
            let texts = sent.into_iter().filter(|(first, _)| *first == 0x81);
            texts.map(|(_, text)| normal(std::str::from_utf8(&text).expect("UTF-8"))).collect()
        }
    }

    /// JSON in one order.
    fn normal(text: &str) -> String {
        serde_json::from_str::<Value>(text).map_or_else(|_| text.to_owned(), |value| value.to_string())
    }
}
