//! `kube_pod_*` of pods that no kubelet has yet. The others' come from the agents, which ask their kubelet.

use serde::Deserialize;

use crate::kube::kind::Kind;
use crate::kube::object::{Condition, Meta, Object, Resources, or_default};
use crate::kube::series::{Describe, Description, STATUSES};

/// A pod without a node.
pub type Pod = Object<Spec, Status>;

/// The requested resources.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    #[serde(deserialize_with = "or_default")]
    containers: Vec<Container>,
    host_network: bool,
    node_name: String,
    priority_class_name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    image: String,
    resources: Bounds,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Bounds {
    #[serde(deserialize_with = "or_default")]
    limits: Resources,
    #[serde(deserialize_with = "or_default")]
    requests: Resources,
}

/// The observed state.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    phase: String,
    qos_class: String,
    reason: String,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<Condition>,
}

const PHASES: [&str; 5] = ["Pending", "Succeeded", "Failed", "Unknown", "Running"];
const QOS_CLASSES: [&str; 3] = ["BestEffort", "Burstable", "Guaranteed"];
const REASONS: [&str; 6] = [
    "Evicted",
    "NodeAffinity",
    "NodeLost",
    "Shutdown",
    "SchedulingGated",
    "UnexpectedAdmissionError",
];

impl Describe for Pod {
    const KIND: Kind = Kind::Pod;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn describe(&self, out: &mut Description<'_>) {
        if !self.spec.node_name.is_empty() {
            // Just scheduled: from now on the node's agent reports it.
            return;
        }
        let Meta {
            namespace,
            name,
            uid,
            ..
        } = &self.metadata;
        let id = [
            ("namespace", namespace.as_str()),
            ("pod", name),
            ("uid", uid),
        ];
        self.describe_info(&id, out);
        out.add_time(
            "kube_pod_created",
            &id,
            self.metadata.creation_timestamp.as_deref(),
        );
        out.add_owners("kube_pod_owner", &id, &self.metadata);
        self.describe_status(&id, out);
        for container in &self.spec.containers {
            let info = [
                id[0],
                id[1],
                id[2],
                ("container", &container.name),
                ("image_spec", &container.image),
            ];
            out.add("kube_pod_container_info", &info, 1.0);
            let bounds = &container.resources;
            out.add_resources(
                "kube_pod_container_resource_requests",
                &info[..4],
                &bounds.requests,
            );
            out.add_resources(
                "kube_pod_container_resource_limits",
                &info[..4],
                &bounds.limits,
            );
        }
    }
}

impl Pod {
    fn describe_info(&self, id: &[(&str, &str); 3], out: &mut Description<'_>) {
        let owner = self
            .metadata
            .owner_references
            .iter()
            .find(|owner| owner.controller);
        let (kind, name) = owner.map_or(("", ""), |owner| (&owner.kind, &owner.name));
        let own = [
            ("created_by_kind", kind),
            ("created_by_name", name),
            (
                "host_network",
                if self.spec.host_network {
                    "true"
                } else {
                    "false"
                },
            ),
            ("priority_class", &self.spec.priority_class_name),
        ];
        out.add("kube_pod_info", &[id.as_slice(), &own].concat(), 1.0);
    }

    fn describe_status(&self, id: &[(&str, &str)], out: &mut Description<'_>) {
        let status = &self.status;
        if !status.phase.is_empty() {
            out.add_states(
                "kube_pod_status_phase",
                id,
                ("phase", &PHASES),
                &status.phase,
            );
        }
        if !status.qos_class.is_empty() {
            let classes = ("qos_class", QOS_CLASSES.as_slice());
            out.add_states("kube_pod_status_qos_class", id, classes, &status.qos_class);
        }
        out.add_states(
            "kube_pod_status_reason",
            id,
            ("reason", &REASONS),
            &status.reason,
        );
        for condition in &status.conditions {
            let current = condition.status.to_ascii_lowercase();
            let statuses = ("condition", STATUSES.as_slice());
            match condition.condition_type.as_str() {
                "Ready" => out.add_states("kube_pod_status_ready", id, statuses, &current),
                "PodScheduled" => {
                    out.add_states("kube_pod_status_scheduled", id, statuses, &current);
                    if current == "false" && condition.reason == "Unschedulable" {
                        out.add("kube_pod_status_unschedulable", id, 1.0);
                    }
                }
                _ => {}
            }
        }
    }
}
