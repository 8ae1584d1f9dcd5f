//! Series about a pod as a whole, with kube-state-metrics' names and labels.

use super::{Sink, containers, flag};
use crate::kube::api::{Pod, PodStatus};
use crate::schema::{FamilyDef, Target, gauge, info};

static INFO: FamilyDef = info("kube_pod_info", "Information about pod.");
static OWNER: FamilyDef = info("kube_pod_owner", "Information about the Pod's owner.");
static LABELS: FamilyDef = info(
    "kube_pod_labels",
    "Kubernetes labels converted to Prometheus labels.",
);
static CREATED: FamilyDef = gauge("kube_pod_created", "Unix creation timestamp");
static START: FamilyDef = gauge(
    "kube_pod_start_time",
    "Start time in unix timestamp for a pod.",
);
static DELETION: FamilyDef = gauge("kube_pod_deletion_timestamp", "Unix deletion timestamp");
static PHASE: FamilyDef = gauge("kube_pod_status_phase", "The pods current phase.");
static READY: FamilyDef = gauge(
    "kube_pod_status_ready",
    "Describes whether the pod is ready to serve requests.",
);
static SCHEDULED: FamilyDef = gauge(
    "kube_pod_status_scheduled",
    "Describes the status of the scheduling process for the pod.",
);
static REASON: FamilyDef = gauge("kube_pod_status_reason", "The pod status reasons");
static QOS: FamilyDef = gauge("kube_pod_status_qos_class", "The pods current qosClass.");
static RESIZE: FamilyDef = gauge(
    "kube_pod_status_resize",
    "A resize of the pod's containers that is pending or in progress.",
);
static RESTART_POLICY: FamilyDef = info(
    "kube_pod_restart_policy",
    "Describes the restart policy in use by this pod.",
);
static CLAIM: FamilyDef = info(
    "kube_pod_spec_volumes_persistentvolumeclaims_info",
    "Information about persistentvolumeclaim volumes in a pod.",
);

const PHASES: [&str; 5] = ["Pending", "Succeeded", "Failed", "Unknown", "Running"];
/// The kind of a static pod's owner.
const NODE: &str = "Node";
const QOS_CLASSES: [&str; 3] = ["BestEffort", "Burstable", "Guaranteed"];

/// Stores a pod's series and those of its containers.
pub(super) fn store(pod: &Pod, node: &str, pod_labels: &[String], sink: &mut Sink<'_>) {
    let metadata = &pod.metadata;
    let node = match &*pod.spec.node_name {
        "" => node,
        named => named,
    };
    let id = [
        ("namespace", &*metadata.namespace),
        ("pod", &*metadata.name),
        ("uid", &*metadata.uid),
    ];
    store_facts(pod, node, pod_labels, &id, sink);
    store_owners(pod, node, &id, sink);
    store_status(pod, &id, sink);
    for volume in &pod.spec.volumes {
        if let Some(claim) = &volume.persistent_volume_claim {
            sink.state(
                &CLAIM,
                &[
                    &id[..],
                    &[
                        ("volume", &volume.name),
                        ("persistentvolumeclaim", &claim.claim_name),
                    ],
                ]
                .concat(),
            );
        }
    }
    containers::store(pod, node, &id, sink);
}

type Id<'a> = [(&'a str, &'a str); 3];

