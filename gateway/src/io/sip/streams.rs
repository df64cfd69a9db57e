//! SIP over streams: one task a connection, bounded in number, in time and in what waits to be written.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::net::sockopt::{set_socket_send_buffer_size, set_tcp_user_timeout};
use talkstack_media::sip::stream::{Framed, PING, PONG, StreamFramer};
use talkstack_media::sip::{Flow, StreamId, Transport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::Received;
use super::keep_alive::{Due, KeepAlive};
pub(super) use super::link::ConnectFault;
use super::link::{HANDSHAKE_MAX, Link, accept_tls};
use super::tls::{PeerIdentity, Tls, TlsFault};
use super::websocket;

/// The connections that are open.
#[derive(Debug)]
pub(super) struct Streams {
    /// Where what they bring goes.
    sender: mpsc::Sender<Received>,
    open: HashMap<StreamId, Open>,
    per_source: HashMap<IpAddr, usize>,
    next_id: u64,
    tls: Option<Tls>,
    /// Whom connections under TLS were made to: requests of dialogs that go on make them anew.
    identities: HashMap<SocketAddr, PeerIdentity>,
}

#[derive(Debug)]
struct Open {
    flow: Flow,
    /// `None` when nothing more is to be written.
    writer: Option<mpsc::Sender<Vec<u8>>>,
    /// Octets that wait to be written.
    waiting: Arc<AtomicUsize>,
    opener: Opener,
}

/// A connection that was accepted, or that we have made.
#[derive(Debug)]
pub struct Opened {
    pub(super) link: Link,
    pub(super) remote: SocketAddr,
    /// Of a connection that we have made: the port that the far end can reach us at.
    pub(super) listens_at: Option<u16>,
}

/// How a connection is made.
#[derive(Clone)]
pub(super) struct Connector {
    /// The port we listen at for the peer's family.
    pub(super) listens_at: u16,
    /// TLS, and whom it must be with; `None` connects plainly.
    pub(super) tls: Option<(Tls, PeerIdentity)>,
    /// How long TCP may take.
    pub(super) within: Duration,
}

/// Connects to a peer, and begins TLS where it is wanted.
///
/// # Errors
/// [`ConnectFault`].
pub(super) async fn connect(remote: SocketAddr, connector: Connector) -> Result<Opened, ConnectFault> {
    let connecting = timeout(connector.within, TcpStream::connect(remote)).await;
    let stream = connecting.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    // What is not acknowledged shows that nobody is there, though no ping is answered. Some kernels take their own time.
    let _ = set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MAX.as_millis() as u32);
    let link = match connector.tls {
        None => Link::Plain(stream),
        Some((tls, peer)) => {
            let handshake = timeout(HANDSHAKE_MAX, tls.connect(stream, &peer)).await;
            Link::Tls(Box::new(handshake.map_err(|_| TlsFault::Broken)??))
        }
    };
    Ok(Opened { link, remote, listens_at: Some(connector.listens_at) })
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
    pub(super) fn new(sender: mpsc::Sender<Received>, tls: Option<Tls>) -> Self {
        let (open, per_source, identities) = (HashMap::new(), HashMap::new(), HashMap::new());
        Streams { sender, open, per_source, next_id: 0, tls, identities }
    }

    /// How a connection to `remote` is made over `transport`; who is there is remembered for requests that follow.
    ///
    /// # Errors
    /// [`ConnectFault::NotOurs`].
    pub(super) fn connector(
        &mut self,
        remote: SocketAddr,
        transport: Transport,
        listens_at: u16,
        peer: PeerIdentity,
    ) -> Result<Connector, ConnectFault> {
        if transport != Transport::Tls {
            return Ok(Connector { listens_at, tls: None, within: CONNECT_MAX });
        }
        let tls = self.tls.clone().ok_or(ConnectFault::NotOurs)?;
        self.expect(remote, peer.clone());
        Ok(Connector { listens_at, tls: Some((tls, peer)), within: CONNECT_MAX })
    }

    /// Where all sockets' messages go.
    pub(super) fn sender(&self) -> &mpsc::Sender<Received> {
        &self.sender
    }

    /// Notes who must be found at an address that a connection under TLS is made to.
    pub(super) fn expect(&mut self, remote: SocketAddr, peer: PeerIdentity) {
        if self.identities.len() >= IDENTITIES_MAX {
            self.identities.clear();
        }
        self.identities.insert(remote, peer);
    }

    /// Takes a connection over.
    ///
    /// # Errors
    /// [`AdoptError`].
    pub(super) fn adopt(&mut self, opened: Opened) -> Result<StreamId, AdoptError> {
        let Opened { link, remote, listens_at } = opened;
        let local = link.tcp().local_addr()?;
        let local = SocketAddr::new(local.ip().to_canonical(), listens_at.unwrap_or(local.port()));
        let opener = if listens_at.is_some() { Opener::Us } else { Opener::Peer };
        let (connection, outgoing) = self.begin(local, remote, link.transport(), opener)?;
        let id = connection.id;
        tokio::spawn(connection.serve(link, outgoing));
        Ok(id)
    }

    /// A connection that goes to `remote` over `transport`.
    pub(super) fn towards(&self, remote: SocketAddr, transport: Transport) -> Option<StreamId> {
        let is_open =
            |open: &Open| open.flow.remote == remote && open.flow.transport == transport && open.writer.is_some();
        self.open.iter().find(|(_, open)| is_open(open)).map(|(id, _)| *id)
    }

    /// Opens a connection for a message that has none, and queues it. One that does not stand `within` so long is closed.
    ///
    /// # Errors
    /// [`AdoptError`].
    pub(super) fn connect(&mut self, flow: &Flow, bytes: Vec<u8>, within: Duration) -> Result<(), AdoptError> {
        let (connection, outgoing) = self.begin(flow.local, flow.remote, flow.transport, Opener::Us)?;
        self.send(connection.id, bytes);
        let remote = flow.remote;
        let unknown = || PeerIdentity { name: remote.ip().to_string(), fingerprint: None };
        let peer = self.identities.get(&remote).cloned().unwrap_or_else(unknown);
        let connector = match flow.transport {
            // Nobody listens for WebSockets but us.
            Transport::Ws | Transport::Wss => Err(ConnectFault::NotOurs),
            transport => self.connector(remote, transport, flow.local.port(), peer),
        };
        tokio::spawn(async move {
            let opened = match connector {
                Ok(connector) => connect(remote, Connector { within, ..connector }).await,
                Err(fault) => Err(fault),
            };
            match opened {
                Ok(opened) => connection.serve(opened.link, outgoing).await,
                Err(fault) => {
                    match fault {
                        ConnectFault::Tls(_) => tracing::warn!("Opened no SIP connection to {remote}: {fault}"),
                        _ => tracing::debug!("Opened no SIP connection to {remote}: {fault}"),
                    }
                    connection.end(fault.tls()).await;
                }
            }
        });
        Ok(())
    }

    /// Counts another connection in.
    fn begin(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        transport: Transport,
        opener: Opener,
    ) -> Result<(Connection, mpsc::Receiver<Vec<u8>>), AdoptError> {
        let max = if opener == Opener::Us { STREAMS_MAX } else { ACCEPTED_MAX };
        if self.open.len() >= max {
            return Err(AdoptError::TooMany);
        }
        if self.per_source.get(&remote.ip()).is_some_and(|count| *count >= STREAMS_PER_SOURCE_MAX) {
            return Err(AdoptError::TooManyOfSource);
        }
        Ok(self.insert(local, remote, transport, opener))
    }

    pub(super) fn insert(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        transport: Transport,
        opener: Opener,
    ) -> (Connection, mpsc::Receiver<Vec<u8>>) {
        if opener != Opener::Line {
            *self.per_source.entry(remote.ip()).or_default() += 1;
        }
        self.next_id += 1;
        let id = StreamId(self.next_id);
        let (writer, outgoing) = mpsc::channel(OUTGOING_MAX);
        let flow = Flow { transport, local, remote, stream: Some(id) };
        let waiting = Arc::<AtomicUsize>::default();
        // Held weakly: when the stream is finished its queue closes and the task ends.
        let connection = Connection {
            id,
            writer: writer.downgrade(),
            waiting: Arc::clone(&waiting),
            sender: self.sender.clone(),
            opener,
        };
        self.open.insert(id, Open { flow, writer: Some(writer), waiting, opener });
        (connection, outgoing)
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

    /// The connection is gone; returns where it led.
    pub(super) fn forget(&mut self, id: StreamId) -> Option<Flow> {
        let open = self.open.remove(&id)?;
        if open.opener != Opener::Line
            && let Some(count) = self.per_source.get_mut(&open.flow.remote.ip())
        {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&open.flow.remote.ip());
            }
        }
        Some(open.flow)
    }
}

