//! `kill -9` at any moment, also of seals, merges and deletions: what was acknowledged is there, nothing is there twice, and
//! what was deleted does not come back.
//!
//! The writer is this test binary itself, started again with an environment variable that says so. Rounds:
//! `TIDEMARK_KILL_ROUNDS` (8; the full run is 200).

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::model::{Labels, Matcher, Sample};
use rand::{Rng as _, SeedableRng as _};
use tidemark_storage::{AppendMode, SeriesSamples, Store};

use super::{NOW_MS, open, samples, series};

const DIRECTORY: &str = "TIDEMARK_KILL_DIRECTORY";
/// The last sample that an earlier child has deleted.
const DELETED: &str = "TIDEMARK_KILL_DELETED";
const COLUMNS: u32 = 50;

fn value(sequence: u64, column: u32) -> f64 {
    (sequence * 1000 + u64::from(column)) as f64 / 8.0
}

fn time(sequence: u64) -> i64 {
    NOW_MS - 1_000_000_000 + sequence as i64 * 1000
}

fn doomed() -> Labels {
    let pairs = [("__name__", "doomed"), ("instance", "b")];
    Labels::from_pairs(pairs).unwrap()
}

/// Writes a sample that is then deleted, says so, and seals and merges, again and again.
fn seal_and_delete(store: &Store, first: u64) {
    for number in first.. {
        let timestamp_ms = time(number);
        let one = SeriesSamples {
            labels: doomed(),
            samples: vec![Sample {
                timestamp_ms,
                value: 1.0,
            }],
        };
        store.append(&[one], AppendMode::Partial).unwrap();
        store.flush().unwrap();
        let matchers = [Matcher::equal("__name__", "doomed")];
        store
            .delete_series(&matchers, i64::MIN, timestamp_ms)
            .unwrap();
        let mut out = std::io::stdout();
        writeln!(out, "deleted {number}").unwrap();
        out.flush().unwrap();
    }
}

/// What the child does: append, wait until durable, say so; beside it, seal, merge and delete.
fn write_until_killed(directory: &Path) {
    let store = open(directory);
    let mut stream = store.stream("agent/a");
    for column in 0..COLUMNS {
        stream.define(column, &series(column)).unwrap();
    }
    let first = stream.durable_sequence().unwrap_or(0) + 1;
    let sealing = store.clone();
    let deleted: u64 = std::env::var(DELETED).unwrap().parse().unwrap();
    std::thread::spawn(move || seal_and_delete(&sealing, deleted + 1));
    let mut out = std::io::stdout();
    for sequence in first.. {
        let row: Vec<_> = (0..COLUMNS).map(|c| (c, value(sequence, c))).collect();
        let appended = stream.append_row(sequence, time(sequence), &row).unwrap();
        if sequence % 3 == 0 {
            store.wait_durable(appended.position).unwrap();
            writeln!(out, "acknowledged {sequence}").unwrap();
            out.flush().unwrap();
        }
    }
}

#[test]
fn child_that_writes() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        write_until_killed(Path::new(&directory));
    }
}

/// Runs the child for a while, kills it, returns the last sequence it acknowledged, and the last sample it deleted.
fn run_and_kill(directory: &Path, deleted: u64, after: Duration) -> (Option<u64>, Option<u64>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child_that_writes", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(DELETED, deleted.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let number = |line: &str, what: &str| line.strip_prefix(what)?.parse::<u64>().ok();
        let lines = output.lines().map_while(Result::ok);
        lines.fold((None, None), |(acknowledged, deleted), line| {
            (
                number(&line, "acknowledged ").or(acknowledged),
                number(&line, "deleted ").or(deleted),
            )
        })
    });
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

#[test]
fn killed_at_any_moment_nothing_acknowledged_is_lost() {
    let rounds = std::env::var("TIDEMARK_KILL_ROUNDS");
    let rounds: u32 = rounds.map_or(8, |text| text.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut random = rand::rngs::StdRng::seed_from_u64(42);
    let (mut acknowledged, mut deleted) = (0, 0);
    for round in 0.. {
        // On a machine that is busy enough a child may be killed each time before it gets anywhere.
        if round >= rounds && acknowledged > 0 && deleted > 0 {
            break;
        }
        assert!(
            round < rounds + 100,
            "acknowledged {acknowledged}, deleted {deleted}: a child never got to it"
        );
        let after = Duration::from_millis(random.random_range(60..500));
        let told = run_and_kill(directory.path(), deleted, after);
        acknowledged = told.0.unwrap_or(acknowledged);
        deleted = told.1.unwrap_or(deleted);
        let store = open(directory.path());
        let durable = store.stream("agent/a").durable_sequence().unwrap_or(0);
        assert!(
            durable >= acknowledged,
            "round {round}: {durable} < {acknowledged}"
        );
        for column in [0, 7, COLUMNS - 1] {
            let want: Vec<_> = (1..=durable).map(|s| (time(s), value(s, column))).collect();
            let got = samples(&store, &series(column));
            let differs = got.iter().zip(&want).position(|(a, b)| a != b);
            let lengths = (got.len(), want.len());
            assert_eq!((differs, lengths.0), (None, lengths.1), "round {round}");
        }
        let back = samples(&store, &doomed());
        assert!(
            back.iter().all(|&(at, _)| at > time(deleted)),
            "round {round}: {deleted} deleted, {back:?}"
        );
    }
}
