//! Builds the series of an object, with the shapes that many kinds share.

use std::fmt::Debug;

use common::model::{Labels, LabelsBuilder};
use serde::de::DeserializeOwned;

use super::kind::Kind;
use super::object::{Condition, Meta, Resources, seconds};
use super::quantity;

/// A kind of object that can describe itself as the series of kube-state-metrics.
pub trait Describe: DeserializeOwned + Clone + Debug + Send + Sync + 'static {
    /// The kind.
    const KIND: Kind;

    /// Returns names and owners.
    fn meta(&self) -> &Meta;

    /// Adds the object's series.
    fn describe(&self, out: &mut Description<'_>);
}

/// The labels that all series of a cluster carry: `job`, `instance`, and `cluster` if one is configured.
#[derive(Debug, Clone)]
pub struct BaseLabels {
    pairs: Vec<(String, String)>,
}

impl BaseLabels {
    /// Returns the labels of a scrape of kube-state-metrics in kube-prometheus: `job="kube-state-metrics"`.
    #[must_use]
    pub fn new(instance: &str, cluster: Option<&str>) -> Self {
        let mut pairs = vec![
            ("job".to_owned(), "kube-state-metrics".to_owned()),
            ("instance".to_owned(), instance.to_owned()),
        ];
        if let Some(cluster) = cluster {
            pairs.push(("cluster".to_owned(), cluster.to_owned()));
        }
        Self { pairs }
    }

    /// Returns the labels of a series; `None` if they are not valid.
    pub(crate) fn labels(&self, name: &str, own: &[(&str, &str)]) -> Option<Labels> {
        let mut builder = LabelsBuilder::default();
        for (name, value) in &self.pairs {
            builder.push(name.clone(), value.clone());
        }
        builder.push("__name__", name);
        for &(name, value) in own {
            // The object's label takes precedence, as with `honor_labels: true`.
            builder.set(name, value);
        }
        builder.build().ok()
    }
}

/// Collects the series of one object.
#[derive(Debug)]
pub struct Description<'a> {
    base: &'a BaseLabels,
    series: Vec<(Labels, f64)>,
    malformed: u64,
}

impl<'a> Description<'a> {
    /// Describes `object`.
    #[must_use]
    pub fn of<D: Describe>(object: &D, base: &'a BaseLabels) -> Self {
        let mut description = Self {
            base,
            series: Vec::with_capacity(16),
            malformed: 0,
        };
        object.describe(&mut description);
        description
    }

    /// Returns the series with their values, and how many values of the object could not be parsed.
    #[must_use]
    pub fn finish(self) -> (Vec<(Labels, f64)>, u64) {
        (self.series, self.malformed)
    }

    /// Adds a series. Drops labels with an empty value, which PromQL does not distinguish from absent ones.
    pub(crate) fn add(&mut self, name: &'static str, labels: &[(&str, &str)], value: f64) {
        match self.base.labels(name, labels) {
            Some(labels) => self.series.push((labels, value)),
            None => self.malformed += 1,
        }
    }

    /// Adds a series if there is a value.
    pub(crate) fn add_some(
        &mut self,
        name: &'static str,
        labels: &[(&str, &str)],
        value: Option<i64>,
    ) {
        if let Some(value) = value {
            self.add(name, labels, value as f64);
        }
    }

    /// Adds a series whose value is a time, if there is one. Counts a time that can't be parsed.
    pub(crate) fn add_time(
        &mut self,
        name: &'static str,
        labels: &[(&str, &str)],
        text: Option<&str>,
    ) {
        let Some(text) = text else { return };
        match seconds(text) {
            Some(seconds) => self.add(name, labels, seconds as f64),
            None => self.malformed += 1,
        }
    }

    /// Adds a series whose value is a quantity. Counts one that can't be parsed.
    pub(crate) fn add_quantity(&mut self, name: &'static str, labels: &[(&str, &str)], text: &str) {
        match quantity::parse(text) {
            Some(value) => self.add(name, labels, value),
            None => self.malformed += 1,
        }
    }

