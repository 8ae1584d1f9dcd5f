//! The time-series store: series in, columns out.
//!
//! **Invariant:** this crate knows no HTTP, no QUIC, no JSON and no Kubernetes.

pub mod read;
pub mod store;
pub mod write;

pub use read::{
    Column, Grouping, Groups, ReadControl, ReadError, Readable, Selection, SeriesSet, Values,
};
pub use store::{Store, StoreOptions, Stream};
pub use write::{
    AppendError, AppendMode, Appended, DefineError, LogPosition, OpenError, Refusal, RefusalReason,
    SeriesSamples,
};
