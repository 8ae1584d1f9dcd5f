//! Counts read and parse errors by file.

use std::io;

use crate::schema::{FamilyDef, Schema, Target, counter};
use crate::table::{SeriesId, SeriesTable};

const FAULTS: FamilyDef = counter(
    "agent_collector_faults_total",
    "Reads of a file that failed (kind read), and contents of files and of the kubelet's answers that were not understood (kind parse).",
);

/// Longest part of a word that is logged, in characters.
const WORD_CHARS_MAX: usize = 64;

/// Id of a file whose errors are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadErrorId(usize);

/// Kind of error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadErrorKind {
    /// A system call failed.
    Read,
    /// The contents are not as documented.
    Parse,
}

impl ReadErrorKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Parse => "parse",
        }
    }
}

#[derive(Debug)]
struct Count {
    file: String,
    kind: ReadErrorKind,
    count: u64,
    series: Option<SeriesId>,
}

/// Error counters of all files.
///
/// **Invariant:** entry `2n` counts read errors of file `n`, entry `2n + 1` its parse errors.
#[derive(Debug, Default)]
pub struct ReadErrors {
    counts: Vec<Count>,
}

impl ReadErrors {
    /// Returns the id of the file `name`: a path below its root, as in `proc/stat`, or the name of a cgroup file.
    pub fn file(&mut self, name: &str) -> ReadErrorId {
        if let Some(index) = self.counts.iter().position(|count| count.file == name) {
            return ReadErrorId(index / 2);
        }
        for kind in [ReadErrorKind::Read, ReadErrorKind::Parse] {
            self.counts.push(Count {
                file: name.to_owned(),
                kind,
                count: 0,
                series: None,
            });
        }
        ReadErrorId(self.counts.len() / 2 - 1)
    }

    /// Counts a failed read. Only the first one of a file is logged.
    pub fn read(&mut self, id: ReadErrorId, error: &io::Error) {
        let count = &mut self.counts[id.0 * 2];
        count.count += 1;
        if count.count == 1 {
            tracing::warn!(
                file = count.file,
                error = common::report::chain(error),
                "cannot read file; its values are absent"
            );
        }
    }

    /// Counts an error that the caller logs.
    pub fn count(&mut self, id: ReadErrorId, kind: ReadErrorKind) {
        self.counts[id.0 * 2 + usize::from(kind == ReadErrorKind::Parse)].count += 1;
    }

    /// Counts contents that cannot be parsed. Only the first time is logged.
    pub fn parse(&mut self, id: ReadErrorId) {
        let count = &mut self.counts[id.0 * 2 + 1];
        count.count += 1;
        if count.count == 1 {
            tracing::warn!(
                file = count.file,
                "cannot parse file; its values are absent"
            );
        }
    }

    /// Counts a word that cannot be parsed in an otherwise valid document. Only the first one is logged.
    pub fn word(&mut self, id: ReadErrorId, word: &str) {
        let count = &mut self.counts[id.0 * 2 + 1];
        count.count += 1;
        if count.count == 1 {
            let word: String = word.chars().take(WORD_CHARS_MAX).collect();
            tracing::warn!(
                file = count.file,
                ?word,
                "cannot parse word; its value is absent"
            );
        }
    }

    /// Passes `value` through and counts a parse error if it is `None`.
    pub fn parsed<T>(&mut self, id: ReadErrorId, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.parse(id);
        }
        value
    }

    /// Returns the number of errors so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|count| count.count).sum()
    }

    /// Stores the counters. A file without errors has no series.
    pub fn store(&mut self, table: &mut SeriesTable, schema: &mut Schema) {
        for count in self.counts.iter_mut().filter(|count| count.count > 0) {
            let series = *count.series.get_or_insert_with(|| {
                let labels = [("file", &*count.file), ("kind", count.kind.as_str())];
                schema.series(table, Target::Agent, &FAULTS, &labels)
            });
            table.set(series, count.count as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_counted_by_file_and_kind() {
        let mut errors = ReadErrors::default();
        let (a, b) = (errors.file("a"), errors.file("b"));
        assert_eq!(errors.file("a"), a);
        errors.parse(b);
        errors.parse(b);
        errors.read(a, &io::Error::from_raw_os_error(5));
        let (mut table, mut schema) = (SeriesTable::default(), Schema::for_node("n"));
        table.begin_tick(1);
        errors.store(&mut table, &mut schema);
        let got: Vec<_> = table
            .current()
            .map(|(id, value)| (table.def(id).unwrap().labels.to_string(), value))
            .collect();
        let series = |file, kind| {
            format!(
                "{{__name__=\"agent_collector_faults_total\", file=\"{file}\", instance=\"n\", job=\"tidemark-agent\", kind=\"{kind}\"}}"
            )
        };
        assert_eq!(
            got,
            [(series("a", "read"), 1.0), (series("b", "parse"), 2.0)]
        );
        assert_eq!(errors.total(), 3);
    }
}
