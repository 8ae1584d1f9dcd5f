//! A test bench for one collector: kernel files in a temporary directory, a table, and functions to inspect it.

use std::fs;

use super::node::Roots;
use crate::collect::{CollectContext, Collector, Due, Outcome};
use crate::file::Buffer;
use crate::read_errors::ReadErrors;
use crate::schema::Schema;
use crate::table::SeriesTable;

pub(crate) struct Bench {
    dir: tempfile::TempDir,
    pub(crate) table: SeriesTable,
    pub(crate) schema: Schema,
    buffer: Buffer,
    pub(crate) errors: ReadErrors,
    now_ms: i64,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            table: SeriesTable::default(),
            schema: Schema::for_node("n"),
            buffer: Buffer::default(),
            errors: ReadErrors::default(),
            now_ms: 0,
        }
    }

    pub(crate) fn roots(&self) -> Roots {
        let dir = self.dir.path();
        Roots {
            proc: dir.join("proc"),
            sys: dir.join("sys"),
            cgroup: dir.join("sys/fs/cgroup"),
            root: dir.join("root"),
        }
    }

    /// Writes in place, as the kernel does, so that a kept descriptor sees the new contents.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn errors(&mut self) -> &mut ReadErrors {
        &mut self.errors
    }

    /// How often contents of `file` were not understood.
    pub(crate) fn not_understood(&mut self, file: &str) -> Option<f64> {
        self.errors.store(&mut self.table, &mut self.schema);
        let labels = [("file", file), ("kind", "parse")];
        self.value("agent_collector_faults_total", &labels)
    }

    pub(crate) fn collect(&mut self, collector: &mut dyn Collector) -> Outcome {
        self.collect_due(collector, Due::ALL)
    }

    pub(crate) fn collect_due(&mut self, collector: &mut dyn Collector, due: Due) -> Outcome {
        self.now_ms += 1000;
        self.table.begin_tick(self.now_ms);
        collector.collect(&mut CollectContext {
            table: &mut self.table,
            schema: &mut self.schema,
            buffer: &mut self.buffer,
            errors: &mut self.errors,
            due,
        })
    }

    /// The value of the only current series of `name` that has all of `labels`.
    #[track_caller]
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut values = self.table.current().filter(|(id, _)| {
            let found = &self.table.def(*id).unwrap().labels;
            found.metric_name() == Some(name)
                && labels
                    .iter()
                    .all(|(name, value)| found.get(name).unwrap_or_default() == *value)
        });
        let value = values.next()?.1;
        assert_eq!(values.count(), 0, "{name}{labels:?} is ambiguous");
        Some(value)
    }

    pub(crate) fn series_count(&self) -> usize {
        self.table.series().count()
    }
}
