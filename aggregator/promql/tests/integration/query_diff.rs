//! Random queries over random data have the same values, errors and annotations as in Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::model::{Labels, Sample};
use serde_json::Value as Json;
use tidemark_promql::memory_store::MemoryStore;
use tidemark_promql::{
    Engine, EngineOptions, Features, QueryError, QueryOptions, QueryResult, RangeParams, Value,
};
use tidemark_storage::read::ReadControl;

use crate::deviations::{Difference, fixed_bug};
use crate::generator::{Case, Generator, MINUTES};
use crate::peer::{self, Prometheus};

/// Queries of one run.
const QUERIES: usize = 2400;
/// End of all data, 2024-05-14 10:00 UTC. A fixed time, because rounding depends on it. An empty Prometheus accepts samples of
/// any age.
pub(crate) const END_MS: i64 = 1_715_680_800_000;

/// A result in a common form: its type, and samples by labels.
type Answer = Result<(String, BTreeMap<String, Vec<(i64, f64)>>), String>;

/// Feature flags of Prometheus, and the same features here.
const ARENAS: [(&str, Features); 5] = [
    ("", OFF),
    (
        "promql-experimental-functions,promql-duration-expr",
        Features {
            experimental_functions: true,
            duration_expressions: true,
            ..OFF
        },
    ),
    (
        "promql-delayed-name-removal",
        Features {
            delayed_name_removal: true,
            ..OFF
        },
    ),
    (
        "type-and-unit-labels",
        Features {
            type_and_unit_labels: true,
            ..OFF
        },
    ),
    (
        "promql-experimental-functions,promql-duration-expr,promql-delayed-name-removal,type-and-unit-labels",
        Features {
            experimental_functions: true,
            duration_expressions: true,
            delayed_name_removal: true,
            type_and_unit_labels: true,
        },
    ),
];

/// Operations whose results are rounded.
const INEXACT: &[&str] = &[
    "exp(",
    "sin",
    "cos",
    "tan",
    "^",
    "/",
    "rate(",
    "delta(",
    "increase(",
    "deriv(",
    "predict",
    "avg",
    "std",
    "ln(",
    "log",
    "sqrt(",
    "rad(",
    "deg(",
    "quantile",
    "fraction",
    "smoothing",
];

/// Returns whether the last digit of an intermediate value may decide about the whole result.
fn is_chaotic(query: &str) -> bool {
    let any = |words: &[&str]| words.iter().any(|word| query.contains(word));
    let compared = any(&[">", "<", "== ", "!= "]);
    let large = any(&["ts_of", "time", "year("]);
    let steep = any(&["exp(", "sinh(", "cosh(", "tan", "^"]);
    query.contains('%') && any(INEXACT) || any(&["std"]) && (compared || large || steep)
}

const OFF: Features = Features {
    experimental_functions: false,
    duration_expressions: false,
    delayed_name_removal: false,
    type_and_unit_labels: false,
};

/// Both sides with the same data and features.
struct Arena {
    flags: String,
    peer: Prometheus,
    /// End of the data.
    end_ms: i64,
    engine: Engine,
    store: MemoryStore,
}

impl Arena {
    fn new(
        binary: &str,
        series: &[(Labels, Vec<Sample>)],
        flags: &str,
        features: Features,
    ) -> Self {
        let peer = Prometheus::start(binary, flags);
        peer.write(series);
        let mut store = MemoryStore::new();
        let last = |(_, samples): &(Labels, Vec<Sample>)| Some(samples.last()?.timestamp_ms);
        let end_ms = series.iter().filter_map(last).min().unwrap_or(0);
        for (labels, samples) in series {
            for &sample in samples {
                store.add(labels, sample);
            }
        }
        let engine = Engine::new(EngineOptions {
            features,
            threads_max: 2,
            ..EngineOptions::default()
        });
        Self {
            flags: flags.to_owned(),
            peer,
            end_ms,
            engine,
            store,
        }
    }

    /// Returns whether Prometheus 3.5 answers a query with `info()` wrongly.
    fn is_wrong_info(&self, case: &Case<'_>) -> bool {
        // Over several steps, info() of Prometheus 3.5 confuses info series that have gaps, such as `target_info`. With an offset
        // in its operand, it looks for them at the wrong time.
        let moved = [":", "offset", "@", "["]
            .iter()
            .any(|c| case.query.contains(c));
        let steady = ["build_info", "steady", "steady * 2"];
        let is_steady = |tail: &str| {
            steady.iter().any(|name| {
                tail.starts_with(&format!("{name},")) || tail.starts_with(&format!("{name})"))
            })
        };
        let mut infos = case.query.split("info(").skip(1).peekable();
        let beyond = case.end_ms > self.end_ms || case.lookback_seconds.is_some();
        let named = case.query.contains("target_info|");
        let with_gaps = !infos.clone().all(is_steady) || beyond || named;
        infos.peek().is_some() && (moved || case.step_ms != 0 && with_gaps)
    }

