//! The embedded database, opened once for each data directory.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{StateChange, StateError, StateScan, StateTable};
use common::report::chain;

use crate::sync::{Rank, RankedRwLock, read, write};

/// Memory for the database's page cache, in bytes.
const CACHE_BYTES: u64 = 4 << 20;
/// Time in milliseconds after which changes reach the disk without a flush.
const FLUSH_MS: u64 = 500;
/// Databases smaller than this are never compacted.
const COMPACT_BYTES_MIN: u64 = 16 << 20;
/// The database is compacted when its files are this many times larger than its content.
const COMPACT_FACTOR: u64 = 8;
/// The key that marks a table as filled.
const SENTINEL: &[u8] = b"\0filled";

/// The database of a data directory; clones share it.
#[derive(Debug, Clone)]
pub struct StateDb {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// `None` after a failure.
    database: RankedRwLock<Option<sled::Db>>,
}

/// Runs a call of sled and catches panics, which some damaged files cause.
fn caught<T>(call: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, StateError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(StateError::Database(error)),
        Err(_panic) => Err(StateError::Panicked),
    }
}

fn open_sled(path: &Path) -> Result<sled::Db, StateError> {
    caught(|| {
        sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(FLUSH_MS))
            .open()
    })
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_path_buf();
    |source| StateError::File { path, source }
}

fn remove_all(path: &Path) -> Result<(), StateError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

impl StateDb {
    /// Opens the database of a data directory. A damaged database is moved to `state.sled.damaged` and replaced by an
    /// empty one. If even that fails, the tables are out of use and their users continue without them.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        let path = directory.join("state.sled");
        let database = Self::open_or_replace(&path)
            .inspect_err(|error| {
                tracing::error!(path = %path.display(), error = chain(error), "no state database, going on without");
            })
            .ok();
        Self {
            shared: Arc::new(Shared {
                path,
                database: RankedRwLock::new(Rank::StateDatabase, database),
            }),
        }
    }

    fn open_or_replace(path: &Path) -> Result<sled::Db, StateError> {
        let is_stale = stale_mark(path).try_exists().map_err(at(path))?;
        // Left by an unfinished compaction.
        remove_all(&path.with_extension("sled.new"))?;
        if !is_stale {
            match open_sled(path) {
                Ok(database) => return Ok(database),
                Err(error) => {
                    tracing::error!(path = %path.display(), error = chain(&error), "state database is damaged and set aside");
                }
            }
        }
        let aside = path.with_extension("sled.damaged");
        remove_all(&aside)?;
        match fs::rename(path, &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(path)(error)),
            _ => {}
        }
        let database = open_sled(path)?;
        if is_stale {
            fs::remove_file(stale_mark(path)).map_err(at(path))?;
        }
        Ok(database)
    }

    /// Returns the table with this name.
    #[must_use]
    pub fn table(&self, name: &'static str) -> Arc<dyn StateTable> {
        Arc::new(SledTable {
            database: self.clone(),
            name,
        })
    }

    /// Whether the database is in use.
    #[must_use]
    pub fn works(&self) -> bool {
        read(&self.shared.database).is_some()
    }

    /// Returns the tables with damaged values and the number of these values, ascending by name.
    ///
    /// # Errors
    /// The database failed.
    pub fn damaged_values(&self) -> Result<Vec<(String, u64)>, StateError> {
        self.with(|database| {
            let mut list = Vec::new();
            for name in database.tree_names() {
                let mut damaged = 0;
                for row in &database.open_tree(&name)? {
                    let (key, bytes) = row?;
                    damaged += u64::from(unsealed(&key, &bytes).is_none());
                }
                if damaged > 0 {
                    list.push((String::from_utf8_lossy(&name).into_owned(), damaged));
                }
            }
            list.sort();
            Ok(list)
        })
    }

    /// Returns the size of the database files in bytes; 0 if the database is out of use.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.with(sled::Db::size_on_disk).unwrap_or(0)
    }

    /// Runs a call. A failure takes the database out of use and marks it on disk, because it may lack changes.
    fn with<T>(
        &self,
        call: impl FnOnce(&sled::Db) -> Result<T, sled::Error>,
    ) -> Result<T, StateError> {
        let result = match &*read(&self.shared.database) {
            Some(database) => caught(|| call(database)),
            None => return Err(StateError::OutOfUse),
        };
        result.inspect_err(|error| {
            tracing::error!(
                error = chain(error),
                "state database failed, going on without until the next start"
            );
            write(&self.shared.database).take();
            self.mark_stale();
        })
    }

    fn mark_stale(&self) {
        let path = stale_mark(&self.shared.path);
        if let Err(error) = fs::File::create(&path).and_then(|file| file.sync_all()) {
            tracing::warn!(error = chain(&error), path = %path.display(), "mark the state database as stale");
        }
    }

    /// Compacts the database if it is much larger than its content; returns whether it did. This takes as long as a
    /// full copy, and the tables' users wait.
    ///
    /// # Errors
    /// The copy failed; the database is out of use.
    pub fn compact_if_large(&self) -> Result<bool, StateError> {
        let bytes = self.disk_bytes();
        if bytes < COMPACT_BYTES_MIN {
            return Ok(false);
        }
        let live = self.with(|database| {
            let mut live = 0;
            for name in database.tree_names() {
                for row in &database.open_tree(name)? {
                    let (key, value) = row?;
                    live += key.len() + value.len();
                }
            }
            Ok(live as u64)
        })?;
        if bytes < live.saturating_mul(COMPACT_FACTOR) {
            return Ok(false);
        }
        let mut slot = write(&self.shared.database);
        let Some(database) = slot.take() else {
            return Err(StateError::OutOfUse);
        };
        match self.copy(database) {
            Ok(database) => {
                *slot = Some(database);
                tracing::info!(bytes, live, "rewrote state database");
                Ok(true)
            }
            Err(error) => {
                drop(slot);
                tracing::error!(
                    error = chain(&error),
                    "compact the state database, going on without until the next start"
                );
                self.mark_stale();
                Err(error)
            }
        }
    }

    /// Copies all tables to a new database, which replaces the old one.
    fn copy(&self, old: sled::Db) -> Result<sled::Db, StateError> {
        let path = &self.shared.path;
        let (new_path, aside) = (
            path.with_extension("sled.new"),
            path.with_extension("sled.damaged"),
        );
        remove_all(&new_path)?;
        let new = open_sled(&new_path)?;
        caught(|| {
            new.import(old.export());
            new.flush()
        })?;
        // sled opens some of its files by name on demand, so a database is moved only while it is closed.
        drop(new);
        drop(old);
        remove_all(&aside)?;
        fs::rename(path, &aside).map_err(at(path))?;
        fs::rename(&new_path, path).map_err(at(&new_path))?;
        remove_all(&aside)?;
        open_sled(path)
    }
}

