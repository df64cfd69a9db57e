//! Asking STUN servers what our UDP port for SIP looks like from outside (RFC 8489).
//!
//! ```text
//!   due ─ its name's address ─▶ stun::Client ─ Send ─▶ our SIP socket ─▶ server
//!    ▲                                │ answer: Seen, where it is another
//!    └──── 25 s, next server after ───┘ silence: Silent
//! ```
//!
//! The questions keep the router's mapping open between calls.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use talkstack_media::sip::PublicAddress;
use talkstack_media::stun::Client;

use super::Names;

/// A STUN server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StunServer {
    /// Name or IPv4 address.
    pub host: String,
    /// Its UDP port.
    pub port: u16,
}

/// What is to be done, or was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiscoveryOutput {
    /// Send this from the UDP socket for SIP over IPv4.
    Send(SocketAddr, Vec<u8>),
    /// We are seen there from now on.
    Seen(SocketAddr),
    /// The server said nothing, or nothing of use; what was known before holds. Told once until one answers.
    Silent(StunServer),
}

/// Asks the servers, one after the other until one answers, and again and again.
#[derive(Debug)]
pub struct Discovery {
    /// The first is asked.
    servers: VecDeque<StunServer>,
    state: State,
    seen: Option<SocketAddr>,
    is_silence_told: bool,
    outputs: VecDeque<DiscoveryOutput>,
}

#[derive(Debug)]
enum State {
    /// To be asked at this time; until the other one its name may be unknown.
    Waiting {
        due: Instant,
        patience: Instant,
    },
    Asking(Client),
}

impl Discovery {
    /// Asks these servers; the first question is due at once, and without a server none.
    pub fn new(servers: Vec<StunServer>, now: Instant) -> Self {
        let state = State::Waiting { due: now, patience: now + NAME_MAX };
        Discovery { servers: servers.into(), state, seen: None, is_silence_told: false, outputs: VecDeque::new() }
    }

    /// The names that [`Discovery::handle_timeout`] needs the addresses of.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let hosts = self.servers.iter().map(|server| server.host.as_str());
        hosts.filter(|host| host.parse::<IpAddr>().is_err())
    }

    /// When [`Discovery::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.servers.front()?;
        match &self.state {
            State::Waiting { due, .. } => Some(*due),
            State::Asking(client) => client.poll_timeout(),
        }
    }

    /// Asks what is due. The question's name comes from `seed`, which must be unpredictable.
    pub fn handle_timeout(&mut self, names: &Names, seed: [u8; 32], now: Instant) {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        if let State::Waiting { patience, .. } = self.state {
            let Some(server) = self.address(names) else {
                return if patience > now {
                    self.state = State::Waiting { due: now + NAME_AGAIN, patience };
                } else {
                    self.go_on(now);
                };
            };
            self.state = State::Asking(Client::new(server, seed, now));
        }
        if let State::Asking(client) = &mut self.state {
            match client.handle_timeout(now) {
                Some((server, bytes)) => self.outputs.push_back(DiscoveryOutput::Send(server, bytes)),
                None => self.go_on(now),
            }
        }
    }

    /// Takes a STUN message; tells whether it is the server's answer.
    pub fn handle_message(&mut self, bytes: &[u8], remote: SocketAddr, now: Instant) -> bool {
        let State::Asking(client) = &mut self.state else { return false };
        let mapped = client.handle_answer(bytes, remote);
        if client.poll_timeout().is_some() {
            return false;
        }
        match mapped {
            Some(mapped) => {
                self.is_silence_told = false;
                self.wait(now);
                if self.seen.replace(mapped) != Some(mapped) {
                    self.outputs.push_back(DiscoveryOutput::Seen(mapped));
                }
            }
            None => self.go_on(now),
        }
        true
    }

    /// Returns what is to be done next; drain to `None`.
    pub fn poll_output(&mut self) -> Option<DiscoveryOutput> {
        self.outputs.pop_front()
    }

    /// Where we are seen.
    pub fn public(&self) -> Option<PublicAddress> {
        self.seen.map(PublicAddress::seen)
    }

    /// The server has failed: another one is asked at once where there is one that has not.
    fn go_on(&mut self, now: Instant) {
        let Some(server) = self.servers.pop_front() else { return };
        self.servers.push_back(server.clone());
        self.wait(now);
        if !std::mem::replace(&mut self.is_silence_told, true) {
            self.outputs.push_back(DiscoveryOutput::Silent(server));
            self.state = State::Waiting { due: now, patience: now + NAME_MAX };
        }
    }

    fn wait(&mut self, now: Instant) {
        let due = now + EVERY;
        self.state = State::Waiting { due, patience: due + NAME_MAX };
    }

    fn address(&self, names: &Names) -> Option<SocketAddr> {
        let StunServer { host, port } = self.servers.front()?;
        let literal = host.parse().ok();
        let ip = literal.or_else(|| names.addresses(host).iter().find(|ip| ip.is_ipv4()).copied())?;
        Some(SocketAddr::new(ip, *port))
    }
}