fn store_facts(pod: &Pod, node: &str, pod_labels: &[String], id: &Id<'_>, sink: &mut Sink<'_>) {
    let (spec, status) = (&pod.spec, &pod.status);
    let mut owners = pod.metadata.owner_references.iter();
    let (kind, name) = match owners.find(|owner| owner.controller) {
        Some(owner) => (&*owner.kind, &*owner.name),
        None if pod.metadata.is_static() => (NODE, node),
        None => ("", ""),
    };
    sink.state(
        &INFO,
        &[
            &id[..],
            &[
                ("host_ip", &status.host_ip),
                ("pod_ip", &status.pod_ip),
                ("node", node),
                ("created_by_kind", kind),
                ("created_by_name", name),
                ("priority_class", &spec.priority_class_name),
                (
                    "host_network",
                    if spec.host_network { "true" } else { "false" },
                ),
            ],
        ]
        .concat(),
    );
    sink.state(
        &RESTART_POLICY,
        &[&id[..], &[("type", &spec.restart_policy)]].concat(),
    );
    let labels: Vec<(String, &str)> = pod_labels
        .iter()
        .filter_map(|name| {
            Some((
                format!("label_{}", sanitize(name)),
                &**pod.metadata.labels.get(name)?,
            ))
        })
        .collect();
    if !labels.is_empty() {
        let mut all = id.to_vec();
        all.extend(labels.iter().map(|(name, value)| (&**name, *value)));
        sink.state(&LABELS, &all);
    }
    for (family, text) in [
        (&CREATED, &pod.metadata.creation_timestamp),
        (&DELETION, &pod.metadata.deletion_timestamp),
        (&START, &status.start_time),
    ] {
        let value = sink.time(text.as_deref());
        sink.set_some(Target::KubeState, family, id, value);
    }
    // Only the API server's mirror of a static pod has a creation timestamp: the whole second at which the kubelet saw
    // the pod.
    if pod.metadata.creation_timestamp.is_none() && pod.metadata.is_static() {
        let seen = sink.time(pod.metadata.annotations.config_seen.as_deref());
        sink.set_some(Target::KubeState, &CREATED, id, seen.map(f64::floor));
    }
}

/// kube-state-metrics has a row with empty labels for pods without an owner. A static pod's mirror in the API server
/// is owned by the node; the kubelet does not report the mirror.
fn store_owners(pod: &Pod, node: &str, id: &Id<'_>, sink: &mut Sink<'_>) {
    let owners = &pod.metadata.owner_references;
    if owners.is_empty() {
        let (kind, name, is_controller) = match pod.metadata.is_static() {
            true => (NODE, node, "true"),
            false => ("", "", ""),
        };
        let labels = [
            ("owner_kind", kind),
            ("owner_name", name),
            ("owner_is_controller", is_controller),
        ];
        sink.state(&OWNER, &[&id[..], &labels].concat());
    }
    for owner in owners {
        let labels = [
            ("owner_kind", &*owner.kind),
            ("owner_name", &*owner.name),
            (
                "owner_is_controller",
                if owner.controller { "true" } else { "false" },
            ),
        ];
        sink.state(&OWNER, &[&id[..], &labels].concat());
    }
}

fn store_status(pod: &Pod, id: &Id<'_>, sink: &mut Sink<'_>) {
    let status = &pod.status;
    let mut states = |family, label, known: &[&str], is: &str| {
        for state in known {
            sink.set(
                Target::KubeState,
                family,
                &[&id[..], &[(label, *state)]].concat(),
                flag(is == *state),
            );
        }
    };
    states(&PHASE, "phase", &PHASES, &status.phase);
    states(&QOS, "qos_class", &QOS_CLASSES, &status.qos_class);
    for condition in &status.conditions {
        let family = match &*condition.condition_type {
            "Ready" => &READY,
            "PodScheduled" => &SCHEDULED,
            _ => continue,
        };
        let is = condition.status.to_lowercase();
        states(family, "condition", &["true", "false", "unknown"], &is);
    }
    if !status.reason.is_empty() {
        sink.state(&REASON, &[&id[..], &[("reason", &status.reason)]].concat());
    }
    store_resize(status, id, sink);
}

/// Kubelets since 1.33 report a condition per state, earlier ones a single word, and both nothing without a resize.
fn store_resize(status: &PodStatus, id: &Id<'_>, sink: &mut Sink<'_>) {
    let mut set = |kind, reason, is_so| {
        let labels = [("status", kind), ("reason", reason)];
        let labels = [&id[..], &labels].concat();
        sink.set(Target::KubeState, &RESIZE, &labels, flag(is_so));
    };
    let mut has_condition = false;
    for condition in &status.conditions {
        let kind = match &*condition.condition_type {
            "PodResizePending" => "pending",
            "PodResizeInProgress" => "in_progress",
            _ => continue,
        };
        has_condition = true;
        set(kind, &condition.reason, condition.status == "True");
    }
    match &*status.resize {
        _ if has_condition => {}
        "" => {}
        "InProgress" => set("in_progress", "", true),
        // Proposed, Deferred, Infeasible: the reason why it has not begun.
        reason => set("pending", reason, true),
    }
}

/// A label name that Prometheus accepts: everything but letters, digits and underscores becomes an underscore.
fn sanitize(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}
