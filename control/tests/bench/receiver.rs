//! A webhook's receiver on the loopback that behaves as the test says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver as Channel, Sender, channel};

/// What the receiver does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Does {
    /// Answers with this status and these header lines.
    Answers(u16, &'static str),
    /// Sends on to another address.
    Redirects(String),
    /// Never answers.
    Hangs,
    /// Closes the connection.
    Closes,
    /// Answers 200 with a body without end.
    Floods,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Got {
    pub(crate) fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    pub(crate) fn status(&self) -> String {
        self.json()["status"].as_str().expect("a status").to_owned()
    }
}

/// A receiver that runs.
pub(crate) struct Receiver {
    pub(crate) port: u16,
    got: Channel<Got>,
    /// Connections taken.
    pub(crate) taken: Arc<AtomicUsize>,
    /// The most at once.
    pub(crate) peak: Arc<AtomicUsize>,
}

impl Receiver {
    /// Begins to listen; `does` is asked with each request and how many came before.
    pub(crate) async fn new(does: impl Fn(usize, &Got) -> Does + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (sender, got) = channel(1000);
        let (taken, peak, now) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default(), Arc::default());
        let does = Arc::new(does);
        let came = Arc::new(AtomicUsize::new(0));
        tokio::spawn({
            let (taken, peak) = (Arc::clone(&taken), Arc::clone(&peak));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    taken.fetch_add(1, Ordering::Relaxed);
                    let (sender, does, came) = (sender.clone(), Arc::clone(&does), Arc::clone(&came));
                    let (peak, now): (_, Arc<AtomicUsize>) = (Arc::clone(&peak), Arc::clone(&now));
                    tokio::spawn(async move {
                        peak.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                        serve(stream, &sender, |got| does(came.fetch_add(1, Ordering::Relaxed), got)).await;
                        now.fetch_sub(1, Ordering::Relaxed);
                    });
                }
            }
        });
        Receiver { port, got, taken, peak }
    }

    /// One that takes everything.
    pub(crate) async fn willing() -> Self {
        Receiver::new(|_, _| Does::Answers(200, "")).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook?x=1", self.port)
    }

    /// The next request.
    pub(crate) async fn next(&mut self) -> Got {
        let next = tokio::time::timeout(Duration::from_secs(20), self.got.recv()).await;
        next.expect("a request comes").expect("the receiver runs")
    }

    /// A request that came already.
    pub(crate) fn try_next(&mut self) -> Option<Got> {
        self.got.try_recv().ok()
    }
}

async fn serve(mut stream: TcpStream, sender: &Sender<Got>, does: impl Fn(&Got) -> Does) {
    let Some(got) = read(&mut stream).await else { return };
    let does = does(&got);
    sender.send(got).await.expect("the test listens");
    let answer = match does {
        Does::Answers(status, headers) => format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n{headers}\r\nok"),
        Does::Redirects(to) => format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"),
        Does::Closes => return,
        Does::Hangs => {
            // Until the other side gives up.
            let _ = stream.read(&mut [0; 1]).await;
            return;
        }
        Does::Floods => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
            return;
        }
    };
    let _ = stream.write_all(answer.as_bytes()).await;
}

async fn read(stream: &mut TcpStream) -> Option<Got> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let mut lines = head.lines();
        let line = lines.next()?.to_owned();
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        if body.len() >= headers.get("content-length")?.parse().ok()? {
            return Some(Got { line, headers, body: body.to_owned() });
        }
    }
}
