//! What readers are told about data that no longer changes.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::read::Settled;

/// Samples come up to this much late as a matter of course: late scrapes, batches of senders, a short reconnect.
const LATE_MS: i64 = 5 * 60 * 1000;

/// Watches what is written and removed.
///
/// Invariant: a change at or before a moment that [`Self::settled`] gave out makes the generation grow after the
/// change is visible. A reader that finds the same generation before and after its work has seen no such change, or
/// all of it.
#[derive(Debug)]
pub(crate) struct Settling {
    generation: AtomicU64,
    /// The latest moment that was given out.
    promised_ms: AtomicI64,
    /// The latest sample since the store was opened.
    newest_ms: AtomicI64,
}

impl Default for Settling {
    fn default() -> Self {
        Self {
            generation: AtomicU64::new(0),
            promised_ms: AtomicI64::new(i64::MIN),
            newest_ms: AtomicI64::new(i64::MIN),
        }
    }
}

impl Settling {
    /// Samples between two moments, both inclusive, are visible now.
    pub(crate) fn wrote(&self, first_ms: i64, last_ms: i64) {
        if last_ms > self.newest_ms.load(Ordering::Relaxed) {
            self.newest_ms.fetch_max(last_ms, Ordering::Relaxed);
        }
        if first_ms <= self.promised_ms.load(Ordering::SeqCst) {
            self.removed();
        }
    }

    /// Samples are gone, wherever.
    pub(crate) fn removed(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Up to when data has come to rest; `None` while nothing was written.
    pub(crate) fn settled(&self, now_ms: i64) -> Option<Settled> {
        let newest_ms = self.newest_ms.load(Ordering::Relaxed);
        if newest_ms == i64::MIN {
            return None;
        }
        let until_ms = newest_ms.min(now_ms).saturating_sub(LATE_MS);
        // The promise comes before the generation is read: who writes in between will break it openly.
        self.promised_ms.fetch_max(until_ms, Ordering::SeqCst);
        Some(Settled {
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
        let settling = Settling::default();
        assert_eq!(settling.settled(0), None);
        settling.wrote(0, 1_000_000);
        let before = settling.settled(2_000_000).unwrap();
        assert_eq!(before.until_ms, 1_000_000 - LATE_MS);
        settling.wrote(before.until_ms + 1, 1_000_001);
        let after = settling.settled(2_000_000).unwrap();
        assert_eq!(after.generation, before.generation);
        settling.wrote(after.until_ms, after.until_ms);
        assert_ne!(
            settling.settled(2_000_000).unwrap().generation,
            before.generation
        );
    }

    #[test]
    fn samples_of_the_future_settle_nothing() {
        let settling = Settling::default();
        settling.wrote(0, 9_000_000);
        let settled = settling.settled(1_000_000).unwrap();
        assert_eq!(settled.until_ms, 1_000_000 - LATE_MS);
    }

    #[test]
    fn removal_breaks_every_promise() {
        let settling = Settling::default();
        settling.wrote(0, 1_000_000);
        let before = settling.settled(1_000_000).unwrap();
        settling.removed();
        assert_ne!(settling.settled(1_000_000), Some(before));
    }
}
