//! Cgroups made by the test, with real processes in them, read by the real collector.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agent::collect::{Collectors, Due};
use agent::collectors::cgroup::Cgroups;
use agent::collectors::cgroup::hierarchy::Hierarchy;
use agent::collectors::node::Roots;
use agent::schema::Schema;
use agent::table::SeriesTable;

use crate::support::{Killed, eventually, is_root, skip};

mod hugepages;

const CONTROLLERS: [&str; 5] = ["cpu", "cpuacct", "memory", "blkio", "pids"];

/// A cgroup in the trees of v1; removed when dropped, with what runs in it.
struct TestCgroup {
    name: String,
    dirs: Vec<PathBuf>,
}

impl TestCgroup {
    /// `None`, said loudly, where the machine does not let us.
    fn new(test: &str) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let is_v1 = matches!(Hierarchy::detect(root), Ok(Hierarchy::Split(_)));
        if !is_root() || !is_v1 {
            skip(test, "needs root and the controllers of cgroup v1");
            return None;
        }
        let name = format!("tidemark-{test}-{}", std::process::id());
        let dirs: Vec<PathBuf> = CONTROLLERS
            .iter()
            .map(|controller| root.join(controller).join(&name))
            .collect();
        dirs.iter().for_each(|dir| fs::create_dir(dir).unwrap());
        Some(Self { name, dirs })
    }

    fn file(&self, controller: &str, file: &str) -> PathBuf {
        Path::new("/sys/fs/cgroup")
            .join(controller)
            .join(&self.name)
            .join(file)
    }

    fn write(&self, controller: &str, file: &str, text: &str) {
        fs::write(self.file(controller, file), text).unwrap();
    }

    fn number(&self, controller: &str, file: &str) -> f64 {
        fs::read_to_string(self.file(controller, file))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    fn keyed(&self, controller: &str, file: &str, key: &str) -> f64 {
        let text = fs::read_to_string(self.file(controller, file)).unwrap();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap();
        value.trim().parse().unwrap()
    }

    /// Runs a shell script inside; it joins by itself before it does anything.
    fn run(&self, script: &str) -> Killed {
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
        for dir in &self.dirs {
            for _ in 0..200 {
                let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
                for pid in procs.lines().filter_map(|pid| pid.parse().ok()) {
                    let (Ok(()) | Err(_)) = nix::sys::signal::kill(
                        nix::unistd::Pid::from_raw(pid),
                        nix::sys::signal::Signal::SIGKILL,
                    );
                }
                if fs::remove_dir(dir).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

/// The collector and what it stores.
struct Reader {
    collectors: Collectors,
    table: SeriesTable,
    schema: Schema,
    now_ms: i64,
}

impl Reader {
    fn new() -> Self {
        let mut collectors = Collectors::default();
        collectors
            .try_add(|faults| Cgroups::new(&Roots::default(), None, faults))
            .unwrap();
        Self {
            collectors,
            table: SeriesTable::default(),
            schema: Schema::for_node("n"),
            now_ms: 0,
        }
    }

    fn tick(&mut self) {
        self.now_ms += 1000;
        self.table.begin_tick(self.now_ms);
        self.collectors
            .collect(&mut self.table, &mut self.schema, Due::ALL);
    }

    fn value(&self, cgroup: &TestCgroup, name: &str) -> Option<f64> {
        let id = format!("/{}", cgroup.name);
        self.table.current().find_map(|(series, value)| {
            let labels = &self.table.def(series)?.labels;
            (labels.metric_name() == Some(name) && labels.get("id") == Some(&id)).then_some(value)
        })
    }

    fn series_of(&self, cgroup: &TestCgroup) -> usize {
        let id = format!("/{}", cgroup.name);
        self.table
            .series()
            .filter(|(_, def)| def.labels.get("id") == Some(&id))
            .count()
    }
}

#[test]
fn burnt_cpu_and_throttling_are_the_kernels() {
    let Some(cgroup) = TestCgroup::new("cpu") else {
        return;
    };
    cgroup.write("cpu", "cpu.cfs_quota_us", "20000");
    let _burner = cgroup.run("while :; do :; done");
    let mut reader = Reader::new();
    let throttled = eventually("throttling", || {
        reader.tick();
        reader
            .value(&cgroup, "container_cpu_cfs_throttled_periods_total")
            .filter(|count| *count >= 3.0)
    });
    let before = cgroup.number("cpuacct", "cpuacct.usage") / 1e9;
    reader.tick();
    let ours = reader
        .value(&cgroup, "container_cpu_usage_seconds_total")
        .unwrap();
    let after = cgroup.number("cpuacct", "cpuacct.usage") / 1e9;
    assert!(
        before <= ours && ours <= after && ours > 0.0,
        "{before} <= {ours} <= {after}"
    );
    assert!(
        reader
            .value(&cgroup, "container_cpu_cfs_periods_total")
            .unwrap()
            >= throttled
    );
    // How much time counts as throttled differs from kernel to kernel; ours is what this one says.
    let seconds = reader
        .value(&cgroup, "container_cpu_cfs_throttled_seconds_total")
        .unwrap();
    assert!(seconds <= cgroup.keyed("cpu", "cpu.stat", "throttled_time") / 1e9);
    assert_eq!(
        reader.value(&cgroup, "container_spec_cpu_quota"),
        Some(20000.0)
    );
    assert_eq!(reader.value(&cgroup, "container_processes"), Some(1.0));
    let parts = reader
        .value(&cgroup, "container_cpu_user_seconds_total")
        .unwrap()
        + reader
            .value(&cgroup, "container_cpu_system_seconds_total")
            .unwrap();
    assert!(
        (parts - ours).abs() < 0.2,
        "user and system make {parts} of {ours}"
    );
}

#[test]
fn touched_memory_and_limits_are_the_kernels() {
    let Some(cgroup) = TestCgroup::new("memory") else {
        return;
    };
    cgroup.write("memory", "memory.limit_in_bytes", "128M");
    // tail keeps what it has read until the end of its input; then the full pipe holds it.
    let _holder = cgroup.run("head -c 33554432 /dev/zero | tail -c 33554432 | sleep 1000");
    let mut reader = Reader::new();
    let held = eventually("32 MiB", || {
        reader.tick();
        reader
            .value(&cgroup, "container_memory_rss")
            .filter(|bytes| *bytes >= 33_554_432.0)
    });
    let usage = reader
        .value(&cgroup, "container_memory_usage_bytes")
        .unwrap();
    let working_set = reader
        .value(&cgroup, "container_memory_working_set_bytes")
        .unwrap();
    let inactive = reader
        .value(&cgroup, "container_memory_total_inactive_file_bytes")
        .unwrap();
    assert!(
        usage >= held && working_set == usage - inactive,
        "{usage} {working_set} {inactive}"
    );
    assert_eq!(
        reader.value(&cgroup, "container_spec_memory_limit_bytes"),
        Some(134_217_728.0)
    );
    assert_eq!(
        reader.value(&cgroup, "container_threads"),
        Some(cgroup.number("pids", "pids.current"))
    );
    assert_eq!(
        reader.value(&cgroup, "container_memory_max_usage_bytes"),
        Some(cgroup.number("memory", "memory.max_usage_in_bytes"))
    );
}

#[test]
fn page_cache_is_not_working_set() {
    let Some(cgroup) = TestCgroup::new("cache") else {
        return;
    };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = dir.path().join("f");
    let script = format!(
        "dd if=/dev/zero of={} bs=1M count=24; sleep 1000",
        file.display()
    );
    let _writer = cgroup.run(&script);
    let mut reader = Reader::new();
    let cache = eventually("24 MiB of page cache", || {
        reader.tick();
        reader
            .value(&cgroup, "container_memory_cache")
            .filter(|bytes| *bytes >= 24.0 * 1048576.0)
    });
    let working_set = reader
        .value(&cgroup, "container_memory_working_set_bytes")
        .unwrap();
    assert!(
        working_set < cache,
        "working set {working_set} holds the cache of {cache}"
    );
}

#[test]
fn oom_kill_is_counted() {
    let Some(cgroup) = TestCgroup::new("oom") else {
        return;
    };
    cgroup.write("memory", "memory.limit_in_bytes", "16M");
    let mut reader = Reader::new();
    reader.tick();
    assert_eq!(
        reader.value(&cgroup, "container_oom_events_total"),
        Some(0.0)
    );
    let _victim = cgroup.run("head -c 67108864 /dev/zero | tail -c 67108864 | sleep 1000");
    eventually("an OOM kill", || {
        reader.tick();
        reader
            .value(&cgroup, "container_oom_events_total")
            .filter(|count| *count >= 1.0)
    });
    assert!(reader.value(&cgroup, "container_memory_failcnt").unwrap() > 0.0);
}

#[test]
fn removed_cgroup_takes_its_series_along() {
    let Some(cgroup) = TestCgroup::new("gone") else {
        return;
    };
    let mut reader = Reader::new();
    reader.tick();
    assert!(reader.series_of(&cgroup) > 10);
    for dir in &cgroup.dirs {
        fs::remove_dir(dir).unwrap();
    }
    reader.tick();
    assert_eq!(reader.series_of(&cgroup), 0);
}
