//! SIP over TCP: one task a connection, bounded in number, in time and in what waits to be written.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use talkstack_media::sip::stream::{Framed, PONG, StreamFramer};
use talkstack_media::sip::{Flow, StreamId, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

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
    /// `None` when nothing more is to be written.
    writer: Option<mpsc::Sender<Vec<u8>>>,
    /// Octets that wait to be written.
    waiting: Arc<AtomicUsize>,
}

/// A connection that was accepted.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stream: TcpStream,
    pub(super) remote: SocketAddr,
}

/// A connection that is not taken over. The peer's doing; it was closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdoptError {
    /// All connections are in use.
    #[error("{STREAMS_MAX} connections are open")]
    TooMany,
    /// Its source has all that one source may have.
    #[error("{STREAMS_PER_SOURCE_MAX} connections of its source are open")]
    TooManyOfSource,
    /// It is gone already.
    #[error("it is gone already ({0})")]
    Gone(#[from] std::io::Error),
}

impl Streams {
    /// Takes a connection over.
    ///
    /// # Errors
    /// [`AdoptError`].
    pub(super) fn adopt(&mut self, opened: Opened, sender: &mpsc::Sender<Received>) -> Result<(), AdoptError> {
        let Opened { stream, remote } = opened;
        let local = stream.local_addr()?;
        if self.open.len() >= STREAMS_MAX {
            return Err(AdoptError::TooMany);
        }
        if self.per_source.get(&remote.ip()).is_some_and(|count| *count >= STREAMS_PER_SOURCE_MAX) {
            return Err(AdoptError::TooManyOfSource);
        }
        *self.per_source.entry(remote.ip()).or_default() += 1;
        self.next_id += 1;
        let id = StreamId(self.next_id);
        let (writer, outgoing) = mpsc::channel(OUTGOING_MAX);
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        let flow = Flow { transport: Transport::Tcp, local, remote, stream: Some(id) };
        let waiting = Arc::<AtomicUsize>::default();
        // Held weakly: when the stream is finished its queue closes and the task ends.
        let connection =
            Connection { id, writer: writer.downgrade(), waiting: Arc::clone(&waiting), sender: sender.clone() };
        self.open.insert(id, Open { flow, writer: Some(writer), waiting });
        tokio::spawn(connection.serve(stream, outgoing));
        Ok(())
    }

    /// Where an open connection leads.
    pub(super) fn flow(&self, id: StreamId) -> Option<Flow> {
        self.open.get(&id).filter(|open| open.writer.is_some()).map(|open| open.flow)
    }

    /// Queues bytes; a peer that does not read loses its connection.
    pub(super) fn send(&mut self, id: StreamId, bytes: Vec<u8>) {
        let Some(Open { writer: Some(writer), waiting, .. }) = self.open.get(&id) else { return };
        let length = bytes.len();
        let is_behind = waiting.fetch_add(length, Ordering::Relaxed) > OUTGOING_BYTES_MAX;
        if is_behind || writer.try_send(bytes).is_err() {
            tracing::debug!("Closed a SIP connection: its peer does not read");
            self.finish(id);
        }
    }

    /// Takes nothing more: the task ends when it has written what waits. The connection counts until then.
    pub(super) fn finish(&mut self, id: StreamId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.writer = None;
        }
    }

    /// The connection is gone.
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

/// One connection, as its task sees it.
struct Connection {
    id: StreamId,
    writer: mpsc::WeakSender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    sender: mpsc::Sender<Received>,
}

impl Connection {
    /// Reads and writes until either side ends it.
    async fn serve(self, stream: TcpStream, mut outgoing: mpsc::Receiver<Vec<u8>>) {
        let _ = stream.set_nodelay(true);
        let (mut reading, mut writing) = stream.into_split();
        let waiting = Arc::clone(&self.waiting);
        let write = async move {
            while let Some(bytes) = outgoing.recv().await {
                if !matches!(timeout(WRITE_MAX, writing.write_all(&bytes)).await, Ok(Ok(()))) {
                    break;
                }
                waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
            }
            writing
        };
        tokio::pin!(write);
        let refused_head = tokio::select! {
            _ = &mut write => None,
            head = self.read(&mut reading) => head,
        };
        // The thread may have stopped: then nobody counts what is lost.
        if let Some(bytes) = refused_head {
            let _ = self.sender.send(Received::Message { stream: self.id, bytes }).await;
            let _ = self.sender.send(Received::Finished { stream: self.id }).await;
            // Closing with octets unread would reset the connection, and the peer lose the answer.
            let farewell = async {
                let _ = write.await.shutdown().await;
                while let Ok(1..) = reading.read(&mut [0; READ_BYTES]).await {}
            };
            let _ = timeout(FAREWELL_MAX, farewell).await;
        }
        let _ = self.sender.send(Received::Closed { stream: self.id }).await;
    }

    /// Reads messages until the connection ends, or cannot be read any further: then with the head to answer from.
    async fn read(&self, reading: &mut OwnedReadHalf) -> Option<Vec<u8>> {
        let mut framer = StreamFramer::default();
        let mut deadline = Instant::now() + FIRST_BYTE_MAX;
        loop {
            let mut buffer = [0; READ_BYTES];
            let Ok(Ok(bytes @ 1..)) = timeout_at(deadline, reading.read(&mut buffer)).await else { return None };
            let mut is_new = !framer.is_partial();
            framer.handle_bytes(&buffer[..bytes]);
            loop {
                match framer.next_framed() {
                    Ok(Some(Framed::Message(bytes))) => {
                        is_new = true;
                        self.sender.send(Received::Message { stream: self.id, bytes }).await.ok()?;
                    }
                    Ok(Some(Framed::Ping)) => self.pong()?,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!("Closed a SIP connection: {error}");
                        return Some(framer.take_head());
                    }
                }
            }
            match (framer.is_partial(), is_new) {
                (false, _) => deadline = Instant::now() + IDLE_MAX,
                (true, true) => deadline = Instant::now() + MESSAGE_MAX,
                // Octet by octet does not buy a message more time.
                (true, false) => {}
            }
        }
    }

    /// Answers a ping; `None` when the connection is finished. A peer that pings without reading needs no pong.
    fn pong(&self) -> Option<()> {
        let writer = self.writer.upgrade()?;
        if let Ok(place) = writer.try_reserve() {
            self.waiting.fetch_add(PONG.len(), Ordering::Relaxed);
            place.send(PONG.to_vec());
        }
        Some(())
    }
}

/// 1,024 connections: every extension of a large PBX.
const STREAMS_MAX: usize = 1024;

/// 64 from one address: a PBX with a connection per trunk group.
const STREAMS_PER_SOURCE_MAX: usize = 64;

/// 64 messages wait at the most; a peer further behind does not read.
const OUTGOING_MAX: usize = 64;

/// 64 KiB wait behind the message being queued: with the longest message 128 KiB a connection, 128 MiB for all.
const OUTGOING_BYTES_MAX: usize = 64 << 10;

/// 4 KiB: most messages in one read.
const READ_BYTES: usize = 4096;

/// 10 s to the first byte.
const FIRST_BYTE_MAX: Duration = Duration::from_secs(10);

/// 30 s from a message's first octet to its last.
const MESSAGE_MAX: Duration = Duration::from_secs(30);

/// 30 min between messages: a registration's refresh, a session timer, or the keep-alives of RFC 5626.
const IDLE_MAX: Duration = Duration::from_secs(1800);

/// 2 s to take the answer to what closes the connection.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// 10 s to write one message.
const WRITE_MAX: Duration = Duration::from_secs(10);