/// Returns the path of the file that marks a database as lacking changes.
fn stale_mark(path: &Path) -> PathBuf {
    path.with_extension("sled.stale")
}

#[derive(Debug)]
struct SledTable {
    database: StateDb,
    name: &'static str,
}

/// Returns a value prefixed with the checksum of its key and itself.
fn sealed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), value);
    let mut bytes = crc.to_le_bytes().to_vec();
    bytes.extend_from_slice(value);
    bytes
}

fn unsealed<'a>(key: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (crc, value) = bytes.split_first_chunk::<4>()?;
    let want = crc32c::crc32c_append(crc32c::crc32c(key), value);
    (want == u32::from_le_bytes(*crc)).then_some(value)
}

impl StateTable for SledTable {
    fn scan(&self) -> Result<StateScan, StateError> {
        self.database.with(|database| {
            let mut scan = StateScan::default();
            for row in &database.open_tree(self.name)? {
                let (key, bytes) = row?;
                match unsealed(&key, &bytes) {
                    Some(_) if key == SENTINEL => scan.is_filled = true,
                    Some(value) => scan.rows.push((key.to_vec(), value.to_vec())),
                    None => scan.damaged += 1,
                }
            }
            Ok(scan)
        })
    }

    fn apply(&self, changes: &[StateChange]) -> Result<(), StateError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.database.with(|database| {
            let mut batch = sled::Batch::default();
            for (key, value) in changes {
                match value {
                    Some(value) => batch.insert(key.as_slice(), sealed(key, value)),
                    None => batch.remove(key.as_slice()),
                }
            }
            database.open_tree(self.name)?.apply_batch(batch)
        })
    }

    fn mark_filled(&self) -> Result<(), StateError> {
        let mark = sealed(SENTINEL, self.name.as_bytes());
        let insert = |database: &sled::Db| {
            database
                .open_tree(self.name)?
                .insert(SENTINEL, mark)
                .map(drop)
        };
        self.database.with(insert)
    }

    fn flush(&self) -> Result<(), StateError> {
        self.database
            .with(|database| database.open_tree(self.name)?.flush().map(drop))
    }
}
