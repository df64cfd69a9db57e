//! The socket against a peer that misbehaves; that TLS carries calls is shown end to end.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::*;
use crate::io::connect::AgentStream;

#[test]
fn a_plain_socket_keeps_what_the_kernel_does_not_take_and_sees_the_end() {
    let (mut agent, mut server) = pair(None);
    let mut outbound = vec![7; 16 << 20];
    agent.write(&mut outbound).expect("connected");
    assert!(!outbound.is_empty() && outbound.len() < 16 << 20 && agent.wants_write(&outbound));
    assert_eq!(agent.read(&mut [0; 8]).expect_err("nothing").kind(), ErrorKind::WouldBlock);
    server.write_all(b"hello").expect("written");
    let mut buffer = [0; 8];
    assert_eq!(wait(|| agent.read(&mut buffer)).expect("read"), 5);
    assert_eq!(agent.read_more(&mut buffer), None);
    drop(server);
    // The server had not read all: that makes it a reset.
    let end = wait(|| agent.read(&mut buffer));
    assert!(!matches!(end, Ok(1..)), "{end:?}");
    assert!(!end.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "the end is seen");
}

#[test]
fn bytes_that_are_no_tls_end_the_connection_and_nothing_else() {
    for bytes in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[0; 300], &[22, 3, 3, 0xff, 0xff, 1, 2, 3], &[23, 3, 3, 0, 0]] {
        let (mut agent, mut server) = pair(Some(client()));
        server.write_all(bytes).expect("written");
        drop(server);
        let mut last = Ok(1);
        for _ in 0..4 {
            last = wait(|| agent.read(&mut [0; 64]));
            if !matches!(last, Ok(1..)) {
                break;
            }
        }
        assert!(!matches!(last, Ok(1..)), "{bytes:x?}: {last:?}");
        assert_eq!(agent.read_more(&mut [0; 64]), None);
        agent.part(Vec::new());
    }
}

#[test]
fn a_tls_peer_that_reads_nothing_fills_a_bounded_buffer() {
    let (mut agent, server) = pair(Some(client()));
    let mut outbound = vec![7; 1 << 20];
    for _ in 0..3 {
        agent.write(&mut outbound).expect("connected");
    }
    assert!(outbound.len() > (1 << 20) - (128 << 10), "{} bytes are left", outbound.len());
    drop(server);
}

fn client() -> Box<ClientConnection> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("agent").expect("a name");
    Box::new(ClientConnection::new(Arc::new(config), name).expect("a client"))
}

fn pair(tls: Option<Box<ClientConnection>>) -> (AgentSocket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    (
        AgentSocket::new(AgentStream::Tcp(stream), tls, None).expect("non-blocking"),
        listener.accept().expect("accepted").0,
    )
}

/// Loopback delivers within microseconds; a second is long enough for any machine.
fn wait(mut read: impl FnMut() -> std::io::Result<usize>) -> std::io::Result<usize> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(1);
    loop {
        match read() {
            Err(error) if error.kind() == ErrorKind::WouldBlock && std::time::Instant::now() < deadline => {
                std::thread::yield_now();
            }
            read => return read,
        }
    }
}
