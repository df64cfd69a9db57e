//! A call over AudioSocket: `AudioSocket(<uuid>,box:9092)` or `Dial(AudioSocket/box:9092/<uuid>/c(slin))`.

use std::collections::VecDeque;
use std::time::Duration;

use talkstack_media::audio::frame::{Form, SampleRate};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{FIRST_MAX, Far, FromAsterisk, Incoming, Shared, carry, write};
use crate::asterisk::audiosocket::{write_audio, write_hang_up};
use crate::asterisk::channel::{Channel, Told};

/// The connection. Asterisk's older versions take nothing but audio and a hang-up from us.
struct Socket {
    stream: TcpStream,
    channel: Channel,
    buffer: Vec<u8>,
    /// What Asterisk hears.
    rate: SampleRate,
    /// Keys that were pressed before the first audio.
    early: VecDeque<char>,
}

pub(super) async fn serve(stream: TcpStream, shared: &Shared) {
    let (channel, buffer) = (Channel::default(), vec![0; READ_BYTES]);
    let mut socket = Socket { stream, channel, buffer, rate: SampleRate::Hz8000, early: VecDeque::new() };
    // Whoever only looks whether the port is open says nothing, and is told nothing.
    let Ok(Some(Told::Began(caller))) = timeout(FIRST_MAX, socket.told()).await else { return };
    // The first frame tells how the channel sounds; one that has none yet sounds as most do.
    match timeout(SOUND_MAX, socket.await_audio()).await {
        Ok(Some(Told::Audio(..))) | Err(_) => {}
        Ok(Some(Told::Mislabelled)) => {
            warn_of_label();
            return socket.hang_up().await;
        }
        Ok(_) => return,
    }
    let (called, form) = (shared.config.number.clone(), Form::Linear(socket.rate));
    carry(&mut socket, Incoming { called, caller, name: String::new(), form }, shared).await;
}

impl Socket {
    /// What Asterisk tells next; `None` when the connection has ended.
    async fn told(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.channel.poll_told() {
                return Some(told);
            }
            let bytes = self.stream.read(&mut self.buffer).await.ok().filter(|bytes| *bytes > 0)?;
            self.channel.handle_bytes(&self.buffer[..bytes]);
        }
    }

    /// Waits for audio, which is not heard: nobody is there yet. Keys are kept.
    async fn await_audio(&mut self) -> Option<Told> {
        loop {
            match self.told().await? {
                Told::Audio(rate, samples) => {
                    self.rate = rate;
                    return Some(Told::Audio(rate, samples));
                }
                Told::Key(key) if self.early.len() < EARLY_MAX => self.early.push_back(key),
                Told::Key(_) => {}
                told => return Some(told),
            }
        }
    }
}

impl Far for Socket {
    async fn next(&mut self) -> FromAsterisk {
        if let Some(key) = self.early.pop_front() {
            return FromAsterisk::Key(key);
        }
        match self.told().await {
            Some(Told::Audio(rate, samples)) => FromAsterisk::Audio(Form::Linear(rate), samples),
            Some(Told::Key(key)) => FromAsterisk::Key(key),
            Some(Told::Mislabelled) => {
                warn_of_label();
                FromAsterisk::HungUp
            }
            Some(Told::HungUp) | None => FromAsterisk::HungUp,
            Some(Told::Began(_) | Told::NoCall) => FromAsterisk::Nothing,
        }
    }

    async fn play(&mut self, audio: Vec<u8>) -> bool {
        let mut frame = Vec::with_capacity(audio.len() + 3);
        write_audio(&mut frame, self.rate, &audio);
        write(&mut self.stream, &frame).await
    }

    async fn hang_up(&mut self) {
        let mut frame = Vec::new();
        write_hang_up(&mut frame);
        if write(&mut self.stream, &frame).await {
            // Closing with octets unread would reset the connection, and the hang-up be lost.
            let _ = timeout(SOUND_MAX, async { while self.told().await.is_some() {} }).await;
        }
    }
}

fn warn_of_label() {
    tracing::warn!(
        "Refused a call of an Asterisk: it sends G.711 over AudioSocket; add /c(slin) to its Dial, as in \
         Dial(AudioSocket/host:port/uuid/c(slin))"
    );
}

/// 300 ms for the first frame, or for Asterisk to close behind a hang-up.
const SOUND_MAX: Duration = Duration::from_millis(300);

/// 32 keys: a card's number, and more than Dial's `D()` presses in that time.
const EARLY_MAX: usize = 32;

/// 4 KiB: twelve frames.
const READ_BYTES: usize = 4096;
