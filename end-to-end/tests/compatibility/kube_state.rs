//! Compares the `kube_*` series of the recorded nodes with those that kube-state-metrics derives from the recorded API
//! objects.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::evaluation::Cluster;
use super::oracle::{quantity, seconds, statuses, text};
use super::queries::fixtures;
use super::recording::{Recording, items};

/// Values by the values of a family's labels.
type Rows = BTreeMap<Vec<String>, f64>;

/// The families, and the labels that distinguish their series. Each series also has a UID, which only the API server knows
/// for a static pod.
const FAMILIES: [(&str, &str); 34] = [
    (
        "kube_pod_info",
        "namespace pod node host_ip pod_ip created_by_kind created_by_name host_network priority_class",
    ),
    (
        "kube_pod_owner",
        "namespace pod owner_kind owner_name owner_is_controller",
    ),
    ("kube_pod_start_time", "namespace pod"),
    ("kube_pod_status_phase", "namespace pod phase"),
    ("kube_pod_status_qos_class", "namespace pod qos_class"),
    ("kube_pod_status_ready", "namespace pod condition"),
    ("kube_pod_status_scheduled", "namespace pod condition"),
    ("kube_pod_status_unschedulable", "namespace pod"),
    ("kube_pod_restart_policy", "namespace pod type"),
    (
        "kube_pod_spec_volumes_persistentvolumeclaims_info",
        "namespace pod volume persistentvolumeclaim",
    ),
    (
        "kube_pod_container_info",
        "namespace pod container image_spec",
    ),
    (
        "kube_pod_container_resource_requests",
        "namespace pod container node resource unit",
    ),
    (
        "kube_pod_container_resource_limits",
        "namespace pod container node resource unit",
    ),
    (
        "kube_pod_container_state_started",
        "namespace pod container",
    ),
    ("kube_pod_container_status_ready", "namespace pod container"),
    (
        "kube_pod_container_status_restarts_total",
        "namespace pod container",
    ),
    (
        "kube_pod_container_status_running",
        "namespace pod container",
    ),
    (
        "kube_pod_container_status_waiting",
        "namespace pod container",
    ),
    (
        "kube_pod_container_status_waiting_reason",
        "namespace pod container reason",
    ),
    (
        "kube_pod_container_status_terminated",
        "namespace pod container",
    ),
    (
        "kube_pod_container_status_terminated_reason",
        "namespace pod container reason",
    ),
    (
        "kube_pod_container_status_last_terminated_reason",
        "namespace pod container reason",
    ),
    (
        "kube_pod_container_status_last_terminated_exitcode",
        "namespace pod container",
    ),
    (
        "kube_pod_init_container_status_restarts_total",
        "namespace pod container",
    ),
    (
        "kube_pod_init_container_status_terminated_reason",
        "namespace pod container reason",
    ),
    (
        "kube_replicaset_owner",
        "namespace replicaset owner_kind owner_name owner_is_controller",
    ),
    (
        "kube_job_owner",
        "namespace job_name owner_kind owner_name owner_is_controller",
    ),
    ("kube_namespace_status_phase", "namespace phase"),
    ("kube_node_created", "node"),
    (
        "kube_node_info",
        "node kernel_version os_image kubelet_version container_runtime_version internal_ip system_uuid",
    ),
    ("kube_node_spec_unschedulable", "node"),
    ("kube_node_status_allocatable", "node resource unit"),
    ("kube_node_status_capacity", "node resource unit"),
    ("kube_node_status_condition", "node condition status"),
];

