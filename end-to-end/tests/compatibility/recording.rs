//! A recorded node, read by the agent's collectors, and its API objects, read by the aggregator.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use agent::collect::Due;
use agent::collectors;
use agent::config::Config;
use agent::kube::KubeletData;
use agent::kube::metrics::{Families, KubeletMetrics};
use agent::schema::{NodeIdentity, Schema};
use agent::table::SeriesTable;
use aggregator::kube::families::{Job, Namespace, Node, Pod, ReplicaSet, ResourceQuota};
use aggregator::kube::series::{BaseLabels, Describe, Description};
use common::exposition::{ExpositionLine, Parser};
use common::model::{Labels, Sample};
use serde_json::{Value, json};
use tidemark_storage::SeriesSamples;

use super::machine;

/// A node with two recorded snapshots.
#[derive(Debug)]
pub(super) struct Recording {
    folder: PathBuf,
    /// The node's name.
    pub(super) node: &'static str,
    /// A daemon set's pod in place of the agent's own, which did not run there.
    agent_pod: &'static str,
    /// Times of the two snapshots, in milliseconds.
    pub(super) times_ms: [i64; 2],
    /// Adds a request that no recorded container had.
    is_amended: bool,
    /// Uses a scrape of the kubelet instead of the agent's equivalent series.
    is_scraped: bool,
}

/// Disks of the recorded machine, whose /sys was not recorded.
const DEVICES: [(&str, &str); 2] = [("254:0", "vda"), ("254:16", "vdb")];

impl Recording {
    /// Returns the cgroup v1 and the cgroup v2 node.
    pub(super) fn all(fixtures: &Path) -> [Self; 2] {
        [
            ("v1-full", "node-a", "logger-d7mqn"),
            ("v2-full", "node-v2", "logger-4b6kc"),
        ]
        .map(|(folder, node, agent_pod)| {
            let folder = fixtures.join("kubelet").join(folder);
            let first = start_ms(&folder, "kernel-1a.json.gz");
            Self {
                node,
                agent_pod,
                times_ms: [first, start_ms(&folder, "kernel-2a.json.gz")],
                folder,
                is_amended: false,
                is_scraped: false,
            }
        })
    }

    /// Moves the snapshots at most a minute apart, so that a range of one minute contains both.
    pub(super) fn within_a_minute(mut self) -> Self {
        let [first, second] = &mut self.times_ms;
        *first = (*first).max(*second - 40_000);
        self
    }

    /// Adds a container's request for a device and for ephemeral storage.
    pub(super) const fn with_resources_nobody_asked_for(mut self) -> Self {
        self.is_amended = true;
        self
    }

    /// Uses the kubelet's `/metrics` and `/metrics/cadvisor`, as Prometheus does.
    pub(super) const fn with_scrapes(mut self) -> Self {
        self.is_scraped = true;
        self
    }

    /// Returns the kubelet's pods.
    pub(super) fn pods(&self) -> Value {
        let mut pods = self.json("pods.json.gz");
        if self.is_amended {
            // The kubelet reports both the requested and the allocated resources.
            let pod = &mut pods["items"][0];
            let name = pod["spec"]["containers"][0]["name"].clone();
            amend(&mut pod["spec"]["containers"][0]["resources"]);
            let statuses = pod["status"]["containerStatuses"].as_array_mut().unwrap();
            let named = |status: &&mut Value| status["name"] == name;
            amend(&mut statuses.iter_mut().find(named).unwrap()["resources"]);
        }
        pods
    }

    /// Returns the kernel's files of one snapshot.
    pub(super) fn kernel(&self, snapshot: u32) -> Value {
        self.json(&format!("kernel-{snapshot}a.json.gz"))
    }

