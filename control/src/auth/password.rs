//! Passwords as Argon2id (RFC 9106), two at a time: fifty log-ins at once must not take the calls' memory.

use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use crate::secret::{equal, random};

/// What a hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// In KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
}

impl Default for Cost {
    /// 64 MiB and three passes: the second recommendation of RFC 9106 §4, on one lane.
    fn default() -> Self {
        Cost { memory_kib: 64 << 10, passes: 3 }
    }
}

/// Hashes and verifies, off the runtime's own threads.
pub struct Passwords {
    cost: Cost,
    permits: Semaphore,
    /// Those that are hashed and those that wait.
    queue: Semaphore,
    /// What an unknown account is verified against, so that it takes as long as a known one.
    dummy: String,
}

/// A password was neither hashed nor verified.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum HashFailed {
    /// No memory, or the program is stopping. Answer 500.
    #[error("the password could not be hashed")]
    Failed,
    /// Too many wait. Answer 503.
    #[error("too many passwords wait to be hashed")]
    Busy,
}

impl Passwords {
    /// Prepares; hashes one password to compare unknown accounts against.
    ///
    /// # Errors
    /// [`HashFailed`].
    pub fn new(cost: Cost) -> Result<Self, HashFailed> {
        Ok(Passwords {
            cost,
            permits: Semaphore::new(AT_ONCE),
            queue: Semaphore::new(QUEUE_MAX),
            dummy: hash("no account has this", cost)?,
        })
    }

    /// Hashes a password that is being set.
    ///
    /// # Errors
    /// [`HashFailed`].
    pub async fn hash(&self, password: String) -> Result<String, HashFailed> {
        let _place = self.queue.try_acquire().map_err(|_| HashFailed::Busy)?;
        let _permit = self.permits.acquire().await.map_err(|_| HashFailed::Failed)?;
        let cost = self.cost;
        tokio::task::spawn_blocking(move || hash(&password, cost)).await.map_err(|_| HashFailed::Failed)?
    }

    /// Verifies a password; `None` stands for an account that does not exist, takes as long and is always wrong.
    ///
    /// # Errors
    /// [`HashFailed`].
    pub async fn verify(&self, password: String, stored: Option<String>) -> Result<bool, HashFailed> {
        let _place = self.queue.try_acquire().map_err(|_| HashFailed::Busy)?;
        let _permit = self.permits.acquire().await.map_err(|_| HashFailed::Failed)?;
        let exists = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.dummy.clone());
        let task = tokio::task::spawn_blocking(move || verify(&password, &stored));
        Ok(task.await.map_err(|_| HashFailed::Failed)? && exists)
    }
}

/// `argon2id$<KiB>$<passes>$<salt>$<hash>`, the last two in hex.
fn hash(password: &str, cost: Cost) -> Result<String, HashFailed> {
    let salt: [u8; 16] = random();
    let bytes = derive(password, &salt, cost).ok_or(HashFailed::Failed)?;
    let Cost { memory_kib, passes } = cost;
    Ok(format!("argon2id${memory_kib}${passes}${}${}", crate::secret::hex(&salt), crate::secret::hex(&bytes)))
}

fn verify(password: &str, stored: &str) -> bool {
    let mut parts = stored.split('$');
    let (Some("argon2id"), Some(memory), Some(passes), Some(salt), Some(expected), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let (Ok(memory_kib), Ok(passes), Some(salt)) = (memory.parse(), passes.parse(), unhex(salt)) else { return false };
    derive(password, &salt, Cost { memory_kib, passes })
        .is_some_and(|bytes| equal(crate::secret::hex(&bytes).as_bytes(), expected.as_bytes()))
}

fn derive(password: &str, salt: &[u8], cost: Cost) -> Option<[u8; 32]> {
    let params = Params::new(cost.memory_kib, cost.passes, 1, Some(32)).ok()?;
    let mut bytes = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, &mut bytes)
        .ok()?;
    Some(bytes)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Two hashes of 64 MiB at once.
const AT_ONCE: usize = 2;

/// 34: at 0.25 s each the last of them waits 4 s. Full: 503.
const QUEUE_MAX: usize = AT_ONCE + 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_crowd_is_told_to_come_back() {
        let passwords = Passwords::new(Cost { memory_kib: 64, passes: 1 }).expect("hashes");
        let places = passwords.queue.acquire_many(QUEUE_MAX as u32).await.expect("open");
        assert_eq!(passwords.hash("correct horse".into()).await, Err(HashFailed::Busy));
        assert_eq!(passwords.verify("correct horse".into(), None).await, Err(HashFailed::Busy));
        drop(places);
        assert_eq!(passwords.verify("correct horse".into(), None).await, Ok(false));
    }

    #[tokio::test]
    async fn the_right_password_verifies_and_no_other_and_no_unknown_account() {
        let passwords = Passwords::new(Cost { memory_kib: 64, passes: 1 }).expect("hashes");
        let stored = passwords.hash("correct horse".into()).await.expect("hashes");
        assert!(passwords.verify("correct horse".into(), Some(stored.clone())).await.expect("verifies"));
        assert!(!passwords.verify("correct horsf".into(), Some(stored)).await.expect("verifies"));
        assert!(!passwords.verify("no account has this".into(), None).await.expect("verifies"));
        assert!(!passwords.verify("x".into(), Some("argon2id$1$1$zz$00".into())).await.expect("verifies"));
    }
}
