//! Connections through memory, for lines of our own that are no SIP phones ([`crate::io::asterisk`]).

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use talkstack_media::sip::{StreamId, Transport};
use tokio::sync::mpsc;

use super::streams::{Connection, Opener, Streams};

/// A line's end of a connection through memory.
pub struct LineEnd {
    connection: Connection,
    outgoing: mpsc::Receiver<Vec<u8>>,
}

impl LineEnd {
    pub(super) fn id(&self) -> StreamId {
        self.connection.id
    }

    /// Hands the box a message; `false` when nobody takes it.
    pub(in crate::io) async fn send(&self, bytes: Vec<u8>) -> bool {
        self.connection.received(bytes).await
    }

    /// The next message of the box's; `None` when there will be none.
    pub(in crate::io) async fn next(&mut self) -> Option<Vec<u8>> {
        let bytes = self.outgoing.recv().await?;
        self.connection.waiting().fetch_sub(bytes.len(), Ordering::Relaxed);
        Some(bytes)
    }

    /// Says that the line is gone.
    pub(in crate::io) async fn close(self) {
        self.connection.close().await;
    }
}

impl std::fmt::Debug for LineEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LineEnd({:?})", self.connection.id)
    }
}

impl Streams {
    /// A connection through memory. How many there are is for their maker to bound.
    pub(super) fn line(&mut self, at: SocketAddr) -> LineEnd {
        let local = SocketAddr::new(at.ip(), LINE_PORT);
        let (connection, outgoing) = self.insert(local, at, Transport::Tcp, Opener::Line);
        LineEnd { connection, outgoing }
    }
}

/// Where the box is, as lines of our own name it: nothing is sent there.
const LINE_PORT: u16 = 5060;
