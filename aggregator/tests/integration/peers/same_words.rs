//! Sends the same requests to the real Prometheus and to us. Status, type and text of errors must agree, and so must
//! formatted and parsed queries.

use serde_json::Value;

use super::{Prometheus, assert_alike, peer};
use crate::harness::{Aggregator, now_ms};
use crate::http::{self, encode};
use crate::remote::{TimeSeries, series, write_to};

/// Invalid and borderline requests: method and path.
const REQUESTS: &[(&str, &str)] = &[
    ("GET", "query"),
    ("GET", "query?query=up&time=foo"),
    ("GET", "query?query=up&time=NaN"),
    ("GET", "query?query=up&time=Inf"),
    ("GET", "query?query=up&time=2015-02-30T00:00:00Z"),
    ("GET", "query?query=up&limit=-1"),
    ("GET", "query?query=up&limit=x"),
    ("GET", "query?query=up&timeout=x"),
    ("GET", "query?query=up&lookback_delta=x"),
    ("GET", "query?query=up%5B"),
    ("GET", "query?query=sum("),
    ("GET", "query?query=foo%20bar"),
    ("GET", "query?query=%7Bjob=~%22.*%22%7D"),
    ("GET", "query?query=rate(up)"),
    ("GET", "query?query=up%5B0s%5D"),
    ("GET", "query?query=limitk(1,up)"),
    ("GET", "query_range?query=up&end=1&step=1"),
    ("GET", "query_range?query=up&start=0&end=x&step=1"),
    ("GET", "query_range?query=up&start=2&end=1&step=1"),
    ("GET", "query_range?query=up&start=0&end=1&step=0"),
    ("GET", "query_range?query=up&start=0&end=1&step=-1"),
    ("GET", "query_range?query=up&start=0&end=1&step=x"),
    ("GET", "query_range?query=up&start=0&end=1&step=1e300"),
    ("GET", "query_range?query=up&start=0&end=11001&step=1"),
    ("GET", "query_range?query=up&start=0&end=11000&step=1"),
    ("GET", "query_range?query=up%5B1m%5D&start=0&end=10&step=1"),
    ("GET", "query_range?query=%22x%22&start=0&end=10&step=1"),
    ("GET", "query_range?query=&start=0&end=10&step=1"),
    ("GET", "query_range?query=up&start=0&end=10&step=1&limit=x"),
    ("GET", "query_exemplars?query=up&start=2&end=1"),
    ("GET", "query_exemplars?query=up%5B&start=1&end=2"),
    ("GET", "query_exemplars?query=up&start=x"),
    (
        "GET",
        "query_exemplars?query=up&start=1600000000000&end=1600000001000",
    ),
    ("GET", "query_exemplars?query=1"),
    ("GET", "series"),
    ("GET", "series?match[]=%7B%7D"),
    ("GET", "series?match[]=up%7B"),
    ("GET", "series?match[]=up&start=x"),
    ("GET", "series?match[]=up&limit=-1"),
    ("GET", "series?match[]=sum(up)"),
    ("DELETE", "series?match[]=up"),
    ("GET", "labels?match[]=%7B%7D"),
    ("GET", "labels?end=x"),
    ("GET", "labels?limit=x"),
    ("GET", "label/a%20b/values?limit=0"),
    ("GET", "label/job/values?match[]=%7B"),
    ("GET", "label/job/values?start=x"),
    ("GET", "metadata?limit=x"),
    ("GET", "metadata?limit_per_metric=x"),
    ("GET", "status/tsdb?limit=0"),
    ("GET", "status/tsdb?limit=x"),
    ("GET", "format_query?query=foo%20bar"),
    ("GET", "parse_query?query=foo%20bar"),
    ("GET", "format_query"),
    ("GET", "targets?state=nonsense"),
    ("GET", "alertmanagers"),
    ("GET", "alerts"),
    ("GET", "rules"),
    ("GET", "scrape_pools"),
    ("GET", "targets"),
    ("GET", "targets/metadata"),
    ("POST", "admin/tsdb/delete_series?match[]=up"),
    ("POST", "admin/tsdb/clean_tombstones"),
    ("POST", "admin/tsdb/snapshot"),
    ("GET", "query?query=%22x%22&time=5"),
    ("GET", "query?query=vector(1)&time=5.1234&limit=1"),
    ("GET", "query?query=1%2F0&time=-5"),
    ("GET", "query_range?query=vector(1)&start=0&end=1&step=0.3"),
    (
        "GET",
        "query_range?query=time()&start=2015-07-01T20:10:30.781Z&end=2015-07-01T20:10:31.9Z&step=500ms",
    ),
    ("GET", "nothing"),
    ("OPTIONS", "query"),
];

