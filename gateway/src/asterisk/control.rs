//! The texts of Asterisk's WebSocket channel (`chan_websocket`): events of the channel's, commands of the application's.
//!
//! They are JSON (`f(json)`) or plain text, which is all that Asterisk 22.6 knows:
//!
//! ```text
//!   {"event":"DTMF_END","channel_id":"…","digit":"5"}              DTMF_END digit:5 channel_id:…
//!   {"command":"MARK_MEDIA","correlation_id":"m1"}                 MARK_MEDIA m1
//! ```
//!
//! <https://docs.asterisk.org/Configuration/Channel-Drivers/WebSocket/>

use serde::Deserialize;
use serde_json::{Map, Value, json};
use talkstack_control::port::ControlFormat;

/// What the channel tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Audio may flow; the first event.
    Start(Start),
    /// A key was pressed.
    Digit(char),
    /// Too much is queued: say nothing more for now.
    Xoff,
    /// Say on.
    Xon,
    /// What was asked for.
    Status(Status),
    /// What was buffered has been played.
    BufferingCompleted(Option<String>),
    /// What was queued before the mark has been played.
    MarkProcessed(Option<String>),
    /// All has been played.
    QueueDrained,
    /// A command was not understood.
    Error(&'static str),
}

/// What a channel is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Start {
    /// The connection's name.
    pub connection_id: String,
    /// The channel's name.
    pub channel: String,
    /// Its id.
    pub channel_id: String,
    /// `ulaw`, `alaw`, `slin`, `slin16` …
    pub format: String,
    /// Bytes of 20 ms.
    pub optimal_frame_size: usize,
    /// What is known of the call. Plain text has none.
    pub channel_variables: Map<String, Value>,
}

/// How a channel's queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Frames of 20 ms that wait.
    pub queue_length: u64,
    /// [`Event::Xoff`] was told, and [`Event::Xon`] was not yet.
    pub queue_full: bool,
    /// What comes is being buffered.
    pub bulk_media: bool,
    /// What is queued waits.
    pub media_paused: bool,
}

/// What the application wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Answer the call.
    Answer,
    /// End it.
    HangUp,
    /// What comes is one stretch, cut anywhere.
    StartBuffering,
    /// That was all of it; tell when it has been played.
    StopBuffering(Option<String>),
    /// Forget what is queued, with its marks.
    Flush,
    /// What is queued waits.
    Pause,
    /// It goes on.
    Continue,
    /// Tell when what is queued has been played.
    Mark(Option<String>),
    /// Tell how the queue is.
    Status,
    /// Tell, once, when it is empty.
    ReportDrained,
    /// Which ways audio goes.
    Direction {
        /// To the application.
        hears: bool,
        /// From it.
        speaks: bool,
    },
    /// Of no effect.
    Unknown,
}

/// The text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is not JSON")]
pub struct NotJson;

/// A message of either side's as JSON; what is not asked for is ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    command: Option<String>,
    event: Option<String>,
    correlation_id: Option<String>,
    direction: Option<String>,
    digit: Option<String>,
    connection_id: Option<String>,
    channel: Option<String>,
    channel_id: Option<String>,
    format: Option<String>,
    optimal_frame_size: Option<usize>,
    channel_variables: Option<Map<String, Value>>,
}

impl Event {
    /// The text that tells of it on the channel of this id.
    pub fn text(&self, format: ControlFormat, channel_id: &str) -> String {
        match format {
            ControlFormat::Json => {
                let mut message = self.fields();
                message["event"] = self.name().into();
                message["channel_id"] = channel_id.into();
                message.to_string()
            }
            ControlFormat::PlainText => self.plain(channel_id),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Event::Start(_) => "MEDIA_START",
            Event::Digit(_) => "DTMF_END",
            Event::Xoff => "MEDIA_XOFF",
            Event::Xon => "MEDIA_XON",
            Event::Status(_) => "STATUS",
            Event::BufferingCompleted(_) => "MEDIA_BUFFERING_COMPLETED",
            Event::MarkProcessed(_) => "MEDIA_MARK_PROCESSED",
            Event::QueueDrained => "QUEUE_DRAINED",
            Event::Error(_) => "ERROR",
        }
    }

