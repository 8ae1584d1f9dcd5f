//! The file systems in `/stats/summary`. CPU and memory come from cgroups, because the kubelet's values are 10 to 30 s old.

use serde::Deserialize;

/// Answer of `/stats/summary`.
#[derive(Debug, Deserialize)]
pub struct Summary {
    /// The node. Required, so that another JSON document does not parse as an empty summary.
    pub node: NodeStats,
    /// Pods on the node.
    #[serde(default)]
    pub pods: Vec<PodStats>,
}

/// The node.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStats {
    /// File system of the kubelet.
    pub fs: Option<FsStats>,
    /// File systems of the container runtime.
    pub runtime: Option<RuntimeStats>,
}

/// File systems of the container runtime.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RuntimeStats {
    /// File system of images.
    pub image_fs: Option<FsStats>,
    /// File system of writable layers, if different.
    pub container_fs: Option<FsStats>,
}

/// One pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStats {
    /// Names of the pod.
    pub pod_ref: PodRef,
    /// Creation of the pod sandbox, which distinguishes two pods of the same name.
    pub start_time: Option<String>,
    /// Containers; `null` for a pod without any yet.
    pub containers: Option<Vec<ContainerStats>>,
    /// Volumes.
    pub volume: Vec<VolumeStats>,
    /// Sum of writable layers, logs and emptyDirs.
    #[serde(rename = "ephemeral-storage")]
    pub ephemeral_storage: Option<FsStats>,
}

/// Names of a pod.
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
    /// Claim that the volume is bound to.
    pub pvc_ref: Option<PvcRef>,
    /// Usage of the volume's file system.
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

/// Usage of a file system; each value may be missing.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FsStats {
    /// Bytes available.
    pub available_bytes: Option<u64>,
    /// Size in bytes.
    pub capacity_bytes: Option<u64>,
    /// Bytes in use.
    pub used_bytes: Option<u64>,
    /// Free inodes.
    pub inodes_free: Option<u64>,
    /// Total inodes.
    pub inodes: Option<u64>,
    /// Inodes in use.
    pub inodes_used: Option<u64>,
}
