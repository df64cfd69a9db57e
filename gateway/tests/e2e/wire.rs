//! Peers that do what SIPp cannot: move, vanish, send too much, connect too often.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::daemon::{Daemon, wait_until};
use crate::peers::site::Site;
use crate::sipp::Sipp;

#[test]
fn races_and_lax_phones_are_served_over_udp_tcp_and_ipv6() {
    let daemon = Daemon::serve(&[("TALKSTACK__SIP__LISTEN", "127.0.0.1:0,[::1]:0")]);
    for scenario in ["bye_before_ack", "cancel_late", "merged", "lax"] {
        Sipp::new(daemon.sip(), scenario).succeeds();
        Sipp::new(daemon.sip(), scenario).over_tcp().succeeds();
        Sipp::new(daemon.sip[1], scenario).succeeds();
    }
    let calls = daemon.ended_calls(12);
    assert_eq!(calls.len(), 12, "no scenario makes a second call");
    assert!(calls.iter().all(|call| call["status"] == "completed"), "{calls:?}");
}

#[test]
fn a_re_invite_moves_the_sound_to_another_port() {
    let daemon = Daemon::serve(&[]);
    let [first, second] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a port"));
    let stream = TcpStream::connect(daemon.sip()).expect("accepted");
    let mut phone = Phone::new(stream, "demo");
    phone.invite(1, port(&first));
    phone.send("ACK", 1, "");
    hear(&first);
    phone.invite(2, port(&second));
    phone.send("ACK", 2, "");
    hear(&second);
    // What was on its way when the answer came is read off; then the old port stays silent.
    first.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
    wait_until("the old port is silent", || first.recv(&mut [0; 2048]).is_err().then_some(()));
    hear(&second);
    phone.send("BYE", 3, "");
    assert!(phone.answer().starts_with("SIP/2.0 200 "));
}

#[test]
fn a_phone_whose_connection_has_gone_gets_its_bye_on_another() {
    let mut daemon = Daemon::serve(&[]);
    let contact = TcpListener::bind("127.0.0.1:0").expect("a port");
    let media = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let mut phone = Phone::new(TcpStream::connect(daemon.sip()).expect("accepted"), "echo");
    phone.contact = contact.local_addr().expect("bound");
    phone.invite(1, port(&media));
    phone.send("ACK", 1, "");
    wait_until("the call is up", || daemon.calls().first().filter(|call| call["status"] == "in-progress").map(drop));
    phone.vanish();
    let listener = std::thread::spawn(move || {
        let mut phone = Phone::new(contact.accept().expect("the box connects").0, "echo");
        let bye = phone.message();
        let fields: Vec<&str> = bye.lines().skip(1).filter(|line| !line.starts_with("Contact")).collect();
        phone.write(&format!("SIP/2.0 200 OK\r\n{}\r\n\r\n", fields.join("\r\n").trim_end()));
        bye
    });
    assert!(daemon.stop().success());
    let bye = listener.join().expect("it came");
    assert!(bye.starts_with("BYE sip:phone@"), "{bye}");
}

#[test]
fn a_box_on_a_wildcard_answers_from_the_address_that_was_asked_and_names_it() {
    let daemon = Daemon::serve(&[("TALKSTACK__SIP__LISTEN", "0.0.0.0:0")]);
    // The kernel would answer 127.0.0.1 from 127.0.0.1.
    let asked = SocketAddr::new([127, 0, 0, 5].into(), daemon.sip().port());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    let local = socket.local_addr().expect("bound");
    let media = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {} RTP/AVP 0\r\n",
        port(&media)
    );
    let invite = format!(
        "INVITE sip:echo@{asked} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKwild;rport\r\nMax-Forwards: 70\r\n\
         From: <sip:phone@{local}>;tag=p\r\nTo: <sip:echo@{asked}>\r\nCall-ID: wild\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:phone@{local}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    socket.send_to(invite.as_bytes(), asked).expect("sent");
    let mut buffer = [0; 4096];
    let answer = loop {
        let (bytes, from) = socket.recv_from(&mut buffer).expect("an answer");
        let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
        assert_eq!(from, asked, "{text}");
        if text.starts_with("SIP/2.0 200 ") {
            break text;
        }
    };
    assert!(
        answer.contains(&format!("<sip:talkstack@{asked}>")) && answer.contains("c=IN IP4 127.0.0.5\r\n"),
        "{answer}"
    );
}

#[test]
fn a_call_to_a_trunk_where_nothing_listens_ends_at_once() {
    let closed = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let site = Site::new(&[], closed, json!({}));
    let begin = Instant::now();
    let call = site.dial("+15550000001");
    let ended = site.ended(&call);
    assert!(begin.elapsed() < Duration::from_secs(3), "ICMP has said so within a millisecond: {ended}");
    assert_eq!(ended["status"], "failed", "{ended}");
}

#[test]
fn who_is_not_admitted_gets_silence_or_a_closed_connection_and_is_counted() {
    let daemon = Daemon::serve(&[("TALKSTACK__SIP__ACCEPT", "trunks")]);
    let mut phone = Phone::new(TcpStream::connect(daemon.sip()).expect("accepted by the kernel"), "echo");
    let request = phone.request("OPTIONS", 1, "");
    // It may be closed before all is written.
    let _ = phone.stream.write_all(request.as_bytes());
    assert!(!matches!(phone.stream.read(&mut [0; 64]), Ok(1..)));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("set");
    socket.send_to(request.as_bytes(), daemon.sip()).expect("sent");
    assert!(socket.recv(&mut [0; 2048]).is_err(), "silence");
    let log = std::fs::read_to_string(daemon.dir.join("serve.log")).expect("a log");
    assert_eq!(log.matches("sip.accept does not admit them").count(), 1, "once a minute: {log}");
}