    fn fields(&self) -> Value {
        match self {
            Event::Start(start) => json!({
                "connection_id": start.connection_id, "channel": start.channel, "format": start.format,
                "optimal_frame_size": start.optimal_frame_size, "ptime": PTIME_MS,
                "channel_variables": start.channel_variables,
            }),
            Event::Digit(digit) => json!({ "digit": digit }),
            Event::Status(status) => json!({
                "queue_length": status.queue_length, "xon_level": XON_FRAMES, "xoff_level": XOFF_FRAMES,
                "queue_full": status.queue_full, "bulk_media": status.bulk_media, "media_paused": status.media_paused,
            }),
            Event::BufferingCompleted(id) | Event::MarkProcessed(id) => {
                json!({ "correlation_id": id.as_deref().unwrap_or_default() })
            }
            Event::Error(text) => json!({ "error_text": text }),
            Event::Xoff | Event::Xon | Event::QueueDrained => json!({}),
        }
    }

    fn plain(&self, channel_id: &str) -> String {
        let name = self.name();
        match self {
            Event::Start(Start { connection_id, channel, format, optimal_frame_size, .. }) => format!(
                "{name} connection_id:{connection_id} channel:{channel} channel_id:{channel_id} format:{format} \
                 optimal_frame_size:{optimal_frame_size} ptime:{PTIME_MS}"
            ),
            Event::Digit(digit) => format!("{name} digit:{digit} channel_id:{channel_id}"),
            Event::Status(Status { queue_length, queue_full, bulk_media, media_paused }) => format!(
                "{name} channel_id:{channel_id} queue_length:{queue_length} xon_level:{XON_FRAMES} \
                 xoff_level:{XOFF_FRAMES} queue_full:{queue_full} bulk_media:{bulk_media} media_paused:{media_paused}"
            ),
            Event::BufferingCompleted(Some(id)) | Event::MarkProcessed(Some(id)) => format!("{name} {id}"),
            Event::Error(text) => format!("{name} channel_id:{channel_id} error_text:{text}"),
            _ => name.to_owned(),
        }
    }

    /// Reads what a channel tells, in either form; `None` of what means nothing here.
    ///
    /// # Errors
    /// [`NotJson`] when it begins as JSON does and is none.
    pub fn read(text: &str) -> Result<Option<Event>, NotJson> {
        let message = if text.trim_start().starts_with('{') {
            read_json(text)?
        } else {
            let mut words = text.split_ascii_whitespace();
            let mut message = Message { event: words.next().map(str::to_owned), ..Message::default() };
            for word in words {
                let value = |value: &str| Some(value.to_owned());
                match word.split_once(':') {
                    Some(("digit", digit)) => message.digit = value(digit),
                    Some(("connection_id", id)) => message.connection_id = value(id),
                    Some(("channel", channel)) => message.channel = value(channel),
                    Some(("channel_id", id)) => message.channel_id = value(id),
                    Some(("format", format)) => message.format = value(format),
                    Some(("optimal_frame_size", bytes)) => message.optimal_frame_size = bytes.parse().ok(),
                    _ => message.correlation_id = value(word),
                }
            }
            message
        };
        let key = || message.digit.as_ref().and_then(|digit| digit.chars().next());
        Ok(match message.event.as_deref() {
            Some("MEDIA_START") => Some(Event::Start(Start {
                connection_id: message.connection_id.unwrap_or_default(),
                channel: message.channel.unwrap_or_default(),
                channel_id: message.channel_id.unwrap_or_default(),
                format: message.format.unwrap_or_default(),
                optimal_frame_size: message.optimal_frame_size.unwrap_or_default(),
                channel_variables: message.channel_variables.unwrap_or_default(),
            })),
            Some("DTMF_END") => key().map(Event::Digit),
            Some("MEDIA_XOFF") => Some(Event::Xoff),
            Some("MEDIA_XON") => Some(Event::Xon),
            Some("MEDIA_MARK_PROCESSED") => Some(Event::MarkProcessed(message.correlation_id)),
            Some("MEDIA_BUFFERING_COMPLETED") => Some(Event::BufferingCompleted(message.correlation_id)),
            Some("QUEUE_DRAINED") => Some(Event::QueueDrained),
            _ => None,
        })
    }
}

