//! The Wyoming protocol's events: a line of JSON, more JSON if the line says so, and bytes if it says so.
//!
//! <https://github.com/OHF-Voice/wyoming>

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::message::Failure;

/// An event as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What it is: `transcript`, `audio-chunk` …
    pub kind: String,
    /// What it says.
    pub fields: Map<String, Value>,
    /// Samples, in an `audio-chunk`.
    pub payload: Vec<u8>,
}

impl Event {
    /// A text of it.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str)
    }

    /// A number of it.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.fields.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok())
    }
}

/// Appends an event; `fields` is an object.
pub fn write_event(out: &mut Vec<u8>, kind: &str, fields: &Value, payload: &[u8]) {
    let mut line = json!({ "type": kind, "data": fields });
    if !payload.is_empty() {
        line["payload_length"] = json!(payload.len());
    }
    out.extend_from_slice(line.to_string().as_bytes());
    out.push(b'\n');
    out.extend_from_slice(payload);
}

/// Reads the other side's events.
#[derive(Default)]
pub struct Events {
    bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: Option<Map<String, Value>>,
    #[serde(default)]
    data_length: Option<usize>,
    #[serde(default)]
    payload_length: Option<usize>,
}

impl Events {
    /// Takes bytes as they came.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole event.
    ///
    /// # Errors
    /// [`Failure::Format`] when it is none, or longer than can be meant.
    pub fn next_event(&mut self) -> Result<Option<Event>, Failure> {
        let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') else {
            return if self.bytes.len() > LINE_BYTES_MAX { Err(Failure::Format) } else { Ok(None) };
        };
        let line: Line = serde_json::from_slice(&self.bytes[..end]).map_err(|_| Failure::Format)?;
        let (more, payload) = (line.data_length.unwrap_or_default(), line.payload_length.unwrap_or_default());
        if more > LINE_BYTES_MAX || payload > PAYLOAD_BYTES_MAX {
            return Err(Failure::Format);
        }
        let (more_at, payload_at) = (end + 1, end + 1 + more);
        if self.bytes.len() < payload_at + payload {
            return Ok(None);
        }
        let mut fields = line.data.unwrap_or_default();
        if more > 0 {
            let read: Map<String, Value> =
                serde_json::from_slice(&self.bytes[more_at..payload_at]).map_err(|_| Failure::Format)?;
            fields.extend(read);
        }
        let payload = self.bytes[payload_at..payload_at + payload].to_vec();
        self.bytes.drain(..payload_at + payload.len());
        Ok(Some(Event { kind: line.kind, fields, payload }))
    }
}

/// 256 KiB: a long transcript with its words' times. More ends the connection.
const LINE_BYTES_MAX: usize = 256 << 10;

/// 1 MiB: twenty seconds of speech in one event; services send a tenth of a second.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_wherever_they_are_cut() {
        let mut bytes = Vec::new();
        write_event(&mut bytes, "transcribe", &json!({ "language": "en" }), &[]);
        write_event(&mut bytes, "audio-chunk", &json!({ "rate": 16_000 }), b"\n{\n");
        // As the library in Python writes it: the fields behind the line, over those in it.
        bytes.extend_from_slice(b"{\"type\": \"transcript\", \"version\": \"1.10.2\", \"data\": {\"text\": \"old\", \"x\": 1}, \"data_length\": 17}\n{\"text\": \"a\\nb\"}  ");
        bytes.extend_from_slice(b"{\"type\":\"audio-stop\",\"data\":null,\"payload_length\":null}\n");
        for step in [1, 2, 5, 64, 1000] {
            let (mut events, mut read) = (Events::default(), Vec::new());
            for part in bytes.chunks(step) {
                events.handle_bytes(part);
                while let Some(event) = events.next_event().expect("an event") {
                    read.push(event);
                }
            }
            let kinds: Vec<&str> = read.iter().map(|event| &*event.kind).collect();
            assert_eq!(kinds, ["transcribe", "audio-chunk", "transcript", "audio-stop"], "{step}");
            assert_eq!((read[1].number("rate"), &*read[1].payload), (Some(16_000), &b"\n{\n"[..]));
            assert_eq!((read[2].text("text"), read[2].number("x")), (Some("a\nb"), Some(1)));
        }
    }

    #[test]
    fn hostile_bytes_are_no_event() {
        let long = vec![b' '; LINE_BYTES_MAX + 1];
        for bytes in [
            &b"\n"[..],
            b"hello\n",
            b"{}\n",
            b"[]\n",
            b"{\"type\":1}\n",
            b"\xff\xfe\n",
            b"{\"type\":\"x\",\"payload_length\":-1}\n",
            b"{\"type\":\"x\",\"payload_length\":18446744073709551615}\n",
            b"{\"type\":\"x\",\"data_length\":18446744073709551615}\n",
            b"{\"type\":\"x\",\"payload_length\":1048577}\n",
            b"{\"type\":\"x\",\"data\":[]}\n",
            b"{\"type\":\"x\",\"data_length\":2}\n[]",
            &long,
        ] {
            let mut events = Events::default();
            events.handle_bytes(bytes);
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
            assert_eq!(events.next_event(), Err(Failure::Format), "{shown}");
        }
    }

    #[test]
    fn a_number_that_is_none_is_not_there() {
        let mut events = Events::default();
        events.handle_bytes(
            b"{\"type\":\"audio-start\",\"data\":{\"rate\":-1,\"width\":4294967296,\"channels\":\"1\"}}\n",
        );
        let event = events.next_event().expect("read").expect("whole");
        assert_eq!(["rate", "width", "channels"].map(|name| event.number(name)), [None; 3]);
    }
}