    /// Returns the kubelet's values of one snapshot.
    pub(super) fn summary(&self, snapshot: u32) -> Value {
        let path = self.folder.join(format!("stats-summary-{snapshot}.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    pub(super) fn json(&self, name: &str) -> Value {
        json(&self.folder, name)
    }

    /// Returns all series at both times.
    pub(super) fn samples(&self) -> Vec<SeriesSamples> {
        let mut all = Vec::new();
        for (time_ms, snapshot) in self.times_ms.into_iter().zip(1..) {
            for (labels, value) in self.agent(snapshot).into_iter().chain(self.aggregator()) {
                let samples = vec![Sample {
                    timestamp_ms: time_ms,
                    value,
                }];
                all.push(SeriesSamples { labels, samples });
            }
        }
        all
    }

    /// Returns the agent's series of one snapshot, with the labels that ingest adds.
    fn agent(&self, snapshot: u32) -> Vec<(Labels, f64)> {
        let mut series = self.snapshot(snapshot).collect();
        if self.is_scraped {
            let is_own = |labels: &Labels| {
                labels.get("job") != Some("kubelet") || labels.metric_name() == Some("up")
            };
            series.retain(|(labels, _)| is_own(labels));
            series.extend(self.scraped(snapshot));
        }
        series
    }

    /// Returns a scrape of the kubelet. Its `/metrics` was recorded once.
    fn scraped(&self, snapshot: u32) -> Vec<(Labels, f64)> {
        let mut series = Vec::new();
        for (answer, path) in [
            (self.cadvisor(snapshot), "/metrics/cadvisor"),
            (samples_of(&self.metrics(snapshot)), "/metrics"),
        ] {
            for (labels, value) in answer {
                let mut builder = labels.to_builder();
                builder.set("job", "kubelet");
                builder.set("metrics_path", path);
                builder.set("instance", self.node);
                builder.set("node", self.node);
                series.push((builder.build().unwrap(), value));
            }
        }
        assert!(series.len() > 2000, "only {} samples", series.len());
        series
    }

    /// Returns the kubelet's cAdvisor metrics of one snapshot.
    pub(super) fn cadvisor(&self, snapshot: u32) -> Vec<(Labels, f64)> {
        let name = format!("metrics-cadvisor-{snapshot}.prom.gz");
        samples_of(&String::from_utf8(unpacked(&self.folder, &name)).unwrap())
    }

    /// Returns the cgroups that existed during a snapshot, one per line.
    pub(super) fn cgroups(&self, snapshot: u32) -> String {
        let kernel = self.kernel(snapshot);
        let cgroups = kernel["cgroup"].as_object().unwrap().keys();
        cgroups.map(|path| format!("{path}\n")).collect()
    }

    /// Returns the kubelet's metrics about itself. They were recorded once, so counters have half their value in the first
    /// snapshot.
    fn metrics(&self, snapshot: u32) -> String {
        let text = String::from_utf8(unpacked(&self.folder, "metrics.prom.gz")).unwrap();
        if snapshot == 2 {
            return text;
        }
        let halved = |line: &str| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let counts = ["_total", "_bucket", "_count", "_sum"];
            let value: f64 = match value.parse() {
                Ok(value) if counts.iter().any(|end| name.ends_with(end)) => value,
                _ => return format!("{line}\n"),
            };
            format!("{series} {}\n", value / 2.0)
        };
        text.lines().map(halved).collect()
    }

    /// Writes the files of one snapshot for an agent.
    pub(super) fn snapshot(&self, snapshot: u32) -> Snapshot {
        let root = tempfile::tempdir().unwrap();
        lay_out(root.path(), &self.kernel(snapshot), snapshot);
        for (labels, seconds) in self.cadvisor(snapshot) {
            if labels.metric_name() == Some("container_start_time_seconds") {
                let id = labels.get("id").unwrap();
                date(&root.path().join("sys/fs/cgroup"), id, seconds);
            }
        }
        Snapshot {
            root,
            node: self.node,
            agent_pod: self.agent_pod,
            now_ms: self.times_ms[0],
            pods: self.pods(),
            summary: self.summary(snapshot),
            metrics: self.metrics(snapshot).into_bytes(),
        }
    }

    /// Returns the aggregator's series of the API server's objects. Nodes and pods were recorded; owners and namespaces are
    /// derived from them; the quota is invented for the panels about quotas.
    fn aggregator(&self) -> Vec<(Labels, f64)> {
        let up = [
            ("__name__", "up"),
            ("job", "kube-state-metrics"),
            ("instance", "api"),
        ];
        let mut series = vec![(Labels::from_pairs(up).unwrap(), 1.0)];
        for item in items(json(&self.folder, "api-nodes.json.gz")) {
            describe::<Node>(item, &mut series);
        }
        let mut owners: BTreeMap<(String, String, String), ()> = BTreeMap::new();
        let mut namespaces = BTreeMap::new();
        for item in items(json(&self.folder, "api-pods.json.gz")) {
            let namespace = item["metadata"]["namespace"].as_str().unwrap().to_owned();
            for owner in item["metadata"]["ownerReferences"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let text = |name: &str| owner[name].as_str().unwrap().to_owned();
                owners.insert((text("kind"), namespace.clone(), text("name")), ());
            }
            namespaces.insert(namespace, ());
            describe::<Pod>(item, &mut series);
        }
        for (kind, namespace, name) in owners.into_keys() {
            let meta = json!({"name": name, "namespace": namespace});
            match kind.as_str() {
                "ReplicaSet" => {
                    let deployment = name.rsplit_once('-').unwrap().0;
                    let owner =
                        json!([{"kind": "Deployment", "name": deployment, "controller": true}]);
                    let mut meta = meta;
                    meta["ownerReferences"] = owner;
                    describe::<ReplicaSet>(json!({"metadata": meta}), &mut series);
                }
                "Job" => describe::<Job>(json!({"metadata": meta}), &mut series),
                _ => {}
            }
        }
        for namespace in namespaces.into_keys() {
            let meta = json!({"name": namespace});
            let phase = json!({"phase": "Active"});
            describe::<Namespace>(json!({"metadata": meta, "status": phase}), &mut series);
            let amounts = json!({"requests.cpu": "4", "limits.cpu": "8", "requests.memory": "1Gi",
                                 "limits.memory": "2Gi", "pods": "50"});
            let quota = json!({"metadata": {"name": "made-up", "namespace": namespace},
                               "status": {"hard": amounts, "used": amounts}});
            describe::<ResourceQuota>(quota, &mut series);
        }
        series
    }
}

/// A recorded node at one time, with its kernel's files in a directory.
#[derive(Debug)]
pub(super) struct Snapshot {
    root: tempfile::TempDir,
    node: &'static str,
    agent_pod: &'static str,
    now_ms: i64,
    pods: Value,
    summary: Value,
    metrics: Vec<u8>,
}

impl Snapshot {
    /// Returns the agent's flags for the node.
    pub(super) fn flags(&self) -> [String; 4] {
        let path = |name: &str| self.root.path().join(name).display().to_string();
        [
            format!("--node.name={}", self.node),
            format!("--path.procfs={}", path("proc")),
            format!("--path.sysfs={}", path("sys")),
            format!("--path.cgroupfs={}", path("sys/fs/cgroup")),
        ]
    }

