//! Cgroups that are not what runc makes of a container: nested by crun, seen from another PID namespace.

use super::*;

fn of_crun(bench: &Bench) -> (String, String) {
    let scope = format!("{POD}/crio-{ID}.scope");
    v2_cgroup(bench, &scope, 2_000_000);
    let inner = format!("{ROOT}/{scope}/container");
    (scope, inner)
}

#[test]
fn settings_of_cruns_inner_cgroup_are_read() {
    let mut bench = v2_bench();
    let (scope, _) = of_crun(&bench);
    let outer = format!("{ROOT}/{scope}");
    for (file, text) in [
        ("cpu.max", "max 100000\n"),
        (
            "cpu.stat",
            "usage_usec 2000000\nuser_usec 1\nsystem_usec 2\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\nnr_bursts 0\nburst_usec 0\n",
        ),
        ("memory.max", "67108864\n"),
        ("memory.swap.max", "max\n"),
        ("memory.min", "0\n"),
        ("pids.max", "100\n"),
        ("pids.current", "4\n"),
        ("cgroup.procs", ""),
        ("container/cpu.max", "50000 100000\n"),
        (
            "container/cpu.stat",
            "usage_usec 1900000\nuser_usec 1\nsystem_usec 2\nnr_periods 8\nnr_throttled 6\nthrottled_usec 3000000\nnr_bursts 1\nburst_usec 250000\n",
        ),
        ("container/memory.max", "33554432\n"),
        ("container/memory.swap.max", "1048576\n"),
        ("container/memory.min", "4096\n"),
        ("container/pids.max", "max\n"),
        ("container/cgroup.procs", "41\n42\n"),
        ("container/exec/cgroup.procs", "43\n"),
    ] {
        bench.write(&format!("{outer}/{file}"), text);
    }
    let roots = bench.roots();
    let mut cgroups = Cgroups::new(&roots, None, bench.errors()).unwrap();
    bench.collect(&mut cgroups);
    let id = format!("/{scope}");
    for (name, want) in [
        ("container_cpu_usage_seconds_total", 2.0),
        ("container_spec_cpu_quota", 50_000.0),
        ("container_cpu_cfs_periods_total", 8.0),
        ("container_cpu_cfs_throttled_periods_total", 6.0),
        ("container_cpu_cfs_throttled_seconds_total", 3.0),
        ("container_cpu_cfs_burst_periods_total", 1.0),
        ("container_cpu_cfs_burst_seconds_total", 0.25),
        ("container_spec_memory_limit_bytes", 33_554_432.0),
        ("container_spec_memory_swap_limit_bytes", 1_048_576.0),
        ("container_spec_memory_reservation_limit_bytes", 4096.0),
        ("container_threads_max", 100.0),
        ("container_threads", 4.0),
        ("container_processes", 3.0),
    ] {
        assert_eq!(bench.value(name, &[("id", &id)]), Some(want), "{name}");
    }
    // A tighter quota of the scope's holds, and its throttling counts.
    bench.write(&format!("{outer}/cpu.max"), "20000 100000\n");
    bench.write(&format!("{outer}/cpu.stat"), "usage_usec 2000000\nuser_usec 1\nsystem_usec 2\nnr_periods 9\nnr_throttled 9\nthrottled_usec 5000000\nnr_bursts 0\nburst_usec 0\n");
    bench.collect(&mut cgroups);
    for (name, want) in [
        ("container_spec_cpu_quota", 20_000.0),
        ("container_cpu_cfs_throttled_periods_total", 9.0),
        ("container_cpu_cfs_throttled_seconds_total", 5.0),
    ] {
        assert_eq!(bench.value(name, &[("id", &id)]), Some(want), "{name}");
    }
    let of_inner = [("id", &*format!("/{scope}/container"))];
    assert_eq!(bench.value("container_memory_usage_bytes", &of_inner), None);
    assert_eq!(bench.errors().total(), 0);
}

#[test]
fn traffic_of_cruns_process_is_found_without_a_scan() {
    let mut bench = v2_bench();
    v2_cgroup(&bench, POD, 1);
    let (scope, inner) = of_crun(&bench);
    bench.write(&format!("{ROOT}/{scope}/cgroup.procs"), "");
    bench.write(&format!("{inner}/cgroup.procs"), "77\n");
    process(&bench, "elsewhere", 100);
    bench.write("proc/77/cgroup", "0::/unknown\n");
    let roots = bench.roots();
    let mut cgroups = Cgroups::new(&roots, None, bench.errors()).unwrap();
    bench.collect(&mut cgroups);
    let received = "container_network_receive_bytes_total";
    assert_eq!(bench.value(received, &[("interface", "eth0")]), Some(100.0));
}

#[test]
fn sandbox_of_crun_is_recognized_by_its_process() {
    let mut bench = v2_bench();
    let (scope, inner) = of_crun(&bench);
    bench.write(&format!("{ROOT}/{scope}/cgroup.procs"), "");
    bench.write(&format!("{inner}/cgroup.procs"), "77\n");
    bench.write("proc/77/comm", "pause\n");
    let roots = bench.roots();
    let mut cgroups = Cgroups::new(&roots, None, bench.errors()).unwrap();
    bench.collect(&mut cgroups);
    let of_scope = [("id", &*format!("/{scope}"))];
    assert_eq!(bench.value("container_memory_usage_bytes", &of_scope), None);
}

