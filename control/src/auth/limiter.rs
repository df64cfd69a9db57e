//! How often one may try: a token bucket a key, in a table that cannot grow without end.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

/// Buckets of one kind.
pub struct Limiter {
    buckets: Mutex<HashMap<String, Bucket>>,
    capacity: f64,
    per_second: f64,
}

#[derive(Clone, Copy)]
struct Bucket {
    level: f64,
    at_ms: i64,
}

/// Too many tries. Answer 429 with Retry-After.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("too many tries")]
pub struct TooMany {
    /// When the next one is allowed, in seconds.
    pub retry_after_s: u64,
}

impl Limiter {
    /// Allows `burst` tries at once and `per_minute` in the long run.
    pub fn new(burst: u32, per_minute: u32) -> Self {
        Limiter { buckets: Mutex::default(), capacity: f64::from(burst), per_second: f64::from(per_minute) / 60.0 }
    }

    /// Takes one try of the key.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn take(&self, key: &str, now_ms: i64) -> Result<(), TooMany> {
        let Ok(mut buckets) = self.buckets.lock() else { return Ok(()) };
        if buckets.len() >= BUCKETS_MAX {
            let full = |bucket: &Bucket| self.level(bucket, now_ms) >= self.capacity;
            buckets.retain(|_, bucket| !full(bucket));
        }
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(key) {
            return Err(TooMany { retry_after_s: 60 });
        }
        let bucket = buckets.entry(key.to_owned()).or_insert(Bucket { level: self.capacity, at_ms: now_ms });
        let level = self.level(bucket, now_ms);
        let allowed = level >= 1.0;
        *bucket = Bucket { level: if allowed { level - 1.0 } else { level }, at_ms: now_ms };
        if allowed {
            return Ok(());
        }
        Err(TooMany { retry_after_s: ((1.0 - level) / self.per_second).ceil().max(1.0) as u64 })
    }

    fn level(&self, bucket: &Bucket, now_ms: i64) -> f64 {
        let elapsed = (now_ms - bucket.at_ms).max(0) as f64 / 1000.0;
        (bucket.level + elapsed * self.per_second).min(self.capacity)
    }
}

/// The last keys that were right: where somebody has logged in, a stranger's tries elsewhere lock nobody out.
#[derive(Default)]
pub struct Known(Mutex<VecDeque<String>>);

impl Known {
    /// Remembers a key; the oldest is forgotten for it where there is no room.
    pub fn remember(&self, key: &str) {
        let Ok(mut keys) = self.0.lock() else { return };
        keys.retain(|known| known != key);
        if keys.len() >= KNOWN_MAX {
            keys.pop_front();
        }
        keys.push_back(key.to_owned());
    }

    /// Tells whether the key is remembered.
    pub fn contains(&self, key: &str) -> bool {
        self.0.lock().is_ok_and(|keys| keys.iter().any(|known| known == key))
    }
}

/// 1,000 keys of 100 bytes: 100 kB. Forgotten, one shares the bucket of strangers.
const KNOWN_MAX: usize = 1000;

/// 10,000 keys of 100 bytes: 1 MB. With more at once, newcomers wait a minute.
const BUCKETS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_the_long_run() {
        let limiter = Limiter::new(5, 6);
        for _ in 0..5 {
            assert_eq!(limiter.take("a", 0), Ok(()));
        }
        assert_eq!(limiter.take("a", 0), Err(TooMany { retry_after_s: 10 }));
        assert_eq!(limiter.take("b", 0), Ok(()), "keys do not share");
        assert_eq!(limiter.take("a", 10_000), Ok(()));
        assert!(limiter.take("a", 10_000).is_err());
    }

    #[test]
    fn the_latest_keys_are_known() {
        let known = Known::default();
        for key in 0..=KNOWN_MAX {
            known.remember(&key.to_string());
            known.remember("always");
        }
        assert!(known.contains("always") && known.contains("1000") && !known.contains("0"));
        assert_eq!(known.0.lock().expect("lock").len(), KNOWN_MAX);
    }

    #[test]
    fn a_flood_of_keys_neither_grows_the_table_nor_frees_a_known_key() {
        let limiter = Limiter::new(1, 1);
        assert_eq!(limiter.take("known", 0), Ok(()));
        for key in 0..2 * BUCKETS_MAX {
            let _ = limiter.take(&key.to_string(), 0);
        }
        assert!(limiter.buckets.lock().expect("lock").len() <= BUCKETS_MAX);
        assert!(limiter.take("known", 0).is_err());
    }
}
