use super::*;
use crate::sdp::Setup;

#[test]
fn both_sides_get_the_same_keys_whoever_begins() {
    let (here, there) = Line::new().keys();
    assert_eq!((&here.local, &here.remote[0]), (&there.remote[0], &there.local));
    assert_eq!(here.local.master.suite(), Suite::AeadAes256Gcm);
    assert_ne!(here.local.master, here.remote[0].master);
}

#[test]
fn a_handshake_survives_any_lost_datagram() {
    // A handshake has fewer than 12 datagrams; each is lost once, and then each with the one behind it.
    for lost in 0..12 {
        for more in [1, 2] {
            let mut line = Line::new();
            line.loses = Box::new(move |number| (lost..lost + more).contains(&number));
            let (here, there) = line.keys();
            assert_eq!(here.local, there.remote[0], "datagram {lost} and {more} of them");
        }
    }
}

#[test]
fn a_handshake_survives_a_line_that_loses_a_third_doubles_and_mixes() {
    let mut failed = 0;
    for seed in 1..=40 {
        let mut line = Line::new();
        let mut random = Random(seed);
        line.loses = Box::new(move |_| random.below(100) < 33);
        let mut random = Random(seed ^ 0x55);
        line.doubles = Box::new(move |_| random.below(100) < 30);
        let mut random = Random(seed ^ 0xaa);
        line.delays = Box::new(move |_| Duration::from_millis(20 + random.below(60)));
        match line.run() {
            (HandshakeOutput::Keyed(here), HandshakeOutput::Keyed(there)) => assert_eq!(here.local, there.remote[0]),
            _ => failed += 1,
        }
    }
    // Six flights each way are few for that; a leg begins again.
    assert!(failed <= 8, "{failed} of 40 failed");
}

#[test]
fn what_was_not_answered_is_sent_again_ever_more_slowly_and_given_up() {
    let [ours, theirs] = identities();
    let start = Instant::now();
    let mut handshake = Handshake::new(&ours, &peer(&theirs, DtlsRole::Client), start).expect("begun");
    let (mut now, mut sent) = (start, Vec::new());
    let failed = loop {
        match handshake.poll_output() {
            Some(HandshakeOutput::Send(_)) => sent.push((now - start).as_millis()),
            Some(output) => break output,
            None => {
                now = handshake.poll_timeout().expect("it asks again");
                handshake.handle_timeout(now);
            }
        }
    };
    assert_eq!(sent, [0, 500, 1500, 3500, 7500, 11_500, 15_500]);
    assert_eq!((failed, (now - start).as_secs()), (HandshakeOutput::Failed(DtlsError::Silent), 16));
    assert_eq!(handshake.poll_timeout(), None);
}

#[test]
fn another_certificate_than_the_described_one_gets_no_keys_and_is_named() {
    for role in [DtlsRole::Client, DtlsRole::Server] {
        let [ours, theirs] = identities();
        // Either side is told of a third one's certificate.
        let other = Identity::new().expect("made");
        let mut line = Line::with(&ours, &theirs, [role, opposite(role)], [&other, &ours]);
        let (here, there) = line.run();
        assert_eq!(here, HandshakeOutput::Failed(DtlsError::Certificate), "{role:?}");
        assert!(!matches!(there, HandshakeOutput::Keyed(_)) || role == DtlsRole::Server, "{there:?}");
    }
}

#[test]
fn one_of_several_fingerprints_suffices() {
    let [ours, theirs] = identities();
    let mut several = peer(&theirs, DtlsRole::Client);
    several.fingerprints.insert(0, Fingerprint::of(b"another"));
    let now = Instant::now();
    let here = Handshake::new(&ours, &several, now).expect("begun");
    let there = Handshake::new(&theirs, &peer(&ours, DtlsRole::Server), now).expect("begun");
    Line::of(here, there, now).keys();
}

