//! Sensors, frequencies, special file systems: what only some machines have. Searched every 10 minutes, read every 60
//! s.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use common::model::{Metadata, MetricType};

use super::Roots;
use crate::collect::{CollectContext, Collector, Outcome};
use crate::file::{is_gone, is_unsupported};
use crate::parse;
use crate::read_errors::{ReadErrorId, ReadErrors};
use crate::schema::Target;
use crate::table::SeriesId;

mod btrfs;
mod cpufreq;
mod dmi;
mod hwmon;
mod selinux;
mod stacked;
mod thermal;
mod xfs;
mod zfs;

/// Runs between two searches. Hardware and mounts change seldom.
const RUNS_PER_SEARCH: u32 = 10;
/// Upper bound on the series of one such collector.
const SERIES_MAX: usize = 20_000;

/// How a number in a file becomes a value. Dividing and multiplying round differently; the results match
/// node_exporter's to the last digit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    Times(f64),
    Over(f64),
}

const AS_IS: Scale = Scale::Times(1.0);

impl Scale {
    fn of(self, number: f64) -> f64 {
        match self {
            Self::Times(factor) => number * factor,
            Self::Over(divisor) => number / divisor,
        }
    }
}

/// Selects a value in a file.
#[derive(Debug, Clone, PartialEq)]
enum Pick {
    /// The only number in the file.
    Number(Scale),
    /// 1 if the file has this word, ignoring case, else 0.
    Is(String),
    /// A column after the first word of the line that starts with it.
    Field {
        key: String,
        column: usize,
        scale: Scale,
    },
    /// A column of a line, both counted from 0.
    Cell {
        line: usize,
        column: usize,
        scale: Scale,
    },
}

/// A series and where its value comes from.
#[derive(Debug, Clone, PartialEq)]
struct FoundSeries {
    name: String,
    metric_type: MetricType,
    help: &'static str,
    labels: Vec<(&'static str, String)>,
    /// A file below the roots; `None` for a constant.
    path: Option<PathBuf>,
    pick: Pick,
    constant: f64,
}

impl FoundSeries {
    fn gauge(name: impl Into<String>, help: &'static str, labels: &[(&'static str, &str)]) -> Self {
        let owned = |&(name, value): &(&'static str, &str)| (name, value.to_owned());
        Self {
            name: name.into(),
            metric_type: MetricType::Gauge,
            help,
            labels: labels.iter().map(owned).collect(),
            path: None,
            pick: Pick::Number(AS_IS),
            constant: 1.0,
        }
    }

    const fn of_type(mut self, metric_type: MetricType) -> Self {
        self.metric_type = metric_type;
        self
    }

    fn in_file(mut self, path: PathBuf, pick: Pick) -> Self {
        self.path = Some(path);
        self.pick = pick;
        self
    }

    /// Reads the only number of a file.
    fn number(self, path: PathBuf, scale: Scale) -> Self {
        self.in_file(path, Pick::Number(scale))
    }

    const fn constant(mut self, value: f64) -> Self {
        self.constant = value;
        self
    }
}

/// A file with the series read from it, in the order of their values in the file.
#[derive(Debug)]
struct Planned {
    path: PathBuf,
    picks: Vec<(Pick, SeriesId, MetricType)>,
    /// Where malformed contents are counted; registered at the first error.
    error_id: Option<ReadErrorId>,
}

/// A collector of values that a search finds.
#[derive(Debug)]
pub struct Hardware {
    name: &'static str,
    roots: Roots,
    search: fn(&Roots) -> Vec<FoundSeries>,
    found: Vec<FoundSeries>,
    series: Vec<SeriesId>,
    files: Vec<Planned>,
    constants: Vec<(SeriesId, f64)>,
    runs_left: u32,
    error_id: ReadErrorId,
}

