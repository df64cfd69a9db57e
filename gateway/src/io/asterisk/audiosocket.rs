//! A call over AudioSocket: `AudioSocket(<uuid>,box:9092)` or `Dial(AudioSocket/box:9092/<uuid>/c(slin))`.

use std::time::Duration;

use talkstack_media::audio::frame::{Form, SampleRate};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{FIRST_MAX, Far, FromAsterisk, Incoming, Shared, carry, write};
use crate::asterisk::audiosocket::{Frame, Frames, rate, write_audio, write_hang_up};

/// The connection. Asterisk's older versions take nothing but audio and a hang-up from us.
struct Socket {
    stream: TcpStream,
    frames: Frames,
    buffer: Vec<u8>,
    /// What Asterisk hears.
    rate: SampleRate,
}

pub(super) async fn serve(stream: TcpStream, shared: &Shared) {
    let buffer = vec![0; READ_BYTES];
    let mut socket = Socket { stream, frames: Frames::default(), buffer, rate: SampleRate::Hz8000 };
    // Whoever only looks whether the port is open says nothing, and is told nothing.
    let Ok(Some(id)) = timeout(FIRST_MAX, socket.id()).await else { return };
    // The first frame tells how the channel sounds; one that has none yet sounds as most do.
    match timeout(SOUND_MAX, socket.first_audio()).await {
        Ok(None) => return,
        Ok(Some(Err(Mislabelled))) => {
            tracing::warn!(
                "Refused a call of an Asterisk: it sends G.711 over AudioSocket; add /c(slin) to its Dial, as in \
                 Dial(AudioSocket/host:port/uuid/c(slin))"
            );
            return socket.hang_up().await;
        }
        Ok(Some(Ok(()))) | Err(_) => {}
    }
    let called = shared.config.number.clone();
    let incoming = Incoming { called, name: String::new(), caller: id, form: Form::Linear(socket.rate) };
    carry(&mut socket, incoming, shared).await;
}

/// Audio that says it is samples, and is not.
struct Mislabelled;

impl Socket {
    /// The id that comes first, as UUIDs are written; `None` when something else does.
    async fn id(&mut self) -> Option<String> {
        loop {
            match self.frames.next_frame() {
                Some(Frame::Id(id)) => {
                    let number = u128::from_be_bytes(id.try_into().ok()?);
                    let hex = format!("{number:032x}");
                    return Some([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"));
                }
                Some(_) => return None,
                None => self.read().await?,
            }
        }
    }

    /// Waits for a frame of audio, which is not heard: nobody is there yet.
    async fn first_audio(&mut self) -> Option<Result<(), Mislabelled>> {
        loop {
            match self.frames.next_frame() {
                Some(Frame::Audio { hertz: 8000, samples }) if samples.len() == G711_BYTES => {
                    return Some(Err(Mislabelled));
                }
                Some(Frame::Audio { hertz, .. }) => {
                    self.rate = rate(hertz)?;
                    return Some(Ok(()));
                }
                Some(Frame::HangUp) => return None,
                Some(_) => {}
                None => self.read().await?,
            }
        }
    }

    /// Reads until Asterisk closes.
    async fn read_out(&mut self) {
        while self.read().await.is_some() {
            while self.frames.next_frame().is_some() {}
        }
    }

    /// Reads once; `None` when the connection has ended.
    async fn read(&mut self) -> Option<()> {
        let bytes = self.stream.read(&mut self.buffer).await.ok().filter(|bytes| *bytes > 0)?;
        self.frames.handle_bytes(&self.buffer[..bytes]);
        Some(())
    }
}

impl Far for Socket {
    async fn next(&mut self) -> FromAsterisk {
        loop {
            match self.frames.next_frame() {
                Some(Frame::Audio { hertz, samples }) => match rate(hertz) {
                    Some(rate) => return FromAsterisk::Audio(Form::Linear(rate), samples.to_vec()),
                    None => return FromAsterisk::Nothing,
                },
                Some(Frame::Key(key)) => return FromAsterisk::Key(key),
                Some(Frame::HangUp) => return FromAsterisk::HungUp,
                Some(Frame::Error(code)) => {
                    tracing::warn!(code, "An Asterisk reports an error over AudioSocket");
                    return FromAsterisk::HungUp;
                }
                Some(Frame::Id(_) | Frame::Unknown(_)) => return FromAsterisk::Nothing,
                None => {
                    if self.read().await.is_none() {
                        return FromAsterisk::HungUp;
                    }
                }
            }
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
            let _ = timeout(SOUND_MAX, self.read_out()).await;
        }
    }
}

/// 20 ms of G.711. Of samples it would be 10 ms, which no Asterisk sends.
const G711_BYTES: usize = 160;

/// 300 ms for the first frame, or for Asterisk to close behind a hang-up.
const SOUND_MAX: Duration = Duration::from_millis(300);

/// 4 KiB: twelve frames.
const READ_BYTES: usize = 4096;
