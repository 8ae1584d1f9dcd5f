//! One agent's series in the store, and how they end.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use common::model::label::METRIC_NAME;
use common::model::{Labels, LabelsError, STALE_NAN};
use tidemark_storage::{AppendError, Appended, DefineError, Store, Stream};

/// The series of one session, by the agent's numbers.
///
/// A series is remembered by a hash of its labels: 8 bytes, where the labels themselves would be in memory twice.
#[derive(Debug)]
pub(super) struct AgentSeries {
    stream: Stream,
    /// By number; 0 for a number that stands for no series of the store.
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

    /// `admit`: see [`Stream::define_within`].
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

    /// Appends a tick out of order; see [`Stream::append_unnumbered`].
    pub(super) fn append_unnumbered(
        &mut self,
        timestamp_ms: i64,
        values: &[(u32, f64)],
    ) -> Result<Appended, AppendError> {
        self.stream.append_unnumbered(timestamp_ms, values)
    }

    /// Ends all series but those that `successor` goes on with; returns how many.
    pub(super) fn end(
        mut self,
        timestamp_ms: i64,
        successor: Option<&Self>,
    ) -> Result<u64, AppendError> {
        let known = successor.map(|successor| successor.hashes.iter().collect::<HashSet<_>>());
        let goes_on = |hash| known.as_ref().is_some_and(|known| known.contains(hash));
        let markers: Vec<(u32, f64)> = (0..)
            .zip(&self.hashes)
            .filter(|&(_, hash)| *hash != 0 && !goes_on(hash))
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
    /// Whether no series may have such labels, as opposed to a limit that is reached.
    pub(super) const fn is_of_labels(&self) -> bool {
        matches!(
            self,
            Self::NoName | Self::Labels(_) | Self::Define(DefineError::Labels(_))
        )
    }
}

/// The labels under which an agent's series is stored: `node` and `idc` are those of the certificate; what the agent sent
/// under these names becomes `exported_node` and `exported_idc`.
pub(super) fn owned_labels(labels: &Labels, node: &str, idc: &str) -> Result<Labels, SeriesError> {
    if labels.get(METRIC_NAME).is_none() {
        return Err(SeriesError::NoName);
    }
    let mut builder = labels.to_builder();
    for (name, value) in [("node", node), ("idc", idc)] {
        if let Some(sent) = labels.get(name).filter(|&sent| sent != value) {
            let mut exported = format!("exported_{name}");
            while builder.get(&exported).is_some() {
                exported.insert_str(0, "exported_");
            }
            builder.push(exported, sent);
        }
        builder.set(name, value);
    }
    let labels = builder.build()?;
    labels.check_limits()?;
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sent: &[(&str, &str)], want: &str) {
        let labels = Labels::from_pairs(sent.iter().copied()).unwrap();
        let owned = owned_labels(&labels, "n1", "a").map_err(|error| error.to_string());
        let owned = owned.map_or_else(|error| error, |labels| labels.to_string());
        assert_eq!(owned, want);
    }

    #[test]
    fn node_and_idc_are_those_of_the_certificate() {
        check(
            &[("__name__", "up")],
            r#"{__name__="up", idc="a", node="n1"}"#,
        );
        check(
            &[("__name__", "up"), ("node", "n1"), ("idc", "b")],
            r#"{__name__="up", exported_idc="b", idc="a", node="n1"}"#,
        );
        check(
            &[("__name__", "up"), ("node", "x"), ("exported_node", "y")],
            r#"{__name__="up", exported_exported_node="x", exported_node="y", idc="a", node="n1"}"#,
        );
        check(&[("node", "x")], "no metric name");
    }
}
