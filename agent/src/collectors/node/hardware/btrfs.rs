//! Space and commits of mounted btrfs file systems, from /sys/fs/btrfs.

use std::path::Path;

use common::model::MetricType;

use super::{AS_IS, FoundSeries, Pick, Scale, names, read};
use crate::collectors::node::Roots;

/// Size of the sectors in which device sizes are given.
const SECTOR: Scale = Scale::Times(512.0);

pub(super) fn search(roots: &Roots) -> Vec<FoundSeries> {
    let directory = roots.sys.join("fs/btrfs");
    let mut found = Vec::new();
    for name in names(&directory) {
        let directory = directory.join(&name);
        // `features` belongs to the module. A file system has block groups.
        if directory.join("allocation").is_dir() {
            let uuid = read(&directory.join("metadata_uuid")).filter(|uuid| !uuid.is_empty());
            search_file_system(&directory, &uuid.unwrap_or(name), &mut found);
        }
    }
    found
}

fn search_file_system(directory: &Path, uuid: &str, found: &mut Vec<FoundSeries>) {
    let label = read(&directory.join("label")).unwrap_or_default();
    let labels = [("label", &*label), ("uuid", uuid)];
    found.push(FoundSeries::gauge(
        "node_btrfs_info",
        "Filesystem information",
        &labels,
    ));
    let of_uuid = [("uuid", uuid)];
    let reserve = FoundSeries::gauge(
        "node_btrfs_global_rsv_size_bytes",
        "Size of global reserve.",
        &of_uuid,
    );
    found.push(reserve.number(directory.join("allocation/global_rsv_size"), AS_IS));
    search_commits(&directory.join("commit_stats"), uuid, found);
    let devices = directory.join("devices");
    for device in names(&devices) {
        let labels = [("device", &*device), ("uuid", uuid)];
        let series = FoundSeries::gauge(
            "node_btrfs_device_size_bytes",
            "Size of a device that is part of the filesystem.",
            &labels,
        );
        found.push(series.number(devices.join(&device).join("size"), SECTOR));
    }
    for group in ["data", "metadata", "system"] {
        search_group(
            &directory.join("allocation").join(group),
            (group, uuid),
            found,
        );
    }
}

fn search_commits(path: &Path, uuid: &str, found: &mut Vec<FoundSeries>) {
    let of_uuid = [("uuid", uuid)];
    for (key, name, help, is_counter, scale) in [
        (
            "commits",
            "node_btrfs_commits_total",
            "The total number of commits that have occurred.",
            true,
            AS_IS,
        ),
        (
            "last_commit_ms",
            "node_btrfs_last_commit_seconds",
            "Duration of the most recent commit, in seconds.",
            false,
            Scale::Over(1000.0),
        ),
        (
            "max_commit_ms",
            "node_btrfs_max_commit_seconds",
            "Duration of the slowest commit, in seconds.",
            false,
            Scale::Over(1000.0),
        ),
        (
            "total_commit_ms",
            "node_btrfs_commit_seconds_total",
            "Sum of the duration of all commits, in seconds.",
            true,
            Scale::Over(1000.0),
        ),
    ] {
        let kind = if is_counter {
            MetricType::Counter
        } else {
            MetricType::Gauge
        };
        let (key, column) = (key.to_owned(), 0);
        let pick = Pick::Field { key, column, scale };
        found.push(
            FoundSeries::gauge(name, help, &of_uuid)
                .of_type(kind)
                .in_file(path.to_owned(), pick),
        );
    }
}

/// A type of block group, with one directory per profile (single, RAID1, ...).
fn search_group(directory: &Path, (group, uuid): (&str, &str), found: &mut Vec<FoundSeries>) {
    let labels = [("block_group_type", group), ("uuid", uuid)];
    let help = "Amount of space reserved for a data type";
    let reserved = FoundSeries::gauge("node_btrfs_reserved_bytes", help, &labels);
    found.push(reserved.number(directory.join("bytes_reserved"), AS_IS));
    let devices = names(&directory.join("../../devices")).len();
    for mode in names(directory) {
        let layout = directory.join(&mode);
        if !layout.join("total_bytes").is_file() {
            continue;
        }
        let labels = [labels[0], labels[1], ("mode", &*mode)];
        let used = FoundSeries::gauge(
            "node_btrfs_used_bytes",
            "Amount of used space by a layout/data type",
            &labels,
        );
        found.push(used.number(layout.join("used_bytes"), AS_IS));
        let size = FoundSeries::gauge(
            "node_btrfs_size_bytes",
            "Amount of space allocated for a layout/data type",
            &labels,
        );
        found.push(size.number(layout.join("total_bytes"), AS_IS));
        let ratio = FoundSeries::gauge(
            "node_btrfs_allocation_ratio",
            "Data allocation ratio for a layout/data type",
            &labels,
        );
        found.push(ratio.constant(copies(&mode, devices)));
    }
}

/// Bytes on disk per byte of data.
fn copies(mode: &str, devices: usize) -> f64 {
    let with_parity = |parity: usize| match devices.checked_sub(parity) {
        Some(data @ 1..) => devices as f64 / data as f64,
        _ => 0.0,
    };
    match mode {
        "dup" | "raid1" | "raid10" => 2.0,
        "raid1c3" => 3.0,
        "raid1c4" => 4.0,
        "raid5" => with_parity(1),
        "raid6" => with_parity(2),
        _ => 1.0,
    }
}
