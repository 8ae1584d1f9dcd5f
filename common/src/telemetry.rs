//! Metrics about ourselves: counters, gauges and histograms, written in the text exposition format 0.0.4.
//!
//! A metric is a handful of atomics behind an `Arc`: the path that counts takes no lock and allocates nothing.
//! Registration and rendering are the only places that lock.

pub mod declare;
pub mod metric;
pub mod process;
pub mod registry;

pub use declare::{By, Declared, LabelValue, MetricDef};
pub use metric::{Counter, Gauge, Histogram};
pub use process::{register_process_metrics, resident_bytes};
pub use registry::{Instrument, LabelPairs, Reading, Registry};
