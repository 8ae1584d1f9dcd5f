//! v1 cgroups created by the test, with real processes, read by the real collector.

use std::fs;
use std::path::Path;

use agent::collectors::node::Roots;

use crate::cgroups::{ROOT, Reader, TestCgroup, can_make_v1};
use crate::support::eventually;

const CONTROLLERS: [&str; 5] = ["cpu", "cpuacct", "memory", "blkio", "pids"];

/// Returns `None`, with a notice, if the machine does not allow it.
fn cgroup(test: &str) -> Option<TestCgroup> {
    can_make_v1(test).then(|| TestCgroup::new(Path::new(ROOT), &CONTROLLERS, test, &[]))
}

fn reader() -> Reader {
    Reader::new(&Roots::default())
}

#[test]
fn cpu_time_and_throttling_match_the_kernels() {
    let Some(cgroup) = cgroup("cpu") else {
        return;
    };
    cgroup.write("cpu", "cpu.cfs_quota_us", "20000");
    let _burner = cgroup.run("while :; do :; done");
    let mut reader = reader();
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
    // Kernels differ in how much time counts as throttled. The agent reports this kernel's value.
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
fn used_memory_and_limits_match_the_kernels() {
    let Some(cgroup) = cgroup("memory") else {
        return;
    };
    cgroup.write("memory", "memory.limit_in_bytes", "128M");
    // tail keeps its input until the end; after that the full pipe holds it.
    let _holder = cgroup.run("head -c 33554432 /dev/zero | tail -c 33554432 | sleep 1000");
    let mut reader = reader();
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
    // The first of three programs ends when everything is read. Until then the values move.
    for (series, tree, file) in [
        ("container_threads", "pids", "pids.current"),
        (
            "container_memory_max_usage_bytes",
            "memory",
            "memory.max_usage_in_bytes",
        ),
    ] {
        eventually(series, || {
            reader.tick();
            let ours = reader.value(&cgroup, series);
            (ours == Some(cgroup.number(tree, file))).then_some(())
        });
    }
}

#[test]
fn page_cache_is_not_working_set() {
    let Some(cgroup) = cgroup("cache") else {
        return;
    };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = dir.path().join("f");
    let script = format!(
        "dd if=/dev/zero of={} bs=1M count=24; sleep 1000",
        file.display()
    );
    let _writer = cgroup.run(&script);
    let mut reader = reader();
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
    let Some(cgroup) = cgroup("oom") else {
        return;
    };
    cgroup.write("memory", "memory.limit_in_bytes", "16M");
    let mut reader = reader();
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
fn removed_cgroup_removes_its_series() {
    let Some(cgroup) = cgroup("gone") else {
        return;
    };
    let mut reader = reader();
    reader.tick();
    assert!(reader.series_of(&cgroup) > 10);
    for dir in cgroup.dirs() {
        fs::remove_dir(dir).unwrap();
    }
    reader.tick();
    assert_eq!(reader.series_of(&cgroup), 0);
}

#[test]
fn containers_of_podman_have_their_names_and_units_of_systemd_none() {
    if !can_make_v1("names") {
        return;
    }
    let (pod, id) = ("5f".repeat(32), "7a".repeat(32));
    let container = format!("libpod-{id}");
    let root = Path::new(ROOT);
    let below = ["libpod_parent", &*pod, &*container];
    let podman = TestCgroup::new(root, &CONTROLLERS, "podman", &below);
    let below = ["system.slice", "shop.service"];
    let unit = TestCgroup::new(root, &CONTROLLERS, "systemd", &below);
    let _processes = [podman.run("exec sleep 1000"), unit.run("exec sleep 1000")];
    let dir = tempfile::tempdir().unwrap();
    let storage = dir
        .path()
        .join("var/lib/containers/storage/overlay-containers");
    fs::create_dir_all(&storage).unwrap();
    let names =
        format!(r#"[{{"id":"{id}","names":["db"],"metadata":"{{\"image-name\":\"pg:16\"}}"}}]"#);
    fs::write(storage.join("containers.json"), names).unwrap();
    let roots = Roots {
        root: dir.path().to_owned(),
        ..Roots::default()
    };
    let mut reader = Reader::new(&roots);
    for (cgroup, name, image) in [(&podman, Some("db"), Some("pg:16")), (&unit, None, None)] {
        eventually("the process", || {
            reader.tick();
            let values = reader.values(cgroup, "container_processes");
            let mut named = values.iter().filter(|(labels, count)| {
                labels.get("name") == name && labels.get("image") == image && *count == 1.0
            });
            named.next().map(|_| ())
        });
    }
}
