//! What the frames of one session do to the store. No network here.

use std::collections::HashSet;
use std::sync::Arc;

use common::identity::Identity;
use common::model::STALE_NAN;
use common::wire::{Frame, FrameBuffer, SchemaEntry, SchemaReader, TickState, WireError};
use tidemark_storage::{AppendError, DefineError, LogPosition, Store};

use super::columns::{Columns, SeriesError, owned_labels};
use super::metrics::IngestMetrics;

/// Numbers a session may use for each series it may have: agents use them again, so they stay dense.
const NUMBERS_PER_SERIES: usize = 4;
/// Metric families whose meaning one session may state.
const FAMILIES_MAX: usize = 20_000;
/// Bytes of a help text that are kept.
const HELP_BYTES_MAX: usize = 4096;

/// Why a session can't go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum IngestorError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("{0} at this point of the session")]
    Unexpected(&'static str),
    #[error("sequence {sequence} after {last}")]
    Sequence { sequence: u64, last: u64 },
    #[error("store")]
    Store(#[from] AppendError),
}

impl IngestorError {
    /// Whether the agent is to blame, as opposed to the store.
    pub(super) const fn is_protocol(&self) -> bool {
        !matches!(self, Self::Store(error) if !matches!(error, AppendError::UndefinedColumn { .. }))
    }
}

/// What became of some frames.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The last tick appended: its sequence and where it is in the log.
    pub(super) appended: Option<(u64, LogPosition)>,
    /// Requests for a certificate, in order.
    pub(super) renewals: Vec<Vec<u8>>,
    /// The agent has said goodbye.
    pub(super) bye: bool,
}

/// The state of one session.
#[derive(Debug)]
pub(super) struct Ingestor {
    store: Store,
    stream_name: String,
    identity: Identity,
    series_max: u32,
    metrics: Arc<IngestMetrics>,
    state: TickState,
    columns: Columns,
    /// Series of before the reset, or of the session before: those that do not come again end with the next tick.
    retiring: Vec<Columns>,
    /// Removed since the last tick, which will mark their end.
    removed: Vec<u32>,
    /// Numbers in use that the store refused.
    refused: HashSet<u32>,
    families: usize,
    has_base: bool,
    last_sequence: Option<u64>,
    last_tick_ms: Option<i64>,
    values: Vec<(u32, f64)>,
}

