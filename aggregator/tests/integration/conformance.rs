//! Runs the PromQL test scripts over HTTP: series by remote write, queries by the API. No step on the way may lose a
//! digit, a label or an annotation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::model::{Labels, Sample};
use serde_json::Value as Json;
use tidemark_promql::parser::series::{SequenceValue, SeriesDescription};
use tidemark_promql::{
    ErrorKind, MatrixSeries, QueryError, QueryResult, Stats, Value, VectorSample,
};

use crate::harness::{Aggregator, workspace};
use crate::http::encode;
use crate::remote::{series, write};
use crate::script::{EvalTime, Server, Tally, run};

/// A server without retention: the scripts' timestamps are in 1970.
struct Remote {
    aggregator: Aggregator,
    /// Whether the store contains series.
    loaded: bool,
}

impl Remote {
    fn new() -> Self {
        let features = "--enable-feature=promql-experimental-functions,promql-duration-expr";
        let aggregator = Aggregator::start_with(&["--storage.retention.time=0", features]);
        Self {
            aggregator,
            loaded: false,
        }
    }
}

impl Server for Remote {
    fn clear(&mut self) {
        if self.loaded {
            *self = Self::new();
        }
    }

    fn load(&mut self, all: &[SeriesDescription], step_ms: i64) {
        // The last description of a series in a block wins.
        let last: BTreeMap<_, _> = all.iter().map(|one| (&one.labels, one)).collect();
        let message = last.into_values().map(|one| {
            let labels: Vec<_> = one.labels.iter().collect();
            let samples: Vec<_> = one
                .values
                .iter()
                .enumerate()
                .filter_map(|(index, value)| match value {
                    &SequenceValue::Float(value) => Some((step_ms * index as i64, value)),
                    _ => None,
                })
                .collect();
            series(&labels, &samples)
        });
        let answer = write(&self.aggregator, message.collect());
        assert_eq!(answer.status, 204, "{}", answer.text());
        self.loaded = true;
    }

    fn evaluate(&mut self, time: EvalTime, query: &str) -> Result<QueryResult, QueryError> {
        let query = encode(query);
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let answer = match time {
            EvalTime::Instant(at_ms) => {
                let form = format!("query={query}&time={}", seconds(at_ms));
                self.aggregator.post_form("/api/v1/query", &form)
            }
            EvalTime::Range(range) => {
                let form = format!(
                    "query={query}&start={}&end={}&step={}",
                    seconds(range.start_ms),
                    seconds(range.end_ms),
                    seconds(range.step_ms)
                );
                self.aggregator.post_form("/api/v1/query_range", &form)
            }
        };
        let json = answer.json();
        if json["status"] == "success" {
            return Ok(result(&json));
        }
        let message = json["error"].as_str().unwrap();
        let prefix = "invalid parameter \"query\": ";
        Err(QueryError {
            kind: ErrorKind::Execution,
            message: message.strip_prefix(prefix).unwrap_or(message).to_owned(),
            span: None,
        })
    }
}

fn result(json: &Json) -> QueryResult {
    let texts = |name: &str| -> Arc<[String]> {
        let list = json[name].as_array().into_iter().flatten();
        list.map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    QueryResult {
        value: value(&json["data"]),
        warnings: texts("warnings"),
        infos: texts("infos"),
        stats: Stats::default(),
    }
}

fn value(data: &Json) -> Value {
    let result = &data["result"];
    let list = || result.as_array().unwrap().iter();
    match data["resultType"].as_str().unwrap() {
        "scalar" => Value::Scalar(sample(result)),
        "string" => Value::String {
            timestamp_ms: timestamp_ms(result),
            text: result[1].as_str().unwrap().as_bytes().to_vec(),
        },
        "vector" => {
            let one = |one: &Json| VectorSample {
                labels: labels(one),
                sample: sample(&one["value"]),
            };
            Value::Vector(list().map(one).collect())
        }
        _ => {
            let one = |one: &Json| MatrixSeries {
                labels: labels(one),
                samples: one["values"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(sample)
                    .collect(),
            };
            Value::Matrix(list().map(one).collect())
        }
    }
}

fn labels(series: &Json) -> Labels {
    let map = series["metric"].as_object().unwrap();
    Labels::from_pairs(
        map.iter()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap())),
    )
    .unwrap()
}

fn timestamp_ms(point: &Json) -> i64 {
    (point[0].as_f64().unwrap() * 1000.0).round() as i64
}

fn sample(point: &Json) -> Sample {
    let value = match point[1].as_str().unwrap() {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().unwrap(),
    };
    Sample {
        timestamp_ms: timestamp_ms(point),
        value,
    }
}

fn run_folder(folder: &Path) -> Tally {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "test")
        })
        .collect();
    paths.sort();
    let mut all = Tally::default();
    for path in paths {
        let tally = run(&path, &mut Remote::new());
        all.passed += tally.passed;
        all.histograms += tally.histograms;
        all.failures.extend(tally.failures);
    }
    all
}

#[test]
fn shared_upstream_scripts_pass_over_http() {
    let shared = std::env::var_os("TIDEMARK_SHARED")
        .map_or_else(|| workspace().join("../shared"), PathBuf::from);
    let folder = shared.join("fixtures/promqltest");
    if !folder.is_dir() {
        eprintln!("SKIPPED: no upstream test scripts in {}", folder.display());
        return;
    }
    let tally = run_folder(&folder);
    eprintln!(
        "{} passed, {} with native histograms",
        tally.passed, tally.histograms
    );
    assert!(tally.failures.is_empty(), "{}", tally.failures.join("\n"));
    assert!(tally.passed > 300, "only {} evaluations ran", tally.passed);
}

#[test]
fn own_scripts_pass_over_http() {
    let folder = workspace().join("aggregator/promql/tests/cases");
    if !folder.is_dir() {
        eprintln!("SKIPPED: no test scripts in {}", folder.display());
        return;
    }
    let tally = run_folder(&folder);
    assert!(tally.failures.is_empty(), "{}", tally.failures.join("\n"));
}
