//! Hostile input: arbitrary bytes, deep nesting, and queries that would never finish.

use std::time::{Duration, Instant};

use common::model::{Labels, Sample};
use proptest::prelude::*;
use tidemark_promql::memory_store::MemoryStore;
use tidemark_promql::parser::series::parse_series;
use tidemark_promql::{
    Engine, EngineOptions, ErrorKind, Features, QueryError, QueryOptions, QueryResult, RangeParams,
    parse, parse_selector, pretty,
};
use tidemark_storage::read::ReadControl;

const ALL: Features = Features {
    experimental_functions: true,
    duration_expressions: true,
    delayed_name_removal: false,
    type_and_unit_labels: false,
};

/// Parses a text in every way. An accepted expression must print to one with the same meaning.
fn parse_all(text: &str) {
    let printed = parse(text, ALL).map(|expr| (expr.to_string(), pretty(&expr)));
    if let Ok((line, lines)) = printed {
        // The printed expression may exceed the maximum length.
        if let Ok(again) = parse(&line, ALL) {
            assert_eq!(again.to_string(), line, "{text:?}");
            assert_eq!(parse(&lines, ALL).unwrap().to_string(), line, "{text:?}");
        }
    }
    drop(parse(text, Features::default()));
    drop(parse_selector(text));
    drop(parse_series(text));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        parse_all(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn arbitrary_words_never_panic(words in prop::collection::vec(prop::sample::select(WORDS), 0..25)) {
        parse_all(&words.concat());
        parse_all(&words.join(" "));
    }
}

const WORDS: &[&str] = &[
    "foo",
    "sum",
    "by",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "=",
    "=~",
    "!=",
    "\"a\"",
    "'b'",
    "`c`",
    "5m",
    "1",
    "-",
    "+",
    "*",
    "^",
    "==",
    "bool",
    "on",
    "ignoring",
    "group_left",
    "offset",
    "@",
    "start()",
    "end()",
    "and",
    "or",
    "rate(",
    "topk(",
    "label_replace(",
    "\\",
    "\n",
    "#",
    "é",
    "NaN",
    "1e309",
    "0x",
    "\"\\xff\"",
    "{__name__=~\".+\"}",
    "[5m:1m]",
    "1-2x3",
    "_x5",
    "stale",
    "{{",
    "}}",
];

fn control() -> ReadControl {
    ReadControl::unlimited()
}

fn run(
    query: &str,
    range: RangeParams,
    options: &QueryOptions<'_>,
) -> Result<QueryResult, QueryError> {
    let mut store = MemoryStore::new();
    for series in 0..50 {
        let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("i", series.to_string())]);
        let labels = labels.unwrap();
        for step in 0..500 {
            let timestamp_ms = step * 10_000;
            store.add(
                &labels,
                Sample {
                    timestamp_ms,
                    value: step as f64,
                },
            );
        }
    }
    let engine = Engine::new(EngineOptions {
        samples_max: 1_000_000,
        features: ALL,
        ..EngineOptions::default()
    });
    engine.range(&store, query, range, options)
}

const LONG: RangeParams = RangeParams {
    start_ms: 0,
    end_ms: 5_000_000,
    step_ms: 1000,
};

fn options(control: &ReadControl, deadline: Option<Instant>) -> QueryOptions<'_> {
    QueryOptions {
        lookback_delta: None,
        control,
        deadline,
        per_step_stats: false,
    }
}

#[test]
fn oversized_queries_are_rejected() {
    let control = control();
    for query in [
        "sum_over_time(vector(time())[100y:1ms])",
        "m[1y:1ms]",
        "count_over_time(m[200y:1s])",
        "m * on () group_left () vector(1) + count_values without () (\"x\", {__name__=~\".+\"})",
        "sum_over_time(sum_over_time(sum_over_time(vector(1)[10y:1s])[10y:1s])[10y:1s])",
        "label_replace(m, \"x\", \"\", \"y\", \"(a{500}){500}\")",
        "m{i=~\"((((.{100}){100}){100}){100})\"}",
    ] {
        let result = run(query, LONG, &options(&control, None));
        assert!(result.is_err(), "{query} was answered");
    }
}

#[test]
fn deep_and_long_queries_are_rejected_or_answered() {
    for query in [
        "(".repeat(60_000),
        "-".repeat(60_000),
        format!("{}1{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("{}foo{}", "abs(".repeat(10_000), ")".repeat(10_000)),
        "1+".repeat(30_000) + "1",
        format!("m{}", "[1m:1m]".repeat(5_000)),
        format!("m{}", " offset 1m".repeat(5_000)),
        "x".repeat(2_000_000),
        format!("m{{a=~\"{}\"}}", "(".repeat(30_000)),
    ] {
        let error = parse(&query, ALL).unwrap_err();
        assert!(!error.message.is_empty());
    }
    let chain = "1+".repeat(900) + "1";
    let result = run(
        &chain,
        RangeParams { end_ms: 0, ..LONG },
        &options(&control(), None),
    )
    .unwrap();
    let tidemark_promql::Value::Matrix(matrix) = result.value else {
        panic!("a range query yields a matrix");
    };
    assert_eq!(matrix[0].samples[0].value, 901.0);
    // An accepted expression can also be printed, on a small stack.
    for query in [chain, format!("{}m{}", "abs((".repeat(80), "))".repeat(80))] {
        let expr = parse(&query, ALL).unwrap();
        assert!(pretty(&expr).contains('1') || pretty(&expr).contains('m'));
        assert!(tidemark_promql::ast_json(&expr).starts_with('{'));
    }
}

#[test]
fn queries_stop_at_their_deadline() {
    let control = control();
    let before = Instant::now();
    let query = "quantile_over_time(0.5, m[1h]) + stddev_over_time(m[1h])";
    let options = options(&control, Some(before + Duration::from_millis(20)));
    let error = run(query, LONG, &options).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert_eq!(error.message, "query timed out in expression evaluation");
}

#[test]
fn cancelled_queries_stop() {
    let control = control();
    control.cancel();
    let error = run("sum(m)", LONG, &options(&control, None)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Canceled);
    assert_eq!(error.message, "query was canceled in expression evaluation");
}

#[test]
fn limits_of_the_store_are_execution_errors() {
    let control = ReadControl::new(100, u64::MAX);
    let error = run("sum(m)", LONG, &options(&control, None)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Execution);
    assert!(error.message.contains("too many samples"), "{error}");
    let control = ReadControl::new(u64::MAX, 10);
    let error = run("sum(m)", LONG, &options(&control, None)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Execution);
}

#[test]
fn extreme_times_do_not_overflow() {
    let control = control();
    let engine = Engine::new(EngineOptions::default());
    let store = MemoryStore::new();
    for time_ms in [i64::MIN / 2, -1, 0, i64::MAX / 2] {
        for query in [
            "m",
            "rate(m[5m])",
            "m offset 200y",
            "m @ 1e15",
            "time()",
            "sum_over_time(m[1h:1m])",
            "minute()",
        ] {
            drop(engine.instant(&store, query, time_ms, &options(&control, None)));
        }
    }
}
