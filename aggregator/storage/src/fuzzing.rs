//! Gives fuzzers access to private decoders.
//!
//! Each function takes bytes that a checksum protects on disk, checks the invariants of their content, and panics if one
//! is violated. Only fuzzers and tests may call these.

use std::collections::HashMap;

use common::model::{Labels, Metadata, MetricType};

use crate::block::format::{ChunkEntry, FOOTER_BYTES, Footer, read_directory, write_directory};
use crate::block::index::{BlockIndex, IndexWriter};
use crate::bytes::Reader;
use crate::codec::{Chunk, ChunkBuilder};
use crate::index::SeriesId;
use crate::index::view::SeriesIndex as _;
use crate::series_hash::HashKey;
use crate::value_kind::{KindCode, ValueKind};
use crate::wal::definitions::Definition;
use crate::wal::frame::{self, Found};
use crate::wal::record::{self, Record};
use crate::wal::rows::{Cells, Decoded, RowCoder, RowHead, RowsBuilder, Section};

const SEED: u32 = 7;
/// Text of an index that is accepted.
const FUZZED_TEXT_BYTES_MAX: u64 = 1 << 20;

/// Checks the payload of a log record. A valid one must be the same after it is written again.
pub fn wal_record(payload: &[u8]) {
    let Ok(decoded) = record::decode(payload) else {
        return;
    };
    let written = match &decoded {
        Record::Define {
            group,
            key,
            definitions,
        } => record::define(*group, key, definitions),
        Record::Rows(_) => return rows(payload),
        Record::Metadata { family, metadata } => record::metadata(family, metadata),
        Record::Checkpoint { from, base } => record::checkpoint(*from, *base),
        Record::End => record::end(),
    };
    assert_eq!(record::decode(&written).as_ref(), Ok(&decoded));
}

type Row = (RowHead, Vec<(u32, u64)>);

/// The rows of a record that can be read without those before it.
fn rows_of(payload: &[u8]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut coders: HashMap<u32, RowCoder> = HashMap::new();
    let (mut sections, mut cells) = (Vec::new(), Cells::default());
    let Ok(Record::Rows(record)) = record::decode(payload) else {
        return rows;
    };
    if record.unpack(&mut sections).is_err() {
        return rows;
    }
    let mut reader = Reader::new(&sections);
    while let Ok(section) = Section::read(&mut reader) {
        let coder = coders.entry(section.head.group).or_default();
        if let Ok(Decoded::Row) = coder.decode(&section, &mut cells, |_| true) {
            assert_eq!(cells.columns.len(), cells.values.len());
            let columns = cells.columns.iter().copied();
            let pairs = columns.zip(cells.values.iter().copied());
            rows.push((section.head, pairs.collect()));
        }
    }
    rows
}

/// Checks that rows are the same after they are written again.
fn rows(payload: &[u8]) {
    let rows = rows_of(payload);
    let mut coders: HashMap<u32, RowCoder> = HashMap::new();
    let mut builder = RowsBuilder::default();
    for (head, cells) in &rows {
        let coder = coders.entry(head.group).or_default();
        builder.push(*head, coder, cells.iter().copied());
    }
    assert_eq!(rows_of(&builder.finish()), rows);
}

/// Checks a segment of the log or a checkpoint, without its magic. A valid record that is appended to it must be found,
/// and no record may be found twice.
pub fn wal_segment(bytes: &[u8]) {
    let payload = record::checkpoint(u64::MAX, None);
    let mut all = bytes.to_vec();
    frame::put(&mut all, SEED, u64::MAX, crc32c::crc32c(&payload), &payload);
    let mut at = 0;
    let mut last = None;
    while at < all.len() {
        let before = at;
        match frame::find(all.get(at..).unwrap_or(&[]), SEED) {
            Found::Record { number, bytes, .. } => {
                at += bytes;
                last = Some((number, at));
            }
            Found::DamagedPayload { bytes, .. } => at += bytes,
            Found::Cut | Found::Nothing => {
                at = frame::next_marker(&all, at + 1).unwrap_or(all.len());
            }
        }
        assert!(at > before, "reading makes progress");
    }
    // Only a valid header in `bytes` that covers the following bytes may hide the last record.
    let hidden = || frame::next_marker(bytes, 0).is_some();
    assert!(last == Some((u64::MAX, all.len())) || hidden());
}

