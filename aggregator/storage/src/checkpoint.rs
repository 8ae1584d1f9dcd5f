//! What the log need not say again once its old segments are gone: the series of each column, the sequence of each
//! stream, metadata.
//!
//! A checkpoint is a file of framed log records. There are two copies, written one after the other: while one is
//! replaced the other is whole, and a damaged one is read together with its twin.

use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use crate::files::write_atomically;
use crate::wal::frame::{self, Found};
use crate::wal::record::{self, Definition, Record, RowsBuilder};

const FILES: [&str; 2] = ["checkpoint", "checkpoint.copy"];
/// Definitions in one record.
pub(crate) const DEFINITIONS: usize = 2048;

/// What a checkpoint says of a group.
#[derive(Debug)]
pub(crate) struct GroupState {
    pub(crate) number: u32,
    pub(crate) key: String,
    pub(crate) sequence: Option<u64>,
    pub(crate) definitions: Vec<Definition>,
}

/// Puts the records of a checkpoint together.
#[derive(Debug)]
pub(crate) struct CheckpointWriter {
    seed: u32,
    number: u64,
    bytes: Vec<u8>,
}

impl CheckpointWriter {
    /// Begins a checkpoint; the log's records from `from` on are not in it.
    pub(crate) fn new(seed: u32, from: u64) -> Self {
        let mut writer = Self {
            seed,
            number: 0,
            bytes: Vec::new(),
        };
        writer.push(&record::checkpoint(from));
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
        for definitions in group.definitions.chunks(DEFINITIONS) {
            self.push(&record::define(group.number, &group.key, definitions));
        }
        if group.definitions.is_empty() {
            self.push(&record::define(group.number, &group.key, &[]));
        }
        if let Some(sequence) = group.sequence {
            let mut rows = RowsBuilder::default();
            rows.push(group.number, Some(sequence), 0, [].into_iter());
            self.push(&rows.finish());
        }
    }

    /// Writes both copies; durable when this returns.
    ///
    /// # Errors
    /// A file can't be written; at least one old or new copy is whole.
    pub(crate) fn finish(mut self, directory: &Path) -> io::Result<()> {
        self.push(&record::end());
        for name in FILES {
            write_atomically(&directory.join(name), |file| {
                let mut file = BufWriter::new(file);
                file.write_all(&self.bytes)?;
                file.flush()
            })?;
        }
        Ok(())
    }
}

/// What was found in one copy.
#[derive(Default)]
struct Copy {
    from: Option<u64>,
    records: Vec<Record>,
    is_whole: bool,
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
                    Ok(Record::Checkpoint(from)) => copy.from = Some(from),
                    Ok(Record::End) => {
                        copy.is_whole = sound && number as usize == copy.records.len() + 2;
                    }
                    Ok(record) => copy.records.push(record),
                    Err(_) => sound = false,
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
    Ok(copy)
}

/// Reads the checkpoint of a data directory and gives its records to `apply`. Returns the number of the first log
/// record that is not in it: 0 when there is none.
///
/// # Errors
/// A file can't be read. A damaged one is no error: what is sound in both copies is used.
pub(crate) fn read(directory: &Path, seed: u32, apply: &mut dyn FnMut(Record)) -> io::Result<u64> {
    let first = read_copy(&directory.join(FILES[0]), seed)?;
    if first.is_whole {
        first.records.into_iter().for_each(apply);
        return Ok(first.from.unwrap_or(0));
    }
    let second = read_copy(&directory.join(FILES[1]), seed)?;
    let nothing = first.records.is_empty() && second.records.is_empty();
    if !second.is_whole && !nothing {
        tracing::error!("both copies of the checkpoint are damaged, using what is sound");
    }
    // Segments are removed only when both copies are there, so the older number of the two is the safe one.
    let from = match (first.from, second.from) {
        (Some(a), Some(b)) => a.min(b),
        (a, b) => a.or(b).unwrap_or(0),
    };
    first.records.into_iter().for_each(&mut *apply);
    second.records.into_iter().for_each(apply);
    Ok(from)
}
