//! Checkpoints: what must survive the removal of old log segments, namely the series of each column, the sequence of
//! each stream, and metadata.
//!
//! A checkpoint is a file of framed log records. There are two copies, written one after the other, so one is whole
//! while the other is replaced. A damaged copy is read together with the other one. Most columns do not change, so a
//! checkpoint has two layers: the base, and an addition that names its base. Seals rewrite the addition until more than
//! a quarter of the columns have changed; then they write a new base.

use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::ops::Range;
use std::path::Path;

use crate::files::{remove_if_there, sync_directory, write_atomically};
use crate::wal::definitions::Definition;
use crate::wal::frame::{self, Found};
use crate::wal::record::{self, Record, RecordError};
use crate::wal::rows::{RowCoder, RowHead, RowsBuilder};
use crate::wal::{Unsupported, keep_copy};

const BASE: [&str; 2] = ["checkpoint", "checkpoint.copy"];
const ADDITION: [&str; 2] = ["checkpoint.more", "checkpoint.more.copy"];
/// The directory for damaged files, next to the checkpoint.
const CORRUPT: &str = "corrupt";
/// The names of all checkpoint files.
pub(crate) const NAMES: [&str; 4] = [BASE[0], BASE[1], ADDITION[0], ADDITION[1]];
/// Maximum number of definitions in one record.
pub(crate) const DEFINITIONS: usize = 2048;

/// A group in a checkpoint.
#[derive(Debug)]
pub(crate) struct GroupState {
    pub(crate) number: u32,
    pub(crate) key: String,
    pub(crate) sequence: Option<u64>,
    pub(crate) definitions: Vec<Definition>,
}

/// Builds a checkpoint from records.
#[derive(Debug)]
pub(crate) struct CheckpointWriter {
    seed: u32,
    is_base: bool,
    number: u64,
    bytes: Vec<u8>,
}

impl CheckpointWriter {
    /// Begins a checkpoint that covers the log records before `from`. `base` is the checkpoint that it extends.
    pub(crate) fn new(seed: u32, from: u64, base: Option<u64>) -> Self {
        let mut writer = Self {
            seed,
            is_base: base.is_none(),
            number: 0,
            bytes: Vec::new(),
        };
        writer.push(&record::checkpoint(from, base));
        writer
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, payload: &[u8]) {
        self.number += 1;
        let crc = crc32c::crc32c(payload);
        frame::put(&mut self.bytes, self.seed, self.number, crc, payload);
    }

    /// Adds a group.
    pub(crate) fn group(&mut self, group: &GroupState) {
        for of_one_kind in group.definitions.chunk_by(|a, b| a.kind == b.kind) {
            for definitions in of_one_kind.chunks(DEFINITIONS) {
                self.push(&record::define(group.number, &group.key, definitions));
            }
        }
        if group.definitions.is_empty() {
            self.push(&record::define(group.number, &group.key, &[]));
        }
        if let Some(sequence) = group.sequence {
            let mut rows = RowsBuilder::default();
            let head = RowHead {
                group: group.number,
                sequence: Some(sequence),
                timestamp_ms: 0,
            };
            rows.push(head, &mut RowCoder::default(), [].into_iter());
            self.push(&rows.finish());
        }
    }

    /// Writes both copies; they are durable when this returns.
    ///
    /// # Errors
    /// A file can't be written; at least one old or new copy is whole.
    pub(crate) fn finish(mut self, directory: &Path) -> io::Result<()> {
        self.push(&record::end());
        let names = if self.is_base { BASE } else { ADDITION };
        for name in names {
            write_atomically(&directory.join(name), |file| {
                let mut file = BufWriter::new(file);
                file.write_all(&self.bytes)?;
                file.flush()
            })?;
        }
        if self.is_base {
            // The addition to the previous base is obsolete. Until it is removed, it is ignored because its base does
            // not exist.
            for name in ADDITION {
                remove_if_there(&directory.join(name))?;
            }
            sync_directory(directory)?;
        }
        Ok(())
    }
}