    /// Adds a series for each state: 1 for the current one, 0 for the others.
    pub(crate) fn add_states(
        &mut self,
        name: &'static str,
        labels: &[(&str, &str)],
        (state_label, states): (&str, &[&str]),
        current: &str,
    ) {
        for &state in states {
            let labels = [labels, &[(state_label, state)]].concat();
            self.add(name, &labels, f64::from(u8::from(state == current)));
        }
    }

    /// Adds three series for each condition: status true, false and unknown (kube-state-metrics `addConditionMetrics`).
    pub(crate) fn add_condition(
        &mut self,
        name: &'static str,
        labels: &[(&str, &str)],
        condition: &Condition,
    ) {
        let status = condition.status.to_ascii_lowercase();
        let labels = [labels, &[("condition", &condition.condition_type)]].concat();
        self.add_states(name, &labels, ("status", &STATUSES), &status);
    }

    /// A series for each owner, or one without owner (`kube_*_owner`).
    pub(crate) fn add_owners(&mut self, name: &'static str, labels: &[(&str, &str)], meta: &Meta) {
        if meta.owner_references.is_empty() {
            self.add(name, labels, 1.0);
        }
        for owner in &meta.owner_references {
            let controller = if owner.controller { "true" } else { "false" };
            let own = [
                ("owner_kind", owner.kind.as_str()),
                ("owner_name", &owner.name),
                ("owner_is_controller", controller),
            ];
            self.add(name, &[labels, &own].concat(), 1.0);
        }
    }

    /// Adds a series for each resource whose unit is known: `{resource="memory",unit="byte"}`.
    pub(crate) fn add_resources(
        &mut self,
        name: &'static str,
        labels: &[(&str, &str)],
        resources: &Resources,
    ) {
        for (resource, amount) in resources {
            let Some(unit) = unit(resource) else { continue };
            let resource = sanitized(resource);
            let own = [("resource", resource.as_str()), ("unit", unit)];
            self.add_quantity(name, &[labels, &own].concat(), amount);
        }
    }
}

/// The statuses of a condition in kube-state-metrics' spelling.
pub(crate) const STATUSES: [&str; 3] = ["true", "false", "unknown"];

/// Returns the unit of a resource (kube-state-metrics `pkg/constant`); `None` for those that it omits.
fn unit(resource: &str) -> Option<&'static str> {
    match resource {
        "cpu" => Some("core"),
        "memory" | "storage" | "ephemeral-storage" => Some("byte"),
        "pods" => Some("integer"),
        _ if resource.starts_with("hugepages-") => Some("byte"),
        _ if resource.starts_with("attachable-volumes-") => Some("byte"),
        // An extended resource has a domain other than Kubernetes': nvidia.com/gpu.
        _ => {
            let (domain, _) = resource.split_once('/')?;
            let native = domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
            (!native && !resource.starts_with("requests.")).then_some("integer")
        }
    }
}

/// Returns a resource name as kube-state-metrics writes it: everything except ASCII letters and digits becomes `_`.
fn sanitized(resource: &str) -> String {
    resource
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_kube_state_metrics() {
        assert_eq!(unit("cpu"), Some("core"));
        assert_eq!(unit("hugepages-2Mi"), Some("byte"));
        assert_eq!(unit("nvidia.com/gpu"), Some("integer"));
        assert_eq!(unit("kubernetes.io/batch-cpu"), None);
        assert_eq!(unit("requests.nvidia.com/gpu"), None);
        assert_eq!(unit("unheard-of"), None);
        assert_eq!(sanitized("nvidia.com/gpu"), "nvidia_com_gpu");
        assert_eq!(sanitized("ephemeral-storage"), "ephemeral_storage");
    }

    #[test]
    fn label_of_the_object_takes_precedence() {
        let base = BaseLabels::new("api", Some("c1"));
        let labels = base
            .labels("m", &[("instance", "own"), ("empty", "")])
            .unwrap();
        assert_eq!(
            labels.to_string(),
            r#"{__name__="m", cluster="c1", instance="own", job="kube-state-metrics"}"#
        );
    }
}
