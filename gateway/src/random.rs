//! Unpredictable numbers, drawn from the kernel where tasks begin and handed to machines as seeds.

use rustix::rand::{GetRandomFlags, getrandom};

/// A source of seeds.
#[derive(Debug, Default)]
pub struct Random(());

/// The kernel gives no random numbers; nothing secure can start without.
#[derive(Debug, thiserror::Error)]
#[error("the kernel gives no random numbers")]
pub struct NoRandom(#[from] rustix::io::Errno);

impl Random {
    /// Checks that the kernel's generator works.
    ///
    /// # Errors
    /// [`NoRandom`].
    pub fn new() -> Result<Self, NoRandom> {
        getrandom(&mut [0u8; 16], GetRandomFlags::empty())?;
        Ok(Random(()))
    }

    /// 32 bytes.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        // Initialised once, the generator never fails for less than 256 bytes (getrandom(2)).
        let _ = getrandom(&mut bytes, GetRandomFlags::empty());
        bytes
    }

    /// 128 bits.
    pub fn u128(&mut self) -> u128 {
        let seed = self.seed();
        seed.first_chunk().map_or(0, |bytes| u128::from_ne_bytes(*bytes))
    }

    /// 64 bits.
    pub fn u64(&mut self) -> u64 {
        self.u128() as u64
    }
}
