//! Tests of forged records: their checksums are valid, but they name groups or columns that do not exist. Only these
//! records are lost, and they allocate no memory.

use super::*;

use std::fs;

use common::model::{Labels, Matcher};

use super::damage::{NOW, open};
use crate::value_kind::ValueKind;
use crate::wal::definitions::Definition;
use crate::wal::frame;
use crate::wal::record;
use crate::wal::rows::{RowCoder, RowHead, RowsBuilder};

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name)]).unwrap()
}

/// Returns a row with one cell. As the first row of its group, it is a key row.
fn row(group: u32, column: u32) -> Vec<u8> {
    let mut rows = RowsBuilder::default();
    let head = RowHead {
        group,
        sequence: None,
        timestamp_ms: NOW - 5000,
    };
    let cells = [(column, 1.0_f64.to_bits())];
    rows.push(head, &mut RowCoder::default(), cells.into_iter());
    rows.finish()
}

fn definition(group: u32, column: u32) -> Vec<u8> {
    let name = format!("forged_{group}_{column}");
    let labels = labels(&name);
    record::define(
        group,
        &name,
        &[Definition {
            column,
            kind: ValueKind::Float,
            labels,
        }],
    )
}

/// Returns a record that claims to decompress to `bytes` bytes, and does if allowed to.
fn bomb(bytes: usize) -> Vec<u8> {
    let mut payload = vec![1, 1];
    crate::bytes::put_varint(&mut payload, bytes as u64);
    payload.extend(record::compress(&vec![0; bytes.min(64 << 20)]).unwrap());
    payload
}

/// Creates a store with one sample and appends the records to its log.
fn store_with(records: &[Vec<u8>]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut stream = store.stream("agent/a");
    stream.define(0, &labels("sound")).unwrap();
    let row = stream.append_row(1, NOW - 1000, &[(0, 7.0)]).unwrap();
    store.wait_durable(row.position).unwrap();
    let seed = store.inner().head().key.seed();
    drop(stream);
    drop(store);
    let segments = fs::read_dir(directory.path().join("wal")).unwrap();
    let segment = segments.map(|entry| entry.unwrap().path()).max().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    for (number, payload) in (row.position.0 + 1..).zip(records) {
        let crc = crc32c::crc32c(payload);
        frame::put(&mut bytes, seed, number, crc, payload);
    }
    fs::write(&segment, bytes).unwrap();
    directory
}

/// Opens the store, and again after a checkpoint and a merge. Sound data must be there, and the head must use less than
/// `bytes` bytes of memory.
#[track_caller]
fn check(records: &[Vec<u8>], malformed: u64, bytes: u64) {
    let directory = store_with(records);
    for round in 0..3 {
        let store = open(directory.path());
        let stats = store.stats();
        if round == 0 {
            assert_eq!(stats.lost.malformed, malformed);
        }
        assert!(stats.head_bytes < bytes, "{round}: {stats:?}");
        assert_eq!(store.stream("agent/a").durable_sequence(), Some(1));
        let selection = Selection {
            matchers: vec![Matcher::equal("__name__", "sound")],
            start_ms: i64::MIN,
            end_ms: i64::MAX,
        };
        let control = ReadControl::unlimited();
        let set = store.select(&selection, &control).unwrap();
        let mut samples = 0;
        set.read(0..set.len(), &control, &mut |_, column| {
            samples += column.timestamps_ms.len();
            Ok(())
        })
        .unwrap();
        assert_eq!(samples, 1, "{round}");
        store.flush().unwrap();
    }
}

#[test]
fn high_numbers_of_groups_take_no_memory() {
    let high = [1 << 19, 1 << 20, 1 << 30, u32::MAX - 1, u32::MAX];
    let mut records: Vec<Vec<u8>> = high.iter().map(|&group| row(group, 0)).collect();
    records.extend(high.iter().map(|&group| definition(group, 0)));
    check(&records, 0, 1 << 20);
}

#[test]
fn high_numbers_of_columns_are_refused() {
    let mut records = Vec::new();
    for column in [1 << 22, 1 << 30, u32::MAX] {
        records.push(row(9, column));
        records.push(definition(9, column));
    }
    check(&records, 6, 1 << 20);
}

#[test]
fn columns_of_all_groups_are_bounded() {
    let directory = store_with(&[]);
    let store = open(directory.path());
    let head = store.inner().head();
    assert!(!head.has_room(0, (1 << 22) + 1), "of one group");
    for _ in 0..7 {
        assert!(head.has_room(0, 1 << 22));
    }
    // One column exists already.
    assert!(!head.has_room(0, 1 << 22), "of all");
    assert!(head.has_room(0, (1 << 22) - 1));
    assert!(head.has_room(5, 5) && !head.has_room(5, 6));
}

#[test]
fn record_vouches_with_its_length_for_what_it_unpacks_to() {
    check(&[bomb(1 << 29), bomb(9 << 20)], 2, 1 << 20);
    // Honest data that compresses as well is kept, compressed or not.
    let many = |count: u32| {
        let one = |column| Definition {
            column,
            kind: ValueKind::Float,
            labels: labels(&"x".repeat(4000)),
        };
        let definitions: Vec<Definition> = (0..count).map(one).collect();
        record::define(5, "many", &definitions)
    };
    check(&[many(2000)], 0, 1 << 20);
}
