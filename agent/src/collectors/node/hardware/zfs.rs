//! Counters of the ZFS module and its pools, from /proc/spl/kstat/zfs.

use std::path::Path;

use common::model::MetricType;

use super::{AS_IS, FoundSeries, Pick, names, read};
use crate::collectors::node::Roots;

const HELP: &str = "Counter of the ZFS module.";
/// Files of the module, and the prefix of their series.
const MODULE: [(&str, &str); 10] = [
    ("abdstats", "abd"),
    ("arcstats", "arc"),
    ("dmu_tx", "dmu_tx"),
    ("dnodestats", "dnode"),
    ("fm", "fm"),
    ("vdev_cache_stats", "vdev_cache"),
    ("vdev_mirror_stats", "vdev_mirror"),
    ("xuio_stats", "xuio"),
    ("zfetchstats", "zfetch"),
    ("zil", "zil"),
];
const STATES: [&str; 7] = [
    "online",
    "degraded",
    "faulted",
    "offline",
    "removed",
    "unavail",
    "suspended",
];
/// Types of numbers in a kstat file: signed and unsigned, 32 and 64 bits.
const NUMBERS: [&str; 4] = ["1", "2", "3", "4"];

pub(super) fn search(roots: &Roots) -> Vec<FoundSeries> {
    let directory = roots.proc.join("spl/kstat/zfs");
    let mut found = Vec::new();
    for (file, subsystem) in MODULE {
        search_kstat(
            &directory.join(file),
            &format!("node_zfs_{subsystem}"),
            &[],
            &mut found,
        );
    }
    for pool in names(&directory) {
        let of_pool = directory.join(&pool);
        for file in names(&of_pool) {
            if file.starts_with("objset-") {
                let path = of_pool.join(&file);
                let dataset = read(&path)
                    .as_deref()
                    .and_then(dataset_of)
                    .unwrap_or_default();
                let labels = [("dataset", &*dataset), ("zpool", &*pool)];
                search_kstat(&path, "node_zfs_zpool_dataset", &labels, &mut found);
            }
        }
        search_state(&of_pool.join("state"), &pool, &mut found);
        search_io(&of_pool.join("io"), &pool, &mut found);
    }
    found
}

/// Reads lines `name type value` after two header lines.
fn search_kstat(
    path: &Path,
    prefix: &str,
    labels: &[(&'static str, &str)],
    found: &mut Vec<FoundSeries>,
) {
    let text = read(path).unwrap_or_default();
    for line in text.lines().skip(2) {
        let mut words = line.split_whitespace();
        let (Some(key), Some(kind)) = (words.next(), words.next()) else {
            continue;
        };
        if !NUMBERS.contains(&kind) {
            continue;
        }
        let name = format!("{prefix}_{}", key.replace('-', "_"));
        let (key, column, scale) = (key.to_owned(), 1, AS_IS);
        let series = FoundSeries::gauge(name, HELP, labels).of_type(MetricType::Unknown);
        found.push(series.in_file(path.to_owned(), Pick::Field { key, column, scale }));
    }
}

fn dataset_of(text: &str) -> Option<String> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("dataset_name"))?;
    let (_, name) = line.trim_start().split_once(char::is_whitespace)?;
    Some(name.trim().to_owned())
}

fn search_state(path: &Path, pool: &str, found: &mut Vec<FoundSeries>) {
    if read(path).is_none() {
        return;
    }
    for state in STATES {
        let labels = [("state", state), ("zpool", pool)];
        let series = FoundSeries::gauge("node_zfs_zpool_state", "State of a pool", &labels);
        found.push(series.in_file(path.to_owned(), Pick::Is(state.to_owned())));
    }
}

/// Reads a line of names and a line of numbers, as old versions write.
fn search_io(path: &Path, pool: &str, found: &mut Vec<FoundSeries>) {
    let text = read(path).unwrap_or_default();
    let Some(names) = text.lines().nth(1) else {
        return;
    };
    for (column, name) in names.split_whitespace().enumerate() {
        let series = FoundSeries::gauge(format!("node_zfs_zpool_{name}"), HELP, &[("zpool", pool)]);
        let pick = Pick::Cell {
            line: 2,
            column,
            scale: AS_IS,
        };
        found.push(
            series
                .of_type(MetricType::Unknown)
                .in_file(path.to_owned(), pick),
        );
    }
}
