//! The box's own secret, and the keys that come from it.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

use crate::port::Sealed;

/// 32 random bytes, made at the first start and kept in a file of mode 0600.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Reads the file, or makes it.
    ///
    /// # Errors
    /// What the kernel says, or `InvalidData` when the file is not 32 bytes long.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        match OpenOptions::new().read(true).open(path) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                bytes.try_into().map(Secret).map_err(|_| std::io::ErrorKind::InvalidData.into())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Secret::make(path),
            Err(error) => Err(error),
        }
    }

    /// Writes a new secret under a name of its own and links it to `path`: the file is whole or absent, and of two
    /// processes that begin at once both end up with the first one's.
    fn make(path: &Path) -> std::io::Result<Self> {
        let secret = Secret(random());
        let temporary = path.with_extension(format!("{}.tmp", hex(&random::<8>())));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&secret.0)?;
        file.sync_all()?;
        let linked = std::fs::hard_link(&temporary, path);
        std::fs::remove_file(&temporary)?;
        match linked {
            Ok(()) => {
                if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
                    std::fs::File::open(dir)?.sync_all()?;
                }
                Ok(secret)
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Secret::open(path),
            Err(error) => Err(error),
        }
    }

    /// Encrypts `text` so that only this box reads it, and only where `purpose` is the same.
    pub fn seal(&self, purpose: &str, text: &str) -> Sealed {
        let nonce: [u8; NONCE_LEN] = random();
        let mut bytes = text.as_bytes().to_vec();
        let sealed = self.sealing_key().seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(purpose.as_bytes()),
            &mut bytes,
        );
        // Only texts of 256 GiB are refused.
        if sealed.is_err() {
            bytes.clear();
        }
        Sealed(format!("{}{}", hex(&nonce), hex(&bytes)))
    }

    /// Reads what [`Secret::seal`] made.
    ///
    /// # Errors
    /// [`UnsealError`] when another box sealed it, for another purpose, or somebody changed it.
    pub fn unseal(&self, purpose: &str, sealed: &Sealed) -> Result<String, UnsealError> {
        let bytes = unhex(&sealed.0).ok_or(UnsealError)?;
        let (nonce, body) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(UnsealError)?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let text = self
            .sealing_key()
            .open_in_place(nonce, Aad::from(purpose.as_bytes()), &mut body)
            .map_err(|_| UnsealError)?;
        String::from_utf8(text.to_vec()).map_err(|_| UnsealError)
    }

    /// ChaCha20-Poly1305 (RFC 8439). Nonces are random: 2^32 seals would be needed for a likely repetition.
    fn sealing_key(&self) -> LessSafeKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.key("seal"));
        // A key of 32 bytes is what the algorithm takes.
        LessSafeKey::new(key.unwrap_or_else(|_| std::process::abort()))
    }

    /// A key for one purpose; purposes never share one.
    pub fn key(&self, purpose: &str) -> [u8; 32] {
        self.mac("key", purpose.as_bytes())
    }

    /// A code of `bytes` under a key for one purpose.
    pub fn mac(&self, purpose: &str, bytes: &[u8]) -> [u8; 32] {
        // A key of any length is fine for HMAC.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return [0; 32] };
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }
}

/// The text was sealed by another box or for another purpose, or is damaged. Whoever set it sets it again.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("a stored secret cannot be opened with this box's key; set it again")]
pub struct UnsealError;

/// Random bytes from the kernel.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The kernel's generator, once up, does not fail; without one nothing here may go on.
    if getrandom::fill(&mut bytes).is_err() {
        std::process::abort();
    }
    bytes
}

/// What is kept of a token that is random itself: no slow hash is needed for 256 bits.
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// Compares in a time that does not depend on where the difference is.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// In the data directory: the key that both halves share.
pub const SECRET_FILE: &str = "secret.key";

/// What trunks' passwords are sealed for.
pub const TRUNK_PASSWORD_PURPOSE: &str = "trunk password";

/// What extensions' passwords are sealed for.
pub const EXTENSION_PASSWORD_PURPOSE: &str = "extension password";

/// What providers' keys are sealed for.
pub const PROVIDER_KEY_PURPOSE: &str = "provider api key";

/// What the secret headers of agents' functions are sealed for.
pub const TOOL_HEADER_PURPOSE: &str = "tool header";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_here_for_the_same_purpose_and_unchanged_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let secret = Secret::open(&dir.path().join("secret.key")).expect("made");
        let sealed = secret.seal("trunk password", "s3cret ü");
        assert_eq!(secret.unseal("trunk password", &sealed).as_deref(), Ok("s3cret ü"));
        assert_eq!(secret.unseal("api key", &sealed), Err(UnsealError));
        assert_ne!(secret.seal("trunk password", "s3cret ü"), sealed, "nonces differ");
        let other = Secret::open(&dir.path().join("other.key")).expect("made");
        assert_eq!(other.unseal("trunk password", &sealed), Err(UnsealError));
        for at in [0, 30, sealed.0.len() - 1] {
            let mut text = sealed.0.clone().into_bytes();
            text[at] = if text[at] == b'0' { b'1' } else { b'0' };
            let changed = Sealed(String::from_utf8(text).expect("text"));
            assert_eq!(secret.unseal("trunk password", &changed), Err(UnsealError), "byte {at}");
        }
        for bad in ["", "xy", "00", &sealed.0[..23]] {
            assert_eq!(secret.unseal("trunk password", &Sealed(bad.into())), Err(UnsealError));
        }
    }

    #[test]
    fn a_secret_is_kept_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secret.key");
        let first = Secret::open(&path).expect("made");
        assert_eq!(Secret::open(&path).expect("read").0, first.0);
        assert_eq!(Secret::make(&path).expect("the first one's").0, first.0, "two that begin at once share it");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 1, "nothing is left beside it");
    }
}
