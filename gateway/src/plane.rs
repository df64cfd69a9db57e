//! The call plane's end of the pipe to control: records up, snapshots and commands down.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use talkstack_control::port::{
    Command, CommandId, CommandReply, Decoder, PROTOCOL_VERSION, Snapshot, ToCalls, ToControl, encode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::io::sip::ToSip;
use crate::journal::JournalHandle;
use crate::serve::Auditions;
use crate::snapshot_file;

/// What the pipe's end works on.
#[derive(Debug, Clone)]
pub struct Plane {
    /// Where records come from.
    pub journal: JournalHandle,
    /// Who routes and carries out commands.
    pub sip: mpsc::Sender<ToSip>,
    /// Where the last snapshot is kept.
    pub snapshot_path: PathBuf,
    /// Who tries providers out.
    pub auditions: Auditions,
}

/// The pipe is closed for a reason. Control connects again.
#[derive(Debug, thiserror::Error)]
pub enum PlaneClosed {
    /// The other end is gone.
    #[error("control has gone")]
    Gone,
    /// The pipe failed.
    #[error("the pipe to control failed")]
    Io(#[from] std::io::Error),
    /// A message that cannot be read.
    #[error("control sent what cannot be read")]
    Decode(#[from] talkstack_control::port::DecodeError),
    /// The journal is full of events, being rewritten, or closed. Control connects again.
    #[error("the journal has no room for a subscriber now")]
    Journal,
    /// Another protocol.
    #[error("control speaks version {0} of the pipe, this is version {PROTOCOL_VERSION}; upgrade both")]
    Version(u32),
}

impl Plane {
    /// Serves one control after the other on a Unix socket; the newest wins.
    pub async fn listen(self, listener: UnixListener) {
        let mut served: Option<tokio::task::JoinHandle<()>> = None;
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let own = rustix::process::geteuid().as_raw();
            let is_ours = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own);
            if !is_ours {
                tracing::warn!("Refused a connection to the call plane from another user");
                continue;
            }
            if let Some(former) = served.take() {
                former.abort();
            }
            served = Some(tokio::spawn(self.clone().serve(stream)));
        }
    }

    /// Serves one connection until it ends.
    pub async fn serve(self, stream: UnixStream) {
        match self.converse(stream).await {
            Ok(()) | Err(PlaneClosed::Gone) => tracing::info!("Control has disconnected; calls go on"),
            Err(error @ PlaneClosed::Journal) => tracing::debug!("{error}"),
            Err(error) => tracing::warn!("{error}; calls go on"),
        }
    }

    async fn converse(self, stream: UnixStream) -> Result<(), PlaneClosed> {
        let (mut reader, mut writer) = stream.into_split();
        send(&mut writer, &ToControl::Hello { version: PROTOCOL_VERSION }).await?;
        let mut decoder = Decoder::default();
        let stored = match receive(&mut reader, &mut decoder).await? {
            ToCalls::Hello { version: PROTOCOL_VERSION, stored } => stored,
            ToCalls::Hello { version, .. } => return Err(PlaneClosed::Version(version)),
            _ => return Err(PlaneClosed::Gone),
        };
        // Replies go the same way: none may overtake a list of the calls that are up and that does not have its call yet.
        let (sender, mut outgoing) = mpsc::channel(OUTGOING_MAX);
        self.journal.subscribe(stored, sender.clone()).await.map_err(|_| PlaneClosed::Journal)?;
        let write = async {
            while let Some(message) = outgoing.recv().await {
                send(&mut writer, &message).await?;
            }
            Ok::<(), PlaneClosed>(())
        };
        let read = async {
            let mut session = Session { plane: &self, replies: sender, revision: None };
            loop {
                let message = receive(&mut reader, &mut decoder).await?;
                session.handle(message).await?;
            }
        };
        tokio::select! {
            ended = write => ended,
            ended = read => ended,
        }
    }
}

/// One connection's state.
struct Session<'a> {
    plane: &'a Plane,
    replies: mpsc::Sender<ToControl>,
    revision: Option<u64>,
}

