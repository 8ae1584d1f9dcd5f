//! The table, in the order of Heapster's documentation.

use super::HeapsterKind::{Cumulative, Gauge};
use super::Object::{Cluster, Namespace, Node, Pod, PodContainer, SystemContainer};
use super::Provider::{Agent, ApiServer, Kubelet};
use super::{Derivation, HeapsterKind, HeapsterMetric, Object, Provider};

const fn by(object: Object, provider: Provider, expression: &'static str) -> Derivation {
    Derivation {
        object,
        provider,
        expression,
    }
}

const fn entry(
    name: &'static str,
    kind: HeapsterKind,
    unit: &'static str,
    derivations: &'static [Derivation],
    note: &'static str,
) -> HeapsterMetric {
    HeapsterMetric {
        name,
        kind,
        unit,
        is_labelled: false,
        derivations,
        note,
    }
}

const fn labelled(
    name: &'static str,
    kind: HeapsterKind,
    unit: &'static str,
    derivations: &'static [Derivation],
    note: &'static str,
) -> HeapsterMetric {
    HeapsterMetric {
        name,
        kind,
        unit,
        is_labelled: true,
        derivations,
        note,
    }
}

const UNSET: &str = "Absent where none is set, 0 in Heapster.";
const NODE_FS: &str = "Size and inodes of a container are those of the underlying disk.";
const ACCELERATOR: &str =
    "Kubelets have reported no accelerators since 1.20; device exporters such as DCGM do.";

