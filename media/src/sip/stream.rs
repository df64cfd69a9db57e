//! Cutting messages from a stream (RFC 3261 §18.3), and keep-alives on it (RFC 5626 §4.4.1).

use super::message::MESSAGE_BYTES_MAX;

/// One incoming stream.
#[derive(Debug, Default)]
pub struct StreamFramer {
    buffer: Vec<u8>,
    /// Octets that were searched for the end of the head already.
    searched: usize,
}

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub enum Framed {
    /// A whole message.
    Message(Vec<u8>),
    /// CRLF CRLF: answer with [`PONG`].
    Ping,
}

/// The stream cannot be cut any further. Close it.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum FramingError {
    /// A message longer than [`MESSAGE_BYTES_MAX`].
    #[error("the message is longer than {MESSAGE_BYTES_MAX} octets")]
    TooLong,
    /// A Content-Length that is no number, or two that differ: where the next message begins is anybody's guess.
    #[error("the Content-Length cannot be read")]
    ContentLength,
}

impl StreamFramer {
    /// Takes octets as they came.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next whole message or ping, or `None` until more comes.
    ///
    /// # Errors
    /// [`FramingError`].
    pub fn next_framed(&mut self) -> Result<Option<Framed>, FramingError> {
        if self.buffer.starts_with(b"\r\n\r\n") {
            self.buffer.drain(..4);
            self.searched = 0;
            return Ok(Some(Framed::Ping));
        }
        // A single CRLF may be half a ping, or stand between two messages.
        if self.buffer.starts_with(b"\r\n") && self.buffer.len() > 3 {
            self.buffer.drain(..2);
            self.searched = 0;
        }
        let from = self.searched.saturating_sub(3);
        let Some(at) = self.buffer[from..].windows(4).position(|window| window == b"\r\n\r\n") else {
            self.searched = self.buffer.len();
            let is_long = self.buffer.len() > MESSAGE_BYTES_MAX;
            return if is_long { Err(FramingError::TooLong) } else { Ok(None) };
        };
        let head = from + at + 4;
        let whole = head + content_length(&self.buffer[..head])?;
        if whole > MESSAGE_BYTES_MAX {
            return Err(FramingError::TooLong);
        }
        if self.buffer.len() < whole {
            return Ok(None);
        }
        self.searched = 0;
        Ok(Some(Framed::Message(self.buffer.drain(..whole).collect())))
    }

    /// Takes the answer to a ping of ours, when it comes next. Two line ends at once are a ping of theirs.
    pub fn take_pong(&mut self) -> bool {
        let is_pong = self.buffer.starts_with(PONG) && !self.buffer.starts_with(PING);
        if is_pong {
            self.buffer.drain(..PONG.len());
            self.searched = 0;
        }
        is_pong
    }

    /// Tells whether part of a message waits for its rest. Line ends before it are half a keep-alive, not a message.
    pub fn is_partial(&self) -> bool {
        self.buffer.iter().any(|byte| !b"\r\n".contains(byte))
    }

    /// After a [`FramingError`]: the head of the message that cannot be cut, to answer it before the stream is closed.
    /// Empty when the head itself does not end.
    pub fn take_head(&mut self) -> Vec<u8> {
        let end = self.buffer.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
        self.buffer.truncate(end);
        std::mem::take(&mut self.buffer)
    }
}

/// The body's length; 0 without the field, which the parser then refuses. What begins with white space continues the
/// field before it (RFC 3261 §7.3.1), whatever it looks like.
fn content_length(head: &[u8]) -> Result<usize, FramingError> {
    let is_fold = |line: &&[u8]| line.first().is_some_and(|byte| b" \t".contains(byte));
    let mut length = None;
    let mut lines = head.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = line[..colon].trim_ascii();
        if is_fold(&line) || !(name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"l")) {
            continue;
        }
        let mut value = line[colon + 1..].trim_ascii().to_vec();
        while let Some(fold) = lines.next_if(is_fold) {
            value.extend_from_slice(b" ");
            value.extend_from_slice(fold.trim_ascii());
        }
        let digits = std::str::from_utf8(value.trim_ascii()).map_err(|_| FramingError::ContentLength)?;
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        // More digits than a number holds are a length that is too long, not one that cannot be read.
        let value = digits
            .parse()
            .or(if is_number { Ok(usize::MAX) } else { Err(()) })
            .ok()
            .filter(|_| is_number)
            .ok_or(FramingError::ContentLength)?;
        if length.replace(value).is_some_and(|former| former != value) {
            return Err(FramingError::ContentLength);
        }
    }
    let length = length.unwrap_or(0);
    if length > MESSAGE_BYTES_MAX { Err(FramingError::TooLong) } else { Ok(length) }
}

