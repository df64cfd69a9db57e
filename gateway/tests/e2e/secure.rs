//! SIP under TLS and over WebSockets: baresip, OpenSSL and a WebSocket client at the door, and a second box as a trunk.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use futures_util::{SinkExt, StreamExt};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};

use crate::daemon::{Daemon, talkstack, wait_until};
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
    for (fingerprint, reason) in [(fingerprint(&far), "rejected"), ("00".repeat(32), "unreachable")] {
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
fn the_box_shows_its_certificate_to_a_trunk_that_asks_for_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = client_certificate(dir.path());
    let [authority, certificate, key] = files.each_ref().map(|path| path.to_str().expect("text"));
    let far =
        Daemon::serve(&[("TALKSTACK__SIP__TLS_LISTEN", "127.0.0.1:0"), ("TALKSTACK__SIP__TLS_CLIENT_CA", authority)]);
    let fields = json!({ "transport": "tls", "tls_fingerprint": fingerprint(&far) });
    let shown = [("TALKSTACK__SIP__TLS_CERTIFICATE", certificate), ("TALKSTACK__SIP__TLS_KEY", key)];
    for (settings, reason) in [(&shown[..], "rejected"), (&[], "unreachable")] {
        let site = Site::new(settings, far.secured("tls"), fields.clone());
        // The far box has no such number: its 404 came through TLS.
        let ended = site.ended(&site.dial("+15550000001"));
        assert_eq!(ended["outcome"]["reason"], reason, "{ended}");
    }
}

#[test]
fn what_is_wrong_with_a_trunk_s_certificate_is_said_and_no_call_goes_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new(dir.path());
    let ca = authority.file.to_str().expect("text");
    let past = (2020, 2021);
    for (names, life, believed, said) in [
        ("127.0.0.1", None, true, "takes connections under TLS"),
        ("other.example", None, true, "the peer's certificate is for another name than the trunk's host"),
        ("127.0.0.1", Some(past), true, "the peer's certificate has expired or is not valid yet"),
        ("127.0.0.1", None, false, "no authority that is known here has signed the peer's certificate"),
    ] {
        let (certificate, key) = authority.sign(names, life);
        let far = Daemon::serve(&[
            ("TALKSTACK__SIP__TLS_LISTEN", "127.0.0.1:0"),
            ("TALKSTACK__SIP__TLS_CERTIFICATE", certificate.to_str().expect("text")),
            ("TALKSTACK__SIP__TLS_KEY", key.to_str().expect("text")),
        ]);
        let settings = [("TALKSTACK__SIP__TLS_CA", ca)];
        let site = Site::new(if believed { &settings } else { &[] }, far.secured("tls"), json!({ "transport": "tls" }));
        let output = talkstack(&site.daemon.dir).args(["trunk", "test", "line"]).output().expect("the binary starts");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.contains(said), "{said}: {told}");
        let ended = site.ended(&site.dial("+15550000001"));
        let reason = if said.starts_with("takes") { "rejected" } else { "unreachable" };
        assert_eq!(ended["outcome"]["reason"], reason, "{said}: {ended}");
        let output = talkstack(&site.daemon.dir).args(["trunk", "show", "line", "--json"]).output().expect("starts");
        let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let problem = shown["state"]["problem"].as_str().unwrap_or_default();
        assert_eq!(problem.contains(said), !said.starts_with("takes"), "{said}: {shown}");
    }
}

#[test]
fn a_certificate_is_made_where_none_is_named_and_stays_the_same_over_restarts() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = [("TALKSTACK__SIP__TLS_LISTEN", "127.0.0.1:0")];
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut daemon = Daemon::start("serve", dir.path(), &settings);
        let answer = options_by_openssl(daemon.secured("tls"), &[]);
        assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
        seen.push(fingerprint(&daemon));
        assert!(daemon.stop().success());
    }
    assert_eq!(seen[0], seen[1]);
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
        for (protocol, origin, status) in
            [(None, None, 400), (Some("chat"), None, 400), (Some("sip"), Some("https://evil.example"), 403)]
        {
            assert_eq!(connect(&url, protocol, origin).await.err(), Some(status), "{protocol:?} {origin:?}");
        }
        let mut socket = connect(&url, Some("chat, SIP"), Some("https://pbx.example")).await.expect("let in");
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