/// Who has opened a connection; whoever did sees to it that it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opener {
    Us,
    Peer,
    /// A line of our own.
    Line,
}

/// One connection, as its task sees it.
pub(super) struct Connection {
    pub(super) id: StreamId,
    writer: mpsc::WeakSender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    sender: mpsc::Sender<Received>,
    opener: Opener,
}

impl Connection {
    /// Finishes what is still to be shaken, then reads and writes until either side ends it.
    async fn serve(self, link: Link, outgoing: mpsc::Receiver<Vec<u8>>) {
        let _ = link.tcp().set_nodelay(true);
        // Left to itself the kernel takes megabytes from whoever writes to a peer that does not read.
        let _ = set_socket_send_buffer_size(link.tcp(), SEND_BUFFER_BYTES);
        match link {
            Link::Plain(stream) => {
                let (reading, writing) = stream.into_split();
                self.carry(reading, writing, outgoing).await;
            }
            Link::Tls(stream) => {
                let (reading, writing) = tokio::io::split(*stream);
                self.carry(reading, writing, outgoing).await;
            }
            Link::AwaitsTls(stream, acceptor) => match accept_tls(stream, &acceptor).await {
                Some(stream) => {
                    let (reading, writing) = tokio::io::split(stream);
                    self.carry(reading, writing, outgoing).await;
                }
                None => self.close().await,
            },
            Link::AwaitsWebSocket(stream, None, origins) => {
                websocket::serve(self, stream, &origins, outgoing).await;
            }
            Link::AwaitsWebSocket(stream, Some(acceptor), origins) => match accept_tls(stream, &acceptor).await {
                Some(stream) => websocket::serve(self, stream, &origins, outgoing).await,
                None => self.close().await,
            },
        }
    }

