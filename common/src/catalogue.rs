//! The metric catalogue: every metric of Heapster, the objects that carry it, and the PromQL that derives it from our
//! series, with its real unit.
//!
//! This one table drives the Heapster API, the page docs/metrics-catalogue.md and the tests over recorded nodes.
//!
//! **Invariant:** an expression returns one sample per object, with the object's identifying labels
//! ([`Object::labels`]) and, for metrics with several values an object, the label `resource_id`.

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
    /// A daemon of a node outside of pods: kubelet, container runtime, all pods together.
    SystemContainer,
    /// A pod.
    Pod,
    /// A container of a pod.
    PodContainer,
}

impl Object {
    /// All kinds, from large to small.
    pub const ALL: [Self; 6] = [
        Self::Cluster,
        Self::Namespace,
        Self::Node,
        Self::SystemContainer,
        Self::Pod,
        Self::PodContainer,
    ];

    /// Heapster's name, the value of its label `type`.
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

    /// The labels that tell one such object from another.
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

/// Whether a value adds up over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows, and begins anew when the object restarts.
    Cumulative,
    /// A value of the moment.
    Gauge,
}

/// Who collects the series that an expression reads.
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
    /// Of which objects.
    pub object: Object,
    /// Who must be there for it.
    pub provider: Provider,
    /// PromQL.
    pub expression: &'static str,
}

/// One metric of Heapster.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Heapster's name.
    pub name: &'static str,
    /// Whether it adds up.
    pub kind: Kind,
    /// The unit of the values; Heapster's own declarations are wrong for many.
    pub unit: &'static str,
    /// Whether an object has several values, told apart by `resource_id`.
    pub is_labelled: bool,
    /// How it is derived, by object. Empty when nothing provides it any more.
    pub derivations: &'static [Derivation],
    /// Where we differ from Heapster, or why there is nothing.
    pub note: &'static str,
}

impl Entry {
    /// How the metric is derived for `object`.
    pub fn derivations_of(&self, object: Object) -> impl Iterator<Item = &Derivation> {
        self.derivations
            .iter()
            .filter(move |derivation| derivation.object == object)
    }
}

/// The entry of one of Heapster's names.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

/// The series names that an expression reads.
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
