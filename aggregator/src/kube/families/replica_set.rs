//! `kube_replicaset_*`.

use serde::Deserialize;

use crate::kube::kind::Kind;
use crate::kube::object::{Meta, Object};
use crate::kube::series::{Describe, Description};

/// A replica set.
pub type ReplicaSet = Object<Spec, Status>;

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
    observed_generation: i64,
    ready_replicas: i64,
    replicas: i64,
}

impl Describe for ReplicaSet {
    const KIND: Kind = Kind::ReplicaSet;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn describe(&self, out: &mut Description<'_>) {
        let Meta {
            namespace, name, ..
        } = &self.metadata;
        let id = [("namespace", namespace.as_str()), ("replicaset", name)];
        out.add_time(
            "kube_replicaset_created",
            &id,
            self.metadata.creation_timestamp.as_deref(),
        );
        out.add_some("kube_replicaset_spec_replicas", &id, self.spec.replicas);
        for (name, value) in [
            (
                "kube_replicaset_metadata_generation",
                self.metadata.generation,
            ),
            (
                "kube_replicaset_status_observed_generation",
                self.status.observed_generation,
            ),
            (
                "kube_replicaset_status_ready_replicas",
                self.status.ready_replicas,
            ),
            ("kube_replicaset_status_replicas", self.status.replicas),
        ] {
            out.add(name, &id, value as f64);
        }
        out.add_owners("kube_replicaset_owner", &id, &self.metadata);
    }
}