impl Command {
    /// Reads what an application wants, in either form. Names are spelt in capitals.
    ///
    /// # Errors
    /// [`NotJson`] when it begins as JSON does and is none.
    pub fn read(text: &str) -> Result<Command, NotJson> {
        let text = text.trim();
        let (name, id, direction) = if text.starts_with('{') {
            let message = read_json(text)?;
            (message.command.unwrap_or_default(), message.correlation_id, message.direction)
        } else {
            let (name, rest) = text.split_once(' ').map_or((text, None), |(name, rest)| (name, Some(rest.to_owned())));
            (name.to_owned(), rest.clone(), rest)
        };
        let id = id.filter(|id| !id.is_empty() && id.len() <= CORRELATION_BYTES_MAX);
        Ok(match (name.as_str(), direction.as_deref()) {
            ("ANSWER", _) => Command::Answer,
            ("HANGUP", _) => Command::HangUp,
            ("START_MEDIA_BUFFERING", _) => Command::StartBuffering,
            ("STOP_MEDIA_BUFFERING", _) => Command::StopBuffering(id),
            ("FLUSH_MEDIA", _) => Command::Flush,
            ("PAUSE_MEDIA", _) => Command::Pause,
            ("CONTINUE_MEDIA", _) => Command::Continue,
            ("MARK_MEDIA", _) => Command::Mark(id),
            ("GET_STATUS", _) => Command::Status,
            ("REPORT_QUEUE_DRAINED", _) => Command::ReportDrained,
            ("SET_MEDIA_DIRECTION", Some("both")) => Command::Direction { hears: true, speaks: true },
            ("SET_MEDIA_DIRECTION", Some("in")) => Command::Direction { hears: true, speaks: false },
            ("SET_MEDIA_DIRECTION", Some("out")) => Command::Direction { hears: false, speaks: true },
            _ => Command::Unknown,
        })
    }
}

/// Reads a message; one whose fields are of other types than documented says nothing.
fn read_json(text: &str) -> Result<Message, NotJson> {
    serde_json::from_str(text)
        .or_else(|_| serde_json::from_str::<serde::de::IgnoredAny>(text).map(|_| Message::default()))
        .map_err(|_| NotJson)
}

/// 128 bytes: Asterisk takes no longer text.
const CORRELATION_BYTES_MAX: usize = 128;

/// A frame's length.
const PTIME_MS: u32 = 20;

/// 900 frames, 18 s, as Asterisk has it: then the application is told to stop.
pub const XOFF_FRAMES: u64 = 900;

