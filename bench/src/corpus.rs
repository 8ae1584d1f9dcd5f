//! The data that every server is measured with: a cluster of nodes with 30 pods of 2 containers each, and the 3,570 series
//! per node that an agent reports for them. Deterministic: the same shape gives the same bits in every run.
//!
//! Shares of the series, as found on real nodes: constants 28 %, counters 27 %, counters of seconds 9 %, gauges 23 %,
//! histogram buckets 11 %, histogram sums 1 %, clocks 2 %.

mod generator;
mod labels;
mod metrics;
mod random;

use generator::Generator;
use random::Random;

pub use labels::{APPS, PodNames};

/// Pods of one node.
pub const PODS_PER_NODE: usize = 30;
/// Series of one node: 120 of its own, and 115 per pod with its two containers.
pub const SERIES_PER_NODE: usize = 120 + PODS_PER_NODE * 115;

/// Size and time of a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Number of nodes.
    pub nodes: usize,
    /// Time of the first scrape, milliseconds since the Unix epoch; a multiple of the step.
    pub start_ms: i64,
    /// Time between two scrapes.
    pub step_ms: i64,
    /// Scrapes of each node.
    pub scrapes: usize,
}

impl Shape {
    /// Returns the number of series.
    #[must_use]
    pub const fn series(&self) -> usize {
        self.nodes * SERIES_PER_NODE
    }

    /// Returns the number of samples.
    #[must_use]
    pub const fn samples(&self) -> u64 {
        self.series() as u64 * self.scrapes as u64
    }

    /// Returns the number of namespaces: 60 pods share one.
    #[must_use]
    pub const fn namespaces(&self) -> usize {
        (self.nodes * PODS_PER_NODE).div_ceil(60)
    }

    /// Returns a time one step after the last scrape, which no sample exceeds.
    #[must_use]
    pub const fn end_ms(&self) -> i64 {
        self.start_ms + self.scrapes as i64 * self.step_ms
    }
}

/// Name and value of a label.
pub type Label = (&'static str, String);

/// The series of one node and the source of their values.
#[derive(Debug)]
pub struct Node {
    /// Labels of each series, including `__name__`, sorted by name.
    pub series: Vec<Vec<Label>>,
    generators: Vec<Generator>,
    random: Random,
    next_ms: i64,
    step_ms: i64,
}

impl Node {
    /// Creates node `index` of a cluster, before its first scrape.
    #[must_use]
    pub fn new(shape: &Shape, index: usize) -> Self {
        let mut random = Random::new(index as u64);
        let mut builder = metrics::Builder::new(shape, index, &mut random);
        builder.node();
        for pod in 0..PODS_PER_NODE {
            builder.pod(pod);
        }
        let (series, generators) = builder.finish();
        // Agents start at any time within the interval, so nodes do not share their timestamps.
        let phase_ms = random.below(shape.step_ms.unsigned_abs() * 9 / 10) as i64;
        Self {
            series,
            generators,
            random,
            next_ms: shape.start_ms + phase_ms,
            step_ms: shape.step_ms,
        }
    }

    /// Generates the next scrape: replaces `values` by one value per series, and returns the timestamp. One in ten is up
    /// to 3 ms late, as with real timers.
    pub fn scrape(&mut self, values: &mut Vec<f64>) -> i64 {
        let late_ms = if self.random.below(10) == 0 {
            1 + self.random.below(3) as i64
        } else {
            0
        };
        let timestamp_ms = self.next_ms + late_ms;
        self.next_ms += self.step_ms;
        values.clear();
        for generator in &mut self.generators {
            generator.next(&mut self.random, timestamp_ms, values);
        }
        timestamp_ms
    }
}

#[cfg(test)]
mod tests;
