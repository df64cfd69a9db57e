//! Signatures in the Standard Webhooks form, and the secrets that make them.

use std::fmt;

use base64_simd::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::secret::random;

/// What signs the events of one project: `whsec_` and 24 to 64 bytes in Base64.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

/// The text is not `whsec_` and the Base64 of 24 to 64 bytes. Damaged at rest; the hook is set again.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("a webhook's secret is whsec_ and the Base64 of 24 to 64 bytes")]
pub struct SecretError;

impl WebhookSecret {
    /// Makes one of 32 bytes.
    pub fn make() -> Self {
        WebhookSecret(random::<32>().to_vec())
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let base64 = text.strip_prefix(PREFIX).ok_or(SecretError)?;
        let bytes = STANDARD.decode_to_vec(base64).map_err(|_| SecretError)?;
        if (24..=64).contains(&bytes.len()) { Ok(WebhookSecret(bytes)) } else { Err(SecretError) }
    }

    /// The text form, for whoever set the hook.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode_to_string(&self.0))
    }

    /// The header `webhook-signature` of a message: `v1,` and the Base64 of HMAC-SHA256 over `id.timestamp.body`.
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &str) -> String {
        // A key of any length is fine for HMAC.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(format!("{id}.{timestamp_s}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode_to_string(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(•••)")
    }
}

/// As the specification has it.
const PREFIX: &str = "whsec_";

#[cfg(test)]
mod tests {
    use super::*;

    /// The first is the specification's own; both were computed with `standardwebhooks` 1.1.0 of PyPI as well.
    #[test]
    fn signatures_are_those_of_another_implementation() {
        for (secret, id, timestamp_s, body, expected) in [
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
                "8d5f1a3e-0000-4000-8000-00000000000e",
                1_741_584_039,
                r#"{"status":"completed","text":"größer"}"#,
                "v1,CQQEk7KJ2sImo0IdIbwDEvnKKPC2gF0XIBjR9fHxgKg=",
            ),
        ] {
            let secret = WebhookSecret::parse(secret).expect("a secret");
            assert_eq!(secret.sign(id, timestamp_s, body), expected);
            assert_ne!(secret.sign(id, timestamp_s + 1, body), expected);
        }
    }

    #[test]
    fn a_secret_reads_as_it_was_written_and_is_not_printed() {
        let secret = WebhookSecret::make();
        assert_eq!(WebhookSecret::parse(&secret.reveal()), Ok(secret.clone()));
        assert_ne!(WebhookSecret::make(), secret);
        assert!(!format!("{secret:?}").contains(&secret.reveal()[6..]));
        for bad in ["", "whsec_", "whsec_AAAA", "whsec_!", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="] {
            assert_eq!(WebhookSecret::parse(bad), Err(SecretError), "{bad}");
        }
    }
}
