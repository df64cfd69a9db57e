//! Any bytes as the datagrams of a DTLS handshake, alone and in the middle of a true one: nothing panics, and who gets keys
//! has the far end's.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use talkstack_media::dtls::{Handshake, HandshakeOutput, Identity};
use talkstack_media::rtp::srtp::KeyParameter;
use talkstack_media::sdp::{DtlsPeer, DtlsRole};

fuzz_target!(|bytes: &[u8]| {
    let [mode, rest @ ..] = bytes else { return };
    match mode % 3 {
        0 => alone(DtlsRole::Client, rest),
        1 => alone(DtlsRole::Server, rest),
        _ => between(rest),
    }
});

/// Datagrams of their own: two bytes of length before each.
fn alone(role: DtlsRole, mut rest: &[u8]) {
    let mut now = Instant::now();
    let mut handshake = begin(0, role, now);
    while let [high, low, datagrams @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(datagrams.len());
        let (datagram, behind) = datagrams.split_at(length);
        handshake.handle_datagram(datagram, now);
        while let Some(output) = handshake.poll_output() {
            assert!(!matches!(output, HandshakeOutput::Keyed(_)), "nobody was there");
        }
        now += Duration::from_millis(100);
        handshake.handle_timeout(now);
        rest = behind;
    }
}

/// Three bytes change a byte of a datagram of a true handshake, in turn: which datagram, which byte, and how.
fn between(mut rest: &[u8]) {
    let mut now = Instant::now();
    let mut ends = [begin(0, DtlsRole::Client, now), begin(1, DtlsRole::Server, now)];
    let mut keys: [Option<(KeyParameter, KeyParameter)>; 2] = [None, None];
    let mut number = 0u8;
    for _ in 0..40 {
        for at in 0..2 {
            while let Some(output) = ends[at].poll_output() {
                match output {
                    HandshakeOutput::Send(mut datagram) => {
                        while let [which, place, change, behind @ ..] = rest
                            && *which % 16 == number % 16
                        {
                            let place = usize::from(*place) * datagram.len() / 256;
                            datagram[place] ^= change;
                            rest = behind;
                        }
                        number = number.wrapping_add(1);
                        ends[1 - at].handle_datagram(&datagram, now);
                    }
                    HandshakeOutput::Keyed(found) => keys[at] = Some((found.local, found.remote[0].clone())),
                    HandshakeOutput::Failed(_) => {}
                }
            }
        }
        now += Duration::from_millis(250);
        ends.iter_mut().for_each(|end| end.handle_timeout(now));
    }
    if let [Some((local, remote)), Some((theirs, ours))] = keys {
        assert_eq!((local, remote), (ours, theirs));
    }
}

fn begin(at: usize, role: DtlsRole, now: Instant) -> Handshake {
    let peer = DtlsPeer::new(vec![IDENTITIES[1 - at].fingerprint()], role);
    Handshake::new(&IDENTITIES[at], &peer, now).expect("begun")
}

static IDENTITIES: LazyLock<[Identity; 2]> = LazyLock::new(|| [(); 2].map(|()| Identity::new().expect("made")));
