//! kamailio in front of the box: proxy with one and two Record-Routes, and with rtpengine as session border controller.

use std::net::{SocketAddr, UdpSocket};

use serde_json::json;

use super::phone::{Phone, field, media, routes};
use super::process::{Peer, free_port};
use super::site::Site;
use super::table::{Cell, row};

#[test]
fn calls_go_both_ways_through_a_proxy_that_stays_in_the_path() {
    if is_installed("kamailio") {
        row("kamailio, proxy", &both_ways(&Proxy { legs: 1, rtpengine: None, transport: "udp", secures: None }));
    }
}

#[test]
fn calls_go_both_ways_through_a_proxy_that_stands_in_the_path_twice() {
    if is_installed("kamailio") {
        row(
            "kamailio, two Record-Routes",
            &both_ways(&Proxy { legs: 2, rtpengine: None, transport: "udp", secures: None }),
        );
    }
}

#[test]
fn calls_go_both_ways_through_a_proxy_that_turns_datagrams_into_a_stream() {
    if is_installed("kamailio") {
        row("kamailio, UDP to TCP", &both_ways(&Proxy { legs: 2, rtpengine: None, transport: "tcp", secures: None }));
    }
}

#[test]
fn calls_go_both_ways_through_a_session_border_controller_that_relays_the_sound() {
    if is_installed("kamailio") && is_installed("rtpengine") {
        let engine = Rtpengine::start();
        let proxy = Proxy { legs: 1, rtpengine: Some(engine.control), transport: "udp", secures: None };
        assert_eq!(told_to_boxes(&proxy).ip().to_string(), "127.0.0.2");
        row("kamailio + rtpengine, SBC", &both_ways(&proxy));
    }
}

#[test]
fn calls_go_both_ways_through_a_session_border_controller_that_turns_srtp_into_rtp() {
    if is_installed("kamailio") && is_installed("rtpengine") {
        let engine = Rtpengine::start();
        let proxy = Proxy { legs: 1, rtpengine: Some(engine.control), transport: "udp", secures: Some(SDES) };
        row("kamailio + rtpengine, SRTP", &both_ways(&proxy));
    }
}

/// Where rtpengine says to boxes that it is: what a phone is told in the place of one.
fn told_to_boxes(proxy: &Proxy) -> SocketAddr {
    let [mut phone, mut instead] = [(); 2].map(|()| Phone::at("127.0.0.1"));
    let front = SocketAddr::new([127, 0, 0, 1].into(), free_port());
    let _kamailio = proxy.start(front, instead.address(), phone.address());
    std::thread::scope(|scope| {
        let invite = scope.spawn(|| instead.answers());
        phone.call(front, "sip:echo@127.0.0.1");
        media(&invite.join().expect("called")).expect("an offer")
    })
}

/// How kamailio is to stand in the path.
pub(crate) struct Proxy {
    /// Record-Routes: two when a call leaves by another socket than it came.
    pub(crate) legs: usize,
    pub(crate) rtpengine: Option<SocketAddr>,
    /// What it speaks with the box: `udp` or `tcp`.
    pub(crate) transport: &'static str,
    /// rtpengine speaks SRTP with the box, offered so, and RTP with the phone.
    pub(crate) secures: Option<&'static str>,
}

/// A call from a phone through kamailio to the box, and one of the box through kamailio to the phone.
/// With rtpengine the phone is told of no port of the box's.
fn both_ways(proxy: &Proxy) -> Vec<(&'static str, Cell)> {
    let mut phone = Phone::at("127.0.0.1");
    let front = SocketAddr::new([127, 0, 0, 1].into(), free_port());
    let secures = proxy.secures.is_some();
    let srtp = if secures { "required" } else { "off" };
    let fields = json!({ "transport": proxy.transport, "srtp": srtp, "sdes_over_plain": secures });
    let mut site = Site::new(&[("TALKSTACK__RTP__PORTS", "10000-19999")], front, fields);
    let _kamailio = proxy.start(front, site.daemon.sip(), phone.address());

    let answer = phone.call(front, &format!("sip:echo@{}", site.daemon.sip()));
    assert_eq!(routes(&answer).len(), proxy.legs, "{answer}");
    let is_told_of_another = media(&answer).is_some_and(|media| media.port() > 19_999);
    assert_eq!(is_told_of_another, proxy.rtpengine.is_some(), "{answer}");
    if proxy.rtpengine.is_some() {
        phone.moves();
    }
    assert!(phone.talks_and_hears(WORD, WORD) >= 20, "no two-way sound from the phone's call");
    phone.hangs_up();

    let call = site.dial("+15550000001");
    let invite = phone.answers();
    assert_eq!(routes(&invite).len(), proxy.legs, "{invite}");
    if proxy.rtpengine.is_some() {
        assert_eq!(media(&invite).map(|media| media.ip().to_string()).as_deref(), Some("127.0.0.1"), "{invite}");
        phone.moves();
    }
    // The menu's first key: the box repeats what it hears.
    phone.presses(1);
    assert!(phone.talks_and_hears(WORD, WORD) >= 20, "no two-way sound in the box's call");
    phone.hangs_up();
    assert_eq!(site.ended(&call)["status"], "completed");

    // The box hangs up, on the route set.
    site.dial("+15550000002");
    phone.answers();
    let bye = std::thread::scope(|scope| {
        scope.spawn(|| site.daemon.stop());
        phone.is_hung_up()
    });
    assert_eq!(bye.lines().filter(|line| line.starts_with("Via:")).count(), 2, "past the proxy: {bye}");
    assert!(!bye.contains("\r\nRoute:"), "{bye}");
    assert!(field(&bye, "CSeq").ends_with("BYE"));
    let mut cells = vec![
        ("call to the box, two-way sound", Cell::Works),
        ("call of the box, two-way sound", Cell::Works),
        ("ACK and BYE of both on the route set", Cell::Works),
    ];
    if proxy.rtpengine.is_some() {
        cells.push(("latching: box to rtpengine, rtpengine to phone", Cell::Works));
    }
    if secures {
        cells.push(("SRTP to RTP", Cell::Works));
    }
    cells
}

