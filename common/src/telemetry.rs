//! Own metrics: counters, gauges and histograms, rendered in the text exposition format 0.0.4.
//!
//! A metric is a few atomics behind an `Arc`: counting takes no lock and does not allocate. Only registration and
//! rendering lock. Declare metrics with [`metric!`](crate::metric!) and [`metrics!`](crate::metrics!).

pub mod declare;
pub mod metric;
pub mod process;
pub mod registry;

pub use declare::{By, Declared, LabelValue, MetricDef};
pub use metric::{Counter, Gauge, Histogram};
pub use process::{register_process_metrics, resident_bytes};
pub use registry::{Instrument, LabelPairs, Reading, Registry};
