//! `kube_namespace_*`.

use serde::Deserialize;

use crate::kube::kind::Kind;
use crate::kube::object::{Meta, Object};
use crate::kube::series::{Describe, Description};

/// A namespace.
pub type Namespace = Object<Spec, Status>;

/// No field of the specification is used.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Spec {}

/// Its phase.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    phase: String,
}

impl Describe for Namespace {
    const KIND: Kind = Kind::Namespace;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn describe(&self, out: &mut Description<'_>) {
        let id = [("namespace", self.metadata.name.as_str())];
        out.add_time(
            "kube_namespace_created",
            &id,
            self.metadata.creation_timestamp.as_deref(),
        );
        let phases = ("phase", ["Active", "Terminating"].as_slice());
        out.add_states(
            "kube_namespace_status_phase",
            &id,
            phases,
            &self.status.phase,
        );
    }
}
