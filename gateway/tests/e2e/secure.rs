//! SIP under TLS and over WebSockets: baresip, OpenSSL and a WebSocket client at the door, and a second box as a trunk.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::daemon::{Daemon, wait_until};
use crate::peers::site::Site;
use crate::phones::{Baresip, prompt};
use crate::signal::best_match;

#[test]
fn a_phone_calls_under_tls_and_hears_itself() {
    let daemon = Daemon::serve(&[("TALKSTACK__SIP__TLS_LISTEN", "127.0.0.1:0")]);
    let words = prompt("en/goodbye");
    let uri = format!("sip:echo@{};transport=tls", daemon.secured("tls"));
    let phone = Baresip::dialling(&uri, &words);
    wait_until("the words have come back", || (phone.heard_so_far() > words.len() + 8000).then_some(()));
    let heard = phone.hang_up();
    let (_, score) = best_match(&heard, &words[2000..8000]);
    assert!(score >= 0.9, "the words match with {score:.3}");
    assert_eq!(daemon.ended_calls(1)[0]["status"], "completed", "the BYE came under TLS, too");
}

#[test]
fn who_must_show_a_certificate_and_shows_none_is_not_let_in() {
    let dir = tempfile::tempdir().expect("a directory");
    let [authority, certificate, key] = client_certificate(dir.path());
    let daemon = Daemon::serve(&[
        ("TALKSTACK__SIP__TLS_LISTEN", "127.0.0.1:0"),
        ("TALKSTACK__SIP__TLS_CLIENT_CA", authority.to_str().expect("text")),
    ]);
    let address = daemon.secured("tls");
    assert_eq!(options_by_openssl(address, &[]), "");
    let shown = [Path::new("-cert"), &certificate, Path::new("-key"), &key].map(|word| word.to_str().expect("text"));
    let answer = options_by_openssl(address, &shown);
    assert!(answer.starts_with("SIP/2.0 200 ") && answer.contains("\r\nVia: SIP/2.0/TLS "), "{answer}");
}

#[test]
fn a_trunk_under_tls_is_believed_by_its_fingerprint_and_not_by_another() {
    let far = Daemon::serve(&[("TALKSTACK__SIP__TLS_LISTEN", "127.0.0.1:0")]);
    let address = far.secured("tls");
    let printed = std::fs::read_to_string(far.dir.join("serve.log")).expect("a log");
    let fingerprint =
        printed.split("certificate SHA-256 ").nth(1).and_then(|rest| rest.get(..64)).expect("it is printed");
    for (fingerprint, reason) in [(fingerprint.to_owned(), "rejected"), ("00".repeat(32), "unreachable")] {
        let site = Site::new(&[], address, json!({ "transport": "tls", "tls_fingerprint": fingerprint }));
        // The far box has no such number: its 404 came through TLS.
        let ended = site.ended(&site.dial("+15550000001"));
        assert_eq!(ended["outcome"]["reason"], reason, "{ended}");
    }
    let unsigned = Site::new(&[], address, json!({ "transport": "tls" }));
    let ended = unsigned.ended(&unsigned.dial("+15550000001"));
    assert_eq!(ended["outcome"], json!({ "blame": "trunk", "reason": "unreachable" }), "nobody has signed it");
}

#[test]
fn a_websocket_carries_a_call_and_wants_its_subprotocol_and_an_admitted_page() {
    let daemon = Daemon::serve(&[
        ("TALKSTACK__SIP__WS_LISTEN", "127.0.0.1:0"),
        ("TALKSTACK__SIP__WS_ORIGINS", "https://pbx.example"),
    ]);
    let url = format!("ws://{}/", daemon.secured("ws"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for (protocol, origin) in [(None, None), (Some("sip"), Some("https://evil.example"))] {
            assert!(connect(&url, protocol, origin).await.is_none(), "{protocol:?} {origin:?}");
        }
        let mut socket = connect(&url, Some("sip"), Some("https://pbx.example")).await.expect("let in");
        socket.send(Message::text(request("OPTIONS", 1, "", ""))).await.expect("sent");
        let answer = next(&mut socket).await;
        assert!(
            answer.starts_with("SIP/2.0 200 ") && answer.contains("Via: SIP/2.0/WS df7jal23ls0d.invalid"),
            "{answer}"
        );
        let offer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";
        // Binary frames are as good (RFC 7118 §5.1).
        socket.send(Message::binary(request("INVITE", 2, "", offer).into_bytes())).await.expect("sent");
        let mut answer = next(&mut socket).await;
        while answer.starts_with("SIP/2.0 1") {
            answer = next(&mut socket).await;
        }
        assert!(answer.starts_with("SIP/2.0 200 ") && answer.contains(";transport=ws>"), "{answer}");
        let to = answer.lines().find(|line| line.starts_with("To:")).expect("there");
        let tag = to.split_once(";tag=").map(|(_, tag)| format!(";tag={tag}")).expect("a tag");
        socket.send(Message::text(request("ACK", 2, &tag, ""))).await.expect("sent");
        // What the box asks within the dialog comes over the WebSocket: its Contact is of no use elsewhere.
        let (sender, stopped) = channel();
        let mut daemon = daemon;
        std::thread::spawn(move || sender.send(daemon.stop().success()));
        let bye = next(&mut socket).await;
        assert!(bye.starts_with("BYE sip:phone@df7jal23ls0d.invalid"), "{bye}");
        drop(socket);
        assert_eq!(stopped.recv(), Ok(true));
    });
}

