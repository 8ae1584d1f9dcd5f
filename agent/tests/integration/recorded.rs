//! Recorded nodes: cgroup trees, /proc and kubelet answers written to a directory and read by the real collectors.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use agent::collect::{Collectors, Due};
use agent::collectors;
use agent::config::Config;
use agent::kube::KubeletData;
use agent::kube::metrics::{FAMILIES, Families, KubeletMetrics};
use agent::schema::Schema;
use agent::table::SeriesTable;
use common::heapster_catalogue;
use flate2::read::GzDecoder;
use serde_json::Value;

/// A recorded file below `tests/fixtures/kubelet`, decompressed.
pub(crate) fn fixture(version: &str, name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/kubelet")
        .join(version)
        .join(name);
    let mut data = Vec::new();
    GzDecoder::new(fs::File::open(path).unwrap())
        .read_to_end(&mut data)
        .unwrap();
    data
}

/// A recorded node in a temporary directory.
pub(crate) struct Recorded {
    dir: tempfile::TempDir,
    pub(crate) kernel: Value,
    pub(crate) pods: Value,
    pub(crate) table: SeriesTable,
    collectors: Collectors,
    pub(crate) schema: Schema,
    now_ms: i64,
}

fn write(path: PathBuf, text: &str) {
    // A text that starts with an exclamation mark is the errno of a failed read.
    if !text.starts_with('!') {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

impl Recorded {
    pub(crate) fn new(version: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kernel: Value = serde_json::from_slice(&fixture(version, "kernel-1a.json.gz")).unwrap();
        lay_out(dir.path(), &kernel);
        let pods = fixture(version, "pods.json.gz");
        let data = KubeletData::default();
        data.set_pods(serde_json::from_slice(&pods).unwrap());
        data.set_summary(Some(
            serde_json::from_slice(&fixture(version, "stats-summary.json.gz")).unwrap(),
        ));
        if version == "v1-full" {
            let metrics = fixture(version, "metrics.prom.gz");
            let names: Vec<String> = FAMILIES.split(',').map(str::to_owned).collect();
            let families = Families::new(&names).unwrap();
            data.set_metrics(Some(KubeletMetrics::parse(&metrics, &families).unwrap()));
        }
        let path = |name: &str| dir.path().join(name).display().to_string();
        let config = Config::from_args([
            "tidemark-agent".to_owned(),
            "--node.name=recorded".to_owned(),
            format!("--path.procfs={}", path("proc")),
            format!("--path.sysfs={}", path("sys")),
            format!("--path.cgroupfs={}", path("sys/fs/cgroup")),
            format!("--path.rootfs={}", path("root")),
        ]);
        let collectors = collectors::build(&config.unwrap().build_context(Some(&data))).unwrap();
        Self {
            dir,
            kernel,
            pods: serde_json::from_slice(&pods).unwrap(),
            table: SeriesTable::default(),
            collectors,
            schema: Schema::for_node("recorded"),
            now_ms: 0,
        }
    }

    pub(crate) fn tick(&mut self) {
        self.now_ms += 60_000;
        self.table.begin_tick(self.now_ms);
        self.collectors
            .collect(&mut self.table, &mut self.schema, Due::ALL);
    }

    /// The value of the only current series of `name` with all of `labels`; an empty label must be absent.
    #[track_caller]
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.table.current().filter(|(id, _)| {
            let series = &self.table.def(*id).unwrap().labels;
            series.metric_name() == Some(name)
                && labels
                    .iter()
                    .all(|(name, value)| series.get(name).unwrap_or("") == *value)
        });
        let value = found.next().map(|(_, value)| value);
        assert_eq!(found.count(), 0, "{name}{labels:?} is ambiguous");
        value
    }

    /// The recorded text of a cgroup's file. `controller` is ignored in a unified tree.
    fn cgroup_file(&self, controller: &str, path: &str, file: &str) -> Option<&str> {
        let trees = [
            format!("/sys/fs/cgroup/{controller}{path}"),
            format!("/sys/fs/cgroup{path}"),
        ];
        let text = trees
            .iter()
            .find_map(|tree| self.kernel["cgroup"][tree][file].as_str())?;
        Some(text).filter(|text| !text.starts_with('!'))
    }
}

fn lay_out(dir: &Path, kernel: &Value) {
    for (cgroup, files) in kernel["cgroup"].as_object().unwrap() {
        for (name, text) in files.as_object().unwrap() {
            write(
                dir.join(cgroup.trim_start_matches('/')).join(name),
                text.as_str().unwrap_or("!"),
            );
        }
    }
    for (name, text) in kernel["host"].as_object().unwrap() {
        match text {
            Value::String(text) => write(dir.join("proc").join(name), text),
            // The root of the v2 tree.
            Value::Object(files) if name == "cgroup_root" => {
                for (name, text) in files {
                    write(
                        dir.join("sys/fs/cgroup").join(name),
                        text.as_str().unwrap_or("!"),
                    );
                }
            }
            _ => {}
        }
    }
    for (pid, files) in kernel["proc"].as_object().unwrap() {
        for name in ["cgroup", "net/dev"] {
            write(
                dir.join("proc").join(pid).join(name),
                files[name].as_str().unwrap_or("!"),
            );
        }
        let comm = files["stat"]
            .as_str()
            .and_then(|stat| stat.split(['(', ')']).nth(1))
            .unwrap_or("!");
        write(dir.join("proc").join(pid).join("comm"), comm);
    }
}

/// A running container: its names and the path of its cgroup.
struct Running {
    labels: [(&'static str, String); 3],
    path: String,
    pod_path: String,
}

fn running(node: &Recorded) -> Vec<Running> {
    let cgroups: Vec<&String> = node.kernel["cgroup"].as_object().unwrap().keys().collect();
    let mut all = Vec::new();
    for pod in node.pods["items"].as_array().unwrap() {
        let statuses = ["containerStatuses", "initContainerStatuses"]
            .map(|key| pod["status"][key].as_array().cloned().unwrap_or_default());
        for status in statuses.into_iter().flatten() {
            let Some(id) = status["containerID"]
                .as_str()
                .and_then(|id| id.split_once("://"))
            else {
                continue;
            };
            // It may have ended between the two recordings.
            let Some(found) = cgroups.iter().find(|path| {
                path.contains(id.1) && !path.contains("/unified/") && !path.contains("/systemd/")
            }) else {
                continue;
            };
            let found = found.strip_prefix("/sys/fs/cgroup").unwrap();
            let path = found
                .get(found.find("/kubepods").unwrap()..)
                .unwrap()
                .to_owned();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            all.push(Running {
                labels: [
                    ("namespace", text(&pod["metadata"]["namespace"])),
                    ("pod", text(&pod["metadata"]["name"])),
                    ("container", text(&status["name"])),
                ],
                pod_path: path.rsplit_once('/').unwrap().0.to_owned(),
                path,
            });
        }
    }
    assert!(
        all.len() >= 8,
        "only {} running containers in the recording",
        all.len()
    );
    all
}

/// The number after `key` in a keyed file, parsed without the agent's code.
fn keyed(text: &str, key: &str) -> Option<f64> {
    let pairs: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    pairs.get(key)?.parse().ok()
}

fn check_containers(
    version: &str,
    expect: impl Fn(&Recorded, &str) -> Vec<(&'static str, Option<f64>)>,
) {
    let mut node = Recorded::new(version);
    node.tick();
    for running in running(&node) {
        let names = running
            .labels
            .each_ref()
            .map(|(name, value)| (*name, &**value));
        let id = [("id", &*running.path)];
        for (metric, want) in expect(&node, &running.path) {
            assert_eq!(
                node.value(metric, &[&names[..], &id].concat()),
                want,
                "{metric} of {}",
                running.path
            );
        }
        let pod = [
            ("namespace", names[0].1),
            ("pod", names[1].1),
            ("container", ""),
            ("image", ""),
            ("id", &running.pod_path),
        ];
        for (metric, want) in expect(&node, &running.pod_path) {
            assert_eq!(
                node.value(metric, &pod),
                want,
                "{metric} of {}",
                running.pod_path
            );
        }
    }
    let errors: Vec<_> = node
        .table
        .current()
        .filter_map(|(id, value)| Some((node.table.def(id)?.labels.to_string(), value)))
        .filter(|(labels, _)| labels.contains("agent_collector_faults_total"))
        .collect();
    assert_eq!(errors, [], "recorded files that are not understood");
}

#[test]
fn v2_containers_and_pods_have_the_recorded_values() {
    check_containers("v2-full", |node, path| {
        let file = |name| node.cgroup_file("", path, name).unwrap();
        let (stat, cpu) = (file("memory.stat"), file("cpu.stat"));
        let usage: f64 = file("memory.current").trim().parse().unwrap();
        let pressure = file("cpu.pressure")
            .lines()
            .next()
            .unwrap()
            .rsplit_once("total=")
            .unwrap()
            .1;
        vec![
            (
                "container_cpu_usage_seconds_total",
                keyed(cpu, "usage_usec").map(|usec| usec / 1e6),
            ),
            ("container_memory_usage_bytes", Some(usage)),
            (
                "container_memory_working_set_bytes",
                keyed(stat, "inactive_file").map(|inactive| usage - inactive),
            ),
            ("container_memory_rss", keyed(stat, "anon")),
            ("container_memory_cache", keyed(stat, "file")),
            (
                "container_oom_events_total",
                keyed(file("memory.events"), "oom_kill"),
            ),
            (
                "container_threads",
                file("pids.current").trim().parse().ok(),
            ),
            (
                "container_memory_max_usage_bytes",
                file("memory.peak").trim().parse().ok(),
            ),
            (
                "container_pressure_cpu_waiting_seconds_total",
                pressure.parse::<f64>().ok().map(|usec| usec / 1e6),
            ),
        ]
    });
}

#[test]
fn v1_containers_and_pods_have_the_recorded_values() {
    check_containers("v1-full", |node, path| {
        let file = |controller, name| node.cgroup_file(controller, path, name).unwrap();
        let stat = file("memory", "memory.stat");
        let usage: f64 = file("memory", "memory.usage_in_bytes")
            .trim()
            .parse()
            .unwrap();
        vec![
            (
                "container_cpu_usage_seconds_total",
                file("cpuacct", "cpuacct.usage")
                    .trim()
                    .parse::<f64>()
                    .ok()
                    .map(|ns| ns / 1e9),
            ),
            ("container_memory_usage_bytes", Some(usage)),
            (
                "container_memory_working_set_bytes",
                keyed(stat, "total_inactive_file").map(|inactive| usage - inactive),
            ),
            ("container_memory_rss", keyed(stat, "total_rss")),
            ("container_memory_cache", keyed(stat, "total_cache")),
            (
                "container_threads",
                file("pids", "pids.current").trim().parse().ok(),
            ),
        ]
    });
}

#[test]
fn sandboxes_are_hidden_and_every_pod_has_a_name() {
    for version in ["v1-full", "v2-full"] {
        let mut node = Recorded::new(version);
        node.tick();
        let nameless = node.table.current().find(|(id, _)| {
            node.table.def(*id).unwrap().labels.metric_name() == Some("agent_cgroups_nameless")
        });
        assert_eq!(nameless.map(|(_, value)| value), Some(0.0));
        let rows = node
            .table
            .series()
            .filter(|(_, def)| def.labels.metric_name() == Some("container_memory_rss"));
        for (_, def) in rows {
            let (name, container) = (def.labels.get("name"), def.labels.get("container"));
            let is_container = name.is_some_and(|name| name.len() == 64);
            assert_eq!(is_container, container.is_some(), "{}", def.labels);
        }
    }
}

#[test]
fn pods_have_the_traffic_of_their_processes() {
    for version in ["v1-full", "v2-full"] {
        let mut node = Recorded::new(version);
        node.tick();
        let mut checked = 0;
        for running in running(&node) {
            let procs = node
                .cgroup_file("memory", &running.path, "cgroup.procs")
                .unwrap_or("");
            let Some(pid) = procs.lines().next() else {
                continue;
            };
            let Some(dev) = node.kernel["proc"][pid]["net/dev"].as_str() else {
                continue;
            };
            let pod = node.pods["items"]
                .as_array()
                .unwrap()
                .iter()
                .find(|pod| pod["metadata"]["name"] == running.labels[1].1)
                .unwrap();
            let is_host = pod["spec"]["hostNetwork"] == true;
            let line = dev
                .lines()
                .find(|line| line.trim_start().starts_with("eth0:"))
                .unwrap();
            let columns: Vec<f64> = line
                .split_once(':')
                .unwrap()
                .1
                .split_whitespace()
                .map(|word| word.parse().unwrap())
                .collect();
            let labels = [
                ("pod", &*running.labels[1].1),
                ("namespace", &*running.labels[0].1),
                ("interface", "eth0"),
            ];
            // Two recordings of one namespace are a moment apart, so the pod's value comes from one of its processes.
            let value = node.value("container_network_receive_bytes_total", &labels);
            if is_host {
                let device = [("device", "eth0")];
                let of_node = node.value("node_network_receive_bytes_total", &device);
                assert_eq!(value, of_node, "{labels:?}");
                continue;
            }
            assert!(value.is_some(), "{labels:?}");
            if let Some(value) = value {
                assert!(
                    (value - columns[0]).abs() <= columns[0] * 0.5 + 4096.0,
                    "{value} is not about {}",
                    columns[0]
                );
                checked += 1;
            }
        }
        assert!(
            checked >= 6,
            "only {checked} pods with traffic in {version}"
        );
    }
}

#[test]
fn kubelet_values_are_joined_by_uid_name_and_hash() {
    let mut node = Recorded::new("v1-full");
    node.tick();
    let web = [("namespace", "kube-system"), ("pod", "static-web-node-a")];
    assert!(
        node.value(
            "container_memory_working_set_bytes",
            &[&web[..], &[("container", "c")]].concat()
        )
        .unwrap()
            > 0.0
    );
    assert_eq!(
        node.value(
            "kube_pod_info",
            &[&web[..], &[("uid", "5c89888f878c9b32949768b1074305c6")]].concat()
        ),
        Some(1.0)
    );
    let burn = [
        ("pod", "burner"),
        ("container", "burn"),
        ("resource", "cpu"),
    ];
    assert_eq!(
        node.value("kube_pod_container_resource_limits", &burn),
        Some(0.2)
    );
    assert!(
        node.value(
            "kube_pod_container_status_restarts_total",
            &[("pod", "crasher"), ("container", "crash")]
        )
        .unwrap()
            >= 1.0
    );
    let summary: Value =
        serde_json::from_slice(&fixture("v1-full", "stats-summary.json.gz")).unwrap();
    let pod = summary["pods"]
        .as_array()
        .unwrap()
        .iter()
        .find(|pod| pod["podRef"]["name"] == "disk-writer")
        .unwrap();
    let used = pod["ephemeral-storage"]["usedBytes"].as_f64();
    assert!(used.is_some());
    assert_eq!(
        node.value(
            "kubelet_pod_ephemeral_storage_used_bytes",
            &[("pod", "disk-writer")]
        ),
        used
    );
    let claims = node
        .table
        .series()
        .filter(|(_, def)| def.labels.metric_name() == Some("kubelet_volume_stats_used_bytes"));
    assert!(claims.count() >= 1, "the local volume of db-0");
}

#[test]
fn recording_is_laid_out_as_the_kernel_had_it() {
    let node = Recorded::new("v2-full");
    assert!(
        node.dir
            .path()
            .join("sys/fs/cgroup/cgroup.controllers")
            .is_file()
    );
    assert!(node.dir.path().join("proc/meminfo").is_file());
}

#[test]
fn every_series_of_the_catalogue_comes_from_a_recorded_node() {
    let mut names = std::collections::BTreeSet::new();
    for version in ["v1-full", "v2-full"] {
        let mut node = Recorded::new(version);
        node.tick();
        let current = node
            .table
            .current()
            .filter_map(|(id, _)| node.table.def(id)?.labels.metric_name().map(str::to_owned));
        names.extend(current);
    }
    // Recordings hold no mount table; the comparison with node_exporter has these.
    let is_elsewhere =
        |name: &str| name.starts_with("node_filesystem_") || name.starts_with("kube_node_");
    for entry in heapster_catalogue::ENTRIES {
        for derivation in entry.derivations {
            for name in heapster_catalogue::series_of(derivation.expression)
                .filter(|name| !is_elsewhere(name))
            {
                assert!(
                    names.contains(name),
                    "{} of {:?} needs {name}",
                    entry.name,
                    derivation.object
                );
            }
        }
    }
}
