//! The requests of Grafana's Prometheus data source (grafana/grafana, pkg/promlib and
//! packages/grafana-prometheus). No peer is needed.

use serde_json::json;

use crate::harness::{Aggregator, now_ms};
use crate::http::encode;
use crate::remote::{series, write};

#[test]
fn requests_of_grafana_are_answered() {
    let aggregator = Aggregator::start();
    let now = now_ms() / 15_000 * 15_000;
    let samples: Vec<_> = (0..40)
        .map(|n| (now - 585_000 + n * 15_000, n as f64))
        .collect();
    let labels = [("__name__", "g_total"), ("job", "a")];
    assert_eq!(
        write(&aggregator, vec![series(&labels, &samples)]).status,
        204
    );
    let (start, end) = (now / 1000 - 300, now / 1000);

    // The health check expects a scalar.
    let health = aggregator
        .post_form("/api/v1/query", "query=1%2B1&time=4")
        .data();
    assert_eq!(health, json!({"resultType": "scalar", "result": [4, "2"]}));
    // Grafana takes a server with a non-empty map of features for Mimir.
    let build = aggregator.get("/api/v1/status/buildinfo").data();
    assert_eq!(build.get("features"), None);
    let version = build["version"].as_str().unwrap();
    assert!(version.starts_with("3."), "{version}");

    let form = format!(
        "query={}&start={start}.000&end={end}.000&step=15",
        encode("rate(g_total[1m0s])")
    );
    let range = aggregator.post_form("/api/v1/query_range", &form).data();
    assert_eq!(range["resultType"], "matrix");
    assert_eq!(
        range["result"][0]["values"].as_array().map(Vec::len),
        Some(21)
    );

    let all = encode("{__name__!=\"\"}");
    let names = format!("/api/v1/label/__name__/values?start={start}&end={end}&limit=40000");
    assert!(
        aggregator
            .get(&names)
            .data()
            .as_array()
            .unwrap()
            .contains(&json!("g_total"))
    );
    let form = format!("start={start}&end={end}&limit=40000&match%5B%5D={all}");
    for path in ["/api/v1/labels", "/api/v1/series"] {
        assert!(
            !aggregator
                .post_form(path, &form)
                .data()
                .as_array()
                .unwrap()
                .is_empty()
        );
    }
    let values = format!("/api/v1/label/job/values?match[]={}", encode("g_total{}"));
    assert_eq!(aggregator.get(&values).data(), json!(["a"]));
    // Grafana tries POST first; the status must make it fall back to GET.
    assert_eq!(
        aggregator.post_form("/api/v1/label/job/values", "").status,
        405
    );
    for path in [
        "/api/v1/metadata".to_owned(),
        "/api/v1/metadata?limit=40000".to_owned(),
        "/api/v1/rules".to_owned(),
        // The probe for exemplars sends milliseconds.
        format!(
            "/api/v1/query_exemplars?query=test&start={}&end={now}",
            now - 300_000
        ),
    ] {
        aggregator.get(&path).data();
    }
    aggregator.stop();
}
