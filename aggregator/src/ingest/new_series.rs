//! How many series an agent may bring that the store does not know: all it may have at once, then so many a minute.

use std::sync::{Mutex, PoisonError};

/// What one series takes; one hundred-and-so of these come back each millisecond.
const SERIES_COST: u64 = 60_000;

/// Bounds on the series of one agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeriesLimits {
    /// Series it may have at a time; so many new ones it may bring at once.
    pub(super) series_max: u32,
    /// New ones a minute, once those are used up.
    pub(super) new_per_minute: u32,
}

/// What an agent has left. Outlives its sessions, so that to connect anew gains nothing.
#[derive(Debug, Default)]
pub(super) struct NewSeries {
    bucket: Mutex<Option<Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    level: u64,
    at_ms: i64,
}

impl NewSeries {
    /// Takes one series out, if there is one.
    pub(super) fn admit(&self, limits: SeriesLimits, now_ms: i64) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let full = u64::from(limits.series_max) * SERIES_COST;
        let bucket = bucket.get_or_insert(Bucket {
            level: full,
            at_ms: now_ms,
        });
        // A clock that was set back gives nothing, and goes on from there.
        let passed_ms = now_ms.saturating_sub(bucket.at_ms).max(0).cast_unsigned();
        bucket.at_ms = now_ms;
        let more = passed_ms.saturating_mul(limits.new_per_minute.into());
        bucket.level = bucket.level.saturating_add(more).min(full);
        match bucket.level.checked_sub(SERIES_COST) {
            Some(rest) => {
                bucket.level = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SeriesLimits = SeriesLimits {
        series_max: 5,
        new_per_minute: 120,
    };

    fn admitted(new: &NewSeries, now_ms: i64) -> usize {
        (0..100).filter(|_| new.admit(LIMITS, now_ms)).count()
    }

    #[test]
    fn all_at_once_and_then_so_many_a_minute() {
        let new = NewSeries::default();
        assert_eq!(admitted(&new, 1_000), 5);
        assert_eq!(admitted(&new, 1_499), 0);
        // What came in the first 499 ms is not lost.
        assert_eq!(admitted(&new, 1_500), 1);
        assert_eq!(admitted(&new, 2_600), 2);
        assert_eq!(admitted(&new, 1_000_000), 5, "never more than at first");
        assert_eq!(admitted(&new, 0), 0, "a clock set back gives nothing");
        assert_eq!(admitted(&new, 500), 1);
        assert_eq!(admitted(&new, i64::MAX), 5);
    }
}