impl Ingestor {
    pub(super) fn new(
        store: Store,
        stream_name: String,
        identity: Identity,
        series_max: u32,
        metrics: Arc<IngestMetrics>,
        before: Option<Columns>,
    ) -> Self {
        let columns = Columns::new(&store, &stream_name);
        Self {
            last_sequence: columns.durable_sequence(),
            store,
            stream_name,
            identity,
            series_max,
            metrics,
            state: TickState::default(),
            columns,
            retiring: before.into_iter().collect(),
            removed: Vec::new(),
            refused: HashSet::new(),
            families: 0,
            has_base: false,
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

    /// What is to end if the agent does not come back. A session that never got to a tick leaves what it took over.
    pub(super) fn into_columns(mut self) -> Option<Columns> {
        match self.last_tick_ms {
            Some(_) => Some(self.columns),
            None => self.retiring.pop(),
        }
    }

    /// Takes every whole frame out of `buffer`.
    ///
    /// # Errors
    /// The agent breaks the protocol, or the store can't take more. The session ends.
    pub(super) fn take(&mut self, buffer: &mut FrameBuffer) -> Result<Outcome, IngestorError> {
        let mut outcome = Outcome::default();
        while let Some(message) = buffer.next_message()? {
            self.metrics.bytes.add(message.len() as u64 + 4);
            match Frame::decode(message)? {
                Frame::Schema { reset, payload } => self.take_schema(reset, payload)?,
                Frame::Base { payload } => self.take_base(payload)?,
                Frame::Samples {
                    sequence,
                    timestamp_ms,
                    payload,
                } => {
                    let position = self.take_tick(sequence, timestamp_ms, payload)?;
                    outcome.appended = Some((sequence, position));
                }
                Frame::Renew { request } => outcome.renewals.push(request.to_vec()),
                Frame::Bye => outcome.bye = true,
                other => return Err(IngestorError::Unexpected(other.name())),
            }
        }
        Ok(outcome)
    }

    fn numbers_max(&self) -> usize {
        self.series_max as usize * NUMBERS_PER_SERIES
    }

    fn take_schema(&mut self, reset: bool, payload: &[u8]) -> Result<(), IngestorError> {
        if reset {
            let fresh = Columns::new(&self.store, &self.stream_name);
            let before = std::mem::replace(&mut self.columns, fresh);
            // Without a tick since the last reset there is nothing that could have ended.
            if self.retiring.is_empty() && before.len() > 0 {
                self.retiring.push(before);
            }
            self.state.clear();
            self.removed.clear();
            self.refused.clear();
            self.has_base = false;
        }
        let mut entries = SchemaReader::new(payload)?;
        while let Some(entry) = entries.next_entry()? {
            match entry {
                SchemaEntry::Removed(number) => {
                    if !self.refused.remove(&number) && self.columns.has(number) {
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
                        self.store.set_metadata(&name, metadata);
                    }
                }
                SchemaEntry::Added { number, labels } => self.add_series(number, &labels)?,
            }
        }
        Ok(())
    }

    fn add_series(
        &mut self,
        number: u32,
        labels: &common::model::Labels,
    ) -> Result<(), IngestorError> {
        let in_use = self.columns.has(number) || self.refused.contains(&number);
        if number as usize >= self.numbers_max() || in_use {
            return Err(IngestorError::Unexpected(
                "number beyond the limit or in use",
            ));
        }
        self.state.define(number);
        let over_limit = self.columns.len() >= u64::from(self.series_max);
        // A series beyond the limit must not even reach the index.
        let defined = match over_limit {
            true => Err(SeriesError::from(DefineError::SeriesLimit {
                limit: self.series_max.into(),
            })),
            false => owned_labels(labels, self.identity.name(), self.identity.idc())
                .and_then(|labels| Ok(self.columns.define(number, &labels)?)),
        };
        if defined.is_err() {
            self.columns.undefine(number);
            self.refused.insert(number);
            self.metrics.refused_series.inc();
            // The first of a session says it all; the counter has the rest.
            if self.refused.len() == 1 {
                let error = defined.err().map(|error| error.to_string());
                let limit = self.series_max;
                tracing::warn!(agent = %self.identity, %labels, error, limit, "refuse series");
            }
        }
        Ok(())
    }

    fn take_base(&mut self, payload: &[u8]) -> Result<(), IngestorError> {
        self.state.decode_base(payload, self.numbers_max())?;
        self.has_base = true;
        Ok(())
    }

    fn take_tick(
        &mut self,
        sequence: u64,
        timestamp_ms: i64,
        payload: &[u8],
    ) -> Result<LogPosition, IngestorError> {
        if !self.has_base {
            return Err(IngestorError::Unexpected("Samples before Base"));
        }
        if let Some(last) = self.last_sequence.filter(|&last| sequence <= last) {
            return Err(IngestorError::Sequence { sequence, last });
        }
        self.state.decode(payload, &mut self.values)?;
        if !self.refused.is_empty() {
            self.values
                .retain(|(number, _)| !self.refused.contains(number));
        }
        self.end_removed();
        let appended = self.columns.append(sequence, timestamp_ms, &self.values)?;
        self.last_sequence = Some(sequence);
        self.last_tick_ms = Some(timestamp_ms);
        for number in self.removed.drain(..) {
            self.columns.undefine(number);
        }
        self.metrics.ticks.inc();
        self.metrics.stored.add(appended.stored);
        self.metrics.duplicates.add(appended.duplicates);
        self.metrics.refused_samples.add(appended.refused);
        if let Some(refusal) = appended.refusals.first() {
            tracing::debug!(agent = %self.identity, ?refusal, refused = appended.refused, "refuse samples");
        }
        for before in self.retiring.drain(..) {
            let ended = before.end(timestamp_ms, Some(&self.columns))?;
            self.metrics.stale_markers.add(ended);
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
        self.metrics.stale_markers.add(removed.len() as u64);
    }
}

#[cfg(test)]
mod tests;
