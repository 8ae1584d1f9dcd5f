use super::*;

use std::fs;
use std::path::{Path, PathBuf};

fn rows(count: u8) -> Vec<StateChange> {
    let row = |n: u8| (vec![n, 7], Some(vec![n; 300]));
    (0..count).map(row).collect()
}

fn fill(directory: &Path, count: u8) {
    let table = StateDb::open(directory).table("t");
    table.apply(&rows(count)).unwrap();
    table.mark_filled().unwrap();
    table.flush().unwrap();
}

fn files_of(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("state.sled")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

#[test]
fn rows_come_back_in_order_and_tables_are_apart() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 20);
    let database = StateDb::open(directory.path());
    let scan = database.table("t").scan().unwrap();
    assert!(scan.is_whole() && scan.rows.len() == 20);
    assert!(scan.rows.is_sorted());
    let other = database.table("other");
    assert!(!other.scan().unwrap().is_filled, "never filled");
    other.apply(&rows(3)).unwrap();
    database.table("t").apply(&[(vec![3, 7], None)]).unwrap();
    assert_eq!(other.scan().unwrap().rows.len(), 3);
    assert_eq!(database.table("t").scan().unwrap().rows.len(), 19);
}

/// Flips `TIDEMARK_STATE_FLIPS` bits (default 60; the full run uses 5,000), each in a fresh copy.
#[test]
fn flipped_bit_is_never_a_wrong_value_and_never_keeps_the_database_closed() {
    let source = tempfile::tempdir().unwrap();
    fill(source.path(), 50);
    let want: Vec<_> = rows(50).into_iter().map(|(k, v)| (k, v.unwrap())).collect();
    let flips = std::env::var("TIDEMARK_STATE_FLIPS").map_or(60, |text| text.parse().unwrap());
    let mut random = 7_u64;
    for round in 0..flips {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("state.sled")).unwrap();
        let files = files_of(source.path());
        let victim = (random >> 33) as usize % files.len();
        for (number, file) in files.iter().enumerate() {
            let mut bytes = fs::read(file).unwrap();
            if number == victim && !bytes.is_empty() {
                // Only the part that was written, because sled's files are mostly empty.
                let used = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0) + 1;
                let bit = (random >> 17) as usize % (used * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            let name = file.file_name().unwrap();
            fs::write(directory.path().join("state.sled").join(name), bytes).unwrap();
        }
        let database = StateDb::open(directory.path());
        assert!(database.works(), "round {round}");
        let Ok(scan) = database.table("t").scan() else {
            continue;
        };
        assert!(
            scan.rows.iter().all(|row| want.contains(row)),
            "round {round}"
        );
        if scan.rows != want {
            assert!(
                !scan.is_whole() || is_older(&scan.rows, &want),
                "round {round}: {} rows, taken for whole",
                scan.rows.len()
            );
        }
    }
}

/// sled may open without the end of its log. The table's user then compares the table with its own files and refills
/// it.
fn is_older(rows: &[(Vec<u8>, Vec<u8>)], want: &[(Vec<u8>, Vec<u8>)]) -> bool {
    rows.len() < want.len()
}

#[test]
fn database_that_failed_is_set_aside_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), 5);
    fs::write(directory.path().join("state.sled.stale"), b"").unwrap();
    let database = StateDb::open(directory.path());
    assert!(database.works());
    assert!(!database.table("t").scan().unwrap().is_filled);
    assert!(directory.path().join("state.sled.damaged").is_dir());
    drop(database);
    fill(directory.path(), 5);
    assert!(
        StateDb::open(directory.path())
            .table("t")
            .scan()
            .unwrap()
            .is_whole()
    );
}

/// Simulates two months of seals with 200 agents: disk usage stays within a bound that does not depend on time.
#[test]
fn space_stays_bounded_however_long_state_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let database = StateDb::open(directory.path());
    let table = database.table("agents");
    let mut largest = 0;
    for seal in 0..2_880_u64 {
        let changes: Vec<StateChange> = (0..200)
            .map(|agent: u32| {
                let key = format!("agent/default/node-{agent:04}/0123456789abcdef");
                let mut value = (seal * 180).to_le_bytes().to_vec();
                value.extend_from_slice(&seal.to_le_bytes());
                (key.into_bytes(), Some(value))
            })
            .collect();
        table.apply(&changes).unwrap();
        if seal % 60 == 0 {
            table.flush().unwrap();
            largest = largest.max(database.disk_bytes());
            database.compact_if_large().unwrap();
        }
    }
    table.flush().unwrap();
    println!(
        "state database: {largest} bytes at most, {} at the end",
        database.disk_bytes()
    );
    assert!(largest < 40 << 20, "{largest}");
    let scan = table.scan().unwrap();
    assert_eq!(scan.rows.len(), 200);
    assert!(
        scan.rows
            .iter()
            .all(|(_, value)| value[..8] == (2_879_u64 * 180).to_le_bytes())
    );
}

#[test]
fn compaction_keeps_every_table() {
    let directory = tempfile::tempdir().unwrap();
    let database = StateDb::open(directory.path());
    let (a, b) = (database.table("a"), database.table("b"));
    a.apply(&rows(30)).unwrap();
    a.mark_filled().unwrap();
    b.apply(&rows(3)).unwrap();
    // The database grows by large values that are added and removed.
    for round in 0..60_u8 {
        let big = (vec![200], Some(vec![round; 1 << 20]));
        b.apply(&[big]).unwrap();
        b.flush().unwrap();
    }
    b.apply(&[(vec![200], None)]).unwrap();
    b.flush().unwrap();
    let before = database.disk_bytes();
    if before >= 16 << 20 {
        assert!(database.compact_if_large().unwrap());
        assert!(database.disk_bytes() < before / 4);
    }
    assert!(a.scan().unwrap().is_whole());
    assert_eq!(a.scan().unwrap().rows.len(), 30);
    assert_eq!(b.scan().unwrap().rows.len(), 3);
    drop((a, b, database));
    assert!(
        StateDb::open(directory.path())
            .table("a")
            .scan()
            .unwrap()
            .is_whole()
    );
}
