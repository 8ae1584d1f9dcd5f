//! One lane of a session: decodes schema, base and ticks, and appends the ticks to the store.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use common::model::{Labels, STALE_NAN};
use common::wire::{SchemaEntry, SchemaReader, TickState};
use tidemark_storage::{DefineError, LogPosition, STREAM_NUMBERS_MIN};

use super::super::agent_series::{AgentSeries, SeriesError};
use super::unstored::UnstoredSeries;
use super::{IngestorError, Source};
use crate::ingest::metrics::SampleResult;
use crate::report::chain;

thread_local! {
    /// Buffer for a tick's values. One per thread, because one per session would be kept for each of thousands.
    static VALUES: Cell<Vec<(u32, f64)>> = const { Cell::new(Vec::new()) };
}

/// Series numbers that a session may use for each series it may have. Agents reuse numbers, so they stay dense.
const NUMBERS_PER_SERIES: usize = 4;
/// Most waiting series that one tick admits: they take some milliseconds.
const ADMITTED_AT_ONCE: usize = 5_000;
/// Most metric families that one lane may describe.
const FAMILIES_MAX: usize = 20_000;
/// Longest help text that is kept.
const HELP_BYTES_MAX: usize = 4096;

/// The kind of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneKind {
    /// Ticks in order. Their sequence is stored with them.
    Live,
    /// Ticks that the live lane skipped. Their sequence is not stored: the agent knows what it has to send, and the samples
    /// of a repeated tick are dropped as duplicates.
    Backfill,
}

/// The state of one lane.
#[derive(Debug)]
pub(super) struct Lane {
    source: Arc<Source>,
    kind: LaneKind,
    state: TickState,
    columns: AgentSeries,
    /// Series from before the reset, or of previous sessions: the next tick ends those that this lane does not continue.
    retiring: Vec<AgentSeries>,
    /// Numbers removed since the last tick. The next one writes their markers.
    removed: Vec<u32>,
    /// Series that are not stored.
    refused: UnstoredSeries,
    /// Whether a refused series of this lane was logged.
    has_warned: bool,
    families: usize,
    has_base: bool,
    /// Whether the next tick's sequence may be lower than the last one.
    may_go_back: bool,
    pub(super) last_sequence: Option<u64>,
    last_tick_ms: Option<i64>,
    values: Vec<(u32, f64)>,
}

impl Lane {
    pub(super) fn new(source: Arc<Source>, kind: LaneKind, previous: Vec<AgentSeries>) -> Self {
        let columns = AgentSeries::new(&source.store, &source.stream_name);
        let last_sequence = match kind {
            LaneKind::Live => columns.durable_sequence(),
            LaneKind::Backfill => None,
        };
        Self {
            last_sequence,
            refused: UnstoredSeries::new(&source.waiting),
            has_warned: false,
            source,
            kind,
            state: TickState::default(),
            columns,
            retiring: previous,
            removed: Vec::new(),
            families: 0,
            has_base: false,
            may_go_back: false,
            last_tick_ms: None,
            values: Vec::new(),
        }
    }

    pub(super) fn durable_sequence(&self) -> Option<u64> {
        self.columns.durable_sequence()
    }

    pub(super) const fn last_tick_ms(&self) -> Option<i64> {
        self.last_tick_ms
    }

    pub(super) const fn series(&self) -> u64 {
        self.columns.len()
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.len() as u64
    }

    /// Returns what ends if the agent does not return.
    pub(super) fn into_series(self) -> Vec<AgentSeries> {
        match self.last_tick_ms {
            Some(_) => vec![self.columns],
            None => self.retiring,
        }
    }

    fn numbers_max(&self) -> usize {
        let of_limit = self.source.limits.series_max as usize * NUMBERS_PER_SERIES;
        // A low limit must not end the session of an agent with more series: they are refused one by one.
        of_limit.max(STREAM_NUMBERS_MIN as usize)
    }

    pub(super) fn handle_schema(
        &mut self,
        reset: bool,
        payload: &[u8],
    ) -> Result<(), IngestorError> {
        if reset {
            let fresh = AgentSeries::new(&self.source.store, &self.source.stream_name);
            let before = std::mem::replace(&mut self.columns, fresh);
            // Without a tick since the last reset, no series of this schema was written.
            if self.retiring.is_empty() && before.len() > 0 {
                self.retiring.push(before);
            }
            self.state.clear();
            self.removed.clear();
            self.refused.clear();
            self.has_warned = false;
            self.has_base = false;
            self.may_go_back = self.kind == LaneKind::Backfill;
        }
        let mut entries = SchemaReader::new(payload)?;
        while let Some(entry) = entries.next_entry()? {
            match entry {
                SchemaEntry::Removed(number) => {
                    if !self.refused.remove(number) && self.columns.has(number) {
                        self.removed.push(number);
                    }
                }
                SchemaEntry::Family { name, mut metadata } => {
                    self.families += 1;
                    let help_is_sane = metadata.help.len() <= HELP_BYTES_MAX;
                    if !help_is_sane {
                        metadata.help.clear();
                    }
                    if self.families <= FAMILIES_MAX {
                        self.source.store.set_metadata(&name, metadata);
                    }
                }
                SchemaEntry::Added {
                    series_ref: number,
                    labels,
                } => self.add_series(number, &labels)?,
            }
        }
        Ok(())
    }

