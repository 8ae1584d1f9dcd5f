//! Replays the corpus and deterministic mutations of it. `TIDEMARK_FUZZ_MUTATIONS` (default 16) sets the number of mutations
//! per input.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, outside of the functions that clippy knows to be tests"
)]

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuzz_checks::mutate::{Random, mutate};
use fuzz_checks::{TARGETS, Target};

/// Time limit of an input: far above the usual time, far below what a user would call a hang.
const INPUT_TIME_MAX: Duration = Duration::from_secs(30);
/// Maximum size of all corpora, so that they stay easy to review and clone.
const CORPUS_BYTES_MAX: u64 = 1 << 20;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Returns the names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz_folder().join("corpus").join(target);
    let read = |name: String| {
        let bytes = fs::read(folder.join(&name)).unwrap();
        (name, bytes)
    };
    names(&folder).into_iter().map(read).collect()
}

/// Runs one input. The message of a failure has everything needed to reproduce it.
fn run(target: &Target, name: &str, number: u64, input: &[u8]) {
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.check)(input)));
    if outcome.is_err() {
        let path =
            std::env::temp_dir().join(format!("tidemark-fuzz-{}-{name}-{number}", target.name));
        fs::write(&path, input).unwrap();
        panic!(
            "{}: {name}, mutation {number}: input in {}",
            target.name,
            path.display()
        );
    }
    let took = started.elapsed();
    assert!(
        took < INPUT_TIME_MAX,
        "{}: {name}, mutation {number}, took {took:?}",
        target.name
    );
}

#[track_caller]
fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let mutations = match std::env::var("TIDEMARK_FUZZ_MUTATIONS") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => 16,
    };
    let inputs = corpus(name);
    assert!(!inputs.is_empty(), "{name} has no corpus");
    for (index, (file, input)) in inputs.iter().enumerate() {
        run(target, file, 0, input);
        for number in 1..=mutations {
            let mut random = Random::new(input, number);
            let other = &inputs[(index + random.below(inputs.len())) % inputs.len()].1;
            run(target, file, number, &mutate(input, other, &mut random));
        }
    }
}

macro_rules! replayed {
    ($($name:ident)*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn every_target_is_replayed_and_has_its_files() {
            let replayed = BTreeSet::from([$(stringify!($name).to_owned()),*]);
            let known: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
            assert_eq!(replayed, known);
            let folder = fuzz_folder();
            let files = names(&folder.join("fuzz_targets"));
            let files: BTreeSet<String> = files.iter().map(|file| file.trim_end_matches(".rs").to_owned()).collect();
            assert_eq!(files, known);
            assert_eq!(BTreeSet::from_iter(names(&folder.join("corpus"))), known);
            let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            for name in &known {
                assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
                let source = fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
                assert!(source.contains(&format!("run(\"{name}\"")), "{name}.rs runs another target");
            }
        }
    };
}

replayed! {
    agent_cgroup agent_hardware agent_kubelet_metrics agent_kubelet_pods agent_kubelet_summary agent_mountinfo agent_node agent_spool
    agent_textfile config_alertmanager config_prometheus config_relabel config_rules exposition http_alertmanager http_query
    http_remote_read http_remote_write promql regex storage_block_directory storage_block_index storage_chunk
    storage_chunk_values storage_wal_record storage_wal_segment template texts wire_frames wire_session wire_values
}

#[test]
fn corpus_is_small() {
    let bytes = TARGETS
        .iter()
        .flat_map(|target| corpus(target.name))
        .map(|(_, input)| input.len() as u64)
        .sum::<u64>();
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes} bytes");
}
