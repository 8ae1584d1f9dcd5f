//! Evaluates every rule and panel on a store with a recorded node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::clock::ManualClock;
use common::model::{Labels, Sample};
use tidemark_promql::{Engine, EngineOptions, QueryOptions, Value};
use tidemark_storage::{AppendMode, ReadControl, SeriesSamples, Store, StoreOptions};

use super::document::{Document, Empty};
use super::names;
use super::queries::{Queries, Query, fixtures};
use super::recording::Recording;

/// A store with a recorded node, and the time of evaluation.
pub(super) struct Cluster {
    _folder: tempfile::TempDir,
    store: Store,
    engine: Engine,
    recording: Recording,
}

impl Cluster {
    pub(super) fn new(recording: Recording) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            path: folder.path().to_owned(),
            retention: None,
            retention_bytes: 0,
            memory_budget_bytes: 256 << 20,
            ..StoreOptions::default()
        };
        let clock = Arc::new(ManualClock::new(recording.times_ms[1]));
        let store = Store::open(options, clock).unwrap();
        let samples = recording.samples();
        let appended = store.append(&samples, AppendMode::Partial).unwrap();
        assert_eq!(appended.refused, 0, "{:?}", appended.refusals);
        Self {
            _folder: folder,
            store,
            engine: Engine::new(EngineOptions::default()),
            recording,
        }
    }

    /// Returns the time of the second snapshot.
    pub(super) const fn now_ms(&self) -> i64 {
        self.recording.times_ms[1]
    }

    pub(super) fn ask(&self, query: &str, time_ms: i64) -> Vec<(Labels, f64)> {
        let options = QueryOptions {
            lookback_delta: None,
            control: &ReadControl::unlimited(),
            deadline: None,
            per_step_stats: false,
        };
        let result = self.engine.instant(&self.store, query, time_ms, &options);
        match result
            .unwrap_or_else(|error| panic!("{error:?} in {query}"))
            .value
        {
            Value::Vector(vector) => vector
                .into_iter()
                .map(|one| (one.labels, one.sample.value))
                .collect(),
            Value::Scalar(sample) => vec![(Labels::empty(), sample.value)],
            other => panic!("{query} gives {other:?}"),
        }
    }

    /// Evaluates the recording rules in the order of their dependencies, and stores the results.
    fn record(&self, queries: &Queries) {
        for time_ms in self.recording.times_ms {
            let mut open: Vec<&Query> = queries.all.iter().filter(|q| q.record.is_some()).collect();
            loop {
                let before = open.len();
                open.retain(|rule| {
                    let result = self.ask(&rule.text, time_ms);
                    self.keep(rule, &result, time_ms);
                    result.is_empty()
                });
                if open.len() == before {
                    break;
                }
            }
        }
    }

    fn keep(&self, rule: &Query, result: &[(Labels, f64)], timestamp_ms: i64) {
        let series = |(labels, value): &(Labels, f64)| {
            let mut builder = labels.to_builder();
            builder.set("__name__", rule.record.clone().unwrap());
            for (name, value) in &rule.labels {
                builder.set(name.clone(), value.clone());
            }
            SeriesSamples {
                labels: builder.build().unwrap(),
                samples: vec![Sample {
                    timestamp_ms,
                    value: *value,
                }],
            }
        };
        let series: Vec<SeriesSamples> = result.iter().map(series).collect();
        self.store.append(&series, AppendMode::Partial).unwrap();
    }

    /// Returns values of Grafana's variables for which this node has results.
    fn variables(&self) -> Vec<BTreeMap<&'static str, String>> {
        let node = self.recording.node;
        let pods = self.ask("kube_pod_info", self.recording.times_ms[1]);
        let claims = self.ask(
            "kubelet_volume_stats_capacity_bytes",
            self.recording.times_ms[1],
        );
        let claim = claims
            .first()
            .and_then(|(labels, _)| labels.get("persistentvolumeclaim"));
        let mut all = Vec::new();
        for (labels, _) in pods {
            let label = |name| labels.get(name).unwrap_or_default().to_owned();
            all.push(BTreeMap::from([
                ("cluster", String::new()),
                ("instance", node.to_owned()),
                ("node", node.to_owned()),
                ("namespace", label("namespace")),
                ("pod", label("pod")),
                ("workload", ".+".to_owned()),
                ("type", ".+".to_owned()),
                ("volume", claim.unwrap_or_default().to_owned()),
            ]));
        }
        assert!(all.len() > 5, "only {} pods", all.len());
        all
    }

    /// Whether a query has a result that can be drawn; for a panel about a pod, for any pod.
    fn answers(&self, query: &Query, variables: &[BTreeMap<&'static str, String>]) -> bool {
        let time_ms = self.recording.times_ms[1];
        let texts: BTreeSet<String> = variables.iter().map(|values| query.with(values)).collect();
        let is_drawn = |(_, value): &(Labels, f64)| !value.is_nan();
        texts
            .iter()
            .any(|text| self.ask(text, time_ms).iter().any(is_drawn))
    }
}

/// Returns the queries without a result.
fn empty(cluster: &Cluster, queries: &Queries, document: &Document) -> BTreeSet<String> {
    cluster.record(queries);
    let variables = cluster.variables();
    let foreign = |query: &Query| {
        let names = names::of(&query.text).unwrap();
        let source = |name: &String| document.metrics.get(name).map_or("", String::as_str);
        names.iter().any(|name| document.is_foreign(source(name)))
            || query
                .record
                .as_ref()
                .is_some_and(|record| document.exceptions.contains_key(record))
            || names
                .iter()
                .any(|name| document.exceptions.contains_key(name))
    };
    let own = queries.all.iter().filter(|query| !foreign(query));
    let empty = own.filter(|query| !cluster.answers(query, &variables));
    empty.map(|query| query.place.clone()).collect()
}

#[test]
fn every_rule_and_panel_has_a_result_on_the_recorded_nodes() {
    let (Some(queries), Some(fixtures)) = (Queries::load(), fixtures()) else {
        return;
    };
    let document = Document::load();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for recording in Recording::all(&fixtures) {
        let node = recording.node;
        for place in empty(&Cluster::new(recording), &queries, &document) {
            found.entry(place).or_default().insert(node.to_owned());
        }
    }
    let listed = document.empty.iter();
    let listed: BTreeMap<_, _> = listed.map(|(place, one)| (place, &one.nodes)).collect();
    let found: BTreeMap<_, _> = found.iter().collect();
    assert_eq!(listed, found, "listed (left), found (right)");
    assert!(document.empty.values().all(|one| one.reason.len() > 10));
}

/// A panel may only be empty if Prometheus' panel for the same node would be empty.
#[test]
fn what_is_empty_is_empty_with_what_a_scraper_got_too() {
    let (Some(queries), Some(fixtures)) = (Queries::load(), fixtures()) else {
        return;
    };
    let document = Document::load();
    for recording in Recording::all(&fixtures) {
        let node = recording.node;
        let found = empty(&Cluster::new(recording.with_scrapes()), &queries, &document);
        let here = |(place, one): (&String, &Empty)| {
            let is_here = one.nodes.contains(node);
            is_here.then(|| place.clone())
        };
        let listed: BTreeSet<String> = document.empty.iter().filter_map(here).collect();
        let missed: Vec<&String> = listed.difference(&found).collect();
        assert!(missed.is_empty(), "{node}: a scraper has {missed:?}");
    }
}
