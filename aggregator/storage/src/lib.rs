//! The time-series store: series in, columns out.
//!
//! **Invariant:** this crate knows no HTTP, no QUIC, no JSON and no Kubernetes.

pub mod admin;
mod append;
mod append_throttle;
mod block;
mod budget;
mod bytes;
mod checkpoint;
mod codec;
mod disk;
pub mod exemplars;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod index;
mod labels;
mod maintenance;
mod manifest;
mod memory;
mod merge;
mod open_streams;
pub mod raw;
pub mod read;
mod seal;
mod select;
mod series_hash;
mod space;
mod stability;
pub mod state;
pub mod stats;
pub mod store;
pub mod stream;
mod symbols;
mod sync;
mod value_kind;
pub mod verify;
mod wal;
pub mod write;

pub use admin::AdminError;
pub use block::reader::BlockError;
pub use budget::Pressure;
pub use exemplars::{Exemplar, ExemplarOutcome};
pub use maintenance::MaintenanceError;
pub use memory::ProcessMemory;
pub use raw::RawBatch;
pub use read::{
    Column, Grouping, Groups, ReadControl, ReadError, Readable, Selection, SeriesSet, StableUntil,
    Values,
};
pub use state::{StateChange, StateDb, StateError, StateScan, StateTable};
pub use stats::{Cardinality, Lost, StoreStats};
pub use store::{Store, StoreOptions};
pub use stream::{STREAM_NUMBERS_MIN, Stream};
pub use value_kind::UnknownKind;
pub use wal::WalSync;
pub use write::{
    AppendError, AppendMode, Appended, DefineError, LogError, LogPosition, OpenError, Refusal,
    RefusalReason, SeriesSamples,
};
