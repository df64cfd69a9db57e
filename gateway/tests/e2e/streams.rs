//! Connections that last, those that do not, and those whose far end does not read; STUN on SIP's own port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
use serde_json::{Value, json};

use crate::daemon::{Daemon, wait_until};
use crate::http::Client;
use crate::peers::site::Site;
use crate::sipp::Sipp;
use crate::uas::response;

#[test]
fn a_registration_whose_connection_ends_is_made_anew_at_once_and_then_after_a_while() {
    let registrar = TcpListener::bind("127.0.0.1:0").expect("a port");
    let site = registering(registrar.local_addr().expect("bound"));
    let begin = Instant::now();
    let first = serve_register(&registrar);
    let again = serve_register(&registrar);
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    let number = |request: &str| field(request, "CSeq").split(' ').next().and_then(|number| number.parse::<u32>().ok());
    assert_eq!(number(&again), number(&first).map(|number| number + 1));
    assert_eq!(field(&again, "Call-ID"), field(&first, "Call-ID"));
    assert!(field(&again, "Contact").contains(";transport=tcp>"), "{again}");
    wait_until("it is registered, and the lost connection is known", || {
        let log = std::fs::read_to_string(site.daemon.dir.join("serve.log")).ok()?;
        let is_known = log.matches("The connection to the trunk line has ended").count() == 2;
        (is_known && state(&site.client)["registration"]["state"] == "registered").then_some(())
    });
    assert!(registrar.accept().is_err(), "a registrar that closes each time is not asked all the time");
}

#[test]
fn a_registration_goes_by_the_transport_that_the_outbound_proxy_names() {
    let proxy = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = proxy.local_addr().expect("bound");
    let fields = json!({
        "register": true, "username": "box", "password": "s3cret", "outbound_proxy": format!("sip:{address};transport=tcp"),
    });
    let _site = Site::new(&[], SocketAddr::from(([127, 0, 0, 1], 9)), fields);
    let request = serve_register(&proxy);
    assert!(field(&request, "Via").starts_with("SIP/2.0/TCP "), "{request}");
    assert!(field(&request, "Contact").contains(";transport=tcp>"), "{request}");
}

#[test]
fn a_registrar_that_refuses_the_connection_is_known_at_once() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let begin = Instant::now();
    let site = registering(nobody);
    let state = wait_until("it is unreachable", || {
        let state = state(&site.client);
        (state["registration"]["state"] == "unreachable").then_some(state)
    });
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}: a transaction takes 32 s", begin.elapsed());
    assert_eq!(state["problem"], "nobody answers there");
}

#[test]
fn a_binding_request_on_the_sip_port_is_told_where_it_came_from() {
    let daemon = Daemon::serve(&[]);
    let phone = UdpSocket::bind("127.0.0.1:0").expect("a port");
    phone.set_read_timeout(Some(Duration::from_secs(8))).expect("set");
    let id: [u8; 12] = *b"twelve bytes";
    phone.send_to(&talkstack_media::stun::request(&id), daemon.sip()).expect("sent");
    let mut buffer = [0; 1500];
    let (bytes, from) = phone.recv_from(&mut buffer).expect("answered");
    assert_eq!(from, daemon.sip());
    let own = phone.local_addr().expect("bound");
    let seen = talkstack_media::stun::Binding::Success(Some(own));
    assert_eq!(talkstack_media::stun::parse(&buffer[..bytes]), Some((id, seen)));
}

#[test]
fn peers_that_read_nothing_hold_no_memory_and_no_call() {
    let daemon = Daemon::serve(&[]);
    // What calls need stays for the next ones.
    Sipp::new(daemon.sip(), "basic").calls(5).succeeds();
    let before = memory_kb(daemon.pid());
    let mut peers: Vec<(TcpStream, bool)> = (0..DEAF).map(|_| (deaf(daemon.sip()), true)).collect();
    let begin = Instant::now();
    let mut asked = 0;
    while begin.elapsed() < Duration::from_secs(3) {
        for (peer, takes) in peers.iter_mut().filter(|(_, takes)| *takes) {
            asked += 1;
            // Full, or closed: nothing more comes of it.
            *takes = peer.write_all(options(asked).as_bytes()).is_ok();
        }
    }
    Sipp::new(daemon.sip(), "basic").calls(5).succeeds();
    let grown = memory_kb(daemon.pid()).saturating_sub(before);
    println!("{asked} requests of {DEAF} peers that read no answer: {grown} kB more");
    assert!(asked > DEAF * 200, "{asked} requests are no flood");
    // 128 KiB each, and what the process needs for anything.
    assert!(grown < (DEAF as u64) * 128 + 8 * 1024, "{grown} kB");
    let held = unread(daemon.sip());
    assert!(held < DEAF as u64 * (SEND_BUFFER_KB + 64), "{held} kB wait in the kernel");
}

/// A box whose trunk at this address is registered with over TCP.
fn registering(registrar: SocketAddr) -> Site {
    let fields = json!({ "transport": "tcp", "register": true, "username": "box", "password": "s3cret" });
    Site::new(&[], registrar, fields)
}

/// Takes a connection, grants the REGISTER that comes on it, and closes it; the request.
fn serve_register(registrar: &TcpListener) -> String {
    registrar.set_nonblocking(true).expect("set");
    let (mut stream, _) = wait_until("the box connects", || registrar.accept().ok());
    stream.set_nonblocking(false).expect("set");
    stream.set_read_timeout(Some(Duration::from_secs(8))).expect("set");
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).expect("a request");
        text.push(octet[0]);
    }
    let request = String::from_utf8(text).expect("text");
    assert!(request.starts_with("REGISTER "), "{request}");
    let own = format!("Contact: {};expires=600\r\n", field(&request, "Contact"));
    stream.write_all(response(&request, "200 OK", &own, "").as_bytes()).expect("taken");
    request
}

/// How the only trunk is.
fn state(client: &Client) -> Value {
    let trunks = client.get("/api/v1/trunks");
    trunks["data"][0]["state"].clone()
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// A connection that takes 4 KiB and is never read.
fn deaf(target: SocketAddr) -> TcpStream {
    let handle = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    sockopt::set_socket_recv_buffer_size(&handle, 4096).expect("set");
    bind(&handle, &SocketAddr::from(([127, 0, 0, 2], 0))).expect("an address of loopback");
    connect(&handle, &target).expect("accepted");
    let stream = TcpStream::from(handle);
    stream.set_nonblocking(true).expect("set");
    stream
}

fn options(number: usize) -> String {
    format!(
        "OPTIONS sip:x@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.2;branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\n\
         From: <sip:a@b>;tag=1\r\nTo: <sip:x@127.0.0.1>\r\nCall-ID: {number}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

fn memory_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Kilobytes that the kernel holds for the box's peers, unsent or not acknowledged.
fn unread(target: SocketAddr) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let port = format!(":{:04X}", target.port());
    let queues = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_its = words.get(1)?.ends_with(&port) && words.get(3) == Some(&"01");
        let waiting = words.get(4).filter(|_| is_its)?.split(':').next()?;
        u64::from_str_radix(waiting, 16).ok()
    });
    queues.sum::<u64>() / 1024
}

/// 60 connections of one source, which may have 64.
const DEAF: usize = 60;

/// What a connection's unsent octets may take in the kernel: 64 KiB, which it doubles.
const SEND_BUFFER_KB: u64 = 128;
