//! WebSocket framing for the client's side (RFC 6455), without a socket.
//!
//! Messages are built straight into the outgoing buffer and read straight from the incoming one, so a media frame costs
//! no allocation in steady state. The HTTP upgrade happens elsewhere ([`crate::io::connect`]); this begins behind it.

use talkstack_media::audio::frame::Form;

/// One WebSocket connection, behind its handshake.
#[derive(Debug)]
pub struct WebSocket {
    inbound: Vec<u8>,
    /// Bytes at the front of `inbound` that have been dealt with.
    read: usize,
    /// Fragments of a message whose last frame has not come.
    fragments: Vec<u8>,
    fragmented: Option<Opcode>,
    outbound: Vec<u8>,
    masks: MaskingKeys,
    closing: bool,
}

/// A whole message from the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// UTF-8 text.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
    /// The server closes; our close frame is queued already.
    Close(Option<u16>),
}

/// The server broke the protocol or a bound; close with [`WebSocketError::code`] and treat the agent as lost.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum WebSocketError {
    /// A reserved bit or opcode, a masked frame, a fragmented control frame, or a continuation of nothing.
    #[error("the agent's WebSocket frame breaks RFC 6455")]
    Protocol,
    /// Text that is not UTF-8.
    #[error("the agent sent text that is not UTF-8")]
    NotUtf8,
    /// A message above [`MESSAGE_BYTES_MAX`].
    #[error("the agent sent a message above {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
}

impl WebSocketError {
    /// The close code that tells the server (RFC 6455 §7.4.1).
    pub fn code(self) -> u16 {
        match self {
            WebSocketError::Protocol => 1002,
            WebSocketError::NotUtf8 => 1007,
            WebSocketError::TooLong => 1009,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// A frame's header, as far as it concerns a client.
struct Header {
    fin: bool,
    opcode: Opcode,
    header_bytes: usize,
    payload_bytes: usize,
}

impl WebSocket {
    /// Starts behind the handshake. `seed` feeds the masking keys and should be unpredictable (RFC 6455 §10.3).
    pub fn new(seed: u64) -> Self {
        WebSocket {
            inbound: Vec::with_capacity(READ_BYTES),
            read: 0,
            fragments: Vec::new(),
            fragmented: None,
            outbound: Vec::with_capacity(WRITE_BYTES),
            masks: MaskingKeys(seed),
            closing: false,
        }
    }

    /// Takes bytes as they came from the socket.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.inbound.drain(..self.read);
            self.read = 0;
        }
        self.inbound.extend_from_slice(bytes);
    }

    /// Returns the next whole message; pings are answered on the way.
    ///
    /// # Errors
    /// [`WebSocketError`]; nothing more can be read then.
    pub fn next_message(&mut self) -> Result<Option<Message<'_>>, WebSocketError> {
        loop {
            let Some(header) = parse_header(&self.inbound[self.read..])? else { return Ok(None) };
            let start = self.read + header.header_bytes;
            let end = start + header.payload_bytes;
            if end > self.inbound.len() {
                return Ok(None);
            }
            self.read = end;
            match header.opcode {
                Opcode::Ping => self.answer_ping(start, end),
                Opcode::Pong => {}
                Opcode::Close => return self.answer_close(start, end).map(Some),
                Opcode::Text | Opcode::Binary if self.fragmented.is_some() => return Err(WebSocketError::Protocol),
                Opcode::Continuation if self.fragmented.is_none() => return Err(WebSocketError::Protocol),
                opcode if header.fin && opcode != Opcode::Continuation => {
                    return message(opcode, &self.inbound[start..end]).map(Some);
                }
                opcode => {
                    if let Some(whole) = self.gather(opcode, header.fin, start, end)? {
                        return message(whole, &self.fragments).map(Some);
                    }
                }
            }
        }
    }

    /// Appends one text message; `build` writes its payload.
    pub fn send_text(&mut self, build: impl FnOnce(&mut Vec<u8>)) {
        if !self.closing {
            self.send(0x1, build);
        }
    }

