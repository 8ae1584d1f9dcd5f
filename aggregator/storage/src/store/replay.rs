//! Rebuilds series, rows, sequences and metadata from the checkpoint and the log.
//!
//! Nearly all records are rows, and groups are independent of each other. So several threads read the row records of a
//! batch at once, and each applies the rows of its own groups in order.

use std::collections::BTreeMap;
use std::thread::{Scope, ScopedJoinHandle, available_parallelism, scope};

use common::model::Metadata;

use crate::bytes::Reader;
use crate::head::Head;
use crate::manifest::AgentTable;
use crate::stats::Lost;
use crate::sync::lock;
use crate::wal::definitions::DecodedDefinitions;
use crate::wal::record::{self, Record, RecordError, Rows};
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
}

impl Replayed {
    pub(super) fn new(head: Head) -> Self {
        head.begin_replay();
        Self {
            head,
            metadata: BTreeMap::new(),
            counts: RowCounts::default(),
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

    /// Applies records: definitions first, so that rows find their groups, then rows.
    pub(super) fn apply(&mut self, records: &[Numbered<'_>]) {
        let (mut rows, mut definitions) = (Vec::new(), Vec::new());
        let mut defined: &[u8] = &[];
        for &(_, payload) in records {
            if record::is_define(payload) {
                // The log has each twice.
                if defined != payload {
                    definitions.push(payload);
                    defined = payload;
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
        self.counts.malformed += define(&self.head, &definitions);
        self.read_all_rows(&rows);
    }

    fn read_all_rows(&mut self, rows: &[Rows<'_>]) {
        let threads = match rows.len() {
            0..RECORDS_MIN => 1,
            _ => available_parallelism().map_or(1, |cores| cores.get().min(THREADS_MAX)),
        };
        let head = &self.head;
        let counts = scope(|scope| {
            let of = threads as u32;
            let others: Vec<_> = (1..of)
                .map(|own| scope.spawn(move || read_rows(head, rows, own, of)))
                .collect();
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

/// Records of definitions that are decoded at a time: some 65,000 series.
const BATCH: usize = 32;

/// Applies records of definitions; returns how many records or definitions are malformed. One batch is decoded by other
/// threads while the one before it is applied by this one.
fn define(head: &Head, records: &[&[u8]]) -> u64 {
    let mut malformed = 0;
    let bytes_in_all: usize = records.iter().map(|payload| payload.len()).sum();
    let (mut bytes, mut series) = (0, 0);
    let mut decoded: Vec<DecodedRecord> = Vec::new();
    let mut batches = records.chunks(BATCH);
    let mut applied: &[&[u8]] = &[];
    loop {
        let next = batches.next();
        let ahead = scope(|scope| {
            let ahead = next.map(|batch| decode_ahead(scope, head, batch));
            for one in decoded.drain(..) {
                match one {
                    Ok(record) => {
                        series += record.series.len();
                        malformed += head.define_for_replay(&record);
                    }
                    Err(_) => malformed += 1,
                }
            }
            ahead.map_or_else(Vec::new, join_all)
        });
        if bytes == 0 && series > 0 {
            // The others are taken to be like the first.
            bytes = applied.iter().map(|payload| payload.len()).sum();
            head.reserve_for_replay(series.saturating_mul(bytes_in_all) / bytes.max(1));
        }
        let Some(batch) = next else {
            return malformed;
        };
        (applied, decoded) = (batch, ahead);
    }
}

type DecodedRecord = Result<DecodedDefinitions, RecordError>;

/// Decodes a batch on as many threads as there are cores besides the one at work.
fn decode_ahead<'s, 'e>(
    scope: &'s Scope<'s, 'e>,
    head: &'e Head,
    batch: &'e [&'e [u8]],
) -> Vec<ScopedJoinHandle<'s, Vec<DecodedRecord>>> {
    let cores = available_parallelism().map_or(1, |cores| cores.get().min(THREADS_MAX));
    let share = batch.len().div_ceil(cores.saturating_sub(1).max(1));
    let decode = |payload: &&[u8]| record::decode_definitions(payload, &head.key);
    let parts = batch.chunks(share.max(1));
    parts
        .map(|part| scope.spawn(move || part.iter().map(decode).collect()))
        .collect()
}

fn join_all<T>(threads: Vec<ScopedJoinHandle<'_, Vec<T>>>) -> Vec<T> {
    let mut all = Vec::new();
    for thread in threads {
        match thread.join() {
            Ok(part) => all.extend(part),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    all
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
