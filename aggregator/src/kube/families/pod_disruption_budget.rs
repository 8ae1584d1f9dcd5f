//! `kube_poddisruptionbudget_*`.

use serde::Deserialize;

use crate::kube::kind::Kind;
use crate::kube::object::{Meta, Object};
use crate::kube::series::{Describe, Description};

/// A pod disruption budget.
pub type PodDisruptionBudget = Object<Spec, Status>;

/// No field of the specification is used.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Spec {}

/// Pod counts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    current_healthy: i64,
    desired_healthy: i64,
    disruptions_allowed: i64,
    expected_pods: i64,
    observed_generation: i64,
}

impl Describe for PodDisruptionBudget {
    const KIND: Kind = Kind::PodDisruptionBudget;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn describe(&self, out: &mut Description<'_>) {
        let Meta {
            namespace, name, ..
        } = &self.metadata;
        let id = [
            ("namespace", namespace.as_str()),
            ("poddisruptionbudget", name),
        ];
        let status = &self.status;
        out.add_time(
            "kube_poddisruptionbudget_created",
            &id,
            self.metadata.creation_timestamp.as_deref(),
        );
        for (name, value) in [
            (
                "kube_poddisruptionbudget_status_current_healthy",
                status.current_healthy,
            ),
            (
                "kube_poddisruptionbudget_status_desired_healthy",
                status.desired_healthy,
            ),
            (
                "kube_poddisruptionbudget_status_expected_pods",
                status.expected_pods,
            ),
            (
                "kube_poddisruptionbudget_status_observed_generation",
                status.observed_generation,
            ),
            (
                "kube_poddisruptionbudget_status_pod_disruptions_allowed",
                status.disruptions_allowed,
            ),
        ] {
            out.add(name, &id, value as f64);
        }
    }
}
