//! An agent's connected socket: plain, or TLS behind its handshake. Never blocks.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};

use rustls::ClientConnection;

use crate::io::connect::{AgentStream, Place};

/// One agent's socket.
pub(in crate::io) struct AgentSocket {
    stream: AgentStream,
    tls: Option<Box<ClientConnection>>,
    /// Given back when it is dropped.
    _place: Option<Place>,
    /// epoll also reports when it can be written to.
    pub(in crate::io) is_watched_for_write: bool,
}

impl AgentSocket {
    /// Takes over a connected socket.
    ///
    /// # Errors
    /// What the kernel says.
    pub(in crate::io) fn new(
        stream: AgentStream,
        tls: Option<Box<ClientConnection>>,
        place: Option<Place>,
    ) -> std::io::Result<Self> {
        stream.set_nonblocking()?;
        Ok(AgentSocket { stream, tls, _place: place, is_watched_for_write: false })
    }

    /// Reads from the kernel once; then [`AgentSocket::read_more`] until `None`.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when there is nothing whole; any other ends the connection, as does `Ok(0)`.
    pub(in crate::io) fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.read(buffer) };
        let bytes = tls.read_tls(&mut self.stream)?;
        if let Err(error) = tls.process_new_packets() {
            // The alert tells the server why; whether it arrives is no concern.
            let _ = tls.write_tls(&mut self.stream);
            return Err(Error::new(ErrorKind::InvalidData, error));
        }
        match tls.reader().read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && bytes == 0 => Ok(0),
            read => read,
        }
    }

    /// What the last read decrypted beyond what fitted: the kernel will not report it again.
    pub(in crate::io) fn read_more(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let read = self.tls.as_mut()?.reader().read(buffer).ok()?;
        (read > 0).then_some(read)
    }

    /// Writes what the kernel takes of `outbound` and removes it.
    ///
    /// # Errors
    /// The connection has ended.
    pub(in crate::io) fn write(&mut self, outbound: &mut Vec<u8>) -> std::io::Result<()> {
        let written = match &mut self.tls {
            None if outbound.is_empty() => 0,
            None => unless_blocked(self.stream.write(outbound))?,
            Some(tls) => {
                // What TLS holds goes first, so that its buffer, which is bounded, has room.
                flush(tls, &mut self.stream)?;
                let written = if outbound.is_empty() { 0 } else { tls.writer().write(outbound)? };
                flush(tls, &mut self.stream)?;
                written
            }
        };
        outbound.drain(..written);
        Ok(())
    }

    /// Tells whether something waits for the kernel.
    pub(in crate::io) fn wants_write(&self, outbound: &[u8]) -> bool {
        !outbound.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Writes an agent's last bytes and closes its connection, so that it reads them: data left unread would have the
    /// kernel reset the connection. An agent that takes nothing more learns of the end from the connection.
    pub(in crate::io) fn part(mut self, mut farewell: Vec<u8>) {
        let _ = self.write(&mut farewell);
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = flush(tls, &mut self.stream);
        }
        let _ = self.stream.shutdown();
        let mut unread = [0; UNREAD_BYTES];
        for _ in 0..UNREAD_ROUNDS {
            if !matches!(self.stream.read(&mut unread), Ok(bytes) if bytes > 0) {
                return;
            }
        }
    }
}

impl AsFd for AgentSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            AgentStream::Tcp(stream) => stream.as_fd(),
            AgentStream::Local(stream) => stream.as_fd(),
        }
    }
}

impl AgentStream {
    fn set_nonblocking(&self) -> std::io::Result<()> {
        match self {
            AgentStream::Tcp(stream) => stream.set_nonblocking(true),
            AgentStream::Local(stream) => stream.set_nonblocking(true),
        }
    }

    fn shutdown(&self) -> std::io::Result<()> {
        match self {
            AgentStream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            AgentStream::Local(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for AgentStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            AgentStream::Tcp(stream) => stream.read(buffer),
            AgentStream::Local(stream) => stream.read(buffer),
        }
    }
}

impl Write for AgentStream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            AgentStream::Tcp(stream) => stream.write(bytes),
            AgentStream::Local(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn flush(tls: &mut ClientConnection, stream: &mut AgentStream) -> std::io::Result<()> {
    while tls.wants_write() && unless_blocked(tls.write_tls(stream))? > 0 {}
    Ok(())
}

fn unless_blocked(written: std::io::Result<usize>) -> std::io::Result<usize> {
    match written {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        written => written,
    }
}

/// 16 KiB at a time, 32 times: 512 KiB, what a kernel holds for a connection.
const UNREAD_BYTES: usize = 16 << 10;
const UNREAD_ROUNDS: usize = 32;

#[cfg(test)]
mod tests;