/// Values of the API objects, by family.
#[derive(Debug, Default)]
struct Expected(BTreeMap<&'static str, Rows>);

impl Expected {
    fn add(&mut self, family: &'static str, labels: &[&str], value: f64) {
        let key = labels.iter().map(|label| (*label).to_owned()).collect();
        self.0.entry(family).or_default().insert(key, value);
    }

    fn add_some(&mut self, family: &'static str, labels: &[&str], value: Option<f64>) {
        if let Some(value) = value {
            self.add(family, labels, value);
        }
    }

    /// Adds a series for each state, with 1 for the current one.
    fn add_states(&mut self, family: &'static str, labels: &[&str], states: &[&str], is: &str) {
        for state in states {
            let value = f64::from(u8::from(*state == is));
            self.add(family, &[labels, &[state]].concat(), value);
        }
    }

    fn add_resources(&mut self, family: &'static str, labels: &[&str], amounts: &Value) {
        for (name, amount) in amounts.as_object().into_iter().flatten() {
            let unit = match name.as_str() {
                "cpu" => "core",
                "pods" => "integer",
                _ => "byte",
            };
            let name = name.replace('-', "_");
            self.add_some(family, &[labels, &[&name, unit]].concat(), quantity(amount));
        }
    }

    fn add_pod(&mut self, pod: &Value) {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        let (namespace, name) = (
            text(&pod["metadata"]["namespace"]),
            text(&pod["metadata"]["name"]),
        );
        let id = [&*namespace, &*name];
        let owner = &pod["metadata"]["ownerReferences"][0];
        let (kind, owner_name) = (text(&owner["kind"]), text(&owner["name"]));
        let is_controller = owner["controller"]
            .as_bool()
            .map_or("", |is| if is { "true" } else { "false" });
        self.add(
            "kube_pod_owner",
            &[id[0], id[1], &kind, &owner_name, is_controller],
            1.0,
        );
        let host_network = if spec["hostNetwork"] == true {
            "true"
        } else {
            "false"
        };
        let [node, host_ip, pod_ip, class] = [
            &spec["nodeName"],
            &status["hostIP"],
            &status["podIP"],
            &spec["priorityClassName"],
        ]
        .map(text);
        self.add(
            "kube_pod_info",
            &[
                id[0],
                id[1],
                &node,
                &host_ip,
                &pod_ip,
                &kind,
                &owner_name,
                host_network,
                &class,
            ],
            1.0,
        );
        self.add_states_of_pod(status, id);
        self.add_containers(spec, id);
        // No container of a pod without a node has started.
        if !node.is_empty() {
            self.add_started(pod, id);
        }
    }

    fn add_states_of_pod(&mut self, status: &Value, id: [&str; 2]) {
        let phases = ["Pending", "Running", "Succeeded", "Failed", "Unknown"];
        self.add_states(
            "kube_pod_status_phase",
            &id,
            &phases,
            &text(&status["phase"]),
        );
        let classes = ["BestEffort", "Burstable", "Guaranteed"];
        self.add_states(
            "kube_pod_status_qos_class",
            &id,
            &classes,
            &text(&status["qosClass"]),
        );
        for condition in status["conditions"].as_array().into_iter().flatten() {
            let family = match &*text(&condition["type"]) {
                "Ready" => "kube_pod_status_ready",
                "PodScheduled" => "kube_pod_status_scheduled",
                _ => continue,
            };
            let is = text(&condition["status"]).to_lowercase();
            self.add_states(family, &id, &["true", "false", "unknown"], &is);
            if condition["reason"] == "Unschedulable" {
                self.add("kube_pod_status_unschedulable", &id, 1.0);
            }
        }
    }

    fn add_containers(&mut self, spec: &Value, id: [&str; 2]) {
        let node = text(&spec["nodeName"]);
        for container in spec["containers"].as_array().unwrap() {
            let (name, image) = (text(&container["name"]), text(&container["image"]));
            self.add(
                "kube_pod_container_info",
                &[id[0], id[1], &name, &image],
                1.0,
            );
            let of = [id[0], id[1], &name, &node];
            let resources = &container["resources"];
            self.add_resources(
                "kube_pod_container_resource_requests",
                &of,
                &resources["requests"],
            );
            self.add_resources(
                "kube_pod_container_resource_limits",
                &of,
                &resources["limits"],
            );
        }
    }

    /// Adds the series that exist once a kubelet has the pod.
    fn add_started(&mut self, pod: &Value, id: [&str; 2]) {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        self.add(
            "kube_pod_restart_policy",
            &[id[0], id[1], &text(&spec["restartPolicy"])],
            1.0,
        );
        self.add_some(
            "kube_pod_start_time",
            &id,
            status["startTime"].as_str().map(seconds),
        );
        for volume in spec["volumes"].as_array().into_iter().flatten() {
            if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
                let labels = [id[0], id[1], &text(&volume["name"]), claim];
                self.add(
                    "kube_pod_spec_volumes_persistentvolumeclaims_info",
                    &labels,
                    1.0,
                );
            }
        }
        for status in status["initContainerStatuses"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let of = [id[0], id[1], &text(&status["name"])];
            self.add(
                "kube_pod_init_container_status_restarts_total",
                &of,
                status["restartCount"].as_f64().unwrap(),
            );
            if let Some(reason) = status["state"]["terminated"]["reason"].as_str() {
                self.add(
                    "kube_pod_init_container_status_terminated_reason",
                    &[of[0], of[1], of[2], reason],
                    1.0,
                );
            }
        }
        for status in status["containerStatuses"].as_array().into_iter().flatten() {
            self.add_status(status, &[id[0], id[1], &text(&status["name"])]);
        }
    }

    fn add_status(&mut self, status: &Value, of: &[&str; 3]) {
        let (state, last) = (&status["state"], &status["lastState"]["terminated"]);
        let flag = |is_so: bool| f64::from(u8::from(is_so));
        self.add(
            "kube_pod_container_status_ready",
            of,
            flag(status["ready"] == true),
        );
        self.add(
            "kube_pod_container_status_restarts_total",
            of,
            status["restartCount"].as_f64().unwrap(),
        );
        for (family, name) in [
            ("kube_pod_container_status_running", "running"),
            ("kube_pod_container_status_waiting", "waiting"),
            ("kube_pod_container_status_terminated", "terminated"),
        ] {
            self.add(family, of, flag(state[name].is_object()));
        }
        for (family, reason) in [
            (
                "kube_pod_container_status_waiting_reason",
                &state["waiting"]["reason"],
            ),
            (
                "kube_pod_container_status_terminated_reason",
                &state["terminated"]["reason"],
            ),
            (
                "kube_pod_container_status_last_terminated_reason",
                &last["reason"],
            ),
        ] {
            if let Some(reason) = reason.as_str() {
                self.add(family, &[of[0], of[1], of[2], reason], 1.0);
            }
        }
        self.add_some(
            "kube_pod_container_status_last_terminated_exitcode",
            of,
            last["exitCode"].as_f64(),
        );
        let started = state["running"]["startedAt"].as_str();
        self.add_some("kube_pod_container_state_started", of, started.map(seconds));
    }

    fn add_node(&mut self, node: &Value) {
        let name = text(&node["metadata"]["name"]);
        let (status, info) = (&node["status"], &node["status"]["nodeInfo"]);
        let internal = |address: &&Value| address["type"] == "InternalIP";
        let address = status["addresses"]
            .as_array()
            .unwrap()
            .iter()
            .find(internal)
            .unwrap();
        let [kernel, os, kubelet, runtime, uuid] = [
            "kernelVersion",
            "osImage",
            "kubeletVersion",
            "containerRuntimeVersion",
            "systemUUID",
        ]
        .map(|key| text(&info[key]));
        let labels = [
            &*name,
            &kernel,
            &os,
            &kubelet,
            &runtime,
            &text(&address["address"]),
            &uuid,
        ];
        self.add("kube_node_info", &labels, 1.0);
        self.add(
            "kube_node_created",
            &[&name],
            seconds(&text(&node["metadata"]["creationTimestamp"])),
        );
        let unschedulable = node["spec"]["unschedulable"] == true;
        self.add(
            "kube_node_spec_unschedulable",
            &[&name],
            f64::from(u8::from(unschedulable)),
        );
        self.add_resources("kube_node_status_capacity", &[&name], &status["capacity"]);
        self.add_resources(
            "kube_node_status_allocatable",
            &[&name],
            &status["allocatable"],
        );
        for condition in status["conditions"].as_array().unwrap() {
            let labels = [&*name, &text(&condition["type"])];
            let is = text(&condition["status"]).to_lowercase();
            self.add_states(
                "kube_node_status_condition",
                &labels,
                &["true", "false", "unknown"],
                &is,
            );
        }
    }

    /// Adds owners of pods and namespaces, which are derived from the pods.
    fn add_owners(&mut self, pods: &[Value]) {
        for pod in pods {
            let namespace = text(&pod["metadata"]["namespace"]);
            let phases = ["Active", "Terminating"];
            self.add_states(
                "kube_namespace_status_phase",
                &[&namespace],
                &phases,
                "Active",
            );
            let owner = &pod["metadata"]["ownerReferences"][0];
            let name = text(&owner["name"]);
            match &*text(&owner["kind"]) {
                "ReplicaSet" => {
                    let (deployment, _) = name.rsplit_once('-').unwrap();
                    let labels = [&*namespace, &name, "Deployment", deployment, "true"];
                    self.add("kube_replicaset_owner", &labels, 1.0);
                }
                "Job" => self.add("kube_job_owner", &[&namespace, &name, "", "", ""], 1.0),
                _ => {}
            }
        }
    }
}

