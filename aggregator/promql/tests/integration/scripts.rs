//! All test scripts: our own, and those of Prometheus if they are available.

use std::path::{Path, PathBuf};

use tidemark_promql::memory_store::MemoryStore;
use tidemark_promql::parser::series::SeriesDescription;
use tidemark_promql::{Engine, EngineOptions, Features, QueryError, QueryOptions, QueryResult};
use tidemark_storage::read::ReadControl;

use crate::script::{EvalTime, Server, Tally, run};

impl Server for MemoryStore {
    fn clear(&mut self) {
        Self::clear(self);
    }

    fn load(&mut self, series: &[SeriesDescription], step_ms: i64) {
        for one in series {
            Self::load(self, one, 0, step_ms);
        }
    }

    fn evaluate(&mut self, time: EvalTime, query: &str) -> Result<QueryResult, QueryError> {
        evaluate(self, time, query)
    }
}

fn evaluate(store: &MemoryStore, time: EvalTime, query: &str) -> Result<QueryResult, QueryError> {
    let engine = Engine::new(EngineOptions {
        features: Features {
            experimental_functions: true,
            duration_expressions: true,
            delayed_name_removal: false,
            type_and_unit_labels: false,
        },
        ..EngineOptions::default()
    });
    let control = ReadControl::unlimited();
    let options = QueryOptions {
        lookback_delta: None,
        control: &control,
        deadline: None,
        per_step_stats: false,
    };
    match time {
        EvalTime::Instant(time_ms) => engine.instant(store, query, time_ms, &options),
        EvalTime::Range(range) => engine.range(store, query, range, &options),
    }
}

fn scripts(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "test")
        })
        .collect();
    paths.sort();
    paths
}

fn run_all(folder: &Path) -> Tally {
    let mut all = Tally::default();
    for path in scripts(folder) {
        let tally = run(&path, &mut MemoryStore::new());
        println!(
            "{}: {} passed, {} with native histograms, {} failed",
            path.display(),
            tally.passed,
            tally.histograms,
            tally.failures.len()
        );
        all.passed += tally.passed;
        all.histograms += tally.histograms;
        all.failures.extend(tally.failures);
    }
    all
}

#[track_caller]
fn check(tally: &Tally) {
    let count = tally.failures.len();
    assert!(
        count == 0,
        "{count} failures:\n{}",
        tally.failures.join("\n")
    );
}

#[test]
fn shared_upstream_scripts_pass() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("TIDEMARK_SHARED")
        .map_or_else(|| workspace.join("../shared"), PathBuf::from);
    let folder = shared.join("fixtures/promqltest");
    if !folder.is_dir() {
        println!("SKIPPED: no upstream test scripts in {}", folder.display());
        return;
    }
    let tally = run_all(&folder);
    check(&tally);
    assert!(tally.passed > 300, "only {} evaluations ran", tally.passed);
}

#[test]
fn own_scripts_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let tally = run_all(&folder);
    check(&tally);
    assert_eq!(
        tally.histograms, 0,
        "our own cases have no native histograms"
    );
    assert!(tally.passed >= 600, "only {} evaluations ran", tally.passed);
}

/// Each mistake that a lenient runner would accept is reported with its line, and does not stop the script.
#[test]
fn runner_reports_every_mistake() {
    let script = "\
load 5m
  g{a=\"1\"} 1
eval instant at 0 1
eval instant at 0 \"x\"
eval instant at 0 g
  expect miracle
  g{a=\"1\"} 1
eval instant at 0 g
  g{a=\"1\"} 2
eval instant at 0 rate(g[5m])
  expect warn
eval instant at soon g
evaluate
load x
  g 1
eval instant at 0 g
  g{a=\"1\"} 1
";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.test");
    std::fs::write(&path, script).unwrap();
    let tally = run(&path, &mut MemoryStore::new());
    let lines: Vec<_> = tally
        .failures
        .iter()
        .map(|failure| failure.split(':').nth(1).unwrap().parse::<u32>().unwrap())
        .collect();
    assert_eq!(lines, [3, 4, 5, 8, 10, 12, 13, 14], "{:#?}", tally.failures);
    assert_eq!((tally.passed, tally.histograms), (1, 0));
    assert!(tally.failures[2].contains("unknown expectation \"miracle\""));
}
