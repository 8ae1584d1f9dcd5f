//! `kube_daemonset_*`.

use serde::Deserialize;

use crate::kube::kind::Kind;
use crate::kube::object::{Meta, Object};
use crate::kube::series::{Describe, Description};

/// A daemon set.
pub type DaemonSet = Object<Spec, Status>;

/// No field of the specification is used.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Spec {}

/// Node counts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    current_number_scheduled: i64,
    desired_number_scheduled: i64,
    number_available: i64,
    number_misscheduled: i64,
    number_ready: i64,
    number_unavailable: i64,
    observed_generation: i64,
    updated_number_scheduled: i64,
}

impl Describe for DaemonSet {
    const KIND: Kind = Kind::DaemonSet;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn describe(&self, out: &mut Description<'_>) {
        let Meta {
            namespace, name, ..
        } = &self.metadata;
        let id = [("namespace", namespace.as_str()), ("daemonset", name)];
        let status = &self.status;
        out.add_time(
            "kube_daemonset_created",
            &id,
            self.metadata.creation_timestamp.as_deref(),
        );
        for (name, value) in [
            (
                "kube_daemonset_metadata_generation",
                self.metadata.generation,
            ),
            (
                "kube_daemonset_status_current_number_scheduled",
                status.current_number_scheduled,
            ),
            (
                "kube_daemonset_status_desired_number_scheduled",
                status.desired_number_scheduled,
            ),
            (
                "kube_daemonset_status_number_available",
                status.number_available,
            ),
            (
                "kube_daemonset_status_number_misscheduled",
                status.number_misscheduled,
            ),
            ("kube_daemonset_status_number_ready", status.number_ready),
            (
                "kube_daemonset_status_number_unavailable",
                status.number_unavailable,
            ),
            (
                "kube_daemonset_status_observed_generation",
                status.observed_generation,
            ),
            (
                "kube_daemonset_status_updated_number_scheduled",
                status.updated_number_scheduled,
            ),
        ] {
            out.add(name, &id, value as f64);
        }
    }
}
