//! `kube_horizontalpodautoscaler_*`.

use serde::Deserialize;

use crate::kube::kind::Kind;
use crate::kube::object::{Condition, Meta, Object, or_default};
use crate::kube::series::{Describe, Description};

/// A horizontal pod autoscaler.
pub type HorizontalPodAutoscaler = Object<Spec, Status>;

/// The bounds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    max_replicas: i64,
    min_replicas: Option<i64>,
}

/// The observed state.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    current_replicas: i64,
    desired_replicas: i64,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<Condition>,
}

impl Describe for HorizontalPodAutoscaler {
    const KIND: Kind = Kind::HorizontalPodAutoscaler;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn describe(&self, out: &mut Description<'_>) {
        let Meta {
            namespace, name, ..
        } = &self.metadata;
        let id = [
            ("namespace", namespace.as_str()),
            ("horizontalpodautoscaler", name),
        ];
        for (name, value) in [
            (
                "kube_horizontalpodautoscaler_metadata_generation",
                self.metadata.generation,
            ),
            (
                "kube_horizontalpodautoscaler_spec_max_replicas",
                self.spec.max_replicas,
            ),
            // The API server's default.
            (
                "kube_horizontalpodautoscaler_spec_min_replicas",
                self.spec.min_replicas.unwrap_or(1),
            ),
            (
                "kube_horizontalpodautoscaler_status_current_replicas",
                self.status.current_replicas,
            ),
            (
                "kube_horizontalpodautoscaler_status_desired_replicas",
                self.status.desired_replicas,
            ),
        ] {
            out.add(name, &id, value as f64);
        }
        for condition in &self.status.conditions {
            out.add_condition(
                "kube_horizontalpodautoscaler_status_condition",
                &id,
                condition,
            );
        }
    }
}
