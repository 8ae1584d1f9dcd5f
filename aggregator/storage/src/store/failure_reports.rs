//! Tests that each log line and each error about a failing disk names the failed step and the system's reason.

use super::*;

use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

use common::clock::ManualClock;
use common::model::{Labels, Sample};

use crate::disk::model::{Disk, Fault};
use crate::sync::{Rank, RankedMutex};

const NOW: i64 = 1_700_000_000_000;
const ERRORS: [i32; 3] = [libc::ENOSPC, libc::EIO, libc::EACCES];

static LINES: RankedMutex<String> = RankedMutex::new(Rank::CapturedLines, String::new());

struct Capture;

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&LINES).push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Collects the log lines of all threads, because the store also logs from its own threads.
fn capture() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        tracing_subscriber::fmt()
            .with_writer(|| Capture)
            .with_ansi(false)
            .init();
    });
}

#[track_caller]
fn wait_for_line(message: &str, reason: &str) {
    let until = Instant::now() + Duration::from_secs(10);
    let is_there = || {
        let lines = lock(&LINES);
        lines
            .lines()
            .any(|line| line.contains(message) && line.contains(reason))
    };
    while !is_there() {
        assert!(
            Instant::now() < until,
            "no line with {message:?}, {reason:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn reason(errno: i32) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}

fn open(path: &Path) -> Store {
    let options = StoreOptions {
        path: path.to_path_buf(),
        ..StoreOptions::default()
    };
    Store::open(options, Arc::new(ManualClock::new(NOW))).unwrap()
}

fn append(store: &Store, age_ms: i64) -> Result<(), AppendError> {
    let sample = Sample {
        timestamp_ms: NOW - age_ms,
        value: 1.0,
    };
    let series = SeriesSamples {
        labels: Labels::from_sorted([("__name__", "m")]),
        samples: vec![sample],
    };
    let appended = store.append(&[series], AppendMode::Partial)?;
    store.wait_durable(appended.position)
}

fn fail_from_now(disk: &Disk, errno: i32) {
    disk.fail(Some(Fault {
        first: disk.calls(),
        calls: u64::MAX / 2,
        errno,
    }));
}

#[test]
fn failed_log_names_step_and_reason() {
    capture();
    for errno in ERRORS {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::install(directory.path());
        let store = open(directory.path());
        fail_from_now(&disk, errno);
        let error = append(&store, 0).unwrap_err();
        wait_for_line("write to the write-ahead log: ", &reason(errno));
        match error {
            AppendError::DiskFull { .. } => assert_eq!(errno, libc::ENOSPC),
            error => assert!(chain(&error).contains(&reason(errno)), "{error:?}"),
        }
        disk.fail(None);
    }
}

#[test]
fn failed_seal_names_step_and_reason() {
    capture();
    for errno in ERRORS {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::install(directory.path());
        let store = open(directory.path());
        append(&store, 0).unwrap();
        fail_from_now(&disk, errno);
        let error = store.flush().unwrap_err();
        let want = format!("seal the head: write a block: {}", reason(errno));
        assert_eq!(chain(&error), want);
        // The maintenance thread retries.
        wait_for_line("maintain blocks", &want);
        disk.fail(None);
    }
}

#[test]
fn failed_merge_names_step_and_reason() {
    for errno in ERRORS {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::install(directory.path());
        let store = open(directory.path());
        for age_ms in [2000, 1000] {
            append(&store, age_ms).unwrap();
            let mut maintenance = lock(&store.inner.maintenance);
            store.inner.seal(&mut maintenance).unwrap();
        }
        fail_from_now(&disk, errno);
        let error = store.flush().unwrap_err();
        let want = format!("merge blocks: write the new block: {}", reason(errno));
        assert_eq!(chain(&error), want);
        disk.fail(None);
    }
}

#[test]
fn failed_state_database_names_reason() {
    capture();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let state = StateDb::open(&file);
    assert!(!state.works());
    wait_for_line("no state database", &reason(libc::ENOTDIR));
}