/// Declares the collectors of this module by name.
macro_rules! collectors {
    ($($name:ident: $search:path, $doc:literal;)*) => {
        impl Hardware {
            $(#[doc = $doc]
            pub fn $name(roots: &Roots, errors: &mut ReadErrors) -> Self {
                Self::new(stringify!($name), roots, $search, errors)
            })*
        }
    };
}

collectors! {
    cpufreq: cpufreq::search, "`node_cpu_frequency_*`, `node_cpu_scaling_*`.";
    thermal_zone: thermal::search, "`node_thermal_zone_temp`, `node_cooling_device_*`.";
    dmi: dmi::search, "`node_dmi_info`.";
    hwmon: hwmon::search, "`node_hwmon_*`.";
    selinux: selinux::search, "`node_selinux_*`.";
    xfs: xfs::search, "`node_xfs_*`.";
    btrfs: btrfs::search, "`node_btrfs_*`.";
    zfs: zfs::search, "`node_zfs_*`.";
    stacked: stacked::search, "`container_fs_stacked_device`.";
}

impl Hardware {
    fn new(
        name: &'static str,
        roots: &Roots,
        search: fn(&Roots) -> Vec<FoundSeries>,
        errors: &mut ReadErrors,
    ) -> Self {
        Self {
            name,
            roots: roots.clone(),
            search,
            found: Vec::new(),
            series: Vec::new(),
            files: Vec::new(),
            constants: Vec::new(),
            runs_left: 0,
            error_id: errors.file(name),
        }
    }

    fn search(&mut self, context: &mut CollectContext<'_>) {
        let mut found = (self.search)(&self.roots);
        // Two chips may share a name and have no device to tell them apart. The first one wins.
        let mut seen = HashSet::new();
        found.retain(|one| seen.insert((one.name.clone(), one.labels.clone())));
        if found.len() > SERIES_MAX {
            tracing::warn!(
                collector = self.name,
                series = found.len(),
                limit = SERIES_MAX,
                "too many series, dropped the rest"
            );
            found.truncate(SERIES_MAX);
        }
        if found == self.found {
            return;
        }
        self.series
            .drain(..)
            .for_each(|id| context.table.remove(id));
        self.files.clear();
        self.constants.clear();
        for one in &found {
            let metadata = Metadata {
                metric_type: one.metric_type,
                help: one.help.to_owned(),
                unit: String::new(),
            };
            let labels: Vec<(&str, &str)> = one
                .labels
                .iter()
                .map(|(name, value)| (*name, &**value))
                .collect();
            let named = (&*one.name, metadata);
            let id = context
                .schema
                .named_series(context.table, Target::Node, named, &labels);
            self.series.push(id);
            let Some(path) = &one.path else {
                self.constants.push((id, one.constant));
                continue;
            };
            let pick = (one.pick.clone(), id, one.metric_type);
            match self.files.last_mut().filter(|last| last.path == *path) {
                Some(last) => last.picks.push(pick),
                None => self.files.push(Planned {
                    path: path.clone(),
                    picks: vec![pick],
                    error_id: None,
                }),
            }
        }
        self.found = found;
    }
}

impl Collector for Hardware {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        if self.runs_left == 0 {
            self.search(context);
            self.runs_left = RUNS_PER_SEARCH;
        }
        self.runs_left -= 1;
        for &(id, value) in &self.constants {
            context.table.set(id, value);
        }
        for file in &mut self.files {
            match context.buffer.read_path(&file.path) {
                Ok(data) => {
                    if !file.store(data, |id, value| context.table.set(id, value)) {
                        let error_id = file.error_id(self.name, context.errors);
                        context.errors.parse(error_id);
                    }
                }
                // A sleeping sensor may return EAGAIN or EIO. node_exporter skips it too.
                Err(error) if is_gone(&error) || is_unsupported(&error) => {}
                Err(error) => context.errors.read(self.error_id, &error),
            }
        }
        Outcome::of(self.series.first())
    }
}

