//! Counters, gauges and histograms.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A count that only increases.
#[derive(Debug, Default)]
pub struct Counter {
    value: AtomicU64,
}

impl Counter {
    /// Creates a counter at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            value: AtomicU64::new(0),
        }
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `by`.
    pub fn add(&self, by: u64) {
        self.value.fetch_add(by, Ordering::Relaxed);
    }

    /// Returns the count.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// A value that increases and decreases.
#[derive(Debug, Default)]
pub struct Gauge {
    bits: AtomicU64,
}

impl Gauge {
    /// Creates a gauge at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bits: AtomicU64::new(0),
        }
    }

    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.bits.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds `by`, which may be negative.
    pub fn add(&self, by: f64) {
        add_to_bits(&self.bits, by);
    }

    /// Returns the value.
    #[must_use]
    pub fn get(&self) -> f64 {
        f64::from_bits(self.bits.load(Ordering::Relaxed))
    }
}

/// Adds to a float stored as bits. Never fails: the closure always returns a value.
fn add_to_bits(bits: &AtomicU64, by: f64) {
    let add = |old| Some((f64::from_bits(old) + by).to_bits());
    let (Ok(_) | Err(_)) = bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
}

/// Counts of values at or below each of a few bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One count per bound, and one for values above the last.
    counts: Box<[AtomicU64]>,
    sum_bits: AtomicU64,
}

impl Histogram {
    /// Bounds for durations in seconds, from 100 µs to 10 s.
    pub const SECONDS: &[f64] = &[
        0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
        10.0,
    ];

    /// Creates an empty histogram over ascending `bounds`; the bound `+Inf` is implied.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        debug_assert!(bounds.is_sorted(), "bounds must ascend");
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum_bits: AtomicU64::new(0),
        }
    }

    /// Counts one value.
    pub fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        add_to_bits(&self.sum_bits, value);
    }

    /// Counts one duration, in seconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }

    /// Returns each bound, `+Inf` last, with the number of values at or below it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let mut total = 0;
        bounds.zip(&self.counts).map(move |(bound, count)| {
            total += count.load(Ordering::Relaxed);
            (bound, total)
        })
    }

    /// Returns the number of bounds, including `+Inf`.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.counts.len()
    }

    /// Returns the sum of all values.
    #[must_use]
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum_bits.load(Ordering::Relaxed))
    }
}

impl Default for Histogram {
    /// Creates a histogram over [`Self::SECONDS`].
    fn default() -> Self {
        Self::new(Self::SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_on_a_bound_counts_in_its_bucket() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 9.0] {
            histogram.observe(value);
        }
        let want = [(1.0, 2), (2.0, 3), (f64::INFINITY, 4)];
        assert!(histogram.cumulative().eq(want));
        assert_eq!(histogram.sum(), 12.0);
    }

    #[test]
    fn gauge_adds_and_subtracts() {
        let gauge = Gauge::new();
        gauge.add(2.5);
        gauge.add(-1.0);
        assert_eq!(gauge.get(), 1.5);
    }
}
