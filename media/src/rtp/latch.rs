//! Where a leg's media goes and whom it is taken from: symmetric RTP that settles on proof and then cannot be stolen.
//!
//! ```text
//!   open ── 5 consecutive packets of one source ──▶ locked ── its own address changed by re-INVITE ──▶ open
//!                                                     │
//!                                                     └─ silent for 2 s: the same, SDP or signalling host, or one of
//!                                                                            the trunk's media networks, may prove itself
//! ```
//!
//! Packets go to the address of the SDP from the first moment; two sides that each wait for the other would wait for
//! ever (RFC 6263). See RFC 7362 §4 for what a latch is exposed to.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::sip::Network;

/// The latch of one channel (RTP or RTCP).
#[derive(Debug)]
pub struct Latch {
    described: SocketAddr,
    signalling: IpAddr,
    opened_at: Instant,
    /// The source before the window opened again: valid until another has proved itself.
    former: Option<SocketAddr>,
    locked: Option<Locked>,
    candidate: Option<Candidate>,
    networks: MediaNetworks,
}

/// Networks in which a far end's other media hosts lie: once a source has fallen silent, another in them may prove itself.
/// At most [`MediaNetworks::MAX`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MediaNetworks([Option<Network>; MediaNetworks::MAX]);

impl MediaNetworks {
    /// None at all.
    pub const NONE: MediaNetworks = MediaNetworks([None; MediaNetworks::MAX]);

    /// 16 networks: the largest carriers list a dozen.
    pub const MAX: usize = 16;

    /// These; what is beyond [`MediaNetworks::MAX`] is left out.
    pub fn new(networks: impl IntoIterator<Item = Network>) -> Self {
        let mut networks = networks.into_iter();
        MediaNetworks(std::array::from_fn(|_| networks.next()))
    }

    fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().flatten().any(|network| network.contains(address))
    }
}

#[derive(Debug, Clone, Copy)]
struct Locked {
    source: SocketAddr,
    last_heard: Instant,
}

/// A source on its way to proof.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    source: SocketAddr,
    ssrc: u32,
    next_sequence: u16,
    packets: u8,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Take it.
    Accept,
    /// Drop and count it.
    Refuse,
}

impl Latch {
    /// Opens the window: our SDP leaves.
    pub fn new(described: SocketAddr, signalling: IpAddr, now: Instant) -> Self {
        Latch {
            described,
            signalling,
            opened_at: now,
            former: None,
            locked: None,
            candidate: None,
            networks: MediaNetworks::NONE,
        }
    }

    /// Sources in these networks may take over as well.
    pub fn trust(&mut self, networks: MediaNetworks) {
        self.networks = networks;
    }

    /// Where to send to.
    pub fn destination(&self) -> SocketAddr {
        self.locked.map_or(self.described, |locked| locked.source)
    }

    /// Tells whether the description names a source, or its own proof does.
    pub fn names(&self, source: SocketAddr) -> bool {
        source == self.described || source == self.destination()
    }

    /// A re-INVITE has described another address: the window opens, the old source stays valid until the proof.
    pub fn reopen(&mut self, described: SocketAddr, now: Instant) {
        if described != self.described {
            self.described = described;
            self.opened_at = now;
            self.former = self.locked.take().map(|locked| locked.source).or(self.former);
            self.candidate = None;
        }
    }

    /// Judges a packet with a negotiated payload type.
    pub fn handle_packet(&mut self, source: SocketAddr, ssrc: u32, sequence: u16, now: Instant) -> Verdict {
        if let Some(locked) = &mut self.locked {
            if locked.source == source {
                locked.last_heard = now;
                return Verdict::Accept;
            }
            let is_quiet = now.saturating_duration_since(locked.last_heard) >= TAKEOVER_SILENCE;
            let is_near = [locked.source.ip(), self.described.ip(), self.signalling].contains(&source.ip())
                || self.networks.contain(source.ip());
            if is_quiet && is_near && self.is_proved(source, ssrc, sequence) {
                self.lock(source, now);
                return Verdict::Accept;
            }
            return Verdict::Refuse;
        }
        let age = now.saturating_duration_since(self.opened_at);
        if self.former == Some(source) && source != self.described && age < TAKEOVER_SILENCE {
            // What is still under way from the old address is heard and proves nothing.
            return Verdict::Accept;
        }
        if self.former != Some(source) && !self.may_be_candidate(source, now) {
            return Verdict::Refuse;
        }
        if self.is_proved(source, ssrc, sequence) {
            self.lock(source, now);
        }
        Verdict::Accept
    }

