//! Names of metric families, and the target labels that dashboards select on.

use std::borrow::Cow;
use std::collections::HashMap;

use common::model::label::METRIC_NAME;
use common::model::{Labels, Metadata, MetricType};

use crate::table::{FamilyId, SeriesId, SeriesTable};

/// A metric family as a collector declares it.
#[derive(Debug, Clone, Copy)]
pub struct FamilyDef {
    /// The metric name.
    pub name: &'static str,
    /// Metric type.
    pub metric_type: MetricType,
    /// Help text.
    pub help: &'static str,
}

/// Declares a counter family.
#[must_use]
pub const fn counter(name: &'static str, help: &'static str) -> FamilyDef {
    FamilyDef {
        name,
        metric_type: MetricType::Counter,
        help,
    }
}

/// Declares a gauge family.
#[must_use]
pub const fn gauge(name: &'static str, help: &'static str) -> FamilyDef {
    FamilyDef {
        name,
        metric_type: MetricType::Gauge,
        help,
    }
}

/// Declares a family of constant-1 series whose labels carry the information. As in node_exporter, their type is gauge.
#[must_use]
pub const fn info(name: &'static str, help: &'static str) -> FamilyDef {
    gauge(name, help)
}

/// The classic scrape target that a series replaces. Determines `job`, `instance` and `metrics_path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// node_exporter: `job="node-exporter"`.
    Node,
    /// The kubelet's cAdvisor: `job="kubelet", metrics_path="/metrics/cadvisor"`.
    Cadvisor,
    /// The kubelet itself: `job="kubelet", metrics_path="/metrics"`.
    Kubelet,
    /// kube-state-metrics: `job="kube-state-metrics"`.
    KubeState,
    /// The agent itself: `job="tidemark-agent"`.
    Agent,
}

/// Value of `job` for [`Target::Node`].
pub const NODE_JOB: &str = "node-exporter";

/// Identity of the node and, in Kubernetes, of the agent's own pod.
#[derive(Debug, Clone, Default)]
pub struct NodeIdentity {
    /// Name of the node; the label `instance`.
    pub node: String,
    /// Namespace and name of the agent's pod. kubernetes-mixin's rules join `node_*` series with the pod that
    /// collected them (`node:node_num_cpu:sum`).
    pub pod: Option<(String, String)>,
    /// `--cluster.name`: the label `cluster` of every series; none when empty.
    pub cluster: String,
}

/// Prefix of a scraped label that collides with a target label, as in Prometheus.
const EXPORTED: &str = "exported_";

/// Labels that a scraper adds itself.
const TARGET_LABELS: [&str; 4] = ["job", "instance", "metrics_path", "cluster"];

/// A family that has series.
#[derive(Debug, Clone, Copy)]
struct RegisteredFamily {
    id: FamilyId,
    /// Whether some series belong to [`Target::Node`].
    is_of_node: bool,
}

/// Names and target labels of this node's series.
#[derive(Debug, Default)]
pub struct Schema {
    identity: NodeIdentity,
    families: HashMap<String, RegisteredFamily>,
}

impl Schema {
    /// Creates the schema of a node.
    #[must_use]
    pub fn new(identity: NodeIdentity) -> Self {
        Self {
            identity,
            families: HashMap::new(),
        }
    }

    /// Creates the schema of a node outside Kubernetes.
    #[must_use]
    pub fn for_node(node: &str) -> Self {
        Self::new(NodeIdentity {
            node: node.to_owned(),
            ..NodeIdentity::default()
        })
    }

