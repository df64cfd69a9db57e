//! What a cascade's machine and the task that talks to its services tell each other, over a local socket.
//!
//! A message is one byte of kind, four of the number of what it belongs to, four of its payload's length, both
//! big-endian, and the payload. Each request has a number of its own, and whatever comes of it carries it: an answer to
//! something that nobody wants any more is known by its number.

use talkstack_media::audio::frame::SampleRate;

use crate::agent::AgentLoss;

/// What the task is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order<'a> {
    /// The caller begins to speak: what was heard before is forgotten.
    Listen,
    /// More of what the caller says, 16-bit samples at 16 kHz.
    Hear(&'a [u8]),
    /// Write down what has been heard since [`Order::Listen`].
    Transcribe,
    /// Ask the model; the body of a chat completion's request.
    Think(&'a [u8]),
    /// Speak a text to a line of this rate.
    Speak(SampleRate, &'a str),
    /// Nobody wants the answer any more.
    Cancel,
}

/// What has become of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News<'a> {
    /// What the caller said; empty if nothing can be made out.
    Transcript(&'a str),
    /// More of the model's words.
    Words(&'a str),
    /// The model calls a function: [`super::chat::FunctionCall`] as JSON.
    Call(&'a [u8]),
    /// The model has finished.
    Thought,
    /// The rate of the samples that follow.
    Rate(SampleRate),
    /// More of a text as it was spoken, 16-bit samples.
    Sound(&'a [u8]),
    /// The text has been spoken.
    Spoken,
    /// The service has failed.
    Failed(Failure),
}

/// Why a service gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection, or it broke.
    #[error("the service cannot be reached")]
    Unreachable,
    /// It refuses the request, the key or the model.
    #[error("the service refuses what it is asked")]
    Refused,
    /// It fails again and again, or never answers.
    #[error("the service fails")]
    Failing,
    /// What it sends cannot be read.
    #[error("the service answers in a form that cannot be read")]
    Format,
}

impl From<Failure> for AgentLoss {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable => AgentLoss::Unreachable,
            Failure::Refused => AgentLoss::Refused,
            Failure::Failing => AgentLoss::Failing,
            Failure::Format => AgentLoss::Format,
        }
    }
}

/// A message that neither side writes: a fault of this box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message between the call and its services is none")]
pub struct BadMessage;

/// A message that has come whole.
struct Message<'a> {
    kind: u8,
    number: u32,
    payload: &'a [u8],
}

/// The messages that have come.
#[derive(Default)]
pub struct Inbound {
    bytes: Vec<u8>,
    read: usize,
}

impl Inbound {
    /// Takes bytes as they came.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message.
    ///
    /// # Errors
    /// [`BadMessage`] when it is longer than [`PAYLOAD_BYTES_MAX`].
    fn next(&mut self) -> Result<Option<Message<'_>>, BadMessage> {
        let Some(([kind, rest @ ..], behind)) = self.bytes[self.read..].split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [a, b, c, d, e, f, g, h] = *rest;
        let (number, length) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]) as usize);
        if length > PAYLOAD_BYTES_MAX {
            return Err(BadMessage);
        }
        let Some(payload) = behind.get(..length) else { return Ok(None) };
        self.read += HEADER_BYTES + length;
        Ok(Some(Message { kind: *kind, number, payload }))
    }

    /// The next order.
    ///
    /// # Errors
    /// [`BadMessage`].
    pub fn next_order(&mut self) -> Result<Option<(u32, Order<'_>)>, BadMessage> {
        let Some(Message { kind, number, payload }) = self.next()? else { return Ok(None) };
        let order = match kind {
            LISTEN => Order::Listen,
            HEAR => Order::Hear(payload),
            TRANSCRIBE => Order::Transcribe,
            THINK => Order::Think(payload),
            SPEAK => {
                let (rate, text) = payload.split_first_chunk::<4>().ok_or(BadMessage)?;
                Order::Speak(rate_of(u32::from_be_bytes(*rate))?, text_of(text)?)
            }
            CANCEL => Order::Cancel,
            _ => return Err(BadMessage),
        };
        Ok(Some((number, order)))
    }

    /// The next of what has become of orders.
    ///
    /// # Errors
    /// [`BadMessage`].
    pub fn next_news(&mut self) -> Result<Option<(u32, News<'_>)>, BadMessage> {
        let Some(Message { kind, number, payload }) = self.next()? else { return Ok(None) };
        let news = match (kind, payload) {
            (TRANSCRIPT, text) => News::Transcript(text_of(text)?),
            (WORDS, text) => News::Words(text_of(text)?),
            (CALL, json) => News::Call(json),
            (THOUGHT, _) => News::Thought,
            (RATE, [a, b, c, d]) => News::Rate(rate_of(u32::from_be_bytes([*a, *b, *c, *d]))?),
            (SOUND, samples) => News::Sound(samples),
            (SPOKEN, _) => News::Spoken,
            (FAILED, [0]) => News::Failed(Failure::Unreachable),
            (FAILED, [1]) => News::Failed(Failure::Refused),
            (FAILED, [2]) => News::Failed(Failure::Failing),
            (FAILED, [3]) => News::Failed(Failure::Format),
            _ => return Err(BadMessage),
        };
        Ok(Some((number, news)))
    }
}