    /// Returns the difference, if any.
    fn compare(&self, case: &Case<'_>) -> Option<String> {
        if self.is_wrong_info(case) || is_chaotic(case.query) {
            return None;
        }
        let tolerance = Tolerance::of(case.query);
        let theirs = self.theirs(case);
        let ours = self.ours(case);
        let (their_answer, their_notes) = parse_answer(&theirs);
        let our_samples = ours
            .as_ref()
            .ok()
            .map(|result| result.stats.samples_queryable);
        let our_order = ours
            .as_ref()
            .ok()
            .and_then(|result| order(case, &result.value));
        let (our_answer, our_notes) = convert(ours);
        if let Some(text) = compare_answers(&our_answer, &their_answer, tolerance) {
            let bug = fixed_bug(&Difference {
                query: case.query,
                features: self.engine.options().features,
                our_error: our_answer.as_ref().err().map(String::as_str),
                their_error: their_answer.as_ref().err().map(String::as_str),
            });
            if let Some(bug) = bug {
                println!("known: {bug}: {}", case.query);
                return None;
            }
            return Some(text);
        }
        let their_samples = theirs["data"]["stats"]["samples"]["totalQueryableSamples"].as_u64();
        // Prometheus counts a pinned selector once in the parameter of an aggregation, elsewhere once for each step.
        let uncounted = case.query.contains("info(")
            || (case.query.contains("scalar(") && case.query.contains('@'));
        if our_answer.is_ok() && our_samples != their_samples && !uncounted {
            return Some(format!(
                "read {our_samples:?} samples, Prometheus {their_samples:?}"
            ));
        }
        let their_order = our_order.is_some().then(|| listed(&theirs));
        if our_order != their_order {
            return Some(format!(
                "order\n    ours   {our_order:?}\n    theirs {their_order:?}"
            ));
        }
        // In Prometheus, the first step that adds this annotation decides whether it has the metric name.
        let nameless = |notes: &[String]| -> BTreeSet<String> {
            notes
                .iter()
                .map(
                    |note| match note.split_once("#histogram_quantile) for metric name") {
                        Some((head, _)) => head.to_owned(),
                        None => note.clone(),
                    },
                )
                .collect()
        };
        let (ours, theirs) = (nameless(&our_notes), nameless(&their_notes));
        let (ours, theirs) = (rounded(&ours), rounded(&theirs));
        // Over HTTP, Prometheus returns any ten of each kind.
        let (omitted, named): (Vec<_>, Vec<_>) =
            theirs.iter().partition(|note| note.ends_with(" omitted"));
        let same = if omitted.is_empty() {
            ours == theirs
        } else {
            named.iter().all(|note| ours.contains(*note))
        };
        (!same && our_answer.is_ok())
            .then(|| format!("annotations\n    ours   {our_notes:?}\n    theirs {their_notes:?}"))
    }

    fn theirs(&self, case: &Case<'_>) -> Json {
        let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
        let (start, end) = (seconds(case.start_ms), seconds(case.end_ms));
        let lookback = case
            .lookback_seconds
            .map_or_else(String::new, |s| s.to_string());
        let common = [
            ("query", case.query),
            ("lookback_delta", &lookback),
            ("stats", "true"),
        ];
        if case.step_ms == 0 {
            let form: Vec<_> = common
                .into_iter()
                .chain([("time", start.as_str())])
                .collect();
            return self.peer.api("/api/v1/query", &form);
        }
        let step = seconds(case.step_ms);
        let times = [("start", start.as_str()), ("end", &end), ("step", &step)];
        let form: Vec<_> = common.into_iter().chain(times).collect();
        self.peer.api("/api/v1/query_range", &form)
    }

    fn ours(&self, case: &Case<'_>) -> Result<QueryResult, QueryError> {
        let control = ReadControl::unlimited();
        let options = QueryOptions {
            lookback_delta: case.lookback_seconds.map(|s| Duration::from_secs(s.into())),
            control: &control,
            deadline: None,
            per_step_stats: false,
        };
        if case.step_ms == 0 {
            return self
                .engine
                .instant(&self.store, case.query, case.start_ms, &options);
        }
        let range = RangeParams {
            start_ms: case.start_ms,
            end_ms: case.end_ms,
            step_ms: case.step_ms,
        };
        self.engine.range(&self.store, case.query, range, &options)
    }
}

