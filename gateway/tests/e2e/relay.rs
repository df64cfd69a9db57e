//! A network between a phone and the box that loses, delays, reorders and doubles, as its seed says.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a network does to packets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Damage {
    pub(crate) name: &'static str,
    /// Packets that are lost.
    pub(crate) loss_percent: u32,
    /// The mean run of losses: 1 at random, more in bursts (Gilbert).
    pub(crate) burst: u32,
    /// Each packet takes up to so long, on its own.
    pub(crate) jitter_ms: u32,
    /// Packets that overtake the one before.
    pub(crate) reorder_percent: u32,
    /// Packets that come twice.
    pub(crate) double_percent: u32,
}

impl Damage {
    /// A network that does no harm.
    pub(crate) const NONE: Damage =
        Damage { name: "none", loss_percent: 0, burst: 1, jitter_ms: 0, reorder_percent: 0, double_percent: 0 };
}

/// A running relay. The phone sends to [`Relay::address`] and describes it as its own.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    to_box: Arc<OnceLock<SocketAddr>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Does its damage to what comes from the phone, and to what goes to it as well if `both_ways`.
    pub(crate) fn start(phone: SocketAddr, damage: Damage, both_ways: BothWays, seed: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("bound");
        let (to_box, is_over) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(false)));
        let mut way = Way {
            socket,
            phone,
            to_box: to_box.clone(),
            damage,
            both_ways,
            random: seed.wrapping_mul(2_654_435_761) | 1,
            is_losing: false,
            waiting: BinaryHeap::new(),
            count: 0,
        };
        let is_stopped = is_over.clone();
        let thread = std::thread::spawn(move || {
            while !is_stopped.load(Ordering::Relaxed) {
                way.turn();
            }
        });
        Relay { address, to_box, is_over, thread: Some(thread) }
    }

    /// The box is here.
    pub(crate) fn lead_to(&self, media: SocketAddr) {
        self.to_box.set(media).expect("once");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether what goes to the phone is damaged too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BothWays {
    Yes,
    No,
}

/// When a datagram leaves, which it is, where it goes and what is in it.
type Waiting = (Instant, u64, SocketAddr, Vec<u8>);

struct Way {
    socket: UdpSocket,
    phone: SocketAddr,
    to_box: Arc<OnceLock<SocketAddr>>,
    damage: Damage,
    both_ways: BothWays,
    random: u32,
    is_losing: bool,
    /// Packets under way: when they arrive, in which order they came, where to and what.
    waiting: BinaryHeap<Reverse<Waiting>>,
    count: u64,
}

impl Way {
    fn turn(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, ..))) = self.waiting.peek()
            && *at <= now
        {
            let Some(Reverse((_, _, to, packet))) = self.waiting.pop() else { return };
            let _ = self.socket.send_to(&packet, to);
        }
        let next = self.waiting.peek().map_or(IDLE, |Reverse((at, ..))| at.saturating_duration_since(now));
        self.socket.set_read_timeout(Some(next.clamp(Duration::from_micros(100), IDLE))).expect("set");
        let mut buffer = [0; 2048];
        let Ok((bytes, from)) = self.socket.recv_from(&mut buffer) else { return };
        let (to, is_damaged) = match (from == self.phone, self.to_box.get()) {
            (true, Some(to_box)) => (*to_box, true),
            (true, None) => return,
            (false, _) => (self.phone, self.both_ways == BothWays::Yes),
        };
        self.carry(&buffer[..bytes], to, is_damaged, Instant::now());
    }

    fn carry(&mut self, packet: &[u8], to: SocketAddr, is_damaged: bool, now: Instant) {
        let Damage { jitter_ms, reorder_percent, double_percent, .. } = self.damage;
        if !is_damaged {
            self.count += 1;
            self.waiting.push(Reverse((now, self.count, to, packet.to_vec())));
            return;
        }
        // Each packet draws as often as any other: with one seed, what is lost of little loss is lost of more, too.
        let (is_lost, is_doubled) = (self.loses(), self.happens(double_percent));
        // Whoever is overtaken comes a packet and a half later.
        let mut delay = || if self.happens(reorder_percent) { 30 } else { 0 } + self.next() % (jitter_ms + 1);
        let delays = [delay(), delay()];
        let copies = usize::from(!is_lost) * (1 + usize::from(is_doubled));
        for delay in &delays[..copies] {
            self.count += 1;
            let at = now + Duration::from_millis((*delay).into());
            self.waiting.push(Reverse((at, self.count, to, packet.to_vec())));
        }
    }

    /// Gilbert's model: from losing to not losing with one in `burst`, and back so often that the loss is right.
    fn loses(&mut self) -> bool {
        let Damage { loss_percent, burst, .. } = self.damage;
        let draw = self.next() % 10_000;
        self.is_losing = if burst <= 1 {
            draw < loss_percent * 100
        } else if self.is_losing {
            draw >= 10_000 / burst
        } else {
            draw < loss_percent * 10_000 / burst / (100 - loss_percent)
        };
        self.is_losing
    }

    fn happens(&mut self, percent: u32) -> bool {
        self.next() % 100 < percent
    }

    fn next(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random >> 1
    }
}

/// 20 ms between two looks at whether the relay is still wanted.
const IDLE: Duration = Duration::from_millis(20);