/// 800 frames, 16 s: below them it may go on.
pub const XON_FRAMES: u64 = 800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_written_as_asterisk_writes_them() {
        let id = "CA1";
        let start = Start {
            connection_id: "c".into(),
            channel: "WebSocket/c/0x1".into(),
            channel_id: id.into(),
            format: "ulaw".into(),
            optimal_frame_size: 160,
            channel_variables: [("from".to_owned(), json!("+361"))].into_iter().collect(),
        };
        let status = Status { queue_length: 200, queue_full: false, bulk_media: true, media_paused: false };
        for (event, json, plain) in [
            (
                Event::Start(start.clone()),
                json!({ "event": "MEDIA_START", "connection_id": "c", "channel": "WebSocket/c/0x1", "channel_id": id,
                        "format": "ulaw", "optimal_frame_size": 160, "ptime": 20,
                        "channel_variables": { "from": "+361" } }),
                "MEDIA_START connection_id:c channel:WebSocket/c/0x1 channel_id:CA1 format:ulaw optimal_frame_size:160 \
                 ptime:20",
            ),
            (
                Event::Digit('#'),
                json!({ "event": "DTMF_END", "channel_id": id, "digit": "#" }),
                "DTMF_END digit:# channel_id:CA1",
            ),
            (
                Event::Status(status),
                json!({ "event": "STATUS", "channel_id": id, "queue_length": 200, "xon_level": 800, "xoff_level": 900,
                        "queue_full": false, "bulk_media": true, "media_paused": false }),
                "STATUS channel_id:CA1 queue_length:200 xon_level:800 xoff_level:900 queue_full:false bulk_media:true \
                 media_paused:false",
            ),
            (
                Event::MarkProcessed(Some("m1".into())),
                json!({ "event": "MEDIA_MARK_PROCESSED", "channel_id": id, "correlation_id": "m1" }),
                "MEDIA_MARK_PROCESSED m1",
            ),
            (
                Event::BufferingCompleted(None),
                json!({ "event": "MEDIA_BUFFERING_COMPLETED", "channel_id": id, "correlation_id": "" }),
                "MEDIA_BUFFERING_COMPLETED",
            ),
            (Event::QueueDrained, json!({ "event": "QUEUE_DRAINED", "channel_id": id }), "QUEUE_DRAINED"),
        ] {
            let written: Value = serde_json::from_str(&event.text(ControlFormat::Json, id)).expect("JSON");
            assert_eq!(written, json);
            assert_eq!(event.text(ControlFormat::PlainText, id), plain);
        }
        let mut plainly = start.clone();
        plainly.channel_variables.clear();
        for (format, read) in [(ControlFormat::Json, start.clone()), (ControlFormat::PlainText, plainly)] {
            assert_eq!(Event::read(&Event::Start(start.clone()).text(format, id)), Ok(Some(Event::Start(read))));
            assert_eq!(Event::read(&Event::Digit('#').text(format, id)), Ok(Some(Event::Digit('#'))));
            let mark = Event::MarkProcessed(Some("m1".into()));
            assert_eq!(Event::read(&mark.text(format, id)), Ok(Some(mark)));
        }
        assert_eq!(Event::read("{"), Err(NotJson));
        assert_eq!((Event::read("NEW a:b"), Event::read("")), (Ok(None), Ok(None)));
    }

    #[test]
    fn commands_are_read_in_either_form_and_only_in_capitals() {
        let id = || Some("m1".to_owned());
        for (json, plain, wanted) in [
            (json!({ "command": "ANSWER" }), "ANSWER", Command::Answer),
            (json!({ "command": "HANGUP" }), " HANGUP\r\n", Command::HangUp),
            (json!({ "command": "MARK_MEDIA", "correlation_id": "m1" }), "MARK_MEDIA m1", Command::Mark(id())),
            (
                json!({ "command": "STOP_MEDIA_BUFFERING", "correlation_id": "m1" }),
                "STOP_MEDIA_BUFFERING m1",
                Command::StopBuffering(id()),
            ),
            (json!({ "command": "MARK_MEDIA", "correlation_id": null }), "MARK_MEDIA", Command::Mark(None)),
            (
                json!({ "command": "SET_MEDIA_DIRECTION", "direction": "in" }),
                "SET_MEDIA_DIRECTION in",
                Command::Direction { hears: true, speaks: false },
            ),
            (json!({ "command": "SET_MEDIA_DIRECTION" }), "SET_MEDIA_DIRECTION up", Command::Unknown),
            (json!({ "command": "hangup" }), "hangup", Command::Unknown),
            (json!({ "command": 7 }), "", Command::Unknown),
            (json!({}), "NEW_COMMAND 1 2", Command::Unknown),
        ] {
            assert_eq!(Command::read(&json.to_string()), Ok(wanted.clone()), "{json}");
            assert_eq!(Command::read(plain), Ok(wanted), "{plain}");
        }
        assert_eq!(Command::read("{\"command\":"), Err(NotJson));
        let long = format!("MARK_MEDIA {}", "x".repeat(129));
        assert_eq!(Command::read(&long), Ok(Command::Mark(None)));
    }
}
