//! The memory that all calls' queued speech shares, so that agents which send ahead cannot take the box's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts bytes, and owns none. Cheap to clone; every clone is the same pool.
#[derive(Debug, Clone)]
pub struct SpeechPool {
    left: Arc<AtomicUsize>,
}

impl SpeechPool {
    /// A pool of so many bytes.
    pub fn new(bytes: usize) -> Self {
        SpeechPool { left: Arc::new(AtomicUsize::new(bytes)) }
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes bytes out; `false` and nothing taken when fewer are left.
    pub(super) fn take(&self, bytes: usize) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    /// Puts bytes back.
    pub(super) fn give(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Default for SpeechPool {
    fn default() -> Self {
        SpeechPool::new(POOL_BYTES)
    }
}

/// 512 MiB: 18 hours of G.711, or 111 calls with ten minutes queued in each.
pub const POOL_BYTES: usize = 512 << 20;
