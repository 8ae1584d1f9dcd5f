mod shapes;

use super::*;
use crate::collect::Due;
use crate::collectors::testing::Bench;

const POD: &str = "kubepods/burstable/pod2fc932ce-fdcc-454b-97bd-aadfdeb4c340";
const ID: &str = "2532e47d7f0892daead43a4e788ad25ed1800a6f4bfc0aedef1c57e6fc4b43cb";
const ROOT: &str = "sys/fs/cgroup";

fn v2_cgroup(bench: &Bench, path: &str, usage_usec: u64) {
    let dir = format!("{ROOT}/{path}");
    bench.write(&format!("{dir}/cpu.stat"), &format!("usage_usec {usage_usec}\nuser_usec 1\nsystem_usec 2\nnr_periods 5\nnr_throttled 3\nthrottled_usec 4000000\nnr_bursts 2\nburst_usec 700000\n"));
    bench.write(&format!("{dir}/memory.current"), "1000\n");
    bench.write(
        &format!("{dir}/memory.stat"),
        "anon 300\nfile 600\ninactive_file 100\nactive_file 500\npgfault 7\npgmajfault 1\n",
    );
    bench.write(&format!("{dir}/cpu.max"), "20000 100000\n");
    bench.write(&format!("{dir}/memory.max"), "max\n");
    bench.write(
        &format!("{dir}/io.stat"),
        "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n",
    );
    bench.write(&format!("{dir}/cpu.pressure"), "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=500000\n");
}

fn v2_bench() -> Bench {
    let bench = Bench::new();
    bench.write("proc/meminfo", "MemTotal: 1000 kB\n");
    bench.write(&format!("{ROOT}/cgroup.controllers"), "cpu memory io\n");
    bench.write(
        &format!("{ROOT}/cpu.stat"),
        "usage_usec 9000000\nuser_usec 1\nsystem_usec 2\n",
    );
    bench.write(
        &format!("{ROOT}/memory.stat"),
        "anon 300\nfile 600\ninactive_file 100\n",
    );
    std::fs::create_dir_all(bench.roots().sys.join("dev/block")).unwrap();
    std::os::unix::fs::symlink("../../block/vda", bench.roots().sys.join("dev/block/254:0"))
        .unwrap();
    bench
}

#[test]
fn v2_values_and_labels_are_cadvisors() {
    let mut bench = v2_bench();
    v2_cgroup(&bench, "system.slice/nginx.service", 2_500_000);
    let roots = bench.roots();
    let mut cgroups = Cgroups::new(&roots, None, bench.errors()).unwrap();
    assert_eq!(bench.collect(&mut cgroups), Outcome::Done);
    let unit = [
        ("id", "/system.slice/nginx.service"),
        ("name", ""),
        ("job", "kubelet"),
    ];
    let value = |name: &str| bench.value(name, &unit);
    assert_eq!(value("container_cpu_usage_seconds_total"), Some(2.5));
    assert_eq!(
        value("container_cpu_cfs_throttled_seconds_total"),
        Some(4.0)
    );
    assert_eq!(value("container_cpu_cfs_burst_periods_total"), Some(2.0));
    assert_eq!(value("container_cpu_cfs_burst_seconds_total"), Some(0.7));
    assert_eq!(value("container_memory_working_set_bytes"), Some(900.0));
    assert_eq!(value("container_memory_rss"), Some(300.0));
    assert_eq!(
        value("container_spec_memory_limit_bytes"),
        Some(0.0),
        "cAdvisor's sign for no limit"
    );
    assert_eq!(value("container_spec_cpu_quota"), Some(20000.0));
    assert_eq!(value("container_fs_writes_bytes_total"), Some(20.0));
    assert_eq!(
        value("container_pressure_cpu_stalled_seconds_total"),
        Some(0.5)
    );
    assert_eq!(value("container_memory_swap"), None, "absent is not 0");
    assert_eq!(value("container_oom_events_total"), None);
    let device = [
        ("id", "/system.slice/nginx.service"),
        ("device", "/dev/vda"),
    ];
    assert_eq!(bench.value("container_fs_reads_total", &device), Some(1.0));
    let written = [
        device[0],
        device[1],
        ("major", "254"),
        ("minor", "0"),
        ("operation", "Write"),
    ];
    assert_eq!(
        bench.value("container_blkio_device_usage_total", &written),
        Some(20.0)
    );
    let root = [("id", "/")];
    assert_eq!(
        bench.value("container_memory_usage_bytes", &root),
        Some(900.0),
        "the root has no memory.current"
    );
    assert_eq!(
        bench.value("container_spec_memory_limit_bytes", &root),
        Some(1_024_000.0)
    );
    assert_eq!(
        bench.value("container_cpu_cfs_periods_total", &root),
        None,
        "no quota"
    );
    assert_eq!(bench.errors().total(), 0);
}

