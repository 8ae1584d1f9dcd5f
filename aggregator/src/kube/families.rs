//! The series of each kind, with the names, labels and values of kube-state-metrics 2.
//!
//! Source: kube-state-metrics' `internal/store`. Includes the families that the Heapster set, kubernetes-mixin's rules and
//! dashboards, and node-mixin select. Omits `*_labels` and `*_annotations`, which kube-state-metrics disables by default
//! too.

mod daemon_set;
mod deployment;
mod horizontal_pod_autoscaler;
mod job;
mod namespace;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_disruption_budget;
mod replica_set;
mod resource_quota;
mod stateful_set;

pub use daemon_set::DaemonSet;
pub use deployment::Deployment;
pub use horizontal_pod_autoscaler::HorizontalPodAutoscaler;
pub use job::Job;
pub use namespace::Namespace;
pub use node::Node;
pub use persistent_volume::PersistentVolume;
pub use persistent_volume_claim::PersistentVolumeClaim;
pub use pod::Pod;
pub use pod_disruption_budget::PodDisruptionBudget;
pub use replica_set::ReplicaSet;
pub use resource_quota::ResourceQuota;
pub use stateful_set::StatefulSet;

/// Each family that is written, with its help text. All are gauges.
pub const FAMILIES: &[(&str, &str)] = &[
    ("kube_daemonset_created", "Unix creation timestamp."),
    (
        "kube_daemonset_metadata_generation",
        "Generation of the desired state.",
    ),
    (
        "kube_daemonset_status_current_number_scheduled",
        "Nodes that run a daemon pod and should.",
    ),
    (
        "kube_daemonset_status_desired_number_scheduled",
        "Nodes that should run the daemon pod.",
    ),
    (
        "kube_daemonset_status_number_available",
        "Nodes whose daemon pod is available.",
    ),
    (
        "kube_daemonset_status_number_misscheduled",
        "Nodes that run a daemon pod but should not.",
    ),
    (
        "kube_daemonset_status_number_ready",
        "Nodes whose daemon pod is ready.",
    ),
    (
        "kube_daemonset_status_number_unavailable",
        "Nodes whose daemon pod is not available.",
    ),
    (
        "kube_daemonset_status_observed_generation",
        "Generation seen by the controller.",
    ),
    (
        "kube_daemonset_status_updated_number_scheduled",
        "Nodes that run the updated daemon pod.",
    ),
    ("kube_deployment_created", "Unix creation timestamp."),
    (
        "kube_deployment_metadata_generation",
        "Generation of the desired state.",
    ),
    (
        "kube_deployment_spec_paused",
        "Whether the deployment is paused.",
    ),
    ("kube_deployment_spec_replicas", "Desired pods."),
    (
        "kube_deployment_status_condition",
        "Conditions of the deployment.",
    ),
    (
        "kube_deployment_status_observed_generation",
        "Generation seen by the controller.",
    ),
    ("kube_deployment_status_replicas", "Pods."),
    (
        "kube_deployment_status_replicas_available",
        "Available pods.",
    ),
    ("kube_deployment_status_replicas_ready", "Ready pods."),
    (
        "kube_deployment_status_replicas_unavailable",
        "Pods that are not available.",
    ),
    (
        "kube_deployment_status_replicas_updated",
        "Pods of the latest template.",
    ),
    (
        "kube_horizontalpodautoscaler_metadata_generation",
        "Generation of the desired state.",
    ),
    (
        "kube_horizontalpodautoscaler_spec_max_replicas",
        "Upper bound of replicas.",
    ),
    (
        "kube_horizontalpodautoscaler_spec_min_replicas",
        "Lower bound of replicas.",
    ),
    (
        "kube_horizontalpodautoscaler_status_condition",
        "Conditions of the autoscaler.",
    ),
    (
        "kube_horizontalpodautoscaler_status_current_replicas",
        "Replicas now.",
    ),
    (
        "kube_horizontalpodautoscaler_status_desired_replicas",
        "Replicas desired by the autoscaler.",
    ),
    ("kube_job_complete", "Whether the job has completed."),
    ("kube_job_created", "Unix creation timestamp."),
    ("kube_job_failed", "Whether the job has failed."),
    ("kube_job_info", "Information about the job."),
    ("kube_job_owner", "The job's owner."),
    ("kube_job_spec_completions", "Desired successful pods."),
    ("kube_job_spec_parallelism", "Pods that may run at a time."),
    ("kube_job_status_active", "Pods that run."),
    (
        "kube_job_status_completion_time",
        "Unix time of completion.",
    ),
    ("kube_job_status_failed", "Pods that failed, and why."),
    ("kube_job_status_start_time", "Unix time of the start."),
    ("kube_job_status_succeeded", "Pods that succeeded."),
    ("kube_namespace_created", "Unix creation timestamp."),
    ("kube_namespace_status_phase", "Phase of the namespace."),
    ("kube_node_created", "Unix creation timestamp."),
    ("kube_node_info", "Information about the node."),
    ("kube_node_role", "Roles of the node."),
    ("kube_node_spec_taint", "Taints of the node."),
    (
        "kube_node_spec_unschedulable",
        "Whether the node accepts no new pods.",
    ),
    ("kube_node_status_addresses", "Addresses of the node."),
    ("kube_node_status_allocatable", "Amounts that pods may use."),
    ("kube_node_status_capacity", "Amounts that the node has."),
    ("kube_node_status_condition", "Conditions of the node."),
    (
        "kube_persistentvolume_capacity_bytes",
        "Size of the volume.",
    ),
    (
        "kube_persistentvolume_claim_ref",
        "The claim that the volume is bound to.",
    ),
    ("kube_persistentvolume_status_phase", "Phase of the volume."),
    (
        "kube_persistentvolumeclaim_access_mode",
        "Access modes of the claim.",
    ),
    (
        "kube_persistentvolumeclaim_info",
        "Storage class and volume of the claim.",
    ),
    (
        "kube_persistentvolumeclaim_resource_requests_storage_bytes",
        "Storage requested by the claim.",
    ),
    (
        "kube_persistentvolumeclaim_status_phase",
        "Phase of the claim.",
    ),
    (
        "kube_pod_container_info",
        "Information about a container of a pod.",
    ),
    (
        "kube_pod_container_resource_limits",
        "Limits of a container.",
    ),
    (
        "kube_pod_container_resource_requests",
        "Requests of a container.",
    ),
    ("kube_pod_created", "Unix creation timestamp."),
    ("kube_pod_info", "Information about the pod."),
    ("kube_pod_owner", "The pod's owner."),
    ("kube_pod_status_phase", "Phase of the pod."),
    ("kube_pod_status_qos_class", "QoS class of the pod."),
    ("kube_pod_status_ready", "Whether the pod is ready."),
    ("kube_pod_status_reason", "Why the pod is in its state."),
    ("kube_pod_status_scheduled", "Whether the pod has a node."),
    (
        "kube_pod_status_unschedulable",
        "Whether the scheduler found no node for the pod.",
    ),
    (
        "kube_poddisruptionbudget_created",
        "Unix creation timestamp.",
    ),
    (
        "kube_poddisruptionbudget_status_current_healthy",
        "Healthy pods.",
    ),
    (
        "kube_poddisruptionbudget_status_desired_healthy",
        "Minimum number of healthy pods.",
    ),
    (
        "kube_poddisruptionbudget_status_expected_pods",
        "Pods that the budget covers.",
    ),
    (
        "kube_poddisruptionbudget_status_observed_generation",
        "Generation seen by the controller.",
    ),
    (
        "kube_poddisruptionbudget_status_pod_disruptions_allowed",
        "Pods that may be disrupted now.",
    ),
    ("kube_replicaset_created", "Unix creation timestamp."),
    (
        "kube_replicaset_metadata_generation",
        "Generation of the desired state.",
    ),
    ("kube_replicaset_owner", "The replica set's owner."),
    ("kube_replicaset_spec_replicas", "Desired pods."),
    (
        "kube_replicaset_status_observed_generation",
        "Generation seen by the controller.",
    ),
    ("kube_replicaset_status_ready_replicas", "Ready pods."),
    ("kube_replicaset_status_replicas", "Pods."),
    ("kube_resourcequota", "Bounds and use of a quota."),
    ("kube_resourcequota_created", "Unix creation timestamp."),
    ("kube_statefulset_created", "Unix creation timestamp."),
    (
        "kube_statefulset_metadata_generation",
        "Generation of the desired state.",
    ),
    ("kube_statefulset_replicas", "Desired pods."),
    (
        "kube_statefulset_status_current_revision",
        "Revision of the pods that are not yet updated.",
    ),
    (
        "kube_statefulset_status_observed_generation",
        "Generation seen by the controller.",
    ),
    ("kube_statefulset_status_replicas", "Pods."),
    (
        "kube_statefulset_status_replicas_available",
        "Available pods.",
    ),
    (
        "kube_statefulset_status_replicas_current",
        "Pods of the current revision.",
    ),
    ("kube_statefulset_status_replicas_ready", "Ready pods."),
    (
        "kube_statefulset_status_replicas_updated",
        "Pods of the update revision.",
    ),
    (
        "kube_statefulset_status_update_revision",
        "Revision that pods are updated to.",
    ),
];

#[cfg(test)]
mod tests;
