//! Durable state on disk: a checksummed log, with an embedded database as a second copy.
//!
//! Only the log determines when a commit is acknowledged: the record must have reached the requested durability. The
//! database receives the same changes afterwards and flushes them asynchronously. It restores entries that a damaged
//! log has lost. A recreated database is filled from the log.
//!
//! Steps of a commit: 1. append the record; 2. fdatasync if requested; 3. update the database, which flushes itself
//! every 500 ms; 4. update memory. The log is compacted when it is larger than four times the state: 1. write a new log
//! next to it; 2. fsync; 3. rename; 4. fsync the folder.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use common::report::chain;
use tidemark_storage::{StateChange, StateScan, StateTable};
use tracing::warn;

use super::log::{FILE_MAGIC, decode, encode};
use super::{Change, Durability, StateStore, StoreError, Table, Tables, apply, rows};

/// Minimum size of a log that is compacted.
const COMPACT_BYTES_MIN: u64 = 4 << 20;

/// State stored in a folder.
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
    /// The second copy. `None` after the database has failed.
    database: Option<Arc<dyn StateTable>>,
}

impl DurableStore {
    /// Opens the state in `folder` and creates the folder if necessary. `database` is the table with the second copy.
    ///
    /// # Errors
    /// Returns an error if the log cannot be read or written. Damage is not an error; it is repaired and logged.
    pub fn open(folder: &Path, database: Arc<dyn StateTable>) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(io("create", folder))?;
        let path = folder.join("state.log");
        let (log, transactions, damaged) = open_log(&path)?;
        let mut tables = Tables::new();
        if damaged > 0 {
            let from_database = read_database(&*database);
            // A missing log together with an empty database means a first start.
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
            database: Some(database),
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
            // Truncate a partially written record, so that the next record follows the last complete one.
            let cut = self
                .log
                .set_len(self.log_bytes)
                .and_then(|()| self.log.seek(SeekFrom::End(0)));
            if let Err(error) = cut {
                warn!(path = %path.display(), error = chain(&error), "truncate state log after a failed write");
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
        let row = |change: &Change| {
            let key = database_key(change.table, &change.key);
            (key, change.value.clone())
        };
        let rows: Vec<StateChange> = changes.iter().map(row).collect();
        if let Err(error) = database.apply(&rows) {
            warn!(
                error = chain(&error),
                "state database failed; continuing with the log alone"
            );
            self.database = None;
        }
    }

    /// Makes the database match the state.
    fn fill_database(&mut self) {
        let Some(database) = &self.database else {
            return;
        };
        let current = read_database(&**database);
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
        if let Err(error) = database.mark_filled() {
            warn!(
                error = chain(&error),
                "state database failed; continuing with the log alone"
            );
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

/// Opens the log positioned at its end. Returns its transactions and the number of damaged bytes.
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
        // Report an empty log as damaged. If the database has state, the log was lost.
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

fn database_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(1 + key.len());
    full.push(table as u8);
    full.extend_from_slice(key);
    full
}

/// Returns all valid entries of the database. Returns none if the database was never marked as filled.
fn read_database(database: &dyn StateTable) -> Tables {
    let scan = database.scan().unwrap_or_else(|error| {
        warn!(error = chain(&error), "read state database");
        StateScan::default()
    });
    if !scan.is_filled {
        return Tables::new();
    }
    let row = |(key, value): (Vec<u8>, Vec<u8>)| {
        let (&table, key) = key.split_first()?;
        Some(((Table::from_byte(table)?, key.to_vec()), value))
    };
    scan.rows.into_iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_storage::StateDb;

    fn open(folder: &Path) -> DurableStore {
        DurableStore::open(folder, StateDb::open(folder).table("alerting")).unwrap()
    }

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
        let store = open(folder.path());
        (0..10).for_each(|key| put(&store, key, 1));
        store
            .commit(
                vec![Change::remove(Table::Silences, vec![3])],
                Durability::Synced,
            )
            .unwrap();
        drop(store);
        let store = open(folder.path());
        assert_eq!(keys(&store), [0, 1, 2, 4, 5, 6, 7, 8, 9]);
        assert!(store.scan(Table::Alerts).is_empty());
    }

    #[test]
    fn lost_log_is_replaced_by_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        (0..5).for_each(|key| put(&store, key, 1));
        drop(store);
        std::fs::remove_file(folder.path().join("state.log")).unwrap();
        let store = open(folder.path());
        assert_eq!(keys(&store), [0, 1, 2, 3, 4]);
        drop(store);
        std::fs::remove_dir_all(folder.path().join("state.sled")).unwrap();
        let store = open(folder.path());
        assert_eq!(keys(&store), [0, 1, 2, 3, 4], "the log was written again");
    }

    #[test]
    fn damage_of_both_costs_one_record_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
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
        let store = open(folder.path());
        assert_eq!(keys(&store).len(), 4);
    }

    #[test]
    fn log_is_compacted() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
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
