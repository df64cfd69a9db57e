//! A call that an Asterisk gives the box: towards the box it is a phone with SIP and RTP, so that it goes the way of any call.
//!
//! ```text
//!   Asterisk ─ audio, keys, hang-up ─▶ Line ─ INVITE, RTP, BYE ─▶ the box
//!            ◀─ audio, hang-up ───────      ◀─ 200, RTP, BYE ────
//! ```
//!
//! The SIP goes through memory, the RTP over loopback; the leg's own clock paces what Asterisk hears. What piled up before
//! the channels were bridged comes as one burst, and is cut to its end: kept, it would be a delay for good.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use talkstack_media::audio::convert::{Converter, RateConverter};
use talkstack_media::audio::frame::{Form, SampleRate};
use talkstack_media::codec::Codec;
use talkstack_media::codec::coder::{Decoder, Encoder};
use talkstack_media::rtp::dtmf::{EventFrame, EventSender, PRESS};
use talkstack_media::rtp::sender::Sender;
use talkstack_media::sdp::SessionDescription;
use talkstack_media::sip::message::Uri;
use talkstack_media::sip::{
    DialogId, Endpoint, EndpointConfig, Event, Extensions, Flow, InviteOrder, Output, Refusal, Reliable, StreamId,
    Transport,
};

