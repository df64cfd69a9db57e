//! Trunks that the DNS finds: dnsmasq as the name server.

use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use talkstack_control::port::TrunkTransport;
use talkstack_gateway::io::resolve::Dns;
use talkstack_gateway::trunks::PeerName;
use talkstack_gateway::trunks::locate::Located;
use talkstack_media::sip::Transport;

use crate::daemon::wait_until;

#[test]
fn a_domain_s_records_are_followed_from_naptr_over_srv_to_addresses() {
    let server = NameServer::start(&[
        "--naptr-record=trunk.test,20,50,S,SIP+D2U,,_sip._udp.trunk.test",
        "--naptr-record=trunk.test,10,50,S,SIP+D2T,,_sip._tcp.pool.test",
        "--srv-host=_sip._udp.trunk.test,a.trunk.test,5070,10,60",
        "--srv-host=_sip._udp.trunk.test,b.trunk.test,5071,20,0",
        "--srv-host=_sip._tcp.pool.test,c.trunk.test,5072,0,0",
        "--host-record=a.trunk.test,192.0.2.1",
        "--host-record=b.trunk.test,192.0.2.2,2001:db8::2",
        "--host-record=c.trunk.test,192.0.2.3",
    ]);
    let located = server.locate("trunk.test", None, TrunkTransport::Auto);
    assert_eq!(
        found(&located),
        [
            (Transport::Tcp, 0, 0, 0, "192.0.2.3:5072".to_owned()),
            (Transport::Udp, 1, 10, 60, "192.0.2.1:5070".to_owned()),
            (Transport::Udp, 1, 20, 0, "192.0.2.2:5071 [2001:db8::2]:5071".to_owned()),
        ]
    );
    let as_said = Duration::from_secs(19)..=Duration::from_secs(20);
    assert!(located.is_whole && as_said.contains(&located.ttl), "{:?}", located.ttl);
    // A transport that is given needs no NAPTR, and a port no SRV (RFC 3263 §4.1, §4.2).
    let udp = server.locate("trunk.test", None, TrunkTransport::Udp);
    assert_eq!(found(&udp).len(), 2);
    let host = server.locate("b.trunk.test", Some(5099), TrunkTransport::Auto);
    assert_eq!(found(&host), [(Transport::Udp, 0, 0, 0, "192.0.2.2:5099 [2001:db8::2]:5099".to_owned())]);
}

#[test]
fn without_records_of_a_service_the_host_is_asked_and_without_a_server_nothing_is_found() {
    let server =
        NameServer::start(&["--host-record=host.test,192.0.2.9", "--srv-host=_sips._tcp.tls.test,host.test,5061,0,0"]);
    let host = server.locate("host.test", None, TrunkTransport::Auto);
    assert_eq!(found(&host), [(Transport::Udp, 0, 0, 0, "192.0.2.9:5060".to_owned())]);
    assert!(host.is_whole, "that there is no record is an answer");
    let tls = server.locate("tls.test", None, TrunkTransport::Auto);
    assert_eq!(found(&tls), [(Transport::Tls, 0, 0, 0, "192.0.2.9:5061".to_owned())]);
    let nobody = server.locate("nobody.test", None, TrunkTransport::Auto);
    assert_eq!((found(&nobody), nobody.is_whole), (vec![], true));
    let dns = Dns::new(vec![free_port()]);
    let dead = block_on(dns.locate(PeerName { host: "host.test".into(), port: None, transport: TrunkTransport::Udp }));
    assert_eq!((found(&dead), dead.is_whole), (vec![], false), "no answer is none");
}

/// A dnsmasq that knows the zone `test` only, and is killed when the test ends.
struct NameServer {
    child: Child,
    address: SocketAddr,
}

impl NameServer {
    fn start(records: &[&str]) -> Self {
        let address = free_port();
        let child = Command::new("/usr/sbin/dnsmasq")
            .args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file"])
            .args(["--bind-interfaces", "--listen-address=127.0.0.1", "--local=/test/", "--local-ttl=20"])
            .arg(format!("--port={}", address.port()))
            .arg("--host-record=ready.test,192.0.2.254")
            .args(records)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq is installed (gateway/tests/run)");
        let server = NameServer { child, address };
        wait_until("dnsmasq answers", || {
            let ready = server.locate("ready.test", Some(5060), TrunkTransport::Udp);
            (!ready.servers.is_empty()).then_some(())
        });
        server
    }

    fn locate(&self, host: &str, port: Option<u16>, transport: TrunkTransport) -> Located {
        block_on(Dns::new(vec![self.address]).locate(PeerName { host: host.into(), port, transport }))
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

fn found(located: &Located) -> Vec<(Transport, u16, u16, u16, String)> {
    let mut found: Vec<_> = located
        .servers
        .iter()
        .map(|server| {
            let addresses: Vec<String> = server.addresses.iter().map(ToString::to_string).collect();
            (server.transport, server.rank, server.priority, server.weight, addresses.join(" "))
        })
        .collect();
    found.sort_by_key(|(_, rank, priority, ..)| (*rank, *priority));
    found
}

/// A port that nobody has at the moment.
fn free_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port")
}