    /// Appends one text message of JSON.
    pub fn send_json(&mut self, message: &serde_json::Value) {
        self.send_text(|out| {
            // A value is always JSON, and a buffer takes it.
            let _ = serde_json::to_writer(out, message);
        });
    }

    /// Appends one binary message; `build` writes its payload.
    pub fn send_binary(&mut self, build: impl FnOnce(&mut Vec<u8>)) {
        if !self.closing {
            self.send(0x2, build);
        }
    }

    /// Appends a close frame, once; what is queued before it still goes out.
    pub fn close(&mut self, code: u16) {
        if !self.closing {
            self.closing = true;
            self.send(0x8, |payload| payload.extend_from_slice(&code.to_be_bytes()));
        }
    }

    /// Tells whether the server has read nothing for ten seconds, who is sent audio in this form: it is lost. Until then
    /// audio waits for it.
    pub fn is_stalled(&self, form: Form) -> bool {
        self.outbound.len() > OUTBOUND_BYTES_MAX * form.tick_bytes()
    }

    /// What is to be written to the socket. Drain what was taken.
    pub fn outbound(&mut self) -> &mut Vec<u8> {
        &mut self.outbound
    }

    fn send(&mut self, opcode: u8, build: impl FnOnce(&mut Vec<u8>)) {
        let start = self.outbound.len();
        // The longest header a client's media frame needs; a shorter one is moved up behind the payload's length.
        self.outbound.extend_from_slice(&[0; LONG_HEADER_BYTES]);
        build(&mut self.outbound);
        let payload_bytes = self.outbound.len() - start - LONG_HEADER_BYTES;
        let key = self.masks.next();
        mask(&mut self.outbound[start + LONG_HEADER_BYTES..], key);
        let mut header = [0u8; LONG_HEADER_BYTES];
        header[0] = 0x80 | opcode;
        let length_end = match payload_bytes {
            0..=125 => {
                header[1] = 0x80 | payload_bytes as u8;
                2
            }
            126..=0xffff => {
                header[1] = 0x80 | 126;
                header[2..4].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
                4
            }
            _ => {
                header[1] = 0x80 | 127;
                header[2..10].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
                10
            }
        };
        header[length_end..length_end + 4].copy_from_slice(&key);
        let used = length_end + 4;
        self.outbound[start..start + used].copy_from_slice(&header[..used]);
        if used < LONG_HEADER_BYTES {
            self.outbound.drain(start + used..start + LONG_HEADER_BYTES);
        }
    }

    fn answer_ping(&mut self, start: usize, end: usize) {
        if self.closing || self.outbound.len() > WRITE_BYTES {
            return;
        }
        let inbound = std::mem::take(&mut self.inbound);
        self.send(0xa, |payload| payload.extend_from_slice(&inbound[start..end]));
        self.inbound = inbound;
    }

    fn answer_close(&mut self, start: usize, end: usize) -> Result<Message<'static>, WebSocketError> {
        let code = match &self.inbound[start..end] {
            [] => None,
            [high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
            [_] => return Err(WebSocketError::Protocol),
        };
        self.close(code.unwrap_or(1000));
        Ok(Message::Close(code))
    }

    /// Adds a fragment; returns the message's opcode when it was the last.
    fn gather(
        &mut self,
        opcode: Opcode,
        fin: bool,
        start: usize,
        end: usize,
    ) -> Result<Option<Opcode>, WebSocketError> {
        if opcode != Opcode::Continuation {
            self.fragments.clear();
            self.fragmented = Some(opcode);
        }
        if self.fragments.len() + (end - start) > MESSAGE_BYTES_MAX {
            return Err(WebSocketError::TooLong);
        }
        self.fragments.extend_from_slice(&self.inbound[start..end]);
        Ok(if fin { self.fragmented.take() } else { None })
    }
}

fn message(opcode: Opcode, payload: &[u8]) -> Result<Message<'_>, WebSocketError> {
    match opcode {
        Opcode::Text => std::str::from_utf8(payload).map(Message::Text).map_err(|_| WebSocketError::NotUtf8),
        _ => Ok(Message::Binary(payload)),
    }
}

