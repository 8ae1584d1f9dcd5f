//! Invariants of a series table, whatever was read into it.

use std::collections::{BTreeMap, HashSet};

use agent::table::SeriesTable;
use common::limits::FRAME_BYTES_MAX;
use common::model::{Labels, MetricType};
use common::wire::{Compressor, SchemaReader, SchemaWriter};

/// Checks the current tick: each series occurs once and has a name, and an aggregator accepts the schema.
///
/// # Panics
/// One of these is violated.
pub fn check(table: &SeriesTable) {
    let mut seen = HashSet::new();
    for (id, _) in table.current() {
        let labels = table.def(id).expect("a current series is defined").labels;
        assert!(labels.metric_name().is_some(), "{labels} has no name");
        assert!(seen.insert(labels.clone()), "{labels} is there twice");
    }
    check_schema(table);
}

/// Checks that counters are not negative and not NaN. Only for our own values: those of others are forwarded unchanged.
///
/// # Panics
/// A counter is negative or NaN.
pub fn check_counters(table: &SeriesTable) {
    for (id, value) in table.current() {
        let def = table.def(id).expect("a current series is defined");
        if table.family(def.family).metadata.metric_type == MetricType::Counter {
            let labels = def.labels;
            assert!(value >= 0.0 && value.is_finite(), "{labels} is {value}");
        }
    }
}

/// Checks that the aggregator accepts the agent's schema: a label set beyond the limits would end every session.
fn check_schema(table: &SeriesTable) {
    let mut compressor = Compressor::default();
    let mut writer = SchemaWriter::default();
    let mut payload = Vec::new();
    for family in table.families() {
        writer.family(&family.name, &family.metadata);
    }
    for (number, (_, def)) in (0..).zip(table.series()) {
        writer.added(number, &def.labels);
    }
    writer.finish(&mut compressor, &mut payload);
    if payload.len() > FRAME_BYTES_MAX / 2 {
        return;
    }
    let mut reader = SchemaReader::new(&payload).expect("a schema that was written can be read");
    let mut entries = 0;
    while let Some(_entry) = reader.next_entry().expect("each entry can be read") {
        entries += 1;
    }
    assert_eq!(entries, table.families().len() + table.series().count());
}

/// Returns the values of the current tick, without those about the reading itself.
#[must_use]
pub fn values(table: &SeriesTable) -> BTreeMap<Labels, u64> {
    let about_reading = |name: &str| {
        name.starts_with("node_scrape_collector_")
            || name.starts_with("agent_")
            || name == "node_textfile_mtime_seconds"
            || name == "container_last_seen"
    };
    table
        .current()
        .filter_map(|(id, value)| Some((table.def(id)?.labels.clone(), value.to_bits())))
        .filter(|(labels, _)| !about_reading(labels.metric_name().unwrap_or_default()))
        .collect()
}