#[test]
fn a_websocket_takes_fragments_and_pings_and_closes_on_what_is_too_long_or_no_websocket() {
    let daemon = Daemon::serve(&[("TALKSTACK__SIP__WS_LISTEN", "127.0.0.1:0")]);
    let url = format!("ws://{}/", daemon.secured("ws"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut socket = connect(&url, Some("sip"), None).await.expect("let in");
        let text = request("OPTIONS", 1, "", "");
        let (first, rest) = text.split_at(10);
        let (second, third) = rest.split_at(100);
        socket.send(fragment(first, Data::Text, false)).await.expect("sent");
        socket.send(fragment(second, Data::Continue, false)).await.expect("sent");
        // Between fragments a ping may stand (RFC 6455 §5.4).
        socket.send(Message::Ping("there?".into())).await.expect("sent");
        socket.send(fragment(third, Data::Continue, true)).await.expect("sent");
        let (mut pongs, mut answers) = (0, 0);
        while (pongs, answers) != (1, 1) {
            match any(&mut socket).await {
                Message::Pong(bytes) if bytes == "there?" => pongs += 1,
                Message::Text(text) if text.starts_with("SIP/2.0 200 ") => answers += 1,
                other => panic!("{other:?}"),
            }
        }
        // 64 KiB are taken, whole or in fragments, and not an octet more.
        for (octets, is_taken) in [(MESSAGE_MAX, true), (MESSAGE_MAX + 1, false)] {
            for parts in [1, 5] {
                let mut socket = connect(&url, Some("sip"), None).await.expect("let in");
                let text = padded(octets);
                let cut = text.len().div_ceil(parts);
                for at in 0..parts {
                    let part = &text[at * cut..((at + 1) * cut).min(text.len())];
                    let kind = if at == 0 { Data::Text } else { Data::Continue };
                    socket.send(fragment(part, kind, at + 1 == parts)).await.expect("sent");
                }
                match any(&mut socket).await {
                    Message::Text(text) => assert!(is_taken && text.starts_with("SIP/2.0 200 "), "{octets}: {text}"),
                    Message::Close(Some(frame)) => {
                        assert_eq!((is_taken, frame.code), (false, CloseCode::Size), "{octets} in {parts}");
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        // What no text is, and what no frame is.
        for (octets, code) in
            [(&b"\x81\x82\0\0\0\0\xff\xfe"[..], CloseCode::Invalid), (b"\x83\x80\0\0\0\0", CloseCode::Protocol)]
        {
            let mut socket = connect(&url, Some("sip"), None).await.expect("let in");
            tokio::io::AsyncWriteExt::write_all(socket.get_mut(), octets).await.expect("sent");
            match any(&mut socket).await {
                Message::Close(Some(frame)) => assert_eq!(frame.code, code),
                other => panic!("{other:?}"),
            }
        }
    });
}

type Socket = tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>;

/// A WebSocket, or the status that refuses it.
async fn connect(url: &str, protocol: Option<&'static str>, origin: Option<&'static str>) -> Result<Socket, u16> {
    let mut request = url.into_client_request().expect("a URL");
    if let Some(protocol) = protocol {
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
    }
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", HeaderValue::from_static(origin));
    }
    let address = request.uri().authority().expect("an address").as_str().to_owned();
    let stream = tokio::net::TcpStream::connect(address).await.expect("accepted");
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

async fn any(socket: &mut Socket) -> Message {
    let message = tokio::time::timeout(std::time::Duration::from_secs(8), socket.next()).await.expect("in time");
    message.expect("open").expect("whole")
}

async fn next(socket: &mut Socket) -> String {
    loop {
        match any(socket).await {
            Message::Text(text) => return text.as_str().to_owned(),
            Message::Binary(bytes) => return String::from_utf8_lossy(&bytes).into_owned(),
            _ => {}
        }
    }
}

fn fragment(text: &str, kind: Data, is_last: bool) -> Message {
    Message::Frame(Frame::message(text.as_bytes().to_vec(), OpCode::Data(kind), is_last))
}

/// An OPTIONS of exactly so many octets.
fn padded(octets: usize) -> String {
    let text = request("OPTIONS", 7, "", &"x".repeat(octets));
    let more = text.len() - octets;
    let text = request("OPTIONS", 7, "", &"x".repeat(octets - more));
    assert_eq!(text.len(), octets);
    text
}

/// The SHA-256 fingerprint that a box prints of its certificate.
pub(crate) fn fingerprint(daemon: &Daemon) -> String {
    let printed = std::fs::read_to_string(daemon.dir.join("serve.log")).expect("a log");
    let found = printed.split("certificate SHA-256 ").nth(1).and_then(|rest| rest.get(..64));
    found.expect("it is printed").to_owned()
}

/// Signs certificates of servers.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
    /// Its own certificate.
    file: PathBuf,
}

impl Authority {
    fn new(dir: &Path) -> Self {
        let mut wanted = CertificateParams::new(Vec::new()).expect("no names");
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(wanted, key).expect("signed");
        let file = dir.join("authority.crt");
        std::fs::write(&file, issuer.pem()).expect("written");
        Authority { issuer, dir: dir.to_owned(), file }
    }

    /// A certificate for a name, and its key; `life` is its first year and the one behind its last.
    fn sign(&self, name: &str, life: Option<(i32, i32)>) -> (PathBuf, PathBuf) {
        let mut wanted = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        if let Some((from, to)) = life {
            (wanted.not_before, wanted.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        }
        let key = KeyPair::generate().expect("a key");
        let signed = wanted.signed_by(&key, &self.issuer).expect("signed");
        let (certificate, key_file) = (self.dir.join("server.crt"), self.dir.join("server.key"));
        std::fs::write(&certificate, signed.pem()).expect("written");
        std::fs::write(&key_file, key.serialize_pem()).expect("written");
        (certificate, key_file)
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

/// 64 KiB: the longest message.
const MESSAGE_MAX: usize = 64 << 10;
