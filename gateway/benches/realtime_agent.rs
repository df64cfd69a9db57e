//! An agent for the benchmark that says back what it hears, over OpenAI's Realtime protocol: one thread, one epoll.
//!
//! usage: realtime_agent HOST:PORT
//!
//! ```text
//!   session.created ──▶            ◀── session.update
//!   session.updated, with the formats that were asked for, response.created, response.output_item.added ──▶
//!                                  ◀── input_audio_buffer.append
//!   response.output_audio.delta, with the same base64 ──▶      one response that never ends
//! ```
//!
//! It knows nothing of the gateway. A peer that breaks the protocol, or does not read, is dropped.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use base64_simd::STANDARD;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

fn main() -> std::io::Result<()> {
    let Some(address) = std::env::args().nth(1) else {
        eprintln!("usage: realtime_agent HOST:PORT");
        std::process::exit(2);
    };
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    Agent { epoll, listener, connections: HashMap::new(), next: LISTENER + 1 }.run()
}

/// All its conversations.
struct Agent {
    epoll: OwnedFd,
    listener: TcpListener,
    connections: HashMap<u64, Connection>,
    next: u64,
}

impl Agent {
    fn run(&mut self) -> std::io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    id => {
                        if self.connections.get_mut(&id).is_some_and(|peer| peer.serve(&mut buffer).is_err()) {
                            self.connections.remove(&id);
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self) -> std::io::Result<()> {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let id = self.next;
            self.next += 1;
            epoll::add(&self.epoll, stream.as_fd(), epoll::EventData::new_u64(id), epoll::EventFlags::IN)?;
            let (inbound, outbound) = (Vec::with_capacity(READ_BYTES / 8), Vec::with_capacity(READ_BYTES / 8));
            self.connections.insert(id, Connection { stream, is_upgraded: false, inbound, outbound });
        }
        Ok(())
    }
}

/// One conversation.
struct Connection {
    stream: TcpStream,
    is_upgraded: bool,
    inbound: Vec<u8>,
    outbound: Vec<u8>,
}

/// The connection is over.
struct Over;

