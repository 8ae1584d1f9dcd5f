//! Tests of external damage (flipped bits, removed files) and of how it is reported.

use super::*;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::clock::ManualClock;
use common::model::{Labels, Sample};

use crate::read::Values;

pub(super) const NOW: i64 = 1_700_000_000_000;
const SERIES: u32 = 90;

pub(super) fn open(path: &Path) -> Store {
    let options = StoreOptions {
        path: path.to_path_buf(),
        retention: None,
        retention_bytes: 0,
        memory_budget_bytes: 1 << 30,
        ..StoreOptions::default()
    };
    Store::open(options, Arc::new(ManualClock::new(NOW))).unwrap()
}

fn labels(number: u32) -> Labels {
    let pairs = [("__name__", format!("m{number}")), ("job", "j".to_owned())];
    Labels::from_pairs(pairs).unwrap()
}

type Content = BTreeMap<Labels, Vec<(i64, u64)>>;

/// Returns the content of a store and the warnings of the read.
fn content(store: &Store) -> (Content, Vec<String>) {
    let control = ReadControl::unlimited();
    let selection = Selection {
        matchers: vec![],
        start_ms: i64::MIN,
        end_ms: i64::MAX,
    };
    let set = store.select(&selection, &control).unwrap();
    let mut content = Content::new();
    set.read(0..set.len(), &control, &mut |index, column| {
        let Values::Floats(values) = column.values;
        let bits = values.iter().map(|v| v.to_bits());
        let samples = column.timestamps_ms.iter().copied().zip(bits).collect();
        content.insert(set.labels(index), samples);
        Ok(())
    })
    .unwrap();
    (content, set.warnings())
}

/// Writes ticks of an agent and seals after every `seal`th one; the last ticks stay in the log.
fn write(path: &Path, ticks: u64, seal: u64) -> Content {
    let store = open(path);
    let mut stream = store.stream("agent/a");
    for number in 0..SERIES {
        stream.define(number, &labels(number)).unwrap();
    }
    let mut last = LogPosition::default();
    for tick in 1..=ticks {
        let row: Vec<_> = (0..SERIES)
            .map(|n| (n, f64::from(n) * 1.5 + tick as f64))
            .collect();
        let time = NOW - 1_000_000 + tick as i64 * 1000;
        last = stream.append_row(tick, time, &row).unwrap().position;
        store.wait_durable(last).unwrap();
        if tick % seal == 0 {
            let mut maintenance = lock(&store.inner().maintenance);
            store.inner().seal(&mut maintenance).unwrap();
        }
    }
    store.wait_durable(last).unwrap();
    content(&store).0
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.file_name().is_some_and(|name| name != "lock") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Flips `TIDEMARK_FLIPS` bits (default 40; the full run uses 5,000) anywhere in a data directory: log, blocks,
/// checkpoints, state database.
#[test]
fn bit_flipped_anywhere_is_never_a_wrong_value_nor_a_silent_loss() {
    let source = tempfile::tempdir().unwrap();
    let want = write(source.path(), 50, 15);
    let flips = std::env::var("TIDEMARK_FLIPS").map_or(40, |text| text.parse().unwrap());
    let mut random = 3_u64;
    for round in 0..flips {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let copy = tempfile::tempdir().unwrap();
        copy_folder(source.path(), copy.path());
        let files = files_below(copy.path());
        let victim = &files[(random >> 33) as usize % files.len()];
        let mut bytes = fs::read(victim).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let bit = (random >> 13) as usize % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(victim, bytes).unwrap();
        let what = format!("round {round}: bit {bit} of {}", victim.display());
        let options = StoreOptions {
            path: copy.path().to_path_buf(),
            retention: None,
            retention_bytes: 0,
            memory_budget_bytes: 1 << 30,
            ..StoreOptions::default()
        };
        let store = match Store::open(options, Arc::new(ManualClock::new(NOW))) {
            Ok(store) => store,
            // The key has no second copy, and without it sound data can't be distinguished from damage.
            Err(error) => {
                assert!(victim.ends_with("key"), "{what}: {error}");
                continue;
            }
        };
        let (got, warnings) = content(&store);
        let stats = store.stats();
        let of_log = stats.lost.is_anything() || stats.lost.torn_bytes > 0;
        let told = !warnings.is_empty() || of_log || stats.blocks_quarantined > 0;
        for (labels, list) in &got {
            let known = &want[labels];
            assert!(
                list.iter().all(|one| known.contains(one)),
                "{what}: wrong value"
            );
        }
        assert!(got == want || told, "{what}: lost without a word");
        // A merge neither spreads the damage nor drops sound data.
        let merged = store.flush();
        let (after, _) = content(&store);
        for (labels, list) in &got {
            assert_eq!(after.get(labels), Some(list), "{what}: {merged:?}");
        }
    }
}

#[test]
fn block_that_somebody_removed_is_missed() {
    let directory = tempfile::tempdir().unwrap();
    let want = write(directory.path(), 30, 10);
    let blocks = files_below(&directory.path().join("blocks"));
    assert_eq!(blocks.len(), 3);
    fs::remove_file(&blocks[1]).unwrap();
    for _ in 0..2 {
        let store = open(directory.path());
        let (got, warnings) = content(&store);
        assert!(got != want && warnings.len() == 1, "{warnings:?}");
        let stats = store.stats();
        assert_eq!((stats.blocks_missing, stats.blocks_quarantined), (1, 1));
        store.flush().unwrap();
    }
    fs::remove_dir_all(directory.path().join("state.sled")).unwrap();
    let store = open(directory.path());
    assert_eq!(
        store.stats().blocks_missing,
        0,
        "nobody knows of it any more"
    );
    drop(store);
    assert_eq!(open(directory.path()).stats().blocks_missing, 0);
}

#[test]
fn sequence_of_an_agent_outlives_both_checkpoints() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), 30, 10);
    for name in ["checkpoint", "checkpoint.copy"] {
        fs::write(directory.path().join(name), b"garbage").unwrap();
    }
    let store = open(directory.path());
    assert_eq!(store.stream("agent/a").durable_sequence(), Some(30));
}

