//! What is wrong with a line, by a stable name and in one sentence that says what to do.
//!
//! A trunk's test and the watch over live calls speak of the same faults in the same words.

use std::fmt;
use std::net::IpAddr;

use crate::io::sip::TlsFault;

/// Tells whether an address in somebody's SDP cannot be reached from where their signalling is seen: it is private, and
/// the signalling comes from another kind of network.
pub fn is_out_of_reach(shown: IpAddr, signalling: IpAddr) -> bool {
    let kind = Network::of(shown);
    kind != Network::Public && kind != Network::of(signalling)
}

/// The networks that do not reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Public,
    Loopback,
    LinkLocal,
    /// RFC 1918, one for each of its blocks, and RFC 4193.
    Private(u8),
    /// RFC 6598.
    Shared,
    /// 0.0.0.0, which is a hold.
    Unspecified,
}

impl Network {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            ip if ip.is_loopback() => Network::Loopback,
            ip if ip.is_unspecified() => Network::Unspecified,
            IpAddr::V4(ip) if ip.is_link_local() => Network::LinkLocal,
            IpAddr::V4(ip) if ip.is_private() => Network::Private(ip.octets()[0]),
            IpAddr::V4(ip) if ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64 => Network::Shared,
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Network::LinkLocal,
            IpAddr::V6(ip) if ip.is_unique_local() => Network::Private(ip.octets()[0]),
            _ => Network::Public,
        }
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The name has no address.
    Dns,
    /// The host is there and nothing listens: a TCP reset, or an ICMP port unreachable.
    Refused,
    /// Nothing came back at all.
    NoAnswer,
    /// The connection was made, and TLS could not be.
    Tls {
        /// Why.
        cause: TlsFault,
    },
    /// It asks for a password again and again, 401 or 407.
    ChallengeLoop {
        /// 401 or 407.
        status: u16,
    },
    /// It asks for a password and the trunk has none, 401 or 407.
    NoCredentials {
        /// 401 or 407.
        status: u16,
    },
    /// 403.
    Forbidden,
    /// 403 to a call, where the account has been proven right.
    CallForbidden,
    /// 404, 484 or 604.
    NotFound {
        /// Which of them.
        status: u16,
    },
    /// 488 or 606: no codec in common.
    NoCommonCodec,
    /// The called line is busy, 486 or 600.
    Busy,
    /// It rang, and nobody answered.
    RingsOut,
    /// Another final response.
    Status {
        /// 300 to 699.
        status: u16,
    },
    /// The box calls no such number.
    DestinationNotAllowed,
    /// This box could not place the call.
    NotPlaced,
    /// The call was answered, and ended by the far end before its sound could be judged.
    HungUp,
    /// The call was answered, no sound came, and nothing says that ours arrives.
    NoRtp,
    /// They hear us; nothing comes to us.
    NothingReceived,
    /// We hear them; they hear nothing of us.
    NothingHeard,
    /// SRTP is required of the trunk, and they answer without, or with keys that cannot be used.
    NoSrtp,
    /// They take nothing but SRTP, and it is off for the trunk.
    OnlySrtp,
    /// SRTP is required of the trunk, and its keys would go over SIP that others can read.
    KeysUntold,
    /// What they send is under other keys than the agreed ones.
    OtherKeys,
    /// Keys for SRTP went over SIP that others can read.
    KeysInPlain,
    /// In DTLS somebody answers with a certificate that their SDP does not name.
    OtherCertificate,
    /// DTLS came to nothing otherwise.
    NoHandshake,
    /// Their SDP shows an address that cannot be reached from here.
    PrivateAddress {
        /// The address.
        address: IpAddr,
    },
}

