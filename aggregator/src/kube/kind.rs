//! The kinds of objects that are watched.

/// A kind of object. Also a metric's label: the set is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named as Kubernetes names them")]
pub enum Kind {
    DaemonSet,
    Deployment,
    HorizontalPodAutoscaler,
    Job,
    Namespace,
    Node,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    PodDisruptionBudget,
    ReplicaSet,
    ResourceQuota,
    StatefulSet,
}

/// Where the API server has a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Name in manifests.
    pub kind: &'static str,
    /// Name in paths, and in our metrics.
    pub plural: &'static str,
    /// Which objects; empty for all.
    pub field_selector: &'static str,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::DaemonSet,
        Self::Deployment,
        Self::HorizontalPodAutoscaler,
        Self::Job,
        Self::Namespace,
        Self::Node,
        Self::PersistentVolume,
        Self::PersistentVolumeClaim,
        Self::Pod,
        Self::PodDisruptionBudget,
        Self::ReplicaSet,
        Self::ResourceQuota,
        Self::StatefulSet,
    ];

    /// Where the API server has it.
    #[must_use]
    pub const fn resource(self) -> Resource {
        match self {
            Self::DaemonSet => named("apps", "v1", "DaemonSet", "daemonsets"),
            Self::Deployment => named("apps", "v1", "Deployment", "deployments"),
            Self::HorizontalPodAutoscaler => named(
                "autoscaling",
                "v2",
                "HorizontalPodAutoscaler",
                "horizontalpodautoscalers",
            ),
            Self::Job => named("batch", "v1", "Job", "jobs"),
            Self::Namespace => named("", "v1", "Namespace", "namespaces"),
            Self::Node => named("", "v1", "Node", "nodes"),
            Self::PersistentVolume => named("", "v1", "PersistentVolume", "persistentvolumes"),
            Self::PersistentVolumeClaim => {
                named("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
            }
            Self::Pod => Resource {
                // The rest are some kubelet's: the agents tell about those.
                field_selector: "spec.nodeName=",
                ..named("", "v1", "Pod", "pods")
            },
            Self::PodDisruptionBudget => named(
                "policy",
                "v1",
                "PodDisruptionBudget",
                "poddisruptionbudgets",
            ),
            Self::ReplicaSet => named("apps", "v1", "ReplicaSet", "replicasets"),
            Self::ResourceQuota => named("", "v1", "ResourceQuota", "resourcequotas"),
            Self::StatefulSet => named("apps", "v1", "StatefulSet", "statefulsets"),
        }
    }

    /// Name in paths, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.resource().plural
    }
}

const fn named(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
) -> Resource {
    Resource {
        group,
        version,
        kind,
        plural,
        field_selector: "",
    }
}
