//! The answer to a chat completion, as it streams in: server-sent events with pieces of words and of function calls.
//!
//! What servers do differently, and what is made of it:
//!
//! | Seen | Taken as |
//! |---|---|
//! | `content` null, or not there; `choices` empty or null (usage, timings) | nothing |
//! | comment lines, other fields than `data`, CR LF | nothing |
//! | a call's arguments in pieces, named by `index` | joined |
//! | whole calls at once, without `index` or all with index 0 | a call for each id |
//! | `finish_reason` `stop` behind calls | calls all the same |
//! | the end without `[DONE]`, but with a `finish_reason` | the end |
//! | one JSON document, no stream | the whole answer |
//! | `<think>…</think>` in front of the answer, or `reasoning_content` | not said |
//! | an `error` in the stream | the service refuses |

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::message::Failure;

/// A function that the model calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// Names the call in the answer to it.
    pub id: String,
    /// The function.
    pub name: String,
    /// JSON, as the model wrote it.
    pub arguments: String,
}

/// Reads one answer.
#[derive(Default)]
pub struct ChatStream {
    /// What has come of a line.
    line: Vec<u8>,
    calls: Vec<(u64, FunctionCall)>,
    thoughts: Thoughts,
    is_over: bool,
    words_bytes: usize,
}

/// Words in front of the answer that are not for the caller.
#[derive(Default)]
enum Thoughts {
    /// It may begin with them.
    #[default]
    Unknown,
    /// This much of the opening tag has come.
    Opening(String),
    /// Until the closing tag; the end of what has come.
    Within(String),
    /// The answer has begun.
    Over,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    error: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Choice {
    delta: Option<Delta>,
    /// In place of `delta` where nothing streams.
    message: Option<Delta>,
    finish_reason: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Delta {
    content: Option<String>,
    tool_calls: Option<Vec<Part>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Part {
    index: Option<u64>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Function {
    name: Option<String>,
    arguments: Option<Value>,
}

impl ChatStream {
    /// Takes bytes of the stream as they came; appends the words in them.
    ///
    /// # Errors
    /// [`Failure::Format`] when it is no stream of chunks or has more than can be meant, [`Failure::Refused`] when the
    /// service reports an error.
    pub fn handle_bytes(&mut self, bytes: &[u8], words: &mut String) -> Result<(), Failure> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > LINE_BYTES_MAX {
                return Err(Failure::Format);
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.handle_line(line.trim_ascii(), words)?;
                self.line = line;
                self.line.clear();
            }
        }
        Ok(())
    }

    /// Takes an answer that came whole.
    ///
    /// # Errors
    /// As [`ChatStream::handle_bytes`].
    pub fn handle_whole(&mut self, json: &[u8], words: &mut String) -> Result<(), Failure> {
        self.handle_chunk(json, words)?;
        self.is_over = true;
        Ok(())
    }

    /// Whether nothing more comes, whatever the connection does.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The stream has ended: words that were kept back, and the calls.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] when it has broken off.
    pub fn finish(mut self, words: &mut String) -> Result<Vec<FunctionCall>, Failure> {
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            self.handle_line(line.trim_ascii(), words)?;
        }
        if !self.is_over {
            return Err(Failure::Unreachable);
        }
        if let Thoughts::Opening(begun) = self.thoughts {
            words.push_str(&begun);
        }
        let mut calls: Vec<FunctionCall> = self.calls.into_iter().map(|(_, call)| call).collect();
        for (at, call) in calls.iter_mut().enumerate() {
            if call.id.is_empty() {
                call.id = format!("call_{at}");
            }
        }
        Ok(calls)
    }

    fn handle_line(&mut self, line: &[u8], words: &mut String) -> Result<(), Failure> {
        match line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) {
            Some(b"[DONE]") => self.is_over = true,
            Some(data) if !data.is_empty() => self.handle_chunk(data, words)?,
            // llama.cpp has reported errors in a field of their own.
            _ if line.starts_with(b"error:") => return Err(Failure::Refused),
            _ => {}
        }
        Ok(())
    }

    fn handle_chunk(&mut self, json: &[u8], words: &mut String) -> Result<(), Failure> {
        let value: Value = serde_json::from_slice(json).map_err(|_| Failure::Format)?;
        // A chunk of another shape is one to ignore.
        let chunk = Chunk::deserialize(value).unwrap_or_default();
        if chunk.error.is_some_and(|error| !error.is_null()) {
            return Err(Failure::Refused);
        }
        for choice in chunk.choices.into_iter().flatten().take(1) {
            self.is_over |= choice.finish_reason.is_some_and(|reason| !reason.is_null());
            let Some(delta) = choice.delta.or(choice.message) else { continue };
            if let Some(content) = delta.content {
                self.words_bytes += content.len();
                if self.words_bytes > WORDS_BYTES_MAX {
                    return Err(Failure::Format);
                }
                self.thoughts.filter(&content, words);
            }
            for part in delta.tool_calls.into_iter().flatten() {
                self.handle_part(part)?;
            }
        }
        Ok(())
    }

