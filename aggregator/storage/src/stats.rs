//! Statistics of the store for metrics, and the labels with the most series.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::budget::Pressure;
use crate::index::view::SeriesIndex as _;
use crate::store::{Inner, Store};
use crate::symbols::Symbol;
use crate::sync::{lock, read};

/// What a start could not recover from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Lost {
    /// Records that are missing in the log, by the gaps in their numbers.
    pub records: u64,
    /// Records with valid checksums and invalid content.
    pub malformed: u64,
    /// Records that a newer version wrote, skipped; the files that have them are copied to `corrupt/`.
    pub unsupported: u64,
    /// Rows that can't be decoded because both copies of their key row are damaged.
    pub rows: u64,
    /// Columns recovered with samples but without a series definition.
    pub definitions: u64,
    /// Samples lost because their series definition was missing.
    pub samples: u64,
    /// Bytes after the last valid record. A kill or a power loss leaves some that were never acknowledged. Damage to the
    /// last record looks the same.
    pub torn_bytes: u64,
}

impl Lost {
    /// Reports whether acknowledged data was lost.
    #[must_use]
    pub const fn is_anything(&self) -> bool {
        self.records > 0
            || self.malformed > 0
            || self.unsupported > 0
            || self.rows > 0
            || self.definitions > 0
    }
}

/// A snapshot of the store's statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StoreStats {
    /// Series in the head.
    pub head_series: u64,
    /// Sources of series in the head.
    pub head_groups: u64,
    /// Samples in the head that are in no block yet.
    pub head_samples: u64,
    /// Bytes of memory that the head's samples take.
    pub head_bytes: u64,
    /// Bytes of memory that the head's index takes.
    pub index_bytes: u64,
    /// Bytes of memory in the caches of chunks and of indexes.
    pub cache_bytes: u64,
    /// Total bytes of memory of the store at the last check.
    pub memory_bytes: u64,
    /// The memory budget in bytes.
    pub memory_budget_bytes: u64,
    /// The current memory pressure.
    pub pressure: Pressure,
    /// Free bytes on the disk at the last check.
    pub disk_free_bytes: u64,
    /// Whether samples are refused for lack of disk space.
    pub disk_refuses: bool,
    /// Bytes that are queued for the log.
    pub wal_pending_bytes: u64,
    /// Bytes written to the log since the start.
    pub wal_written_bytes: u64,
    /// Commits of the log since the start.
    pub wal_commits: u64,
    /// Whether writes to the log fail, so that samples are refused.
    pub wal_failed: bool,
    /// Blocks on disk.
    pub blocks: u64,
    /// Bytes of the blocks.
    pub block_bytes: u64,
    /// Samples in the blocks.
    pub block_samples: u64,
    /// Blocks that are damaged and set aside.
    pub blocks_quarantined: u64,
    /// The number of these whose files were deleted externally.
    pub blocks_missing: u64,
    /// Data that the last start could not recover.
    pub lost: Lost,
    /// Bytes of the state database.
    pub state_bytes: u64,
    /// Whether the state database failed. It is unused until the next start.
    pub state_failed: bool,
    /// The timestamp of the earliest sample in milliseconds, or `None` without samples.
    pub first_ms: Option<i64>,
    /// The timestamp of the latest sample in milliseconds.
    pub last_ms: Option<i64>,
}

/// The labels with the most series in the head.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Cardinality {
    /// Series in the head.
    pub series: u64,
    /// Pairs of a label name and a value.
    pub label_pairs: u64,
    /// Metric names with the most series, most first.
    pub series_by_metric: Vec<(String, u64)>,
    /// Label names with the most values.
    pub values_by_label: Vec<(String, u64)>,
    /// Label names whose values take the most bytes.
    pub bytes_by_label: Vec<(String, u64)>,
    /// Pairs `name=value` with the most series.
    pub series_by_pair: Vec<(String, u64)>,
    /// Sources with the most series: agents (`agent/<data centre>/<node>/...`), scrape targets, senders.
    pub series_by_source: Vec<(String, u64)>,
}

/// Returns the largest entries in descending order, ties by name.
fn top(all: impl Iterator<Item = (String, u64)>, limit: usize) -> Vec<(String, u64)> {
    let mut list: BTreeMap<(Reverse<u64>, String), ()> = BTreeMap::new();
    for (name, count) in all {
        list.insert((Reverse(count), name), ());
        if list.len() > limit {
            list.pop_last();
        }
    }
    list.into_keys()
        .map(|(Reverse(count), name)| (name, count))
        .collect()
}