    /// Takes an authenticated packet: one is proof, wherever it comes from. Replays are not authenticated.
    pub fn handle_authenticated(&mut self, source: SocketAddr, now: Instant) -> Verdict {
        match &mut self.locked {
            Some(locked) if locked.source == source => locked.last_heard = now,
            _ => self.lock(source, now),
        }
        Verdict::Accept
    }

    /// Tells whether a source has proved itself.
    pub fn is_locked(&self) -> bool {
        self.locked.is_some()
    }

    /// The described address, or its host or the signalling's with another port; later only the signalling's.
    fn may_be_candidate(&self, source: SocketAddr, now: Instant) -> bool {
        if source == self.described || source.ip() == self.signalling {
            return true;
        }
        let is_early = now.saturating_duration_since(self.opened_at) < OTHER_PORTS;
        is_early && source.ip() == self.described.ip()
    }

    fn is_proved(&mut self, source: SocketAddr, ssrc: u32, sequence: u16) -> bool {
        let packets = match self.candidate {
            Some(candidate)
                if candidate.source == source && candidate.ssrc == ssrc && candidate.next_sequence == sequence =>
            {
                candidate.packets + 1
            }
            _ => 1,
        };
        self.candidate = Some(Candidate { source, ssrc, next_sequence: sequence.wrapping_add(1), packets });
        packets >= PROOF_PACKETS
    }

    fn lock(&mut self, source: SocketAddr, now: Instant) {
        self.locked = Some(Locked { source, last_heard: now });
        self.former = None;
        self.candidate = None;
    }
}

/// Five packets in a row, 100 ms: a stranger who guesses a port does not guess SSRC and sequence as well.
const PROOF_PACKETS: u8 = 5;

/// 2 s: no talker pauses that long without comfort noise, and a roaming phone is back by then.
const TAKEOVER_SILENCE: Duration = Duration::from_secs(2);

