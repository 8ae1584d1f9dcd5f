//! The memory of the process beyond what the store counts: code, running requests and queries, and free memory that the
//! allocator keeps.
//!
//! Only the last of these can be returned, and only an attempt shows how much. The rest after an attempt counts as used,
//! and another attempt follows when the process grows beyond it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::sync::{Rank, RankedMutex, lock};

/// The memory of the process that a store is in.
pub trait ProcessMemory: fmt::Debug + Send + Sync {
    /// Returns the resident memory of the process in bytes, including its code, or `None` if unknown.
    fn resident_bytes(&self) -> Option<u64>;

    /// Makes the allocator return free memory to the system.
    fn release(&self);
}

/// The pause after a release, as a multiple of its duration: releases take at most a twentieth of a core.
const PAUSE_FACTOR: u32 = 20;

/// Memory of the process beyond what the store counts.
#[derive(Debug)]
pub(crate) struct Overhead {
    process: Option<Arc<dyn ProcessMemory>>,
    bytes: AtomicU64,
    not_before: RankedMutex<Instant>,
}

impl Overhead {
    pub(crate) fn new(process: Option<Arc<dyn ProcessMemory>>) -> Self {
        Self {
            process,
            bytes: AtomicU64::new(0),
            not_before: RankedMutex::new(Rank::Overhead, Instant::now()),
        }
    }

    /// Returns the bytes beyond `used_bytes`, which the store counts. From half of the budget on, returns free memory to the
    /// system if it may be more than a 32nd of the budget.
    pub(crate) fn look(&self, used_bytes: u64, budget_bytes: u64) -> u64 {
        let resident = self.process.as_ref().and_then(|one| one.resident_bytes());
        let Some(resident) = resident else {
            return 0;
        };
        let beyond = resident.saturating_sub(used_bytes);
        let known = self.bytes.load(Ordering::Relaxed).min(beyond);
        self.bytes.store(known, Ordering::Relaxed);
        if resident > budget_bytes / 2 && beyond - known > budget_bytes / 32 {
            self.release(used_bytes);
        }
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns free memory to the system, unless that was done recently.
    pub(crate) fn release(&self, used_bytes: u64) {
        let Some(process) = &self.process else {
            return;
        };
        let mut not_before = lock(&self.not_before);
        let start = Instant::now();
        if start < *not_before {
            return;
        }
        process.release();
        let took = start.elapsed();
        *not_before = start
            + took
                .saturating_mul(PAUSE_FACTOR)
                .max(Duration::from_millis(1));
        if let Some(resident) = process.resident_bytes() {
            let left = resident.saturating_sub(used_bytes);
            self.bytes.store(left, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process of which some bytes are free.
    #[derive(Debug, Default)]
    struct Fake {
        resident: AtomicU64,
        free: AtomicU64,
        releases: AtomicU64,
        is_slow: bool,
    }

    impl ProcessMemory for Fake {
        fn resident_bytes(&self) -> Option<u64> {
            Some(self.resident.load(Ordering::Relaxed))
        }

        fn release(&self) {
            let free = self.free.swap(0, Ordering::Relaxed);
            self.resident.fetch_sub(free, Ordering::Relaxed);
            self.releases.fetch_add(1, Ordering::Relaxed);
            if self.is_slow {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    fn fake(resident: u64, free: u64, is_slow: bool) -> (Arc<Fake>, Overhead) {
        let fake = Arc::new(Fake {
            resident: AtomicU64::new(resident),
            free: AtomicU64::new(free),
            is_slow,
            ..Fake::default()
        });
        let overhead = Overhead::new(Some(Arc::clone(&fake) as Arc<dyn ProcessMemory>));
        (fake, overhead)
    }

    #[test]
    fn free_memory_is_given_back_and_the_rest_counts() {
        let (process, overhead) = fake(800, 300, false);
        assert_eq!(overhead.look(400, 1000), 100);
        assert_eq!(process.releases.load(Ordering::Relaxed), 1);
        // Growth of what the store counts is not included.
        process.resident.store(700, Ordering::Relaxed);
        assert_eq!(overhead.look(600, 1000), 100);
        assert_eq!(process.releases.load(Ordering::Relaxed), 1);
        // A decrease lowers the count.
        process.resident.store(640, Ordering::Relaxed);
        assert_eq!(overhead.look(600, 1000), 40);
    }

    #[test]
    fn nothing_is_done_below_half_of_the_budget() {
        let (process, overhead) = fake(500, 300, false);
        assert_eq!(overhead.look(100, 1000), 0);
        assert_eq!(process.releases.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_release_that_takes_long_is_not_repeated_at_once() {
        let (process, overhead) = fake(800, 0, true);
        assert_eq!(overhead.look(0, 1000), 800);
        process.resident.store(900, Ordering::Relaxed);
        assert_eq!(overhead.look(0, 1000), 800, "not tried again within 400 ms");
        assert_eq!(process.releases.load(Ordering::Relaxed), 1);
    }
}