/// 25 s (RFC 5626 §4.4.2: 24 to 29 s): routers that close UDP mappings after 30 s are common.
const EVERY: Duration = Duration::from_secs(25);

/// 6 s for a server's name: one time-out of a resolver, and the way back.
const NAME_MAX: Duration = Duration::from_secs(6);

/// 200 ms between looks at whether a name is known.
const NAME_AGAIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use talkstack_media::stun::answer;

    use super::*;

    struct Site {
        discovery: Discovery,
        names: Names,
        start: Instant,
    }

    impl Site {
        fn new(hosts: &[&str]) -> Self {
            let start = Instant::now();
            let servers = hosts.iter().map(|host| StunServer { host: (*host).into(), port: 3478 }).collect();
            Site { discovery: Discovery::new(servers, start), names: Names::default(), start }
        }

        /// Runs to the next output; the seconds it came at.
        fn next(&mut self) -> (f32, DiscoveryOutput) {
            let mut now = self.start;
            for step in 0..200_u8 {
                if let Some(output) = self.discovery.poll_output() {
                    return ((now - self.start).as_secs_f32(), output);
                }
                now = now.max(self.discovery.poll_timeout().expect("it goes on"));
                self.discovery.handle_timeout(&self.names, [step; 32], now);
            }
            panic!("nothing more comes out")
        }

        fn question(&mut self) -> (f32, SocketAddr, Vec<u8>) {
            match self.next() {
                (at, DiscoveryOutput::Send(server, bytes)) => (at, server, bytes),
                other => panic!("{other:?}"),
            }
        }

        fn answer(&mut self, server: SocketAddr, question: &[u8], seen: &str, seconds: f32) -> bool {
            let bytes = answer(question, seen.parse().expect("an address")).expect("a request");
            self.discovery.handle_message(&bytes, server, self.start + Duration::from_secs_f32(seconds))
        }
    }

    #[test]
    fn the_mapping_is_asked_for_every_25_s_and_told_when_it_changes() {
        let mut site = Site::new(&["192.0.2.1"]);
        let (at, server, question) = site.question();
        assert_eq!((at, server.to_string()), (0.0, "192.0.2.1:3478".into()));
        assert!(!site.answer("192.0.2.66:3478".parse().expect("an address"), &question, "198.51.100.66:1", 0.0));
        assert!(site.answer(server, &question, "203.0.113.7:40001", 0.0));
        assert!(!site.answer(server, &question, "198.51.100.66:1", 0.0), "one answer a question");
        assert_eq!(site.next().1, DiscoveryOutput::Seen("203.0.113.7:40001".parse().expect("an address")));
        let (at, server, question) = site.question();
        assert_eq!(at, 25.0);
        assert!(site.answer(server, &question, "203.0.113.7:40001", 25.0));
        let (at, server, question) = site.question();
        assert_eq!(at, 50.0, "nothing is told of what has not changed");
        assert!(site.answer(server, &question, "203.0.113.8:40001", 50.0));
        assert_eq!(site.next().1, DiscoveryOutput::Seen("203.0.113.8:40001".parse().expect("an address")));
    }

    #[test]
    fn another_server_is_asked_when_one_says_nothing_and_what_was_seen_holds() {
        let mut site = Site::new(&["192.0.2.1", "192.0.2.2"]);
        let (_, server, question) = site.question();
        assert!(site.answer(server, &question, "203.0.113.7:40001", 0.0));
        site.next();
        for at in [25.0, 25.5, 26.5, 28.5, 32.5, 40.5, 56.5] {
            let (sent, server, _) = site.question();
            assert_eq!((sent, server.to_string()), (at, "192.0.2.1:3478".into()));
        }
        let (at, silent) = site.next();
        assert_eq!((at, silent), (64.5, DiscoveryOutput::Silent(StunServer { host: "192.0.2.1".into(), port: 3478 })));
        assert_eq!(
            site.discovery.public(),
            Some(PublicAddress::seen("203.0.113.7:40001".parse().expect("an address")))
        );
        let (at, server, question) = site.question();
        assert_eq!((at, server.to_string()), (64.5, "192.0.2.2:3478".into()));
        assert!(site.answer(server, &question, "203.0.113.7:40001", 64.5));
        assert_eq!(site.question().0, 89.5, "nothing has changed");
    }

    #[test]
    fn silence_is_told_once_and_asking_goes_on() {
        let mut site = Site::new(&["192.0.2.1"]);
        let silent = DiscoveryOutput::Silent(StunServer { host: "192.0.2.1".into(), port: 3478 });
        let outputs: Vec<_> = (0..40).map(|_| site.next()).collect();
        assert_eq!(outputs.iter().filter(|(_, output)| *output == silent).count(), 1);
        let begins: Vec<f32> = outputs.iter().map(|(at, _)| *at).collect();
        assert_eq!((begins[7], begins[8], begins[15]), (39.5, 39.5, 104.0), "39.5 s of asking, then 25 s of rest");
    }

    #[test]
    fn a_server_s_name_is_waited_for_and_passed_over_without_an_address() {
        let mut site = Site::new(&["stun.example", "192.0.2.2"]);
        assert_eq!(site.discovery.names().collect::<Vec<_>>(), ["stun.example"]);
        let (at, silent) = site.next();
        assert!((6.0..6.3).contains(&at) && matches!(silent, DiscoveryOutput::Silent(_)), "{at}");
        assert_eq!(site.question().1.to_string(), "192.0.2.2:3478");
        let mut site = Site::new(&["stun.example"]);
        let name = BTreeSet::from(["stun.example".to_owned()]);
        site.names.keep(&name, site.start);
        let found = ["2001:db8::1", "192.0.2.1"].map(|ip| ip.parse().expect("an address"));
        site.names.handle_found("stun.example", found.into(), site.start);
        assert_eq!(site.question().1.to_string(), "192.0.2.1:3478");
    }

    #[test]
    fn an_error_is_an_answer_of_no_use_and_no_server_is_never_due() {
        let mut site = Site::new(&["192.0.2.1", "192.0.2.2"]);
        let (_, server, mut question) = site.question();
        // The server's word for what it does not understand.
        question.splice(2..4, [0, 4]);
        question.extend([0x7F, 0, 0, 0]);
        assert!(site.answer(server, &question, "203.0.113.7:1", 0.0));
        assert!(matches!(site.next(), (_, DiscoveryOutput::Silent(_))));
        assert_eq!(site.question().1.to_string(), "192.0.2.2:3478");
        assert_eq!(Discovery::new(vec![], site.start).poll_timeout(), None);
    }
}
