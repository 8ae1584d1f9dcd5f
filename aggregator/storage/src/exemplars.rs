//! Exemplars: single observations with a trace id, kept in memory in a ring.

use std::collections::{BTreeMap, VecDeque};

use common::model::{Labels, Matcher};

use crate::store::Store;
use crate::sync::lock;

/// The number of exemplars that are kept (Prometheus' default). The oldest are dropped first.
pub const EXEMPLARS_MAX: usize = 100_000;

/// The memory of one exemplar, with two copies of the labels of its series.
const BYTES_EACH: usize = 1024;

/// One observation.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Its own labels, `trace_id` usually.
    pub labels: Labels,
    /// The observed value.
    pub value: f64,
    /// The timestamp in milliseconds.
    pub timestamp_ms: i64,
}

/// The result of adding an exemplar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExemplarOutcome {
    /// It was stored.
    Stored,
    /// It is a duplicate.
    Duplicate,
    /// The series has a later one.
    OutOfOrder,
    /// The store keeps no exemplars.
    Dropped,
}

/// The ring. The latest exemplar of each series is found without a search.
#[derive(Debug)]
pub(crate) struct Exemplars {
    max: usize,
    ring: VecDeque<(Labels, Exemplar)>,
    last: BTreeMap<Labels, Exemplar>,
}

impl Exemplars {
    pub(crate) const fn new(max: usize) -> Self {
        Self {
            max,
            ring: VecDeque::new(),
            last: BTreeMap::new(),
        }
    }

    /// The approximate memory in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.ring.len() * BYTES_EACH
    }

    fn push(&mut self, series: &Labels, exemplar: Exemplar) -> ExemplarOutcome {
        if let Some(last) = self.last.get(series) {
            if *last == exemplar {
                return ExemplarOutcome::Duplicate;
            }
            if last.timestamp_ms > exemplar.timestamp_ms {
                return ExemplarOutcome::OutOfOrder;
            }
        }
        if self.max == 0 {
            return ExemplarOutcome::Dropped;
        }
        if self.ring.len() >= self.max
            && let Some((owner, gone)) = self.ring.pop_front()
            && self.last.get(&owner) == Some(&gone)
        {
            self.last.remove(&owner);
        }
        self.last.insert(series.clone(), exemplar.clone());
        self.ring.push_back((series.clone(), exemplar));
        ExemplarOutcome::Stored
    }
}

impl Store {
    /// Adds an exemplar of a series. Exemplars are not in the log, so a restart loses them.
    pub fn append_exemplar(&self, series: &Labels, exemplar: Exemplar) -> ExemplarOutcome {
        lock(&self.inner().exemplars).push(series, exemplar)
    }

    /// The exemplars between two times (inclusive, milliseconds) of the series that match one of `selectors`, by
    /// series, oldest first.
    #[must_use]
    pub fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        start_ms: i64,
        end_ms: i64,
    ) -> Vec<(Labels, Vec<Exemplar>)> {
        let matches = |series: &Labels, selector: &Vec<Matcher>| {
            selector
                .iter()
                .all(|one| one.matches(series.get(one.name()).unwrap_or("")))
        };
        let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        let exemplars = lock(&self.inner().exemplars);
        for (series, exemplar) in &exemplars.ring {
            let in_range = (start_ms..=end_ms).contains(&exemplar.timestamp_ms);
            if in_range && selectors.iter().any(|selector| matches(series, selector)) {
                found
                    .entry(series.clone())
                    .or_default()
                    .push(exemplar.clone());
            }
        }
        found.into_iter().collect()
    }
}
