//! Small state that is updated in place: the list of blocks, the progress of each agent, and the active alerts.
//!
//! The state is in one embedded database (sled) for the whole aggregator, `state.sled` in the data directory, with a
//! table for each user. On damaged files sled panics or opens without the data, so the database is never the only place
//! where something is kept. Each value has its own checksum, each table has a mark that it was filled, and calls are
//! made under `catch_unwind`. A user that finds its table incomplete refills it from its own files.

use std::io;
use std::path::PathBuf;

mod database;
mod memory;

pub use database::StateDb;
pub use memory::MemoryTable;

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A database call failed.
    #[error("state database")]
    Database(#[source] sled::Error),
    /// A database call panicked, as some do on damaged files.
    #[error("state database panicked")]
    Panicked,
    /// A file of the database could not be moved or removed.
    #[error("move or remove {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database failed earlier and is not used again until the next start.
    #[error("state database is out of use after an earlier failure")]
    OutOfUse,
}

/// A new value of a key; `None` removes the key.
pub type StateChange = (Vec<u8>, Option<Vec<u8>>);

/// The content of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateScan {
    /// Keys and values with valid checksums, ascending by key.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// Number of values with invalid checksums.
    pub damaged: u64,
    /// The table was filled once and has not been lost since.
    pub is_filled: bool,
}

impl StateScan {
    /// Whether the table is filled and has no damaged values.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.is_filled && self.damaged == 0
    }
}

/// A table of keys and values.
pub trait StateTable: Send + Sync + std::fmt::Debug {
    /// Reads the whole table.
    ///
    /// # Errors
    /// The database failed.
    fn scan(&self) -> Result<StateScan, StateError>;

    /// Applies all changes or none. They are not durable before [`Self::flush`].
    ///
    /// # Errors
    /// The database failed; the content of the table is unknown.
    fn apply(&self, changes: &[StateChange]) -> Result<(), StateError>;

    /// Marks the table as filled: from now on it holds everything that it should.
    ///
    /// # Errors
    /// The database failed.
    fn mark_filled(&self) -> Result<(), StateError>;

    /// Makes all earlier changes durable.
    ///
    /// # Errors
    /// The database failed.
    fn flush(&self) -> Result<(), StateError>;
}

#[cfg(test)]
mod tests;
