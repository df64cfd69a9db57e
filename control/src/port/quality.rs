//! How the legs of a call sound, as it crosses the port and is stored with the call.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// One of the two legs of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallLeg {
    /// The caller's, or that of the number the box has called.
    First,
    /// The line it was led on to.
    Second,
}

/// The figures of one leg since it was answered. Scores are of the E-model (ITU-T G.107), 1 to 4.5.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LegQuality {
    /// More than the telephone's 3.4 kHz is carried; its scores have the same scale, of their own kind.
    pub is_wideband: bool,
    /// How its packets are encrypted; `None` where they are not, or where they were before it was asked.
    #[serde(default)]
    pub encryption: Option<Encryption>,
    /// To the far end and back, by RTCP. `None` without reports of the far end.
    pub round_trip_ms: Option<f64>,
    /// What we hear, by our own measurement.
    pub inbound: InboundQuality,
    /// What the far end hears, by its reports; what they alone tell is `None` without them.
    pub outbound: OutboundQuality,
}

/// SRTP (RFC 3711) on a leg.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    /// How the keys were agreed on.
    pub keys: KeyExchange,
    /// The suite, as IANA names it: `AES_CM_128_HMAC_SHA1_80`. `None` while a handshake has brought no keys, and nothing
    /// is heard.
    pub suite: Option<Cow<'static, str>>,
}

/// How keys are agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyExchange {
    /// In the session descriptions (RFC 4568).
    Sdes,
    /// By a handshake between the ends (RFC 5763).
    Dtls,
}

/// From the far end to us.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InboundQuality {
    /// RTP packets taken.
    pub packets: u64,
    /// That never came.
    pub lost: u64,
    /// That came too late.
    pub late: u64,
    /// That came more than once.
    pub duplicates: u64,
    /// That were refused: from strangers, malformed, late, doubled or too many.
    pub refused: u64,
    /// What was made up in place of lost and late ones.
    pub concealed_ms: f64,
    /// Lost or late, of those expected, in percent.
    pub loss_percent: f64,
    /// Of the packets in bursts of loss, the part lost or late, in percent (RFC 3611 §4.7.2).
    pub burst_loss_percent: f64,
    /// The same of the packets between bursts.
    pub gap_loss_percent: f64,
    /// Interarrival jitter (RFC 3550 §6.4.1).
    pub jitter_ms: f64,
    /// How long a missing packet is waited for.
    pub wait_ms: f64,
    /// The score; `None` before the first packet.
    pub mos: Option<f64>,
    /// The level of speech in dB below overload, as a recogniser hears it. `None` where nobody has spoken.
    pub level_dbov: Option<f64>,
    /// Samples at the limit, in percent.
    pub clipped_percent: f64,
}

/// From us to the far end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboundQuality {
    /// RTP packets sent.
    pub packets: u64,
    /// That did not arrive.
    pub lost: Option<u64>,
    /// Lost, or too late if extended reports say so, in percent.
    pub loss_percent: Option<f64>,
    /// Interarrival jitter there.
    pub jitter_ms: Option<f64>,
    /// The score.
    pub mos: Option<f64>,
    /// The level of the speech that was sent, in dB below overload.
    pub level_dbov: Option<f64>,
    /// Its samples at the limit, in percent.
    pub clipped_percent: f64,
}
