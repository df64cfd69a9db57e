//! The sending half of one RTP stream: packets, and the figures a sender report carries.

use rtp_rs::{RtpPacketBuilder, Seq};

/// Numbers and builds the packets of one stream.
#[derive(Debug)]
pub struct Sender {
    ssrc: u32,
    sequence: Seq,
    packets: u32,
    octets: u32,
    last_timestamp: Option<u32>,
}

/// What a sender report says of us (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderFigures {
    /// Packets sent, modulo 2^32.
    pub packets: u32,
    /// Payload octets sent, modulo 2^32.
    pub octets: u32,
    /// The timestamp of the last packet.
    pub last_timestamp: u32,
}

impl Sender {
    /// Starts a stream. `ssrc` and `sequence` should be random (RFC 3550 §5.1).
    pub fn new(ssrc: u32, sequence: u16) -> Self {
        Sender { ssrc, sequence: sequence.into(), packets: 0, octets: 0, last_timestamp: None }
    }

    /// Writes the next packet into `packet` and returns its length; 0 if it does not fit.
    pub fn build(
        &mut self,
        payload_type: u8,
        timestamp: u32,
        marker: bool,
        payload: &[u8],
        packet: &mut [u8],
    ) -> usize {
        let built = RtpPacketBuilder::new()
            .payload_type(payload_type)
            .ssrc(self.ssrc)
            .sequence(self.sequence)
            .timestamp(timestamp)
            .marked(marker)
            .payload(payload)
            .build_into(packet);
        let Ok(bytes) = built else { return 0 };
        self.sequence = self.sequence.next();
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload.len() as u32);
        self.last_timestamp = Some(timestamp);
        bytes
    }

    /// Our synchronisation source.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// What has been sent, if anything has.
    pub fn figures(&self) -> Option<SenderFigures> {
        let last_timestamp = self.last_timestamp?;
        Some(SenderFigures { packets: self.packets, octets: self.octets, last_timestamp })
    }
}

#[cfg(test)]
mod tests {
    use rtp_rs::RtpReader;

    use super::*;

    #[test]
    fn packets_count_on_across_the_sequence_wrap() {
        let mut sender = Sender::new(0xfeed, 0xffff);
        let mut packet = [0; 172];
        for (sequence, marker) in [(0xffff, true), (0, false), (1, false)] {
            let bytes = sender.build(8, 160, marker, &[7; 160], &mut packet);
            let reader = RtpReader::new(&packet[..bytes]).expect("a packet");
            assert_eq!(reader.sequence_number(), Seq::from(sequence));
            assert_eq!((reader.ssrc(), reader.payload_type(), reader.mark()), (0xfeed, 8, marker));
            assert_eq!(reader.payload(), [7; 160]);
        }
        assert_eq!(sender.figures(), Some(SenderFigures { packets: 3, octets: 480, last_timestamp: 160 }));
    }

    #[test]
    fn a_packet_that_does_not_fit_is_not_counted() {
        let mut sender = Sender::new(1, 0);
        assert_eq!(sender.build(0, 0, false, &[7; 160], &mut [0; 100]), 0);
        assert_eq!(sender.figures(), None);
    }
}
