//! Rebuilds series, rows, sequences and metadata from the checkpoint and the log.
//!
//! Nearly all records are rows, and groups are independent of each other. So several threads read the row records of a
//! batch at once, and each applies the rows of its own groups in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{available_parallelism, scope};

use common::model::Metadata;

use crate::bytes::Reader;
use crate::head::Head;
use crate::head::group::Group;
use crate::manifest::AgentTable;
use crate::stats::Lost;
use crate::sync::lock;
use crate::wal::record::{self, Record, Rows};
use crate::wal::rows::{Cells, Decoded, RowError, Section, is_own, may_hold};
use crate::wal::{Numbered, ReplayReport};

/// Maximum number of threads that read rows.
const THREADS_MAX: usize = 4;
/// Minimum number of row records for reading on several threads.
const RECORDS_MIN: usize = 8;

/// Counts of what rows contained.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RowCounts {
    pub(super) samples: u64,
    /// Records or rows that do not match the format.
    pub(super) malformed: u64,
    /// Rows that refer to a key row whose copies are both lost.
    pub(super) lost: u64,
}

/// State rebuilt by a replay.
pub(super) struct Replayed {
    pub(super) head: Head,
    pub(super) metadata: BTreeMap<String, Metadata>,
    pub(super) counts: RowCounts,
    /// The last definition record that was read; the log holds each one twice.
    defined: Vec<u8>,
}

impl Replayed {
    pub(super) fn new(head: Head) -> Self {
        Self {
            head,
            metadata: BTreeMap::new(),
            counts: RowCounts::default(),
            defined: Vec::new(),
        }
    }

    /// Raises the sequences to those recorded with the blocks, so that agents do not resend samples that are in blocks.
    pub(super) fn raise_sequences(&self, agents: &AgentTable) {
        for (name, sequence) in agents.sequences() {
            let group = self.head.group_by_key(name, i64::MIN);
            let mut data = lock(&group.data);
            if data.sequence.is_none_or(|known| known < sequence) {
                data.set_durable_sequence(sequence);
            }
        }
    }

    /// Returns what was lost, once the last record is applied.
    pub(super) fn lost(&self, report: &ReplayReport) -> Lost {
        let mut lost = Lost {
            records: report.lost,
            unsupported: report.unsupported,
            torn_bytes: report.torn_bytes,
            malformed: self.counts.malformed,
            rows: self.counts.lost,
            ..Lost::default()
        };
        for group in self.head.groups() {
            let (columns, samples) = lock(&group.data).orphans();
            lost.definitions += columns;
            lost.samples += samples;
        }
        lost
    }

    /// Applies records. Definitions name the series of columns and rows hold their values, so neither waits for the
    /// other.
    pub(super) fn apply(&mut self, records: &[Numbered<'_>]) {
        let (mut rows, mut definitions) = (Vec::new(), Vec::new());
        for &(_, payload) in records {
            if let Ok(Some((group, key))) = record::defined_group(payload) {
                if *self.defined != *payload {
                    definitions.push((self.head.group_for_replay(group, &key), payload));
                    self.defined.clear();
                    self.defined.extend_from_slice(payload);
                }
                continue;
            }
            match record::decode(payload) {
                Ok(Record::Rows(one)) => rows.push(one),
                Ok(Record::Metadata { family, metadata }) => {
                    self.metadata.insert(family, metadata);
                }
                Ok(Record::Define { .. } | Record::Checkpoint { .. } | Record::End) => {}
                Err(_) => self.counts.malformed += 1,
            }
        }
        let threads = match rows.len() {
            0..RECORDS_MIN => 1,
            _ => available_parallelism().map_or(1, |cores| cores.get().min(THREADS_MAX)),
        };
        let (head, rows) = (&self.head, rows.as_slice());
        let counts = scope(|scope| {
            let of = threads as u32;
            let mut others: Vec<_> = (1..of)
                .map(|own| scope.spawn(move || read_rows(head, rows, own, of)))
                .collect();
            if !definitions.is_empty() {
                others.push(scope.spawn(|| define(head, &definitions)));
            }
            let mut counts = vec![read_rows(head, rows, 0, of)];
            for other in others {
                match other.join() {
                    Ok(more) => counts.push(more),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            counts
        });
        for more in counts {
            self.counts.samples += more.samples;
            self.counts.malformed += more.malformed;
            self.counts.lost += more.lost;
        }
    }
}

/// Applies definition records to their groups.
fn define(head: &Head, records: &[(Arc<Group>, &[u8])]) -> RowCounts {
    let mut counts = RowCounts::default();
    for (group, payload) in records {
        let Ok(Record::Define { definitions, .. }) = record::decode(payload) else {
            counts.malformed += 1;
            continue;
        };
        for one in definitions {
            let defined = head.define_for_replay(group, &one);
            counts.malformed += u64::from(defined.is_err());
        }
    }
    counts
}

/// Reads the rows of the groups assigned to thread `own` out of `of` threads.
fn read_rows(head: &Head, records: &[Rows<'_>], own: u32, of: u32) -> RowCounts {
    let mut counts = RowCounts::default();
    let mut sections = Vec::new();
    let mut cells = Cells::default();
    for record in records.iter().filter(|one| may_hold(one.shard, own, of)) {
        if record.unpack(&mut sections).is_err() {
            counts.malformed += u64::from(own == 0 || record.shard != 0);
            continue;
        }
        let mut reader = Reader::new(&sections);
        while !reader.is_empty() {
            match Section::read(&mut reader) {
                Ok(section) if is_own(section.head.group, own, of) => {
                    read_row(head, &section, &mut cells, &mut counts);
                }
                Ok(_) => {}
                Err(_) => {
                    counts.malformed += 1;
                    break;
                }
            }
        }
    }
    counts
}

/// Reads a row. It may precede the definitions of its columns; columns that never get a definition are orphans.
fn read_row(head: &Head, section: &Section<'_>, cells: &mut Cells, counts: &mut RowCounts) {
    let group = head.group_for_replay(section.head.group, "");
    let mut data = lock(&group.data);
    let known = data.columns().len();
    let has_room = |columns| head.has_room(known, columns);
    match data.coder.decode(section, cells, has_room) {
        Ok(Decoded::Repeated) => return,
        Ok(Decoded::Row) => {}
        Err(RowError::Malformed(_)) => {
            counts.malformed += 1;
            cells.columns.clear();
            cells.values.clear();
        }
        Err(RowError::KeyLost) => counts.lost += 1,
    }
    if cells.values.len() == cells.columns.len() {
        let row = cells.columns.iter().copied();
        let row = row.zip(cells.values.iter().copied());
        let columns = cells.columns.iter().max().map_or(0, |&last| last + 1);
        data.widen(columns);
        data.put(section.head.timestamp_ms, row);
        counts.samples += cells.values.len() as u64;
    }
    if let Some(sequence) = section.head.sequence {
        data.set_durable_sequence(sequence);
    }
}
