//! What SRTP costs a packet of 20 ms of G.711, by suite: `cargo bench -p talkstack-media --bench srtp`.
//!
//! The figures stand in `talkstack_media::rtp::srtp`.

use std::hint::black_box;
use std::time::Instant;

use talkstack_media::rtp::srtp::{Inbound, KeyParameter, LIFETIME_MAX, MasterKey, Outbound, Suite};

fn main() {
    println!("{:<26} {:>10} {:>10} {:>10} {:>10}", "suite", "seal ns", "open ns", "refuse ns", "key µs");
    for suite in Suite::ALL {
        let master = MasterKey::new(suite, &vec![7; suite.master_bytes()]).expect("as long as the suite has it");
        let key = KeyParameter { master, lifetime: LIFETIME_MAX, mki: None };
        // The best of five rounds: what else the machine does only adds.
        let rounds = (0..5).map(|_| round(&key));
        let best = rounds.fold([f64::MAX; 4], |best, round| std::array::from_fn(|at| best[at].min(round[at])));
        let [seal, open, refuse, derive] = best;
        println!("{:<26} {seal:>10.0} {open:>10.0} {refuse:>10.0} {:>10.2}", suite.name(), derive / 1000.0);
    }
}

/// Nanoseconds a packet to seal, to open, to refuse, and to derive the keys of one direction.
fn round(key: &KeyParameter) -> [f64; 4] {
    let mut outbound = Outbound::new(key);
    let mut packets: Vec<Vec<u8>> = (0..PACKETS).map(|sequence| packet(sequence as u16)).collect();
    let seal = per_packet(|| {
        for packet in &mut packets {
            let bytes = outbound.seal(packet, PLAIN_BYTES).expect("sealed");
            packet.truncate(bytes);
        }
    });
    let mut inbound = Inbound::new(std::slice::from_ref(key));
    let mut forged = packets.clone();
    forged.iter_mut().for_each(|packet| packet[40] ^= 1);
    let refuse = per_packet(|| {
        for packet in &mut forged {
            assert!(inbound.open(black_box(packet)).is_err());
        }
    });
    let open = per_packet(|| {
        for packet in &mut packets {
            inbound.open(black_box(packet)).expect("opened");
        }
    });
    let derive = per_packet(|| {
        for _ in 0..PACKETS {
            black_box(Outbound::new(black_box(key)));
        }
    });
    [seal, open, refuse, derive]
}

fn per_packet(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_nanos() as f64 / PACKETS as f64
}

/// Room for the tag behind it.
fn packet(sequence: u16) -> Vec<u8> {
    let [high, low] = sequence.to_be_bytes();
    let mut packet = [&[0x80, 0, high, low][..], &[0; 8], &[0x55; 160]].concat();
    packet.resize(PLAIN_BYTES + 16, 0);
    packet
}

const PLAIN_BYTES: usize = 172;

/// 20,000 packets: 400 s of a call.
const PACKETS: usize = 20_000;
