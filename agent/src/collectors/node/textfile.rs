//! Metrics that others leave in a directory, as files `*.prom` in the text exposition format.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use common::exposition::{Entry, ParseError, Parser};
use common::model::{Labels, Metadata, MetricType};

use crate::collect::{Collector, Outcome, Single, Tick, Tier};
use crate::schema::{FamilyDef, Target, gauge};
use crate::table::SeriesId;

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
    "Files of the text file directory left out at the last run because there are too many.",
);
static SERIES_OVER: FamilyDef = gauge(
    "agent_textfile_series_left_out",
    "Samples of text files left out at the last run because there are too many series.",
);

/// Bytes of one file.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Files of the directory.
const FILES_MAX: usize = 256;
/// Series of all files together.
const SERIES_MAX: usize = 50_000;

/// Why a file is left out, all of it: half a file would be half a truth.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("read")]
    Read(#[from] io::Error),
    #[error("larger than {FILE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("not UTF-8")]
    NotUtf8,
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("{0} has a timestamp, which node_exporter's users know to be refused")]
    Timestamp(Labels),
}

#[derive(Debug)]
struct Stored {
    id: SeriesId,
    pass: u64,
}

/// Collects what is in the directory.
#[derive(Debug)]
pub struct Textfile {
    directory: PathBuf,
    error: Single,
    pass: u64,
    series: HashMap<Labels, Stored>,
    /// Files that failed at the last pass, so that each trouble is logged once.
    failing: Vec<PathBuf>,
    /// Files and samples that were too many at this pass.
    over: [usize; 2],
    over_series: [Single; 2],
    was_over: bool,
    limits: Limits,
}

/// How much is taken.
#[derive(Debug, Clone, Copy)]
struct Limits {
    files: usize,
    series: usize,
}

impl Textfile {
    /// A collector of `directory`.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            error: Single::node(&ERROR),
            pass: 0,
            series: HashMap::new(),
            failing: Vec::new(),
            over: [0; 2],
            over_series: [&FILES_OVER, &SERIES_OVER]
                .map(|family| Single::new(Target::Agent, family)),
            was_over: false,
            limits: Limits {
                files: FILES_MAX,
                series: SERIES_MAX,
            },
        }
    }

    fn list(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "prom")
            {
                files.push(path);
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    fn collect_file(&mut self, path: &Path, tick: &mut Tick<'_>) -> Result<(), FileError> {
        let (text, mtime) = read(path)?;
        let mut families: HashMap<String, Metadata> = HashMap::new();
        let mut samples = Vec::new();
        for entry in Parser::new(&text) {
            match entry? {
                Entry::Help { family, text } => {
                    families.entry(family.into_owned()).or_default().help = text.into_owned();
                }
                Entry::Type {
                    family,
                    metric_type,
                } => {
                    families.entry(family.into_owned()).or_default().metric_type = metric_type;
                }
                Entry::Sample {
                    labels,
                    timestamp_ms: Some(_),
                    ..
                } => return Err(FileError::Timestamp(labels)),
                Entry::Sample { labels, value, .. } => samples.push((labels, value)),
            }
        }
        for (labels, value) in samples {
            self.store(labels, value, &families, tick);
        }
        if let Some(mtime) = mtime {
            let name = path.display().to_string();
            let labels = Labels::from_sorted([("__name__", MTIME.name), ("file", &*name)]);
            let metadata = Metadata {
                metric_type: MetricType::Gauge,
                help: MTIME.help.to_owned(),
                unit: "seconds".to_owned(),
            };
            self.store(
                labels,
                mtime,
                &HashMap::from([(MTIME.name.to_owned(), metadata)]),
                tick,
            );
        }
        Ok(())
    }

    /// Says what was left out because it was too much: in the log when it begins.
    fn report_over(&mut self, tick: &mut Tick<'_>) {
        let [files, samples] = self.over;
        let is_over = files + samples > 0;
        if is_over && !self.was_over {
            let Limits {
                files: files_max,
                series: series_max,
            } = self.limits;
            tracing::warn!(
                directory = %self.directory.display(),
                files_left_out = files,
                files_max,
                samples_left_out = samples,
                series_max,
                "too many text files or series in them"
            );
        }
        self.was_over = is_over;
        for (series, count) in self.over_series.iter_mut().zip(self.over) {
            series.set(tick.table, tick.schema, count as f64);
        }
    }

    /// Of two samples with equal labels the first one stays.
    fn store(
        &mut self,
        labels: Labels,
        value: f64,
        families: &HashMap<String, Metadata>,
        tick: &mut Tick<'_>,
    ) {
        let (pass, count) = (self.pass, self.series.len());
        match self.series.entry(labels) {
            MapEntry::Occupied(mut entry) => {
                let stored = entry.get_mut();
                if stored.pass != pass {
                    stored.pass = pass;
                    tick.table.set(stored.id, value);
                }
            }
            MapEntry::Vacant(_) if count >= self.limits.series => self.over[1] += 1,
            MapEntry::Vacant(entry) => {
                let labels = entry.key();
                let name = labels.metric_name().unwrap_or_default();
                let metadata = families
                    .get(family_of(name, families))
                    .cloned()
                    .unwrap_or_default();
                let pairs: Vec<(&str, &str)> = labels
                    .iter()
                    .filter(|(name, _)| *name != "__name__")
                    .collect();
                let id =
                    tick.schema
                        .named_series(tick.table, Target::Node, (name, metadata), &pairs);
                entry.insert(Stored { id, pass });
                tick.table.set(id, value);
            }
        }
    }
}

