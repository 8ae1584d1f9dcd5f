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

/// Why an expression has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// It took longer than it may.
    #[error("{0}")]
    Timeout(String),
    /// The evaluator's message, or that of what follows on it.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for EvaluationError {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

/// Evaluates expressions and stores results. The production implementation is the PromQL engine over the store.
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
    ) -> Result<Vec<VectorElement>, EvaluationError>;

    /// The expression as links show it. Prometheus prints it parsed, on one line.
    fn query_text(&self, expr: &str) -> String {
        expr.to_owned()
    }

    /// Keeps samples of any series; the next query sees them. Returns how many were refused one by one.
    ///
    /// # Errors
    /// None was kept; the message says why.
    fn append(&self, samples: &[RuleSample]) -> Result<u64, String>;

    /// Opens the way of one rule's results, by a name that is the same after a restart.
    fn open(&self, name: &str) -> Box<dyn Sink>;
}

/// The way of one rule's results into the store: series are named once, their samples go by number.
pub trait Sink: Send + std::fmt::Debug {
    /// Gives a series the number `column`, which none has.
    ///
    /// # Errors
    /// The series can't be kept; the message says why.
    fn define(&mut self, column: u32, labels: &Labels) -> Result<(), String>;

    /// Frees a number.
    fn undefine(&mut self, column: u32);

    /// Keeps a value of each of some columns, named in ascending order; the next query sees them.
    ///
    /// # Errors
    /// None was kept; the message says why.
    fn append(&mut self, timestamp_ms: i64, values: &[(u32, f64)]) -> Result<Refused, String>;
}

/// Values that were refused one by one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refused {
    /// How many.
    pub count: u64,
    /// How many and why, for a person to read.
    pub reason: String,
}

/// A sink for sources that know series by their labels only.
pub struct LabelledSink<F> {
    series: Vec<Labels>,
    keep: F,
}

impl<F: FnMut(RuleSample) + Send> LabelledSink<F> {
    /// A sink that gives each sample to `keep`.
    pub const fn new(keep: F) -> Self {
        Self {
            series: Vec::new(),
            keep,
        }
    }
}

impl<F> std::fmt::Debug for LabelledSink<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LabelledSink").finish_non_exhaustive()
    }
}

impl<F: FnMut(RuleSample) + Send> Sink for LabelledSink<F> {
    fn define(&mut self, column: u32, labels: &Labels) -> Result<(), String> {
        let at = column as usize;
        if at >= self.series.len() {
            self.series.resize(at + 1, Labels::empty());
        }
        self.series[at] = labels.clone();
        Ok(())
    }

    fn undefine(&mut self, _: u32) {}

    fn append(&mut self, timestamp_ms: i64, values: &[(u32, f64)]) -> Result<Refused, String> {
        for &(column, value) in values {
            (self.keep)(RuleSample {
                labels: self.series[column as usize].clone(),
                timestamp_ms,
                value,
            });
        }
        Ok(Refused::default())
    }
}
