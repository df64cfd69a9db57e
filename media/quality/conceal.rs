//! Has a leg hear speech over a line that loses packets: what it makes of it, beside silence and the last packet again.
//!
//! `conceal METHOD LOSSES <SPEECH >HEARD`: METHOD is `none`, `silence`, `repetition` or `ours`; LOSSES has a `1` for each
//! lost packet of 20 ms and a `0` for each other; speech is 16-bit little-endian at 8 kHz. `ours` is the product: RTP
//! packets in, a leg's sound out.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use talkstack_media::audio::pool::SpeechPool;
use talkstack_media::codec::Codec;
use talkstack_media::sdp::Negotiated;
use talkstack_media::session::{Heard, RtpSession};

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(method), Some(losses)) = (arguments.next(), arguments.next()) else {
        return Err(std::io::Error::other("conceal METHOD LOSSES <SPEECH >HEARD"));
    };
    let losses: Vec<bool> = losses.bytes().map(|byte| byte == b'1').collect();
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    let speech: Vec<i16> = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
    let packets: Vec<Vec<u8>> = speech.chunks_exact(PACKET).map(coded).collect();
    let heard = match method.as_str() {
        "ours" => hear(&packets, &losses),
        method => fill(&packets, &losses, method),
    };
    let bytes: Vec<u8> = heard.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    std::io::stdout().write_all(&bytes)
}

fn coded(samples: &[i16]) -> Vec<u8> {
    let mut payload = Vec::new();
    Codec::Pcmu.encode(samples, &mut payload);
    payload
}

/// The product's way.
fn hear(packets: &[Vec<u8>], losses: &[bool]) -> Vec<i16> {
    let start = Instant::now();
    let remote = SocketAddr::from(([10, 0, 0, 1], 4000));
    let negotiated = Negotiated::plain(Codec::Pcmu, 0, remote);
    let mut session = RtpSession::new(negotiated, remote.ip(), SpeechPool::default(), 7, start);
    let mut heard = Vec::new();
    for (at, payload) in packets.iter().enumerate() {
        let now = start + Duration::from_millis(at as u64 * 20);
        if !losses.get(at).is_some_and(|is_lost| *is_lost) {
            let mut packet = vec![0x80, 0];
            packet.extend((at as u16).to_be_bytes());
            packet.extend((at as u32 * PACKET as u32).to_be_bytes());
            packet.extend([0, 0, 0, 9]);
            packet.extend_from_slice(payload);
            session.handle_rtp(remote, &packet, now);
        }
        // What waits for a hole to be filled comes out in the end.
        let until = now + if at + 1 == packets.len() { Duration::from_millis(60) } else { Duration::ZERO };
        for moment in [now, until] {
            while let Some(next) = session.poll_heard(moment) {
                if let Heard::Audio(frame) = next {
                    heard.extend_from_slice(frame.samples);
                }
            }
        }
    }
    heard
}

/// Ways to compare with.
fn fill(packets: &[Vec<u8>], losses: &[bool], method: &str) -> Vec<i16> {
    let mut heard = Vec::new();
    for (at, payload) in packets.iter().enumerate() {
        let is_lost = method != "none" && losses.get(at).is_some_and(|is_lost| *is_lost);
        match method {
            "repetition" if is_lost && at > 0 => heard.extend_from_within(heard.len() - PACKET..),
            _ if is_lost => heard.resize(heard.len() + PACKET, 0),
            _ => Codec::Pcmu.decode(payload, &mut heard),
        }
    }
    heard
}

/// 20 ms at 8 kHz.
const PACKET: usize = 160;
