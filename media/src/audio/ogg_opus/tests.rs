use std::time::Instant;

use ropus::{DecodeMode, Decoder};

use super::*;

#[test]
fn what_is_written_is_read_page_by_page_and_sounds_as_it_did() {
    for (channels, sample_rate) in [(1, 8000), (2, 8000), (1, 16_000), (2, 16_000)] {
        let samples = speech(channels, sample_rate, 5 * sample_rate as usize + 77);
        let mut bytes = Vec::new();
        let mut stream = OggOpus::new(channels, sample_rate, 7, &mut bytes).expect("made");
        // In blocks that have nothing to do with packets.
        for block in samples.chunks(1600 * channels) {
            stream.write(block, &mut bytes);
        }
        stream.finish(&mut bytes);
        let pages = pages(&bytes);
        assert_eq!(
            pages.iter().map(|page| page.sequence).collect::<Vec<_>>(),
            (0..pages.len() as u32).collect::<Vec<_>>()
        );
        assert_eq!((pages[0].flags, pages.last().expect("a page").flags & 4), (2, 4));
        assert!(pages[0].packets[0].starts_with(b"OpusHead\x01") && pages[1].packets[0].starts_with(b"OpusTags"));
        let heard = decode(&pages, channels, sample_rate);
        assert_eq!(heard.len(), samples.len(), "{channels} channels at {sample_rate} Hz: cut to the sample");
        for channel in 0..channels {
            let of = |samples: &[i16]| samples.iter().skip(channel).step_by(channels).copied().collect::<Vec<_>>();
            let likeness = likeness(&of(&samples), &of(&heard));
            assert!(likeness > 0.9, "channel {channel} of {channels} at {sample_rate} Hz: {likeness}");
        }
        let kilobytes_an_hour = bytes.len() / 5 * 3600 / 1000;
        assert!(kilobytes_an_hour < 12_000 * channels, "{kilobytes_an_hour} kB an hour");
    }
}

#[test]
fn a_file_that_was_cut_off_is_read_up_to_its_last_whole_page() {
    let samples = speech(2, 8000, 10 * 8000);
    let mut bytes = Vec::new();
    let mut stream = OggOpus::new(2, 8000, 7, &mut bytes).expect("made");
    samples.chunks(3200).for_each(|block| stream.write(block, &mut bytes));
    drop(stream);
    let whole = pages(&bytes).len();
    assert_eq!(whole, 2 + 10, "a page a second, and the heads");
    for cut in [bytes.len() - 1, bytes.len() - 1000, bytes.len() / 2] {
        let pages = pages(&bytes[..cut]);
        assert!(pages.len() < whole && pages.len() > 5);
        let heard = decode(&pages, 2, 8000);
        let seconds = pages.len() - 2;
        assert!(heard.len() / 16_000 >= seconds - 1, "{} samples of {seconds} s", heard.len());
    }
}

#[test]
fn one_bit_that_is_wrong_is_seen() {
    let mut bytes = Vec::new();
    OggOpus::new(1, 8000, 7, &mut bytes).expect("made").finish(&mut bytes);
    let right = pages(&bytes).len();
    bytes[40] ^= 1;
    assert!(pages(&bytes).len() < right);
}

/// Prints what a second of stereo costs; `cargo test --release -- --ignored --nocapture opus_costs`.
#[test]
#[ignore = "a measurement"]
fn opus_costs() {
    let samples = speech(2, 8000, 60 * 8000);
    let mut bytes = Vec::new();
    let mut stream = OggOpus::new(2, 8000, 7, &mut bytes).expect("made");
    let start = Instant::now();
    samples.chunks(3200).for_each(|block| stream.write(block, &mut bytes));
    println!("{:?} for a minute of stereo at 8 kHz, {} bytes", start.elapsed(), bytes.len());
}

struct Page {
    flags: u8,
    granule: u64,
    sequence: u32,
    packets: Vec<Vec<u8>>,
}

/// The pages up to the first that is not whole.
fn pages(mut bytes: &[u8]) -> Vec<Page> {
    let mut pages = Vec::new();
    while bytes.len() >= 27 && bytes.starts_with(b"OggS\0") {
        let lengths = usize::from(bytes[26]);
        let Some(body) =
            bytes.get(27..27 + lengths).map(|lengths| lengths.iter().map(|it| usize::from(*it)).sum::<usize>())
        else {
            break;
        };
        let end: usize = 27 + lengths + body;
        let Some(page) = bytes.get(..end) else { break };
        let mut blank = page.to_vec();
        blank[22..26].fill(0);
        // Bit by bit, as the RFC writes it down.
        let sum = blank.iter().fold(0u32, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte) << 24, |sum, _| {
                if sum & 0x8000_0000 == 0 { sum << 1 } else { (sum << 1) ^ 0x04c1_1db7 }
            })
        });
        if sum.to_le_bytes() != page[22..26] {
            break;
        }
        let (mut packets, mut packet, mut at) = (Vec::new(), Vec::new(), 27 + lengths);
        for length in &page[27..27 + lengths] {
            packet.extend_from_slice(&page[at..at + usize::from(*length)]);
            at += usize::from(*length);
            if *length < 255 {
                packets.push(std::mem::take(&mut packet));
            }
        }
        let number = |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
        let granule = u64::from(number(6)) | u64::from(number(10)) << 32;
        assert_eq!(number(14), 7, "the serial number");
        pages.push(Page { flags: page[5], granule, sequence: number(18), packets });
        bytes = &bytes[end..];
    }
    pages
}

/// As a player does: without the encoder's delay, and up to the last page's position.
fn decode(pages: &[Page], channels: usize, sample_rate: u32) -> Vec<i16> {
    let layout = if channels == 2 { Channels::Stereo } else { Channels::Mono };
    let mut decoder = Decoder::new(sample_rate, layout).expect("made");
    let mut heard = Vec::new();
    for packet in pages[2..].iter().flat_map(|page| &page.packets) {
        let mut out = [0; 5760 * 2];
        let count = decoder.decode(packet, &mut out, DecodeMode::Normal).expect("a packet");
        heard.extend_from_slice(&out[..count * channels]);
    }
    let scale = u64::from(48_000 / sample_rate);
    let skip = u64::from(u16::from_le_bytes([pages[0].packets[0][10], pages[0].packets[0][11]])) / scale;
    let end = pages.last().expect("a page").granule / scale;
    heard.truncate(end as usize * channels);
    heard.drain(..skip as usize * channels);
    heard
}

/// Something like speech, another on each channel: a buzz that glides under a slow envelope.
fn speech(channels: usize, sample_rate: u32, count: usize) -> Vec<i16> {
    let mut samples = Vec::new();
    let mut phases = [0.0f64; 2];
    for at in 0..count {
        let time = at as f64 / f64::from(sample_rate);
        for (channel, phase) in phases.iter_mut().enumerate().take(channels) {
            let pitch = 120.0 + 60.0 * channel as f64 + 30.0 * (time * 3.0 + channel as f64).sin();
            *phase += pitch / f64::from(sample_rate);
            let buzz: f64 = (1..=12)
                .map(|harmonic| (*phase * std::f64::consts::TAU * f64::from(harmonic)).sin() / f64::from(harmonic))
                .sum();
            let envelope = 0.5 + 0.5 * (time * 8.0 + channel as f64 * 2.0).sin();
            samples.push((buzz * envelope * 6000.0) as i16);
        }
    }
    samples
}

fn likeness(a: &[i16], b: &[i16]) -> f64 {
    let dot = |a: &[i16], b: &[i16]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1.0)
}