    /// Octets that wait to be written.
    pub(super) fn waiting(&self) -> &Arc<AtomicUsize> {
        &self.waiting
    }

    /// Hands a message on; `false` when nobody takes it.
    pub(super) async fn received(&self, bytes: Vec<u8>) -> bool {
        self.sender.send(Received::Message { stream: self.id, bytes }).await.is_ok()
    }

    /// Says that it is over; the thread may have stopped.
    pub(super) async fn close(&self) {
        self.end(None).await;
    }

    async fn end(&self, fault: Option<TlsFault>) {
        let _ = self.sender.send(Received::Closed { stream: self.id, fault }).await;
    }

    /// Reads and writes until either side ends it.
    async fn carry(
        self,
        mut reading: impl AsyncRead + Unpin,
        mut writing: impl AsyncWrite + Unpin,
        mut outgoing: mpsc::Receiver<Vec<u8>>,
    ) {
        let waiting = Arc::clone(&self.waiting);
        let write = async move {
            while let Some(bytes) = outgoing.recv().await {
                let write = async {
                    writing.write_all(&bytes).await?;
                    // TLS holds octets back.
                    writing.flush().await
                };
                if !matches!(timeout(WRITE_MAX, write).await, Ok(Ok(()))) {
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
        self.close().await;
    }

    /// Reads messages until the connection ends, or cannot be read any further: then with the head to answer from.
    async fn read(&self, reading: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
        let mut framer = StreamFramer::default();
        let mut deadline = Instant::now() + FIRST_BYTE_MAX;
        let mut keep_alive = (self.opener == Opener::Us).then(|| KeepAlive::new(Instant::now()));
        loop {
            let mut buffer = [0; READ_BYTES];
            let due = keep_alive.as_ref().map_or(deadline, |pings| deadline.min(pings.poll_timeout()));
            let bytes = match timeout_at(due, reading.read(&mut buffer)).await {
                Ok(Ok(bytes @ 1..)) => bytes,
                Err(_) if due < deadline => {
                    match keep_alive.as_mut().map(|pings| pings.handle_timeout(due)) {
                        Some(Due::Ping) => self.queue(PING)?,
                        Some(Due::Close) => {
                            tracing::info!("Closed a SIP connection: its peer answers no keep-alives any more");
                            return None;
                        }
                        Some(Due::Nothing) | None => {}
                    }
                    continue;
                }
                _ => return None,
            };
            let mut is_new = !framer.is_partial();
            framer.handle_bytes(&buffer[..bytes]);
            if let Some(pings) = keep_alive.as_mut().filter(|pings| pings.is_awaiting()) {
                if framer.take_pong() {
                    pings.handle_pong();
                }
                pings.handle_sign_of_life(Instant::now());
            }
            loop {
                match framer.next_framed() {
                    Ok(Some(Framed::Message(bytes))) => {
                        is_new = true;
                        self.sender.send(Received::Message { stream: self.id, bytes }).await.ok()?;
                    }
                    Ok(Some(Framed::Ping)) => self.queue(PONG)?,
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

    /// Queues a ping or a pong; `None` when the connection is finished. A peer that does not read needs neither.
    fn queue(&self, line_ends: &[u8]) -> Option<()> {
        let writer = self.writer.upgrade()?;
        if let Ok(place) = writer.try_reserve() {
            self.waiting.fetch_add(line_ends.len(), Ordering::Relaxed);
            place.send(line_ends.to_vec());
        }
        Some(())
    }
}

/// 1,024 connections: every extension of a large PBX.
const STREAMS_MAX: usize = 1024;

/// 896 that others have opened: 128 are left for ours, two to each of 64 trunks.
const ACCEPTED_MAX: usize = STREAMS_MAX - 128;

/// 64 from one address: a PBX with a connection per trunk group.
const STREAMS_PER_SOURCE_MAX: usize = 64;

/// 64 messages wait at the most; a peer further behind does not read.
const OUTGOING_MAX: usize = 64;

/// 64 KiB wait behind the message being queued: with the longest message 128 KiB a connection, 128 MiB for all.
const OUTGOING_BYTES_MAX: usize = 64 << 10;

/// 64 KiB, which the kernel doubles for its own needs: 128 MiB for all connections.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// 4,096 peers; a box has tens.
const IDENTITIES_MAX: usize = 4096;

/// 4 KiB: most messages in one read.
pub(super) const READ_BYTES: usize = 4096;

/// 5 s: a host that is there accepts within one; TCP's own patience is two minutes.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(5);

/// 30 s, as RFC 5482 has it for a path that is tried several times in it.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// 10 s to the first byte.
pub(super) const FIRST_BYTE_MAX: Duration = Duration::from_secs(10);

/// 30 s from a message's first octet to its last.
const MESSAGE_MAX: Duration = Duration::from_secs(30);

/// 30 min between messages: a registration's refresh, a session timer, or the keep-alives of RFC 5626.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(1800);

/// 2 s to take the answer to what closes the connection.
pub(super) const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// 10 s to write one message.
pub(super) const WRITE_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};
    use tokio::task::yield_now;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_is_closed_after_10_s() {
        let mut served = Served::new();
        assert_eq!(served.seconds_to_its_end().await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_has_30_s_from_its_first_octet_to_its_last() {
        let mut served = Served::new();
        let mut peer = served.peer.take().expect("open");
        tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_secs(2));
            for octet in OPTIONS.bytes() {
                pace.tick().await;
                if peer.write_all(&[octet]).await.is_err() {
                    return;
                }
            }
        });
        assert_eq!(served.seconds_to_its_end().await, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_of_ours_is_pinged_and_closed_10_s_after_a_ping_that_is_not_answered_any_more() {
        let mut served = Served::ours();
        let mut peer = served.peer.take().expect("open");
        peer.write_all(OPTIONS.as_bytes()).await.expect("taken");
        assert!(matches!(served.received.recv().await, Some(Received::Message { .. })));
        let mut ping = [0; 4];
        for _ in 0..20 {
            let start = Instant::now();
            peer.read_exact(&mut ping).await.expect("pinged");
            assert_eq!((&ping, (95..=120).contains(&start.elapsed().as_secs())), (b"\r\n\r\n", true));
            peer.write_all(b"\r\n").await.expect("answered");
        }
        peer.read_exact(&mut ping).await.expect("pinged once more");
        let last = served.start.elapsed().as_secs();
        assert_eq!(served.seconds_to_its_end().await, last + 10);

        let mut served = Served::ours();
        let mut peer = served.peer.take().expect("open");
        peer.write_all(OPTIONS.as_bytes()).await.expect("taken");
        assert!(matches!(served.received.recv().await, Some(Received::Message { .. })));
        assert_eq!(served.seconds_to_its_end().await, 1800, "who knows no pong loses nothing by it");
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_keep_alive_keeps_a_connection_as_a_message_does() {
        for octets in ["\r\n", "\r\n\r\n", OPTIONS] {
            let mut served = Served::new();
            served.peer.as_mut().expect("open").write_all(octets.as_bytes()).await.expect("taken");
            if octets == OPTIONS {
                assert!(matches!(served.received.recv().await, Some(Received::Message { .. })));
            }
            assert_eq!(served.seconds_to_its_end().await, 1800, "{octets:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_cut_is_answered_before_the_connection_closes() {
        let mut served = Served::new();
        let mut peer = served.peer.take().expect("open");
        let head = OPTIONS.replace("l: 0", "l: 70000");
        peer.write_all(format!("{head}{}", "x".repeat(500)).as_bytes()).await.expect("taken");
        match served.received.recv().await {
            Some(Received::Message { bytes, .. }) => assert_eq!(bytes, head.as_bytes()),
            other => panic!("{other:?}"),
        }
        served.streams.send(served.id, b"SIP/2.0 413".to_vec());
        assert!(matches!(served.received.recv().await, Some(Received::Finished { .. })));
        served.streams.finish(served.id);
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).await.expect("closed in order");
        assert_eq!(answer, b"SIP/2.0 413");
        drop(peer);
        assert_eq!(served.seconds_to_its_end().await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_loses_its_connection_and_one_that_reads_does_not() {
        for reads in [true, false] {
            let mut served = Served::new();
            let mut peer = served.peer.take().expect("open");
            let mut buffer = vec![0; 8192];
            // Fewer than the queue holds: octets count, too.
            for _ in 0..20 {
                served.streams.send(served.id, vec![b'x'; 8192]);
                if reads {
                    peer.read_exact(&mut buffer).await.expect("sent");
                }
                yield_now().await;
            }
            assert_eq!(served.streams.flow(served.id).is_some(), reads);
            assert_eq!(served.streams.open.len(), 1, "it counts until its task has ended");
        }
    }

    #[tokio::test]
    async fn one_source_has_its_share_and_the_count_leaves_nothing_behind() {
        let mut streams = Streams::new(mpsc::channel(16).0, None);
        let local = "10.0.0.2:5060".parse().expect("address");
        let of = |source: usize| SocketAddr::from(([10, 1, 0, source as u8], 40_000));
        let mut begin = |source, opener| streams.begin(local, of(source), Transport::Tcp, opener);
        for count in 0..ACCEPTED_MAX {
            assert!(begin(count / STREAMS_PER_SOURCE_MAX, Opener::Peer).is_ok());
            if count + 1 == STREAMS_PER_SOURCE_MAX {
                assert!(matches!(begin(0, Opener::Peer), Err(AdoptError::TooManyOfSource)));
            }
        }
        assert!(matches!(begin(99, Opener::Peer), Err(AdoptError::TooMany)));
        for count in ACCEPTED_MAX..STREAMS_MAX {
            assert!(begin(count / STREAMS_PER_SOURCE_MAX, Opener::Us).is_ok(), "ours have their own room");
        }
        assert!(matches!(begin(99, Opener::Us), Err(AdoptError::TooMany)));
        let _line = streams.line(of(0));
        let ids: Vec<StreamId> = streams.open.keys().copied().collect();
        ids.iter().for_each(|id| assert!(streams.forget(*id).is_some()));
        assert_eq!((streams.open.len(), streams.per_source.len()), (0, 0));
    }

    const OPTIONS: &str = "OPTIONS sip:x SIP/2.0\r\nl: 0\r\n\r\n";

    /// A connection whose other end is `peer`, and what its task tells the SIP thread.
    struct Served {
        streams: Streams,
        id: StreamId,
        received: mpsc::Receiver<Received>,
        peer: Option<DuplexStream>,
        start: Instant,
    }

    impl Served {
        fn new() -> Self {
            Served::opened_by(Opener::Peer)
        }

        /// One that we have opened.
        fn ours() -> Self {
            Served::opened_by(Opener::Us)
        }

        fn opened_by(opener: Opener) -> Self {
            let (sender, received) = mpsc::channel(16);
            let mut streams = Streams::new(sender, None);
            let address = "10.0.0.2:5060".parse().expect("address");
            let (connection, outgoing) = streams.begin(address, address, Transport::Tcp, opener).expect("room");
            let (peer, ours) = duplex(1024);
            let (reading, writing) = tokio::io::split(ours);
            let id = connection.id;
            tokio::spawn(connection.carry(reading, writing, outgoing));
            Served { streams, id, received, peer: Some(peer), start: Instant::now() }
        }

        /// Virtual time from the start to `Closed`, which must come next.
        async fn seconds_to_its_end(&mut self) -> u64 {
            match self.received.recv().await {
                Some(Received::Closed { .. }) => self.start.elapsed().as_secs(),
                other => panic!("{other:?}"),
            }
        }
    }
}
