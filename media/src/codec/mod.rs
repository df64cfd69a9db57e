//! Speech codecs behind one closed enum: each turns its bytes into samples and back, and none knows another.

pub mod g711;
pub mod plc;

/// A codec of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// G.711 µ-law (RFC 3551 §4.5.14).
    Pcmu,
    /// G.711 A-law (RFC 3551 §4.5.14).
    Pcma,
}

impl Codec {
    /// All codecs, the preferred first.
    pub const ALL: [Codec; 2] = [Codec::Pcmu, Codec::Pcma];

    /// The encoding name in `a=rtpmap` (RFC 3551 §6).
    pub fn name(self) -> &'static str {
        match self {
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
        }
    }

    /// The codec of an encoding name, in any case.
    pub fn of_name(name: &str) -> Option<Self> {
        Codec::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name))
    }

    /// The static payload type (RFC 3551 §6).
    pub fn payload_type(self) -> u8 {
        match self {
            Codec::Pcmu => 0,
            Codec::Pcma => 8,
        }
    }

    /// The RTP clock, in hertz.
    pub fn clock_rate(self) -> u32 {
        8000
    }

    /// The code of digital silence.
    pub fn silence(self) -> u8 {
        match self {
            Codec::Pcmu => 0xff,
            Codec::Pcma => 0xd5,
        }
    }

    /// What each of this codec's codes is in another codec.
    pub fn recoded(self, other: Codec) -> [u8; 256] {
        let (mut samples, mut codes) = (Vec::with_capacity(256), Vec::with_capacity(256));
        self.decode(&std::array::from_fn::<u8, 256, _>(|code| code as u8), &mut samples);
        other.encode(&samples, &mut codes);
        std::array::from_fn(|code| codes[code])
    }

    /// Appends the samples of `payload`, one each byte.
    pub fn decode(self, payload: &[u8], samples: &mut Vec<i16>) {
        let table = match self {
            Codec::Pcmu => &g711::MULAW_TO_LINEAR,
            Codec::Pcma => &g711::ALAW_TO_LINEAR,
        };
        samples.extend(payload.iter().map(|code| table[*code as usize]));
    }

    /// Appends the codes of `samples`.
    pub fn encode(self, samples: &[i16], payload: &mut Vec<u8>) {
        match self {
            Codec::Pcmu => payload.extend(samples.iter().map(|sample| g711::mulaw_of(*sample))),
            Codec::Pcma => payload.extend(samples.iter().map(|sample| g711::alaw_of(*sample))),
        }
    }
}
