//! What a trunk's sound may be made of, as it crosses the port.

use serde::{Deserialize, Serialize};

/// How sound is carried on a trunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrunkMedia {
    /// What is offered and taken, the preferred first; none is the box's own order.
    pub codecs: Vec<SpeechCodec>,
    /// Milliseconds of sound in a packet that we offer (`a=ptime`), 10 to 60 in steps of ten. Default 20.
    pub ptime_ms: u32,
    /// Whether it is encrypted.
    pub srtp: Srtp,
    /// Keys may stand in an offer of ours (RFC 4568) though the signalling is plain.
    pub sdes_over_plain: bool,
    /// How digits travel.
    pub dtmf: Dtmf,
    /// Networks that sound may come from besides the described address and that of the signalling, as `192.0.2.0/24`.
    pub media_networks: Vec<String>,
}

impl Default for TrunkMedia {
    fn default() -> Self {
        TrunkMedia {
            codecs: Vec::new(),
            ptime_ms: 20,
            srtp: Srtp::default(),
            sdes_over_plain: false,
            dtmf: Dtmf::default(),
            media_networks: Vec::new(),
        }
    }
}

/// A codec by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpeechCodec {
    /// Opus, wideband.
    Opus,
    /// G.722, wideband.
    G722,
    /// G.711 µ-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
}

/// Whether a line's sound is encrypted (RFC 3711): with keys in the session descriptions (RFC 4568), which are what the box
/// offers, or with those of DTLS (RFC 5763), where the other side offers that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Srtp {
    /// Never: an offer that wants it gets 488.
    Off,
    /// Where the other side wants or takes it.
    #[default]
    Optional,
    /// Always: a call that cannot be encrypted is not made.
    Required,
}

/// How a line's digits travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtmf {
    /// As events where the other side knows them (RFC 4733), else in the sound; INFO is heard besides.
    #[default]
    Auto,
    /// As events only.
    Rfc4733,
    /// By SIP INFO only.
    Info,
    /// In the sound only.
    Inband,
}
