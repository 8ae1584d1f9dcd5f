//! The spool: ticks on disk between their producer and the aggregators that want them.
//!
//! # Constraints
//! - The producer never waits for the network. It appends one tick per interval and allocates nothing once it is warm.
//! - A tick is freed only after every receiver has reported it durable, or when the disk budget is exhausted.
//! - Memory is bounded by one tick, one snapshot and the list of segments, however long an aggregator is away.
//! - The uplink forwards bytes. It decodes ticks only to resume in the middle of a segment.
//!
//! # Files
//! `lock` belongs to the running process. `instance` holds a random name and the number of starts. `gaps-N` lists what receiver
//! N was not sent in order. Everything else is in segment files ([`segment`]): a header, a snapshot (all series, and the state
//! that the next tick is encoded against), then ticks, each preceded by the schema changes that it needs. docs/format/spool.md
//! draws the bytes.
//!
//! # Write
//! [`SpoolWriter::append`] encodes schema changes and one tick into a buffer, writes the buffer with one call and only then
//! publishes the new `committed` length of the segment. A segment that is large or long enough is closed, and the next one
//! starts with a snapshot. Ticks are not synced to disk by default: a crash of the process loses nothing, a crash of the
//! machine loses the last seconds.
//!
//! # Read
//! A [`SpoolReader`] copies records up to `committed` into frames. A reader that comes from the end of the previous segment
//! skips the snapshot. A reader that starts in the middle of a segment replays the segment's beginning and sends the resulting
//! state first.
//!
//! # Acknowledge
//! Each receiver acknowledges a sequence up to which it has every tick outside its gaps. A closed segment is deleted when all
//! receivers have all of its ticks. When the spool exceeds `bytes_max`, or the disk is full, the oldest segments are deleted
//! first and the ticks that some receiver lacked are counted.
//!
//! # Corruption
//! Every record has a checksum. On start, bytes after the last good record of a segment are a torn tail and are cut off. A bad
//! record in the middle makes the rest of its segment undecodable, because ticks are encoded against their predecessors: the
//! reader counts it, skips to the next segment and resets the peer with that segment's snapshot. If the damaged segment is the
//! one being written, the reader asks the writer to start a new one.
//!
//! **Invariants:** sequences ascend across restarts even when the last ticks are lost, because their high half counts starts and
//! that count is durable before the first tick. Nothing after `committed` is ever read.

mod files;
mod gaps;
pub mod metrics;
pub mod reader;
mod recovery;
mod replay;
pub mod segment;
mod shared;
pub mod writer;

use std::io;
use std::path::{Path, PathBuf};

pub use gaps::Gap;
pub use metrics::SpoolMetrics;
pub use reader::SpoolReader;
pub use shared::SpoolHandle;
pub use writer::{SpoolWriter, open};

/// How a spool is opened.
#[derive(Debug, Clone)]
pub struct SpoolOptions {
    /// Directory of the spool, created with mode 0700 if absent.
    pub path: PathBuf,
    /// Bytes on disk above which the oldest segments are dropped.
    pub bytes_max: u64,
    /// Receivers of every tick. A tick is kept until each of them has it, or the spool is full.
    pub receivers: &'static [Receiver],
    /// Whether each tick is synced to disk. If not, the last seconds survive a crash of the process but not of the machine.
    pub sync_each_tick: bool,
}

/// Destination of the spool's ticks: an aggregator, or any of several that stand in for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// The only receiver, or the first of two.
    Primary,
    /// The second receiver, which gets a copy of every tick.
    Mirror,
}

impl Receiver {
    /// Both receivers, by index.
    pub const ALL: [Self; 2] = [Self::Primary, Self::Mirror];

    /// Labels of this receiver's own metrics: none for the primary.
    #[must_use]
    pub const fn metric_labels(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Primary => &[],
            Self::Mirror => &[("copy", "mirror")],
        }
    }

    /// Index in [`Self::ALL`], and the number in the name of the receiver's file of gaps.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Primary => 0,
            Self::Mirror => 1,
        }
    }
}

/// Why the spool could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// An operation on a file or directory failed.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was attempted, as in `write spool segment`.
        operation: &'static str,
        /// File or directory.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("spool {} is in use by another process", path.display())]
    Locked {
        /// Directory of the spool.
        path: PathBuf,
    },
    /// A record of the spool, or a frame made from one, is malformed or too large.
    #[error("spool record")]
    Wire(#[from] common::wire::WireError),
    /// The system returned no random bytes for the name of a new spool.
    #[error("generate a name for the spool")]
    Random(#[source] rand::rand_core::OsError),
}

impl SpoolError {
    fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            Self::Locked { .. } | Self::Wire(_) | Self::Random(_) => false,
        }
    }

    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
