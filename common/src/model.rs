//! The data model of the wire and the store: Prometheus series.

pub mod label;
pub mod matcher;
pub mod metadata;
pub mod regex;
pub mod sample;

pub use label::{Labels, LabelsBuilder, LabelsError};
pub use matcher::{MatchOp, Matcher};
pub use metadata::{Metadata, MetricType};
pub use regex::{AnchoredRegex, RegexError};
pub use sample::{STALE_NAN, Sample, is_stale};