/// Who is called, by whom, and how it sounds.
#[derive(Debug, Clone)]
pub struct LineOrder {
    /// The number or user that the call is routed by.
    pub called: String,
    /// The caller as a SIP user.
    pub caller: String,
    /// The caller's name.
    pub name: String,
    /// How audio lies on Asterisk's side.
    pub form: Form,
    /// Where the line's RTP socket is.
    pub rtp: SocketAddr,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineOutput {
    /// Hand this message to the box.
    Sip(Vec<u8>),
    /// Send this packet to the box's media.
    Rtp(SocketAddr, Vec<u8>),
    /// Asterisk is to hear this, in its form.
    Audio(Vec<u8>),
    /// The box has answered.
    Answered,
    /// The box wants the call no more: refused with a status, or over.
    Over(Option<u16>),
}

/// One call.
#[derive(Debug)]
pub struct Line {
    endpoint: Endpoint,
    dialog: Option<DialogId>,
    flow: Flow,
    /// The box's media, once it has told.
    media: Option<SocketAddr>,
    event_type: Option<u8>,
    inward: Inward,
    outward: Outward,
    description: Vec<u8>,
    is_hanging_up: bool,
    outputs: VecDeque<LineOutput>,
}

/// From Asterisk to the box.
#[derive(Debug)]
struct Inward {
    form: Form,
    converter: Converter,
    encoder: Encoder,
    codec: Codec,
    sender: Sender,
    keys: EventSender,
    /// What does not fill a packet yet, in the converter's form.
    begun: Vec<u8>,
    /// Ticks of 125 µs that have been sent, and since when.
    sent: u64,
    since: Option<Instant>,
    origin: u32,
}

/// From the box to Asterisk.
#[derive(Debug)]
struct Outward {
    form: Form,
    codec: Codec,
    decoder: Decoder,
    rates: RateConverter,
    decoded: Vec<i16>,
    resampled: Vec<i16>,
}

impl Line {
    /// Begins a call; its INVITE waits in the outputs.
    pub fn new(order: &LineOrder, seed: [u8; 32], now: Instant) -> Self {
        let config = EndpointConfig { server: "Asterisk line".into(), dialogs_max: 1, ..EndpointConfig::default() };
        let mut endpoint = Endpoint::new(config, seed);
        let remote = SocketAddr::new(order.rtp.ip(), SIP_PORT);
        let flow = Flow { transport: Transport::Tcp, local: order.rtp, remote, stream: Some(StreamId(1)) };
        let codecs = codecs(order.form);
        let description = describe(order.rtp, &codecs);
        let host = remote;
        let uri = format!("sip:{}@{host};transport=tcp", escaped(&order.called));
        let name = order.name.replace(['"', '\\'], "");
        let dialog = Uri::parse(&uri).and_then(|request_uri| {
            let order = InviteOrder {
                flow,
                from: format!("\"{name}\" <sip:{}@{host}>", escaped(&order.caller)),
                to: format!("<{uri}>"),
                request_uri,
                fields: Vec::new(),
                sdp: description.clone(),
                credentials: None,
                extensions: Extensions { reliable: Reliable::Off, session_expires: None, refer: false },
            };
            endpoint.invite(order, now).ok()
        });
        let [a, b, c, d, e, f, ..] = seed;
        let codec = codecs[0];
        let mut line = Line {
            endpoint,
            dialog,
            flow,
            media: None,
            event_type: None,
            inward: Inward {
                form: order.form,
                converter: Converter::new(wire_form(codec)),
                encoder: Encoder::new(codec, Default::default()),
                codec,
                sender: Sender::new(u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f])),
                keys: EventSender::default(),
                begun: Vec::new(),
                sent: 0,
                since: None,
                origin: u32::from_be_bytes([d, c, b, a]),
            },
            outward: Outward::new(order.form, codec),
            description,
            is_hanging_up: false,
            outputs: VecDeque::new(),
        };
        if line.dialog.is_none() {
            line.outputs.push_back(LineOutput::Over(Some(404)));
        }
        line.carry_out(now);
        line
    }

    /// A message of the box's.
    pub fn handle_sip(&mut self, bytes: &[u8], now: Instant) {
        let flow = self.flow;
        self.endpoint.handle_message(&flow, bytes, now);
        self.carry_out(now);
    }

    /// A packet of the box's; one from elsewhere, or of another kind, is nobody's.
    pub fn handle_rtp(&mut self, source: SocketAddr, packet: &[u8]) {
        if self.media != Some(source) || self.is_hanging_up {
            return;
        }
        let Some((number, payload)) = payload_of(packet) else { return };
        if number == self.outward.codec.payload_type() {
            let audio = self.outward.audio(payload);
            if !audio.is_empty() {
                self.outputs.push_back(LineOutput::Audio(audio));
            }
        }
    }

    /// Audio of Asterisk's, in the given form. Before the box has told where its media is there is nobody to hear it.
    pub fn handle_audio(&mut self, form: Form, audio: &[u8], now: Instant) {
        let (Some(media), false) = (self.media, self.is_hanging_up) else { return };
        self.inward.form = form;
        let Inward { converter, begun, .. } = &mut self.inward;
        converter.append_bytes(form, audio, begun);
        let bytes = PACKET_TICKS * converter.form().tick_bytes();
        let mut rest = std::mem::take(begun);
        let whole = rest.len() / bytes * bytes;
        for packet in rest[..whole].chunks_exact(bytes) {
            if let Some(packet) = self.inward.packet(packet, self.event_type, now) {
                self.outputs.push_back(LineOutput::Rtp(media, packet));
            }
        }
        rest.drain(..whole);
        self.inward.begun = rest;
    }

    /// A key of Asterisk's.
    pub fn handle_key(&mut self, key: char) {
        self.inward.keys.press(key, PRESS);
    }

    /// Asterisk wants the call no more.
    pub fn hang_up(&mut self, now: Instant) {
        if let Some(dialog) = self.dialog.filter(|_| !self.is_hanging_up) {
            self.is_hanging_up = true;
            // One that is over already needs none.
            let _ = self.endpoint.hang_up(dialog, None, now);
            self.carry_out(now);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
        self.carry_out(now);
    }

    /// When to come back.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout().map(|(at, _)| at)
    }

    /// Returns what is to be done next; drain to `None`.
    pub fn poll_output(&mut self) -> Option<LineOutput> {
        self.outputs.pop_front()
    }

    /// Whether the box knows nothing of the call any more.
    pub fn is_over(&self) -> bool {
        self.endpoint.dialogs() == 0
    }

    fn carry_out(&mut self, now: Instant) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Send { bytes, .. } | Output::SendLarge { bytes, .. } => {
                    self.outputs.push_back(LineOutput::Sip(bytes));
                }
                Output::Event(event) => self.handle_event(event, now),
            }
        }
    }

    fn handle_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Progressed { sdp: Some(sdp), .. } => self.listen_to(&sdp),
            Event::Accepted { sdp, .. } => {
                if let Some(sdp) = sdp {
                    self.listen_to(&sdp);
                }
                if !self.is_hanging_up {
                    self.outputs.push_back(LineOutput::Answered);
                }
            }
            Event::ReOffered { dialog, sdp, .. } => {
                if let Some(sdp) = &sdp {
                    self.listen_to(sdp);
                }
                // Nothing of ours changes.
                let _ = self.endpoint.answer(dialog, &self.description, now);
            }
            Event::Referred { dialog, .. } => {
                // A dialog that is gone already needs no refusal.
                let _ = self.endpoint.refuse_refer(dialog, Refusal::new(603).status, now);
            }
            Event::Refused { status, .. } => self.outputs.push_back(LineOutput::Over(Some(status))),
            Event::Unanswered { .. } => self.outputs.push_back(LineOutput::Over(Some(408))),
            Event::Ended { .. } => self.outputs.push_back(LineOutput::Over(None)),
            _ => {}
        }
    }

    /// The box has told where its media is, and by which codec.
    fn listen_to(&mut self, sdp: &[u8]) {
        let Ok(description) = SessionDescription::parse(sdp) else { return };
        let Some(media) = description.media.iter().find(|media| media.kind == "audio" && media.port > 0) else {
            return;
        };
        let Some(address) = media.connection.or(description.connection) else { return };
        self.media = Some(SocketAddr::new(address, media.port));
        let types = media.formats.iter().filter_map(|format| format.parse::<u8>().ok());
        self.event_type = types.clone().find(|number| *number == EVENT_TYPE);
        let offered = codecs(self.inward.form);
        let agreed = types.into_iter().find_map(|number| offered.iter().find(|codec| codec.payload_type() == number));
        if let Some(codec) = agreed.copied().filter(|codec| *codec != self.inward.codec) {
            self.inward.codec = codec;
            self.inward.converter.set_form(wire_form(codec));
            self.inward.encoder = Encoder::new(codec, Default::default());
            self.inward.begun.clear();
            self.outward = Outward::new(self.outward.form, codec);
        }
    }
}