/// Queries that both parse, or refuse with the same text.
const QUERIES: &[&str] = &[
    "sum by(job)(rate(http_requests_total{code=~\"5..\"}[5m]))/on(job)group_left sum(up)",
    "a and on(b) c or d unless ignoring(e) f",
    "-foo ^ 2 + bar % 3 atan2 4",
    "histogram_quantile(0.9, sum by (le) (rate(x_bucket[5m] offset 1w)))",
    "max_over_time(rate(x[5m])[1h:30s] @ end())",
    "label_replace(up, \"a\", \"$1\", \"b\", \"(.*)\")",
    "topk(5, {\"a.b\", \"c d\"=\"e\"})",
    "x == bool 1 # comment",
    "count_values without(a, b) (\"v\", x)",
    "foo[5m:] offset -1m",
    "0x1F + 1e3 + Inf + .5",
    "absent(nonexistent{job=\"myjob\",instance=~\".*\"})",
];

/// Queries and selectors over the same data, each at one timestamp and over a range.
const WITH_DATA: &[&str] = &[
    "req_total",
    "req_total{job=\"a\"}",
    "sum by (job) (req_total)",
    "{__name__=~\"req.*\"}",
    "{\"dotted.name\"}",
    "temp",
    "weird",
    "req_total[30s]",
    "req_total[1m:15s]",
    "topk(2, temp)",
    "sort_desc(temp)",
    "rate(req_total[5m])",
    "rate(temp[5m])",
    "quantile(2, temp)",
    "histogram_quantile(0.5, lat_bucket)",
    "histogram_quantile(0.5, temp)",
    "label_replace(temp, \"x\", \"$1\", \"job\", \"(.*)\")",
    "label_replace(temp, \"x\", \"\", \"job\", \"(\")",
    "label_join(temp, \"\", \"\")",
    "absent(nope{a=\"b\"})",
    "req_total * on (job) group_left temp",
    "req_total * on (job) temp",
    "temp + on (job) req_total",
    "req_total{job=~\"(\"}",
    "req_total{job=~\"a{2000}\"}",
    "req_total{a b=\"c\"}",
    "req_total @ x",
    "temp @ -1",
    "temp @ NaN",
    "temp @ 1e400",
    "temp offset 300y",
    "temp[0s]",
    "temp[5m][5m]",
    "temp[1s:0s]",
    "temp{__name__=\"x\"}",
    "{\"a\", \"b\"}",
    "count_values(\"\", temp)",
    "count_values(\"v\", temp)",
    "topk(NaN, temp)",
    "topk(1e30, temp)",
    "limitk(1, temp)",
    "info(temp)",
    "1e309",
    "0x",
    "08",
    "\"\\xff\"",
    "'a\nb'",
    "{}",
    "!",
    "é",
    "temp and on (job) group_left temp",
    "temp + bool temp",
    "clamp(temp, 1, 0)",
    "day_of_week()",
    "timestamp(temp)",
    "predict_linear(temp[5m], 60)",
    "stddev_over_time(temp[5m])",
    "count by (\"odd.label\") (temp)",
    "1 / 0",
    "0 / 0",
    "holt_winters(temp[5m], 0.5, 0.5)",
    "avg(temp) > 100",
];

/// The same for lists of series and labels.
const SELECTORS: &[&str] = &[
    "temp",
    "{job=\"a\"}",
    "{__name__=~\".+\"}",
    "{}",
    "",
    "x{",
    "sum(x)",
    "{job=~\".*\"}",
    "nope",
    "{\"dotted.name\"}",
    "temp[5m]",
    "temp offset 5m",
    "{job=~\"(\"}",
];

/// Values of parameters that are times, durations or counts.
const TIMES: &[&str] = &[
    "x",
    "NaN",
    "Inf",
    "-Inf",
    "0",
    "-1",
    "1e10",
    "1e400",
    "1_000",
    "0x10",
    ".5",
    "5.",
    "1 ",
    "2015-07-01T20:10:51.781Z",
    "2015-07-01T20:10:51",
    "2015-02-30T00:00:00Z",
];
const LENGTHS: &[&str] = &[
    "x", "0", "-1", "1", "1m", "0s", "-1s", "1e10", "NaN", "1.5", "5m5m", "300y", "0.0001",
];
const COUNTS: &[&str] = &["x", "0", "1", "-1", "1.5", "99999999999999999999", "+1"];