/// Asks whether the far end is there.
pub const PING: &[u8] = b"\r\n\r\n";

/// The answer to a ping.
pub const PONG: &[u8] = b"\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_pings_are_cut_wherever_the_stream_is() {
        let stream = b"OPTIONS a\r\nl: 3\r\n\r\nabc\r\n\r\nBYE b\r\nContent-Length : 0\r\n\r\n";
        let expected = [
            Framed::Message(b"OPTIONS a\r\nl: 3\r\n\r\nabc".to_vec()),
            Framed::Ping,
            Framed::Message(b"BYE b\r\nContent-Length : 0\r\n\r\n".to_vec()),
        ];
        for cut in 0..=stream.len() {
            let mut framer = StreamFramer::default();
            let mut seen = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                framer.handle_bytes(part);
                while let Some(framed) = framer.next_framed().expect("well-formed") {
                    seen.push(framed);
                }
            }
            assert_eq!(seen, expected, "cut at {cut}");
            assert!(!framer.is_partial());
        }
    }

    #[test]
    fn a_folded_length_counts_and_a_fold_that_looks_like_one_does_not() {
        for (head, body) in
            [("A\r\nContent-Length:\r\n 3\r\n\r\n", "abc"), ("A\r\nl: 3\r\nS: x\r\n l: 9\r\n\r\n", "abc")]
        {
            let mut framer = StreamFramer::default();
            framer.handle_bytes(format!("{head}{body}BYE").as_bytes());
            let message = format!("{head}{body}").into_bytes();
            assert_eq!(framer.next_framed(), Ok(Some(Framed::Message(message))), "{head:?}");
        }
    }

    #[test]
    fn a_pong_is_taken_where_one_is_awaited_and_two_make_no_ping() {
        let mut framer = StreamFramer::default();
        for _ in 0..2 {
            framer.handle_bytes(b"\r\n");
            assert!(framer.take_pong());
            assert_eq!((framer.take_pong(), framer.next_framed()), (false, Ok(None)));
        }
        framer.handle_bytes(b"\r\n\r\n");
        assert!(!framer.take_pong(), "their ping");
        assert_eq!(framer.next_framed(), Ok(Some(Framed::Ping)));
        framer.handle_bytes(b"\r\nA\r\nl: 0\r\n\r\n");
        assert!(framer.take_pong(), "a message is behind it");
        assert_eq!(framer.next_framed(), Ok(Some(Framed::Message(b"A\r\nl: 0\r\n\r\n".to_vec()))));
    }

    #[test]
    fn a_single_line_end_is_no_message_that_waits_for_its_rest() {
        let mut framer = StreamFramer::default();
        framer.handle_bytes(b"\r\n");
        assert_eq!((framer.next_framed(), framer.is_partial()), (Ok(None), false));
        framer.handle_bytes(b"I");
        assert!(framer.is_partial());
    }

    #[test]
    fn the_head_of_what_cannot_be_cut_is_left_to_answer_from() {
        let mut framer = StreamFramer::default();
        framer.handle_bytes(b"A\r\nl: 99999999\r\n\r\nabc");
        assert_eq!(framer.next_framed(), Err(FramingError::TooLong));
        assert_eq!(framer.take_head(), b"A\r\nl: 99999999\r\n\r\n");
        framer.handle_bytes(&vec![b'x'; MESSAGE_BYTES_MAX + 1]);
        assert_eq!(framer.next_framed(), Err(FramingError::TooLong));
        assert_eq!(framer.take_head(), b"");
    }

    #[test]
    fn a_length_that_cannot_be_trusted_ends_the_stream() {
        for (head, error) in [
            ("A\r\nl: -1\r\n\r\n", FramingError::ContentLength),
            ("A\r\nl: 3\r\nl: 4\r\n\r\n", FramingError::ContentLength),
            ("A\r\nl: 99999999\r\n\r\n", FramingError::TooLong),
            ("A\r\nl: 36893488147419103232\r\n\r\n", FramingError::TooLong),
        ] {
            let mut framer = StreamFramer::default();
            framer.handle_bytes(head.as_bytes());
            assert_eq!(framer.next_framed(), Err(error), "{head:?}");
        }
        let mut framer = StreamFramer::default();
        framer.handle_bytes(&vec![b'x'; MESSAGE_BYTES_MAX + 1]);
        assert_eq!(framer.next_framed(), Err(FramingError::TooLong));
    }
}
