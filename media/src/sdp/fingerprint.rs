//! `a=fingerprint` (RFC 8122) and `a=setup` (RFC 4145): who a far end is in DTLS, and who begins.

use std::fmt;

use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// The hash of a certificate: SHA-256 where it is ours, another of RFC 8122 §5 where the far end has no better.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    hash: Hash,
    /// As many as the hash has; the rest is zero.
    digest: [u8; DIGEST_BYTES_MAX],
}

/// A hash function, the weakest first. MD5 and MD2 are none: RFC 8122 §5 forbids them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hash {
    /// 20 bytes. Nobody can make a second certificate for a fingerprint of it yet, and some phones have no other.
    Sha1,
    /// 32 bytes.
    Sha256,
    /// 48 bytes.
    Sha384,
    /// 64 bytes.
    Sha512,
}

/// Who begins the handshake, from the describing side's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// It does.
    Active,
    /// The other side does.
    Passive,
    /// The other side chooses.
    Actpass,
    /// Nobody does yet.
    Holdconn,
}

impl Fingerprint {
    /// The SHA-256 of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self::with(Hash::Sha256, certificate)
    }

    /// Reads what follows `a=fingerprint:`; `None` is a hash that is not known here, or none.
    pub fn parse(value: &str) -> Option<Self> {
        let (name, digits) = value.trim().split_once(' ')?;
        let hash = Hash::ALL.into_iter().find(|hash| hash.name().eq_ignore_ascii_case(name))?;
        let mut digest = [0; DIGEST_BYTES_MAX];
        let mut pairs = digits.trim().split(':');
        for byte in digest.iter_mut().take(hash.bytes()) {
            let is_pair = |pair: &&str| pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = u8::from_str_radix(pairs.next().filter(is_pair)?, 16).ok()?;
        }
        pairs.next().is_none().then_some(Fingerprint { hash, digest })
    }

    /// Which hash it is of.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Tells whether a certificate in DER has it.
    pub fn matches(&self, certificate: &[u8]) -> bool {
        // Neither side is a secret: nothing is told by how long it takes.
        *self == Self::with(self.hash, certificate)
    }

    fn with(hash: Hash, certificate: &[u8]) -> Self {
        let mut digest = [0; DIGEST_BYTES_MAX];
        let mut keep = |bytes: &[u8]| digest[..bytes.len()].copy_from_slice(bytes);
        match hash {
            Hash::Sha1 => keep(&Sha1::digest(certificate)),
            Hash::Sha256 => keep(&Sha256::digest(certificate)),
            Hash::Sha384 => keep(&Sha384::digest(certificate)),
            Hash::Sha512 => keep(&Sha512::digest(certificate)),
        }
        Fingerprint { hash, digest }
    }
}

/// What follows `a=fingerprint:`.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.hash.name())?;
        for (at, byte) in self.digest.iter().take(self.hash.bytes()).enumerate() {
            write!(f, "{}{byte:02X}", if at > 0 { ":" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl Hash {
    const ALL: [Hash; 4] = [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512];

    fn name(self) -> &'static str {
        match self {
            Hash::Sha1 => "sha-1",
            Hash::Sha256 => "sha-256",
            Hash::Sha384 => "sha-384",
            Hash::Sha512 => "sha-512",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
            Hash::Sha384 => 48,
            Hash::Sha512 => DIGEST_BYTES_MAX,
        }
    }
}

impl Setup {
    /// Reads what follows `a=setup:`.
    pub fn parse(value: &str) -> Option<Self> {
        match value.trim() {
            "active" => Some(Setup::Active),
            "passive" => Some(Setup::Passive),
            "actpass" => Some(Setup::Actpass),
            "holdconn" => Some(Setup::Holdconn),
            _ => None,
        }
    }
}

/// 64 bytes: SHA-512's.
const DIGEST_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_comes_back_as_it_was_written_and_an_unknown_hash_is_none() {
        for hash in Hash::ALL {
            let fingerprint = Fingerprint::with(hash, b"a certificate");
            let written = fingerprint.to_string();
            assert_eq!(Fingerprint::parse(&written), Some(fingerprint), "{written}");
            assert_eq!(Fingerprint::parse(&written.to_lowercase()), Some(fingerprint));
            let first = written.split_once(' ').expect("a name").1.split(':').next().expect("a byte").to_owned();
            for wrong in [
                written.replace("sha-", "md"),
                format!("{written}:00"),
                written.replacen(&format!("{first}:"), &first, 1),
                written.replacen(&first, "+F", 1),
                hash.name().into(),
                String::new(),
            ] {
                assert_eq!(Fingerprint::parse(&wrong), None, "{wrong}");
            }
        }
    }

    #[test]
    fn a_certificate_has_its_own_fingerprint_in_every_hash_and_no_other_s() {
        // FIPS 180 of "abc": SHA-1 and SHA-256.
        let known = [
            "sha-1 A9:99:3E:36:47:06:81:6A:BA:3E:25:71:78:50:C2:6C:9C:D0:D8:9D",
            "sha-256 BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD",
        ];
        for written in known {
            let fingerprint = Fingerprint::parse(written).expect("readable");
            assert!(fingerprint.matches(b"abc") && !fingerprint.matches(b"abd"), "{written}");
        }
        for hash in Hash::ALL {
            let fingerprint = Fingerprint::with(hash, b"one");
            assert!(fingerprint.matches(b"one") && !fingerprint.matches(b"other"), "{hash:?}");
        }
    }
}