#[expect(clippy::too_many_lines, reason = "a list of requests")]
/// All requests with data; the data ends at `end`, in seconds.
fn requests_with_data(end: i64) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    let mut get = |path: String| all.push(("GET", path));
    let from = end - 300;
    for query in WITH_DATA {
        let query = encode(query);
        get(format!("query?time={end}&stats=all&query={query}"));
        get(format!(
            "query_range?start={from}&end={end}&step=60&query={query}"
        ));
    }
    for time in TIMES.iter().map(|time| encode(time)) {
        get(format!("query?query=1&time={time}"));
        get(format!("query_range?query=1&step=15&start=0&end={time}"));
        get(format!("query_exemplars?query=temp&start={end}&end={time}"));
        get(format!("series?match[]=temp&end={time}"));
    }
    for length in LENGTHS {
        get(format!(
            "query_range?query=time()&start=0&end=10&step={length}"
        ));
        if *length != "0.0001" {
            get(format!(
                "query?query=temp&time={end}&lookback_delta={length}"
            ));
        }
    }
    for count in COUNTS.iter().map(|count| encode(count)) {
        for path in [
            "labels?",
            "label/job/values?",
            "rules?group_limit=1&",
            "targets/metadata?",
        ] {
            get(format!("{path}limit={count}"));
        }
        get(format!("query?query=temp&time={end}&limit={count}"));
        get(format!("rules?group_limit={count}"));
    }
    for selector in SELECTORS {
        let selector = encode(selector);
        for path in [
            "series",
            "labels",
            "label/job/values",
            "label/__name__/values",
        ] {
            get(format!("{path}?match[]={selector}"));
            get(format!("{path}?match[]={selector}&match[]=temp&limit=1000"));
            get(format!("{path}?match[]={selector}&start={from}&end={end}"));
            get(format!("{path}?match[]={selector}&start=1&end=2"));
        }
        get(format!("rules?match[]={selector}"));
        get(format!("targets/metadata?match_target={selector}"));
    }
    for name in [
        "job",
        "odd.label",
        "U__odd_2e_label",
        "U__zz",
        "1a",
        "%ff",
        "a%20b",
        "a+b",
    ] {
        get(format!("label/{name}/values"));
        get(format!("label/{name}/values?start={}", end + 7200));
    }
    for piece in [
        "query=%ff",
        "query=%zz",
        "query=1;2",
        "query=1&query=2",
        "%",
        "=",
        "&&",
    ] {
        get(format!("query?time=4&{piece}"));
        get(format!("series?match[]=temp&{piece}"));
    }
    for method in ["PUT", "DELETE", "PATCH"] {
        for path in [
            "query",
            "labels",
            "metadata",
            "rules",
            "status/tsdb",
            "read",
            "nothing",
        ] {
            all.push((method, path.to_owned()));
        }
    }
    all
}

/// The data of both: counters, a gauge, UTF-8 names, a classic histogram, odd values; every 15 s for an hour.
fn data(end: i64) -> Vec<TimeSeries> {
    let samples = |value: &dyn Fn(f64) -> f64| -> Vec<(i64, f64)> {
        let sample = |n: i32| ((end - 3585 + i64::from(n) * 15) * 1000, value(f64::from(n)));
        (0..240).map(sample).collect()
    };
    let mut all = Vec::new();
    for (job, instance) in [("a", "0"), ("a", "1"), ("b", "0")] {
        let labels = [
            ("__name__", "req_total"),
            ("instance", instance),
            ("job", job),
        ];
        all.push(series(&labels, &samples(&|n| n * 2.5)));
    }
    let labels = [("__name__", "temp"), ("job", "a"), ("odd.label", "ü\"\\\n")];
    all.push(series(&labels, &samples(&|n| n % 7.0 - 3.5)));
    let labels = [
        ("__name__", "dotted.name"),
        ("host.name", "x y"),
        ("job", "c"),
    ];
    all.push(series(&labels, &samples(&|n| n)));
    for (bound, share) in [("+Inf", 5.0), ("0.1", 0.5), ("1", 2.0)] {
        let labels = [("__name__", "lat_bucket"), ("job", "a"), ("le", bound)];
        all.push(series(&labels, &samples(&|n| n * share)));
    }
    for (kind, value) in [
        ("big", 1e21),
        ("inf", f64::INFINITY),
        ("nan", f64::NAN),
        ("small", 1.5e-7),
        ("zero", -0.0),
    ] {
        let labels = [("__name__", "weird"), ("kind", kind)];
        all.push(series(&labels, &samples(&|_| value)));
    }
    all
}

