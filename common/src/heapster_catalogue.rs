//! Every metric of Heapster, the objects that carry it, and the PromQL that derives it from our series.
//!
//! docs/heapster-metrics.md is generated from this table, and tests evaluate every expression over recorded nodes. No
//! endpoint serves these names yet; a Heapster API will read them from here. Until then no binary refers to the table,
//! so the linker drops it.
//!
//! **Invariant:** an expression returns one sample per object, with the labels that identify the object
//! ([`Object::labels`]) and, for metrics with several values per object, the label `resource_id`.

#[macro_use]
mod derive;
mod page;
mod table;

pub use page::markdown;
pub use table::ENTRIES;

/// A kind of object that Heapster reports on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// The whole cluster.
    Cluster,
    /// A namespace.
    Namespace,
    /// A node.
    Node,
    /// Daemons of a node outside pods: kubelet, container runtime; also all pods of a node together.
    SystemContainer,
    /// A pod.
    Pod,
    /// A container of a pod.
    PodContainer,
}

impl Object {
    /// All kinds, from the largest to the smallest.
    pub const ALL: [Self; 6] = [
        Self::Cluster,
        Self::Namespace,
        Self::Node,
        Self::SystemContainer,
        Self::Pod,
        Self::PodContainer,
    ];

    /// Returns the value of Heapster's label `type`.
    #[must_use]
    pub const fn heapster_type(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Namespace => "ns",
            Self::Node => "node",
            Self::SystemContainer => "sys_container",
            Self::Pod => "pod",
            Self::PodContainer => "pod_container",
        }
    }

    /// Returns the labels that identify an object of this kind.
    #[must_use]
    pub const fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Cluster => &[],
            Self::Namespace => &["namespace"],
            Self::Node => &["node"],
            Self::SystemContainer => &["node", "container"],
            Self::Pod => &["namespace", "pod"],
            Self::PodContainer => &["namespace", "pod", "container"],
        }
    }
}

/// Whether a value accumulates over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeapsterKind {
    /// Grows, and starts from zero when the object restarts.
    Cumulative,
    /// A current value.
    Gauge,
}

/// The source of the series that an expression reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Agents, from the kernel.
    Agent,
    /// Agents, from the kubelet.
    Kubelet,
    /// The aggregator, from the API server.
    ApiServer,
}

/// How a metric of one kind of object is derived.
#[derive(Debug, Clone, Copy)]
pub struct Derivation {
    /// The kind of object.
    pub object: Object,
    /// The source that it needs.
    pub provider: Provider,
    /// The expression, in PromQL.
    pub expression: &'static str,
}

/// One metric of Heapster.
#[derive(Debug, Clone, Copy)]
pub struct HeapsterMetric {
    /// The name in Heapster.
    pub name: &'static str,
    /// Whether it accumulates.
    pub kind: HeapsterKind,
    /// The unit of the values. Heapster declared a wrong one for many metrics.
    pub unit: &'static str,
    /// Whether an object has several values, distinguished by `resource_id`.
    pub is_labelled: bool,
    /// Derivations by object. Empty when no source provides the metric any more.
    pub derivations: &'static [Derivation],
    /// How the values differ from Heapster's, or why there are none.
    pub note: &'static str,
}

impl HeapsterMetric {
    /// Returns the derivations for one kind of object.
    pub fn derivations_of(&self, object: Object) -> impl Iterator<Item = &Derivation> {
        self.derivations
            .iter()
            .filter(move |derivation| derivation.object == object)
    }
}

/// Finds the metric with this name in Heapster.
#[must_use]
pub fn find(name: &str) -> Option<&'static HeapsterMetric> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

/// Returns the names of the series that an expression reads.
pub fn series_of(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let families = ["container_", "kube_", "kubelet_", "node_", "machine_"];
    words.filter(move |word| {
        families
            .iter()
            .any(|family| word.starts_with(family) && word.len() > family.len())
    })
}

#[cfg(test)]
mod tests;
