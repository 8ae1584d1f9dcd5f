//! Mathematical functions return the same bits as Prometheus, which uses Go's algorithms, not those of the C library.

use std::collections::BTreeMap;
use std::f64::consts::{FRAC_PI_4, PI};

use common::model::{Labels, Sample, is_stale};
use tidemark_promql::memory_store::MemoryStore;
use tidemark_promql::{Engine, EngineOptions, QueryOptions, Value};
use tidemark_storage::read::ReadControl;

use crate::peer::{self, Prometheus};
use crate::query_diff::END_MS;

/// Functions of one number. They are applied to the metrics `x` and `near` of [`rows`].
const FUNCTIONS: [&str; 23] = [
    "abs", "ceil", "floor", "exp", "ln", "log2", "log10", "sqrt", "sgn", "deg", "rad", "sin",
    "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh",
];

/// Functions of two numbers, and functions of one number with a constant.
const EXPRESSIONS: [&str; 26] = [
    "x ^ y",
    "x % y",
    "x / y",
    "x atan2 y",
    "near ^ y",
    "near ^ small",
    "near % small",
    "near atan2 small",
    "small ^ near",
    "small atan2 near",
    "near ^ 2",
    "near ^ 3",
    "near ^ 0.5",
    "near ^ -0.5",
    "near ^ -1",
    "near ^ 17.25",
    "2 ^ near",
    "10 ^ near",
    "(-3) ^ small",
    "near % 0.1",
    "-7.5 % near",
    "round(x)",
    "round(near)",
    "round(near, 0.1)",
    "round(x, 7)",
    "clamp(near, -1, 1.5)",
];

/// A reproducible sequence of random numbers (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number between -1 and 1.
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

/// Returns numbers near which algorithms branch, and special values.
fn landmarks() -> Vec<f64> {
    let mut all = vec![
        0.0,
        f64::NAN,
        f64::INFINITY,
        f64::MAX,
        f64::MIN_POSITIVE,
        f64::from_bits(1),
        f64::from_bits(0x000f_ffff_ffff_ffff),
        f64::EPSILON,
        0.66,
        0.7,
        0.625,
        1.0 / 3.0,
        0.5_f64.sqrt(),
        2.0_f64.sqrt() - 1.0,
        2.414_213_562_373_095,
        44.014_845_965_555_65,
        709.782_712_893_384,
        708.396_418_532_264_1,
        745.133_219_101_941_1,
        1e22,
        9_007_199_254_740_993.0,
        536_870_912.0,
        9.223_372_036_854_776e18,
    ];
    all.extend((-60..60).map(|power| 2_f64.powi(power)));
    all.extend((0..60).map(|multiple| f64::from(multiple) * 0.5));
    for multiple in 1..60 {
        all.push(f64::from(multiple) * FRAC_PI_4);
        all.push(f64::from(multiple) * 1e7 * PI);
    }
    let near = all.iter().flat_map(|value| {
        let bits = value.to_bits();
        [bits.saturating_sub(1), bits, bits + 1].map(f64::from_bits)
    });
    near.flat_map(|value| [value, -value]).collect()
}

/// Returns the values of the metrics `x`, `y`, `near` and `small`; those of a row have equal labels.
fn rows() -> Vec<[f64; 4]> {
    let mut numbers = Numbers(20_261_123);
    let mut rows = Vec::new();
    let landmarks = landmarks();
    for (index, &value) in landmarks.iter().enumerate() {
        let other = landmarks[(index * 7 + 3) % landmarks.len()];
        rows.push([value, other, value, f64::from((index % 41) as i32 - 20)]);
    }
    for _ in 0..3000 {
        let any = [numbers.bits(), numbers.bits()].map(f64::from_bits);
        let scale = 10_f64.powi((numbers.bits() % 8) as i32 - 4);
        rows.push([
            any[0],
            any[1],
            numbers.unit() * scale,
            numbers.unit() * 30.0,
        ]);
    }
    // A staleness marker is not a value.
    rows.retain(|row| !row.iter().any(|value| is_stale(*value)));
    rows
}

