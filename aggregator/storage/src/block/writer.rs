//! Writes a block: the series in order with their samples, then the index, then the final name.

use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use common::model::Labels;
use common::report::chain;

use super::format::{
    ChunkEntry, Footer, MAGIC, SECTIONS, Section, file_bytes_min, write_directory,
};
use super::index::IndexWriter;
use super::slice::{COLUMNS, Samples, SliceEncoder};
use crate::bytes::put_varint;
use crate::disk::{self, File};
use crate::files;
use crate::value_kind::ValueKind;

/// The zstd level of sections, which are written once and read often.
const LEVEL: i32 = 3;
const BUFFER_BYTES: usize = 1 << 20;

/// A block that is being written. If it is dropped before it is finished, its file is removed.
#[derive(Debug)]
pub(crate) struct BlockWriter {
    temporary: PathBuf,
    file: BufWriter<File>,
    offset: u64,
    index: IndexWriter,
    directory: Vec<ChunkEntry>,
    encoder: SliceEncoder,
    slice: Vec<Samples>,
    /// The number of used entries in the slice.
    filled: usize,
    footer: Footer,
    finished: bool,
}

impl BlockWriter {
    /// Begins a block that will be `directory/<name>`.
    ///
    /// # Errors
    /// The file can't be made.
    pub(crate) fn create(directory: &Path, id: u64) -> io::Result<Self> {
        let temporary = directory.join(format!("{id:016x}.tmp"));
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, File::create(&temporary)?);
        file.write_all(&MAGIC)?;
        Ok(Self {
            temporary,
            file,
            offset: MAGIC.len() as u64,
            index: IndexWriter::default(),
            directory: Vec::new(),
            encoder: SliceEncoder::default(),
            slice: Vec::new(),
            filled: 0,
            footer: Footer {
                first_ms: i64::MAX,
                last_ms: i64::MIN,
                ..Footer::default()
            },
            finished: false,
        })
    }

    /// Begins a group of series.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn group(&mut self, key: &str) -> io::Result<()> {
        self.flush_slice()?;
        self.index.group(key);
        Ok(())
    }

    /// Adds a series with its samples, at least one. Swaps `samples` with an empty list.
    ///
    /// # Errors
    /// The file can't be written, or the block is full.
    pub(crate) fn push(&mut self, labels: &Labels, samples: &mut Samples) -> io::Result<()> {
        if self.filled == COLUMNS {
            self.flush_slice()?;
        }
        self.index.push(labels).map_err(io::Error::other)?;
        if self.filled == self.slice.len() {
            self.slice.push(Samples::default());
        }
        self.footer.samples += samples.times_ms.len() as u64;
        std::mem::swap(&mut self.slice[self.filled], samples);
        samples.clear();
        self.filled += 1;
        Ok(())
    }

    /// Adds series whose chunks are copied from another block.
    ///
    /// # Errors
    /// See [`Self::push`].
    pub(crate) fn begin_copy(&mut self, series: impl Iterator<Item = Labels>) -> io::Result<()> {
        self.flush_slice()?;
        for labels in series {
            self.index.push(&labels).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Adds a chunk of the last series of [`Self::begin_copy`]. `entry` describes `bytes`, except for their position.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn copy_chunk(
        &mut self,
        entry: &ChunkEntry,
        samples: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.directory.push(ChunkEntry {
            first_series: self.index.len() - entry.columns,
            offset: self.offset,
            ..*entry
        });
        self.offset += bytes.len() as u64;
        self.footer.samples += samples;
        self.footer.first_ms = self.footer.first_ms.min(entry.first_ms);
        self.footer.last_ms = self.footer.last_ms.max(entry.last_ms);
        Ok(())
    }

    /// Samples so far.
    pub(crate) const fn samples(&self) -> u64 {
        self.footer.samples
    }

    fn flush_slice(&mut self) -> io::Result<()> {
        let first = self.index.len() - self.filled as u32;
        let slice = &self.slice[..self.filled];
        let (file, offset) = (&mut self.file, &mut self.offset);
        let (directory, footer) = (&mut self.directory, &mut self.footer);
        self.encoder.encode(slice, &mut |chunk| {
            file.write_all(chunk.bytes)?;
            directory.push(ChunkEntry {
                first_series: first + chunk.first as u32,
                columns: chunk.columns as u32,
                kind: ValueKind::Float.code(),
                first_ms: chunk.first_ms,
                last_ms: chunk.last_ms,
                offset: *offset,
                bytes: u32::try_from(chunk.bytes.len()).map_err(io::Error::other)?,
                crc: crc32c::crc32c(chunk.bytes),
            });
            *offset += chunk.bytes.len() as u64;
            footer.first_ms = footer.first_ms.min(chunk.first_ms);
            footer.last_ms = footer.last_ms.max(chunk.last_ms);
            Ok::<(), io::Error>(())
        })?;
        self.filled = 0;
        Ok(())
    }

    fn section(&mut self, bytes: &[u8]) -> io::Result<Section> {
        let stored = zstd::bulk::compress(bytes, LEVEL)?;
        self.file.write_all(&stored)?;
        let section = Section {
            offset: self.offset,
            stored: u32::try_from(stored.len()).map_err(io::Error::other)?,
            unpacked: u32::try_from(bytes.len()).map_err(io::Error::other)?,
            crc: crc32c::crc32c(&stored),
        };
        self.offset += stored.len() as u64;
        Ok(section)
    }

    /// Pads the file to this length with unused bytes.
    fn fill(&mut self, file_bytes: u64) -> io::Result<()> {
        let missing = file_bytes.saturating_sub(self.offset);
        io::copy(&mut io::repeat(0).take(missing), &mut self.file)?;
        self.offset += missing;
        Ok(())
    }

    /// Writes the index and renames the file. The block is durable when this returns. `replaces` are the blocks that
    /// were merged into this one, which are void once it exists.
    ///
    /// # Errors
    /// The file can't be written; then there is no block.
    pub(crate) fn finish(mut self, level: u64, replaces: &[u64]) -> io::Result<PathBuf> {
        self.flush_slice()?;
        self.directory
            .sort_by_key(|chunk| (chunk.first_series, chunk.first_ms));
        let (series, symbols) = self.index.finish();
        let mut origin = Vec::new();
        put_varint(&mut origin, replaces.len() as u64);
        for &id in replaces {
            put_varint(&mut origin, id);
        }
        let directory = write_directory(&self.directory);
        let largest = [&directory, &series, &symbols].map(|bytes| bytes.len() as u64);
        let largest = largest.into_iter().fold(self.index.text_bytes(), u64::max);
        let mut sections = [Section::default(); SECTIONS];
        for (section, bytes) in sections
            .iter_mut()
            .zip([directory, series, symbols, origin])
        {
            *section = self.section(&bytes)?;
        }
        self.fill(file_bytes_min(largest))?;
        self.footer.sections = sections;
        self.footer.level = level;
        self.footer.series = self.index.len();
        self.footer.chunks = self.directory.len() as u32;
        self.file.write_all(&self.footer.to_bytes())?;
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        let name = format!("_{}_{}.blk", self.footer.first_ms, self.footer.last_ms);
        let stem = self.temporary.file_stem().unwrap_or_default();
        let mut full = stem.to_os_string();
        full.push(name);
        let path = self.temporary.with_file_name(full);
        disk::rename(&self.temporary, &path)?;
        self.finished = true;
        path.parent().map_or(Ok(()), files::sync_directory)?;
        Ok(path)
    }
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = files::remove_if_there(&self.temporary)
        {
            tracing::warn!(error = chain(&error), path = %self.temporary.display(), "remove unfinished block");
        }
    }
}
