//! Forms in which samples leave and enter: JSON lines as VictoriaMetrics has them, and OpenMetrics text.

pub mod json_line;
pub mod open_metrics;

use common::model::{Labels, Sample};

/// A stretch of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch {
    /// The series.
    pub labels: Labels,
    /// In any order.
    pub samples: Vec<Sample>,
}

/// A line that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadLine(pub String);

fn bad(what: impl Into<String>) -> BadLine {
    BadLine(what.into())
}
