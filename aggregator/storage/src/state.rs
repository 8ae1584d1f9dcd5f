//! Small state that changes in place: which blocks there are, how far each agent is, what alerts stand.
//!
//! It lies in one embedded database (sled) for the whole aggregator, `state.sled` in the data directory, a table for each
//! user. On damaged files sled panics or opens without the data, so it is never the only place where something is kept:
//! each value has its own checksum, each table a mark that it was filled, calls are made under `catch_unwind`, and whoever
//! finds a table that is not whole fills it again from its own files.

use std::io;
use std::path::PathBuf;

mod database;
mod memory;

pub use database::StateDb;
pub use memory::MemoryTable;

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A call of the database failed.
    #[error("state database")]
    Database(#[source] sled::Error),
    /// A call of the database panicked, as some do on damaged files.
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

/// What a table holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateScan {
    /// Keys and values whose checksums hold, ascending.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// Values whose checksums don't.
    pub damaged: u64,
    /// The table was filled once, and not lost since.
    pub is_filled: bool,
}

impl StateScan {
    /// Whether all that was ever put there is here.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.is_filled && self.damaged == 0
    }
}

/// A table of keys and values.
pub trait StateTable: Send + Sync + std::fmt::Debug {
    /// Reads all of it.
    ///
    /// # Errors
    /// The database failed.
    fn scan(&self) -> Result<StateScan, StateError>;

    /// Makes all changes or none. Not durable before [`Self::flush`].
    ///
    /// # Errors
    /// The database failed; nobody knows what is in the table.
    fn apply(&self, changes: &[StateChange]) -> Result<(), StateError>;

    /// Puts a mark on the table: from now on it holds all that it should.
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
