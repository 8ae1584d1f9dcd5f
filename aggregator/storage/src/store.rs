//! The store: streams and requests in, series sets out.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::clock::Clock;
use common::limits::FUTURE_MS_MAX;
use common::model::{Labels, Matcher, Metadata, Sample};

use crate::read::{
    Column, Grouping, Groups, ReadControl, ReadError, Readable, Selection, SeriesSet, Values, Visit,
};
use crate::write::{
    AppendError, AppendMode, Appended, DefineError, LogPosition, OpenError, Refusal, RefusalReason,
    SeriesSamples,
};

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The data directory; made when it is not there.
    pub path: PathBuf,
    /// Samples older than this are refused and removed. `None`: kept for ever.
    pub retention: Option<Duration>,
    /// Bytes on disk at which the oldest blocks are removed. 0: no bound.
    pub retention_bytes: u64,
    /// Bytes of memory to stay below.
    pub memory_budget_bytes: u64,
}

type Series = BTreeMap<i64, f64>;

#[derive(Debug, Default)]
struct State {
    series: BTreeMap<Labels, Series>,
    sequences: BTreeMap<String, u64>,
    metadata: BTreeMap<String, Metadata>,
}

/// A time-series store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
    retention: Option<Duration>,
}

impl Store {
    /// Opens the store in `options.path`, replaying what its log holds.
    ///
    /// # Errors
    /// The directory can't be made, read or locked. Damaged files are set aside, not an error.
    pub fn open(options: StoreOptions, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Ok(Self {
            state: Arc::default(),
            clock,
            retention: options.retention,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the stream of one source, by a name that is the same after a reconnect or a restart
    /// (`agent/<idc>/<node>/<instance>`). A second stream of the same name takes over from the first.
    #[must_use]
    pub fn stream(&self, name: &str) -> Stream {
        Stream {
            store: self.clone(),
            name: name.to_owned(),
            columns: BTreeMap::new(),
        }
    }

    /// Appends samples of any series. Visible to reads when this returns, durable per
    /// [`Appended::position`].
    ///
    /// # Errors
    /// See [`AppendError`]; then nothing of the request is visible.
    pub fn append(
        &self,
        series: &[SeriesSamples],
        mode: AppendMode,
    ) -> Result<Appended, AppendError> {
        let now_ms = self.clock.now_ms();
        let mut state = self.state();
        let mut appended = Appended::default();
        let mut good: Vec<(&Labels, Sample)> = Vec::new();
        for one in series {
            for &sample in &one.samples {
                let stored = state
                    .series
                    .get(&one.labels)
                    .and_then(|s| s.get(&sample.timestamp_ms));
                let reason = match stored {
                    _ if sample.timestamp_ms > now_ms + FUTURE_MS_MAX => {
                        RefusalReason::TooFarInFuture
                    }
                    _ if self.is_too_old(sample.timestamp_ms, now_ms) => RefusalReason::TooOld,
                    Some(value) if value.to_bits() == sample.value.to_bits() => {
                        appended.duplicates += 1;
                        continue;
                    }
                    Some(_) => RefusalReason::DuplicateTimestamp,
                    None => {
                        good.push((&one.labels, sample));
                        continue;
                    }
                };
                appended.refused += 1;
                if appended.refusals.len() < 16 {
                    appended.refusals.push(Refusal {
                        labels: one.labels.clone(),
                        timestamp_ms: sample.timestamp_ms,
                        reason,
                    });
                }
            }
        }
        if appended.refused > 0 && mode == AppendMode::Atomic {
            return Err(AppendError::Refused(appended));
        }
        for (labels, sample) in good {
            state
                .series
                .entry(labels.clone())
                .or_default()
                .insert(sample.timestamp_ms, sample.value);
            appended.stored += 1;
        }
        Ok(appended)
    }

    fn is_too_old(&self, timestamp_ms: i64, now_ms: i64) -> bool {
        self.retention.is_some_and(|retention| {
            timestamp_ms < now_ms.saturating_sub_unsigned(retention.as_millis() as u64)
        })
    }

    /// Blocks until the log is on disk up to `position`.
    ///
    /// # Errors
    /// The log could not be written or synced: what was appended is not durable.
    pub fn wait_durable(&self, _position: LogPosition) -> Result<(), AppendError> {
        Ok(())
    }

    /// Calls `done` once the log is on disk up to `position`, or can't be. For callers that must not block; `done`
    /// runs on the log's thread and must be quick.
    pub fn when_durable(
        &self,
        position: LogPosition,
        done: impl FnOnce(Result<(), AppendError>) + Send + 'static,
    ) {
        done(self.wait_durable(position));
    }

    /// Remembers what a metric family means.
    pub fn set_metadata(&self, family: &str, metadata: Metadata) {
        self.state().metadata.insert(family.to_owned(), metadata);
    }

    /// The known metric families, sorted by name.
    #[must_use]
    pub fn metadata(&self) -> Vec<(String, Metadata)> {
        self.state()
            .metadata
            .iter()
            .map(|(name, meta)| (name.clone(), meta.clone()))
            .collect()
    }

    /// Seals and merges everything that was appended into blocks, and returns when they are on disk.
    ///
    /// # Errors
    /// A block could not be written.
    pub fn flush(&self) -> Result<(), AppendError> {
        Ok(())
    }

    /// Syncs the log and stops the background work. Later appends fail with [`AppendError::Closed`].
    ///
    /// # Errors
    /// The log could not be synced.
    pub fn close(&self) -> Result<(), AppendError> {
        Ok(())
    }
}

/// One source that sends the same series at each tick: an agent's session, a scrape target.
#[derive(Debug)]
pub struct Stream {
    store: Store,
    name: String,
    columns: BTreeMap<u32, Labels>,
}

impl Stream {
    /// The sequence of the last row that is durable; `None` for a source never seen.
    #[must_use]
    pub fn durable_sequence(&self) -> Option<u64> {
        self.store.state().sequences.get(&self.name).copied()
    }

    /// Gives a series the number `column`. A number may be used again after [`Self::undefine`].
    ///
    /// # Errors
    /// A limit; the stream's other columns are untouched.
    pub fn define(&mut self, column: u32, labels: &Labels) -> Result<(), DefineError> {
        labels.check_limits()?;
        self.columns.insert(column, labels.clone());
        Ok(())
    }

    /// Frees a number. Writes nothing: the caller appends the staleness marker first.
    pub fn undefine(&mut self, column: u32) {
        self.columns.remove(&column);
    }

    /// Appends one tick: one timestamp, and a value for each of some columns. A sequence at or below the last one
    /// is a repetition and is dropped as duplicates. Visible when this returns, durable per
    /// [`Appended::position`]; samples the store refuses are counted, the others kept.
    ///
    /// # Errors
    /// See [`AppendError`]; then nothing of the row is visible.
    pub fn append_row(
        &mut self,
        sequence: u64,
        timestamp_ms: i64,
        values: &[(u32, f64)],
    ) -> Result<Appended, AppendError> {
        if self.durable_sequence().is_some_and(|last| sequence <= last) {
            return Ok(Appended {
                duplicates: values.len() as u64,
                ..Appended::default()
            });
        }
        let mut batch = Vec::with_capacity(values.len());
        for &(column, value) in values {
            let labels = self
                .columns
                .get(&column)
                .ok_or(AppendError::UndefinedColumn { column })?;
            batch.push(SeriesSamples {
                labels: labels.clone(),
                samples: vec![Sample {
                    timestamp_ms,
                    value,
                }],
            });
        }
        let appended = self.store.append(&batch, AppendMode::Partial)?;
        self.store
            .state()
            .sequences
            .insert(self.name.clone(), sequence);
        Ok(appended)
    }
}

fn matches_all(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers
        .iter()
        .all(|matcher| matcher.matches(labels.get(matcher.name()).unwrap_or("")))
}

/// A copy of the series that matched.
struct Snapshot {
    series: Vec<(Labels, Vec<i64>, Vec<f64>)>,
}

impl SeriesSet for Snapshot {
    fn len(&self) -> usize {
        self.series.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.series[index].0.clone()
    }

    fn group(&self, grouping: Grouping<'_>) -> Groups {
        let mut numbers = BTreeMap::new();
        let mut groups = Groups {
            group_of: Vec::new(),
            labels: Vec::new(),
        };
        for (labels, _, _) in &self.series {
            let key = match grouping {
                Grouping::By(names) => labels.filtered(|name| names.contains(&name)),
                Grouping::Without(names) => labels.filtered(|name| !names.contains(&name)),
            };
            let number = *numbers.entry(key.clone()).or_insert_with(|| {
                groups.labels.push(key);
                groups.labels.len() as u32 - 1
            });
            groups.group_of.push(number);
        }
        groups
    }

    fn read(
        &self,
        range: Range<usize>,
        control: &ReadControl,
        visit: &mut Visit<'_>,
    ) -> Result<(), ReadError> {
        for index in range {
            let (_, timestamps_ms, values) = &self.series[index];
            control.charge_samples(values.len() as u64)?;
            if !values.is_empty() {
                visit(
                    index,
                    Column {
                        clock: 0,
                        timestamps_ms,
                        values: Values::Floats(values),
                    },
                )?;
            }
        }
        Ok(())
    }
}

impl Readable for Store {
    fn select(
        &self,
        selection: &Selection,
        control: &ReadControl,
    ) -> Result<Arc<dyn SeriesSet>, ReadError> {
        let state = self.state();
        let mut series = Vec::new();
        for (labels, samples) in &state.series {
            control.check()?;
            if matches_all(labels, &selection.matchers) {
                let range = samples.range(selection.start_ms..=selection.end_ms);
                let (timestamps, values) = range.map(|(&t, &v)| (t, v)).unzip();
                series.push((labels.clone(), timestamps, values));
            }
        }
        control.check_series(series.len() as u64)?;
        Ok(Arc::new(Snapshot { series }))
    }

    fn label_names(
        &self,
        selection: &Selection,
        control: &ReadControl,
    ) -> Result<Vec<String>, ReadError> {
        let set = self.select(selection, control)?;
        let labels: Vec<_> = (0..set.len()).map(|index| set.labels(index)).collect();
        let mut names: Vec<_> = labels
            .iter()
            .flatten()
            .map(|(name, _)| name.to_owned())
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn label_values(
        &self,
        name: &str,
        selection: &Selection,
        control: &ReadControl,
    ) -> Result<Vec<String>, ReadError> {
        let set = self.select(selection, control)?;
        let mut values: Vec<_> = (0..set.len())
            .filter_map(|index| set.labels(index).get(name).map(str::to_owned))
            .collect();
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }
}