    fn add_series(&mut self, number: u32, labels: &Labels) -> Result<(), IngestorError> {
        let in_use = self.columns.has(number) || self.refused.has(number);
        if number as usize >= self.numbers_max() || in_use {
            return Err(IngestorError::Unexpected(
                "number beyond the limit or in use",
            ));
        }
        self.state.define(number);
        let Err(error) = self.define(number, labels) else {
            return Ok(());
        };
        match error.is_of_labels() {
            true => self.refused.add(number),
            false => self.refused.add_waiting(number, labels),
        }
        self.source.metrics.refuse_series(&error);
        // One line per session; the counter has the rest.
        if !std::mem::replace(&mut self.has_warned, true) {
            let limits = self.source.limits;
            tracing::warn!(agent = %self.source.identity, %labels, error = chain(&error), ?limits, "refuse series");
        }
        Ok(())
    }

    /// Gives a series its column in the store.
    fn define(&mut self, number: u32, labels: &Labels) -> Result<(), SeriesError> {
        let source = &self.source;
        let limits = source.limits;
        // A series beyond the limit must not even reach the index.
        if self.columns.len() >= u64::from(limits.series_max) {
            let limit = limits.series_max.into();
            return Err(DefineError::StreamLimit { limit }.into());
        }
        let labels = source.policy.stored_labels(labels, &source.identity)?;
        let now_ms = source.clock.now_ms();
        let mut admit = || source.agent.new_series.admit(limits, now_ms);
        let defined = self.columns.define(number, &labels, &mut admit);
        if defined.is_err() {
            self.columns.undefine(number);
        }
        Ok(defined?)
    }

    /// Stores series that were refused, while there is room for them.
    fn admit_waiting(&mut self) {
        if self.refused.is_empty() || !self.refused.is_due(self.source.clock.now_ms()) {
            return;
        }
        for _ in 0..ADMITTED_AT_ONCE {
            let Some((number, labels)) = self.refused.first_waiting() else {
                return;
            };
            // The limit that refuses one of them refuses the others too.
            if self.define(number, &labels).is_err() {
                return;
            }
            self.refused.remove(number);
            self.source.metrics.admitted_series.inc();
        }
    }

    pub(super) fn handle_base(&mut self, payload: &[u8]) -> Result<(), IngestorError> {
        self.state.decode_base(payload, self.numbers_max())?;
        self.has_base = true;
        Ok(())
    }

    pub(super) fn handle_tick(
        &mut self,
        sequence: u64,
        timestamp_ms: i64,
        payload: &[u8],
    ) -> Result<LogPosition, IngestorError> {
        if !self.has_base {
            return Err(IngestorError::Unexpected("Samples before Base"));
        }
        if let Some(last) = self.last_sequence.filter(|&last| sequence <= last) {
            if !std::mem::take(&mut self.may_go_back) {
                return Err(IngestorError::Sequence { sequence, last });
            }
            // The series of later ticks have not ended: at this time they have not begun.
            self.retiring.clear();
        }
        self.values = VALUES.take();
        self.state.decode(payload, &mut self.values)?;
        self.admit_waiting();
        if !self.refused.is_empty() {
            self.values.retain(|&(number, _)| !self.refused.has(number));
        }
        self.end_removed();
        let appended = match self.kind {
            LaneKind::Live => self.columns.append(sequence, timestamp_ms, &self.values)?,
            LaneKind::Backfill => self.columns.append_unnumbered(timestamp_ms, &self.values)?,
        };
        VALUES.set(std::mem::take(&mut self.values));
        self.last_sequence = Some(sequence);
        self.last_tick_ms = Some(timestamp_ms);
        for number in self.removed.drain(..) {
            self.columns.undefine(number);
        }
        self.source.metrics.ticks.inc();
        if self.kind == LaneKind::Backfill {
            self.source.metrics.backfilled.inc();
        }
        let samples = &self.source.metrics.samples;
        samples.of(SampleResult::Stored).add(appended.stored);
        samples.of(SampleResult::Duplicate).add(appended.duplicates);
        samples.of(SampleResult::Refused).add(appended.refused);
        self.source.agent.refused(&appended);
        if let Some(refusal) = appended.refusals.first() {
            tracing::debug!(agent = %self.source.identity, ?refusal, refused = appended.refused, "refuse samples");
        }
        for before in self.retiring.drain(..) {
            let ended = before.end(timestamp_ms, Some(&self.columns))?;
            self.source.metrics.stale_markers.add(ended);
        }
        Ok(appended.position)
    }

    /// Adds the markers of removed series to the tick.
    fn end_removed(&mut self) {
        if self.removed.is_empty() {
            return;
        }
        let removed: HashSet<u32> = self.removed.iter().copied().collect();
        self.values.retain(|(number, _)| !removed.contains(number));
        let markers = removed.iter().map(|&number| (number, STALE_NAN));
        self.values.extend(markers);
        self.values.sort_unstable_by_key(|&(number, _)| number);
        self.source.metrics.stale_markers.add(removed.len() as u64);
    }
}
