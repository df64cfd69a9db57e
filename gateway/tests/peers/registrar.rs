//! kamailio as a provider: a registrar that asks for SHA-256 or MD5, behind an outbound proxy that puts itself into the
//! path both ways (Path, RFC 3327; Service-Route, RFC 3608).
//!
//! ```text
//!   account ── REGISTER ──▶ edge ── + Path ──▶ core
//!   account ◀── INVITE ──── edge ◀── Route ─── core ◀── phone
//!   account ─── INVITE ───▶ edge ── Route ──▶ core ──▶ phone
//! ```

use std::net::SocketAddr;

use super::kamailio::{ANSWER, FROM_BOX, OFFER, TO_BOX};
use super::process::{Peer, free_port, kamailio};

/// A provider that is running.
pub(crate) struct Provider {
    /// Where accounts send everything.
    pub(crate) edge: SocketAddr,
    /// The registrar, where phones of others call accounts.
    pub(crate) core: SocketAddr,
    _edge: Peer,
    log: Peer,
}

impl Provider {
    /// Starts one whose calls go out to a phone, and which asks with the algorithm.
    /// An rtpengine that listens at `engine` relays the sound at the edge.
    pub(crate) fn start(algorithm: &str, phone: SocketAddr, engine: Option<SocketAddr>) -> Self {
        let [edge, core] = [(); 2].map(|()| SocketAddr::new([127, 0, 0, 1].into(), free_port()));
        let log = kamailio(&core_config(algorithm, edge, core, phone), core);
        Provider { edge, core, _edge: kamailio(&edge_config(edge, core, engine, [TO_BOX, FROM_BOX]), edge), log }
    }

    /// What the registrar has noted: a line for each thing that was right.
    pub(crate) fn notes(&self) -> String {
        self.log.output()
    }
}

/// The outbound proxy alone, in front of another registrar.
pub(crate) struct Edge {
    pub(crate) address: SocketAddr,
    _peer: Peer,
}

impl Edge {
    /// An rtpengine that listens at `engine` relays the sound.
    pub(crate) fn start(registrar: SocketAddr, engine: Option<SocketAddr>) -> Self {
        let address = SocketAddr::new([127, 0, 0, 1].into(), free_port());
        Edge { address, _peer: kamailio(&edge_config(address, registrar, engine, [FROM_BOX, TO_BOX]), address) }
    }
}

/// The account that the provider knows.
pub(crate) const USER: &str = "15551234567";

/// Its password.
pub(crate) const PASSWORD: &str = "s3cret";

/// `from_core` and `to_core` are the sides of rtpengine that calls go between.
fn edge_config(
    edge: SocketAddr,
    core: SocketAddr,
    engine: Option<SocketAddr>,
    [from_core, to_core]: [&str; 2],
) -> String {
    let (module, offer, answer) = match engine {
        Some(control) => {
            let load = "loadmodule \"rtpengine.so\"\nmodparam(\"rtpengine\", \"rtpengine_sock\"";
            (format!("{load}, \"udp:{control}\")\n"), OFFER, ANSWER)
        }
        None => (String::new(), "", ""),
    };
    format!(
        r#"
listen=udp:{edge}
loadmodule "path.so"
{module}
request_route {{
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (is_method("REGISTER")) {{ add_path(); $du = "sip:{core}"; t_relay(); exit; }}
    t_on_reply("MEDIA");
    if (has_totag()) {{
        if (loose_route()) {{ $var(way) = ""; {offer} t_relay(); exit; }}
        if (is_method("ACK") && t_check_trans()) {{ t_relay(); exit; }}
        sl_send_reply("404", "Not Here"); exit;
    }}
    if ($sp == {core_port}) {{
        $var(way) = "{from_core}";
    }} else {{
        $var(way) = "{to_core}";
    }}
    # False where the only Route is this proxy's own: the call goes to its Request-URI then.
    if (is_present_hf("Route")) {{ loose_route(); record_route(); {offer} t_relay(); exit; }}
    sl_send_reply("403", "No Route");
}}
onreply_route[MEDIA] {{ if (has_body("application/sdp")) {{ {answer} return; }} }}
"#,
        core_port = core.port()
    )
}

fn core_config(algorithm: &str, edge: SocketAddr, core: SocketAddr, phone: SocketAddr) -> String {
    format!(
        r#"
listen=udp:{core}
loadmodule "xlog.so"
loadmodule "auth.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("auth", "algorithm", "{algorithm}")
modparam("registrar", "use_path", 1)
modparam("registrar", "path_mode", 1)
modparam("registrar", "default_expires", 60)
modparam("registrar", "max_expires", 60)
request_route {{
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (is_method("REGISTER")) {{
        if (!pv_www_authenticate("{core}", "{PASSWORD}", "0")) {{ www_challenge("{core}", "1"); exit; }}
        xlog("L_ALERT", "registered $au with {algorithm}, Path $hdr(Path)\n");
        if (is_present_hf("Path")) {{ append_to_reply("Service-Route: <sip:{edge};lr>\r\n"); }}
        append_to_reply("Service-Route: <sip:{core};lr>\r\n");
        save("location");
        exit;
    }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK") && t_check_trans()) {{ t_relay(); exit; }}
        sl_send_reply("404", "Not Here"); exit;
    }}
    if ($sp == {phone_port}) {{
        record_route();
        if (!lookup("location")) {{ sl_send_reply("404", "Nobody There"); exit; }}
        t_relay();
        exit;
    }}
    if (is_method("OPTIONS")) {{ sl_send_reply("200", "OK"); exit; }}
    if (!pv_proxy_authenticate("{core}", "{PASSWORD}", "0")) {{ proxy_challenge("{core}", "1"); exit; }}
    xlog("L_ALERT", "call of $au, Route $hdr(Route)\n");
    consume_credentials();
    loose_route();
    record_route();
    $du = "sip:{phone}";
    t_relay();
}}
"#,
        phone_port = phone.port(),
    )
}
