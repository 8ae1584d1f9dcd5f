//! The real Prometheus and we, asked the same: status, type and words of errors must agree, and so must what both
//! make of a query's text.

use serde_json::Value;

use super::{Prometheus, peer};
use crate::harness::Aggregator;
use crate::http::{self, encode};

/// Requests that are wrong, or at the edge of it; method, path.
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

/// Texts that both parse or refuse alike.
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

/// What is compared: status, and the whole JSON; for bodies that are no JSON the status alone.
fn shown(address: &str, method: &str, path: &str) -> (u16, Option<Value>) {
    let answer = http::request(address, method, &format!("/api/v1/{path}"), &[], b"");
    (answer.status, serde_json::from_slice(&answer.body).ok())
}

#[test]
fn prometheus_and_we_use_the_same_words() {
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
    let mut differences = Vec::new();
    for (method, path) in requests {
        let theirs = shown(&prometheus.address, method, &path);
        let ours = shown(&aggregator.address, method, &path);
        if theirs != ours {
            differences.push(format!(
                "{method} {path}\n  theirs {theirs:?}\n  ours   {ours:?}"
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    aggregator.stop();
}
