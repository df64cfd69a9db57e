//! Any packets at any time into a receiver: no panic, it drains, and never more audio than time allows.
//!
//! A packet is either the bytes as they are, or, so that sequences get past the header, a few bytes that say which of a
//! stream's packets it is.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use talkstack_media::codec::Codec;
use talkstack_media::rtp::receiver::{PayloadTypes, Received, Receiver};
use talkstack_media::sdp::Numbered;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, mut rest)) = bytes.split_first() else { return };
    let codec = Codec::ALL[usize::from(*choice) % Codec::ALL.len()];
    let start = Instant::now();
    let mut now = start;
    let mut receiver = Receiver::new(types(codec));
    let (mut payload, mut handed_out) = (Vec::new(), 0u64);
    while let [length, wait, tail @ ..] = rest {
        now += Duration::from_millis(u64::from(*wait));
        rest = match (*length, tail) {
            // 255: the far end agrees on another codec.
            (255, _) => {
                receiver.renumber(types(Codec::ALL[usize::from(*wait) % Codec::ALL.len()]));
                tail
            }
            // 254: a packet in this form: source, type, sequence, and the timestamp's upper and lower part.
            (254, [source, kind, sequence, high, low, behind @ ..]) => {
                let mut packet = vec![0x80, [0, 8, 9, 96, 101, 13, 0x80, 18][usize::from(*kind) % 8]];
                packet.extend(u16::from(*sequence).wrapping_sub(100).to_be_bytes());
                packet.extend([*high, 0xff, *low, *source, 0, 0, 0, *source % 3]);
                packet.extend([*low; 160]);
                let _ = receiver.handle_packet(&packet, now);
                behind
            }
            (length, tail) => {
                let (packet, behind) = tail.split_at(usize::from(length).min(tail.len()));
                let _ = receiver.handle_packet(packet, now);
                behind
            }
        };
        let mut outputs = 0;
        while let Some(received) = receiver.poll_output(&mut payload, now) {
            if let Received::Lost(units) | Received::Missing(units) | Received::Pause(units) = received {
                assert!(units <= 490_000, "{units} units at once");
                handed_out += units as u64 / u64::from(codec.tick_units().max(6));
            }
            outputs += 1;
            assert!(outputs < 300, "it never drains");
        }
        let tally = receiver.tally();
        assert!(tally.late <= tally.given_up, "{tally:?}");
        let _ = (tally.bursts.figures(), receiver.timing().wait(), receiver.reception().report());
        assert!(receiver.poll_timeout().is_none_or(|at| at > now), "it wants to be asked again at once");
    }
    // What is made up follows the clock, but for 200 ms each time a timeline begins anew or jumps.
    let elapsed = now.duration_since(start).as_millis() as u64 * 8;
    assert!(handed_out <= elapsed + 1600 * (bytes.len() as u64 + 1), "{handed_out} ticks in {elapsed}");
});

fn types(codec: Codec) -> PayloadTypes {
    PayloadTypes {
        audio: Numbered::alike(codec.payload_type()),
        codec,
        telephone_event: Some(Numbered::alike(101)),
        comfort_noise: Some(13),
    }
}