/// Checks an encoded chunk. A valid one must have the same samples after they are encoded again.
pub fn chunk(bytes: &[u8]) {
    let Ok(decoded) = Chunk::decode(bytes) else {
        return;
    };
    let columns = columns_of(&decoded);
    let mut builder = ChunkBuilder::default();
    builder.begin(decoded.times_ms());
    for (rows, values) in &columns {
        builder.push_sparse(rows, values);
    }
    let mut again = Vec::new();
    builder.finish(&mut again);
    let again = Chunk::decode(&again);
    let again = again.as_ref().expect("what was encoded is a chunk");
    assert_eq!(again.times_ms(), decoded.times_ms());
    assert_eq!(columns_of(again), columns);
}

/// Builds columns from `bytes`: each timestamp is a step of one byte, and each value has eight bytes.
pub fn chunk_of_values(bytes: &[u8]) {
    let Some((&columns, rest)) = bytes.split_first() else {
        return;
    };
    let columns = usize::from(columns % 5) + 1;
    let rows = rest.len() / (1 + 8 * columns);
    if rows == 0 {
        return;
    }
    let (steps, values) = rest.split_at(rows);
    let times: Vec<i64> = steps
        .iter()
        .scan(0, |time, &step| {
            *time += i64::from(step) + 1;
            Some(*time)
        })
        .collect();
    let values: Vec<u64> = values
        .chunks_exact(8)
        .take(rows * columns)
        .map(|bits| bits.iter().fold(0, |all, &byte| all << 8 | u64::from(byte)))
        .collect();
    let mut builder = ChunkBuilder::default();
    builder.begin(&times);
    for column in values.chunks_exact(rows) {
        builder.push_full(column);
    }
    let mut encoded = Vec::new();
    builder.finish(&mut encoded);
    let decoded = Chunk::decode(&encoded).expect("what was encoded is a chunk");
    assert_eq!(decoded.times_ms(), times);
    let back: Vec<u64> = columns_of(&decoded)
        .into_iter()
        .flat_map(|(_, values)| values)
        .collect();
    assert_eq!(back, values.get(..rows * columns).unwrap_or_default());
}

/// Rows and bits of each column that has values.
fn columns_of(chunk: &Chunk) -> Vec<(Vec<u32>, Vec<u64>)> {
    let times = chunk.times_ms();
    let mut all = Vec::new();
    for column in 0..crate::codec::chunk::COLUMNS_MAX {
        let (mut scratch, mut when, mut values) = (Vec::new(), Vec::new(), Vec::new());
        chunk.samples(column, &mut scratch, &mut when, &mut values);
        assert_eq!(when.len(), values.len(), "a value for each time");
        let rows = when.iter().map(|time| {
            let row = times.binary_search(time).expect("a time of the chunk");
            row as u32
        });
        if !when.is_empty() {
            let bits = values.iter().map(|value: &f64| value.to_bits());
            all.push((rows.collect(), bits.collect()));
        }
    }
    all
}

/// The footer of a block, and its unpacked directory.
pub fn block_directory(bytes: &[u8]) {
    let footer = bytes.get(..FOOTER_BYTES).unwrap_or(bytes);
    if let Ok(footer) = Footer::parse(footer, bytes.len() as u64) {
        assert_eq!(
            Footer::parse(&footer.to_bytes(), bytes.len() as u64),
            Ok(footer)
        );
    }
    let Some((&count, rest)) = bytes.split_first() else {
        return;
    };
    if let Ok(entries) = read_directory(rest, u32::from(count)) {
        let again = read_directory(&write_directory(&entries), u32::from(count));
        assert_eq!(again.as_ref(), Ok(&entries));
    }
}

/// The unpacked sections of a block's index: a byte for the number of series, two for the length of the first section.
pub fn block_index(bytes: &[u8]) {
    let [count, high, low, rest @ ..] = bytes else {
        return;
    };
    let length = usize::from(*high) << 8 | usize::from(*low);
    let Some((series, symbols)) = rest.split_at_checked(length) else {
        return;
    };
    let key = HashKey::from_bytes([1; 32]);
    let count = u32::from(*count);
    let Ok(index) = BlockIndex::read((series, symbols), count, FUZZED_TEXT_BYTES_MAX, &key) else {
        return;
    };
    assert_eq!(index.len(), count as usize);
    for id in (0..count).map(SeriesId) {
        let labels = index.labels(id);
        assert_eq!(index.hash(id), key.hash(&labels));
        for (name, value) in &labels {
            let symbols = (index.find_symbol(name), index.find_symbol(value));
            let (Some(name), Some(value)) = symbols else {
                unreachable!("labels are made of symbols");
            };
            assert!(index.postings(name, value).is_some());
        }
    }
}