    /// Returns the node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.identity.node
    }

    /// Adds a series of `family` with `labels` and the labels of `target`. Labels with an empty value are dropped.
    ///
    /// A label in `labels` wins over the target's label of that name, as with `honor_labels`.
    pub fn series(
        &mut self,
        table: &mut SeriesTable,
        target: Target,
        family: &FamilyDef,
        labels: &[(&str, &str)],
    ) -> SeriesId {
        let id = self.family(table, target, family.name, || Metadata {
            metric_type: family.metric_type,
            help: family.help.to_owned(),
            unit: unit_of(family.name).to_owned(),
        });
        table.add(id, &self.labels(target, family.name, labels))
    }

    /// Adds a series as [`Self::series`] does, for a family whose name is known only at run time.
    pub fn named_series(
        &mut self,
        table: &mut SeriesTable,
        target: Target,
        (name, metadata): (&str, Metadata),
        labels: &[(&str, &str)],
    ) -> SeriesId {
        self.member_series(table, target, (name, metadata), name, labels)
    }

    /// Adds a series as [`Self::named_series`] does, for a member of a histogram or summary, whose name has a suffix that the
    /// family's name lacks.
    pub fn member_series(
        &mut self,
        table: &mut SeriesTable,
        target: Target,
        (family, metadata): (&str, Metadata),
        name: &str,
        labels: &[(&str, &str)],
    ) -> SeriesId {
        let id = self.family(table, target, family, || metadata);
        table.add(id, &self.labels(target, name, labels))
    }

    /// Adds a series that another program exposes, as [`Self::member_series`] does but without `honor_labels`: a label that the target
    /// has, too, becomes `exported_NAME`, as in Prometheus.
    ///
    /// A label that is already called `exported_NAME` gets one more prefix, so that [`Self::exposed_name`] can undo this.
    pub fn scraped_series(
        &mut self,
        table: &mut SeriesTable,
        target: Target,
        family: (&str, Metadata),
        name: &str,
        labels: &[(&str, &str)],
    ) -> SeriesId {
        let labels: Vec<(Cow<'_, str>, &str)> = labels
            .iter()
            .map(|&(label, value)| match self.collides(target, label) {
                true => (Cow::Owned(format!("{EXPORTED}{label}")), value),
                false => (Cow::Borrowed(label), value),
            })
            .collect();
        let labels: Vec<(&str, &str)> = labels
            .iter()
            .map(|(name, value)| (&**name, *value))
            .collect();
        self.member_series(table, target, family, name, &labels)
    }

    /// Returns the name under which /metrics shows label `name` of a series with this `job`; `None` for a target label, which the
    /// scraper adds itself.
    #[must_use]
    pub fn exposed_name<'a>(&self, job: Option<&str>, name: &'a str) -> Option<&'a str> {
        if job != Some(NODE_JOB) {
            return (!TARGET_LABELS.contains(&name)).then_some(name);
        }
        if self.is_target_label(Target::Node, name) {
            return None;
        }
        let exported = name.strip_prefix(EXPORTED);
        Some(
            exported
                .filter(|inner| self.collides(Target::Node, inner))
                .unwrap_or(name),
        )
    }

    /// Returns whether `name` is a target label, or one with any number of prefixes.
    fn collides(&self, target: Target, name: &str) -> bool {
        self.is_target_label(target, name)
            || name
                .strip_prefix(EXPORTED)
                .is_some_and(|inner| self.collides(target, inner))
    }

    fn is_target_label(&self, target: Target, name: &str) -> bool {
        let labels = self.target_labels(target);
        labels
            .iter()
            .any(|(label, value)| *label == name && !value.is_empty())
    }

    /// Returns whether a family of this name has series of [`Target::Node`], with which others might collide.
    #[must_use]
    pub fn is_of_node(&self, name: &str) -> bool {
        self.families
            .get(name)
            .is_some_and(|known| known.is_of_node)
    }

    fn family(
        &mut self,
        table: &mut SeriesTable,
        target: Target,
        name: &str,
        metadata: impl FnOnce() -> Metadata,
    ) -> FamilyId {
        let is_of_node = target == Target::Node;
        if let Some(known) = self.families.get_mut(name) {
            known.is_of_node |= is_of_node;
            return known.id;
        }
        let id = table.add_family(name, metadata());
        self.families
            .insert(name.to_owned(), RegisteredFamily { id, is_of_node });
        id
    }

    /// Returns the labels of a target; those with an empty value do not exist.
    fn target_labels(&self, target: Target) -> [(&'static str, &str); 6] {
        let instance = &*self.identity.node;
        let (job, path) = match target {
            Target::Node => (NODE_JOB, ""),
            Target::Cadvisor => ("kubelet", "/metrics/cadvisor"),
            Target::Kubelet => ("kubelet", "/metrics"),
            Target::KubeState => ("kube-state-metrics", ""),
            Target::Agent => ("tidemark-agent", ""),
        };
        let pod = self
            .identity
            .pod
            .as_ref()
            .filter(|_| target == Target::Node);
        let (namespace, pod) = pod.map_or(("", ""), |(namespace, pod)| (&**namespace, &**pod));
        [
            ("job", job),
            ("instance", instance),
            ("metrics_path", path),
            ("cluster", &*self.identity.cluster),
            ("namespace", namespace),
            ("pod", pod),
        ]
    }

    fn labels(&self, target: Target, name: &str, labels: &[(&str, &str)]) -> Labels {
        let mut pairs = vec![(METRIC_NAME, name)];
        pairs.extend(labels.iter().filter(|(_, value)| !value.is_empty()));
        for pair in self.target_labels(target) {
            if !pair.1.is_empty() && pairs.iter().all(|(name, _)| *name != pair.0) {
                pairs.push(pair);
            }
        }
        pairs.sort_unstable();
        // Labels are unique by name: collectors see to that, and the parser of text files checks it.
        pairs.dedup_by_key(|(name, _)| *name);
        Labels::from_sorted(pairs)
    }
}

/// Returns the base unit at the end of a metric name, for the metadata.
fn unit_of(name: &str) -> &'static str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    ["seconds", "bytes", "hertz", "ratio", "bits"]
        .into_iter()
        .find(|unit| name.ends_with(unit))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_labels_are_those_the_mixins_select() {
        let identity = NodeIdentity {
            node: "n1".to_owned(),
            pod: Some(("mon".to_owned(), "agent-x".to_owned())),
            cluster: "c1".to_owned(),
        };
        let schema = Schema::new(identity);
        let text = |target, labels: &[(&str, &str)]| schema.labels(target, "m", labels).to_string();
        assert_eq!(
            text(Target::Node, &[("cpu", "0"), ("empty", "")]),
            r#"{__name__="m", cluster="c1", cpu="0", instance="n1", job="node-exporter", namespace="mon", pod="agent-x"}"#
        );
        assert_eq!(
            text(Target::Cadvisor, &[("pod", "p"), ("namespace", "d")]),
            r#"{__name__="m", cluster="c1", instance="n1", job="kubelet", metrics_path="/metrics/cadvisor", namespace="d", pod="p"}"#
        );
    }

    #[test]
    fn families_are_registered_once() {
        let (mut table, mut schema) = (SeriesTable::default(), Schema::for_node("n"));
        let family = counter("a_seconds_total", "A.");
        let one = schema.series(&mut table, Target::Node, &family, &[("x", "1")]);
        let two = schema.series(&mut table, Target::Node, &family, &[("x", "2")]);
        let (one, two) = (
            table.def(one).unwrap().family,
            table.def(two).unwrap().family,
        );
        assert_eq!(one, two);
        assert_eq!(table.family(one).metadata.unit, "seconds");
    }
}
