//! The fields of Kubernetes pods that the agent reads. Parsing skips all others.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::Deserializer;

/// Answer of `/pods`.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub struct PodList {
    /// The pods; `null` on a node without any. Must be there, so that another JSON document (a `Status`) is not taken
    /// for an empty list.
    #[serde(deserialize_with = "null_is_default")]
    pub items: Vec<Pod>,
}

/// A pod.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Names, labels, owners.
    pub metadata: Metadata,
    /// Desired state.
    pub spec: PodSpec,
    /// Observed state.
    pub status: PodStatus,
}

/// `metadata`.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// UID; of a static pod its configuration's hash.
    pub uid: String,
    /// Labels.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// Owners.
    #[serde(deserialize_with = "null_is_default")]
    pub owner_references: Vec<OwnerReference>,
    /// Annotations.
    #[serde(deserialize_with = "null_is_default")]
    pub annotations: Annotations,
    /// Time of creation.
    pub creation_timestamp: Option<String>,
    /// Time of requested deletion.
    pub deletion_timestamp: Option<String>,
}

/// The annotations that are read.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Annotations {
    /// Where the kubelet got the pod: `api`, or `file` or `http` for a static pod.
    #[serde(rename = "kubernetes.io/config.source")]
    pub config_source: String,
    /// When the kubelet first saw the pod.
    #[serde(rename = "kubernetes.io/config.seen")]
    pub config_seen: Option<String>,
}

/// An owner.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct OwnerReference {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Whether the owner is the pod's controller.
    pub controller: bool,
}

/// `spec`.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// The node it runs on.
    pub node_name: String,
    /// Whether it has the node's network.
    pub host_network: bool,
    /// What happens when a container ends.
    pub restart_policy: String,
    /// Priority class.
    pub priority_class_name: String,
    /// Containers.
    #[serde(deserialize_with = "null_is_default")]
    pub containers: Vec<Container>,
    /// Init containers and sidecars.
    #[serde(deserialize_with = "null_is_default")]
    pub init_containers: Vec<Container>,
    /// Volumes.
    #[serde(deserialize_with = "null_is_default")]
    pub volumes: Vec<Volume>,
}

/// A container's specification.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Name.
    pub name: String,
    /// Image.
    pub image: String,
    /// Requests and limits.
    #[serde(deserialize_with = "null_is_default")]
    pub resources: Resources,
}

/// Requests and limits, by resource, in Kubernetes' notation.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Requests.
    #[serde(deserialize_with = "null_is_default")]
    pub requests: BTreeMap<String, String>,
    /// Limits.
    #[serde(deserialize_with = "null_is_default")]
    pub limits: BTreeMap<String, String>,
}

/// A volume.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Volume {
    /// Name in the pod.
    pub name: String,
    /// Claim that the volume is bound to.
    pub persistent_volume_claim: Option<ClaimSource>,
}

/// A volume's claim.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClaimSource {
    /// Name of the claim.
    pub claim_name: String,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

/// `status`.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// Pending, Running, Succeeded, Failed or Unknown.
    pub phase: String,
    /// Guaranteed, Burstable or BestEffort.
    pub qos_class: String,
    /// Why it is in its phase.
    pub reason: String,
    /// Address of the node.
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    /// Address of the pod.
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    /// Proposed, InProgress, Deferred or Infeasible: resize status of kubelets before 1.33.
    pub resize: String,
    /// When the kubelet accepted the pod.
    pub start_time: Option<String>,
    /// Conditions.
    #[serde(deserialize_with = "null_is_default")]
    pub conditions: Vec<Condition>,
    /// Containers.
    #[serde(deserialize_with = "null_is_default")]
    pub container_statuses: Vec<ContainerStatus>,
    /// Init containers and sidecars.
    #[serde(deserialize_with = "null_is_default")]
    pub init_container_statuses: Vec<ContainerStatus>,
    /// Containers added for debugging.
    #[serde(deserialize_with = "null_is_default")]
    pub ephemeral_container_statuses: Vec<ContainerStatus>,
}

/// A condition.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// Ready, PodScheduled, PodResizePending, ...
    #[serde(rename = "type")]
    pub condition_type: String,
    /// True, False or Unknown.
    pub status: String,
    /// Why.
    pub reason: String,
}

/// A container's status.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Name.
    pub name: String,
    /// `<runtime>://<ID>`, empty before it was made.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// Image as the runtime resolved it.
    pub image: String,
    /// Image by digest.
    #[serde(rename = "imageID")]
    pub image_id: String,
    /// Whether it passes its readiness probe.
    pub ready: bool,
    /// Restarts.
    pub restart_count: u64,
    /// Current state.
    #[serde(deserialize_with = "null_is_default")]
    pub state: ContainerState,
    /// Previous state.
    #[serde(deserialize_with = "null_is_default")]
    pub last_state: ContainerState,
    /// Requests and limits in force, which a resize in place changes.
    pub resources: Option<Resources>,
}

/// One of three states.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// Waiting.
    pub waiting: Option<Reason>,
    /// Running.
    pub running: Option<Running>,
    /// Terminated.
    pub terminated: Option<Terminated>,
}

/// Why a container waits.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Reason {
    /// ContainerCreating, CrashLoopBackOff, ...
    pub reason: String,
}

/// Since when a container runs.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Running {
    /// RFC 3339.
    pub started_at: Option<String>,
}

/// How a container ended.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Terminated {
    /// OOMKilled, Error, Completed, ...
    pub reason: String,
    /// Exit code.
    pub exit_code: i64,
    /// Its ID.
    #[serde(rename = "containerID")]
    pub container_id: String,
}

impl Metadata {
    /// Whether the kubelet has the pod from a file or a server of its own, not from the API server.
    #[must_use]
    pub fn is_static(&self) -> bool {
        !matches!(&*self.annotations.config_source, "" | "api")
    }
}

impl ContainerState {
    /// Since when the container runs, as RFC 3339.
    #[must_use]
    pub fn started_at(&self) -> Option<&str> {
        self.running.as_ref()?.started_at.as_deref()
    }
}

impl ContainerStatus {
    /// The container's ID without the runtime's name.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        bare_id(&self.container_id)
    }

    /// The ID of the container before the last restart.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        bare_id(&self.last_state.terminated.as_ref()?.container_id)
    }
}

fn bare_id(id: &str) -> Option<&str> {
    id.split_once("://")
        .map(|(_, id)| id)
        .filter(|id| !id.is_empty())
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