#[test]
fn series_follow_their_cgroups() {
    let mut bench = v2_bench();
    let roots = bench.roots();
    let mut cgroups = Cgroups::new(&roots, None, bench.errors()).unwrap();
    bench.collect(&mut cgroups);
    let before = bench.series_count();
    v2_cgroup(&bench, "a/b", 1);
    bench.collect(&mut cgroups);
    assert_eq!(
        bench.value("container_memory_usage_bytes", &[("id", "/a/b")]),
        Some(1000.0)
    );
    std::fs::remove_dir_all(roots.cgroup.join("a")).unwrap();
    bench.collect(&mut cgroups);
    assert_eq!(bench.series_count(), before);
}

#[test]
fn slow_values_of_cgroups_are_staggered() {
    let mut bench = v2_bench();
    for number in 0..12 {
        v2_cgroup(&bench, &format!("a{number}"), 1);
    }
    let roots = bench.roots();
    let mut cgroups = Cgroups::new(&roots, None, bench.errors()).unwrap();
    let mut seen = BTreeMap::<String, Vec<u64>>::new();
    for tick in 0..13 {
        bench.collect_due(&mut cgroups, Due::at(tick, 10_000));
        let mut count = 0;
        for (id, _) in bench.table.current() {
            let labels = bench.table.def(id).unwrap().labels;
            let path = labels.get("id").unwrap_or_default();
            if labels.metric_name() == Some("container_spec_cpu_quota") && path != "/" {
                seen.entry(path.to_owned()).or_default().push(tick);
                count += 1;
            }
        }
        let expected = if tick == 0 { 12 } else { 2 };
        assert_eq!(count, expected, "tick {tick}");
    }
    for (path, ticks) in seen {
        let distances: Vec<u64> = ticks[1..].windows(2).map(|two| two[1] - two[0]).collect();
        assert!(
            ticks[1] <= 6,
            "{path} at {ticks:?}: read at once and again within 60 s"
        );
        assert!(
            distances.iter().all(|&ticks| ticks == 6),
            "{path} at {ticks:?}"
        );
    }
}

#[test]
fn pods_wait_for_their_names_and_follow_changes() {
    let mut bench = v2_bench();
    v2_cgroup(&bench, POD, 1);
    v2_cgroup(&bench, &format!("{POD}/{ID}"), 2_000_000);
    let roots = bench.roots();
    let handle = NamesHandle::default();
    let mut cgroups = Cgroups::new(&roots, Some(handle.clone()), bench.errors()).unwrap();
    bench.collect(&mut cgroups);
    let id = format!("/{POD}/{ID}");
    assert_eq!(
        bench.value("container_memory_usage_bytes", &[("id", &id)]),
        None
    );
    assert!(handle.take_wanted(), "an unknown pod asks for names");
    let mut names = Names::default();
    let pod = names::PodNames {
        namespace: "shop".to_owned(),
        pod: "web".to_owned(),
        host_network: false,
    };
    names
        .pods
        .insert("2fc932ce-fdcc-454b-97bd-aadfdeb4c340".to_owned(), pod);
    let container = names::ContainerNames {
        container: "main".to_owned(),
        start_seconds: Some(5.0),
        ..Default::default()
    };
    names.containers.insert(ID.to_owned(), container);
    handle.publish(names);
    bench.collect(&mut cgroups);
    let labels = [
        ("container", "main"),
        ("pod", "web"),
        ("namespace", "shop"),
        ("name", ID),
    ];
    assert_eq!(
        bench.value("container_cpu_usage_seconds_total", &labels),
        Some(2.0)
    );
    assert_eq!(
        bench.value("container_start_time_seconds", &labels),
        Some(5.0)
    );
    let pod = [
        ("id", &*format!("/{POD}")),
        ("pod", "web"),
        ("container", ""),
        ("image", ""),
    ];
    assert_eq!(bench.value("container_memory_rss", &pod), Some(300.0));
    assert!(!handle.take_wanted());
}

