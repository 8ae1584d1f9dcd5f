//! File systems of containers, volumes and pods, from `/stats/summary`.

use std::collections::HashMap;

use super::Sink;
use crate::kube::summary::{ContainerStats, FsStats, PodStats, Summary};
use crate::schema::{FamilyDef, Target, gauge};

/// The kubelet's series of volumes that have a claim.
static CLAIM: [FamilyDef; 6] = [
    gauge(
        "kubelet_volume_stats_available_bytes",
        "Number of available bytes in the volume",
    ),
    gauge(
        "kubelet_volume_stats_capacity_bytes",
        "Capacity in bytes of the volume",
    ),
    gauge(
        "kubelet_volume_stats_used_bytes",
        "Number of used bytes in the volume",
    ),
    gauge(
        "kubelet_volume_stats_inodes_free",
        "Number of free inodes in the volume",
    ),
    gauge(
        "kubelet_volume_stats_inodes",
        "Maximum number of inodes in the volume",
    ),
    gauge(
        "kubelet_volume_stats_inodes_used",
        "Number of used inodes in the volume",
    ),
];
/// All volumes of pods, by their names in the pod. The kubelet has no series for volumes without a claim.
static VOLUME: [FamilyDef; 6] = [
    gauge(
        "kubelet_pod_volume_stats_available_bytes",
        "Number of available bytes in a pod's volume",
    ),
    gauge(
        "kubelet_pod_volume_stats_capacity_bytes",
        "Capacity in bytes of a pod's volume",
    ),
    gauge(
        "kubelet_pod_volume_stats_used_bytes",
        "Number of used bytes in a pod's volume",
    ),
    gauge(
        "kubelet_pod_volume_stats_inodes_free",
        "Number of free inodes in a pod's volume",
    ),
    gauge(
        "kubelet_pod_volume_stats_inodes",
        "Maximum number of inodes in a pod's volume",
    ),
    gauge(
        "kubelet_pod_volume_stats_inodes_used",
        "Number of used inodes in a pod's volume",
    ),
];
/// A container's writable layer. Size and inodes are those of the file system that it is on.
static ROOTFS: [Option<FamilyDef>; 6] = [
    None,
    Some(gauge(
        "container_fs_limit_bytes",
        "Number of bytes that can be consumed by the container on this filesystem.",
    )),
    Some(gauge(
        "container_fs_usage_bytes",
        "Number of bytes that are consumed by the container on this filesystem.",
    )),
    Some(gauge(
        "container_fs_inodes_free",
        "Number of available Inodes",
    )),
    Some(gauge("container_fs_inodes_total", "Number of Inodes")),
    None,
];
static LOGS: FamilyDef = gauge(
    "kubelet_container_log_filesystem_used_bytes",
    "Bytes used by the container's logs on the filesystem.",
);
static EPHEMERAL: FamilyDef = gauge(
    "kubelet_pod_ephemeral_storage_used_bytes",
    "Bytes of writable layers, logs and emptyDirs of a pod.",
);
static NODE_FS: [FamilyDef; 6] = [
    gauge(
        "kubelet_node_fs_available_bytes",
        "Bytes available on a file system that the kubelet watches.",
    ),
    gauge(
        "kubelet_node_fs_capacity_bytes",
        "Size of a file system that the kubelet watches.",
    ),
    gauge(
        "kubelet_node_fs_used_bytes",
        "Bytes used: of the node's file system all, of images and containers theirs.",
    ),
    gauge(
        "kubelet_node_fs_inodes_free",
        "Free inodes of a file system that the kubelet watches.",
    ),
    gauge(
        "kubelet_node_fs_inodes",
        "Inodes of a file system that the kubelet watches.",
    ),
    gauge(
        "kubelet_node_fs_inodes_used",
        "Used inodes: of the node's file system all, of images and containers theirs.",
    ),
];

/// In the order of the families above.
fn values(fs: &FsStats) -> [Option<f64>; 6] {
    [
        fs.available_bytes,
        fs.capacity_bytes,
        fs.used_bytes,
        fs.inodes_free,
        fs.inodes,
        fs.inodes_used,
    ]
    .map(|value| value.map(|value| value as f64))
}

/// Stores a summary.
pub(super) fn store(summary: &Summary, sink: &mut Sink<'_>) {
    let runtime = summary.node.runtime.as_ref();
    for (name, fs) in [
        ("node", summary.node.fs.as_ref()),
        (
            "images",
            runtime.and_then(|runtime| runtime.image_fs.as_ref()),
        ),
        (
            "containers",
            runtime.and_then(|runtime| runtime.container_fs.as_ref()),
        ),
    ] {
        if let Some(fs) = fs {
            store_all(&NODE_FS, fs, &[("filesystem", name)], sink);
        }
    }
    for pod in newest_by_name(&summary.pods, sink).into_values() {
        store_pod(pod, sink);
    }
}

/// Two pods may have the same name while one is replaced. The younger one counts.
fn newest_by_name<'a>(
    pods: &'a [PodStats],
    sink: &mut Sink<'_>,
) -> HashMap<(&'a str, &'a str), &'a PodStats> {
    let mut newest: HashMap<(&str, &str), (f64, &PodStats)> = HashMap::new();
    for pod in pods {
        let started = sink.time(pod.start_time.as_deref()).unwrap_or_default();
        let kept = newest
            .entry((&pod.pod_ref.namespace, &pod.pod_ref.name))
            .or_insert((started, pod));
        if started > kept.0 {
            *kept = (started, pod);
        }
    }
    let pods = newest.into_iter().map(|(name, (_, pod))| (name, pod));
    pods.collect()
}

fn store_pod(pod: &PodStats, sink: &mut Sink<'_>) {
    let id = [
        ("namespace", &*pod.pod_ref.namespace),
        ("pod", &*pod.pod_ref.name),
    ];
    for volume in &pod.volume {
        store_all(
            &VOLUME,
            &volume.fs,
            &[id[0], id[1], ("volume", &volume.name)],
            sink,
        );
        if let Some(claim) = &volume.pvc_ref {
            let labels = [
                ("namespace", &*claim.namespace),
                ("persistentvolumeclaim", &*claim.name),
            ];
            store_all(&CLAIM, &volume.fs, &labels, sink);
        }
    }
    let used = pod
        .ephemeral_storage
        .and_then(|fs| fs.used_bytes)
        .map(|used| used as f64);
    sink.set_some(Target::Kubelet, &EPHEMERAL, &id, used);
    for container in pod.containers.iter().flatten() {
        store_container(container, &id, sink);
    }
}

fn store_container(container: &ContainerStats, id: &[(&str, &str); 2], sink: &mut Sink<'_>) {
    let labels = [id[0], id[1], ("container", &*container.name)];
    if let Some(rootfs) = &container.rootfs {
        for (family, value) in ROOTFS.iter().zip(values(rootfs)) {
            if let Some(family) = family {
                sink.set_some(Target::Cadvisor, family, &labels, value);
            }
        }
    }
    let logs = container
        .logs
        .and_then(|fs| fs.used_bytes)
        .map(|used| used as f64);
    sink.set_some(Target::Kubelet, &LOGS, &labels, logs);
}

fn store_all(
    families: &'static [FamilyDef; 6],
    fs: &FsStats,
    labels: &[(&str, &str)],
    sink: &mut Sink<'_>,
) {
    for (family, value) in families.iter().zip(values(fs)) {
        sink.set_some(Target::Kubelet, family, labels, value);
    }
}
