//! `kill -9` at any moment: what was acknowledged is there, nothing is there twice.
//!
//! The writer is this test binary itself, started again with an environment variable that says so. Rounds:
//! `TIDEMARK_KILL_ROUNDS` (8; the full run is 200).

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};

use super::{NOW_MS, open, samples, series};

const DIRECTORY: &str = "TIDEMARK_KILL_DIRECTORY";
const COLUMNS: u32 = 50;

fn value(sequence: u64, column: u32) -> f64 {
    (sequence * 1000 + u64::from(column)) as f64 / 8.0
}

fn time(sequence: u64) -> i64 {
    NOW_MS - 1_000_000_000 + sequence as i64 * 1000
}

/// What the child does: append, wait until durable, say so; now and then seal and merge.
fn write_until_killed(directory: &Path) {
    let store = open(directory);
    let mut stream = store.stream("agent/a");
    for column in 0..COLUMNS {
        stream.define(column, &series(column)).unwrap();
    }
    let first = stream.durable_sequence().unwrap_or(0) + 1;
    let flusher = store.clone();
    std::thread::spawn(move || {
        loop {
            flusher.flush().unwrap();
        }
    });
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

/// Runs the child for a while, kills it, returns the last sequence it acknowledged.
fn run_and_kill(directory: &Path, after: Duration) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child_that_writes", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let lines = output.lines().map_while(Result::ok);
        lines
            .filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok())
            .last()
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
    let mut acknowledged = 0;
    for round in 0..rounds {
        let after = Duration::from_millis(random.random_range(60..500));
        acknowledged = run_and_kill(directory.path(), after).unwrap_or(acknowledged);
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
    }
    assert!(acknowledged > 0, "the child never got to write");
}
