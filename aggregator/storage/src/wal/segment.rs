//! Segment files, named after the number of their first record. The names show order and gaps.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use common::report::chain;

use crate::disk::File;
use crate::files;

/// The first bytes of a segment.
pub(crate) const MAGIC: &[u8; 8] = b"TDMWAL\x00\x01";
const EXTENSION: &str = "wal";

/// A segment on disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Segment {
    /// The number of its first record.
    pub(crate) first: u64,
    pub(crate) path: PathBuf,
}

/// Returns the segments of a log, in order.
///
/// # Errors
/// The directory can't be read.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_segment = path.extension().is_some_and(|e| e == EXTENSION);
        let first = path.file_stem().and_then(|s| s.to_str()?.parse().ok());
        if let (true, Some(first)) = (is_segment, first) {
            segments.push(Segment { first, path });
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Removes the segments without a record at or above `keep`; returns how many it removed.
///
/// # Errors
/// A file can't be removed.
pub(crate) fn remove_before(directory: &Path, keep: u64) -> io::Result<usize> {
    let segments = list(directory)?;
    let mut removed = 0;
    for pair in segments.windows(2) {
        if pair[1].first <= keep {
            files::remove_if_there(&pair[0].path)?;
            removed += 1;
        }
    }
    if removed > 0 {
        files::sync_directory(directory)?;
    }
    Ok(removed)
}

/// A segment that is being written.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    file: File,
    /// Bytes that were written completely.
    written_bytes: u64,
    /// Those of the written bytes that are synced.
    durable_bytes: u64,
}

impl SegmentWriter {
    /// Creates the segment that begins with record `first`; its name is durable when this returns.
    ///
    /// # Errors
    /// The file can't be created or synced.
    pub(super) fn create(directory: &Path, first: u64) -> io::Result<Self> {
        let path = directory.join(format!("{first:020}.{EXTENSION}"));
        let mut file = File::create(&path)?;
        let made = file
            .write_all(MAGIC)
            .and_then(|()| file.sync_all())
            .and_then(|()| files::sync_directory(directory));
        if let Err(error) = made {
            files::remove_if_there(&path)?;
            return Err(error);
        }
        Ok(Self {
            file,
            written_bytes: MAGIC.len() as u64,
            durable_bytes: MAGIC.len() as u64,
        })
    }

    /// Writes bytes. After an error, any part of them that was written is cut off, and the segment must not be used
    /// again.
    ///
    /// # Errors
    /// The bytes are not written.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            self.cut_back(self.written_bytes);
            return Err(error);
        }
        self.written_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Syncs all written bytes. After an error, the segment is cut back to its durable bytes and must not be used
    /// again: the kernel may have dropped the pages after the failed sync, and a second sync would wrongly succeed.
    ///
    /// # Errors
    /// Bytes written since the last sync are not on disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if let Err(error) = self.file.sync_data() {
            self.cut_back(self.durable_bytes);
            return Err(error);
        }
        self.durable_bytes = self.written_bytes;
        Ok(())
    }

    fn cut_back(&self, length: u64) {
        let cut = self
            .file
            .set_len(length)
            .and_then(|()| self.file.sync_all());
        if let Err(error) = cut {
            tracing::warn!(
                error = chain(&error),
                "cut back a log segment after a failed write"
            );
        }
    }

    /// Returns the number of bytes written.
    pub(super) const fn bytes(&self) -> u64 {
        self.written_bytes
    }
}
