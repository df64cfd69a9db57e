use base64_simd::STANDARD;
use serde_json::json;
use talkstack_control::port::FirstSpeaker;
use talkstack_media::audio::frame::Speech;
use talkstack_media::codec::Codec;

use super::*;
use crate::agent::provider::Parties;
use crate::agent::websocket::frames::{client_frames, server_frame};

#[test]
fn a_stream_begins_as_each_provider_s_does() {
    let call = "CA0000000000000000000000000000001f";
    let sid = "MZ0000000000000000000000000000001f";
    let told = json!({ "from_number": "+361", "to_number": "+362", "shop": "7" });
    for (kind, rate, wanted) in [
        (
            ProviderKind::Twilio,
            None,
            vec![
                json!({ "event": "connected", "protocol": "Call", "version": "1.0.0" }),
                json!({ "event": "start", "sequenceNumber": "1", "streamSid": sid, "start": {
                    "accountSid": ACCOUNT_SID, "streamSid": sid, "callSid": call, "tracks": ["inbound"],
                    "mediaFormat": { "encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1 },
                    "customParameters": told } }),
            ],
        ),
        (
            ProviderKind::Telnyx,
            None,
            vec![
                json!({ "event": "connected", "version": "1.0.0" }),
                json!({ "event": "start", "sequence_number": "1", "stream_id": sid, "start": {
                    "user_id": "talkstack", "call_control_id": call, "call_session_id": call, "from": "+361",
                    "to": "+362", "tags": [], "client_state": null, "custom_parameters": told,
                    "media_format": { "encoding": "PCMU", "sample_rate": 8000, "channels": 1 } } }),
            ],
        ),
        (
            ProviderKind::Plivo,
            Some(16_000),
            vec![json!({ "event": "start", "sequenceNumber": 1, "extra_headers": told.to_string(), "start": {
                "callId": call, "streamId": sid, "accountId": ACCOUNT_SID, "tracks": ["inbound"],
                "mediaFormat": { "encoding": "audio/x-l16", "sampleRate": 16_000 } } })],
        ),
        (
            ProviderKind::Exotel,
            None,
            vec![
                json!({ "event": "connected" }),
                json!({ "event": "start", "sequence_number": "1", "stream_sid": sid, "start": {
                    "stream_sid": sid, "call_sid": call, "account_sid": ACCOUNT_SID, "from": "+361", "to": "+362",
                    "custom_parameters": told,
                    "media_format": { "encoding": "base64", "sample_rate": "8000", "bit_rate": "128kbps" } } }),
            ],
        ),
        (
            ProviderKind::Vonage,
            Some(8000),
            vec![json!({ "event": "websocket:connected", "content-type": "audio/l16;rate=8000", "call_uuid": call,
                         "from_number": "+361", "to_number": "+362", "shop": "7" })],
        ),
        (
            ProviderKind::Pcm,
            None,
            vec![json!({ "type": "start", "call_id": call, "from": "+361", "to": "+362", "sample_rate": 16_000,
                         "parameters": { "shop": "7" } })],
        ),
    ] {
        assert_eq!(Bench::new(kind, rate).texts(), wanted, "{kind}");
    }
}

#[test]
fn the_caller_s_audio_and_keys_are_counted_as_each_provider_counts() {
    let sid = "MZ0000000000000000000000000000001f";
    let payload = |audio: &[u8]| STANDARD.encode_to_string(audio);
    for (kind, audio, key) in [
        (
            ProviderKind::Twilio,
            json!({ "event": "media", "sequenceNumber": "3", "streamSid": sid, "media": {
                "track": "inbound", "chunk": "2", "timestamp": "40", "payload": payload(&[0x21; 160]) } }),
            json!({ "event": "dtmf", "sequenceNumber": "4", "streamSid": sid, "dtmf": {
                "track": "inbound_track", "digit": "5" } }),
        ),
        (
            ProviderKind::Telnyx,
            json!({ "event": "media", "sequence_number": "3", "stream_id": sid, "media": {
                "track": "inbound", "chunk": "2", "timestamp": "40", "payload": payload(&[0x21; 160]) } }),
            json!({ "event": "dtmf", "stream_id": sid, "sequence_number": "4", "dtmf": { "digit": "5" } }),
        ),
        (
            ProviderKind::Plivo,
            json!({ "event": "media", "sequenceNumber": 3, "streamId": sid, "media": {
                "track": "inbound", "chunk": 2, "timestamp": "40", "payload": payload(&[0x21; 160]) } }),
            json!({ "event": "dtmf", "sequenceNumber": 4, "streamId": sid, "dtmf": {
                "track": "inbound", "digit": "5", "timestamp": "40" } }),
        ),
        (
            ProviderKind::Exotel,
            json!({ "event": "media", "sequence_number": "3", "stream_sid": sid, "media": {
                "chunk": "2", "timestamp": "40", "payload": payload(&linear_of(&[0x21; 160])) } }),
            json!({ "event": "dtmf", "sequence_number": "4", "stream_sid": sid, "dtmf": {
                "digit": "5", "duration": "100" } }),
        ),
    ] {
        let mut bench = Bench::new(kind, None);
        bench.texts();
        bench.speak(2);
        bench.stream.handle_digit('5');
        assert_eq!(bench.texts()[1..], [audio, key], "{kind}");
    }
    for (kind, key) in [
        (ProviderKind::Vonage, json!({ "event": "websocket:dtmf", "digit": "5", "duration": 100 })),
        (ProviderKind::Pcm, json!({ "type": "dtmf", "digit": "5" })),
    ] {
        let mut bench = Bench::new(kind, Some(8000));
        bench.texts();
        bench.speak(2);
        bench.stream.handle_digit('5');
        let sent = client_frames(bench.stream.outbound());
        assert_eq!(sent[..2], [(0x82, linear_of(&[0x21; 160])), (0x82, linear_of(&[0x21; 160]))], "{kind}");
        assert_eq!(serde_json::from_slice::<Value>(&sent[2].1).expect("JSON"), key);
    }
}

#[test]
fn what_the_agent_says_is_played_in_whole_and_its_marks_come_back_when_they_are_heard() {
    let all = || turns().into_iter().chain(binary_turns());
    // The box may clear the queue as well as the agent.
    let by_both = all().map(|turn| (turn, false)).chain(all().map(|turn| (turn, true)));
    for ((kind, Turn { audio, mark, clear, played, cleared }), is_by_box) in by_both {
        let mut bench = Bench::new(kind, [ProviderKind::Vonage, ProviderKind::Pcm].contains(&kind).then_some(8000));
        bench.texts();
        let say = |bench: &mut Bench| match &audio {
            Value::Null => bench.receive(0x82, &linear_of(&[0x21; 400])),
            audio => bench.receive(0x81, audio.to_string().as_bytes()),
        };
        assert_eq!(say(&mut bench), ["play 400"], "{kind}");
        assert_eq!(bench.receive(0x81, mark.to_string().as_bytes()), [] as [&str; 0], "{kind}");
        bench.progress.played = 399;
        assert_eq!((bench.receive(0x8a, b""), bench.texts()), (vec![], vec![]), "{kind}: not yet");
        bench.progress.played = 400;
        assert_eq!((bench.receive(0x8a, b""), bench.texts()), (vec![], vec![played]), "{kind}");
        say(&mut bench);
        bench.receive(0x81, mark.to_string().as_bytes());
        if is_by_box {
            bench.stream.handle_interrupted(bench.progress, Instant::now());
        } else {
            assert_eq!(bench.receive(0x81, clear.to_string().as_bytes()), ["clear"], "{kind}");
        }
        assert_eq!(bench.texts(), cleared, "{kind}");
    }
}

#[test]
fn an_agent_presses_keys_and_hangs_up_where_its_protocol_can() {
    let plivo = json!({ "event": "sendDTMF", "dtmf": "7" }).to_string();
    let pcm = json!({ "type": "dtmf", "digit": "7" }).to_string();
    for (kind, text) in [(ProviderKind::Plivo, plivo), (ProviderKind::Pcm, pcm)] {
        assert_eq!(Bench::new(kind, None).receive(0x81, text.as_bytes()), ["press 7"]);
    }
    let hang_up = json!({ "type": "hangup" }).to_string();
    assert_eq!(Bench::new(ProviderKind::Pcm, None).receive(0x81, hang_up.as_bytes()), ["hang up"]);
}

#[test]
fn what_no_dialect_has_is_ignored_and_what_is_no_json_ends_the_stream() {
    let others = [ProviderKind::AsteriskWebSocket, ProviderKind::AudioSocket];
    let kinds = ProviderKind::ALL.into_iter().filter(|kind| kind.is_media_stream() && !others.contains(kind));
    for kind in kinds {
        for text in [
            r#"{"event":"media","media":{"payload":"!"}}"#,
            r#"{"event":"media"}"#,
            r#"{"event":"mark"}"#,
            r#"{"event":"playAudio"}"#,
            r#"{"event":"checkpoint"}"#,
            r#"{"event":"sendDTMF"}"#,
            r#"{"event":"new","action":"new","type":"new"}"#,
        ] {
            assert_eq!(Bench::new(kind, None).receive(0x81, text.as_bytes()), [] as [&str; 0], "{kind}: {text}");
        }
        assert_eq!(Bench::new(kind, None).receive(0x81, b"{"), ["lost NotJson"], "{kind}");
        let mut gone = Bench::new(kind, None);
        gone.stream.handle_disconnect();
        assert_eq!(gone.receive(0x8a, b""), ["lost Disconnected"], "{kind}");
        assert_eq!(
            Bench::new(kind, None).receive(0x88, &1000u16.to_be_bytes()),
            ["hang up"],
            "{kind}: as it does there"
        );
        assert_eq!(Bench::new(kind, None).receive(0x88, b""), ["hang up"], "{kind}: no code");
        assert_eq!(Bench::new(kind, None).receive(0x88, &1011u16.to_be_bytes()), ["lost Closed"], "{kind}");
    }
}

/// What the agent sends in a turn, and what it is told.
struct Turn {
    audio: Value,
    mark: Value,
    clear: Value,
    played: Value,
    cleared: Vec<Value>,
}

fn turns() -> Vec<(ProviderKind, Turn)> {
    let sid = "MZ0000000000000000000000000000001f";
    let wire = |audio: &[u8]| STANDARD.encode_to_string(audio);
    let mulaw = wire(&[0x21; 400]);
    let samples = wire(&linear_of(&[0x21; 400]));
    vec![
        (
            ProviderKind::Twilio,
            Turn {
                audio: json!({ "event": "media", "streamSid": sid, "media": { "payload": mulaw } }),
                mark: json!({ "event": "mark", "streamSid": sid, "mark": { "name": "a" } }),
                clear: json!({ "event": "clear", "streamSid": sid }),
                played: json!({ "event": "mark", "sequenceNumber": "2", "streamSid": sid, "mark": { "name": "a" } }),
                cleared: vec![
                    json!({ "event": "mark", "sequenceNumber": "3", "streamSid": sid, "mark": { "name": "a" } }),
                ],
            },
        ),
        (
            ProviderKind::Telnyx,
            Turn {
                audio: json!({ "event": "media", "media": { "payload": mulaw } }),
                mark: json!({ "event": "mark", "mark": { "name": "a" } }),
                clear: json!({ "event": "clear" }),
                played: json!({ "event": "mark", "sequence_number": "2", "stream_id": sid, "mark": { "name": "a" } }),
                cleared: vec![
                    json!({ "event": "mark", "sequence_number": "3", "stream_id": sid, "mark": { "name": "a" } }),
                ],
            },
        ),
        (
            ProviderKind::Plivo,
            Turn {
                audio: json!({ "event": "playAudio", "media": { "contentType": "audio/x-l16", "sampleRate": 8000, "payload": samples } }),
                mark: json!({ "event": "checkpoint", "streamId": sid, "name": "a" }),
                clear: json!({ "event": "clearAudio", "streamId": sid }),
                played: json!({ "event": "playedStream", "streamId": sid, "name": "a" }),
                cleared: vec![json!({ "event": "clearedAudio", "streamId": sid })],
            },
        ),
        (
            ProviderKind::Exotel,
            Turn {
                audio: json!({ "event": "media", "stream_sid": sid, "media": { "payload": samples } }),
                mark: json!({ "event": "mark", "stream_sid": sid, "mark": { "name": "a" } }),
                clear: json!({ "event": "clear", "stream_sid": sid }),
                played: json!({ "event": "mark", "sequence_number": "2", "stream_sid": sid, "mark": { "name": "a" } }),
                cleared: vec![
                    json!({ "event": "mark", "sequence_number": "3", "stream_sid": sid, "mark": { "name": "a" } }),
                ],
            },
        ),
    ]
}

/// The same of those whose audio is binary.
fn binary_turns() -> Vec<(ProviderKind, Turn)> {
    vec![
        (
            ProviderKind::Vonage,
            Turn {
                audio: Value::Null,
                mark: json!({ "action": "notify", "payload": { "n": [1, "a"] } }),
                clear: json!({ "action": "clear" }),
                played: json!({ "event": "websocket:notify", "payload": { "n": [1, "a"] } }),
                cleared: vec![json!({ "event": "websocket:cleared" })],
            },
        ),
        (
            ProviderKind::Pcm,
            Turn {
                audio: Value::Null,
                mark: json!({ "type": "mark", "name": "a" }),
                clear: json!({ "type": "clear" }),
                played: json!({ "type": "mark", "name": "a", "played": true }),
                cleared: vec![json!({ "type": "mark", "name": "a", "played": false })],
            },
        ),
    ]
}

/// One stream, without its connection.
struct Bench {
    stream: MediaStream,
    progress: Progress,
}

impl Bench {
    fn new(kind: ProviderKind, rate: Option<u32>) -> Self {
        let mut plan = ServicePlan::bare(kind, "ws://agent/", FirstSpeaker::Agent).expect("an address");
        plan.settings.sample_rate = rate;
        plan.settings.parameters.insert("shop".into(), "7".into());
        plan.parties = Parties { from: "+361".into(), to: "+362".into() };
        let facts = CallFacts { id: CallId(31), codec: Codec::Pcmu, seed: 7 };
        Bench { stream: MediaStream::new(&plan, facts), progress: Progress::default() }
    }

    /// So many packets of the caller's.
    fn speak(&mut self, packets: u32) {
        let coded = [0x21; 160];
        let mut samples = Vec::new();
        Codec::Pcmu.decode(&coded, &mut samples);
        for _ in 0..packets {
            self.stream.handle_audio(&Frame::coded(Codec::Pcmu, &coded, &samples));
        }
    }

    /// A frame of the agent's, and what comes of it.
    fn receive(&mut self, first: u8, payload: &[u8]) -> Vec<String> {
        self.stream.handle_bytes(&server_frame(first, payload));
        let mut outputs = Vec::new();
        while let Some(output) = self.stream.poll_output(self.progress, Instant::now()) {
            let (shown, ticks) = match output {
                AgentOutput::Play(Speech::Coded(_, bytes)) => (format!("play {}", bytes.len()), bytes.len()),
                AgentOutput::Play(Speech::Samples(rate, samples)) => {
                    let ticks = samples.len() / rate.tick_samples();
                    (format!("play {ticks}"), ticks)
                }
                AgentOutput::Clear => ("clear".into(), 0),
                AgentOutput::Press(key) => (format!("press {key}"), 0),
                AgentOutput::HangUp => ("hang up".into(), 0),
                AgentOutput::Lost(loss) => (format!("lost {loss:?}"), 0),
                other => (format!("{other:?}"), 0),
            };
            self.progress.pushed += ticks as u64;
            outputs.push(shown);
        }
        outputs
    }

    /// The texts that have been sent since the last time.
    fn texts(&mut self) -> Vec<Value> {
        let sent = client_frames(&std::mem::take(self.stream.outbound()));
        let texts = sent.into_iter().filter(|(first, _)| *first == 0x81);
        texts.map(|(_, text)| serde_json::from_slice(&text).expect("JSON")).collect()
    }
}

fn linear_of(mulaw: &[u8]) -> Vec<u8> {
    let mut samples = Vec::new();
    Codec::Pcmu.decode(mulaw, &mut samples);
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}
