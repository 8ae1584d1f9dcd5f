//! The spool: every tick goes to disk first, the uplink sends from there and deletes what was acknowledged.
//!
//! A directory of segment files. Each begins with a snapshot (all series, and what the next tick is encoded against), so that
//! it can be read without those before it; then come ticks, encoded as they go over the wire. Whoever reads on from the
//! segment before skips the snapshot. So in the ordinary case the uplink forwards bytes.
//!
//! **Invariant:** sequences ascend over restarts and even over a lost tail: the high half counts starts, and is on disk before
//! the first tick of a start. Nothing behind `committed` of a segment is ever read.

mod files;
mod gaps;
pub mod metrics;
pub mod reader;
mod replay;
pub mod segment;
mod shared;
pub mod writer;

use std::path::PathBuf;

pub use gaps::Gap;
pub use metrics::SpoolMetrics;
pub use reader::SpoolReader;
pub use shared::SpoolHandle;
pub use writer::{SpoolWriter, open};

/// How a spool is opened.
#[derive(Debug, Clone)]
pub struct SpoolOptions {
    /// Its directory, mode 0700; made when it is not there.
    pub path: PathBuf,
    /// Bytes on disk at which the oldest segments are dropped.
    pub bytes_max: u64,
    /// How many receivers get every tick, one at least. A tick is kept until each of them has it, or there is no more room.
    pub copies: usize,
    /// Whether each tick is synced to disk. Without, ticks of the last seconds survive the death of the agent, but not that
    /// of the machine.
    pub sync_each_tick: bool,
}

/// Labels of metrics that each receiver has of its own: none for the first, `copy="mirror"` for the second.
#[must_use]
pub const fn copy_labels(copy: usize) -> &'static [(&'static str, &'static str)] {
    match copy {
        0 => &[],
        _ => &[("copy", "mirror")],
    }
}

/// Why the spool could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file or the directory could not be used.
    #[error("spool {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another agent has it open.
    #[error("spool {} is in use by another process", path.display())]
    Locked {
        /// Which.
        path: PathBuf,
    },
    /// What was in the spool, or came from the table, does not fit the wire.
    #[error("spool record")]
    Wire(#[from] common::wire::WireError),
    /// The system gave no random numbers for a new spool's name.
    #[error("no random numbers from the system")]
    Random,
}

impl SpoolError {
    fn is_disk_full(&self) -> bool {
        let kind = match self {
            Self::Io { source, .. } => source.kind(),
            _ => return false,
        };
        matches!(
            kind,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        )
    }

    fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