#[test]
fn lost_definitions_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), 5, 100);
    // Damage both copies of the record that defines the columns.
    let segment = &files_below(&directory.path().join("wal"))[0];
    let mut bytes = fs::read(segment).unwrap();
    let mut at = 8;
    for _ in 0..2 {
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        bytes[at + 24 + length / 2] ^= 1;
        at += 24 + length;
    }
    fs::write(segment, bytes).unwrap();
    let store = open(directory.path());
    let lost = store.stats().lost;
    assert_eq!((lost.records, lost.definitions), (2, u64::from(SERIES)));
    assert_eq!(lost.samples, 5 * u64::from(SERIES));
}

#[test]
fn replayed_and_late_rows_are_told_apart_exactly() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), 20, 7);
    let store = open(directory.path());
    let mut stream = store.stream("agent/a");
    for number in 0..SERIES {
        stream.define(number, &labels(number)).unwrap();
    }
    // The agent resends rows that are already stored, starting at its last whole spool segment.
    for tick in 11..=20_u64 {
        let row: Vec<_> = (0..SERIES).map(|n| (n, 0.0)).collect();
        let time = NOW - 1_000_000 + tick as i64 * 1000;
        let again = stream.append_row(tick, time, &row).unwrap();
        assert_eq!((again.stored, again.duplicates), (0, u64::from(SERIES)));
    }
    // Late samples within the retention are stored at any timestamp; each clashing sample is refused individually.
    let sample = |timestamp_ms, value| Sample {
        timestamp_ms,
        value,
    };
    let late = SeriesSamples {
        labels: labels(3),
        samples: vec![
            sample(NOW - 1_000_000 + 5_500, 1.0),
            sample(NOW - 1_000_000 + 5_000, 9.5),
            sample(NOW - 1_000_000 + 6_000, -1.0),
            sample(5, 1.0),
        ],
    };
    let appended = store.append(&[late], AppendMode::Partial).unwrap();
    let counts = (appended.stored, appended.duplicates, appended.refused);
    assert_eq!(counts, (2, 1, 1));
    let series = &content(&store).0[&labels(3)];
    assert_eq!(series.len(), 22);
    assert!(series.is_sorted() && series[0].0 == 5);
}

#[test]
fn verify_finds_each_flipped_bit_and_missing_file() {
    use crate::verify::verify;
    let source = tempfile::tempdir().unwrap();
    write(source.path(), 50, 15);
    let sound = verify(source.path(), &mut |_, _| {}).unwrap();
    assert_eq!(sound.damage, []);
    assert_eq!(sound.samples, 45 * u64::from(SERIES));
    let flips = std::env::var("TIDEMARK_FLIPS").map_or(60, |text| text.parse().unwrap());
    let mut random = 8_u64;
    for round in 0..flips {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let copy = tempfile::tempdir().unwrap();
        copy_folder(source.path(), copy.path());
        let mut files = files_below(copy.path());
        // The database checks itself when it is opened, and parts of its files are unused. The reserve is empty space.
        files.retain(|path| {
            let text = path.to_string_lossy();
            !text.contains("state.sled") && !text.ends_with("reserve")
        });
        let victim = &files[(random >> 33) as usize % files.len()];
        let mut bytes = fs::read(victim).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let bit = (random >> 13) as usize % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(victim, bytes).unwrap();
        let found = verify(copy.path(), &mut |_, _| {}).unwrap();
        let what = format!("round {round}: bit {bit} of {}", victim.display());
        assert!(
            found.damage.iter().any(|one| one.path == *victim),
            "{what}: {:?}",
            found.damage
        );
    }
    let block = &files_below(&source.path().join("blocks"))[0];
    fs::remove_file(block).unwrap();
    let found = verify(source.path(), &mut |_, _| {}).unwrap();
    assert!(
        found.damage[0].what.contains("is missing"),
        "{:?}",
        found.damage
    );
}

/// Changes a value in the database so that the database's own checksums still match.
#[test]
fn changed_value_of_the_state_is_reported_and_costs_nothing() {
    use crate::verify::verify;
    let source = tempfile::tempdir().unwrap();
    let want = write(source.path(), 30, 10);
    for table in ["agents", "blocks"] {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(source.path(), copy.path());
        let database = sled::open(copy.path().join("state.sled")).unwrap();
        let tree = database.open_tree(table).unwrap();
        let (key, value) = tree
            .iter()
            .map(Result::unwrap)
            .find(|(key, _)| !key.is_empty())
            .unwrap();
        let mut bytes = value.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        tree.insert(key, bytes).unwrap();
        tree.flush().unwrap();
        drop((tree, database));
        let found = verify(copy.path(), &mut |_, _| {}).unwrap().damage;
        let named = format!("checksums of 1 values of table {table} do not hold");
        assert!(found.iter().any(|one| one.what == named), "{found:?}");
        let store = open(copy.path());
        assert_eq!(content(&store), (want.clone(), vec![]), "{table}");
        assert_eq!(store.stream("agent/a").durable_sequence(), Some(30));
    }
}
