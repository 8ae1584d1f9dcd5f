//! Prometheus' API: parameters, JSON and errors.

use serde_json::{Value, json};

use crate::harness::{Aggregator, now_ms};
use crate::http::{self, encode};
use crate::remote::{series, write};

/// Three series with samples every 10 s for ten minutes, ending now.
fn loaded() -> (Aggregator, i64) {
    let aggregator = Aggregator::start_with(&["--web.enable-admin-api"]);
    let end = now_ms() / 10_000 * 10_000;
    let times = || (0..60).map(move |n| end - 590_000 + n * 10_000);
    let counter: Vec<_> = times()
        .enumerate()
        .map(|(n, t)| (t, n as f64 * 5.0))
        .collect();
    let gauge: Vec<_> = times().map(|t| (t, 0.5)).collect();
    let answer = write(
        &aggregator,
        vec![
            series(
                &[
                    ("__name__", "requests_total"),
                    ("job", "a"),
                    ("instance", "i1"),
                ],
                &counter,
            ),
            series(
                &[
                    ("__name__", "requests_total"),
                    ("job", "b"),
                    ("instance", "i2"),
                ],
                &counter,
            ),
            series(
                &[
                    ("__name__", "temperature"),
                    ("job", "a"),
                    ("odd.label", "ü\"\\\n"),
                ],
                &gauge,
            ),
        ],
    );
    assert_eq!(answer.status, 204, "{}", answer.text());
    (aggregator, end)
}

#[test]
fn queries_answer_in_prometheus_json() {
    let (aggregator, end) = loaded();
    let at = end / 1000;
    let query = |query: &str| {
        let path = format!("/api/v1/query?time={at}&query={}", encode(query));
        aggregator.get(&path).data()
    };
    assert_eq!(
        query("1+1"),
        json!({"resultType": "scalar", "result": [at, "2"]})
    );
    assert_eq!(
        query("\"x\""),
        json!({"resultType": "string", "result": [at, "x"]})
    );
    assert_eq!(
        query("sum by (job) (rate(requests_total[1m]))"),
        json!({"resultType": "vector", "result": [
            {"metric": {"job": "a"}, "value": [at, "0.5"]},
            {"metric": {"job": "b"}, "value": [at, "0.5"]}]})
    );
    assert_eq!(
        query("temperature"),
        json!({"resultType": "vector", "result": [{
            "metric": {"__name__": "temperature", "job": "a", "odd.label": "ü\"\\\n"},
            "value": [at, "0.5"]}]})
    );
    assert_eq!(
        query("nothing"),
        json!({"resultType": "vector", "result": []})
    );
    let range = query("temperature[15s]");
    assert_eq!(range["resultType"], "matrix");
    assert_eq!(
        range["result"][0]["values"],
        json!([[at - 10, "0.5"], [at, "0.5"]])
    );

    let form = format!("query=requests_total&start={}&end={at}&step=10", at - 20);
    for answer in [
        aggregator.post_form("/api/v1/query_range", &form),
        aggregator.get(&format!("/api/v1/query_range?{form}")),
    ] {
        let data = answer.data();
        assert_eq!(data["resultType"], "matrix");
        assert_eq!(
            data["result"][0]["values"],
            json!([[at - 20, "285"], [at - 10, "290"], [at, "295"]])
        );
    }
    aggregator.stop();
}

/// Sends a request and checks status, error type and message.
#[track_caller]
fn check_error(aggregator: &Aggregator, path: &str, status: u16, kind: &str, message: &str) {
    let answer = aggregator.get(path);
    let json = answer.json();
    assert_eq!(answer.status, status, "{path}: {json}");
    assert_eq!(json["status"], "error", "{path}: {json}");
    assert_eq!(json["errorType"], kind, "{path}: {json}");
    assert_eq!(json["error"], message, "{path}");
}

