//! The parts of `/stats/summary` that are read: file systems. CPU and memory come from cgroups, without the kubelet's
//! 10 to 30 s of age.

use serde::Deserialize;

/// The answer of `/stats/summary`.
#[derive(Debug, Deserialize)]
pub struct Summary {
    /// The node. Must be there, so that another JSON document is not taken for an empty summary.
    pub node: NodeStats,
    /// Its pods.
    #[serde(default)]
    pub pods: Vec<PodStats>,
}

/// The node.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStats {
    /// The kubelet's file system.
    pub fs: Option<FsStats>,
    /// The container runtime's.
    pub runtime: Option<RuntimeStats>,
}

/// The container runtime's file systems.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RuntimeStats {
    /// Of images.
    pub image_fs: Option<FsStats>,
    /// Of writable layers, where that is another one.
    pub container_fs: Option<FsStats>,
}

/// One pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStats {
    /// Which pod.
    pub pod_ref: PodRef,
    /// When its sandbox was made; tells two pods of one name apart.
    pub start_time: Option<String>,
    /// Its containers; `null` for a pod that has none yet.
    pub containers: Option<Vec<ContainerStats>>,
    /// Its volumes.
    pub volume: Vec<VolumeStats>,
    /// Writable layers, logs and emptyDirs together.
    #[serde(rename = "ephemeral-storage")]
    pub ephemeral_storage: Option<FsStats>,
}

/// A pod's names.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct PodRef {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// UID.
    pub uid: String,
}

/// One container.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerStats {
    /// Name in the pod.
    pub name: String,
    /// Writable layer.
    pub rootfs: Option<FsStats>,
    /// Logs.
    pub logs: Option<FsStats>,
}

/// One volume.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VolumeStats {
    /// Name in the pod.
    pub name: String,
    /// The claim behind it.
    pub pvc_ref: Option<PvcRef>,
    /// Numbers.
    #[serde(flatten)]
    pub fs: FsStats,
}

/// A claim.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PvcRef {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
}

/// Numbers of a file system; each may be missing.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FsStats {
    /// Bytes that can still be used.
    pub available_bytes: Option<u64>,
    /// Size in bytes.
    pub capacity_bytes: Option<u64>,
    /// Bytes in use.
    pub used_bytes: Option<u64>,
    /// Inodes that can still be used.
    pub inodes_free: Option<u64>,
    /// Inodes.
    pub inodes: Option<u64>,
    /// Inodes in use.
    pub inodes_used: Option<u64>,
}
