//! Makes appends wait while samples arrive faster than they are sealed.
//!
//! Unsealed samples must be replayed from the log after a restart, and they take most of the memory. A seal starts at
//! [`SEAL_AT`] of them. Without the throttle, a flood could add as many again while the seal is written.

use std::sync::Condvar;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::sync::{Rank, RankedMutex, lock, wait_timeout};

/// Number of samples in the head that starts a seal; a restart replays this many in about a second.
pub(crate) const SEAL_AT: u64 = 24_000_000;
/// Number of unsealed samples at which appends wait, including those being sealed.
const WAIT_AT: u64 = SEAL_AT / 4 * 5;
/// Upper bound on an append's wait; slow or failed seals never block ingest.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Counts the samples that are not in blocks yet, and delays appends if there are too many.
#[derive(Debug)]
pub(crate) struct AppendThrottle {
    /// Samples added since the last seal began.
    open: AtomicU64,
    /// Samples being sealed.
    sealing: AtomicU64,
    wait_at: u64,
    turn: RankedMutex<()>,
    sealed: Condvar,
}

impl AppendThrottle {
    /// Creates a throttle that counts the samples replayed from the log as open.
    pub(crate) const fn new(open: u64) -> Self {
        Self {
            open: AtomicU64::new(open),
            sealing: AtomicU64::new(0),
            wait_at: WAIT_AT,
            turn: RankedMutex::new(Rank::AppendThrottle, ()),
            sealed: Condvar::new(),
        }
    }

    /// Returns the number of samples added since the last seal began.
    pub(crate) fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts samples that were inserted into the head.
    pub(crate) fn add(&self, samples: u64) {
        self.open.fetch_add(samples, Ordering::Relaxed);
    }

    /// Marks all open samples as being sealed.
    pub(crate) fn begin_seal(&self) {
        let taken = self.open.swap(0, Ordering::Relaxed);
        self.sealing.store(taken, Ordering::Relaxed);
    }

    /// Ends the seal, whether or not it succeeded.
    pub(crate) fn end_seal(&self) {
        self.sealing.store(0, Ordering::Relaxed);
        // Taking the lock ensures that every append that saw a flood is waiting and gets the notification.
        drop(lock(&self.turn));
        self.sealed.notify_all();
    }

    fn is_flood(&self) -> bool {
        self.open() + self.sealing.load(Ordering::Relaxed) >= self.wait_at
    }

    /// Waits while there are too many unsealed samples, but at most [`WAIT_MAX`].
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
            turn = wait_timeout(&self.sealed, turn, left);
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
