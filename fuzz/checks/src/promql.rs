//! Queries: parsed, printed, evaluated.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::model::Labels;
use tidemark_promql::memory_store::MemoryStore;
use tidemark_promql::parser::series::parse_series;
use tidemark_promql::{
    Engine, EngineOptions, Features, QueryOptions, RangeParams, Value, ast_json, parse,
    parse_selector, pretty,
};
use tidemark_storage::ReadControl;

const ALL: Features = Features {
    experimental_functions: true,
    duration_expressions: true,
    delayed_name_removal: false,
    type_and_unit_labels: false,
};
const AT_MS: i64 = 600_000;
const SERIES: &[&str] = &[
    "up{job=\"a\",instance=\"1\"} 1+0x20",
    "up{job=\"a\",instance=\"2\"} 1 1 0 _ _ stale 1x10",
    "up{job=\"b\",instance=\"1\"} NaN Inf -Inf 0x12",
    "requests_total{job=\"a\",code=\"200\"} 0+10x20",
    "requests_total{job=\"a\",code=\"500\"} 0+1x8 0+1x10",
    "latency_bucket{le=\"0.1\"} 0+1x20",
    "latency_bucket{le=\"1\"} 0+3x20",
    "latency_bucket{le=\"+Inf\"} 0+4x20",
    "build_info{job=\"a\",instance=\"1\",version=\"v1\"} 1x20",
];

/// A query. An accepted query prints to an equivalent one, and an instant query returns the same as a range query of one
/// step.
///
/// # Panics
/// One of these is violated.
pub fn promql(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    for features in [ALL, Features::default()] {
        print_and_parse(text, features);
    }
    drop(parse_series(text));
    if let Ok(matchers) = parse_selector(text) {
        for matcher in &matchers {
            let _yes_or_no = matcher.matches("a");
        }
    }
    evaluate(text);
}

fn print_and_parse(text: &str, features: Features) {
    let Ok(expr) = parse(text, features) else {
        return;
    };
    let line = expr.to_string();
    let json = ast_json(&expr);
    let json: Result<serde_json::Value, _> = serde_json::from_str(&json);
    // The JSON parser's own limit on nesting does not count.
    assert!(
        json.as_ref().is_ok_and(serde_json::Value::is_object)
            || json.is_err_and(|error| error.to_string().contains("recursion limit")),
        "the tree of {text:?} is JSON"
    );
    // The printed form may exceed the limit on queries.
    if let Ok(again) = parse(&line, features) {
        assert_eq!(again.to_string(), line, "{text:?}");
        let lines = pretty(&expr);
        let lines = parse(&lines, features).map(|expr| expr.to_string());
        assert_eq!(lines.as_deref(), Ok(&*line), "{text:?}");
    }
}

fn evaluate(text: &str) {
    // Long queries are tested elsewhere.
    if text.len() > 400 {
        return;
    }
    let mut store = MemoryStore::new();
    for series in SERIES {
        let series = parse_series(series).expect("a series of this harness");
        store.load(&series, 0, 30_000);
    }
    let engine = Engine::new(EngineOptions {
        samples_max: 50_000,
        features: ALL,
        threads_max: 1,
        cache_samples_max: 0,
        ..EngineOptions::default()
    });
    let control = ReadControl::new(50_000, 1000);
    let options = QueryOptions {
        lookback_delta: None,
        control: &control,
        deadline: Some(Instant::now() + Duration::from_secs(5)),
        per_step_stats: false,
    };
    let instant = engine.instant(&store, text, AT_MS, &options);
    let control = ReadControl::new(50_000, 1000);
    let options = QueryOptions {
        control: &control,
        ..options
    };
    let range = RangeParams {
        start_ms: AT_MS,
        end_ms: AT_MS,
        step_ms: 1000,
    };
    let range = engine.range(&store, text, range, &options);
    if let (Ok(instant), Ok(range)) = (&instant, &range) {
        let (one, other) = (values(&instant.value), values(&range.value));
        assert_eq!(one, other, "{text:?}: an instant is a range of one step");
    }
}

/// Returns bits by labels. All NaNs are equal, because the processor chooses which operand's payload it keeps.
fn values(value: &Value) -> BTreeMap<Labels, u64> {
    let bits = |value: f64| {
        if value.is_nan() {
            f64::NAN.to_bits()
        } else {
            value.to_bits()
        }
    };
    match value {
        Value::Scalar(sample) => BTreeMap::from([(Labels::empty(), bits(sample.value))]),
        Value::Vector(samples) => {
            let one = |sample: &tidemark_promql::VectorSample| {
                (sample.labels.clone(), bits(sample.sample.value))
            };
            samples.iter().map(one).collect()
        }
        Value::Matrix(series) => {
            let one = |series: &tidemark_promql::MatrixSeries| {
                let last = series.samples.last().map(|sample| bits(sample.value));
                Some((series.labels.clone(), last?))
            };
            series.iter().filter_map(one).collect()
        }
        Value::String { .. } => BTreeMap::new(),
    }
}