impl Connection {
    /// Reads what has come and answers it with one write.
    fn serve(&mut self, buffer: &mut [u8]) -> Result<(), Over> {
        match self.stream.read(buffer) {
            Ok(0) => return Err(Over),
            Ok(bytes) => self.inbound.extend_from_slice(&buffer[..bytes]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return Err(Over),
        }
        if !self.is_upgraded {
            self.upgrade();
        }
        if self.is_upgraded {
            self.answer()?;
        }
        if self.outbound.is_empty() {
            return Ok(());
        }
        let written = self.stream.write(&self.outbound);
        let is_whole = written.is_ok_and(|bytes| bytes == self.outbound.len());
        self.outbound.clear();
        if is_whole { Ok(()) } else { Err(Over) }
    }

    /// The HTTP upgrade (RFC 6455 §4.2.2), and the first event behind it.
    fn upgrade(&mut self) {
        let Some(end) = self.inbound.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return };
        let head = String::from_utf8_lossy(&self.inbound[..end]).into_owned();
        self.inbound.drain(..end + 4);
        let key = head.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
            let is_key = name.eq_ignore_ascii_case("sec-websocket-key");
            is_key.then(|| value.trim())
        });
        let key = key.unwrap_or_default();
        let accept = STANDARD.encode_to_string(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.outbound.extend_from_slice(response.as_bytes());
        self.is_upgraded = true;
        self.say(&json!({ "type": "session.created", "event_id": "event_1", "session": {
            "type": "realtime", "id": "sess_1", "audio": {
                "input": { "format": { "type": "audio/pcm", "rate": 24_000 } },
                "output": { "format": { "type": "audio/pcm", "rate": 24_000 }, "voice": "alloy" },
            },
        }}));
    }

    /// Answers every whole message.
    fn answer(&mut self) -> Result<(), Over> {
        let mut inbound = std::mem::take(&mut self.inbound);
        let mut read = 0;
        while let Some((opcode, start, end)) = unmask(&mut inbound[read..])? {
            let payload = &inbound[read + start..read + end];
            match opcode {
                TEXT => self.answer_event(std::str::from_utf8(payload).map_err(|_| Over)?)?,
                PING => put_frame(&mut self.outbound, PONG, &[payload]),
                PONG => {}
                _ => return Err(Over),
            }
            read += end;
        }
        inbound.drain(..read);
        self.inbound = inbound;
        Ok(())
    }

    fn answer_event(&mut self, text: &str) -> Result<(), Over> {
        if text.contains("\"type\":\"input_audio_buffer.append\"") {
            let (_, audio) = text.split_once("\"audio\":\"").ok_or(Over)?;
            let (audio, _) = audio.split_once('"').ok_or(Over)?;
            put_frame(&mut self.outbound, TEXT, &[DELTA_HEAD, audio.as_bytes(), b"\"}"]);
            return Ok(());
        }
        let event: Value = serde_json::from_str(text).map_err(|_| Over)?;
        if event["type"] != "session.update" {
            return Ok(());
        }
        let asked = &event["session"]["audio"];
        let format = |direction: &str| asked[direction]["format"].clone();
        self.say(&json!({ "type": "session.updated", "event_id": "event_2", "session": {
            "type": "realtime", "id": "sess_1",
            "audio": { "input": { "format": format("input") }, "output": { "format": format("output") } },
        }}));
        self.say(&json!({ "type": "response.created", "event_id": "event_3", "response": {
            "object": "realtime.response", "id": "resp_1", "status": "in_progress", "output": [],
        }}));
        self.say(&json!({
            "type": "response.output_item.added", "event_id": "event_4", "response_id": "resp_1", "output_index": 0,
            "item": { "id": "item_1", "type": "message", "status": "in_progress", "role": "assistant", "content": [] },
        }));
        Ok(())
    }

    fn say(&mut self, event: &Value) {
        put_frame(&mut self.outbound, TEXT, &[event.to_string().as_bytes()]);
    }
}

/// Appends a server's frame (RFC 6455 §5.2) whose payload is in parts; shorter than 64 KiB.
fn put_frame(out: &mut Vec<u8>, opcode: u8, parts: &[&[u8]]) {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    out.push(0x80 | opcode);
    if bytes < 126 {
        out.push(bytes as u8);
    } else {
        out.push(126);
        out.extend_from_slice(&(bytes as u16).to_be_bytes());
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Unmasks the frame at the front in place: its opcode, and where its payload begins and ends. `None` until it is whole.
/// Fragments and messages of 64 KiB have no place in a phone call.
fn unmask(bytes: &mut [u8]) -> Result<Option<(u8, usize, usize)>, Over> {
    let (first, second, extended) = match *bytes {
        [first, second, high, low, ..] => (first, second, usize::from(u16::from_be_bytes([high, low]))),
        _ => return Ok(None),
    };
    let (start, length) = match second & 0x7f {
        127 => return Err(Over),
        126 => (8, extended),
        length => (6, usize::from(length)),
    };
    if first & 0x80 == 0 || second & 0x80 == 0 {
        return Err(Over);
    }
    if bytes.len() < start + length {
        return Ok(None);
    }
    let (head, payload) = bytes.split_at_mut(start);
    let mut key = [0; 8];
    key[..4].copy_from_slice(&head[start - 4..]);
    key.copy_within(..4, 4);
    for chunk in payload[..length].chunks_mut(8) {
        chunk.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
    }
    Ok(Some((first & 0x0f, start, start + length)))
}

const DELTA_HEAD: &[u8] = br#"{"type":"response.output_audio.delta","event_id":"event_5","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"delta":""#;

/// The listener's key; connections count up behind it.
const LISTENER: u64 = 0;

/// RFC 6455 §11.8.
const TEXT: u8 = 0x1;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// 512 sockets a wake-up: more than the benchmark has calls.
const EVENTS: usize = 512;

/// 64 KiB a read: two hundred messages of 20 ms.
const READ_BYTES: usize = 1 << 16;