impl Order<'_> {
    /// Appends the order as a message.
    pub fn write(self, number: u32, out: &mut Vec<u8>) {
        match self {
            Order::Listen => write(out, LISTEN, number, &[]),
            Order::Hear(samples) => write(out, HEAR, number, &[samples]),
            Order::Transcribe => write(out, TRANSCRIBE, number, &[]),
            Order::Think(body) => write(out, THINK, number, &[body]),
            Order::Speak(rate, text) => write(out, SPEAK, number, &[&rate.hertz().to_be_bytes(), text.as_bytes()]),
            Order::Cancel => write(out, CANCEL, number, &[]),
        }
    }
}

impl News<'_> {
    /// Appends the news as a message; what is longer than a message may be is cut, text at a letter.
    pub fn write(self, number: u32, out: &mut Vec<u8>) {
        match self {
            News::Transcript(text) => write(out, TRANSCRIPT, number, &[cut(text).as_bytes()]),
            News::Words(text) => write(out, WORDS, number, &[cut(text).as_bytes()]),
            News::Call(json) => write(out, CALL, number, &[&json[..json.len().min(PAYLOAD_BYTES_MAX)]]),
            News::Thought => write(out, THOUGHT, number, &[]),
            News::Rate(rate) => write(out, RATE, number, &[&rate.hertz().to_be_bytes()]),
            News::Sound(samples) => write(out, SOUND, number, &[&samples[..samples.len().min(PAYLOAD_BYTES_MAX)]]),
            News::Spoken => write(out, SPOKEN, number, &[]),
            News::Failed(failure) => write(out, FAILED, number, &[&[failure as u8]]),
        }
    }
}

fn write(out: &mut Vec<u8>, kind: u8, number: u32, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(kind);
    out.extend_from_slice(&number.to_be_bytes());
    // What is longer than 4 GiB is refused by whoever reads it.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(PAYLOAD_BYTES_MAX)).rfind(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or_default()]
}

fn text_of(bytes: &[u8]) -> Result<&str, BadMessage> {
    std::str::from_utf8(bytes).map_err(|_| BadMessage)
}

fn rate_of(hertz: u32) -> Result<SampleRate, BadMessage> {
    SampleRate::ALL.into_iter().find(|rate| rate.hertz() == hertz).ok_or(BadMessage)
}

/// Kind, number and length.
const HEADER_BYTES: usize = 9;

/// 1 MiB: a request with all that was said in a call (the history keeps 256 KiB), twice escaped. Nothing that is
/// written here comes near it; a message beyond is a fault, and the agent is lost.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

const LISTEN: u8 = 1;
const HEAR: u8 = 2;
const TRANSCRIBE: u8 = 3;
const THINK: u8 = 4;
const SPEAK: u8 = 5;
const CANCEL: u8 = 6;
const TRANSCRIPT: u8 = 17;
const WORDS: u8 = 18;
const CALL: u8 = 19;
const THOUGHT: u8 = 20;
const RATE: u8 = 21;
const SOUND: u8 = 22;
const SPOKEN: u8 = 23;
const FAILED: u8 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_news_are_read_as_they_were_written_wherever_they_are_cut() {
        let orders = [
            Order::Listen,
            Order::Hear(&[1, 2, 3, 4]),
            Order::Transcribe,
            Order::Think(b"{}"),
            Order::Speak(SampleRate::Hz8000, "Grüß Gott."),
            Order::Cancel,
        ];
        let news = [
            News::Transcript(""),
            News::Words("Grüß"),
            News::Call(b"{}"),
            News::Thought,
            News::Rate(SampleRate::Hz24000),
            News::Sound(&[5, 6]),
            News::Spoken,
            News::Failed(Failure::Unreachable),
            News::Failed(Failure::Refused),
            News::Failed(Failure::Failing),
            News::Failed(Failure::Format),
        ];
        let (mut ordered, mut told) = (Vec::new(), Vec::new());
        orders.iter().zip(7..).for_each(|(order, number)| order.write(number, &mut ordered));
        news.iter().zip(7..).for_each(|(news, number)| news.write(number, &mut told));
        for step in [1, 3, 8, 1000] {
            let (mut inbound, mut at) = (Inbound::default(), 0);
            for bytes in ordered.chunks(step) {
                inbound.handle_bytes(bytes);
                while let Some(read) = inbound.next_order().expect("an order") {
                    assert_eq!(read, (7 + at as u32, orders[at]));
                    at += 1;
                }
            }
            assert_eq!(at, orders.len());
            let (mut inbound, mut at) = (Inbound::default(), 0);
            for bytes in told.chunks(step) {
                inbound.handle_bytes(bytes);
                while let Some(read) = inbound.next_news().expect("news") {
                    assert_eq!(read, (7 + at as u32, news[at]));
                    at += 1;
                }
            }
            assert_eq!(at, news.len());
        }
    }

    #[test]
    fn what_nobody_writes_is_refused() {
        let message = |kind: u8, payload: &[u8]| {
            let mut bytes = Vec::new();
            write(&mut bytes, kind, 1, &[payload]);
            bytes
        };
        for bytes in [
            message(0, &[]),
            message(SPEAK, &[0, 0]),
            message(SPEAK, &[0, 0, 0x1f, 0x41]),
            message(TRANSCRIPT, &[0xff]),
            message(RATE, &[0]),
            message(RATE, &[0, 0, 0x56, 0x22]),
            message(FAILED, &[9]),
            [SOUND, 0, 0, 0, 1, 0, 0x20, 0, 0].to_vec(),
        ] {
            let mut inbound = Inbound::default();
            inbound.handle_bytes(&bytes);
            assert_eq!(inbound.next_news(), Err(BadMessage), "{bytes:?}");
            let mut inbound = Inbound::default();
            inbound.handle_bytes(&bytes);
            assert_eq!(inbound.next_order(), Err(BadMessage), "{bytes:?}");
        }
    }
}
