//! Tests of columns whose value kind only a newer version knows: they are refused by name, while everything else stays
//! readable.

use super::*;

use std::fs;
use std::path::{Path, PathBuf};

use common::clock::ManualClock;
use common::model::{Labels, Sample};

use crate::block::format::{FOOTER_BYTES, Footer, read_directory, write_directory};
use crate::read::Values;
use crate::value_kind::{HISTOGRAM, KindCode, ValueKind};
use crate::verify::verify;
use crate::wal::definitions::Definition;
use crate::wal::frame;

const NOW: i64 = 1_700_000_000_000;
const UNSUPPORTED: &str = "value kind 1 (histogram) is not supported by this version";

fn open(path: &Path) -> Store {
    let options = StoreOptions {
        path: path.to_path_buf(),
        ..StoreOptions::default()
    };
    Store::open(options, Arc::new(ManualClock::new(NOW))).unwrap()
}

fn append(store: &Store, name: &str, age_ms: i64) {
    let series = SeriesSamples {
        labels: Labels::from_sorted([("__name__", name)]),
        samples: vec![Sample {
            timestamp_ms: NOW - age_ms,
            value: 1.0,
        }],
    };
    let appended = store.append(&[series], AppendMode::Partial).unwrap();
    store.wait_durable(appended.position).unwrap();
}

/// Returns the names of all series with samples, and the warnings of the read.
fn names(store: &Store) -> (Vec<String>, Vec<String>) {
    let selection = Selection {
        matchers: vec![],
        start_ms: i64::MIN,
        end_ms: i64::MAX,
    };
    let control = ReadControl::unlimited();
    let set = store.select(&selection, &control).unwrap();
    let mut names = Vec::new();
    set.read(0..set.len(), &control, &mut |index, column| {
        let Values::Floats(values) = column.values;
        assert!(!values.is_empty());
        names.push(set.labels(index).metric_name().unwrap().to_owned());
        Ok(())
    })
    .unwrap();
    names.sort();
    (names, set.warnings())
}

fn only_file(directory: &Path) -> PathBuf {
    let files = fs::read_dir(directory).unwrap();
    files.map(|entry| entry.unwrap().path()).max().unwrap()
}

fn damage(directory: &Path) -> Vec<(PathBuf, u64, String)> {
    let found = verify(directory, &mut |_, _| {}).unwrap().damage;
    let entry = |one: crate::verify::Damage| (one.path, one.offset, one.what);
    found.into_iter().map(entry).collect()
}

#[test]
fn histogram_column_in_the_log_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    append(&store, "float", 1000);
    let (seed, next) = (store.inner.key().seed(), store.inner.wal.end().0 + 1);
    drop(store);
    let segment = only_file(&directory.path().join("wal"));
    let mut bytes = fs::read(&segment).unwrap();
    let offset = bytes.len() as u64;
    let definition = Definition {
        column: 1,
        kind: ValueKind::Float,
        labels: Labels::from_sorted([("__name__", "histogram")]),
    };
    let payload = record::define_coded(KindCode(HISTOGRAM), 0, "g", &[definition]);
    let crc = crc32c::crc32c(&payload);
    frame::put(&mut bytes, seed, next, crc, &payload);
    let after = record::metadata("after", &Metadata::default());
    frame::put(&mut bytes, seed, next + 1, crc32c::crc32c(&after), &after);
    fs::write(&segment, &bytes).unwrap();

    let want = (segment.clone(), offset, UNSUPPORTED.to_owned());
    assert_eq!(damage(directory.path()), [want]);
    let store = open(directory.path());
    let lost = store.stats().lost;
    assert_eq!((lost.unsupported, lost.malformed, lost.records), (1, 0, 0));
    assert_eq!(names(&store), (vec!["float".to_owned()], vec![]));
    assert_eq!(store.metadata().len(), 1, "later records are read");
    store.flush().unwrap();
    let kept = directory
        .path()
        .join("corrupt")
        .join(segment.file_name().unwrap());
    assert_eq!(fs::read(kept).unwrap(), bytes, "the record is kept");
}

/// Changes the value kind of a block's first chunk; returns the chunk's offset.
fn set_kind(path: &Path, kind: KindCode) -> u64 {
    let mut bytes = fs::read(path).unwrap();
    let footer_bytes = bytes.split_off(bytes.len() - FOOTER_BYTES);
    let mut footer = Footer::parse(&footer_bytes, bytes.len() as u64).unwrap();
    let section = &mut footer.sections[0];
    let stored = &bytes[section.offset as usize..][..section.stored as usize];
    let directory = zstd::bulk::decompress(stored, section.unpacked as usize).unwrap();
    let mut entries = read_directory(&directory, footer.chunks).unwrap();
    entries[0].kind = kind;
    let directory = write_directory(&entries);
    let stored = zstd::bulk::compress(&directory, 3).unwrap();
    section.offset = bytes.len() as u64;
    section.stored = stored.len() as u32;
    section.unpacked = directory.len() as u32;
    section.crc = crc32c::crc32c(&stored);
    bytes.extend_from_slice(&stored);
    bytes.extend_from_slice(&footer.to_bytes());
    fs::write(path, bytes).unwrap();
    entries[0].offset
}

#[test]
fn histogram_chunk_in_a_block_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut stream = store.stream("a");
    let labels = Labels::from_sorted([("__name__", "histogram")]);
    stream.define(0, &labels).unwrap();
    stream.append_row(1, NOW - 5000, &[(0, 1.0)]).unwrap();
    append(&store, "float", 5000);
    drop(stream);
    store.flush().unwrap();
    drop(store);
    let block = only_file(&directory.path().join("blocks"));
    let offset = set_kind(&block, KindCode(HISTOGRAM));

    let text = format!("chunk at offset {offset}: {UNSUPPORTED}");
    let found = damage(directory.path());
    assert!(
        found.contains(&(block.clone(), offset, text.clone())),
        "{found:?}"
    );
    let store = open(directory.path());
    let name = block.file_name().unwrap().to_str().unwrap();
    let warning = format!("block {name}: {text}; its samples are skipped");
    assert_eq!(names(&store), (vec!["float".to_owned()], vec![warning]));
    // A merge copies the other series and keeps the block.
    append(&store, "later", 1000);
    store.flush().unwrap();
    let (all, _) = names(&store);
    assert_eq!(all, ["float", "later"]);
    assert!(
        directory
            .path()
            .join("corrupt")
            .join(name)
            .try_exists()
            .unwrap()
    );
}