#[test]
fn garbage_between_the_datagrams_ends_nothing_and_is_not_answered() {
    let mut line = Line::new();
    let mut random = Random(7);
    // Before each datagram: noise, an alert in parts, application data under no cipher, an endless message.
    line.noise = Some(Box::new(move || {
        let mut noise: Vec<u8> = (0..random.below(200)).map(|_| random.below(256) as u8).collect();
        match random.below(5) {
            0 => noise = record(21, 0, &[2]),
            1 => noise = record(23, 0, b"data"),
            2 => noise = record(20, 0, &[2]),
            3 => noise = record(22, 0, &[[1, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 40].as_slice(), &[0; 40]].concat()),
            _ => noise.insert(0, 22),
        }
        noise
    }));
    line.keys();
    assert!(line.datagrams < 40, "{} datagrams", line.datagrams);
}

#[test]
fn a_server_says_nothing_until_it_is_asked_and_answers_what_is_repeated_at_the_end() {
    let mut line = Line::new();
    assert_eq!(line.ends[1].poll_output(), None);
    // The server's last flight is lost as often as it comes until the client has asked three times.
    let mut lost = 0;
    line.loses_bytes = Some(Box::new(move |bytes| {
        let is_last = bytes.first() == Some(&20) || bytes.windows(2).any(|two| two == [1, 0]) && bytes[0] == 20;
        lost += u32::from(is_last && lost < 3);
        is_last && lost < 3
    }));
    line.keys();
}

#[test]
fn hostile_datagrams_never_panic() {
    let [ours, theirs] = identities();
    let now = Instant::now();
    let mut random = Random(3);
    // What a true handshake sends, with bytes changed, cut and put together.
    let mut line = Line::new();
    line.keys();
    let sent = line.sent.clone();
    for role in [DtlsRole::Client, DtlsRole::Server] {
        for _ in 0..60 {
            let mut handshake = Handshake::new(&ours, &peer(&theirs, role), now).expect("begun");
            for _ in 0..DATAGRAMS_MAX {
                let mut bytes = sent[random.below(sent.len() as u64) as usize].clone();
                for _ in 0..random.below(4) {
                    let at = random.below(bytes.len() as u64) as usize;
                    bytes[at] = random.below(256) as u8;
                }
                bytes.truncate(1 + random.below(bytes.len() as u64) as usize);
                handshake.handle_datagram(&bytes, now);
                while handshake.poll_output().is_some() {}
            }
        }
    }
}

#[test]
fn a_handshake_takes_no_more_than_so_many_datagrams() {
    let [ours, theirs] = identities();
    let now = Instant::now();
    let mut client = Handshake::new(&theirs, &peer(&ours, DtlsRole::Client), now).expect("begun");
    let Some(HandshakeOutput::Send(hello)) = client.poll_output() else { panic!("a ClientHello") };
    let mut server = Handshake::new(&ours, &peer(&theirs, DtlsRole::Server), now).expect("begun");
    for _ in 0..DATAGRAMS_MAX {
        server.handle_datagram(b"\x16nothing", now);
    }
    server.handle_datagram(&hello, now);
    assert_eq!(server.poll_output(), None);
}

#[test]
fn holdconn_is_nobody_s_to_begin() {
    assert_eq!(Setup::parse("holdconn"), Some(Setup::Holdconn));
    let [ours, theirs] = identities();
    let mut nobody = peer(&theirs, DtlsRole::Client);
    nobody.role = None;
    assert!(matches!(Handshake::new(&ours, &nobody, Instant::now()), Err(DtlsError::Setup)));
}

fn identities() -> [Identity; 2] {
    [(); 2].map(|()| Identity::new().expect("made"))
}

fn peer(theirs: &Identity, role: DtlsRole) -> DtlsPeer {
    DtlsPeer::new(vec![theirs.fingerprint()], role)
}

fn opposite(role: DtlsRole) -> DtlsRole {
    match role {
        DtlsRole::Client => DtlsRole::Server,
        DtlsRole::Server => DtlsRole::Client,
    }
}

