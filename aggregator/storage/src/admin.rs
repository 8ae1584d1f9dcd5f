//! Deletes series, and copies the whole store.

use std::io;
use std::path::{Path, PathBuf};

use common::model::Matcher;
use common::report::chain;

use crate::disk;
use crate::files::{create_directory, sync_directory};
use crate::index::SeriesId;
use crate::index::resolve::Prepared;
use crate::index::view::SeriesIndex as _;
use crate::maintenance::MaintenanceError;
use crate::merge::Deletion;
use crate::read::{ReadControl, ReadError};
use crate::store::{Inner, Store};
use crate::sync::lock;

/// Why an operation on the whole store failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Blocks could not be sealed or rewritten.
    #[error(transparent)]
    Maintenance(#[from] MaintenanceError),
    /// The series to delete could not be found.
    #[error("find series to delete")]
    Select(#[source] ReadError),
    /// A file of the snapshot could not be written.
    #[error("write snapshot {}", path.display())]
    Snapshot {
        /// The folder of the snapshot.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The name of a snapshot is not a plain file name.
    #[error("bad snapshot name {0:?}")]
    BadName(String),
}

impl Store {
    /// Deletes the samples between two timestamps (inclusive, milliseconds) of the series that all matchers match,
    /// and returns the number of deleted samples. They are gone from disk when this returns: the blocks that had
    /// them are rewritten, so this takes as long as a merge. Samples that are appended at the same time may stay.
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
            let loaded = block
                .load()
                .map_err(|error| MaintenanceError::read(&block, error))?;
            let ids = prepared.resolve(&loaded.index, &ReadControl::unlimited());
            let ids = ids.map_err(AdminError::Select)?;
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
        // Also removes the output of an earlier attempt that failed.
        inner
            .blocks
            .sweep()
            .map_err(MaintenanceError::RemoveBlocks)?;
        Ok(deleted)
    }

    /// Makes a copy of the store in `snapshots/NAME` of the data directory, and returns its path. Blocks are hard
    /// links, so it is fast and takes no space until blocks are merged. The copy is a data directory:
    /// to restore, open it, or a copy of it on another disk.
    ///
    /// # Errors
    /// The name is taken or not a plain name, or a file can't be written.
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
        let made = create_directory(&snapshots)
            .and_then(|()| disk::create_dir(&target))
            .and_then(|()| sync_directory(&snapshots))
            .and_then(|()| {
                inner.link_into(&target).inspect_err(|_| {
                    if let Err(error) = disk::remove_dir_all(&target) {
                        tracing::warn!(error = chain(&error), path = %target.display(), "remove unfinished snapshot");
                    }
                })
            });
        match made {
            Ok(()) => Ok(target),
            Err(source) => Err(AdminError::Snapshot {
                path: target,
                source,
            }),
        }
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