/// Every metric of Heapster 1.6.
pub const ENTRIES: &[HeapsterMetric] = &[
    entry(
        "uptime",
        Cumulative,
        "milliseconds",
        &[
            by(
                Node,
                Agent,
                "(max by (node) (node_time_seconds) - max by (node) (node_boot_time_seconds)) * 1000",
            ),
            by(
                SystemContainer,
                Agent,
                of!(
                    "max",
                    system,
                    "1000 * (time() - ",
                    "container_start_time_seconds",
                    "",
                    ")"
                ),
            ),
            by(
                Pod,
                Kubelet,
                "(time() - max by (namespace, pod) (kube_pod_start_time)) * 1000",
            ),
            by(
                PodContainer,
                Agent,
                "(time() - max by (namespace, pod, container) (container_start_time_seconds{container!=\"\"})) * 1000",
            ),
        ],
        "",
    ),
    entry(
        "restart_count",
        Cumulative,
        "count",
        &[
            by(
                Pod,
                Kubelet,
                "sum by (namespace, pod) (kube_pod_container_status_restarts_total)",
            ),
            by(
                PodContainer,
                Kubelet,
                "sum by (namespace, pod, container) (kube_pod_container_status_restarts_total)",
            ),
        ],
        "",
    ),
    entry(
        "cpu/usage",
        Cumulative,
        "nanoseconds",
        cgroup!("1e9 * ", "container_cpu_usage_seconds_total", "", ""),
        "",
    ),
    entry(
        "cpu/usage_rate",
        Gauge,
        "millicores",
        cgroup_summed!("1000 * rate(", "container_cpu_usage_seconds_total", "[1m])"),
        "Not rounded to whole millicores.",
    ),
    entry(
        "cpu/load",
        Gauge,
        "milliloads",
        &[by(Node, Agent, "sum by (node) (node_load1) * 1000")],
        "The kernel counts runnable tasks of cgroups no more; pressure tells more (container_pressure_cpu_waiting_seconds_total).",
    ),
    entry(
        "cpu/request",
        Gauge,
        "millicores",
        resource!("kube_pod_container_resource_requests", "cpu", " * 1000"),
        UNSET,
    ),
    entry(
        "cpu/limit",
        Gauge,
        "millicores",
        resource!("kube_pod_container_resource_limits", "cpu", " * 1000"),
        UNSET,
    ),
    entry(
        "cpu/node_capacity",
        Gauge,
        "millicores",
        of_node!("kube_node_status_capacity", "cpu", " * 1000"),
        "",
    ),
    entry(
        "cpu/node_allocatable",
        Gauge,
        "millicores",
        of_node!("kube_node_status_allocatable", "cpu", " * 1000"),
        "",
    ),
    entry(
        "cpu/node_utilization",
        Gauge,
        "ratio",
        &[by(
            Node,
            ApiServer,
            "sum by (node) (rate(container_cpu_usage_seconds_total{id=\"/\"}[1m])) / sum by (node) (kube_node_status_allocatable{resource=\"cpu\"})",
        )],
        "",
    ),
    entry(
        "cpu/node_reservation",
        Gauge,
        "ratio",
        &[by(
            Node,
            ApiServer,
            "sum by (node) (kube_pod_container_resource_requests{resource=\"cpu\"}) / sum by (node) (kube_node_status_allocatable{resource=\"cpu\"})",
        )],
        "",
    ),
    entry(
        "memory/usage",
        Gauge,
        "bytes",
        cgroup_summed!("", "container_memory_usage_bytes", ""),
        "Includes page cache, as in Heapster.",
    ),
    entry(
        "memory/working_set",
        Gauge,
        "bytes",
        cgroup!("container_memory_working_set_bytes"),
        "",
    ),
    entry(
        "memory/rss",
        Gauge,
        "bytes",
        cgroup!("container_memory_rss"),
        "",
    ),
    entry(
        "memory/cache",
        Gauge,
        "bytes",
        cgroup!("container_memory_cache"),
        "Heapster no longer had it after it moved to the Summary API.",
    ),
    entry(
        "memory/page_faults",
        Cumulative,
        "count",
        cgroup!(
            "",
            "container_memory_failures_total",
            ",failure_type=\"pgfault\",scope=\"hierarchy\"",
            ""
        ),
        "",
    ),
    entry(
        "memory/major_page_faults",
        Cumulative,
        "count",
        cgroup!(
            "",
            "container_memory_failures_total",
            ",failure_type=\"pgmajfault\",scope=\"hierarchy\"",
            ""
        ),
        "",
    ),
    entry(
        "memory/page_faults_rate",
        Gauge,
        "1/second",
        cgroup!(
            "rate(",
            "container_memory_failures_total",
            ",failure_type=\"pgfault\",scope=\"hierarchy\"",
            "[1m])"
        ),
        "",
    ),
    entry(
        "memory/major_page_faults_rate",
        Gauge,
        "1/second",
        cgroup!(
            "rate(",
            "container_memory_failures_total",
            ",failure_type=\"pgmajfault\",scope=\"hierarchy\"",
            "[1m])"
        ),
        "",
    ),
    entry(
        "memory/request",
        Gauge,
        "bytes",
        resource!("kube_pod_container_resource_requests", "memory", ""),
        UNSET,
    ),
    entry(
        "memory/limit",
        Gauge,
        "bytes",
        resource!("kube_pod_container_resource_limits", "memory", ""),
        UNSET,
    ),
    entry(
        "memory/node_capacity",
        Gauge,
        "bytes",
        of_node!("kube_node_status_capacity", "memory", ""),
        "",
    ),
    entry(
        "memory/node_allocatable",
        Gauge,
        "bytes",
        of_node!("kube_node_status_allocatable", "memory", ""),
        "",
    ),
    entry(
        "memory/node_utilization",
        Gauge,
        "ratio",
        &[by(
            Node,
            ApiServer,
            "sum by (node) (container_memory_usage_bytes{id=\"/\"}) / sum by (node) (kube_node_status_allocatable{resource=\"memory\"})",
        )],
        "",
    ),
    entry(
        "memory/node_reservation",
        Gauge,
        "ratio",
        &[by(
            Node,
            ApiServer,
            "sum by (node) (kube_pod_container_resource_requests{resource=\"memory\"}) / sum by (node) (kube_node_status_allocatable{resource=\"memory\"})",
        )],
        "",
    ),
    entry(
        "ephemeral_storage/usage",
        Gauge,
        "bytes",
        &[
            by(
                Node,
                Kubelet,
                "sum by (node) (kubelet_node_fs_used_bytes{filesystem=\"node\"})",
            ),
            by(
                Pod,
                Kubelet,
                "sum by (namespace, pod) (kubelet_pod_ephemeral_storage_used_bytes)",
            ),
            by(
                PodContainer,
                Kubelet,
                "sum by (namespace, pod, container) (container_fs_usage_bytes{container!=\"\"}) + sum by (namespace, pod, container) (kubelet_container_log_filesystem_used_bytes)",
            ),
        ],
        "",
    ),
    entry(
        "ephemeral_storage/request",
        Gauge,
        "bytes",
        resource!(
            "kube_pod_container_resource_requests",
            "ephemeral_storage",
            ""
        ),
        UNSET,
    ),
    entry(
        "ephemeral_storage/limit",
        Gauge,
        "bytes",
        resource!(
            "kube_pod_container_resource_limits",
            "ephemeral_storage",
            ""
        ),
        UNSET,
    ),
    entry(
        "ephemeral_storage/node_capacity",
        Gauge,
        "bytes",
        of_node!("kube_node_status_capacity", "ephemeral_storage", ""),
        "",
    ),
    entry(
        "ephemeral_storage/node_allocatable",
        Gauge,
        "bytes",
        of_node!("kube_node_status_allocatable", "ephemeral_storage", ""),
        "",
    ),
    entry(
        "ephemeral_storage/node_utilization",
        Gauge,
        "ratio",
        &[by(
            Node,
            ApiServer,
            "sum by (node) (kubelet_node_fs_used_bytes{filesystem=\"node\"}) / sum by (node) (kube_node_status_allocatable{resource=\"ephemeral_storage\"})",
        )],
        "",
    ),
    entry(
        "ephemeral_storage/node_reservation",
        Gauge,
        "ratio",
        &[by(
            Node,
            ApiServer,
            "sum by (node) (kube_pod_container_resource_requests{resource=\"ephemeral_storage\"}) / sum by (node) (kube_node_status_allocatable{resource=\"ephemeral_storage\"})",
        )],
        "",
    ),
    labelled(
        "accelerator/request",
        Gauge,
        "count",
        &[
            by(
                Pod,
                Kubelet,
                "label_replace(sum by (namespace, pod, resource) (kube_pod_container_resource_requests{resource!~\"cpu|memory|ephemeral_storage\"}), \"resource_id\", \"$1\", \"resource\", \"(.*)\")",
            ),
            by(
                PodContainer,
                Kubelet,
                "label_replace(sum by (namespace, pod, container, resource) (kube_pod_container_resource_requests{resource!~\"cpu|memory|ephemeral_storage\"}), \"resource_id\", \"$1\", \"resource\", \"(.*)\")",
            ),
        ],
        "Heapster's `<resource>/request` for resources other than the three above.",
    ),
    entry(
        "network/rx",
        Cumulative,
        "bytes",
        network!(
            "",
            "container_network_receive_bytes_total",
            "node_network_receive_bytes_total",
            ""
        ),
        "All interfaces. Heapster counted the default one only.",
    ),
    entry(
        "network/tx",
        Cumulative,
        "bytes",
        network!(
            "",
            "container_network_transmit_bytes_total",
            "node_network_transmit_bytes_total",
            ""
        ),
        "All interfaces.",
    ),
    entry(
        "network/rx_errors",
        Cumulative,
        "count",
        network!(
            "",
            "container_network_receive_errors_total",
            "node_network_receive_errs_total",
            ""
        ),
        "",
    ),
    entry(
        "network/tx_errors",
        Cumulative,
        "count",
        network!(
            "",
            "container_network_transmit_errors_total",
            "node_network_transmit_errs_total",
            ""
        ),
        "",
    ),
    entry(
        "network/rx_rate",
        Gauge,
        "bytes/second",
        network!(
            "rate(",
            "container_network_receive_bytes_total",
            "node_network_receive_bytes_total",
            "[1m])"
        ),
        "",
    ),
    entry(
        "network/tx_rate",
        Gauge,
        "bytes/second",
        network!(
            "rate(",
            "container_network_transmit_bytes_total",
            "node_network_transmit_bytes_total",
            "[1m])"
        ),
        "",
    ),
    entry(
        "network/rx_errors_rate",
        Gauge,
        "1/second",
        network!(
            "rate(",
            "container_network_receive_errors_total",
            "node_network_receive_errs_total",
            "[1m])"
        ),
        "",
    ),
    entry(
        "network/tx_errors_rate",
        Gauge,
        "1/second",
        network!(
            "rate(",
            "container_network_transmit_errors_total",
            "node_network_transmit_errs_total",
            "[1m])"
        ),
        "",
    ),
    labelled(
        "filesystem/usage",
        Gauge,
        "bytes",
        filesystem!(
            "node_filesystem_size_bytes{mountpoint=\"/\"} - node_filesystem_free_bytes{mountpoint=\"/\"}",
            "container_fs_usage_bytes",
            "kubelet_pod_volume_stats_used_bytes",
            by(
                PodContainer,
                Kubelet,
                "label_replace(sum by (namespace, pod, container) (kubelet_container_log_filesystem_used_bytes), \"resource_id\", \"logs\", \"\", \"\")",
            )
        ),
        "A container's writable layer and logs.",
    ),
    labelled(
        "filesystem/limit",
        Gauge,
        "bytes",
        filesystem!(
            "node_filesystem_size_bytes{mountpoint=\"/\"}",
            "container_fs_limit_bytes",
            "kubelet_pod_volume_stats_capacity_bytes"
        ),
        NODE_FS,
    ),
    labelled(
        "filesystem/available",
        Gauge,
        "bytes",
        &[
            by(
                Node,
                Agent,
                "label_replace(sum by (node) (node_filesystem_avail_bytes{mountpoint=\"/\"}), \"resource_id\", \"/\", \"\", \"\")",
            ),
            by(
                Pod,
                Kubelet,
                "label_replace(sum by (namespace, pod, volume) (kubelet_pod_volume_stats_available_bytes), \"resource_id\", \"Volume:$1\", \"volume\", \"(.*)\")",
            ),
        ],
        "Heapster showed the node's value for containers.",
    ),
    labelled(
        "filesystem/inodes",
        Gauge,
        "count",
        filesystem!(
            "node_filesystem_files{mountpoint=\"/\"}",
            "container_fs_inodes_total",
            "kubelet_pod_volume_stats_inodes"
        ),
        NODE_FS,
    ),
    labelled(
        "filesystem/inodes_free",
        Gauge,
        "count",
        filesystem!(
            "node_filesystem_files_free{mountpoint=\"/\"}",
            "container_fs_inodes_free",
            "kubelet_pod_volume_stats_inodes_free"
        ),
        NODE_FS,
    ),
    labelled(
        "disk/io_read_bytes",
        Cumulative,
        "bytes",
        disk!("", "container_fs_reads_bytes_total", ""),
        "Heapster no longer had it after it moved to the Summary API.",
    ),
    labelled(
        "disk/io_write_bytes",
        Cumulative,
        "bytes",
        disk!("", "container_fs_writes_bytes_total", ""),
        "Heapster no longer had it after it moved to the Summary API.",
    ),
    labelled(
        "disk/io_read_bytes_rate",
        Gauge,
        "bytes/second",
        disk!("rate(", "container_fs_reads_bytes_total", "[2m])"),
        "",
    ),
    labelled(
        "disk/io_write_bytes_rate",
        Gauge,
        "bytes/second",
        disk!("rate(", "container_fs_writes_bytes_total", "[2m])"),
        "",
    ),
    labelled("accelerator/memory_total", Gauge, "bytes", &[], ACCELERATOR),
    labelled("accelerator/memory_used", Gauge, "bytes", &[], ACCELERATOR),
    labelled("accelerator/duty_cycle", Gauge, "percent", &[], ACCELERATOR),
];
