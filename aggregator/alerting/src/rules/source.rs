//! What rules need of the store and the evaluator.

use std::time::Duration;

use common::model::Labels;

/// An element of a result.
pub type VectorElement = (Labels, f64);

/// A sample that a rule writes.
#[derive(Debug, Clone)]
pub struct RuleSample {
    /// The series.
    pub labels: Labels,
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The value; the staleness marker ends the series.
    pub value: f64,
}

/// Evaluates expressions and keeps results. The real one is the store behind the PromQL engine.
pub trait Source: Send + Sync {
    /// Evaluates `expr` at `time_ms`; a scalar is one element without labels.
    ///
    /// # Errors
    /// The evaluator's message: it failed, took longer than `timeout`, or the result is neither vector nor scalar.
    fn query(
        &self,
        expr: &str,
        time_ms: i64,
        timeout: Duration,
    ) -> Result<Vec<VectorElement>, String>;

    /// Keeps samples; the next query sees them. Returns how many were refused one by one.
    ///
    /// # Errors
    /// None was kept; the message says why.
    fn append(&self, samples: &[RuleSample]) -> Result<u64, String>;
}