fn data(time_ms: i64) -> Vec<(Labels, Vec<Sample>)> {
    let mut all = Vec::new();
    for (number, row) in rows().iter().enumerate() {
        for (name, &value) in ["x", "y", "near", "small"].iter().zip(row) {
            let number = format!("{number:05}");
            let labels = Labels::from_pairs([("__name__", *name), ("n", number.as_str())]).unwrap();
            let sample = Sample {
                timestamp_ms: time_ms,
                value,
            };
            all.push((labels, vec![sample]));
        }
    }
    all
}

fn theirs(peer: &Prometheus, query: &str, time_ms: i64) -> BTreeMap<String, f64> {
    let time = format!("{}.{:03}", time_ms / 1000, time_ms % 1000);
    let answer = peer.api("/api/v1/query", &[("query", query), ("time", &time)]);
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    let result = answer["data"]["result"].as_array().unwrap();
    let one = |series: &serde_json::Value| {
        let value = match series["value"][1].as_str().unwrap() {
            "+Inf" => f64::INFINITY,
            "-Inf" => f64::NEG_INFINITY,
            text => text.parse().unwrap(),
        };
        (series["metric"]["n"].as_str().unwrap().to_owned(), value)
    };
    result.iter().map(one).collect()
}

fn ours(store: &MemoryStore, query: &str, time_ms: i64) -> BTreeMap<String, f64> {
    let control = ReadControl::unlimited();
    let options = QueryOptions {
        lookback_delta: None,
        control: &control,
        deadline: None,
        per_step_stats: false,
    };
    let engine = Engine::new(EngineOptions::default());
    let result = engine.instant(store, query, time_ms, &options).unwrap();
    let Value::Vector(vector) = result.value else {
        panic!("{query} does not return a vector");
    };
    let one = |sample: &tidemark_promql::VectorSample| {
        let number = sample.labels.get("n").unwrap_or_default().to_owned();
        (number, sample.sample.value)
    };
    vector.iter().map(one).collect()
}

/// Returns whether Go uses fused multiply-add on this processor.
fn has_fused() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("fma")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

#[test]
fn numbers_agree_with_prometheus_to_the_last_bit() {
    let Some(binary) = peer::binary() else {
        return;
    };
    if !has_fused() {
        println!(
            "SKIPPED: Prometheus' own exponential depends on the processor, and this one is another"
        );
        return;
    }
    let peer = Prometheus::start(&binary, "");
    let time_ms = END_MS;
    let data = data(time_ms);
    peer.write(&data);
    let mut store = MemoryStore::new();
    for (labels, samples) in &data {
        store.add(labels, samples[0]);
    }
    let values: BTreeMap<_, _> = rows()
        .into_iter()
        .enumerate()
        .map(|(number, row)| (format!("{number:05}"), row))
        .collect();
    let calls = FUNCTIONS
        .iter()
        .flat_map(|name| [format!("{name}(x)"), format!("{name}(near)")]);
    let queries: Vec<_> = calls.chain(EXPRESSIONS.map(str::to_owned)).collect();
    let mut report = Vec::new();
    for query in &queries {
        let theirs = theirs(&peer, query, time_ms);
        let ours = ours(&store, query, time_ms);
        assert!(theirs.len() > 3000, "{query}: {} values", theirs.len());
        assert!(ours.keys().eq(theirs.keys()), "{query}: other series");
        let differ: Vec<_> = ours
            .iter()
            .map(|(number, &ours)| (number, ours, theirs[number]))
            .filter(|(_, ours, theirs)| {
                ours.to_bits() != theirs.to_bits() && !(ours.is_nan() && theirs.is_nan())
            })
            .collect();
        if let Some((number, ours, theirs)) = differ.first() {
            let (count, row) = (differ.len(), values[*number]);
            report.push(format!(
                "{query}: {count} differ, first for x, y, near, small = {row:?}: ours {ours:e}, theirs {theirs:e}"
            ));
        }
    }
    let count = report.len();
    assert!(count == 0, "{count} queries:\n{}", report.join("\n"));
}
