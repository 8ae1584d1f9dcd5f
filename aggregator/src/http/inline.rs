//! Which requests cost so little that a change of threads would be most of it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A request that took no longer last time is answered where it arrives.
pub const CHEAP_MAX: Duration = Duration::from_micros(300);
/// And is broken off there, to be done again on a blocking thread, when it takes this long.
pub const INLINE_MAX: Duration = Duration::from_millis(2);
/// Requests that are remembered; one that falls on the place of another takes it.
const PLACES: usize = 4096;

/// What identifies a request from one time it is asked to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestKey(u64);

impl RequestKey {
    /// The key of what a request is about: its text, and the order of its size.
    #[must_use]
    pub fn of<'t>(texts: impl IntoIterator<Item = &'t str>, size: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        for text in texts {
            text.hash(&mut hasher);
        }
        hasher.write_u32(size.checked_ilog2().map_or(0, |log| log + 1));
        // 0 is an empty place.
        Self(hasher.finish().max(1))
    }
}

/// The requests that were cheap last time. 32 KiB, without locks.
#[derive(Debug)]
pub struct InlineRequests {
    places: Box<[AtomicU64]>,
}

impl Default for InlineRequests {
    fn default() -> Self {
        let places = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { places }
    }
}

impl InlineRequests {
    fn place(&self, key: RequestKey) -> Option<&AtomicU64> {
        self.places.get(key.0 as usize % PLACES)
    }

    /// Whether the request was cheap when it was asked last.
    #[must_use]
    pub fn contains(&self, key: RequestKey) -> bool {
        let place = self.place(key);
        place.is_some_and(|place| place.load(Ordering::Relaxed) == key.0)
    }

    /// Remembers what the request took.
    pub fn note(&self, key: RequestKey, took: Duration) {
        let Some(place) = self.place(key) else {
            return;
        };
        if took <= CHEAP_MAX {
            place.store(key.0, Ordering::Relaxed);
        } else {
            self.forget(key);
        }
    }

    /// The request is cheap no longer.
    pub fn forget(&self, key: RequestKey) {
        if let Some(place) = self.place(key).filter(|_| self.contains(key)) {
            place.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_cheap_until_they_are_not() {
        let cheap = InlineRequests::default();
        let key = RequestKey::of(["query", "up"], 1);
        assert!(!cheap.contains(key));
        cheap.note(key, CHEAP_MAX);
        assert!(cheap.contains(key));
        assert!(!cheap.contains(RequestKey::of(["query", "up"], 1000)));
        assert!(!cheap.contains(RequestKey::of(["query", "down"], 1)));
        cheap.note(key, CHEAP_MAX * 2);
        assert!(!cheap.contains(key));
    }
}