/// A record under no cipher.
fn record(content_type: u8, sequence: u8, body: &[u8]) -> Vec<u8> {
    let mut record = vec![content_type, 254, 253, 0, 0, 0, 0, 0, 0, 9, sequence, 0, body.len() as u8];
    record.extend_from_slice(body);
    record
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }
}

type Chance = Box<dyn FnMut(usize) -> bool>;

type Choice = Box<dyn FnMut(&[u8]) -> bool>;

/// Two ends and a line between them that does what it is told to, in virtual time.
struct Line {
    ends: [Handshake; 2],
    now: Instant,
    datagrams: usize,
    sent: Vec<Vec<u8>>,
    loses: Chance,
    doubles: Chance,
    loses_bytes: Option<Choice>,
    delays: Box<dyn FnMut(usize) -> Duration>,
    noise: Option<Box<dyn FnMut() -> Vec<u8>>>,
    under_way: Vec<(Instant, usize, Vec<u8>)>,
}

impl Line {
    /// The first end begins.
    fn new() -> Self {
        let [ours, theirs] = identities();
        Self::with(&ours, &theirs, [DtlsRole::Client, DtlsRole::Server], [&theirs, &ours])
    }

    fn with(ours: &Identity, theirs: &Identity, roles: [DtlsRole; 2], described: [&Identity; 2]) -> Self {
        let now = Instant::now();
        let here = Handshake::new(ours, &peer(described[0], roles[0]), now).expect("begun");
        let there = Handshake::new(theirs, &peer(described[1], roles[1]), now).expect("begun");
        Self::of(here, there, now)
    }

    fn of(here: Handshake, there: Handshake, now: Instant) -> Self {
        Line {
            ends: [here, there],
            now,
            datagrams: 0,
            sent: Vec::new(),
            loses: Box::new(|_| false),
            doubles: Box::new(|_| false),
            loses_bytes: None,
            delays: Box::new(|_| Duration::from_millis(20)),
            noise: None,
            under_way: Vec::new(),
        }
    }

    fn keys(&mut self) -> (Box<SdesKeys>, Box<SdesKeys>) {
        match self.run() {
            (HandshakeOutput::Keyed(here), HandshakeOutput::Keyed(there)) => (here, there),
            (here, there) => panic!("no keys: {here:?}, {there:?}"),
        }
    }

    /// What each end comes to.
    fn run(&mut self) -> (HandshakeOutput, HandshakeOutput) {
        let mut ends = [None, None];
        while ends.iter().any(Option::is_none) {
            for (at, end) in ends.iter_mut().enumerate() {
                while let Some(output) = self.ends[at].poll_output() {
                    match output {
                        HandshakeOutput::Send(bytes) => self.send(1 - at, bytes),
                        output => *end = end.take().or(Some(output)),
                    }
                }
            }
            let timers = self.ends.iter().filter_map(Handshake::poll_timeout);
            let Some(next) = timers.chain(self.under_way.iter().map(|(at, ..)| *at)).min() else { break };
            self.now = self.now.max(next);
            let now = self.now;
            let (due, later) = std::mem::take(&mut self.under_way).into_iter().partition(|(at, ..)| *at <= now);
            self.under_way = later;
            for (_, to, bytes) in due {
                if let Some(noise) = &mut self.noise {
                    let noise = noise();
                    self.ends[to].handle_datagram(&noise, now);
                }
                self.ends[to].handle_datagram(&bytes, now);
            }
            for end in &mut self.ends {
                end.handle_timeout(now);
            }
        }
        let [here, there] = ends.map(|end| end.unwrap_or(HandshakeOutput::Failed(DtlsError::Silent)));
        (here, there)
    }

    fn send(&mut self, to: usize, bytes: Vec<u8>) {
        let number = self.datagrams;
        self.datagrams += 1;
        self.sent.push(bytes.clone());
        if (self.loses)(number) || self.loses_bytes.as_mut().is_some_and(|loses| loses(&bytes)) {
            return;
        }
        for _ in 0..=usize::from((self.doubles)(number)) {
            self.under_way.push((self.now + (self.delays)(number), to, bytes.clone()));
        }
    }
}
