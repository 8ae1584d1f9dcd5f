//! Tells readers up to which timestamp data no longer changes.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::read::StableUntil;

/// How late samples usually arrive: late scrapes, batches of senders, a short reconnect.
const LATE_MS: i64 = 5 * 60 * 1000;

/// Tracks writes and removals.
///
/// Invariant: a change at or before a moment that [`Self::settled`] gave out makes the generation grow after the
/// change is visible. A reader that finds the same generation before and after its work has seen no such change, or
/// all of it.
#[derive(Debug)]
pub(crate) struct StabilityTracker {
    generation: AtomicU64,
    /// The latest timestamp that was returned to a reader.
    promised_ms: AtomicI64,
    /// The latest sample since the store was opened.
    newest_ms: AtomicI64,
}

impl Default for StabilityTracker {
    fn default() -> Self {
        Self {
            generation: AtomicU64::new(0),
            promised_ms: AtomicI64::new(i64::MIN),
            newest_ms: AtomicI64::new(i64::MIN),
        }
    }
}

impl StabilityTracker {
    /// Records that samples between two timestamps, both inclusive, became visible.
    pub(crate) fn wrote(&self, first_ms: i64, last_ms: i64) {
        if last_ms > self.newest_ms.load(Ordering::Relaxed) {
            self.newest_ms.fetch_max(last_ms, Ordering::Relaxed);
        }
        if first_ms <= self.promised_ms.load(Ordering::SeqCst) {
            self.removed();
        }
    }

    /// Records that samples were removed at any timestamp.
    pub(crate) fn removed(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns the timestamp up to which data is stable, or `None` before the first write.
    pub(crate) fn stable_until(&self, now_ms: i64) -> Option<StableUntil> {
        let newest_ms = self.newest_ms.load(Ordering::Relaxed);
        if newest_ms == i64::MIN {
            return None;
        }
        let until_ms = newest_ms.min(now_ms).saturating_sub(LATE_MS);
        // Publish the timestamp before reading the generation: a write in between then increases the generation.
        self.promised_ms.fetch_max(until_ms, Ordering::SeqCst);
        Some(StableUntil {
            generation: self.generation.load(Ordering::SeqCst),
            until_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_before_a_promise_break_it() {
        let stability = StabilityTracker::default();
        assert_eq!(stability.stable_until(0), None);
        stability.wrote(0, 1_000_000);
        let before = stability.stable_until(2_000_000).unwrap();
        assert_eq!(before.until_ms, 1_000_000 - LATE_MS);
        stability.wrote(before.until_ms + 1, 1_000_001);
        let after = stability.stable_until(2_000_000).unwrap();
        assert_eq!(after.generation, before.generation);
        stability.wrote(after.until_ms, after.until_ms);
        assert_ne!(
            stability.stable_until(2_000_000).unwrap().generation,
            before.generation
        );
    }

    #[test]
    fn samples_of_the_future_settle_nothing() {
        let stability = StabilityTracker::default();
        stability.wrote(0, 9_000_000);
        let settled = stability.stable_until(1_000_000).unwrap();
        assert_eq!(settled.until_ms, 1_000_000 - LATE_MS);
    }

    #[test]
    fn removal_breaks_every_promise() {
        let stability = StabilityTracker::default();
        stability.wrote(0, 1_000_000);
        let before = stability.stable_until(1_000_000).unwrap();
        stability.removed();
        assert_ne!(stability.stable_until(1_000_000), Some(before));
    }
}
