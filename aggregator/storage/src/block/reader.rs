//! An open block.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cache::Cache;
use super::format::{
    ChunkEntry, FOOTER_BYTES, Footer, Section, read_directory, unpacked_bytes_max,
};
use super::index::BlockIndex;
use crate::bytes::{Malformed, Reader};
use crate::codec::Chunk;
use crate::codec::chunk::COLUMNS_MAX;
use crate::disk::{File, read_exact_at};
use crate::index::SeriesId;
use crate::series_hash::{HashKey, SeriesHash};
use crate::value_kind::{UnknownKind, ValueKind};

/// Why a part of a block can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The file can't be read.
    #[error("read block file")]
    Read(#[from] io::Error),
    /// A part of the file is damaged: its checksum or its content is wrong.
    #[error("{0} is damaged")]
    Damaged(&'static str),
    /// A newer version wrote a chunk whose values this version can't read. The other chunks are readable.
    #[error("chunk at offset {offset}")]
    Unsupported {
        /// Where the chunk is in the file.
        offset: u64,
        /// The kind of its values.
        #[source]
        kind: UnknownKind,
    },
}

/// The index of a block and the directory of its chunks.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) index: BlockIndex,
    pub(crate) directory: Vec<ChunkEntry>,
}

/// The caches of decoded parts of blocks.
#[derive(Debug)]
pub(crate) struct Caches {
    pub(crate) chunks: Cache<Chunk>,
    pub(crate) indexes: Cache<Loaded>,
}

/// A block file, open for reading. The file stays readable while a reader holds this, even after it is removed.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) id: u64,
    pub(crate) path: PathBuf,
    pub(crate) footer: Footer,
    pub(crate) file_bytes: u64,
    file: File,
    key: HashKey,
    caches: Arc<Caches>,
}

impl Block {
    /// Opens a block and checks its footer.
    ///
    /// # Errors
    /// The file can't be read, or is not a complete block.
    pub(crate) fn open(
        path: &Path,
        id: u64,
        key: HashKey,
        caches: Arc<Caches>,
    ) -> Result<Self, BlockError> {
        let file = File::open(path)?;
        let file_bytes = file.metadata()?.len();
        let at = file_bytes
            .checked_sub(FOOTER_BYTES as u64)
            .ok_or(BlockError::Damaged("footer"))?;
        let mut bytes = vec![0; FOOTER_BYTES];
        read_exact_at(&file, &mut bytes, at)?;
        let footer =
            Footer::parse(&bytes, at).map_err(|Malformed| BlockError::Damaged("footer"))?;
        Ok(Self {
            id,
            path: path.to_path_buf(),
            footer,
            file_bytes,
            file,
            key,
            caches,
        })
    }

    /// The first bytes of the file.
    ///
    /// # Errors
    /// They can't be read.
    pub(crate) fn magic(&self) -> io::Result<[u8; 8]> {
        let mut bytes = [0; 8];
        read_exact_at(&self.file, &mut bytes, 0)?;
        Ok(bytes)
    }

    pub(crate) const fn overlaps(&self, start_ms: i64, end_ms: i64) -> bool {
        self.footer.first_ms <= end_ms && self.footer.last_ms >= start_ms
    }

    fn section(&self, number: usize, name: &'static str) -> Result<Vec<u8>, BlockError> {
        let Section {
            offset,
            stored,
            unpacked,
            crc,
        } = self.footer.sections[number];
        let mut bytes = vec![0; stored as usize];
        read_exact_at(&self.file, &mut bytes, offset)?;
        if crc32c::crc32c(&bytes) != crc {
            return Err(BlockError::Damaged(name));
        }
        zstd::bulk::decompress(&bytes, unpacked as usize).map_err(|_| BlockError::Damaged(name))
    }

    /// The index and the directory.
    ///
    /// # Errors
    /// They can't be read or are damaged.
    pub(crate) fn load(&self) -> Result<Arc<Loaded>, BlockError> {
        if let Some(loaded) = self.caches.indexes.get((self.id, 0)) {
            return Ok(loaded);
        }
        let damaged = |name| move |Malformed| BlockError::Damaged(name);
        let directory = self.section(0, "directory")?;
        let directory =
            read_directory(&directory, self.footer.chunks).map_err(damaged("directory"))?;
        let (series, symbols) = (self.section(1, "series")?, self.section(2, "symbols")?);
        let text_bytes_max = unpacked_bytes_max(self.file_bytes);
        let parts = (series.as_slice(), symbols.as_slice());
        let index = BlockIndex::read(parts, self.footer.series, text_bytes_max, &self.key)
            .map_err(damaged("index"))?;
        let fits = |chunk: &ChunkEntry| {
            let end = u64::from(chunk.first_series) + u64::from(chunk.columns);
            end <= u64::from(self.footer.series) && chunk.columns as usize <= COLUMNS_MAX
        };
        if !directory.iter().all(fits) {
            return Err(BlockError::Damaged("directory"));
        }
        let bytes = index.memory_bytes() + directory.len() * size_of::<ChunkEntry>();
        let loaded = Arc::new(Loaded { index, directory });
        self.caches
            .indexes
            .insert((self.id, 0), Arc::clone(&loaded), bytes);
        Ok(loaded)
    }

