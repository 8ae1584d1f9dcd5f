//! Series of a session that are not stored: their numbers, and the labels of those that wait for room.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::model::Labels;

/// Most bytes of waiting labels of all sessions: a quarter of a million series.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Most bytes of one session, so that one agent leaves the others their share.
const SESSION_BYTES_MAX: usize = WAITING_BYTES_MAX / 8;
/// Bytes of a waiting series besides its labels.
const ENTRY_BYTES: usize = 64;
/// Time between attempts to store waiting series.
const RETRY_MS: i64 = 10_000;

/// The memory for waiting series, shared by all sessions.
#[derive(Debug, Default)]
pub(in crate::ingest) struct PendingSeriesBudget {
    bytes: AtomicUsize,
}

/// The series of one lane that are not stored.
///
/// Invariant: each waiting series is in `numbers`; `bytes` is this lane's share of the budget.
#[derive(Debug)]
pub(super) struct UnstoredSeries {
    budget: Arc<PendingSeriesBudget>,
    numbers: HashSet<u32>,
    waiting: BTreeMap<u32, Labels>,
    bytes: usize,
    retry_at_ms: i64,
}

impl UnstoredSeries {
    pub(super) fn new(budget: &Arc<PendingSeriesBudget>) -> Self {
        Self {
            budget: Arc::clone(budget),
            numbers: HashSet::new(),
            waiting: BTreeMap::new(),
            bytes: 0,
            retry_at_ms: i64::MIN,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    pub(super) fn has(&self, number: u32) -> bool {
        self.numbers.contains(&number)
    }

    /// Adds a series that can never be stored: its labels are not valid.
    pub(super) fn add(&mut self, number: u32) {
        self.numbers.insert(number);
    }

    /// Adds a series that may be stored later. Without room for its labels, it waits until the agent sends its schema again.
    pub(super) fn add_waiting(&mut self, number: u32, labels: &Labels) {
        self.numbers.insert(number);
        let bytes = bytes_of(labels);
        if self.bytes + bytes > SESSION_BYTES_MAX {
            return;
        }
        let total = self.budget.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if total > WAITING_BYTES_MAX {
            self.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return;
        }
        self.bytes += bytes;
        self.waiting.insert(number, labels.clone());
    }

    /// Removes a series. Returns whether it was here.
    pub(super) fn remove(&mut self, number: u32) -> bool {
        if let Some(labels) = self.waiting.remove(&number) {
            self.give_back(bytes_of(&labels));
        }
        self.numbers.remove(&number)
    }

    pub(super) fn clear(&mut self) {
        self.numbers.clear();
        self.waiting.clear();
        self.give_back(self.bytes);
    }

    /// Returns whether to try the waiting series now. The next time is [`RETRY_MS`] later.
    pub(super) fn is_due(&mut self, now_ms: i64) -> bool {
        // After the clock was set back they must not wait until it catches up.
        let is_near = self.retry_at_ms.saturating_sub(now_ms) <= RETRY_MS;
        if self.waiting.is_empty() || (now_ms < self.retry_at_ms && is_near) {
            return false;
        }
        self.retry_at_ms = now_ms.saturating_add(RETRY_MS);
        true
    }

    /// Returns the waiting series with the lowest number.
    pub(super) fn first_waiting(&self) -> Option<(u32, Labels)> {
        let (&number, labels) = self.waiting.first_key_value()?;
        Some((number, labels.clone()))
    }

    fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for UnstoredSeries {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

fn bytes_of(labels: &Labels) -> usize {
    labels.as_packed().len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(number: u32) -> Labels {
        let value = format!("{number:04}{}", "x".repeat(4000));
        Labels::from_pairs([("__name__", "m"), ("long", &value)]).unwrap()
    }

    #[test]
    fn budget_is_bounded_per_session_and_in_total_and_is_returned() {
        let budget = Arc::new(PendingSeriesBudget::default());
        let fits = SESSION_BYTES_MAX / bytes_of(&labels(0));
        let mut sessions = Vec::new();
        for _ in 0..9 {
            let mut refused = UnstoredSeries::new(&budget);
            for number in 0..fits as u32 + 1 {
                refused.add_waiting(number, &labels(number));
            }
            assert_eq!(refused.len(), fits + 1, "all are known not to be stored");
            sessions.push(refused);
        }
        let waiting = |refused: &UnstoredSeries| refused.waiting.len();
        assert_eq!(waiting(&sessions[0]), fits);
        assert_eq!(waiting(&sessions[7]), fits);
        assert!(waiting(&sessions[8]) < fits, "the ninth finds no room");
        sessions[0].clear();
        assert!(sessions[1].remove(3));
        assert!(!sessions[1].remove(3));
        sessions[0].add_waiting(1, &labels(1));
        assert_eq!(waiting(&sessions[0]), 1);
        sessions.clear();
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn tried_again_every_ten_seconds_whatever_the_clock_does() {
        let mut refused = UnstoredSeries::new(&Arc::default());
        refused.add(7);
        assert!(!refused.is_due(0), "its labels are not valid");
        refused.add_waiting(8, &labels(8));
        assert!(refused.is_due(0));
        assert!(!refused.is_due(9_999));
        assert!(refused.is_due(10_000));
        assert!(refused.is_due(-100_000), "the clock was set back");
        assert!(!refused.is_due(-99_999));
    }
}
