//! A trunk of our own for what SIPp does not tell: it takes any number of calls over UDP, notes every dialog, and
//! outlives the box.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// A running trunk, and the callers on it.
pub(crate) struct Trunk {
    pub(crate) address: SocketAddr,
    orders: Sender<Order>,
    thread: std::thread::JoinHandle<Vec<Dialog>>,
}

enum Order {
    /// Call a number of the box.
    Call { target: SocketAddr, from: String, to: String },
    /// Hang up whatever came up since.
    HangUpAll { since: Instant },
    /// Wait for the BYEs of calls that came up before, and end.
    Finish { owed_before: Option<Instant> },
}

/// What the trunk noted of a dialog.
#[derive(Debug, Clone)]
pub(crate) struct Dialog {
    pub(crate) call_id: String,
    /// The other end's number: called by the box, or calling it.
    pub(crate) number: String,
    pub(crate) is_from_box: bool,
    /// INVITEs that were no retransmissions.
    pub(crate) invites: BTreeMap<String, u32>,
    /// When it was answered and, on calls from the box, acknowledged.
    pub(crate) up_at: Option<Instant>,
    /// When the box hung up.
    pub(crate) bye_at: Option<Instant>,
    /// When the trunk hung up.
    pub(crate) hung_up_at: Option<Instant>,
    /// The box has answered the trunk's BYE.
    is_over: bool,
    /// Our own fields, for requests within the dialog.
    ours: String,
    theirs: String,
    remote: SocketAddr,
    target: String,
    answer: String,
    hang_up_at: Option<Instant>,
}

impl Trunk {
    /// Listens on loopback.
    ///
    /// The last digit of the called number chooses: 0 is busy, 1 to 4 answer and stay, the others answer and hang up
    /// after a moment.
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("bound");
        socket.set_read_timeout(Some(Duration::from_millis(10))).expect("set");
        let (orders, receiver) = channel();
        let thread = std::thread::spawn(move || Exchange { socket, address, dialogs: BTreeMap::new() }.run(&receiver));
        Trunk { address, orders, thread }
    }

    /// Calls the box.
    pub(crate) fn call(&self, target: SocketAddr, from: &str, to: &str) {
        let order = Order::Call { target, from: from.into(), to: to.into() };
        self.orders.send(order).expect("the trunk runs");
    }

    /// Hangs up on whoever came up since and is up still.
    pub(crate) fn hang_up_all(&self, since: Instant) {
        self.orders.send(Order::HangUpAll { since }).expect("the trunk runs");
    }

    /// Ends it, after it has waited for the BYEs of calls that came up before; what it noted.
    pub(crate) fn finish(self, owed_before: Option<Instant>) -> Vec<Dialog> {
        self.orders.send(Order::Finish { owed_before }).expect("the trunk runs");
        self.thread.join().expect("the trunk ends")
    }
}

struct Exchange {
    socket: UdpSocket,
    address: SocketAddr,
    dialogs: BTreeMap<String, Dialog>,
}

impl Exchange {
    fn run(mut self, orders: &Receiver<Order>) -> Vec<Dialog> {
        let mut buffer = [0; 8192];
        let mut finish: Option<(Option<Instant>, Instant)> = None;
        loop {
            // A port of the box that is closed makes an error of it.
            if let Ok((bytes, remote)) = self.socket.recv_from(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
                self.handle(&text, remote);
            }
            let now = Instant::now();
            for order in orders.try_iter() {
                match order {
                    Order::Call { target, from, to } => self.call(target, from, &to),
                    Order::HangUpAll { since } => {
                        let up = self.dialogs.values_mut().filter(|dialog| dialog.up_at.is_some_and(|at| at >= since));
                        up.for_each(|dialog| dialog.hang_up_at = Some(now));
                        // A burst of BYEs is more than a socket's buffer takes.
                        let unheard = |dialog: &&Dialog| dialog.hung_up_at.is_some() && !dialog.is_over;
                        for dialog in self.dialogs.values().filter(unheard) {
                            send(&self.socket, dialog.remote, &dialog.request("BYE", 7, self.address));
                        }
                    }
                    Order::Finish { owed_before } => finish = Some((owed_before, now + BYE_MAX)),
                }
            }
            if let Some((owed_before, until)) = finish {
                let is_owed = |dialog: &Dialog| dialog.up_at.is_some_and(|at| Some(at) < owed_before) && dialog.is_up();
                if now > until || !self.dialogs.values().any(is_owed) {
                    return self.dialogs.into_values().collect();
                }
            }
            let address = self.address;
            for dialog in self.dialogs.values_mut() {
                if dialog.hang_up_at.is_some_and(|at| at <= now) && dialog.is_up() {
                    dialog.hung_up_at = Some(now);
                    send(&self.socket, dialog.remote, &dialog.request("BYE", 7, address));
                }
            }
        }
    }

