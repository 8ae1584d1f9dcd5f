//! Remembers which requests are so cheap that switching threads would be most of their cost.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Requests that took no longer than this last time run on the thread where they arrive.
pub const CHEAP_MAX: Duration = Duration::from_micros(300);
/// A request is interrupted there after this time and repeated on a blocking thread.
pub const INLINE_MAX: Duration = Duration::from_millis(2);
/// Requests that are remembered. Two requests with the same slot replace each other.
const SLOTS: usize = 4096;

/// Identifies a request across repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestKey(u64);

impl RequestKey {
    /// Hashes the texts of a request and the magnitude of its size.
    #[must_use]
    pub fn of<'t>(texts: impl IntoIterator<Item = &'t str>, size: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        for text in texts {
            text.hash(&mut hasher);
        }
        hasher.write_u32(size.checked_ilog2().map_or(0, |log| log + 1));
        // 0 marks an empty slot.
        Self(hasher.finish().max(1))
    }
}

/// The requests that were cheap last time. Takes 32 KiB and no lock.
#[derive(Debug)]
pub struct InlineRequests {
    slots: Box<[AtomicU64]>,
}

impl Default for InlineRequests {
    fn default() -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { slots }
    }
}

impl InlineRequests {
    fn slot(&self, key: RequestKey) -> Option<&AtomicU64> {
        self.slots.get(key.0 as usize % SLOTS)
    }

    /// Whether the request was cheap last time.
    #[must_use]
    pub fn contains(&self, key: RequestKey) -> bool {
        let slot = self.slot(key);
        slot.is_some_and(|slot| slot.load(Ordering::Relaxed) == key.0)
    }

    /// Records how long the request took.
    pub fn record(&self, key: RequestKey, took: Duration) {
        let Some(slot) = self.slot(key) else {
            return;
        };
        if took <= CHEAP_MAX {
            slot.store(key.0, Ordering::Relaxed);
        } else {
            self.forget(key);
        }
    }

    /// Removes a request that is no longer cheap.
    pub fn forget(&self, key: RequestKey) {
        if let Some(slot) = self.slot(key).filter(|_| self.contains(key)) {
            slot.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_is_cheap_until_it_takes_long() {
        let requests = InlineRequests::default();
        let key = RequestKey::of(["query", "up"], 1);
        assert!(!requests.contains(key));
        requests.record(key, CHEAP_MAX);
        assert!(requests.contains(key));
        assert!(!requests.contains(RequestKey::of(["query", "up"], 1000)));
        assert!(!requests.contains(RequestKey::of(["query", "down"], 1)));
        requests.record(key, CHEAP_MAX * 2);
        assert!(!requests.contains(key));
    }
}
