//! `kube_deployment_*`.

use serde::Deserialize;

use crate::kube::kind::Kind;
use crate::kube::object::{Condition, Meta, Object, or_default};
use crate::kube::series::{Describe, Description};

/// A deployment.
pub type Deployment = Object<Spec, Status>;

/// The desired state.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Spec {
    replicas: Option<i64>,
    paused: bool,
}

/// Pod counts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    available_replicas: i64,
    observed_generation: i64,
    ready_replicas: i64,
    replicas: i64,
    unavailable_replicas: i64,
    updated_replicas: i64,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<Condition>,
}

/// The reasons of the deployment controller. Any other becomes `unknown`, which bounds the label.
const REASONS: [&str; 11] = [
    "",
    "DeploymentPaused",
    "DeploymentResumed",
    "FoundNewReplicaSet",
    "MinimumReplicasAvailable",
    "MinimumReplicasUnavailable",
    "NewReplicaSetAvailable",
    "NewReplicaSetCreated",
    "ProgressDeadlineExceeded",
    "ReplicaSetCreateError",
    "ReplicaSetUpdated",
];

impl Describe for Deployment {
    const KIND: Kind = Kind::Deployment;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn describe(&self, out: &mut Description<'_>) {
        let Meta {
            namespace, name, ..
        } = &self.metadata;
        let id = [("namespace", namespace.as_str()), ("deployment", name)];
        let status = &self.status;
        out.add_time(
            "kube_deployment_created",
            &id,
            self.metadata.creation_timestamp.as_deref(),
        );
        out.add_some("kube_deployment_spec_replicas", &id, self.spec.replicas);
        for (name, value) in [
            (
                "kube_deployment_metadata_generation",
                self.metadata.generation,
            ),
            ("kube_deployment_spec_paused", i64::from(self.spec.paused)),
            (
                "kube_deployment_status_observed_generation",
                status.observed_generation,
            ),
            ("kube_deployment_status_replicas", status.replicas),
            (
                "kube_deployment_status_replicas_available",
                status.available_replicas,
            ),
            (
                "kube_deployment_status_replicas_ready",
                status.ready_replicas,
            ),
            (
                "kube_deployment_status_replicas_unavailable",
                status.unavailable_replicas,
            ),
            (
                "kube_deployment_status_replicas_updated",
                status.updated_replicas,
            ),
        ] {
            out.add(name, &id, value as f64);
        }
        for condition in &status.conditions {
            let known = REASONS.contains(&condition.reason.as_str());
            let reason = if known {
                condition.reason.as_str()
            } else {
                "unknown"
            };
            let labels = [id[0], id[1], ("reason", reason)];
            out.add_condition("kube_deployment_status_condition", &labels, condition);
        }
    }
}
