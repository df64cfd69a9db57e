//! Any packets at any time into a receiver and an RTCP session: no panic, and never more audio than time allows.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use talkstack_media::rtp::receiver::{PayloadTypes, Received, Receiver};
use talkstack_media::rtp::rtcp::{ReportTime, Rtcp};

fuzz_target!(|bytes: &[u8]| {
    let mut now = Instant::now();
    let mut receiver = Receiver::new(PayloadTypes { audio: 0, clock_rate: 8000, telephone_event: Some(101) });
    let mut rtcp = Rtcp::new(1, 7, now);
    let mut payload = Vec::new();
    // Each packet: one byte of length, one of milliseconds, the packet.
    let mut rest = bytes;
    while let [length, wait, tail @ ..] = rest {
        let (packet, behind) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = behind;
        now += Duration::from_millis(u64::from(*wait));
        let _ = receiver.handle_packet(packet, now);
        let _ = rtcp.handle_packet(packet, ReportTime { now, ntp: 1 << 40 });
        let mut outputs = 0;
        while let Some(received) = receiver.poll_output(&mut payload, now) {
            if let Received::Lost(samples) | Received::Missing(samples) = received {
                assert!(samples <= 80_000, "{samples} samples at once");
            }
            outputs += 1;
            assert!(outputs < 200, "it never drains");
        }
    }
});
