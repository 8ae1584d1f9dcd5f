//! `kube_resourcequota`.

use serde::Deserialize;

use crate::kube::kind::Kind;
use crate::kube::object::{Meta, Object, Resources, or_default};
use crate::kube::series::{Describe, Description};

/// A resource quota.
pub type ResourceQuota = Object<Spec, Status>;

/// No field is used: the status repeats it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Spec {}

/// The enforced limits and their usage.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    #[serde(deserialize_with = "or_default")]
    hard: Resources,
    #[serde(deserialize_with = "or_default")]
    used: Resources,
}

impl Describe for ResourceQuota {
    const KIND: Kind = Kind::ResourceQuota;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn describe(&self, out: &mut Description<'_>) {
        let Meta {
            namespace, name, ..
        } = &self.metadata;
        let id = [("namespace", namespace.as_str()), ("resourcequota", name)];
        out.add_time(
            "kube_resourcequota_created",
            &id,
            self.metadata.creation_timestamp.as_deref(),
        );
        for (amounts, kind) in [(&self.status.hard, "hard"), (&self.status.used, "used")] {
            for (resource, amount) in amounts {
                // As written in the quota: `requests.cpu`, `count/jobs.batch`.
                let labels = [
                    id[0],
                    id[1],
                    ("resource", resource.as_str()),
                    ("type", kind),
                ];
                out.add_quantity("kube_resourcequota", &labels, amount);
            }
        }
    }
}
