//! A Wyoming service: a TCP connection that is kept from one transaction to the next.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::agent::cascade::message::Failure;
use crate::agent::cascade::wyoming::{Event, Events};
use crate::agent::wire::loggable;
use crate::io::connect::{AgentUrl, CONNECT_TIMEOUT, ConnectError};

/// A service.
pub(super) struct WyomingService {
    url: AgentUrl,
    /// The connection, while nobody uses it.
    idle: Mutex<Option<Line>>,
}

/// A connection.
pub(super) struct Line {
    stream: TcpStream,
    events: Events,
}

impl WyomingService {
    /// A service at an address.
    pub(super) fn new(url: &AgentUrl) -> Self {
        WyomingService { url: url.clone(), idle: Mutex::new(None) }
    }

    /// Makes the connection ahead of the first request.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub(super) async fn connect(&self) -> Result<(), ConnectError> {
        let line = self.dial().await?;
        self.put_back(line);
        Ok(())
    }

    /// Sends a request; its answer's first event, and the connection on which the others come.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn request(&self, request: &[u8]) -> Result<(Line, Event), Failure> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut line) = kept {
            match line.ask(request).await {
                // The server has closed it meanwhile.
                Err(Failure::Unreachable) => {}
                asked => return asked.map(|event| (line, event)),
            }
        }
        let dialled = timeout(CONNECT_TIMEOUT, self.dial()).await.map_err(|_| Failure::Unreachable)?;
        let mut line = dialled.map_err(|error| {
            tracing::warn!("The service at {} cannot be reached: {error}", self.url);
            Failure::Unreachable
        })?;
        let event = line.ask(request).await?;
        Ok((line, event))
    }

    /// The transaction is over: the connection is kept for the next.
    pub(super) fn put_back(&self, line: Line) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
    }

    async fn dial(&self) -> Result<Line, ConnectError> {
        let stream = TcpStream::connect((self.url.host(), self.url.port())).await?;
        stream.set_nodelay(true)?;
        Ok(Line { stream, events: Events::default() })
    }
}

impl Line {
    async fn ask(&mut self, request: &[u8]) -> Result<Event, Failure> {
        let sent = timeout(EVENT_PAUSE_MAX, self.stream.write_all(request)).await;
        sent.map_err(|_| Failure::Failing)?.map_err(|_| Failure::Unreachable)?;
        self.next().await
    }

    /// The next event.
    ///
    /// # Errors
    /// [`Failure::Refused`] when it is an error of the service's, [`Failure::Failing`] when none comes for
    /// [`EVENT_PAUSE_MAX`].
    pub(super) async fn next(&mut self) -> Result<Event, Failure> {
        let mut buffer = [0; READ_BYTES];
        loop {
            if let Some(event) = self.events.next_event()? {
                if event.kind == "error" {
                    let code = loggable(event.text("code").unwrap_or("none"));
                    tracing::warn!(code, "A Wyoming service reports the error {code}");
                    return Err(Failure::Refused);
                }
                return Ok(event);
            }
            let read = timeout(EVENT_PAUSE_MAX, self.stream.read(&mut buffer)).await;
            match read.map_err(|_| Failure::Failing)? {
                Ok(bytes) if bytes > 0 => self.events.handle_bytes(&buffer[..bytes]),
                _ => return Err(Failure::Unreachable),
            }
        }
    }
}

/// 20 s: a minute of speech is written down within that on a small machine, or the caller has gone.
const EVENT_PAUSE_MAX: Duration = Duration::from_secs(20);

/// 8 KiB: an event with a tenth of a second of speech.
const READ_BYTES: usize = 8 << 10;
