//! Metrics in files `*.prom` of a directory, in the text exposition format.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use common::model::{Labels, Metadata, MetricType};

use self::file::{Contents, FileError, Stamp};
use crate::collect::{CollectContext, Collector, Outcome, Single};
use crate::collectors::series_cache::{CacheUpdate, SeriesCache};
use crate::read_errors::{ReadErrorId, ReadErrorKind, ReadErrors};
use crate::schema::{FamilyDef, Target, gauge};

mod file;

static ERROR: FamilyDef = gauge(
    "node_textfile_scrape_error",
    "1 if there was an error opening or reading a file, 0 otherwise",
);
const MTIME: FamilyDef = gauge(
    "node_textfile_mtime_seconds",
    "Unixtime mtime of textfiles successfully read.",
);

static FILES_OVER: FamilyDef = gauge(
    "agent_textfile_files_left_out",
    "Files of the text file directory dropped in the last run because there are too many.",
);
static SERIES_OVER: FamilyDef = gauge(
    "agent_textfile_series_left_out",
    "Samples of text files dropped in the last run because there are too many series.",
);
static DUPLICATES: FamilyDef = gauge(
    "agent_textfile_duplicates_left_out",
    "Samples of text files dropped because an earlier line or file has the same labels.",
);

/// Upper bound on files.
const FILES_MAX: usize = 256;
/// Upper bound on series of all files together.
const SERIES_MAX: usize = 50_000;
/// Upper bound on files whose errors are counted by name. The errors of all others share a counter.
const NAMES_MAX: usize = 256;

/// A file as of its last reading.
#[derive(Debug)]
struct Loaded {
    stamp: Stamp,
    /// `None` if the file is dropped.
    contents: Option<Contents>,
}

/// Bounds of one pass.
#[derive(Debug, Clone, Copy)]
struct Limits {
    files: usize,
    series: usize,
}

/// What the last pass dropped, because of the limits or as duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Dropped {
    files: usize,
    series: usize,
    duplicates: usize,
}

/// Collects the files of the directory.
///
/// While directory and files are unchanged, a run only compares timestamps and stores the known values.
#[derive(Debug)]
pub struct Textfile {
    directory: PathBuf,
    directory_stamp: Option<Stamp>,
    /// Sorted by name.
    paths: Vec<PathBuf>,
    files: BTreeMap<PathBuf, Loaded>,
    series: SeriesCache<Labels>,
    /// Families found in text files.
    families: HashSet<String>,
    /// By the file's name.
    errors: BTreeMap<PathBuf, ReadErrorId>,
    /// Paths that could not be read, so that each problem is logged once.
    unreadable: Vec<PathBuf>,
    dropped: Dropped,
    error: Single,
    dropped_series: [Single; 3],
    limits: Limits,
}

