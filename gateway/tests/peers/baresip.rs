//! baresip as a phone of the box: it registers, calls, is called, and leaves. It knows no digest but MD5, and gives up on
//! a challenge that offers another one beside it.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use talkstack_control::port::{CallEvent, Direction};

use super::kamailio::Rtpengine;
use super::lines::Lines;
use super::process::{Peer, free_port, is_installed};
use super::registrar::{Edge, PASSWORD};
use super::site::NUMBER;
use super::table::{Cell, row};
use crate::daemon::wait_until;
use crate::phones::{baresip_config, prompt};
use crate::signal::{Search, read_growing, write_wav};

#[test]
fn baresip_registers_is_called_by_another_phone_calls_an_agent_and_unregisters() {
    if !is_installed("baresip") {
        return;
    }
    let mut lines = Lines::new(&[]);
    let target = lines.daemon.sip();
    let [mut first, mut second] = ["100", "101"].map(|user| {
        lines.extension(user, PASSWORD);
        Account::new(user, target).registers()
    });
    assert_eq!((lines.bindings("100"), lines.bindings("101")), (1, 1));
    let lives = lines.lives("100");
    assert!(lives.iter().all(|seconds| (50..=60).contains(seconds)), "{lives:?} s of the 60 that it asked for");

    second.does("dial", &format!("sip:100@{target}"));
    first.peer.says("Incoming call from");
    first.does("accept", "");
    // Both say the same: each hears the other's.
    first.hears_the_words();
    second.hears_the_words();
    second.does("hangup", "");
    lines.ended();

    first.does("dial", &format!("sip:{NUMBER}@{target}"));
    lines.answered();
    first.does("hangup", "");
    lines.ended();
    first.does("quit", "");
    wait_until("it is bound no more", || (lines.bindings("100") == 0).then_some(()));
    assert_eq!(lines.bindings("101"), 1);
    row(
        "baresip, registered",
        &[
            ("digest in MD5 alone, once it gave up on SHA-256", Cell::Works),
            ("extension to extension, two-way sound", Cell::Works),
            ("call of an agent", Cell::Works),
            ("expiry as asked for, unregistered at its end", Cell::Works),
        ],
    );
}

#[test]
fn all_phones_of_an_extension_ring_and_the_one_that_answers_has_the_call() {
    if !is_installed("baresip") {
        return;
    }
    let mut lines = Lines::new(&[]);
    let target = lines.daemon.sip();
    for user in ["100", "101"] {
        lines.extension(user, PASSWORD);
    }
    let [mut desk, mut mobile] = [(); 2].map(|()| Account::new("100", target).registers());
    let mut caller = Account::new("101", target).registers();
    assert_eq!(lines.bindings("100"), 2);
    caller.does("dial", &format!("sip:100@{target}"));
    for phone in [&mut desk, &mut mobile] {
        phone.peer.says("Incoming call from");
    }
    mobile.does("accept", "");
    mobile.hears_the_words();
    desk.peer.says("CANCEL sip:");
    caller.does("hangup", "");
    lines.ended();
    row("baresip, registered twice", &[("both ring, the other one is cancelled", Cell::Works)]);
}

#[test]
fn a_phone_behind_a_proxy_is_called_along_its_path() {
    if !["baresip", "kamailio"].into_iter().all(is_installed) {
        return;
    }
    let mut lines = Lines::new(&[]);
    behind_a_proxy(&mut lines, None);
    row(
        "baresip behind kamailio",
        &[
            ("registered with Path, called along it", Cell::Works),
            ("call of the box by way of the outbound proxy", Cell::Works),
        ],
    );
}

#[test]
fn a_phone_behind_a_session_border_controller_is_called_along_its_path_and_both_latch() {
    if !["baresip", "kamailio", "rtpengine"].into_iter().all(is_installed) {
        return;
    }
    let engine = Rtpengine::start();
    behind_a_proxy(&mut Lines::new(&[]), Some(engine.control));
    row(
        "baresip behind rtpengine",
        &[
            ("Path, Record-Route, sound relayed both ways", Cell::Works),
            ("call of the box by way of the SBC", Cell::Works),
        ],
    );
}

