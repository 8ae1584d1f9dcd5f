//! Opens what an earlier start left: the lock, the spool's name, and segments that may end in a torn record.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use rand::TryRngCore as _;
use rand::rngs::OsRng;

use super::files::{open_or_create, write_durably};
use super::segment::{self, Scan};
use super::shared::{SegmentInfo, SegmentList};
use super::{SpoolError, SpoolMetrics};

/// Takes the lock, which is released when the file is closed.
pub(super) fn lock(directory: &Path) -> Result<File, SpoolError> {
    let path = directory.join("lock");
    let file = open_or_create(&path).map_err(SpoolError::io("open lock", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SpoolError::Locked {
            path: directory.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(SpoolError::io("lock", &path)(source)),
    }
}

/// Reads or creates `instance` (16 random bytes, the number of starts, a CRC) and counts this start in it.
pub(super) fn begin_start(directory: &Path) -> Result<([u8; 16], u64), SpoolError> {
    let path = directory.join("instance");
    let known = match fs::read(&path) {
        Ok(bytes) => parse_instance(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(SpoolError::io("read spool's name", &path)(source)),
    };
    let (instance, starts) = match known {
        Some(known) => known,
        None => {
            let mut instance = [0; 16];
            OsRng
                .try_fill_bytes(&mut instance)
                .map_err(SpoolError::Random)?;
            (instance, 0)
        }
    };
    let start = starts + 1;
    let mut bytes = instance.to_vec();
    bytes.extend_from_slice(&start.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    write_durably(&path, &bytes).map_err(SpoolError::io("write spool's name", &path))?;
    Ok((instance, start))
}

fn parse_instance(bytes: &[u8]) -> Option<([u8; 16], u64)> {
    let bytes: &[u8; 28] = bytes.try_into().ok()?;
    let (content, crc) = bytes.split_first_chunk::<24>()?;
    if crc32c::crc32c(content).to_le_bytes() != crc {
        return None;
    }
    let (instance, starts) = content.split_first_chunk::<16>()?;
    Some((*instance, u64::from_le_bytes(starts.try_into().ok()?)))
}

/// Lists the segments, all closed: each start begins a new segment.
pub(super) fn find_segments(
    directory: &Path,
    metrics: &SpoolMetrics,
) -> Result<SegmentList, SpoolError> {
    let mut indexes = Vec::new();
    let list_error = |source| SpoolError::io("list spool", directory)(source);
    for entry in fs::read_dir(directory).map_err(list_error)? {
        let name = entry.map_err(list_error)?.file_name();
        indexes.extend(name.to_str().and_then(segment::index_of));
    }
    indexes.sort_unstable();
    let mut list = SegmentList::default();
    for index in indexes {
        let path = segment::path(directory, index);
        list.segments.extend(
            recover(&path, index, metrics)
                .map_err(SpoolError::io("recover spool segment", &path))?,
        );
    }
    Ok(list)
}

/// Scans a segment and cuts off its torn tail; deletes it when it holds no tick.
fn recover(path: &Path, index: u64, metrics: &SpoolMetrics) -> io::Result<Option<SegmentInfo>> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let len = file.metadata()?.len();
    let (continues, scan) = match segment::read_header(&file, index)? {
        Some(continues) => (continues, segment::scan(&file, len)?),
        None => (false, Scan::default()),
    };
    metrics.corrupt_records.add(scan.corrupt);
    metrics.truncated_bytes.add(len - scan.end);
    if scan.corrupt > 0 || len > scan.end {
        tracing::warn!(
            path = %path.display(),
            corrupt_records = scan.corrupt,
            truncated_bytes = len - scan.end,
            "spool segment was damaged"
        );
    }
    if scan.ticks == 0 {
        fs::remove_file(path)?;
        return Ok(None);
    }
    if len > scan.end {
        file.set_len(scan.end)?;
    }
    Ok(Some(SegmentInfo {
        index,
        continues,
        committed: scan.end,
        first_sequence: scan.first_sequence,
        last_sequence: scan.last_sequence,
        ticks: scan.ticks,
        closed: true,
    }))
}