    /// Returns the downward API's environment variables of the agent's pod.
    pub(super) const fn pod(&self) -> [(&'static str, &'static str); 2] {
        [("POD_NAMESPACE", "batch"), ("POD_NAME", self.agent_pod)]
    }

    /// Returns the kubelet's response for a path.
    pub(super) fn answers(&self) -> [(&'static str, Vec<u8>); 3] {
        [
            ("/pods", serde_json::to_vec(&self.pods).unwrap()),
            ("/stats/summary", serde_json::to_vec(&self.summary).unwrap()),
            ("/metrics", self.metrics.clone()),
        ]
    }

    /// Returns the series of the agent's collectors, with the labels that ingest adds.
    pub(super) fn collect(&self) -> Vec<(Labels, f64)> {
        let args = std::iter::once("tidemark-agent".to_owned()).chain(self.flags());
        let config = Config::from_args(args).unwrap();
        let data = KubeletData::default();
        data.set_pods(serde_json::from_value(self.pods.clone()).unwrap());
        data.set_summary(Some(serde_json::from_value(self.summary.clone()).unwrap()));
        let families = Families::new(&config.kubelet_metrics).unwrap();
        data.set_metrics(Some(
            KubeletMetrics::parse(&self.metrics, &families).unwrap(),
        ));
        let mut collectors = collectors::build(&config.build_context(Some(&data))).unwrap();
        let [(_, namespace), (_, pod)] = self.pod();
        let mut schema = Schema::new(NodeIdentity {
            node: self.node.to_owned(),
            pod: Some((namespace.to_owned(), pod.to_owned())),
            ..NodeIdentity::default()
        });
        let mut table = SeriesTable::default();
        // A separate thread measures file systems, and a tick waits for it only briefly.
        for tick in 0.. {
            table.begin_tick(self.now_ms);
            collectors.collect(&mut table, &mut schema, Due::ALL);
            let mut families = table.current().filter_map(|(id, _)| table.family_of(id));
            let measured = |family| table.family(family).name == "node_filesystem_size_bytes";
            if families.any(measured) && tick > 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let current = table.current();
        let series =
            current.map(|(id, value)| (self.ingested(&table.def(id).unwrap().labels), value));
        series.collect()
    }

    fn ingested(&self, labels: &Labels) -> Labels {
        let mut builder = labels.to_builder();
        builder.set("node", self.node);
        builder.set("idc", "default");
        builder.build().unwrap()
    }
}

fn amend(resources: &mut Value) {
    for section in ["requests", "limits"] {
        resources[section]["example.com/gpu"] = json!("2");
        resources[section]["ephemeral-storage"] = json!("64Mi");
    }
}

fn describe<D: Describe>(object: Value, series: &mut Vec<(Labels, f64)>) {
    let object: D = serde_json::from_value(object).unwrap();
    let base = BaseLabels::new("api", None);
    series.extend(Description::of(&object, &base).finish().0);
}

/// Parses the samples of a text in the exposition format.
fn samples_of(text: &str) -> Vec<(Labels, f64)> {
    let sample = |entry| match entry {
        ExpositionLine::Sample { labels, value, .. } => Some((labels, value)),
        ExpositionLine::Help { .. } | ExpositionLine::Type { .. } => None,
    };
    let entries = Parser::new(text).map(Result::unwrap);
    entries.filter_map(sample).collect()
}

/// Returns the objects of a list.
pub(super) fn items(list: Value) -> Vec<Value> {
    list["items"].as_array().unwrap().clone()
}

fn json(folder: &Path, name: &str) -> Value {
    serde_json::from_slice(&unpacked(folder, name)).unwrap()
}

fn unpacked(folder: &Path, name: &str) -> Vec<u8> {
    let file = fs::File::open(folder.join(name)).unwrap();
    let mut data = Vec::new();
    flate2::read::GzDecoder::new(file)
        .read_to_end(&mut data)
        .unwrap();
    data
}

fn start_ms(folder: &Path, name: &str) -> i64 {
    (json(folder, name)["start_unix"].as_f64().unwrap() * 1000.0) as i64
}

/// Writes a recorded kernel's files below `root`, and the invented ones.
fn lay_out(root: &Path, kernel: &Value, snapshot: u32) {
    let proc = root.join("proc");
    for (cgroup, files) in kernel["cgroup"].as_object().unwrap() {
        lay_out_files(&root.join(cgroup.trim_start_matches('/')), files);
    }
    for (name, text) in kernel["host"].as_object().unwrap() {
        match text {
            Value::Object(_) if name == "cgroup_root" => {
                lay_out_files(&root.join("sys/fs/cgroup"), text);
            }
            Value::String(text) => write(&proc.join(name), text),
            _ => {}
        }
    }
    for (pid, files) in kernel["proc"].as_object().unwrap() {
        lay_out_files(&proc.join(pid), files);
        let comm = files["stat"]
            .as_str()
            .and_then(|stat| stat.split(['(', ')']).nth(1));
        write(&proc.join(pid).join("comm"), comm.unwrap_or("!"));
    }
    let devices = root.join("sys/dev/block");
    fs::create_dir_all(&devices).unwrap();
    for (numbers, name) in DEVICES {
        std::os::unix::fs::symlink(format!("../../block/{name}"), devices.join(numbers)).unwrap();
    }
    for (name, text) in machine::files(snapshot) {
        let path = proc.join(name);
        if !path.is_file() {
            write(&path, &text);
        }
    }
}

/// Sets the age of a cgroup's directories in all hierarchies to the one that cAdvisor reported.
fn date(trees: &Path, id: &str, seconds: f64) {
    let made = UNIX_EPOCH + Duration::from_secs_f64(seconds);
    let inside = fs::read_dir(trees).unwrap();
    let mut roots: Vec<PathBuf> = inside.map(|tree| tree.unwrap().path()).collect();
    roots.push(trees.to_owned());
    for root in roots {
        let directory = root.join(id.trim_start_matches('/'));
        if directory.is_dir() {
            fs::File::open(directory)
                .unwrap()
                .set_modified(made)
                .unwrap();
        }
    }
}

fn lay_out_files(folder: &Path, files: &Value) {
    for (name, text) in files.as_object().unwrap() {
        if let Some(text) = text.as_str() {
            write(&folder.join(name), text);
        }
    }
}

/// A text that begins with an exclamation mark represents an unreadable file.
fn write(path: &Path, text: &str) {
    if !text.starts_with('!') {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}