fn behind_a_proxy(lines: &mut Lines, engine: Option<SocketAddr>) {
    let target = lines.daemon.sip();
    let [direct, behind] = ["100", "101"];
    [direct, behind].iter().for_each(|user| lines.extension(user, PASSWORD));
    let edge = Edge::start(target, engine);
    let mut inside = Account::new(behind, target).by(edge.address).registers();
    let mut outside = Account::new(direct, target).registers();
    outside.does("dial", &format!("sip:{behind}@{target}"));
    let invite = inside.peer.says("Incoming call from");
    assert!(invite.contains(&format!("\nRecord-Route: <sip:{}", edge.address)), "not by way of the proxy:\n{invite}");
    inside.does("accept", "");
    inside.hears_the_words();
    outside.hears_the_words();
    // On its route set, the ACK and the BYE as well.
    outside.does("hangup", "");
    let ending = inside.peer.says("BYE sip:");
    assert!(ending.contains(&format!("UDP {} -> ", edge.address)), "{ending}");
    lines.ended();

    inside.does("dial", &format!("sip:echo@{target}"));
    lines.answered();
    let way = format!(" -> {}\nINVITE sip:echo@", edge.address);
    assert!(inside.peer.output().contains(&way), "not by way of the proxy:\n{}", inside.peer.output());
    inside.hears_the_words();
    inside.does("hangup", "");
    lines.ended();
}

#[test]
fn phones_over_streams_are_called_on_the_connection_that_they_made() {
    if !is_installed("baresip") {
        return;
    }
    let mut lines = Lines::new(&[("TALKSTACK__SIP__TLS_LISTEN", "127.0.0.1:0")]);
    for user in ["100", "101"] {
        lines.extension(user, PASSWORD);
    }
    let (plain, secured) = (lines.daemon.sip(), lines.daemon.secured("tls"));
    let mut over_tcp = Account::new("100", plain).over("tcp").registers();
    let mut over_tls = Account::new("101", secured).over("tls").registers();
    over_tcp.does("dial", &format!("sip:101@{plain};transport=tcp"));
    over_tls.peer.says("Incoming call from");
    over_tls.does("accept", "");
    over_tcp.hears_the_words();
    over_tls.hears_the_words();
    over_tls.does("hangup", "");
    lines.ended();
    let said = over_tls.peer.output();
    assert!(said.contains(&format!("TLS {secured} -> ")) && !said.contains("\nUDP 127"), "{said}");
    for (user, phone) in [("100", &mut over_tcp), ("101", &mut over_tls)] {
        phone.does("quit", "");
        wait_until("it is bound no more", || (lines.bindings(user) == 0).then_some(()));
    }
    row(
        "baresip, TCP and TLS",
        &[
            ("registered over TCP, calls a phone", Cell::Works),
            ("registered under TLS, is called on its connection", Cell::Works),
        ],
    );
}

#[test]
fn a_wrong_password_is_asked_for_again_and_the_refusal_stored_with_its_rule() {
    if !is_installed("baresip") {
        return;
    }
    let mut lines = Lines::new(&[]);
    lines.extension("100", PASSWORD);
    let _phone = Account::new("100", lines.daemon.sip()).with("wrong").asks("403 Forbidden");
    let refusal = lines.event(|event| match event {
        CallEvent::Refused(refusal) => Some(refusal),
        _ => None,
    });
    assert_eq!((refusal.direction, refusal.status, refusal.method.as_str()), (Direction::Inbound, 401, "REGISTER"));
    assert_eq!(refusal.rule, "the secret or the extension is wrong");
    assert_eq!(lines.bindings("100"), 0);
    row("baresip, wrong password", &[("401 again, 403 after ten, stored with its rule", Cell::Works)]);
}

/// What a baresip is to register as, and how.
#[derive(Clone, Copy)]
pub(crate) struct Account<'a> {
    user: &'a str,
    password: &'a str,
    target: SocketAddr,
    transport: &'a str,
    proxy: Option<SocketAddr>,
    /// How it encrypts its sound: `srtp`, `srtp-mand`, `srtp-mandf`, `dtls_srtp`; empty is not at all.
    encryption: &'a str,
    /// The only codec that it speaks, as baresip names it; empty is all of G.711.
    codec: &'a str,
}

impl<'a> Account<'a> {
    pub(crate) fn new(user: &'a str, target: SocketAddr) -> Self {
        Account { user, password: PASSWORD, target, transport: "udp", proxy: None, encryption: "", codec: "" }
    }

    pub(crate) fn with(self, password: &'a str) -> Self {
        Account { password, ..self }
    }