    fn handle(&mut self, text: &str, remote: SocketAddr) {
        let Some(call_id) = field(text, "Call-ID") else { return };
        if text.starts_with("INVITE ") {
            return self.handle_invite(text, call_id, remote);
        }
        let (address, socket) = (self.address, &self.socket);
        let Some(dialog) = self.dialogs.get_mut(call_id) else { return };
        if text.starts_with("ACK ") && dialog.answer.starts_with("SIP/2.0 200") {
            dialog.up_at.get_or_insert(Instant::now());
        } else if text.starts_with("BYE ") {
            dialog.bye_at.get_or_insert(Instant::now());
            send(socket, remote, &response(text, "200 OK", "", ""));
        } else if text.starts_with("SIP/2.0 ") && field(text, "CSeq").is_some_and(|cseq| cseq.ends_with("BYE")) {
            dialog.is_over = true;
        } else if text.starts_with("CANCEL ") {
            send(socket, remote, &response(text, "200 OK", "", ""));
        } else if text.starts_with("SIP/2.0 200") && field(text, "CSeq").is_some_and(|cseq| cseq.ends_with("INVITE")) {
            dialog.theirs = field(text, "To").unwrap_or_default().to_owned();
            dialog.target = contact(text);
            send(socket, remote, &dialog.request("ACK", 1, address));
            if dialog.up_at.is_none() {
                dialog.up_at = Some(Instant::now());
                dialog.hang_up_at = Some(Instant::now() + TALK);
            }
        }
    }

    fn handle_invite(&mut self, text: &str, call_id: &str, remote: SocketAddr) {
        let number = text.split(['@', ' ']).nth(1).and_then(|uri| uri.strip_prefix("sip:")).unwrap_or_default();
        let branch = field(text, "Via").unwrap_or_default().to_owned();
        let digit = number.chars().last().and_then(|digit| digit.to_digit(10)).unwrap_or(0);
        let dialog = self.dialogs.entry(call_id.to_owned()).or_insert_with(|| {
            let (status, sdp) = if digit == 0 { ("486 Busy Here", String::new()) } else { ("200 OK", sdp()) };
            let own = format!("Contact: <sip:trunk@{}>\r\n", self.address);
            Dialog {
                call_id: call_id.to_owned(),
                number: number.to_owned(),
                is_from_box: true,
                invites: BTreeMap::new(),
                up_at: None,
                bye_at: None,
                hung_up_at: None,
                is_over: false,
                ours: format!("{};tag=trunk", field(text, "To").unwrap_or_default()),
                theirs: field(text, "From").unwrap_or_default().to_owned(),
                remote,
                target: contact(text),
                answer: response(text, status, &own, &sdp),
                hang_up_at: (digit > 4).then(|| Instant::now() + TALK),
            }
        });
        *dialog.invites.entry(branch).or_default() += 1;
        if digit != 0 {
            send(&self.socket, remote, &response(text, "180 Ringing", "", ""));
        }
        send(&self.socket, remote, &dialog.answer);
    }

    fn call(&mut self, target: SocketAddr, from: String, to: &str) {
        let dialog = Dialog {
            call_id: format!("in-{}", from.trim_start_matches('+')),
            is_from_box: false,
            invites: BTreeMap::new(),
            up_at: None,
            bye_at: None,
            hung_up_at: None,
            is_over: false,
            ours: format!("<sip:{from}@{}>;tag=caller", self.address),
            theirs: format!("<sip:{to}@{target}>"),
            number: from,
            remote: target,
            target: format!("sip:{to}@{target}"),
            answer: String::new(),
            hang_up_at: None,
        };
        send(&self.socket, target, &dialog.request("INVITE", 1, self.address));
        self.dialogs.insert(dialog.call_id.clone(), dialog);
    }
}

impl Dialog {
    /// Neither side has hung up.
    fn is_up(&self) -> bool {
        self.bye_at.is_none() && self.hung_up_at.is_none()
    }

    fn request(&self, method: &str, number: u32, address: SocketAddr) -> String {
        let Dialog { call_id, ours, theirs, target, .. } = self;
        let (content, body) = if method == "INVITE" { (CONTENT, sdp()) } else { ("", String::new()) };
        let branch: String = call_id.chars().filter(char::is_ascii_alphanumeric).collect();
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bK{method}{branch};rport\r\n\
             Max-Forwards: 70\r\nFrom: {ours}\r\nTo: {theirs}\r\nCall-ID: {call_id}\r\nCSeq: {number} {method}\r\n\
             Contact: <sip:trunk@{address}>\r\n{content}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

pub(crate) fn response(request: &str, status: &str, own: &str, body: &str) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        let value = field(request, name).unwrap_or_default();
        let tag = if name == "To" && !value.contains(";tag=") { ";tag=trunk" } else { "" };
        text.push_str(&format!("{name}: {value}{tag}\r\n"));
    }
    let content = if body.is_empty() { "" } else { CONTENT };
    text.push_str(&format!("{own}{content}Content-Length: {}\r\n\r\n{body}", body.len()));
    text
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn contact(text: &str) -> String {
    let contact = field(text, "Contact").unwrap_or_default();
    contact.trim_start_matches('<').split('>').next().unwrap_or_default().to_owned()
}

fn sdp() -> String {
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n".into()
}

fn send(socket: &UdpSocket, remote: SocketAddr, text: &str) {
    // The box may be dead.
    let _ = socket.send_to(text.as_bytes(), remote);
}

const CONTENT: &str = "Content-Type: application/sdp\r\n";

/// 5 s: whoever was cut off has had a BYE by then.
pub(crate) const BYE_MAX: Duration = Duration::from_secs(5);

/// 200 ms: long enough to be killed in.
const TALK: Duration = Duration::from_millis(200);
