//! Any packets at any time into an RTCP session, extended reports among them: no panic, and what is read is in its range.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use talkstack_media::rtp::rtcp::{ReportTime, Rtcp};

fuzz_target!(|bytes: &[u8]| {
    let mut now = Instant::now();
    let mut rtcp = Rtcp::new(1, 7, now);
    let mut rest = bytes;
    // Each packet: one byte of length in words, one of milliseconds, the packet.
    while let [words, wait, tail @ ..] = rest {
        let (packet, behind) = tail.split_at((usize::from(*words) * 4).min(tail.len()));
        rest = behind;
        now += Duration::from_millis(u64::from(*wait));
        if let Ok(Some(theirs)) = rtcp.handle_packet(packet, ReportTime { now, ntp: 1 << 40 }) {
            assert!((-0x80_0000..0x80_0000).contains(&theirs.cumulative_lost));
            assert!(theirs.round_trip.is_none_or(|time| time <= Duration::from_secs(60)));
        }
        if let Some(voip) = rtcp.their_voip() {
            assert!((0.0..1.0).contains(&voip.lost) && voip.rating.is_none_or(|rating| rating <= 100));
            assert!(voip.mos_listening.is_none_or(|mos| (1.0..=5.0).contains(&mos)));
        }
        let mut packet = [0; 300];
        assert!(rtcp.build(None, None, ReportTime { now, ntp: 1 << 40 }, &mut packet) <= packet.len());
    }
});