type Socket = tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>;

async fn connect(url: &str, protocol: Option<&'static str>, origin: Option<&'static str>) -> Option<Socket> {
    let mut request = url.into_client_request().expect("a URL");
    if let Some(protocol) = protocol {
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
    }
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", HeaderValue::from_static(origin));
    }
    let address = request.uri().authority().expect("an address").as_str().to_owned();
    let stream = tokio::net::TcpStream::connect(address).await.expect("accepted");
    tokio_tungstenite::client_async(request, stream).await.ok().map(|(socket, _)| socket)
}

async fn next(socket: &mut Socket) -> String {
    loop {
        let message = tokio::time::timeout(std::time::Duration::from_secs(8), socket.next()).await.expect("in time");
        match message.expect("open").expect("whole") {
            Message::Text(text) => return text.as_str().to_owned(),
            Message::Binary(bytes) => return String::from_utf8_lossy(&bytes).into_owned(),
            _ => {}
        }
    }
}

fn request(method: &str, cseq: u32, to_tag: &str, body: &str) -> String {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} sip:echo@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK{method}{cseq}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:phone@127.0.0.1>;tag=p\r\nTo: <sip:echo@127.0.0.1>{to_tag}\r\nCall-ID: ws\r\n\
         CSeq: {cseq} {method}\r\nContact: <sip:phone@df7jal23ls0d.invalid;transport=ws>\r\n{kind}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What `openssl s_client` gets for an OPTIONS.
fn options_by_openssl(address: SocketAddr, shown: &[&str]) -> String {
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &address.to_string()])
        .args(shown)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is installed");
    let request = request("OPTIONS", 1, "", "").replace("SIP/2.0/WS", "SIP/2.0/TLS");
    // It may be shut out before all is written.
    let _ = client.stdin.as_mut().expect("piped").write_all(request.as_bytes());
    let mut answer = vec![0; 4096];
    let bytes = client.stdout.as_mut().expect("piped").read(&mut answer).expect("read");
    let _ = client.kill();
    let _ = client.wait();
    String::from_utf8_lossy(&answer[..bytes]).into_owned()
}

/// An authority, and a client's certificate that it has signed with its key.
fn client_certificate(dir: &Path) -> [PathBuf; 3] {
    let [ca, ca_key, client, key, wish, extensions] =
        ["ca.crt", "ca.key", "client.crt", "client.key", "client.csr", "client.ext"].map(|name| dir.join(name));
    let text = |path: &PathBuf| path.to_str().expect("text").to_owned();
    let openssl = |arguments: &[&str]| {
        let made = Command::new("openssl").args(arguments).stderr(Stdio::null()).status();
        assert!(made.expect("openssl is installed").success(), "{arguments:?}");
    };
    // Without an extension OpenSSL makes a certificate of version 1, which nobody takes.
    std::fs::write(&extensions, "basicConstraints=CA:FALSE\n").expect("written");
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let ca_made =
        ["req", "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", &text(&ca_key), "-out", &text(&ca)];
    openssl(&[&ca_made[..], &new_key].concat());
    let wished = ["req", "-new", "-subj", "/CN=client", "-keyout", &text(&key), "-out", &text(&wish)];
    openssl(&[&wished[..], &new_key].concat());
    let signed = ["x509", "-req", "-days", "2", "-CAcreateserial", "-in", &text(&wish), "-CA", &text(&ca)];
    openssl(
        &[&signed[..], &["-CAkey", &text(&ca_key), "-out", &text(&client), "-extfile", &text(&extensions)]].concat(),
    );
    [ca, client, key]
}
