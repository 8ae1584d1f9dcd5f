//! The list of a store's blocks: those in use, those set aside as damaged, and those to remove.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::reader::{Block, BlockError, Caches};
use crate::maintenance::MaintenanceError;
use crate::manifest::{BlockRow, Manifest};
use crate::series_hash::HashKey;
use crate::sync::{Rank, RankedRwLock, read, write};
use crate::{disk, files};
use common::report::chain;

/// A block that can't be used. Its file is in the directory for damaged files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quarantined {
    pub(crate) name: String,
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
}

#[derive(Debug, Default)]
struct State {
    /// Ascending by their first sample.
    blocks: Vec<Arc<Block>>,
    quarantined: Vec<Quarantined>,
    /// The number of these that only the manifest names.
    missing: u64,
    /// The last seal whose blocks are in the list.
    sealed: u64,
}

/// All blocks.
#[derive(Debug)]
pub(crate) struct BlockList {
    pub(crate) directory: PathBuf,
    quarantine: PathBuf,
    key: HashKey,
    caches: Arc<Caches>,
    next_id: AtomicU64,
    /// Files were removed, and the directory has not been synced since.
    unsynced: AtomicBool,
    manifest: Manifest,
    state: RankedRwLock<State>,
}

/// The name of a block's file.
fn file_name(id: u64, first_ms: i64, last_ms: i64) -> String {
    format!("{id:016x}_{first_ms}_{last_ms}.blk")
}

/// Parses the number and the time range of a block from its file name.
pub(crate) fn parse_name(path: &Path) -> Option<(u64, i64, i64)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".blk")?;
    let mut parts = name.split('_');
    let id = u64::from_str_radix(parts.next()?, 16).ok()?;
    let first = parts.next()?.parse().ok()?;
    let last = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some((id, first, last))
}

