//! Suites and master keys (RFC 4568 §6, RFC 6188 §4, RFC 7714 §12).

use std::fmt;

/// A crypto suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suite {
    /// `AES_CM_128_HMAC_SHA1_80`: what every peer has.
    AesCm128HmacSha1_80,
    /// `AES_CM_128_HMAC_SHA1_32`: with a shorter RTP tag.
    AesCm128HmacSha1_32,
    /// `AES_256_CM_HMAC_SHA1_80`.
    AesCm256HmacSha1_80,
    /// `AES_256_CM_HMAC_SHA1_32`: with a shorter RTP tag.
    AesCm256HmacSha1_32,
    /// `AEAD_AES_128_GCM`.
    AeadAes128Gcm,
    /// `AEAD_AES_256_GCM`.
    AeadAes256Gcm,
}

impl Suite {
    /// All, in the order of our offers: what is strongest first, a short tag last.
    pub const ALL: [Suite; 6] = [
        Suite::AeadAes256Gcm,
        Suite::AeadAes128Gcm,
        Suite::AesCm256HmacSha1_80,
        Suite::AesCm128HmacSha1_80,
        Suite::AesCm256HmacSha1_32,
        Suite::AesCm128HmacSha1_32,
    ];

    /// The name in `a=crypto`.
    pub fn name(self) -> &'static str {
        match self {
            Suite::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Suite::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Suite::AesCm256HmacSha1_80 => "AES_256_CM_HMAC_SHA1_80",
            Suite::AesCm256HmacSha1_32 => "AES_256_CM_HMAC_SHA1_32",
            Suite::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Suite::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// Finds a suite by its name; `AES_CM_256_…`, which some phones write, is `AES_256_CM_…`.
    pub fn of_name(name: &str) -> Option<Self> {
        let is_named = |suite: &&Suite| {
            name.eq_ignore_ascii_case(suite.name())
                || match suite {
                    Suite::AesCm256HmacSha1_80 => name.eq_ignore_ascii_case("AES_CM_256_HMAC_SHA1_80"),
                    Suite::AesCm256HmacSha1_32 => name.eq_ignore_ascii_case("AES_CM_256_HMAC_SHA1_32"),
                    _ => false,
                }
        };
        Suite::ALL.iter().find(is_named).copied()
    }

    /// The master key's length in bytes.
    pub fn key_bytes(self) -> usize {
        match self {
            Suite::AesCm128HmacSha1_80 | Suite::AesCm128HmacSha1_32 | Suite::AeadAes128Gcm => 16,
            Suite::AesCm256HmacSha1_80 | Suite::AesCm256HmacSha1_32 | Suite::AeadAes256Gcm => 32,
        }
    }

    /// The master salt's length in bytes.
    pub fn salt_bytes(self) -> usize {
        if self.is_aead() { 12 } else { 14 }
    }

    /// Key and salt together, as `a=crypto` carries them.
    pub fn master_bytes(self) -> usize {
        self.key_bytes() + self.salt_bytes()
    }

    /// The RTP tag's length in bytes. RTCP has 10 also where RTP has 4 (RFC 4568 §6.2.2).
    pub(super) fn tag_bytes(self) -> usize {
        match self {
            Suite::AesCm128HmacSha1_80 | Suite::AesCm256HmacSha1_80 => 10,
            Suite::AesCm128HmacSha1_32 | Suite::AesCm256HmacSha1_32 => 4,
            Suite::AeadAes128Gcm | Suite::AeadAes256Gcm => 16,
        }
    }

    /// The RTCP tag's length in bytes.
    pub(super) fn control_tag_bytes(self) -> usize {
        if self.is_aead() { 16 } else { 10 }
    }

    pub(super) fn is_aead(self) -> bool {
        matches!(self, Suite::AeadAes128Gcm | Suite::AeadAes256Gcm)
    }
}

/// A master key with its salt.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    suite: Suite,
    bytes: [u8; MASTER_BYTES_MAX],
}

impl MasterKey {
    /// Takes key and salt together; `None` when they are not as long as the suite has them.
    pub fn new(suite: Suite, key_and_salt: &[u8]) -> Option<Self> {
        if key_and_salt.len() != suite.master_bytes() {
            return None;
        }
        let mut bytes = [0; MASTER_BYTES_MAX];
        bytes[..key_and_salt.len()].copy_from_slice(key_and_salt);
        Some(MasterKey { suite, bytes })
    }

    /// What the key is for.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Key and salt together.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.suite.master_bytes()]
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.bytes[..self.suite.key_bytes()]
    }

    pub(super) fn salt(&self) -> &[u8] {
        &self.bytes()[self.suite.key_bytes()..]
    }
}

/// Keys are never printed.
impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.suite.name())
    }
}

/// A master key and the policy that it comes with (RFC 4568 §6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyParameter {
    /// The key.
    pub master: MasterKey,
    /// For how many packets of RTP, and of RTCP, it may be used; at most [`LIFETIME_MAX`], the default.
    pub lifetime: u64,
    /// How its packets name it, where they do.
    pub mki: Option<Mki>,
}

/// A master key identifier: a number, big-endian in so many bytes of each packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mki {
    /// The number.
    pub value: u64,
    /// Its bytes, 1 to [`MKI_BYTES_MAX`].
    pub length: u8,
}

impl Mki {
    pub(super) fn bytes(self) -> usize {
        usize::from(self.length)
    }

    pub(super) fn is_at(self, packet: &[u8]) -> bool {
        packet.get(..self.bytes()).is_some_and(|bytes| bytes.iter().copied().eq(self.digits()))
    }

    pub(super) fn write(self, packet: &mut [u8]) {
        packet.iter_mut().zip(self.digits()).for_each(|(byte, digit)| *byte = digit);
    }

    fn digits(self) -> impl Iterator<Item = u8> {
        (0..u32::from(self.length)).rev().map(move |place| self.value.checked_shr(8 * place).unwrap_or(0) as u8)
    }
}

/// 32 bytes of key and 14 of salt.
pub const MASTER_BYTES_MAX: usize = 46;

/// RFC 4568 §6.1.
pub const MKI_BYTES_MAX: usize = 128;

/// 2^48 packets (RFC 3711 §9.2).
pub const LIFETIME_MAX: u64 = 1 << 48;