impl Inward {
    /// The packet with 20 ms of audio, or what takes its place; `None` of what has piled up.
    fn packet(&mut self, audio: &[u8], event_type: Option<u8>, now: Instant) -> Option<Vec<u8>> {
        let since = *self.since.get_or_insert(now);
        // A call of 70 million years fits.
        let passed = (now.saturating_duration_since(since).as_micros() / TICK_MICROS) as u64;
        if self.sent > passed + AHEAD_TICKS_MAX {
            return None;
        }
        let is_behind = self.sent + AHEAD_TICKS_MAX < passed;
        if is_behind {
            self.sent = passed;
        }
        let marker = is_behind || self.sent == 0;
        let timestamp = self.origin.wrapping_add(self.sent as u32);
        self.sent += PACKET_TICKS as u64;
        let mut packet = vec![0; PACKET_BYTES_MAX];
        let event = event_type.and_then(|number| Some((number, self.keys.take(timestamp)?)));
        let bytes = match event {
            Some((number, EventFrame::Packet { payload, timestamp, marker })) => {
                self.sender.build(number, timestamp, marker, &payload, &mut packet)
            }
            Some((_, EventFrame::Pause)) => return None,
            None => {
                let mut payload = Vec::with_capacity(PACKET_TICKS);
                match self.converter.form() {
                    form @ Form::Linear(_) => {
                        let mut samples = Vec::with_capacity(2 * PACKET_TICKS);
                        form.decode(audio, &mut samples);
                        self.encoder.encode(&samples, &mut payload);
                    }
                    Form::Mulaw | Form::Alaw => payload.extend_from_slice(audio),
                }
                self.sender.build(self.codec.payload_type(), timestamp, marker, &payload, &mut packet)
            }
        };
        packet.truncate(bytes);
        Some(packet)
    }
}

