//! Free disk space: writes are refused before the disk is full, so that alert state, checkpoints and the merges that free
//! space still fit.
//!
//! The limit is 5 % of the file system or 1 GiB, whichever is smaller. Another program may use up the rest, so the data
//! directory has a file of reserved space, `reserve`. It is deleted when the disk is full, and created again once there is
//! space.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::report::chain;
use nix::fcntl::posix_fallocate;

use crate::files;

/// Writes are refused below this, or below [`FREE_PERCENT`] of the file system if that is less.
const FREE_BYTES: u64 = 1 << 30;
const FREE_PERCENT: u64 = 5;
/// Size of the reserve, or [`RESERVE_PERCENT`] of the file system if that is less.
const RESERVE_BYTES: u64 = 256 << 20;
const RESERVE_PERCENT: u64 = 1;

/// Watches the file system of a data directory.
#[derive(Debug)]
pub(crate) struct Space {
    directory: PathBuf,
    reserve: PathBuf,
    refuse_below: u64,
    reserve_bytes: u64,
    free_bytes: AtomicU64,
    refuses: AtomicBool,
}

impl Space {
    /// Checks the file system for the first time.
    ///
    /// # Errors
    /// The query failed.
    pub(crate) fn watch(directory: &Path) -> io::Result<Self> {
        let total = files::total_bytes(directory)?;
        let space = Self {
            directory: directory.to_path_buf(),
            reserve: directory.join("reserve"),
            refuse_below: (total / 100 * FREE_PERCENT).min(FREE_BYTES),
            reserve_bytes: (total / 100 * RESERVE_PERCENT).min(RESERVE_BYTES),
            free_bytes: AtomicU64::new(0),
            refuses: AtomicBool::new(false),
        };
        space.update();
        Ok(space)
    }

    /// Checks again.
    pub(crate) fn update(&self) {
        let free = match files::free_bytes(&self.directory) {
            Ok(free) => free,
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "ask for the free space of the data directory"
                );
                return;
            }
        };
        self.free_bytes.store(free, Ordering::Relaxed);
        let refused = self.refuses.load(Ordering::Relaxed);
        // A margin of some writes above the limit, so that the state does not flap.
        let enough = self.refuse_below + self.refuse_below / 10;
        if !refused && free < self.refuse_below {
            self.refuses.store(true, Ordering::Relaxed);
            let limit = self.refuse_below;
            tracing::error!(
                free_bytes = free,
                limit,
                "too little disk space, refusing samples"
            );
        } else if refused && free >= enough {
            self.refuses.store(false, Ordering::Relaxed);
            tracing::info!(free_bytes = free, "there is disk space again");
        }
        if let Err(error) = self.keep_reserve(free) {
            tracing::warn!(error = chain(&error), path = %self.reserve.display(), "reserve disk space");
        }
    }

    /// Deletes the reserve when the disk is full, and creates it when there is space.
    fn keep_reserve(&self, free: u64) -> io::Result<()> {
        let held = match fs::metadata(&self.reserve) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        if held > 0 && free < self.refuse_below / 8 {
            tracing::warn!(bytes = held, "disk is full, giving up the reserve");
            return fs::remove_file(&self.reserve);
        }
        let room = self.refuse_below.saturating_add(self.reserve_bytes * 2);
        if held < self.reserve_bytes && free >= room {
            let file = File::create(&self.reserve)?;
            let bytes = i64::try_from(self.reserve_bytes).unwrap_or(i64::MAX);
            return match posix_fallocate(&file, 0, bytes) {
                // A file system without preallocation has no reserve.
                Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP) => Ok(()),
                Err(errno) => {
                    files::remove_if_there(&self.reserve)?;
                    Err(errno.into())
                }
            };
        }
        Ok(())
    }

    /// Returns the free space if it is too little for writes.
    pub(crate) fn refusal(&self) -> Option<u64> {
        let refuses = self.refuses.load(Ordering::Relaxed);
        refuses.then(|| self.free_bytes.load(Ordering::Relaxed))
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }
}
