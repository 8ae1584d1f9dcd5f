//! Files of the kernel and of users that the agent reads: /proc, /sys, cgroups, mountinfo, text files.
//!
//! An input is a small file tree as text: a line `== PATH` before each file's content. The line `== again` begins a second
//! state, whose files replace those of the first; new files are ignored. After it, the collectors must report the same as
//! fresh collectors that only see the second state: knowledge of a file's layout may save time, but never change a value.

use std::fs;
use std::path::Path;

use agent::collect::{Collectors, Due};
use agent::collectors::cgroup::identity::Identity;
use agent::collectors::node::mountinfo as mounts;
use agent::collectors::{self, COLLECTORS};
use agent::config::Config;
use agent::parse;
use agent::schema::Schema;
use agent::table::SeriesTable;
use tempfile::TempDir;

use crate::table;

const FILES_MAX: usize = 64;
const PATH_BYTES_MAX: usize = 300;
/// Time between two readings, at which all tiers are due.
const STEP_MS: i64 = 60_000;

/// Collectors whose values only depend on files: without timex, time and uname (system calls), and filesystem (a separate
/// thread).
const FROM_FILES: &[&str] = &[
    "arp",
    "conntrack",
    "cpu",
    "diskstats",
    "entropy",
    "filefd",
    "loadavg",
    "machine",
    "meminfo",
    "netclass",
    "netdev",
    "netstat",
    "os",
    "pressure",
    "schedstat",
    "mdadm",
    "bonding",
    "kernel_hung",
    "sockstat",
    "softnet",
    "stat",
    "udp_queues",
    "vmstat",
];

/// Collectors that search for devices once and then read them: sensors, frequencies, special file systems.
const HARDWARE: &[&str] = &[
    "btrfs",
    "cpufreq",
    "dmi",
    "hwmon",
    "selinux",
    "stacked",
    "thermal_zone",
    "xfs",
    "zfs",
];

/// Part of the names of families that keep their value when the kernel's counters run backwards.
const CPU_TIME: &str = "node_cpu_";

/// Files by their paths.
type Files<'a> = Vec<(&'a str, &'a [u8])>;

/// Splits an input into the first state and the files that replace parts of it. Ignores paths outside the tree.
fn split(input: &[u8]) -> (Files<'_>, Files<'_>) {
    let mut heads = Vec::new();
    let mut at = 0;
    for line in parse::lines(input) {
        let end = at + line.len() + 1;
        if let Some(path) = line.strip_prefix(b"== ") {
            heads.push((at, end.min(input.len()), path));
        }
        at = end;
    }
    let (mut first, mut again) = (Files::new(), Files::new());
    let mut is_again = false;
    for (index, &(_, start, path)) in heads.iter().enumerate().take(FILES_MAX) {
        let end = heads.get(index + 1).map_or(input.len(), |next| next.0);
        let content = input.get(start..end).unwrap_or_default();
        match std::str::from_utf8(path) {
            Ok("again") => is_again = true,
            // Collectors look up the kernel's files once, so no new ones are added.
            Ok(path) if is_again && first.iter().any(|(known, _)| *known == path) => {
                again.push((path, content));
            }
            Ok(_) if is_again => {}
            Ok(path) if is_inside(path) => first.push((path, content)),
            _ => {}
        }
    }
    (first, again)
}

/// Whether a path stays in the tree and is possible in a kernel's file system.
fn is_inside(path: &str) -> bool {
    path.len() <= PATH_BYTES_MAX
        && path.split('/').all(|part| {
            !matches!(part, "" | "." | "..") && part.len() <= 200 && !part.contains('\0')
        })
}

/// A tree of files, in memory if possible.
fn directory() -> TempDir {
    let shm = Path::new("/dev/shm");
    let made = tempfile::tempdir_in(shm).or_else(|_| tempfile::tempdir());
    made.expect("a temporary directory")
}

fn lay_out(root: &Path, files: &Files<'_>) {
    for (path, content) in files {
        let path = root.join(path);
        // If a path is both a file and a directory, the first one wins.
        if let Some(parent) = path.parent()
            && fs::create_dir_all(parent).is_ok()
        {
            drop(fs::write(&path, content));
        }
    }
}

/// Collectors over a tree, and their table.
struct Bench {
    collectors: Collectors,
    table: SeriesTable,
    schema: Schema,
    now_ms: i64,
    /// Whether all values come from our collectors, and none from text files.
    has_own_values: bool,
}

