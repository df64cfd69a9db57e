//! What a connection is under SIP: plain, TLS, or a WebSocket over either.

use std::time::Duration;

use talkstack_media::sip::Transport;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::client::TlsStream;

use super::tls::TlsFault;
use super::websocket::Origins;

/// A connection before it carries SIP.
#[derive(Debug)]
pub(super) enum Link {
    /// Bytes as they are.
    Plain(TcpStream),
    /// TLS that we have begun and that stands.
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS that the far end is to begin.
    AwaitsTls(TcpStream, Acceptor),
    /// A WebSocket that the far end is to begin, under TLS where there is an acceptor.
    AwaitsWebSocket(TcpStream, Option<Acceptor>, Origins),
}

/// What TLS is taken by; it prints nothing of its key.
#[derive(Clone)]
pub(super) struct Acceptor(pub(super) TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

/// How connections that come to a port begin.
#[derive(Debug, Clone)]
pub(super) enum Begins {
    /// With SIP.
    Plain,
    /// With TLS.
    Tls(Acceptor),
    /// With a WebSocket's handshake, under TLS where there is an acceptor.
    WebSocket(Option<Acceptor>, Origins),
}

impl Begins {
    pub(super) fn link(&self, stream: TcpStream) -> Link {
        match self.clone() {
            Begins::Plain => Link::Plain(stream),
            Begins::Tls(acceptor) => Link::AwaitsTls(stream, acceptor),
            Begins::WebSocket(acceptor, origins) => Link::AwaitsWebSocket(stream, acceptor, origins),
        }
    }
}

impl Link {
    /// What SIP calls it.
    pub(super) fn transport(&self) -> Transport {
        match self {
            Link::Plain(_) => Transport::Tcp,
            Link::Tls(_) | Link::AwaitsTls(..) => Transport::Tls,
            Link::AwaitsWebSocket(_, None, _) => Transport::Ws,
            Link::AwaitsWebSocket(_, Some(_), _) => Transport::Wss,
        }
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Link::Plain(stream) | Link::AwaitsTls(stream, _) | Link::AwaitsWebSocket(stream, ..) => stream,
            Link::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectFault {
    /// Nobody took it, or not in time.
    #[error("no connection ({0})")]
    Tcp(#[from] std::io::Error),
    /// It was taken, and TLS did not come to be.
    #[error(transparent)]
    Tls(#[from] TlsFault),
    /// Nothing here connects so: a WebSocket is the far end's to open.
    #[error("nothing here opens such a connection")]
    NotOurs,
}

impl ConnectFault {
    pub(super) fn tls(&self) -> Option<TlsFault> {
        if let ConnectFault::Tls(fault) = self { Some(*fault) } else { None }
    }
}

/// Takes the far end's TLS, within [`HANDSHAKE_MAX`].
pub(super) async fn accept_tls(
    stream: TcpStream,
    acceptor: &Acceptor,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    match timeout(HANDSHAKE_MAX, acceptor.0.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!("Closed a SIP connection: its TLS handshake failed ({error})");
            None
        }
        Err(_) => None,
    }
}

/// 10 s: as long as a first byte may take.
pub(super) const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
