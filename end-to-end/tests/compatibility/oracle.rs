//! Reads expected values from a recording without the agent's code.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use common::heapster_catalogue::Object;
use common::model::Labels;
use serde_json::Value;

use super::recording::{Recording, items};

/// Values by the labels of an object, and by `resource_id` if there are several.
pub(super) type Expected = BTreeMap<Vec<String>, f64>;

/// A container or pod with its cgroup.
#[derive(Debug, Clone)]
struct CgroupOwner {
    labels: Vec<String>,
    /// Path below the root of a hierarchy.
    path: String,
}

/// A recorded node.
#[derive(Debug)]
pub(super) struct Oracle {
    pub(super) node: &'static str,
    is_v2: bool,
    kernel: [Value; 2],
    summary: [Value; 2],
    pods: Vec<Value>,
    api_node: Value,
    /// Seconds between the stored snapshots.
    apart_seconds: f64,
    now_ms: i64,
    containers: Vec<CgroupOwner>,
    pod_places: Vec<CgroupOwner>,
    /// Creation time of the cgroup of all pods according to cAdvisor, in seconds since the epoch.
    pods_made_seconds: f64,
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Parses a quantity in Kubernetes' notation.
pub(super) fn quantity(value: &Value) -> Option<f64> {
    let text = value.as_str()?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text.get(digits.len()..)? {
        "" => 1.0,
        "m" => 1e-3,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        other => panic!("unit {other}"),
    };
    Some(digits.parse::<f64>().ok()? * factor)
}

/// Returns the number after a word, in lines of `word number`.
fn field(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok())?
    })
}

