//! A real v2 hierarchy mounted by the test: CPU time, pressure and tasks of real processes. On machines with v1
//! controllers the hierarchy has only the files that every v2 cgroup has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agent::collectors::node::Roots;

use crate::cgroups::{Reader, TestCgroup};
use crate::support::{eventually, is_root, skip};

/// The name of the mounted tree.
const TREE: &str = "unified";

/// A mount of cgroup2. Unmounted on drop.
struct Mount(tempfile::TempDir);

impl Mount {
    /// Returns `None`, with a notice, if the machine does not allow it.
    fn new(test: &str) -> Option<Self> {
        if !is_root() {
            skip(test, "needs root to mount cgroup2");
            return None;
        }
        let mount = Self(tempfile::tempdir().unwrap());
        fs::create_dir(mount.path()).unwrap();
        let args = ["-t", "cgroup2", "none"];
        let mounted = Command::new("mount").args(args).arg(mount.path()).output();
        let said = match mounted {
            Ok(output) if output.status.success() => return Some(mount),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        skip(test, &format!("cgroup2 can't be mounted here: {said}"));
        None
    }

    fn path(&self) -> PathBuf {
        self.0.path().join(TREE)
    }

    fn cgroup(&self, top: &str, below: &[&str]) -> TestCgroup {
        TestCgroup::new(self.0.path(), &[TREE], top, below)
    }

    fn reader(&self) -> Reader {
        Reader::new(&Roots {
            cgroup: self.path(),
            ..Roots::default()
        })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        let (Ok(_) | Err(_)) = umount.arg(self.path()).stderr(Stdio::null()).status();
    }
}

/// The kernel's `total=` of the line `some`, in seconds.
fn waited_seconds(file: &Path) -> f64 {
    let text = fs::read_to_string(file).unwrap();
    let some = text.lines().find(|line| line.starts_with("some ")).unwrap();
    let total = some.split("total=").nth(1).unwrap();
    total.trim().parse::<f64>().unwrap() / 1e6
}

#[test]
fn cpu_time_and_pressure_of_a_mounted_v2_tree_are_the_kernels() {
    let test = "a mount of cgroup2";
    let Some(mount) = Mount::new(test) else {
        return;
    };
    let cgroup = mount.cgroup("unified", &[]);
    // Two of them compete for one CPU, so one always waits.
    let burner = "while :; do :; done & while :; do :; done";
    let _burners = cgroup.run(&format!("taskset -p -c 0 $$; {burner}"));
    let mut reader = mount.reader();
    for (series, file) in [
        ("container_cpu_usage_seconds_total", "usage_usec"),
        ("container_cpu_user_seconds_total", "user_usec"),
    ] {
        eventually(series, || {
            reader.tick();
            reader.value(&cgroup, series).filter(|used| *used > 0.2)
        });
        let before = cgroup.keyed(TREE, "cpu.stat", file) / 1e6;
        reader.tick();
        let ours = reader.value(&cgroup, series).unwrap();
        let after = cgroup.keyed(TREE, "cpu.stat", file) / 1e6;
        assert!(before <= ours && ours <= after, "{before} {ours} {after}");
    }
    eventually("both processes", || {
        reader.tick();
        let count = reader.value(&cgroup, "container_processes");
        (count == Some(2.0)).then_some(())
    });
    let pressure = cgroup.file(TREE, "cpu.pressure");
    if fs::read_to_string(&pressure).is_err() {
        skip(test, "this kernel has no pressure of cgroups");
        return;
    }
    let waiting = "container_pressure_cpu_waiting_seconds_total";
    eventually("a process that waits", || {
        reader.tick();
        reader
            .value(&cgroup, waiting)
            .filter(|waited| *waited > 0.1)
    });
    let before = waited_seconds(&pressure);
    reader.tick();
    let ours = reader.value(&cgroup, waiting).unwrap();
    let after = waited_seconds(&pressure);
    assert!(before <= ours && ours <= after, "{before} {ours} {after}");
}

#[test]
fn threaded_cgroup_has_threads_and_cpu_time_but_no_count_of_processes() {
    let Some(mount) = Mount::new("a threaded cgroup") else {
        return;
    };
    let domain = mount.cgroup("threaded", &[]);
    let process = domain.run("exec sleep 1000");
    let inner = domain.file(TREE, "inner");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("cgroup.type"), "threaded").unwrap();
    eventually("the process", || {
        let procs = fs::read_to_string(domain.file(TREE, "cgroup.procs")).unwrap();
        (procs.lines().count() == 1).then_some(())
    });
    fs::write(inner.join("cgroup.threads"), process.0.id().to_string()).unwrap();
    let refused = fs::read_to_string(inner.join("cgroup.procs")).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::Unsupported);
    let mut reader = mount.reader();
    reader.tick();
    let of_inner = |reader: &Reader, name: &str| {
        let values = reader.values(&domain, name).into_iter();
        let mut values =
            values.filter(|(labels, _)| labels.get("id").is_some_and(|id| id.ends_with("/inner")));
        values.next().map(|(_, value)| value)
    };
    assert_eq!(of_inner(&reader, "container_threads"), Some(1.0));
    assert_eq!(of_inner(&reader, "container_processes"), None);
    assert!(of_inner(&reader, "container_cpu_usage_seconds_total").is_some());
    drop(process);
    eventually("the end of the process", || fs::remove_dir(&inner).ok());
}