#[test]
fn errors_have_prometheus_codes_types_and_texts() {
    let (aggregator, _) = loaded();
    let bad = |path: &str, message: &str| check_error(&aggregator, path, 400, "bad_data", message);
    bad(
        "/api/v1/query?query=up&time=foo",
        "invalid parameter \"time\": invalid time value for 'time': cannot parse \"foo\" to a valid timestamp",
    );
    bad(
        "/api/v1/query?query=up&limit=-1",
        "invalid parameter \"limit\": limit must be non-negative",
    );
    bad(
        "/api/v1/query?query=up&timeout=x",
        "invalid parameter \"timeout\": cannot parse \"x\" to a valid duration",
    );
    bad(
        "/api/v1/query?query=up&lookback_delta=x",
        "error parsing lookback delta duration: cannot parse \"x\" to a valid duration",
    );
    bad(
        "/api/v1/query_range?query=up&start=2&end=1&step=1",
        "invalid parameter \"end\": end timestamp must not be before start time",
    );
    bad(
        "/api/v1/query_range?query=up&start=0&end=1&step=0",
        "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
    );
    bad(
        "/api/v1/query_range?query=up&start=0&end=11001&step=1",
        "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
    );
    bad(
        "/api/v1/query_range?query=up&end=1&step=1",
        "invalid parameter \"start\": cannot parse \"\" to a valid timestamp",
    );
    bad("/api/v1/series", "no match[] parameter provided");
    bad(
        "/api/v1/series?match[]={job=~\".*\"}"
            .replace('"', "%22")
            .as_str(),
        "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher",
    );
    bad("/api/v1/metadata?limit=x", "limit must be a number");
    bad(
        "/api/v1/status/tsdb?limit=0",
        "limit must be a positive number",
    );
    check_error(
        &aggregator,
        "/api/v1/query?query=requests_total%20%2B%20on()%20requests_total",
        422,
        "execution",
        "found duplicate series for the match group {} on the right hand-side of the operation: \
         [{__name__=\"requests_total\", instance=\"i2\", job=\"b\"}, {__name__=\"requests_total\", instance=\"i1\", job=\"a\"}];\
         many-to-many matching not allowed: matching labels must be unique on one side",
    );
    let parse = aggregator.get("/api/v1/query?query=up%5B");
    assert_eq!(parse.status, 400);
    let message = parse.json()["error"].to_string();
    assert!(
        message.contains("invalid parameter \\\"query\\\": 1:4: parse error:"),
        "{message}"
    );
    assert_eq!(aggregator.get("/api/v1/nothing").status, 404);
    let post = aggregator.post_form("/api/v1/label/job/values", "");
    assert_eq!(post.status, 405);
    let options = http::request(&aggregator.address, "OPTIONS", "/api/v1/query", &[], b"");
    assert_eq!(options.status, 204);
    assert_eq!(options.headers.get("access-control-allow-origin"), None);
    aggregator.stop();
}

fn strings(data: &Value) -> Vec<&str> {
    data.as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect()
}

#[test]
fn series_and_labels_follow_their_selectors() {
    let (aggregator, _) = loaded();
    let series = aggregator
        .get("/api/v1/series?match[]=requests_total&match[]=temperature&match[]=requests_total")
        .data();
    let names: Vec<_> = series
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["__name__"])
        .collect();
    assert_eq!(names, ["requests_total", "requests_total", "temperature"]);
    let posted = aggregator.post_form(
        "/api/v1/series",
        "match%5B%5D=requests_total%7Bjob%3D%22b%22%7D",
    );
    assert_eq!(
        posted.data(),
        json!([{"__name__": "requests_total", "instance": "i2", "job": "b"}])
    );
    let limited = aggregator
        .get("/api/v1/series?match[]=requests_total&limit=1")
        .json();
    assert_eq!(limited["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        limited["warnings"],
        json!(["results truncated due to limit"])
    );

    let labels = aggregator.get("/api/v1/labels?match[]=temperature").data();
    assert_eq!(strings(&labels), ["__name__", "job", "odd.label"]);
    let values = aggregator
        .get("/api/v1/label/job/values?match[]=requests_total")
        .data();
    assert_eq!(strings(&values), ["a", "b"]);
    let escaped = aggregator
        .get("/api/v1/label/U__odd_2e_label/values")
        .data();
    assert_eq!(strings(&escaped), ["ü\"\\\n"]);
    aggregator.stop();
}

