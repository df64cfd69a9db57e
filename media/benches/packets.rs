//! What a packet costs on its way: parsing, building, the receiver, concealment, and a whole leg both ways.
//!
//! `cargo bench -p talkstack-media --bench packets` prints nanoseconds for each; the least of ten runs, which others on the
//! machine disturb the least. Figures stand in the modules that they are of.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use talkstack_media::audio::frame::Speech;
use talkstack_media::audio::level::Level;
use talkstack_media::audio::pool::SpeechPool;
use talkstack_media::audio::recording::{BLOCK_VALUES, Origin, Recording};
use talkstack_media::codec::Codec;
use talkstack_media::codec::plc::Concealer;
use talkstack_media::rtp::bursts::Bursts;
use talkstack_media::rtp::receiver::{PayloadTypes, Received, Receiver};
use talkstack_media::rtp::sender::Sender;
use talkstack_media::sdp::{Negotiated, Numbered, TelephoneEvent};
use talkstack_media::session::RtpSession;

fn main() {
    parse();
    build();
    receive();
    conceal();
    figures();
    record();
    leg();
}

fn parse() {
    let packet = packet(7);
    measure("parse an RTP header", 1000, || {
        for _ in 0..1000 {
            let reader = rtp_rs::RtpReader::new(black_box(&packet)).expect("a packet");
            black_box((reader.sequence_number(), reader.timestamp(), reader.payload().len()));
        }
    });
}

fn build() {
    let (mut sender, mut packet) = (Sender::new(1, 0), [0; 2048]);
    measure("build an RTP packet", 1000, || {
        for at in 0..1000u32 {
            black_box(sender.build(0, at * 160, false, black_box(&[0x55; 160]), &mut packet));
        }
    });
}

fn receive() {
    let types = PayloadTypes {
        audio: Numbered::alike(0),
        codec: Codec::Pcmu,
        telephone_event: Some(Numbered::alike(101)),
        comfort_noise: Some(13),
    };
    let packets: Vec<Vec<u8>> = (0..1000).map(packet).collect();
    for (name, order) in [
        ("receiver, in order", (0..1000).collect::<Vec<usize>>()),
        ("receiver, every second pair swapped", (0..1000).map(|at| if at % 4 < 2 { at } else { at ^ 1 }).collect()),
        ("receiver, one in ten lost", (0..1000).filter(|at| at % 10 != 9).collect()),
    ] {
        let (start, mut payload) = (Instant::now(), Vec::new());
        measure(name, order.len(), || {
            let mut receiver = Receiver::new(types);
            for at in &order {
                let now = start + Duration::from_millis(20) * *at as u32;
                let _ = receiver.handle_packet(&packets[*at], now);
                while let Some(received) = receiver.poll_output(&mut payload, now) {
                    black_box(matches!(received, Received::Audio));
                }
                black_box(receiver.poll_timeout());
            }
        });
    }
}

fn conceal() {
    let mut voice: Vec<i16> = (0..160).map(|at| (9000.0 * (at as f32 / 9.0).sin()) as i16).collect();
    let (mut concealer, mut out) = (Concealer::default(), Vec::with_capacity(160));
    measure("remember 20 ms of audio", 1000, || {
        for _ in 0..1000 {
            black_box(concealer.handle_received(&mut voice));
        }
    });
    measure("conceal 20 ms, pitch search and joining included", 1000, || {
        for _ in 0..1000 {
            out.clear();
            concealer.conceal(160, &mut out);
            black_box(&out);
            concealer.handle_received(&mut voice);
        }
    });
}

fn figures() {
    let (mut level, mut bursts) = (Level::default(), Bursts::default());
    let voice: Vec<i16> = (0..160).map(|at| (9000.0 * (at as f32 / 9.0).sin()) as i16).collect();
    measure("level of 20 ms", 1000, || {
        for _ in 0..1000 {
            level.handle(black_box(&voice));
        }
    });
    measure("burst figures of a packet", 1000, || {
        for at in 0..1000 {
            if at % 20 == 0 { bursts.handle_lost() } else { bursts.handle_received() }
        }
    });
    black_box((level.speech_dbov(), bursts.figures()));
}

/// 20 ms of all three tracks, and the blocks that they become.
fn record() {
    let (start, voice) = (Instant::now(), [5000; 160]);
    let (mut recording, mut block, mut at) = (Recording::new(8000), [0; BLOCK_VALUES], 0u32);
    recording.start(start);
    measure("record 20 ms: heard, sent, said", 1000, || {
        for _ in 0..1000 {
            let now = start + Duration::from_millis(20) * at;
            recording.handle_heard(black_box(&voice), Origin::Arrived, now);
            let said = u64::from(at) * 160;
            recording.handle_said(said, said + 160, now);
            recording.handle_sent(black_box(&voice), at * 160, now);
            recording.handle_played(black_box(&voice), said);
            black_box(recording.poll_block(&mut block, now));
            at += 1;
        }
    });
}

/// A packet each way: received, decoded, measured; queued, paced, built.
fn leg() {
    let remote = SocketAddr::from(([10, 0, 0, 1], 4000));
    let negotiated = Negotiated {
        telephone_event: Some(TelephoneEvent { payload_type: Numbered::alike(101), clock_rate: 8000 }),
        ..Negotiated::plain(Codec::Pcmu, 0, remote)
    };
    let start = Instant::now();
    let mut session = RtpSession::new(negotiated, remote.ip(), SpeechPool::default(), 7, start);
    let (mut at, mut buffer) = (0u32, [0; 2048]);
    measure("a leg, one packet each way, reports included", 1000, || {
        for _ in 0..1000 {
            let now = start + Duration::from_millis(20) * at;
            session.handle_rtp(remote, &packet(at), now);
            while let Some(heard) = session.poll_heard(now) {
                black_box(&heard);
            }
            let _ = session.play(Speech::Coded(Codec::Pcmu, &[0x55; 160]), now);
            while let Some(transmit) = session.poll_transmit(&mut buffer, now) {
                black_box(transmit);
            }
            at += 1;
        }
    });
}

fn packet(at: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend((at as u16).to_be_bytes());
    packet.extend((at * 160).to_be_bytes());
    packet.extend([0, 0, 0, 9]);
    packet.extend([0x55; 160]);
    packet
}

fn measure(name: &str, operations: usize, mut run: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        for _ in 0..20 {
            run();
        }
        best = best.min(start.elapsed());
    }
    println!("{name:<52} {:>8.0} ns", best.as_nanos() as f64 / (20 * operations) as f64);
}
