//! Methods: what a request asks for.

use std::fmt;

/// A SIP method (RFC 3261 §7.1 and its extensions); methods are case-sensitive tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Opens a session (RFC 3261 §13).
    Invite,
    /// Confirms a final response to INVITE (RFC 3261 §13.2.2.4).
    Ack,
    /// Ends a session (RFC 3261 §15).
    Bye,
    /// Withdraws a pending INVITE (RFC 3261 §9).
    Cancel,
    /// Asks for capabilities (RFC 3261 §11).
    Options,
    /// Binds an address of record (RFC 3261 §10).
    Register,
    /// Carries application data inside a dialog (RFC 6086).
    Info,
    /// Acknowledges a reliable provisional response (RFC 3262).
    Prack,
    /// Changes a session without another INVITE (RFC 3311).
    Update,
    /// Asks the far end to call somebody else (RFC 3515).
    Refer,
    /// Tells what has become of it (RFC 6665).
    Notify,
    /// A method this element knows by name and does not serve, such as MESSAGE or SUBSCRIBE.
    Known(&'static str),
    /// A method nobody here has heard of: 501 (RFC 3261 §21.5.2).
    Unknown(String),
}

impl Method {
    /// Reads a method token; `None` when it is empty or holds a character no token may hold.
    pub fn parse(token: &str) -> Option<Self> {
        if token.is_empty() || !token.bytes().all(is_token_byte) {
            return None;
        }
        Some(match token {
            "INVITE" => Self::Invite,
            "ACK" => Self::Ack,
            "BYE" => Self::Bye,
            "CANCEL" => Self::Cancel,
            "OPTIONS" => Self::Options,
            "REGISTER" => Self::Register,
            "INFO" => Self::Info,
            "PRACK" => Self::Prack,
            "UPDATE" => Self::Update,
            "REFER" => Self::Refer,
            "NOTIFY" => Self::Notify,
            other => match NOT_SERVED.iter().find(|known| **known == other) {
                Some(known) => Self::Known(known),
                None => Self::Unknown(other.to_owned()),
            },
        })
    }

    /// The method as it stands on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Options => "OPTIONS",
            Self::Register => "REGISTER",
            Self::Info => "INFO",
            Self::Prack => "PRACK",
            Self::Update => "UPDATE",
            Self::Refer => "REFER",
            Self::Notify => "NOTIFY",
            Self::Known(name) => name,
            Self::Unknown(name) => name,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a byte may stand in a token (RFC 3261 §25.1).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

/// Methods of the RFCs that are answered 405 rather than 501.
const NOT_SERVED: [&str; 3] = ["MESSAGE", "PUBLISH", "SUBSCRIBE"];
