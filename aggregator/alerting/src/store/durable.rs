//! State on disk: a checksummed log and an embedded database beside it.
//!
//! The log alone decides what is acknowledged: a commit returns when its record is synced. The database gets the same
//! changes afterwards, without waiting, so that it holds the state twice: what a damaged log has lost is taken from
//! it, and a database that cannot be opened is set aside and filled again from the log.
//!
//! Steps of a commit: 1. append the record; 2. fdatasync; 3. memory; 4. database (it flushes itself every 500 ms).
//! Compaction, when the log is four times what it stands for: 1. write a new log beside it; 2. fsync; 3. rename;
//! 4. fsync the folder.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing::warn;

use super::log::{FILE_MAGIC, decode, encode};
use super::{Change, Durability, StateStore, StoreError, Table, Tables, apply, rows};

/// Below this a log is never compacted.
const COMPACT_BYTES_MIN: u64 = 4 << 20;

/// Present in every database that was filled; a database without it was made anew by accident.
const SENTINEL: &[u8] = b"\0sentinel";

/// State in a folder.
#[derive(Debug)]
pub struct DurableStore {
    folder: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    log: File,
    log_bytes: u64,
    tables: Tables,
    database: Option<sled::Db>,
}

impl DurableStore {
    /// Opens the state in `folder`, which is made when it is not there.
    ///
    /// # Errors
    /// The log can't be read or written. Damage is repaired and logged, not an error.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(io("create", folder))?;
        let path = folder.join("state.log");
        let (log, transactions, damaged) = open_log(&path)?;
        let database = open_database(folder);
        let mut tables = Tables::new();
        if damaged > 0 {
            let from_database = database.as_ref().map(read_database).unwrap_or_default();
            // A missing log and an empty database are a first start.
            if !from_database.is_empty() || !transactions.is_empty() {
                let recovered = from_database.len();
                warn!(path = %path.display(), damaged_bytes = damaged, recovered, "damaged state log");
            }
            tables = from_database;
        }
        for changes in transactions {
            apply(&mut tables, changes);
        }
        let log_bytes = log.metadata().map_err(io("stat", &path))?.len();
        let mut inner = Inner {
            log,
            log_bytes,
            tables,
            database,
        };
        inner.fill_database();
        if damaged > 0 {
            inner.compact(folder)?;
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            inner: Mutex::new(inner),
        })
    }
}

impl StateStore for DurableStore {
    fn commit(&self, changes: Vec<Change>, durability: Durability) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.append(&self.folder, &changes, durability)?;
        inner.copy_to_database(&changes);
        apply(&mut inner.tables, changes);
        inner.compact_if_large(&self.folder)
    }

    fn scan(&self, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
        rows(
            &self
                .inner
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .tables,
            table,
        )
    }
}

impl Inner {
    fn append(
        &mut self,
        folder: &Path,
        changes: &[Change],
        durability: Durability,
    ) -> Result<(), StoreError> {
        let path = folder.join("state.log");
        let mut record = Vec::with_capacity(256);
        encode(changes, &mut record)?;
        let written = self.log.write_all(&record).and_then(|()| match durability {
            Durability::Synced => self.log.sync_data(),
            Durability::Written => Ok(()),
        });
        if let Err(source) = written {
            // A half-written record must not stand before the next one: cut back to the last good end.
            let cut = self
                .log
                .set_len(self.log_bytes)
                .and_then(|()| self.log.seek(SeekFrom::End(0)));
            if let Err(error) = cut {
                warn!(path = %path.display(), %error, "cut state log after a failed write");
            }
            return Err(io("write", &path)(source));
        }
        self.log_bytes += record.len() as u64;
        Ok(())
    }

    fn copy_to_database(&mut self, changes: &[Change]) {
        let Some(database) = &self.database else {
            return;
        };
        let copied = caught(|| {
            let mut batch = sled::Batch::default();
            for change in changes {
                let key = database_key(change.table, &change.key);
                match &change.value {
                    Some(value) => batch.insert(key, sealed(value)),
                    None => batch.remove(key),
                }
            }
            database.apply_batch(batch)
        });
        if let Err(error) = copied {
            warn!(%error, "state database failed, going on with the log alone");
            self.database = None;
        }
    }

