//! `kube_persistentvolume_*`.

use serde::Deserialize;

use crate::kube::kind::Kind;
use crate::kube::object::{Meta, Object, Resources, or_default};
use crate::kube::series::{Describe, Description};

/// A persistent volume.
pub type PersistentVolume = Object<Spec, Status>;

/// Its size and claim.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    #[serde(deserialize_with = "or_default")]
    capacity: Resources,
    claim_ref: Option<ClaimRef>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ClaimRef {
    name: String,
    namespace: String,
}

/// Its phase.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    phase: String,
}

const PHASES: [&str; 5] = ["Pending", "Available", "Bound", "Released", "Failed"];

impl Describe for PersistentVolume {
    const KIND: Kind = Kind::PersistentVolume;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn describe(&self, out: &mut Description<'_>) {
        let id = [("persistentvolume", self.metadata.name.as_str())];
        if let Some(size) = self.spec.capacity.get("storage") {
            out.add_quantity("kube_persistentvolume_capacity_bytes", &id, size);
        }
        if let Some(ClaimRef { name, namespace }) = &self.spec.claim_ref {
            let labels = [
                id[0],
                ("name", name.as_str()),
                ("claim_namespace", namespace),
            ];
            out.add("kube_persistentvolume_claim_ref", &labels, 1.0);
        }
        if !self.status.phase.is_empty() {
            let phases = ("phase", PHASES.as_slice());
            out.add_states(
                "kube_persistentvolume_status_phase",
                &id,
                phases,
                &self.status.phase,
            );
        }
    }
}
