//! Series about pods from the kubelet's answers: kube-state-metrics' for pods, the kubelet's own for volumes.

use std::sync::Arc;

use common::model::Metadata;

use super::series_cache::{CacheUpdate, SeriesCache};
use crate::collect::{CollectContext, Collector, Outcome, Tier};
use crate::kube::KubeletData;
use crate::kube::api::PodList;
use crate::kube::poll::{PODS, SUMMARY};
use crate::kube::quantity::{parse_quantity, parse_time};
use crate::kube::summary::Summary;
use crate::read_errors::{ReadErrorId, ReadErrors};
use crate::schema::{FamilyDef, Schema, Target};
use crate::table::SeriesTable;

mod containers;
mod pods;
mod storage;

/// Collects `kube_*`, `kubelet_*` and the file system series of containers.
#[derive(Debug)]
pub struct Kubelet {
    data: KubeletData,
    node: String,
    /// Pod labels that become labels of `kube_pod_labels`.
    pod_labels: Vec<String>,
    generation: Option<u64>,
    /// The answers stored last, to count their unreadable words once.
    pods: Option<Arc<PodList>>,
    summary: Option<Arc<Summary>>,
    series: SeriesCache<Key>,
    /// Whether the newest answers may have changes that no tick has stored.
    has_news: bool,
}

/// Family and labels of a series.
type Key = (&'static str, Vec<(String, String)>);

impl Kubelet {
    /// A collector of the answers in `data`.
    #[must_use]
    pub fn new(data: KubeletData, node: String, pod_labels: Vec<String>) -> Self {
        Self {
            data,
            node,
            pod_labels,
            generation: None,
            pods: None,
            summary: None,
            series: SeriesCache::default(),
            has_news: false,
        }
    }

    /// Takes over new answers: adds new series, removes those that have gone.
    fn update(&mut self, context: &mut CollectContext<'_>) {
        let latest = self.data.latest();
        if self.generation == Some(latest.generation) {
            return;
        }
        self.has_news = true;
        self.generation = Some(latest.generation);
        self.series.begin_pass();
        let mut sink = Sink {
            series: &mut self.series,
            table: context.table,
            schema: context.schema,
            answer: context.errors.file(PODS),
            errors: context.errors,
            is_new: true,
        };
        if let Some(pods) = &latest.pods {
            sink.is_new = !is_same(self.pods.as_ref(), pods);
            for pod in &pods.items {
                pods::store(pod, &self.node, &self.pod_labels, &mut sink);
            }
        }
        if let Some(summary) = &latest.summary {
            sink.answer = sink.errors.file(SUMMARY);
            sink.is_new = !is_same(self.summary.as_ref(), summary);
            storage::store(summary, &mut sink);
        }
        self.series.end_pass(context.table);
        self.pods = latest.pods;
        self.summary = latest.summary;
    }
}

impl Collector for Kubelet {
    fn collect(&mut self, context: &mut CollectContext<'_>) -> Outcome {
        self.update(context);
        // A value that changed is stored at once, the others every 30 s.
        if context.due.includes(Tier::Medium) {
            self.series.store(context.table);
        }
        // A scrape does not use up the changes that the next tick stores.
        if !context.due.is_scrape() && std::mem::take(&mut self.has_news) {
            self.series.store_changed(context.table);
        }
        if self.series.is_empty() {
            return Outcome::NoData;
        }
        Outcome::Done
    }
}

fn is_same<T>(before: Option<&Arc<T>>, now: &Arc<T>) -> bool {
    before.is_some_and(|before| Arc::ptr_eq(before, now))
}

/// Where the values of one set of answers are stored.
struct Sink<'a> {
    series: &'a mut SeriesCache<Key>,
    table: &'a mut SeriesTable,
    schema: &'a mut Schema,
    errors: &'a mut ReadErrors,
    /// The answer that is being stored.
    answer: ReadErrorId,
    /// Whether this answer is stored for the first time. The words of an answer are counted once.
    is_new: bool,
}

impl Sink<'_> {
    /// Parses a quantity. An unreadable one is absent and counted.
    fn quantity(&mut self, text: &str) -> Option<f64> {
        self.understood(text, parse_quantity(text))
    }

    /// Parses a time as seconds since the Unix epoch. An unreadable one is absent and counted.
    fn time(&mut self, text: Option<&str>) -> Option<f64> {
        text.and_then(|text| self.understood(text, parse_time(text)))
    }

    fn understood(&mut self, text: &str, value: Option<f64>) -> Option<f64> {
        if value.is_none() && self.is_new {
            self.errors.word(self.answer, text);
        }
        value
    }

    /// Stores a value. The first of several values with equal labels wins.
    fn set(
        &mut self,
        target: Target,
        family: &'static FamilyDef,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let labels: Vec<(String, String)> = labels
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let key = (family.name, labels);
        if self.series.update(&key, value) != CacheUpdate::Unknown {
            return;
        }
        let pairs: Vec<(&str, &str)> = key
            .1
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let metadata = Metadata {
            metric_type: family.metric_type,
            help: family.help.to_owned(),
            unit: String::new(),
        };
        let named = (family.name, metadata);
        let id = self.schema.named_series(self.table, target, named, &pairs);
        self.series.insert(key, id, value);
    }

    /// Stores a value if there is one.
    fn set_some(
        &mut self,
        target: Target,
        family: &'static FamilyDef,
        labels: &[(&str, &str)],
        value: Option<f64>,
    ) {
        if let Some(value) = value {
            self.set(target, family, labels, value);
        }
    }

    /// Stores 1 for a state that holds.
    fn state(&mut self, family: &'static FamilyDef, labels: &[(&str, &str)]) {
        self.set(Target::KubeState, family, labels, 1.0);
    }
}

/// 1 for true.
const fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests;
