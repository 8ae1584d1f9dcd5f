//! File formats that move samples between stores: VictoriaMetrics' JSON lines, and OpenMetrics text.

pub mod json_line;
pub mod open_metrics;

use common::model::{Labels, LabelsError, Sample};

/// Samples of one series, as one or several lines hold them.
#[derive(Debug, Clone, PartialEq)]
pub struct LineSamples {
    /// The series.
    pub labels: Labels,
    /// Samples in any order.
    pub samples: Vec<Sample>,
}

/// Why a line can't be read.
#[derive(Debug, thiserror::Error)]
pub enum BadLine {
    /// The text is not in the format.
    #[error("{0}")]
    Syntax(String),
    /// A string is not JSON.
    #[error("bad string")]
    String(#[from] serde_json::Error),
    /// The labels are not a label set, or exceed a limit.
    #[error("bad labels")]
    Labels(#[from] LabelsError),
    /// The series has no name.
    #[error("no metric name")]
    NoMetricName,
}

fn bad(what: impl Into<String>) -> BadLine {
    BadLine::Syntax(what.into())
}