/// Reads a frame's header (RFC 6455 §5.2); `None` until all of it is there.
fn parse_header(bytes: &[u8]) -> Result<Option<Header>, WebSocketError> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 || second & 0x80 != 0 {
        return Err(WebSocketError::Protocol);
    }
    let opcode = match first & 0x0f {
        0x0 => Opcode::Continuation,
        0x1 => Opcode::Text,
        0x2 => Opcode::Binary,
        0x8 => Opcode::Close,
        0x9 => Opcode::Ping,
        0xa => Opcode::Pong,
        _ => return Err(WebSocketError::Protocol),
    };
    let fin = first & 0x80 != 0;
    let (header_bytes, payload_bytes) = match second & 0x7f {
        126 => match rest {
            [a, b, ..] => (4, u64::from(u16::from_be_bytes([*a, *b]))),
            _ => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (10, u64::from_be_bytes(*length)),
            None => return Ok(None),
        },
        length => (2, u64::from(length)),
    };
    let is_control = matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong);
    if is_control && (!fin || payload_bytes > 125) {
        return Err(WebSocketError::Protocol);
    }
    match usize::try_from(payload_bytes) {
        Ok(payload_bytes) if payload_bytes <= MESSAGE_BYTES_MAX => {
            Ok(Some(Header { fin, opcode, header_bytes, payload_bytes }))
        }
        _ => Err(WebSocketError::TooLong),
    }
}

/// Masks in place, eight bytes at a time (RFC 6455 §5.3).
fn mask(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Ok(bytes) = <[u8; 8]>::try_from(&*chunk) {
            chunk.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
        }
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// SplitMix64: each masking key is a hash of a counter that starts at an unpredictable seed.
#[derive(Debug)]
struct MaskingKeys(u64);

impl MaskingKeys {
    fn next(&mut self) -> [u8; 4] {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) as u32).to_ne_bytes()
    }
}

/// 1 MiB: 100 s of base64 µ-law in one message; a server that sends more at once is broken.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// 256 KiB a byte of a tick: ten to twenty seconds of audio messages, of 430 and 260 bytes of G.711 or 1,330 of 24 kHz,
/// behind a full kernel buffer.
pub(super) const OUTBOUND_BYTES_MAX: usize = 256 << 10;

/// 4 KiB: nine 20 ms frames of base64 µ-law; grows for larger messages and keeps what it grew to.
const READ_BYTES: usize = 4096;

/// 4 KiB, as for reading. Pongs are skipped above it: a peer that does not read gets no answers.
const WRITE_BYTES: usize = 4096;

/// Two bytes, eight of length, four of key.
const LONG_HEADER_BYTES: usize = 14;

