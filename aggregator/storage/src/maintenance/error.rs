//! Why the background work on blocks failed.

use std::io;
use std::path::PathBuf;

use crate::block::Block;
use crate::block::reader::BlockError;
use crate::write::AppendError;

/// Names the step of a seal, a merge or a removal that failed; the source says why.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// The log could not be synced before the head was sealed.
    #[error("sync the write-ahead log before a seal")]
    SyncLog(#[source] AppendError),
    /// The samples of the head could not be written as blocks.
    #[error("seal the head: write a block")]
    Seal(#[source] io::Error),
    /// The checkpoint that replaces the sealed part of the log could not be written.
    #[error("write the checkpoint")]
    Checkpoint(#[source] io::Error),
    /// Log segments whose samples are in blocks could not be removed.
    #[error("remove sealed log segments")]
    RemoveSegments(#[source] io::Error),
    /// A block that is being merged or rewritten could not be read.
    #[error("read block {}", path.display())]
    ReadBlock {
        /// The block's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: BlockError,
    },
    /// A block merged from others could not be written.
    #[error("merge blocks: write the new block")]
    Merge(#[source] io::Error),
    /// A damaged block could not be kept in `corrupt/`.
    #[error("keep the damaged block {}", path.display())]
    KeepDamaged {
        /// The block's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A finished block could not be opened again, so it is not in use.
    #[error("publish block {}", path.display())]
    Publish {
        /// The block's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: BlockError,
    },
    /// Files of replaced or expired blocks could not be removed.
    #[error("remove block files")]
    RemoveBlocks(#[source] io::Error),
}

impl MaintenanceError {
    /// An error while reading `block`.
    pub(crate) fn read(block: &Block, source: BlockError) -> Self {
        Self::ReadBlock {
            path: block.path.clone(),
            source,
        }
    }
}
