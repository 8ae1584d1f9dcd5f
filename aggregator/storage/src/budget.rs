//! The memory budget: the steps that keep one writer or reader from using all memory.
//!
//! Four times a second, the store adds up its own memory (head, index, caches, pending writes) and that of the rest of the
//! process ([`crate::memory`]), and compares the sum with the budget. From 70 % on, it seals early. From 85 % on, it refuses
//! new series, and from 95 % on, queries. At 100 %, it refuses all writes until a seal has freed memory. Known series are
//! accepted until that last step.

use std::sync::atomic::{AtomicU64, Ordering};

/// How close the memory is to the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Pressure {
    /// There is room.
    #[default]
    None = 0,
    /// The head is sealed early.
    Seal = 1,
    /// New series are refused.
    Series = 2,
    /// Queries are refused too.
    Queries = 3,
    /// Writes are refused too.
    Writes = 4,
}

/// Percent of the budget at which each step begins.
const STEPS: [(u64, Pressure); 4] = [
    (100, Pressure::Writes),
    (95, Pressure::Queries),
    (85, Pressure::Series),
    (70, Pressure::Seal),
];

/// The largest size of an uncompressed sample.
const SAMPLE_BYTES: u64 = 8;

/// The budget and its current use.
#[derive(Debug)]
pub(crate) struct Budget {
    max_bytes: u64,
    used_bytes: AtomicU64,
    /// Samples in the head at the last check.
    samples: AtomicU64,
}

impl Budget {
    pub(crate) const fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            used_bytes: AtomicU64::new(0),
            samples: AtomicU64::new(0),
        }
    }

    /// Records the memory in use and the number of samples in the head.
    pub(crate) fn update(&self, used_bytes: u64, samples: u64) {
        self.samples.store(samples, Ordering::Relaxed);
        let before = self.pressure();
        self.used_bytes.store(used_bytes, Ordering::Relaxed);
        let now = self.pressure();
        if now >= Pressure::Series && now > before {
            tracing::warn!(pressure = ?now, used_bytes, budget_bytes = self.max_bytes, "memory runs out");
        } else if before >= Pressure::Series && now < Pressure::Series {
            tracing::info!(
                used_bytes,
                budget_bytes = self.max_bytes,
                "there is memory again"
            );
        }
    }

    /// Returns how close the memory was to the budget at the last check.
    pub(crate) fn pressure(&self) -> Pressure {
        let used = self.used_bytes();
        // The product cannot overflow a u128.
        let reached = |&&(percent, _): &&(u64, Pressure)| {
            u128::from(used) * 100 >= u128::from(self.max_bytes) * u128::from(percent)
        };
        let step = STEPS.iter().find(reached);
        step.map_or(Pressure::None, |&(_, pressure)| pressure)
    }

    /// Reports whether writes must be refused. Assumes the largest size for samples since the last check.
    pub(crate) fn is_full(&self, samples: u64) -> bool {
        let since = samples.saturating_sub(self.samples.load(Ordering::Relaxed));
        let most = self
            .used_bytes()
            .saturating_add(since.saturating_mul(SAMPLE_BYTES));
        most >= self.max_bytes
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    pub(crate) const fn max_bytes(&self) -> u64 {
        self.max_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_one_after_the_other() {
        let budget = Budget::new(1000);
        let at = |used| {
            budget.update(used, 0);
            budget.pressure()
        };
        assert_eq!(at(0), Pressure::None);
        assert_eq!(at(699), Pressure::None);
        assert_eq!(at(700), Pressure::Seal);
        assert_eq!(at(850), Pressure::Series);
        assert_eq!(at(950), Pressure::Queries);
        assert_eq!(at(1000), Pressure::Writes);
        assert_eq!(at(u64::MAX), Pressure::Writes);
        assert_eq!(at(10), Pressure::None);
        assert!(!budget.is_full(100) && budget.is_full(124));
    }
}