#[test]
fn pods_unknown_for_long_are_shown_by_uid() {
    let mut bench = v2_bench();
    v2_cgroup(&bench, POD, 1);
    let roots = bench.roots();
    let mut cgroups = Cgroups::new(&roots, Some(NamesHandle::default()), bench.errors()).unwrap();
    for _ in 0..31 {
        bench.collect(&mut cgroups);
    }
    let uid = [("uid", "2fc932ce-fdcc-454b-97bd-aadfdeb4c340")];
    assert_eq!(
        bench.value("container_memory_usage_bytes", &uid),
        Some(1000.0)
    );
    assert_eq!(bench.value("agent_cgroups_nameless", &[]), Some(1.0));
}

/// Files of one cgroup in the trees of v1.
const V1_FILES: [(&str, &str); 14] = [
    ("cpuacct/x/cpuacct.usage", "2500000000\n"),
    ("cpuacct/x/cpuacct.stat", "user 150\nsystem 50\n"),
    ("cpu/x/cpu.cfs_quota_us", "20000\n"),
    ("cpu/x/cpu.cfs_period_us", "100000\n"),
    (
        "cpu/x/cpu.stat",
        "nr_periods 9\nnr_throttled 4\nthrottled_time 1500000000\nnr_bursts 3\nburst_time 250000000\n",
    ),
    ("memory/x/memory.usage_in_bytes", "1000\n"),
    (
        "memory/x/memory.stat",
        "cache 1\nrss 2\npgfault 3\ntotal_cache 600\ntotal_rss 300\ntotal_inactive_file 1100\ntotal_pgfault 33\ntotal_swap 77\n",
    ),
    ("memory/x/memory.limit_in_bytes", "9223372036854771712\n"),
    (
        "memory/x/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    ),
    ("memory/x/cgroup.procs", "1\n2\n"),
    ("pids/x/pids.current", "5\n"),
    ("pids/x/pids.max", "max\n"),
    (
        "blkio/x/blkio.throttle.io_service_bytes",
        "254:0 Read 7\n254:0 Write 8\n254:0 Total 15\nTotal 15\n",
    ),
    (
        "blkio/x/blkio.throttle.io_serviced",
        "254:0 Read 1\nTotal 1\n",
    ),
];

#[test]
fn v1_reads_each_controllers_tree() {
    let mut bench = Bench::new();
    bench.write("proc/meminfo", "MemTotal: 1000 kB\n");
    for (file, text) in V1_FILES {
        bench.write(&format!("{ROOT}/{file}"), text);
    }
    let roots = bench.roots();
    let mut cgroups = Cgroups::new(&roots, None, bench.errors()).unwrap();
    bench.collect(&mut cgroups);
    let value =
        |name: &str, more: &[(&str, &str)]| bench.value(name, &[&[("id", "/x")], more].concat());
    for (name, want) in [
        ("container_cpu_usage_seconds_total", 2.5),
        ("container_cpu_user_seconds_total", 1.5),
        ("container_cpu_cfs_throttled_seconds_total", 1.5),
        ("container_cpu_cfs_burst_periods_total", 3.0),
        ("container_cpu_cfs_burst_seconds_total", 0.25),
        ("container_memory_swap", 77.0),
        ("container_memory_working_set_bytes", 0.0),
        ("container_memory_rss", 300.0),
        ("container_memory_cache", 600.0),
        ("container_oom_events_total", 2.0),
        ("container_processes", 2.0),
        ("container_threads", 5.0),
        ("container_threads_max", 0.0),
        ("container_spec_memory_limit_bytes", 0.0),
        ("container_fs_reads_bytes_total", 7.0),
        ("container_fs_reads_total", 1.0),
    ] {
        assert_eq!(value(name, &[]), Some(want), "{name}");
    }
    assert_eq!(
        value(
            "container_memory_failures_total",
            &[("failure_type", "pgfault"), ("scope", "container")]
        ),
        Some(3.0)
    );
    assert_eq!(
        value(
            "container_memory_failures_total",
            &[("failure_type", "pgfault"), ("scope", "hierarchy")]
        ),
        Some(33.0)
    );
    assert_eq!(value("container_fs_writes_total", &[]), None);
    assert_eq!(bench.errors().total(), 0);
}

#[test]
fn unnamed_devices_are_distinguished_by_their_numbers() {
    let mut bench = v2_bench();
    v2_cgroup(&bench, "a", 1);
    let io = "254:0 rbytes=1 wbytes=0 rios=0 wios=0\n253:7 rbytes=5 wbytes=0 rios=0 wios=0\n253:8 rbytes=6 wbytes=0 rios=0 wios=0\n";
    bench.write(&format!("{ROOT}/a/io.stat"), io);
    let roots = bench.roots();
    let mut cgroups = Cgroups::new(&roots, None, bench.errors()).unwrap();
    bench.collect(&mut cgroups);
    for (device, bytes) in [("/dev/vda", 1.0), ("253:7", 5.0), ("253:8", 6.0)] {
        let of = [("id", "/a"), ("device", device)];
        assert_eq!(
            bench.value("container_fs_reads_bytes_total", &of),
            Some(bytes)
        );
    }
}

const OF_2MB: [(&str, &str); 2] = [("id", "/a"), ("pagesize", "2MB")];

/// A machine with 2 MB pages, and one cgroup with the given values.
fn check_hugetlb(mut bench: Bench, files: &[(&str, &str)], want: [Option<f64>; 3]) {
    for (size, pages) in [("2048kB", "3\n"), ("1048576kB", "0\n")] {
        let directory = format!("sys/kernel/mm/hugepages/hugepages-{size}");
        bench.write(&format!("{directory}/nr_hugepages"), pages);
    }
    for (file, text) in files {
        bench.write(&format!("{ROOT}/{file}"), text);
    }
    let roots = bench.roots();
    let mut cgroups = Cgroups::new(&roots, None, bench.errors()).unwrap();
    bench.collect(&mut cgroups);
    let got = hugetlb::FAMILIES.map(|family| bench.value(family.name, &OF_2MB));
    assert_eq!(got, want);
    let of_1gb = [("pagesize", "1GB")];
    assert_eq!(
        bench.value("container_hugetlb_usage_bytes", &of_1gb),
        None,
        "there are none"
    );
    assert_eq!(bench.errors().total(), 0);
}

#[test]
fn huge_pages_of_v2_are_those_reserved() {
    let bench = v2_bench();
    v2_cgroup(&bench, "a", 1);
    let older = [
        ("a/hugetlb.2MB.current", "2097152\n"),
        ("a/hugetlb.2MB.events", "max 4\n"),
        ("a/hugetlb.1GB.current", "1073741824\n"),
    ];
    let want = [Some(2_097_152.0), None, Some(4.0)];
    check_hugetlb(bench, &older, want);
    let bench = v2_bench();
    v2_cgroup(&bench, "a", 1);
    let newer = [&older[..], &[("a/hugetlb.2MB.rsvd.current", "6291456\n")]].concat();
    check_hugetlb(bench, &newer, [Some(6_291_456.0), None, Some(4.0)]);
}

#[test]
fn huge_pages_of_v1_are_those_reserved() {
    let v1_bench = || {
        let bench = Bench::new();
        bench.write("proc/meminfo", "MemTotal: 1000 kB\n");
        bench.write(&format!("{ROOT}/memory/a/memory.usage_in_bytes"), "1000\n");
        bench.write(&format!("{ROOT}/cpuacct/a/cpuacct.usage"), "1\n");
        bench
    };
    let older = [
        ("hugetlb/a/hugetlb.2MB.usage_in_bytes", "2097152\n"),
        ("hugetlb/a/hugetlb.2MB.max_usage_in_bytes", "4194304\n"),
        ("hugetlb/a/hugetlb.2MB.failcnt", "5\n"),
    ];
    let want = [Some(2_097_152.0), Some(4_194_304.0), Some(5.0)];
    check_hugetlb(v1_bench(), &older, want);
    let newer = [
        ("hugetlb/a/hugetlb.2MB.rsvd.usage_in_bytes", "6291456\n"),
        ("hugetlb/a/hugetlb.2MB.rsvd.max_usage_in_bytes", "8388608\n"),
        ("hugetlb/a/hugetlb.2MB.rsvd.failcnt", "1\n"),
    ];
    let newer = [&older[..], &newer].concat();
    let want = [Some(6_291_456.0), Some(8_388_608.0), Some(1.0)];
    check_hugetlb(v1_bench(), &newer, want);
}

/// A process of the pod in a cgroup below it, with traffic, and the node's own interfaces.
fn process(bench: &Bench, below: &str, received: u32) {
    let head = "Inter-| Receive | Transmit\n face |bytes |bytes\n";
    let line = format!("  eth0: {received} 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n");
    bench.write("proc/1/net/dev", head);
    bench.write("proc/77/net/dev", &format!("{head}{line}"));
    bench.write("proc/77/cgroup", &format!("0::/../../{POD}/{below}\n"));
}

/// The process is visible only in a scan: it is in another PID namespace, or in a cgroup below the container's.
#[test]
fn traffic_is_found_without_a_process_in_the_containers_own_cgroup() {
    for below in [
        format!("cri-containerd-{ID}.scope"),
        format!("crio-{ID}.scope/container"),
        format!("kata_{ID}"),
    ] {
        let mut bench = v2_bench();
        v2_cgroup(&bench, POD, 1);
        bench.write(&format!("{ROOT}/{POD}/{below}/cgroup.procs"), "0\n");
        process(&bench, &below, 100);
        let roots = bench.roots();
        let mut cgroups = Cgroups::new(&roots, None, bench.errors()).unwrap();
        let mut received = |bench: &mut Bench, tick| {
            bench.collect_due(&mut cgroups, Due::at(tick, 10_000));
            bench.value(
                "container_network_receive_bytes_total",
                &[("interface", "eth0")],
            )
        };
        assert_eq!(received(&mut bench, 0), Some(100.0), "{below}");
        process(&bench, &below, 200);
        for tick in 1..6 {
            assert_eq!(received(&mut bench, tick), Some(200.0), "{below}, {tick}");
        }
        bench.write("proc/77/cgroup", "0::/../../system.slice/other.service\n");
        assert_eq!(received(&mut bench, 6), None, "a stranger has the number");
    }
}

#[test]
fn container_without_any_process_has_no_values_but_its_pod_has() {
    let mut bench = v2_bench();
    v2_cgroup(&bench, POD, 5_000_000);
    v2_cgroup(&bench, &format!("{POD}/{ID}"), 0);
    let roots = bench.roots();
    let mut cgroups = Cgroups::new(&roots, None, bench.errors()).unwrap();
    let name = "container_cpu_usage_seconds_total";
    let (pod, container) = (format!("/{POD}"), format!("/{POD}/{ID}"));
    let of = |bench: &Bench, id: &str| bench.value(name, &[("id", id)]);
    bench.collect(&mut cgroups);
    assert_eq!(
        (of(&bench, &pod), of(&bench, &container)),
        (Some(5.0), None)
    );
    v2_cgroup(&bench, &format!("{POD}/{ID}"), 2_000_000);
    bench.collect(&mut cgroups);
    assert_eq!(of(&bench, &container), Some(2.0));
}

#[test]
fn pods_of_a_nested_node_are_found_below_its_container() {
    let mut bench = v2_bench();
    let node = "ab".repeat(32);
    let nested = format!("docker/{node}/kubelet/{POD}/{ID}");
    v2_cgroup(&bench, &nested, 2_000_000);
    let roots = bench.roots();
    let mut cgroups = Cgroups::new(&roots, None, bench.errors()).unwrap();
    bench.collect(&mut cgroups);
    let labels = [
        ("id", &*format!("/{nested}")),
        ("uid", "2fc932ce-fdcc-454b-97bd-aadfdeb4c340"),
        ("name", ID),
    ];
    assert_eq!(
        bench.value("container_cpu_usage_seconds_total", &labels),
        Some(2.0)
    );
}
