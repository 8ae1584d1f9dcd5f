//! Checks a data directory that no process has open: every checksum, and that the files agree with each other. It
//! changes nothing in the directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::report::chain;
use nix::fcntl::{Flock, FlockArg};

use crate::block::Block;
use crate::block::cache::Cache;
use crate::block::format::MAGIC;
use crate::block::reader::{BlockError, Caches, Loaded};
use crate::checkpoint;
use crate::index::SeriesId;
use crate::index::view::SeriesIndex as _;
use crate::manifest::{BlockRow, Manifest};
use crate::series_hash::HashKey;
use crate::state::StateDb;
use crate::wal::frame::{self, Found};
use crate::wal::record::{self, Record, RecordError};
use crate::wal::segment;

/// A damaged or inconsistent place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The offset in the file, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Number of files that were read.
    pub files: u64,
    /// Total bytes of these files.
    pub bytes: u64,
    /// Number of records in the log and in checkpoints.
    pub records: u64,
    /// Number of chunks in blocks.
    pub chunks: u64,
    /// Number of samples in these chunks.
    pub samples: u64,
    /// Damage, in the order of the files.
    pub damage: Vec<Damage>,
}

/// Why a directory could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The directory is not a data directory.
    #[error("{0} is no data directory: it has no file \"key\"")]
    NoData(String),
    /// A process has the directory open.
    #[error("{0} is in use: stop the aggregator, or check a snapshot")]
    InUse(String),
    /// A file can't be read.
    #[error("read {path}")]
    Io {
        /// The file or directory.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Checks the data directory `directory`. Calls `progress` with the bytes read so far and the total bytes.
///
/// # Errors
/// See [`VerifyError`]; damage is not an error.
pub fn verify(
    directory: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verified, VerifyError> {
    let path = directory.join("key");
    if !path.try_exists().map_err(io_in(&path))? {
        return Err(VerifyError::NoData(directory.display().to_string()));
    }
    let _lock = lock(directory)?;
    let mut check = Check {
        directory,
        verified: Verified::default(),
        total: total_bytes(directory)?,
        progress,
    };
    let bytes = check.read(&path)?;
    let Some(key) = HashKey::parse(&bytes) else {
        check.damaged(&path, 0, "checksum of the key does not hold");
        // Without the key, sound data can't be distinguished from damage.
        return Ok(check.verified);
    };
    check.checkpoints(key.seed())?;
    check.log(key.seed())?;
    let blocks = check.blocks(key)?;
    check.manifest(&blocks)?;
    Ok(check.verified)
}

fn io_in(path: &Path) -> impl FnOnce(io::Error) -> VerifyError {
    let path = path.display().to_string();
    |source| VerifyError::Io { path, source }
}

/// Keeps an aggregator from starting during the check. A directory without a lock file was never open: it is a
/// snapshot.
fn lock(directory: &Path) -> Result<Option<Flock<File>>, VerifyError> {
    let path = directory.join("lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_in(&path)(error)),
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
            Err(VerifyError::InUse(directory.display().to_string()))
        }
        Err((_, errno)) => Err(io_in(&path)(errno.into())),
    }
}

fn files_in(directory: &Path) -> Result<Vec<PathBuf>, VerifyError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_in(directory)(error)),
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|one| Ok(one?.path())).collect();
    let mut paths = paths.map_err(io_in(directory))?;
    paths.sort();
    Ok(paths)
}

fn total_bytes(directory: &Path) -> Result<u64, VerifyError> {
    let mut total = 0;
    for folder in ["wal", "blocks"] {
        for path in files_in(&directory.join(folder))? {
            total += fs::metadata(&path).map_err(io_in(&path))?.len();
        }
    }
    Ok(total)
}

struct Check<'c> {
    directory: &'c Path,
    verified: Verified,
    total: u64,
    progress: &'c mut dyn FnMut(u64, u64),
}

