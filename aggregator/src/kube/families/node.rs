//! `kube_node_*`.

use serde::Deserialize;

use crate::kube::kind::Kind;
use crate::kube::object::{Condition, Meta, Object, Resources, or_default};
use crate::kube::series::{Describe, Description};

/// A node.
pub type Node = Object<Spec, Status>;

/// The desired state.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
    #[serde(rename = "providerID")]
    provider_id: String,
    unschedulable: bool,
    #[serde(deserialize_with = "or_default")]
    taints: Vec<Taint>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Taint {
    key: String,
    value: String,
    effect: String,
}

/// The observed state.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    #[serde(deserialize_with = "or_default")]
    addresses: Vec<Address>,
    #[serde(deserialize_with = "or_default")]
    allocatable: Resources,
    #[serde(deserialize_with = "or_default")]
    capacity: Resources,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<Condition>,
    node_info: Info,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Address {
    address: String,
    #[serde(rename = "type")]
    address_type: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Info {
    container_runtime_version: String,
    kernel_version: String,
    kubelet_version: String,
    os_image: String,
    #[serde(rename = "systemUUID")]
    system_uuid: String,
}

impl Describe for Node {
    const KIND: Kind = Kind::Node;

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn describe(&self, out: &mut Description<'_>) {
        let id = [("node", self.metadata.name.as_str())];
        self.describe_info(out);
        out.add_time(
            "kube_node_created",
            &id,
            self.metadata.creation_timestamp.as_deref(),
        );
        let unschedulable = f64::from(u8::from(self.spec.unschedulable));
        out.add("kube_node_spec_unschedulable", &id, unschedulable);
        for role in self
            .metadata
            .labels
            .keys()
            .filter_map(|label| label.strip_prefix("node-role.kubernetes.io/"))
        {
            out.add("kube_node_role", &[id[0], ("role", role)], 1.0);
        }
        for Taint { key, value, effect } in &self.spec.taints {
            let taint = [
                id[0],
                ("key", key.as_str()),
                ("value", value),
                ("effect", effect),
            ];
            out.add("kube_node_spec_taint", &taint, 1.0);
        }
        for Address {
            address,
            address_type,
        } in &self.status.addresses
        {
            let labels = [id[0], ("type", address_type.as_str()), ("address", address)];
            out.add("kube_node_status_addresses", &labels, 1.0);
        }
        for condition in &self.status.conditions {
            out.add_condition("kube_node_status_condition", &id, condition);
        }
        out.add_resources("kube_node_status_capacity", &id, &self.status.capacity);
        out.add_resources(
            "kube_node_status_allocatable",
            &id,
            &self.status.allocatable,
        );
    }
}

impl Node {
    fn describe_info(&self, out: &mut Description<'_>) {
        let info = &self.status.node_info;
        let mut addresses = self.status.addresses.iter();
        let internal_ip = addresses
            .rfind(|address| address.address_type == "InternalIP")
            .map_or("", |address| address.address.as_str());
        let labels = [
            ("node", self.metadata.name.as_str()),
            ("kernel_version", &info.kernel_version),
            ("os_image", &info.os_image),
            ("container_runtime_version", &info.container_runtime_version),
            ("kubelet_version", &info.kubelet_version),
            // Kubernetes no longer sets it; kube-state-metrics writes this value since 2.12.
            ("kubeproxy_version", "deprecated"),
            ("provider_id", &self.spec.provider_id),
            ("pod_cidr", &self.spec.pod_cidr),
            ("system_uuid", &info.system_uuid),
            ("internal_ip", internal_ip),
        ];
        out.add("kube_node_info", &labels, 1.0);
    }
}
