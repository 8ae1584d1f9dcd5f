//! Free space on the disk: writes are refused while some is left, so that alert state, checkpoints and the merges that
//! make room still fit.
//!
//! Refused below 5 % or 1 GiB of the file system, whichever is less. For the day when another program takes the rest, a
//! file of reserved space lies in the data directory, `reserve`; it is given up when nothing is left at all and made anew
//! once there is room.

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
    /// Looks at the file system for the first time.
    ///
    /// # Errors
    /// It can't be asked.
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

    /// Looks again.
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
        // Room for a moment's writes more than the limit, lest it go back and forth.
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

    /// Gives the reserve up when the disk is full, and makes it when there is room.
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
                // A file system that can't reserve has no reserve.
                Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP) => Ok(()),
                Err(errno) => {
                    files::remove_if_there(&self.reserve)?;
                    Err(errno.into())
                }
            };
        }
        Ok(())
    }

    /// What is left, when that is too little to write.
    pub(crate) fn refusal(&self) -> Option<u64> {
        let refuses = self.refuses.load(Ordering::Relaxed);
        refuses.then(|| self.free_bytes.load(Ordering::Relaxed))
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }
}