    fn handle_part(&mut self, part: Part) -> Result<(), Failure> {
        let id = part.id.filter(|id| !id.is_empty());
        let is_other = |call: &FunctionCall| id.as_ref().is_some_and(|id| !call.id.is_empty() && *id != call.id);
        let last = self
            .calls
            .iter()
            .rposition(|(index, call)| part.index.is_none_or(|wanted| wanted == *index) && !is_other(call));
        let at = match last {
            Some(at) => at,
            None if self.calls.len() >= CALLS_MAX => return Err(Failure::Format),
            None => {
                self.calls.push((part.index.unwrap_or_default(), FunctionCall::default()));
                self.calls.len() - 1
            }
        };
        let call = &mut self.calls[at].1;
        if let Some(id) = id {
            call.id = id;
        }
        let Some(function) = part.function else { return Ok(()) };
        if let Some(name) = function.name.filter(|name| !name.is_empty()) {
            call.name = name;
        }
        match function.arguments {
            None | Some(Value::Null) => {}
            Some(Value::String(piece)) => call.arguments.push_str(&piece),
            // As an object, where a server has read what the model wrote.
            Some(read) => call.arguments = read.to_string(),
        }
        if call.arguments.len() + call.name.len() + call.id.len() > CALL_BYTES_MAX {
            return Err(Failure::Format);
        }
        Ok(())
    }
}

impl Thoughts {
    /// Appends what of a piece is for the caller.
    fn filter(&mut self, piece: &str, words: &mut String) {
        let mut text = match std::mem::take(self) {
            Thoughts::Over => {
                *self = Thoughts::Over;
                return words.push_str(piece);
            }
            Thoughts::Unknown => piece.to_owned(),
            Thoughts::Opening(begun) => begun + piece,
            Thoughts::Within(end) => return self.filter_within(end + piece, words),
        };
        let begun = text.trim_start();
        if let Some(within) = begun.strip_prefix(OPENING_TAG) {
            return self.filter_within(within.to_owned(), words);
        }
        if OPENING_TAG.starts_with(begun) {
            *self = Thoughts::Opening(text);
        } else {
            *self = Thoughts::Over;
            words.push_str(&std::mem::take(&mut text));
        }
    }