/// Removes what differs between runs, and sorts vectors and lists, whose order Prometheus does not define.
fn settled(mut json: Value) -> Value {
    if let Some(stats) = json
        .pointer_mut("/data/stats")
        .and_then(Value::as_object_mut)
    {
        stats.remove("timings");
    }
    if let Some(samples) = json
        .pointer_mut("/data/stats/samples")
        .and_then(Value::as_object_mut)
    {
        samples.remove("peakSamples");
    }
    let sort = |list: &mut Vec<Value>| list.sort_by_key(Value::to_string);
    match json.pointer_mut("/data") {
        Some(Value::Array(list)) => sort(list),
        Some(Value::Object(data)) => {
            if data.get("resultType").is_some_and(|kind| kind == "vector")
                && let Some(Value::Array(list)) = data.get_mut("result")
            {
                sort(list);
            }
        }
        _ => {}
    }
    json
}

/// The compared part of a response: status and JSON; only the status if the body is not JSON.
fn shown(address: &str, method: &str, path: &str) -> (u16, Option<Value>) {
    let answer = http::request(address, method, &format!("/api/v1/{path}"), &[], b"");
    let json = serde_json::from_slice(&answer.body).ok();
    (answer.status, json.map(settled))
}

#[test]
fn error_texts_equal_those_of_prometheus() {
    let Some(prometheus) = peer("PROMETHEUS") else {
        return;
    };
    let aggregator = Aggregator::start();
    let prometheus = Prometheus::start(prometheus, "global: {}\n");
    let expressions = QUERIES.iter().flat_map(|query| {
        let query = encode(query);
        ["parse_query", "format_query"].map(|path| ("GET", format!("{path}?query={query}")))
    });
    let requests = REQUESTS
        .iter()
        .map(|&(method, path)| (method, path.to_owned()))
        .chain(expressions);
    compare(&prometheus, &aggregator, requests);
    aggregator.stop();
}

#[test]
fn responses_over_the_same_data_equal_those_of_prometheus() {
    let Some(prometheus) = peer("PROMETHEUS") else {
        return;
    };
    let aggregator = Aggregator::start();
    let prometheus = Prometheus::start(prometheus, "global: {}\n");
    let end = now_ms() / 60_000 * 60;
    for address in [&prometheus.address, &aggregator.address] {
        let status = write_to(address, data(end)).status;
        assert_eq!(status, 204, "{address}");
    }
    // Requests without a selector, or with one for all series, find our own metrics too.
    let all = encode("{__name__=~\".+\"}");
    let requests = requests_with_data(end).into_iter().filter(|(_, path)| {
        let listed = path.starts_with("label") || path.starts_with("series");
        !listed || (path.contains("match[]=") && !path.contains(&all))
    });
    compare(&prometheus, &aggregator, requests);
    aggregator.stop();
}

#[test]
fn federate_formats_equal_those_of_prometheus() {
    let Some(prometheus) = peer("PROMETHEUS") else {
        return;
    };
    let aggregator = Aggregator::start();
    let prometheus = Prometheus::start(prometheus, "global: {}\n");
    let end = now_ms() / 60_000 * 60;
    for address in [&prometheus.address, &aggregator.address] {
        assert_eq!(write_to(address, data(end)).status, 204, "{address}");
    }
    let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    for accept in [
        "*/*",
        "application/openmetrics-text;version=1.0.0",
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.1",
        "text/plain;escaping=dots",
        "text/plain;escaping=values",
        protobuf,
        &format!("text/plain;q=0.2,{protobuf};escaping=values;q=0.3"),
    ] {
        let path = format!("/federate?match[]={}", encode("{job=~\"a|b|c\"}"));
        let ask = |address: &str| {
            let answer = http::request(address, "GET", &path, &[("accept", accept)], b"");
            let kind = answer.headers.get("content-type").cloned();
            (answer.status, kind, answer.body)
        };
        assert_eq!(
            ask(&aggregator.address),
            ask(&prometheus.address),
            "{accept}"
        );
    }
    aggregator.stop();
}

#[track_caller]
fn compare(
    prometheus: &Prometheus,
    aggregator: &Aggregator,
    requests: impl Iterator<Item = (&'static str, String)>,
) {
    assert_alike(requests.map(|(method, path)| {
        let theirs = shown(&prometheus.address, method, &path);
        let ours = shown(&aggregator.address, method, &path);
        (format!("{method} {path}"), ours, theirs)
    }));
}
