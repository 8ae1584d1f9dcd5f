//! `kube_persistentvolumeclaim_*`.

use serde::Deserialize;

use crate::kube::kind::Kind;
use crate::kube::object::{Meta, Object, Resources, or_default};
use crate::kube::series::{Describe, Description};

/// A persistent volume claim.
pub type PersistentVolumeClaim = Object<Spec, Status>;

/// The requested volume.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    #[serde(deserialize_with = "or_default")]
    access_modes: Vec<String>,
    resources: Requests,
    storage_class_name: Option<String>,
    volume_name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Requests {
    #[serde(deserialize_with = "or_default")]
    requests: Resources,
}

/// Its phase.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    phase: String,
}

const PHASES: [&str; 3] = ["Lost", "Bound", "Pending"];

impl Describe for PersistentVolumeClaim {
    const KIND: Kind = Kind::PersistentVolumeClaim;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn describe(&self, out: &mut Description<'_>) {
        let Meta {
            namespace, name, ..
        } = &self.metadata;
        let id = [
            ("namespace", namespace.as_str()),
            ("persistentvolumeclaim", name),
        ];
        let spec = &self.spec;
        let info = [
            id[0],
            id[1],
            (
                "storageclass",
                spec.storage_class_name.as_deref().unwrap_or("<none>"),
            ),
            ("volumename", &spec.volume_name),
        ];
        out.add("kube_persistentvolumeclaim_info", &info, 1.0);
        for mode in &spec.access_modes {
            let labels = [id[0], id[1], ("access_mode", mode.as_str())];
            out.add("kube_persistentvolumeclaim_access_mode", &labels, 1.0);
        }
        if let Some(size) = spec.resources.requests.get("storage") {
            let name = "kube_persistentvolumeclaim_resource_requests_storage_bytes";
            out.add_quantity(name, &id, size);
        }
        if !self.status.phase.is_empty() {
            let phases = ("phase", PHASES.as_slice());
            out.add_states(
                "kube_persistentvolumeclaim_status_phase",
                &id,
                phases,
                &self.status.phase,
            );
        }
    }
}