/// 3 s for a NAT to show its other port; then only the host that signals may still appear.
const OTHER_PORTS: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_packets_in_a_row_lock_and_a_stranger_is_refused() {
        let mut bench = Bench::new();
        for sequence in 0..4 {
            assert_eq!(bench.packet(NATTED, sequence), Verdict::Accept);
            assert_eq!(
                bench.latch.destination(),
                DESCRIBED.parse::<std::net::SocketAddr>().expect("address"),
                "not yet proved"
            );
        }
        bench.packet(NATTED, 4);
        assert_eq!(bench.latch.destination(), NATTED.parse::<std::net::SocketAddr>().expect("address"));
        assert_eq!(bench.packet(STRANGER, 5), Verdict::Refuse);
        assert_eq!(bench.packet(DESCRIBED, 5), Verdict::Refuse, "not while the locked source talks");
    }

    #[test]
    fn a_gap_or_another_source_begins_the_proof_anew() {
        let mut bench = Bench::new();
        for sequence in [0, 1, 2, 4, 5, 6, 7] {
            bench.packet(DESCRIBED, sequence);
        }
        assert!(!bench.latch.is_locked());
        bench.packet(DESCRIBED, 8);
        assert!(bench.latch.is_locked());
    }

    #[test]
    fn a_stranger_never_becomes_a_candidate() {
        let mut bench = Bench::new();
        for sequence in 0..100 {
            assert_eq!(bench.packet(STRANGER, sequence), Verdict::Refuse);
        }
        assert!(!bench.latch.is_locked());
    }

    #[test]
    fn after_three_seconds_only_the_described_address_and_the_signalling_host_may_appear() {
        let mut bench = Bench::new();
        bench.now += OTHER_PORTS;
        assert_eq!(bench.packet("10.0.0.1:9999", 0), Verdict::Refuse);
        assert_eq!(bench.packet(DESCRIBED, 0), Verdict::Accept);
        assert_eq!(bench.packet("10.0.0.9:9999", 0), Verdict::Accept);
    }

    #[test]
    fn a_locked_source_that_fell_silent_is_replaced_only_from_near_and_only_by_proof() {
        let mut bench = Bench::locked();
        bench.now += TAKEOVER_SILENCE;
        for sequence in 0..10 {
            assert_eq!(bench.packet(STRANGER, sequence), Verdict::Refuse);
        }
        for sequence in 0..4 {
            assert_eq!(bench.packet("10.0.0.1:7777", sequence), Verdict::Refuse);
        }
        assert_eq!(bench.packet("10.0.0.1:7777", 4), Verdict::Accept);
        assert_eq!(bench.latch.destination().port(), 7777);
    }

    #[test]
    fn a_host_of_the_trunk_s_media_networks_may_take_over_and_never_come_first() {
        let elsewhere = "198.51.100.20:7000";
        let networks = MediaNetworks::new([Network::of([198, 51, 100, 0].into(), 24)]);
        let mut fresh = Bench::new();
        fresh.latch.trust(networks);
        for sequence in 0..10 {
            assert_eq!(fresh.packet(elsewhere, sequence), Verdict::Refuse, "no candidate");
        }
        let mut bench = Bench::locked();
        bench.latch.trust(networks);
        for sequence in 0..10 {
            assert_eq!(bench.packet(elsewhere, sequence), Verdict::Refuse, "while the locked source talks");
        }
        bench.now += TAKEOVER_SILENCE;
        for sequence in 0..4 {
            assert_eq!(bench.packet(elsewhere, sequence), Verdict::Refuse);
            assert_eq!(bench.packet("198.51.101.20:7000", sequence), Verdict::Refuse, "of another network");
        }
        assert_eq!(bench.packet(elsewhere, 4), Verdict::Accept);
        assert_eq!(bench.latch.destination().port(), 7000);
    }

    #[test]
    fn whatever_strangers_send_the_media_stays_where_it_was_described_or_proved() {
        for seed in 1..=200u32 {
            let mut random = seed.wrapping_mul(2_654_435_761) | 1;
            let mut next = move || {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                random
            };
            let mut bench = Bench::new();
            for sequence in 0..2000u16 {
                // The caller talks, and pauses now and then; strangers know SSRC and sequence.
                if sequence / 100 % 4 != 3 {
                    bench.packet(DESCRIBED, sequence);
                }
                for host in ["192.0.2.66", "10.0.0.2", "10.0.0.1"] {
                    let port = 4000 + next() % 3;
                    let is_row = next() % 4 != 0;
                    let number = if is_row { sequence } else { next() as u16 };
                    if host != "10.0.0.1" || sequence / 100 % 4 != 3 {
                        bench.packet(&format!("{host}:{port}"), number);
                    }
                }
                let to = bench.latch.destination();
                assert_eq!(to.ip().to_string(), "10.0.0.1", "seed {seed}, packet {sequence}: it goes to {to}");
                bench.now += Duration::from_millis(20);
            }
        }
    }

    #[test]
    fn only_another_described_address_opens_the_window_again() {
        let mut bench = Bench::locked();
        bench.latch.reopen(DESCRIBED.parse().expect("address"), bench.now);
        assert!(bench.latch.is_locked());
        bench.latch.reopen("10.0.0.2:6000".parse().expect("address"), bench.now);
        assert_eq!(bench.latch.destination().port(), 6000);
    }

    #[test]
    fn the_old_source_is_heard_until_the_new_one_has_proved_itself_and_cannot_keep_the_media() {
        let mut bench = Bench::new();
        for sequence in 0..5 {
            bench.packet("10.0.0.9:4000", sequence);
        }
        bench.latch.reopen("10.0.0.2:6000".parse().expect("address"), bench.now);
        for sequence in 5..30 {
            assert_eq!(bench.packet("10.0.0.9:4000", sequence), Verdict::Accept);
            assert_eq!(bench.latch.destination().port(), 6000, "the described address has the media");
        }
        for sequence in 100..105 {
            bench.packet("10.0.0.2:6000", sequence);
        }
        assert!(bench.latch.is_locked());
        assert_eq!(bench.packet("10.0.0.9:4000", 30), Verdict::Refuse);
    }

    #[test]
    fn a_phone_that_describes_another_address_but_stays_where_it_is_keeps_its_sound() {
        let mut bench = Bench::locked();
        bench.latch.reopen("192.168.7.7:6000".parse().expect("address"), bench.now);
        bench.now += TAKEOVER_SILENCE;
        for sequence in 5..10 {
            assert_eq!(bench.packet(DESCRIBED, sequence), Verdict::Accept);
        }
        assert_eq!(bench.latch.destination(), DESCRIBED.parse::<std::net::SocketAddr>().expect("address"));
    }

    const DESCRIBED: &str = "10.0.0.1:4000";
    const NATTED: &str = "10.0.0.1:50123";
    const STRANGER: &str = "192.0.2.66:4000";

    struct Bench {
        latch: Latch,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            let signalling = "10.0.0.9".parse().expect("address");
            Bench { latch: Latch::new(DESCRIBED.parse().expect("address"), signalling, now), now }
        }

        fn locked() -> Self {
            let mut bench = Bench::new();
            for sequence in 0..5 {
                bench.packet(DESCRIBED, sequence);
            }
            bench
        }

        fn packet(&mut self, source: &str, sequence: u16) -> Verdict {
            self.latch.handle_packet(source.parse().expect("address"), 1, sequence, self.now)
        }
    }
}
