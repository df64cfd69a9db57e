//! Who a far end is in DTLS-SRTP and which side begins (RFC 5763 §5, RFC 8842 §5).
//!
//! ```text
//!   they say   actpass          active     passive   holdconn   nothing
//!   we say     active, or what  passive    active    holdconn   passive to an offer,
//!              we are already                                   active to an answer
//! ```

use std::fmt::Write as _;

use super::crypto::CryptoError;
use super::fingerprint::{Fingerprint, Setup};
use super::parse::{Attribute, Media, SessionDescription};

/// The far end of a DTLS association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DtlsPeer {
    /// What its certificate may have, one or more, of one hash.
    pub fingerprints: Vec<Fingerprint>,
    /// What we are; `None` while it wants no association (`a=setup:holdconn`).
    pub role: Option<DtlsRole>,
    /// `a=tls-id` (RFC 8842 §4), where it has one: it changes when an association is to be made anew.
    tls_id: Option<String>,
}

/// Our part in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsRole {
    /// We begin (`a=setup:active`).
    Client,
    /// They do (`a=setup:passive`).
    Server,
}

/// Which description of theirs is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// An offer; we are this already, if anything.
    Offer(Option<DtlsRole>),
    /// An answer to ours.
    Answer,
}

impl DtlsPeer {
    /// One whose certificate has one of these fingerprints, towards which we are this.
    pub fn new(fingerprints: Vec<Fingerprint>, role: DtlsRole) -> Self {
        DtlsPeer { fingerprints, role: Some(role), tls_id: None }
    }

    /// Tells whether another description of a far end means the association that is (RFC 8842 §3.1): who has no `a=tls-id`
    /// says nothing of it.
    pub fn keeps_the_association(&self, described: &DtlsPeer) -> bool {
        let is_same_id = self.tls_id == described.tls_id || self.tls_id.is_none() || described.tls_id.is_none();
        is_same_id && self.fingerprints == described.fingerprints && self.role == described.role
    }

    /// Reads a section; what it does not say is said for all of them.
    ///
    /// # Errors
    /// [`CryptoError::NoFingerprint`].
    pub(super) fn read(description: &SessionDescription, media: &Media, turn: Turn) -> Result<Self, CryptoError> {
        let mut fingerprints = [&media.attributes, &description.attributes].into_iter().map(|said| best(said));
        let fingerprints = fingerprints.find(|found| !found.is_empty()).ok_or(CryptoError::NoFingerprint)?;
        let said = || media.attributes.iter().chain(&description.attributes);
        let setup = said().find_map(|attribute| match attribute {
            Attribute::Setup(setup) => Some(*setup),
            _ => None,
        });
        let tls_id = said().find_map(|attribute| match attribute {
            Attribute::TlsId(id) => Some(id.clone()),
            _ => None,
        });
        let role = match (setup, turn) {
            (Some(Setup::Holdconn), _) => None,
            (Some(Setup::Actpass), Turn::Offer(role)) => Some(role.unwrap_or(DtlsRole::Client)),
            // RFC 4145 §4.1: an offer without it is active, an answer is passive; no answer is both.
            (Some(Setup::Active), _) | (None, Turn::Offer(_)) => Some(DtlsRole::Server),
            (Some(Setup::Passive | Setup::Actpass) | None, _) => Some(DtlsRole::Client),
        };
        Ok(DtlsPeer { fingerprints, role, tls_id })
    }
}

/// Our lines: in answer to an offer, and again in offers that change nothing.
pub(super) fn lines(identity: Fingerprint, role: Option<DtlsRole>, without: &str) -> String {
    let setup = match role {
        Some(DtlsRole::Client) => "active",
        Some(DtlsRole::Server) => "passive",
        None => without,
    };
    let mut lines = String::new();
    let _ = write!(lines, "a=fingerprint:{identity}\r\na=setup:{setup}\r\n");
    lines
}

/// Tells whether a section is one of DTLS-SRTP (RFC 5764 §8).
pub(super) fn is_dtls(media: &Media) -> bool {
    matches!(media.protocol.as_str(), "UDP/TLS/RTP/SAVP" | "UDP/TLS/RTP/SAVPF")
}

/// RFC 8122 §5.1: those of the strongest hash; any one of them may be the certificate's.
fn best(attributes: &[Attribute]) -> Vec<Fingerprint> {
    let all = || {
        attributes.iter().filter_map(|attribute| match attribute {
            Attribute::Fingerprint(fingerprint) => Some(*fingerprint),
            _ => None,
        })
    };
    let strongest = all().map(|fingerprint| fingerprint.hash()).max();
    all().filter(|fingerprint| Some(fingerprint.hash()) == strongest).take(FINGERPRINTS_MAX).collect()
}

/// 8: a certificate for each key algorithm, and as many to come.
const FINGERPRINTS_MAX: usize = 8;