impl Outward {
    fn new(form: Form, codec: Codec) -> Self {
        Outward {
            form,
            codec,
            decoder: Decoder::new(codec),
            rates: RateConverter::new(form.rate()),
            decoded: Vec::new(),
            resampled: Vec::new(),
        }
    }

    fn audio(&mut self, payload: &[u8]) -> Vec<u8> {
        if let (Codec::Pcmu, Form::Mulaw) | (Codec::Pcma, Form::Alaw) = (self.codec, self.form) {
            return payload.to_vec();
        }
        self.decoded.clear();
        self.resampled.clear();
        self.decoder.decode(payload, &mut self.decoded);
        self.rates.append(self.codec.rate(), &self.decoded, &mut self.resampled);
        let mut audio = Vec::with_capacity(PACKET_TICKS * self.form.tick_bytes());
        self.form.encode(&self.resampled, &mut audio);
        audio
    }
}

/// What is offered to the box for audio of this form, the best first.
fn codecs(form: Form) -> Vec<Codec> {
    match form {
        Form::Mulaw | Form::Linear(SampleRate::Hz8000) => vec![Codec::Pcmu],
        Form::Alaw => vec![Codec::Pcma],
        Form::Linear(_) => vec![Codec::G722, Codec::Pcmu],
    }
}

/// What a codec's payload is made from.
fn wire_form(codec: Codec) -> Form {
    match codec {
        Codec::Pcmu => Form::Mulaw,
        Codec::Pcma => Form::Alaw,
        Codec::G722 | Codec::Opus => Form::Linear(codec.rate()),
    }
}

fn describe(rtp: SocketAddr, codecs: &[Codec]) -> Vec<u8> {
    let types: String = codecs.iter().map(|codec| format!("{} ", codec.payload_type())).collect();
    let maps: String = codecs
        .iter()
        .map(|codec| format!("a=rtpmap:{} {}/{}\r\n", codec.payload_type(), codec.name(), codec.clock_rate()))
        .collect();
    let (ip, family) = (rtp.ip(), if rtp.is_ipv4() { "IP4" } else { "IP6" });
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {} RTP/AVP {types}{EVENT_TYPE}\r\n{maps}a=rtpmap:{EVENT_TYPE} telephone-event/8000\r\n\
         a=fmtp:{EVENT_TYPE} 0-15\r\na=ptime:20\r\na=sendrecv\r\n",
        rtp.port()
    )
    .into_bytes()
}

/// The payload of an RTP packet, and its number (RFC 3550 §5.1). The box's have neither padding nor an extension.
fn payload_of(packet: &[u8]) -> Option<(u8, &[u8])> {
    let [first, second, ..] = packet else { return None };
    let header = 12 + 4 * usize::from(first & 0x0f);
    let is_plain = first & 0xf0 == 0x80;
    Some((second & 0x7f, packet.get(header..)?)).filter(|_| is_plain)
}

/// The user of a SIP URI: what is not unreserved there is escaped (RFC 3261 §25.1).
fn escaped(user: &str) -> String {
    user.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte) => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// The port of the box's SIP as the line names it: nothing is sent there, all goes through memory.
const SIP_PORT: u16 = 5060;

/// The number of telephone events here (RFC 4733).
const EVENT_TYPE: u8 = 101;

/// 20 ms, in ticks of 125 µs.
const PACKET_TICKS: usize = 160;

const TICK_MICROS: u128 = 125;

/// 100 ms ahead or behind of the clock: more than the jitter of a PBX on the same network. What is further ahead has piled
/// up and is dropped; behind it the stream begins anew.
const AHEAD_TICKS_MAX: u64 = 800;

