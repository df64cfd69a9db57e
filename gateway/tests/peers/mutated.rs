//! Twenty thousand datagrams that somebody meant to break a SIP stack with, and their seeded mutations.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::table::print;
use super::torture::{Strange, corpora, on_the_wire};
use crate::daemon::{Daemon, wait_until};
use crate::rtp_phone::RtpPhone;
use crate::sipp::Sipp;

#[test]
fn twenty_thousand_mutated_datagrams_leave_the_daemon_its_memory_and_a_call_its_sound() {
    let Some(corpora) = corpora() else { return };
    let daemon = Daemon::serve(&[]);
    let seeds = seeds(&corpora);
    assert!(seeds.len() > 250, "only {} seeds", seeds.len());
    let strange = Strange::new(daemon.sip());
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| {
            let phone = RtpPhone::call(daemon.sip(), "echo");
            undisturbed(phone, &is_done)
        });
        let started = Instant::now();
        let mut random = Random(SEED);
        let (mut memory, mut sent) = (vec![memory_kb(daemon.pid())], 0);
        // All as they are, then mutated.
        for seed in &seeds {
            send(&strange, seed, &mut sent);
        }
        while sent < DATAGRAMS {
            let seed = &seeds[random.below(seeds.len())];
            send(&strange, &random.mutated(seed), &mut sent);
            if sent % (DATAGRAMS / 10) == 0 {
                memory.push(memory_kb(daemon.pid()));
            }
        }
        let open = files_open(daemon.pid());
        for _ in 0..STREAMS {
            let seed = &seeds[random.below(seeds.len())];
            over_tcp(daemon.sip(), &random.mutated(seed));
        }
        wait_until("the daemon has closed its connections", || (files_open(daemon.pid()) <= open).then_some(()));
        let took = started.elapsed();
        is_done.store(true, Ordering::Relaxed);
        let (heard, gap) = call.join().expect("the call stays up");
        print(&format!(
            "{sent} datagrams and {STREAMS} connections of {} seeds in {took:.1?} (seed {SEED:#x}); VmRSS {memory:?} kB; the call beside them heard \
             {heard} frames of itself, its longest gap was {gap:?}\n",
            seeds.len()
        ));
        assert!(gap < GAP_MAX, "the call had a gap of {gap:?}");
        let grown = memory[memory.len() - 1].saturating_sub(memory[memory.len() / 2]);
        assert!(grown < GROWTH_KB_MAX, "memory is not flat: {memory:?} kB");
    });
    Sipp::new(daemon.sip(), "basic").succeeds();
}

/// Sends one and, once in a while, waits for the daemon, so that the kernel drops none.
fn send(strange: &Strange, bytes: &[u8], sent: &mut usize) {
    strange.send(bytes);
    *sent += 1;
    if sent.is_multiple_of(BURST) {
        strange.probe(|_| {});
        // Some eight thousand a second, so that the call beside them lasts.
        strange.hears_within(PACE, |_| {});
    }
}

/// Talks to the echo until the others are done; the frames that came back as they were said, and the longest time
/// between two of them.
fn undisturbed(mut phone: RtpPhone, is_done: &AtomicBool) -> (usize, Duration) {
    while !is_done.load(Ordering::Relaxed) {
        phone.say(CODE, Duration::from_millis(400));
    }
    assert!(!phone.was_hung_up, "the call was hung up");
    let is_own = |payload: &[u8]| payload.iter().filter(|byte| **byte & 0x7f == CODE).count() > 150;
    let times: Vec<SystemTime> =
        phone.heard.iter().filter(|packet| is_own(&packet.payload)).map(|packet| packet.at).collect();
    let gap = |pair: &[SystemTime]| pair[1].duration_since(pair[0]).unwrap_or_default();
    let longest = times.windows(2).map(gap).max().unwrap_or(Duration::MAX);
    phone.hang_up();
    (times.len(), longest)
}

/// Every SIP message of the corpora.
fn seeds(corpora: &Path) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for dir in
        ["rfc4475", "sip/kamailio-misc-sip", "sip/belle-sip-afl/sip", "fuzzseeds/pjproject/fuzz-sip", "fuzzseeds/sipgo"]
    {
        seeds.extend(files(&corpora.join(dir)).iter().filter_map(|path| std::fs::read(path).ok()));
    }
    for path in files(&corpora.join("rfc5118")) {
        seeds.push(on_the_wire(&std::fs::read_to_string(path).expect("readable")));
    }
    // One in five cases of the test suite is there; one in five of those is enough beside the mutations.
    seeds.extend(files(&corpora.join("protos-c07-sip")).iter().step_by(5).filter_map(|path| std::fs::read(path).ok()));
    seeds.retain(|seed| (1..=DATAGRAM_MAX).contains(&seed.len()));
    seeds
}

/// All files under a directory, in the order of their names.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// A connection of its own, which is closed in the middle of whatever it has become.
fn over_tcp(target: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(target).expect("the daemon lives and listens");
    stream.set_read_timeout(Some(PACE)).expect("set");
    // It may be closed before all is written, or say nothing.
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut [0; 4096]);
}

fn files_open(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the daemon lives").count()
}

fn memory_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// xorshift64*, so that a run can be had again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound.max(1)
    }

    /// One to four changes: a bit, a byte, a stretch lost, doubled or moved, a number or a separator put in.
    fn mutated(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let end = (at + 1 + self.below(40)).min(bytes.len());
            match self.below(7) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = self.next() as u8,
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let stretch = bytes[at..end].repeat(1 + self.below(20));
                    bytes.splice(at..at, stretch);
                }
                4 => bytes.truncate(at),
                5 => {
                    let put = NASTY[self.below(NASTY.len())];
                    bytes.splice(at..end, put.bytes());
                }
                _ => {
                    let put = NASTY[self.below(NASTY.len())];
                    bytes.splice(at..at, put.bytes());
                }
            }
        }
        bytes.truncate(DATAGRAM_MAX);
        bytes
    }
}

/// What breaks parsers.
const NASTY: [&str; 18] = [
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\0",
    ";",
    ",",
    "<",
    "\"",
    "%00",
    "%",
    "-1",
    "4294967296",
    "99999999999999999999",
    "\u{fffd}",
    "Content-Length: 1\r\n",
    "\r\n \r\n",
    "[::1",
    "sip:",
];

const SEED: u64 = 0x7a1c_57ac_0475_5118;

const DATAGRAMS: usize = 20_000;

/// 3 ms for 25 datagrams: 2.4 s for all.
const PACE: Duration = Duration::from_millis(3);

/// 25 datagrams of at most 8 KiB are 200 KiB: what a UDP socket's buffer (212,992 bytes) holds.
const BURST: usize = 25;

const STREAMS: usize = 200;

const DATAGRAM_MAX: usize = 8192;

/// What the phone says in each frame.
const CODE: u8 = 0x35;

/// 200 ms: the test machine is loaded by the test itself; a call that is disturbed loses seconds.
const GAP_MAX: Duration = Duration::from_millis(200);

/// 8 MiB in the second half: transactions of the first are still there (32 s), nothing grows with the number beyond.
const GROWTH_KB_MAX: u64 = 8192;
