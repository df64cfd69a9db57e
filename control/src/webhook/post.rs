//! One POST to an address that a tenant chose: resolved, judged, connected to exactly that, within a time limit.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio_rustls::TlsConnector;
use url::Host;

use super::target::{HookUrl, Outbound, Refusal};

/// Sends messages.
#[derive(Clone)]
pub struct Poster {
    outbound: Outbound,
    answer_max: Duration,
    tls: TlsConnector,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The `webhook-id`.
    pub id: String,
    /// The `webhook-timestamp`, seconds since the epoch.
    pub timestamp_s: i64,
    /// The `webhook-signature`.
    pub signature: String,
    /// JSON.
    pub body: String,
}

/// A request that a tenant has thought out.
#[derive(Clone, PartialEq, Eq)]
pub struct Fetch {
    /// `GET`.
    pub method: &'static str,
    /// Headers besides the box's own; a value may be secret.
    pub headers: Vec<(String, String)>,
    /// JSON, where there is a body.
    pub body: Option<String>,
    /// How long the whole of it may take.
    pub within: Duration,
}

/// What a service has answered to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The HTTP status. Redirects are not followed.
    pub status: u16,
    /// The first [`FETCHED_BYTES_MAX`] bytes.
    pub body: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The HTTP status. Redirects are not followed.
    pub status: u16,
    /// The header `Retry-After`, as it came.
    pub retry_after: Option<String>,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The name leads to where tenants' requests do not go. The tenant's to mend, or the operator's.
    #[error("{ip} is refused ({refusal}); outbound.loopback_ports opens ports of this machine")]
    Refused {
        /// Where.
        ip: IpAddr,
        /// Why.
        refusal: Refusal,
    },
    /// The name leads nowhere.
    #[error("the name has no address")]
    NoAddress(#[source] Option<std::io::Error>),
    /// Nobody takes the connection.
    #[error("no connection ({0})")]
    Connect(#[source] std::io::Error),
    /// The receiver's certificate or TLS is not good.
    #[error("no TLS ({0})")]
    Tls(#[source] std::io::Error),
    /// What comes back is no HTTP, or the connection breaks.
    #[error("no HTTP answer ({0})")]
    Http(#[from] hyper::Error),
    /// The message cannot be written as a request.
    #[error("no request can be made of it")]
    Unwritable,
    /// It took longer than the limit.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

impl Poster {
    /// Sends to what `outbound` allows, and waits `answer_max` for the head of the answer (15 s by default).
    pub fn new(outbound: Outbound, answer_max: Duration) -> Self {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        Poster::with_roots(outbound, answer_max, roots)
    }

    fn with_roots(outbound: Outbound, answer_max: Duration, roots: RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            // Only a provider without any cipher is refused.
            .unwrap_or_else(|_| std::process::abort())
            .with_root_certificates(roots)
            .with_no_client_auth();
        Poster { outbound, answer_max, tls: TlsConnector::from(Arc::new(config)) }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// [`PostError`] when there is no answer.
    pub async fn post(&self, url: &HookUrl, message: Message) -> Result<Answered, PostError> {
        let within = tokio::time::timeout(self.answer_max, self.send(url, message));
        within.await.unwrap_or(Err(PostError::TimedOut(self.answer_max)))
    }

    /// Asks a service something.
    ///
    /// # Errors
    /// [`PostError`] when there is no whole answer.
    pub async fn fetch(&self, url: &HookUrl, fetch: Fetch) -> Result<Fetched, PostError> {
        let within = fetch.within;
        let fetched = async {
            let request = fetch.request(url)?;
            fetch_over(self.open(url).await?, request).await
        };
        tokio::time::timeout(within, fetched).await.unwrap_or(Err(PostError::TimedOut(within)))
    }

    async fn send(&self, url: &HookUrl, message: Message) -> Result<Answered, PostError> {
        let request = request(url, message)?;
        exchange(self.open(url).await?, request).await
    }

    /// Connects, with TLS where the address has it.
    async fn open(&self, url: &HookUrl) -> Result<Box<dyn Stream>, PostError> {
        let stream = self.connect(url).await?;
        if !url.is_tls() {
            return Ok(Box::new(stream));
        }
        let name = match url.host() {
            Some(Host::Domain(name)) => ServerName::try_from(name.to_owned()).map_err(|_| PostError::Unwritable)?,
            Some(Host::Ipv4(ip)) => ServerName::from(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => ServerName::from(IpAddr::V6(ip)),
            None => return Err(PostError::Unwritable),
        };
        Ok(Box::new(self.tls.connect(name, stream).await.map_err(PostError::Tls)?))
    }

    /// Connects to the first address that is allowed and takes the connection.
    async fn connect(&self, url: &HookUrl) -> Result<TcpStream, PostError> {
        let addresses: Vec<SocketAddr> = match url.host() {
            Some(Host::Ipv4(ip)) => vec![(ip, url.port()).into()],
            Some(Host::Ipv6(ip)) => vec![(ip, url.port()).into()],
            Some(Host::Domain(name)) => lookup_host((name, url.port()))
                .await
                .map_err(|error| PostError::NoAddress(Some(error)))?
                .take(ADDRESSES_MAX)
                .collect(),
            None => Vec::new(),
        };
        let mut last = PostError::NoAddress(None);
        for address in addresses {
            if let Err(refusal) = self.outbound.check(address, is_own(address.ip()).await) {
                last = PostError::Refused { ip: address.ip(), refusal };
                continue;
            }
            let connected = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(address)).await;
            match connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = PostError::Connect(error),
            }
        }
        Err(last)
    }
}

/// Whether an address is one of this machine's: only those can be bound. Nothing is sent.
async fn is_own(ip: IpAddr) -> bool {
    UdpSocket::bind((ip.to_canonical(), 0)).await.is_ok()
}

fn request(url: &HookUrl, message: Message) -> Result<Request<Full<Bytes>>, PostError> {
    Request::post(url.path_and_query())
        .header("host", url.authority())
        .header("content-type", "application/json")
        .header("user-agent", USER_AGENT)
        .header("connection", "close")
        .header("webhook-id", message.id)
        .header("webhook-timestamp", message.timestamp_s)
        .header("webhook-signature", message.signature)
        .body(Full::new(Bytes::from(message.body)))
        .map_err(|_| PostError::Unwritable)
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Fetch {
    fn request(self, url: &HookUrl) -> Result<Request<Full<Bytes>>, PostError> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(url.path_and_query())
            .header("host", url.authority())
            .header("user-agent", USER_AGENT)
            .header("connection", "close");
        if self.body.is_some() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let body = self.body.map_or_else(Bytes::new, Bytes::from);
        request.body(Full::new(body)).map_err(|_| PostError::Unwritable)
    }
}

async fn fetch_over(stream: Box<dyn Stream>, request: Request<Full<Bytes>>) -> Result<Fetched, PostError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut connection = pin!(connection);
    let mut fetched = pin!(async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let (mut whole, mut body) = (response.into_body(), Vec::new());
        while let Some(frame) = whole.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let room = FETCHED_BYTES_MAX - body.len();
            body.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() >= room {
                break;
            }
        }
        Ok(Fetched { status, body })
    });
    tokio::select! {
        biased;
        fetched = &mut fetched => fetched,
        _ = &mut connection => fetched.await,
    }
}

async fn exchange(stream: Box<dyn Stream>, request: Request<Full<Bytes>>) -> Result<Answered, PostError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut connection = pin!(connection);
    let mut exchanged = pin!(async {
        let response = sender.send_request(request).await?;
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let answered = Answered { status: response.status().as_u16(), retry_after: retry_after.map(str::to_owned) };
        // The status is the answer. What follows is read out of politeness, since some servers log a broken pipe
        // otherwise, and thrown away.
        let rest = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let _ = tokio::time::timeout(POLITENESS, rest).await;
        Ok(answered)
    });
    tokio::select! {
        biased;
        answered = &mut exchanged => answered,
        // The connection ends first where the receiver closes it; what it sent is still to be read.
        _ = &mut connection => exchanged.await,
    }
}

