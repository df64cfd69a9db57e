//! Networks of a test's own: namespaces joined by cables, with a NAT in between.
//!
//! ```text
//!   192.168.77.2            192.168.77.1 │ 203.0.113.1            203.0.113.2
//!     inside ─────────────────────── router ──────────────────────── outside
//! ```

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A private and a public network with a router between them. All of it goes with it.
pub(crate) struct Networks {
    prefix: String,
}

/// What stands in one of the two networks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// Behind the router.
    Inside,
    /// The router itself.
    Router,
    /// The public side.
    Outside,
}

/// How the router translates.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Nat {
    /// One mapping for all peers, and whoever knows it may send (RFC 3489 §5).
    FullCone,
    /// A mapping of its own, on a random port, for each peer; nobody else may send.
    Symmetric,
}

impl Networks {
    /// Lays the cables; `None`, with a sentence, where that is not permitted.
    pub(crate) fn lay(nat: Nat) -> Option<Self> {
        let networks = Networks { prefix: format!("ts{:x}", super::torture::rand_word()) };
        if !networks.ip(&["netns", "add", &networks.name(Place::Inside)]) {
            super::table::print("skipped: no network namespaces here (they need root and iproute2)\n");
            return None;
        }
        let names = [Place::Inside, Place::Router, Place::Outside].map(|place| networks.name(place));
        let [inside, router, outside] = names.each_ref().map(String::as_str);
        networks.must(&["netns", "add", router]);
        networks.must(&["netns", "add", outside]);
        for (ends, place, near, far) in [
            (["in", "lan"], inside, "192.168.77.2/24", "192.168.77.1/24"),
            (["out", "wan"], outside, "203.0.113.2/24", "203.0.113.1/24"),
        ] {
            let [end, at_router] = ends;
            networks.must(&[
                "link", "add", end, "netns", place, "type", "veth", "peer", "name", at_router, "netns", router,
            ]);
            for (netns, device, address) in [(place, end, near), (router, at_router, far)] {
                networks.must(&["-n", netns, "addr", "add", address, "dev", device]);
                networks.must(&["-n", netns, "link", "set", device, "up"]);
                networks.must(&["-n", netns, "link", "set", "lo", "up"]);
            }
        }
        networks.must(&["-n", inside, "route", "add", "default", "via", "192.168.77.1"]);
        networks.translate(nat);
        Some(networks)
    }

    fn translate(&self, nat: Nat) {
        // A thread in a namespace sees the namespace's own /proc/sys/net.
        self.within(Place::Router, || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).expect("root may");
        match nat {
            Nat::FullCone => {
                self.table(&["-A", "POSTROUTING", "-o", "wan", "-j", "MASQUERADE"]);
                self.table(&["-A", "PREROUTING", "-i", "wan", "-j", "DNAT", "--to-destination", "192.168.77.2"]);
            }
            Nat::Symmetric => {
                self.table(&["-A", "POSTROUTING", "-o", "wan", "-p", "udp", "-j", "MASQUERADE", "--random-fully"]);
                self.rule(
                    "filter",
                    &["-A", "FORWARD", "-i", "wan", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"],
                );
                self.rule("filter", &["-A", "FORWARD", "-i", "wan", "-j", "DROP"]);
            }
        }
    }

    fn table(&self, rule: &[&str]) {
        self.rule("nat", rule);
    }

    /// A rule of the router's.
    pub(crate) fn rule(&self, table: &str, rule: &[&str]) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(Place::Router), "iptables", "-w", "-t", table]).args(rule);
        assert!(command.status().is_ok_and(|status| status.success()), "iptables {table} {rule:?}");
    }

    /// Runs on a thread of its own in one of the networks: sockets made and programs started there stay there.
    pub(crate) fn within<T: Send>(&self, place: Place, body: impl FnOnce() -> T + Send) -> T {
        let name = self.name(place);
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let namespace = File::open(format!("/run/netns/{name}")).expect("it is there");
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may");
                body()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn name(&self, place: Place) -> String {
        format!("{}-{place:?}", self.prefix)
    }

    fn must(&self, arguments: &[&str]) {
        assert!(self.ip(arguments), "ip {arguments:?}");
    }

    fn ip(&self, arguments: &[&str]) -> bool {
        let output = Command::new("ip").args(arguments).output();
        output.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for place in [Place::Inside, Place::Router, Place::Outside] {
            self.ip(&["netns", "del", &self.name(place)]);
        }
    }
}