/// Parses an RFC 3339 time in UTC with whole seconds into seconds since the epoch.
pub(super) fn seconds(time: &str) -> f64 {
    let output = Command::new("date")
        .args(["-u", "-d", time, "+%s"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

impl Oracle {
    pub(super) fn new(recording: &Recording) -> Self {
        let kernel = [1, 2].map(|snapshot| recording.kernel(snapshot));
        let pods = items(recording.pods());
        let nodes = items(recording.json("api-nodes.json.gz"));
        let named = |node: &Value| node["metadata"]["name"] == recording.node;
        let [first_ms, now_ms] = recording.times_ms;
        let mut oracle = Self {
            node: recording.node,
            is_v2: recording.node == "node-v2",
            summary: [1, 2].map(|snapshot| recording.summary(snapshot)),
            api_node: nodes.into_iter().find(named).unwrap(),
            apart_seconds: (now_ms - first_ms) as f64 / 1000.0,
            now_ms,
            kernel,
            pods,
            containers: Vec::new(),
            pod_places: Vec::new(),
            pods_made_seconds: pods_made(recording),
        };
        oracle.find_places();
        assert!(oracle.containers.len() >= 6 && oracle.pod_places.len() >= 6);
        oracle
    }

    /// Returns the containers in both snapshots, and their pods.
    fn find_places(&mut self) {
        let paths = |kernel: &Value| -> Vec<String> {
            let cgroups = kernel["cgroup"].as_object().unwrap().keys();
            let tree = if self.is_v2 {
                "/sys/fs/cgroup"
            } else {
                "/sys/fs/cgroup/memory"
            };
            cgroups
                .filter_map(|path| Some(path.strip_prefix(tree)?.to_owned()))
                .collect()
        };
        let [before, now] = [paths(&self.kernel[0]), paths(&self.kernel[1])];
        for pod in &self.pods {
            let labels = vec![
                text(&pod["metadata"]["namespace"]),
                text(&pod["metadata"]["name"]),
            ];
            let uid = text(&pod["metadata"]["uid"]);
            let uids = [
                format!("pod{uid}"),
                format!("pod{}.slice", uid.replace('-', "_")),
            ];
            let is_pods = |path: &&String| uids.iter().any(|uid| path.ends_with(uid));
            let pod_path = now.iter().find(is_pods).cloned();
            for status in statuses(pod) {
                let id = text(&status["containerID"]);
                let Some((_, id)) = id.split_once("://") else {
                    continue;
                };
                let Some(path) = now.iter().find(|path| path.contains(id)) else {
                    continue;
                };
                if before.contains(path) {
                    let mut labels = labels.clone();
                    labels.push(text(&status["name"]));
                    self.containers.push(CgroupOwner {
                        labels,
                        path: path.clone(),
                    });
                }
            }
            if let Some(path) = pod_path {
                self.pod_places.push(CgroupOwner { labels, path });
            }
        }
    }

    /// Reads a file of a cgroup.
    fn file(&self, snapshot: usize, controller: &str, path: &str, name: &str) -> Option<&str> {
        let kernel = &self.kernel[snapshot];
        let found = match (self.is_v2, path) {
            (true, "") => &kernel["host"]["cgroup_root"][name],
            (true, _) => &kernel["cgroup"][format!("/sys/fs/cgroup{path}")][name],
            (false, _) => &kernel["cgroup"][format!("/sys/fs/cgroup/{controller}{path}")][name],
        };
        found.as_str().filter(|text| !text.starts_with('!'))
    }

    fn number(&self, snapshot: usize, controller: &str, path: &str, name: &str) -> Option<f64> {
        self.file(snapshot, controller, path, name)?
            .trim()
            .parse()
            .ok()
    }

    /// Returns a value of memory.stat; with v1, that of the whole subtree.
    fn memory_stat(&self, snapshot: usize, path: &str, v1: &str, v2: &str) -> Option<f64> {
        let stat = self.file(snapshot, "memory", path, "memory.stat")?;
        field(stat, if self.is_v2 { v2 } else { v1 })
    }

    fn memory_usage(&self, snapshot: usize, path: &str) -> Option<f64> {
        match (self.is_v2, path) {
            // The root lacks this file.
            (true, "") => {
                let stat = |name| self.memory_stat(snapshot, path, "", name);
                Some(stat("anon")? + stat("file")?)
            }
            (true, _) => self.number(snapshot, "memory", path, "memory.current"),
            (false, _) => self.number(snapshot, "memory", path, "memory.usage_in_bytes"),
        }
    }

    /// Returns a value from a cgroup's files.
    fn of_cgroup(&self, metric: &str, snapshot: usize, path: &str) -> Option<f64> {
        match metric {
            "cpu/usage" if self.is_v2 => {
                let stat = self.file(snapshot, "cpu", path, "cpu.stat")?;
                Some(field(stat, "usage_usec")? * 1000.0)
            }
            "cpu/usage" => self.number(snapshot, "cpuacct", path, "cpuacct.usage"),
            "memory/usage" => self.memory_usage(snapshot, path),
            "memory/working_set" => {
                let inactive =
                    self.memory_stat(snapshot, path, "total_inactive_file", "inactive_file")?;
                Some((self.memory_usage(snapshot, path)? - inactive).max(0.0))
            }
            "memory/rss" => self.memory_stat(snapshot, path, "total_rss", "anon"),
            "memory/cache" => self.memory_stat(snapshot, path, "total_cache", "file"),
            "memory/page_faults" => self.memory_stat(snapshot, path, "total_pgfault", "pgfault"),
            "memory/major_page_faults" => {
                self.memory_stat(snapshot, path, "total_pgmajfault", "pgmajfault")
            }
            _ => None,
        }
    }

    /// Returns bytes by device; v1 did not count them.
    fn of_disks(&self, key: &str, snapshot: usize, path: &str) -> Vec<(String, f64)> {
        let stat = if self.is_v2 {
            self.file(snapshot, "io", path, "io.stat")
        } else {
            None
        };
        let lines = stat.unwrap_or_default().lines();
        let device = |line: &str| {
            let mut words = line.split(' ');
            let name = match words.next()? {
                "254:0" => "/dev/vda",
                "254:16" => "/dev/vdb",
                _ => return None,
            };
            let bytes =
                words.find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok())?;
            Some((name.to_owned(), bytes))
        };
        lines.filter_map(device).collect()
    }

    /// Sums a column of net/dev over the relevant interfaces.
    fn of_net_dev(text: &str, column: usize, counts: impl Fn(&str) -> bool) -> f64 {
        let lines = text.lines().skip(2).filter_map(|line| line.split_once(':'));
        lines
            .filter(|(name, _)| counts(name.trim()))
            .filter_map(|(_, numbers)| numbers.split_whitespace().nth(column)?.parse::<f64>().ok())
            .sum()
    }

    /// Returns the values of a metric for one kind of object.
    pub(super) fn values(&self, metric: &str, object: Object) -> Expected {
        if metric == "cpu/usage_rate" {
            return self.rates("cpu/usage", object, 1e-6);
        }
        if let Some(counter) = metric.strip_suffix("_rate") {
            return self.rates(counter, object, 1.0);
        }
        self.at(metric, object, 1)
    }

    /// Returns a counter's increase between the snapshots; `None` if it is not in both, or was reset.
    fn rates(&self, counter: &str, object: Object, factor: f64) -> Expected {
        let before = self.at(counter, object, 0);
        let now = self.at(counter, object, 1);
        // Prometheus extrapolates to the range's start, or by half the distance of samples if that is too far.
        let range_seconds = if counter.starts_with("disk/") {
            120.0
        } else {
            60.0
        };
        let covered_seconds = match range_seconds - self.apart_seconds {
            before if before < 1.1 * self.apart_seconds => range_seconds,
            _ => 1.5 * self.apart_seconds,
        };
        let factor = factor * covered_seconds / (range_seconds * self.apart_seconds);
        let rate = |(key, now): (Vec<String>, f64)| {
            let moved = now - before.get(&key)?;
            // If a counter started shortly before, less is extrapolated.
            let sure = moved == 0.0 || before[&key] > 4.0 * moved;
            (moved >= 0.0 && sure).then_some((key, moved * factor))
        };
        now.into_iter().filter_map(rate).collect()
    }

    fn at(&self, metric: &str, object: Object, snapshot: usize) -> Expected {
        let (group, what) = metric.split_once('/').unwrap_or((metric, ""));
        match (group, what) {
            ("disk", "io_read_bytes") => self.disks("rbytes", object, snapshot),
            ("disk", "io_write_bytes") => self.disks("wbytes", object, snapshot),
            ("network", what) => self.network(what, object, snapshot),
            ("filesystem", what) => self.filesystems(what, object),
            ("ephemeral_storage", "usage") => self.ephemeral_storage(object),
            ("accelerator", "request") => self.accelerators(object),
            (resource, "request" | "limit") => self.asked_for(resource, what, object),
            (
                resource,
                "node_capacity" | "node_allocatable" | "node_utilization" | "node_reservation",
            ) => self.of_api_node(resource, what),
            ("uptime", _) => self.uptimes(object),
            ("restart_count", _) => self.restarts(object),
            ("cpu", "load") => {
                let load = text(&self.kernel[1]["host"]["loadavg"]);
                let load: f64 = load.split(' ').next().unwrap().parse().unwrap();
                self.of_node(Some(load * 1000.0))
            }
            _ => self.cgroups(metric, object, snapshot),
        }
    }

    fn of_node(&self, value: Option<f64>) -> Expected {
        value
            .map(|value| (vec![self.node.to_owned()], value))
            .into_iter()
            .collect()
    }

    fn places(&self, object: Object) -> &[CgroupOwner] {
        match object {
            Object::PodContainer => &self.containers,
            _ => &self.pod_places,
        }
    }

    fn cgroups(&self, metric: &str, object: Object, snapshot: usize) -> Expected {
        let value = |path: &str| self.of_cgroup(metric, snapshot, path);
        match object {
            // The root of v1 was not recorded.
            Object::Node if !self.is_v2 => Expected::new(),
            Object::Node => self.of_node(value("")),
            Object::SystemContainer => {
                let path = if self.is_v2 {
                    "/kubepods.slice"
                } else {
                    "/kubepods"
                };
                let key = vec![self.node.to_owned(), "pods".to_owned()];
                value(path).map(|value| (key, value)).into_iter().collect()
            }
            Object::Pod | Object::PodContainer => {
                let places = self.places(object).iter();
                places
                    .filter_map(|one| Some((one.labels.clone(), value(&one.path)?)))
                    .collect()
            }
            Object::Namespace => summed(self.cgroups(metric, Object::Pod, snapshot), 1),
            Object::Cluster => summed(self.cgroups(metric, Object::Pod, snapshot), 0),
        }
    }

    fn disks(&self, key: &str, object: Object, snapshot: usize) -> Expected {
        let node = [CgroupOwner {
            labels: vec![self.node.to_owned()],
            path: String::new(),
        }];
        let places = if object == Object::Node {
            &node
        } else {
            self.places(object)
        };
        let of = |place: &CgroupOwner| {
            let found = self.of_disks(key, snapshot, &place.path).into_iter();
            let labels = place.labels.clone();
            found.map(move |(device, bytes)| {
                let mut key = labels.clone();
                key.push(device);
                (key, bytes)
            })
        };
        places.iter().flat_map(of).collect()
    }

    fn network(&self, what: &str, object: Object, snapshot: usize) -> Expected {
        let column = match what {
            "rx" => 0,
            "rx_errors" => 2,
            "tx" => 8,
            "tx_errors" => 10,
            other => panic!("{other}"),
        };
        let kernel = &self.kernel[snapshot];
        if object == Object::Node {
            let of_pods = ["veth", "docker", "cni", "cali", "flannel", "br-"];
            let counts =
                |name: &str| name != "lo" && !of_pods.iter().any(|of| name.starts_with(of));
            let text = text(&kernel["host"]["net/dev"]);
            return self.of_node(Some(Self::of_net_dev(&text, column, counts)));
        }
        let mut values = Expected::new();
        for place in &self.pod_places {
            let host_network = self.pod(&place.labels)["spec"]["hostNetwork"] == true;
            let name = place.path.rsplit('/').next().unwrap();
            if host_network {
                continue;
            }
            let processes = kernel["proc"].as_object().unwrap().values();
            let inside = processes.filter(|files| text(&files["cgroup"]).contains(name));
            let mut found = inside.map(|files| {
                Self::of_net_dev(&text(&files["net/dev"]), column, |name| name != "lo")
            });
            // Its processes were recorded one after the other, so the result must not depend on which one is read.
            if let Some(value) = found
                .next()
                .filter(|first| found.all(|other| other == *first))
            {
                values.insert(place.labels.clone(), value);
            }
        }
        values
    }

    fn pod(&self, labels: &[String]) -> &Value {
        let named = |pod: &&Value| {
            pod["metadata"]["namespace"] == *labels[0] && pod["metadata"]["name"] == *labels[1]
        };
        self.pods.iter().find(named).unwrap()
    }

    /// Returns the entries of the kubelet's summary: labels, and the JSON of a pod or container.
    fn summarised(&self, object: Object) -> Vec<(Vec<String>, &Value)> {
        let mut found = Vec::new();
        for pod in self.summary[1]["pods"].as_array().unwrap() {
            let labels = vec![
                text(&pod["podRef"]["namespace"]),
                text(&pod["podRef"]["name"]),
            ];
            if object == Object::Pod {
                found.push((labels, pod));
                continue;
            }
            for container in pod["containers"].as_array().into_iter().flatten() {
                let mut labels = labels.clone();
                labels.push(text(&container["name"]));
                found.push((labels, container));
            }
        }
        found
    }

    fn filesystems(&self, what: &str, object: Object) -> Expected {
        let key = match what {
            "usage" => "usedBytes",
            "limit" => "capacityBytes",
            "available" => "availableBytes",
            "inodes" => "inodes",
            "inodes_free" => "inodesFree",
            other => panic!("{other}"),
        };
        let mut values = Expected::new();
        match object {
            Object::Node => {
                // The root file system is that of this machine.
                let value = root_filesystem(what);
                values.insert(vec![self.node.to_owned(), "/".to_owned()], value);
            }
            Object::PodContainer => {
                let parts = [("rootfs", "/"), ("logs", "logs")];
                // Only the size of logs is specific to the container.
                let parts = parts.iter().take(if what == "usage" { 2 } else { 1 });
                for (part, id) in parts {
                    for (mut labels, container) in self.summarised(object) {
                        labels.push((*id).to_owned());
                        let value = container[*part][key].as_f64();
                        values.extend(value.map(|value| (labels, value)));
                    }
                }
            }
            _ => {
                for (labels, pod) in self.summarised(Object::Pod) {
                    for volume in pod["volume"].as_array().into_iter().flatten() {
                        let mut labels = labels.clone();
                        labels.push(format!("Volume:{}", text(&volume["name"])));
                        values.extend(volume[key].as_f64().map(|value| (labels, value)));
                    }
                }
            }
        }
        values
    }

    fn ephemeral_storage(&self, object: Object) -> Expected {
        match object {
            Object::Node => self.of_node(self.summary[1]["node"]["fs"]["usedBytes"].as_f64()),
            Object::Pod => {
                let pods = self.summarised(object).into_iter();
                let used = |pod: &Value| pod["ephemeral-storage"]["usedBytes"].as_f64();
                pods.filter_map(|(labels, pod)| Some((labels, used(pod)?)))
                    .collect()
            }
            _ => {
                let containers = self.summarised(Object::PodContainer).into_iter();
                let used = |of: &Value| {
                    Some(of["rootfs"]["usedBytes"].as_f64()? + of["logs"]["usedBytes"].as_f64()?)
                };
                containers
                    .filter_map(|(labels, of)| Some((labels, used(of)?)))
                    .collect()
            }
        }
    }

    /// Returns the requests or limits of containers of pods that have not ended, without init containers, as
    /// kube-state-metrics does.
    fn asked_by(
        &self,
        section: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Vec<(Vec<String>, String, f64)> {
        let mut all = Vec::new();
        for pod in &self.pods {
            for container in pod["spec"]["containers"].as_array().unwrap() {
                let labels = vec![
                    text(&pod["metadata"]["namespace"]),
                    text(&pod["metadata"]["name"]),
                    text(&container["name"]),
                ];
                let amounts = container["resources"][section].as_object();
                for (name, amount) in amounts.into_iter().flatten() {
                    if wanted(name) {
                        all.push((labels.clone(), name.clone(), quantity(amount).unwrap()));
                    }
                }
            }
        }
        all
    }

    fn asked_for(&self, resource: &str, what: &str, object: Object) -> Expected {
        let section = if what == "request" {
            "requests"
        } else {
            "limits"
        };
        let kubernetes_name = resource.replace('_', "-");
        let factor = if resource == "cpu" { 1000.0 } else { 1.0 };
        let asked = self
            .asked_by(section, |name| name == kubernetes_name)
            .into_iter();
        let of_containers: Expected = asked
            .map(|(key, _, amount)| (key, amount * factor))
            .collect();
        match object {
            Object::PodContainer => of_containers,
            Object::Pod => summed(of_containers, 2),
            Object::Namespace => summed(of_containers, 1),
            Object::Cluster => summed(of_containers, 0),
            _ => self.of_node(summed(of_containers, 0).into_values().next()),
        }
    }

    fn accelerators(&self, object: Object) -> Expected {
        let ordinary = ["cpu", "memory", "ephemeral-storage"];
        let asked = self
            .asked_by("requests", |name| !ordinary.contains(&name))
            .into_iter();
        asked
            .map(|(mut key, name, amount)| {
                key.truncate(if object == Object::Pod { 2 } else { 3 });
                let name: String = name
                    .chars()
                    .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
                    .collect();
                key.push(name);
                (key, amount)
            })
            .collect()
    }

    fn of_api_node(&self, resource: &str, what: &str) -> Expected {
        let name = resource.replace('_', "-");
        let amount = |section: &str| quantity(&self.api_node["status"][section][&name]).unwrap();
        let factor = if resource == "cpu" { 1000.0 } else { 1.0 };
        let first = |values: Expected| values.into_values().next();
        let value = match what {
            "node_capacity" => Some(amount("capacity") * factor),
            "node_allocatable" => Some(amount("allocatable") * factor),
            "node_reservation" => first(self.asked_for(resource, "request", Object::Node))
                .map(|asked| asked / factor / amount("allocatable")),
            _ => {
                let used = match resource {
                    "cpu" => first(self.rates("cpu/usage", Object::Node, 1e-9)),
                    "memory" => first(self.cgroups("memory/usage", Object::Node, 1)),
                    _ => first(self.ephemeral_storage(Object::Node)),
                };
                used.map(|used| used / amount("allocatable"))
            }
        };
        self.of_node(value)
    }

    fn uptimes(&self, object: Object) -> Expected {
        let since = |time: &Value| Some(self.now_ms as f64 - seconds(time.as_str()?) * 1000.0);
        let mut values = Expected::new();
        match object {
            // The clock is that of this machine.
            Object::Node => {
                let booted = field(&text(&self.kernel[1]["host"]["stat"]), "btime").unwrap();
                let now = seconds("now");
                return self.of_node(Some((now - booted) * 1000.0));
            }
            Object::SystemContainer => {
                let key = vec![self.node.to_owned(), "pods".to_owned()];
                values.insert(key, self.now_ms as f64 - self.pods_made_seconds * 1000.0);
            }
            Object::Pod => {
                for place in &self.pod_places {
                    let uptime = since(&self.pod(&place.labels)["status"]["startTime"]);
                    values.extend(uptime.map(|uptime| (place.labels.clone(), uptime)));
                }
            }
            _ => {
                for place in &self.containers {
                    let pod = self.pod(&place.labels);
                    let named = |status: &&Value| status["name"] == *place.labels[2];
                    let status = statuses(pod).into_iter().find(named).unwrap();
                    let uptime = since(&status["state"]["running"]["startedAt"]);
                    values.extend(uptime.map(|uptime| (place.labels.clone(), uptime)));
                }
            }
        }
        values
    }

    fn restarts(&self, object: Object) -> Expected {
        let mut values = Expected::new();
        for pod in &self.pods {
            for status in pod["status"]["containerStatuses"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let key = vec![
                    text(&pod["metadata"]["namespace"]),
                    text(&pod["metadata"]["name"]),
                    text(&status["name"]),
                ];
                values.insert(key, status["restartCount"].as_f64().unwrap());
            }
        }
        if object == Object::Pod {
            summed(values, 2)
        } else {
            values
        }
    }
}

fn pods_made(recording: &Recording) -> f64 {
    let is_it = |labels: &Labels| {
        labels.metric_name() == Some("container_start_time_seconds")
            && matches!(labels.get("id"), Some("/kubepods" | "/kubepods.slice"))
    };
    let mut said = recording.cadvisor(2).into_iter();
    said.find(|(labels, _)| is_it(labels)).unwrap().1
}

/// Returns the statuses of all containers, including init containers.
pub(super) fn statuses(pod: &Value) -> Vec<&Value> {
    let lists = ["containerStatuses", "initContainerStatuses"];
    let lists = lists
        .iter()
        .filter_map(|name| pod["status"][name].as_array());
    lists.flatten().collect()
}

/// Sums values with the same first `labels` labels.
fn summed(values: Expected, labels: usize) -> Expected {
    let mut sums = Expected::new();
    for (mut key, value) in values {
        key.truncate(labels);
        *sums.entry(key).or_default() += value;
    }
    sums
}

/// Returns the output of `df` for the root.
fn root_filesystem(what: &str) -> f64 {
    let column = match what {
        "usage" => "used",
        "limit" => "size",
        "available" => "avail",
        "inodes" => "itotal",
        _ => "iavail",
    };
    let root = Path::new("/");
    let output = Command::new("df")
        .args(["-B1", &format!("--output={column}")])
        .arg(root)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().nth(1).unwrap().trim().parse().unwrap()
}