impl BlockList {
    /// Opens the blocks of a directory. Removes unfinished and replaced blocks, and sets aside
    /// damaged ones.
    ///
    /// # Errors
    /// The directory can't be made or read.
    pub(crate) fn open(
        directory: &Path,
        quarantine: &Path,
        key: HashKey,
        caches: Arc<Caches>,
        manifest: Manifest,
    ) -> io::Result<Self> {
        files::create_directory(directory)?;
        let block_list = Self {
            directory: directory.to_path_buf(),
            quarantine: quarantine.to_path_buf(),
            key,
            caches,
            next_id: AtomicU64::new(1),
            unsynced: AtomicBool::new(false),
            manifest,
            state: RankedRwLock::new(Rank::BlockList, Default::default()),
        };
        let mut replaced = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "tmp") {
                files::remove_if_there(&path)?;
            } else if let Some((id, ..)) = parse_name(&path) {
                block_list.next_id.fetch_max(id + 1, Ordering::Relaxed);
                if let Some(block) = block_list.add_file(&path, id)? {
                    replaced.extend(block.replaces().unwrap_or_default());
                }
            }
        }
        block_list.find_quarantined()?;
        block_list.remove(&replaced)?;
        block_list.compare_with_manifest(&replaced);
        Ok(block_list)
    }

    /// Finds the blocks that the manifest names and the directory lacks, and updates the manifest with the others.
    fn compare_with_manifest(&self, replaced: &[u64]) {
        let known = self.manifest.blocks();
        let mut state = write(&self.state);
        let mut there: BTreeMap<u64, BlockRow> = BTreeMap::new();
        for block in &state.blocks {
            let row = BlockRow::of(block);
            if known.get(&block.id).is_some_and(|before| *before != row) {
                tracing::warn!(path = %block.path.display(), "block is another than the manifest says");
            }
            there.insert(block.id, row);
        }
        for (&id, &row) in &known {
            self.next_id.fetch_max(id + 1, Ordering::Relaxed);
            let name = file_name(id, row.first_ms, row.last_ms);
            let is_here = there.contains_key(&id) || replaced.contains(&id);
            if is_here || state.quarantined.iter().any(|one| one.name == name) {
                continue;
            }
            tracing::error!(name, "block is missing: somebody removed its file");
            there.insert(id, row);
            state.missing += 1;
            state.quarantined.push(Quarantined {
                name,
                first_ms: row.first_ms,
                last_ms: row.last_ms,
            });
        }
        drop(state);
        self.manifest.settle(&there);
    }

    /// Forgets missing blocks whose samples are older than the retention.
    pub(crate) fn forget_missing(&self, before_ms: i64) {
        let known = self.manifest.blocks();
        let old = known.iter().filter(|(_, row)| row.last_ms < before_ms);
        let gone: Vec<u64> = old.map(|(&id, _)| id).collect();
        if !gone.is_empty() {
            self.manifest.record(std::iter::empty(), &gone);
        }
    }

    fn add_file(&self, path: &Path, id: u64) -> io::Result<Option<Arc<Block>>> {
        match Block::open(path, id, self.key, Arc::clone(&self.caches)) {
            Ok(block) => {
                let block = Arc::new(block);
                self.insert(Arc::clone(&block));
                Ok(Some(block))
            }
            Err(BlockError::Read(error)) => Err(error),
            Err(error) => {
                tracing::error!(path = %path.display(), error = chain(&error), "set a damaged block aside");
                self.set_aside(path)?;
                Ok(None)
            }
        }
    }

    fn insert(&self, block: Arc<Block>) {
        let mut state = write(&self.state);
        let first = (block.footer.first_ms, block.id);
        let before = |other: &Arc<Block>| (other.footer.first_ms, other.id) < first;
        let at = state.blocks.partition_point(before);
        state.blocks.insert(at, block);
    }

    fn set_aside(&self, path: &Path) -> io::Result<()> {
        files::create_directory(&self.quarantine)?;
        let name = path.file_name().unwrap_or_default();
        disk::rename(path, self.quarantine.join(name))?;
        files::sync_directory(&self.quarantine)?;
        files::sync_directory(&self.directory)
    }

    /// Remembers the blocks that this start or an earlier one set aside.
    fn find_quarantined(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.quarantine) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            self.remember_quarantined(&entry?.path());
        }
        Ok(())
    }

    fn remember_quarantined(&self, path: &Path) {
        if let Some((_, first_ms, last_ms)) = parse_name(path) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            write(&self.state).quarantined.push(Quarantined {
                name: name.into_owned(),
                first_ms,
                last_ms,
            });
        }
    }

    /// Removes a block from the list whose index is damaged.
    pub(crate) fn quarantine(&self, block: &Block) {
        let present = {
            let mut state = write(&self.state);
            let before = state.blocks.len();
            state.blocks.retain(|other| other.id != block.id);
            state.blocks.len() < before
        };
        if present {
            tracing::error!(path = %block.path.display(), "set a damaged block aside");
            if let Err(error) = self.set_aside(&block.path) {
                tracing::error!(error = chain(&error), path = %block.path.display(), "move a damaged block aside");
            }
            self.remember_quarantined(&block.path);
            self.manifest.record(std::iter::empty(), &[block.id]);
        }
    }

    /// Keeps a copy of a block with a damaged chunk that a merge drops.
    ///
    /// # Errors
    /// The copy could not be made.
    pub(crate) fn keep_damaged(&self, block: &Block) -> Result<(), MaintenanceError> {
        self.link_damaged(block)
            .map_err(|source| MaintenanceError::KeepDamaged {
                path: block.path.clone(),
                source,
            })
    }

    fn link_damaged(&self, block: &Block) -> io::Result<()> {
        files::create_directory(&self.quarantine)?;
        let copy = self
            .quarantine
            .join(block.path.file_name().unwrap_or_default());
        match disk::hard_link(&block.path, &copy) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            result => result?,
        }
        tracing::error!(path = %copy.display(), "keep a block with a damaged chunk");
        self.remember_quarantined(&copy);
        files::sync_directory(&self.quarantine)
    }

    /// Returns the number for a new block.
    pub(crate) fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes finished blocks visible and hides those that they replace, in one step. `sealed` is the seal that they
    /// complete, if any.
    ///
    /// # Errors
    /// A block can't be opened, in which case nothing changes; or a replaced file can't be removed.
    pub(crate) fn publish(
        &self,
        paths: &[PathBuf],
        replaces: &[u64],
        sealed: Option<u64>,
    ) -> Result<(), MaintenanceError> {
        let mut opened = Vec::with_capacity(paths.len());
        for path in paths {
            let id = parse_name(path).map(|(id, ..)| id);
            let block = id
                .ok_or(BlockError::Damaged("name"))
                .and_then(|id| Block::open(path, id, self.key, Arc::clone(&self.caches)))
                .map_err(|source| MaintenanceError::Publish {
                    path: path.clone(),
                    source,
                })?;
            opened.push(Arc::new(block));
        }
        {
            let mut state = write(&self.state);
            state.blocks.retain(|other| !replaces.contains(&other.id));
            state.blocks.extend(opened.iter().cloned());
            state
                .blocks
                .sort_by_key(|block| (block.footer.first_ms, block.id));
            state.sealed = state.sealed.max(sealed.unwrap_or(0));
        }
        // Before the files are removed: a row without a file means that the file was deleted externally.
        self.manifest
            .record(opened.iter().map(AsRef::as_ref), replaces);
        self.forget(replaces);
        self.sweep().map_err(MaintenanceError::RemoveBlocks)
    }

    /// Removes blocks.
    ///
    /// # Errors
    /// A file can't be removed. The block is no longer visible in any case.
    pub(crate) fn remove(&self, ids: &[u64]) -> io::Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        write(&self.state)
            .blocks
            .retain(|block| !ids.contains(&block.id));
        self.manifest.record(std::iter::empty(), ids);
        self.forget(ids);
        self.sweep()
    }

    fn forget(&self, ids: &[u64]) {
        for &id in ids {
            self.caches.chunks.forget(id);
            self.caches.indexes.forget(id);
        }
    }

    /// Removes the files of blocks that are not in the list: those that were replaced or are too old,
    /// and complete ones whose directory could not be synced. The removals are durable when this returns, including
    /// those that an earlier call could not sync. The caller holds the maintenance lock, so no block is being written.
    ///
    /// # Errors
    /// A file can't be removed, or the directory can't be synced.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if self.is_stray(&path) {
                self.unsynced.store(true, Ordering::Relaxed);
                files::remove_if_there(&path)?;
            }
        }
        if self.unsynced.load(Ordering::Relaxed) {
            files::sync_directory(&self.directory)?;
            self.unsynced.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    fn is_stray(&self, path: &Path) -> bool {
        let Some((id, ..)) = parse_name(path) else {
            return false;
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let state = read(&self.state);
        // A damaged block that could not be moved stays in place.
        !state.blocks.iter().any(|block| block.id == id)
            && !state.quarantined.iter().any(|one| one.name == name)
    }

    /// The blocks with samples in a range of time, oldest first.
    pub(crate) fn overlapping(&self, start_ms: i64, end_ms: i64) -> Vec<Arc<Block>> {
        self.overlapping_and_sealed(start_ms, end_ms).0
    }

    /// Returns the same, and the last seal whose samples are all in them.
    pub(crate) fn overlapping_and_sealed(
        &self,
        start_ms: i64,
        end_ms: i64,
    ) -> (Vec<Arc<Block>>, u64) {
        let state = read(&self.state);
        let blocks = state.blocks.iter();
        let found = blocks
            .filter(|block| block.overlaps(start_ms, end_ms))
            .cloned()
            .collect();
        (found, state.sealed)
    }

    /// The last seal whose blocks are in the list.
    pub(crate) fn sealed(&self) -> u64 {
        read(&self.state).sealed
    }

    /// All blocks, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Block>> {
        read(&self.state).blocks.clone()
    }

    /// Returns the damaged blocks whose time range overlaps the given one.
    pub(crate) fn quarantined(&self, start_ms: i64, end_ms: i64) -> Vec<Quarantined> {
        let state = read(&self.state);
        let all = state.quarantined.iter();
        all.filter(|one| one.first_ms <= end_ms && one.last_ms >= start_ms)
            .cloned()
            .collect()
    }

    /// Returns the number of blocks that the manifest has and the directory lacks.
    pub(crate) fn missing(&self) -> u64 {
        read(&self.state).missing
    }

    /// Bytes of memory in the caches.
    pub(crate) fn cache_bytes(&self) -> usize {
        self.caches.chunks.bytes() + self.caches.indexes.bytes()
    }

    /// The latest sample of all blocks.
    pub(crate) fn last_ms(&self) -> Option<i64> {
        let state = read(&self.state);
        state.blocks.iter().map(|block| block.footer.last_ms).max()
    }
}