impl Inner {
    /// Reports the memory of the store to the budget.
    pub(crate) fn look_at_memory(&self) {
        let samples = self.throttle.open();
        let used = self.memory_bytes();
        let beyond = self.overhead.look(used, self.budget.max_bytes());
        self.budget.update(used.saturating_add(beyond), samples);
    }

    /// Returns free memory to the system after a large operation.
    pub(crate) fn release_memory(&self) {
        self.overhead.release(self.memory_bytes());
    }

    /// Returns the memory of the store in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let head = self.head();
        let index = read(&head.index).memory_bytes();
        let groups = head.groups();
        let samples: usize = groups
            .iter()
            .map(|one| lock(&one.data).memory_bytes())
            .sum();
        let rest = self.blocks.cache_bytes() + self.raw.memory_bytes();
        let exemplars = lock(&self.exemplars).memory_bytes();
        (index + samples + rest + exemplars) as u64 + self.wal.stats().pending_bytes
    }
}

impl Store {
    /// Returns statistics for metrics and status pages.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let inner = self.inner();
        let head = inner.head();
        let wal = inner.wal.stats();
        let mut stats = StoreStats {
            head_samples: inner.throttle.open(),
            wal_pending_bytes: wal.pending_bytes,
            wal_written_bytes: wal.written_bytes,
            wal_commits: wal.commits,
            wal_failed: wal.failed,
            cache_bytes: inner.blocks.cache_bytes() as u64,
            blocks_quarantined: inner.blocks.quarantined(i64::MIN, i64::MAX).len() as u64,
            blocks_missing: inner.blocks.missing(),
            lost: inner.lost,
            memory_bytes: inner.budget.used_bytes(),
            memory_budget_bytes: inner.budget.max_bytes(),
            pressure: inner.budget.pressure(),
            disk_free_bytes: inner.space.free_bytes(),
            disk_refuses: inner.space.refusal().is_some(),
            state_bytes: inner.state.disk_bytes(),
            state_failed: !inner.state.works(),
            ..StoreStats::default()
        };
        {
            let index = read(&head.index);
            stats.head_series = index.len() as u64;
            stats.index_bytes = index.memory_bytes() as u64;
        }
        let mut spans = Vec::new();
        for group in head.groups() {
            let data = lock(&group.data);
            stats.head_groups += 1;
            stats.head_bytes += data.memory_bytes() as u64;
            let frozen = data.frozen().iter().filter_map(|part| part.bounds());
            spans.extend(data.open().bounds().into_iter().chain(frozen));
        }
        for block in inner.blocks.all() {
            stats.blocks += 1;
            stats.block_bytes += block.file_bytes;
            stats.block_samples += block.footer.samples;
            spans.push((block.footer.first_ms, block.footer.last_ms));
        }
        stats.first_ms = spans.iter().map(|&(first, _)| first).min();
        stats.last_ms = spans.iter().map(|&(_, last)| last).max();
        stats
    }

    /// Returns the labels with the most series, with at most `limit` entries per list. Reads only the index.
    #[must_use]
    pub fn cardinality(&self, limit: usize) -> Cardinality {
        let head = self.inner().head();
        let groups = head.groups();
        let sources = groups.iter().map(|group| {
            let series = lock(&group.data).used_columns() as u64;
            (group.key.replace('\u{1f}', "/"), series)
        });
        let series_by_source = top(sources, limit);
        let index = read(&head.index);
        let text = |symbol: Symbol| index.text(symbol).to_owned();
        let mut answer = Cardinality {
            series: index.len() as u64,
            series_by_source,
            ..Cardinality::default()
        };
        let mut metrics = Vec::new();
        let mut values = Vec::new();
        let mut bytes = Vec::new();
        let mut pairs = Vec::new();
        for name in index.label_symbols() {
            let name_text = text(name);
            let (mut count, mut size, mut list) = (0, 0, Vec::new());
            index.each_value(name, "", &mut |value, postings| {
                count += 1;
                size += index.text(value).len() as u64;
                list.push((text(value), postings.len()));
            });
            answer.label_pairs += count;
            let list = top(list.into_iter(), limit);
            if name_text == common::model::label::METRIC_NAME {
                metrics.clone_from(&list);
            }
            let pair = |(value, count)| (format!("{name_text}={value}"), count);
            pairs.extend(list.into_iter().map(pair));
            values.push((name_text.clone(), count));
            bytes.push((name_text, size));
        }
        answer.series_by_metric = metrics;
        answer.values_by_label = top(values.into_iter(), limit);
        answer.bytes_by_label = top(bytes.into_iter(), limit);
        answer.series_by_pair = top(pairs.into_iter(), limit);
        answer
    }
}
