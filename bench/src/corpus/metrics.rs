//! The series of a node.

use super::generator::Generator;
use super::labels::{self, PodNames};
use super::random::Random;
use super::{Label, Shape};

/// Bounds of each pod's request histogram, in seconds.
const REQUEST_BOUNDS: [f64; 12] = [
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    f64::INFINITY,
];
/// Bounds of the kubelet's pod worker histogram, in seconds.
const WORKER_BOUNDS: [f64; 20] = [
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.15,
    0.25,
    0.35,
    0.5,
    0.75,
    1.0,
    1.5,
    2.5,
    3.5,
    5.0,
    7.5,
    10.0,
    15.0,
    30.0,
    f64::INFINITY,
];
const MIB: f64 = 1024.0 * 1024.0;
const CADVISOR: &str = "cadvisor";

/// Collects the series of one node together with their generators, in the same order.
#[derive(Debug)]
pub(super) struct Builder<'a> {
    shape: &'a Shape,
    node: usize,
    random: &'a mut Random,
    series: Vec<Vec<Label>>,
    generators: Vec<Generator>,
}

impl<'a> Builder<'a> {
    pub(super) const fn new(shape: &'a Shape, node: usize, random: &'a mut Random) -> Self {
        Self {
            shape,
            node,
            random,
            series: Vec::new(),
            generators: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> (Vec<Vec<Label>>, Vec<Generator>) {
        (self.series, self.generators)
    }

    fn series(&mut self, name: &str, base: &[Label], more: &[(&'static str, &str)]) {
        let mut labels = vec![("__name__", name.to_owned())];
        labels.extend(base.iter().cloned());
        labels.extend(more.iter().map(|&(name, value)| (name, value.to_owned())));
        labels.sort_unstable();
        self.series.push(labels);
    }

    fn add(&mut self, name: &str, base: &[Label], more: &[(&'static str, &str)], with: Generator) {
        self.series(name, base, more);
        self.generators.push(with);
    }

    fn constant(&mut self, name: &str, base: &[Label], more: &[(&'static str, &str)], value: f64) {
        self.add(name, base, more, Generator::Constant(value));
    }

    /// A counter with a random rate; a share of these counters never moves.
    fn counter(&mut self, name: &str, base: &[Label], more: &[(&'static str, &str)], unit: f64) {
        let idle = self.random.below(100) < 22;
        let mean = if idle {
            0.0
        } else {
            self.random.log_uniform(0.05, 60.0)
        };
        let with = Generator::counter(self.random, mean, unit);
        self.add(name, base, more, with);
    }

    /// A counter that changes once in `scrapes` scrapes.
    fn rare(&mut self, name: &str, base: &[Label], more: &[(&'static str, &str)], scrapes: f64) {
        let mut with = Generator::counter(self.random, 1.0 / scrapes, 1.0);
        if let Generator::Counter { total, .. } = &mut with {
            *total = self.random.below(4) as f64;
        }
        self.add(name, base, more, with);
    }

    fn memory(&mut self, name: &str, base: &[Label], more: &[(&'static str, &str)], mib: f64) {
        let with = Generator::pages(self.random, mib * MIB / 8.0, mib * MIB);
        self.add(name, base, more, with);
    }

    fn level(&mut self, name: &str, base: &[Label], more: &[(&'static str, &str)], high: u64) {
        let with = Generator::level(self.random, 1, high);
        self.add(name, base, more, with);
    }

    fn histogram(&mut self, family: &str, base: &[Label], bounds: &'static [f64], mean: f64) {
        let bucket = format!("{family}_bucket");
        for bound in bounds {
            let le = if bound.is_finite() {
                bound.to_string()
            } else {
                "+Inf".to_owned()
            };
            self.series(&bucket, base, &[("le", &le)]);
        }
        self.series(&format!("{family}_sum"), base, &[]);
        self.series(&format!("{family}_count"), base, &[]);
        let typical = self.random.log_uniform(0.01, 0.4);
        self.generators
            .push(Generator::histogram(bounds, mean, typical));
    }
}

/// The node's own series: 120.
impl Builder<'_> {
    pub(super) fn node(&mut self) {
        let mut base = labels::common("node", self.node);
        base.push(("cluster", "eu-1".to_owned()));
        self.node_cpu(&base);
        self.node_memory(&base);
        self.node_disk(&base);
        self.node_network(&base);
        self.histogram(
            "kubelet_pod_worker_duration_seconds",
            &base,
            &WORKER_BOUNDS,
            3.0,
        );
    }

    /// 32 + 11 series.
    fn node_cpu(&mut self, base: &[Label]) {
        for cpu in ["0", "1", "2", "3"] {
            for mode in [
                "idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user",
            ] {
                let (low, jitter, busy) = match mode {
                    "idle" => (7_000_000, 1_500_000, 256),
                    "user" => (900_000, 600_000, 256),
                    "system" => (400_000, 300_000, 256),
                    "softirq" | "iowait" => (10_000, 40_000, 256),
                    _ => (10_000, 10_000, 2),
                };
                let with = Generator::seconds(self.random, low, jitter, 10_000).seldom(busy);
                let more = [("cpu", cpu), ("mode", mode)];
                self.add("node_cpu_seconds_total", base, &more, with);
            }
        }
        for name in ["node_load1", "node_load5", "node_load15"] {
            let hundredths = self.random.below(300);
            let with = Generator::Drift {
                hundredths,
                high: 800,
            };
            self.add(name, base, &[], with);
        }
        for name in [
            "node_context_switches_total",
            "node_intr_total",
            "node_forks_total",
            "node_vmstat_pgfault",
            "node_vmstat_pgmajfault",
        ] {
            self.counter(name, base, &[], 1.0);
        }
        self.level("node_procs_running", base, &[], 6);
        self.add("node_time_seconds", base, &[], Generator::Clock);
        self.constant("node_boot_time_seconds", base, &[], 1_790_000_000.0);
    }

    /// 14 series.
    fn node_memory(&mut self, base: &[Label]) {
        for name in [
            "MemFree",
            "MemAvailable",
            "Buffers",
            "Cached",
            "Active",
            "Inactive",
            "AnonPages",
            "Mapped",
            "Slab",
            "PageTables",
            "Dirty",
        ] {
            self.memory(&format!("node_memory_{name}_bytes"), base, &[], 8192.0);
        }
        for (name, mib) in [
            ("MemTotal", 32_768.0),
            ("SwapTotal", 0.0),
            ("SwapFree", 0.0),
        ] {
            let name = format!("node_memory_{name}_bytes");
            self.constant(&name, base, &[], mib * MIB);
        }
    }

    /// 11 + 8 series.
    fn node_disk(&mut self, base: &[Label]) {
        let device = [("device", "nvme0n1")];
        for (name, unit) in [
            ("reads_completed", 1.0),
            ("reads_merged", 1.0),
            ("read_bytes", 512.0),
            ("writes_completed", 1.0),
            ("writes_merged", 1.0),
            ("written_bytes", 512.0),
        ] {
            self.counter(&format!("node_disk_{name}_total"), base, &device, unit);
        }
        for name in [
            "read_time_seconds",
            "write_time_seconds",
            "io_time_seconds",
            "io_time_weighted_seconds",
        ] {
            let with = Generator::seconds(self.random, 1_000, 60_000, 1_000);
            self.add(&format!("node_disk_{name}_total"), base, &device, with);
        }
        self.level("node_disk_io_now", base, &device, 4);
        for mountpoint in ["/", "/var/lib/containerd"] {
            let more = [
                ("device", "/dev/nvme0n1p2"),
                ("fstype", "ext4"),
                ("mountpoint", mountpoint),
            ];
            self.memory("node_filesystem_avail_bytes", base, &more, 200_000.0);
            self.constant("node_filesystem_size_bytes", base, &more, 400_000.0 * MIB);
            self.level("node_filesystem_files_free", base, &more, 3_000_000);
            self.constant("node_filesystem_readonly", base, &more, 0.0);
        }
    }

    /// 16 + 6 series.
    fn node_network(&mut self, base: &[Label]) {
        for device in ["eth0", "cni0"] {
            for direction in ["receive", "transmit"] {
                for (what, unit) in [
                    ("bytes", 61.0),
                    ("packets", 1.0),
                    ("errs", 0.0),
                    ("drop", 0.0),
                ] {
                    let name = format!("node_network_{direction}_{what}_total");
                    let more = [("device", device)];
                    self.counter(&name, base, &more, unit);
                }
            }
        }
        for name in [
            "node_netstat_Tcp_ActiveOpens",
            "node_netstat_Tcp_InSegs",
            "node_netstat_Tcp_OutSegs",
            "node_netstat_Tcp_RetransSegs",
        ] {
            self.counter(name, base, &[], 1.0);
        }
        self.level("node_netstat_Tcp_CurrEstab", base, &[], 400);
        self.level("node_sockstat_TCP_alloc", base, &[], 500);
    }
}

/// Pods and their containers: 115 series per pod.
impl Builder<'_> {
    pub(super) fn pod(&mut self, slot: usize) {
        let place = PodNames::of(self.shape, self.node, slot);
        let mut base = labels::common(CADVISOR, self.node);
        base.push(("namespace", place.namespace.clone()));
        base.push(("pod", place.pod.clone()));
        self.pod_cgroup(&place, &base);
        for (index, container) in [place.app, "sidecar"].into_iter().enumerate() {
            let mut base = base.clone();
            base.push(("container", container.to_owned()));
            base.push(("id", place.container_cgroup(index)));
            let image = format!("registry.internal/{}/{container}:2026.8.3", place.namespace);
            base.push(("image", image));
            self.container(&base);
        }
        self.requests(&place);
        self.kube(&place);
    }

    /// 17 series.
    fn pod_cgroup(&mut self, place: &PodNames, base: &[Label]) {
        let mut base = base.to_vec();
        base.push(("id", place.cgroup()));
        let cpu = Generator::seconds(self.random, 300_000, 32_768, 1);
        self.add("container_cpu_usage_seconds_total", &base, &[], cpu);
        self.memory("container_memory_usage_bytes", &base, &[], 2048.0);
        self.memory("container_memory_working_set_bytes", &base, &[], 1024.0);
        self.memory("container_memory_rss", &base, &[], 512.0);
        self.memory("container_memory_cache", &base, &[], 1024.0);
        self.level("container_processes", &base, &[], 40);
        self.constant("container_spec_cpu_shares", &base, &[], 512.0);
        let start = 1_791_000_000.0 + self.random.below(1_000_000) as f64;
        self.constant("container_start_time_seconds", &base, &[], start);
        self.constant("container_oom_events_total", &base, &[], 0.0);
        let eth = [("interface", "eth0")];
        for direction in ["receive", "transmit"] {
            for (what, unit) in [
                ("bytes", 61.0),
                ("packets", 1.0),
                ("errors", 0.0),
                ("packets_dropped", 0.0),
            ] {
                let name = format!("container_network_{direction}_{what}_total");
                self.counter(&name, &base, &eth, unit);
            }
        }
    }

    /// 35 series.
    fn container(&mut self, base: &[Label]) {
        for (name, low) in [("usage", 200_000), ("user", 120_000), ("system", 60_000)] {
            let name = format!("container_cpu_{name}_seconds_total");
            let low = low + self.random.below(400_000);
            let with = Generator::seconds(self.random, low, 16_384, 1);
            self.add(&name, base, &[], with);
        }
        let throttled = Generator::seconds(self.random, 1_000, 16_384, 1).seldom(90);
        let name = "container_cpu_cfs_throttled_seconds_total";
        self.add(name, base, &[], throttled);
        for (name, unit) in [
            ("container_cpu_cfs_periods_total", 1.0),
            ("container_cpu_cfs_throttled_periods_total", 1.0),
            ("container_fs_reads_total", 1.0),
            ("container_fs_writes_total", 1.0),
            ("container_fs_reads_bytes_total", 4096.0),
            ("container_fs_writes_bytes_total", 4096.0),
        ] {
            self.counter(name, base, &[], unit);
        }
        for scope in ["container", "hierarchy"] {
            for failure in ["pgfault", "pgmajfault"] {
                let more = [("failure_type", failure), ("scope", scope)];
                self.counter("container_memory_failures_total", base, &more, 1.0);
            }
        }
        self.container_levels(base);
        self.container_constants(base);
    }

    fn container_levels(&mut self, base: &[Label]) {
        for name in [
            "usage_bytes",
            "working_set_bytes",
            "rss",
            "cache",
            "mapped_file",
            "kernel_usage",
        ] {
            self.memory(&format!("container_memory_{name}"), base, &[], 512.0);
        }
        self.memory("container_fs_usage_bytes", base, &[], 256.0);
        self.level("container_threads", base, &[], 60);
        self.level("container_processes", base, &[], 20);
        self.level("container_file_descriptors", base, &[], 300);
        self.level("container_sockets", base, &[], 80);
        self.add("container_last_seen", base, &[], Generator::Clock);
    }

    fn container_constants(&mut self, base: &[Label]) {
        let start = 1_791_000_000.0 + self.random.below(1_000_000) as f64;
        for (name, value) in [
            ("spec_cpu_period", 100_000.0),
            ("spec_cpu_quota", 50_000.0),
            ("spec_cpu_shares", 256.0),
            ("spec_memory_limit_bytes", 512.0 * MIB),
            ("spec_memory_swap_limit_bytes", 0.0),
            ("memory_swap", 0.0),
            ("start_time_seconds", start),
            ("threads_max", 15_000.0),
            ("oom_events_total", 0.0),
        ] {
            self.constant(&format!("container_{name}"), base, &[], value);
        }
    }

    /// 14 series.
    fn requests(&mut self, place: &PodNames) {
        let mut base = labels::common("pods", self.node);
        base.push(("app", place.app.to_owned()));
        base.push(("namespace", place.namespace.clone()));
        base.push(("pod", place.pod.clone()));
        let mean = self.random.log_uniform(0.2, 12.0);
        self.histogram(
            "http_request_duration_seconds",
            &base,
            &REQUEST_BOUNDS,
            mean,
        );
    }

    /// 14 series.
    fn kube(&mut self, place: &PodNames) {
        let mut base = labels::common("kube", self.node);
        base.push(("namespace", place.namespace.clone()));
        base.push(("pod", place.pod.clone()));
        base.push(("uid", place.uid.clone()));
        let owner = [
            ("created_by_kind", "ReplicaSet"),
            ("pod_ip", "10.244.17.5"),
            ("priority_class", "default"),
        ];
        self.constant("kube_pod_info", &base, &owner, 1.0);
        let owner = [
            ("owner_is_controller", "true"),
            ("owner_kind", "ReplicaSet"),
            ("owner_name", place.pod.as_str()),
        ];
        self.constant("kube_pod_owner", &base, &owner, 1.0);
        let running = [("phase", "Running")];
        self.constant("kube_pod_status_phase", &base, &running, 1.0);
        let start = 1_791_000_000.0 + self.random.below(1_000_000) as f64;
        self.constant("kube_pod_start_time", &base, &[], start);
        // One pod in eleven has only a CPU limit.
        let limit = if place.number % 11 == 7 {
            [("resource", "cpu"), ("unit", "core")]
        } else {
            [("resource", "memory"), ("unit", "byte")]
        };
        for container in [place.app, "sidecar"] {
            let name = "kube_pod_container_resource_requests";
            let of = ("container", container);
            let (cpu, memory) = (("resource", "cpu"), ("resource", "memory"));
            self.constant(name, &base, &[of, cpu, ("unit", "core")], 0.25);
            self.constant(name, &base, &[of, memory, ("unit", "byte")], 256.0 * MIB);
            let name = "kube_pod_container_resource_limits";
            self.constant(name, &base, &[of, limit[0], limit[1]], 512.0 * MIB);
            let name = "kube_pod_container_status_restarts_total";
            self.rare(name, &base, &[of], 4_000.0);
            self.constant("kube_pod_container_status_ready", &base, &[of], 1.0);
        }
    }
}