/// The content of one copy.
#[derive(Default)]
struct Copy {
    from: Option<u64>,
    base: Option<u64>,
    bytes: Vec<u8>,
    /// The ranges of its record payloads in `bytes`.
    records: Vec<Range<usize>>,
    unsupported: Unsupported,
    is_whole: bool,
}

impl Copy {
    fn apply(&self, apply: &mut dyn FnMut(&[u8])) {
        for record in &self.records {
            apply(self.bytes.get(record.clone()).unwrap_or(&[]));
        }
    }
}

fn read_copy(path: &Path, seed: u32) -> io::Result<Copy> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Copy::default()),
        Err(error) => return Err(error),
    };
    let mut copy = Copy::default();
    let mut sound = true;
    let mut at = 0;
    while at < bytes.len() {
        match frame::find(bytes.get(at..).unwrap_or(&[]), seed) {
            Found::Record {
                number,
                payload,
                bytes: length,
            } => {
                at += length;
                match record::decode(payload) {
                    Ok(Record::Checkpoint { from, base }) => {
                        (copy.from, copy.base) = (Some(from), base);
                    }
                    Ok(Record::End) => {
                        let records = copy.records.len() as u64 + copy.unsupported.records;
                        copy.is_whole = sound && number == records + 2;
                    }
                    Ok(Record::Define { .. } | Record::Rows(_) | Record::Metadata { .. }) => {
                        copy.records.push(at - payload.len()..at);
                    }
                    Err(RecordError::Malformed(_)) => sound = false,
                    Err(error @ (RecordError::UnknownType(_) | RecordError::UnknownKind(_))) => {
                        copy.unsupported.add(at - length, error);
                    }
                }
            }
            Found::DamagedPayload { bytes: length, .. } => {
                at += length;
                sound = false;
            }
            Found::Cut | Found::Nothing => {
                sound = false;
                at = frame::next_marker(&bytes, at + 1).unwrap_or(bytes.len());
            }
        }
    }
    copy.is_whole &= copy.from.is_some();
    if copy.unsupported.log(path) {
        // The next seal writes the checkpoint again without these records.
        keep_copy(path, &path.with_file_name(CORRUPT))?;
    }
    copy.bytes = bytes;
    Ok(copy)
}

/// Returns the copies of a layer to read: one that is whole, or else both.
fn read_layer(directory: &Path, names: [&str; 2], seed: u32) -> io::Result<Vec<Copy>> {
    let first = read_copy(&directory.join(names[0]), seed)?;
    if first.is_whole {
        return Ok(vec![first]);
    }
    let second = read_copy(&directory.join(names[1]), seed)?;
    let nothing = first.records.is_empty() && second.records.is_empty();
    if !second.is_whole && !nothing {
        let name = names[0];
        tracing::error!(
            name,
            "both copies of the checkpoint are damaged, using what is sound"
        );
    }
    Ok(vec![first, second])
}

/// Reads the checkpoint of a data directory and passes the payloads of its records to `apply`. Returns the number of
/// the first log record that the checkpoint does not cover; 0 if there is no checkpoint.
///
/// # Errors
/// A file can't be read. Damage is not an error: the sound records of both copies are used.
pub(crate) fn read(directory: &Path, seed: u32, apply: &mut dyn FnMut(&[u8])) -> io::Result<u64> {
    let base = read_layer(directory, BASE, seed)?;
    let addition = read_layer(directory, ADDITION, seed)?;
    for copy in &base {
        copy.apply(apply);
    }
    // Segments are removed only when both copies exist, so the lower number is the safe one.
    let from = base.iter().filter_map(|copy| copy.from).min();
    let belongs = |copy: &&Copy| base.iter().any(|base| base.from == copy.base);
    let addition: Vec<&Copy> = addition.iter().filter(belongs).collect();
    for copy in &addition {
        copy.apply(apply);
    }
    let added = addition.iter().filter_map(|copy| copy.from).min();
    Ok(added.or(from).unwrap_or(0))
}

#[cfg(test)]
mod tests;