impl Textfile {
    /// A collector of `directory`.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            directory_stamp: None,
            paths: Vec::new(),
            files: BTreeMap::new(),
            series: SeriesCache::default(),
            families: HashSet::new(),
            errors: BTreeMap::new(),
            unreadable: Vec::new(),
            dropped: Dropped::default(),
            error: Single::node(&ERROR),
            dropped_series: [&FILES_OVER, &SERIES_OVER, &DUPLICATES]
                .map(|family| Single::new(Target::Agent, family)),
            limits: Limits {
                files: FILES_MAX,
                series: SERIES_MAX,
            },
        }
    }

    /// Lists the directory if it has changed. Returns whether the list is different.
    fn list(&mut self) -> io::Result<bool> {
        let stamp = Stamp::at(&self.directory)?;
        if self
            .directory_stamp
            .is_some_and(|before| stamp.is_still(before))
        {
            return Ok(false);
        }
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "prom")
            {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        self.directory_stamp = Some(stamp);
        let has_changed = paths != self.paths;
        if has_changed {
            self.files
                .retain(|path, _| paths.binary_search(path).is_ok());
            self.paths = paths;
        }
        Ok(has_changed)
    }

    /// Reads the files that have changed. Returns whether there were any.
    fn load(&mut self, context: &mut CollectContext<'_>) -> bool {
        let mut has_changed = false;
        let paths = std::mem::take(&mut self.paths);
        for path in paths.iter().take(self.limits.files) {
            has_changed |= self.load_file(path, context);
        }
        self.paths = paths;
        has_changed
    }

    fn load_file(&mut self, path: &Path, context: &mut CollectContext<'_>) -> bool {
        let known = self.files.get(path);
        let stamp = match Stamp::at(path) {
            Ok(stamp) => stamp,
            Err(error) => {
                let was_there = self.files.remove(path).is_some();
                self.fail(path, &FileError::Read(error), context.errors);
                return was_there;
            }
        };
        if known.is_some_and(|known| stamp.is_still(known.stamp)) {
            return false;
        }
        let contents = file::read(path).and_then(|contents| self.check(contents, context));
        match &contents {
            Ok(_) => self.unreadable.retain(|unreadable| unreadable != path),
            Err(error) => self.fail(path, error, context.errors),
        }
        let contents = contents.ok();
        self.files
            .insert(path.to_owned(), Loaded { stamp, contents });
        true
    }

    /// Refuses families that the agent has itself, since two series could have equal labels.
    fn check(
        &mut self,
        contents: Contents,
        context: &CollectContext<'_>,
    ) -> Result<Contents, FileError> {
        for (labels, _) in &contents.samples {
            let name = labels.metric_name().unwrap_or_default();
            let family = contents.family_of(name);
            let is_taken =
                |name: &str| context.schema.is_of_node(name) && !self.families.contains(name);
            if let Some(taken) = [name, family].into_iter().find(|name| is_taken(name)) {
                return Err(FileError::Taken(taken.to_owned()));
            }
        }
        Ok(contents)
    }

    /// Counts an unusable file. Logs it if it was usable before.
    fn fail(&mut self, path: &Path, error: &FileError, errors: &mut ReadErrors) {
        let kind = if error.is_of_contents() {
            ReadErrorKind::Parse
        } else {
            ReadErrorKind::Read
        };
        let error_id = match self.errors.get(path) {
            Some(&error_id) => error_id,
            None if self.errors.len() >= NAMES_MAX => errors.file("textfile/others"),
            None => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let error_id = errors.file(&format!("textfile/{name}"));
                self.errors.insert(path.to_owned(), error_id);
                error_id
            }
        };
        errors.count(error_id, kind);
        if !self.unreadable.iter().any(|unreadable| unreadable == path) {
            tracing::warn!(path = %path.display(), error = common::report::chain(error), "text file dropped");
            self.unreadable.push(path.to_owned());
        }
    }

    /// Takes over the samples of all files: adds new series, removes those that have gone.
    fn store(&mut self, context: &mut CollectContext<'_>) {
        self.series.begin_pass();
        self.dropped = Dropped {
            files: self.paths.len().saturating_sub(self.limits.files),
            ..Dropped::default()
        };
        let files = std::mem::take(&mut self.files);
        let paths = std::mem::take(&mut self.paths);
        for path in paths.iter().take(self.limits.files) {
            let Some(contents) = files.get(path).and_then(|file| file.contents.as_ref()) else {
                continue;
            };
            for (labels, value) in &contents.samples {
                let name = labels.metric_name().unwrap_or_default();
                let family = contents.family_of(name);
                let metadata = contents.metadata.get(family);
                self.store_sample(labels, *value, (family, metadata), context);
            }
            if let Some(modified) = contents.modified_seconds {
                let path = path.display().to_string();
                let labels = Labels::from_sorted([("__name__", MTIME.name), ("file", &*path)]);
                let metadata = Metadata {
                    metric_type: MetricType::Gauge,
                    help: MTIME.help.to_owned(),
                    unit: "seconds".to_owned(),
                };
                self.store_sample(&labels, modified, (MTIME.name, Some(&metadata)), context);
            }
        }
        (self.files, self.paths) = (files, paths);
        self.series.end_pass(context.table);
    }

    /// Stores a sample. The first of several samples with equal labels wins.
    fn store_sample(
        &mut self,
        labels: &Labels,
        value: f64,
        (family, metadata): (&str, Option<&Metadata>),
        context: &mut CollectContext<'_>,
    ) {
        match self.series.update(labels, value) {
            CacheUpdate::Updated => {}
            CacheUpdate::Duplicate => self.dropped.duplicates += 1,
            CacheUpdate::Unknown if self.series.len() >= self.limits.series => {
                self.dropped.series += 1;
            }
            CacheUpdate::Unknown => {
                let name = labels.metric_name().unwrap_or_default();
                for name in [name, family] {
                    if !self.families.contains(name) {
                        self.families.insert(name.to_owned());
                    }
                }
                let pairs = labels.iter().filter(|(name, _)| *name != "__name__");
                let pairs: Vec<(&str, &str)> = pairs.collect();
                let metadata = metadata.cloned().unwrap_or_default();
                let id = context.schema.scraped_series(
                    context.table,
                    Target::Node,
                    (family, metadata),
                    name,
                    &pairs,
                );
                self.series.insert(labels.clone(), id, value);
            }
        }
    }

    /// Reports what was dropped, in the log only when it changes.
    fn report(&mut self, before: Dropped, context: &mut CollectContext<'_>) {
        let Dropped {
            files,
            series,
            duplicates,
        } = self.dropped;
        if self.dropped != before && self.dropped != Dropped::default() {
            tracing::warn!(
                directory = %self.directory.display(),
                files,
                files_max = self.limits.files,
                series,
                series_max = self.limits.series,
                duplicates,
                "text files or samples dropped"
            );
        }
        let counts = [files, series, duplicates];
        for (single, count) in self.dropped_series.iter_mut().zip(counts) {
            single.set(context.table, context.schema, count as f64);
        }
    }
}

impl Collector for Textfile {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        // Claims the family before files that might use its name are read.
        self.error.set(context.table, context.schema, 0.0);
        let listed = self.list();
        if let Err(error) = &listed {
            if !self.unreadable.contains(&self.directory) {
                tracing::warn!(path = %self.directory.display(), error = common::report::chain(error), "read the directory of text files");
            }
            self.paths.clear();
            self.files.clear();
            self.directory_stamp = None;
            self.unreadable = vec![self.directory.clone()];
        } else {
            let (directory, paths) = (&self.directory, &self.paths);
            self.unreadable
                .retain(|path| path != directory && paths.contains(path));
        }
        let before = self.dropped;
        let has_changed = self.load(context) || *listed.as_ref().unwrap_or(&true);
        if has_changed {
            self.store(context);
        }
        self.series.store(context.table);
        self.report(before, context);
        let is_whole = self.unreadable.is_empty() && self.dropped == Dropped::default();
        let error = f64::from(u8::from(!is_whole));
        self.error.set(context.table, context.schema, error);
        Outcome::of(listed.ok().as_ref())
    }
}

#[cfg(test)]
mod tests;
