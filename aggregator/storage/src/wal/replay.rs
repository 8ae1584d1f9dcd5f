//! Reads a log back: every sound record in order, despite damage between them.

use std::fs;
use std::io;
use std::path::Path;

use common::report::chain;

use super::frame::{self, Found};
use super::record::RecordError;
use super::segment::{self, MAGIC, Segment};
use crate::{disk, files};

/// The result of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ReplayReport {
    /// The number of the last record; 0 if there is none.
    pub(crate) last: u64,
    /// Number of sound records.
    pub(crate) records: u64,
    /// Number of records known to be lost, from the gaps in the numbers.
    pub(crate) lost: u64,
    /// Bytes after the last sound record of the last segment, from a write that a crash cut short.
    pub(crate) torn_bytes: u64,
    /// Number of segments with damage or with records of a newer version.
    pub(crate) damaged_segments: u64,
    /// Number of records of a newer version, which were skipped.
    pub(crate) unsupported: u64,
}

/// What a replay needs to know about records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordFormat {
    /// The seed of the data directory's checksums.
    pub(crate) seed: u32,
    /// Rejects payloads of a newer version.
    pub(crate) check: fn(&[u8]) -> Result<(), RecordError>,
}

/// The number and payload of a record.
pub(crate) type Numbered<'a> = (u64, &'a [u8]);

/// Reads all segments of `directory` and passes the records of each to `apply`. Cuts off a torn tail, and keeps a copy
/// of each damaged segment in `quarantine`.
///
/// # Errors
/// A file can't be read, or the torn tail can't be cut off.
pub(crate) fn replay(
    directory: &Path,
    quarantine: &Path,
    format: RecordFormat,
    apply: &mut dyn FnMut(&[Numbered<'_>]),
) -> io::Result<ReplayReport> {
    let mut report = ReplayReport::default();
    let segments = segment::list(directory)?;
    for (index, one) in segments.iter().enumerate() {
        let next_first = segments.get(index + 1).map(|next| next.first);
        replay_segment(one, next_first, format, &mut report, apply).and_then(|damaged| {
            if damaged {
                report.damaged_segments += 1;
                keep_copy(&one.path, quarantine)
            } else {
                Ok(())
            }
        })?;
    }
    Ok(report)
}

/// Copies a file to the directory for damaged files.
///
/// # Errors
/// The copy can't be made.
pub(crate) fn keep_copy(path: &Path, quarantine: &Path) -> io::Result<()> {
    files::create_directory(quarantine)?;
    let name = path.file_name().unwrap_or_default();
    disk::copy(path, quarantine.join(name)).map(|_| ())
}

/// Reads one segment; returns whether anything in it is damaged.
fn replay_segment(
    one: &Segment,
    next_first: Option<u64>,
    format: RecordFormat,
    report: &mut ReplayReport,
    apply: &mut dyn FnMut(&[Numbered<'_>]),
) -> io::Result<bool> {
    let bytes = fs::read(&one.path)?;
    let mut at = MAGIC.len();
    let mut sound_end = MAGIC.len();
    let mut damaged = false;
    let mut records = Vec::new();
    let mut unsupported = Unsupported::default();
    // The first record of a segment follows the last one of the segment before.
    let mut expected = one.first;
    while at < bytes.len() {
        match frame::find(bytes.get(at..).unwrap_or(&[]), format.seed) {
            Found::Record {
                number,
                payload,
                bytes: length,
            } => {
                if number > expected {
                    report.lost += number - expected;
                    damaged = true;
                }
                // A number already seen can only come from a segment that was rewritten after a failed
                // commit; its records are the same.
                if number > report.last {
                    report.last = number;
                    report.records += 1;
                    match (format.check)(payload) {
                        Ok(()) => records.push((number, payload)),
                        Err(error) => unsupported.add(at, error),
                    }
                }
                expected = number.max(expected) + 1;
                at += length;
                sound_end = at;
            }
            Found::DamagedPayload { bytes: length, .. } => at += length,
            Found::Cut | Found::Nothing => {
                at = frame::next_marker(&bytes, at + 1).unwrap_or(bytes.len());
            }
        }
    }
    apply(&records);
    if unsupported.log(&one.path) {
        report.unsupported += unsupported.records;
        damaged = true;
    }
    match next_first {
        Some(next) if next > expected => {
            report.lost += next - expected;
            damaged = true;
        }
        Some(_) => {}
        None => cut_tail(one, &bytes, sound_end, report)?,
    }
    if damaged {
        tracing::warn!(segment = %one.path.display(), "log segment is damaged, a copy is kept");
    }
    Ok(damaged)
}

/// The records in one file that a newer version wrote.
#[derive(Debug, Default)]
pub(crate) struct Unsupported {
    pub(crate) records: u64,
    /// The offset of the first one, and why it can't be used.
    first: Option<(usize, RecordError)>,
}

impl Unsupported {
    pub(crate) fn add(&mut self, offset: usize, error: RecordError) {
        self.records += 1;
        self.first.get_or_insert((offset, error));
    }

    /// Logs one line for the file; returns whether there was anything to log.
    pub(crate) fn log(&self, path: &Path) -> bool {
        let Some((offset, error)) = &self.first else {
            return false;
        };
        tracing::error!(
            path = %path.display(),
            offset,
            records = self.records,
            error = chain(error),
            "skip records of a newer version; a copy of the file is kept in corrupt/"
        );
        true
    }
}

/// Cuts off what follows the last sound record of the last segment.
fn cut_tail(
    one: &Segment,
    bytes: &[u8],
    sound_end: usize,
    report: &mut ReplayReport,
) -> io::Result<()> {
    let torn = bytes.len().saturating_sub(sound_end);
    if torn == 0 {
        return Ok(());
    }
    report.torn_bytes = torn as u64;
    tracing::warn!(segment = %one.path.display(), bytes = torn, "cut off the torn end of the log");
    let file = disk::open_for_writing(&one.path)?;
    file.set_len(sound_end as u64)?;
    file.sync_all()?;
    one.path.parent().map_or(Ok(()), files::sync_directory)
}
