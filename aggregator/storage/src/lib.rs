//! The time-series store: series in, columns out.
//!
//! **Invariant:** this crate knows no HTTP, no QUIC, no JSON and no Kubernetes.

mod append;
mod block;
mod bytes;
mod checkpoint;
mod codec;
mod files;
mod head;
mod identity;
mod index;
mod labels;
mod maintenance;
mod merge;
pub mod read;
mod seal;
mod select;
pub mod store;
pub mod stream;
mod symbols;
mod sync;
mod wal;
pub mod write;

pub use read::{
    Column, Grouping, Groups, ReadControl, ReadError, Readable, Selection, SeriesSet, Values,
};
pub use store::{Store, StoreOptions};
pub use stream::Stream;
pub use write::{
    AppendError, AppendMode, Appended, DefineError, LogPosition, OpenError, Refusal, RefusalReason,
    SeriesSamples,
};
