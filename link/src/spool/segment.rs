//! Segment files: a header and records.
//!
//! ```text
//! header   magic "TDMSPL01" | index u64 | flags u64 | crc32c of the 24 bytes u32 | 0 u32
//! record   len u32 | crc32c of kind and body u32 | kind u8 | body (len bytes)
//! tick     sequence u64 | timestamp_ms i64 | payload
//! ```
//! All numbers little-endian. A segment is named by its index, 20 digits and `.seg`; indexes ascend by one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use common::limits::FRAME_BYTES_MAX;

const MAGIC: &[u8; 8] = b"TDMSPL01";
/// Size of the header.
pub const HEADER_BYTES: u64 = 32;
const RECORD_HEAD_BYTES: usize = 9;
/// Size of a tick's fields before its payload.
const TICK_HEAD_BYTES: usize = 16;
/// Flag: the snapshot equals the state at the end of the previous segment.
const CONTINUES: u64 = 1;

/// RecordKind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// Part of the snapshot's schema; the first part resets the reader.
    SnapshotSchema = 1,
    /// End of the snapshot: the state that the next tick is encoded against.
    SnapshotBase = 2,
    /// Schema changes of the tick that follows.
    Schema = 3,
    /// A tick.
    Tick = 4,
}

impl RecordKind {
    const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::SnapshotSchema,
            2 => Self::SnapshotBase,
            3 => Self::Schema,
            4 => Self::Tick,
            _ => return None,
        })
    }
}

/// Returns the path of a segment.
#[must_use]
pub fn path(directory: &Path, index: u64) -> PathBuf {
    directory.join(format!("{index:020}.seg"))
}

/// Parses the index from a segment's file name.
#[must_use]
pub fn index_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// Encodes the header of a segment.
#[must_use]
pub fn header(index: u64, continues: bool) -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&index.to_le_bytes());
    let flags = if continues { CONTINUES } else { 0 };
    header[16..24].copy_from_slice(&flags.to_le_bytes());
    let crc = crc32c::crc32c(&header[..24]);
    header[24..28].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Reads a header. Returns whether the segment continues the previous one; `None` when the header is invalid.
///
/// # Errors
/// The file cannot be read.
pub fn read_header(file: &File, index: u64) -> io::Result<Option<bool>> {
    let mut header_bytes = [0; HEADER_BYTES as usize];
    match file.read_exact_at(&mut header_bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let continues = [false, true].into_iter();
    Ok(continues
        .map(|continues| (continues, header(index, continues)))
        .find_map(|(continues, header)| (header == header_bytes).then_some(continues)))
}

/// Appends a record whose body is written by `fill`.
pub fn put_record(out: &mut Vec<u8>, kind: RecordKind, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEAD_BYTES]);
    out[start + 8] = kind as u8;
    fill(out);
    let len = (out.len() - start - RECORD_HEAD_BYTES) as u32;
    let crc = crc32c::crc32c(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Body of a tick record.
#[derive(Debug, Clone, Copy)]
pub struct Tick<'a> {
    /// Sequence.
    pub sequence: u64,
    /// Start of the tick, milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Values; see [`common::wire::samples`].
    pub payload: &'a [u8],
}

/// Appends the fields before a tick's payload.
pub fn put_tick_head(out: &mut Vec<u8>, sequence: u64, timestamp_ms: i64) {
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&timestamp_ms.to_le_bytes());
}

/// Splits the body of a tick record; `None` when it is too short.
#[must_use]
pub fn split_tick(body: &[u8]) -> Option<Tick<'_>> {
    let (head, payload) = body.split_first_chunk::<TICK_HEAD_BYTES>()?;
    let (sequence, timestamp_ms) = head.split_first_chunk::<8>()?;
    Some(Tick {
        sequence: u64::from_le_bytes(*sequence),
        timestamp_ms: i64::from_le_bytes(timestamp_ms.try_into().ok()?),
        payload,
    })
}

/// Result of reading at an offset of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadRecord {
    /// A valid record.
    Record {
        /// Its kind; its body is in the buffer.
        kind: RecordKind,
        /// Offset of the next record.
        next: u64,
    },
    /// A record with a plausible length but a wrong checksum or kind.
    Corrupt {
        /// Offset of the next record.
        next: u64,
    },
    /// No complete record before `end`, or an implausible length.
    End,
}

/// Reads the record at offset `at` into `body`; nothing at or after `end` is read.
///
/// # Errors
/// The file cannot be read.
pub fn read_record(file: &File, at: u64, end: u64, body: &mut Vec<u8>) -> io::Result<ReadRecord> {
    body.clear();
    let mut head = [0; RECORD_HEAD_BYTES];
    if end.saturating_sub(at) < RECORD_HEAD_BYTES as u64 {
        return Ok(ReadRecord::End);
    }
    file.read_exact_at(&mut head, at)?;
    let [l0, l1, l2, l3, c0, c1, c2, c3, kind] = head;
    let len = u32::from_le_bytes([l0, l1, l2, l3]);
    let crc = u32::from_le_bytes([c0, c1, c2, c3]);
    let next = at + RECORD_HEAD_BYTES as u64 + u64::from(len);
    if len as usize > FRAME_BYTES_MAX || next > end {
        return Ok(ReadRecord::End);
    }
    body.resize(len as usize, 0);
    file.read_exact_at(body, at + RECORD_HEAD_BYTES as u64)?;
    let kind_of = RecordKind::from_u8(kind);
    match kind_of {
        Some(kind_of) if crc32c::crc32c_append(crc32c::crc32c(&[kind]), body) == crc => {
            Ok(ReadRecord::Record {
                kind: kind_of,
                next,
            })
        }
        _ => Ok(ReadRecord::Corrupt { next }),
    }
}

/// Result of scanning a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scan {
    /// Offset after the last valid record.
    pub end: u64,
    /// Sequence of the first tick.
    pub first_sequence: Option<u64>,
    /// Sequence of the last tick.
    pub last_sequence: Option<u64>,
    /// Number of ticks.
    pub ticks: u64,
    /// Corrupt records before the last valid one.
    pub corrupt: u64,
}

/// Scans a segment of `len` bytes. Bytes after [`Scan::end`] are a torn tail.
///
/// # Errors
/// The file cannot be read.
pub fn scan(file: &File, len: u64) -> io::Result<Scan> {
    let mut scan = Scan {
        end: HEADER_BYTES,
        ..Scan::default()
    };
    let mut body = Vec::new();
    let mut at = HEADER_BYTES;
    let mut corrupt = 0;
    loop {
        match read_record(file, at, len, &mut body)? {
            ReadRecord::Record { kind, next } => {
                if let (RecordKind::Tick, Some(tick)) = (kind, split_tick(&body)) {
                    scan.first_sequence.get_or_insert(tick.sequence);
                    scan.last_sequence = Some(tick.sequence);
                    scan.ticks += 1;
                }
                (at, scan.end) = (next, next);
                scan.corrupt = corrupt;
            }
            ReadRecord::Corrupt { next } => {
                corrupt += 1;
                at = next;
            }
            ReadRecord::End => return Ok(scan),
        }
    }
}