/// Histograms and summaries have series with suffixes.
fn family_of<'a>(name: &'a str, families: &HashMap<String, Metadata>) -> &'a str {
    let stems = ["_bucket", "_sum", "_count"]
        .into_iter()
        .filter_map(|suffix| name.strip_suffix(suffix));
    stems
        .into_iter()
        .find(|stem| families.contains_key(*stem))
        .unwrap_or(name)
}

fn read(path: &Path) -> Result<(String, Option<f64>), FileError> {
    let file = fs::File::open(path)?;
    let mtime = file
        .metadata()?
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(FileError::TooLarge);
    }
    let text = String::from_utf8(bytes).map_err(|_| FileError::NotUtf8)?;
    Ok((text, mtime.map(|mtime| mtime.as_secs_f64())))
}

impl Collector for Textfile {
    fn name(&self) -> &'static str {
        "textfile"
    }

    fn tier(&self) -> Tier {
        Tier::Medium
    }

    fn collect(&mut self, tick: &mut Tick<'_>) -> Outcome {
        self.pass += 1;
        let listed = self.list();
        let files = listed.as_ref().map_or(0, Vec::len);
        self.over = [files.saturating_sub(self.limits.files), 0];
        let mut failing = Vec::new();
        match &listed {
            Ok(files) => {
                for path in files.iter().take(self.limits.files) {
                    if let Err(error) = self.collect_file(path, tick) {
                        if !self.failing.contains(path) {
                            tracing::warn!(path = %path.display(), error = common::report::chain(&error), "text file left out");
                        }
                        failing.push(path.clone());
                    }
                }
            }
            Err(error) => {
                if !self.failing.contains(&self.directory) {
                    tracing::warn!(path = %self.directory.display(), %error, "directory of text files not read");
                }
                failing.push(self.directory.clone());
            }
        }
        let pass = self.pass;
        self.series.retain(|_, stored| {
            if stored.pass != pass {
                tick.table.remove(stored.id);
            }
            stored.pass == pass
        });
        self.report_over(tick);
        self.error.set(
            tick.table,
            tick.schema,
            f64::from(u8::from(!failing.is_empty() || self.was_over)),
        );
        self.failing = failing;
        Outcome::of(listed.ok().as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    #[test]
    fn files_come_change_and_go() {
        let mut bench = Bench::new();
        bench.write("root/t/a.prom", "# HELP raid_ok Disks.\n# TYPE raid_ok gauge\nraid_ok{disk=\"a\"} 1\nraid_ok{disk=\"b\"} 0\n");
        bench.write("root/t/ignored.txt", "x 1\n");
        let mut textfile = Textfile::new(bench.roots().root.join("t"));
        bench.collect(&mut textfile);
        assert_eq!(
            bench.value("raid_ok", &[("disk", "a"), ("job", "node-exporter")]),
            Some(1.0)
        );
        assert_eq!(bench.value("node_textfile_scrape_error", &[]), Some(0.0));
        assert!(bench.value("node_textfile_mtime_seconds", &[]).unwrap() > 1e9);
        bench.write("root/t/a.prom", "raid_ok{disk=\"a\"} 5\n");
        bench.collect(&mut textfile);
        assert_eq!(bench.value("raid_ok", &[]), Some(5.0));
        assert_eq!(bench.series_count(), 5);
    }

    #[test]
    fn bad_file_is_left_out_whole() {
        let mut bench = Bench::new();
        bench.write("root/t/bad.prom", "good 1\nbad{ 2\n");
        bench.write("root/t/old.prom", "timed 1 1700000000000\n");
        bench.write("root/t/ok.prom", "ok 1\n");
        let mut textfile = Textfile::new(bench.roots().root.join("t"));
        bench.collect(&mut textfile);
        assert_eq!(bench.value("node_textfile_scrape_error", &[]), Some(1.0));
        assert_eq!(
            (
                bench.value("ok", &[]),
                bench.value("good", &[]),
                bench.value("timed", &[])
            ),
            (Some(1.0), None, None)
        );
        let mut nowhere = Textfile::new("/nonexistent".into());
        assert_eq!(bench.collect(&mut nowhere), Outcome::NoData);
    }

    #[test]
    fn too_many_files_and_series_are_counted() {
        let mut bench = Bench::new();
        for (file, text) in [("a", "a 1\nb 1\nc 1\n"), ("b", "d 1\n"), ("c", "e 1\n")] {
            bench.write(&format!("root/t/{file}.prom"), text);
        }
        let mut textfile = Textfile::new(bench.roots().root.join("t"));
        for (files, series, want) in [(2, 5, [1.0, 1.0]), (3, 8, [0.0, 0.0]), (1, 3, [2.0, 1.0])] {
            textfile.limits = Limits { files, series };
            textfile.series.clear();
            bench.collect(&mut textfile);
            let left_out = ["files", "series"].map(|what| {
                bench
                    .value(&format!("agent_textfile_{what}_left_out"), &[])
                    .unwrap()
            });
            assert_eq!(left_out, want, "{files} files, {series} series");
            let error = f64::from(u8::from(want != [0.0, 0.0]));
            assert_eq!(bench.value("node_textfile_scrape_error", &[]), Some(error));
        }
    }
}