impl Fault {
    /// Its stable name, for the API and for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Fault::Dns => "dns",
            Fault::Refused => "refused",
            Fault::NoAnswer => "no_answer",
            Fault::Tls { .. } => "tls",
            Fault::ChallengeLoop { status: 407 } => "loop_407",
            Fault::ChallengeLoop { .. } => "loop_401",
            Fault::NoCredentials { .. } => "no_credentials",
            Fault::Forbidden => "forbidden",
            Fault::CallForbidden => "call_forbidden",
            Fault::NotFound { .. } => "not_found",
            Fault::NoCommonCodec => "no_common_codec",
            Fault::Busy => "busy",
            Fault::RingsOut => "rings_out",
            Fault::Status { .. } => "status",
            Fault::DestinationNotAllowed => "destination_not_allowed",
            Fault::NotPlaced => "not_placed",
            Fault::HungUp => "hung_up",
            Fault::NoRtp => "no_rtp",
            Fault::NothingReceived => "one_way_in",
            Fault::NothingHeard => "one_way_out",
            Fault::NoSrtp => "no_srtp",
            Fault::OnlySrtp => "only_srtp",
            Fault::KeysUntold => "keys_untold",
            Fault::OtherKeys => "srtp_keys",
            Fault::KeysInPlain => "sdes_over_plain",
            Fault::OtherCertificate => "dtls_certificate",
            Fault::NoHandshake => "dtls_failed",
            Fault::PrivateAddress { .. } => "private_address",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = match self {
            Fault::Dns => "The name has no address: correct the host, or the name server of this box",
            Fault::Refused => {
                "The host is there, but nothing listens on that port: correct the port or the transport, or start SIP there"
            }
            Fault::NoAnswer => {
                "Nothing came back: correct the host or the port, or let SIP from this box through the firewall in between"
            }
            Fault::Tls { cause } => return write!(f, "TLS failed: {cause}"),
            Fault::ChallengeLoop { status } => {
                return write!(f, "PBX answered {status} to the right question again: the secret or the user is wrong");
            }
            Fault::NoCredentials { status } => {
                return write!(f, "PBX answered {status}: it wants a user and a secret, so give the trunk both");
            }
            Fault::Forbidden => "PBX answered 403: the secret or the extension is wrong",
            Fault::CallForbidden => {
                "PBX answered 403: it does not let this trunk call that number, or not with the number that is shown"
            }
            Fault::NotFound { status } => {
                return write!(
                    f,
                    "PBX answered {status}: it does not know the number or the user, so correct that or its routes"
                );
            }
            Fault::NoCommonCodec => {
                "PBX answered 488: no common codec, so allow G.711 (PCMU or PCMA), G.722 or Opus there"
            }
            Fault::Busy => "PBX answered that the number is busy: try another number",
            Fault::RingsOut => {
                "The number rang and nobody answered: try one that answers by itself, such as an echo test"
            }
            Fault::Status { status } => return write!(f, "PBX answered {status}: its own log says why"),
            Fault::DestinationNotAllowed => {
                "This box does not call that number: try another, or allow it in dial.allow"
            }
            Fault::NotPlaced => "This box has no room for the call now: try again when fewer calls are up",
            Fault::HungUp => "The PBX hung up at once: try a number that stays on the line, such as an echo test",
            Fault::NoRtp => {
                "The call was answered, but no RTP came, and nothing says that ours arrives: let the RTP ports (rtp.ports, UDP) through the firewall"
            }
            Fault::NothingReceived => {
                "One-way audio: nothing is heard from the PBX, so let UDP to this box's RTP ports (rtp.ports) through, or set sip.advertise"
            }
            Fault::NothingHeard => {
                "One-way audio: the PBX hears nothing of this box, so let UDP from it to the PBX's RTP ports through"
            }
            Fault::NoSrtp
            | Fault::OnlySrtp
            | Fault::KeysUntold
            | Fault::OtherKeys
            | Fault::KeysInPlain
            | Fault::OtherCertificate
            | Fault::NoHandshake => secured(self),
            Fault::PrivateAddress { address } => {
                return write!(
                    f,
                    "Private address in SDP: the PBX wants its audio at {address}, which cannot be reached from here, \
                     so set the public address there, or say that the trunk is behind a NAT"
                );
            }
        };
        f.write_str(sentence)
    }
}

/// What is wrong with SRTP; empty for other faults.
fn secured(fault: &Fault) -> &'static str {
    match fault {
        Fault::NoSrtp => {
            "The PBX answered without SRTP, which this trunk requires: switch it on there, or set srtp to optional"
        }
        Fault::OnlySrtp => "The PBX takes nothing but SRTP, which is off for this trunk: set srtp to optional",
        Fault::KeysUntold => {
            "This trunk requires SRTP, and its keys are not told over SIP without TLS: set the transport to tls, or \
             sdes_over_plain to true"
        }
        Fault::OtherKeys => {
            "No audio is heard: what the PBX sends is not under the keys of its session description, so look there for \
             an SBC or a proxy that changes a=crypto"
        }
        Fault::KeysInPlain => {
            "The keys of SRTP went over SIP without TLS, where others on the way may have read them: set the \
             transport to TLS on both sides"
        }
        Fault::OtherCertificate => {
            "No audio: the certificate does not match the fingerprint in the SDP, so look for who changes a=fingerprint \
             or answers DTLS in the PBX's place"
        }
        Fault::NoHandshake => {
            "No audio: the DTLS handshake came to nothing, so let UDP to and from the PBX's RTP ports through, or switch \
             DTLS-SRTP off there"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_address_is_out_of_reach_from_any_other_kind_of_network() {
        for (shown, signalling, expected) in [
            ("192.168.1.5", "198.51.100.7", true),
            ("10.0.0.5", "192.168.1.5", true),
            ("10.0.0.5", "127.0.0.1", true),
            ("100.64.3.1", "198.51.100.7", true),
            ("127.0.0.1", "198.51.100.7", true),
            ("169.254.1.1", "10.0.0.1", true),
            ("fd00::5", "2001:db8::1", true),
            ("192.168.1.5", "192.168.7.1", false),
            ("203.0.113.9", "198.51.100.7", false),
            ("203.0.113.9", "10.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", false),
            ("2001:db8::9", "2001:db8::1", false),
        ] {
            let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
            assert_eq!(is_out_of_reach(ip(shown), ip(signalling)), expected, "{shown} from {signalling}");
        }
    }
}
