//! Functions of one number, and powers and angles of two, over random numbers: bit for bit what Prometheus has.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use common::model::{Labels, Sample};
use tidemark_promql::testing::MemoryStore;
use tidemark_promql::{Engine, EngineOptions, QueryOptions, Value};
use tidemark_storage::read::ReadControl;

use crate::peer::{self, Prometheus};

/// Pairs of numbers.
const PAIRS: usize = 1500;

const QUERIES: [&str; 20] = [
    "exp(a)",
    "ln(a)",
    "log2(a)",
    "log10(a)",
    "sqrt(a)",
    "sin(a)",
    "cos(a)",
    "tan(a)",
    "asin(a)",
    "acos(a)",
    "atan(a)",
    "sinh(a)",
    "cosh(a)",
    "tanh(a)",
    "asinh(a)",
    "acosh(a)",
    "atanh(a)",
    "a ^ on (i) b",
    "a atan2 on (i) b",
    "a % on (i) b",
];

/// Where functions change their ways.
const SPECIAL: [f64; 24] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    3.0,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    f64::MAX,
    f64::MIN_POSITIVE,
    5e-324,
    -1e-310,
    1e-12,
    1e22,
    -1e19,
    536_870_912.0,
    709.7,
    -708.5,
    -744.9,
    21.5,
    0.66,
    -1e-9,
];

/// The splitmix64 sequence.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Numbers of many sizes and signs, most of them about 1; whole ones and halves among them.
    fn number(&mut self) -> f64 {
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        let size = match self.next() % 16 {
            0 => return SPECIAL[self.next() as usize % SPECIAL.len()],
            1 => 1e-3,
            2..=6 => 1.0,
            7..=9 => 10.0,
            10 => 100.0,
            11 => 1e6,
            12 => 1e12,
            13 => 1e300,
            14 => return (unit * 40.0).floor() - 20.0,
            _ => return (unit * 40.0).floor() / 2.0 - 10.0,
        };
        (unit * 2.0 - 1.0) * size
    }
}

fn ours(engine: &Engine, store: &MemoryStore, query: &str, at_ms: i64) -> BTreeMap<String, f64> {
    let control = ReadControl::unlimited();
    let options = QueryOptions {
        lookback_delta: None,
        control: &control,
        deadline: None,
        per_step_stats: false,
    };
    let result = engine.instant(store, query, at_ms, &options).unwrap();
    let Value::Vector(vector) = result.value else {
        panic!("{query}: no vector");
    };
    let pair = |one: tidemark_promql::VectorSample| {
        (
            one.labels.get("i").unwrap_or_default().to_owned(),
            one.sample.value,
        )
    };
    vector.into_iter().map(pair).collect()
}

fn theirs(peer: &Prometheus, query: &str, at_ms: i64) -> BTreeMap<String, f64> {
    let time = format!("{}", at_ms / 1000);
    let answer = peer.api("/api/v1/query", &[("query", query), ("time", &time)]);
    let list = answer["data"]["result"].as_array();
    let list = list.unwrap_or_else(|| panic!("{query}: {answer}"));
    let pair = |one: &serde_json::Value| {
        let name = one["metric"]["i"].as_str().unwrap().to_owned();
        (name, one["value"][1].as_str().unwrap().parse().unwrap())
    };
    list.iter().map(pair).collect()
}

/// Go takes other ways on other processors, and those differ in the last bit from each other.
fn is_like_the_reference() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    if !has {
        println!("SKIPPED: the reference is Go on amd64 with fused multiplication");
    }
    has
}

/// A moment that Prometheus takes samples of.
fn recent_ms() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "Prometheus refuses samples far from its own clock"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs() as i64 * 1000 - 60_000
}

#[test]
fn functions_of_numbers_agree_with_prometheus_to_the_last_bit() {
    let Some(binary) = peer::binary().filter(|_| is_like_the_reference()) else {
        return;
    };
    let seed = std::env::var("TIDEMARK_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let mut random = Random(seed.unwrap_or(1));
    let at_ms = recent_ms();
    let mut series = Vec::new();
    let mut inputs = BTreeMap::new();
    let mut store = MemoryStore::new();
    for number in 0..PAIRS {
        let name = format!("{number:05}");
        for metric in ["a", "b"] {
            let value = random.number();
            let labels = Labels::from_pairs([("__name__", metric), ("i", name.as_str())]).unwrap();
            let sample = Sample {
                timestamp_ms: at_ms,
                value,
            };
            store.add(&labels, sample);
            series.push((labels, vec![sample]));
            inputs.insert((metric, name.clone()), value);
        }
    }
    let peer = Prometheus::start(&binary, "");
    peer.write(&series);
    let engine = Engine::new(EngineOptions::default());
    let mut differences = Vec::new();
    for query in QUERIES {
        let (ours, theirs) = (
            ours(&engine, &store, query, at_ms),
            theirs(&peer, query, at_ms),
        );
        assert_eq!(ours.len(), PAIRS, "{query}");
        assert_eq!(theirs.len(), PAIRS, "{query}");
        let mut apart = 0;
        for (name, &value) in &ours {
            let other = theirs[name];
            let same = value.to_bits() == other.to_bits() || value.is_nan() && other.is_nan();
            if !same && apart < 3 {
                let (a, b) = (inputs[&("a", name.clone())], inputs[&("b", name.clone())]);
                differences.push(format!("{query} of {a:e}, {b:e}: {value:e} != {other:e}"));
            }
            apart += usize::from(!same);
        }
        if apart > 0 {
            differences.push(format!("{query}: {apart} of {PAIRS} differ"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
