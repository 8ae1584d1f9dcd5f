//! The interface through which rules evaluate expressions and store results.

use std::time::Duration;

use common::model::Labels;

/// An element of a result: labels and value.
pub type VectorElement = (Labels, f64);

/// A sample that a rule writes.
#[derive(Debug, Clone)]
pub struct RuleSample {
    /// The series.
    pub labels: Labels,
    /// The timestamp in milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The value. A staleness marker ends the series.
    pub value: f64,
}

/// An error while evaluating an expression or processing its result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// The evaluation timed out.
    #[error("{0}")]
    Timeout(String),
    /// The evaluation or a later step failed.
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
    /// Evaluates `expr` at `time_ms`. A scalar becomes one element without labels.
    ///
    /// # Errors
    /// Returns an error if evaluation fails or takes longer than `timeout`, or if the result is neither a vector nor a
    /// scalar.
    fn query(
        &self,
        expr: &str,
        time_ms: i64,
        timeout: Duration,
    ) -> Result<Vec<VectorElement>, EvaluationError>;

    /// Returns the expression as shown in links. Prometheus prints the parsed expression on one line.
    fn query_text(&self, expr: &str) -> String {
        expr.to_owned()
    }

    /// Stores samples of any series. The next query sees them. Returns the number of samples refused individually.
    ///
    /// # Errors
    /// Returns the reason if no sample was stored.
    fn append(&self, samples: &[RuleSample]) -> Result<u64, String>;

    /// Opens the sink for one rule's results. The name must be the same after a restart.
    fn open(&self, name: &str) -> Box<dyn Sink>;
}

/// Stores the results of one rule. Each series is defined once; its samples then refer to it by column number.
pub trait Sink: Send + std::fmt::Debug {
    /// Assigns the unused number `column` to a series.
    ///
    /// # Errors
    /// Returns the reason if the series is refused.
    fn define(&mut self, column: u32, labels: &Labels) -> Result<(), String>;

    /// Frees a column number.
    fn undefine(&mut self, column: u32);

    /// Stores one value for each given column. Columns must be in ascending order. The next query sees the values.
    ///
    /// # Errors
    /// Returns the reason if no sample was stored.
    fn append(&mut self, timestamp_ms: i64, values: &[(u32, f64)]) -> Result<Refused, String>;
}

/// Values that were refused individually.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refused {
    /// The number of refused values.
    pub count: u64,
    /// A readable summary of how many values were refused and why.
    pub reason: String,
}

/// A sink for sources that identify series only by their labels.
pub struct LabelledSink<F> {
    series: Vec<Labels>,
    keep: F,
}

impl<F: FnMut(RuleSample) + Send> LabelledSink<F> {
    /// Creates a sink that passes each sample to `keep`.
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