/// Initial inputs: the names of targets, and bytes from the writers of this crate.
#[must_use]
pub fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let labels = |name: &str, job: &str| {
        let pairs = [("__name__", name), ("instance", "a:1"), ("job", job)];
        Labels::from_sorted(pairs)
    };
    let definitions: Vec<Definition> = (0..3)
        .map(|column| Definition {
            column,
            kind: ValueKind::Float,
            labels: labels("up", &format!("j{column}")),
        })
        .collect();
    let metadata = Metadata {
        metric_type: MetricType::Counter,
        help: "What it is.".to_owned(),
        unit: "seconds".to_owned(),
    };
    let records = [
        record::define(3, "spiffe://t/idc/a/node/n", &definitions),
        record::metadata("up", &metadata),
        record::checkpoint(77, None),
        record::checkpoint(78, Some(77)),
        record::end(),
        example_rows(),
    ];
    let mut segment = Vec::new();
    for (number, payload) in (1..).zip(&records) {
        frame::put(&mut segment, SEED, number, crc32c::crc32c(payload), payload);
    }
    let mut all: Vec<_> = records
        .into_iter()
        .map(|record| ("storage_wal_record", record))
        .collect();
    all.push(("storage_wal_segment", segment));
    all.push(("storage_chunk", example_chunk()));
    all.push(("storage_block_index", example_index(&labels)));
    let entry = ChunkEntry {
        first_series: 1,
        columns: 2,
        kind: KindCode(0),
        first_ms: 3,
        last_ms: 400,
        offset: 5,
        bytes: 60,
        crc: 7,
    };
    let second = ChunkEntry {
        first_series: 3,
        ..entry
    };
    let mut directory = vec![2];
    directory.extend(write_directory(&[entry, second]));
    all.push(("storage_block_directory", directory));
    all.push(("storage_block_directory", Footer::default().to_bytes()));
    all
}

fn example_rows() -> Vec<u8> {
    let mut rows = RowsBuilder::default();
    let cells = |from: u32, count: u32| -> Vec<(u32, u64)> {
        let bits = |column: u32| f64::from(column).sqrt().to_bits();
        (from..from + count)
            .map(|column| (column, bits(column)))
            .collect()
    };
    let mut coders = [RowCoder::default(), RowCoder::default()];
    let head = |group, sequence, timestamp_ms| RowHead {
        group,
        sequence,
        timestamp_ms,
    };
    let first = head(1, Some(9), 1_700_000_000_000);
    rows.push(first, &mut coders[0], cells(0, 40).into_iter());
    let next = head(1, Some(10), 1_700_000_010_000);
    rows.push(next, &mut coders[0], cells(0, 40).into_iter());
    let odd = vec![(7, 1), (3, 2)];
    rows.push(head(2, None, -5), &mut coders[1], odd.into_iter());
    rows.finish()
}

fn example_chunk() -> Vec<u8> {
    let times: Vec<i64> = (0..50)
        .map(|row| 1_700_000_000_000 + row * 10_000)
        .collect();
    let mut builder = ChunkBuilder::default();
    builder.begin(&times);
    let counter: Vec<u64> = (0..50_u32)
        .map(|row| f64::from(row * 7).to_bits())
        .collect();
    let decimals: Vec<u64> = (0..50_u32)
        .map(|row| (f64::from(row * row) / 100.0).to_bits())
        .collect();
    let floats: Vec<u64> = (1..51_u32)
        .map(|row| f64::from(row).ln().to_bits())
        .collect();
    builder.push_full(&counter);
    builder.push_full(&decimals);
    builder.push_full(&floats);
    builder.push_full(&[1.5_f64.to_bits(); 50]);
    builder.push_sparse(&[], &[]);
    builder.push_sparse(&[4, 5, 6], &[1, 2, f64::NAN.to_bits()]);
    builder.push_sparse(&[1, 8, 49], &[3, 3, 4]);
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    bytes
}

fn example_index(labels: &dyn Fn(&str, &str) -> Labels) -> Vec<u8> {
    let mut writer = IndexWriter::default();
    let mut count = 0;
    for group in ["a", "b"] {
        writer.group(group);
        for name in ["requests_total", "up"] {
            writer
                .push(&labels(name, group))
                .expect("room for four series");
            count += 1;
        }
    }
    let (series, symbols) = writer.finish();
    let length = u16::try_from(series.len()).expect("a short section");
    let mut bytes = vec![count];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend(series);
    bytes.extend(symbols);
    bytes
}