    /// Makes the database hold what the log says.
    fn fill_database(&mut self) {
        let Some(database) = &self.database else {
            return;
        };
        let current = read_database(database);
        let missing = self
            .tables
            .iter()
            .filter(|(key, value)| current.get(*key) != Some(*value));
        let mut changes: Vec<Change> = missing
            .map(|((table, key), value)| Change {
                table: *table,
                key: key.clone(),
                value: Some(value.clone()),
            })
            .collect();
        let gone = current.keys().filter(|key| !self.tables.contains_key(*key));
        changes.extend(gone.map(|(table, key)| Change::remove(*table, key.clone())));
        let marked = caught(|| database.insert(SENTINEL, sealed(FILE_MAGIC)).map(drop));
        if let Err(error) = marked {
            warn!(%error, "state database failed, going on with the log alone");
            self.database = None;
            return;
        }
        self.copy_to_database(&changes);
    }

    fn compact_if_large(&mut self, folder: &Path) -> Result<(), StoreError> {
        if self.log_bytes < COMPACT_BYTES_MIN {
            return Ok(());
        }
        let live: usize = self
            .tables
            .iter()
            .map(|((_, key), value)| key.len() + value.len() + 16)
            .sum();
        if self.log_bytes > 4 * live as u64 {
            self.compact(folder)
        } else {
            Ok(())
        }
    }

    fn compact(&mut self, folder: &Path) -> Result<(), StoreError> {
        let path = folder.join("state.log");
        let temporary = folder.join("state.log.new");
        let mut bytes = FILE_MAGIC.to_vec();
        for ((table, key), value) in &self.tables {
            let change = Change {
                table: *table,
                key: key.clone(),
                value: Some(value.clone()),
            };
            encode(&[change], &mut bytes)?;
        }
        let mut file = File::create(&temporary).map_err(io("create", &temporary))?;
        file.write_all(&bytes).map_err(io("write", &temporary))?;
        file.sync_all().map_err(io("sync", &temporary))?;
        std::fs::rename(&temporary, &path).map_err(io("rename", &temporary))?;
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(io("sync", folder))?;
        self.log = file;
        self.log_bytes = bytes.len() as u64;
        Ok(())
    }
}

fn io<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> StoreError + use<'a> {
    move |source| StoreError::Io {
        action,
        path: path.display().to_string(),
        source,
    }
}

/// Opens the log at its end; returns its transactions and how many of its bytes are damaged.
fn open_log(path: &Path) -> Result<(File, Vec<Vec<Change>>, usize), StoreError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(io("open", path))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io("read", path))?;
    let magic = FILE_MAGIC.len();
    if bytes.len() < magic {
        file.set_len(0).map_err(io("truncate", path))?;
        file.rewind().map_err(io("seek", path))?;
        file.write_all(FILE_MAGIC).map_err(io("write", path))?;
        file.sync_all().map_err(io("sync", path))?;
        if let Some(folder) = path.parent() {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(io("sync", folder))?;
        }
        // An empty file where a database is: the log was lost.
        return Ok((file, Vec::new(), 1));
    }
    let (head, body) = bytes.split_at(magic);
    let replay = decode(body);
    let damaged = replay.damaged_bytes + if head == FILE_MAGIC { 0 } else { magic };
    let end = (magic + replay.good_bytes) as u64;
    file.set_len(end).map_err(io("truncate", path))?;
    file.seek(SeekFrom::End(0)).map_err(io("seek", path))?;
    Ok((file, replay.transactions, damaged))
}

/// Runs a call of the database, which panics on some damaged files.
fn caught<T>(call: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(StoreError::Database(error.to_string())),
        Err(_) => Err(StoreError::Database("panicked".to_owned())),
    }
}

/// Opens the database; a damaged one is set aside and made anew. `None` when even that fails.
fn open_database(folder: &Path) -> Option<sled::Db> {
    let path = folder.join("state.sled");
    let open = || {
        caught(|| {
            sled::Config::new()
                .path(&path)
                .cache_capacity(4 << 20)
                .open()
        })
    };
    let error = match open() {
        Ok(database) => return Some(database),
        Err(error) => error,
    };
    warn!(path = %path.display(), %error, "state database is damaged and set aside");
    let aside = folder.join("state.sled.damaged");
    let set_aside = std::fs::remove_dir_all(&aside).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    let renamed = set_aside.and_then(|()| std::fs::rename(&path, &aside));
    match renamed.map_err(io("rename", &path)).and_then(|()| open()) {
        Ok(database) => Some(database),
        Err(error) => {
            warn!(path = %path.display(), %error, "no state database, going on with the log alone");
            None
        }
    }
}