impl Check<'_> {
    fn damaged(&mut self, path: &Path, offset: u64, what: impl Into<String>) {
        self.verified.damage.push(Damage {
            path: path.to_path_buf(),
            offset,
            what: what.into(),
        });
    }

    fn count(&mut self, bytes: u64) {
        self.verified.files += 1;
        self.verified.bytes += bytes;
        let total = self.total.max(self.verified.bytes);
        (self.progress)(self.verified.bytes, total);
    }

    fn read(&mut self, path: &Path) -> Result<Vec<u8>, VerifyError> {
        let bytes = fs::read(path).map_err(io_in(path))?;
        self.count(bytes.len() as u64);
        Ok(bytes)
    }

    fn checkpoints(&mut self, seed: u32) -> Result<(), VerifyError> {
        for name in checkpoint::NAMES {
            let path = self.directory.join(name);
            if !path.try_exists().map_err(io_in(&path))? {
                continue;
            }
            let bytes = self.read(&path)?;
            let mut last = None;
            let mut first = None;
            self.records(&path, &bytes, 0, seed, &mut |_, record| {
                let kind = match record {
                    Some(Record::Checkpoint { .. }) => "begin",
                    Some(Record::End) => "end",
                    _ => "other",
                };
                first.get_or_insert(kind);
                last = Some(kind);
            });
            if (first, last) != (Some("begin"), Some("end")) {
                self.damaged(&path, bytes.len() as u64, "checkpoint is not whole");
            }
        }
        Ok(())
    }

    /// Checks the records from `at` on; returns the end of the last sound one.
    fn records(
        &mut self,
        path: &Path,
        bytes: &[u8],
        mut at: usize,
        seed: u32,
        each: &mut dyn FnMut(u64, Option<&Record<'_>>),
    ) -> usize {
        let mut sound_end = at;
        while at < bytes.len() {
            match frame::find(bytes.get(at..).unwrap_or(&[]), seed) {
                Found::Record {
                    number,
                    payload,
                    bytes: length,
                } => {
                    self.verified.records += 1;
                    let decoded = record::decode(payload);
                    match &decoded {
                        Ok(Record::Rows(rows)) if rows.unpack(&mut Vec::new()).is_err() => {
                            self.damaged(path, at as u64, "rows do not decompress");
                        }
                        Ok(_) => {}
                        Err(RecordError::Malformed(_)) => {
                            self.damaged(path, at as u64, "record is malformed");
                        }
                        Err(
                            error @ (RecordError::UnknownType(_) | RecordError::UnknownKind(_)),
                        ) => {
                            self.damaged(path, at as u64, chain(error));
                        }
                    }
                    each(number, decoded.as_ref().ok());
                    at += length;
                    sound_end = at;
                }
                Found::DamagedPayload {
                    number,
                    bytes: length,
                } => {
                    let what = format!("checksum of record {number} does not hold");
                    self.damaged(path, at as u64, what);
                    at += length;
                }
                Found::Cut => {
                    self.damaged(path, at as u64, "record is cut off");
                    at = frame::next_marker(bytes, at + 1).unwrap_or(bytes.len());
                }
                Found::Nothing => {
                    self.damaged(path, at as u64, "no record where one must begin");
                    at = frame::next_marker(bytes, at + 1).unwrap_or(bytes.len());
                }
            }
        }
        sound_end
    }

    fn log(&mut self, seed: u32) -> Result<(), VerifyError> {
        let directory = self.directory.join("wal");
        let segments = match segment::list(&directory) {
            Ok(segments) => segments,
            // A snapshot has no log.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_in(&directory)(error)),
        };
        let mut expected: Option<u64> = None;
        for one in &segments {
            let bytes = self.read(&one.path)?;
            if let Some(expected) = expected.filter(|&expected| one.first > expected) {
                let last = one.first - 1;
                self.damaged(
                    &one.path,
                    0,
                    format!("records {expected} to {last} are missing"),
                );
            }
            if !bytes.starts_with(segment::MAGIC) {
                self.damaged(&one.path, 0, "no segment of the log");
            }
            let mut next = one.first;
            let mut gaps = Vec::new();
            let start = segment::MAGIC.len();
            self.records(&one.path, &bytes, start, seed, &mut |number, _| {
                if number > next {
                    gaps.push((next, number - 1));
                }
                next = next.max(number + 1);
            });
            for (first, last) in gaps {
                self.damaged(
                    &one.path,
                    0,
                    format!("records {first} to {last} are missing"),
                );
            }
            expected = Some(next);
        }
        Ok(())
    }

    /// Checks the blocks; returns what the manifest should contain about them.
    fn blocks(&mut self, key: HashKey) -> Result<BTreeMap<u64, BlockRow>, VerifyError> {
        let mut found = BTreeMap::new();
        for path in files_in(&self.directory.join("blocks"))? {
            if path.extension().is_some_and(|extension| extension == "tmp") {
                // Left by a crash; the next start removes it.
                continue;
            }
            let Some((id, first_ms, last_ms)) = crate::block::block_list::parse_name(&path) else {
                self.damaged(&path, 0, "file has no name of a block");
                continue;
            };
            let caches = Arc::new(Caches {
                chunks: Cache::new(0),
                indexes: Cache::new(0),
            });
            let bytes = fs::metadata(&path).map_err(io_in(&path))?.len();
            match Block::open(&path, id, key, caches) {
                Ok(block) => {
                    if (block.footer.first_ms, block.footer.last_ms) != (first_ms, last_ms) {
                        self.damaged(&path, bytes, "name says another time than the footer");
                    }
                    found.insert(id, BlockRow::of(&block));
                    self.block(&block)?;
                }
                Err(error) => self.block_error(&path, bytes, error)?,
            }
            self.count(bytes);
        }
        Ok(found)
    }

    fn block_error(
        &mut self,
        path: &Path,
        offset: u64,
        error: BlockError,
    ) -> Result<(), VerifyError> {
        match error {
            BlockError::Damaged(part) => {
                self.damaged(path, offset, format!("{part} is damaged"));
                Ok(())
            }
            error @ BlockError::Unsupported { .. } => {
                self.damaged(path, offset, chain(&error));
                Ok(())
            }
            BlockError::Read(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                self.damaged(path, offset, "file is cut off");
                Ok(())
            }
            BlockError::Read(source) => Err(io_in(path)(source)),
        }
    }

    fn block(&mut self, block: &Block) -> Result<(), VerifyError> {
        let path = block.path.clone();
        let magic = block.magic().map_err(io_in(&path))?;
        if magic != MAGIC {
            self.damaged(&path, 0, "file does not begin as a block does");
        }
        let sections = block.footer.sections;
        if let Err(error) = block.replaces() {
            self.block_error(&path, sections[3].offset, error)?;
        }
        let loaded = match block.load() {
            Ok(loaded) => loaded,
            Err(error) => return self.block_error(&path, sections[0].offset, error),
        };
        let samples = self.chunks(block, &loaded)?;
        if samples.is_some_and(|samples| samples != block.footer.samples) {
            let footer = block.footer.samples;
            let what = format!("footer says {footer} samples, chunks have {samples:?}");
            self.damaged(&path, block.file_bytes, what);
        }
        Ok(())
    }

    /// Checks each chunk; returns the number of samples, or `None` if one is damaged.
    fn chunks(&mut self, block: &Block, loaded: &Loaded) -> Result<Option<u64>, VerifyError> {
        let path = &block.path;
        let mut sum = Some(0);
        let (mut scratch, mut times, mut values) = (Vec::new(), Vec::new(), Vec::<f64>::new());
        for (number, entry) in (0..).zip(&loaded.directory) {
            let chunk = match block.chunk(loaded, number, false) {
                Ok(chunk) => chunk,
                Err(error) => {
                    sum = None;
                    let series = loaded.index.labels(SeriesId(entry.first_series));
                    let error = match error {
                        BlockError::Damaged(part) => {
                            let columns = entry.columns;
                            let what =
                                format!("{part} of {columns} series from {series} on is damaged");
                            self.damaged(path, entry.offset, what);
                            continue;
                        }
                        error => error,
                    };
                    self.block_error(path, entry.offset, error)?;
                    continue;
                }
            };
            self.verified.chunks += 1;
            let (first, last) = (chunk.times_ms().first(), chunk.times_ms().last());
            if (first, last) != (Some(&entry.first_ms), Some(&entry.last_ms)) {
                self.damaged(
                    path,
                    entry.offset,
                    "chunk has other times than the directory says",
                );
            }
            let mut samples = 0;
            for column in 0..entry.columns as usize {
                times.clear();
                values.clear();
                chunk.samples(column, &mut scratch, &mut times, &mut values);
                samples += times.len() as u64;
            }
            self.verified.samples += samples;
            sum = sum.map(|sum| sum + samples);
        }
        Ok(sum)
    }

    /// Compares the blocks with the manifest. Works on a copy, because the database changes its files when it is
    /// opened.
    fn manifest(&mut self, blocks: &BTreeMap<u64, BlockRow>) -> Result<(), VerifyError> {
        let database = self.directory.join("state.sled");
        if !database.try_exists().map_err(io_in(&database))? {
            return Ok(());
        }
        let copy = std::env::temp_dir().join(format!("tidemark-verify-{}", std::process::id()));
        let compared = self.compare(&database, &copy, blocks);
        match fs::remove_dir_all(&copy) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_in(&copy)(error)),
            _ => compared,
        }
    }

    fn compare(
        &mut self,
        database: &Path,
        copy: &Path,
        blocks: &BTreeMap<u64, BlockRow>,
    ) -> Result<(), VerifyError> {
        let target = copy.join("state.sled");
        fs::create_dir_all(&target).map_err(io_in(&target))?;
        for path in files_in(database)? {
            if path.is_file() {
                let name = path.file_name().unwrap_or_default();
                fs::copy(&path, target.join(name)).map_err(io_in(&path))?;
            }
        }
        let state = StateDb::open(copy);
        let aside = copy.join("state.sled.damaged");
        if aside.try_exists().map_err(io_in(&aside))? {
            self.damaged(
                database,
                0,
                "database is damaged; it is filled again at the next start",
            );
        }
        match state.damaged_values() {
            Ok(tables) => {
                for (table, count) in tables {
                    let what = format!("checksums of {count} values of table {table} do not hold");
                    self.damaged(database, 0, what);
                }
            }
            Err(error) => self.damaged(database, 0, chain(&error)),
        }
        let known = Manifest::new(state.table("blocks")).blocks();
        for (id, row) in known {
            match blocks.get(&id) {
                Some(there) if *there == row => {}
                Some(_) => {
                    let what = format!("block {id:016x} is another than the manifest says");
                    self.damaged(database, 0, what);
                }
                None => {
                    let what = format!("block {id:016x} of the manifest is missing in blocks/");
                    self.damaged(database, 0, what);
                }
            }
        }
        Ok(())
    }
}
