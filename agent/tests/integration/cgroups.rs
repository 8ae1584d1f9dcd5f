//! Cgroups created by a test, with real processes in them, and the collector's values of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agent::collect::{Collectors, Due, Tier};
use agent::collectors::cgroup::Cgroups;
use agent::collectors::cgroup::hierarchy::Hierarchy;
use agent::collectors::node::Roots;
use agent::schema::Schema;
use agent::table::SeriesTable;
use common::model::Labels;

use crate::support::{Killed, is_root, skip};

/// Where the machine's cgroups are mounted.
pub(crate) const ROOT: &str = "/sys/fs/cgroup";

/// Whether the test may create v1 cgroups. Prints a notice if not.
pub(crate) fn can_make_v1(test: &str) -> bool {
    let is_v1 = matches!(Hierarchy::detect(Path::new(ROOT)), Ok(Hierarchy::Split(_)));
    let can = is_root() && is_v1;
    if !can {
        skip(test, "needs root and the controllers of cgroup v1");
    }
    can
}

/// One cgroup in several trees. Removed on drop, with its processes and its parents.
pub(crate) struct TestCgroup {
    /// The first component of its path, which no other test uses.
    top: String,
    /// Its directory in each tree.
    dirs: Vec<PathBuf>,
    /// Directories created for it, parents first.
    made: Vec<PathBuf>,
}

impl TestCgroup {
    /// Creates `<top>/<below>` in trees below `root`. `top` gets the process ID as a suffix.
    pub(crate) fn new(root: &Path, trees: &[&str], top: &str, below: &[&str]) -> Self {
        let mut cgroup = Self {
            top: format!("tidemark-{top}-{}", std::process::id()),
            dirs: Vec::new(),
            made: Vec::new(),
        };
        for tree in trees {
            let mut dir = root.join(tree);
            for part in std::iter::once(&*cgroup.top).chain(below.iter().copied()) {
                dir.push(part);
                fs::create_dir(&dir).unwrap();
                cgroup.made.push(dir.clone());
            }
            cgroup.dirs.push(dir);
        }
        cgroup
    }

    pub(crate) fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// Path of a file in one tree.
    pub(crate) fn file(&self, tree: &str, file: &str) -> PathBuf {
        let dir = self.dirs.iter().find(|dir| {
            let mut parts = dir.components().rev();
            parts.any(|part| part.as_os_str() == tree)
        });
        dir.unwrap().join(file)
    }

    pub(crate) fn write(&self, tree: &str, file: &str, text: &str) {
        fs::write(self.file(tree, file), text).unwrap();
    }

    fn text(&self, tree: &str, file: &str) -> String {
        fs::read_to_string(self.file(tree, file)).unwrap()
    }

    /// The only number in a file.
    pub(crate) fn number(&self, tree: &str, file: &str) -> f64 {
        self.text(tree, file).trim().parse().unwrap()
    }

    /// The number after `key` in a file.
    pub(crate) fn keyed(&self, tree: &str, file: &str, key: &str) -> f64 {
        let text = self.text(tree, file);
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)).unwrap();
        value.trim().parse().unwrap()
    }

    /// Runs a shell script in the cgroup. The script joins before it does anything.
    pub(crate) fn run(&self, script: &str) -> Killed {
        let join: String = self
            .dirs
            .iter()
            .map(|dir| format!("echo $$ > {}/cgroup.procs; ", dir.display()))
            .collect();
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("{join}{script}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Killed(child.unwrap())
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        for dir in self.made.iter().rev() {
            for _ in 0..200 {
                let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
                for pid in procs.lines().filter_map(|pid| pid.parse().ok()) {
                    let (Ok(()) | Err(_)) = nix::sys::signal::kill(
                        nix::unistd::Pid::from_raw(pid),
                        nix::sys::signal::Signal::SIGKILL,
                    );
                }
                if fs::remove_dir(dir).is_ok() || !dir.try_exists().unwrap() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

/// The collector and what it stores.
pub(crate) struct Reader {
    collectors: Collectors,
    table: SeriesTable,
    schema: Schema,
    now_ms: i64,
}

impl Reader {
    pub(crate) fn new(roots: &Roots) -> Self {
        let mut collectors = Collectors::default();
        let cgroups = Cgroups::new(roots, None, collectors.errors_mut()).unwrap();
        collectors.add("cgroup", Tier::Fast, Box::new(cgroups));
        Self {
            collectors,
            table: SeriesTable::default(),
            schema: Schema::for_node("n"),
            now_ms: 0,
        }
    }

    /// Runs all tiers.
    pub(crate) fn tick(&mut self) {
        self.now_ms += 60_000;
        self.table.begin_tick(self.now_ms);
        self.collectors
            .collect(&mut self.table, &mut self.schema, Due::ALL);
    }

    /// Series of a family in a cgroup and above it, up to its `top`, with their values.
    pub(crate) fn values(&self, cgroup: &TestCgroup, name: &str) -> Vec<(Labels, f64)> {
        let values = self.table.current().filter_map(|(series, value)| {
            let labels = self.table.def(series)?.labels.clone();
            let is_it = labels.metric_name() == Some(name) && is_of(&labels, cgroup);
            is_it.then_some((labels, value))
        });
        values.collect()
    }

    /// The first of these values.
    pub(crate) fn value(&self, cgroup: &TestCgroup, name: &str) -> Option<f64> {
        Some(self.values(cgroup, name).first()?.1)
    }

    /// Number of series of a cgroup.
    pub(crate) fn series_of(&self, cgroup: &TestCgroup) -> usize {
        let series = self.table.series();
        series.filter(|(_, def)| is_of(&def.labels, cgroup)).count()
    }
}

fn is_of(labels: &Labels, cgroup: &TestCgroup) -> bool {
    let id = labels.get("id").unwrap_or_default();
    id.split('/').nth(1) == Some(&cgroup.top)
}
