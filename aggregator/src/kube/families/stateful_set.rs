//! `kube_statefulset_*`.

use serde::Deserialize;

use crate::kube::kind::Kind;
use crate::kube::object::{Meta, Object};
use crate::kube::series::{Describe, Description};

/// A stateful set.
pub type StatefulSet = Object<Spec, Status>;

/// The desired state.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Spec {
    replicas: Option<i64>,
}

/// Pod counts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    available_replicas: i64,
    current_replicas: i64,
    current_revision: String,
    observed_generation: i64,
    ready_replicas: i64,
    replicas: i64,
    update_revision: String,
    updated_replicas: i64,
}

impl Describe for StatefulSet {
    const KIND: Kind = Kind::StatefulSet;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn describe(&self, out: &mut Description<'_>) {
        let Meta {
            namespace, name, ..
        } = &self.metadata;
        let id = [("namespace", namespace.as_str()), ("statefulset", name)];
        let status = &self.status;
        out.add_time(
            "kube_statefulset_created",
            &id,
            self.metadata.creation_timestamp.as_deref(),
        );
        out.add_some("kube_statefulset_replicas", &id, self.spec.replicas);
        for (name, value) in [
            (
                "kube_statefulset_metadata_generation",
                self.metadata.generation,
            ),
            (
                "kube_statefulset_status_observed_generation",
                status.observed_generation,
            ),
            ("kube_statefulset_status_replicas", status.replicas),
            (
                "kube_statefulset_status_replicas_available",
                status.available_replicas,
            ),
            (
                "kube_statefulset_status_replicas_current",
                status.current_replicas,
            ),
            (
                "kube_statefulset_status_replicas_ready",
                status.ready_replicas,
            ),
            (
                "kube_statefulset_status_replicas_updated",
                status.updated_replicas,
            ),
        ] {
            out.add(name, &id, value as f64);
        }
        for (name, revision) in [
            (
                "kube_statefulset_status_current_revision",
                &status.current_revision,
            ),
            (
                "kube_statefulset_status_update_revision",
                &status.update_revision,
            ),
        ] {
            out.add(name, &[id[0], id[1], ("revision", revision.as_str())], 1.0);
        }
    }
}
