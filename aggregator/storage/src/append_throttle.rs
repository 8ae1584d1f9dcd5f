//! What happens when samples come faster than they are sealed: appends wait.
//!
//! The samples that are not in blocks are what a restart reads from the log, and what takes most of the memory. A seal is
//! begun at [`SEAL_AT`] of them; without this a flood would bring as many again while it is written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::sync::lock;

/// Samples in the head at which it is sealed: what a restart replays in about a second.
pub(crate) const SEAL_AT: u64 = 24_000_000;
/// Samples at which appends wait, those that are being sealed included.
const WAIT_AT: u64 = SEAL_AT / 4 * 5;
/// An append waits so long at most: a seal that takes longer, or fails, stops nothing.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Samples that are not in blocks.
#[derive(Debug)]
pub(crate) struct AppendThrottle {
    /// Those that came since the last seal began.
    open: AtomicU64,
    /// Those that are being sealed.
    sealing: AtomicU64,
    wait_at: u64,
    turn: Mutex<()>,
    sealed: Condvar,
}

impl AppendThrottle {
    /// Begins with the samples that a start found in the log.
    pub(crate) const fn new(open: u64) -> Self {
        Self {
            open: AtomicU64::new(open),
            sealing: AtomicU64::new(0),
            wait_at: WAIT_AT,
            turn: Mutex::new(()),
            sealed: Condvar::new(),
        }
    }

    /// Samples since the last seal began.
    pub(crate) fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts samples that were put into the head.
    pub(crate) fn add(&self, samples: u64) {
        self.open.fetch_add(samples, Ordering::Relaxed);
    }

    /// A seal takes all that is there.
    pub(crate) fn begin_seal(&self) {
        let taken = self.open.swap(0, Ordering::Relaxed);
        self.sealing.store(taken, Ordering::Relaxed);
    }

    /// The seal has ended, well or not.
    pub(crate) fn end_seal(&self) {
        self.sealing.store(0, Ordering::Relaxed);
        // Whoever has looked before is waiting by now.
        drop(lock(&self.turn));
        self.sealed.notify_all();
    }

    fn is_flood(&self) -> bool {
        self.open() + self.sealing.load(Ordering::Relaxed) >= self.wait_at
    }

    /// Waits while there are too many samples that are not in blocks, but not for ever.
    pub(crate) fn admit(&self) {
        if !self.is_flood() {
            return;
        }
        let until = Instant::now() + WAIT_MAX;
        let mut turn = lock(&self.turn);
        while self.is_flood() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.sealed.wait_timeout(turn, left);
            turn = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;
    use std::sync::mpsc;

    fn small(wait_at: u64) -> Arc<AppendThrottle> {
        let mut throttle = AppendThrottle::new(0);
        throttle.wait_at = wait_at;
        Arc::new(throttle)
    }

    #[test]
    fn an_append_waits_for_the_seal_of_a_flood() {
        let throttle = small(10);
        throttle.add(9);
        throttle.admit();
        throttle.begin_seal();
        throttle.add(1);
        assert_eq!(throttle.open(), 1);
        let (sender, receiver) = mpsc::channel();
        let other = Arc::clone(&throttle);
        let waits = std::thread::spawn(move || {
            other.admit();
            sender.send(other.is_flood()).unwrap();
        });
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
        throttle.end_seal();
        assert!(!receiver.recv().unwrap());
        waits.join().unwrap();
        assert_eq!(throttle.open(), 1);
    }

    #[test]
    fn a_seal_that_never_ends_stops_no_append() {
        let throttle = small(10);
        throttle.add(10);
        throttle.admit();
        assert!(throttle.is_flood());
    }
}