/// 12 bytes of header and 160 of payload, which all codecs here have for 20 ms.
const PACKET_BYTES_MAX: usize = 12 + 160;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use talkstack_media::sip::EndCause;

    use super::*;

    #[test]
    fn a_call_is_offered_in_the_form_that_asterisk_has_and_answered() {
        for (form, types, answer, payload) in [
            (Form::Mulaw, "0 101", 0, 160),
            (Form::Alaw, "8 101", 8, 160),
            (Form::Linear(SampleRate::Hz8000), "0 101", 0, 160),
            (Form::Linear(SampleRate::Hz16000), "9 0 101", 9, 160),
            (Form::Linear(SampleRate::Hz16000), "9 0 101", 0, 160),
            (Form::Linear(SampleRate::Hz48000), "9 0 101", 9, 160),
        ] {
            let mut bench = Bench::new(form);
            let offered = bench.offered.take().expect("an INVITE");
            assert!(offered.contains(&format!("m=audio 4000 RTP/AVP {types}\r\n")), "{offered}");
            bench.line.handle_audio(form, &vec![1; 160 * form.tick_bytes()], bench.now);
            assert_eq!(bench.rtp(), [], "nobody listens yet");
            bench.answer(answer);
            bench.line.handle_audio(form, &vec![1; 100 * form.tick_bytes()], bench.now);
            assert_eq!(bench.rtp(), [], "20 ms make a packet");
            bench.line.handle_audio(form, &vec![1; 61 * form.tick_bytes()], bench.now);
            assert_eq!(bench.rtp(), [(answer, payload)], "{form:?} as {answer}");
            let mut packet = vec![0x80, answer, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
            packet.extend([0x21; 160]);
            bench.line.handle_rtp("127.0.0.1:4001".parse().expect("an address"), &packet);
            assert_eq!(bench.line.poll_output(), None, "of nobody's");
            bench.line.handle_rtp(BOX.parse().expect("an address"), &packet);
            let Some(LineOutput::Audio(heard)) = bench.line.poll_output() else { panic!("{form:?}") };
            assert_eq!(heard.len(), 160 * form.tick_bytes(), "{form:?} as {answer}");
            if form == Form::Mulaw {
                assert_eq!(heard, [0x21; 160], "untouched");
            }
        }
    }

    #[test]
    fn what_has_piled_up_is_cut_and_what_was_late_begins_anew() {
        let mut bench = Bench::talking();
        bench.line.handle_audio(Form::Mulaw, &[1; 80 * 160], bench.now);
        // 100 ms, and the one that is above.
        assert_eq!(bench.rtp().len(), 6);
        bench.now += Duration::from_secs(5);
        bench.line.handle_audio(Form::Mulaw, &[1; 160], bench.now);
        let Some(LineOutput::Rtp(_, packet)) = bench.line.poll_output() else { panic!("no packet") };
        assert_eq!(packet[1], 0x80, "a talk spurt begins");
    }

    #[test]
    fn a_key_is_told_as_a_telephone_event() {
        let mut bench = Bench::talking();
        bench.line.handle_key('5');
        bench.line.handle_key('x');
        for _ in 0..25 {
            bench.line.handle_audio(Form::Mulaw, &[1; 160], bench.now);
            bench.now += Duration::from_millis(20);
        }
        let packets = bench.rtp();
        assert!(packets.iter().filter(|(number, bytes)| (*number, *bytes) == (EVENT_TYPE, 4)).count() >= 7);
        assert_eq!(packets.last(), Some(&(0, 160)), "then audio again");
    }

    #[test]
    fn either_side_ends_the_call_before_it_is_answered_and_behind() {
        let mut bench = Bench::talking();
        bench.phone.hang_up(bench.dialog, None, bench.now).expect("a dialog");
        bench.exchange();
        assert_eq!(bench.outputs(), [LineOutput::Over(None)]);
        assert!(bench.line.is_over());

        let mut bench = Bench::talking();
        bench.line.hang_up(bench.now);
        bench.exchange();
        assert_eq!(bench.ended, Some(EndCause::Bye));
        assert!(bench.line.is_over());

        let mut bench = Bench::new(Form::Mulaw);
        bench.line.hang_up(bench.now);
        bench.exchange();
        assert_eq!(bench.ended, Some(EndCause::Cancelled));

        let mut bench = Bench::new(Form::Mulaw);
        bench.phone.refuse(bench.dialog, Refusal::new(404), bench.now).expect("an INVITE");
        bench.exchange();
        assert_eq!(bench.outputs(), [LineOutput::Over(Some(404))]);
    }

    #[test]
    fn no_name_breaks_the_invite() {
        for (called, caller, name) in [("a b\r\nVia: x", "\" <x>", "\"\r\nX: y\\"), ("", "", "")] {
            let order = LineOrder { called: called.into(), caller: caller.into(), name: name.into(), ..order() };
            let mut line = Line::new(&order, [7; 32], Instant::now());
            while let Some(output) = line.poll_output() {
                if let LineOutput::Sip(bytes) = output {
                    let text = String::from_utf8(bytes).expect("text");
                    assert!(!text.contains("\r\nX: y") && text.matches("\r\nVia:").count() == 1, "{text}");
                }
            }
        }
    }

    fn order() -> LineOrder {
        LineOrder {
            called: "echo".into(),
            caller: "caller".into(),
            name: "Anna".into(),
            form: Form::Mulaw,
            rtp: "127.0.0.1:4000".parse().expect("an address"),
        }
    }

    /// A line, and the box as another endpoint.
    struct Bench {
        line: Line,
        phone: Endpoint,
        dialog: DialogId,
        offered: Option<String>,
        ended: Option<EndCause>,
        told: Vec<LineOutput>,
        now: Instant,
    }

    impl Bench {
        fn new(form: Form) -> Self {
            let now = Instant::now();
            let line = Line::new(&LineOrder { form, ..order() }, [7; 32], now);
            let phone = Endpoint::new(EndpointConfig::default(), [8; 32]);
            // A place for the dialog until the INVITE has come.
            let dialog = line.dialog.expect("an INVITE");
            let mut bench = Bench { line, phone, dialog, offered: None, ended: None, told: Vec::new(), now };
            bench.exchange();
            bench
        }

        fn talking() -> Self {
            let mut bench = Bench::new(Form::Mulaw);
            bench.answer(0);
            bench
        }

        fn answer(&mut self, number: u8) {
            let sdp = format!(
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                 m=audio 4002 RTP/AVP {number} 101\r\n"
            );
            self.phone.answer(self.dialog, sdp.as_bytes(), self.now).expect("an INVITE");
            self.exchange();
            assert_eq!(self.outputs(), [LineOutput::Answered]);
        }

        /// Carries messages until neither side has any.
        fn exchange(&mut self) {
            let local = SocketAddr::new(self.line.flow.remote.ip(), SIP_PORT);
            let flow = Flow { local, remote: self.line.flow.local, ..self.line.flow };
            loop {
                let mut is_quiet = true;
                while let Some(output) = self.line.poll_output() {
                    match output {
                        LineOutput::Sip(bytes) => {
                            is_quiet = false;
                            self.phone.handle_message(&flow, &bytes, self.now);
                        }
                        output => self.told.push(output),
                    }
                }
                while let Some(output) = self.phone.poll_output() {
                    match output {
                        Output::Send { bytes, .. } => {
                            is_quiet = false;
                            self.line.handle_sip(&bytes, self.now);
                        }
                        Output::Event(Event::Offered(offered)) => {
                            self.dialog = offered.dialog;
                            self.offered = offered.sdp.map(|sdp| String::from_utf8(sdp).expect("text"));
                        }
                        Output::Event(Event::Ended { cause, .. }) => self.ended = Some(cause),
                        _ => {}
                    }
                }
                if is_quiet {
                    return;
                }
            }
        }

        fn outputs(&mut self) -> Vec<LineOutput> {
            std::mem::take(&mut self.told)
        }

        /// The packets that have been sent: their number, and the payload's bytes.
        fn rtp(&mut self) -> Vec<(u8, usize)> {
            let mut packets = Vec::new();
            while let Some(output) = self.line.poll_output() {
                let LineOutput::Rtp(target, packet) = output else { panic!("{output:?}") };
                assert_eq!(target.to_string(), BOX);
                packets.push((packet[1] & 0x7f, packet.len() - 12));
            }
            packets
        }
    }

    const BOX: &str = "127.0.0.1:4002";
}