    fn filter_within(&mut self, text: String, words: &mut String) {
        if let Some((_, answer)) = text.split_once(CLOSING_TAG) {
            *self = Thoughts::Over;
            words.push_str(answer.trim_start());
        } else {
            // The tag may be cut in two.
            let begun = text.len().saturating_sub(CLOSING_TAG.len());
            let from = (begun..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or_default();
            *self = Thoughts::Within(text[from..].to_owned());
        }
    }
}

const OPENING_TAG: &str = "<think>";
const CLOSING_TAG: &str = "</think>";

/// 256 KiB: a whole answer in one line, with all its calls. A longer line ends the answer as unreadable.
const LINE_BYTES_MAX: usize = 256 << 10;

/// 64 KiB: an hour of speech. A model that goes on is not stopped by anything else.
const WORDS_BYTES_MAX: usize = 64 << 10;

/// 16 calls in one answer, of 16 KiB each; no model means more.
const CALLS_MAX: usize = 16;
const CALL_BYTES_MAX: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_out_wherever_the_stream_is_cut_and_nothing_else_does() {
        // As llama.cpp's server writes it, with a proxy's comments and a usage chunk.
        let stream = b": ping\r\n\r\nevent: message\r\n\
            data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}],\"id\":\"x\"}\r\n\r\n\
            data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Gr\xc3\xbc\xc3\x9f\"}}]}\r\n\r\n\
            data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n\
            data:{\"choices\":[{\"index\":0,\"delta\":{\"content\":\" Gott.\"}}]}\n\n\
            data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
            data: {\"choices\":[],\"usage\":{\"total_tokens\":9},\"timings\":{}}\n\n\
            data: {\"choices\":null}\n\ndata: 7\n\n\
            data: [DONE]\n\n";
        for step in [1, 2, 7, 64, stream.len()] {
            let (mut chat, mut words) = (ChatStream::default(), String::new());
            for bytes in stream.chunks(step) {
                chat.handle_bytes(bytes, &mut words).expect("a stream");
            }
            assert!(chat.is_over());
            assert_eq!((chat.finish(&mut words), words.as_str()), (Ok(vec![]), "Grüß Gott."), "{step}");
        }
    }

    #[test]
    fn calls_are_joined_by_their_index_or_told_apart_by_their_ids() {
        let call = |id: &str, name: &str, arguments: &str| FunctionCall {
            id: id.into(),
            name: name.into(),
            arguments: arguments.into(),
        };
        let pieces = [
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"send_dtmf","arguments":""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"end_call","arguments":"{"}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"digits\""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"","function":{"name":null,"arguments":":\"1\"}"}},{"index":1,"function":{"arguments":"}"}}]}}]}"#,
            // Not `tool_calls`, as it should be.
            r#"{"choices":[{"delta":{"content":null},"finish_reason":"stop"}]}"#,
        ];
        let wanted = vec![call("a", "send_dtmf", r#"{"digits":"1"}"#), call("b", "end_call", "{}")];
        assert_eq!(read(&pieces), (Ok(wanted), String::new()));
        let whole = [
            r#"{"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"x","arguments":{"y":1}}},{"id":"b","function":{"name":"z","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#,
        ];
        assert_eq!(read(&whole).0, Ok(vec![call("a", "x", r#"{"y":1}"#), call("b", "z", "{}")]));
        let same_index = [
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"x","arguments":"{}"}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"b","function":{"name":"x","arguments":"{}"}}]},"finish_reason":"stop"}]}"#,
        ];
        assert_eq!(read(&same_index).0, Ok(vec![call("a", "x", "{}"), call("b", "x", "{}")]));
        let nameless = [
            r#"{"choices":[{"delta":{"tool_calls":[{"function":{"name":"x","arguments":"{}"}}]},"finish_reason":"stop"}]}"#,
        ];
        assert_eq!(read(&nameless).0, Ok(vec![call("call_0", "x", "{}")]));
    }

    #[test]
    fn an_answer_that_does_not_stream_is_read_whole() {
        let (mut chat, mut words) = (ChatStream::default(), String::new());
        let json = br#"{"choices":[{"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}]}"#;
        chat.handle_whole(json, &mut words).expect("an answer");
        assert_eq!((chat.finish(&mut words), words.as_str()), (Ok(vec![]), "Hello."));
    }

    #[test]
    fn what_breaks_off_reports_an_error_or_has_no_end_is_no_answer() {
        let content = |text: &str| format!(r#"{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}"#);
        assert_eq!(read(&[&content("Hel")]).0, Err(Failure::Unreachable));
        assert_eq!(read(&[r#"{"error":{"message":"no","code":500}}"#]).0, Err(Failure::Refused));
        assert_eq!(read(&["{\"choices\":["]).0, Err(Failure::Format));
        let mut chat = ChatStream::default();
        assert_eq!(chat.handle_bytes(b"error: {}\n", &mut String::new()), Err(Failure::Refused));
        let mut chat = ChatStream::default();
        assert_eq!(chat.handle_bytes(&vec![b'x'; LINE_BYTES_MAX + 1], &mut String::new()), Err(Failure::Format));
        let long = content(&"x".repeat(1000));
        assert_eq!(read(&vec![&*long; WORDS_BYTES_MAX / 1000 + 1]).0, Err(Failure::Format));
        let call = |id: usize| format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{{"id":"{id}"}}]}}}}]}}"#);
        let calls: Vec<String> = (0..=CALLS_MAX).map(call).collect();
        assert_eq!(read(&calls.iter().map(String::as_str).collect::<Vec<_>>()).0, Err(Failure::Format));
        let part = format!(
            r#"{{"choices":[{{"delta":{{"tool_calls":[{{"index":0,"function":{{"arguments":"{}"}}}}]}}}}]}}"#,
            "x".repeat(1024)
        );
        assert_eq!(read(&vec![&*part; CALL_BYTES_MAX / 1024 + 1]).0, Err(Failure::Format));
    }

    #[test]
    fn what_a_model_thinks_is_not_said() {
        for (pieces, said) in [
            (vec!["<thi", "nk>Should I", " greet?</th", "ink>\\n\\nHello", "."], "Hello."),
            (vec!["\\n<think>", "</think>Yes."], "Yes."),
            (vec!["<", "b> is a tag."], "<b> is a tag."),
            (vec!["<think>for ever"], ""),
            (vec!["<th"], "<th"),
            (vec!["a <think> b"], "a <think> b"),
        ] {
            let chunk = |piece: &&str| format!(r#"{{"choices":[{{"delta":{{"content":"{piece}"}}}}]}}"#);
            let chunks: Vec<String> = pieces.iter().map(chunk).chain(["[DONE]".to_owned()]).collect();
            let (_, words) = read(&chunks.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(words, said, "{pieces:?}");
        }
    }

    /// What comes of these pieces of data.
    fn read(pieces: &[&str]) -> (Result<Vec<FunctionCall>, Failure>, String) {
        let (mut chat, mut words) = (ChatStream::default(), String::new());
        for piece in pieces {
            if let Err(failure) = chat.handle_bytes(format!("data: {piece}\n\n").as_bytes(), &mut words) {
                return (Err(failure), words);
            }
        }
        let finished = chat.finish(&mut words);
        (finished, words)
    }
}
