//! What the store says of itself: figures for metrics, and which labels make the most series.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::index::view::SeriesIndex as _;
use crate::store::Store;
use crate::symbols::Symbol;
use crate::sync::{lock, read};

/// Figures of a store at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StoreStats {
    /// Series in the head.
    pub head_series: u64,
    /// Sources of series in the head.
    pub head_groups: u64,
    /// Samples in the head that no block has yet.
    pub head_samples: u64,
    /// Bytes of memory that the head's samples take.
    pub head_bytes: u64,
    /// Bytes of memory that the head's index takes.
    pub index_bytes: u64,
    /// Bytes of memory in the caches of chunks and of indexes.
    pub cache_bytes: u64,
    /// Bytes that wait to be written to the log.
    pub wal_pending_bytes: u64,
    /// Bytes written to the log since the start.
    pub wal_written_bytes: u64,
    /// Commits of the log since the start.
    pub wal_commits: u64,
    /// The log can't be written, and samples are refused.
    pub wal_failed: bool,
    /// Blocks on disk.
    pub blocks: u64,
    /// Bytes of the blocks.
    pub block_bytes: u64,
    /// Samples in the blocks.
    pub block_samples: u64,
    /// Blocks that are damaged and set aside.
    pub blocks_quarantined: u64,
    /// The earliest sample, milliseconds; `None` when there is none.
    pub first_ms: Option<i64>,
    /// The latest sample, milliseconds.
    pub last_ms: Option<i64>,
}

/// Which labels make the most series of the head.
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
}

/// The largest entries, largest first; ties by name.
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

impl Store {
    /// Figures for metrics and status pages.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let inner = self.inner();
        let head = inner.head();
        let wal = inner.wal.stats();
        let mut stats = StoreStats {
            head_samples: inner.unsealed_samples.load(Ordering::Relaxed),
            wal_pending_bytes: wal.pending_bytes,
            wal_written_bytes: wal.written_bytes,
            wal_commits: wal.commits,
            wal_failed: wal.failed,
            cache_bytes: inner.blocks.cache_bytes() as u64,
            blocks_quarantined: inner.blocks.quarantined(i64::MIN, i64::MAX).len() as u64,
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

    /// Which labels make the most series: at most `limit` entries a list. Looks at no series, only at the index.
    #[must_use]
    pub fn cardinality(&self, limit: usize) -> Cardinality {
        let head = self.inner().head();
        let index = read(&head.index);
        let text = |symbol: Symbol| index.text(symbol).to_owned();
        let mut answer = Cardinality {
            series: index.len() as u64,
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
