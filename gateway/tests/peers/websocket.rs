//! JsSIP, the phone that browsers run, over WebSocket (RFC 7118).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::process::{Peer, free_port, is_installed, kamailio};
use super::table::{Cell, print, row};
use crate::daemon::Daemon;

#[test]
fn a_browser_s_phone_calls_through_a_proxy_that_speaks_websocket() {
    if !is_installed("kamailio") || !is_installed("node") {
        return;
    }
    let Some(modules) = modules() else { return };
    let daemon = Daemon::serve(&[]);
    let [front, back] = [(); 2].map(|()| SocketAddr::new([127, 0, 0, 1].into(), free_port()));
    let _kamailio = kamailio(&proxy(front, back, daemon.sip()), back);
    let order = json!({
        "url": format!("ws://{front}"), "uri": "sip:browser@127.0.0.1", "call": format!("sip:echo@{}", daemon.sip()),
    });
    happens(&modules, &order, &["connected", "OPTIONS answered", "up", "heard itself", "ended"]);
    assert_eq!(daemon.ended_calls(1)[0]["status"], "completed");
    row("JsSIP via kamailio (WS)", &[("OPTIONS", Cell::Works), ("call to the box, two-way sound", Cell::Works)]);
}

#[test]
fn a_browser_s_phone_registers_and_calls_over_the_box_s_own_websocket_under_tls() {
    if !is_installed("node") {
        return;
    }
    let Some(modules) = modules() else { return };
    let daemon = Daemon::serve(&[("TALKSTACK__SIP__WSS_LISTEN", "127.0.0.1:0")]);
    let password = daemon.dir.join("password");
    std::fs::write(&password, "a-secret-of-ours\n").expect("written");
    let password = password.to_str().expect("text");
    daemon.command(&["extension", "add", "101", "--password-file", password]);
    let order = json!({
        "url": format!("wss://{}", daemon.secured("wss")), "ca": daemon.dir.join("tls/sip.crt"),
        "uri": "sip:101@127.0.0.1", "password": "a-secret-of-ours", "call": format!("sip:echo@{}", daemon.sip()),
    });
    happens(&modules, &order, &["connected", "registered", "OPTIONS answered", "up", "heard itself", "ended"]);
    assert_eq!(daemon.ended_calls(1)[0]["status"], "completed");
    let works = ["REGISTER", "OPTIONS", "call to the box, two-way sound"].map(|feature| (feature, Cell::Works));
    row("JsSIP at the box's WSS", &works);
}

/// Runs JsSIP to its end, and all of this must happen in order.
fn happens(modules: &Path, order: &Value, wanted: &[&str]) {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers/websocket.js");
    let path = format!("NODE_PATH={}", modules.display());
    let mut peer = Peer::start("env", &[&path, "node", script.to_str().expect("text"), &order.to_string()]);
    for line in wanted {
        peer.says(&format!("{line}\n"));
    }
    peer.finishes().expect("it ends well");
}

/// Where `gateway/tests/run` has put JsSIP; says so when it has not.
fn modules() -> Option<PathBuf> {
    let modules = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers/node_modules");
    let is_there = modules.join("jssip").is_dir() && modules.join("ws").is_dir();
    if !is_there {
        print("skipped: JsSIP is not installed (gateway/tests/run installs it with npm)\n");
    }
    is_there.then_some(modules)
}

fn proxy(front: SocketAddr, back: SocketAddr, target: SocketAddr) -> String {
    format!(
        r#"
listen=tcp:{front}
listen=udp:{back}
tcp_accept_no_cl=yes
loadmodule "xhttp.so"
loadmodule "nathelper.so"
loadmodule "websocket.so"
request_route {{
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK") && t_check_trans()) {{ t_relay(); exit; }}
        sl_send_reply("404", "Not Here"); exit;
    }}
    if (proto == WS) {{ add_contact_alias(); }}
    record_route();
    $du = "sip:{target};transport=udp";
    t_relay();
}}
event_route[xhttp:request] {{
    if ($hdr(Upgrade) =~ "websocket") {{ ws_handle_handshake(); exit; }}
    xhttp_reply("404", "Not Here", "text/plain", "");
}}
"#
    )
}