    /// The blocks that this one was merged from.
    ///
    /// # Errors
    /// The section can't be read or is damaged.
    pub(crate) fn replaces(&self) -> Result<Vec<u64>, BlockError> {
        let bytes = self.section(3, "origin")?;
        let mut reader = Reader::new(&bytes);
        let mut read = || {
            let count = reader.count(1)?;
            (0..count).map(|_| reader.varint()).collect()
        };
        let ids: Result<Vec<u64>, Malformed> = read();
        ids.map_err(|Malformed| BlockError::Damaged("origin"))
    }

    /// Reads a chunk as it is stored into `to`, replacing its content. Returns the kind of its values.
    ///
    /// # Errors
    /// It can't be read or is damaged.
    pub(crate) fn chunk_bytes(
        &self,
        entry: &ChunkEntry,
        to: &mut Vec<u8>,
    ) -> Result<ValueKind, BlockError> {
        let known = entry.kind.kind();
        let kind = known.map_err(|kind| BlockError::Unsupported {
            offset: entry.offset,
            kind,
        })?;
        let end = entry.offset.checked_add(u64::from(entry.bytes));
        if end.is_none_or(|end| end > self.file_bytes) {
            return Err(BlockError::Damaged("directory"));
        }
        to.clear();
        to.resize(entry.bytes as usize, 0);
        read_exact_at(&self.file, to, entry.offset)?;
        if crc32c::crc32c(to) != entry.crc {
            return Err(BlockError::Damaged("chunk"));
        }
        Ok(kind)
    }

    /// Returns a chunk by its number in the directory. `keep` adds it to the cache.
    ///
    /// # Errors
    /// It can't be read or is damaged.
    pub(crate) fn chunk(
        &self,
        loaded: &Loaded,
        number: u32,
        keep: bool,
    ) -> Result<Arc<Chunk>, BlockError> {
        if let Some(chunk) = self.caches.chunks.get((self.id, number)) {
            return Ok(chunk);
        }
        let entry = loaded
            .directory
            .get(number as usize)
            .ok_or(BlockError::Damaged("directory"))?;
        let mut bytes = Vec::new();
        let decoded = match self.chunk_bytes(entry, &mut bytes)? {
            ValueKind::Float => Chunk::decode(&bytes),
        };
        let chunk = decoded.map_err(|Malformed| BlockError::Damaged("chunk"))?;
        let chunk = Arc::new(chunk);
        if keep {
            let bytes = chunk.memory_bytes();
            self.caches
                .chunks
                .insert((self.id, number), Arc::clone(&chunk), bytes);
        }
        Ok(chunk)
    }
}

impl Block {
    /// Returns the bits of a series' sample at a timestamp.
    ///
    /// # Errors
    /// A part of the block can't be read or is damaged.
    pub(crate) fn sample(
        &self,
        series: SeriesHash,
        time_ms: i64,
    ) -> Result<Option<u64>, BlockError> {
        let loaded = self.load()?;
        let Some(id) = loaded.index.find(series) else {
            return Ok(None);
        };
        let (mut scratch, mut times, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (number, column) in loaded.chunks_of(id, time_ms, time_ms) {
            let chunk = self.chunk(&loaded, number, true)?;
            times.clear();
            values.clear();
            chunk.samples(column, &mut scratch, &mut times, &mut values);
            if let Ok(at) = times.binary_search(&time_ms) {
                return Ok(values.get(at).map(|value: &f64| value.to_bits()));
            }
        }
        Ok(None)
    }
}

impl Loaded {
    /// Returns the chunks with samples of a series in a time range, and the column of the series in each, in the
    /// order of the directory.
    pub(crate) fn chunks_of(
        &self,
        series: SeriesId,
        start_ms: i64,
        end_ms: i64,
    ) -> impl Iterator<Item = (u32, usize)> {
        let after = |chunk: &ChunkEntry| chunk.first_series <= series.0;
        let end = self.directory.partition_point(after);
        let first = series.0.saturating_sub(COLUMNS_MAX as u32 - 1);
        let start = self.directory[..end].partition_point(|chunk| chunk.first_series < first);
        (start..end).filter_map(move |number| {
            let chunk = &self.directory[number];
            let column = series.0 - chunk.first_series;
            let holds =
                column < chunk.columns && chunk.first_ms <= end_ms && chunk.last_ms >= start_ms;
            holds.then_some((number as u32, column as usize))
        })
    }
}