#[test]
fn status_pages_have_their_fields() {
    let (aggregator, _) = loaded();
    let fields = |path: &str, fields: &[&str]| {
        let data = aggregator.get(&format!("/api/v1/{path}")).data();
        for field in fields {
            assert!(data.get(field).is_some(), "{path}: no {field} in {data}");
        }
        data
    };
    fields(
        "status/buildinfo",
        &[
            "version",
            "revision",
            "branch",
            "buildUser",
            "buildDate",
            "goVersion",
        ],
    );
    fields(
        "status/runtimeinfo",
        &[
            "startTime",
            "CWD",
            "serverTime",
            "reloadConfigSuccess",
            "lastConfigTime",
            "storageRetention",
        ],
    );
    fields("status/config", &["yaml"]);
    fields("status/walreplay", &["min", "max", "current"]);
    let flags = fields("status/flags", &["storage.path", "web.enable-admin-api"]);
    assert_eq!(flags["web.enable-admin-api"], "true");
    let tsdb = fields(
        "status/tsdb",
        &[
            "headStats",
            "seriesCountByMetricName",
            "labelValueCountByLabelName",
            "memoryInBytesByLabelName",
            "seriesCountByLabelValuePair",
        ],
    );
    let by_name = tsdb["seriesCountByMetricName"].as_array().unwrap();
    let requests = by_name.iter().find(|one| one["name"] == "requests_total");
    assert_eq!(requests.map(|one| &one["value"]), Some(&json!(2)), "{tsdb}");
    for (path, want) in [
        ("rules", json!({"groups": []})),
        ("alerts", json!({"alerts": []})),
        (
            "alertmanagers",
            json!({"activeAlertmanagers": [], "droppedAlertmanagers": []}),
        ),
        (
            "targets",
            json!({"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {}}),
        ),
        (
            "query_exemplars?query=up&start=1600000000000&end=1600000001000",
            json!([]),
        ),
    ] {
        assert_eq!(
            aggregator.get(&format!("/api/v1/{path}")).data(),
            want,
            "{path}"
        );
    }
    aggregator.stop();
}

#[test]
fn large_responses_use_an_encoding_that_the_client_accepts() {
    let (aggregator, end) = loaded();
    let path = format!(
        "/api/v1/query_range?query=requests_total&start={}&end={}&step=0.1",
        end / 1000 - 500,
        end / 1000
    );
    let plain = aggregator.get(&path);
    assert!(plain.body.len() > 64 << 10, "{} bytes", plain.body.len());
    for (accept, want) in [
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("gzip, deflate, br", "gzip"),
    ] {
        let headers = [("accept-encoding", accept)];
        let answer = http::request(&aggregator.address, "GET", &path, &headers, b"");
        assert_eq!(answer.headers["content-encoding"], want);
        let body = match want {
            "zstd" => zstd::decode_all(&answer.body[..]).unwrap(),
            _ => {
                let mut body = Vec::new();
                let mut reader = flate2::read::GzDecoder::new(&answer.body[..]);
                std::io::Read::read_to_end(&mut reader, &mut body).unwrap();
                body
            }
        };
        assert_eq!(body, plain.body, "{accept}");
    }
    aggregator.stop();
}

#[test]
fn limits_and_stats_apply_per_request() {
    let (aggregator, end) = loaded();
    let at = end / 1000;
    let answer = aggregator
        .get(&format!(
            "/api/v1/query?query=requests_total&time={at}&limit=1&stats=all"
        ))
        .json();
    assert_eq!(answer["data"]["result"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        answer["warnings"],
        json!(["results truncated due to limit"])
    );
    let samples = &answer["data"]["stats"]["samples"];
    assert_eq!(samples["totalQueryableSamples"], 2);
    assert!(answer["data"]["stats"]["timings"]["evalTotalTime"].is_number());
    let late = at + 30;
    let found = |lookback: &str| {
        let path = format!("/api/v1/query?query=temperature&time={late}{lookback}");
        aggregator.get(&path).data()["result"]
            .as_array()
            .map(Vec::len)
    };
    assert_eq!(found(""), Some(1));
    assert_eq!(found("&lookback_delta=20s"), Some(0));
    aggregator.stop();
}

#[test]
fn hostile_input_is_refused_and_the_server_survives() {
    let (aggregator, _) = loaded();
    let form = |query: &str| aggregator.post_form("/api/v1/query", &format!("query={query}"));
    let deep = format!("{}1{}", "(".repeat(30_000), ")".repeat(30_000));
    assert_eq!(form(&deep).status, 400);
    assert_eq!(form(&"1%2B".repeat(50_000)).status, 400);
    assert_eq!(form(&"a".repeat(1 << 20)).status, 400);
    assert_eq!(form("%ff%fe").status, 400);
    assert_eq!(form("up%zz").status, 400);
    assert_eq!(form(&"a".repeat(11 << 20)).status, 413);
    for time in [
        "NaN",
        "Inf",
        "-Inf",
        "1e300",
        "-99999999999999999999",
        "-1000",
    ] {
        // As in Prometheus, a timestamp without samples.
        let path = format!("/api/v1/query?query=temperature&time={time}");
        assert_eq!(aggregator.get(&path).data()["result"], json!([]), "{time}");
    }
    aggregator.stop();
}

#[test]
fn federation_returns_newest_samples_as_text() {
    let (aggregator, end) = loaded();
    let answer = aggregator.get("/federate?match[]=requests_total&match[]=temperature");
    assert_eq!(answer.status, 200);
    let kind = answer.headers["content-type"].to_str().unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let want = format!(
        "# TYPE requests_total untyped\n\
         requests_total{{instance=\"i1\",job=\"a\"}} 295 {end}\n\
         requests_total{{instance=\"i2\",job=\"b\"}} 295 {end}\n\
         # TYPE temperature untyped\n\
         temperature{{job=\"a\",odd_label=\"ü\\\"\\\\\\n\",instance=\"\"}} 0.5 {end}\n"
    );
    assert_eq!(answer.text(), want);
    assert_eq!(aggregator.get("/federate").text(), "");
    let bad = aggregator.get("/federate?match[]=%7B");
    assert_eq!(bad.status, 400);
    assert!(
        bad.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain")
    );
    aggregator.stop();
}

#[test]
fn own_metrics_are_stored_only_if_enabled() {
    let silent = Aggregator::start();
    assert_eq!(silent.get("/api/v1/labels").data(), json!([]));
    silent.stop();
    let aggregator = Aggregator::start_with(&["--self.scrape-interval", "1s"]);
    let text = aggregator.get("/metrics").text();
    assert!(text.contains("tidemark_build_info{"), "{text}");
    let job = encode("{job=\"tidemark-aggregator\"}");
    let count = crate::harness::eventually("own metrics", || {
        let path = format!("/api/v1/query?query=count({job})");
        let data = aggregator.get(&path).data();
        data["result"][0]["value"][1].as_str()?.parse::<f64>().ok()
    });
    assert!(count > 20.0, "{count}");
    let up = aggregator
        .get(&format!("/api/v1/query?query=up{job}"))
        .data();
    assert_eq!(up["result"][0]["value"][1], "1");
    let metadata = aggregator
        .get("/api/v1/metadata?metric=process_cpu_seconds_total")
        .data();
    assert_eq!(metadata["process_cpu_seconds_total"][0]["type"], "counter");
    aggregator.stop();
}

#[test]
fn repeated_requests_get_equal_responses() {
    // Cheap requests run inline from the second time on. Requests that are too large for that, or fail, get the same
    // response as before.
    let (aggregator, end) = loaded();
    let at = end / 1000;
    let mut paths: Vec<_> = [
        "sum by (job) (requests_total)",
        "requests_total[5m]",
        "requests_total + ",
        "requests_total * on () temperature",
        "label_replace(requests_total, \"x\", \"\", \"x\", \"(\")",
    ]
    .map(|query| format!("/api/v1/query?time={at}&query={}", encode(query)))
    .to_vec();
    let large = "label_join(vector(1), \"l\", \"-\", \"\") or requests_total";
    paths.push(format!(
        "/api/v1/query_range?start={}&end={at}&step=1&query={}",
        at - 5000,
        encode(large)
    ));
    paths.push(format!(
        "/api/v1/query_range?start={}&end={at}&step=1&query=time()",
        at - 5000
    ));
    let range = format!("start={}&end={at}", at - 600);
    paths.push(format!("/api/v1/series?match[]=requests_total&{range}"));
    paths.push("/api/v1/labels?match[]=temperature".to_owned());
    paths.push("/api/v1/label/instance/values?match[]=requests_total".to_owned());
    for path in paths {
        let first = aggregator.get(&path);
        for _ in 0..5 {
            let again = aggregator.get(&path);
            assert_eq!(
                (again.status, &again.body),
                (first.status, &first.body),
                "{path}"
            );
        }
    }
    aggregator.stop();
}
