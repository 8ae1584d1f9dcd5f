//! The watched kinds of objects.

/// A kind of object, also used as the value of a metric's label.
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

/// The API resource of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// `kind` in manifests.
    pub kind: &'static str,
    /// Plural name in paths, metrics and logs.
    pub plural: &'static str,
    /// Field selector; empty for all objects.
    pub field_selector: &'static str,
}

impl Kind {
    /// All kinds.
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

    /// Returns its API resource.
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
                // Agents report the pods that have a node.
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

    /// Returns the plural name, for paths, metrics and logs.
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
