//! How collectors name things: metric families, and the target labels that dashboards select on.

use std::collections::HashMap;

use common::model::label::METRIC_NAME;
use common::model::{Labels, Metadata, MetricType};

use crate::table::{FamilyId, SeriesId, SeriesTable};

/// A metric family as a collector declares it.
#[derive(Debug, Clone, Copy)]
pub struct FamilyDef {
    /// The metric name.
    pub name: &'static str,
    /// Its type.
    pub metric_type: MetricType,
    /// One sentence for people.
    pub help: &'static str,
}

/// A counter family.
#[must_use]
pub const fn counter(name: &'static str, help: &'static str) -> FamilyDef {
    FamilyDef {
        name,
        metric_type: MetricType::Counter,
        help,
    }
}

/// A gauge family.
#[must_use]
pub const fn gauge(name: &'static str, help: &'static str) -> FamilyDef {
    FamilyDef {
        name,
        metric_type: MetricType::Gauge,
        help,
    }
}

/// A family of constant-1 series whose labels are the news; node_exporter calls these gauges, so we do.
#[must_use]
pub const fn info(name: &'static str, help: &'static str) -> FamilyDef {
    gauge(name, help)
}

/// Which of the classic scrape targets a series stands for; decides `job`, `instance` and `metrics_path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// What node_exporter would have: `job="node-exporter"`.
    Node,
    /// What the kubelet's cAdvisor would have: `job="kubelet", metrics_path="/metrics/cadvisor"`.
    Cadvisor,
    /// What the kubelet itself would have: `job="kubelet", metrics_path="/metrics"`.
    Kubelet,
    /// What kube-state-metrics would have: `job="kube-state-metrics"`.
    KubeState,
    /// The agent's own numbers: `job="tidemark-agent"`.
    Agent,
}

/// The job of [`Target::Node`].
pub const NODE_JOB: &str = "node-exporter";

/// Who the node and, in Kubernetes, the agent's own pod are.
#[derive(Debug, Clone, Default)]
pub struct NodeIdentity {
    /// Becomes the label `instance`.
    pub node: String,
    /// Namespace and name of the agent's pod. kubernetes-mixin's rules join `node_*` series with the pod that
    /// collected them (`node:node_num_cpu:sum`).
    pub pod: Option<(String, String)>,
    /// `--cluster.name`: the label `cluster` of every series; empty for none.
    pub cluster: String,
}

/// A family that has series.
#[derive(Debug, Clone, Copy)]
struct Known {
    id: FamilyId,
    /// Whether some are of [`Target::Node`].
    is_of_node: bool,
}

/// Names and target labels of this node's series.
#[derive(Debug, Default)]
pub struct Schema {
    identity: NodeIdentity,
    families: HashMap<String, Known>,
}

impl Schema {
    /// A schema for the node that `identity` names.
    #[must_use]
    pub fn new(identity: NodeIdentity) -> Self {
        Self {
            identity,
            families: HashMap::new(),
        }
    }

    /// A schema for a node that is no Kubernetes node.
    #[must_use]
    pub fn for_node(node: &str) -> Self {
        Self::new(NodeIdentity {
            node: node.to_owned(),
            ..NodeIdentity::default()
        })
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.identity.node
    }

    /// Adds a series of `family` with `labels` and the labels of `target`. Pairs with an empty value are left out.
    ///
    /// A label of the target that the series sets itself keeps the series' value (as `honor_labels` does).
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

    /// As [`Self::series`] for a family whose name is known only at run time.
    pub fn named_series(
        &mut self,
        table: &mut SeriesTable,
        target: Target,
        (name, metadata): (&str, Metadata),
        labels: &[(&str, &str)],
    ) -> SeriesId {
        self.member_series(table, target, (name, metadata), name, labels)
    }

    /// As [`Self::named_series`] for a member of a histogram or summary, whose name has a suffix that its family's has
    /// not.
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

    /// Whether a family of this name has series of [`Target::Node`], so that others of the name might have equal labels.
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
            .insert(name.to_owned(), Known { id, is_of_node });
        id
    }

    fn labels(&self, target: Target, name: &str, labels: &[(&str, &str)]) -> Labels {
        let instance = &*self.identity.node;
        let (job, path) = match target {
            Target::Node => (NODE_JOB, ""),
            Target::Cadvisor => ("kubelet", "/metrics/cadvisor"),
            Target::Kubelet => ("kubelet", "/metrics"),
            Target::KubeState => ("kube-state-metrics", ""),
            Target::Agent => ("tidemark-agent", ""),
        };
        let mut pairs = vec![(METRIC_NAME, name)];
        pairs.extend(labels.iter().filter(|(_, value)| !value.is_empty()));
        let pod = self
            .identity
            .pod
            .as_ref()
            .filter(|_| target == Target::Node);
        let (namespace, pod) = pod.map_or(("", ""), |(namespace, pod)| (&**namespace, &**pod));
        for pair in [
            ("job", job),
            ("instance", instance),
            ("metrics_path", path),
            ("cluster", &*self.identity.cluster),
            ("namespace", namespace),
            ("pod", pod),
        ] {
            if !pair.1.is_empty() && pairs.iter().all(|(name, _)| *name != pair.0) {
                pairs.push(pair);
            }
        }
        pairs.sort_unstable();
        // A name that comes twice keeps its first value; collectors do not do that, textfiles are checked before.
        pairs.dedup_by_key(|(name, _)| *name);
        Labels::from_sorted(pairs)
    }
}

/// The base unit that a metric name ends in, for the metadata.
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