/// Returns the pods of the API server with the statuses that their kubelet reported.
fn pods(recording: &Recording) -> Vec<Value> {
    let of_kubelet = items(recording.pods());
    let mut pods = items(recording.json("api-pods.json.gz"));
    // The agents of other nodes report the others.
    pods.retain(|pod| {
        pod["spec"]["nodeName"]
            .as_str()
            .is_none_or(|node| node == recording.node)
    });
    for pod in &mut pods {
        let same = |other: &&Value| {
            ["namespace", "name"]
                .iter()
                .all(|key| other["metadata"][key] == pod["metadata"][key])
        };
        if let Some(own) = of_kubelet.iter().find(same) {
            assert_eq!(statuses(own).len(), statuses(pod).len());
            pod["status"] = own["status"].clone();
        }
    }
    pods
}

fn rows(cluster: &Cluster, family: &str, labels: &str) -> Rows {
    let names: Vec<&str> = labels.split(' ').collect();
    let query = format!("{family}{{job=\"kube-state-metrics\"}}");
    let found = cluster.ask(&query, cluster.now_ms());
    let mut rows = Rows::new();
    for (series, value) in found {
        let key = names
            .iter()
            .map(|name| series.get(name).unwrap_or_default().to_owned());
        let before = rows.insert(key.collect(), value);
        assert_eq!(before, None, "{family}: two series are alike: {series}");
    }
    rows
}

#[test]
fn kube_series_are_those_of_the_recorded_objects() {
    let Some(fixtures) = fixtures() else {
        return;
    };
    let mut seen = BTreeSet::new();
    for recording in Recording::all(&fixtures) {
        let node = recording.node;
        let mut expected = Expected::default();
        let pods = pods(&recording);
        pods.iter().for_each(|pod| expected.add_pod(pod));
        expected.add_owners(&items(recording.json("api-pods.json.gz")));
        let nodes = items(recording.json("api-nodes.json.gz"));
        nodes.iter().for_each(|node| expected.add_node(node));
        let cluster = Cluster::new(recording);
        for (family, labels) in FAMILIES {
            let wanted = expected.0.remove(family).unwrap_or_default();
            let found = rows(&cluster, family, labels);
            assert_eq!(
                found, wanted,
                "{node}: {family} (left) and the objects (right)"
            );
            if !wanted.is_empty() {
                seen.insert(family);
            }
        }
        assert!(expected.0.is_empty(), "unexpected: {:?}", expected.0.keys());
    }
    let all = BTreeSet::from(FAMILIES.map(|(family, _)| family));
    assert_eq!(
        seen, all,
        "families without a single recorded series (right only)"
    );
}
