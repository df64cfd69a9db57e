//! The API's connections: how many, for how long, and how they end.
//!
//! Whoever opens connections and says nothing takes nobody else's place: at the bound the one that has waited longest for
//! its client makes room.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tower::ServiceExt;

use crate::http::Service;

/// How many connections are open at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// In all.
    pub(crate) total: usize,
    /// From one address.
    pub(crate) per_address: usize,
}

impl Default for Room {
    /// 2,048 of about 20 KiB: 40 MiB; half of it for one address, so that one cannot shut out all others.
    fn default() -> Self {
        Room { total: 2048, per_address: 1024 }
    }
}

/// Serves until `stop` completes; then requests may finish, but not for longer than [`DRAIN`].
pub(crate) async fn serve(listener: TcpListener, service: Service, room: Room, stop: impl Future<Output = ()>) {
    let (stopping, is_stopping) = watch::channel(false);
    let mut open = Vec::new();
    let mut tasks = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(ended) = tasks.join_next_with_id() => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                open.retain(|connection: &Connection| connection.task.id() != id);
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if make_room(&mut open, peer.ip(), room) {
                        let is_serving = Arc::new(AtomicBool::new(false));
                        let talk = converse(stream, peer, service.clone(), Arc::clone(&is_serving), is_stopping.clone());
                        open.push(Connection { peer: peer.ip(), is_serving, task: tasks.spawn(talk) });
                    }
                }
                Err(error) => {
                    tracing::warn!("Cannot accept a connection to the API ({error})");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    // Nobody listens when the last connection has ended.
    let _ = stopping.send(true);
    let drained = tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!("{} connections to the API were cut off", tasks.len());
        tasks.shutdown().await;
    }
}

/// A connection, in the order of arrival.
struct Connection {
    peer: IpAddr,
    /// A request has been read up to its body and not yet been answered.
    is_serving: Arc<AtomicBool>,
    task: AbortHandle,
}

/// Ends the oldest connection that waits for its client, where the bound asks for it; `false` when there is none.
fn make_room(open: &mut Vec<Connection>, peer: IpAddr, room: Room) -> bool {
    let from_peer = open.iter().filter(|connection| connection.peer == peer).count();
    if open.len() < room.total && from_peer < room.per_address {
        return true;
    }
    let goes = |connection: &Connection| {
        (from_peer < room.per_address || connection.peer == peer) && !connection.is_serving.load(Ordering::Relaxed)
    };
    let Some(oldest) = open.iter().position(goes) else { return false };
    open.remove(oldest).task.abort();
    true
}

/// One connection from its first byte to its last.
async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    service: Service,
    is_serving: Arc<AtomicBool>,
    mut is_stopping: watch::Receiver<bool>,
) {
    // Both only make it better: answers leave at once, and a client that reads nothing is given up.
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNREAD_MAX.as_millis() as u32);
    let answer = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let (service, is_serving) = (service.clone(), Arc::clone(&is_serving));
        async move {
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            is_serving.store(true, Ordering::Relaxed);
            let answered = service.oneshot(request).await;
            is_serving.store(false, Ordering::Relaxed);
            answered as Result<Response, Infallible>
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), answer).with_upgrades();
    tokio::pin!(connection);
    let told = async {
        // An error means that nobody can tell any more: the server has gone.
        let _ = is_stopping.wait_for(|is_stopping| *is_stopping).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("A connection to the API failed ({error})");
    }
}

/// 5 s for requests in hand when the box stops: a password's hash takes one.
const DRAIN: Duration = Duration::from_secs(5);

/// 30 s for a request's head, and between two requests.
const HEAD_MAX: Duration = Duration::from_secs(30);

/// 100 lines: browsers send 20.
const HEADERS_MAX: usize = 100;

/// 32 KiB of head; above it 431.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// 30 s with an answer that the client does not take.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// 100 ms: without file descriptors, accepting again at once would only burn a core.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::post;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tower::Layer;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_head_that_never_ends_is_given_up() {
        let (address, _stop) = start(Room::default()).await;
        for head in ["", "POST / HTTP/1.1\r\nHost: x\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"] {
            let mut client = TcpStream::connect(address).await.expect("accepted");
            client.write_all(head.as_bytes()).await.expect("written");
            let mut heard = Vec::new();
            tokio::time::timeout(2 * HEAD_MAX, client.read_to_end(&mut heard))
                .await
                .expect("given up")
                .expect("closed");
        }
    }

    #[tokio::test]
    async fn silent_connections_make_room_for_one_that_asks() {
        let (address, _stop) = start(Room { total: 8, per_address: 4 }).await;
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(TcpStream::connect(address).await.expect("accepted"));
        }
        let mut client = TcpStream::connect(address).await.expect("accepted");
        client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.expect("written");
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.expect("answered");
        assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
        let mut first = [0; 1];
        assert_eq!(silent[0].read(&mut first).await.unwrap_or(0), 0, "the oldest went");
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_lets_a_request_finish_and_waits_for_no_idler() {
        let (address, stop) = start(Room::default()).await;
        let mut clients = Vec::new();
        for head in ["", "POST / HT", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"] {
            let mut client = TcpStream::connect(address).await.expect("accepted");
            client.write_all(head.as_bytes()).await.expect("written");
            clients.push(client);
        }
        let began = tokio::time::Instant::now();
        drop(stop.0);
        tokio::time::timeout(2 * DRAIN, stop.1).await.expect("it ends").expect("no panic");
        assert!(began.elapsed() <= DRAIN + Duration::from_millis(100), "{:?}", began.elapsed());
    }

    /// A service that reads the body; what stops it when dropped, and its task.
    async fn start(room: Room) -> (SocketAddr, (tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<()>)) {
        let router = Router::new().route("/", post(|body: String| async move { body }));
        let layer: tower::util::MapRequestLayer<fn(Request) -> Request> =
            tower::util::MapRequestLayer::new(|request| request);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let stop = async {
            // Dropped is told.
            let _ = receiver.await;
        };
        (address, (sender, tokio::spawn(serve(listener, layer.layer(router), room, stop))))
    }
}
