//! Counters of mounted XFS file systems.

use common::model::MetricType;

use super::{AS_IS, FoundSeries, Pick, names, read};
use crate::collectors::node::Roots;

/// A line of `stats` and the names of its columns; empty for a column that is not exported.
const LINES: [(&str, &[&str]); 8] = [
    (
        "extent_alloc",
        &[
            "extent_allocation_extents_allocated",
            "extent_allocation_blocks_allocated",
            "extent_allocation_extents_freed",
            "extent_allocation_blocks_freed",
        ],
    ),
    (
        "abt",
        &[
            "allocation_btree_lookups",
            "allocation_btree_compares",
            "allocation_btree_records_inserted",
            "allocation_btree_records_deleted",
        ],
    ),
    (
        "blk_map",
        &[
            "block_mapping_reads",
            "block_mapping_writes",
            "block_mapping_unmaps",
            "block_mapping_extent_list_insertions",
            "block_mapping_extent_list_deletions",
            "block_mapping_extent_list_lookups",
            "block_mapping_extent_list_compares",
        ],
    ),
    (
        "bmbt",
        &[
            "block_map_btree_lookups",
            "block_map_btree_compares",
            "block_map_btree_records_inserted",
            "block_map_btree_records_deleted",
        ],
    ),
    (
        "dir",
        &[
            "directory_operation_lookup",
            "directory_operation_create",
            "directory_operation_remove",
            "directory_operation_getdents",
        ],
    ),
    (
        "ig",
        &[
            "inode_operation_attempts",
            "inode_operation_found",
            "inode_operation_recycled",
            "inode_operation_missed",
            "inode_operation_duplicates",
            "inode_operation_reclaims",
            "inode_operation_attribute_changes",
        ],
    ),
    ("rw", &["write_calls", "read_calls"]),
    (
        "vnodes",
        &[
            "vnode_active",
            "vnode_allocate",
            "vnode_get",
            "vnode_hold",
            "vnode_release",
            "vnode_reclaim",
            "vnode_remove",
        ],
    ),
];

pub(super) fn search(roots: &Roots) -> Vec<FoundSeries> {
    let directory = roots.sys.join("fs/xfs");
    let mut found = Vec::new();
    for device in names(&directory) {
        let path = directory.join(&device).join("stats/stats");
        if read(&path).is_none() {
            continue;
        }
        for (key, columns) in LINES {
            for (column, name) in columns.iter().enumerate() {
                let family = format!("node_xfs_{name}_total");
                let series = FoundSeries::gauge(
                    family,
                    "Counter of an XFS file system.",
                    &[("device", &device)],
                );
                let key = key.to_owned();
                let scale = AS_IS;
                let pick = Pick::Field { key, column, scale };
                found.push(
                    series
                        .of_type(MetricType::Counter)
                        .in_file(path.clone(), pick),
                );
            }
        }
    }
    found
}