const USER_AGENT: &str = concat!("talkstack/", env!("CARGO_PKG_VERSION"));

/// 16 KiB of an answer: more than a model reads while a caller waits. The rest is left.
pub const FETCHED_BYTES_MAX: usize = 16 << 10;

/// 4 addresses of a name: two families, two hosts.
const ADDRESSES_MAX: usize = 4;

/// 4 s for one address, so that the third is reached within the limit of 15 s.
const CONNECT_MAX: Duration = Duration::from_secs(4);

/// 1 MiB of an answer, of which we need nothing.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// 1 s.
const POLITENESS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    #[tokio::test]
    async fn a_certificate_must_be_trusted_and_of_the_name_that_was_meant() {
        let port = tls_receiver().await;
        let outbound = Outbound { loopback_ports: [port].into(), ..Outbound::default() };
        let mut roots = RootCertStore::empty();
        roots.add(certificate(include_bytes!("../../tests/tls/ca.pem"))).expect("a root");
        let trusting = Poster::with_roots(outbound.clone(), LONG, roots);
        let answer = trusting.post(&url("localhost", port), message()).await.expect("an answer");
        assert_eq!(answer, Answered { status: 204, retry_after: Some("7".into()) });
        let by_address = trusting.post(&url("127.0.0.1", port), message()).await;
        assert!(matches!(by_address, Err(PostError::Tls(_))), "{by_address:?}");
        let public = Poster::new(outbound, LONG).post(&url("localhost", port), message()).await;
        assert!(matches!(public, Err(PostError::Tls(_))), "{public:?}");
    }

    #[tokio::test]
    async fn this_machine_knows_its_own_addresses_and_reaches_its_own_listeners_by_none() {
        for (ip, expected) in
            [("127.0.0.1", true), ("127.8.8.8", true), ("::ffff:127.0.0.1", true), ("192.0.2.1", false)]
        {
            assert_eq!(is_own(ip.parse().expect("an address")).await, expected, "{ip}");
        }
        let port = tls_receiver().await;
        let outbound = Outbound { loopback_ports: [port].into(), own_ports: [port].into() };
        let refused = Poster::new(outbound, LONG).post(&url("localhost", port), message()).await;
        assert!(matches!(refused, Err(PostError::Refused { refusal: Refusal::Own, .. })), "{refused:?}");
    }

    /// Takes TLS as `localhost` and answers 204.
    async fn tls_receiver() -> u16 {
        let chain = vec![certificate(include_bytes!("../../tests/tls/receiver.pem"))];
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("../../tests/tls/receiver.key")).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a pair");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                if stream.read(&mut [0; 4096]).await.is_ok() {
                    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nretry-after: 7\r\n\r\n").await;
                }
            }
        });
        port
    }

    fn certificate(pem: &[u8]) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem).expect("a certificate")
    }

    fn url(host: &str, port: u16) -> HookUrl {
        HookUrl::parse(&format!("https://{host}:{port}/")).expect("an address")
    }

    fn message() -> Message {
        Message { id: "id".into(), timestamp_s: 1, signature: "v1,x".into(), body: "{}".into() }
    }

    const LONG: Duration = Duration::from_secs(10);
}