impl Proxy {
    /// Starts it; calls of the target go to the phone, all others to the target.
    pub(crate) fn start(&self, front: SocketAddr, target: SocketAddr, phone: SocketAddr) -> Peer {
        let back = SocketAddr::new(front.ip(), free_port());
        let (second, by_second) = match (self.legs, self.transport) {
            (_, "tcp") => (format!("listen=tcp:{front}\n"), String::new()),
            (2, _) => (format!("listen=udp:{back}\n"), format!("$fs = \"udp:{back}\";")),
            _ => (String::new(), String::new()),
        };
        // The profile is the box's side's alone.
        let (offer, to_box, from_box) = match self.secures {
            Some(profile) => {
                (OFFER.replace("RTP/AVP ", ""), format!("{profile} {TO_BOX}"), format!("RTP/AVP {FROM_BOX}"))
            }
            None => (OFFER.to_owned(), TO_BOX.to_owned(), FROM_BOX.to_owned()),
        };
        let (module, manage, on_reply) = match self.rtpengine {
            Some(control) => (
                format!(
                    "loadmodule \"rtpengine.so\"\nmodparam(\"rtpengine\", \"rtpengine_sock\", \"udp:{control}\")\n"
                ),
                offer.as_str(),
                format!("onreply_route[MEDIA] {{ if (has_body(\"application/sdp\")) {{ {ANSWER} }} }}"),
            ),
            None => (String::new(), "", "onreply_route[MEDIA] { return; }".into()),
        };
        let config = format!(
            r#"
listen=udp:{front}
{second}{module}
request_route {{
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (has_totag()) {{
        if (loose_route()) {{ $var(way) = ""; {manage} t_on_reply("MEDIA"); t_relay(); exit; }}
        if (is_method("ACK") && t_check_trans()) {{ t_relay(); exit; }}
        sl_send_reply("404", "Not Here"); exit;
    }}
    if ($sp == {box_port} || proto == TCP) {{
        $var(way) = "{from_box}";
        $du = "sip:{phone}";
    }} else {{
        $var(way) = "{to_box}";
        $du = "sip:{target};transport={transport}";
    }}
    {by_second}
    record_route();
    {manage}
    t_on_reply("MEDIA");
    t_relay();
}}
{on_reply}
"#,
            box_port = target.port(),
            transport = self.transport,
        );
        super::process::kamailio(&config, front)
    }
}

/// rtpengine in user space. It tells boxes of an address that nothing has, as one does behind a NAT: they hear where it
/// is.
pub(crate) struct Rtpengine {
    pub(crate) control: SocketAddr,
    _peer: Peer,
}

impl Rtpengine {
    pub(crate) fn start() -> Self {
        Self::told_to_boxes("127.0.0.2")
    }

    /// One that tells boxes where it is: DTLS goes to the address in the SDP and nowhere else.
    pub(crate) fn known() -> Self {
        Self::told_to_boxes("127.0.0.1")
    }

    fn told_to_boxes(ip: &str) -> Self {
        let control = SocketAddr::new([127, 0, 0, 1].into(), free_port());
        let first = 20_000 + free_port() % 10_000;
        let peer = Peer::start(
            "rtpengine",
            &[
                "--config-file=none",
                "--table=-1",
                "--foreground",
                "--log-stderr",
                "--log-level=4",
                "--num-threads=1",
                "--interface=phones/127.0.0.1",
                &format!("--interface=boxes/127.0.0.1!{ip}"),
                &format!("--listen-ng={control}"),
                &format!("--listen-cli=127.0.0.1:{}", free_port()),
                &format!("--port-min={first}"),
                &format!("--port-max={}", first + 200),
            ],
        );
        crate::daemon::wait_until("rtpengine answers", || is_pinged(control).then_some(()));
        Rtpengine { control, _peer: peer }
    }
}

fn is_pinged(control: SocketAddr) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(std::time::Duration::from_millis(100))).expect("set");
    let _ = socket.send_to(b"1 d7:command4:pinge", control);
    socket.recv(&mut [0; 512]).is_ok()
}

fn is_installed(program: &str) -> bool {
    super::process::is_installed(program)
}

/// Keys in the session description.
const SDES: &str = "RTP/SAVP DTLS=off";

/// Plain RTP towards whoever is called.
pub(crate) const OFFER: &str =
    "rtpengine_manage(\"RTP/AVP replace-origin replace-session-connection ICE=remove $var(way)\");";

/// The sides of rtpengine that a call of a box goes between.
pub(crate) const FROM_BOX: &str = "direction=boxes direction=phones";

/// The sides that a call to a box goes between.
pub(crate) const TO_BOX: &str = "direction=phones direction=boxes";

/// Whoever calls gets back the profile that it offered.
pub(crate) const ANSWER: &str = "rtpengine_manage(\"replace-origin replace-session-connection ICE=remove\");";

/// What the phone says in each frame.
const WORD: u8 = 0x35;