/// Frames as the other side writes and reads them.
#[cfg(test)]
pub(crate) mod frames {
    /// A frame of the server's: `first` is its first byte.
    pub(crate) fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..=125 => frame.push(length as u8),
            length => {
                frame.push(126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    /// The frames of the client's, by their first byte, with their masks taken off.
    pub(in crate::agent) fn client_frames(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let (mut frames, mut rest) = (Vec::new(), bytes);
        while let [first, second, tail @ ..] = rest {
            assert_eq!(second & 0x80, 0x80, "client frames are masked");
            let (length, tail) = match second & 0x7f {
                126 => (u16::from_be_bytes([tail[0], tail[1]]) as usize, &tail[2..]),
                127 => (u64::from_be_bytes(tail[..8].try_into().expect("eight")) as usize, &tail[8..]),
                length => (length as usize, tail),
            };
            let key = &tail[..4];
            let payload = tail[4..4 + length].iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]).collect();
            frames.push((*first, payload));
            rest = &tail[4 + length..];
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::frames::{client_frames, server_frame};
    use super::*;

    #[test]
    fn a_message_is_read_whole_wherever_it_is_cut() {
        let frame = server_frame(0x81, b"hello");
        for cut in 0..frame.len() {
            let mut socket = WebSocket::new(1);
            socket.handle_bytes(&frame[..cut]);
            assert_eq!(socket.next_message(), Ok(None), "cut at {cut}");
            socket.handle_bytes(&frame[cut..]);
            assert_eq!(socket.next_message(), Ok(Some(Message::Text("hello"))), "cut at {cut}");
            assert_eq!(socket.next_message(), Ok(None));
        }
    }

    #[test]
    fn fragments_join_around_a_ping_and_the_ping_is_answered() {
        let mut socket = WebSocket::new(1);
        socket.handle_bytes(&server_frame(0x01, b"he"));
        socket.handle_bytes(&server_frame(0x89, b"are you there"));
        socket.handle_bytes(&server_frame(0x80, b"llo"));
        assert_eq!(socket.next_message(), Ok(Some(Message::Text("hello"))));
        assert_eq!(client_frames(socket.outbound()), [(0x8a, b"are you there".to_vec())]);
    }

    #[test]
    fn what_we_send_is_masked_and_reads_back_at_each_length_form() {
        for length in [0, 1, 125, 126, 127, 0xffff, 0x1_0000] {
            let mut socket = WebSocket::new(7);
            let payload = vec![b'x'; length];
            socket.send_text(|out| out.extend_from_slice(&payload));
            socket.send_text(|out| out.extend_from_slice(b"next"));
            let frames = client_frames(socket.outbound());
            assert_eq!(frames, [(0x81, payload), (0x81, b"next".to_vec())], "length {length}");
        }
    }

    #[test]
    fn two_frames_never_share_a_masking_key() {
        let mut keys = MaskingKeys(3);
        assert_ne!(keys.next(), keys.next());
    }

    #[test]
    fn a_close_is_answered_once_and_nothing_follows_it() {
        let mut socket = WebSocket::new(1);
        socket.handle_bytes(&server_frame(0x88, &1001u16.to_be_bytes()));
        assert_eq!(socket.next_message(), Ok(Some(Message::Close(Some(1001)))));
        socket.close(1000);
        socket.send_text(|out| out.extend_from_slice(b"late"));
        assert_eq!(client_frames(socket.outbound()), [(0x88, 1001u16.to_be_bytes().to_vec())]);
    }

    #[test]
    fn what_breaks_the_protocol_is_refused() {
        for (bytes, error) in [
            (vec![0xc1, 0], WebSocketError::Protocol),           // a reserved bit
            (vec![0x81, 0x80], WebSocketError::Protocol),        // masked by a server
            (vec![0x83, 0], WebSocketError::Protocol),           // a reserved opcode
            (vec![0x80, 0], WebSocketError::Protocol),           // a continuation of nothing
            (vec![0x09, 0], WebSocketError::Protocol),           // a fragmented ping
            (vec![0x89, 126, 0, 126], WebSocketError::Protocol), // a ping above 125 bytes
            (vec![0x88, 1, 3], WebSocketError::Protocol),        // half a close code
            (server_frame(0x81, &[0xff]), WebSocketError::NotUtf8),
            (vec![0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0], WebSocketError::TooLong),
        ] {
            let mut socket = WebSocket::new(1);
            socket.handle_bytes(&bytes);
            assert_eq!(socket.next_message(), Err(error), "{bytes:x?}");
        }
    }

    #[test]
    fn endless_fragments_are_cut_off_at_the_bound() {
        let mut socket = WebSocket::new(1);
        socket.handle_bytes(&server_frame(0x02, &[0; 60_000]));
        for _ in 0..(MESSAGE_BYTES_MAX / 60_000 - 1) {
            socket.handle_bytes(&server_frame(0x00, &[0; 60_000]));
            assert_eq!(socket.next_message(), Ok(None));
        }
        socket.handle_bytes(&server_frame(0x00, &[0; 60_000]));
        assert_eq!(socket.next_message(), Err(WebSocketError::TooLong));
    }
}