/// Rounds the numbers in annotations.
fn rounded(notes: &BTreeSet<String>) -> BTreeSet<String> {
    let word = |word: &str| {
        let number = word.trim_end_matches(',').parse::<f64>();
        number.map_or_else(|_| word.to_owned(), |number| format!("{number:.9e}"))
    };
    let note = |note: &String| note.split(' ').map(word).collect::<Vec<_>>().join(" ");
    notes.iter().map(note).collect()
}

/// Returns the labels of an instant result in its order, if Prometheus specifies one.
fn order(case: &Case<'_>, value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Vector(vector) if case.query.starts_with("sort_by_label") => {
            let labels = vector.iter().map(|one| labels_text(one.labels.iter()));
            Some(labels.collect())
        }
        _ => None,
    }
}

fn listed(json: &Json) -> Vec<String> {
    let result = json["data"]["result"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let labels = result.iter().map(|one| {
        let empty = serde_json::Map::new();
        let metric = one["metric"].as_object().unwrap_or(&empty);
        let pairs = metric
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
        labels_text(pairs)
    });
    labels.collect()
}

fn labels_text<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let sorted: BTreeMap<_, _> = labels.collect();
    format!("{sorted:?}")
}

fn convert(result: Result<QueryResult, QueryError>) -> (Answer, Vec<String>) {
    let result = match result {
        Ok(result) => result,
        Err(error) => {
            return (
                Err(format!("{}: {}", error.kind.as_str(), error.message)),
                Vec::new(),
            );
        }
    };
    let mut series = BTreeMap::new();
    let kind = result.value.type_name().to_owned();
    let mut notes: Vec<String> = result
        .warnings
        .iter()
        .chain(result.infos.iter())
        .cloned()
        .collect();
    notes.sort();
    match result.value {
        Value::Scalar(sample) => {
            series.insert(String::new(), vec![(sample.timestamp_ms, sample.value)]);
        }
        Value::Vector(vector) => {
            for one in vector {
                let sample = (one.sample.timestamp_ms, one.sample.value);
                series.insert(labels_text(one.labels.iter()), vec![sample]);
            }
        }
        Value::Matrix(matrix) => {
            for one in matrix {
                let samples = one.samples.iter().map(|s| (s.timestamp_ms, s.value));
                series.insert(labels_text(one.labels.iter()), samples.collect());
            }
        }
        Value::String { timestamp_ms, text } => {
            let text = String::from_utf8_lossy(&text).into_owned();
            series.insert(text, vec![(timestamp_ms, 0.0)]);
        }
    }
    (Ok((kind, series)), notes)
}

fn parse_answer(json: &Json) -> (Answer, Vec<String>) {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    if json["status"] != "success" {
        let message = text(&json["error"]).replace("invalid parameter \"query\": ", "");
        return (
            Err(format!("{}: {message}", text(&json["errorType"]))),
            Vec::new(),
        );
    }
    let list = |name: &str| json[name].as_array().cloned().unwrap_or_default();
    let mut notes: Vec<String> = list("warnings")
        .iter()
        .chain(&list("infos"))
        .map(text)
        .collect();
    notes.sort();
    let sample = |pair: &Json| {
        let value = match pair[1].as_str().unwrap_or_default() {
            "+Inf" => f64::INFINITY,
            "-Inf" => f64::NEG_INFINITY,
            number => number.parse().unwrap_or(f64::NAN),
        };
        (
            (pair[0].as_f64().unwrap_or_default() * 1000.0).round() as i64,
            value,
        )
    };
    let data = &json["data"];
    let kind = text(&data["resultType"]);
    let mut series = BTreeMap::new();
    if kind == "scalar" {
        series.insert(String::new(), vec![sample(&data["result"])]);
    } else if kind == "string" {
        let (time, _) = sample(&data["result"]);
        series.insert(text(&data["result"][1]), vec![(time, 0.0)]);
    } else {
        for one in data["result"].as_array().cloned().unwrap_or_default() {
            let empty = serde_json::Map::new();
            let metric = one["metric"].as_object().unwrap_or(&empty);
            let labels = metric
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
            let samples = match one["values"].as_array() {
                Some(values) => values.iter().map(sample).collect(),
                None => vec![sample(&one["value"])],
            };
            series.insert(labels_text(labels), samples);
        }
    }
    (Ok((kind, series)), notes)
}

/// Truncates a message where it lists series, whose order is unspecified.
fn stable(message: &str) -> &str {
    message
        .split_once(" for the match group")
        .map_or(message, |(head, _)| head)
}

