//! The series of one agent's session in the store, and how they end.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use common::model::{Labels, LabelsError, STALE_NAN};
use tidemark_storage::{AppendError, Appended, DefineError, Store, Stream};

/// The series of one session, by the agent's series numbers, which are the stream's column numbers.
///
/// Keeps 8 bytes for each series, a hash of its labels: the labels themselves are in the store's index already. That is
/// why this is not a [`SeriesWriter`](crate::series_writer::SeriesWriter).
#[derive(Debug)]
pub(super) struct AgentSeries {
    stream: Stream,
    /// Hash of the labels by number; 0 for a number without a stored series.
    hashes: Vec<u64>,
    live: u64,
}

impl AgentSeries {
    pub(super) fn new(store: &Store, name: &str) -> Self {
        Self {
            stream: store.stream(name),
            hashes: Vec::new(),
            live: 0,
        }
    }

    pub(super) fn durable_sequence(&self) -> Option<u64> {
        self.stream.durable_sequence()
    }

    pub(super) const fn len(&self) -> u64 {
        self.live
    }

    pub(super) fn has(&self, number: u32) -> bool {
        self.hashes
            .get(number as usize)
            .is_some_and(|&hash| hash != 0)
    }

    /// Gives a series its column. `admit`: see [`Stream::define_within`].
    pub(super) fn define(
        &mut self,
        number: u32,
        labels: &Labels,
        admit: &mut dyn FnMut() -> bool,
    ) -> Result<(), DefineError> {
        self.stream.define_within(number, labels, admit)?;
        let index = number as usize;
        if index >= self.hashes.len() {
            self.hashes.resize(index + 1, 0);
        }
        self.live += u64::from(self.hashes[index] == 0);
        self.hashes[index] = hash(labels);
        Ok(())
    }

    pub(super) fn undefine(&mut self, number: u32) {
        if self.has(number) {
            self.stream.undefine(number);
            self.hashes[number as usize] = 0;
            self.live -= 1;
        }
    }

    pub(super) fn append(
        &mut self,
        sequence: u64,
        timestamp_ms: i64,
        values: &[(u32, f64)],
    ) -> Result<Appended, AppendError> {
        self.stream.append_row(sequence, timestamp_ms, values)
    }

    /// Appends a tick without a sequence; see [`Stream::append_unnumbered`].
    pub(super) fn append_unnumbered(
        &mut self,
        timestamp_ms: i64,
        values: &[(u32, f64)],
    ) -> Result<Appended, AppendError> {
        self.stream.append_unnumbered(timestamp_ms, values)
    }

    /// Ends all series except those that `successor` continues. Returns how many.
    pub(super) fn end(
        mut self,
        timestamp_ms: i64,
        successor: Option<&Self>,
    ) -> Result<u64, AppendError> {
        let known = successor.map(|successor| successor.hashes.iter().collect::<HashSet<_>>());
        let is_continued = |hash| known.as_ref().is_some_and(|known| known.contains(hash));
        let markers: Vec<(u32, f64)> = (0..)
            .zip(&self.hashes)
            .filter(|&(_, hash)| *hash != 0 && !is_continued(hash))
            .map(|(number, _)| (number, STALE_NAN))
            .collect();
        if markers.is_empty() {
            return Ok(0);
        }
        let appended = self.stream.append_unnumbered(timestamp_ms, &markers)?;
        Ok(appended.stored)
    }
}

fn hash(labels: &Labels) -> u64 {
    let mut hasher = DefaultHasher::new();
    labels.hash(&mut hasher);
    hasher.finish().max(1)
}

/// Why a series of an agent is not stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum SeriesError {
    #[error("no metric name")]
    NoName,
    #[error("bad labels")]
    Labels(#[from] LabelsError),
    #[error(transparent)]
    Define(#[from] DefineError),
}

impl SeriesError {
    /// Returns whether no series may have such labels, as opposed to a limit.
    pub(super) const fn is_of_labels(&self) -> bool {
        matches!(
            self,
            Self::NoName | Self::Labels(_) | Self::Define(DefineError::Labels(_))
        )
    }
}
