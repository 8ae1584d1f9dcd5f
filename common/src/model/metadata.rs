//! Metadata of a metric family: type, help text and unit.

use std::fmt;

/// The type of a metric family, with the names of Prometheus' metadata API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum MetricType {
    /// The source gave no type, or `untyped`.
    #[default]
    Unknown = 0,
    /// Only increases, and restarts from zero.
    Counter = 1,
    /// Increases and decreases.
    Gauge = 2,
    /// Buckets, sum and count.
    Histogram = 3,
    /// A histogram whose counts may decrease.
    GaugeHistogram = 4,
    /// Precomputed quantiles, sum and count.
    Summary = 5,
    /// Constant 1, with the information in labels.
    Info = 6,
    /// One series for each state.
    StateSet = 7,
}

impl MetricType {
    /// Returns the type with this number on the wire and on disk; `None` for an unknown number.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Unknown,
            1 => Self::Counter,
            2 => Self::Gauge,
            3 => Self::Histogram,
            4 => Self::GaugeHistogram,
            5 => Self::Summary,
            6 => Self::Info,
            7 => Self::StateSet,
            _ => return None,
        })
    }

    /// Returns the name in Prometheus' metadata API and in OpenMetrics text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }
}

impl fmt::Display for MetricType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Type, help text and unit of one metric family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// The type.
    pub metric_type: MetricType,
    /// The help text, one sentence.
    pub help: String,
    /// Base unit (`seconds`, `bytes`), empty when none was given.
    pub unit: String,
}