impl Session<'_> {
    async fn handle(&mut self, message: ToCalls) -> Result<(), PlaneClosed> {
        match message {
            ToCalls::Hello { .. } => {}
            ToCalls::Ack(position) => self.plane.journal.acknowledge(position),
            ToCalls::Snapshot(snapshot) => self.apply(snapshot).await?,
            ToCalls::Command { command_id, command } => {
                let slow = command.time();
                let (sender, receiver) = oneshot::channel();
                let sent = match command {
                    Command::Audition(order) => {
                        self.plane.auditions.begin(*order, sender);
                        Ok(())
                    }
                    command => self.plane.sip.send(ToSip::Command(command_id.clone(), command, sender)).await,
                };
                if let Some(time) = slow {
                    // Nothing that is sent meanwhile waits for it; the SIP thread bounds how many there are.
                    let replies = self.replies.clone();
                    tokio::spawn(async move {
                        let reply = awaited(command_id, sent.is_ok(), receiver, time + COMMAND_MAX).await;
                        // Control may have disconnected.
                        let _ = replies.send(reply).await;
                    });
                    return Ok(());
                }
                let reply = awaited(command_id, sent.is_ok(), receiver, COMMAND_MAX).await;
                self.replies.send(reply).await.map_err(|_| PlaneClosed::Gone)?;
            }
        }
        Ok(())
    }

    /// Routes by a snapshot and keeps it. A lower revision never replaces a higher one of the same connection.
    async fn apply(&mut self, snapshot: Snapshot) -> Result<(), PlaneClosed> {
        if self.revision.is_some_and(|revision| snapshot.revision < revision) {
            return Ok(());
        }
        let revision = snapshot.revision;
        self.revision = Some(revision);
        let snapshot = Arc::new(snapshot);
        let (sender, applied) = oneshot::channel();
        let message = ToSip::Snapshot(Arc::clone(&snapshot), Some(sender));
        self.plane.sip.send(message).await.map_err(|_| PlaneClosed::Gone)?;
        applied.await.map_err(|_| PlaneClosed::Gone)?;
        self.replies.send(ToControl::Applied { revision }).await.map_err(|_| PlaneClosed::Gone)?;
        let path = self.plane.snapshot_path.clone();
        let saved = tokio::task::spawn_blocking(move || snapshot_file::save(&path, &snapshot)).await;
        if let Ok(Err(error)) = saved {
            tracing::error!("Cannot keep the configuration for a start without control ({error})");
        }
        Ok(())
    }
}

/// The answer to a command, or that none came in time.
async fn awaited(
    command_id: CommandId,
    is_sent: bool,
    receiver: oneshot::Receiver<CommandReply>,
    time: Duration,
) -> ToControl {
    let reply = match tokio::time::timeout(time, receiver).await {
        Ok(Ok(reply)) if is_sent => reply,
        _ => CommandReply::Busy,
    };
    ToControl::Reply { command_id, reply }
}

async fn send<T: Serialize>(writer: &mut OwnedWriteHalf, message: &T) -> Result<(), PlaneClosed> {
    let mut bytes = Vec::new();
    encode(message, &mut bytes)?;
    Ok(writer.write_all(&bytes).await?)
}

async fn receive(reader: &mut OwnedReadHalf, decoder: &mut Decoder) -> Result<ToCalls, PlaneClosed> {
    loop {
        if let Some(message) = decoder.next_message()? {
            return Ok(message);
        }
        let mut buffer = [0; READ_BYTES];
        match reader.read(&mut buffer).await? {
            0 => return Err(PlaneClosed::Gone),
            bytes => decoder.feed(&buffer[..bytes]),
        }
    }
}

/// 1,024 messages to control; when it falls behind, records stay in the journal.
const OUTGOING_MAX: usize = 1024;

/// 16 KiB a read.
const READ_BYTES: usize = 16 << 10;

/// 2 s: a shard that does not answer by then is stuck.
const COMMAND_MAX: Duration = Duration::from_secs(2);