impl Bench {
    /// Returns `None` when these collectors can't start in the tree, for example without a cgroup hierarchy.
    fn new(root: &Path, on: &[&str]) -> Option<Self> {
        let path = |flag: &str, below: &str| format!("--{flag}={}", root.join(below).display());
        let mut args = vec![
            "tidemark-agent".to_owned(),
            "--node.name=n".to_owned(),
            path("path.procfs", "proc"),
            path("path.sysfs", "sys"),
            path("path.cgroupfs", "sys/fs/cgroup"),
            path("path.rootfs", "root"),
            path("collector.textfile.directory", "text"),
        ];
        let off = COLLECTORS
            .iter()
            .filter(|collector| !on.contains(&collector.name));
        args.extend(off.map(|collector| format!("--no-collector.{}", collector.name)));
        let config = Config::from_args(args).expect("flags of this harness");
        Some(Self {
            collectors: collectors::build(&config.build_context(None)).ok()?,
            table: SeriesTable::default(),
            schema: Schema::for_node("n"),
            now_ms: 0,
            has_own_values: !on.contains(&"textfile"),
        })
    }

    fn tick(&mut self) {
        self.now_ms += STEP_MS;
        self.table.begin_tick(self.now_ms);
        self.collectors
            .collect(&mut self.table, &mut self.schema, Due::ALL);
        table::check(&self.table);
        if self.has_own_values {
            table::check_counters(&self.table);
        }
        self.table.clear_changes();
    }
}

/// Reads the first state, then the second, and compares with a fresh reading of the second.
fn read_twice(input: &[u8], on: &[&str]) {
    let (first, again) = split(input);
    if first.is_empty() {
        return;
    }
    let root = directory();
    lay_out(root.path(), &first);
    let Some(mut bench) = Bench::new(root.path(), on) else {
        return;
    };
    bench.tick();
    let before = table::values(&bench.table);
    lay_out(root.path(), &again);
    bench.tick();
    let mut after = table::values(&bench.table);
    if again.is_empty() {
        assert_eq!(after, before, "values changed although files did not");
    }
    let mut fresh = Bench::new(root.path(), on).expect("it could be built before");
    fresh.tick();
    let mut expected = table::values(&fresh.table);
    for values in [&mut after, &mut expected] {
        // CPU time that runs backwards is held at what it was, which a fresh reading can't know.
        values.retain(|series, _| {
            !series
                .metric_name()
                .unwrap_or_default()
                .starts_with(CPU_TIME)
        });
    }
    assert_eq!(after, expected, "learnt layouts tell");
}

/// Files in /proc and /sys of the node's own collectors.
///
/// # Panics
/// See [`table::check`]; or a second reading differs from a fresh one.
pub fn node(input: &[u8]) {
    read_twice(input, FROM_FILES);
}

/// Files in /proc and /sys of what only some machines have.
///
/// # Panics
/// See [`table::check`]; or a second reading of the same files differs.
pub fn hardware(input: &[u8]) {
    let (files, _) = split(input);
    let root = directory();
    lay_out(root.path(), &files);
    let Some(mut bench) = Bench::new(root.path(), HARDWARE) else {
        return;
    };
    bench.tick();
    let before = table::values(&bench.table);
    bench.tick();
    let after = table::values(&bench.table);
    assert_eq!(after, before, "values changed although files did not");
}

/// A tree of cgroups, of version 1, 2 or both.
///
/// # Panics
/// As [`node`]; or a path's identity is impossible for the API server.
pub fn cgroup(input: &[u8]) {
    for (path, _) in split(input).0 {
        match Identity::of(&format!("/{path}")) {
            Identity::Pod { uid } => check_uid(&uid),
            Identity::Container {
                pod_uid,
                container_id,
            } => {
                pod_uid.iter().for_each(|uid| check_uid(uid));
                assert_eq!(container_id.len(), 64);
            }
            Identity::Root | Identity::Unit | Identity::Hidden => {}
        }
    }
    read_twice(input, &["cgroup"]);
}

fn check_uid(uid: &str) {
    let hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(
        matches!(uid.len(), 32 | 36) && uid.split('-').all(hex),
        "{uid}"
    );
}

/// A file in the text file collector's directory.
///
/// # Panics
/// As [`node`].
pub fn textfile(input: &[u8]) {
    if input.starts_with(b"== ") {
        return read_twice(input, &["textfile"]);
    }
    let mut named = b"== text/a.prom\n".to_vec();
    named.extend_from_slice(input);
    read_twice(&named, &["textfile"]);
}

/// Lines of mountinfo, compared with a parser of this harness: the kernel separates fields by single spaces, and only
/// escapes spaces, tabs, newlines and backslashes inside them (`fs/proc_namespace.c`, `mangle`).
///
/// # Panics
/// A mount point is not the fifth field.
pub fn mountinfo(input: &[u8]) {
    for line in parse::lines(input) {
        let Some(mount) = mounts::parse_line(line) else {
            continue;
        };
        let field = line.split(|&byte| byte == b' ').nth(4);
        let field = field.expect("a line that was read has five fields");
        if !field.contains(&b'\\') {
            assert_eq!(mount.mountpoint, String::from_utf8_lossy(field));
        }
    }
}