/// What the kernel lists to an agent without hostPID: v2 a 0 for each process, v1 none at all.
#[test]
fn processes_of_other_pid_namespaces_are_counted_or_absent_never_0() {
    let status = "Name:\ttidemark-agent\nNSpid:\t4711\t1\n";
    let mut bench = v2_bench();
    v2_cgroup(&bench, "a", 1);
    bench.write(&format!("{ROOT}/a/cgroup.procs"), "0\n0\n0\n");
    bench.write("proc/self/status", status);
    let roots = bench.roots();
    let mut cgroups = Cgroups::new(&roots, None, bench.errors()).unwrap();
    bench.collect(&mut cgroups);
    let processes = "container_processes";
    assert_eq!(bench.value(processes, &[("id", "/a")]), Some(3.0));

    for (status, want) in [(status, None), ("NSpid:\t4711\n", Some(2.0))] {
        let mut bench = Bench::new();
        bench.write("proc/meminfo", "MemTotal: 1000 kB\n");
        for (file, text) in V1_FILES {
            bench.write(&format!("{ROOT}/{file}"), text);
        }
        bench.write("proc/self/status", status);
        let roots = bench.roots();
        let mut cgroups = Cgroups::new(&roots, None, bench.errors()).unwrap();
        bench.collect(&mut cgroups);
        assert_eq!(bench.value(processes, &[("id", "/x")]), want, "{status:?}");
        let threads = bench.value("container_threads", &[("id", "/x")]);
        assert_eq!(threads, Some(5.0), "the kernel counts them");
    }
}

/// Events of v2 are counted over the subtree and outlive a container that was killed.
#[test]
fn kills_and_swap_of_v2_are_there_for_the_container_and_its_pod() {
    let mut bench = v2_bench();
    let container = format!("{POD}/{ID}");
    for (path, kills, swap) in [(POD, 3, 9000), (&*container, 1, 5000)] {
        v2_cgroup(&bench, path, 2_000_000);
        for (file, text) in [
            (
                "memory.events",
                format!("low 0\nhigh 7\nmax 5\noom 4\noom_kill {kills}\noom_group_kill 0\n"),
            ),
            ("memory.swap.current", format!("{swap}\n")),
            ("memory.swap.max", "10000\n".to_owned()),
        ] {
            bench.write(&format!("{ROOT}/{path}/{file}"), &text);
        }
    }
    let roots = bench.roots();
    let mut cgroups = Cgroups::new(&roots, None, bench.errors()).unwrap();
    bench.collect(&mut cgroups);
    for (path, kills, swap) in [(POD, 3.0, 9000.0), (&*container, 1.0, 5000.0)] {
        let id = format!("/{path}");
        for (name, want) in [
            ("container_oom_events_total", kills),
            ("container_memory_events_high_total", 7.0),
            ("container_memory_events_max_total", 5.0),
            ("container_memory_swap", swap),
            ("container_spec_memory_swap_limit_bytes", 10_000.0),
        ] {
            let value = bench.value(name, &[("id", &id)]);
            assert_eq!(value, Some(want), "{name} of {id}");
        }
    }
}

#[test]
fn what_stands_in_cruns_inner_cgroups_of_v1_is_read_there() {
    let scope = format!("/{POD}/crio-{ID}.scope");
    let mut bench = Bench::new();
    bench.write("proc/meminfo", "MemTotal: 1000 kB\n");
    let inner = [
        ("cpu/x/cpu.cfs_quota_us", "-1\n"),
        ("cpu/x/container/cpu.cfs_quota_us", "50000\n"),
        ("cpu/x/container/cpu.cfs_period_us", "100000\n"),
        (
            "cpu/x/container/cpu.stat",
            "nr_periods 40\nnr_throttled 6\nthrottled_time 1750000000\n",
        ),
        ("memory/x/container/memory.limit_in_bytes", "2048\n"),
        ("memory/x/cgroup.procs", ""),
        ("memory/x/container/cgroup.procs", "7\n8\n"),
        ("memory/x/container/exec/cgroup.procs", "9\n"),
        ("memory/x/memory.memsw.limit_in_bytes", "4096\n"),
        ("pids/x/container/pids.max", "77\n"),
    ];
    for (file, text) in V1_FILES.iter().chain(&inner) {
        let file = file.replacen("/x/", &format!("{scope}/"), 1);
        bench.write(&format!("{ROOT}/{file}"), text);
    }
    let roots = bench.roots();
    let mut cgroups = Cgroups::new(&roots, None, bench.errors()).unwrap();
    bench.collect(&mut cgroups);
    for (name, want) in [
        ("container_cpu_usage_seconds_total", 2.5),
        ("container_spec_cpu_quota", 50_000.0),
        ("container_spec_memory_limit_bytes", 2048.0),
        ("container_spec_memory_swap_limit_bytes", 4096.0),
        ("container_threads_max", 77.0),
        ("container_processes", 3.0),
        ("container_cpu_cfs_throttled_periods_total", 6.0),
        ("container_cpu_cfs_throttled_seconds_total", 1.75),
    ] {
        assert_eq!(bench.value(name, &[("id", &scope)]), Some(want), "{name}");
    }
    assert_eq!(bench.errors().total(), 0);
}
