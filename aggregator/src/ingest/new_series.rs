//! Rate limit of series that the store does not know: a token bucket per agent.

use std::sync::{Mutex, PoisonError};

/// Tokens per series. `new_per_minute` tokens are added per millisecond, so that a minute adds that many series.
const SERIES_COST: u64 = 60_000;

/// Bounds on the series of one agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeriesLimits {
    /// Most series at a time, and the burst of new ones.
    pub(super) series_max: u32,
    /// New series per minute after the burst.
    pub(super) new_per_minute: u32,
}

/// The allowance of an agent. Outlives its sessions, so that reconnecting gains nothing.
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
    /// Takes the tokens of one series, if there are enough.
    pub(super) fn admit(&self, limits: SeriesLimits, now_ms: i64) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let full = u64::from(limits.series_max) * SERIES_COST;
        let bucket = bucket.get_or_insert(Bucket {
            level: full,
            at_ms: now_ms,
        });
        // A clock that was set back adds nothing, and continues from there.
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
    fn burst_then_rate_per_minute() {
        let new = NewSeries::default();
        assert_eq!(admitted(&new, 1_000), 5);
        assert_eq!(admitted(&new, 1_499), 0);
        // The tokens of the first 499 ms are not lost.
        assert_eq!(admitted(&new, 1_500), 1);
        assert_eq!(admitted(&new, 2_600), 2);
        assert_eq!(admitted(&new, 1_000_000), 5, "never more than at first");
        assert_eq!(admitted(&new, 0), 0, "a clock set back adds nothing");
        assert_eq!(admitted(&new, 500), 1);
        assert_eq!(admitted(&new, i64::MAX), 5);
    }
}