fn compare_answers(ours: &Answer, theirs: &Answer, tolerance: Tolerance) -> Option<String> {
    let (ours, theirs) = match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (Err(ours), Err(theirs)) if stable(ours) == stable(theirs) => return None,
        _ => {
            return Some(format!(
                "outcome\n    ours   {ours:.400?}\n    theirs {theirs:.400?}"
            ));
        }
    };
    if ours.0 != theirs.0 || !ours.1.keys().eq(theirs.1.keys()) {
        let keys =
            |answer: &BTreeMap<String, _>| answer.keys().cloned().collect::<Vec<_>>().join(" ");
        return Some(format!(
            "series\n    ours   {} {}\n    theirs {} {}",
            ours.0,
            keys(&ours.1),
            theirs.0,
            keys(&theirs.1)
        ));
    }
    for (labels, our_samples) in &ours.1 {
        let their_samples = &theirs.1[labels];
        let same = our_samples.len() == their_samples.len()
            && our_samples
                .iter()
                .zip(their_samples)
                .all(|(ours, theirs)| ours.0 == theirs.0 && tolerance.almost(ours.1, theirs.1));
        if !same {
            let pair = our_samples
                .iter()
                .zip(their_samples)
                .find(|(ours, theirs)| ours.0 != theirs.0 || !tolerance.almost(ours.1, theirs.1));
            let (our_count, their_count) = (our_samples.len(), their_samples.len());
            return Some(format!(
                "values of {labels}: {our_count} and {their_count} samples, first difference {pair:?}"
            ));
        }
    }
    None
}

/// How far values may differ.
#[derive(Debug, Clone, Copy)]
struct Tolerance {
    relative: f64,
    /// Whether the sign of a zero counts.
    zero_sign: bool,
}

impl Tolerance {
    /// Allows rounding in the last digits: the order of series in sums differs.
    fn of(query: &str) -> Self {
        // Variances of large numbers lose most digits, and depend on the order of the numbers.
        let relative = if query.contains("std") { 1e-6 } else { 1e-9 };
        // The order also decides which of 0 and -0 is the minimum, and the sign of their sum.
        let ordered = ["min", "max", "quantile", "sum", "avg"];
        Self {
            relative,
            zero_sign: !ordered.iter().any(|word| query.contains(word)),
        }
    }

    fn almost(self, ours: f64, theirs: f64) -> bool {
        if ours == theirs {
            let same_sign = ours.is_sign_negative() == theirs.is_sign_negative();
            return same_sign || ours != 0.0 || !self.zero_sign;
        }
        (ours.is_nan() && theirs.is_nan())
            || (ours - theirs).abs() <= self.relative * ours.abs().max(theirs.abs())
            // The rounding error of values up to some hundred that cancel out.
            || (ours - theirs).abs() < 1e-11
    }
}

#[test]
fn random_queries_agree_with_prometheus() {
    let Some(binary) = peer::binary() else {
        return;
    };
    // The same queries each time, unless a seed is given.
    let seed = match std::env::var("TIDEMARK_SEED") {
        Ok(seed) => seed.parse().expect("TIDEMARK_SEED is a number"),
        Err(_) => 20_261_124,
    };
    println!("seed: TIDEMARK_SEED={seed}");
    let start_ms = END_MS - MINUTES * 60_000;
    let data = Generator::new(seed, start_ms, false).data();
    let arenas = ARENAS.map(|(flags, features)| Arena::new(&binary, &data, flags, features));
    let mut differences = Vec::new();
    for number in 0..QUERIES {
        // Most queries use the default features.
        let arena = &arenas[[0, 1, 0, 2, 0, 3, 0, 1, 4][number % 9]];
        let is_experimental = arena.engine.options().features.experimental_functions;
        let mut generator = Generator::numbered(seed, number as u64, start_ms, is_experimental);
        let query = generator.query();
        let case = generator.case(&query, number);
        if let Some(difference) = arena.compare(&case) {
            let (from, step, flags) = (case.start_ms - start_ms, case.step_ms, &arena.flags);
            let steps = (case.end_ms - case.start_ms) / step.max(1) + 1;
            let lookback = case.lookback_seconds;
            differences.push(format!(
                "#{number} {query}\n  [{flags}] at {from} ms, {steps} steps of {step}, lookback {lookback:?}: {difference}"
            ));
        }
    }
    let count = differences.len();
    assert!(
        count == 0,
        "{count} of {QUERIES} differ, TIDEMARK_SEED={seed}:\n{}",
        differences.join("\n")
    );
}