impl Planned {
    /// Counts errors by collector and file name without the directory: thousands of similar sensors share a counter.
    fn error_id(&mut self, collector: &str, errors: &mut ReadErrors) -> ReadErrorId {
        let path = &self.path;
        *self.error_id.get_or_insert_with(|| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            errors.file(&format!("{collector}/{name}"))
        })
    }

    /// Stores the values that are understood. Returns whether all were; a line that has gone is not an error.
    fn store(&self, data: &[u8], mut set: impl FnMut(SeriesId, f64)) -> bool {
        let mut is_understood = true;
        // Picks are in the order of the file, so one pass finds all. Several may select the same line.
        let mut rest = parse::lines(data).peekable();
        for (pick, id, metric_type) in &self.picks {
            let value = match pick {
                Pick::Number(scale) => cell(Some(data), *scale),
                Pick::Is(word) => {
                    text_of(data).map(|text| f64::from(u8::from(text.eq_ignore_ascii_case(word))))
                }
                Pick::Field { key, column, scale } => {
                    let is_before =
                        |line: &&[u8]| parse::words(line).next() != Some(key.as_bytes());
                    while rest.next_if(is_before).is_some() {}
                    let line = rest.peek().copied();
                    if line.is_none() {
                        // The line has gone or precedes the current one.
                        rest = parse::lines(data).peekable();
                        continue;
                    }
                    cell(
                        line.and_then(|line| parse::words(line).nth(column + 1)),
                        *scale,
                    )
                }
                Pick::Cell {
                    line,
                    column,
                    scale,
                } => {
                    let line = parse::lines(data).nth(*line);
                    cell(
                        line.and_then(|line| parse::words(line).nth(*column)),
                        *scale,
                    )
                }
            };
            // Counters are never negative.
            let is_possible = |value: &f64| *metric_type != MetricType::Counter || *value >= 0.0;
            match value.filter(is_possible) {
                Some(value) => set(*id, value),
                None => is_understood = false,
            }
        }
        is_understood
    }
}

fn cell(text: Option<&[u8]>, scale: Scale) -> Option<f64> {
    let number = number(text_of(text?)?)?;
    Some(scale.of(number))
}

fn text_of(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok().map(str::trim)
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// A file's text without surrounding blanks; `None` if it can't be read.
fn read(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

/// Sorted names in a directory; empty if it does not exist.
fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::testing::Bench;

    #[test]
    fn stacked_device_is_named_as_in_container_series() {
        let mut bench = Bench::new();
        for path in ["vda/size", "dm-0/slaves/vda/size", "dm-1/size"] {
            bench.write(&format!("sys/block/{path}"), "1\n");
        }
        std::fs::create_dir(bench.roots().sys.join("block/dm-1/slaves")).unwrap();
        let roots = bench.roots();
        let mut stacked = Hardware::stacked(&roots, bench.errors());
        bench.collect(&mut stacked);
        let device = [("device", "/dev/dm-0")];
        let value = bench.value("container_fs_stacked_device", &device);
        assert_eq!((value, bench.series_count()), (Some(1.0), 1));
    }

    #[test]
    fn malformed_sensor_is_absent_and_counted_by_its_file() {
        let mut bench = Bench::new();
        bench.write("sys/class/thermal/thermal_zone0/type", "cpu\n");
        bench.write("sys/class/thermal/thermal_zone0/temp", "50000\n");
        let roots = bench.roots();
        let mut thermal = Hardware::thermal_zone(&roots, bench.errors());
        bench.collect(&mut thermal);
        assert_eq!(bench.value("node_thermal_zone_temp", &[]), Some(50.0));
        assert_eq!(bench.errors().total(), 0);
        bench.write("sys/class/thermal/thermal_zone0/temp", "hot\n");
        bench.collect(&mut thermal);
        assert_eq!(bench.value("node_thermal_zone_temp", &[]), None);
        assert_eq!(bench.not_understood("thermal_zone/temp"), Some(1.0));
    }
}
