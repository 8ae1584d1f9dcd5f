//! Deleting series, and copies of the whole store.

use std::io;
use std::path::{Path, PathBuf};

use common::model::Matcher;

use crate::block::reader::BlockError;
use crate::disk;
use crate::files::{create_directory, sync_directory};
use crate::index::SeriesId;
use crate::index::resolve::Prepared;
use crate::index::view::SeriesIndex as _;
use crate::merge::Deletion;
use crate::read::ReadControl;
use crate::store::{Inner, Store};
use crate::sync::lock;

/// Why an operation on the whole store failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// A file could not be read or written.
    #[error("block files")]
    Io(#[from] io::Error),
    /// A block is damaged.
    #[error("block is damaged: {0}")]
    Damaged(&'static str),
    /// The name of a snapshot is no plain file name.
    #[error("bad snapshot name {0:?}")]
    BadName(String),
}

impl From<BlockError> for AdminError {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Io(error) => Self::Io(error),
            BlockError::Damaged(part) => Self::Damaged(part),
        }
    }
}

impl Store {
    /// Deletes the samples between two times (inclusive, milliseconds) of the series for which all matchers hold,
    /// and returns the number of samples deleted. They are gone from disk when this returns: the blocks that had
    /// them are written anew, so this takes as long as a merge. Samples that are appended meanwhile may stay.
    ///
    /// # Errors
    /// A block is damaged or can't be written; some blocks may have been rewritten.
    pub fn delete_series(
        &self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<u64, AdminError> {
        let inner = self.inner();
        let mut maintenance = lock(&inner.maintenance);
        inner.seal(&mut maintenance)?;
        let prepared = Prepared::new(matchers);
        let mut deleted = 0;
        for block in inner.blocks.overlapping(start_ms, end_ms) {
            let loaded = block.load()?;
            let ids = prepared.resolve(&loaded.index, &ReadControl::unlimited());
            // Without bounds, and cancelled by nobody, a resolution can't fail.
            let ids = ids.map_err(|error| AdminError::Io(io::Error::other(error)))?;
            if ids.is_empty() {
                continue;
            }
            let series = ids
                .view()
                .iter()
                .map(|id| loaded.index.hash(SeriesId(id)))
                .collect();
            let deletion = Deletion {
                series,
                first_ms: start_ms,
                last_ms: end_ms,
            };
            let rewritten = inner.rewrite(&[block], Some(&deletion), &mut || Ok(()));
            inner.stability.removed();
            deleted += rewritten?;
        }
        // Also what an earlier attempt wrote and could not finish.
        inner.blocks.sweep()?;
        Ok(deleted)
    }

    /// Makes a copy of the store in `snapshots/NAME` of the data directory, and returns its path. Blocks are hard
    /// links, so it is quick and takes no space until blocks are merged. The copy is a data directory of its own:
    /// to restore, open it, or a copy of it on another disk.
    ///
    /// # Errors
    /// The name is taken or no plain name, or a file can't be written.
    pub fn snapshot(&self, name: &str) -> Result<PathBuf, AdminError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Err(AdminError::BadName(name.to_owned()));
        }
        let inner = self.inner();
        let mut maintenance = lock(&inner.maintenance);
        inner.seal(&mut maintenance)?;
        let target = inner.options.path.join("snapshots").join(name);
        let snapshots = inner.options.path.join("snapshots");
        create_directory(&snapshots)?;
        disk::create_dir(&target)?;
        sync_directory(&snapshots)?;
        inner.link_into(&target).inspect_err(|_| {
            if let Err(error) = disk::remove_dir_all(&target) {
                tracing::warn!(%error, path = %target.display(), "remove unfinished snapshot");
            }
        })?;
        Ok(target)
    }
}

impl Inner {
    fn link_into(&self, target: &Path) -> io::Result<()> {
        let blocks = target.join("blocks");
        disk::create_dir(&blocks)?;
        for block in self.blocks.all() {
            let name = block.path.file_name().unwrap_or_default();
            disk::hard_link(&block.path, blocks.join(name))?;
        }
        sync_directory(&blocks)?;
        self.key().save(target)?;
        sync_directory(target)
    }
}
