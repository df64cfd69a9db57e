//! SIP over TCP: one task a connection, bounded in number, in time and in what waits to be written.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use talkstack_media::sip::stream::{Framed, PONG, StreamFramer};
use talkstack_media::sip::{Flow, StreamId, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Received;

/// The connections that are open.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: HashMap<StreamId, Open>,
    per_source: HashMap<IpAddr, usize>,
    next_id: u64,
}

#[derive(Debug)]
struct Open {
    flow: Flow,
    writer: mpsc::Sender<Vec<u8>>,
}

/// A connection that was accepted.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stream: TcpStream,
    pub(super) remote: SocketAddr,
}

impl Streams {
    /// Takes a connection over, or closes it when there are too many.
    pub(super) fn adopt(&mut self, opened: Opened, sender: &mpsc::Sender<Received>) {
        let Opened { stream, remote } = opened;
        let of_source = self.per_source.entry(remote.ip()).or_default();
        let Ok(local) = stream.local_addr() else { return };
        if self.open.len() >= STREAMS_MAX || *of_source >= STREAMS_PER_SOURCE_MAX {
            return;
        }
        *of_source += 1;
        self.next_id += 1;
        let id = StreamId(self.next_id);
        let (writer, outgoing) = mpsc::channel(OUTGOING_MAX);
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        let flow = Flow { transport: Transport::Tcp, local, remote, stream: Some(id) };
        self.open.insert(id, Open { flow, writer: writer.clone() });
        // Held weakly: when the stream is forgotten its queue closes and the task ends.
        tokio::spawn(serve(id, stream, writer.downgrade(), outgoing, sender.clone()));
    }

    pub(super) fn flow(&self, id: StreamId) -> Option<Flow> {
        self.open.get(&id).map(|open| open.flow)
    }

    /// Queues bytes; a peer that does not read loses its connection.
    pub(super) fn send(&mut self, id: StreamId, bytes: Vec<u8>) {
        if self.open.get(&id).is_some_and(|open| open.writer.try_send(bytes).is_err()) {
            self.forget(id);
        }
    }

    /// The connection is gone, or is to go: its task ends when its queue is dropped.
    pub(super) fn forget(&mut self, id: StreamId) {
        let Some(open) = self.open.remove(&id) else { return };
        if let Some(count) = self.per_source.get_mut(&open.flow.remote.ip()) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&open.flow.remote.ip());
            }
        }
    }
}

/// Reads and writes one connection until either side ends it.
async fn serve(
    id: StreamId,
    stream: TcpStream,
    writer: mpsc::WeakSender<Vec<u8>>,
    mut outgoing: mpsc::Receiver<Vec<u8>>,
    sender: mpsc::Sender<Received>,
) {
    let _ = stream.set_nodelay(true);
    let (mut reading, mut writing) = stream.into_split();
    let write = async move {
        while let Some(bytes) = outgoing.recv().await {
            if !matches!(timeout(WRITE_MAX, writing.write_all(&bytes)).await, Ok(Ok(()))) {
                return;
            }
        }
    };
    let read = async {
        let mut framer = StreamFramer::default();
        let mut patience = FIRST_BYTE_MAX;
        loop {
            let mut buffer = [0; READ_BYTES];
            let Ok(Ok(bytes @ 1..)) = timeout(patience, reading.read(&mut buffer)).await else { return };
            framer.handle_bytes(&buffer[..bytes]);
            loop {
                match framer.next_framed() {
                    Ok(Some(Framed::Message(bytes))) => {
                        if sender.send(Received::Message { stream: id, bytes }).await.is_err() {
                            return;
                        }
                    }
                    Ok(Some(Framed::Ping)) => {
                        let Some(writer) = writer.upgrade() else { return };
                        // A peer that pings without reading needs no pong.
                        let _ = writer.try_send(PONG.to_vec());
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!("Closed a SIP connection: {error}");
                        return;
                    }
                }
            }
            patience = if framer.is_partial() { MESSAGE_MAX } else { IDLE_MAX };
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
    // The thread may have stopped.
    let _ = sender.send(Received::Closed { stream: id }).await;
}

/// 1,024 connections: every extension of a large PBX.
const STREAMS_MAX: usize = 1024;

/// 64 from one address: a PBX with a connection per trunk group.
const STREAMS_PER_SOURCE_MAX: usize = 64;

/// 64 messages wait at the most; a peer further behind does not read.
const OUTGOING_MAX: usize = 64;

/// 4 KiB: most messages in one read.
const READ_BYTES: usize = 4096;

/// 10 s to the first byte.
const FIRST_BYTE_MAX: Duration = Duration::from_secs(10);

/// 30 s between two parts of one message.
const MESSAGE_MAX: Duration = Duration::from_secs(30);

/// 30 min between messages: a registration's refresh, a session timer, or the keep-alives of RFC 5626.
const IDLE_MAX: Duration = Duration::from_secs(1800);

/// 10 s to write one message.
const WRITE_MAX: Duration = Duration::from_secs(10);