    /// Encrypts its sound.
    pub(crate) fn encrypting(self, encryption: &'a str) -> Self {
        Account { encryption, ..self }
    }

    /// Speaks one codec alone.
    pub(crate) fn speaking(self, codec: &'a str) -> Self {
        Account { codec, ..self }
    }

    pub(crate) fn over(self, transport: &'a str) -> Self {
        Account { transport, ..self }
    }

    fn by(self, proxy: SocketAddr) -> Self {
        Account { proxy: Some(proxy), ..self }
    }

    /// Starts a phone and waits until it is registered.
    pub(crate) fn registers(self) -> Phone {
        self.asks("200 OK")
    }

    /// Starts a phone until its REGISTER comes to that.
    fn asks(self, outcome: &str) -> Phone {
        wait_until("baresip has been asked in MD5 alone", || {
            let phone = self.start();
            // What it says of its registration stands apart from what it has sent and got.
            let own = format!("{}@{}", self.user, self.target.ip());
            let told = wait_until("baresip registers or not", || {
                let said = phone.peer.output();
                let mut told = said.lines().filter(|line| line.contains(&own));
                told.find(|line| line.contains(outcome) || line.contains(GAVE_UP)).map(str::to_owned)
            });
            (!told.contains(GAVE_UP)).then_some(phone)
        })
    }

    fn start(self) -> Phone {
        let Account { user, password, target, transport, proxy, encryption, codec } = self;
        let dir = tempfile::tempdir().expect("a directory");
        let home = dir.path().display().to_string();
        // It hangs up when its source ends; no case lasts this long.
        write_wav(&dir.path().join("words.wav"), &[prompt("en/goodbye"), vec![1; 20 * 8000]].concat());
        let control = SocketAddr::new([127, 0, 0, 1].into(), free_port());
        let remote = format!("module ctrl_tcp.so\nctrl_tcp_listen {control}\n");
        let keys = if encryption.is_empty() { "" } else { "module srtp.so\nmodule dtls_srtp.so\n" };
        let codecs = if codec.is_empty() { "" } else { "module g722.so\nmodule opus.so\n" };
        // An account that encrypts or names codecs wants the modules for it loaded before its own.
        let first = format!("module g711.so\n{codecs}{keys}module account.so\n");
        let config = baresip_config(dir.path(), &remote).replace("module account.so\nmodule g711.so\n", &first);
        std::fs::write(dir.path().join("config"), config).expect("written");
        let outbound = proxy.map(|proxy| format!(";outbound=\"sip:{proxy};lr\"")).unwrap_or_default();
        let media = if encryption.is_empty() { String::new() } else { format!(";mediaenc={encryption}") };
        let spoken = if codec.is_empty() { String::new() } else { format!(";audio_codecs={codec}") };
        let account = format!(
            "<sip:{user}@{target};transport={transport}>;auth_pass={password};regint=60{outbound}{media}{spoken}\n"
        );
        std::fs::write(dir.path().join("accounts"), account).expect("written");
        let peer = Peer::start_in(dir, "baresip", &["-v", "-s", "-f", &home]);
        let control = wait_until("baresip takes commands", || TcpStream::connect(control).ok());
        Phone { peer, control }
    }
}

/// A baresip that says the words of a prompt in every call.
pub(crate) struct Phone {
    pub(crate) peer: Peer,
    control: TcpStream,
}

impl Phone {
    /// Has it carry out a command of its menu.
    pub(crate) fn does(&mut self, command: &str, parameter: &str) {
        let order = serde_json::json!({ "command": command, "params": parameter }).to_string();
        write!(self.control, "{}:{order},", order.len()).expect("it reads");
    }

    /// Waits until the words are heard that all of them say.
    pub(crate) fn hears_the_words(&self) {
        let words = prompt("en/goodbye");
        let mut search = Search::new(&words[4000..5600]);
        wait_until("the words are heard", || search.is_in(&self.heard()).then_some(()));
    }

    /// The samples of its last recording, whose header it writes at the end.
    pub(crate) fn heard(&self) -> Vec<i16> {
        let entries = std::fs::read_dir(self.peer.dir.path()).expect("there").flatten().map(|entry| entry.path());
        let recordings = entries.filter(|path| path.to_string_lossy().ends_with("-dec.wav"));
        recordings.max().map(|path| read_growing(&path)).unwrap_or_default()
    }
}

/// What it says of a challenge that it does not understand.
const GAVE_UP: &str = "Function not implemented";