fn database_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(1 + key.len());
    full.push(table as u8);
    full.extend_from_slice(key);
    full
}

/// A value behind its checksum.
fn sealed(value: &[u8]) -> Vec<u8> {
    let mut bytes = crc32c::crc32c(value).to_le_bytes().to_vec();
    bytes.extend_from_slice(value);
    bytes
}

fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (crc, value) = bytes.split_first_chunk::<4>()?;
    (crc32c::crc32c(value) == u32::from_le_bytes(*crc)).then_some(value)
}

/// All whole values of the database; none when it was never filled.
fn read_database(database: &sled::Db) -> Tables {
    let read = caught(|| {
        let mut tables = Tables::new();
        if database.get(SENTINEL)?.is_none() {
            return Ok(tables);
        }
        for row in database.iter() {
            let (key, bytes) = row?;
            let Some((&table, key)) = key.split_first() else {
                continue;
            };
            if let (Some(table), Some(value)) = (Table::from_byte(table), unsealed(&bytes)) {
                tables.insert((table, key.to_vec()), value.to_vec());
            }
        }
        Ok(tables)
    });
    read.unwrap_or_else(|error| {
        warn!(%error, "read state database");
        Tables::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &DurableStore, key: u8, value: u8) {
        let change = Change {
            table: Table::Silences,
            key: vec![key],
            value: Some(vec![value; 100]),
        };
        store.commit(vec![change], Durability::Synced).unwrap();
    }

    fn keys(store: &DurableStore) -> Vec<u8> {
        store
            .scan(Table::Silences)
            .iter()
            .map(|(key, _)| key[0])
            .collect()
    }

    #[test]
    fn state_survives_without_a_clean_end() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableStore::open(folder.path()).unwrap();
        (0..10).for_each(|key| put(&store, key, 1));
        store
            .commit(
                vec![Change::remove(Table::Silences, vec![3])],
                Durability::Synced,
            )
            .unwrap();
        drop(store);
        let store = DurableStore::open(folder.path()).unwrap();
        assert_eq!(keys(&store), [0, 1, 2, 4, 5, 6, 7, 8, 9]);
        assert!(store.scan(Table::Alerts).is_empty());
    }

    #[test]
    fn lost_log_is_replaced_by_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableStore::open(folder.path()).unwrap();
        (0..5).for_each(|key| put(&store, key, 1));
        drop(store);
        std::fs::remove_file(folder.path().join("state.log")).unwrap();
        let store = DurableStore::open(folder.path()).unwrap();
        assert_eq!(keys(&store), [0, 1, 2, 3, 4]);
        drop(store);
        std::fs::remove_dir_all(folder.path().join("state.sled")).unwrap();
        let store = DurableStore::open(folder.path()).unwrap();
        assert_eq!(keys(&store), [0, 1, 2, 3, 4], "the log was written again");
    }

    #[test]
    fn damage_of_both_costs_one_record_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableStore::open(folder.path()).unwrap();
        (0..5).for_each(|key| put(&store, key, 1));
        drop(store);
        let log = folder.path().join("state.log");
        let mut bytes = std::fs::read(&log).unwrap();
        bytes[150] ^= 1;
        std::fs::write(&log, &bytes).unwrap();
        for entry in std::fs::read_dir(folder.path().join("state.sled")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::write(path, b"garbage").unwrap();
            }
        }
        let store = DurableStore::open(folder.path()).unwrap();
        assert_eq!(keys(&store).len(), 4);
    }

    #[test]
    fn log_is_compacted() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableStore::open(folder.path()).unwrap();
        let big = |n: u8| Change {
            table: Table::Alerts,
            key: vec![1],
            value: Some(vec![n; 1 << 20]),
        };
        for n in 0..12 {
            store.commit(vec![big(n)], Durability::Written).unwrap();
        }
        let bytes = std::fs::metadata(folder.path().join("state.log"))
            .unwrap()
            .len();
        assert!(bytes < 6 << 20, "{bytes}");
        assert_eq!(store.scan(Table::Alerts)[0].1[0], 11);
    }
}
