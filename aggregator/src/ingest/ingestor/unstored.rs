//! Series of a session that the store does not take: their numbers, and the labels of those that wait for room.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::model::Labels;

/// Bytes of labels that wait, of all agents: a quarter of a million series.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Of one session, so that one agent leaves the others their share.
const SESSION_BYTES_MAX: usize = WAITING_BYTES_MAX / 8;
/// What a series that waits takes beside its labels.
const ENTRY_BYTES: usize = 64;
/// How long until those that wait are tried again.
const RETRY_MS: i64 = 10_000;

/// Memory for series that wait, shared by all sessions.
#[derive(Debug, Default)]
pub(in crate::ingest) struct PendingSeriesBudget {
    bytes: AtomicUsize,
}

/// The refused series of one lane.
///
/// Invariant: whatever waits is refused; `bytes` is what this lane has of the room.
#[derive(Debug)]
pub(super) struct UnstoredSeries {
    room: Arc<PendingSeriesBudget>,
    numbers: HashSet<u32>,
    waiting: BTreeMap<u32, Labels>,
    bytes: usize,
    retry_at_ms: i64,
}

impl UnstoredSeries {
    pub(super) fn new(room: &Arc<PendingSeriesBudget>) -> Self {
        Self {
            room: Arc::clone(room),
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

    /// Refuses a series for good: no series may have its labels.
    pub(super) fn add(&mut self, number: u32) {
        self.numbers.insert(number);
    }

    /// Refuses a series for now. Without room for its labels it comes when the agent states its series anew.
    pub(super) fn add_waiting(&mut self, number: u32, labels: &Labels) {
        self.numbers.insert(number);
        let bytes = bytes_of(labels);
        if self.bytes + bytes > SESSION_BYTES_MAX {
            return;
        }
        let in_all = self.room.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if in_all > WAITING_BYTES_MAX {
            self.room.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return;
        }
        self.bytes += bytes;
        self.waiting.insert(number, labels.clone());
    }

    /// Forgets a series; returns whether it was refused.
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

    /// Whether those that wait should be tried now. If so, it is a while until the next time.
    pub(super) fn is_due(&mut self, now_ms: i64) -> bool {
        // A clock that was set back must not make them wait until it is where it was.
        let is_near = self.retry_at_ms.saturating_sub(now_ms) <= RETRY_MS;
        if self.waiting.is_empty() || (now_ms < self.retry_at_ms && is_near) {
            return false;
        }
        self.retry_at_ms = now_ms.saturating_add(RETRY_MS);
        true
    }

    /// The series that has waited under the lowest number.
    pub(super) fn first_waiting(&self) -> Option<(u32, Labels)> {
        let (&number, labels) = self.waiting.first_key_value()?;
        Some((number, labels.clone()))
    }

    fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.room.bytes.fetch_sub(bytes, Ordering::Relaxed);
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
    fn room_is_bounded_a_session_and_in_all_and_comes_back() {
        let room = Arc::new(PendingSeriesBudget::default());
        let fits = SESSION_BYTES_MAX / bytes_of(&labels(0));
        let mut sessions = Vec::new();
        for _ in 0..9 {
            let mut refused = UnstoredSeries::new(&room);
            for number in 0..fits as u32 + 1 {
                refused.add_waiting(number, &labels(number));
            }
            assert_eq!(refused.len(), fits + 1, "all are known to be refused");
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
        assert_eq!(room.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn tried_again_every_ten_seconds_whatever_the_clock_does() {
        let mut refused = UnstoredSeries::new(&Arc::default());
        refused.add(7);
        assert!(!refused.is_due(0), "no series may have those labels");
        refused.add_waiting(8, &labels(8));
        assert!(refused.is_due(0));
        assert!(!refused.is_due(9_999));
        assert!(refused.is_due(10_000));
        assert!(refused.is_due(-100_000), "set back");
        assert!(!refused.is_due(-99_999));
    }
}