#[test]
fn what_is_too_long_is_answered_before_its_connection_is_closed() {
    let daemon = Daemon::serve(&[]);
    for (length, status) in [("70000", "413"), ("99999999999999999999", "400"), ("-1", "400")] {
        let mut phone = Phone::new(TcpStream::connect(daemon.sip()).expect("accepted"), "echo");
        let request =
            phone.request("OPTIONS", 1, "").replace("Content-Length: 0", &format!("Content-Length: {length}"));
        phone.write(&format!("{request}{}", "x".repeat(10_000)));
        let mut text = String::new();
        phone.stream.read_to_string(&mut text).expect("an answer and an end in order");
        assert!(text.starts_with(&format!("SIP/2.0 {status} ")), "{length}: {text}");
    }
    Sipp::new(daemon.sip(), "basic").over_tcp().succeeds();
}

#[test]
fn one_source_has_64_connections_and_gets_the_place_of_one_it_closes() {
    let daemon = Daemon::serve(&[]);
    let connect = || Phone::new(TcpStream::connect(daemon.sip()).expect("accepted"), "echo");
    let mut phones: Vec<Phone> = (0..64).map(|_| connect()).collect();
    phones.iter_mut().for_each(|phone| phone.send("OPTIONS", 1, ""));
    assert!(phones.iter_mut().all(|phone| phone.answer().starts_with("SIP/2.0 200 ")));
    // Closed at once, before or after its request arrives.
    assert!(!matches!(connect().stream.read(&mut [0; 64]), Ok(1..)));
    phones.pop();
    wait_until("the place is free", || {
        let mut phone = connect();
        let request = phone.request("OPTIONS", 1, "");
        phone.stream.write_all(request.as_bytes()).ok()?;
        matches!(phone.stream.read(&mut [0; 64]), Ok(1..)).then_some(())
    });
}

/// A phone on one TCP connection.
struct Phone {
    stream: TcpStream,
    user: &'static str,
    contact: SocketAddr,
    to_tag: String,
    received: Vec<u8>,
}

impl Phone {
    fn new(stream: TcpStream, user: &'static str) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(8))).expect("set");
        let contact = stream.local_addr().expect("connected");
        Phone { stream, user, contact, to_tag: String::new(), received: Vec::new() }
    }

    fn request(&self, method: &str, cseq: u32, body: &str) -> String {
        let (user, contact, to_tag, port) = (self.user, self.contact, &self.to_tag, self.port());
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} sip:{user}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:{port};branch=z9hG4bK{port}{method}{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:phone@127.0.0.1>;tag={port}\r\nTo: <sip:{user}@127.0.0.1>{to_tag}\r\n\
             Call-ID: {port}\r\nCSeq: {cseq} {method}\r\nContact: <sip:phone@{contact};transport=tcp>\r\n{kind}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn port(&self) -> u16 {
        self.stream.local_addr().expect("connected").port()
    }

    /// Offers `media` and keeps the tag of the 200.
    fn invite(&mut self, cseq: u32, media: u16) {
        let offer = format!(
            "v=0\r\no=phone 1 {cseq} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {media} RTP/AVP 0\r\n"
        );
        self.send("INVITE", cseq, &offer);
        let answer = self.answer();
        assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
        let to = answer.lines().find(|line| line.starts_with("To:")).expect("every response has it");
        self.to_tag = to.split_once(";tag=").map(|(_, tag)| format!(";tag={tag}")).expect("the tag of a dialog");
    }

    fn send(&mut self, method: &str, cseq: u32, body: &str) {
        let request = self.request(method, cseq, body);
        self.write(&request);
    }

    fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("taken");
    }

    /// The next final response.
    fn answer(&mut self) -> String {
        loop {
            let message = self.message();
            if !message.starts_with("SIP/2.0 1") {
                return message;
            }
        }
    }

    /// The next message.
    fn message(&mut self) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.received).into_owned();
            if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
                let length: usize = length.parse().expect("a number");
                if rest.len() >= length {
                    let whole = head.len() + 4 + length;
                    self.received.drain(..whole);
                    return text[..whole].to_owned();
                }
            }
            let mut buffer = [0; 4096];
            let bytes = self.stream.read(&mut buffer).expect("a message comes");
            assert!(bytes > 0, "closed after {text:?}");
            self.received.extend_from_slice(&buffer[..bytes]);
        }
    }

    /// Closes the connection and nothing else.
    fn vanish(self) {
        drop(self.stream);
    }
}

fn port(socket: &UdpSocket) -> u16 {
    socket.local_addr().expect("bound").port()
}

/// Waits for twenty packets of sound.
fn hear(socket: &UdpSocket) {
    socket.set_read_timeout(Some(Duration::from_secs(8))).expect("set");
    for _ in 0..20 {
        socket.recv(&mut [0; 2048]).expect("sound comes");
    }
}
